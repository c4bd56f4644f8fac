"""The console: what it knows from the start, and the lines that the README shows."""

import json
import os
import re
import subprocess
import sys
from datetime import date, datetime, timedelta, timezone
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ape
import pytest
from strategies import ANNONCE

from creneau import BookingEscrow, Slot, Status, booking_id
from creneau.amounts import Token
from creneau.ape.console import Console, Later
from creneau.ape.networks import CODEX
from creneau.errors import BatchNotFound, NoAccount, NotDeployed
from creneau.types import to_hex

ROOT = Path(__file__).parents[2]
NAMES = ("escrow", "token", "me", "book", "batch", "booking", "calendar")


@pytest.fixture
def extras(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`extras(CRENEAU_ESCROW=…)`: the names of a console that starts in this environment."""
    for name in ("CRENEAU_ESCROW", "CRENEAU_DEPLOYMENT_BLOCK", "CRENEAU_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    spec = spec_from_file_location("extras", ROOT / "ape_console_extras.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)

    def start(project: Any = ape.project, **environment: str) -> Any:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        names = module.ape_init_extras(project)
        assert set(NAMES) <= set(names)
        return names

    return start


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network counts as a live one."""
    monkeypatch.setattr("creneau.ape.console.network_of", lambda _: CODEX)
    monkeypatch.setattr("creneau.ape.deployments.network_of", lambda _: CODEX)


# --- The README ---


def ape_console(*lines: str, **environment: str) -> str:
    code = "\\n".join(lines)
    console = subprocess.run(
        ["ape", "console", "--network", "ethereum:local:foundry", "--code", code],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("CRENEAU_")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Traceback" not in console.stdout + console.stderr
    return console.stdout


def test_the_readme_s_lines_book_two_lessons() -> None:
    section = (ROOT / "README.md").read_text().partition("## From the console")[2]
    lines = re.findall(r"^In \[\d\]: (.+)$", section, re.MULTILINE)
    assert len(lines) == 5

    told = ape_console(
        *lines,
        "print(len(lessons.bookings), lessons.total, escrow.balance(escrow.address), edu.symbol())",
        'book(tutor, "deep-learning", "2030-01-07 09:00")',
        "batch(lessons)",
    )

    assert "2 70 70 EDU" in told
    assert "Mon 2030-01-07  09:00-11:00" in told
    assert "booked       2 of 2 lessons, 70 EDU" in told
    assert "SlotTaken: The 1st slot, at 2030-01-07 09:00 UTC, is already taken." in told
    *_, last = told.rpartition("Out[")
    assert len(re.findall(r"^[01] +Mon 2030-01-07 (?:09|10):00 +60 +35 +CONFIRMED", last, re.MULTILINE)) == 2


def test_a_console_that_lacks_everything_starts_and_says_what() -> None:
    told = ape_console(
        "escrow", "escrow.token", "me", CRENEAU_ESCROW="0x" + "99" * 20, CRENEAU_ACCOUNT="nobody"
    )
    missing = f"There is no contract at 0x{'99' * 20} on ethereum:local."
    assert f"Out[1]: <BookingEscrow: {missing}>" in told
    assert f"NotDeployed: {missing}" in told
    assert "Out[3]: <AccountAPI: CRENEAU_ACCOUNT names 'nobody'; there is no account" in told


# --- escrow, token, me ---


def test_the_escrow_that_is_named(listed: BookingEscrow, extras: Any, tutor: Any) -> None:
    names = extras(CRENEAU_ESCROW=listed.address, CRENEAU_DEPLOYMENT_BLOCK="1")
    assert isinstance(names["escrow"], BookingEscrow)
    assert names["escrow"].deployment_block == 1
    assert names["escrow"].listing(tutor, ANNONCE) == listed.listing(tutor, ANNONCE)
    for name in ("token", "edu"):
        assert names[name].address == listed.token
        assert names[name].symbol() == "EDU"


def test_the_token_has_its_symbol_as_a_name(
    listed: BookingEscrow, extras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BookingEscrow, "currency", Token("USDC", 18))
    names = extras(CRENEAU_ESCROW=listed.address)
    assert names["usdc"].address == listed.token
    assert "edu" not in names


@pytest.mark.usefixtures("live")
def test_the_escrow_that_is_recorded(listed: BookingEscrow, extras: Any, tmp_path: Path) -> None:
    entry = {"contract_type": "BookingEscrow", "block": 2, "transaction": "0x" + "11" * 32}
    known = [entry | {"address": "0x" + "22" * 20}, entry | {"address": listed.address}]
    (tmp_path / "ape-config.yaml").write_text(json.dumps({"deployments": {"edu-chain": {"codex": known}}}))
    project = SimpleNamespace(path=tmp_path)

    escrow = extras(project)["escrow"]
    assert (escrow.address, escrow.deployment_block) == (listed.address, 2)
    assert extras(project, CRENEAU_ESCROW=listed.address)["escrow"].deployment_block == 2

    (tmp_path / "ape-config.yaml").write_text("")
    missing = extras(project)["escrow"]
    with pytest.raises(NotDeployed, match=f"Name the block in which {listed.address} was deployed"):
        _ = missing.token


def test_deployed_when_it_is_first_used(extras: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = extras()
    escrow, edu = names["escrow"], names["edu"]
    assert isinstance(escrow, Later)
    before = ape.chain.blocks.height
    assert repr(escrow) == "<BookingEscrow: not deployed yet: that is done when it is first used>"
    assert "create_bookings" in dir(escrow)
    assert not hasattr(escrow, "_repr_html_")
    assert ape.chain.blocks.height == before

    assert edu.balanceOf(names["me"]) == 10_000 * 10**18
    assert f"Deployed on this local network: escrow {escrow.address}" in capsys.readouterr().out
    assert repr(escrow) == f"<BookingEscrow {escrow.address}>"
    # The next console finds it.
    assert extras()["escrow"].address == escrow.address
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"CRENEAU_ESCROW": "nonsense"}, "CRENEAU_ESCROW: an address is 20 bytes"),
        ({"CRENEAU_ESCROW": "0x" + "99" * 20}, "There is no contract at 0x99"),
        ({"CRENEAU_DEPLOYMENT_BLOCK": "last"}, "CRENEAU_DEPLOYMENT_BLOCK is a block number, not 'last'."),
    ],
)
def test_an_escrow_that_is_not_there_is_missed_when_it_is_used(
    extras: Any, environment: dict[str, str], reason: str
) -> None:
    names = extras(**environment)
    for name in ("escrow", "edu"):
        assert reason in repr(names[name])
        with pytest.raises(NotDeployed, match=reason):
            names[name].anything()
    with pytest.raises(NotDeployed, match=reason):
        names["calendar"]()


def test_an_address_of_another_contract_is_no_escrow(listed: BookingEscrow, extras: Any) -> None:
    with pytest.raises(
        NotDeployed, match=f"The contract at {listed.token} on ethereum:local is no BookingEscrow"
    ):
        str(extras(CRENEAU_ESCROW=listed.token)["escrow"])


@pytest.mark.usefixtures("live")
def test_nothing_is_deployed_on_a_live_network(extras: Any) -> None:
    with pytest.raises(NotDeployed, match="No escrow is known on edu-chain:codex: deploy it"):
        _ = extras()["escrow"].token


def test_without_a_network_it_starts_all_the_same(extras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(ape.networks), "active_provider", None)
    names = extras()
    for name in ("escrow", "edu", "me"):
        assert "Not connected to a network provider." in repr(names[name])


def test_without_the_sdk_it_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "creneau.ape.console", None)
    spec = spec_from_file_location("extras", ROOT / "ape_console_extras.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.ape_init_extras(ape.project) == {}
    assert "Repeat: make setup" in capsys.readouterr().out


@pytest.mark.usefixtures("live")
def test_me_is_an_account_of_one_s_own(extras: Any, monkeypatch: pytest.MonkeyPatch, deployer: Any) -> None:
    test_accounts = ape.accounts.test_accounts

    def me(*aliases: str, **environment: str) -> Any:
        known = [SimpleNamespace(alias=alias, address=deployer.address) for alias in aliases]
        monkeypatch.setattr("creneau.ape.console.accounts", _Accounts(known, test_accounts))
        return extras(**environment)["me"]

    assert me("mine").alias == "mine"
    with pytest.raises(NoAccount, match="There is no account: make one with: ape accounts generate NAME"):
        _ = me().address
    with pytest.raises(NoAccount, match="There is the accounts theirs, mine: choose one in CRENEAU_ACCOUNT"):
        _ = me("theirs", "mine").address
    assert me("theirs", "mine", CRENEAU_ACCOUNT="mine").alias == "mine"
    with pytest.raises(NoAccount, match="CRENEAU_ACCOUNT names 'TEST::0'; there is the account mine"):
        _ = me("mine", CRENEAU_ACCOUNT="TEST::0").address


class _Accounts(list[Any]):
    def __init__(self, known: list[Any], test_accounts: Any) -> None:
        super().__init__(known)
        self.test_accounts = test_accounts


# --- book, batch, booking, calendar ---


@pytest.fixture
def console(listed: BookingEscrow, monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.setenv("CRENEAU_ESCROW", listed.address)
    return Console(ROOT / "ape-config.yaml")


def test_book_takes_times_in_every_form(
    console: Console, tutor: Any, student: Any, tomorrow: datetime
) -> None:
    text = f"{tomorrow:%Y-%m-%d %H:%M}"
    hour = timedelta(hours=1)
    later = (tomorrow + 2 * hour).astimezone(timezone(hour))
    slot = Slot(start=tomorrow + 4 * hour, duration=timedelta(minutes=90))

    batch = console.book(tutor, ANNONCE, text, later, slot, minutes=30, sender=student)

    assert [(each.start, each.slot.minutes) for each in batch.bookings] == [
        (tomorrow, 30),
        (tomorrow + 2 * hour, 30),
        (tomorrow + 4 * hour, 90),
    ]
    with pytest.raises(ValueError, match="is in no time zone"):
        console.book(tutor, ANNONCE, tomorrow.replace(tzinfo=None), sender=student)


def test_book_asks_for_no_more_than_the_sum(
    console: Console, token: Any, tutor: Any, student: Any, stranger: Any, deployer: Any, tomorrow: datetime
) -> None:
    token.mint(stranger, 70 * 10**18, sender=deployer)
    console.book(tutor, ANNONCE, tomorrow, tomorrow + timedelta(hours=1), sender=stranger)
    assert (console.escrow.balance(stranger), console.escrow.allowance(stranger)) == (0, 0)
    # Who approved before needs no permit.
    nonce = token.nonces(student)
    console.book(tutor, ANNONCE, tomorrow + timedelta(hours=2), sender=student)
    assert token.nonces(student) == nonce


def test_batch_and_booking_by_what_names_them(
    console: Console, tutor: Any, student: Any, tomorrow: datetime
) -> None:
    booked = console.book(tutor, ANNONCE, tomorrow, tomorrow + timedelta(hours=1), sender=student)
    confirmed = console.escrow.confirm(booked, [1], sender=tutor).batch
    first, second = confirmed.bookings
    for name in (booked, booked.id, to_hex(booked.id), second.id):
        assert [lesson.status for lesson in console.batch(name).bookings] == [
            Status.PENDING,
            Status.CONFIRMED,
        ]
    assert console.booking(to_hex(second.id)) == console.booking(second) == second
    assert console.booking(first.id) == first
    with pytest.raises(BatchNotFound, match="There is no booking"):
        console.booking(booking_id(booked.id, 2))


def test_calendar(console: Console, tutor: Any, student: Any, tomorrow: datetime) -> None:
    console.book(tutor, ANNONCE, tomorrow, sender=student)
    monday = tomorrow.date() - timedelta(days=tomorrow.weekday())
    taken = [(tomorrow, tomorrow + timedelta(hours=1))]
    for day in (tomorrow, tomorrow.date(), f"{tomorrow:%Y-%m-%d}"):
        assert console.calendar(tutor, day) == (tutor.address, monday, taken)
    assert console.calendar(day="2031-01-01") == (console.me.address, date(2030, 12, 30), [])
    assert console.calendar().monday <= console.escrow.now().date()
