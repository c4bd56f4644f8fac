"""Custodial accounts: whose each is follows from the person alone, whatever becomes of the database."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from eth_account import Account
from eth_utils.crypto import keccak

from api.chain.signers import MnemonicCustodian
from api.db.store import Store
from api.people.directory import TableDirectory
from api.settings import DEVELOPMENT_CUSTODY

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
    index = int.from_bytes(keccak(text="ann")[:8]) >> 2
    path = CUSTODIAN.account_of("ann")
    assert path == f"m/44'/60'/0'/{index >> 31}/{index & 0x7FFF_FFFF}"
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
