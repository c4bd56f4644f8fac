"""Secrets stay secret: whatever is wrong with one, and whatever is gone, no output shows a part of it."""

import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import jwt
import psycopg
import pytest
from eth_account import Account
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from forked import Forked, run, shims
from key_server import KeyServer
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parents[1] / "chaos"))

from postgres import PostgreSQL
from proxy import Fault, Proxy
from waiting import http, until

from api.chain import signers
from api.settings import DEVELOPMENT_ACCOUNTS, DEVELOPMENT_CUSTODY, Settings
from creneau import published
from tools.dev_stack import DevStack, free_port

KINDS = {
    "right": lambda s: s,
    "a line break": lambda s: _amid(s, "\n"),
    "two spaces": lambda s: _amid(s, "  "),
    "a tab": lambda s: _amid(s, "\t"),
    "upper case": str.upper,
    "double quotes": lambda s: f'"{s}"',
    "single quotes": lambda s: f"'{s}'",
    "a no-break space": lambda s: _amid(s, "\u00a0"),
    "a typo": lambda s: f"{s[:-1]}z",
    "a space of no width": lambda s: _amid(s, "\u200b"),
    "a sign of addresses": lambda s: _amid(s, "/@:["),
    "a part left out": lambda s: s[: 2 * len(s) // 3],
    "a terminal's escape": lambda s: _amid(s, "\x1b[31m"),
}
"""Ways in which a secret can be wrong; and right."""

OUTAGES = [
    *("nothing", "node", "database", "identity provider", "user service", "remote signer", "everything"),
]
FATAL = {"node", "database", "everything"}
"""Without these no process starts."""
_AT_ONCE = 4  # Starts, which wait for much.


def _amid(secret: str, what: str) -> str:
    """The secret with something in its midst; of several words between two of them."""
    at = secret.find(" ", len(secret) // 2)
    return secret[:at] + what + secret[at + 1 :] if at > 0 else f"{secret[:20]}{what}{secret[20:]}"


def _secrets() -> dict[str, str]:
    """Secrets of which every part is a word that nobody else would write."""
    words = "c" + os.urandom(24).hex()
    return {
        "MNEMONIC": generate_mnemonic(12, Language.ENGLISH),
        "WEBHOOK_SECRET": f"whsec_{words[:44]}",
        **{
            name: os.urandom(24).hex()
            for name in (
                *("JWT_SECRET", "DIRECTORY_TOKEN", "METRICS_TOKEN", "KEYFILE_PASSPHRASE"),
                *("RPC_URL", "DATABASE_URL", "SIGNER_URL", "APE_ACCOUNTS_relayer_PASSPHRASE"),
            )
        },
    }


class Place:
    """A folder, a node behind an address with a key, a database and a remote signer with a password."""

    def __init__(
        self, folder: Path, proxy: Proxy, stack: DevStack, postgres: PostgreSQL, signer: KeyServer
    ) -> None:
        self.folder, self.proxy, self.stack, self.signer = folder, proxy, stack, signer
        (folder / "kept-elsewhere").write_text(f"bob {signer.add().address}")
        self.right = _secrets()
        self.database = postgres.database()
        self.gone = f"127.0.0.1:{free_port()}"
        for name, passphrase, account in (
            ("accounts/relayer", "APE_ACCOUNTS_relayer_PASSPHRASE", stack.account(5)),
            ("custody/ann", "KEYFILE_PASSPHRASE", Account.create()),
        ):
            file = folder / f"{name}.json"
            file.parent.mkdir()
            file.write_text(json.dumps(Account.encrypt(account.key, self.right[passphrase], "pbkdf2", 1000)))
        self._numbers = itertools.count(1)

    def environment(self, folder: Path, secrets: dict[str, str], outage: str) -> dict[str, str]:
        """The environment of a process with these secrets and this folder, from which something is gone."""

        def away(what: str) -> bool:
            return outage in {what, "everything"}

        plain = {
            "CHAIN_ID": "31337",
            "ESCROW": self.stack.escrow,
            "DEPLOYMENT_BLOCK": str(self.stack.settings.deployment_block),
            "RELAYER": "relayer",
            "KEYFILE_DIR": str(self.folder / "custody"),
            "PORT": str(free_port()),
            "LOG_FORMAT": "json",
            "DATA_DIR": str(folder),
            "SIGNER_ACCOUNTS": str(self.folder / "kept-elsewhere"),
        }
        node = f"http://{self.gone}" if away("node") else self.proxy.url
        plain["RPC_URL"] = f"{node}/v3/{secrets['RPC_URL']}"
        where = self.database.removeprefix("postgresql+psycopg://creneau@")
        where = f"{self.gone}/creneau" if away("database") else where
        plain["DATABASE_URL"] = f"postgresql+psycopg://creneau:{secrets['DATABASE_URL']}@{where}"
        if away("identity provider"):
            plain["JWT_JWKS_URL"] = f"http://{self.gone}/keys"
        if away("user service"):
            plain["DIRECTORY_URL"] = f"http://{self.gone}/users"
        signer = self.gone if away("remote signer") else f"127.0.0.1:{self.signer.port}"
        given = {}
        for name, secret in secrets.items():
            if name.startswith("APE_"):
                given[name] = secret
            elif name not in plain:  # Of its own, in a file.
                file = folder / name
                file.write_text(f"http://shim:{secret}@{signer}/keys" if name == "SIGNER_URL" else secret)
                plain[f"{name}_FILE"] = str(file)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CRENEAU_")}
        given |= {f"CRENEAU_{name}": value for name, value in plain.items()}
        return {**kept, "APE_DATA_FOLDER": str(self.folder), "PYTHONUTF8": "1", **given}

    def run(self, secrets: dict[str, str], outage: str) -> tuple[int | None, str]:
        """The exit code of a process, None for one that served until it was told to end, and its output."""
        folder = self.folder / str(next(self._numbers))
        folder.mkdir()
        log = folder / "log"
        # What a process that ends says while it waits, the test below has.
        environment = self.environment(folder, secrets, outage) | {"CRENEAU_DRAIN_SECONDS": "0"}
        files = [os.devnull, str(log), str(log)]
        process = Forked(shims(), str(folder), environment, ["serve"], files)
        url = f"http://127.0.0.1:{environment['CRENEAU_PORT']}"
        served = False
        while process.poll() is None and not served:
            with socket.socket() as probe:
                served = probe.connect_ex(("127.0.0.1", int(environment["CRENEAU_PORT"]))) == 0
            time.sleep(0.01)
        if served:
            self.ask(url, secrets)
            process.send_signal(15)
            process.wait()
        return None if served else process.poll(), log.read_text()

    def ask(self, url: str, secrets: dict[str, str]) -> None:
        """Ask for what needs each of the services."""
        claims = {"sub": "somebody", "exp": int(time.time()) + 600}
        token = jwt.encode(claims, secrets["JWT_SECRET"].strip(), "HS256", headers={"kid": "unknown"})
        for headers in ({}, {"Authorization": f"Bearer {token}"}):
            assert http.get(f"{url}/api/blockchain/booking/user/somebody", headers=headers).status_code < 504
            assert http.get(f"{url}/readyz", headers=headers).status_code in {200, 503}


@pytest.fixture
def place(tmp_path: Path, stack: DevStack, postgres: PostgreSQL) -> Iterator[Place]:
    with Proxy(stack.rpc_url, 1) as proxy, KeyServer() as signer:
        yield Place(tmp_path, proxy, stack, postgres, signer)


def shows(output: str, secrets: dict[str, str]) -> list[str]:
    """Parts of secrets, of at least eight signs, and pairs of a mnemonic's words, that an output has."""
    output = " ".join(output.lower().split())
    parts = {part for secret in secrets.values() for part in re.findall(r"\w{8,}", secret.lower())}
    words = re.findall(r"\w+", secrets["MNEMONIC"].lower())
    parts |= {f"{one} {other}" for one, other in pairwise(words)}
    return sorted(part for part in parts if part in output)


def test_no_output_shows_a_secret_that_is_broken_while_something_is_gone(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind is in all secrets at once. Where that is refused, the secret that is named is mended, until
    only those are left that a process starts with; and those are met with each outage."""

    def meet(kind: str) -> int:
        """Starts with this kind of secrets. How often one was refused."""
        broken, refused = {name: KINDS[kind](secret) for name, secret in place.right.items()}, 0
        while True:
            code, output = place.run(broken, "nothing")
            assert shows(output, broken) == shows(output, place.right) == [], (kind, output)
            if code is None:
                break
            assert code == 1
            assert len(output.splitlines()) == 1, output
            named = [name for name in broken if name in output and broken[name] != place.right[name]]
            assert named, (kind, output)
            broken[named[0]] = place.right[named[0]]
            refused += 1
        for outage in OUTAGES[1:]:
            code, output = place.run(broken, outage)
            assert shows(output, broken) == shows(output, place.right) == [], (kind, outage, output)
            assert code == (1 if outage in FATAL else None), output
            assert all(json.loads(line) for line in output.splitlines())
        return refused

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        refused = sum(pool.map(meet, KINDS))
    assert refused >= len(KINDS)
    with capsys.disabled():
        cases = (len(KINDS) - 1) * len(OUTAGES)
        starts = next(place._numbers) - 1
        print(f"\n{cases} cases, {len(place.right)} secrets, {starts} starts, {refused} refusals")


def test_what_goes_away_in_flight_is_told_in_json_without_the_address(place: Place) -> None:
    environment = place.environment(place.folder, place.right, "nothing")
    port, log = environment["CRENEAU_PORT"], place.folder / "in-flight.log"
    files, url = [os.devnull, str(log), str(log)], f"http://127.0.0.1:{port}"
    process = Forked(shims(), str(place.folder), environment, ["serve"], files)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(port))) == 0

    until(answers)
    until(lambda: http.get(f"{url}/readyz").json()["checks"]["view"]["ok"])
    place.proxy.misbehave(1, [Fault.DROP])
    until(lambda: "the node does not answer" in log.read_text())
    place.ask(url, place.right)
    place.proxy.heal()
    name = place.database.partition("@/")[2].partition("?")[0]
    with psycopg.connect(place.database.replace(name, "postgres").replace("+psycopg", "")) as admin:
        admin.autocommit = True
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        ends = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
        admin.execute(ends, [name])
        until(lambda: "the database does not answer" in log.read_text())
        place.ask(url, place.right)
    process.send_signal(15)
    process.wait()
    output = log.read_text()
    assert shows(output, place.right) == []
    assert all({"event", "level", "timestamp"} <= json.loads(line).keys() for line in output.splitlines())
    assert "/v3/" not in output


def test_a_mnemonic_with_a_typo_is_refused_in_one_sentence(tmp_path: Path) -> None:
    words = generate_mnemonic(12, Language.ENGLISH).split()
    file = tmp_path / "mnemonic"
    file.write_text(" ".join([*words[:10], f"{words[10]}x", words[11]]))
    refused = run(tmp_path, "serve", chain_id=41923, jwt_secret="s" * 40, mnemonic_file=file)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "CRENEAU_MNEMONIC is no mnemonic (BIP-39): 12 to 24 words with a checksum, without quotes; is a word"
        " misspelt, left out or in another place?\n"
    )


@pytest.mark.parametrize("between", ["\n", "\r\n", "  ", "\t", "\u00a0", " \n\n "])
@pytest.mark.parametrize("before", ["", "\ufeff", "\n"])
def test_white_space_in_a_mnemonic_does_not_count(tmp_path: Path, between: str, before: str) -> None:
    words = generate_mnemonic(12, Language.ENGLISH)
    file = tmp_path / "mnemonic"
    file.write_text(before + words.replace(" ", between).upper() + between, newline="")
    assert Settings(_env_file=None, mnemonic_file=file).custody_mnemonic == words


# --- Keys that everybody has ---

LIVE: dict[str, Any] = {
    "chain_id": 41923,
    "jwt_secret": "s" * 40,
    "relayer": "relayer",
    "public_origin": "https://book.example.org",
    "jwt_audience": "creneau",
    "jwt_issuer": "https://users.example.org",
}
BESU = "0x8f2a55949038a9610f50fb23b5883af3b4ecb3c3bb792cbcefbd1542c692be63"
FIRST = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


@pytest.mark.parametrize("role", ["relayer", "arbiter"])
@pytest.mark.parametrize("key", [FIRST, BESU])
def test_a_keyfile_of_a_key_that_everybody_has_is_for_the_local_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str, key: str
) -> None:
    (tmp_path / "accounts").mkdir()
    for alias, each in (("public", key), ("relayer", Account.create().key)):
        keyfile = Account.encrypt(each, "secret", "pbkdf2", 1000)
        (tmp_path / "accounts" / f"{alias}.json").write_text(json.dumps(keyfile))
        monkeypatch.setenv(f"APE_ACCOUNTS_{alias}_PASSPHRASE", "secret")
    monkeypatch.setenv("APE_DATA_FOLDER", str(tmp_path))
    names = {"mnemonic": generate_mnemonic(12, Language.ENGLISH), role: "public"}
    live = Settings(_env_file=None, **LIVE | names)
    load = signers.relayer_signers if role == "relayer" else signers.arbiter_signers
    address = Account.from_key(key).address
    with pytest.raises(ValueError, match=r"^chain 41923 is live") as refused:
        load(live)
    assert str(refused.value) == (
        f"chain 41923 is live: CRENEAU_{role.upper()} names {address}, a development account whose key"
        " everybody has"
    )
    assert [each.address for each in load(live.model_copy(update={"chain_id": 31337}))] == [address]
    assert load(live.model_copy(update={role: "relayer"}))


@pytest.mark.parametrize("words", [DEVELOPMENT_ACCOUNTS, DEVELOPMENT_CUSTODY, *published.MNEMONICS])
@pytest.mark.parametrize("space", [" ", "\u00a0", "\n"])
def test_a_mnemonic_that_everybody_has_is_for_the_local_network(words: str, space: str) -> None:
    given = {"mnemonic": words.strip().replace(" ", space).title()}
    with pytest.raises(
        ValidationError, match="chain 41923 is live: set CRENEAU_MNEMONIC; everybody has this"
    ):
        Settings(_env_file=None, **LIVE | given)
    assert Settings(_env_file=None, **given).is_local


def test_a_users_key_that_everybody_has_is_not_imported(tmp_path: Path) -> None:
    names = {
        "mnemonic": generate_mnemonic(12, Language.ENGLISH),
        "keyfile_dir": tmp_path,
        "keyfile_passphrase": "a passphrase",
    }
    live = Settings(_env_file=None, **LIVE | names)
    keys = signers.keyfiles(live, signers.custodian(live))
    with pytest.raises(ValueError, match=r"^ann: everybody has this key, and the network is live$"):
        keys.add("ann", BESU)
    assert [*tmp_path.iterdir()] == []
    keys.add("ann", Account.create().key.to_0x_hex())


@pytest.mark.parametrize("address", ["named", "left out"])
def test_a_keyfile_of_a_key_that_everybody_has_is_refused_if_it_was_copied_there(
    tmp_path: Path, address: str
) -> None:
    """At the start if the keyfile names the account, and else when it is to sign."""
    names = {"mnemonic": generate_mnemonic(12, Language.ENGLISH), "keyfile_dir": tmp_path}
    live = Settings(_env_file=None, **LIVE | names | {"keyfile_passphrase": "a passphrase"})
    for name, key in (("ann", Account.create().key), ("bob", BESU)):
        keyfile = Account.encrypt(key, "a passphrase", kdf="pbkdf2", iterations=2)
        if address == "left out":
            del keyfile["address"]
        (tmp_path / f"{name}.json").write_text(json.dumps(keyfile, indent=2))

    def use() -> None:
        signers.custodian(live).signer("bob.json")

    with pytest.raises(ValueError, match=r"^bob\.json: everybody has this key, and the network is live$"):
        use()
    local = live.model_copy(update={"chain_id": 31337})
    assert signers.custodian(local).signer("bob.json").address == Account.from_key(BESU).address


# --- Logs ---


LOGS = """
import logging, sys, threading
from api import logs

logs.configure(sys.argv[1], ["PROVIDER-KEY-123"])
logging.getLogger("some.library").warning("asked %s", "/v3/PROVIDER-KEY-123\\x1b[2J\\nlevel=error")
logging.getLogger("urllib3.connectionpool").warning("Retrying: /v3/ANOTHER")

def fail():
    raise RuntimeError("of PROVIDER-KEY-123\\x1b[31m")

try:
    fail()
except RuntimeError:
    logging.getLogger("some.library").exception("failed")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
fail()
"""


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_librarys_lines_and_what_nobody_caught_are_ours_and_harmless(style: str) -> None:
    command = [sys.executable, "-c", LOGS, style]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert not re.search("PROVIDER|Retrying", lines)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lines)
    assert r"asked /v3/…\x1b[2J\nlevel=error" in lines.replace(r"\\", "\\")
    assert lines.count("RuntimeError: of …") == 3
    assert lines.count("an exception that nobody caught") == 2
    if style == "json":
        asked, failed, *uncaught = map(json.loads, lines.splitlines())
        assert (asked["event"], asked["level"]) == (r"asked /v3/…\x1b[2J\nlevel=error", "warning")
        assert asked["logger"] == failed["logger"] == "some.library"
        assert [each["level"] for each in (failed, *uncaught)] == ["error"] * 3


def test_control_characters_of_a_path_are_escaped_on_the_console(stack: DevStack) -> None:
    port = free_port()
    process = stack.start_process(port=port, log_format="console")
    try:
        url = f"http://127.0.0.1:{port}"
        stack.wait_until_ready(process, url)
        assert http.get(f"{url}/%1b[2J%1b[31mX%0aforged%c2%9b%e2%80%ae").status_code in {401, 404}
        until(lambda: "forged" in stack.log_file.read_text())
    finally:
        stack.stop_process(process)
    [line] = [line for line in stack.log_file.read_text().splitlines() if "forged" in line]
    assert r"/\x1b[2J\x1b[31mX\nforged\x9b\u202e" in line.replace(r"\\", "\\")
    assert line.isprintable()
