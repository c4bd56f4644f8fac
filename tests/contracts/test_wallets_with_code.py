"""Accounts with code: contract wallets of every manner (ERC-1271), and delegated accounts (EIP-7702)."""

from collections.abc import Callable
from typing import Any

import pytest
from acts import ALL, FOREVER, act_call, booked, do, done, sign_action
from ape import project
from eth_account.account import Account as Keys
from eth_utils.crypto import keccak
from helpers import (
    Account,
    Actor,
    Contract,
    call,
    calldata,
    deploy,
    key_of,
    mined,
    plain,
    reverts,
    rpc,
    send,
    sign,
)
from market import DEADLINE, NOBODY, RATE, Market, slot

from creneau.order import Order
from creneau.typed_data import listing_typed_data, revoke_typed_data, settle_typed_data

SHARE = 2_500


def wallet_of(market: Market, name: str, *arguments: Any) -> Contract:
    """A wallet of the stranger, which has money and has approved the escrow."""
    wallet = deploy(getattr(project, name), market.stranger, *arguments, sender=market.deployer)
    market.mint(wallet, 100 * RATE)
    execute(market, wallet, market.token, calldata(market.token.approve, market.escrow, 100 * RATE))
    return wallet


def execute(market: Market, wallet: Contract, target: Actor, data: bytes) -> Any:
    return send(wallet.execute, target, data, sender=market.stranger)


def book_for(market: Market, wallet: Actor, signature: bytes) -> None:
    """The relayer books two lessons for a wallet that is a student."""
    order = order_of(market, wallet)
    market.assert_booked(market.book(order, signature, sender=market.relayer), order)


def order_of(market: Market, wallet: Actor) -> Order:
    return market.order(slot(0), slot(8), student=plain(wallet))


def digest_of(market: Market, wallet: Actor) -> bytes:
    return order_of(market, wallet).digest(market.domain)


# --- Signatures of any length ---


def test_a_wallet_of_two_owners_takes_130_bytes(market: Market) -> None:
    wallet = wallet_of(market, "PairWallet", market.arbiter)
    order = order_of(market, wallet)
    first, second = market.sign(order, market.stranger), market.sign(order, market.arbiter)
    for signature in (first, second, second + first, first + first, first + second + b"\0", b""):
        with reverts("NotActor", actor=wallet, sender=market.relayer):
            market.book(order, signature, sender=market.relayer)
    book_for(market, wallet, first + second)


@pytest.mark.parametrize("length", [0, 1, 32, 64, 65, 66, 96, 1_000])
def test_a_wallet_gets_all_bytes_of_a_signature(market: Market, length: int) -> None:
    """A wallet that accepts what its owner approved by its hash, whatever bytes it wants beside."""
    wallet = wallet_of(market, "ApprovingWallet")
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        book_for(market, wallet, bytes(length))
    send(wallet.approve, digest_of(market, wallet), length, sender=market.stranger)
    for other in {length + 1, length + 31, max(length - 1, 0), 0} - {length}:
        with reverts("NotActor", actor=wallet, sender=market.relayer):
            book_for(market, wallet, bytes(other))
    book_for(market, wallet, bytes(length))


def test_a_wallet_is_asked_about_65_bytes_that_are_anothers_signature(market: Market) -> None:
    wallet = wallet_of(market, "ApprovingWallet")
    send(wallet.approve, digest_of(market, wallet), 65, sender=market.stranger)
    book_for(market, wallet, market.sign(order_of(market, wallet), market.arbiter))


@pytest.mark.parametrize("length", [0, 130])
def test_every_act_takes_a_signature_of_any_length(market: Market, length: int) -> None:
    """A wallet that teaches, and one that learns: each entry point asks them."""
    student, tutor = wallet_of(market, "ApprovingWallet"), wallet_of(market, "ApprovingWallet")
    empty, escrow, relayer = bytes(length), market.escrow, market.relayer

    def approve(wallet: Contract, typed_data: dict[str, Any]) -> None:
        send(wallet.approve, digest_of_message(typed_data), length, sender=market.stranger)

    listing = (market.order().listing, RATE, False, 0, 0)
    publish = (escrow.publish, tutor, *listing, DEADLINE, empty)
    with reverts("NotActor", actor=tutor, sender=relayer):
        send(*publish, sender=relayer)
    approve(tutor, listing_typed_data(market.domain, tutor.address, *listing, 0, DEADLINE))
    send(*publish, sender=relayer)

    revoked = market.order(student=student.address, tutor=tutor.address, salt=b"\7" * 32)
    revoke = (escrow.revoke, revoked, FOREVER, empty)
    with reverts("NotActor", actor=student, sender=relayer):
        send(*revoke, sender=relayer)
    approve(student, revoke_typed_data(market.domain, revoked.batch_id, FOREVER))
    send(*revoke, sender=relayer)

    order = market.order(slot(0), slot(8), student=student.address, tutor=tutor.address)
    approve(student, order.typed_data(market.domain))
    market.assert_booked(market.book(order, empty, sender=relayer), order)
    settle = (escrow.settle, order, 0b11, SHARE, FOREVER, empty, empty)
    terms = settle_typed_data(market.domain, order.batch_id, 0b11, SHARE, FOREVER)
    for missing, wallet in ((student, student), (tutor, tutor)):
        with reverts("NotActor", actor=missing, sender=relayer):
            send(*settle, sender=relayer)
        approve(wallet, terms)
    send(*settle, sender=relayer)
    assert call(escrow.batches, order.batch_id)[1:] == (0, 0, 0, 0b11, 0)


def digest_of_message(typed_data: dict[str, Any]) -> bytes:
    from eth_account.messages import encode_typed_data

    signable = encode_typed_data(full_message=typed_data)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


# --- Wallets that are dear, greedy or lying ---


def test_a_wallet_may_take_a_million_gas(market: Market) -> None:
    wallet = wallet_of(market, "ExpensiveWallet")
    order = order_of(market, wallet)
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        market.book(order, market.sign(order), sender=market.relayer)
    receipt = market.book(order, market.sign(order, market.stranger), sender=market.relayer)
    market.assert_booked(receipt, order)
    assert receipt.gas_used > 1_000_000


def test_a_wallet_that_burns_its_gas_has_no_signature_and_acts_itself(market: Market) -> None:
    wallet = wallet_of(market, "BurningWallet")
    order = order_of(market, wallet)
    with reverts("NotActor", actor=wallet, sender=market.relayer):
        market.book(order, market.sign(order, market.stranger), sender=market.relayer)
    data = calldata(market.escrow.createBookings, order, b"")
    market.assert_booked(execute(market, wallet, market.escrow, data), order)


@pytest.mark.parametrize("lie", range(4), ids=["short", "dirty", "true", "reverted"])
def test_what_only_looks_like_a_yes_is_none(market: Market, lie: int) -> None:
    wallet = wallet_of(market, "LyingWallet", lie)
    order = order_of(market, wallet)
    for signature in (b"", bytes(65), market.sign(order, market.stranger)):
        with reverts("NotActor", actor=wallet, sender=market.relayer):
            market.book(order, signature, sender=market.relayer)
    data = calldata(market.escrow.createBookings, order, b"")
    market.assert_booked(execute(market, wallet, market.escrow, data), order)


def test_a_wallet_pays_for_one_call_alone(market: Market) -> None:
    """`tryMulticall` goes on after a wallet that refuses; after one that burns its gas little is left."""
    refusing, good = wallet_of(market, "RefusingWallet"), booked(market)
    wrong = calldata(market.escrow.createBookings, order_of(market, refusing), b"")
    right = calldata(
        *act_call(
            market,
            "confirm",
            good,
            0b1,
            market.tutor,
            signature=sign_action(market, "confirm", good, 0b1, market.tutor),
        )
    )
    results = call(market.escrow.tryMulticall, [wrong, right], sender=market.relayer)
    assert [success for success, _ in results] == [False, True]


# --- Accounts that delegate to code ---


def delegate(market: Market, account: Account, code: Actor) -> None:
    """The account signs a delegation, which the relayer sends (EIP-7702)."""
    nonce = int(rpc("eth_getTransactionCount", plain(account), "latest"), 16)
    chain_id = market.domain.chain_id
    authorization = {"chainId": chain_id, "address": plain(code), "nonce": nonce}
    transaction = {
        "chainId": chain_id,
        "nonce": int(rpc("eth_getTransactionCount", plain(market.relayer), "latest"), 16),
        "to": plain(market.relayer),
        "value": 0,
        "gas": 200_000,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 0,
        "authorizationList": [Keys.sign_authorization(authorization, key_of(account))],
    }
    signed = Keys.sign_transaction(transaction, key_of(market.relayer))
    mined(rpc("eth_sendRawTransaction", "0x" + signed.raw_transaction.hex().removeprefix("0x")))
    designator = "0x" if code == NOBODY else "0xef0100" + plain(code)[2:].lower()
    assert rpc("eth_getCode", plain(account), "latest") == designator


CODES: dict[str, Callable[[Market], Contract]] = {
    "refuses": lambda market: wallet_of(market, "RefusingWallet"),
    "burns": lambda market: wallet_of(market, "BurningWallet"),
    "lies": lambda market: wallet_of(market, "LyingWallet", 0),
    "asks another": lambda market: wallet_of(market, "Wallet1271"),
    "has no wallet": lambda market: market.token,
}


@pytest.mark.parametrize("code", CODES)
def test_a_delegated_accounts_own_signature_counts(market: Market, code: str) -> None:
    """The key decides, whatever the code says, and the code is not asked."""
    order = market.order(slot(0), slot(8))
    delegate(market, market.student, CODES[code](market))
    delegate(market, market.tutor, CODES[code](market))
    receipt = market.book(order, market.sign(order), sender=market.relayer)
    market.assert_booked(receipt, order)
    assert receipt.gas_used < 200_000
    for act, by in (("confirm", market.tutor), ("cancel", market.student)):
        with reverts("NotActor", actor=by, sender=market.relayer):
            signature = sign_action(market, act, order, 0b10, by)
            do(market, act, order, 0b1, by, signature=signature, sender=market.relayer)
        signature = sign_action(market, act, order, 0b1, by)
        done(market, act, order, 0b1, by, signature=signature, sender=market.relayer)


def test_a_delegated_account_may_be_signed_for_by_its_code(market: Market) -> None:
    order = market.order(slot(0), slot(8))
    others = market.sign(order, market.stranger)
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        market.book(order, others, sender=market.relayer)
    delegate(market, market.student, wallet_of(market, "Wallet1271"))
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        market.book(order, market.sign(order, market.arbiter), sender=market.relayer)
    market.assert_booked(market.book(order, others, sender=market.relayer), order)


def test_a_delegation_that_ended_signs_for_nobody(market: Market) -> None:
    order = market.order(slot(0), slot(8))
    delegate(market, market.student, wallet_of(market, "Wallet1271"))
    delegate(market, market.student, NOBODY)
    with reverts("NotActor", actor=market.student, sender=market.relayer):
        market.book(order, market.sign(order, market.stranger), sender=market.relayer)
    market.assert_booked(market.book(order, market.sign(order), sender=market.relayer), order)


def test_a_delegated_account_is_paid_like_any(market: Market) -> None:
    order = booked(market)
    delegate(market, market.tutor, wallet_of(market, "RefusingWallet"))
    done(market, "complete", order, ALL, market.student)
    assert market.balance(market.tutor) == 3 * RATE


def test_a_signature_of_another_key_is_not_a_delegated_accounts(market: Market) -> None:
    order = market.order(slot(0))
    delegate(market, market.student, CODES["lies"](market))
    for signature in (b"", bytes(65), sign(market.stranger, order.typed_data(market.domain))):
        with reverts("NotActor", actor=market.student, sender=market.relayer):
            market.book(order, signature, sender=market.relayer)
    market.assert_booked(market.book(order, market.sign(order), sender=market.relayer), order)
