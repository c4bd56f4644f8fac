"""The words of sentences for people, in English and in French: counts, times, amounts, statuses, roles."""

from collections.abc import Callable
from datetime import datetime, timedelta
from string import Formatter
from typing import Any, Literal

from creneau.amounts import format_amount
from creneau.lifecycle import ACTIONS, Action, Role, Status
from creneau.types import from_unix

Language = Literal["en", "fr"]
LANGUAGES: tuple[Language, ...] = ("en", "fr")

_STATUSES: dict[Language, dict[Status, str]] = {
    "en": {status: status.name.lower() for status in Status},
    "fr": dict(
        zip(Status, ("libre", "en attente", "confirmé", "contesté", "terminé", "annulé"), strict=True)
    ),
}
DONE: dict[Language, dict[Action, str]] = {
    "en": {action: rules.done for action, rules in ACTIONS.items()},
    "fr": dict(zip(Action, ("confirmé", "annulé", "terminé", "contesté", "tranché", "réglé"), strict=True)),
}
_ROLES: dict[Language, dict[Role, str]] = {
    "en": {Role.STUDENT: "student", Role.TUTOR: "tutor", Role.ARBITER: "operator"},
    "fr": {Role.STUDENT: "l'élève", Role.TUTOR: "le professeur", Role.ARBITER: "l'exploitation du service"},
}
_LESSONS: dict[Language, tuple[str, str]] = {"en": ("lesson", "lessons"), "fr": ("cours", "cours")}
_OR: dict[Language, str] = {"en": " or the ", "fr": " ou "}
_EITHER: dict[Language, str] = {"en": " or ", "fr": " ou "}


def lessons(count: int, language: Language = "en") -> str:
    """Return so many lessons, in words."""
    return f"{count} {_LESSONS[language][count != 1]}"


def utc(moment: datetime) -> str:
    """Return a time of whole seconds in UTC, as RFC 3339 has it."""
    return moment.isoformat().replace("+00:00", "Z")


def rfc3339(microseconds: int) -> str:
    """Return a time in microseconds of unix time, likewise; with milliseconds unless they are zero."""
    seconds, rest = divmod(microseconds, 1_000_000)
    moment = from_unix(seconds) + timedelta(microseconds=rest)
    return moment.isoformat(timespec="milliseconds" if rest else "seconds").replace("+00:00", "Z")


_FORMATS: dict[str, Callable[[Any, Language], str]] = {
    "done": lambda act, language: DONE[language][act],
    "edu": lambda wei, _: f"{format_amount(wei)} EDU",
    "exact": lambda amount, _: f"{amount:f} EDU",
    "lessons": lessons,
    "roles": lambda roles, language: _OR[language].join(sorted(_ROLES[language][role] for role in roles)),
    "status": lambda status, language: _STATUSES[language][status],
    "statuses": lambda some, language: _EITHER[language].join(_STATUSES[language][each] for each in some),
    "utc": lambda moment, _: utc(moment),
}


class Words(Formatter):
    """A formatter of sentences; the formats of their parameters are those of `_FORMATS`."""

    def __init__(self, language: Language) -> None:
        self._language = language

    def format_field(self, value: Any, format_spec: str) -> str:
        """Return one parameter in words."""
        return _FORMATS[format_spec](value, self._language) if format_spec else str(value)
