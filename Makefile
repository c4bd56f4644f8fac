# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := $(CURDIR)/.venv
export PATH := $(VENV)/bin:$(PATH)

.PHONY: help setup demo serve token test contract-test chaos fuzz broken mutate bench audit audit-broken lint format abi openapi gas lock clean

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .cache/setup .cache/web ## Installs the pinned tools into .venv and node_modules, compiles the contracts, builds the page

.cache/setup: requirements.lock package-lock.json pyproject.toml tools/setup.sh
	@bash tools/setup.sh
	@mkdir -p .cache && touch $@

.cache/web: .cache/setup web/index.html web/vite.config.mts $(shell find web/src -type f)
	@npm run --silent build
	@touch $@

demo: setup ## Starts a node, deploys, starts the shim, and books lessons, telling what happens
	@python tools/demo.py

serve: setup ## The same, kept running on 127.0.0.1:$CRENEAU_PORT (8000) until Ctrl-C; data in $CRENEAU_DATA_DIR
	@exec python tools/dev_stack.py

token: setup ## Prints a bearer token for the local network: make token USER=<user id>
	@[ -n "$(USER_ID)" ] || { echo "Whose? make token USER=d755226e-bb7b-4bec-9af0-e578da8362dc" >&2; exit 2; }
	@python -m api token --user "$(USER_ID)"

# $(USER) is also the shell's name of the person at the keyboard: only the one given to make counts.
ifeq ($(origin USER), command line)
USER_ID := $(USER)
endif

test: setup ## All tests, the relayer's under faults in a short form: make test WORKERS=3
	@npm run --silent test
	@pytest -n $(or $(WORKERS),3) --dist loadfile --no-loadscope-reorder

contract-test: setup ## The shim against its own documentation: make contract-test CASES=5000 SEED=7
	@CASES=$(or $(CASES),5000) SEED=$(SEED) pytest -q -s tests/api/test_schemathesis.py

chaos: setup ## The relayer under faults, for long: make chaos KILLS=400 RUNS=50 SEED=7
	@CHAOS_LONG=1 CHAOS_KILLS=$(or $(KILLS),200) CHAOS_RUNS=$(or $(RUNS),20) CHAOS_SEED=$(SEED) pytest -rP --timeout=7200 tests/chaos

fuzz: setup ## The state machine of the escrow, for long: make fuzz STEPS=20000 SEED=1
	@CRENEAU_FUZZ_STEPS=$(or $(STEPS),20000) CRENEAU_FUZZ_SEED=$(or $(SEED),1) pytest -q tests/contracts/test_properties.py

bench: setup ## Gas, throughput and growth: bench/results.json and docs/performance.md
	@PYTHONPATH=$(CURDIR)/tools:$(CURDIR)/tests:$(CURDIR) python -m bench $(PART) $(if $(SHORT),--short)

broken: setup ## Sees the state machine fail with contracts that are broken on purpose: make broken STEPS=5000 SEED=1
	@PYTHONPATH=tools python -m mutation.broken $(if $(STEPS),--steps $(STEPS)) $(if $(SEED),--seed $(SEED))

mutate: setup ## Mutates the escrow, and says which mutants the tests miss: make mutate SAMPLE=200 SEED=1
	@nice -n 15 env PYTHONPATH=tools python -m mutation $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED)) $(if $(FRESH),--fresh)

audit: setup ## slither, and the proofs of tests/proofs, in an environment of their own (.venv-audit)
	@bash tools/audit/run.sh

audit-broken: audit ## Breaks the escrow in one place after another, and expects the proofs to notice
	@PATH="$(CURDIR)/.venv-audit/bin:$$PATH" python tools/audit/broken.py

lint: setup ## ruff, mypy, the layers, the words, forge fmt and the TypeScript compiler
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	python tools/words.py
	forge fmt --check
	npm run --silent check

format: setup ## Formats Python and Solidity
	ruff check --fix-only --quiet .
	ruff format .
	forge fmt

abi: setup ## Renews the ABI and byte code in creneau/artifacts from the contracts
	@ape compile
	@ape run abi

openapi: setup ## Renews docs/openapi.json, the web client's types and sentences, docs/errors.md and docs/settings.md
	@python -m api openapi > docs/openapi.json
	@python -m api errors > docs/errors.md
	@python -m api settings > docs/settings.md
	@python -m api sentences > web/src/api/sentences.ts
	@npm run --silent types

gas: setup ## Renews the committed gas table
	@UPDATE_GAS=1 pytest -q tests/contracts/test_gas.py

lock: ## Renews the lock files of Python packages (names, versions and hashes only)
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --output-file requirements.lock pyproject.toml
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --output-file tools/audit/requirements.lock tools/audit/requirements.in

clean: ## Removes what was installed and built, not your data
	rm -rf .venv .venv-audit node_modules web/dist .build .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
