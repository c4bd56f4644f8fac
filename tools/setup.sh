#!/usr/bin/env bash
# Installs what the lock files pin into this folder, compiles the contracts and builds the page. Safe to repeat and
# to interrupt: each part is stamped last with what it was made from, and one without its stamp is made anew.
#
# CRENEAU_PYTHON names another Python. CRENEAU_OWN_SERVICES=1 uses the pinned PostgreSQL and Chromium even where the
# machine has its own.
set -euo pipefail
cd "$(dirname "$0")/.."

here=$PWD
PATH=:$PATH: PATH=${PATH//":$here/.venv/bin:"/:} PATH=${PATH#:} PATH=${PATH%:} # It is not made with itself.
export PYTHONUTF8=1 NO_UPDATE_NOTIFIER=1 NO_COLOR=1
unset PYTHONPATH PYTHONHOME

stop() { printf '%s\n' "$*" >&2; exit 1; }
if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then bold=$'\033[1m' plain=$'\033[0m'; else bold='' plain=''; fi
step() { printf '%s[setup]%s %s\n' "$bold" "$plain" "$*"; }

# --- What the machine must have ---

check_python() {
  python=${CRENEAU_PYTHON:-}
  local named="CRENEAU_PYTHON names $python, which"
  if [ -z "$python" ]; then
    # Where the first is too new or too old, another may do.
    for python in python3 python3.12 python3.11; do
      python=$(command -v "$python") && fits "$python" && break
    done
    [ -n "$python" ] || python=$(command -v python3) ||
      stop "Creneau needs Python 3.11 or 3.12, and there is no python3: install it (Debian: apt-get install python3 python3-venv), or name it in CRENEAU_PYTHON."
    named="$python"
  fi
  local version
  version=$("$python" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) ||
    stop "Creneau needs Python 3.11 or 3.12: $named is no Python that runs."
  case $version in
    3.11.* | 3.12.*) ;;
    2.* | 3.[0-9].* | 3.10.*) stop "Creneau needs Python 3.11 or 3.12: $named is $version; name another one in CRENEAU_PYTHON." ;;
    *) stop "Creneau needs Python 3.11 or 3.12: $named is $version, for which Ape's numpy (older than 2) has no ready-made package; name another one in CRENEAU_PYTHON." ;;
  esac
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    stop "Creneau needs Python's venv module, which $python lacks: install it (Debian: apt-get install python3-venv)."
}

fits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; }

check_node() {
  command -v node >/dev/null ||
    stop "Creneau needs Node ^20.19 or >=22.12, and there is no node: get it from your system's packages or nodejs.org."
  local version major minor
  version=$(node --version 2>/dev/null) || stop "Creneau needs Node ^20.19 or >=22.12: $(command -v node) does not run."
  IFS=. read -r major minor _ <<<"${version#v}"
  ((major == 20 && minor >= 19 || major == 22 && minor >= 12 || major > 22)) ||
    stop "Creneau needs Node ^20.19 or >=22.12: $(command -v node) is $version."
  command -v npm >/dev/null ||
    stop "Creneau needs npm, which usually comes with Node: install it (Debian: apt-get install npm)."
}

check_folder() {
  { mkdir -p .cache && : >.cache/written; } 2>/dev/null && [ -w . ] ||
    stop "Creneau installs itself into its own folder, and $here cannot be written to (read-only, full, or another user's)."
  local free need=100
  [ -f node_modules/.made-from ] && [ -f .venv/.made-from ] || need=1600
  free=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1024))
  ((free >= need)) || stop "Creneau needs $need MB for its tools, and the disk of $here has $free MB left."
}

# --- How parts are made ---

# digest FILE...: of these files, and of the folder, because a part may name it.
digest() { { printf '%s\n' "$here"; cat "$@"; } | sha256sum | cut -d' ' -f1; }
# made FOLDER INPUT: whether the folder was made to its end, from this.
made() { [ "$(cat "$1/.made-from" 2>/dev/null)" = "$2" ]; }
# make FOLDER INPUT FUNCTION: makes it, and stamps it last.
make() {
  rm -f "$1/.made-from"
  "$3"
  printf '%s\n' "$2" >"$1/.made-from"
}

# work COMMAND...: runs it with its output kept aside, a sign of life every ten seconds, and its last words if it fails.
work() {
  local log=$here/.cache/setup.log began=$SECONDS sign=10 status=0
  "$@" >"$log" 2>&1 </dev/null 9>&- &
  local pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - began >= sign)); then
      printf '        … %d s\n' "$((SECONDS - began))"
      sign=$((sign + 10))
    fi
  done
  wait "$pid" || status=$?
  ((status == 0)) && return
  tail -n 15 "$log" >&2
  ! grep -qiE 'No space left on device|ENOSPC' "$log" || stop "Set-up stopped: the disk of $here is full."
  stop "Set-up stopped: this failed: $* (all that it said is in $log)"
}

npm_packages() { work npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; }

python_packages() {
  work "$python" -m venv --clear .venv
  work .venv/bin/python -m pip install --progress-bar off --disable-pip-version-check --require-hashes -r requirements.lock
}

# The package itself, and what whatever runs this environment's Python finds, activated or not: the compiler, the
# node, and `api`, which no wheel has; and Ape there starts nodes of its own (tools/ape_node.py).
own_package() {
  work .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
  # The native programs, not npm's wrapper scripts: stopping a wrapper leaves the node running.
  local tool packaged site
  for tool in anvil forge; do
    packaged=node_modules/@foundry-rs/$tool-linux-amd64/bin/$tool
    if [ -x "$packaged" ]; then
      ln -sf "$here/$packaged" ".venv/bin/$tool"
    else
      command -v "$tool" >/dev/null ||
        stop "Creneau needs $tool: the lock file has it for Linux on x86-64 only; for $(uname -sm) install Foundry 1.7.1 and put it on PATH."
    fi
  done
  site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\nimport tools.ape_node\nimport os, sys; os.environ.setdefault("SOLCX_BINARY_PATH", "%s"); os.environ["PATH"] = %s\n' \
    "$here" "$here/tools/solc" 'os.path.join(sys.prefix, "bin") + os.pathsep + os.environ.get("PATH", "")' \
    >"$site/creneau-toolchain.pth"
}

contracts() { work .venv/bin/ape compile --force; }

page() { work npm run --silent build; }

# service NAME PROGRAM...: the pinned package of tools/NAME, unpacked into .cache/NAME, unless the machine has a PROGRAM.
service() {
  local name=$1 program want
  if [ -z "${CRENEAU_OWN_SERVICES:-}" ]; then
    for program in "${@:2}"; do
      ! command -v "$program" >/dev/null || return 0
    done
  fi
  [ "$(uname -sm)" = "Linux x86_64" ] || return 0 # The tests say what they lack.
  want=$(digest tools/"$name"/*.json tools/unpack.mjs)
  ! made ".cache/$name" "$want" || return 0
  begin
  step "$name for the tests, because this machine has none (tools/$name/package-lock.json)"
  rm -rf ".cache/$name" ".cache/$name.new"
  mkdir ".cache/$name.new"
  cp tools/"$name"/package*.json ".cache/$name.new"
  if (work npm ci --prefix ".cache/$name.new" --ignore-scripts --no-audit --no-fund --loglevel=error --fetch-retries=1 &&
    work node tools/unpack.mjs "$name" ".cache/$name.new" "$here/.cache/$name"); then
    printf '%s\n' "$want" >".cache/$name.new/.made-from"
    mv ".cache/$name.new" ".cache/$name"
  else
    step "$name could not be had; the tests that need it will be skipped, and say so"
  fi
}

# --- All of it ---

check_node
[ -z "${CRENEAU_PYTHON:-}" ] || check_python
npm_packages=$(digest package-lock.json package.json)
python_packages=$(digest requirements.lock)
own_package=$(digest requirements.lock package-lock.json pyproject.toml)
contracts=$(find contracts -name '*.sol' | LC_ALL=C sort | xargs cat | digest - package-lock.json ape-config.yaml)
page=$(find web -path web/dist -prune -o -type f -print | LC_ALL=C sort | xargs cat | digest - package-lock.json)

python_runs() {
  .venv/bin/python -c '' 2>/dev/null &&
    { [ -z "${CRENEAU_PYTHON:-}" ] || [ "$(.venv/bin/python --version)" = "$("$CRENEAU_PYTHON" --version)" ]; }
}
whole() {
  made node_modules "$npm_packages" && made .venv "$python_packages" && made .venv/lib "$own_package" &&
    made .build "$contracts" && made web/dist "$page" && python_runs
}


# One set-up at a time in this folder; what its tools write beside their caches stays in it, too.
begin() {
  check_folder
  exec 9>.cache/lock
  flock -n 9 || { step "Another set-up runs in $here; waiting for it" && flock 9; }
  export TMPDIR=$here/.cache/tmp APE_DATA_FOLDER=$here/.cache/ape
  rm -rf "$TMPDIR" && mkdir -p "$TMPDIR"
  trap 'rm -rf "$TMPDIR"' EXIT
  trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
}

whole || begin
if ! whole; then
  check_python
  if ! made node_modules "$npm_packages"; then
    step "1/4 Node packages: compiler, local node, OpenZeppelin, the page's (package-lock.json)"
    make node_modules "$npm_packages" npm_packages
  fi
  if ! made .venv "$python_packages" || ! python_runs; then
    step "2/4 Python packages (requirements.lock), with $python; the first time takes a minute or two"
    make .venv "$python_packages" python_packages
  fi
  made .venv/lib "$own_package" || make .venv/lib "$own_package" own_package
  if ! made .build "$contracts"; then
    step "3/4 Contracts; the compiler takes about a minute"
    make .build "$contracts" contracts
  fi
  if ! made web/dist "$page"; then
    step "4/4 The booking page"
    make web/dist "$page" page
  fi
  step "Done. To work by hand: source .venv/bin/activate"
fi
if [ "${1:-}" = --services ]; then
  service postgresql postgres /usr/lib/postgresql/*/bin/postgres
  service chromium chromium google-chrome
fi
