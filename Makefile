# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)

.PHONY: help setup demo serve token test chaos lint format abi gas lock clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: .cache/setup ## Installs the pinned tools into .venv and node_modules, and compiles the contracts

.cache/setup: requirements.lock package-lock.json pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh
	@mkdir -p .cache && touch $@

demo: setup ## Starts a node, deploys, starts the shim, and books lessons, telling what happens
	@python scripts/demo.py

serve: setup ## The same, kept running on 127.0.0.1:$CRENEAU_PORT (8000) until Ctrl-C; data in $CRENEAU_DATA_DIR
	@exec python scripts/dev_stack.py

token: setup ## Prints a bearer token for the local network: make token USER=<user id>
	@[ -n "$(USER_ID)" ] || { echo "Whose? make token USER=d755226e-bb7b-4bec-9af0-e578da8362dc" >&2; exit 2; }
	@python -m api token --user "$(USER_ID)"

# $(USER) is also the shell's name of the person at the keyboard: only the one given to make counts.
ifeq ($(origin USER), command line)
USER_ID := $(USER)
endif

test: setup ## All tests but the relayer's under faults, which `make chaos` runs
	@pytest --ignore=tests/chaos

chaos: setup ## The relayer under faults, for long: make chaos KILLS=400 SEED=7
	@CHAOS_KILLS=$(or $(KILLS),200) CHAOS_RUNS=$(or $(RUNS),20) CHAOS_SEED=$(SEED) pytest -rP --timeout=7200 tests/chaos

lint: setup ## ruff, mypy and forge fmt
	ruff check .
	ruff format --check .
	mypy
	forge fmt --check

format: setup ## Formats Python and Solidity
	ruff check --fix-only --quiet .
	ruff format .
	forge fmt

abi: setup ## Renews the ABI and byte code in creneau/abi from the contracts
	@ape compile
	@ape run abi

gas: setup ## Renews the committed gas table
	@UPDATE_GAS=1 pytest -q tests/contracts/test_gas.py

lock: ## Renews requirements.lock from pyproject.toml (names, versions and hashes only)
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --output-file requirements.lock pyproject.toml

clean: ## Removes what was installed and built, not your data
	rm -rf .venv node_modules .build .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
