"""A batch's row as the frontend reads it."""

import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from api.problems import Problem
from api.slots import Failure, Lesson
from api.store import UNSETTLED, State
from creneau.amounts import format_edu, from_wei, lesson_amount
from creneau.fields import from_unix, to_bytes32, to_hex
from creneau.order import booking_id

_BOOKING_IDS = uuid.uuid5(uuid.NAMESPACE_URL, "https://creneau.dev/bookings")


def frontend_id(on_chain: bytes) -> str:
    """The frontend's id of a booking. It follows from the id on the chain, so a rebuild finds it again."""
    return str(uuid.uuid5(_BOOKING_IDS, to_hex(on_chain)))


def is_booked(row: Row[Any], place: int) -> bool:
    """Whether the order's lesson at this place is booked, or still may be."""
    if row.booked is None:
        return row.state in UNSETTLED
    return bool(row.booked >> place & 1)


def failures(row: Row[Any]) -> list[Failure]:
    """The lessons that were not booked, in the order of the request."""
    found: list[Failure] = row.failures + (row.left_out or [])
    return sorted(found, key=lambda failure: failure["index"])


def batch_data(row: Row[Any]) -> dict[str, Any]:
    """What became of a batch: the answer's `data`."""
    bookings = [
        _booking(row, place, lesson) for place, lesson in enumerate(row.lessons) if is_booked(row, place)
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
        "gasUsed": row.gas_used,
        "finality": row.state if row.state in {State.MINED, State.FINAL} else "pending",
    }


def answer(row: Row[Any]) -> dict[str, Any]:
    """The whole answer."""
    data = batch_data(row)
    return {"success": data["count"] > 0, "message": _message(row, data), "data": data}


def refusal(row: Row[Any]) -> Problem:
    """The answer to a request of which nothing was booked."""
    return nothing_booked(failures(row), row.code, row.detail, batchId=row.id)


def nothing_booked(
    failed: list[Failure], code: str | None = None, reason: str | None = None, **details: Any
) -> Problem:
    """A refusal that names its first reason and carries every failure."""
    code, reason = code or failed[0]["code"], reason or failed[0]["error"]
    return Problem(409, code, f"Nothing was booked. {reason}", failures=failed, **details)


def _booking(row: Row[Any], place: int, lesson: Lesson) -> dict[str, Any]:
    on_chain = booking_id(to_bytes32(row.id), place)
    wei = lesson_amount(row.hourly_rate, lesson["duration"])
    return {
        "id": frontend_id(on_chain),
        "tutorId": row.tutor_id,
        "studentId": row.student_id,
        "annonceId": row.annonce_id,
        "date": lesson["date"],
        "time": lesson["time"],
        "startsAt": _rfc3339(lesson["start"] * 1_000_000),
        "duration": lesson["duration"],
        "status": "CONFIRMED" if row.instant and row.booked is not None else "PENDING",
        "amount": from_wei(wei),
        "amountWei": str(wei),
        "transactionHash": row.transaction_hash,
        "blockchainStatus": "PENDING" if row.booked is None else "CONFIRMED",
        "blockchainTransactionId": to_hex(on_chain),
        "description": row.description,
        "studentNotes": row.student_notes,
        "createdAt": _rfc3339(row.created_at),
        "updatedAt": _rfc3339(row.updated_at),
    }


def _message(row: Row[Any], data: dict[str, Any]) -> str:
    count, failed = data["count"], data["failures"]
    if not count:
        return str(refusal(row))
    number = f"{count} of {count + len(failed)} lessons" if failed else lessons(count)
    price = format_edu(int(data["totalAmountWei"]))
    if row.booked is None:
        message = f"{number} for {price} EDU on the way; the transaction is not in a block yet."
    else:
        message = f"{number} booked for {price} EDU in one transaction."
    return f"{message} {failed[0]['error']}" if failed else message


def lessons(count: int) -> str:
    """So many lessons, in words."""
    return "1 lesson" if count == 1 else f"{count} lessons"


def _rfc3339(microseconds: int) -> str:
    seconds, rest = divmod(microseconds, 1_000_000)
    moment = from_unix(seconds) + timedelta(microseconds=rest)
    return moment.isoformat(timespec="milliseconds" if rest else "seconds").replace("+00:00", "Z")
