#!/usr/bin/env bash
# Installs what the lock files pin, into .venv and node_modules, and compiles the contracts. Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."

missing() { printf 'Creneau needs %s. %s\n' "$1" "$2" >&2; exit 1; }
step() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }

python=${CRENEAU_PYTHON:-$(command -v python3 || true)}
[ -n "$python" ] || missing "Python 3.11 or newer" "Install it (Debian: apt-get install python3 python3-venv), or name it in CRENEAU_PYTHON."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  missing "Python 3.11 or newer" "$python is $("$python" --version). Name another one in CRENEAU_PYTHON."
"$python" -c 'import venv, ensurepip' 2>/dev/null || missing "Python's venv module" "Debian: apt-get install python3-venv."
command -v node >/dev/null || missing "Node 20 or newer" "Get it from your system's packages or nodejs.org."
[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 20 ] || missing "Node 20 or newer" "$(command -v node) is $(node --version)."
command -v npm >/dev/null || missing "npm" "It usually comes with Node (Debian: apt-get install npm)."

step "Node packages: compiler, local node, OpenZeppelin (package-lock.json)"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error

step "Python packages (requirements.lock); the first time takes a minute or two"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .

# The native programs, not npm's wrapper scripts: stopping a wrapper leaves the node running.
for tool in anvil forge; do
  packaged=node_modules/@foundry-rs/$tool-linux-amd64/bin/$tool
  if [ -x "$packaged" ]; then
    ln -sf "$PWD/$packaged" ".venv/bin/$tool"
  else
    command -v "$tool" >/dev/null ||
      missing "$tool" "The lock file has it for Linux on x86-64 only; for $(uname -sm) install Foundry 1.7.1 and put it on PATH."
  fi
done

# Whatever runs this environment's Python finds the compiler, the node and `api`, which no wheel has, activated or not;
# and Ape there starts nodes of its own (tools/ape_node.py).
site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat > "$site/creneau-toolchain.pth" <<EOF
$PWD
import tools.ape_node
import os, sys; os.environ.setdefault("SOLCX_BINARY_PATH", "$PWD/tools/solc"); os.environ["PATH"] = os.path.join(sys.prefix, "bin") + os.pathsep + os.environ.get("PATH", "")
EOF

step "Contracts"
.venv/bin/ape compile --force
step "Done. To work by hand: source .venv/bin/activate"
