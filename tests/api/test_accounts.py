"""Custodial accounts: whose each is follows from the person alone, whatever becomes of the database."""

import multiprocessing
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils.crypto import keccak
from forked import run

from api.chain.signers import KeyfileCustodian, MnemonicCustodian
from api.db.store import Store
from api.people.directory import TableDirectory
from api.settings import DEVELOPMENT_CUSTODY
from creneau.typed_data import Domain, action_typed_data, digest

ROOT = Path(__file__).parents[2]

CUSTODIAN = MnemonicCustodian(DEVELOPMENT_CUSTODY)


@pytest.fixture
def directory() -> Iterator[Callable[[str], TableDirectory]]:
    with ExitStack() as stores:

        def of(url: str) -> TableDirectory:
            store = stores.enter_context(closing(Store(url)))
            store.migrate()
            return TableDirectory(store, CUSTODIAN)

        yield of


def test_after_the_database_is_lost_everybody_has_his_own_account_again(
    tmp_path: Path, directory: Callable[[str], TableDirectory]
) -> None:
    before = directory(f"sqlite:///{tmp_path / 'before.db'}")
    wallets = {name: before.create_user(name, "student").wallet for name in ("ann", "bob", "cyd")}
    assert len({*wallets.values()}) == 3
    after = directory(f"sqlite:///{tmp_path / 'after.db'}")
    assert after.create_user("a newcomer", "tutor").wallet not in wallets.values()
    for name in reversed(wallets):
        assert after.create_user(name, "student").wallet == wallets[name]


def test_an_account_is_where_any_bip_44_wallet_finds_it() -> None:
    Account.enable_unaudited_hdwallet_features()
    bits = f"{int.from_bytes(keccak(text='ann')):0256b}"
    path = CUSTODIAN.account_of("ann")
    assert path == f"m/44'/60'/{int(bits[:31], 2)}'/{int(bits[31:62], 2)}/{int(bits[62:93], 2)}"
    found = Account.from_mnemonic(DEVELOPMENT_CUSTODY, account_path=path)
    assert CUSTODIAN.signer(path).address == found.address


def test_a_person_who_comes_twice_at_once_is_one(
    database_url: str, directory: Callable[[str], TableDirectory]
) -> None:
    people = directory(database_url)
    barrier, found = threading.Barrier(8), []

    def come() -> None:
        barrier.wait()
        found.append(people.create_user("ann", "student"))

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [people.user("ann")] * 8


def test_a_wallet_is_one_persons(database_url: str, directory: Callable[[str], TableDirectory]) -> None:
    people = directory(database_url)
    wallet = Account.create().address
    people.create_user("ann", "student", wallet=wallet)
    with pytest.raises(ValueError, match=wallet):
        people.create_user("bob", "student", wallet=wallet)
    assert people.user("bob") is None


def test_processes_that_start_at_once_on_an_empty_database_all_do(database_url: str) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)

    def start() -> None:
        with closing(Store(database_url)) as store:
            barrier.wait()
            store.migrate()
            assert TableDirectory(store, CUSTODIAN).user("ann") is None

    processes = [context.Process(target=start) for _ in range(barrier.parties)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * barrier.parties


def test_a_process_that_starts_waits_for_another_one_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses at once to change to WAL while another connection has a lock."""
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waited: list[float] = []

    def release(seconds: float) -> None:
        waited.append(seconds)
        other.close()

    monkeypatch.setattr("api.db.store.time.sleep", release)
    with closing(Store(f"sqlite:///{tmp_path / 'new.db'}")) as store:
        store.migrate()
        assert TableDirectory(store, CUSTODIAN).user("ann") is None
    assert len(waited) == 1


# --- Accounts that there were before ---

KEYS = {"ann": Account.create(), "bob": Account.create()}


def command(folder: Path, name: str, lines: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command with these lines on its standard input."""
    settings = {"keyfile_dir": folder, "keyfile_passphrase": "a passphrase"}
    return run(ROOT, name, given=lines, **settings | more)


def test_imported_keys_sign_for_their_users_and_everybody_else_has_a_derived_account(tmp_path: Path) -> None:
    lines = "".join(f"{name} {key.key.to_0x_hex()}\n" for name, key in KEYS.items())
    imported = command(tmp_path, "import-keys", lines)
    expected = [f"{name} {key.address}" for name, key in KEYS.items()]
    assert imported.stdout.splitlines() == expected, imported.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ann.json", "bob.json"]
    for name, key in KEYS.items():
        file = tmp_path / f"{name}.json"
        assert file.stat().st_mode & 0o077 == 0
        assert key.key.hex() not in file.read_text()

    derived = CUSTODIAN.signer(CUSTODIAN.account_of("cyd")).address
    told = command(tmp_path, "accounts", "ann\ncyd\nbob\n")
    assert told.stdout.splitlines() == [expected[0], f"cyd {derived}", expected[1]], told.stderr

    keys = KeyfileCustodian(tmp_path, "a passphrase", CUSTODIAN)
    with closing(Store(f"sqlite:///{tmp_path / 'people.db'}")) as store:
        store.migrate()
        ann = TableDirectory(store, keys).create_user("ann", "student")
    assert ann.wallet == KEYS["ann"].address
    assert ann.custodial_account is not None
    action = action_typed_data(Domain(31337, derived), "Confirm", bytes(32), 1, 2**32)
    signature = keys.signer(ann.custodial_account).sign_typed_data(action)
    assert Account._recover_hash(digest(action), signature=signature) == ann.wallet


@pytest.mark.parametrize(
    ("lines", "more", "reason"),
    [
        ("ann 0x12\n", {}, "ann: a key is 0x and 64 hex digits"),
        ("bob\n", {}, "bob: a key is 0x and 64 hex digits"),
        ("../x 0x00\n", {}, "line 1 does not begin with a user's id"),
        ("", {"keyfile_passphrase": ""}, "CRENEAU_KEYFILE_PASSPHRASE is missing"),
        ("", {"keyfile_dir": "/nowhere"}, "CRENEAU_KEYFILE_DIR must be a folder"),
    ],
)
def test_a_key_that_can_not_be_imported_is_refused_and_not_told(
    tmp_path: Path, lines: str, more: dict[str, str], reason: str
) -> None:
    refused = command(tmp_path, "import-keys", lines, **more)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines() == [reason]
    assert [*tmp_path.iterdir()] == []


def test_no_key_takes_anothers_place_and_a_wrong_passphrase_is_told_at_the_start(
    tmp_path: Path,
) -> None:
    keys = KeyfileCustodian(tmp_path, "a passphrase", CUSTODIAN)
    keys.add("ann", KEYS["ann"].key.to_0x_hex())
    with pytest.raises(FileExistsError):
        keys.add("ann", KEYS["bob"].key.to_0x_hex())
    assert keys.signer(keys.account_of("ann")).address == KEYS["ann"].address
    wrong = command(tmp_path, "accounts", "ann\n", keyfile_passphrase="another one")  # noqa: S106
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == f"CRENEAU_KEYFILE_PASSPHRASE does not open {tmp_path / 'ann.json'}\n"
