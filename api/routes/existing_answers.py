"""Answers of the existing frontend, built from what its use case reads."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from api.booking.existing_frontend import Entry, Period, SharedLesson, Wallet
from api.booking.money import Kind, Movement
from api.language import language, say
from api.people.directory import Annonce, Name
from api.schemas import existing_frontend as models
from api.schemas.responses import BookingData
from api.words import lessons, rfc3339
from creneau.amounts import from_wei
from creneau.lifecycle import Action, Periods, Role, Status, windows
from creneau.types import to_unix

_AGREED = {Status.CONFIRMED, Status.DISPUTED, Status.COMPLETED}


def count_of(number: int) -> str:
    """Return so many lessons, in a sentence."""
    return f"{lessons(number, language.get())}."


def lesson(shared: SharedLesson, periods: Periods) -> models.ExistingLesson:
    """Return a lesson as its reader sees it."""
    return models.ExistingLesson.model_validate(_lesson(shared, periods))


def course(shared: SharedLesson, periods: Periods, now: datetime) -> models.ExistingCourse:
    """Return a lesson of a student's courses."""
    batch, place = shared.lesson
    passed = batch.slot(place).start <= now
    return models.ExistingCourse.model_validate(_lesson(shared, periods) | {"course_passed": passed})


def details(shared: SharedLesson, periods: Periods, now: datetime) -> models.ExistingDetails:
    """Return a lesson, and what its reader may do with it now."""
    batch, place = shared.lesson
    state, slot = batch.lesson_state(place), batch.slot(place)
    may = [
        each.action
        for each in windows(state.status, slot, periods)
        if each.by in {shared.role, Role.ANYONE} and each.since <= now <= each.until
    ]
    more = {
        "can_confirm_outcome": state.status == Status.CONFIRMED and slot.start <= now,
        "can_cancel": Action.CANCEL in may,
        "outcome": _outcome(state.status, state.to_tutor),
    }
    return models.ExistingDetails.model_validate(_lesson(shared, periods) | more)


def nearest(
    lessons: Sequence[SharedLesson], now: Callable[[], datetime], count: int
) -> Sequence[SharedLesson]:
    """Return so many lessons, those that are nearest to now, in the same order."""
    if count >= len(lessons):
        return lessons
    moment = now()
    away = [abs(batch.slot(place).start - moment) for batch, place in (each.lesson for each in lessons)]
    return [lessons[at] for at in sorted(sorted(range(len(lessons)), key=away.__getitem__)[:count])]


def _outcome(status: Status, to_tutor: int) -> str:
    if status == Status.COMPLETED and to_tutor:
        return "COURSE_HELD"
    return "COURSE_NOT_HELD" if status in {Status.COMPLETED, Status.CANCELLED} else "NOT_DECIDED"


def _lesson(shared: SharedLesson, periods: Periods) -> dict[str, Any]:
    """Return the fields that every view of a lesson has."""
    batch, place = shared.lesson
    status, listing = batch.lesson_state(place).status, shared.annonce
    title = _title(listing)
    facts = models.ListingFacts(
        id=batch.annonce_id or "",
        title=title,
        subject=(listing and listing.subject) or title,
        description=(listing and listing.description) or "",
        level=(listing and listing.level) or "",
        teaching_mode=(listing and listing.teaching_mode) or "",
    )
    return dict(BookingData.from_lesson(shared.lesson, periods)) | {
        "blockchain_id": batch.chain_id(place),
        "annonce_title": title,
        "annonce": facts,
        "student": _person(shared.student),
        "tutor": _person(shared.tutor),
        "my_role": None if shared.role == Role.ARBITER else shared.role,
        "start_time": to_unix(batch.slot(place).start),
        "student_confirmed": status == Status.COMPLETED,
        "tutor_confirmed": status in _AGREED,
        "tutor_notes": shared.notes.tutor_notes,
        "cancelled_by": shared.cancelled_by,
        "cancellation_reason": shared.notes.cancellation_reason if status == Status.CANCELLED else None,
    }


def _title(listing: Annonce | None) -> str:
    return (listing and listing.title) or say("Lesson", "Cours")


def _person(name: Name) -> models.Person:
    return models.Person(**name._asdict())


# --- Money ---


def balance(wallet: Wallet) -> models.Balance:
    """Return an account with its user and its money."""
    user = models.AccountUser(**wallet.name._asdict(), id=wallet.user.id, role=wallet.user.role)
    money = models.WalletMoney(**_money(wallet), wallet_address=wallet.account.address)
    return models.Balance(user=user, wallet=money)


def account_stats(wallet: Wallet, today: Period, monthly: Period, ever: Period) -> models.AccountStats:
    """Return an account's money, and what came and went."""
    completed = sum(not each.is_pending for each in wallet.account.movements)
    return models.AccountStats(
        wallet=models.WalletSums(**_money(wallet), address=wallet.account.address),
        today=models.Sums(**_sums(today)),
        monthly=models.Sums(**_sums(monthly)),
        all_time=models.AllTime(**_sums(ever), transactions=completed),
    )


def _money(wallet: Wallet) -> dict[str, Any]:
    available, locked = wallet.account.available, wallet.account.locked
    parts = {"available": available, "locked": locked, "total": available + locked}
    exact = {f"{name}_wei": str(wei) for name, wei in parts.items()}
    return {name: from_wei(wei) for name, wei in parts.items()} | exact


def _sums(period: Period) -> dict[str, Any]:
    return {"sent": from_wei(period.sent), "received": from_wei(period.received)}


def transaction(wallet: Wallet, entry: Entry) -> models.Transaction:
    """Return a movement of an account's money."""
    move, user_id = entry.movement, wallet.user.id
    at = rfc3339(move.at * 1_000_000)
    here = _end(wallet.account.address, user_id, user_id, wallet.name)
    # The escrow is nobody's: its user is the lesson's other party, whose id belongs to no account here.
    there = _end(move.other, None if entry.lesson else entry.other_id, entry.other_id, entry.other)
    source, target = (there, here) if move.incoming else (here, there)
    return models.Transaction(
        id=move.id,
        from_wallet_id=source.id,
        # The frontend takes a payment of a lesson for a tutor's if it goes to a user, not to an account.
        to_wallet_id=user_id if move.incoming and move.kind == Kind.BOOKING else target.id,
        amount=from_wei(move.wei),
        amount_wei=str(move.wei),
        transaction_type=move.kind.value,
        status="pending" if move.is_pending else "completed",
        description=_description(move, entry.annonce),
        metadata=_metadata(entry),
        created_at=at,
        from_wallet=source,
        to_wallet=target,
        ledger_block=models.LedgerBlock(id=str(move.block_number), hash=entry.block_hash, timestamp=at),
    )


def _end(address: str, owner_id: str | None, user_id: str | None, name: Name) -> models.HistoryWallet:
    user = None if user_id is None else models.UserPerson(**name._asdict(), id=user_id)
    return models.HistoryWallet(id=address, user_id=owner_id, wallet_address=address, user=user)


def _description(move: Movement, listing: Annonce | None) -> str:
    match move.kind:
        case Kind.BOOKING:
            return _title(listing)
        case Kind.REFUND:
            return say("Refund: ", "Remboursement : ") + _title(listing)
        case Kind.DEPOSIT:
            return say("Credit", "Crédit")
    return say("Transfer", "Transfert")


def _metadata(entry: Entry) -> models.Metadata:
    hash_ = entry.movement.transaction_hash
    if entry.lesson is None:
        return models.Metadata(transaction_hash=hash_)
    batch, place = entry.lesson
    name = f"{entry.tutor.first_name} {entry.tutor.last_name}".strip()
    return models.Metadata(
        transaction_hash=hash_,
        booking_id=batch.booking_id(place),
        tutor_id=batch.tutor_id,
        tutor_name=name or say("Tutor", "Professeur"),
        annonce_id=batch.annonce_id,
        start_time=to_unix(batch.slot(place).start),
        duration=batch.lessons[place]["duration"],
    )
