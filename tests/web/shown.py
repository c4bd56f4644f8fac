"""The chain behind the page: what its tests look at, and what they change behind its back."""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

from sqlalchemy import update

from api.db.store import Store
from api.db.tables import annonces
from api.people.directory import Annonce, User
from creneau.amounts import to_wei
from creneau.events import TRANSFER
from creneau.types import to_hex
from tools.dev_stack import DevStack


@contextmanager
def charged_once(stack: DevStack, student: User, edu: Decimal | int) -> Iterator[None]:
    """One transaction happens, with one transfer of that much from the student, who had 1,000 EDU."""
    first = int(stack.rpc("eth_blockNumber"), 16) + 1
    yield
    sender = "0x" + student.wallet[2:].lower().rjust(64, "0")
    topics = [to_hex(TRANSFER), sender]
    found = stack.rpc("eth_getLogs", {"fromBlock": hex(first), "address": stack.edu, "topics": topics})
    assert [int(log["data"], 16) for log in found] == [to_wei(edu)]
    assert stack.balance(student.wallet) == to_wei(1000 - edu)


@contextmanager
def no_block(stack: DevStack) -> Iterator[None]:
    """Holds all blocks back meanwhile."""
    stack.rpc("evm_setAutomine", False)
    try:
        yield
    finally:
        stack.rpc("evm_setAutomine", True)
        stack.rpc("evm_mine")


def set_rate(stack: DevStack, annonce: Annonce, hourly_rate: int) -> None:
    """The tutor changes their rate."""
    store = Store(stack.settings.database)
    with store.write() as db:
        db.execute(
            update(annonces).where(annonces.c.id == annonce.id).values(hourly_rate=to_wei(hourly_rate))
        )
    store.close()
