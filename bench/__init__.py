"""The benchmark: what Creneau costs beside the old way, beside the least that is possible, and as it grows.

`make bench` runs all parts, writes `bench/results.json` and makes `docs/performance.md` of it. Each part is
a module with `run(short)`; `short` is the form that only looks for large losses.
"""

from typing import Any, TypedDict


class Part(TypedDict):
    """The results of a part of the benchmark."""

    raw: dict[str, Any]
    ratios: dict[str, float]
