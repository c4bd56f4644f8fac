"""The container's files and the forge's workflow: what can be checked without engine or forge."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.settings import Settings

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SETTINGS = {f"CRENEAU_{name.upper()}" for name in Settings.model_fields}
OF_THE_IMAGE = {"CRENEAU_HOST", "CRENEAU_PORT", "CRENEAU_DATA_DIR"}
NEVER = {name.removesuffix("_FILE") for name in SETTINGS if name.endswith("_FILE")} | {
    *("CRENEAU_RELAYER_MNEMONIC_INDEX", "CRENEAU_ARBITER_MNEMONIC_INDEX", "CRENEAU_DEMO")
}
"""Secrets that are no files, and what is for the local network only."""


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)
    ]


# --- Dockerfile ---


def test_the_stages_and_what_they_copy_exist() -> None:
    stages: list[str] = []
    for word, rest in instructions():
        if word == "FROM":
            image, *named = rest.split(" AS ")
            assert re.fullmatch(r"[a-z]+:\d[\w.-]*-slim", image), "of the usual registry, with a version"
            stages += named
        if word == "COPY":
            source, *paths = shlex.split(rest)
            if source.startswith("--from="):
                assert source.removeprefix("--from=") in stages
                continue
            for path in [source, *paths][:-1]:
                assert (ROOT / path).exists(), path
                assert f"!{path}" in (ROOT / ".dockerignore").read_text().splitlines(), path
    assert stages == ["page", "packages"]


def test_the_image_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    last = instructions()[max(n for n, (word, _) in enumerate(instructions()) if word == "FROM") :]
    words = [word for word, _ in last]
    [user] = [rest for word, rest in last if word == "USER"]
    assert user not in {"root", "0"}
    assert all(words.index("USER") > place for place, word in enumerate(words) if word in {"RUN", "COPY"})
    [health] = [rest for word, rest in last if word == "HEALTHCHECK"]
    assert "/readyz" in health
    assert f":{Settings.model_fields['port'].default}/" in health
    assert last[-1] == ("CMD", '["python", "-m", "api", "serve"]')


def test_packages_come_from_the_lock_files_with_their_hashes() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and re.search(r"install|npm ci", rest)]
    assert any("--require-hashes -r requirements-shim.lock" in rest for rest in installs)
    assert any(rest.startswith("npm ci ") for rest in installs)
    assert not re.search(r"apt-get|curl|wget|npm install|^ADD ", DOCKERFILE, re.MULTILINE)


def test_the_image_has_the_versions_that_are_tested() -> None:
    of_the_image, all_of_them = (
        set(re.findall(r"^[\w.-]+==\S+", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements-shim.lock", "requirements.lock")
    )
    assert of_the_image <= all_of_them
    assert not {each for each in of_the_image if re.match(r"eth-ape|web3|numpy|pandas|pytest", each)}


def test_the_environment_of_the_image_is_settings() -> None:
    assert set(re.findall(r"CRENEAU_\w+", DOCKERFILE)) <= SETTINGS


# --- compose.yaml ---


def test_every_setting_is_passed_and_nothing_else() -> None:
    environment = COMPOSE["services"]["shim"]["environment"]
    assert set(environment) | OF_THE_IMAGE | NEVER == SETTINGS
    assert not set(environment) & (OF_THE_IMAGE | NEVER)
    for name, value in environment.items():
        for variable in re.findall(r"\$\{(\w+)", str(value)):
            assert variable == name
    known = {"APE_ACCOUNTS_relayer_PASSPHRASE", "APE_DATA_FOLDER", "PGPASSWORD"}
    assert set(re.findall(r"export (\w+)=", COMPOSE["services"]["shim"]["command"][2])) == known


def test_every_secret_is_a_file_that_is_given() -> None:
    for name, service in COMPOSE["services"].items():
        given = [each["source"] if isinstance(each, dict) else each for each in service["secrets"]]
        assert set(given) <= set(COMPOSE["secrets"])
        used = set(re.findall(r"/run/secrets/([\w-]+)", yaml.dump(service)))
        assert used <= set(given), name
        for variable, value in service["environment"].items():
            if re.search("PASSWORD|SECRET|MNEMONIC|PASSPHRASE", variable):
                assert variable.endswith("_FILE"), variable
                # Of a secret that is not needed: in the folder, if the variable names one.
                assert str(value).startswith("/run/secrets/") or value == f"${{{variable}:-}}"
    assert all(Path(secret["file"]).parts[0] == "secrets" for secret in COMPOSE["secrets"].values())
    assert "/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_shim_waits_for_a_healthy_postgresql() -> None:
    shim, database = COMPOSE["services"]["shim"], COMPOSE["services"]["database"]
    assert shim["depends_on"]["database"]["condition"] == "service_healthy"
    assert database["image"].startswith("postgres:")
    assert "pg_isready" in database["healthcheck"]["test"]
    assert "@database/" in shim["environment"]["CRENEAU_DATABASE_URL"]
    volume, _, _ = database["volumes"][0].partition(":")
    assert volume in COMPOSE["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in shim["ports"])
    assert "ports" not in database


def test_the_settings_of_the_compose_file_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "jwt": "s" * 32,
        "mnemonic": "minute kitten easy timber wish error echo october ring taxi marriage gym",
    }
    for name, text in secrets.items():
        (tmp_path / name).write_text(text + "\n")
    given = {
        "CRENEAU_RPC_URL": "https://node.example.org",
        "CRENEAU_CHAIN_ID": "656476",
        "CRENEAU_ESCROW": "0x" + "11" * 20,
        "CRENEAU_DEPLOYMENT_BLOCK": "7",
        "CRENEAU_PUBLIC_ORIGIN": "https://book.example.org",
        "CRENEAU_JWT_AUDIENCE": "creneau",
        "CRENEAU_JWT_ISSUER": "https://users.example.org",
    }
    for name, value in COMPOSE["services"]["shim"]["environment"].items():
        plain = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value).replace("/run/secrets", str(tmp_path))
        monkeypatch.setenv(name, given.get(name) or plain)
    settings = Settings(_env_file=None)
    assert settings.custody_mnemonic == secrets["mnemonic"]
    assert settings.database.startswith("postgresql+psycopg://")
    [network] = COMPOSE["networks"]["default"]["ipam"]["config"]
    assert settings.forwarded_allow_ips == network["gateway"]


# --- The forge's workflow ---


def test_the_workflow_runs_what_every_machine_runs() -> None:
    # YAML 1.1 takes `on` for true.
    workflow: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert set(workflow[True]) == {"push", "pull_request"}
    runs = {}
    for name, job in workflow["jobs"].items():
        assert 0 < job["timeout-minutes"] <= 60
        runs[name] = [step["run"] for step in job["steps"] if "run" in step]
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
    assert runs == {"ci": [".ci/run"], "scan": ["make scan"]}
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    for files in re.findall(r"hashFiles\(([^)]*)\)", yaml.dump(workflow)):
        for file in re.findall(r"[\w./-]+", files):
            assert (ROOT / file).is_file(), file
