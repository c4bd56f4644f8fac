"""`ape run manage`, on the local network; test_networks.py has it on a live one."""

import re
from collections.abc import Callable
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import ape
import pytest
from click.testing import CliRunner
from helpers import rpc
from strategies import ANNONCE

from creneau import Batch, BookingEscrow, booking_id
from creneau.ape.networks import CODEX
from creneau.render import batch as table
from creneau.render import booking as booking_table
from creneau.types import to_hex, to_unix

Manage = Callable[..., str]

# Ape leaves open the sockets of a network that a command is done with.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@ape.fixture(scope="module", chain_isolation=False)
def cli() -> Any:
    path = Path(__file__).parents[2] / "scripts" / "manage.py"
    spec = spec_from_file_location("manage", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cli


@pytest.fixture
def manage(cli: Any, listed: BookingEscrow) -> Manage:
    """`manage("batch", key)`: what the command prints; with `code` its error."""

    def run(command: str, *arguments: str, code: int = 0, escrow: str = listed.address) -> str:
        url = ape.chain.provider.web3.provider.endpoint_uri  # type: ignore[attr-defined]  # of an HTTP node
        options = ["--network", url, "--escrow", escrow]
        result = CliRunner().invoke(cli, [command, *arguments, *options])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result.output

    return run


@pytest.fixture
def booked(listed: BookingEscrow, tutor: Any, student: Any, hours: Any) -> Batch:
    return listed.create_bookings(tutor, ANNONCE, hours(0, 1), sender=student)


@pytest.fixture
def disputed(listed: BookingEscrow, booked: Batch, tutor: Any, student: Any) -> Batch:
    listed.confirm(booked, sender=tutor)
    rpc("evm_mine", to_unix(booked.bookings[1].start))
    return listed.dispute(booked, sender=student).batch


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network counts as a live one."""
    for module in ("cli_types", "deployments"):
        monkeypatch.setattr(f"creneau.ape.{module}.network_of", lambda _: CODEX)


def test_help_suffices(cli: Any) -> None:
    told = CliRunner().invoke(cli, ["--help"]).output
    assert "Amounts are in tokens" in told
    for name, command in cli.commands.items():
        assert re.search(rf"^  {name} +\w", told, re.MULTILINE)
        own = CliRunner().invoke(cli, [name, "--help"]).output
        assert "--network" in own
        assert "CRENEAU_ESCROW" in own
        assert ("--account" in own) == (name in {"publish", "resolve", "hand-over", "accept", "credit"})
        for argument in command.params:
            described = own.split("Options:")[0]
            if argument.param_type_name == "argument":
                assert described.count(argument.make_metavar().strip("[]")) >= 2, f"{name}: {argument.name}"


# --- Looking ---


def test_show(manage: Manage, listed: BookingEscrow, booked: Batch, arbiter: Any) -> None:
    told = manage("show")
    assert re.search(rf"^escrow +{listed.address}, from block 0$", told, re.MULTILINE)
    assert re.search(rf"^arbiter +{arbiter.address}$", told, re.MULTILINE)
    assert re.search(r"^handed over to +nobody$", told, re.MULTILINE)
    assert re.search(rf"^holds +{booked.total} EDU$", told, re.MULTILINE)
    assert re.search(r"^cancel +until 24 hours before the start$", told, re.MULTILINE)
    assert re.search(r"^undecided +the tutor gets 30 %$", told, re.MULTILINE)


def test_batch_by_its_key_or_a_booking_s(manage: Manage, booked: Batch, listed: BookingEscrow) -> None:
    expected = table(listed.batch(booked.id), whole=True)
    assert booked.order.student in expected
    for key in (booked.id, booked.bookings[1].id):
        assert expected in manage("batch", to_hex(key))


def test_booking(manage: Manage, booked: Batch) -> None:
    second = booked.bookings[1]
    assert booking_table(second, whole=True) in manage("booking", to_hex(second.id))
    missing = manage("booking", to_hex(booking_id(booked.id, 5)), code=1)
    assert "Error: The batch has no lesson 5; it has 0, 1." in missing


def test_calendar(manage: Manage, booked: Batch, tutor: Any, tomorrow: datetime) -> None:
    day = f"{tomorrow:%Y-%m-%d}"
    assert f"{tomorrow:%a} {day}  09:00-11:00" in manage("calendar", tutor.address, "--week", day)
    assert booked.total == 70
    week = manage("calendar", tutor.address)
    assert len(re.findall(r"^[MTWFS]\w\w \d{4}-\d\d-\d\d  ", week, re.MULTILINE)) == 7


# --- Sending ---


def test_publish(manage: Manage, listed: BookingEscrow, tutor: Any) -> None:
    told = manage("publish", "piano", "52.5", "--instant", "--account", "TEST::3")
    assert re.search(rf"^sender +{tutor.address}$", told, re.MULTILINE)
    assert "listing: 52.5 EDU an hour, lessons confirmed at once, published once" in told
    listing = listed.listing(tutor, "piano")
    assert (listing.hourly_rate, listing.rules, listing.nonce) == (52.5, (True, 0, 0), 1)

    key = "0x" + "ab" * 32
    manage("publish", key, "35", "--account", "TEST::3")
    assert listed.listing(tutor, key).hourly_rate == 35
    assert "listing: not offered, published 2 times" in manage("publish", key, "0", "--account", "TEST::3")


def test_resolve(manage: Manage, listed: BookingEscrow, disputed: Batch) -> None:
    def status() -> list[str]:
        return [lesson.status.name for lesson in listed.batch(disputed.id).bookings]

    first = manage(
        "resolve", to_hex(disputed.id), "--tutor-share", "62.5", "--lessons", "1", "--account", "TEST::1"
    )
    assert re.search(r"^tutor's share +62.5 %$", first, re.MULTILINE)
    assert re.search(r"^to tutor +21.875 EDU$", first, re.MULTILINE)
    assert re.search(r"^to student +13.125 EDU$", first, re.MULTILINE)
    assert status() == ["DISPUTED", "COMPLETED"]

    # Without lessons: the others.
    manage("resolve", to_hex(disputed.id), "--tutor-share", "0", "--account", "TEST::1")
    assert status() == ["COMPLETED", "COMPLETED"]
    again = manage("resolve", to_hex(disputed.id), "--tutor-share", "0", "--account", "TEST::1", code=1)
    assert "Error: No lesson of this batch is disputed." in again


def test_resolve_is_the_arbiter_s_and_of_disputed_lessons(manage: Manage, disputed: Batch) -> None:
    key = to_hex(disputed.id)
    others = manage("resolve", key, "--tutor-share", "50", "--account", "TEST::4", code=1)
    chosen = "Error: Only the arbiter chooses a share of 5000 basis points; anyone else resolves with 3000."
    assert chosen in others
    early = manage("resolve", key, "--account", "TEST::4", code=1)
    assert re.search(r"^Error: For the 1st lesson this becomes possible at ", early, re.MULTILINE)
    other = manage("resolve", key, "--tutor-share", "50", "--lessons", "7", "--account", "TEST::1", code=1)
    assert re.search(r"^Error: .*8th lesson", other, re.MULTILINE)


def test_anyone_resolves_with_the_default_share_once_it_is_late(
    manage: Manage, listed: BookingEscrow, disputed: Batch
) -> None:
    late = disputed.bookings[1].resolvable_from
    assert late is not None
    rpc("evm_mine", to_unix(late))
    told = manage("resolve", to_hex(disputed.id), "--account", "TEST::4")
    assert re.search(r"^tutor's share +30 %$", told, re.MULTILINE)
    assert re.search(r"^to tutor +21 EDU$", told, re.MULTILINE)
    assert [lesson.status.name for lesson in listed.batch(disputed.id).bookings] == ["COMPLETED"] * 2


def test_a_credit(manage: Manage, stranger: Any) -> None:
    assert "credit: 0 EDU" in manage("credit", stranger.address)
    nothing = manage("credit", stranger.address, "--to", stranger.address, "--account", "TEST::5", code=1)
    assert f"Error: {stranger.address} has no credit." in nothing


def test_the_arbiter_hands_over_in_two_steps(
    manage: Manage, listed: BookingEscrow, arbiter: Any, stranger: Any
) -> None:
    told = manage("hand-over", stranger.address, "--account", "TEST::1")
    assert f"arbiter: {arbiter.address}, handed over to {stranger.address}" in told
    assert listed.pending_arbiter == stranger.address
    assert "handed over to nobody" in manage("hand-over", "--take-back", "--account", "TEST::1")
    assert "Error: Only the owner may do this" in manage("accept", "--account", "TEST::5", code=1)

    manage("hand-over", stranger.address, "--account", "TEST::1")
    assert f"arbiter: {stranger.address}" in manage("accept", "--account", "TEST::5")
    assert listed.arbiter == stranger.address


# --- What is refused ---


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (["publish", "x", "3,5"], "Invalid value for 'RATE': '3,5': not a number"),
        (["publish", "x", "-1"], "No such option: -1"),
        (["publish", "x", "1e12"], "Invalid value for 'RATE': '1e12': a rate has at most 96 bits"),
        (["publish", "x", "0.0000000000000000001"], "an amount has at most 18 decimal places"),
        (["publish", "0x12", "35"], "Invalid value for 'LISTING': '0x12': a bytes32 is 32 bytes"),
        (["publish", "x", "35", "--account", "nobody"], "Account with alias 'nobody' not found."),
        (
            ["batch", "0x12"],
            "Invalid value for 'KEY': '0x12': a bytes32 is 32 bytes, or 0x and 64 hex digits",
        ),
        (["booking", "42"], "Invalid value for 'ID': '42': a bytes32 is 32 bytes"),
        (["calendar", "tutor"], "Invalid value for 'TUTOR': 'tutor': an address is 20 bytes"),
        (["calendar", "0x" + "11" * 20, "--week", "7.1.2030"], "a day is a date such as 2030-01-07"),
        (["resolve", "0x" + "00" * 32, "--tutor-share", "101"], "'101': a share is from 0 to 100 percent"),
        (["resolve", "0x" + "00" * 32, "--tutor-share", "1.005"], "with at most two decimal places"),
        (
            ["resolve", "0x" + "00" * 32, "--tutor-share", "1", "--lessons", "0-3"],
            "lessons are numbers",
        ),
        (
            ["resolve", "0x" + "00" * 32, "--tutor-share", "1", "--lessons", "40"],
            "lessons are numbers",
        ),
        (["hand-over"], "Give either TO, the address of the next arbiter, or --take-back."),
        (["hand-over", "0x" + "11" * 20, "--take-back"], "Give either TO"),
        (["hand-over", "0x" + "00" * 20], "Invalid value for TO: the zero address can't accept"),
        (["show", "--block", "-1"], "Invalid value for '--block': -1 is not in the range x>=0."),
    ],
)
def test_bad_input(manage: Manage, command: list[str], reason: str) -> None:
    assert reason in manage(*command, code=2)


def test_what_is_not_there(manage: Manage, listed: BookingEscrow) -> None:
    assert "Error: There is no batch 0x00" in manage("batch", "0x" + "00" * 32, code=1)
    assert "Error: There is no contract at 0x99" in manage("show", code=1, escrow="0x" + "99" * 20)
    assert "is no BookingEscrow." in manage("show", code=1, escrow=listed.token)


@pytest.mark.usefixtures("live")
def test_on_a_live_network_development_accounts_are_refused(
    manage: Manage, listed: BookingEscrow, tutor: Any, student: Any
) -> None:
    sent = ape.chain.provider.get_nonce(tutor.address)
    public = f"{tutor.address} is a development account: everybody has its key."
    known = ["--block", "0"]
    assert public in manage("publish", "x", "35", "--account", "TEST::3", *known, code=2)
    assert public in manage("accept", "--account", "TEST::3", "--yes", *known, code=2)
    assert f"{student.address} is a dev" in manage("hand-over", student.address, *known, code=2)
    unnamed = manage("publish", "x", "35", *known, code=2)
    assert "Error: Name the account that publishes with --account." in unnamed
    assert ape.chain.provider.get_nonce(tutor.address) == sent
    assert listed.listing(tutor, "x").nonce == 0


@pytest.mark.usefixtures("live")
def test_on_a_live_network_the_block_has_to_be_known(manage: Manage, listed: BookingEscrow) -> None:
    assert f"Error: Name the block in which {listed.address} was deployed" in manage("show", code=1)


def test_a_network_that_nothing_is_decided_for(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("creneau.ape.cli_types.network_of", lambda _: None)
    assert "Nothing is decided for chain 31337: add it to creneau/ape/networks.py." in manage("show", code=2)
