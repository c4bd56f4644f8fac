"""One shim for all pages, that also tells a receiver of webhooks what it does."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import Stack

sys.path.insert(0, str(Path(__file__).parents[1] / "api"))

from receiving import Receiver

from tools.dev_stack import DevStack


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="session")
def stack(receiver: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """The stack of `make serve`, with JSON for a log and few confirmations."""
    secret = tmp_path_factory.mktemp("secrets") / "webhooks"
    secret.write_text(receiver.secret)
    settings = {"log_format": "json", "confirmations": 2, "webhook_urls": receiver.url}
    with Stack(settings=settings | {"webhook_secret_file": secret}) as stack:
        stack.seed()
        yield stack
