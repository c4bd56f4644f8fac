"""A batch's row as the frontend reads it."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple

from api.booking.models import Failure, Lesson
from api.errors import Code, Problem
from api.outbox.models import UNSETTLED, State
from api.words import lessons, utc
from creneau.amounts import format_amount, from_wei, lesson_amount
from creneau.lifecycle import FOREVER, Action, Periods, Role, Status, windows
from creneau.order import Slot, booking_id, index_of
from creneau.types import from_unix, to_bytes32, to_hex, to_unix

_PREFIX = 29
"""Hex digits of a batch's key that a booking's id begins with: 116 bits."""


class LessonState(NamedTuple):
    """A lesson as it stands, and what each got of its money once it left the escrow."""

    status: Status
    to_tutor: int = 0
    to_student: int = 0
    updated_at: int = 0  # Unix seconds; 0: as it was booked.


UNSEEN: Mapping[int, LessonState] = MappingProxyType({})


def frontend_id(on_chain: bytes) -> str:
    """The frontend's id of a booking: an UUID of version 8 (RFC 9562), cut from the id on the chain.

    So a rebuild finds it again, and the batch is found by it without a table of its own.
    """
    bits = int(on_chain.hex()[:_PREFIX], 16) << 6 | index_of(on_chain)
    high, middle, low = bits >> 74, bits >> 62 & 0xFFF, bits & (1 << 62) - 1
    return str(uuid.UUID(int=high << 80 | 8 << 76 | middle << 64 | 2 << 62 | low))


def batch_range(booking: str) -> tuple[str, str, int]:
    """The first and the last key that a booking's batch can have, and its place there.

    By the frontend's id of the booking, or by the one on the chain.
    """
    if booking.startswith("0x"):
        key = to_bytes32(booking)
        return (batch := to_hex(key[:31] + b"\0")), batch, index_of(key)
    number = uuid.UUID(booking).int
    bits = number >> 80 << 74 | (number >> 64 & 0xFFF) << 62 | number & (1 << 62) - 1
    prefix = f"0x{bits >> 6:0{_PREFIX}x}"
    return prefix.ljust(66, "0"), prefix.ljust(66, "f"), bits & 0x3F


def is_booked(row: Any, place: int) -> bool:
    """Whether the order's lesson at this place is booked, or still may be."""
    if row.booked is None:
        return row.state in UNSETTLED
    return bool(row.booked >> place & 1)


def failures(row: Any) -> list[Failure]:
    """The lessons that were not booked, in the order of the request."""
    found: list[Failure] = [*row.failures, *(row.left_out or ())]
    return sorted(found, key=lambda failure: failure["index"])


def batch_data(row: Any, periods: Periods, seen: Mapping[int, LessonState] = UNSEEN) -> dict[str, Any]:
    """What became of a batch: the answer's `data`. `seen` has its lessons as they stand, by their places."""
    bookings = [
        booking_data(row, place, periods, seen) for place in range(len(row.lessons)) if is_booked(row, place)
    ]
    total = sum(int(booking["amountWei"]) for booking in bookings)
    failed = failures(row)
    return {
        "batchId": row.id,
        "state": row.state,
        "bookings": bookings,
        "totalAmount": from_wei(total),
        "totalAmountWei": str(total),
        "count": len(bookings),
        "failedCount": len(failed),
        "failures": failed or None,
        "transactionHash": row.transaction_hash,
        "blockNumber": row.block_number,
        "gasUsed": row.gas_used,
        "finality": row.state if row.state in {State.MINED, State.FINAL} else "pending",
    }


def answer(row: Any, periods: Periods, seen: Mapping[int, LessonState] = UNSEEN) -> dict[str, Any]:
    """The whole answer."""
    data = batch_data(row, periods, seen)
    return {"success": data["count"] > 0, "message": _message(row, data), "data": data}


def refusal(row: Any) -> Problem:
    """The answer to a request of which nothing was booked."""
    return nothing_booked(failures(row), row.code, row.detail, batchId=row.id)


def nothing_booked(
    failed: list[Failure], code: str | None = None, reason: str | None = None, **details: Any
) -> Problem:
    """A refusal that names its first reason and carries every failure."""
    code, reason = code or failed[0]["code"], reason or failed[0]["error"]
    more = {"failures": failed, **details}
    return Problem(Code(code), message=f"Nothing was booked. {reason}", details=more)


def booking_data(
    row: Any, place: int, periods: Periods, seen: Mapping[int, LessonState] = UNSEEN
) -> dict[str, Any]:
    """One lesson of a batch."""
    lesson: Lesson = row.lessons[place]
    on_chain = booking_id(to_bytes32(row.id), place)
    wei = lesson_amount(row.hourly_rate, lesson["duration"])
    booked = row.booked is not None
    now = seen.get(place, LessonState(Status.CONFIRMED if row.instant and booked else Status.PENDING))
    chain_status = "CONFIRMED" if booked else "PENDING"
    may = windows(now.status, Slot.of(lesson["start"], lesson["duration"]), periods)
    cancellable = next((w.until for w in may if w[:2] == (Action.CANCEL, Role.STUDENT)), None)
    parts = {"student": (row.student_id, now.to_student), "tutor": (row.tutor_id, now.to_tutor)}
    return {
        "id": frontend_id(on_chain),
        "tutorId": row.tutor_id,
        "studentId": row.student_id,
        "annonceId": row.annonce_id,
        "date": lesson["date"],
        "time": lesson["time"],
        "startsAt": rfc3339(lesson["start"] * 1_000_000),
        "duration": lesson["duration"],
        "status": now.status.name,
        "amount": from_wei(wei),
        "amountWei": str(wei),
        "transactionHash": row.transaction_hash,
        "blockchainStatus": "CANCELLED" if now.status == Status.CANCELLED else chain_status,
        "blockchainTransactionId": to_hex(on_chain),
        "description": row.description,
        "studentNotes": row.student_notes,
        "createdAt": rfc3339(row.created_at),
        "updatedAt": rfc3339(max(row.created_at, row.updated_at, now.updated_at * 1_000_000)),
        "cancellableUntil": cancellable and utc(cancellable),
        "may": [
            {
                "act": window.action,
                "by": window.by,
                "from": None if not to_unix(window.since) else utc(window.since),
                "until": None if window.until == FOREVER else utc(window.until),
            }
            for window in may
            if booked
        ],
        "payments": [payment(to, user_id, got) for to, (user_id, got) in parts.items() if got],
    }


def payment(to: str, user_id: str | None, wei: int) -> dict[str, Any]:
    """What somebody got."""
    return {"to": to, "userId": user_id, "amount": from_wei(wei), "amountWei": str(wei)}


def _message(row: Any, data: dict[str, Any]) -> str:
    count, failed = data["count"], data["failures"]
    if not count:
        return str(refusal(row))
    number = f"{count} of {count + len(failed)} lessons" if failed else lessons(count)
    price = format_amount(int(data["totalAmountWei"]))
    if row.booked is None:
        message = f"{number} for {price} EDU on the way; the transaction is not in a block yet."
    else:
        message = f"{number} booked for {price} EDU in one transaction."
    return f"{message} {failed[0]['error']}" if failed else message


def rfc3339(microseconds: int) -> str:
    """A time of the tables, likewise."""
    seconds, rest = divmod(microseconds, 1_000_000)
    time = from_unix(seconds) + timedelta(microseconds=rest)
    return time.isoformat(timespec="milliseconds" if rest else "seconds").replace("+00:00", "Z")
