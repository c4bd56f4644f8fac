"""The files of the Dockerfile, started as compose.yaml starts them, book lessons.

There need not be a container engine: the image is a folder with those files alone and an environment that has
the packages, but not this checkout. Nothing but the database may change: the container can't write elsewhere.
"""

import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from environments import environment
from eth_account import Account
from postgres import PostgreSQL
from scenario import Scenario, slot
from waiting import PATIENCE

from tools.dev_stack import DevStack, free_port

ROOT = Path(__file__).parents[2]
PASSPHRASE, RELAYER = "a passphrase", 7
"""Of the key file, and which of the node's accounts is in it."""


@pytest.fixture
def scenario(postgres: PostgreSQL) -> Iterator[Scenario]:
    """People in a database that only the image's shim reads."""
    with DevStack(settings={"database_url": postgres.database()}) as own:
        own.stop_shim()
        yield Scenario.of(own, balance=100)


def of_the_last_stage(word: str) -> list[list[str]]:
    """The arguments of this word in the Dockerfile, after its last FROM."""
    last = (ROOT / "Dockerfile").read_text().split("\nFROM ")[-1]
    return [shlex.split(line)[1:] for line in last.splitlines() if line.startswith(f"{word} ")]


def image(folder: Path) -> None:
    """Copies what the image has, the page from where it was built."""
    ignore = shutil.ignore_patterns("__pycache__")
    for *stage, source, target in of_the_last_stage("COPY"):
        if source == "/venv":
            lock = (ROOT / "requirements-shim.lock").read_text()
            environment(folder / "venv", re.findall(r"^([\w.-]+)==", lock, re.MULTILINE))
        else:
            path = source.removeprefix("/app/") if stage else source
            shutil.copytree(ROOT / path, folder / "app" / target, ignore=ignore)


def start(scenario: Scenario, folder: Path, port: int) -> subprocess.Popen[bytes]:
    """The service of compose.yaml, with these folders for its own."""
    service: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["shim"]
    settings = scenario.stack.settings
    keyfile = Account.encrypt(scenario.stack.account(RELAYER).key, PASSPHRASE, "pbkdf2", 1000)
    secrets = {
        "database-password": "none is needed on a socket",
        "jwt": settings.token_secret,
        "mnemonic": settings.custody_mnemonic,
        "relayer-key": json.dumps(keyfile),
        "relayer-passphrase": PASSPHRASE,
    }

    def here(text: str) -> str:
        return text.replace("/run/", f"{folder}/run/")

    for empty in ("home", "run/secrets"):
        (folder / empty).mkdir(parents=True)
    for name, text in secrets.items():
        (folder / "run" / "secrets" / name).write_text(text)
    for secret in service["secrets"]:
        if isinstance(secret, dict):
            place = Path(here(secret["target"]))
            place.parent.mkdir(parents=True)
            shutil.copy(folder / "run" / "secrets" / secret["source"], place)

    given = {
        "CRENEAU_RPC_URL": scenario.stack.rpc_url,
        "CRENEAU_CHAIN_ID": scenario.stack.chain_id,
        "CRENEAU_ESCROW": scenario.stack.escrow,
        "CRENEAU_DEPLOYMENT_BLOCK": 0,
        "CRENEAU_PUBLIC_ORIGIN": f"http://127.0.0.1:{port}",
        "CRENEAU_DATABASE_URL": settings.database,
    }
    image = dict(pair.split("=", 1) for pairs in of_the_last_stage("ENV") for pair in pairs)
    inside = {
        "HOME": folder / "home",
        "PATH": f"{folder / 'venv' / 'bin'}:/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": 1,  # Where nothing can be written Python does without as well.
        "CRENEAU_HOST": "127.0.0.1",
        "CRENEAU_PORT": port,
    }
    # As compose puts in what is not set: the default, or nothing.
    unset = re.compile(r"\$\{\w+:(?:-([^}]*)|\?[^}]*)\}")
    composed = {
        name: here(unset.sub(lambda found: found[1] or "", value))
        for name, value in service["environment"].items()
    }
    values = image | composed | given | inside
    shell, options, script = service["command"]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [shell, options, here(script.replace("$$", "$"))],
            cwd=folder / "app",
            env={name: str(value) for name, value in values.items()},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def files(folder: Path) -> dict[str, bytes]:
    """The files in the folders that the container cannot write to."""
    paths = [path for part in ("app", "home", "run") for path in (folder / part).rglob("*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.is_file()}


def test_the_image_started_by_compose_books_lessons_and_writes_nothing(
    scenario: Scenario, tmp_path: Path
) -> None:
    image(tmp_path)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    shim = start(scenario, tmp_path, port)
    before = files(tmp_path)
    try:
        scenario.stack.wait_until_ready(shim, url, tmp_path / "log")
        client = scenario.stack.client(scenario.student.id, url=url)
        page = client.get("/")
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/html")

        body = scenario.body(slot("09:00"), slot("10:00"))
        answer = client.post("/api/blockchain/booking/batch", json=body)
        assert answer.status_code == 200, answer.text
        receipt = scenario.stack.rpc("eth_getTransactionReceipt", answer.json()["data"]["transactionHash"])
        assert receipt["from"] == scenario.stack.account(RELAYER).address.lower()
        assert scenario.stack.balance(scenario.student.wallet) == 30 * 10**18
    finally:
        shim.terminate()
        code = shim.wait(timeout=PATIENCE)
    assert code == -signal.SIGTERM, (tmp_path / "log").read_text()
    assert files(tmp_path) == before
    assert all(json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
