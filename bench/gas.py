"""Gas of a booking: beside the old way, beside a batch of structs, and beside the least that is possible."""

import json
from collections.abc import Callable

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from bench import Part
from bench.market import RATE, WORD, Market
from creneau import abi
from creneau.amounts import to_wei
from creneau.types import to_unix
from tools.dev_stack import ROOT, DevStack
from tools.per_slot_baseline import AMOUNT, PerSlotBaseline, deploy_compiled

COUNTS = (1, 2, 5, 10, 20, 40)
STUDENT, TUTOR, RELAYER = 5, 6, 7  # Accounts of the local node.
_STRUCT_CALL = "createBookings(address,bytes32,(uint256,uint256,uint256)[])"
_STRUCT_TYPES = ["address", "bytes32", "(uint256,uint256,uint256)[]"]
_TITLE = "Cours de mathématiques"


def run(short: bool) -> Part:
    """Whole transactions, intrinsic gas and calldata included. Short, the batches of ten only."""
    counts = (10,) if short else COUNTS
    with DevStack() as stack:
        market = Market(stack, stack.account(STUDENT), stack.account(TUTOR))
        ways: dict[str, Callable[[int], int]] = {
            "old way": _per_slot_baseline(stack, market),
            "batch of structs": _structs(stack, market),
        }
        floor = deploy_compiled(stack, "Floor", stack.edu)
        stack.send(market.student.address, stack.edu, abi.approve_data(floor, to_wei(1_000_000)))
        for words in ("used", "fresh"):
            ways[f"floor, {words} word"] = _floor(market, floor, used=words == "used")
            for way in ("sent", "relayed", "relayed with permit"):
                ways[f"{way}, {words} word"] = _creation(market, way, used=words == "used")
        table = {name: {str(n): _undone(stack, way, n) for n in counts} for name, way in ways.items()}
    acts = json.loads((ROOT / "tests" / "contracts" / "gas.json").read_text())
    ours = table["sent, used word"]["10"]
    return {
        "raw": {
            "creation": table,
            # `make test` measures these to the unit.
            "acts": {name: gas for name, gas in acts.items() if name.split()[0] in _ACTS},
        },
        "ratios": {
            "gas10_per_slot_baseline": table["old way"]["10"] / ours,
            "gas10_struct_batch": table["batch of structs"]["10"] / ours,
            "gas10_over_floor": ours / table["floor, used word"]["10"],
        },
    }


_ACTS = {"confirm", "complete", "cancel"}


def _undone(stack: DevStack, way: Callable[[int], int], lessons: int) -> int:
    """Return the gas of a way, from the same beginning as the others."""
    before = stack.rpc("evm_snapshot")
    gas = way(lessons)
    stack.rpc("evm_revert", before)
    return gas


def _creation(market: Market, way: str, *, used: bool) -> Callable[[int], int]:
    """One order, after another one in the same calendar word or elsewhere."""

    def book(lessons: int) -> int:
        relayer = market.stack.account(RELAYER)
        market.send(abi.create_bookings_data(market.order(1, page=0 if used else 3)), market.student)
        order = market.order(lessons, first=8)
        if way == "sent":
            return market.send(abi.create_bookings_data(order), market.student)
        permit = None
        if way == "relayed with permit":
            # The first permit of an account's life turns a word from zero; this is a later one.
            deadline = market.page * WORD
            market.allow(0)
            first = market.permit(1, 0, deadline)
            terms = market.student.address, market.stack.escrow, *first.as_abi()
            market.stack.send(relayer.address, market.stack.edu, abi.call_data("EduToken", "permit", *terms))
            market.allow(0)
            permit = market.permit(lessons * to_wei(RATE), 1, deadline)
        return market.send(abi.create_bookings_data(order, market.sign(order), permit), relayer)

    return book


def _per_slot_baseline(stack: DevStack, market: Market) -> Callable[[int], int]:
    old = PerSlotBaseline(stack, market.student.address, market.tutor.address)
    return lambda lessons: old.book(lessons, _TITLE)


def _structs(stack: DevStack, market: Market) -> Callable[[int], int]:
    contract = deploy_compiled(stack, "StructBatch", stack.edu)
    student = market.student.address
    stack.send(student, stack.edu, abi.approve_data(contract, to_wei(1_000_000)))

    def book(lessons: int) -> int:
        order = market.order(lessons)
        lessons_of = [(AMOUNT, slot.start_unix, slot.minutes) for slot in order.slots]
        values = [market.tutor.address, order.listing, lessons_of]
        data = keccak(text=_STRUCT_CALL)[:4] + encode(_STRUCT_TYPES, values)
        return int(stack.send(student, contract, data)["gasUsed"])

    book(1)
    return book


def _floor(market: Market, contract: str, *, used: bool) -> Callable[[int], int]:
    """After another order, so that the contract has tokens, and a calendar word of the tutor's if wanted."""
    publish = keccak(text="publish(bytes32,uint96)")[:4] + market.listing + to_wei(RATE).to_bytes(32)
    market.stack.send(market.tutor.address, contract, publish)

    def book(lessons: int) -> int:
        for order in (market.order(1, page=0 if used else 3), market.order(lessons, first=8)):
            head = bytes.fromhex(order.tutor[2:]) + order.listing + order.hourly_rate_wei.to_bytes(12)
            terms = to_unix(order.deadline).to_bytes(5) + bytes([len(order.slots)]) + order.salt[:8]
            data = bytes(4) + head + terms + b"".join(slot.packed.to_bytes(4) for slot in order.slots)
            gas = int(market.stack.send(market.student.address, contract, data)["gasUsed"])
        return gas

    return book
