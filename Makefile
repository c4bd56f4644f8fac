# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)
# Files and output are UTF-8, whatever the locale.
export PYTHONUTF8 := 1

.PHONY: help setup ready demo serve token test test-quick contract-test chaos fuzz broken mutate bench audit audit-broken scan lint format abi openapi gas lock clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: ## Installs the pinned tools, compiles, builds the page; PostgreSQL and Chromium for the tests if there are none
	@bash tools/setup.sh --services

# What all but the tests need.
ready:
	@bash tools/setup.sh

demo: ready ## Starts a node, deploys, starts the shim, and books lessons, telling what happens
	@python tools/demo.py $(if $(JSON),--json)

serve: ready ## The same, kept running on 127.0.0.1:$CRENEAU_PORT (8000) until Ctrl-C; data in $CRENEAU_DATA_DIR
	@exec python tools/dev_stack.py

token: ready ## Prints a bearer token for the local network: make token USER=<user id>
	@[ -n "$(USER_ID)" ] || { echo "Whose? make token USER=d755226e-bb7b-4bec-9af0-e578da8362dc" >&2; exit 2; }
	@python -m api token --user "$(USER_ID)"

QUICK := tests/sdk/test_amounts.py tests/sdk/test_codec.py tests/sdk/test_order.py tests/sdk/test_windows.py tests/sdk/test_tables.py \
  tests/sdk/test_contract_errors.py tests/docs/test_pages.py tests/api/test_calendar.py

# $(USER) is also the shell's name of the person at the keyboard: only the one given to make counts.
ifeq ($(origin USER), command line)
USER_ID := $(USER)
endif

test: setup ## All tests, the relayer's under faults in a short form: make test WORKERS=3
	@npm run --silent test
	@pytest -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder

test-quick: ready ## For between two edits: what needs neither the shim nor a browser
	@pytest -q -n 2 $(QUICK)

contract-test: ready ## The shim against its own documentation: make contract-test CASES=5000 SEED=7
	@CASES=$(or $(CASES),5000) SEED=$(or $(SEED),$$RANDOM) pytest -q -s tests/api/test_schemathesis.py

chaos: ready ## The relayer under faults, for long: make chaos KILLS=400 RUNS=50 STEPS=500 SEED=7
	@CHAOS_LONG=1 CHAOS_KILLS=$(or $(KILLS),200) CHAOS_RUNS=$(or $(RUNS),20) CHAOS_STEPS=$(or $(STEPS),120) CHAOS_SEED=$(SEED) pytest -rP --timeout=7200 tests/chaos

fuzz: ready ## The state machine of the escrow, for long: make fuzz STEPS=20000 SEED=1
	@CRENEAU_FUZZ_STEPS=$(or $(STEPS),20000) CRENEAU_FUZZ_SEED=$(or $(SEED),1) pytest -q tests/contracts/test_properties.py

bench: ready ## Gas, throughput and growth: bench/results.json and docs/performance.md
	@PYTHONPATH=$(CURDIR)/tests python -m bench $(PART) $(if $(SHORT),--short)

broken: ready ## Sees the state machine fail with contracts that are broken on purpose: make broken STEPS=5000 SEED=1
	@python -m tools.mutation.broken $(if $(STEPS),--steps $(STEPS)) $(if $(SEED),--seed $(SEED))

mutate: ready ## Mutates the escrow, and says which mutants the tests miss: make mutate SAMPLE=200 SEED=1
	@nice -n 15 python -m tools.mutation $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(FRESH),--fresh)

audit: ready ## slither, and the proofs of tests/proofs, in an environment of their own (.venv-audit)
	@bash tools/audit/run.sh

audit-broken: audit ## Breaks the escrow in one place after another, and expects the proofs to notice
	@PATH="$(CURDIR)/.venv-audit/bin:$$PATH" python tools/audit/broken.py

scan: ready ## Lists the packages of the image in .build/sbom.json, and asks for their known vulnerabilities; needs the internet
	@[ -x .venv-scan/bin/python ] || $(VENV)/bin/python -m venv .venv-scan
	@.venv-scan/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r tools/scan/requirements.lock
	@.venv-scan/bin/cyclonedx-py requirements --output-file .build/sbom.json requirements-shim.lock
	@.venv-scan/bin/pip-audit --strict --require-hashes --disable-pip -r requirements-shim.lock
	@npm audit --omit=dev --audit-level=high

lint: ready ## ruff, mypy, the layers, the words, forge fmt and the TypeScript compiler
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python tools/words.py
	forge fmt --check
	npm run --silent check

format: ready ## Formats Python and Solidity
	ruff check --fix-only --quiet .
	ruff format .
	forge fmt

abi: ready ## Renews the ABI and byte code in creneau/artifacts from the contracts
	@ape compile
	@ape run abi

openapi: ready ## Renews docs/openapi.json, the web client's types and sentences, docs/errors.md and docs/settings.md
	@python -m api openapi > docs/openapi.json
	@python -m api errors > docs/errors.md
	@python -m api settings > docs/settings.md
	@python -m api sentences > web/src/api/sentences.ts
	@npm run --silent types

gas: ready ## Renews the committed gas table
	@UPDATE_GAS=1 pytest -q tests/contracts/test_gas.py

lock: ## Renews the lock files of Python packages (names, versions and hashes only)
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --group shim --group dev --output-file requirements.lock pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --group shim --constraint requirements.lock --output-file requirements-shim.lock pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --output-file tools/audit/requirements.lock tools/audit/requirements.in
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --output-file tools/scan/requirements.lock tools/scan/requirements.in

clean: ## Removes what was installed and built, not your data
	rm -rf .venv .venv-audit .venv-scan node_modules web/dist .build .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
