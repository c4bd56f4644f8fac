"""What the console knows from the start."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import ape
import pytest
from strategies import ANNONCE

from creneau import BookingEscrow


@pytest.fixture
def extras() -> Any:
    spec = spec_from_file_location("extras", Path(__file__).parents[2] / "ape_console_extras.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda: module.ape_init_extras(ape.chain, ape.project)


def test_escrow_and_edu(
    listed: BookingEscrow, extras: Any, tutor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRENEAU_ESCROW", listed.address)
    names = extras()
    assert names["escrow"].listing(tutor, ANNONCE) == listed.listing(tutor, ANNONCE)
    assert names["edu"].address == listed.token
    assert names["edu"].symbol() == "EDU"


def test_the_escrow_that_ape_deployed_last(
    listed: BookingEscrow, extras: Any, deployer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CRENEAU_ESCROW", raising=False)
    latest = deployer.deploy(ape.project.BookingEscrow, listed.token, deployer, 0, 0, 0)
    assert extras()["escrow"].address == latest.address


@pytest.mark.parametrize("address", ["nonsense", "0x" + "99" * 20])
def test_without_an_escrow_it_starts_all_the_same(
    extras: Any, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("CRENEAU_ESCROW", address)
    assert extras() == {}


def test_without_a_network_it_starts_all_the_same(extras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRENEAU_ESCROW", raising=False)
    monkeypatch.setattr(type(ape.networks), "active_provider", None)
    assert extras() == {}


def test_an_address_of_another_contract_is_no_escrow(
    listed: BookingEscrow, extras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRENEAU_ESCROW", listed.token)
    assert extras() == {}
