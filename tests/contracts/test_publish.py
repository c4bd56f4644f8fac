"""`publish`: whose listing it is, what a signature of it covers, and what it leaves."""

from copy import deepcopy
from typing import Any

import pytest
from ape import project
from helpers import Contract, Receipt, call, deploy, event, reverts, send, sign, sign_listing
from market import LISTING, NOBODY, RATE, Market

from creneau.typed_data import listing_typed_data

OTHER = b"\1" * 32
TERMS = (OTHER, RATE, True, 0)
"""Listing, rate, instant, nonce, of a listing that nobody has published yet."""


def publish(market: Market, tutor: Any, signature: bytes, terms: tuple[Any, ...] = TERMS) -> Receipt:
    """The relayer publishes for a tutor."""
    return send(market.escrow.publish, tutor, *terms[:3], signature, sender=market.relayer)


def assert_published(market: Market, receipt: Receipt, *terms: Any, tutor: Any = None) -> None:
    """The terms: listing, rate, instant, and the nonce after it."""
    tutor = tutor or market.tutor
    named = dict(zip(("listing", "hourlyRate", "instant", "nonce"), terms, strict=True))
    assert receipt.events == [event(market.escrow, "ListingPublished", tutor=tutor, **named)]
    assert call(market.escrow.listings, tutor, terms[0]) == terms[1:]


# --- Failures ---


@pytest.mark.parametrize("role", ["student", "relayer", "arbiter", "deployer"])
def test_nobody_publishes_for_a_tutor_without_his_signature(market: Market, role: str) -> None:
    sender = getattr(market, role)
    for signature in (b"", sign_listing(market.escrow, sender, *TERMS)):
        with reverts("NotActor", actor=market.tutor, sender=sender):
            send(market.escrow.publish, market.tutor, *TERMS[:3], signature, sender=sender)


@pytest.mark.parametrize(
    "changed",
    [(LISTING, *TERMS[1:]), (OTHER, RATE + 1, True, 0), (OTHER, RATE, False, 0), (OTHER, 0, True, 0)],
    ids=["listing", "rate", "instant", "withdrawn"],
)
def test_a_signature_covers_every_term(market: Market, changed: tuple[Any, ...]) -> None:
    signature = sign_listing(market.escrow, market.tutor, *TERMS)
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature, changed)
    assert_published(market, publish(market, market.tutor, signature), *TERMS[:3], 1)


def test_a_signature_is_for_one_tutor(market: Market) -> None:
    signature = sign_listing(market.escrow, market.tutor, *TERMS)
    for tutor in (market.stranger, NOBODY):
        with reverts("NotActor", actor=tutor, sender=market.relayer):
            publish(market, tutor, signature)


@pytest.mark.parametrize("nonce", [1, 2, 2**64 - 1])
def test_a_signature_carries_the_next_nonce(market: Market, nonce: int) -> None:
    signature = sign_listing(market.escrow, market.tutor, *TERMS[:3], nonce)
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature)


def test_a_signature_is_used_once(market: Market) -> None:
    signature = sign_listing(market.escrow, market.tutor, *TERMS)
    publish(market, market.tutor, signature)
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature)


def test_a_publication_by_the_tutor_cancels_what_he_had_signed(market: Market) -> None:
    signature = sign_listing(market.escrow, market.tutor, *TERMS)
    market.publish(2 * RATE, listing=OTHER)
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature)
    assert call(market.escrow.listings, market.tutor, OTHER) == (2 * RATE, False, 1)


DOMAINS = {"name": "Creneaux", "version": "2", "chainId": 1, "verifyingContract": NOBODY}


@pytest.mark.parametrize("field", DOMAINS)
def test_a_signature_is_for_this_contract_on_this_chain(market: Market, field: str) -> None:
    typed_data = deepcopy(listing_typed_data(market.domain, market.tutor.address, *TERMS))
    typed_data["domain"][field] = DOMAINS[field]
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, sign(market.tutor, typed_data))


@pytest.mark.parametrize("signature", [b"", bytes(65), b"\xff" * 65, b"\1" * 64 + b"\x1b"])
def test_nobody_has_no_listing(market: Market, signature: bytes) -> None:
    with reverts("NotActor", actor=NOBODY, sender=market.relayer):
        publish(market, NOBODY, signature)


def wallet_signature(market: Market, wallet: Contract) -> bytes:
    return sign(market.stranger, listing_typed_data(market.domain, wallet.address, *TERMS))


def test_a_wallet_may_refuse(market: Market) -> None:
    wallet = deploy(project.RefusingWallet, market.stranger, sender=market.deployer)
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        publish(market, wallet, wallet_signature(market, wallet))


# --- Successes ---


def test_a_wallet_may_accept(market: Market) -> None:
    wallet = deploy(project.Wallet1271, market.stranger, sender=market.deployer)
    receipt = publish(market, wallet, wallet_signature(market, wallet))
    assert_published(market, receipt, *TERMS[:3], 1, tutor=wallet)


@pytest.mark.parametrize("instant", [True, False])
@pytest.mark.parametrize("rate", [1, RATE, 2**96 - 1])
def test_a_tutor_publishes(market: Market, rate: int, instant: bool) -> None:
    receipt = market.publish(rate, listing=OTHER, instant=instant)
    assert_published(market, receipt, OTHER, rate, instant, 1)


def test_anyone_may_become_a_tutor(market: Market) -> None:
    receipt = market.publish(tutor=market.stranger)
    assert_published(market, receipt, LISTING, RATE, False, 1, tutor=market.stranger)
    assert call(market.escrow.listings, market.tutor, LISTING) == (RATE, False, 1)


def test_whoever_has_the_signature_may_send_it(market: Market) -> None:
    receipt = publish(market, market.tutor, sign_listing(market.escrow, market.tutor, *TERMS))
    assert_published(market, receipt, *TERMS[:3], 1)


def test_a_listing_is_published_again(market: Market) -> None:
    terms = [(RATE, False), (RATE, False), (2 * RATE, True), (0, True), (1, False)]
    for nonce, (rate, instant) in enumerate(terms):
        signature = sign_listing(market.escrow, market.tutor, OTHER, rate, instant, nonce)
        receipt = publish(market, market.tutor, signature, (OTHER, rate, instant))
        assert_published(market, receipt, OTHER, rate, instant, nonce + 1)


def test_nonces_are_of_one_listing(market: Market) -> None:
    market.publish(listing=OTHER)
    receipt = market.publish(listing=b"\2" * 32)
    assert_published(market, receipt, b"\2" * 32, RATE, False, 1)
