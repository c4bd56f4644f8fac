"""Signers of every kind, and above all a remote one: slow, failing and lying on purpose, or away."""

import base64
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from forked import Stack
from key_server import Fault, KeyServer
from lesson_scenario import SETTINGS, LessonScenario
from pydantic import SecretStr, ValidationError
from scenario import BATCH, EDU, Scenario, paused, rows_of, slot, wait_for, watching
from service import serving
from waiting import PATIENCE, until

from api.chain import remote_signer, signers
from api.chain.remote_signer import RemoteKeys, SignerUnavailable
from api.chain.signers import LocalSigner, MnemonicCustodian, RemoteSigner
from api.people.directory import Annonce, TableDirectory
from api.services import Services
from api.settings import DEVELOPMENT_CUSTODY, Settings
from creneau.amounts import to_wei
from creneau.typed_data import Domain, action_typed_data, digest
from tools.dev_stack import DevStack

FIRST = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ACTION = action_typed_data(Domain(31337, "0x" + "11" * 20), "Confirm", bytes(32), 1, 2**32)
TRANSFER: dict[str, Any] = {"type": 2, "chainId": 31337, "to": "0x" + "22" * 20, "value": 0, "data": b""}
TRANSFER |= {"nonce": 0, "gas": 21_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0}
OUT_OF_TIME = (Fault.HANGS, Fault.DRIPS)


@pytest.fixture(scope="module")
def stack() -> Iterator[DevStack]:
    """A chain whose time passes."""
    with Stack(settings=SETTINGS) as stack:
        yield stack


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


def remote_keys(server: KeyServer, **more: Any) -> RemoteKeys:
    given = {"signer_url": server.url, "signer_timeout_seconds": PATIENCE} | more
    return RemoteKeys(Settings(_env_file=None, **given))


@contextmanager
def keys_of(server: KeyServer, **more: Any) -> Iterator[RemoteKeys]:
    keys = remote_keys(server, **more)
    try:
        yield keys
    finally:
        keys.close()


# --- The signatures ---


@pytest.mark.parametrize("adds_27", [True, False])
def test_both_kinds_sign_as_eth_account_does(server: KeyServer, adds_27: bool) -> None:
    server.adds_27 = adds_27
    account = server.add()
    more = {"nonce": 7, "data": os.urandom(300), "value": 5, "maxPriorityFeePerGas": 10**8}
    transactions = [TRANSFER, TRANSFER | more]
    with keys_of(server) as keys:
        for signer in (LocalSigner(account), RemoteSigner(keys, account.address)):
            assert signer.address == account.address
            signature = signer.sign_typed_data(ACTION)
            assert signature == bytes(account.unsafe_sign_hash(digest(ACTION)).signature)
            raws = [bytes(account.sign_transaction(each).raw_transaction) for each in transactions]
            assert signer.sign_transactions(transactions) == raws
    assert server.credentials == {f"Basic {base64.b64encode(b'shim:a-password-of-the-signer').decode()}"}


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in OUT_OF_TIME])
def test_no_answer_but_the_accounts_signature_is_taken(
    server: KeyServer, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    account = server.add()
    with keys_of(server) as keys:
        signer = RemoteSigner(keys, account.address)
        server.faults[account.address] = fault
        with pytest.raises(SignerUnavailable):
            signer.sign_typed_data(ACTION)
        with pytest.raises(SignerUnavailable):
            signer.sign_transactions([TRANSFER])
        said = capsys.readouterr()
        assert said.out.count("the remote signer does not sign") == 2
        assert "a-password-of-the-signer" not in said.out + said.err
        server.faults.clear()
        assert signer.sign_typed_data(ACTION) == LocalSigner(account).sign_typed_data(ACTION)


@pytest.mark.parametrize("fault", OUT_OF_TIME)
def test_a_signer_that_does_not_answer_in_time_is_not_waited_for_again_at_once(
    server: KeyServer, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, other = server.add(), server.add()
    with keys_of(server) as keys:
        assert keys.missing([account.address, other.address]) == []
        monkeypatch.setattr(remote_signer, "_REST_SECONDS", PATIENCE)
        keys._http.seconds, server.faults[account.address] = 0.1, fault
        for address in (account.address, other.address):
            with pytest.raises(SignerUnavailable):
                RemoteSigner(keys, address).sign_typed_data(ACTION)
        assert server.asked[other.address] == 0
        keys._http.seconds, keys._rests_until = PATIENCE, 0.001  # The rest is over.
        assert RemoteSigner(keys, other.address).sign_typed_data(ACTION)
        assert (server.asked[other.address], keys._rests_until) == (1, 0)


def test_as_many_transactions_are_signed_as_can_be(server: KeyServer) -> None:
    account = server.add()
    transactions = [TRANSFER | {"nonce": nonce} for nonce in range(40)]
    signed = LocalSigner(account).sign_transactions(transactions)
    with keys_of(server) as keys:
        signer = RemoteSigner(keys, account.address)
        assert signer.sign_transactions(transactions) == signed
        server.asked.clear()

        def fail_later(address: str) -> None:
            if server.asked[address] > 25:
                server.faults[address] = Fault.FAILS

        server.on_sign = fail_later
        some = signer.sign_transactions(transactions)
    assert 0 < len(some) < len(transactions)
    assert some == signed[: len(some)]


def test_a_connection_that_the_signer_closes_between_is_no_failure(server: KeyServer) -> None:
    account = server.add()
    with keys_of(server) as keys:
        signer = RemoteSigner(keys, account.address)
        signature = signer.sign_typed_data(ACTION)
        server.stop()
        server.start()
        assert signer.sign_typed_data(ACTION) == signature


def test_a_key_that_comes_later_is_found(server: KeyServer) -> None:
    account = Account.create()
    with keys_of(server) as keys:
        signer = RemoteSigner(keys, account.address)
        assert keys.missing([account.address]) == [account.address]
        with pytest.raises(SignerUnavailable):
            signer.sign_typed_data(ACTION)
        server.add(account.key.to_0x_hex())
        assert signer.sign_typed_data(ACTION)
        server.keys.clear()
        with pytest.raises(SignerUnavailable):
            signer.sign_typed_data(ACTION)


# --- Whose account, and which key ---


def settings_of(folder: Path, server: KeyServer, **more: Any) -> Settings:
    given = {"signer_url": server.url, "data_dir": folder, "relayer_mnemonic_index": 1} | more
    return Settings(_env_file=None, **given)


def test_a_custodian_of_all_kinds(tmp_path: Path, server: KeyServer) -> None:
    ann, bob, cyd = server.add(), Account.create(), MnemonicCustodian(DEVELOPMENT_CUSTODY)
    (tmp_path / "accounts").write_text(f"ann {ann.address.lower()}\n\n")
    keyfiles = {"keyfile_dir": tmp_path, "keyfile_passphrase": "a passphrase"}
    settings = settings_of(tmp_path, server, signer_accounts=tmp_path / "accounts", **keyfiles)
    signers.keyfiles(settings, cyd).add("bob", bob.key.to_0x_hex())
    keys = signers.custodian(settings)
    references = {user: keys.account_of(user) for user in ("ann", "bob", "cyd")}
    assert references == {"ann": ann.address, "bob": "bob.json", "cyd": cyd.account_of("cyd")}
    addresses = {user: keys.signer(account).address for user, account in references.items()}
    derived = cyd.signer(references["cyd"]).address
    assert addresses == {"ann": ann.address, "bob": bob.address, "cyd": derived}
    assert server.asked == {}  # Addresses are known without it.


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("ann", "line 1 of CRENEAU_SIGNER_ACCOUNTS is not a user's id and an address"),
        ("\nann 0x12", "line 2 of CRENEAU_SIGNER_ACCOUNTS is not a user's id and an address"),
        ("ann {0} {1}", "line 1 of CRENEAU_SIGNER_ACCOUNTS is not a user's id and an address"),
        ("ann {0}\nann {1}", "line 2 of CRENEAU_SIGNER_ACCOUNTS names a user or an account again"),
        ("ann {0}\nbob {0}", "line 2 of CRENEAU_SIGNER_ACCOUNTS names a user or an account again"),
    ],
)
def test_a_list_of_accounts_that_can_not_be_meant_is_refused(
    tmp_path: Path, server: KeyServer, lines: str, reason: str
) -> None:
    file = tmp_path / "accounts"
    file.write_text(lines.format("0x" + "11" * 20, "0x" + "22" * 20))
    with pytest.raises(ValueError, match=f"^{reason}$"):
        signers.custodian(settings_of(tmp_path, server, signer_accounts=file))
    file.write_bytes(b"ann \xff")
    reason = f"CRENEAU_SIGNER_ACCOUNTS names {file}, which can't be read: it is no text in UTF-8"
    with pytest.raises(ValueError, match=f"^{reason}$"):
        signers.custodian(settings_of(tmp_path, server, signer_accounts=file))
    file.write_text("ann 0x" + "11" * 20)
    assert signers.custodian(settings_of(tmp_path, server, signer_accounts=file))


def test_accounts_of_a_signer_that_is_not_named_are_refused(tmp_path: Path) -> None:
    address = Account.create().address
    (tmp_path / "accounts").write_text("")
    settings = Settings(
        _env_file=None, signer_accounts=tmp_path / "accounts", relayer=address, arbiter=address
    )
    with pytest.raises(
        ValueError, match=r"^CRENEAU_SIGNER_ACCOUNTS are keys of a remote signer: set CRENEAU_SIGNER_URL$"
    ):
        signers.custodian(settings)
    for load, variable in ((signers.relayer_signers, "RELAYER"), (signers.arbiter_signers, "ARBITER")):
        reason = f"^CRENEAU_{variable} names {address}, a key of a remote signer: set CRENEAU_SIGNER_URL$"
        with pytest.raises(ValueError, match=reason):
            load(settings)


def test_relayer_and_arbiter_are_of_any_kind(
    tmp_path: Path, server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyfile, path = Account.create(), "m/44'/60'/0'/0/3"
    (tmp_path / "accounts").mkdir()
    encrypted = Account.encrypt(keyfile.key, "secret", "pbkdf2", 1000)
    (tmp_path / "accounts" / "mine.json").write_text(json.dumps(encrypted))
    monkeypatch.setenv("APE_DATA_FOLDER", str(tmp_path))
    monkeypatch.setenv("APE_ACCOUNTS_mine_PASSPHRASE", "secret")
    remote, words = server.add(), generate_mnemonic(12, Language.ENGLISH)
    Account.enable_unaudited_hdwallet_features()
    derived = Account.from_mnemonic(words, account_path=path)
    named = f"mine, {path},{remote.address.lower()}"
    live = Settings(
        _env_file=None, **LIVE, mnemonic=words, signer_url=server.url, relayer=named, arbiter=path
    )
    found = signers.relayer_signers(live)
    assert [each.address for each in found] == [keyfile.address, derived.address, remote.address]
    assert [type(each) for each in found] == [LocalSigner, LocalSigner, RemoteSigner]
    assert [each.address for each in signers.arbiter_signers(live)] == [derived.address]


LIVE: dict[str, Any] = {
    "chain_id": 41923,
    "jwt_secret": "s" * 40,
    "public_origin": "https://book.example.org",
    "jwt_audience": "creneau",
    "jwt_issuer": "https://users.example.org",
}


def test_remote_keys_that_everybody_has_are_for_the_local_network(tmp_path: Path, server: KeyServer) -> None:
    address = Account.from_key(FIRST).address
    (tmp_path / "accounts").write_text(f"ann {address}")
    names = {"relayer": address, "arbiter": address, "signer_accounts": tmp_path / "accounts"}
    words = generate_mnemonic(12, Language.ENGLISH)
    live = Settings(_env_file=None, **LIVE, mnemonic=words, signer_url=server.url, **names)
    for load, variable in (
        (signers.relayer_signers, "RELAYER"),
        (signers.arbiter_signers, "ARBITER"),
        (signers.custodian, "SIGNER_ACCOUNTS"),
    ):
        reason = (
            f"^chain 41923 is live: CRENEAU_{variable} names {address}, a development account whose key"
            " everybody has$"
        )
        with pytest.raises(ValueError, match=reason):
            load(live)
        assert load(live.model_copy(update={"chain_id": 31337}))


@pytest.mark.parametrize(
    "url", ["https://signer.example.org", "http://localhost:9000", "http://127.0.0.1:9000/"]
)
def test_a_live_network_takes_an_address_that_nobody_else_reads(url: str) -> None:
    words = generate_mnemonic(12, Language.ENGLISH)
    assert Settings(_env_file=None, **LIVE, mnemonic=words, signer_url=url).signer == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "signer.example.org",
            "ftp://signer.example.org",
            "https://",
            "https://signer.example.org/?key=secret-word",
        ),
        *("https://u:secret-word[@signer", "https://u:secret-word/@signer", "https://u:secret-word@@signer"),
        *("https://u:secret word@signer", "https://u:secret-word@signer:port", "HTTPS://signer.example.org"),
    ],
)
def test_what_is_no_address_is_refused_and_not_shown(url: str) -> None:
    said = "CRENEAU_SIGNER_URL must be an address such as https://user:password@signer.example.org:9000"
    with pytest.raises(ValidationError, match=said) as refused:
        Settings(_env_file=None, signer_url=url)
    assert "secret" not in str(refused.value)
    Settings(_env_file=None, signer_url="https://u:secret-word@signer")


@pytest.mark.parametrize("url", ["http://signer.example.org", "http://u:secret-word@10.0.0.7:9000"])
def test_a_live_network_takes_no_address_that_others_read(url: str) -> None:
    words = generate_mnemonic(12, Language.ENGLISH)
    said = "chain 41923 is live: CRENEAU_SIGNER_URL is https, or on this machine"
    with pytest.raises(ValidationError, match=said) as refused:
        Settings(_env_file=None, **LIVE, mnemonic=words, signer_url=url)
    assert "secret-word" not in str(refused.value)
    assert Settings(_env_file=None, signer_url=url).signer == url


# --- The whole of it ---


@dataclass
class Remote:
    """A shim whose relayer, arbiter, student and tutor are keys of a remote signer."""

    stack: DevStack
    server: KeyServer
    folder: Path
    settings: dict[str, Any]

    @contextmanager
    def shim(self) -> Iterator[tuple[Services, Scenario]]:
        """The shim, and its people: the same ones each time."""
        with serving(self.stack, self.folder, 44, **self.settings) as shim:
            users = shim.directory
            assert isinstance(users, TableDirectory)
            student, tutor = users.create_user("ann", "student"), users.create_user("tom", "tutor")
            annonce = Annonce("annonce", tutor.id, "Cours", to_wei(35), "UTC")
            users.create_annonce(annonce)
            scenario = Scenario(self.stack, student, tutor, annonce)
            scenario.client = self.client(shim, student.id)
            yield shim, scenario

    def client(self, shim: Services, user: str) -> httpx.Client:
        return self.stack.client(user, url=f"http://127.0.0.1:{shim.settings.port}")


@pytest.fixture
def remote(stack: DevStack, server: KeyServer, tmp_path: Path) -> Remote:
    relayer, student, tutor = (server.add() for _ in range(3))
    server.add(stack.owner.key.hex())  # The arbiter.
    stack.rpc("anvil_setBalance", relayer.address, hex(10**21))
    stack.mint(student.address, 1000 * EDU)
    (tmp_path / "accounts").write_text(f"ann {student.address}\ntom {tutor.address}\n")
    settings: dict[str, Any] = {"signer_url": SecretStr(server.url), "signer_timeout_seconds": PATIENCE}
    settings |= {"relayer_mnemonic_index": None, "relayer": relayer.address, "keeper": False}
    settings |= {"arbiter_mnemonic_index": None, "arbiter": stack.owner.address, "wait_seconds": 50}
    settings |= {"signer_accounts": tmp_path / "accounts", "resend_seconds": 0.5}
    return Remote(stack, server, tmp_path, settings)


def test_all_that_is_signed_is_signed_by_the_remote_signer(remote: Remote) -> None:
    """Order, permit, publication, confirmation, dispute, decision, and each transaction."""
    stack, server = remote.stack, remote.server
    with remote.shim() as (shim, scenario), watching(stack) as seen:
        life = LessonScenario(scenario)
        life.tutor, life.operator = remote.client(shim, "tom"), remote.client(shim, "the-operator")
        batch = life.book(60)
        booking = batch["bookings"][0]
        assert life.act("tutor", "confirm", booking).status_code == 200
        life.at(life.start(booking))
        assert life.act("student", "dispute", booking).status_code == 200
        decided = life.act("operator", "resolve", booking, {"tutorShareBps": 4000})
        assert decided.status_code == 200, decided.text
        assert life.money()[:2] == (986 * EDU, 14 * EDU)
    signed = {scenario.student.wallet, scenario.tutor.wallet, stack.owner.address, remote.settings["relayer"]}
    assert signed == {address for address, times in server.asked.items() if times}
    sent = {each["from"].lower() for each in seen.transactions if each["to"] == stack.escrow.lower()}
    assert sent == {remote.settings["relayer"].lower(), stack.owner.address.lower()}


@pytest.fixture(scope="module")
def patient(
    stack: DevStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Services, Scenario, KeyServer]]:
    """One shim for all faults of the signer of a student; its relayer's key is here."""
    folder = tmp_path_factory.mktemp("patient")
    with KeyServer() as server:
        student = server.add()
        stack.mint(student.address, 1000 * EDU)
        (folder / "accounts").write_text(f"ann {student.address}\n")
        settings: dict[str, Any] = {"signer_url": SecretStr(server.url), "signer_timeout_seconds": PATIENCE}
        settings |= {"arbiter_mnemonic_index": None, "keeper": False, "wait_seconds": 50}
        settings["signer_accounts"] = folder / "accounts"
        with Remote(stack, server, folder, settings).shim() as (shim, scenario):
            yield shim, scenario, server


@pytest.mark.parametrize(("place", "fault"), [*enumerate(Fault)])
def test_a_student_whose_signer_fails_is_refused_and_nothing_is_done(
    patient: tuple[Services, Scenario, KeyServer], place: int, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim, scenario, server = patient
    monkeypatch.setattr(remote_signer, "_REST_SECONDS", 0)
    account, before = scenario.student.wallet, scenario.balance()
    if fault in OUT_OF_TIME:
        monkeypatch.setattr(shim.remote._http, "seconds", 0.1)
    server.faults[account] = fault
    with watching(scenario.stack) as seen:
        answer = scenario.book(slot(f"{place % 20:02}:00"))
        assert (answer.status_code, answer.json()["code"]) == (503, "signer_unavailable"), answer.text
        assert answer.headers["retry-after"] == "5"
    assert (seen.transactions, scenario.balance()) == ([], before)
    monkeypatch.setattr(shim.remote._http, "seconds", PATIENCE)
    server.faults.clear()
    server.let_go.set()
    server.let_go = threading.Event()
    booked = scenario.book(slot(f"{place % 20:02}:00"))
    assert (booked.status_code, booked.json()["data"]["count"]) == (200, 1)
    assert scenario.balance() == before - 35 * EDU


AWAY: dict[str, Callable[[KeyServer, str], object]] = {
    "away": lambda server, _: server.stop(),
    "failing": lambda server, address: server.faults.update({address: Fault.FAILS}),
    "lying": lambda server, address: server.faults.update({address: Fault.OTHER_KEY}),
    "hanging": lambda server, address: server.faults.update({address: Fault.HANGS}),
}


@pytest.mark.parametrize("how", AWAY)
def test_what_is_accepted_while_the_relayers_signer_is_away_is_sent_once_when_it_is_back(
    remote: Remote, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the process is another one by then."""
    server, relayer = remote.server, remote.settings["relayer"]
    monkeypatch.setattr(remote_signer, "_REST_SECONDS", 0)
    lines: list[str] = []
    warn = remote_signer.log.warning
    monkeypatch.setattr(remote_signer, "log", Log(warn, lines))
    with watching(remote.stack) as seen:
        with remote.shim() as (shim, scenario):
            first = scenario.book(slot("09:00"))
            assert first.status_code == 200, first.text

            def break_it(address: str) -> None:
                if address == scenario.student.wallet:  # Whose signature is the last that is wanted at once.
                    server.faults[relayer] = Fault.FAILS

            server.on_sign = break_it
            answer = scenario.book(slot("10:00"), headers={"Prefer": "respond-async"})
            assert answer.status_code == 202, answer.text
            batch = answer.json()["data"]["batchId"]
            server.on_sign = lambda _: None
            if how == "hanging":
                shim.remote._http.seconds, before = 0.1, server.asked[relayer]
                until(lambda: server.asked[relayer] > before + 1)  # The one under way may wait for long.
            AWAY[how](server, relayer)
            lines.clear()
            until(lambda: len(lines) > 1)  # It tried, more than once.
            [row] = rows_of(shim.store, [batch])
            assert (row.state, row.nonce, row.transaction_hash) == ("accepted", None, None)
            assert remote.client(shim, "ann").get("/livez").status_code == 200
            assert first.json()["data"]["batchId"] != batch
        if how == "away":
            server.start()
        server.faults.clear()
        server.let_go.set()
        with remote.shim() as (_, scenario):
            data = wait_for(scenario, f"{BATCH}/{batch}", "mined", "final")
            assert data["count"] == 1
            repeated = scenario.book(slot("10:00"))
            assert (repeated.status_code, repeated.json()["data"]["batchId"]) == (200, batch)
    assert seen.sent_by(scenario.student.wallet) == [35 * EDU, 35 * EDU]
    assert set(lines) >= {"the remote signer does not sign"}


class Log:
    """A log that remembers the events of its warnings."""

    def __init__(self, warn: Callable[..., object], lines: list[str]) -> None:
        self._warn, self._lines = warn, lines

    def warning(self, event: str, **more: object) -> None:
        self._lines.append(event)
        self._warn(event, **more)


def test_what_is_sent_goes_on_while_the_relayers_signer_is_away(remote: Remote) -> None:
    stack, server, relayer = remote.stack, remote.server, remote.settings["relayer"]
    later = {"Prefer": "respond-async"}
    with remote.shim() as (shim, scenario):
        assert scenario.book(slot("08:00")).status_code == 200  # Publishes, which others would wait for.
        with paused(stack):
            first = scenario.book(slot("09:00"), headers=later).json()["data"]["batchId"]
            wait_for(scenario, f"{BATCH}/{first}", "submitted")
            server.faults[relayer], before = Fault.FAILS, server.asked[relayer]
            second = scenario.book(slot("11:00"), headers=later).json()["data"]["batchId"]
            until(lambda: server.asked[relayer] > before)
        assert wait_for(scenario, f"{BATCH}/{first}", "mined", "final")["count"] == 1
        [row] = rows_of(shim.store, [second])
        assert row.state == "accepted"
        server.faults.clear()
        assert wait_for(scenario, f"{BATCH}/{second}", "mined", "final")["count"] == 1


def test_no_transaction_of_the_database_waits_for_the_relayers_signer(remote: Remote) -> None:
    """While its answer is out, others are accepted, and what they ask for is written."""
    server, relayer, asked = remote.server, remote.settings["relayer"], threading.Event()
    with remote.shim() as (shim, scenario):
        server.faults[relayer] = Fault.HANGS
        server.on_sign = lambda address: address == relayer and asked.set()
        waiting = scenario.book(slot("09:00"), headers={"Prefer": "respond-async"})
        assert waiting.status_code == 202
        assert asked.wait(PATIENCE)
        assert scenario.book(slot("11:00"), headers={"Prefer": "respond-async"}).status_code == 202
        assert remote.client(shim, "ann").get("/readyz").json()["checks"]["database"]["ok"]
        server.faults.clear()
        server.let_go.set()
        for answer in (waiting, scenario.book(slot("11:00"))):
            batch = answer.json()["data"]["batchId"]
            assert wait_for(scenario, f"{BATCH}/{batch}", "mined", "final")["count"] == 1


def test_a_start_asks_whether_the_signer_has_the_keys(remote: Remote, tmp_path: Path) -> None:
    server, address = remote.server, Account.create().address
    settings = remote.stack.settings.model_copy(
        update=remote.settings | {"relayer": address, "database_url": f"sqlite:///{tmp_path / 'own.db'}"}
    )
    with pytest.raises(ValueError, match=f"does not have the key of {address}, which CRENEAU_RELAYER,"):
        Services.build(settings)
    server.stop()
    services = Services.build(settings)  # What is accepted waits for it.
    server.start()
    services.close()
