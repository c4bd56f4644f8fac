"""The fenced blocks of the pages, and whether an answer is the one that is shown."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").glob("*.md")
)

MORE = "…"
"""As a name, or as the last element: there is more than is shown."""

CHANGES = frozenset(
    {"blockNumber", "gasUsed", "ms", "feesLeftTodayWei", "oldestPendingSeconds", "timestamp", "request_id"}
)
"""Fields of which only the kind of value is compared. Long hex digits are compared like this everywhere."""

_FENCE = re.compile(r"^( *)```(\S*) ?([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"\$([A-Z]+)")
_HEX = re.compile(r"0x[0-9a-fA-F]{40,}")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what else its info string says, and under which heading it stands."""

    page: str
    heading: str
    language: str
    info: str
    text: str
    line: int

    @property
    def commands(self) -> str:
        """Of a console: what is typed."""
        lines, typed = [], False
        for line in self.text.splitlines():
            typed = line.startswith("$ ") or (typed and _goes_on(lines))
            if typed:
                lines.append(line.removeprefix("$ "))
        return "\n".join(lines)

    @property
    def output(self) -> str:
        """Of a console: what is answered."""
        lines, shown, typed = [], [], False
        for line in self.text.splitlines():
            typed = line.startswith("$ ") or (typed and _goes_on(lines))
            (lines if typed else shown).append(line.removeprefix("$ "))
        return "\n".join(shown)


def _goes_on(lines: list[str]) -> bool:
    """True if a shell would wait for more."""
    command = "\n".join(lines)
    return command.endswith("\\") or command.count("'") % 2 == 1


def blocks_of(page: Path) -> Iterator[Block]:
    """All blocks of a page."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        headings = re.findall(r"^#+ (.*)$", re.sub(_FENCE, "", before), re.MULTILINE)
        indent, language, info, body = match.groups()
        body = re.sub(f"^{indent}", "", body, flags=re.MULTILINE)
        line = before.count("\n") + 1
        yield Block(str(page.relative_to(ROOT)), headings[-1], language, info, body, line)


def prose_of(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text())


@dataclass
class Comparison:
    """Compares answers with those that are shown, and remembers what `$NAME` stands for."""

    names: dict[str, str] = field(default_factory=dict)

    def check(self, shown: Any, got: Any, at: str = "answer") -> None:
        """Raises `AssertionError` where they differ."""
        match shown:
            case dict():
                assert isinstance(got, dict), at
                more = MORE in shown
                assert set(shown) - {MORE} <= set(got) if more else set(shown) == set(got), (at, set(got))
                for name in set(shown) - {MORE}:
                    if name in CHANGES:
                        assert type(got[name]) is type(shown[name]), f"{at}.{name}"
                    else:
                        self.check(shown[name], got[name], f"{at}.{name}")
            case list():
                assert len(got) == len(shown), at
                for place, (one, other) in enumerate(zip(shown, got, strict=True)):
                    self.check(one, other, f"{at}[{place}]")
            case str() if match := _VARIABLE.fullmatch(shown):
                assert self.names.setdefault(match[1], got) == got, at
            case str() if _HEX.search(shown):
                assert _HEX.sub(MORE, shown) == _HEX.sub(MORE, got), at
            case str():
                assert got == _VARIABLE.sub(lambda name: self.names.get(name[1], name[0]), shown), at
            case _:
                assert type(got) is type(shown), at
                assert got == shown, at


def answers(text: str) -> Any:
    """JSON."""
    return json.loads(text)
