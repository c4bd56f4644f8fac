"""Small wrong changes of the contract, made systematically from the compiler's own syntax tree.

A mutant differs from the contract in one place: an operator, a number, a condition, two arguments, a name
that is easily mistaken for another, or a statement that is missing. Assembly is mutated like the rest.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Node = dict[str, Any]

OPERATORS = {
    "<": ["<=", ">="],
    "<=": ["<", ">"],
    ">": [">=", "<="],
    ">=": [">", "<"],
    "==": ["!="],
    "!=": ["=="],
    "&&": ["||"],
    "||": ["&&"],
    "+": ["-"],
    "-": ["+"],
    "*": ["/"],
    "/": ["*"],
    "%": ["/"],
    "&": ["|"],
    "|": ["&"],
    "<<": [">>"],
    ">>": ["<<"],
    "+=": ["=", "-="],
    "|=": ["=", "&="],
    "&=": ["=", "|="],
    "^=": ["=", "|="],
}

YUL_OPERATORS = {"add": "sub", "sub": "add", "lt": "gt", "gt": "lt", "shl": "shr", "shr": "shl"}

MISTAKEN = [
    ["student", "tutor"],
    ["PENDING", "CONFIRMED", "DISPUTED"],
    ["CANCEL_BY_STUDENT", "CANCEL_BY_TUTOR", "CANCEL_BY_ANYONE"],
    ["COMPLETE_BY_STUDENT", "COMPLETE_BY_ANYONE"],
    ["RESOLVE_BY_ARBITER", "RESOLVE_BY_ANYONE"],
    [
        *("ANY_TIME", "BEFORE_START", "IN_NOTICE", "ONCE_BEGUN"),
        *("IN_REVIEW", "AFTER_REVIEW", "AFTER_ARBITRATION"),
    ],
    ["None", "Pending", "Confirmed", "Disputed", "Completed", "Cancelled"],
    ["Ok", "InPast", "TooSoon", "TooFar", "Duration", "Taken", "Overlap"],
    ["CONFIRM_TYPEHASH", "CANCEL_TYPEHASH", "COMPLETE_TYPEHASH", "DISPUTE_TYPEHASH"],
    ["cancelWindow", "reviewPeriod", "arbitrationPeriod"],
    ["cancelWindow_", "reviewPeriod_", "arbitrationPeriod_"],
    ["QUARTER", "MINUTES"],
    ["minNotice", "horizon"],
    ["earliest", "latest"],
    ["account", "to"],
    ["start", "end"],
    ["otherStart", "otherEnd"],
    ["mask", "spill"],
    ["tutorAmount", "studentAmount"],
    ["amount", "share"],
]
"""Names of which one may be written for another: each is replaced by the next, the last by the first."""

NEXT = {one: other for names in MISTAKEN for one, other in zip(names, names[1:] + names[:1], strict=True)}

DELETED = {"ExpressionStatement", "EmitStatement", "RevertStatement", "Continue", "Return", "TryStatement"}
YUL_DELETED = {"YulExpressionStatement", "YulAssignment"}


@dataclass(frozen=True)
class Mutant:
    """The contract with the text from `start` to `end` replaced."""

    function: str
    line: int
    before: str
    """The lines that change, without indentation, as one."""
    after: str
    source: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The mutant's key in `survivors.toml`, which outlives changes elsewhere."""
        return self.function, self.before, self.after

    @property
    def name(self) -> str:
        """The same for sources that differ in comments and layout only."""
        code = " ".join(re.sub(r"//[^\n]*", "", self.source).split())
        return hashlib.sha256(code.encode()).hexdigest()[:12]


def mutants(source: str, tree: Node) -> list[Mutant]:
    """All mutants of a source, in its order, each once."""
    if not source.isascii():
        raise ValueError("The compiler counts bytes, this counts characters: keep the source in ASCII.")
    found: dict[str, Mutant] = {}
    for function, node, parent in _walk(tree, "", None):
        changes = CHANGES.get(node["nodeType"], _none)
        for start, end, text in changes(node, source, parent or {}):
            mutant = _mutant(source, function, start, end, text)
            if mutant.before != mutant.after:
                found.setdefault(mutant.name, mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


Change = tuple[int, int, str]
"""The beginning and the end of the text that is replaced, and its replacement."""


def _walk(node: Any, function: str, parent: Node | None) -> Iterator[tuple[str, Node, Node | None]]:
    """Every node with the function that it is in, and its parent."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item, function, parent)
    elif isinstance(node, dict) and node.get("nodeType") not in {"ImportDirective", "PragmaDirective"}:
        if node.get("nodeType") == "FunctionDefinition":
            function = node["name"] or node["kind"]
        if "nodeType" in node and "src" in node:
            yield function, node, parent
            parent = node
        for child in node.values():
            yield from _walk(child, function, parent)


def _mutant(source: str, function: str, start: int, end: int, text: str) -> Mutant:
    mutated = source[:start] + text + source[end:]
    first = source.rfind("\n", 0, start) + 1
    last = source.find("\n", end)
    before, after = source[first:last], mutated[first : last + len(mutated) - len(source)]
    line = source.count("\n", 0, start) + 1
    return Mutant(function or "constants", line, " ".join(before.split()), " ".join(after.split()), mutated)


def _span(node: Node) -> tuple[int, int]:
    start, length, _ = map(int, node["src"].split(":"))
    return start, start + length


def _text(node: Node, source: str) -> str:
    start, end = _span(node)
    return source[start:end]


def _none(_node: Node, _source: str, _parent: Node) -> Iterator[Change]:
    yield from ()


def _binary(node: Node, source: str, _parent: Node) -> Iterator[Change]:
    left, right = node["leftExpression"], node["rightExpression"]
    yield from _operator(node["operator"], _span(left)[1], _span(right)[0], source)
    if node["operator"] in {"&&", "||"}:  # without the one, without the other
        start, end = _span(node)
        place = source.index(node["operator"], _span(left)[1])
        yield place, end, ""
        yield start, place + 2, ""


def _assignment(node: Node, source: str, _parent: Node) -> Iterator[Change]:
    left, right = node["leftHandSide"], node["rightHandSide"]
    yield from _operator(node["operator"], _span(left)[1], _span(right)[0], source)


def _operator(operator: str, start: int, end: int, source: str) -> Iterator[Change]:
    place = source.index(operator, start, end)
    for other in OPERATORS.get(operator, []):
        yield place, place + len(operator), other


def _unary(node: Node, source: str, parent: Node) -> Iterator[Change]:
    """Without it, except in the head of a loop, which would not end."""
    if parent["nodeType"] != "ExpressionStatement" and node["operator"] in {"~", "!", "-", "++"}:
        yield (*_span(node), _text(node["subExpression"], source))


def _literal(node: Node, source: str, _parent: Node) -> Iterator[Change]:
    start, end = _span(node)
    text = source[start:end]
    if node["kind"] == "bool":
        yield start, end, "false" if text == "true" else "true"
    elif node["kind"] == "string":
        yield end - 1, end - 1, "x"
    elif node["kind"] == "number":
        number = text.split()[0]
        value = int(number.replace("_", ""), 0)
        for other in {value + 1, max(value - 1, 0)}:
            yield start, start + len(number), hex(other) if number.startswith("0x") else str(other)


def _condition(node: Node, _source: str, _parent: Node) -> Iterator[Change]:
    for constant in ("true", "false"):
        yield (*_span(node["condition"]), constant)


def _names(node: Node, source: str, _parent: Node) -> Iterator[Change]:
    """Another name: the last word of an identifier or of `x.y`."""
    _, end = _span(node)
    name = node.get("memberName") or node["name"]
    if name in NEXT:
        yield end - len(name), end, NEXT[name]
    if _text(node, source) == "msg.sender":
        yield (*_span(node), "tx.origin")


def _call(node: Node, source: str, _parent: Node) -> Iterator[Change]:
    """Two arguments in each other's place."""
    if node["expression"].get("name") == "require":
        return
    for one, other in pairwise(node["arguments"]):
        start, end = _span(one)[0], _span(other)[1]
        between = source[_span(one)[1] : _span(other)[0]]
        yield start, end, _text(other, source) + between + _text(one, source)


def _deleted(node: Node, source: str, parent: Node) -> Iterator[Change]:
    start, end = _span(node)
    if parent["nodeType"] == "ForStatement" and parent.get("loopExpression") == node:
        return
    semicolon = re.compile(r"\s*;").match(source, end)
    yield start, semicolon.end() if semicolon else end, "{}"


def _yul_call(node: Node, source: str, _parent: Node) -> Iterator[Change]:
    name = node["functionName"]
    if name["name"] in YUL_OPERATORS:
        yield (*_span(name), YUL_OPERATORS[name["name"]])
    if name["name"] != "add":  # a sum has no order
        yield from _call({"expression": {}, **node}, source, {})


def _yul_deleted(node: Node, _source: str, _parent: Node) -> Iterator[Change]:
    yield (*_span(node), "{}")


CHANGES: dict[str, Callable[[Node, str, Node], Iterator[Change]]] = {
    "BinaryOperation": _binary,
    "Assignment": _assignment,
    "UnaryOperation": _unary,
    "Literal": _literal,
    "YulLiteral": _literal,
    "IfStatement": _condition,
    "Conditional": _condition,
    "Identifier": _names,
    "MemberAccess": _names,
    "FunctionCall": _call,
    "YulFunctionCall": _yul_call,
    **dict.fromkeys(DELETED, _deleted),
    **dict.fromkeys(YUL_DELETED, _yul_deleted),
}
