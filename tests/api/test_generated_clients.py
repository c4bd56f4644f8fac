"""Clients that generators make of the OpenAPI document: they type-check strictly, and book a lesson."""

import json
import subprocess
import sys
from pathlib import Path

from scenario import DAY, EDU, Scenario

from tools.dev_stack import DevStack

ROOT = Path(__file__).parents[2]
BIN = Path(sys.prefix) / "bin"

PYTHON = """
import sys
from datetime import date

from made.api.booking import create_batch_bookings
from made.client import AuthenticatedClient
from made.models import BatchAnswer, CreateBatchBookingData, SlotData

url, token, tutor, annonce, day = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=token)
slot = SlotData(date=date.fromisoformat(day), time="09:00", amount=35, duration=60)
order = CreateBatchBookingData(tutor_id=tutor, annonce_id=annonce, bookings=[slot])
answer = create_batch_bookings.sync(client=client, body=order)
assert isinstance(answer, BatchAnswer), answer
print(answer.data.count, answer.data.total_amount_wei)
"""

TYPESCRIPT = """
import createClient from "openapi-fetch";

import type { paths } from "./schema";

const [url, token, tutorId, annonceId, date] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl: url, headers: { Authorization: `Bearer ${token}` } });
const slot = { date: date!, time: "09:00", amount: 35, duration: 60 };
const body = { tutorId: tutorId!, annonceId: annonceId!, bookings: [slot], allowPartial: true };
const { data, error } = await client.POST("/api/blockchain/booking/batch", { body });
if (data === undefined) throw new Error(error.message);
console.log(data.data.count, data.data.totalAmountWei);
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def terms(stack: DevStack, scenario: Scenario) -> list[str]:
    return [stack.url, stack.token(scenario.student.id), scenario.tutor.id, scenario.annonce.id, DAY]


def test_a_generated_python_client_books(stack: DevStack, scenario: Scenario, tmp_path: Path) -> None:
    document = ROOT / "docs" / "openapi.json"
    options = ["--path", document, "--output-path", tmp_path / "made", "--meta", "none"]
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\n")
    run(
        BIN / "openapi-python-client",
        "generate",
        *options,
        "--config",
        config,
        "--fail-on-warning",
        cwd=tmp_path,
    )
    (tmp_path / "book.py").write_text(PYTHON)
    # The generator's own template passes `__exit__` whatever it is given.
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = True\n[mypy-made.client]\ndisable_error_code = arg-type\n"
    )
    run(BIN / "mypy", "--config-file", "mypy.ini", "made", "book.py", cwd=tmp_path)
    assert run(sys.executable, "book.py", *terms(stack, scenario), cwd=tmp_path) == f"1 {35 * EDU}\n"
    assert scenario.balance() == 965 * EDU


def test_a_generated_typescript_client_books(stack: DevStack, scenario: Scenario, tmp_path: Path) -> None:
    document = ROOT / "docs" / "openapi.json"
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    run("node_modules/.bin/openapi-typescript", document, "--output", "schema.d.ts", cwd=tmp_path)
    (tmp_path / "book.ts").write_text(TYPESCRIPT)
    (tmp_path / "node.d.ts").write_text("declare const process: { argv: string[] };\n")
    options = {
        "strict": True,
        "noUncheckedIndexedAccess": True,
        "target": "es2022",
        "module": "es2022",
        "moduleResolution": "bundler",
        "lib": ["es2022", "dom", "dom.iterable"],
        "types": [],
        "skipLibCheck": False,
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "include": ["*.ts"]}))
    run("node_modules/.bin/tsc", "--project", "tsconfig.json", cwd=tmp_path)
    assert run("node", "book.js", *terms(stack, scenario), cwd=tmp_path) == f"1 {35 * EDU}\n"
    assert scenario.balance() == 965 * EDU
