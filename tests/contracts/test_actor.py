"""Booking for a student: by the student, a key or a contract, and by whoever has their signature."""

from collections.abc import Callable
from copy import deepcopy

import pytest
from ape import project
from eth_account.account import Account as Keys
from eth_account.messages import encode_defunct
from helpers import Contract, calldata, deploy, key_of, reverts, send, sign
from market import (
    NOBODY,
    TAMPERED,
    Market,
    slot,
)

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


# --- Who ---


@pytest.mark.parametrize("role", ["tutor", "relayer", "arbiter", "deployer"])
def test_nobody_books_for_a_student_without_his_signature(market: Market, role: str) -> None:
    sender = getattr(market, role)
    with reverts("NotActor", actor=market.student, sender=sender):
        market.book(market.order(), sender=sender)


@pytest.mark.parametrize("role", ["tutor", "relayer", "arbiter", "deployer"])
def test_anothers_signature_is_not_the_students(market: Market, role: str) -> None:
    order = market.order()
    signature = market.sign(order, getattr(market, role))
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        market.book(order, signature, sender=market.relayer)


@pytest.mark.parametrize("field", TAMPERED)
def test_a_signature_covers_every_field(market: Market, field: str) -> None:
    order = market.order(slot(0), slot(8))
    signature = market.sign(order)
    tampered = order.model_copy(update=TAMPERED[field](order))
    with reverts("NotActor", actor=tampered.student, sender=market.relayer):
        market.book(tampered, signature, sender=market.relayer)
    market.assert_booked(market.book(order, signature, sender=market.relayer), order)


DOMAINS = {"name": "Creneaux", "version": "2", "chainId": 1, "verifyingContract": NOBODY}


@pytest.mark.parametrize("field", DOMAINS)
def test_a_signature_is_for_this_contract_on_this_chain(market: Market, field: str) -> None:
    order = market.order()
    typed_data = deepcopy(order.typed_data(market.domain))
    typed_data["domain"][field] = DOMAINS[field]
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        market.book(order, sign(market.student, typed_data), sender=market.relayer)


def malleable(signature: bytes) -> bytes:
    s = CURVE_ORDER - int.from_bytes(signature[32:64])
    return signature[:32] + s.to_bytes(32) + bytes([55 - signature[64]])


def compact(signature: bytes) -> bytes:
    """The 64 bytes of ERC-2098."""
    s = int.from_bytes(signature[32:64]) | (signature[64] - 27) << 255
    return signature[:32] + s.to_bytes(32)


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "one byte": lambda signature: signature[:1],
    "without v": lambda signature: signature[:64],
    "a byte too long": lambda signature: signature + b"\0",
    "twice": lambda signature: signature * 2,
    "v of 0 or 1": lambda signature: signature[:64] + bytes([signature[64] - 27]),
    "other v": lambda signature: signature[:64] + bytes([55 - signature[64]]),
    "v of 29": lambda signature: signature[:64] + bytes([29]),
    "zeros": lambda _: bytes(65),
    "ones": lambda _: b"\xff" * 65,
    "garbage": lambda _: b"garbage" * 9 + b"!!",
    "malleable": malleable,
    "compact": compact,
}


@pytest.mark.parametrize("form", MALFORMED)
def test_a_signature_has_one_form(market: Market, form: str) -> None:
    order = market.order()
    signature = market.sign(order)
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        market.book(order, MALFORMED[form](signature), sender=market.relayer)
    market.assert_booked(market.book(order, signature, sender=market.relayer), order)


def test_the_typed_data_are_signed_and_no_other_message(market: Market) -> None:
    order = market.order()
    messages = [
        Keys.sign_message(encode_defunct(order.digest(market.domain)), key_of(market.student)),
        Keys.unsafe_sign_hash(order.batch_id, key_of(market.student)),
    ]
    for message in messages:
        with reverts("NotActor", actor=market.student, sender=market.relayer):
            market.book(order, bytes(message.signature), sender=market.relayer)


@pytest.mark.parametrize("signature", [b"", bytes(65), b"\xff" * 65, b"\1" * 64 + b"\x1b"])
def test_nobody_has_no_signature(market: Market, signature: bytes) -> None:
    with reverts("NotActor", actor=NOBODY, sender=market.relayer):
        market.book(market.order(student=NOBODY), signature, sender=market.relayer)


@pytest.mark.parametrize("signature", [b"", b"garbage"])
def test_the_student_needs_no_signature(market: Market, signature: bytes) -> None:
    order = market.order()
    market.assert_booked(market.book(order, signature), order)


@pytest.mark.parametrize("role", ["tutor", "relayer", "arbiter", "deployer"])
def test_whoever_has_the_signature_may_send_it(market: Market, role: str) -> None:
    order = market.order()
    market.assert_booked(market.book(order, market.sign(order), sender=getattr(market, role)), order)


# --- Wallets that are contracts ---


@pytest.fixture
def wallet(market: Market) -> Contract:
    """The stranger's wallet, which has 100 EDU and has approved the escrow."""
    wallet = deploy(project.Wallet1271, market.stranger, sender=market.deployer)
    market.mint(wallet, 100 * 10**18)
    approval = calldata(market.token.approve, market.escrow, 100 * 10**18)
    send(wallet.execute, market.token, approval, sender=market.stranger)
    return wallet


def test_a_wallet_refuses_others_signatures(market: Market, wallet: Contract) -> None:
    order = market.order(student=wallet.address)
    for signature in (b"", b"garbage", market.sign(order)):
        with reverts("NotActor", actor=wallet, sender=market.relayer):
            market.book(order, signature, sender=market.relayer)


def test_a_contract_that_the_student_calls_is_not_the_student(market: Market) -> None:
    contract = deploy(project.Wallet1271, market.student, sender=market.deployer)
    data = calldata(market.escrow.createBookings, market.order(), b"")
    with reverts("NotActor", actor=market.student, sender=contract):
        send(contract.execute, market.escrow, data, sender=market.student)
    market.assert_booked(market.book(market.order()), market.order())


def test_a_wallets_owner_is_not_the_wallet(market: Market, wallet: Contract) -> None:
    with reverts("NotActor", actor=wallet, sender=market.stranger):
        market.book(market.order(student=wallet.address), sender=market.stranger)


def test_a_wallet_that_refuses_its_owner_is_believed(market: Market) -> None:
    wallet = deploy(project.RefusingWallet, market.stranger, sender=market.deployer)
    order = market.order(student=wallet.address)
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        market.book(order, market.sign(order, market.stranger), sender=market.relayer)


def test_a_contract_that_is_no_wallet_has_no_signature(market: Market) -> None:
    order = market.order(student=market.token.address)
    with reverts("NotActor", actor=market.token, sender=market.relayer):
        market.book(order, market.sign(order, market.stranger), sender=market.relayer)


def test_a_wallet_accepts_its_owners_signature(market: Market, wallet: Contract) -> None:
    order = market.order(student=wallet.address)
    signature = market.sign(order, market.stranger)
    market.assert_booked(market.book(order, signature, sender=market.relayer), order)


def test_a_wallet_books_for_itself(market: Market, wallet: Contract) -> None:
    order = market.order(student=wallet.address)
    data = calldata(market.escrow.createBookings, order, b"")
    market.assert_booked(send(wallet.execute, market.escrow, data, sender=market.stranger), order)
