"""Orders of every kind, for Hypothesis."""

from hypothesis import strategies as st

from creneau import Order, Slot, from_wei
from creneau.types import from_unix

ANNONCE = "3f2b9c1e-5a7d-4c88-9e21-6b1f0a4d7c55"
LAST_SECOND = 253402300799
"""The end of the year 9999."""
LAST_SLOT = Slot.of((2**24 - 1) * 900, 255 * 15)
"""The latest and longest slot that the contract's type can hold."""


def addresses() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=20, max_size=20)


def words() -> st.SearchStrategy[bytes]:
    return st.binary(min_size=32, max_size=32)


def slots() -> st.SearchStrategy[Slot]:
    quarters = st.integers(0, 2**24 - 1), st.integers(0, 255)
    return st.builds(lambda start, length: Slot.of(start * 900, length * 15), *quarters)


def orders() -> st.SearchStrategy[Order]:
    """Every order that the contract's types can hold, up to the year 9999."""
    return st.builds(
        Order,
        student=addresses(),
        tutor=addresses(),
        listing=words(),
        hourly_rate=st.integers(0, 2**96 - 1).map(from_wei),
        min_lessons=st.integers(0, 255),
        deadline=st.integers(0, LAST_SECOND).map(from_unix),
        salt=words(),
        slots=st.lists(slots(), max_size=40),
    )
