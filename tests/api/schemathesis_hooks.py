"""The rule of the API that no schema has: an idempotency key names one request, so each gets its own."""

import uuid
from typing import Any

import schemathesis

_NAME = "Idempotency-Key"
_asked: dict[str, str] = {}


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, __: dict[str, Any]) -> None:
    """Give a good request another key if an earlier one, which was not the same, had that one."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    key = (case.headers or {}).get(_NAME)
    asks = repr((case.formatted_path, case.body))
    if isinstance(key, str) and _asked.setdefault(key, asks) != asks:
        case.headers[_NAME] = uuid.uuid4().hex
