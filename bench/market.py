"""A student, a tutor and a relayer on the node of a `DevStack`, without the shim: orders, signed and sent."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount
from eth_typing import Hash32
from eth_utils.crypto import keccak

from creneau import abi
from creneau.amounts import to_wei
from creneau.order import Order, Permit, Slot, listing_id
from creneau.typed_data import Domain, permit_typed_data
from creneau.types import from_unix, to_hex
from tools.dev_stack import DevStack

RATE = 35
QUARTER = 15 * 60
WORD = 256 * QUARTER
"""Seconds that a word of the contract's calendar covers."""
_MOST_GAS = 250_000  # Of forty lessons.


class Market:
    """The tutor's listing is published, and the student has a standing allowance."""

    def __init__(self, stack: DevStack, student: LocalAccount, tutor: LocalAccount) -> None:
        self.stack = stack
        self.student, self.tutor = student, tutor
        self.listing = listing_id(f"benchmark {tutor.address}")
        self.domain = Domain(stack.chain_id, stack.escrow)
        self.page = int(time.time()) // WORD + 2
        self._orders = 0
        for account in (student, tutor):
            stack.rpc("anvil_setBalance", account.address, hex(10**22))
            stack.rpc("anvil_impersonateAccount", account.address)
        stack.mint(student.address, to_wei(100_000_000))
        self.send(abi.publish_data(tutor.address, self.listing, to_wei(RATE), instant=False), tutor)
        self.allow(to_wei(100_000_000))

    def order(self, lessons: int, first: int = 0, page: int = 0) -> Order:
        """One hour after another, from a quarter of a calendar word on."""
        self._orders += 1
        start = (self.page + page) * WORD + first * QUARTER
        return Order(
            student=self.student.address,
            tutor=self.tutor.address,
            listing=self.listing,
            hourly_rate=RATE,
            deadline=from_unix(start),
            salt=keccak(self._orders.to_bytes(32)),
            slots=tuple(Slot.of(start + 3600 * place, 60) for place in range(lessons)),
        )

    def sign(self, order: Order) -> bytes:
        """Return the student's signature of an order."""
        return bytes(self.student.unsafe_sign_hash(Hash32(order.digest(self.domain))).signature)

    def permit(self, wei: int, nonce: int, deadline: int) -> Permit:
        """Return the student's permit for the escrow."""
        token = self.stack.edu, self.student.address, self.stack.escrow
        message = permit_typed_data(
            "Creneau test EDU", "1", self.stack.chain_id, *token, wei, nonce, deadline
        )
        return Permit.from_signature(
            wei, deadline, bytes(self.student.sign_typed_data(full_message=message).signature)
        )

    def allow(self, wei: int) -> None:
        """Return the student's allowance for the escrow."""
        self.stack.send(self.student.address, self.stack.edu, abi.approve_data(self.stack.escrow, wei))

    def send(self, data: bytes, sender: LocalAccount) -> int:
        """Return the gas of a call to the escrow."""
        return int(self.stack.send(sender.address, self.stack.escrow, data)["gasUsed"])

    def book_many(self, orders: Iterable[Order]) -> None:
        """Has the node send and mine them, many to a block; returns when all are in blocks."""
        sender = {"from": self.student.address, "to": self.stack.escrow, "gas": hex(_MOST_GAS)}
        self.stack.rpc("evm_setAutomine", False)
        with httpx.Client(base_url=self.stack.rpc_url, timeout=60) as http:
            for some in _chunks(orders, 100):
                calls = [
                    {
                        "jsonrpc": "2.0",
                        "id": place,
                        "method": "eth_sendTransaction",
                        "params": [{**sender, "data": to_hex(abi.create_bookings_data(order))}],
                    }
                    for place, order in enumerate(some)
                ]
                answers = http.post("", json=calls).json()
                if not all("result" in answer for answer in answers):
                    raise RuntimeError(f"the node took not all orders: {answers[0]}")
                while int(self.stack.rpc("txpool_status")["pending"], 16):
                    self.stack.rpc("evm_mine")
        self.stack.rpc("evm_setAutomine", True)

    def presigned(self, sender: LocalAccount, nonce: int, data: bytes) -> str:
        """Return a call to the escrow as a signed transaction of type 2 (EIP-1559)."""
        transaction: dict[str, Any] = {
            "chainId": self.stack.chain_id,
            "to": self.stack.escrow,
            "data": to_hex(data),
            "nonce": nonce,
            "gas": 1_000_000,
            "maxFeePerGas": 10**11,
            "maxPriorityFeePerGas": 10**9,
        }
        return to_hex(bytes(sender.sign_transaction(transaction).raw_transaction))


def _chunks(orders: Iterable[Order], count: int) -> Iterator[list[Order]]:
    every = iter(orders)
    while some := list(islice(every, count)):
        yield some
