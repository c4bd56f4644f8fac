"""All that the pages name exists, and all that exists is on them."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from blocks import PAGES, ROOT, blocks_of, prose_of
from prometheus_client.parser import text_string_to_metric_families

from api import reference
from api.errors import Code
from api.outbox.models import TRANSITIONS, State
from api.schemas.requests import STUDENT
from api.settings import Settings
from api.webhooks import EVENTS
from creneau.ape.deploy import PROXY
from creneau.ape.networks import LIVE
from tools.dev_stack import DevStack

DOCS = ROOT / "docs"
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
OTHER_PROGRAMS = frozenset({"CRENEAU_PYTHON", "CRENEAU_ACCOUNT"})
"""Read by the set-up and by the console, not by the shim."""

NONE = "\N{EN DASH}"
_LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
_SETTING = re.compile(r"\bCRENEAU_[A-Z_0-9]+")

LAYERS = ("api",)


def anchors(page: Path) -> set[str]:
    """As a forge makes them of the headings."""
    found = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in found)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def row_names(page: str, pattern: str) -> list[str]:
    """The names in the first column of a page's tables."""
    cells = re.findall(r"^\| ([^|]*) \|", (DOCS / page).read_text(), re.MULTILINE)
    return [name for cell in cells for name in re.findall(pattern, cell)]


# --- Links ---


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in _LINK.findall(prose_of(page)) + re.findall(r"!\[[^]]*\]\(([^)]+)\)", prose_of(page)):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{name}: {target}"


@pytest.mark.parametrize("name", NAMES)
def test_every_file_that_is_named_is_there(name: str) -> None:
    folders = "api|contracts|creneau|docs|scripts|tests|tools|web"
    for path in re.findall(rf"`((?:{folders})/[\w./-]+)`", prose_of(ROOT / name)):
        assert (ROOT / path).exists(), f"{name}: {path}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = (target.partition("#")[0] for target in _LINK.findall(prose_of(page)))
        left += [(page.parent / path).resolve() for path in targets if path.endswith(".md")]
    assert set(PAGES) <= reached


# --- Commands ---


@pytest.mark.parametrize("name", NAMES)
def test_every_target_of_make_is_one(name: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / name).read_text()
    named = set(re.findall(r"`make ([a-z-]+)", text)) | set(
        re.findall(r"^ *\$ make ([a-z-]+)", text, re.MULTILINE)
    )
    assert named <= targets


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_the_shim_is_one(name: str) -> None:
    main = (ROOT / "api" / "__main__.py").read_text()
    commands = set(re.findall(r'add_parser\(\s*"([\w-]+)"', main))
    assert set(re.findall(r"python -m api ([\w-]+)", (ROOT / name).read_text())) <= commands


@pytest.mark.parametrize("name", NAMES)
def test_every_script_of_ape_is_one(name: str) -> None:
    for script in re.findall(r"ape run ([a-z]+)", (ROOT / name).read_text()):
        assert (ROOT / "scripts" / f"{script}.py").exists(), script


def test_the_networks_and_the_options_of_a_deployment() -> None:
    page = (DOCS / "deployment.md").read_text()
    rows = re.findall(r"^\| `([\w:-]+)` \| (\d+) \| `(\w+)` \|", page, re.MULTILINE)
    assert {name: int(chain_id) for name, chain_id, _ in rows} == {each.name: each.chain_id for each in LIVE}
    config = yaml.safe_load((ROOT / "ape-config.yaml").read_text())["node"]
    for name, _, variable in rows:
        ecosystem, network = name.split(":")
        assert config[ecosystem][network]["uri"] == f"${variable}"
    script = (ROOT / "scripts" / "deploy.py").read_text()
    options = set(re.findall(r'click\.option\(\s*"(--[\w-]+)"', script))
    assert set(re.findall(r"^\| `(--[\w-]+)`", page, re.MULTILINE)) == options | {"--account"}
    figures = dict(re.findall(r"^\| `(--[\w-]+)` \| (\d+):", page, re.MULTILINE))
    for network in LIVE:
        assert network.cancel_window == timedelta(hours=int(figures["--cancel-hours"]))
        assert network.review_period == timedelta(hours=int(figures["--review-hours"]))
        assert network.arbitration_period == timedelta(days=int(figures["--arbitration-days"]))
    assert PROXY in page


# --- The API ---


def test_addresses_codes_and_methods_of_the_guide_for_frontends_exist() -> None:
    text = prose_of(DOCS / "frontend.md")
    paths = json.loads((DOCS / "openapi.json").read_text())["paths"]
    there = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    named = re.findall(r"`(GET|POST|PATCH|PUT) (/[^`?…]+)", text)
    assert len(named) >= 10
    assert {(method, f"/api/blockchain{path}") for method, path in named} <= there
    for method, act in re.findall(r"^\| `(PATCH|POST) …/(\w+)`", text, re.MULTILINE):
        for of in ("{id}", "batch/{batchId}"):
            assert (method, f"/api/blockchain/booking/{of}/{act}") in there
    assert set(re.findall(r"`([a-z]+_[a-z_]+)`", text)) <= set(Code)
    client = (ROOT / "web" / "src" / "blockchainService.ts").read_text()
    methods = set(re.findall(r"^  async (\w+)\(", client, re.MULTILINE))
    table = text[text.index("| method | does |") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == methods


def test_every_state_of_a_batch_is_described_and_every_change_of_it() -> None:
    text = prose_of(DOCS / "frontend.md")
    table = text[text.index("| `state` | is |") :].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) - {"state"} == {str(state) for state in State}
    text = (DOCS / "architecture.md").read_text()
    told: dict[str, set[str]] = {}
    before: list[str] = []
    for row in text[text.index("| from | to |") :].split("\n\n")[0].splitlines()[2:]:
        _, here, after, *_ = row.split("|")
        before = re.findall(r"`(\w+)`", here) or before
        for state in before:
            told.setdefault(state, set()).update(re.findall(r"`(\w+)`", after))
    assert told == {str(state): {str(each) for each in after} for state, after in TRANSITIONS.items()}


def test_every_event_that_webhooks_tell_is_named() -> None:
    """A batch's by name; those of acts are called alike."""
    prose = prose_of(DOCS / "frontend.md")
    assert set(re.findall(r"\bbatch\.([a-z]+)\b", prose)) == EVENTS
    assert set(re.findall(r"\bact\.([a-z]+)\b", prose)) <= EVENTS


# --- Settings ---


@pytest.mark.parametrize("name", [*NAMES, ".env.example", "docs/alerts.yml"])
def test_every_setting_that_is_named_exists(name: str) -> None:
    known = {f"CRENEAU_{field.upper()}" for field in Settings.model_fields} | OTHER_PROGRAMS
    assert set(_SETTING.findall((ROOT / name).read_text())) <= known


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("docs/errors.md", reference.errors),
        ("docs/settings.md", reference.settings),
        ("web/src/api/sentences.ts", reference.sentences),
    ],
)
def test_a_generated_file_is_what_its_source_says(page: str, made: Callable[[], str]) -> None:
    assert (ROOT / page).read_text() == made(), "stale: make openapi"


def test_every_setting_is_described() -> None:
    assert [name for name, setting in Settings.model_fields.items() if not setting.description] == []


def test_every_setting_is_on_its_page_once_with_its_default() -> None:
    text = (DOCS / "settings.md").read_text()
    rows = re.findall(r"^\| `CRENEAU_(\w+)` \| (\S+) \| \S", text, re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows})
    assert {name.lower(): default for name, default in rows} == {
        name: _shown(field.default) for name, field in Settings.model_fields.items()
    }


def _shown(default: Any) -> str:
    if default is None or default == "":
        return NONE
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_defaults_that_are_named_elsewhere() -> None:
    for name in NAMES:
        for setting, value in re.findall(r"`CRENEAU_([A-Z_]+)` \((\d[\d.]*)\)", (ROOT / name).read_text()):
            default = Settings.model_fields[setting.lower()].default
            assert float(value) == (default / 10**18 if setting.endswith("BALANCE_WEI") else default), setting


# --- Alerts and metrics ---


def alerts() -> list[dict[str, Any]]:
    """The rules."""
    rules: list[dict[str, Any]] = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"][0]["rules"]
    return rules


def test_every_alert_says_what_to_do_and_names_the_section_that_says_more() -> None:
    sections = re.findall(r"^### (Creneau\w+)$", (DOCS / "operations.md").read_text(), re.MULTILINE)
    assert sections == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_every_metric_is_described_and_every_one_that_is_described_is_told(stack: DevStack) -> None:
    slot = {"date": "2035-04-02", "time": "09:00", "amount": 35, "duration": 60}
    ids = re.findall(r'"(?:tutor|annonce)Id": "([^"]+)"', (DOCS / "frontend.md").read_text())
    body = {"tutorId": ids[0], "annonceId": ids[1], **slot}
    stack.client(STUDENT).post("/api/blockchain/booking", json=body).raise_for_status()
    page = stack.client().get("/metrics").text
    told = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(page)
        if family.name.startswith("creneau_")
    }
    assert set(row_names("operations.md", r"`(creneau_\w+)`")) == told
    for name in NAMES:
        named = set(re.findall(r"\bcreneau_[a-z_]+[a-z]\b", (ROOT / name).read_text()))
        assert named <= told | {"creneau_deployment"}, name


def test_log_lines_that_are_named_are_written() -> None:
    source = "\n".join(path.read_text() for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
    text = (DOCS / "operations.md").read_text()
    alerts_only = text[text.index("## Alerts") :]
    lines = [
        each
        for each in re.findall(r"`([a-zA-Zé]+(?: [\w']+)+)`", alerts_only)
        if not each.startswith("webhook")
    ]
    assert len(lines) >= 5
    assert all(line in source for line in lines), lines


def test_checks_of_readiness_are_those_that_are_shown(stack: DevStack) -> None:
    shown = next(
        b for b in blocks_of(DOCS / "operations.md") if b.language == "json" and '"checks"' in b.text
    )
    assert set(json.loads(shown.text)["checks"]) == set(stack.client().get("/readyz").json()["checks"])


# --- Figures ---


def test_the_readmes_gas_is_what_is_measured() -> None:
    gas = json.loads((ROOT / "tests/contracts/gas.json").read_text())
    readme = (ROOT / "README.md").read_text()
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in readme.splitlines()
        if line.startswith(("| lessons in one", "| gas, ", "| the old way"))
    ]
    table = {name: cells for name, *cells in lines}
    counts = [int(count) for count in table["lessons in one transaction"]]
    numbers = {name: [int(cell.replace(",", "") or 0) for cell in cells] for name, cells in table.items()}
    assert numbers["gas, sent by the student"] == [gas[f"{n} lesson{'s' * (n > 1)}"] for n in counts]
    relayed = dict(zip(counts, numbers["gas, relayed with the student's signature"], strict=True))
    assert {n: used for n, used in relayed.items() if used} == {10: gas["10 lessons, relayed"]}
    old = numbers["the old way, approve + createBooking each"]
    assert old == [n * old[0] for n in counts]
    acts = re.findall(r"(confirm|complete|cancel with refund) ([\d,]+)", " ".join(readme.split()))
    assert {name: int(used.replace(",", "")) for name, used in acts} == {
        "confirm": gas["confirm 10, relayed"],
        "complete": gas["complete 10, relayed"],
        "cancel with refund": gas["cancel 10 confirmed, by the student, relayed"],
    }


def test_gas_that_other_pages_name_is_measured() -> None:
    gas: dict[str, int] = json.loads((ROOT / "tests/contracts/gas.json").read_text())
    old = re.search(r"The old way costs ([\d,]+) a lesson", (ROOT / "README.md").read_text())
    assert old
    measured = {f"{used:,}" for used in gas.values()} | {old[1]}
    text = (DOCS / "decisions.md").read_text()
    named = re.findall(r"(\d+,\d{3}) gas", text)
    assert len(named) >= 3
    assert set(named) <= measured
    further = re.search(r"a further lesson costs about ([\d,]+)", text)
    assert further
    assert abs(int(further[1].replace(",", "")) - (gas["40 lessons"] - gas["10 lessons"]) / 30) < 10
