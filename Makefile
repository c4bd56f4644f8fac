# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

ROOT := $(CURDIR)
VENV := $(ROOT)/.venv
PYTHON := $(VENV)/bin/python
export PATH := $(VENV)/bin:$(PATH)

.PHONY: help setup lock

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: .cache/setup ## Installs the pinned tools into .venv and node_modules, and compiles the contracts

.cache/setup: requirements.lock package-lock.json pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh
	@mkdir -p .cache && touch $@

lock: ## Renews requirements.lock from pyproject.toml (names, versions and hashes only)
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --no-header --no-annotate --all-extras --output-file requirements.lock pyproject.toml
