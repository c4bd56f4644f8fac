"""The generated pages: docs/errors.md and docs/settings.md, and the sentences of the page in web/."""

import re

from api.errors import Code, code_of
from creneau.errors import ContractError, NothingFree, OrderExists


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
    pairs = [(status, each) for each in Code for status in each.statuses]
    for status, code in sorted(pairs, key=lambda pair: pair[0]):
        said = re.sub(r":\w+}", "}", " ".join([*code.templates(), code.note])).strip()
        lines.append(f"| {status} | `{code}` | {said} |")
    lines += ["", "## The contract's errors", ""]
    lines += ["| error | says | the code |", "| --- | --- | --- |"]
    for error in sorted(_concrete(ContractError), key=lambda error: error.__name__):
        said_first = (error.__doc__ or "").splitlines()[0]
        shown = _WITHOUT.get(error, f"`{code_of(error)}`")
        lines.append(f"| `{error.__name__}` | {said_first} | {shown} |")
    return "\n".join(lines) + "\n"


_WITHOUT: dict[type[ContractError], str] = {
    OrderExists: "(booked already: the answer is the batch)",
    NothingFree: "(the code of each lesson)",
}


def _concrete(base: type[ContractError]) -> list[type[ContractError]]:
    below = [leaf for child in base.__subclasses__() for leaf in _concrete(child)]
    return below or [base]
