"""Actions on booked lessons: by sender and by signature, and their refusals."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import ape
import pytest
from ape.api import AccountAPI
from ape.contracts import ContractInstance
from helpers import rpc
from strategies import ANNONCE

from creneau import (
    Action,
    ActionResult,
    Batch,
    BookingEscrow,
    ContractError,
    LessonError,
    Listing,
    Role,
    Slot,
    Status,
    Token,
    abi,
    errors,
)
from creneau.amounts import from_wei
from creneau.ape.escrow import Signed
from creneau.types import to_unix

EDU = 10**18
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
PENDING, CONFIRMED, DISPUTED = (1 << status for status in (Status.PENDING, Status.CONFIRMED, Status.DISPUTED))
Hours = Callable[..., list[Slot]]


@pytest.fixture
def batch(listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, hours: Hours) -> Batch:
    """Three pending lessons of an hour, at 35 EDU each."""
    return listed.create_bookings(tutor, ANNONCE, hours(0, 1, 2), sender=student)


@pytest.fixture
def confirmed(listed: BookingEscrow, tutor: AccountAPI, batch: Batch) -> Batch:
    return listed.confirm(batch, sender=tutor).batch


@pytest.fixture
def disputed(listed: BookingEscrow, student: AccountAPI, confirmed: Batch) -> Batch:
    travel(confirmed.bookings[2].start)
    return listed.dispute(confirmed, sender=student).batch


@pytest.fixture
def balances(token: ContractInstance, listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI) -> Any:
    """The balances of the student, the tutor and the escrow, in base units."""
    return lambda: [token.balanceOf(account) for account in (student, tutor, listed.address)]


def travel(moment: datetime) -> None:
    """Mines a block at this time."""
    rpc("evm_setNextBlockTimestamp", to_unix(moment))
    rpc("evm_mine")


def statuses(batch: Batch) -> list[Status]:
    return [booking.status for booking in batch.bookings]


def refused(expected: ContractError, act: Callable[..., Any], *args: Any, **how: Any) -> ContractError:
    """The act raises exactly this error, and nothing is sent."""
    block = ape.chain.blocks.head.number
    with pytest.raises(type(expected)) as raised:
        act(*args, **how)
    assert raised.value.args == expected.args
    assert ape.chain.blocks.head.number == block
    return raised.value


# --- By the actor ---


def test_confirm(listed: BookingEscrow, tutor: AccountAPI, batch: Batch, balances: Any) -> None:
    before = balances()
    outcome = listed.confirm(batch, [batch.bookings[0], 2], sender=tutor)

    assert (outcome.action, outcome.lessons) == (Action.CONFIRM, 0b101)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal(0), Decimal(0))
    assert statuses(outcome.batch) == [Status.CONFIRMED, Status.PENDING, Status.CONFIRMED]
    assert [booking.index for booking in outcome.bookings] == [0, 2]
    assert outcome.bookings[0].cancellable_until == outcome.bookings[0].start - DAY
    assert balances() == before
    receipt = ape.chain.provider.get_receipt("0x" + outcome.transaction_hash.hex())
    assert (outcome.block_number, outcome.gas_used) == (receipt.block_number, receipt.gas_used)
    assert listed.batch(batch.id) == outcome.batch.model_copy(update={"gas_used": None})

    assert statuses(listed.confirm(batch, [1], sender=tutor).batch) == [Status.CONFIRMED] * 3


@pytest.mark.parametrize("by", ["student", "tutor"])
def test_cancel(
    listed: BookingEscrow,
    tutor: AccountAPI,
    batch: Batch,
    balances: Any,
    by: str,
    request: pytest.FixtureRequest,
) -> None:
    paid, earned, held = balances()
    outcome = listed.cancel(batch, [0, 2], sender=request.getfixturevalue(by))

    assert (outcome.action, outcome.lessons) == (Action.CANCEL, 0b101)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal(70), Decimal(0))
    assert statuses(outcome.batch) == [Status.CANCELLED, Status.PENDING, Status.CANCELLED]
    assert balances() == [paid + 70 * EDU, earned, held - 70 * EDU]
    left = batch.bookings[1]
    assert listed.calendar(tutor, left.start - DAY, left.end + DAY) == [(left.start, left.end)]


def test_a_student_cancels_what_is_confirmed_until_the_window(
    listed: BookingEscrow, student: AccountAPI, confirmed: Batch
) -> None:
    last = confirmed.bookings[1].cancellable_until
    assert last == confirmed.bookings[1].start - DAY
    travel(last + SECOND)
    refused(
        errors.TooLate(1, to_unix(last), to_unix(last) + 1), listed.cancel, confirmed, [1], sender=student
    )
    may = confirmed.lessons_that_may(Action.CANCEL, Role.STUDENT, listed.now())
    assert [booking.index for booking in may] == [2]
    assert listed.cancel(confirmed, may, sender=student).to_student == Decimal(35)


def test_complete_by_the_student(
    listed: BookingEscrow, student: AccountAPI, batch: Batch, balances: Any
) -> None:
    paid, earned, held = balances()
    outcome = listed.complete(batch, sender=student)
    assert (outcome.action, outcome.lessons) == (Action.COMPLETE, 0b111)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal(0), Decimal(105))
    assert statuses(outcome.batch) == [Status.COMPLETED] * 3
    assert balances() == [paid, earned + 105 * EDU, held - 105 * EDU]


def test_complete_by_anyone(listed: BookingEscrow, stranger: AccountAPI, confirmed: Batch) -> None:
    first = confirmed.bookings[1].completable_from
    assert first == confirmed.bookings[1].end + 2 * DAY + SECOND
    travel(first - SECOND)
    refused(
        errors.TooEarly(1, to_unix(first), to_unix(first) - 1),
        listed.complete,
        confirmed,
        [1, 2],
        sender=stranger,
    )
    travel(first)
    due = confirmed.lessons_that_may(Action.COMPLETE, Role.ANYONE, listed.now())
    outcome = listed.complete(confirmed, due, sender=stranger)
    assert (outcome.lessons, outcome.to_tutor) == (0b11, Decimal(70))


def test_dispute(listed: BookingEscrow, student: AccountAPI, confirmed: Batch, balances: Any) -> None:
    before = balances()
    travel(confirmed.bookings[1].start)
    outcome = listed.dispute(confirmed, [0, 1], sender=student)
    assert (outcome.action, outcome.lessons) == (Action.DISPUTE, 0b11)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal(0), Decimal(0))
    assert statuses(outcome.batch) == [Status.DISPUTED, Status.DISPUTED, Status.CONFIRMED]
    assert balances() == before


def test_a_dispute_that_the_arbiter_leaves_is_split_by_anyone_with_the_default_share(
    listed: BookingEscrow, stranger: AccountAPI, disputed: Batch, balances: Any
) -> None:
    first = disputed.bookings[0].resolvable_from
    assert first == disputed.bookings[0].end + 16 * DAY + SECOND
    travel(first - SECOND)
    refused(
        errors.TooEarly(0, to_unix(first), to_unix(first) - 1),
        listed.resolve,
        disputed,
        [0],
        sender=stranger,
    )
    travel(first)
    paid, earned, held = balances()
    share = listed.default_tutor_share_bps
    refused(
        errors.ShareNotDefault(share + 1, share),
        listed.resolve,
        disputed,
        [0],
        tutor_share_bps=share + 1,
        sender=stranger,
    )
    to_tutor = 35 * EDU * share // 10_000
    outcome = listed.resolve(disputed, [0], sender=stranger)
    assert (outcome.action, outcome.to_tutor) == (Action.RESOLVE, from_wei(to_tutor))
    assert balances() == [paid + 35 * EDU - to_tutor, earned + to_tutor, held - 35 * EDU]


def test_a_lesson_that_begins_unconfirmed_is_refunded_by_anyone(
    listed: BookingEscrow, stranger: AccountAPI, batch: Batch, balances: Any
) -> None:
    first = batch.bookings[0].refundable_from
    assert first == batch.bookings[0].start
    travel(first - SECOND)
    early = errors.TooEarly(0, to_unix(first), to_unix(first) - 1)
    refused(early, listed.cancel, batch, [0], sender=stranger)
    travel(first)
    paid, earned, held = balances()
    assert listed.cancel(batch, [0], sender=stranger).to_student == Decimal(35)
    assert balances() == [paid + 35 * EDU, earned, held - 35 * EDU]


@pytest.mark.parametrize("sender", ["student", "tutor", "relayer"])
def test_settle(
    listed: BookingEscrow,
    student: AccountAPI,
    tutor: AccountAPI,
    confirmed: Batch,
    balances: Any,
    sender: str,
    request: pytest.FixtureRequest,
) -> None:
    """One party sends what the other one signed, or anybody what both did: a part refund."""
    terms: dict[str, Any] = {"tutor_share_bps": 2_000, "deadline": listed.now() + HOUR}
    signed = {
        name: listed.sign_settlement(confirmed, account, [0, 2], **terms)
        for name, account in {"student": student, "tutor": tutor}.items()
        if name != sender
    }
    account = request.getfixturevalue(sender)
    paid, earned, held = balances()
    for name in signed:
        party = {"student": student, "tutor": tutor}[name]
        others = {other: each for other, each in signed.items() if other != name}
        lacks = errors.NotActor(party.address, account.address)
        how: dict[str, Any] = {"tutor_share_bps": 2_000, "sender": account, **others}
        refused(lacks, listed.settle, confirmed, [0, 2], **how)
    outcome = listed.settle(confirmed, [0, 2], tutor_share_bps=2_000, sender=account, **signed)
    assert (outcome.action, outcome.lessons) == (Action.SETTLE, 0b101)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal(56), Decimal(14))
    assert statuses(outcome.batch) == [Status.COMPLETED, Status.CONFIRMED, Status.COMPLETED]
    assert balances() == [paid + 56 * EDU, earned + 14 * EDU, held - 70 * EDU]


def test_a_settlement_has_one_deadline(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, relayer: AccountAPI, batch: Batch
) -> None:
    first, second = (
        listed.sign_settlement(batch, who, tutor_share_bps=1, deadline=listed.now() + hours * HOUR)
        for who, hours in ((student, 1), (tutor, 2))
    )
    with pytest.raises(ValueError, match="different deadlines"):
        listed.settle(batch, tutor_share_bps=1, sender=relayer, student=first, tutor=second)


def test_time_of_ones_own(
    listed: BookingEscrow, tutor: AccountAPI, student: AccountAPI, hours: Hours, balances: Any
) -> None:
    """A tutor takes time out of the calendar, and gives it back, for nothing."""
    before = balances()
    own = listed.block_time(hours(0, 1), sender=tutor)
    assert (own.total, statuses(own)) == (Decimal(0), [Status.CONFIRMED] * 2)
    start = own.bookings[0].start
    taken = errors.SlotTaken(0, to_unix(start))
    refused(taken, listed.create_bookings, tutor, ANNONCE, hours(0), sender=student)
    refused(errors.SlotTaken(1, to_unix(start)), listed.block_time, hours(5, 0), sender=tutor)
    listed.cancel(own, [0], sender=tutor)
    assert listed.calendar(tutor, start, start + 3 * HOUR) == [(start + HOUR, start + 2 * HOUR)]
    assert balances() == before


@pytest.mark.parametrize("sender", ["student", "relayer"])
def test_revoke(
    listed: BookingEscrow,
    student: AccountAPI,
    tutor: AccountAPI,
    relayer: AccountAPI,
    hours: Hours,
    sender: str,
) -> None:
    """An order that was signed is taken back, by its student or with the student's signature."""
    order = listed.order(student, tutor, ANNONCE, hours(0))
    signed = None if sender == "student" else listed.sign_revocation(order, student)
    refused(errors.NotActor(student.address, relayer.address), listed.revoke, order, sender=relayer)
    listed.revoke(order, sender={"student": student, "relayer": relayer}[sender], signature=signed)
    refused(errors.OrderExists(order.batch_id), listed.create, order, sender=student)


@pytest.mark.parametrize("by", ["student", "relayer"])
def test_a_credit_is_shown_and_withdrawn(
    deployer: AccountAPI,
    arbiter: AccountAPI,
    tutor: AccountAPI,
    student: AccountAPI,
    relayer: AccountAPI,
    stranger: AccountAPI,
    hours: Hours,
    by: str,
) -> None:
    """The token pays the student no more, so the refund becomes a credit, which goes elsewhere."""
    token = deployer.deploy(ape.project.BlockingToken, False)
    token.mint(student, 100 * EDU, sender=deployer)
    contract = deployer.deploy(ape.project.BookingEscrow, token, arbiter, 0, 3600, 86_400, 5_000)
    escrow = BookingEscrow(contract.address)
    escrow.publish(ANNONCE, 35, sender=tutor)
    escrow.approve(100, sender=student)
    batch = escrow.create_bookings(tutor, ANNONCE, hours(0), sender=student)
    token.setBlocked(student, True, sender=deployer)
    refused(errors.NoCredit(student.address), escrow.withdraw, sender=student)
    assert escrow.cancel(batch, sender=tutor).to_student == Decimal(35)
    assert escrow.credit(student) == Decimal(35)
    how: dict[str, Any] = {"sender": student}
    if by == "relayer":
        how = {"sender": relayer, "account": student, "signature": escrow.sign_withdrawal(student, stranger)}
    assert escrow.withdraw(stranger, **how) == Decimal(35)
    assert (escrow.balance(stranger), escrow.credit(student)) == (Decimal(35), Decimal(0))


def test_a_signature_counts_until_its_deadline(
    listed: BookingEscrow, relayer: AccountAPI, tutor: AccountAPI, batch: Batch
) -> None:
    signed = listed.sign_action(Action.CONFIRM, batch, tutor, [0])
    assert signed.deadline == listed.now() + HOUR
    travel(signed.deadline + SECOND)
    until = to_unix(signed.deadline)
    late = errors.SignatureExpired(until, until + 1)
    refused(late, listed.confirm, batch, [0], sender=relayer, signature=signed)
    again = listed.sign_action(Action.CONFIRM, batch, tutor, [0])
    assert listed.confirm(batch, [0], sender=relayer, signature=again).lessons == 0b1


def test_resolve(
    listed: BookingEscrow, arbiter: AccountAPI, student: AccountAPI, tutor: AccountAPI, hours: Hours
) -> None:
    """Each lesson's tutor share is rounded down: of 3 base units 6,666 basis points are 1."""
    listed.publish("cheap", "0.000000000000000003", instant=True, sender=tutor)
    cheap = listed.create_bookings(tutor, "cheap", hours(0, 1, 2), sender=student)
    travel(cheap.bookings[2].start)
    cheap = listed.dispute(cheap, sender=student).batch

    outcome = listed.resolve(cheap, [0, 1], tutor_share_bps=6666, sender=arbiter)
    assert (outcome.action, outcome.lessons) == (Action.RESOLVE, 0b11)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal("4E-18"), Decimal("2E-18"))
    assert statuses(outcome.batch) == [Status.COMPLETED, Status.COMPLETED, Status.DISPUTED]


@pytest.mark.parametrize(
    ("share", "to_student", "to_tutor"), [(0, 105, 0), (2500, "78.75", "26.25"), (10_000, 0, 105)]
)
def test_resolve_pays_both(
    listed: BookingEscrow,
    arbiter: AccountAPI,
    disputed: Batch,
    balances: Any,
    share: int,
    to_student: int | str,
    to_tutor: int | str,
) -> None:
    paid, earned, held = balances()
    outcome = listed.resolve(disputed, tutor_share_bps=share, sender=arbiter)
    assert (outcome.to_student, outcome.to_tutor) == (Decimal(to_student), Decimal(to_tutor))
    to_tutor_wei = 105 * EDU * share // 10_000
    assert balances() == [paid + 105 * EDU - to_tutor_wei, earned + to_tutor_wei, held - 105 * EDU]


# --- By signature ---


def test_acts_by_signature(
    listed: BookingEscrow, relayer: AccountAPI, student: AccountAPI, tutor: AccountAPI, batch: Batch
) -> None:
    """A relayer sends what the tutor and the student signed."""

    def signed(act: Action, account: AccountAPI, *lessons: int) -> dict[str, Any]:
        return {"sender": relayer, "signature": listed.sign_action(act, batch, account, lessons)}

    assert listed.confirm(batch, [0, 1], **signed(Action.CONFIRM, tutor, 0, 1)).lessons == 0b11
    assert listed.cancel(batch, [2], by=student, **signed(Action.CANCEL, student, 2)).to_student == Decimal(
        35
    )
    travel(batch.bookings[0].start)
    assert listed.dispute(batch, [0], **signed(Action.DISPUTE, student, 0)).lessons == 0b1
    assert listed.cancel(batch, [0], by=tutor, **signed(Action.CANCEL, tutor, 0)).to_student == Decimal(35)
    outcome = listed.complete(batch, [1], by=student.address, **signed(Action.COMPLETE, student, 1))
    assert outcome.to_tutor == Decimal(35)
    assert statuses(outcome.batch) == [Status.CANCELLED, Status.COMPLETED, Status.CANCELLED]


def test_a_signature_of_the_whole_batch(
    listed: BookingEscrow, relayer: AccountAPI, tutor: AccountAPI, batch: Batch
) -> None:
    signature = listed.sign_action(Action.CONFIRM, batch, tutor)
    assert listed.confirm(batch, sender=relayer, signature=signature).lessons == 0b111


def test_a_signature_is_for_one_act_on_exactly_these_lessons(
    listed: BookingEscrow, relayer: AccountAPI, student: AccountAPI, tutor: AccountAPI, batch: Batch
) -> None:
    expected = errors.NotActor(tutor.address, relayer.address)
    for signature in (
        listed.sign_action(Action.CONFIRM, batch, tutor, [0, 1]),
        listed.sign_action(Action.CONFIRM, batch, student, [0]),
        listed.sign_action(Action.COMPLETE, batch, tutor, [0]),
        Signed(b"", listed.now() + HOUR),
    ):
        refused(expected, listed.confirm, batch, [0], sender=relayer, signature=signature)
    cancel = listed.sign_action(Action.CANCEL, batch, tutor, [0])
    refused(
        errors.NotActor(student.address, relayer.address),
        listed.cancel,
        batch,
        [0],
        by=student,
        sender=relayer,
        signature=cancel,
    )


def test_the_arbiter_does_not_sign(listed: BookingEscrow, arbiter: AccountAPI, batch: Batch) -> None:
    with pytest.raises(ValueError, match="resolve can't be signed alone"):
        listed.sign_action(Action.RESOLVE, batch, arbiter)


# --- Several at once ---


def test_multicall(
    listed: BookingEscrow,
    relayer: AccountAPI,
    student: AccountAPI,
    tutor: AccountAPI,
    batch: Batch,
    hours: Hours,
) -> None:
    """One transaction of a relayer: two acts on a batch, a new listing, a new batch, and an act on that."""
    order = listed.order(student, tutor, "new", hours(5), hourly_rate=20)
    key = order.listing
    terms = (tutor.address, key, 20 * EDU, True, 0, 0)
    to_be = Batch(id=order.batch_id, order=order, periods=listed.periods, booked=1)
    act = abi.action_data

    def call(signed: Signed) -> dict[str, Any]:
        return {"deadline": to_unix(signed.deadline), "signature": signed.signature}

    confirmed, cancelled, published, created, completed = listed.multicall(
        [
            act(
                Action.CONFIRM,
                batch.order,
                0b1,
                **call(listed.sign_action(Action.CONFIRM, batch, tutor, [0])),
            ),
            act(
                Action.CANCEL,
                batch.order,
                0b10,
                by=student.address,
                **call(listed.sign_action(Action.CANCEL, batch, student, [1])),
            ),
            abi.publish_data(*terms, **call(listed.sign_listing(key, 20, tutor, instant=True))),
            abi.create_bookings_data(order, listed.sign_order(order, student)),
            act(
                Action.COMPLETE,
                order,
                0b1,
                by=student.address,
                **call(listed.sign_action(Action.COMPLETE, to_be, student)),
            ),
        ],
        sender=relayer,
    )
    assert published == Listing(Decimal(20), True, timedelta(0), timedelta(0), 1, Token("EDU", 18))
    assert isinstance(created, Batch)
    assert (created.order, statuses(created)) == (order, [Status.COMPLETED])
    for outcome, action, lessons, money, of in (
        (confirmed, Action.CONFIRM, 0b1, (Decimal(0), Decimal(0)), batch),
        (cancelled, Action.CANCEL, 0b10, (Decimal(35), Decimal(0)), batch),
        (completed, Action.COMPLETE, 0b1, (Decimal(0), Decimal(20)), created),
    ):
        assert isinstance(outcome, ActionResult)
        assert (outcome.action, outcome.lessons) == (action, lessons)
        assert (outcome.to_student, outcome.to_tutor) == money
        assert outcome.batch == listed.batch(of.id)
        assert outcome.transaction_hash == created.transaction_hash


def test_multicall_is_all_or_nothing(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, batch: Batch
) -> None:
    calls = [
        abi.action_data(Action.COMPLETE, batch.order, 0b1, by=student.address),
        abi.action_data(Action.DISPUTE, batch.order, 0b10),
    ]
    refused(errors.WrongStatus(1, Status.PENDING, CONFIRMED), listed.multicall, calls, sender=student)
    assert statuses(listed.batch(batch.id)) == [Status.PENDING] * 3
    assert listed.multicall([], sender=tutor) == []


def test_of_several_calls_some_may_fail(listed: BookingEscrow, student: AccountAPI, batch: Batch) -> None:
    calls = [
        abi.action_data(Action.COMPLETE, batch.order, 0b1, by=student.address),
        abi.action_data(Action.DISPUTE, batch.order, 0b10),
        abi.action_data(Action.CANCEL, batch.order, 0b100, by=student.address),
    ]
    completed, failed, cancelled = listed.try_multicall(calls, sender=student)
    assert isinstance(completed, ActionResult)
    assert (completed.to_tutor, completed.lessons) == (Decimal(35), 0b1)
    assert type(failed) is errors.WrongStatus
    assert failed.args == (1, Status.PENDING, CONFIRMED)
    assert isinstance(cancelled, ActionResult)
    assert (cancelled.to_student, cancelled.lessons) == (Decimal(35), 0b100)
    assert statuses(cancelled.batch) == [Status.COMPLETED, Status.PENDING, Status.CANCELLED]


# --- The arbiter's place ---


def test_the_arbiter_hands_over(
    listed: BookingEscrow, arbiter: AccountAPI, stranger: AccountAPI, disputed: Batch
) -> None:
    assert (listed.arbiter, listed.pending_arbiter) == (arbiter.address, None)
    refused(
        errors.OwnableUnauthorizedAccount(stranger.address),
        listed.transfer_arbiter,
        stranger,
        sender=stranger,
    )
    refused(errors.OwnableUnauthorizedAccount(stranger.address), listed.accept_arbiter, sender=stranger)

    listed.transfer_arbiter(stranger, sender=arbiter)
    assert (listed.arbiter, listed.pending_arbiter) == (arbiter.address, stranger.address)
    listed.transfer_arbiter(None, sender=arbiter)
    assert listed.pending_arbiter is None
    listed.transfer_arbiter(stranger.address, sender=arbiter)
    listed.accept_arbiter(sender=stranger)
    assert (listed.arbiter, listed.pending_arbiter) == (stranger.address, None)

    refused(
        errors.ShareNotDefault(0, listed.default_tutor_share_bps),
        listed.resolve,
        disputed,
        tutor_share_bps=0,
        sender=arbiter,
    )
    assert listed.resolve(disputed, tutor_share_bps=0, sender=stranger).to_student == Decimal(105)


# --- Refusals ---


def test_not_actor(
    listed: BookingEscrow,
    student: AccountAPI,
    tutor: AccountAPI,
    stranger: AccountAPI,
    batch: Batch,
) -> None:
    def by_stranger(actor: AccountAPI) -> errors.NotActor:
        return errors.NotActor(actor.address, stranger.address)

    refused(by_stranger(tutor), listed.confirm, batch, sender=stranger)
    refused(by_stranger(tutor), listed.cancel, batch, by=tutor, sender=stranger)
    refused(by_stranger(student), listed.complete, batch, by=student, sender=stranger)
    refused(by_stranger(student), listed.dispute, batch, sender=stranger)
    chosen = errors.ShareNotDefault(1, listed.default_tutor_share_bps)
    refused(chosen, listed.resolve, batch, tutor_share_bps=1, sender=stranger)
    refused(errors.NotActor(tutor.address, student.address), listed.confirm, batch, sender=student)


def acts(listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, arbiter: AccountAPI) -> list[Any]:
    """Every act by an actor of it, as a function of the batch and the lessons."""
    return [
        lambda *which: listed.confirm(*which, sender=tutor),
        lambda *which: listed.cancel(*which, sender=student),
        lambda *which: listed.complete(*which, sender=student),
        lambda *which: listed.dispute(*which, sender=student),
        lambda *which: listed.resolve(*which, tutor_share_bps=1, sender=arbiter),
    ]


def test_unknown_batch_and_no_lessons(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, arbiter: AccountAPI, batch: Batch
) -> None:
    changed = batch.order.model_copy(update={"min_lessons": 2})
    unknown = batch.model_copy(update={"order": changed})
    for act in acts(listed, student, tutor, arbiter):
        refused(errors.UnknownBatch(changed.batch_id), act, unknown)
        refused(errors.NoLessons(), act, batch, [])


def test_wrong_status(
    listed: BookingEscrow,
    student: AccountAPI,
    tutor: AccountAPI,
    stranger: AccountAPI,
    arbiter: AccountAPI,
    batch: Batch,
) -> None:
    confirm, cancel, complete, dispute, resolve = acts(listed, student, tutor, arbiter)
    live = PENDING | CONFIRMED | DISPUTED
    listed.cancel(batch, [0], sender=student)
    for act, allowed in (
        (confirm, PENDING),
        (cancel, PENDING | CONFIRMED),
        (complete, live),
        (dispute, CONFIRMED),
        (resolve, DISPUTED),
    ):
        error = refused(errors.WrongStatus(0, Status.CANCELLED, allowed), act, batch)
        assert isinstance(error, LessonError)
        refused(errors.WrongStatus(39, Status.NONE, allowed), act, batch, [39])
    assert str(error) == "The 1st lesson is cancelled; for this it must be disputed."

    listed.confirm(batch, [2], sender=tutor)
    refused(errors.WrongStatus(2, Status.CONFIRMED, PENDING), listed.cancel, batch, [2], sender=stranger)
    refused(errors.WrongStatus(1, Status.PENDING, CONFIRMED), listed.complete, batch, [1], sender=stranger)


def test_too_late_and_too_early(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, batch: Batch
) -> None:
    first, *_ = listed.confirm(batch, [0, 1], sender=tutor).batch.bookings
    assert first.disputable_from is not None
    assert first.disputable_until is not None
    travel(first.disputable_from - SECOND)
    start = to_unix(first.disputable_from)
    refused(errors.TooEarly(0, start, start - 1), listed.dispute, batch, [0], sender=student)

    last = to_unix(batch.bookings[2].start) - 1
    assert batch.bookings[2].confirmable_until == batch.bookings[2].start - SECOND
    travel(batch.bookings[2].start)
    refused(errors.TooLate(2, last, last + 1), listed.confirm, batch, [2], sender=tutor)

    last = to_unix(first.disputable_until)
    travel(first.disputable_until + SECOND)
    error = refused(errors.TooLate(0, last, last + 1), listed.dispute, batch, [0, 1], sender=student)
    assert str(error) == (
        f"For the 1st lesson this was possible until {first.disputable_until:%Y-%m-%d %H:%M} UTC; "
        f"it is {listed.now():%Y-%m-%d %H:%M:%S} UTC now."
    )
    assert listed.dispute(batch, [1], sender=student).lessons == 0b10


def test_share_too_large(listed: BookingEscrow, arbiter: AccountAPI, batch: Batch) -> None:
    refused(
        errors.ShareTooLarge(10_001, 10_000), listed.resolve, batch, tutor_share_bps=10_001, sender=arbiter
    )


def test_a_booking_of_another_batch(
    listed: BookingEscrow, student: AccountAPI, tutor: AccountAPI, batch: Batch, hours: Hours
) -> None:
    other = listed.create_bookings(tutor, ANNONCE, hours(5), sender=student)
    with pytest.raises(ValueError, match="lesson 0 is of another batch"):
        listed.cancel(batch, other.bookings, sender=student)
