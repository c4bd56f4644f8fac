"""The existing frontend's HTTP client with its habits, and the list of its calls.

It gives up after 30 seconds, sends no `Idempotency-Key`, asks for French, and its numbers are JavaScript's.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tools.local_node import TLS

PREFIX = "/api/blockchain"
ORIGIN = "http://localhost:5173"

_LIST = tomllib.loads((Path(__file__).parent / "calls.toml").read_text())
SHAPES: dict[str, dict[str, str]] = _LIST["shapes"]


@dataclass(frozen=True)
class Call:
    """One call, as a page makes it, and what the page reads of the answer."""

    name: str
    page: str
    who: tuple[str, ...]
    method: str
    path: str
    reads: Mapping[str, str]
    body: Any = None
    stands: str = "pending"

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Call":
        """Read one entry of calls.toml."""
        fields = {
            name: entry[name]
            for name in ("name", "page", "method", "path", "body", "stands")
            if name in entry
        }
        reads = entry["reads"]
        return cls(**fields, who=tuple(entry["as"]), reads=SHAPES[reads] if isinstance(reads, str) else reads)


CALLS = [Call.of(entry) for entry in _LIST["call"]]


def javascript(value: Any) -> str:
    """JSON as `JSON.stringify` writes it: every number is a double, and a whole one has no fraction."""
    match value:
        case dict():
            return (
                "{" + ",".join(f"{javascript(name)}:{javascript(each)}" for name, each in value.items()) + "}"
            )
        case list():
            return "[" + ",".join(map(javascript, value)) + "]"
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return json.dumps(value, ensure_ascii=False)


def price(hourly_rate: float, minutes: int) -> float:
    """The amount that the booking page sends: a double, rounded to two decimals."""
    return float(f"{hourly_rate * minutes / 60:.2f}")


@dataclass
class Frontend:
    """A person at the existing frontend."""

    url: str
    token: str
    client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx.Client(
            base_url=self.url + PREFIX,
            timeout=30,
            verify=TLS,
            headers={
                "Accept": "application/json, text/plain, */*",
                "Accept-Language": "fr",
                "Authorization": f"Bearer {self.token}",
                "Origin": ORIGIN,
            },
        )

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send one call. Without a body there is no content type either."""
        if body is None:
            return self.client.request(method, path)
        content = javascript(body).encode()
        return self.client.request(
            method, path, content=content, headers={"Content-Type": "application/json"}
        )

    def data(self, method: str, path: str, body: Any = None) -> Any:
        """Return the `data` of an answer that is a success."""
        answer = self.ask(method, path, body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["success"] is True
        return answer.json()["data"]


def given(template: Any, values: Mapping[str, str]) -> Any:
    """Return a path or a body with the values of the story in place of its braces."""
    match template:
        case str():
            for name, value in values.items():
                template = template.replace(f"{{{name}}}", value)
            return template
        case dict():
            return {name: given(each, values) for name, each in template.items()}
        case list():
            return [given(each, values) for each in template]
    return template


# --- What the pages read ---

_UNDEFINED = object()


def mistakes(body: Any, reads: Mapping[str, str]) -> list[str]:
    """Return every field that a page reads and that is undefined or of another type."""
    return [
        f"{place}: {_said(found)}, not {inner}"
        for path, kind in reads.items()
        for where, value in _at(body, path.split("."))
        for place, found, inner in _parts(where, value, kind)
        if not _is(found, inner)
    ]


def _parts(where: str, value: Any, kind: str) -> Iterator[tuple[str, Any, str]]:
    """Yield a value with its type, or the fields of a shape with theirs."""
    if kind not in SHAPES:
        yield where, value, kind
        return
    for path, inner in SHAPES[kind].items():
        for place, found in _at(value, path.split(".")):
            yield from _parts(f"{where}.{place}", found, inner)


def _at(value: Any, names: list[str], where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what stands at a path, once for each element of the arrays on the way."""
    if not names:
        yield where, value
        return
    name, each = names[0].removesuffix("[]"), names[0].endswith("[]")
    found = value.get(name, _UNDEFINED) if isinstance(value, dict) else _UNDEFINED
    place = f"{where}.{name}" if where else name
    if not each:
        yield from _at(found, names[1:], place)
    elif isinstance(found, list):
        for index, element in enumerate(found):
            yield from _at(element, names[1:], f"{place}[{index}]")
    else:
        yield place, found


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
    "integer": (int,),
    "object": (dict,),
    "array": (list,),
}


def _is(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("?")
    kind = kind.removesuffix("?")
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _said(value: Any) -> str:
    return "undefined" if value is _UNDEFINED else json.dumps(value, ensure_ascii=False)
