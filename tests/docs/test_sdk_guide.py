"""The guide of the SDK is a session: every line of it is run on the local network."""

import doctest
from pathlib import Path

from ape.logging import LogLevel, logger

GUIDE = Path(__file__).parents[2] / "docs" / "sdk.md"


def test_every_line_of_the_guide(quick_receipts: None) -> None:  # noqa: ARG001  # asked for its effect
    with logger.at_level(LogLevel.ERROR):  # It goes to the standard output, which is compared.
        results = doctest.testfile(str(GUIDE), module_relative=False)
    assert results.attempted > 50
    assert results.failed == 0
