"""Files of the page as the shim serves them: small and current."""

import gzip
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from eth_account.hdaccount import generate_mnemonic
from eth_account.types import Language
from pydantic import ValidationError
from waiting import http

from api.schemas.requests import ANNONCE, STUDENT, TUTOR
from api.settings import Settings
from tools.dev_stack import ROOT, DevStack

DIST = ROOT / "web" / "dist"
SCREENS = ("/review", "/bookings", f"/bookings/batch/0x{'00' * 32}")
MOST_BYTES = 90_000
"""Of all that the first screen loads, compressed."""
MOST_SCRIPT = 30_000
"""Of its JavaScript."""


@pytest.mark.parametrize("path", ["/", *(f"{path}{end}" for path in SCREENS for end in ("", "/"))])
def test_every_address_of_the_page_is_its_document_which_is_asked_for_each_time(
    stack: DevStack, path: str
) -> None:
    answer = stack.client().get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.text == (DIST / "index.html").read_text()
    again = stack.client().get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_its_parts_are_compressed_and_kept_for_good(stack: DevStack) -> None:
    for path in initial_files():
        answer = stack.client().get(path)
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers.get("content-encoding") == ("gzip" if len(answer.content) >= 1000 else None)
        assert answer.content == (DIST / path[1:]).read_bytes()


@pytest.mark.parametrize("path", ["/nothing", "/assets/nothing.js", "/assets/../../../package.json"])
def test_any_other_address_stays_a_problem(stack: DevStack, path: str) -> None:
    answer = stack.client().get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_other_methods_stay_refused(stack: DevStack) -> None:
    assert stack.client().post("/").status_code == 405
    assert stack.client().delete("/api/blockchain/booking").status_code == 405


def test_the_first_screen_is_small_and_loads_no_wallet() -> None:
    files = [DIST / "index.html", *(DIST / path[1:] for path in initial_files())]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) <= MOST_BYTES
    script = [file for file in files if file.suffix == ".js"]
    assert sum(len(gzip.compress(file.read_bytes())) for file in script) <= MOST_SCRIPT
    [wallet] = DIST.glob("assets/wallet-*.js")
    assert wallet not in files
    assert "eip6963" in wallet.read_text()
    assert not any("eip6963" in file.read_text() for file in files)


def test_nothing_in_it_names_another_host() -> None:
    for file in DIST.rglob("*.*"):
        hosts = set(re.findall(r"https?://[^\s\"'`)]+", file.read_text()))
        assert not {host for host in hosts if not host.startswith("http://www.w3.org/")}, file


def test_the_clients_types_are_those_of_the_documented_api(tmp_path: Path) -> None:
    made = tmp_path / "schema.d.ts"
    command = [ROOT / "node_modules" / ".bin" / "openapi-typescript", "docs/openapi.json", "--output", made]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert made.read_text() == (ROOT / "web" / "src" / "api" / "schema.d.ts").read_text(), "make openapi"


def test_the_demonstration_gives_its_people_tokens(stack: DevStack) -> None:
    about = stack.client().get("/page.json").json()
    assert about["annonceId"] == ANNONCE
    assert [(person["id"], person["role"]) for person in about["demo"]] == [
        (STUDENT, "student"),
        (TUTOR, "tutor"),
    ]
    for person in about["demo"]:
        headers = {"Authorization": f"Bearer {person['token']}"}
        account = http.get(f"{stack.url}/api/blockchain/account", headers=headers).json()["data"]
        assert (account["id"], account["role"]) == (person["id"], person["role"])


def test_without_the_setting_nobody_gets_a_token(stack: DevStack) -> None:
    stack.stop_shim()
    stack.start_shim(demo=False)
    try:
        about = stack.client().get("/page.json").json()
        assert (about["annonceId"], about["demo"]) == (None, [])
    finally:
        stack.stop_shim()
        stack.start_shim()


def test_on_a_live_network_the_setting_is_refused() -> None:
    live: dict[str, Any] = {
        "chain_id": 41923,
        "jwt_secret": "x" * 32,
        "mnemonic": generate_mnemonic(12, Language.ENGLISH),
        "relayer": "r",
        "public_origin": "https://book.example.org",
        "jwt_audience": "creneau",
        "jwt_issuer": "https://users.example.org",
    }
    assert not Settings(_env_file=None, **live).demo
    with pytest.raises(ValidationError, match="chain 41923 is live: CRENEAU_DEMO gives away tokens"):
        Settings(_env_file=None, demo=True, **live)


def test_an_account_tells_its_wallet_and_balance_to_its_user_only(stack: DevStack) -> None:
    student = stack.create_user("student", balance=12)
    own = stack.create_user("student", wallet="0x" + "5" * 40)
    for user, custodial, wei in ((student, True, "12000000000000000000"), (own, False, "0")):
        data = stack.client(user.id).get("/api/blockchain/account").json()["data"]
        assert data == {
            "id": user.id,
            "role": "student",
            "wallet": user.wallet,
            "custodial": custodial,
            "balanceWei": wei,
        }
    assert stack.client().get("/api/blockchain/account").json()["code"] == "token_missing"
    assert stack.client("nobody").get("/api/blockchain/account").json()["code"] == "unknown_user"


def initial_files() -> list[str]:
    """The files that the document names."""
    return re.findall(r'(?:src|href)="(/assets/[^"]+)"', (DIST / "index.html").read_text())
