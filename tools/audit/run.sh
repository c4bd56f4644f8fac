#!/usr/bin/env bash
# `make audit`: slither over the contracts, then halmos over the proofs in tests/proofs. Any finding, failed proof,
# unanswered question or unexplored path fails it.
set -euo pipefail
cd "$(dirname "$0")/../.."

missing() { printf 'The audit needs %s. %s\n' "$1" "$2" >&2; exit 1; }
step() { printf '\033[1m[audit]\033[0m %s\n' "$*"; }

environment=$PWD/.venv-audit
built=.cache/forge
[ -x .venv/bin/python ] && [ -d node_modules/solc ] || missing "the toolchain" "Run: make setup"
command -v forge >/dev/null || missing "forge" "Run: make setup"

if ! cmp -s tools/audit/requirements.lock "$environment/installed.lock"; then
  step "Python packages (tools/audit/requirements.lock), into .venv-audit"
  [ -x "$environment/bin/python" ] || .venv/bin/python -m venv "$environment"
  "$environment/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r tools/audit/requirements.lock
  cp tools/audit/requirements.lock "$environment/installed.lock"
fi
export PATH="$environment/bin:$PATH"

# Folders of their own, and fresh: halmos runs whatever proof it finds built, even if its source is gone.
rm -rf "$built"
step "Building the contracts for slither"
forge build --quiet --force --ast --build-info --out "$built/slither" --cache-path "$built/slither-cache" \
  contracts/BookingEscrow.sol contracts/EduToken.sol
step "slither"
slither . --ignore-compile --foundry-out-directory "$built/slither" --filter-paths node_modules --fail-pedantic

step "halmos"
halmos --forge-build-out "$built/out" --no-status --loop 6 --solver-timeout-assertion 600s --json-output "$built/proofs.json" ||
  { step "A proof failed; see above."; exit 1; }
python tools/audit/complete.py "$built/proofs.json"
