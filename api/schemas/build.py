"""Answers, as the frontend reads them, from the models of batches, lessons and listings."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from api.booking.models import (
    ActionResult,
    Batch,
    BookedLesson,
    LessonPage,
    ListingDetails,
    PreparedAction,
    PublicationResult,
    SigningRequest,
    Stats,
    TakenTimes,
)
from api.outbox.models import State
from api.words import lessons, rfc3339, utc
from creneau.amounts import format_amount, from_wei, to_wei
from creneau.lifecycle import FOREVER, Action, Periods, Role, Status, windows
from creneau.types import to_unix


def batch_answer(batch: Batch, periods: Periods) -> dict[str, Any]:
    """Return the answer about a batch. Raises `ValueError` if nothing of it is booked, or may be."""
    places, failed = batch.places, batch.not_booked
    data = {
        "batchId": batch.id,
        "state": batch.state,
        "bookings": [booking_data(BookedLesson(batch, place), periods) for place in places],
        "totalAmount": from_wei(batch.total),
        "totalAmountWei": str(batch.total),
        "count": len(places),
        "failedCount": len(failed),
        "failures": failed or None,
        "transactionHash": batch.transaction_hash,
        "blockNumber": batch.block_number,
        "gasUsed": batch.gas_used,
        "finality": batch.state if batch.state in {State.MINED, State.FINAL} else "pending",
    }
    return {"success": bool(places), "message": _message(batch), "data": data}


def booking_data(lesson: BookedLesson, periods: Periods) -> dict[str, Any]:
    """Return one lesson of a batch."""
    batch, place = lesson
    slot, asked = batch.slot(place), batch.lessons[place]
    state, booked, wei = batch.lesson_state(place), batch.booked is not None, batch.amount(place)
    chain_status = "CONFIRMED" if booked else "PENDING"
    may = windows(state.status, slot, periods)
    cancellable = next((w.until for w in may if w[:2] == (Action.CANCEL, Role.STUDENT)), None)
    return {
        "id": batch.booking_id(place),
        "tutorId": batch.tutor_id,
        "studentId": batch.student_id,
        "annonceId": batch.annonce_id,
        "date": asked["date"],
        "time": asked["time"],
        "startsAt": utc(slot.start),
        "duration": asked["duration"],
        "status": state.status.name,
        "amount": from_wei(wei),
        "amountWei": str(wei),
        "transactionHash": batch.transaction_hash,
        "blockchainStatus": "CANCELLED" if state.status == Status.CANCELLED else chain_status,
        "blockchainTransactionId": batch.chain_id(place),
        "description": batch.description,
        "studentNotes": batch.student_notes,
        "createdAt": rfc3339(batch.created_at),
        "updatedAt": rfc3339(max(batch.created_at, batch.updated_at, state.updated_at * 1_000_000)),
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
        "payments": _payments([lesson]),
    }


def _payments(booked: Sequence[BookedLesson]) -> list[dict[str, Any]]:
    """Return the sums that student and tutor got of lessons of one batch."""
    batch, states = booked[0].batch, [each.batch.lesson_state(each.place) for each in booked]
    parts = (
        ("student", batch.student_id, sum(state.to_student for state in states)),
        ("tutor", batch.tutor_id, sum(state.to_tutor for state in states)),
    )
    return [
        {"to": to, "userId": user_id, "amount": from_wei(wei), "amountWei": str(wei)}
        for to, user_id, wei in parts
        if wei
    ]


def _message(batch: Batch) -> str:
    count, failed = len(batch.places), batch.not_booked
    if not count:
        return f"Nothing was booked. {batch.detail or failed[0]['error']}"
    number = f"{count} of {count + len(failed)} lessons" if failed else lessons(count)
    price = format_amount(batch.total)
    if batch.booked is None:
        message = f"{number} for {price} EDU on the way; the transaction is not in a block yet."
    else:
        message = f"{number} booked for {price} EDU in one transaction."
    return f"{message} {failed[0]['error']}" if failed else message


def booking_answer(lesson: BookedLesson, periods: Periods) -> dict[str, Any]:
    """Return the answer about one lesson."""
    return _answer("1 lesson.", booking_data(lesson, periods))


def page_answer(page: LessonPage, periods: Periods) -> dict[str, Any]:
    """Return the answer with some lessons of a list."""
    data = [booking_data(lesson, periods) for lesson in page.lessons]
    return _answer(f"{lessons(len(data))}.", data) | {"nextCursor": page.next_cursor}


def stats_answer(stats: Stats) -> dict[str, Any]:
    """Return the answer about a person's sums."""
    paid = "earned" if stats.role == "tutor" else "spent"
    sums = {paid: stats.paid, "inEscrow": stats.in_escrow, "refunded": stats.refunded}
    total = sum(stats.counts.values())
    data = {
        "userId": stats.user_id,
        "role": stats.role,
        "count": total,
        "byStatus": {status.name: count for status, count in stats.counts.items()},
        **{name: from_wei(wei) for name, wei in sums.items()},
        **{f"{name}Wei": str(wei) for name, wei in sums.items()},
    }
    return _answer(f"{lessons(total)}.", data)


def signing_answer(request: SigningRequest) -> dict[str, Any]:
    """Return the answer about a prepared batch."""
    batch = request.prepared.batch
    data = {
        "batchId": batch.id,
        "expiresAt": rfc3339(request.prepared.expires_at),
        "totalAmount": from_wei(batch.total),
        "totalAmountWei": str(batch.total),
        "count": len(batch.lessons),
        "failedCount": len(batch.failures),
        "failures": batch.failures or None,
        "order": request.order,
        "permit": request.permit,
    }
    return _answer(f"Sign to book for {format_amount(batch.total)} EDU. Nothing is booked yet.", data)


def prepared_action_answer(prepared: PreparedAction) -> dict[str, Any]:
    """Return the answer about an action that waits for its signature."""
    data = {
        "act": prepared.action,
        "batchId": prepared.lessons[0].batch.id,
        "lessons": [batch.booking_id(place) for batch, place in prepared.lessons],
        "signer": prepared.signer,
        "typedData": prepared.typed_data,
    }
    return _answer(f"To be signed, to have {lessons(len(prepared.lessons))} {prepared.word}.", data)


def action_answer(result: ActionResult, periods: Periods) -> dict[str, Any]:
    """Return the answer about an action."""
    payments = _payments(result.lessons)
    sums = [f"{format_amount(int(each['amountWei']))} EDU to the {each['to']}" for each in payments]
    message = f"{lessons(len(result.lessons))} {result.word}{'' if result.is_done else ', on the way'}"
    data = {
        "act": result.action,
        "batchId": result.lessons[0].batch.id,
        "state": result.state,
        "transactionHash": result.transaction_hash,
        "gasUsed": result.gas_used,
        "bookings": [booking_data(lesson, periods) for lesson in result.lessons],
        "payments": payments,
    }
    return _answer(f"{message}: {' and '.join(sums)}." if sums else f"{message}.", data)


def listing_answer(details: ListingDetails) -> dict[str, Any]:
    """Return the answer about a listing."""
    return _answer(details.title, _listing_data(details))


def prepared_listing_answer(signer: str, typed_data: dict[str, Any]) -> dict[str, Any]:
    """Return the answer about a publication that waits for its signature."""
    return _answer("To be signed, to publish the annonce.", {"signer": signer, "typedData": typed_data})


def publication_answer(result: PublicationResult) -> dict[str, Any]:
    """Return the answer about a listing's publication."""
    word = "Withdrawn" if result.is_withdrawal else "Published"
    message = f"{word}." if result.is_done else f"{word} as soon as it is in a block."
    state = {"state": result.state, "transactionHash": result.transaction_hash}
    return _answer(message, _listing_data(result.details) | state)


def _listing_data(details: ListingDetails) -> dict[str, Any]:
    rate = details.published.hourly_rate
    published = to_wei(rate)
    return {
        "id": details.id,
        "tutorId": details.tutor_id,
        "title": details.title,
        "hourlyRate": from_wei(details.hourly_rate),
        "hourlyRateWei": str(details.hourly_rate),
        "timeZone": details.time_zone,
        "schedule": None if details.hours is None else _intervals(details.hours),
        "published": published == details.hourly_rate,
        "publishedRate": rate if published else None,
        "publishedRateWei": str(published) if published else None,
        "instant": details.published.instant,
    }


def calendar_answer(times: TakenTimes) -> dict[str, Any]:
    """Return the answer about a tutor's calendar."""
    data = {
        "tutorId": times.tutor_id,
        "from": utc(times.since),
        "to": utc(times.until),
        "taken": _intervals(times.taken),
    }
    return _answer("The taken times." if times.taken else "Nothing is taken.", data)


def _intervals(times: Sequence[tuple[datetime, datetime]]) -> list[dict[str, str]]:
    return [{"start": utc(start), "end": utc(end)} for start, end in times]


def wallet_answer(address: str, *, custodial: bool) -> dict[str, Any]:
    """Return the answer about the account in force."""
    message = "This account is kept for you." if custodial else "This wallet is your own."
    return _answer(message, {"address": address, "custodial": custodial})


def challenge_answer(message: str, nonce: str, expires_at: int) -> dict[str, Any]:
    """Return the answer with a message to sign, which expires at a time in microseconds of unix time."""
    data = {"message": message, "nonce": nonce, "expiresAt": rfc3339(expires_at)}
    return _answer("Sign this message with the wallet.", data)


def _answer(message: str, data: Any) -> dict[str, Any]:
    return {"success": True, "message": message, "data": data}
