"""A listing at 35 EDU an hour, and a student who approved the escrow."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from ape.api import AccountAPI
from strategies import ANNONCE

from creneau import BookingEscrow, Slot


@pytest.fixture(scope="module")
def listed(escrow: BookingEscrow, tutor: AccountAPI, student: AccountAPI) -> BookingEscrow:
    """The escrow, once the tutor has published `ANNONCE` and the student has approved 10,000 EDU."""
    escrow.publish(ANNONCE, 35, sender=tutor)
    escrow.approve(10_000, sender=student)
    return escrow


@pytest.fixture
def hours(tomorrow: datetime) -> Any:
    """`hours(0, 1)`: lessons of an hour, so many hours after `tomorrow`."""
    return lambda *offsets: [
        Slot(start=tomorrow + timedelta(hours=offset), duration=timedelta(hours=1)) for offset in offsets
    ]
