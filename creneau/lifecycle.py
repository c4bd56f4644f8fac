"""The life of a lesson: its statuses, and the actions that move it from one to the next.

`ACTIONS` is the only place that knows the rules of the contract: who may do what, from which status to which,
when, as which signed struct, and who gets the money.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum, StrEnum
from typing import Literal, NamedTuple

from creneau.order import Slot
from creneau.typed_data import SignedAction

FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The end of a window without an end: the last second that a datetime can tell."""

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


class Status(IntEnum):
    """The status of a lesson, which only moves forward. The contract's `Status`."""

    NONE = 0
    PENDING = 1
    CONFIRMED = 2
    DISPUTED = 3
    COMPLETED = 4
    CANCELLED = 5


class Action(StrEnum):
    """An action on lessons that are booked."""

    CONFIRM = "confirm"
    CANCEL = "cancel"
    COMPLETE = "complete"
    DISPUTE = "dispute"
    RESOLVE = "resolve"
    SETTLE = "settle"


class Role(StrEnum):
    """A role in which somebody acts. `ANYONE` includes the student, the tutor and the arbiter."""

    STUDENT = "student"
    TUTOR = "tutor"
    ARBITER = "arbiter"
    ANYONE = "anyone"


class Periods(NamedTuple):
    """The escrow's periods, fixed when it was deployed.

    A student may cancel a confirmed lesson until `cancel_window` before its start, and dispute it until
    `review_period` after its end; then the tutor can be paid. A dispute that is not resolved within
    `arbitration_period` more can be resolved by anyone, with the deployment's default share.
    """

    cancel_window: timedelta
    review_period: timedelta
    arbitration_period: timedelta


# --- Times ---

Limit = Callable[[Slot, Periods], datetime]
"""The first or the last second of a window, from a lesson's slot and the escrow's periods."""


def _always(_slot: Slot, _periods: Periods) -> datetime:
    return _BEGINNING


def _never(_slot: Slot, _periods: Periods) -> datetime:
    return FOREVER


def _start(slot: Slot, _periods: Periods) -> datetime:
    return slot.start


def _before_start(slot: Slot, _periods: Periods) -> datetime:
    return slot.start - _SECOND


def _cancel_window(slot: Slot, periods: Periods) -> datetime:
    return slot.start - periods.cancel_window


def _review_end(slot: Slot, periods: Periods) -> datetime:
    return _later(slot.end, periods.review_period)


def _after_review(slot: Slot, periods: Periods) -> datetime:
    return _later(_review_end(slot, periods), _SECOND)


def _after_arbitration(slot: Slot, periods: Periods) -> datetime:
    return _later(_later(_review_end(slot, periods), periods.arbitration_period), _SECOND)


def _later(moment: datetime, period: timedelta) -> datetime:
    return moment + period if period <= FOREVER - moment else FOREVER


# --- The table ---


class Payee(StrEnum):
    """The party that gets a lesson's money; `SPLIT` is tutor and student, by the arbiter's share."""

    STUDENT = "student"
    TUTOR = "tutor"
    SPLIT = "split"


class Permission(NamedTuple):
    """`by` may do an action to lessons in one of the statuses `during`, from `since` until `until`."""

    by: Role
    during: frozenset[Status]
    since: Limit = _always
    until: Limit = _never


class Rules(NamedTuple):
    """The rules of one action.

    `to` is the status after it and `done` its word; `pays` is None while the escrow keeps the money;
    `signed_as` is the struct that an actor signs, None for an action that can't be signed.
    """

    to: Status
    done: str
    signed_as: SignedAction | Literal["Settle"] | None
    pays: Payee | None
    permissions: tuple[Permission, ...]

    @property
    def can_repeat(self) -> bool:
        """True if whoever does it again means what was done; another split of the money is another act."""
        return self.pays != Payee.SPLIT

    @property
    def actors(self) -> frozenset[Role]:
        """The roles that may do the action in their own name, at some time."""
        return frozenset(each.by for each in self.permissions) - {Role.ANYONE}


_PENDING = frozenset({Status.PENDING})
_CONFIRMED = frozenset({Status.CONFIRMED})
_DISPUTED = frozenset({Status.DISPUTED})
_LIVE = _PENDING | _CONFIRMED | _DISPUTED

ACTIONS: dict[Action, Rules] = {
    Action.CONFIRM: Rules(
        to=Status.CONFIRMED,
        done="confirmed",
        signed_as="Confirm",
        pays=None,
        permissions=(Permission(Role.TUTOR, _PENDING, until=_before_start),),
    ),
    Action.CANCEL: Rules(
        to=Status.CANCELLED,
        done="cancelled",
        signed_as="Cancel",
        pays=Payee.STUDENT,
        permissions=(
            Permission(Role.STUDENT, _PENDING),
            Permission(Role.STUDENT, _CONFIRMED, until=_cancel_window),
            Permission(Role.TUTOR, _LIVE),
            Permission(Role.ANYONE, _PENDING, since=_start),
        ),
    ),
    Action.COMPLETE: Rules(
        to=Status.COMPLETED,
        done="completed",
        signed_as="Complete",
        pays=Payee.TUTOR,
        permissions=(
            Permission(Role.STUDENT, _LIVE),
            Permission(Role.ANYONE, _CONFIRMED, since=_after_review),
        ),
    ),
    Action.DISPUTE: Rules(
        to=Status.DISPUTED,
        done="disputed",
        signed_as="Dispute",
        pays=None,
        permissions=(Permission(Role.STUDENT, _CONFIRMED, since=_start, until=_review_end),),
    ),
    Action.RESOLVE: Rules(
        to=Status.COMPLETED,
        done="resolved",
        signed_as=None,
        pays=Payee.SPLIT,
        permissions=(
            Permission(Role.ARBITER, _DISPUTED),
            Permission(Role.ANYONE, _DISPUTED, since=_after_arbitration),
        ),
    ),
    Action.SETTLE: Rules(  # of both together
        to=Status.COMPLETED,
        done="settled",
        signed_as="Settle",
        pays=Payee.SPLIT,
        permissions=(Permission(Role.STUDENT, _LIVE), Permission(Role.TUTOR, _LIVE)),
    ),
}
"""The contract's rules, action by action."""


# --- Reading the table ---


class Window(NamedTuple):
    """`by` may do `action` from `since` until `until`: the first and the last second, by block timestamp."""

    action: Action
    by: Role
    since: datetime = _BEGINNING
    until: datetime = FOREVER


def windows(status: Status, slot: Slot, periods: Periods) -> list[Window]:
    """Return the actions that a lesson at `slot` allows as long as it has this status."""
    return [
        Window(action, each.by, each.since(slot, periods), each.until(slot, periods))
        for action, rules in ACTIONS.items()
        for each in rules.permissions
        if status in each.during
    ]


def shares(action: Action, amount: int, tutor_share_bps: int = 0) -> tuple[int, int]:
    """Return the base units of a lesson's `amount` that its student and its tutor get.

    The tutor's share, in basis points, counts where the money is split; it is rounded down, as by the
    contract. Both get nothing while the escrow keeps the money.
    """
    to_tutor = amount * tutor_share_bps // 10_000
    match ACTIONS[action].pays:
        case Payee.STUDENT:
            return amount, 0
        case Payee.TUTOR:
            return 0, amount
        case Payee.SPLIT:
            return amount - to_tutor, to_tutor
    return 0, 0
