# Every target does its own set-up: a virtual environment in .venv, the package in editable mode.
# Needed beforehand: Python 3.11 or newer, and make.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python3.11)
VENV := .venv
BIN := $(VENV)/bin
# One thread a worker: two workers with two BLAS threads each would fight over two cores.
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$(( n > 4 ? 4 : n )))
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
PYTEST := $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
PYTEST_ARGS ?=
DEMO_ARGS ?=

.PHONY: help demo test check lint types imports format wheel clean

help: ## show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: $(VENV)/.installed ## the main job on the simulated world; the report is runs/demo/report.html
	$(BIN)/brainkit demo --out runs/demo --overwrite $(DEMO_ARGS)

test: lint types imports ## everything: lint, types, import rules, all tests, notebooks, the wheel
	$(PYTEST) $(PYTEST_ARGS)

check: lint types imports ## the fast part, for daily work
	$(PYTEST) -m "not slow and not install" $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: $(VENV)/.installed-dev ## build the sdist and the wheel in dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist

clean: ## remove the environment, caches and builds (runs/ stays)
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find brainkit tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so that an interrupted set-up is done again.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "brainkit needs Python 3.11 or newer; '$(PYTHON)' is not. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(BIN)/python -m pip --version 2>/dev/null || $(PYTHON) -m venv $(VENV) || \
	  { echo "could not create $(VENV). On Debian or Ubuntu: apt install python3.11-venv" >&2; exit 1; }
	touch $@

# Not quiet: the first time this fetches several gigabytes, most of them torch's.
$(VENV)/.installed: pyproject.toml hatch_build.py | $(VENV)/.created
	$(BIN)/python -m pip install --disable-pip-version-check --editable .
	touch $@

# The development set contains the plain one: after `make test`, `make demo` installs nothing.
$(VENV)/.installed-dev: pyproject.toml hatch_build.py | $(VENV)/.created
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[dev]'
	touch $(VENV)/.installed $@
