"""Linking a wallet: one signature of that wallet, over the message that was issued, once."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ape
import httpx
import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from hexbytes import HexBytes
from scenario import EDU, Scenario, slot
from sqlalchemy import func, select, update
from waiting import until

from api.chain.signers import MnemonicCustodian
from api.db.tables import bookings, challenges, now, users
from api.people.directory import User
from api.schemas import responses as models
from api.settings import DEVELOPMENT_CUSTODY, Settings
from creneau.types import to_hex
from tools.dev_stack import DevStack

WALLET = "/api/blockchain/wallet"


@pytest.fixture
def user(stack: DevStack) -> User:
    """A student whose account is kept for them, with 100 EDU in it."""
    return stack.create_user("student", balance=100)


@pytest.fixture
def key() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def challenge(client: httpx.Client, address: str) -> str:
    answer = client.post(f"{WALLET}/challenge", json={"address": address})
    assert answer.status_code == 200
    models.ChallengeAnswer.model_validate(answer.json())
    return str(answer.json()["data"]["message"])


def sign(key: LocalAccount, message: str) -> str:
    return to_hex(key.sign_message(encode_defunct(text=message)).signature)


def put(client: httpx.Client, message: str, signature: str) -> httpx.Response:
    return client.put(WALLET, json={"message": message, "signature": signature})


def link(client: httpx.Client, key: LocalAccount, address: str | None = None) -> httpx.Response:
    message = challenge(client, address or key.address)
    return put(client, message, sign(key, message))


def assert_refused(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    body = answer.json()
    models.Problem.model_validate(body)
    assert (answer.status_code, body["code"]) == (status, code)
    if field:
        assert body["errors"][0]["field"] == field


def database(stack: DevStack) -> Any:
    return stack.directory._store


def test_the_message_is_that_of_eip_4361(stack: DevStack, user: User, key: LocalAccount) -> None:
    client = stack.client(user.id)
    answer = client.post(f"{WALLET}/challenge", json={"address": key.address.lower()}).json()["data"]
    lines = answer["message"].split("\n")
    assert lines[0] == f"127.0.0.1:{stack.port} wants you to sign in with your Ethereum account:"
    assert lines[1:5] == [key.address, "", f"Link this wallet to the account {user.id} of Creneau.", ""]
    assert lines[5:8] == [f"URI: http://127.0.0.1:{stack.port}", "Version: 1", "Chain ID: 31337"]
    assert lines[8] == f"Nonce: {answer['nonce']}"
    assert lines[9].startswith("Issued At: ")
    assert lines[10:] == [f"Expiration Time: {answer['expiresAt']}"]
    public = Settings(_env_file=None, public_origin="https://lessons.example")  # type: ignore[arg-type]
    assert public.origin == "https://lessons.example"


def test_link_book_and_go_back(scenario: Scenario, key: LocalAccount) -> None:
    client, former = scenario.client, scenario.student.wallet
    assert client.get(WALLET).json()["data"] == {"address": former, "custodial": True}
    assert scenario.book(slot("09:00")).status_code == 200
    linked = link(client, key)
    assert linked.status_code == 200
    models.WalletAnswer.model_validate(linked.json())
    assert linked.json()["data"] == {"address": key.address, "custodial": False}
    assert scenario.book(slot("10:00")).json()["code"] == "signature_required"
    back = client.delete(WALLET)
    assert back.json()["data"] == {"address": former, "custodial": True}
    assert client.delete(WALLET).json() == back.json()
    assert scenario.book(slot("10:00")).status_code == 200  # With the money that was there all the time.
    assert scenario.balance() == 930 * EDU


def test_former_lessons_stay_his(scenario: Scenario, key: LocalAccount) -> None:
    """Earlier lessons are listed, and the account that is kept for the student still signs for them."""
    client, mine = scenario.client, f"/api/blockchain/booking/user/{scenario.student.id}"
    [booking] = scenario.book(slot("09:00")).json()["data"]["bookings"]
    until(lambda: client.get(mine).json()["data"])  # The follower has read it.
    assert link(client, key).status_code == 200
    assert [each["id"] for each in client.get(mine).json()["data"]] == [booking["id"]]
    cancelled = client.patch(f"/api/blockchain/booking/{booking['blockchainTransactionId']}/cancel")
    assert cancelled.status_code == 200
    assert scenario.balance() == 1000 * EDU  # In the former account, where it came from.


def test_a_contract_wallet_signs_by_erc_1271(stack: DevStack, user: User, key: LocalAccount) -> None:
    code = HexBytes(ape.project.get_contract("Wallet1271").contract_type.deployment_bytecode.bytecode)
    sent = {"from": stack.owner.address, "data": to_hex(code + encode(["address"], [key.address]))}
    receipt = stack.web3.eth.wait_for_transaction_receipt(stack.rpc("eth_sendTransaction", sent))
    client, address = stack.client(user.id), str(receipt["contractAddress"])
    assert_refused(link(client, Account.create(), address), 409, "wrong_signer", "signature")
    assert link(client, key, address).json()["data"] == {"address": address, "custodial": False}


def test_another_wallet_in_place_of_the_first(stack: DevStack, user: User, key: LocalAccount) -> None:
    client, other = stack.client(user.id), Account.create()
    assert link(client, key).status_code == 200
    assert link(client, key).status_code == 200  # Once more is fine.
    assert link(client, other).json()["data"]["address"] == other.address
    assert link(stack.client(stack.create_user("student").id), key).status_code == 200  # It is free again.


def test_a_wallet_belongs_to_one_user(stack: DevStack, user: User, key: LocalAccount) -> None:
    clients = [stack.client(stack.create_user("student").id) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda client: link(client, key), clients))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert {answer.json()["code"] for answer in answers if answer.status_code == 409} == {"wallet_taken"}
    client = stack.client(user.id)
    assert_refused(link(client, key), 409, "wallet_taken")
    assert client.get(WALLET).json()["data"]["custodial"]


def test_a_message_links_once(stack: DevStack, user: User, key: LocalAccount) -> None:
    client = stack.client(user.id)
    message = challenge(client, key.address)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: put(client, message, sign(key, message)), range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 9
    assert_refused(put(client, message, sign(key, message)), 409, "no_challenge")
    challenge(client, key.address)
    assert_refused(put(client, message, sign(key, message)), 409, "wrong_nonce", "message")


def test_a_message_expires(stack: DevStack, user: User, key: LocalAccount) -> None:
    client = stack.client(user.id)
    message = challenge(client, key.address)
    with database(stack).write() as db:
        db.execute(update(challenges).where(challenges.c.user_id == user.id).values(expires_at=now()))
    assert_refused(put(client, message, sign(key, message)), 409, "challenge_expired")
    assert link(client, key).status_code == 200


def test_a_message_is_its_users_own(stack: DevStack, user: User, key: LocalAccount) -> None:
    message = challenge(stack.client(user.id), key.address)
    thief = stack.client(stack.create_user("student").id)
    assert_refused(put(thief, message, sign(key, message)), 409, "no_challenge")
    challenge(thief, key.address)
    assert_refused(put(thief, message, sign(key, message)), 409, "wrong_message", "message")


def test_what_is_signed_is_what_was_issued(stack: DevStack, user: User, key: LocalAccount) -> None:
    client = stack.client(user.id)
    message = challenge(client, key.address)
    stranger = Account.create()
    lines = message.split("\n")
    for old, new, code in (
        (lines[0], lines[0].replace("127.0.0.1", "evil.example"), "wrong_domain"),
        (key.address, stranger.address, "wrong_address"),
        (user.id, str(uuid.uuid4()), "wrong_message"),
        ("Version: 1", "Version: 2", "wrong_message"),
        ("31337", "1", "wrong_message"),
        (lines[8], "Nonce: " + "0" * 32, "wrong_nonce"),
        (lines[10], lines[10].replace("20", "21", 1), "wrong_message"),
        (lines[10], lines[10] + "\nRequest ID: 1", "wrong_message"),
        (message, "", "wrong_domain"),
        (message, message + "\n", "wrong_message"),
    ):
        changed = message.replace(old, new)
        for signer in (key, stranger):
            assert_refused(put(client, changed, sign(signer, changed)), 409, code, "message")
    for signature in (sign(stranger, message), sign(key, message + " "), "0x" + "00" * 65, "0x00"):
        assert_refused(put(client, message, signature), 409, "wrong_signer", "signature")
    assert put(client, message, sign(key, message)).status_code == 200


@pytest.mark.parametrize("body", [{}, {"address": "0x12"}, {"address": 1}, {"address": None}, []])
def test_an_address_is_one(stack: DevStack, user: User, body: object) -> None:
    answer = stack.client(user.id).post(f"{WALLET}/challenge", json=body)
    assert_refused(answer, 422, "invalid_request")


def test_nobody_has_no_wallet(stack: DevStack, key: LocalAccount) -> None:
    nobody, unknown = stack.client(), stack.client("nobody-known")
    body = {"address": key.address}
    for client, status, code in ((nobody, 401, "token_missing"), (unknown, 403, "unknown_user")):
        assert_refused(client.get(WALLET), status, code)
        assert_refused(client.post(f"{WALLET}/challenge", json=body), status, code)
        assert_refused(put(client, "x", "0x00"), status, code)
        assert_refused(client.delete(WALLET), status, code)


def test_a_tutor_with_lessons_ahead_stays(stack: DevStack, scenario: Scenario, key: LocalAccount) -> None:
    """A new account has an empty calendar: lessons still to be given could be booked twice."""
    assert scenario.book(slot("09:00")).status_code == 200
    until(lambda: _ahead(stack, scenario.tutor))  # The follower has read it.
    client = stack.client(scenario.tutor.id)
    assert_refused(link(client, key), 409, "lessons_ahead")
    with database(stack).write() as db:
        mine = bookings.c.tutor == scenario.tutor.wallet
        db.execute(update(bookings).where(mine).values(status="CANCELLED"))
    assert link(client, key).status_code == 200


def _ahead(stack: DevStack, tutor: User) -> int:
    with database(stack).read() as db:
        return (
            db.scalar(select(func.count()).select_from(bookings).where(bookings.c.tutor == tutor.wallet)) or 0
        )


def test_who_never_had_a_kept_account_gets_one(stack: DevStack) -> None:
    own = stack.create_user("student", wallet=Account.create().address)
    answer = stack.client(own.id).delete(WALLET).json()["data"]
    assert answer["custodial"]
    with database(stack).read() as db:
        row = db.execute(select(users).where(users.c.id == own.id)).one()
    assert row.custodial_account == row.kept_account
    assert answer["address"] == row.wallet != own.wallet
    assert row.kept_account == MnemonicCustodian(DEVELOPMENT_CUSTODY).account_of(own.id)
