"""The whole of Creneau on this machine: a node, the contracts, the shim and the people of the demonstration.

`DevStack` is a context manager that tests and the demonstration use. As a program it serves until Ctrl-C:

    python tools/dev_stack.py
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, BinaryIO, Self

import httpx
from eth_account.signers.local import LocalAccount
from web3 import Web3

from api.auth import mint
from api.chain.signers import custodian, relayer_account
from api.db.store import Store
from api.people.directory import Annonce, TableDirectory, User, seed
from api.settings import Settings
from creneau import abi
from creneau.amounts import to_wei
from creneau.ape.deploy import deploy, send_by_web3
from creneau.ape.node import token_of
from creneau.types import to_hex
from tools.local_node import TLS, LocalNode, end, free_port

ROOT = Path(__file__).parents[1]
OWNER, RELAYER = 0, 1  # Which of the local node's own accounts do what.


class DevStack:
    """Starts everything and leaves nothing: no process, and no data unless it was given a folder for them."""

    def __init__(
        self,
        *,
        data_dir: Path | None = None,
        port: int | None = None,
        node_port: int | None = None,
        block_time: int | None = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        """`data_dir` keeps chain and database for the next start; `settings` are more of the shim's."""
        self._keep = data_dir is not None
        self.data_dir = data_dir.absolute() if data_dir else _temporary_folder()
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        state = self.data_dir / "chain.json" if self._keep else None
        self._node = LocalNode(self.data_dir, port=node_port, state=state, block_time=block_time)
        self._more_settings = dict(settings or {})
        self._lock: BinaryIO | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._shim: subprocess.Popen[bytes] | None = None
        self._store: Store | None = None
        self._clients: list[httpx.Client] = []
        self._handler: Any = None

    # --- Life ---

    def __enter__(self) -> Self:
        # So that being terminated, too, ends in `close`.
        if threading.current_thread() is threading.main_thread():
            self._handler = signal.signal(signal.SIGTERM, _terminated)
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        if self._keep:
            self._lock = _locked(self.data_dir, self.url)
        if in_use(self.port):
            raise RuntimeError(f"port {self.port} is in use; CRENEAU_PORT={self.port + 1} make serve")
        self.start_node()
        self.web3 = Web3(Web3.HTTPProvider(self.rpc_url))
        self.chain_id = self.web3.eth.chain_id
        self.escrow, self.edu, deployment_block = self._contracts()
        self.currency = token_of(self.web3, self.edu)
        values: dict[str, Any] = {
            "rpc_url": self.rpc_url,
            "chain_id": self.chain_id,
            "escrow": self.escrow,
            "deployment_block": deployment_block,
            "data_dir": self.data_dir,
            "host": "127.0.0.1",
            "port": self.port,
            "relayer_mnemonic_index": RELAYER,
            "arbiter_mnemonic_index": OWNER,
            "drain_seconds": 0,  # Nobody asks whether it is ready.
            **dict.fromkeys(("address_limit", "user_limit", "user_write_limit"), "off"),
        }
        self.settings = Settings(_env_file=None, **values | self._more_settings)
        self._store = Store(self.settings.database)
        self._store.migrate()
        self.directory = TableDirectory(self._store, custodian(self.settings))
        self.start_shim()

    def close(self) -> None:
        """Stop the processes in the reverse order of their start."""
        for client in self._clients:
            client.close()
        if self._store is not None:
            self._store.close()
        for process in reversed(self._processes):
            end(process)
        self._processes.clear()
        self._node.stop()
        if self._lock is not None:
            self._lock.close()
        if not self._keep:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)

    def wait(self) -> None:
        """Wait until one of the processes ends, which none should."""
        while all(process.poll() is None for process in [*self._processes, self._node.process]):
            time.sleep(0.5)
        raise RuntimeError(f"a process ended; see the logs in {self.data_dir}")

    # --- The node ---

    def start_node(self) -> None:
        """Start the node; after `stop_node` at the same port."""

        def spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
            process = self._run(command, log, {})
            self._processes.remove(process)  # The node stops it, and may need more than one.
            return process

        self._node.start(spawn)

    def stop_node(self) -> None:
        """Stop the node. Its chain is lost, unless there is a folder for the data."""
        self._node.stop()

    @property
    def rpc_url(self) -> str:
        """The URL at which the node answers, once it was started."""
        return self._node.url

    def rpc(self, method: str, *params: Any) -> Any:
        """One call to the node; its errors are raised."""
        answer = self.web3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _contracts(self) -> tuple[str, str, int]:
        """Return the addresses of escrow and token, deployed unless this chain has them, and their block."""
        file = self.data_dir / "contracts.json"
        if file.exists():
            known: dict[str, Any] = json.loads(file.read_text())
            if self.web3.eth.get_code(Web3.to_checksum_address(known["escrow"])):
                return known["escrow"], known["token"], known.get("block", 0)
        if aside := self._move_aside(file, *self.data_dir.glob("creneau.db*")):
            print(
                f"the chain is gone; starting afresh, and what was known of it is in {aside}", file=sys.stderr
            )
        deployment = deploy(self.web3, send_by_web3(self.web3, self.owner), owner=self.owner.address)
        self.rpc("anvil_setBalance", self.account(RELAYER).address, hex(10**22))
        escrow, token, block = deployment.escrow.address, deployment.token, deployment.escrow.block_number
        file.write_text(json.dumps({"escrow": escrow, "token": token, "block": block}))
        return escrow, token, block

    def _move_aside(self, *files: Path) -> Path | None:
        """Move those of the files that exist into a new folder beside them. Return it."""
        found = [file for file in files if file.exists()]
        if not found:
            return None
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        aside = Path(tempfile.mkdtemp(prefix=f"aside-{now}-", dir=self.data_dir))
        for file in found:
            file.rename(aside / file.name)
        return aside

    # --- The shim ---

    def start_shim(self, **settings: object) -> subprocess.Popen[bytes]:
        """Start the shim, with other settings if wanted, and waits until it is ready."""
        self._shim = self.start_process("serve", **settings)
        self.wait_until_ready(self._shim, self.url)
        return self._shim

    def start_process(self, command: str = "serve", **settings: object) -> subprocess.Popen[bytes]:
        """Start a process of the shim; another one that serves needs a port of its own."""
        return self._run([sys.executable, "-m", "api", command], self.log_file, self._environment(settings))

    def wait_until_ready(self, process: subprocess.Popen[bytes], url: str, log: Path | None = None) -> None:
        """Wait until the process of the shim says that it is ready, or raises with the end of its log."""
        _wait_until_answers(
            process,
            lambda: httpx.get(f"{url}/readyz", timeout=60, verify=TLS).raise_for_status(),
            log or self.log_file,
        )

    def stop_shim(self, *, kill: bool = False) -> None:
        """Stop the shim; `kill` without a chance to finish anything."""
        if self._shim is not None:
            self.stop_process(self._shim, kill=kill)
            self._shim = None

    def stop_process(self, process: subprocess.Popen[bytes], *, kill: bool = False) -> None:
        """Stop a process of `start_process`, whether or not it has ended by itself."""
        if kill and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        end(process)
        self._processes.remove(process)

    @property
    def pids(self) -> tuple[int, int]:
        """The process ids of the node and of the first process of the shim."""
        if self._shim is None:
            raise RuntimeError("the shim is stopped")
        return self._node.process.pid, self._shim.pid

    @property
    def log_file(self) -> Path:
        """The log of the shim."""
        return self.data_dir / "shim.log"

    def _environment(self, more: Mapping[str, object]) -> dict[str, str]:
        given = self.settings.model_dump(mode="json", exclude_unset=True, exclude_none=True) | dict(more)
        return {f"CRENEAU_{name.upper()}": str(value) for name, value in given.items()}

    def _run(self, command: list[str], log: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("CRENEAU_")}
        with log.open("ab") as output:
            process = subprocess.Popen(
                command,
                cwd=self.data_dir,  # Where there is no .env.
                env={**inherited, "PYTHONUTF8": "1", **settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # The folder stays locked while one of them lives, even if we are killed.
                pass_fds=[self._lock.fileno()] if self._lock is not None else [],
                start_new_session=True,  # A Ctrl-C is for this process, which then stops them.
            )
        self._processes.append(process)
        return process

    # --- People and their money ---

    def account(self, index: int) -> LocalAccount:
        """One of the accounts that the node has funded."""
        return relayer_account(Settings.model_construct(relayer_mnemonic_index=index))

    @property
    def owner(self) -> LocalAccount:
        """The owner of the token, and the arbiter."""
        return self.account(OWNER)

    def seed(self) -> tuple[User, User, Annonce]:
        """Return the demonstration's student, with 1,000 tokens when new, the tutor and the annonce."""
        student, tutor, annonce = seed(self.directory)
        if not self.balance(student.wallet) and not self._token_view("nonces", student.wallet):
            self.mint(student.wallet, to_wei(1000))
        return student, tutor, annonce

    def create_user(self, role: str, *, balance: Decimal | int = 0, wallet: str | None = None) -> User:
        """Return a new user, with this many tokens; custodial unless a wallet is given."""
        profile = str(uuid.uuid4()) if role == "tutor" else None
        user = self.directory.create_user(str(uuid.uuid4()), role, profile_id=profile, wallet=wallet)
        if balance:
            self.mint(user.wallet, to_wei(balance))
        return user

    def create_annonce(
        self, tutor: User, *, hourly_rate: Decimal | int = 35, time_zone: str | None = "Europe/Paris"
    ) -> Annonce:
        """Return a new annonce, not on the chain yet."""
        annonce = Annonce(str(uuid.uuid4()), tutor.id, "Cours d'essai", to_wei(hourly_rate), time_zone)
        self.directory.create_annonce(annonce)
        return annonce

    def token(self, user_id: str) -> str:
        """Return a bearer token."""
        return mint(user_id, self.settings)

    def client(self, user_id: str | None = None, *, url: str | None = None) -> httpx.Client:
        """Return an HTTP client of the shim, or of another process of it, for a user or for nobody.

        Closing it is optional.
        """
        headers = {"Authorization": f"Bearer {self.token(user_id)}"} if user_id else {}
        client = httpx.Client(base_url=url or self.url, headers=headers, timeout=60, verify=TLS)
        self._clients.append(client)
        return client

    def mint(self, wallet: str, wei: int) -> None:
        """Make tokens for an account."""
        self.send(self.owner.address, self.edu, abi.call_data("EduToken", "mint", wallet, wei))

    def balance(self, wallet: str) -> int:
        """Return the tokens of an account, in base units."""
        return self._token_view("balanceOf", wallet)

    def send(self, sender: str, to: str, data: bytes) -> dict[str, Any]:
        """Send a transaction from an account that the node has, or impersonates. Return its receipt."""
        transaction = {"from": sender, "to": to, "data": to_hex(data)}
        sent = self.rpc("eth_sendTransaction", transaction)
        receipt = dict(self.web3.eth.wait_for_transaction_receipt(sent, poll_latency=0.01))
        if not receipt["status"]:
            raise RuntimeError(f"the transaction {sent} reverted")
        return receipt

    def _token_view(self, function: str, *args: object) -> int:
        call = {"to": self.edu, "data": to_hex(abi.call_data("EduToken", function, *args))}
        return int(self.rpc("eth_call", call, "latest"), 16)


_PATIENCE = 180
"""Seconds for a process that was started to answer, on a busy machine too; less if it ends."""

NEEDED_MB = 20  # What the database, the chain and the logs of a short run take.


def _temporary_folder() -> Path:
    """Return a new temporary folder.

    Raises:
        RuntimeError: there is none, or no room in it; its sentence names the folder and the variable.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="creneau-"))
    except OSError:
        where = os.environ.get("TMPDIR", "/tmp")  # noqa: S108  # what tempfile tried
        raise RuntimeError(
            f"no temporary folder can be made in {where}: name another one in TMPDIR"
        ) from None
    try:
        _has_room(folder.parent, "TMPDIR")
    except RuntimeError:
        folder.rmdir()
        raise
    return folder


def _has_room(folder: Path, variable: str) -> None:
    free = shutil.disk_usage(folder).free // 2**20
    if free < NEEDED_MB:
        raise RuntimeError(
            f"{folder} has {free} MB left, and {NEEDED_MB} are needed: name another folder in {variable}"
        )


def _locked(folder: Path, url: str) -> BinaryIO:
    """Return the open lock of a folder for data, with our URL in it; closing it frees the folder.

    Raises:
        RuntimeError: another stack has it, or it cannot be written to, or is full.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+b")
    except OSError as error:
        why = (error.strerror or "error").lower()
        raise RuntimeError(
            f"the data cannot be kept in {folder} ({why}): name another folder in CRENEAU_DATA_DIR"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise RuntimeError(f"already running at {lock.read().decode()}") from None
        _has_room(folder, "CRENEAU_DATA_DIR")
        lock.truncate(0)
        lock.write(url.encode())
        lock.flush()
    except BaseException:
        lock.close()
        raise
    return lock


def in_use(port: int) -> bool:
    """Return True if a process listens at this port already."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As the server does.
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _wait_until_answers(process: subprocess.Popen[bytes], ask: Callable[[], object], log: Path) -> None:
    """Raise with the end of the process's log if it ends, or if it takes too long."""
    until = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            ask()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            if process.poll() is None:  # Else it was another one that answered.
                return
    end = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{log.stem} did not start:\n{end}")


def _terminated(number: int, _: FrameType | None) -> None:
    raise SystemExit(0 if number == signal.SIGINT else 128 + number)


def main() -> int:
    """Serve until Ctrl-C, data in `CRENEAU_DATA_DIR`, on `CRENEAU_PORT`; return 1 after a sentence if not."""
    data_dir = Path(os.environ.get("CRENEAU_DATA_DIR") or ROOT / ".data")
    given = os.environ.get("CRENEAU_PORT") or "8000"
    if not (given.isdecimal() and 0 < int(given) < 2**16):
        return failed(f"CRENEAU_PORT is {given!r}: a port is a number from 1 to 65535")
    signal.signal(signal.SIGINT, _terminated)  # Also where a shell has it ignored, in the background.
    print("starting a local node, the contracts and the shim …", file=sys.stderr, flush=True)
    try:
        with DevStack(data_dir=data_dir, port=int(given), settings={"demo": True}) as stack:
            stack.seed()
            print(f"ready {stack.url}", flush=True)
            stack.wait()
    except RuntimeError as error:
        return failed(str(error))
    return 0


def failed(sentence: str) -> int:
    """Says why a command ends, and returns its exit code."""
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # text streams, as Python starts us
    sys.exit(main())
