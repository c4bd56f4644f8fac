"""`make bench`: all parts, the figures in `bench/results.json`, the report in `docs/performance.md`.

`python -m bench gas load node growth connections` runs the parts named, and keeps what is known of the
others; `--short` looks for large losses only, of gas and load, and writes nothing.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from bench import Part
from bench.report import BARS, holds, write

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
PARTS = ("gas", "load", "node", "growth", "connections")


def main() -> int:
    """1 if, in the short form, a ratio was lost by much."""
    parser = argparse.ArgumentParser(prog="bench", description="Measures; see docs/performance.md.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--short", action="store_true", help="look for large losses, and write nothing")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part is called {min(unknown)}: there are {', '.join(PARTS)}")

    began, machine = time.monotonic(), _machine()
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    ratios: dict[str, float] = {}
    for name in options.parts or (PARTS[:2] if options.short else PARTS):
        print(f"{name}:", flush=True)
        part: Part = import_module(f"bench.{name}").run(options.short)
        ratios |= part["ratios"]
        results[name] = part["raw"]
        if not options.short:
            _keep(results, ratios)
    limits = tomllib.loads((HERE / "limits.toml").read_text())
    if not options.short:
        limits = {name: bar.limit for name, bar in BARS.items()}
    lost = [name for name, ratio in ratios.items() if not holds(name, ratio, limits)]
    minutes = (time.monotonic() - began) / 60
    print(f"after {minutes:.1f} minutes:")
    for name, ratio in ratios.items():
        bar = f"{'at least' if BARS[name].least else 'at most'} {limits[name]:g}"
        print(f"  {name:24}{ratio:8.2f}   {bar}{'   MISSED' if name in lost else ''}")
    if options.short:
        return 1 if lost else 0
    if not options.parts or "minutes" not in results:
        results |= {"minutes": minutes, "machine": machine, "date": datetime.now(UTC).date().isoformat()}
    _keep(results, ratios)
    write(results)
    return 0


def _keep(results: dict[str, Any], ratios: Mapping[str, float]) -> None:
    """Write the results so far: a later part may fail."""
    known = results.get("ratios", {}) | ratios
    results |= {
        "versions": _versions(),
        "ratios": {name: known[name] for name in BARS if name in known},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    models = [
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    return {
        "processor": models[0].partition(": ")[2] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory GB": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "load before": os.getloadavg()[0],  # What else ran; 0 is nothing.
    }


def _versions() -> dict[str, str]:
    anvil = subprocess.run(["anvil", "--version"], capture_output=True, text=True, check=True)
    packages = ("fastapi", "uvicorn", "sqlalchemy", "psycopg", "web3", "eth-ape")
    versions = {"python": platform.python_version(), "anvil": anvil.stdout.splitlines()[0].split()[-1]}
    return versions | {package: metadata.version(package) for package in packages}


if __name__ == "__main__":
    sys.exit(main())
