# Everything starts from here: `make demo` on a machine with python3.11, pip, make and git, nothing else done first.
PYTHON ?= python3.11
UV := .tools/bin/uv
BIN := .venv/bin
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --require-hashes --only-binary :all:
.DEFAULT_GOAL := help
.PHONY: help demo test test-long bench lint format lock clean

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*##/\t/'

# Debian's python3 has neither venv nor a pip that may install; pip's --target is allowed, and uv does the rest.
$(UV): requirements/tools.txt
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --upgrade --require-hashes --target .tools -r requirements/tools.txt
	touch $(UV)

.venv/.daemon: requirements/daemon.txt pyproject.toml $(UV)
	test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) .venv
	$(INSTALL) -r requirements/daemon.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

.venv/.dev: requirements/dev.txt .venv/.daemon
	$(INSTALL) -r requirements/dev.txt
	touch $@

demo: .venv/.daemon  ## a real daemon, sample files, and the gold table
	$(BIN)/landingd demo

test: .venv/.dev  ## all tests, in random order and in parallel
	tests/install-tools
	$(BIN)/python -m pytest -m "not long"

test-long: .venv/.dev  ## the long forms too
	tests/install-tools
	$(BIN)/python -m pytest

bench: .venv/.dev  ## landingd next to bare DuckDB, in one run
	$(BIN)/python -m bench

lint: .venv/.dev  ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Hashes and versions, and no address of any index: whoever installs uses their own.
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --only-binary :all:
lock: $(UV)  ## bring the locks up to pyproject.toml
	$(COMPILE) requirements/tools.in -o requirements/tools.txt
	$(COMPILE) pyproject.toml --extra broker --group build -o requirements/daemon.txt
	$(COMPILE) pyproject.toml --extra broker --extra notebook --group build --group dev -o requirements/dev.txt

clean:  ## remove what make has made (not landing/ and state/)
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
