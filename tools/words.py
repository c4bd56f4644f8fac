"""Checks the tree's words: the first word of every docstring, and no pronoun that makes a person a man.

A docstring begins with an imperative verb or with the noun that it describes; a person is "they" or has a
role. `make lint` runs it. Prints every finding, and fails if there is one.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
OPENINGS = re.compile(
    r"\s*(how|what|whatever|when|where|whether|which|who|whoever|whom|whose|why"
    r"|he|her|him|his|it|its|she|that|their|there|these|they|this|those"
    r"|any(one|thing)|every(body|one|thing)|no(body|thing)|some(body|thing))\b",
    re.IGNORECASE,
)
"""First words that a docstring may not have: they ask, or stand for a noun that was not said."""
MEN = re.compile(r"\b(he|him|his|himself)\b", re.IGNORECASE)

QUOTED: tuple[str, ...] = ()
"""Sentences of the seed that tests and pages repeat to the letter."""

TEXT = {".html", ".md", ".mts", ".py", ".sh", ".sol", ".toml", ".ts", ".tsx", ".yaml", ".yml"}
MADE = {"tools/words.py", "tests/test_words.py", "web/src/api/schema.d.ts"}
"""Files that name the words, and files that are made from others."""


def main() -> int:
    """Print the findings. Return 1 if there is one, else 0."""
    found = [*findings()]
    print("".join(f"{each}\n" for each in found), end="")
    return 1 if found else 0


def findings() -> Iterator[str]:
    """Yield every finding in the tree as `file:line: fault`."""
    for path in _files(ROOT):
        name = path.relative_to(ROOT).as_posix()
        if name not in MADE:
            text = path.read_text()
            faults = [*men(text), *(openings(text) if path.suffix == ".py" else ())]
            yield from (f"{name}:{line}: {fault}" for line, fault in sorted(faults))


def men(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines, from one, in which a person is a man."""
    for quoted in QUOTED:
        text = text.replace(quoted, "")
    for number, line in enumerate(text.splitlines(), 1):
        if word := MEN.search(line):
            yield number, f'"{word[0]}": a person is "they", or has a role'


def openings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of Python docstrings, of attributes too, that begin with one of `OPENINGS`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))) if opening := OPENINGS.match(text):
                yield node.lineno, f'a docstring begins with "{opening[1]}"'


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name in {"node_modules", "dist", "__pycache__"}:
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix in TEXT:
            yield path


if __name__ == "__main__":
    sys.exit(main())
