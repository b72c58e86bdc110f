# `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help setup run test lint format bench faults chaos docs clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (make PYTHON=python3.12 …)"; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) …"; $(PYTHON) -m venv $(VENV) || { echo "venv is missing: on Debian, apt-get install python3-venv"; exit 1; }; }
	@echo "Installing Vaguemestre and its tools (a minute the first time) …"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## create .venv and install

run: $(STAMP) ## start the demonstration: a hub on loopback, a day of traffic, the console left open
	@$(BIN)/vaguemestre demo --keep

test: $(STAMP) ## run the whole suite
	@$(BIN)/python -m pytest -q -n 3 --dist loadscope --no-loadscope-reorder $(ARGS)

lint: $(STAMP) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "make format mends the layout"; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(STAMP) ## let ruff lay out the code and mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(STAMP) ## measure speed and size beside a peer (several minutes; quiet machine)
	@$(BIN)/python -m bench $(ARGS)

faults: $(STAMP) ## the fault tests with their full numbers (about an hour)
	@VAGUEMESTRE_FAULTS=full $(BIN)/python -m pytest -q -s tests/faults --timeout=7200 $(ARGS)

chaos: $(STAMP) ## break a cluster at random and check its whole history (about twenty minutes)
	@VAGUEMESTRE_CHAOS=full $(BIN)/python -m pytest -q -s tests/chaos --timeout=7200 $(ARGS)

docs: ## where the documentation is
	@ls README.md docs/*.md docs/adr/*.md

clean: ## remove what can be made again
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist bench/out
