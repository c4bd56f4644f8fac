"""The language of what people read: French or English, as the request's `Accept-Language` prefers."""

import re
from contextvars import ContextVar

from api.words import LANGUAGES, Language

language: ContextVar[Language] = ContextVar("language", default="en")
"""The language of the request that is being answered; English for everything else."""

_RANGE = re.compile(r"\s*([a-zA-Z]{1,8}|\*)(?:-[a-zA-Z0-9-]*)?\s*(?:;\s*q=([01](?:\.\d{0,3})?)\s*)?")


def say(english: str, french: str) -> str:
    """Return one of two sentences, in the request's language."""
    return french if language.get() == "fr" else english


def preferred(accept_language: str) -> Language:
    """Return the language that a header prefers (RFC 9110, 12.5.4); English if it names none of ours."""
    weights: dict[str, float] = {}
    for part in accept_language[:1000].split(","):
        if found := _RANGE.fullmatch(part):
            tag = found[1].lower()
            weights[tag] = max(weights.get(tag, 0), float(found[2] or 1))
    rest = weights.get("*", 0)
    return max(LANGUAGES, key=lambda each: weights.get(each, rest))
