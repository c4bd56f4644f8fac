"""The old way, to compare with: an approval and a transaction for each lesson, on a contract of its own."""

import json
import time
import uuid
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from creneau import abi
from creneau.amounts import to_wei
from creneau.types import to_hex
from tools.dev_stack import ROOT, DevStack

AMOUNT = to_wei(35)
_CALL = "createBooking(string,address,uint256,string,uint256,uint256)"
_TYPES = ["string", "address", "uint256", "string", "uint256", "uint256"]


def deploy_compiled(stack: DevStack, name: str, *arguments: str) -> str:
    """Return the address of a new contract of `contracts/test`, made with these addresses."""
    compiled = json.loads((ROOT / ".build" / "__local__.json").read_text())["contractTypes"][name]
    code = bytes.fromhex(compiled["deploymentBytecode"]["bytecode"].removeprefix("0x"))
    data = to_hex(code + encode(["address"] * len(arguments), arguments))
    sent = stack.rpc("eth_sendTransaction", {"from": stack.owner.address, "data": data})
    return str(stack.web3.eth.wait_for_transaction_receipt(sent)["contractAddress"])


def lesson_data(tutor: str, title: str) -> bytes:
    """Return the call that books a lesson of an hour."""
    start = int(time.time()) // 3600 * 3600 + 86_400
    values = [str(uuid.uuid4()), tutor, AMOUNT, title, start, 60]
    return keccak(text=_CALL)[:4] + encode(_TYPES, values)


class PerSlotBaseline:
    """A student and a tutor among the node's accounts who go on as before."""

    def __init__(self, stack: DevStack, student: str, tutor: str) -> None:
        self._stack = stack
        self._student = student
        self._tutor = tutor
        self._contract = deploy_compiled(stack, "OldBookings", stack.edu)
        stack.mint(student, to_wei(10_000))
        self.book(1, "Warm-up")  # Words that turn from zero once in a lifetime are not counted against it.

    def book(self, lessons: int, title: str) -> int:
        """Book so many lessons. Return their gas."""
        return sum(self._send(to, data) for _ in range(lessons) for to, data in self._lesson(title))

    def _lesson(self, title: str) -> list[tuple[str, bytes]]:
        approval = abi.approve_data(self._contract, AMOUNT)
        return [(self._stack.edu, approval), (self._contract, lesson_data(self._tutor, title))]

    def _send(self, to: str, data: bytes) -> int:
        receipt: dict[str, Any] = self._stack.send(self._student, to, data)
        return int(receipt["gasUsed"])
