"""Own wallets: prepare, sign, submit. The chain books exactly what was shown and signed, or nothing."""

import itertools
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import ape
import httpx
import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak
from hexbytes import HexBytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scenario import BATCH, DAY, EDU, Scenario, failures, paused, slot, watching
from sqlalchemy import func, select, update
from waiting import until

from api.booking.wallet import WalletBookings
from api.chain import signatures
from api.chain.escrow import ChainSnapshot
from api.chain.rpc import Head
from api.db import prepared
from api.db.tables import annonces, batches, now, prepared_batches, transactions, users
from api.errors import Problem
from api.schemas import responses as models
from creneau import abi
from creneau.abi import decode
from creneau.booking import Listing
from creneau.order import Order, SlotCode
from creneau.typed_data import Domain
from creneau.types import to_hex
from tools.dev_stack import DevStack

PREPARE = f"{BATCH}/prepare"
PARIS = ZoneInfo("Europe/Paris")


@dataclass
class Wallet(Scenario):
    """A student with a wallet of their own."""

    key: LocalAccount = field(default_factory=Account.create)

    @classmethod
    def new(cls, stack: DevStack, *, balance: Decimal | int = 1000, contract: str = "") -> "Wallet":
        key = Account.create()
        address = deploy(stack, contract, key.address) if contract else key.address
        student = stack.create_user("student", wallet=address, balance=balance)
        tutor = stack.create_user("tutor")
        return cls(stack, student, tutor, stack.create_annonce(tutor), key)

    def prepare(self, *slots: dict[str, Any], key: str | None = None, **more: Any) -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        return self.post(self.body(*slots, **more), path=PREPARE, headers=headers)

    def sign(self, typed_data: Any) -> str:
        return to_hex(Account.sign_typed_data(self.key.key, full_message=typed_data).signature)

    def signatures(self, data: dict[str, Any]) -> dict[str, str]:
        signed = {"signature": self.sign(data["order"])}
        return signed | ({"permitSignature": self.sign(data["permit"])} if data["permit"] else {})

    def submit(self, batch_id: str, **signed: Any) -> httpx.Response:
        return self.client.post(f"{BATCH}/{batch_id}/submit", json=signed)

    def sign_and_submit(self, answer: httpx.Response) -> httpx.Response:
        data = answer.json()["data"]
        return self.submit(data["batchId"], **self.signatures(data))


def deploy(stack: DevStack, name: str, owner: str) -> str:
    code = HexBytes(ape.project.get_contract(name).contract_type.deployment_bytecode.bytecode)
    sent = {"from": stack.owner.address, "data": to_hex(code + encode(["address"], [owner]))}
    receipt = stack.web3.eth.wait_for_transaction_receipt(
        stack.rpc("eth_sendTransaction", sent), poll_latency=0.01
    )
    assert receipt["contractAddress"]
    return str(receipt["contractAddress"])


def approve(wallet: Wallet, wei: int) -> None:
    """The wallet lets the escrow take so much, as its owner does without the shim."""
    stack, owner = wallet.stack, wallet.key.address
    stack.rpc("anvil_setBalance", owner, hex(10**18))
    stack.rpc("anvil_impersonateAccount", owner)
    data = abi.approve_data(stack.escrow, wei)
    if owner == wallet.student.wallet:
        stack.send(owner, stack.edu, data)
    else:
        call = keccak(text="execute(address,bytes)")[:4] + encode(["address", "bytes"], [stack.edu, data])
        stack.send(owner, wallet.student.wallet, call)


def allowance(wallet: Wallet) -> int:
    return wallet.stack._token_view("allowance", wallet.student.wallet, wallet.stack.escrow)


@pytest.fixture
def wallet(stack: DevStack) -> Wallet:
    """With 1,000 EDU, of which the contract may take nothing yet, at an annonce of 35 EDU an hour."""
    return Wallet.new(stack)


# --- The way ---


def test_prepare_sign_submit(stack: DevStack, wallet: Wallet) -> None:
    with watching(stack) as before:
        answer = wallet.prepare(slot("09:00"), slot("09:10"), slot("11:00", 52.5, 90))
    assert answer.status_code == 200
    body = answer.json()
    models.PreparedAnswer.model_validate(body)
    data = body["data"]
    assert body["message"] == "Sign to book for 87.5 EDU. Nothing is booked yet."
    assert (data["count"], data["failedCount"], failures(answer)) == (2, 1, [(2, "misaligned")])
    assert (data["totalAmount"], data["totalAmountWei"]) == (87.5, str(875 * EDU // 10))
    assert data["permit"]["message"]["value"] == data["totalAmountWei"]
    assert before.transactions == []
    with watching(stack) as seen:
        booked = wallet.sign_and_submit(answer)
    assert booked.status_code == 200
    models.BatchAnswer.model_validate(booked.json())
    result = booked.json()["data"]
    assert result["batchId"] == data["batchId"]
    assert (result["count"], failures(booked)) == (2, [(2, "misaligned")])
    assert len(seen.transactions) == 1
    assert seen.sent_by(wallet.student.wallet) == [875 * EDU // 10]
    assert allowance(wallet) == 0  # The permit was exact.
    listing = stack.rpc("eth_getTransactionByHash", result["transactionHash"])["input"]
    assert listing.startswith(to_hex(abi.multicall_data([])[:4]))  # With the custodial tutor's publication.


def test_a_nodes_wallet_takes_the_typed_data_as_it_is(stack: DevStack, wallet: Wallet) -> None:
    student = stack.create_user("student", wallet=stack.account(9).address, balance=100)
    other = Wallet(stack, student, wallet.tutor, wallet.annonce, stack.account(9))
    data = other.prepare(slot("09:00")).json()["data"]
    assert set(data["order"]["types"]) == {"EIP712Domain", "Order", "Slot"}
    signed = [stack.rpc("eth_signTypedData_v4", student.wallet, data[what]) for what in ("order", "permit")]
    assert other.submit(data["batchId"], signature=signed[0], permitSignature=signed[1]).status_code == 200


def test_with_an_allowance_there_is_no_permit(wallet: Wallet) -> None:
    approve(wallet, 35 * EDU)
    enough, short = wallet.prepare(slot("09:00")), wallet.prepare(slot("10:00"), slot("11:00"))
    assert enough.json()["data"]["permit"] is None
    assert short.json()["data"]["permit"]["message"]["value"] == str(70 * EDU)
    assert wallet.sign_and_submit(enough).status_code == 200
    assert (wallet.balance(), allowance(wallet)) == (965 * EDU, 0)


def test_a_contract_wallet_signs_by_erc_1271(stack: DevStack) -> None:
    wallet = Wallet.new(stack, contract="Wallet1271")
    refused = wallet.prepare(slot("09:00"))
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_allowance")
    details = {"neededWei": str(35 * EDU), "availableWei": "0", "token": stack.edu, "spender": stack.escrow}
    assert refused.json().items() >= details.items()
    approve(wallet, 100 * EDU)
    answer = wallet.prepare(slot("09:00"))
    data = answer.json()["data"]
    assert data["permit"] is None
    wrong = Account.sign_typed_data(Account.create().key, full_message=data["order"]).signature
    for signature in (to_hex(wrong), "0x00", "0x" + "ab" * 4096):
        assert_wrong_signer(wallet.submit(data["batchId"], signature=signature))
    assert wallet.sign_and_submit(answer).status_code == 200
    assert wallet.balance() == 965 * EDU


def test_a_contract_wallet_that_has_approved_an_order_on_the_chain_signs_nothing(
    stack: DevStack,
) -> None:
    wallet = Wallet.new(stack, contract="ApprovingWallet")
    approve(wallet, 100 * EDU)
    data = wallet.prepare(slot("09:00")).json()["data"]
    assert_wrong_signer(wallet.submit(data["batchId"], signature="0x"))
    digest = signatures.digest(encode_typed_data(full_message=data["order"]))
    call = keccak(text="approve(bytes32,uint256)")[:4] + encode(["bytes32", "uint256"], [digest, 0])
    stack.send(wallet.key.address, wallet.student.wallet, call)
    assert wallet.submit(data["batchId"], signature="0x").status_code == 200
    assert wallet.balance() == 965 * EDU


def test_a_contract_wallet_that_refuses_is_not_overruled(stack: DevStack) -> None:
    wallet = Wallet.new(stack, contract="RefusingWallet")
    approve(wallet, 100 * EDU)
    assert_wrong_signer(wallet.sign_and_submit(wallet.prepare(slot("09:00"))))


def test_a_delegated_account_is_judged_by_its_code(stack: DevStack) -> None:
    """EIP-7702: its key still signs permits, its code decides about orders."""
    wallet = Wallet.new(stack)
    code = deploy(stack, "Wallet1271", wallet.key.address)  # The owner is an immutable of the code.
    stack.rpc("anvil_setCode", wallet.student.wallet, "0xef0100" + code[2:])
    answer = wallet.prepare(slot("09:00"))
    assert answer.json()["data"]["permit"] is not None
    assert wallet.sign_and_submit(answer).status_code == 200


def test_a_delegated_accounts_own_key_counts_whatever_its_code_says(stack: DevStack) -> None:
    """The contract recovers the signer before it asks the code, so the shim does too."""
    wallet = Wallet.new(stack)
    code = deploy(stack, "RefusingWallet", wallet.key.address)
    stack.rpc("anvil_setCode", wallet.student.wallet, "0xef0100" + code[2:])
    answer = wallet.prepare(slot("09:00"))
    other = Account.sign_typed_data(Account.create().key, full_message=answer.json()["data"]["order"])
    assert_wrong_signer(wallet.submit(answer.json()["data"]["batchId"], signature=to_hex(other.signature)))
    assert wallet.sign_and_submit(answer).status_code == 200


def test_a_wallet_that_is_not_deployed_is_told_so(wallet: Wallet) -> None:
    """ERC-6492 wraps the signature of a wallet without code, and ends it with a mark."""
    data = wallet.prepare(slot("09:00")).json()["data"]
    factory = encode(["address", "bytes", "bytes"], ["0x" + "11" * 20, b"deploy", bytes(65)])
    wrapped = to_hex(factory + bytes.fromhex("6492" * 16))
    good = wallet.signatures(data)
    for name in ("signature", "permitSignature"):
        answer = wallet.submit(data["batchId"], **good | {name: wrapped})
        assert (answer.status_code, answer.json()["code"]) == (409, "wallet_not_deployed")
        assert wallet.student.wallet in answer.json()["message"]
        assert [each["field"] for each in answer.json()["errors"]] == [name]
    assert wallet.submit(data["batchId"], **good).status_code == 200


def test_each_kind_of_account_has_its_own_way(wallet: Wallet, scenario: Scenario) -> None:
    refused = wallet.book(slot("09:00"))
    assert (refused.status_code, refused.json()["code"]) == (409, "signature_required")
    assert PREPARE in refused.json()["message"]
    refused = scenario.post(scenario.body(slot("09:00")), path=PREPARE)
    assert (refused.status_code, refused.json()["code"]) == (409, "custodial_account")
    assert BATCH in refused.json()["message"]


# --- What is refused when it is prepared ---


def test_prepare_checks_what_booking_checks(stack: DevStack, wallet: Wallet) -> None:
    nobody = wallet.prepare(slot("09:10"), slot("09:00", 36))
    assert (nobody.status_code, failures(nobody)) == (409, [(1, "misaligned"), (2, "amount_mismatch")])
    all_or_nothing = wallet.prepare(slot("09:00"), slot("09:30"), allowPartial=False)
    assert (all_or_nothing.status_code, failures(all_or_nothing)) == (409, [(2, "overlap")])
    dear = Wallet.new(stack, balance=34).prepare(slot("09:00"))
    assert (dear.status_code, dear.json()["code"]) == (402, "insufficient_balance")
    assert wallet.prepare(slot("25:00")).status_code == 422
    assert stack.client().post(PREPARE, json={}).status_code == 401
    tutor = stack.create_user("tutor", wallet=Account.create().address)
    annonce = stack.create_annonce(tutor)
    other = Wallet(stack, wallet.student, tutor, annonce, wallet.key)
    assert other.prepare(slot("09:00")).json()["code"] == "not_published"


def test_a_key_is_one_prepared_batch(wallet: Wallet) -> None:
    key = str(uuid.uuid4())
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: wallet.prepare(slot("09:00"), key=key), range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json() == answers[0].json() for answer in answers)
    other = wallet.prepare(slot("10:00"), key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert wallet.prepare(slot("09:00")).json()["data"]["batchId"] != answers[0].json()["data"]["batchId"]
    booked = wallet.sign_and_submit(answers[0])
    assert booked.status_code == 200
    again = wallet.prepare(slot("09:00"), key=key)
    assert (again.status_code, again.json()["code"]) == (409, "already_submitted")
    assert again.json()["batchId"] == booked.json()["data"]["batchId"]


def test_prepare_is_not_able_to_send(stack: DevStack, wallet: Wallet, scenario: Scenario) -> None:
    """A prepared batch has neither a call nor a signature, and is where the relayer never looks."""
    assert not {"call", "publish", "signature", "state"} & set(prepared_batches.c.keys())
    with stack.directory._store.read() as db:
        before = [db.scalar(select(func.count()).select_from(table)) for table in (transactions, batches)]
    with watching(stack) as seen:
        for hour in range(8, 12):
            assert wallet.prepare(slot(f"{hour}:00")).status_code == 200
        assert scenario.book(slot("09:00")).status_code == 200  # The relayer has been at work.
    with stack.directory._store.read() as db:
        after = [db.scalar(select(func.count()).select_from(table)) for table in (transactions, batches)]
    assert [late - early for early, late in zip(before, after, strict=True)] == [1, 1]
    assert len(seen.transactions) == 1


# --- What is refused when it is submitted ---


def assert_wrong_signer(answer: httpx.Response, field: str = "signature") -> None:
    assert (answer.status_code, answer.json()["code"]) == (409, "wrong_signer")
    assert answer.json()["errors"][0]["field"] == field


def test_only_the_students_own_signatures_count(stack: DevStack, wallet: Wallet) -> None:
    answer = wallet.prepare(slot("09:00"))
    data = answer.json()["data"]
    good = wallet.signatures(data)
    tampered = data["order"] | {"message": data["order"]["message"] | {"hourlyRate": "1"}}
    elsewhere = data["order"] | {"domain": data["order"]["domain"] | {"chainId": 1}}
    stranger = Account.sign_typed_data(Account.create().key, full_message=data["order"]).signature
    order, s = bytes.fromhex(good["signature"][2:]), int(good["signature"][66:130], 16)
    n = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    malleable = order[:32] + (n - s).to_bytes(32) + bytes([55 - order[64]])
    short = order[:32] + (s | (order[64] - 27) << 255).to_bytes(32)  # EIP-2098
    wrong = [
        to_hex(each) for each in (stranger, malleable, short, bytes(65), b"\xff" * 65, order[:64] + b"\2")
    ]
    wrong += [wallet.sign(tampered), wallet.sign(elsewhere), good["permitSignature"], "0x00"]
    with watching(stack) as seen:
        for signature in wrong:
            assert_wrong_signer(wallet.submit(data["batchId"], **good | {"signature": signature}))
        stolen = wallet.submit(data["batchId"], **good | {"permitSignature": good["signature"]})
        assert_wrong_signer(stolen, "permitSignature")
    assert seen.transactions == []
    with stack.directory._store.read() as db:
        assert db.scalar(select(func.count()).where(transactions.c.id == data["batchId"])) == 0
    assert wallet.submit(data["batchId"], **good).status_code == 200


def test_a_wallet_that_counts_v_from_zero(wallet: Wallet) -> None:
    data = wallet.prepare(slot("09:00")).json()["data"]
    signed = {
        name: each[:-2] + f"{int(each[-2:], 16) - 27:02x}" for name, each in wallet.signatures(data).items()
    }
    assert wallet.submit(data["batchId"], **signed).status_code == 200


@pytest.mark.parametrize("signature", [None, 1, "", "0x1", "00", "0xzz", "0x" + "00" * 4097, []])
def test_a_signature_is_hex(wallet: Wallet, signature: object) -> None:
    answer = wallet.submit("0x" + "00" * 32, signature=signature)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["field"] == "signature"


def test_another_students_batch_does_not_exist(stack: DevStack, wallet: Wallet) -> None:
    answer = wallet.prepare(slot("09:00"))
    data = answer.json()["data"]
    other = Wallet.new(stack)
    for batch_id in (data["batchId"], "0x" + "00" * 32):
        refused = other.submit(batch_id, **wallet.signatures(data))
        assert (refused.status_code, refused.json()["code"]) == (404, "batch_not_found")
    assert wallet.sign_and_submit(answer).status_code == 200
    assert other.submit(data["batchId"], **wallet.signatures(data)).status_code == 404


def test_what_is_prepared_expires_and_can_be_prepared_again(stack: DevStack, wallet: Wallet) -> None:
    key = str(uuid.uuid4())
    answer = wallet.prepare(slot("09:00"), key=key)
    expire(stack, answer)
    refused = wallet.sign_and_submit(answer)
    assert (refused.status_code, refused.json()["code"]) == (409, "prepared_expired")
    stack.rpc("evm_increaseTime", 1)
    stack.rpc("evm_mine")
    again = wallet.prepare(slot("09:00"), key=key)
    assert again.status_code == 200
    assert wallet.sign_and_submit(again).status_code == 200
    forgotten = wallet.prepare(slot("10:00"))
    expire(stack, forgotten, days=2)
    wallet.prepare(slot("11:00"))
    assert wallet.sign_and_submit(forgotten).json()["code"] == "batch_not_found"


def expire(stack: DevStack, answer: httpx.Response, days: int = 0) -> None:
    with stack.directory._store.write() as db:
        this = update(prepared_batches).where(prepared_batches.c.id == answer.json()["data"]["batchId"])
        db.execute(this.values(expires_at=now() - days * 86_400_000_000))


def test_slots_that_were_taken_meanwhile(stack: DevStack, wallet: Wallet) -> None:
    partial = wallet.prepare(slot("09:00"), slot("10:00"))
    whole = wallet.prepare(slot("10:00"), slot("11:00"), allowPartial=False)
    gone = wallet.prepare(slot("10:00"))
    rival = Scenario(stack, stack.create_user("student", balance=100), wallet.tutor, wallet.annonce)
    assert rival.book(slot("10:00")).status_code == 200
    for prepared_one, expected in ((whole, [(1, "taken")]), (gone, [(1, "taken")])):
        refused = wallet.sign_and_submit(prepared_one)
        assert (refused.status_code, failures(refused)) == (409, expected)
    booked = wallet.sign_and_submit(partial)
    assert (booked.status_code, failures(booked)) == (200, [(2, "taken")])
    assert wallet.balance() == 965 * EDU


def test_an_order_that_was_revoked_is_told_so_and_never_booked(stack: DevStack, wallet: Wallet) -> None:
    """The contract keeps the key of a revoked order, as of one that was created."""
    prepared_one, other = wallet.prepare(slot("09:00")), wallet.prepare(slot("10:00"))
    data = prepared_one.json()["data"]
    with stack.directory._store.read() as db:
        waiting = prepared.prepared(db, data["batchId"])
    assert waiting is not None
    approve(wallet, 35 * EDU)
    stack.send(wallet.student.wallet, stack.escrow, abi.revoke_data(waiting.batch.order))
    refused = wallet.sign_and_submit(prepared_one)
    assert (refused.status_code, refused.json()["code"]) == (409, "refused")
    assert "already created or revoked" in refused.json()["message"]
    again = wallet.sign_and_submit(prepared_one)
    assert (again.status_code, again.json()["code"]) == (409, "refused")
    assert wallet.sign_and_submit(other).status_code == 200
    assert wallet.balance() == 965 * EDU


def test_an_order_with_a_lesson_that_began_meanwhile_is_lost(stack: DevStack, wallet: Wallet) -> None:
    """The contract leaves out what is taken, and nothing else."""
    answer = wallet.prepare(slot("09:00"), slot("10:00"))
    with stack.directory._store.read() as db:
        waiting = prepared.prepared(db, answer.json()["data"]["batchId"])
    assert waiting is not None
    batch = waiting.batch

    def charged(*codes: SlotCode) -> int:
        listing = Listing(Decimal(35), False, timedelta(0), timedelta(0), 1)
        snapshot = ChainSnapshot(Head(1, "", "", 0, 0), [*codes], listing, 0, 0, None)
        return WalletBookings._charged(batch, batch.order, wallet.annonce, snapshot)

    assert charged(SlotCode.OK, SlotCode.OK) == 70 * EDU
    assert charged(SlotCode.TAKEN, SlotCode.OK) == 35 * EDU
    for codes, reason in (
        ((SlotCode.IN_PAST, SlotCode.OK), "in_past"),
        ((SlotCode.TAKEN, SlotCode.TAKEN), "taken"),
        ((SlotCode.OVERLAP, SlotCode.TAKEN), "overlap"),
    ):
        with pytest.raises(Problem, match="Nothing was booked") as refused:
            charged(*codes)
        assert refused.value.code == reason


def test_the_race_for_a_slot_is_decided_by_the_chain(stack: DevStack, wallet: Wallet) -> None:
    """Both are in the outbox before a block has either."""
    rival = Wallet.new(stack)
    rival.tutor, rival.annonce = wallet.tutor, wallet.annonce
    pairs = [(each, each.prepare(slot("09:00"))) for each in (wallet, rival)]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda pair: pair[0].sign_and_submit(pair[1]), pairs))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: 1}
    [lost] = [answer for answer in answers if answer.status_code == 409]
    assert failures(lost) == [(1, "taken")]


def test_a_rate_that_changed_meanwhile_is_told_for_each_lesson(stack: DevStack, wallet: Wallet) -> None:
    answer = wallet.prepare(slot("09:00"), slot("10:00", 17.5, 30))
    change_rate(stack, wallet, 40 * EDU)
    refused = wallet.sign_and_submit(answer)
    assert (refused.status_code, refused.json()["code"]) == (409, "rate_mismatch")
    assert failures(refused) == [(1, "amount_mismatch"), (2, "amount_mismatch")]
    assert refused.json()["failures"][1]["error"] == (
        f"The lesson of {DAY} at 10:00 costs 20 EDU, not 17.5 EDU."
    )
    change_rate(stack, wallet, 35 * EDU)
    assert wallet.sign_and_submit(answer).status_code == 200


def change_rate(stack: DevStack, wallet: Wallet, wei: int) -> None:
    with stack.directory._store.write() as db:
        db.execute(update(annonces).where(annonces.c.id == wallet.annonce.id).values(hourly_rate=wei))


def test_money_that_was_spent_meanwhile(stack: DevStack) -> None:
    wallet = Wallet.new(stack, balance=35)
    first, second = wallet.prepare(slot("09:00")), wallet.prepare(slot("10:00"))
    assert wallet.sign_and_submit(first).status_code == 200
    refused = wallet.sign_and_submit(second)
    assert (refused.status_code, refused.json()["code"]) == (402, "insufficient_balance")


def test_a_party_whose_wallet_changed_meanwhile(stack: DevStack, wallet: Wallet) -> None:
    answer = wallet.prepare(slot("09:00"))
    for user in (wallet.student, wallet.tutor):
        for address, status in ((Account.create().address, 409), (user.wallet, None)):
            with stack.directory._store.write() as db:
                db.execute(update(users).where(users.c.id == user.id).values(wallet=address))
            if status:
                refused = wallet.sign_and_submit(answer)
                assert (refused.status_code, refused.json()["code"]) == (status, "wallet_changed")
    assert wallet.sign_and_submit(answer).status_code == 200


# --- Permits ---


def test_the_permit_can_be_left_out_once_it_is_not_needed(wallet: Wallet) -> None:
    data = wallet.prepare(slot("09:00")).json()["data"]
    order = wallet.signatures(data)["signature"]
    refused = wallet.submit(data["batchId"], signature=order)
    assert (refused.status_code, refused.json()["code"]) == (409, "permit_required")
    assert refused.json()["errors"][0]["field"] == "permitSignature"
    approve(wallet, 35 * EDU)
    assert wallet.submit(data["batchId"], signature=order).status_code == 200


def test_a_permit_serves_one_of_two_batches(wallet: Wallet) -> None:
    """Exact permits of one nonce: the second has to be prepared again, and costs nobody anything."""
    one, two = wallet.prepare(slot("09:00")), wallet.prepare(slot("10:00"))
    assert wallet.sign_and_submit(one).status_code == 200
    refused = wallet.sign_and_submit(two)
    assert (refused.status_code, refused.json()["code"]) == (409, "insufficient_allowance")
    assert "batchId" not in refused.json()  # It did not get as far as the outbox.
    again = wallet.prepare(slot("10:00"))
    assert wallet.sign_and_submit(again).status_code == 200


def test_parallel_permits_of_one_wallet_waste_no_gas(stack: DevStack, wallet: Wallet) -> None:
    assert wallet.sign_and_submit(wallet.prepare(slot("08:00"))).status_code == 200  # Publishes.
    answers = [wallet.prepare(slot(f"{hour}:00")) for hour in range(9, 13)]
    with watching(stack) as seen, ThreadPoolExecutor(4) as pool:
        with paused(stack):
            asked = [pool.submit(wallet.sign_and_submit, answer) for answer in answers]
            until(lambda: count_sends(stack, answers) == 4)
        results = [each.result() for each in asked]
    assert Counter(result.status_code for result in results) == {200: 1, 409: 3}
    refused = {result.json()["code"] for result in results if result.status_code == 409}
    assert refused == {"insufficient_allowance"}
    assert len(seen.transactions) == 1


def count_sends(stack: DevStack, answers: list[httpx.Response]) -> int:
    ids = [answer.json()["data"]["batchId"] for answer in answers]
    with stack.directory._store.read() as db:
        return (
            db.scalar(select(func.count()).select_from(transactions).where(transactions.c.id.in_(ids))) or 0
        )


# --- Once ---


def test_twenty_parallel_submits_are_one_transaction(stack: DevStack, wallet: Wallet) -> None:
    data = wallet.prepare(slot("09:00"), slot("10:00")).json()["data"]
    signed = wallet.signatures(data)
    with watching(stack) as seen, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: wallet.submit(data["batchId"], **signed), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["data"]["batchId"] for answer in answers} == {data["batchId"]}
    assert len(seen.transactions) == 1
    assert seen.sent_by(wallet.student.wallet) == [70 * EDU]
    late = wallet.submit(data["batchId"], signature="0x00")  # What was signed is known already.
    assert late.status_code == 200
    with watching(stack) as later:
        again = wallet.submit(data["batchId"], **signed)
    assert again.json()["data"]["transactionHash"] == answers[0].json()["data"]["transactionHash"]
    assert later.transactions == []


def test_a_submit_need_not_wait(stack: DevStack, wallet: Wallet) -> None:
    data = wallet.prepare(slot("09:00")).json()["data"]
    headers = {"Prefer": "respond-async"}
    with paused(stack):
        answer = wallet.client.post(
            f"{BATCH}/{data['batchId']}/submit", json=wallet.signatures(data), headers=headers
        )
        assert answer.status_code == 202
        assert answer.headers["location"] == f"{BATCH}/{data['batchId']}"
    assert wallet.submit(data["batchId"], **wallet.signatures(data)).status_code == 200


# --- What is sent is what was signed ---

_DAYS = (date(datetime.now(UTC).year + 2, 1, 2) + timedelta(days=i) for i in itertools.count())


@pytest.fixture(scope="module")
def rich(stack: DevStack) -> Wallet:
    return Wallet.new(stack, balance=100_000)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    quarters=st.lists(st.integers(0, 95), min_size=1, max_size=8, unique=True),
    partial=st.booleans(),
    permits=st.booleans(),
)
def test_what_is_sent_is_what_was_signed(
    rich: Wallet, quarters: list[int], partial: bool, permits: bool
) -> None:
    approve(rich, 0 if permits else 1000 * EDU)
    day = next(_DAYS).isoformat()
    slots = [slot(f"{q // 4:02}:{q % 4 * 15:02}", "8.75", 15, day=day) for q in quarters]
    answer = rich.prepare(*slots, allowPartial=partial)
    data = answer.json()["data"]
    starts = [datetime.fromtimestamp(each["start"], PARIS) for each in data["order"]["message"]["slots"]]
    assert [(each.hour * 4 + each.minute // 15, each.date().isoformat()) for each in starts] == [
        (quarter, day) for quarter in quarters
    ]
    booked = rich.sign_and_submit(answer).json()["data"]
    sent = rich.stack.rpc("eth_getTransactionByHash", booked["transactionHash"])["input"]
    terms, signature, *permit = create_call(bytes.fromhex(sent[2:]))
    order, domain = Order.from_abi(terms), Domain(rich.stack.chain_id, rich.stack.escrow)
    assert order.typed_data(domain) == data["order"]
    assert to_hex(signature) == rich.sign(data["order"])
    assert to_hex(order.batch_id) == data["batchId"] == booked["batchId"]
    assert booked["totalAmountWei"] == data["totalAmountWei"] == str(sum(order.amounts_wei))
    assert bool(permit) == bool(data["permit"]) == permits
    for value, deadline, v, r, s in permit:
        shown = data["permit"]["message"]
        assert (str(value), str(deadline)) == (shown["value"], shown["deadline"])
        assert to_hex(r + s + bytes([v])) == rich.sign(data["permit"])


def create_call(data: bytes) -> tuple[Any, ...]:
    """The arguments of the creation that a transaction calls, alone or in a multicall."""
    functions = {
        abi._function("BookingEscrow", name).selector: abi._function("BookingEscrow", name)
        for name in ("multicall", "createBookings", "createBookingsWithPermit")
    }
    function = functions[data[:4]]
    arguments = decode(function.inputs, data[4:])
    if len(arguments) == 1:
        return create_call(arguments[0][-1])
    return tuple(arguments)
