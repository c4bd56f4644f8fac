"""Operation: readiness, logs, settings, commands, and a node that goes away."""

import json
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
import uvicorn
from eth_account import Account
from forked import Stack, run
from pydantic import ValidationError
from scenario import BATCH, EDU, Scenario, log_lines, paused, slot, wait_for
from sqlalchemy import insert, select
from waiting import PATIENCE, http, until

from api.app import create_app
from api.chain.signers import custodian, relayer_account
from api.db.store import Store
from api.db.tables import users
from api.logs import Repeats
from api.people.directory import Annonce, Directory, TableDirectory, User
from api.schemas.requests import TUTOR
from api.services import Services
from api.settings import DEVELOPMENT_ACCOUNTS, DEVELOPMENT_CUSTODY, DEVELOPMENT_SECRET, Settings
from creneau.ape.deploy import deploy, send_by_web3
from tools.dev_stack import DevStack, free_port

ESCROW = "0x" + "11" * 20


class CountingDirectory:
    """Counts the look-ups of another directory."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.asked: Counter[str] = Counter()

    def user(self, user_id: str) -> User | None:
        self.asked["user"] += 1
        return self._directory.user(user_id)

    def tutor(self, tutor_id: str) -> User | None:
        self.asked["tutor"] += 1
        return self._directory.tutor(tutor_id)

    def annonce(self, annonce_id: str) -> Annonce | None:
        self.asked["annonce"] += 1
        return self._directory.annonce(annonce_id)


@pytest.fixture
def counted(scenario: Scenario, tmp_path: Path) -> Iterator[tuple[str, CountingDirectory]]:
    """The URL of a shim in this process, and its directory."""
    stack = scenario.stack
    directory = CountingDirectory(stack.directory)
    own = {
        "database_url": f"sqlite:///{tmp_path / 'own.db'}",
        "relayer_mnemonic_index": 2,
        "port": free_port(),
    }
    settings = stack.settings.model_copy(update=own)
    services = Services.build(settings, directory)
    with Store(stack.settings.database).read() as theirs, services.store.write() as db:
        # Whose account is whose, the sender asks its own tables.
        db.execute(insert(users), [dict(row) for row in theirs.execute(select(users)).mappings()])
    app = create_app(services)
    server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    until(services.view.is_complete)
    yield f"http://127.0.0.1:{settings.port}", directory
    server.should_exit = True
    thread.join()


def test_student_tutor_and_annonce_are_looked_up_once_a_batch(
    scenario: Scenario, counted: tuple[str, CountingDirectory]
) -> None:
    url, directory = counted
    body = scenario.body(*(slot(f"{hour}:00") for hour in range(10, 20)))
    answer = http.post(f"{url}{BATCH}", json=body, headers=scenario.client.headers, timeout=PATIENCE)
    assert answer.json()["data"]["count"] == 10
    assert directory.asked == {"user": 1, "tutor": 1, "annonce": 1}


def test_alive_and_ready(stack: DevStack) -> None:
    client = stack.client()
    assert client.get("/livez").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    checks = ready.json()["checks"]
    assert set(checks) == {
        *("database", "pending", "node", "contract", "head", "view", "finality", "relayer")
    }
    assert all(check["ok"] for check in checks.values())
    assert checks["relayer"]["address"] == stack.account(1).address
    assert int(checks["relayer"]["balanceWei"]) > 10**21
    assert (checks["relayer"]["keys"], checks["relayer"]["held"]) == (1, [stack.account(1).address])
    assert 0 < int(checks["database"]["feesLeftTodayWei"]) <= 10**19


def test_a_process_that_is_told_to_stop_answers_and_hands_over(stack: DevStack, scenario: Scenario) -> None:
    with paused(stack), ThreadPoolExecutor(1) as pool:
        asked = pool.submit(scenario.book, slot("09:00"))
        until(lambda: stack.rpc("txpool_status")["pending"] != "0x0")
        assert not asked.done()
        stack.stop_shim()  # It is killed, and the request not answered, if that takes a quarter of a minute.
        assert asked.result().status_code == 202
        stack.start_shim()
    location = asked.result().headers["location"]
    assert wait_for(scenario, location, "mined", "final")["count"] == 1
    assert scenario.balance() == 965 * EDU


def test_a_process_that_is_told_to_stop_is_not_ready_and_goes_on_for_a_while(
    stack: DevStack, scenario: Scenario
) -> None:
    port = free_port()
    process = stack.start_process(port=port, drain_seconds=10 * PATIENCE)  # Only a second signal ends it.
    url = f"http://127.0.0.1:{port}"
    stack.wait_until_ready(process, url)
    process.send_signal(signal.SIGTERM)
    until(lambda: http.get(f"{url}/readyz").status_code == 503)
    checks = {"process": {"ok": False, "message": "The process is about to end."}}
    assert http.get(f"{url}/readyz").json() == {"status": "unavailable", "checks": checks}
    assert http.get(f"{url}/livez").status_code == 200
    body = scenario.body(slot("09:00"))
    booked = http.post(f"{url}{BATCH}", json=body, headers=scenario.client.headers)
    assert (booked.status_code, booked.json()["data"]["count"]) == (200, 1)
    assert process.poll() is None
    stack.stop_process(process)
    assert process.poll() == -signal.SIGTERM  # Ended in order, and then by the signal, as uvicorn does.


def test_a_request_without_a_node_is_refused_and_works_when_it_is_back(tmp_path: Path) -> None:
    with DevStack(data_dir=tmp_path) as stack:
        scenario = Scenario.of(stack)
        assert scenario.book(slot("09:00")).status_code == 200
        stack.stop_node()
        refused = scenario.book(slot("10:00"))
        assert refused.status_code == 503
        assert refused.json()["code"] == "node_unavailable"
        assert refused.headers["retry-after"] == "5"
        assert stack.client().get("/livez").status_code == 200
        until(lambda: stack.client().get("/readyz").status_code == 503)  # It may be a second old.
        stack.start_node()
        assert scenario.book(slot("10:00")).status_code == 200
        until(lambda: stack.client().get("/readyz").status_code == 200)


def test_a_chain_that_is_begun_anew_gets_nothing_of_the_old_ones_database() -> None:
    """With the same id and the contracts at the same addresses: the process says so, and none starts."""
    with Stack() as stack:
        scenario = Scenario.of(stack)
        stack.rpc("evm_setAutomine", False)
        assert scenario.book(slot("09:00"), headers={"Prefer": "respond-async"}).status_code == 202
        until(lambda: stack.rpc("txpool_status")["pending"] != "0x0")
        stack.stop_node()
        stack.start_node()
        stack.rpc("evm_increaseTime", 60)  # Two chains that begin in one second would have the same blocks.
        deployment = deploy(stack.web3, send_by_web3(stack.web3, stack.owner), owner=stack.owner.address)
        assert (deployment.escrow.address, deployment.token) == (stack.escrow, stack.edu)
        assert deployment.escrow.block_number == stack.settings.deployment_block
        relayer = stack.account(1).address
        stack.rpc("anvil_setBalance", relayer, hex(10**22))
        said = "The node serves another chain 31337 than the one that the database is of."
        until(lambda: stack.client().get("/readyz").json()["checks"]["node"]["message"] == said)
        assert stack.client().get("/readyz").status_code == 503
        refused = scenario.book(slot("10:00"))
        assert (refused.status_code, refused.json()["code"]) == (503, "node_unavailable")
        stack.rpc("anvil_mine", 3)
        until(lambda: "the node serves another chain with the same id" in stack.log_file.read_text())
        stack.stop_shim()
        again = stack.start_process()
        assert again.wait() == 1
        assert (
            "the database is of another chain 31337, whose contract had the same address"
            in (stack.log_file.read_text().splitlines()[-1])
        )
        assert stack.rpc("eth_getTransactionCount", relayer, "pending") == "0x0"


def test_request_ids_bind_a_requests_lines_and_nothing_secret_is_in_them(
    stack: DevStack, scenario: Scenario
) -> None:
    note = f"private {uuid.uuid4()}"
    answer = scenario.book(
        slot("09:00"), studentNotes=note, description=note, headers={"X-Request-ID": "mine-1"}
    )
    assert answer.headers["x-request-id"] == "mine-1"
    # The last one comes after the answer.
    until(lambda: log_lines(stack, request_id="mine-1", event="request"))
    states = [line["state"] for line in log_lines(stack, request_id="mine-1", event="state")]
    assert states in (["signed", "mined"], ["signed", "submitted", "mined"])
    assert {line["batch_id"] for line in log_lines(stack, request_id="mine-1") if "batch_id" in line} == {
        answer.json()["data"]["batchId"]
    }
    generated = scenario.book(slot("10:00"), headers={"X-Request-ID": "not\tan id"}).headers["x-request-id"]
    assert uuid.UUID(generated)
    log = stack.log_file.read_text()
    assert note not in log
    assert scenario.client.headers["authorization"].split()[1] not in log


def test_a_worker_tells_each_reason_once_in_a_while() -> None:
    repeats = Repeats()

    def is_told(worker: str, reason: str) -> bool:
        try:
            repeats(None, "", {"event": "the node does not answer", "worker": worker, "reason": reason})
        except structlog.DropEvent:
            return False
        return True

    away, other = "NewConnectionError", "the node serves another chain with the same id"
    told = [is_told("indexer", reason) for reason in (away, away, other, other)]
    assert told == [True, False, True, False]
    assert is_told("sender", away)


# --- Settings ---


LIVE = {
    "chain_id": 41923,
    "escrow": ESCROW,
    "relayer": "relayer",
    "jwt_secret": "s" * 32,
    "mnemonic": "minute kitten easy timber wish error echo october ring taxi marriage gym",
    "public_origin": "https://book.example.org",
    "jwt_audience": "creneau",
    "jwt_issuer": "https://users.example.org",
}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"jwt_secret": None}, "set CRENEAU_JWT_SECRET"),
        ({"jwt_secret": DEVELOPMENT_SECRET}, "set CRENEAU_JWT_SECRET"),
        ({"jwt_secret": "short"}, "at least 32 characters"),
        ({"mnemonic": None}, "set CRENEAU_MNEMONIC"),
        ({"mnemonic": DEVELOPMENT_CUSTODY}, "set CRENEAU_MNEMONIC"),
        ({"mnemonic": DEVELOPMENT_ACCOUNTS}, "set CRENEAU_MNEMONIC"),
        ({"relayer_mnemonic_index": 1}, "CRENEAU_RELAYER"),
        ({"public_origin": None}, "chain 41923 is live: set CRENEAU_PUBLIC_ORIGIN"),
        ({"jwt_audience": None}, "chain 41923 is live: set CRENEAU_JWT_AUDIENCE"),
        ({"jwt_issuer": None}, "chain 41923 is live: set CRENEAU_JWT_ISSUER"),
        ({"time_zone": "Mars/Base"}, "IANA"),
    ],
)
def test_a_live_network_refuses_what_is_for_development(changed: dict[str, object], reason: str) -> None:
    assert not Settings(_env_file=None, **LIVE).is_local  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=reason) as caught:
        Settings(_env_file=None, **LIVE | changed)  # type: ignore[arg-type]
    assert "minute kitten" not in str(caught.value)
    if "time_zone" not in changed and changed.get("jwt_secret") != "short":
        Settings(_env_file=None, **LIVE | changed | {"chain_id": 31337})  # type: ignore[arg-type]


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("f" * 40 + "\n")
    (tmp_path / "words").write_text(f"{LIVE['mnemonic']}\n")
    files = {"jwt_secret": None, "mnemonic": None}
    files |= {"jwt_secret_file": tmp_path / "secret", "mnemonic_file": tmp_path / "words"}  # type: ignore[dict-item]
    settings = Settings(_env_file=None, **LIVE | files)  # type: ignore[arg-type]
    assert settings.token_secret == "f" * 40
    assert settings.custody_mnemonic == LIVE["mnemonic"]


def test_the_relayer_is_an_ape_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = Account.create()
    (tmp_path / "accounts").mkdir()
    keyfile = Account.encrypt(account.key, "passphrase", kdf="pbkdf2", iterations=1000)
    (tmp_path / "accounts" / "relayer.json").write_text(json.dumps(keyfile))
    monkeypatch.setenv("APE_DATA_FOLDER", str(tmp_path))
    monkeypatch.setenv("APE_ACCOUNTS_relayer_PASSPHRASE", "passphrase")
    settings = Settings(_env_file=None, **LIVE)  # type: ignore[arg-type]
    assert relayer_account(settings).address == account.address
    file = tmp_path / "accounts" / "relayer.json"
    for value, said in (("wrong", "is not the passphrase of"), (None, "set APE_ACCOUNTS_relayer_PASSPHRASE")):
        monkeypatch.delenv("APE_ACCOUNTS_relayer_PASSPHRASE")
        if value:
            monkeypatch.setenv("APE_ACCOUNTS_relayer_PASSPHRASE", value)
        with pytest.raises(ValueError, match=said) as refused:
            relayer_account(settings)
        assert "APE_ACCOUNTS_relayer_PASSPHRASE" in str(refused.value)
        assert str(file) in str(refused.value)
    for broken in ("{", "{}", "[]", '{"crypto": {}}'):
        file.write_text(broken)
        monkeypatch.setenv("APE_ACCOUNTS_relayer_PASSPHRASE", "passphrase")
        with pytest.raises(ValueError, match="is no keyfile"):
            relayer_account(settings)
    missing = r"CRENEAU_RELAYER names nobody, and .*/nobody\.json can't .*`ape accounts import nobody`"
    with pytest.raises(ValueError, match=missing):
        relayer_account(settings.model_copy(update={"relayer": "nobody"}))
    with pytest.raises(ValueError, match="CRENEAU_RELAYER must name the account"):
        relayer_account(settings.model_copy(update={"relayer": ""}))


# --- Commands ---


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"chain_id": 1337}, "the node serves chain 0x7a69, not 1337; see CRENEAU_RPC_URL, CRENEAU_CHAIN_ID"),
        ({"escrow": ESCROW}, f"chain 31337 has no contract at {ESCROW}; see CRENEAU_RPC_URL"),
        ({"escrow": ""}, "CRENEAU_ESCROW must be the contract's address"),
        ({"escrow": "0x12"}, "CRENEAU_ESCROW: an address is 20 bytes"),
        ({"wait_seconds": -1, "port": "x"}, "CRENEAU_PORT: Input should be a valid integer"),
        ({"rpc_url": "http://127.0.0.1:9"}, "the node does not answer (NewConnectionError): does it run, at"),
        ({"rpc_url": "127.0.0.1:9"}, "CRENEAU_RPC_URL must be an address such as"),
        ({"database_url": "mysql://somewhere"}, "CRENEAU_DATABASE_URL must be an address such as"),
        (
            {"database_url": "postgresql+psycopg://creneau@127.0.0.1:9/creneau"},
            "(Connection refused): does it run",
        ),
        ({"data_dir": "/proc/nothing"}, "No such file or directory: '/proc/nothing'"),
        ({"relayer_mnemonic_index": ""}, "CRENEAU_RELAYER must name the account"),
        ({"port": "in use"}, "is in use: end what listens there, or set CRENEAU_PORT"),
        ({"host": "192.0.2.1"}, "CRENEAU_HOST 192.0.2.1 and CRENEAU_PORT"),
    ],
)
def test_the_shim_does_not_start_against_the_wrong_thing(
    stack: DevStack, tmp_path: Path, changed: dict[str, object], reason: str
) -> None:
    right = {
        "rpc_url": stack.rpc_url,
        "escrow": stack.escrow,
        "relayer_mnemonic_index": 2,
        "port": free_port(),
    }
    if changed.get("port") == "in use":
        changed = {"port": stack.port}
    refused = run(tmp_path, "serve", **right | changed)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert reason in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_token_is_minted_for_the_local_network_only(
    stack: DevStack, scenario: Scenario, tmp_path: Path
) -> None:
    minted = run(tmp_path, "token", "--user", scenario.student.id)
    headers = {"Authorization": f"Bearer {minted.stdout.strip()}"}
    assert stack.client().post(BATCH, json=scenario.body(slot("09:00")), headers=headers).status_code == 200
    live = {name: value for name, value in LIVE.items() if name != "relayer"}
    refused = run(tmp_path, "token", "--user", scenario.student.id, **live)
    assert refused.returncode == 1
    assert "local network only" in refused.stderr


def test_real_people_are_added_by_a_command_and_those_of_the_demonstration_on_no_live_network(
    tmp_path: Path,
) -> None:
    live = {name: value for name, value in LIVE.items() if name != "relayer"} | {"data_dir": tmp_path / "d"}
    refused = run(tmp_path, "seed", **live)
    assert refused.returncode == 1
    assert refused.stderr == ("chain 41923 is live: python -m api people add … adds real people\n")
    wallet = "0x" + "5" * 40
    student = ["people", "add", "4711", "--role", "student", "--name", "Camille Durand", "--email", "c@x.org"]
    tutor = ["people", "add", "4712", "--role", "tutor", "--profile", "88", "--wallet", wallet]
    title = "Deep Learning"
    annonce = ["people", "add-annonce", "9001", "--tutor", "88", "--title", title, "--rate", "35.50"]
    early = run(tmp_path, *annonce, **live)
    assert (early.returncode, early.stderr) == (
        1,
        "88 is no tutor of these tables: add them first\n",
    )
    for _ in range(2):  # Who is known already stays as they are.
        for command in (student, tutor, annonce):
            added = run(tmp_path, *command, **live)
            assert (added.returncode, added.stderr) == (0, "")
    settings = Settings(_env_file=None, **live)  # type: ignore[arg-type]
    store = Store(settings.database)
    directory = TableDirectory(store, custodian(settings))
    found = directory.user("4711")
    assert found is not None
    assert (found.role, found.name) == ("student", ("Camille", "Durand", "c@x.org"))
    assert found.custodial_account is not None
    teacher = directory.tutor("88")
    assert teacher is not None
    assert (teacher.id, teacher.wallet, teacher.custodial_account) == ("4712", wallet, None)
    assert directory.annonce("9001") == Annonce("9001", "4712", title, 355 * 10**17, None)
    store.close()
    for wrong, reason in (
        (["people", "add", "no id", "--role", "student"], "'no id' is no id"),
        ([*annonce, "--time-zone", "Mars/Base"], "Mars/Base is not an IANA time zone"),
        ([*annonce[:-1], "-1"], "an amount is not negative"),
    ):
        refused = run(tmp_path, *wrong, **live)
        assert refused.returncode == 1
        assert reason in refused.stderr
    elsewhere = run(tmp_path, *student, **live, directory_url="https://users.example.org")
    assert "add them there" in elsewhere.stderr


def test_the_tables_are_made_by_migrations_and_seeded_once(tmp_path: Path) -> None:
    assert run(tmp_path, "migrate", data_dir=tmp_path / "data").returncode == 0
    assert (tmp_path / "data" / "creneau.db").exists()
    seeded = run(tmp_path, "seed", data_dir=tmp_path / "data").stdout
    assert seeded.count(TUTOR) == 2
    assert run(tmp_path, "seed", data_dir=tmp_path / "data").stdout == seeded
