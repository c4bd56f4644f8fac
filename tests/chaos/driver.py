"""Clients of a shim that has two processes, and everything that goes wrong meanwhile, drawn at random.

Every key and every act that was accepted has to end, and to end alike in answer, list, batch and chain.
"""

import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from ledger import ACTS, Ledger, LessonAct, Request
from outside import statuses
from proxy import TRANSIENT, Fault, Proxy
from scenario import EDU, Scenario
from stacks import ChaosStack
from waiting import PATIENCE, until

from creneau import abi
from creneau.types import to_hex

GWEI = 10**9
ORDER_SECONDS = 600
"""From a batch's or an act's acceptance to its deadline: by then it has ended."""


@dataclass
class WalletRequest(Request):
    """A key whose batch a wallet signs: prepared, and submitted again and again."""

    wallet: LocalAccount | None = None

    def ask(self, url: str | None = None, **headers: str) -> httpx.Response | None:
        """Prepares and submits once; None if nobody answers."""
        client = self.scenario.stack.client(self.scenario.student.id, url=url)
        given = {"Idempotency-Key": self.key, **{k.title(): v for k, v in headers.items()}}
        path = "/api/blockchain/booking/batch"
        try:
            made = client.post(f"{path}/prepare", json=self.scenario.body(*self.lessons), headers=given)
            if made.status_code == 200:
                data = made.json()["data"]
                batch_id, signed = data["batchId"], {"signature": self._sign(data["order"])}
                signed |= {"permitSignature": self._sign(data["permit"])} if data["permit"] else {}
            elif made.json().get("code") == "already_submitted":
                batch_id, signed = made.json()["batchId"], {"signature": "0x" + "00" * 65}
            else:
                self.answers.append(made)
                return made
            answer = client.post(f"{path}/{batch_id}/submit", json=signed, headers=given)
        except httpx.HTTPError:
            return None
        self.answers.append(answer)
        return answer

    def _sign(self, typed_data: Any) -> str:
        assert self.wallet is not None
        return to_hex(Account.sign_typed_data(self.wallet.key, full_message=typed_data).signature)


class Driver:
    """Two processes of one shim, and a chain that makes blocks of its own accord."""

    def __init__(self, stack: ChaosStack, proxy: Proxy, seed: int, *, block_seconds: float) -> None:
        self.stack, self.proxy, self.chosen = stack, proxy, random.Random(seed)
        self.ledger = Ledger(stack)
        self.scenarios = self.ledger.scenarios(4)
        self.wallets = [self._wallet() for _ in range(2)]
        self.acts: list[LessonAct] = []
        self.happened: Counter[str] = Counter()
        self._other, self._url = stack.start_another()
        self._seconds, self._blocks = block_seconds, 0
        self._ends = threading.Event()
        self.chain = threading.Lock()
        """Held to make blocks or to take them back: both at once leave a node with states of no block."""
        self._copy = stack.data_dir / "copy.db"

    @property
    def urls(self) -> list[str]:
        return [self.stack.url, self._url]

    def _wallet(self) -> tuple[Scenario, LocalAccount]:
        key: LocalAccount = Account.create()
        student = self.stack.create_user("student", wallet=key.address, balance=100_000)
        # Exact permits of parallel batches would clash on their nonce, and a wallet signs once.
        self.stack.rpc("anvil_setBalance", key.address, hex(10**18))
        self.stack.rpc("anvil_impersonateAccount", key.address)
        self.stack.send(key.address, self.stack.edu, abi.approve_data(self.stack.escrow, 2**256 - 1))
        tutor = self.stack.create_user("tutor")
        return Scenario(self.stack, student, tutor, self.stack.create_annonce(tutor)), key

    def run(self, steps: int) -> None:
        """Takes so many steps, heals everything, and waits until all is at its end."""
        self.stack.rpc("anvil_mine", hex(64))  # Deeper than what is reorganised: the deployment stays.
        self.stack.rpc("evm_setAutomine", False)
        blocks = threading.Thread(target=self._make_blocks)
        blocks.start()
        try:
            for _ in range(steps):
                self._step()
                following = self._blocks + self.chosen.randint(1, 3)
                until(lambda following=following: self._blocks >= following, "no blocks")
            self.proxy.heal()
            self._revive()
            everything: Sequence[Any] = [*self.ledger.requests, *self.acts]
            pairs = [(each, self.chosen.choice(self.urls)) for each in everything]
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda pair: pair[0].settle(pair[1], ORDER_SECONDS), pairs))
        except AssertionError as error:
            counts = {
                key: self.stack.rpc("eth_getTransactionCount", key, "latest") for key in self.stack.relayers
            }
            error.add_note(f"nonces {counts}, pool {self.stack.rpc('txpool_inspect')}")
            raise
        finally:
            self._ends.set()
            blocks.join()
            self.stack.rpc("evm_setAutomine", True)

    def _make_blocks(self) -> None:
        while not self._ends.wait(self._seconds):
            with self.chain:
                self.stack.rpc("evm_mine")
                self._drop_stuck()
            self._blocks += 1

    def _drop_stuck(self) -> None:
        """Has the node forget what it keeps waiting although its nonce is next, and takes when it comes anew.

        Anvil queues what comes while `anvil_reorg` works, never looks at it again, and calls it known; a
        real pool looks again at each new block.
        """
        for sender, by_nonce in self.stack.rpc("txpool_content")["queued"].items():
            following = str(int(self.stack.rpc("eth_getTransactionCount", sender, "latest"), 16))
            if following in by_nonce:
                self.stack.rpc("anvil_dropTransaction", by_nonce[following]["hash"])

    def _step(self) -> None:
        """Some requests, some acts, and something that happens."""
        chosen = self.chosen
        asked: list[Any] = []
        for _ in range(chosen.randint(0, 2)):
            if chosen.random() < 0.2:
                scenario, key = chosen.choice(self.wallets)
                request = self.ledger.request(scenario)
                wallet = WalletRequest(scenario, request.key, request.lessons, wallet=key)
                self.ledger.requests[-1] = wallet
                asked.append(wallet)
            else:
                asked.append(self.ledger.request(chosen.choice(self.scenarios), chosen.randint(1, 3)))
        asked += self._new_acts()
        waiting = [each for each in self.ledger.requests if not each.answers or each.answers[-1].is_error]
        waiting += [each for each in self.ledger.requests[-10:] if each.answers[-1:] and each not in waiting]
        for retried, most in ((waiting, 2), (self.ledger.requests, 1), (self.acts, 1)):
            asked += chosen.sample(retried, min(most, len(retried)))
        happens = chosen.choice(HAPPENINGS)
        self.happened[happens.__name__] += 1
        with ThreadPoolExecutor(8) as pool:
            pairs = [(each, chosen.choice(self.urls)) for each in asked]
            told = [pool.submit(each.ask, url, prefer="respond-async") for each, url in pairs]
            happens(self)
            for future in told:
                future.result()

    def _new_acts(self) -> list[LessonAct]:
        """Acts on lessons of batches that were told to be booked, one for each batch at most."""
        taken = {act.request.key for act in self.acts}
        made: list[LessonAct] = []
        for request in self.ledger.requests:
            if len(made) == 2 or not request.is_booked or request.key in taken:
                continue
            by_tutor = [name for name, (who, _) in ACTS.items() if who == "tutor"]
            kept = not isinstance(request, WalletRequest)  # A wallet would have to sign.
            made.append(LessonAct(request, self.chosen.choice(sorted(ACTS) if kept else by_tutor)))
        self.acts += made
        return made

    def _revive(self) -> None:
        """Starts what was killed."""
        if self._other.poll() is not None:
            self._other, self._url = self.stack.start_another()
        if self.stack.shim.poll() is not None:
            self.stack.restart()

    def check(self) -> None:
        """Compares answers, raw logs of the chain, debits and the view."""
        self.ledger.prove(relayers=self.stack.relayers, acts=[act.chain_id for act in self.acts])
        refused = [
            (request.key, answer.text)
            for request in self.ledger.requests
            for answer in request.answers
            if answer.status_code == 409
        ]
        assert not refused, f"refused, and booked all the same: {refused[0]}"
        chain = statuses(self.stack)
        for act in self.acts:
            assert chain[act.chain_id] == ACTS[act.name][1], (act.name, act.booking, chain[act.chain_id])


# --- What happens ---


def nothing(_: Driver) -> None:
    """A quiet moment."""


def faults(driver: Driver) -> None:
    kinds = driver.chosen.sample(TRANSIENT, driver.chosen.randint(1, len(TRANSIENT)))
    driver.proxy.misbehave(driver.chosen.uniform(0.05, 0.4), kinds)
    time.sleep(driver.chosen.uniform(0, 0.5))
    driver.proxy.misbehave(0, [])


def a_pool(driver: Driver) -> None:
    driver.proxy.pool.ages = driver.chosen.choice([[0], [0, 1], [0, 1, 2], [0, 0, 3]])


def limits(driver: Driver) -> None:
    driver.proxy.pool.most_calls = driver.chosen.choice([None, 20, 3, 0])


def a_tip_floor(driver: Driver) -> None:
    driver.proxy.pool.tip_floor = driver.chosen.choice([0, 0, 2 * GWEI, 5 * GWEI])


def little_gas(driver: Driver) -> None:
    driver.proxy.pool.gas_part = driver.chosen.choice([1.0, 1.0, 0.2])


def a_dear_block(driver: Driver) -> None:
    driver.stack.rpc("anvil_setNextBlockBaseFeePerGas", hex(driver.chosen.randint(1, 30) * GWEI))


def a_forgetful_pool(driver: Driver) -> None:
    content = driver.stack.rpc("txpool_content")
    for by_nonce in [*content["pending"].values(), *content["queued"].values()]:
        for sent in by_nonce.values():
            if driver.chosen.random() < 0.5:
                driver.stack.rpc("anvil_dropTransaction", sent["hash"])


def a_reorganisation(driver: Driver, depth: int = 0) -> None:
    """The transactions of the blocks are in the new ones in another order, some of them, or nowhere."""
    with driver.chain:
        _reorganise(driver.stack, driver.chosen, depth or driver.chosen.randint(1, 3))


def _reorganise(stack: ChaosStack, chosen: random.Random, depth: int) -> None:
    head = int(stack.rpc("eth_blockNumber"), 16)
    gone = [
        sent["hash"]
        for number in range(head - depth + 1, head + 1)
        for sent in stack.rpc("eth_getBlockByNumber", hex(number), True)["transactions"]
    ]
    kept = [stack.rpc("eth_getRawTransactionByHash", each) for each in gone if chosen.random() < 0.6]
    chosen.shuffle(kept)
    try:
        stack.rpc("anvil_reorg", depth, [[raw, chosen.randrange(depth)] for raw in kept])
    except RuntimeError:  # A nonce of one that was not kept is missing: then none is kept.
        stack.rpc("anvil_reorg", depth, [])


def a_deep_reorganisation(driver: Driver) -> None:
    a_reorganisation(driver, 7)


def a_kill(driver: Driver) -> None:
    process = driver.chosen.choice([driver._other, driver.stack.shim])
    time.sleep(driver.chosen.uniform(0, 0.3))
    process.kill() if process is driver._other else driver.stack.shim.kill()
    process.wait(timeout=PATIENCE)
    driver._revive()


def an_older_copy(driver: Driver) -> None:
    """A copy of the database is kept, or the last one that was kept is restored. SQLite alone."""
    database = driver.stack.data_dir / "creneau.db"
    if not database.exists():
        return
    for process in (driver._other, driver.stack.shim):
        process.terminate()
        process.wait(timeout=PATIENCE)
    if driver._copy.exists():
        for file in driver.stack.data_dir.glob("creneau.db*"):
            file.unlink()
        driver._copy.rename(database)
        driver.happened["restored"] += 1
    else:
        with closing(sqlite3.connect(database)) as one, closing(sqlite3.connect(driver._copy)) as other:
            one.backup(other)  # With what its write-ahead log has.
    driver._revive()


HAPPENINGS: list[Callable[[Driver], None]] = [
    *(nothing, nothing, faults, faults, a_pool, limits, a_tip_floor, little_gas, a_dear_block),
    *(a_forgetful_pool, a_reorganisation, a_reorganisation, a_deep_reorganisation, a_kill, an_older_copy),
]
__all__ = ["EDU", "Driver", "Fault"]
