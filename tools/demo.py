"""The main job, told with figures: `make demo`.

Starts a node, the contracts and the shim, books lessons as the existing frontend does, and counts what
happened on the chain. Beside each batch stands the gas of the old way, measured in the same run. With
`--json`, or where the output is no terminal, the last line is the first story's figures as JSON. Leaves no
process and no data behind.
"""

import argparse
import json
import sys
import time
import uuid
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from eth_utils.crypto import keccak
from web3 import Web3

from api.people.directory import Annonce, User
from creneau.types import to_hex
from tools.dev_stack import DevStack, failed
from tools.per_slot_baseline import PerSlotBaseline

WIDTH = 78
OLD_STUDENT, OLD_TUTOR = 5, 6  # Accounts of the local node for the baseline.


class Story:
    """Sends requests, and looks on the chain for what they did."""

    def __init__(self, stack: DevStack, student: User, tutor: User, annonce: Annonce) -> None:
        self._stack = stack
        self._student = student
        self._tutor = tutor
        self._annonce = annonce
        self._baseline = PerSlotBaseline(
            stack, stack.account(OLD_STUDENT).address, stack.account(OLD_TUTOR).address
        )
        self._requests = 0
        self._client = stack.client(student.id)
        self._client.event_hooks["request"].append(self._count)

    def _count(self, _: httpx.Request) -> None:
        self._requests += 1

    def book(
        self, title: str, lessons: Sequence[tuple[date, str]], key: str | None = None, note: str = ""
    ) -> dict[str, Any]:
        """Books these lessons of an hour, prints what happened, and returns its figures."""
        print(f"\n\033[1m{title}\033[0m" if sys.stdout.isatty() else f"\n{title}")
        body = {
            "tutorId": self._tutor.id,
            "annonceId": self._annonce.id,
            "bookings": [
                {"date": day.isoformat(), "time": at, "amount": 35, "duration": 60} for day, at in lessons
            ],
            "description": "",
            "studentNotes": "Révision du premier chapitre",
        }
        first_block = self._stack.web3.eth.block_number + 1
        balance = self._stack.balance(self._student.wallet)
        self._requests = 0
        began = time.perf_counter()
        headers = {"Idempotency-Key": key} if key else {}
        answer = self._client.post("/api/blockchain/booking/batch", json=body, headers=headers)
        took = time.perf_counter() - began
        answer.raise_for_status()
        data = answer.json()["data"]

        transactions, transfers = self._on_chain(first_block)
        debited = balance - self._stack.balance(self._student.wallet)
        gas = data["gasUsed"] if transactions else 0
        old_gas = self._baseline.book(data["count"], self._annonce.title) if transactions else 0
        _row("answer", f"{answer.status_code}: {answer.json()['message']}")
        _row("HTTP requests", f"{self._requests}, answered in {took * 1000:.0f} ms")
        _row(
            "transactions",
            f"{transactions}, with {transfers} transfer{'s' * (transfers != 1)} from the student",
        )
        _row("debited", self._stack.currency.text(debited))
        for booking in data["bookings"]:
            _row("booking", f"{booking['date']} {booking['time']}  {booking['id']}")
        for failure in data["failures"] or []:
            _row("not booked", f"lesson {failure['index']}: {failure['error']}")
        if transactions:
            times = Decimal(old_gas) / gas
            _row("gas", f"{gas:,}{note}")
            _row("old way", f"{old_gas:,} gas in {2 * data['count']} transactions: {times:.1f} times as much")
        return {
            "requests": self._requests,
            "transactions": transactions,
            "transfers": transfers,
            "bookings": data["count"] if transactions else 0,
            "debitedWei": str(debited),
            "gasUsed": gas,
            "oldWayGas": old_gas,
        }

    def _on_chain(self, first_block: int) -> tuple[int, int]:
        """Return the transactions since a block, and the transfers of tokens from the student."""
        web3 = self._stack.web3
        last = web3.eth.block_number
        transactions = sum(
            web3.eth.get_block_transaction_count(number) for number in range(first_block, last + 1)
        )
        if not transactions:
            return 0, 0
        logs = web3.eth.get_logs(
            {"fromBlock": first_block, "toBlock": last, "address": Web3.to_checksum_address(self._stack.edu)}
        )
        topics = [to_hex(keccak(text="Transfer(address,address,uint256)")), self._student.wallet.lower()[2:]]
        transfers = [
            log
            for log in logs
            if to_hex(log["topics"][0]) == topics[0] and to_hex(log["topics"][1]).endswith(topics[1])
        ]
        return transactions, len(transfers)


def _row(name: str, text: str) -> None:
    print(f"  {name:<14} {text}")


def main() -> int:
    """Tell the stories. Return 1 if one ended otherwise than it should, or after a sentence if none began."""
    parser = argparse.ArgumentParser(prog="demo", description="Books lessons on a local node, and counts.")
    parser.add_argument("--json", action="store_true", help="end with the first story's figures as JSON")
    with_json = parser.parse_args().json or not sys.stdout.isatty()
    try:
        return _tell(with_json=with_json)
    except RuntimeError as error:
        return failed(str(error))


def _tell(*, with_json: bool) -> int:
    began = time.monotonic()
    print("Starting a local node, the contracts and the shim …", flush=True)
    with DevStack() as stack:
        student, tutor, annonce = stack.seed()
        print(f"  ready after {time.monotonic() - began:.1f} s; escrow {stack.escrow}, shim {stack.url}")
        print(f"  {annonce.title}, {stack.currency.text(annonce.hourly_rate)} an hour, {annonce.time_zone}")
        print(f"  student {student.id}, {stack.currency.text(stack.balance(student.wallet))}")
        story = Story(stack, student, tutor, annonce)
        first = datetime.now(ZoneInfo("Europe/Paris")).date() + timedelta(days=3)
        days = [first + timedelta(days=n) for n in range(5)]

        figures = story.book(
            "1. Two consecutive lessons, in one request",
            [(first, "09:00"), (first, "10:00")],
            note=" (the first batch also publishes the annonce and gives the allowance)",
        )
        story.book("2. Five lessons, one a day", [(day, "14:00") for day in days])
        key = str(uuid.uuid4())
        three = [(first, "10:00"), (first, "11:00"), (first, "16:00")]
        story.book("3. Three lessons, of which one is taken: the others are booked", three, key)
        again = story.book("4. The same request again, with the same Idempotency-Key", three, key)

        once = figures["requests"] == figures["transactions"] == figures["transfers"] == 1
    print(f"\nDone in {time.monotonic() - began:.0f} s. Everything that was started is stopped.")
    print(
        "Next: `make serve` keeps it running, with the booking page on http://127.0.0.1:8000; "
        "`make test` tests it."
    )
    if with_json:
        print(json.dumps(figures))
    return 0 if once and not again["transactions"] else 1


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # text streams, as Python starts us
    sys.exit(main())
