"""What is refused: why, in a code for programs and a sentence for people. codes.py has all codes."""

from collections.abc import Mapping
from typing import Any


class Problem(Exception):
    """A request that is refused: why, in a code for programs and a sentence for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        **details: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers
        self.details = details

    @classmethod
    def of_field(cls, code: str, field: str, message: str) -> "Problem":
        """A field that is well formed and still wrong."""
        return cls(422, code, message, errors=[{"field": field, "slot": None, "message": message}])
