"""The generated pages: docs/errors.md and docs/settings.md, and the sentences of the page in web/."""

import json
import re
from collections.abc import Iterable

from api.errors import LESSON_CODES, Code, code_of, placeholders
from api.settings import SECTIONS, Settings
from api.words import LANGUAGES, Language
from creneau.errors import ContractError, OrderExists, TooFewFree


def errors() -> str:
    """Return docs/errors.md."""
    lines = [
        "# Errors",
        "",
        "Made by `make openapi`. Every refusal is `application/problem+json` (RFC 9457) with a stable `code`",
        "for programs and a `message` for people. Lessons that were not booked have a code each, in",
        "`failures`. Of several sentences a code says the one that fits.",
        "",
        "| status | code | says |",
        "| --- | --- | --- |",
    ]
    for code in sorted(Code, key=lambda each: each.status):
        said = re.sub(r":\w+}", "}", " ".join([*code.templates(), code.note])).strip()
        lines.append(f"| {code.status} | `{code}` | {said} |")
    lines += ["", "## The contract's errors", ""]
    lines += ["| error | says | the code |", "| --- | --- | --- |"]
    for error in sorted(_concrete(ContractError), key=lambda error: error.__name__):
        said_first = (error.__doc__ or "").splitlines()[0]
        shown = _WITHOUT.get(error, f"`{code_of(error)}`")
        lines.append(f"| `{error.__name__}` | {said_first} | {shown} |")
    return "\n".join(lines) + "\n"


_WITHOUT: dict[type[ContractError], str] = {
    OrderExists: "(booked already: the answer is the batch)",
    TooFewFree: "(the code of each lesson)",
}


def _concrete(base: type[ContractError]) -> list[type[ContractError]]:
    below = [leaf for child in base.__subclasses__() for leaf in _concrete(child)]
    return below or [base]


def settings() -> str:
    """Return docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "Made by `make openapi` from [api/settings.py](../api/settings.py). From the environment or from a",
        "file `.env` in the working directory, each with the prefix `CRENEAU_`. An empty one counts as not",
        "set. What a live network needs at least is in",
        "[operations.md](operations.md#settings-of-a-live-network).",
    ]
    for name, setting in Settings.model_fields.items():
        if name in SECTIONS:
            lines += ["", f"## {SECTIONS[name]}", "", "| setting | default | is |", "| --- | --- | --- |"]
        default = str(setting.default).lower() if isinstance(setting.default, bool) else setting.default
        shown = "\N{EN DASH}" if default in {None, ""} else f"`{default}`"
        lines.append(
            f"| `CRENEAU_{name.upper()}` | {shown} | {' '.join((setting.description or '').split())} |"
        )
    return "\n".join(lines) + "\n"


def sentences() -> str:
    """Return web/src/api/sentences.ts: the sentences without parameters, and the reasons of lessons."""
    reasons = {language: _without_parameters(LESSON_CODES, language) for language in LANGUAGES}
    others = [code for code in Code if not code.is_lesson]
    said = {language: _without_parameters(others, language) for language in LANGUAGES}
    return f"""/** Made by `make openapi` from api/errors.py. */

type Sentences = Record<"en" | "fr", Record<string, string>>;

/** Why a lesson was not booked, by code: what follows on its day and time. */
export const REASONS: Sentences = {json.dumps(reasons, indent=2, ensure_ascii=False)};

/** Why a request was refused, by code. Codes whose sentence names values are not here. */
export const SENTENCES: Sentences = {json.dumps(said, indent=2, ensure_ascii=False)};
"""


def _without_parameters(codes: Iterable[Code], language: Language) -> dict[str, str]:
    found = ((code, [each for each in code.sentences[language] if not placeholders(each)]) for code in codes)
    return {code: said[0] for code, said in found if said}
