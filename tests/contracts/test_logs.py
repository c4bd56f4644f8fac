"""The escrow's logs alone tell every status, taken quarter, amount and credit, from raw topics and data."""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from acts import ARBITRATION, DEFAULT_SHARE, FOREVER, REVIEW, do, end_of, sign_action
from ape import project
from eth_utils.crypto import keccak
from helpers import call, calldata, plain, rpc, send
from market import Market, slot
from tokens import funded_market_in

from creneau.lifecycle import Status

# Written out here, as by an indexer that has never seen the project's ABI.
CREATED = (
    "BookingsCreated(bytes32,address,address,bytes32,uint96,uint8,uint40,bytes32,bytes,uint40,bool,uint256)"
)
REVOKED = "OrderRevoked(bytes32,address)"
MOVES = {
    "BookingsConfirmed(bytes32,address,uint40)": Status.CONFIRMED,
    "BookingsDisputed(bytes32,address,uint40)": Status.DISPUTED,
    "BookingsCancelled(bytes32,address,uint40,uint256)": Status.CANCELLED,
    "BookingsCompleted(bytes32,address,uint40,uint256)": Status.COMPLETED,
    "BookingsResolved(bytes32,address,uint40,uint256,uint256)": Status.COMPLETED,
    "BookingsSettled(bytes32,address,address,uint40,uint256,uint256)": Status.COMPLETED,
}
CREDITED = "PaymentCredited(address,uint256)"
WITHDRAWN = "CreditWithdrawn(address,address,uint256)"


def topic_of(signature: str) -> str:
    return "0x" + keccak(text=signature).hex()


@dataclass
class Ledger:
    """The state by the logs: a status for each lesson, and what the escrow holds for whom."""

    statuses: dict[str, dict[int, Status]] = field(default_factory=dict)
    slots: dict[str, list[int]] = field(default_factory=dict)
    tutors: dict[str, str] = field(default_factory=dict)
    rates: dict[str, int] = field(default_factory=dict)
    credits: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: int = 0

    def read(self, log: dict[str, Any]) -> None:
        topic, *indexed = log["topics"]
        data = bytes.fromhex(log["data"][2:])
        words = [int.from_bytes(data[at : at + 32]) for at in range(0, len(data), 32)]
        moves = {topic_of(signature): status for signature, status in MOVES.items()}
        if topic == topic_of(CREATED):
            self._create(indexed, words, data)
        elif topic == topic_of(REVOKED):
            self.statuses[indexed[0]] = {}
        elif topic in moves:
            batch, lessons = indexed[0], words[0]
            for index in range(40):
                if lessons >> index & 1:
                    self.statuses[batch][index] = moves[topic]
            self.held -= sum(words[1:])
        elif topic == topic_of(CREDITED):
            self.credits[account_of(indexed[0])] += words[0]
            self.held += words[0]
        elif topic == topic_of(WITHDRAWN):
            self.credits[account_of(indexed[0])] -= words[0]
            self.held -= words[0]

    def _create(self, indexed: list[str], words: list[int], data: bytes) -> None:
        batch, _, tutor = indexed
        _, rate, _, _, _, place, booked, confirmed, total = words[:9]
        length = words[place // 32]
        packed = data[place + 32 : place + 32 + length]
        self.slots[batch] = [int.from_bytes(packed[at : at + 4]) for at in range(0, length, 4)]
        live = Status.CONFIRMED if confirmed else Status.PENDING
        self.statuses[batch] = {index: live for index in range(40) if booked >> index & 1}
        self.tutors[batch], self.rates[batch] = account_of(tutor), rate
        self.held += total

    def calendar(self, tutor: str) -> set[int]:
        """The quarters that a tutor gives, counted from 1970."""
        return {
            (self.slots[batch][index] >> 8) + quarter
            for batch, statuses in self.statuses.items()
            for index, status in statuses.items()
            if self.tutors[batch] == tutor and status != Status.CANCELLED
            for quarter in range(self.slots[batch][index] & 0xFF)
        }


def account_of(topic: str) -> str:
    return "0x" + topic[-40:]


def test_everything_is_rebuilt_from_the_logs(market: Market) -> None:
    market = funded_market_in(market, project.BlockingToken, False)
    live_through_everything(market)
    ledger = Ledger()
    for log in rpc("eth_getLogs", {"fromBlock": "0x0", "address": plain(market.escrow)}):
        ledger.read(log)

    seen = {status for statuses in ledger.statuses.values() for status in statuses.values()}
    assert seen == set(Status) - {Status.NONE}
    for batch, statuses in ledger.statuses.items():
        _, *sets = call(market.escrow.batches, bytes.fromhex(batch[2:]))
        assert sets == [
            sum(1 << index for index, status in statuses.items() if status == told)
            for told in list(Status)[1:]
        ]
    for tutor in set(ledger.tutors.values()):
        assert ledger.calendar(tutor) == market.calendar(tutor)
    assert ledger.held == market.balance(market.escrow)
    for account in (market.student, market.tutor, market.stranger):
        assert ledger.credits[str(account.address).lower()] == call(market.escrow.credits, account)
    assert any(ledger.credits.values()), "nobody was credited: this proves less than it says"


def live_through_everything(market: Market) -> None:
    """Every event of a lesson's life, several at once, some relayed, some failing."""
    student, tutor, relayer = market.student, market.tutor, market.relayer

    def new(number: int, *places: int, **terms: Any) -> Any:
        order = market.order(*(slot(place) for place in places), salt=number.to_bytes(32), **terms)
        market.book(
            order, market.sign(order) if number % 2 else b"", sender=relayer if number % 2 else student
        )
        return order

    own = market.order(slot(200), student=tutor.address, rate=0, salt=b"\x11" * 32)
    market.book(own, sender=tutor)
    first = new(1, 0, 8, 16, 24)
    partial = new(2, 24, 32, 200, 40)  # the first and the third are taken
    send(market.escrow.revoke, market.order(slot(48), salt=b"\x12" * 32), FOREVER, b"", sender=student)
    do(market, "confirm", first, 0b1111, tutor)
    signature = sign_action(market, "settle", first, 0b1000, tutor, share=4_000)
    do(market, "settle", first, 0b1000, student, share=4_000, other=signature)
    do(market, "cancel", partial, 0b10, student)
    again = new(3, 32, 50)
    market.publish(instant=True)
    instant = new(4, 60, 68, 76, 84)
    send(market.token.setBlocked, student, True, sender=market.deployer)
    do(market, "cancel", instant, 0b1000, tutor)
    calls = [
        calldata(market.escrow.complete, instant, 0b1, student, FOREVER, b""),
        calldata(market.escrow.complete, instant, 0b1, student, FOREVER, b""),
        calldata(
            market.escrow.confirm, again, 0b1, FOREVER, sign_action(market, "confirm", again, 0b1, tutor)
        ),
    ]
    receipt = send(market.escrow.tryMulticall, calls, sender=student)
    assert [event.name for event in receipt.events].count("CallFailed") == 1
    do(market, "dispute", first, 0b111, student, at=slot(16).start_unix)
    do(market, "resolve", first, 0b1, market.arbiter, share=2_500)
    do(market, "dispute", instant, 0b10, student, at=slot(68).start_unix)
    over = end_of(slot(8)) + REVIEW + ARBITRATION + 1
    do(market, "resolve", first, 0b10, market.stranger, share=DEFAULT_SHARE, at=over)
    do(market, "cancel", partial, 0b1000, market.stranger)  # pending when it began
    do(market, "complete", instant, 0b100, market.stranger)
    send(market.escrow.withdraw, student, market.stranger, FOREVER, b"", sender=student)
    do(market, "cancel", instant, 0b10, tutor)
