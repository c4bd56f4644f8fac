"""The examples of the pages, run against a real shim, and what they are said to answer.

A block whose info string says `not-run=…` is not run, for one of the reasons below; one that says
`tested-by=…` is what that test does. Every other block of a language below is run here.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blocks import PAGES, ROOT, Block, Comparison, blocks_of
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from receiving import Receiver
from scenario import paused
from sqlalchemy import insert, select, text
from waiting import PATIENCE, until

from api.db.store import Store
from api.db.tables import batches, webhooks
from api.schemas.requests import STUDENT, TUTOR
from api.settings import Settings
from tools.dev_stack import DevStack

NOT_RUN = {
    "container": "needs a container engine",
    "live": "sends to a live network",
    "long": "is what CI runs",
}
ELSEWHERE = {
    ("README.md", "From the console"): "tests/sdk/test_console.py",
    ("docs/sdk.md", None): "tests/docs/test_sdk_guide.py",
}
"""Parts of pages that tests of their own run."""

RUN = frozenset({"console", "json", "python", "ts", "env", "sql"})
PORT = "127.0.0.1:8000"


def run_here(page: str) -> list[Block]:
    """The blocks of a page that are run here."""
    return [
        block
        for block in blocks_of(ROOT / page)
        if "not-run=" not in block.info
        and "tested-by=" not in block.info
        and (page, block.heading) not in ELSEWHERE
        and (page, None) not in ELSEWHERE
    ]


def test_what_is_not_run_says_why() -> None:
    left = [block for page in PAGES for block in blocks_of(page) if "not-run=" in block.info]
    assert {block.info.removeprefix("not-run=") for block in left} <= set(NOT_RUN)
    assert len(left) <= 6
    for page in PAGES:
        for block in blocks_of(page):
            if "tested-by=" in block.info:
                assert (ROOT / block.info.removeprefix("tested-by=")).is_file()
        for block in run_here(str(page.relative_to(ROOT))):
            assert block.language in RUN, f"{block.page}:{block.line}: who runs this?"
    for (page_name, heading), module in ELSEWHERE.items():
        assert (ROOT / module).is_file()
        assert heading in {None} | {block.heading for block in blocks_of(ROOT / page_name)}


# --- Consoles ---


class Terminal:
    """Types what consoles of a page show, in one shell after the other; variables stay."""

    def __init__(self, stack: DevStack, folder: Path, **environment: str) -> None:
        self._stack = stack
        self._variables = folder / "variables"
        self._variables.touch()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRENEAU_")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
        self._environment = inherited | {"PATH": path} | environment
        self._folder = folder if environment else ROOT
        # tests/test_demo.py runs `make token`; here it would take most of the time.
        tokens = (
            f'[ "$*" != "token USER={user}" ] || echo {stack.token(user)};' for user in (STUDENT, TUTOR)
        )
        self._make = " ".join(tokens)
        self.comparison = Comparison()

    def type(self, block: Block) -> tuple[list[int], str]:
        """The statuses of its requests, and what it prints."""
        names = "\n".join(f"{name}='{value}'" for name, value in self.comparison.names.items())
        script = f"""
            set -eu -o pipefail
            source {self._variables}
            {names}
            make() {{ {self._make} }}
            curl() {{ command curl --write-out '%{{stderr}}STATUS %{{http_code}}\\n' "$@"; }}
            {block.commands.replace(PORT, f"127.0.0.1:{self._stack.port}")}
            declare -p API TOKEN TUTOR_TOKEN 2>/dev/null > {self._variables} || true
        """
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block.page}:{block.line}: {done.stderr}"
        return [int(status) for status in re.findall(r"STATUS (\d+)", done.stderr)], done.stdout

    def check(self, block: Block, answer: Block | None) -> None:
        """Types it, and compares what comes with what is shown."""
        end = time.monotonic() + PATIENCE
        while True:
            # What is shown before its block comes is shown without one.
            with paused(self._stack) if answer and answer.info == "202" else nullcontext():
                statuses, printed = self.type(block)
            try:
                self._compare(block, answer, statuses, printed)
            except AssertionError:
                # A list shows a lesson when its block was read.
                if re.search(r" -d | -X |python", block.commands) or time.monotonic() > end:
                    raise
                time.sleep(0.1)
            else:
                return

    def _compare(self, block: Block, answer: Block | None, statuses: list[int], printed: str) -> None:
        at = f"{block.page}:{block.line}"
        if answer is None:
            assert all(status < 300 for status in statuses), f"{at}: {printed}"
            shown = block.output.splitlines()
            assert _numberless(printed.splitlines()[-len(shown) :] if shown else []) == _numberless(shown), at
            return
        assert statuses[-1] == int(answer.info), f"{at}: {printed}"
        got = json.loads(_last_json(printed))
        self.comparison.check(json.loads(answer.text), got, at)


def _last_json(printed: str) -> str:
    """The last of several answers, which nothing stands between."""
    decoder, place, found = json.JSONDecoder(), 0, ""
    while place < len(printed.rstrip()):
        _, end = decoder.raw_decode(printed, place)
        place, found = end, printed[place:end]
    return found


def _numberless(lines: list[str]) -> list[str]:
    return [re.sub(r"[0-9.]+", "0", line) for line in lines]


def consoles(page: str) -> Iterator[tuple[Block, Block | None]]:
    """Each console of a page, and the answer that is shown below it."""
    found = run_here(page)
    for place, block in enumerate(found):
        if block.language == "console":
            following = found[place + 1] if place + 1 < len(found) else None
            shown = following and following.language == "json" and following.info.isdecimal()
            yield block, following if shown else None


def test_the_readmes(stack: DevStack, tmp_path: Path) -> None:
    terminal = Terminal(stack, tmp_path)
    for block, answer in consoles("README.md"):
        terminal.check(block, answer)


@pytest.fixture(scope="module")
def frontend(stack: DevStack, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """The consoles of the guide for frontends were typed; what their variables stand for."""
    terminal = Terminal(stack, tmp_path_factory.mktemp("frontend"))
    typed = [*consoles("docs/frontend.md")]
    assert len([answer for _, answer in typed if answer]) >= 10
    for block, answer in typed:
        terminal.check(block, answer)
    return terminal.comparison


def test_the_guide_for_frontends(frontend: Comparison) -> None:
    assert set(frontend.names) == {"BATCH", "FIRST", "SECOND", "THIRD", "NEXT"}


def test_the_guide_for_operators(stack: DevStack, frontend: Comparison, tmp_path: Path) -> None:
    (tmp_path / ".data").symlink_to(stack.data_dir)
    terminal = Terminal(stack, tmp_path, **stack._environment({}))
    for block, answer in consoles("docs/operations.md"):
        terminal.check(block, answer)
    copy = Store(f"sqlite:///{tmp_path / 'backup.db'}")
    with copy.read() as db:
        kept = set(db.scalars(select(batches.c.id)))
    copy.close()
    assert frontend.names["BATCH"] in kept


def test_a_line_of_the_log(stack: DevStack, frontend: Comparison) -> None:  # noqa: ARG001
    [block] = [block for block in run_here("docs/operations.md") if block.info == "log"]
    shown = json.loads(block.text)
    lines = [json.loads(line) for line in stack.log_file.read_text().splitlines() if line.startswith("{")]
    # By what it is of: a request's line comes after its answer, so the next one's may be before it.
    same = ("method", "path", "status")
    alike = [line for line in lines if set(line) == set(shown) and all(line[n] == shown[n] for n in same)]
    assert alike
    Comparison().check(shown, alike[0])


# --- Settings, and the database ---


def test_the_settings_of_a_live_network(tmp_path: Path) -> None:
    text = "".join(block.text for block in run_here("docs/operations.md") if block.language == "env")
    for name, secret in {
        "mnemonic": generate_mnemonic(12, Language.ENGLISH),
        "jwt": "s" * 32,
        "signer": "https://user:password@signer.internal:9000",
        "metrics": "a token for metrics",
    }.items():
        (tmp_path / name).write_text(secret)
    file = tmp_path / ".env"
    file.write_text(text.replace("=secrets", f"={tmp_path}"))
    names = re.findall(r"^CRENEAU_(\w+)=", text, re.MULTILINE)
    assert {name.lower() for name in names} <= set(Settings.model_fields)
    settings = Settings(_env_file=file)
    assert not settings.is_local
    assert settings.metrics_bearer == "a token for metrics"
    assert settings.signer == "https://user:password@signer.internal:9000"


@pytest.mark.parametrize("place", [0, 1])
def test_what_is_done_about_webhooks_that_were_given_up(tmp_path: Path, place: int) -> None:
    block = [block for block in run_here("docs/operations.md") if block.language == "sql"][place]
    store = Store(f"sqlite:///{tmp_path / 'hooks.db'}")
    store.migrate()
    row = {
        "message_id": "msg",
        "endpoint": "http://x",
        "batch_id": "0x",
        "event": "batch.mined",
        "body": "{}",
    }
    row |= {"attempts": 12, "due_at": 2**60, "dead": True, "created_at": 0}
    with store.write() as db:
        db.execute(insert(webhooks), [row, row | {"message_id": "other", "dead": False, "attempts": 3}])
        db.execute(text(block.text))
        left = {each.message_id: (each.dead, each.attempts) for each in db.execute(select(webhooks))}
    store.close()
    assert left == {"other": (False, 3)} | ({} if place else {"msg": (False, 0)})


# --- Webhooks ---


def test_a_webhook_is_verified_and_reads_as_shown(frontend: Comparison, receiver: Receiver) -> None:
    [code] = [block for block in run_here("docs/frontend.md") if block.language == "python"]
    [shown] = [
        block
        for block in run_here("docs/frontend.md")
        if block.info == "webhook" and block.language == "json"
    ]
    guide: dict[str, Any] = {}
    exec(code.text, guide)  # noqa: S102  # that is the test
    batch = frontend.names["BATCH"]

    def receive(headers: dict[str, str], body: bytes, sent: str) -> Any:
        """Has the guide's function read a message when it was sent, however long ago that was."""
        guide["time"] = SimpleNamespace(time=lambda: int(sent))
        return guide["receive"](headers, body, receiver.secret)

    def received() -> list[Any]:
        told = [each for each in [*receiver.got] if b"batch.mined" in each[1] and batch.encode() in each[1]]
        return [receive(*each, each[0]["webhook-timestamp"]) for each in told]

    until(received)
    messages = received()
    Comparison(dict(frontend.names)).check(json.loads(shown.text), messages[0])
    headers, body = receiver.got[0]
    sent = headers["webhook-timestamp"]
    with pytest.raises(ValueError, match="not signed"):
        receive(headers, body + b" ", sent)
    for late in (str(int(sent) + 301), str(int(sent) - 301)):
        with pytest.raises(ValueError, match="too old"):
            receive(headers, body, late)


# --- TypeScript ---

PRELUDE = """
declare const process: { env: Record<string, string> };
const session = JSON.parse(process.env.SESSION!) as { token: string; userId: string };
const account = process.env.ACCOUNT!;
const shown: string[] = [];
const show = (text: string) => void shown.push(text);
const hex = (text: string) =>
  "0x" + [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const provider = {
  request: async ({ method, params }: { method: string; params: unknown[] }): Promise<unknown> => {
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    const headers = { "Content-Type": "application/json" };
    const answer = await (await fetch(process.env.NODE!, { method: "POST", headers, body })).json();
    if (answer.error) throw new Error(answer.error.message);
    return answer.result;
  },
};
"""
"""The parts of a frontend: a session, a place to show things, and a browser wallet, here the node's."""


@pytest.fixture(scope="module")
def programs(stack: DevStack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[str]]]:
    """The TypeScript under each heading as a program that the compiler takes, and what it shall show."""
    folder = tmp_path_factory.mktemp("ts")
    source = ROOT / "web" / "src"
    (folder / "api").mkdir()
    for name in ("blockchainService.ts", "api/schema.d.ts"):
        (folder / name).write_text((source / name).read_text())
    blocks = [block for block in run_here("docs/frontend.md") if block.language == "ts"]
    found: dict[str, tuple[Path, list[str]]] = {}
    for number, (heading, under) in enumerate(groupby(blocks, lambda block: block.heading)):
        lines = "\n".join(block.text for block in under).replace(PORT, f"127.0.0.1:{stack.port}")
        imports = "\n".join(re.findall(r"^import .*$", lines, re.MULTILINE))
        rest = re.sub(r"^import .*$", "", lines, flags=re.MULTILINE)
        program = folder / f"program{number}.ts"
        program.write_text(
            f"{imports}\n{PRELUDE}\nasync function main() {{\n{rest}\n}}\n"
            "main().then(() => console.log(JSON.stringify(shown)));\n"
        )
        found[heading] = program.with_suffix(".js"), re.findall(r"show\(.*\); // (.*)$", rest, re.MULTILINE)
    options = "--strict --noUncheckedIndexedAccess --target es2022 --lib es2023,dom --module commonjs"
    options += " --moduleResolution node10 --ignoreDeprecations 5.0 --types --skipLibCheck"
    command = ["node", str(ROOT / "node_modules/typescript/bin/tsc"), *options.split()]
    compiled = subprocess.run(
        [*command, *map(str, sorted(folder.glob("program*.ts")))],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stdout
    return found


@contextmanager
def mining(stack: DevStack) -> Iterator[None]:
    """Blocks come meanwhile, so that what is in one gets final."""
    stopped = threading.Event()

    def mine() -> None:
        while not stopped.wait(0.2):
            stack.rpc("evm_mine")

    thread = threading.Thread(target=mine)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def run(stack: DevStack, program: Path, user: str) -> list[str]:
    """The output of a program for a user whose wallet, if one is needed, is the node's last account."""
    environment = {
        "PATH": os.environ["PATH"],
        "SESSION": json.dumps({"token": stack.token(user), "userId": user}),
        "ACCOUNT": stack.account(9).address,
        "NODE": stack.rpc_url,
    }
    with mining(stack):
        done = subprocess.run(["node", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shown: list[str] = json.loads(done.stdout)
    return shown


def test_the_client(stack: DevStack, programs: dict[str, tuple[Path, list[str]]]) -> None:
    program, expected = programs["The TypeScript client"]
    assert len(expected) == 4
    assert run(stack, program, STUDENT) == expected


def test_a_wallet(stack: DevStack, programs: dict[str, tuple[Path, list[str]]]) -> None:
    program, expected = programs["With a wallet"]
    student = stack.create_user("student")
    stack.mint(stack.account(9).address, 10**20)
    assert len(expected) == 4
    assert run(stack, program, student.id) == expected


def test_every_program_is_run(programs: dict[str, tuple[Path, list[str]]]) -> None:
    assert set(programs) == {"The TypeScript client", "With a wallet"}
