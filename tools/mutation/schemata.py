"""Many mutants in one contract: to compile fifty takes little longer than to compile one, and takes longest.

The contract and its library get, beside each function, a copy of it for every mutant of it. The function
begins with switches that hand over to the copy with the contract's number, a constant in the byte code, where
it is replaced. What is changed outside of functions has to be compiled alone.
"""

from dataclasses import dataclass
from typing import Any

from tools.mutation.compiler import Compiler, DoesNotCompile
from tools.mutation.mutants import Mutant

NUMBER = "5ca1ab1e" * 8
"""The placeholder of the number in the byte code, in hex."""

OPAQUE = f"0x{NUMBER} ^ msg.data.length >> 255"
"""The number, for the compiler one that it cannot know: a call's data is never so long."""


@dataclass(frozen=True)
class Function:
    """A function's place in the source, and what it takes to call a copy of it."""

    name: str
    start: int
    body: int
    end: int
    parameters: str
    names: str
    returns: str
    mutability: str

    def holds(self, mutant: Mutant, source: str) -> bool:
        """Return True if the mutant differs in the body of this function only."""
        body, rest = source[: self.body], source[self.end :]
        return mutant.source.startswith(body) and mutant.source.endswith(rest)


def functions(tree: dict[str, Any], source: str) -> list[Function]:
    """Return the functions of the contract and of its library, without the constructor."""
    return [
        _function(node, source)
        for part in tree["nodes"]
        if part["nodeType"] == "ContractDefinition" and part["contractKind"] != "interface"
        for node in part["nodes"]
        if node["nodeType"] == "FunctionDefinition" and node["kind"] == "function"
    ]


def _function(node: dict[str, Any], source: str) -> Function:
    def span(part: dict[str, Any]) -> tuple[int, int]:
        start, length, _ = map(int, part["src"].split(":"))
        return start, start + length

    def text(part: dict[str, Any]) -> str:
        start, end = span(part)
        return source[start:end]

    returned, (start, end) = node["returnParameters"], span(node)
    return Function(
        node["name"],
        start,
        span(node["body"])[0],
        end,
        text(node["parameters"]),
        ", ".join(parameter["name"] for parameter in node["parameters"]["parameters"]),
        f"returns {text(returned)}" if returned["parameters"] else "",
        "" if node["stateMutability"] == "nonpayable" else node["stateMutability"],
    )


class Schemata:
    """The contract's source, with any of its mutants beside it."""

    def __init__(self, source: str, compiler: Compiler) -> None:
        self._source, self._compiler = source, compiler
        self._functions = functions(compiler.syntax(source), source)

    def place(self, mutant: Mutant) -> Function | None:
        """Return the function that a mutant changes; None if it has to be compiled alone."""
        places = [place for place in self._functions if place.holds(mutant, self._source)]
        return places[0] if len(places) == 1 else None

    def compiled(self, mutants: list[Mutant]) -> tuple[str, list[Mutant]]:
        """Return the byte code of the contract with these mutants, and the mutants that compile, in order.

        Raises `DoesNotCompile` if the reason is none of them.
        """
        while True:
            source, copies = self._with(mutants)
            try:
                return self._compiler.bytecode(source, quickly=True), mutants
            except DoesNotCompile as error:
                wrong = {
                    number
                    for number, (start, end) in enumerate(copies)
                    for place in error.places
                    if start <= place < end
                }
                if not wrong:
                    raise
                mutants = [mutant for number, mutant in enumerate(mutants) if number not in wrong]

    def _with(self, mutants: list[Mutant]) -> tuple[str, list[tuple[int, int]]]:
        """Return the source with these mutants, and where in it each of their copies is."""
        source, places = self._source, [self.place(mutant) for mutant in mutants]
        text, copied = "", 0
        spans = [(0, 0)] * len(mutants)
        for function in self._functions:
            numbers = [number for number, place in enumerate(places) if place is function]
            text += source[copied : function.body]
            text += "{" + "".join(_switch(function, number) for number in numbers)
            text += source[function.body + 1 : function.end]
            for number in numbers:
                changed = mutants[number].source
                body = changed[function.body : len(changed) - len(source) + function.end]
                head = (
                    f"function {function.name}__{number}{function.parameters} private {function.mutability}"
                )
                copy = f"\n{head} {function.returns} {body}\n"
                spans[number] = (len(text), len(text) + len(copy))
                text += copy
            copied = function.end
        return text + source[copied:], spans


def _switch(function: Function, number: int) -> str:
    call = f"{function.name}__{number}({function.names})"
    then = f"return {call};" if function.returns else f"{{ {call}; return; }}"
    return f"\nif ({OPAQUE} == {number + 1}) {then}"


def numbered(bytecode: str, number: int) -> str:
    """Return the creation code of the mutant of this number; of the contract itself, if the number is 0."""
    if bytecode.count(NUMBER) == 0:
        raise RuntimeError("the compiler did not keep the number")
    return bytecode.replace(NUMBER, f"{number:064x}")
