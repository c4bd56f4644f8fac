"""`publish`: whose listing it is, what a signature of it covers, and what it leaves."""

from copy import deepcopy
from typing import Any

import pytest
from acts import undone
from ape import project
from helpers import Contract, Receipt, call, deploy, event, reverts, send, sign, sign_listing
from market import DEADLINE, LISTING, NOBODY, NOW, RATE, Market

from creneau.typed_data import listing_typed_data

OTHER = b"\1" * 32
MONTH = 30 * 24 * 60 * 60
TERMS = (OTHER, RATE, True, 3_600, MONTH)
"""Listing, rate, instant, notice and horizon, of a listing that nobody has published yet."""


def publish(
    market: Market,
    tutor: Any,
    signature: bytes,
    terms: tuple[Any, ...] = TERMS,
    *,
    deadline: int = DEADLINE,
    at: int | None = None,
) -> Receipt:
    """The relayer publishes for a tutor."""
    return send(market.escrow.publish, tutor, *terms, deadline, signature, sender=market.relayer, at=at)


def signed(
    market: Market,
    terms: tuple[Any, ...] = TERMS,
    nonce: int = 0,
    *,
    by: Any = None,
    deadline: int = DEADLINE,
) -> bytes:
    """The tutor's signature of a listing, or another's of their own."""
    return sign_listing(market.escrow, by or market.tutor, *terms, nonce, deadline)


def assert_published(
    market: Market, receipt: Receipt, terms: tuple[Any, ...], nonce: int, *, tutor: Any = None
) -> None:
    """Checks what a publication leaves; the nonce is the one after it."""
    tutor = tutor or market.tutor
    names = ("listing", "hourlyRate", "instant", "minNotice", "horizon")
    named = dict(zip(names, terms, strict=True)) | {"nonce": nonce}
    assert receipt.events == [event(market.escrow, "ListingPublished", tutor=tutor, **named)]
    assert call(market.escrow.listings, tutor, terms[0]) == (*terms[1:], nonce)


# --- Failures ---


@pytest.mark.parametrize("role", ["student", "relayer", "arbiter", "deployer"])
def test_nobody_publishes_for_a_tutor_without_their_signature(market: Market, role: str) -> None:
    sender = getattr(market, role)
    for signature in (b"", signed(market, by=sender)):
        with reverts("NotActor", actor=market.tutor, sender=sender):
            send(market.escrow.publish, market.tutor, *TERMS, DEADLINE, signature, sender=sender)


CHANGES: dict[str, dict[int, Any]] = {
    "listing": {0: LISTING},
    "rate": {1: RATE + 1},
    "withdrawn": {1: 0},
    "instant": {2: False},
    "notice": {3: 3_599},
    "no notice": {3: 0},
    "horizon": {4: MONTH - 1},
    "no horizon": {4: 0},
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_signature_covers_every_term(market: Market, changed: str) -> None:
    signature = signed(market)
    terms = tuple(CHANGES[changed].get(place, term) for place, term in enumerate(TERMS))
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature, terms)
    assert_published(market, publish(market, market.tutor, signature), TERMS, 1)


def test_a_signature_covers_its_deadline(market: Market) -> None:
    signature = signed(market)
    for deadline in (DEADLINE - 1, DEADLINE + 1, 2**40 - 1):
        with reverts("NotActor", actor=market.tutor, sender=market.relayer):
            publish(market, market.tutor, signature, deadline=deadline)
    assert_published(market, publish(market, market.tutor, signature), TERMS, 1)


def test_a_signature_counts_until_its_deadline(market: Market) -> None:
    until = NOW + 600
    signature = signed(market, deadline=until)
    with undone(), reverts("SignatureExpired", deadline=until, timestamp=until + 1):
        publish(market, market.tutor, signature, deadline=until, at=until + 1)
    receipt = publish(market, market.tutor, signature, deadline=until, at=until)
    assert_published(market, receipt, TERMS, 1)


def test_a_listing_that_was_signed_and_never_sent_is_not_published_later(market: Market) -> None:
    signature = signed(market)
    at = NOW + 300 * 24 * 60 * 60
    with reverts("SignatureExpired", deadline=DEADLINE, timestamp=at):
        publish(market, market.tutor, signature, at=at)


def test_a_signature_is_for_one_tutor(market: Market) -> None:
    signature = signed(market)
    for tutor in (market.stranger, NOBODY):
        with reverts("NotActor", actor=tutor, sender=market.relayer):
            publish(market, tutor, signature)


@pytest.mark.parametrize("nonce", [1, 2, 2**64 - 1])
def test_a_signature_carries_the_next_nonce(market: Market, nonce: int) -> None:
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signed(market, nonce=nonce))


def test_a_signature_is_used_once(market: Market) -> None:
    signature = signed(market)
    publish(market, market.tutor, signature)
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature)


def test_a_publication_by_the_tutor_cancels_what_they_had_signed(market: Market) -> None:
    signature = signed(market)
    market.publish(2 * RATE, listing=OTHER)
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, signature)
    assert call(market.escrow.listings, market.tutor, OTHER) == (2 * RATE, False, 0, 0, 1)


DOMAINS = {"name": "Creneaux", "version": "2", "chainId": 1, "verifyingContract": NOBODY}


@pytest.mark.parametrize("field", DOMAINS)
def test_a_signature_is_for_this_contract_on_this_chain(market: Market, field: str) -> None:
    typed_data = deepcopy(listing_typed_data(market.domain, market.tutor.address, *TERMS, 0, DEADLINE))
    typed_data["domain"][field] = DOMAINS[field]
    with reverts("NotActor", actor=market.tutor, sender=market.relayer):
        publish(market, market.tutor, sign(market.tutor, typed_data))


@pytest.mark.parametrize("signature", [b"", bytes(65), b"\xff" * 65, b"\1" * 64 + b"\x1b"])
def test_nobody_has_no_listing(market: Market, signature: bytes) -> None:
    with reverts("NotActor", actor=NOBODY, sender=market.relayer):
        publish(market, NOBODY, signature)


def wallet_signature(market: Market, wallet: Contract) -> bytes:
    return sign(market.stranger, listing_typed_data(market.domain, wallet.address, *TERMS, 0, DEADLINE))


def test_a_wallet_may_refuse(market: Market) -> None:
    wallet = deploy(project.RefusingWallet, market.stranger, sender=market.deployer)
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        publish(market, wallet, wallet_signature(market, wallet))


# --- Successes ---


def test_a_wallet_may_accept(market: Market) -> None:
    wallet = deploy(project.Wallet1271, market.stranger, sender=market.deployer)
    receipt = publish(market, wallet, wallet_signature(market, wallet))
    assert_published(market, receipt, TERMS, 1, tutor=wallet)


@pytest.mark.parametrize("instant", [True, False])
@pytest.mark.parametrize("rate", [1, RATE, 2**96 - 1])
def test_a_tutor_publishes(market: Market, rate: int, instant: bool) -> None:
    receipt = market.publish(rate, listing=OTHER, instant=instant)
    assert_published(market, receipt, (OTHER, rate, instant, 0, 0), 1)


@pytest.mark.parametrize(("notice", "horizon"), [(0, 1), (1, 0), (2**32 - 1, 1), (1, 2**32 - 1)])
def test_a_tutor_sets_notice_and_horizon(market: Market, notice: int, horizon: int) -> None:
    receipt = market.publish(listing=OTHER, notice=notice, horizon=horizon)
    assert_published(market, receipt, (OTHER, RATE, False, notice, horizon), 1)


def test_anyone_may_become_a_tutor(market: Market) -> None:
    receipt = market.publish(tutor=market.stranger)
    assert_published(market, receipt, (LISTING, RATE, False, 0, 0), 1, tutor=market.stranger)
    assert call(market.escrow.listings, market.tutor, LISTING) == (RATE, False, 0, 0, 1)


def test_whoever_has_the_signature_may_send_it(market: Market) -> None:
    assert_published(market, publish(market, market.tutor, signed(market)), TERMS, 1)


def test_a_listing_is_published_again(market: Market) -> None:
    terms = [
        (RATE, False, 0, 0),
        (RATE, False, 0, 0),
        (2 * RATE, True, 60, MONTH),
        (0, True, 60, 0),
        (1, False, 0, 9),
    ]
    for nonce, others in enumerate(terms):
        of_listing = (OTHER, *others)
        receipt = publish(market, market.tutor, signed(market, of_listing, nonce), of_listing)
        assert_published(market, receipt, of_listing, nonce + 1)


def test_nonces_are_of_one_listing(market: Market) -> None:
    market.publish(listing=OTHER)
    receipt = market.publish(listing=b"\2" * 32)
    assert_published(market, receipt, (b"\2" * 32, RATE, False, 0, 0), 1)
