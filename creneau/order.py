"""The order: the terms of a student's lessons, and its EIP-712 hash.

Outside, times are aware datetimes, lengths are timedeltas and money is Decimal; inside the hash and the ABI
they are unix seconds, minutes and base units. A model refuses values that the contract's types can't hold. It
does not refuse values that the contract's rules refuse (a slot in the past, one that is not aligned, a wrong
rate): the contract does that, with its reason, through `check` or an error.
"""

import secrets
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, Self

from eth_utils.crypto import keccak
from hexbytes import HexBytes
from pydantic import BaseModel, ConfigDict, Field, model_validator

from creneau.amounts import from_wei, lesson_amount, to_wei
from creneau.typed_data import Domain, hash_struct, order_typed_data
from creneau.types import (
    Address,
    Bytes32,
    Minutes,
    Rate,
    Timestamp,
    from_unix,
    to_bytes32,
    to_unix,
)

MAX_SLOTS = 40
"""The contract's limit on the slots of one order. A batch's sets of lessons have 40 bits."""

QUARTER_SECONDS = 900
QUARTER_MINUTES = 15

# --- Identifiers ---


def listing_id(annonce_id: str) -> bytes:
    """Return the contract's key of a listing: keccak256 of the annonce id's UTF-8 text, whatever its form."""
    return keccak(text=annonce_id)


def booking_id(batch: bytes, index: int) -> bytes:
    """Return the id of lesson `index`, from zero: the batch's key with the index in its last byte.

    Raises `ValueError` for an index that is not one of the contract's, or a key that is not a batch's.
    """
    batch = to_bytes32(batch)
    if batch[31]:
        raise ValueError("a batch's key ends in a zero byte")
    if not 0 <= index < MAX_SLOTS:
        raise ValueError(f"an index is from 0 to {MAX_SLOTS - 1}")
    return batch[:31] + bytes([index])


def batch_of(booking: bytes) -> bytes:
    """Return the key of the batch that a booking id names."""
    return to_bytes32(booking)[:31] + b"\0"


def index_of(booking: bytes) -> int:
    """Return the place in its batch, from zero, that a booking id names."""
    return to_bytes32(booking)[31]


def pack_slot(start_unix: int, minutes: int) -> int:
    """Return the contract's `Slot`: quarters of an hour since 1970, shifted by 8, and their number."""
    return start_unix // QUARTER_SECONDS << 8 | minutes // QUARTER_MINUTES


def unpack_slot(word: int) -> tuple[int, int]:
    """Return the unix start in seconds, and the minutes, of the contract's `Slot`."""
    return (word >> 8) * QUARTER_SECONDS, (word & 0xFF) * QUARTER_MINUTES


class SlotCode(IntEnum):
    """The answer of `check` for one slot. The contract's `SlotCode`."""

    OK = 0
    IN_PAST = 1
    TOO_SOON = 2
    TOO_FAR = 3
    DURATION = 4
    TAKEN = 5
    OVERLAP = 6


# --- Models ---


class Slot(BaseModel):
    """A lesson's time, half open: from `start` until just before `end`."""

    model_config = ConfigDict(frozen=True)

    start: Timestamp
    duration: Minutes

    @model_validator(mode="after")
    def _fits(self) -> Self:
        quarters, seconds = divmod(self.start_unix, QUARTER_SECONDS)
        if seconds:
            raise ValueError("a slot starts on a quarter of an hour")
        if quarters >= 2**24:
            raise ValueError("a slot starts before the year 2449")
        if self.minutes % QUARTER_MINUTES or self.minutes // QUARTER_MINUTES >= 2**8:
            raise ValueError("a slot lasts a multiple of 15 minutes, at most 3825")
        return self

    @classmethod
    def of(cls, start_unix: int, minutes: int) -> Self:
        """Return the slot that starts at a unix time, in seconds.

        Raises `ValueError` for a time that a datetime can't tell.
        """
        return cls(start=from_unix(start_unix), duration=timedelta(minutes=minutes))

    @property
    def packed(self) -> int:
        """The contract's `Slot`, 32 bits."""
        return pack_slot(self.start_unix, self.minutes)

    @property
    def end(self) -> datetime:
        """The time at which the lesson is over."""
        return self.start + self.duration

    @property
    def start_unix(self) -> int:
        """The start in unix seconds."""
        return to_unix(self.start)

    @property
    def minutes(self) -> int:
        """The duration in minutes."""
        return self.duration // timedelta(minutes=1)


class Order(BaseModel):
    """The terms of one batch of lessons: the contract's `Order`.

    `hourly_rate` is in tokens, and must equal what the tutor published. Slots that were taken meanwhile are
    left out, as long as `min_lessons` are free: 1 books what is free, the number of slots all or nothing.
    `deadline` is the last second at which the order may be created. The same terms with the same `salt` are
    the same order, which the contract creates once.
    """

    model_config = ConfigDict(frozen=True)

    student: Address
    tutor: Address
    listing: Bytes32
    hourly_rate: Rate
    min_lessons: int = Field(default=1, ge=0, lt=2**8)
    deadline: Timestamp
    salt: Bytes32 = Field(default_factory=lambda: HexBytes(secrets.token_bytes(32)))
    slots: tuple[Slot, ...]

    @classmethod
    def from_abi(cls, terms: tuple[Any, ...]) -> Self:
        """Return the order of `as_abi`'s values. Raises `ValueError` for a time that no datetime can tell."""
        student, tutor, listing, rate, min_lessons, deadline, salt, slots = terms
        return cls(
            student=student,
            tutor=tutor,
            listing=listing,
            hourly_rate=from_wei(rate),
            min_lessons=min_lessons,
            deadline=from_unix(deadline),
            salt=salt,
            slots=tuple(Slot.of(*unpack_slot(word)) for word in slots),
        )

    @property
    def hourly_rate_wei(self) -> int:
        """The rate in base units."""
        return to_wei(self.hourly_rate)

    @property
    def amounts_wei(self) -> list[int]:
        """The price of each slot in base units, rounded down as the contract does."""
        rate = self.hourly_rate_wei
        return [lesson_amount(rate, slot.minutes) for slot in self.slots]

    @property
    def amounts(self) -> list[Decimal]:
        """The price of each slot in tokens."""
        return [from_wei(wei) for wei in self.amounts_wei]

    @property
    def total(self) -> Decimal:
        """The price in tokens if every slot is booked: the sum of the amounts."""
        return from_wei(sum(self.amounts_wei))

    def as_abi(self) -> tuple[Any, ...]:
        """Return the contract's `Order` as the ABI codec takes it."""
        return (
            self.student,
            self.tutor,
            self.listing,
            self.hourly_rate_wei,
            self.min_lessons,
            to_unix(self.deadline),
            self.salt,
            [slot.packed for slot in self.slots],
        )

    @property
    def _signed(self) -> tuple[Any, ...]:
        # Wallets show what they sign: unix seconds and minutes instead of packed quarters.
        return (*self.as_abi()[:-1], [(slot.start_unix, slot.minutes) for slot in self.slots])

    def typed_data(self, domain: Domain) -> dict[str, Any]:
        """Return the whole message that the student signs, as `eth_signTypedData_v4` takes it."""
        return order_typed_data(domain, self._signed)

    def digest(self, domain: Domain) -> bytes:
        """Return the EIP-712 digest that the student signs: the contract's `hashOrder`."""
        return domain.digest(self.struct_hash)

    @property
    def struct_hash(self) -> bytes:
        """EIP-712's `hashStruct(order)`, which does not depend on a chain or a contract."""
        return hash_struct("Order", self._signed)

    @property
    def batch_id(self) -> bytes:
        """The key of the batch that the order becomes: its struct hash with the last byte zeroed."""
        return self.struct_hash[:31] + b"\0"


class Permit(BaseModel):
    """A student's EIP-2612 permit for the escrow.

    An allowance of `value` base units; the token takes the permit until `deadline` (unix seconds).
    """

    model_config = ConfigDict(frozen=True)

    value: int = Field(ge=0, lt=2**256)
    deadline: int = Field(ge=0, lt=2**256)
    v: int = Field(ge=0, lt=2**8)
    r: Bytes32
    s: Bytes32

    @classmethod
    def from_signature(cls, value: int, deadline: int, signature: bytes) -> Self:
        """From the 65 bytes r, s, v of a signature."""
        if len(signature) != 65:
            raise ValueError("a permit's signature has 65 bytes")
        return cls(value=value, deadline=deadline, r=signature[:32], s=signature[32:64], v=signature[64])

    def as_abi(self) -> tuple[int, int, int, bytes, bytes]:
        """Return the contract's `Permit` as the ABI codec takes it."""
        return self.value, self.deadline, self.v, self.r, self.s
