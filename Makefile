# make demo    a simulated flask and the real daemon; installs what that needs into .venv
# make test    install everything into .venv and run the tests
# make lint    style, types and import contracts
#
# CONSTRAINTS  versions to install (default: constraints.txt; empty: the newest)
# PYTHON       the interpreter of a new .venv (default: python3, at least 3.11)
# ARGS         further arguments of the demonstration or the tests

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
# uv does not read pip's own setting for a folder of wheels
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

ifdef UV
CREATE = $(UV) venv --quiet --python $(PYTHON) $(VENV)
INSTALL = $(UV) pip install --quiet --python $(BIN)/python $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
else
CREATE = $(PYTHON) -m venv $(VENV)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
endif

.PHONY: demo test lint format bench schema clean

demo: $(VENV)/.demo
	$(BIN)/parfocal demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --maxprocesses 8 $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.test
	$(BIN)/parfocal bench $(ARGS)

schema: $(VENV)/.test
	$(BIN)/python -m parfocal.schema > tests/golden/schema.json

$(BIN)/python:
	$(CREATE)

$(VENV)/.demo: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[cpu]'
	touch $@

$(VENV)/.test: $(BIN)/python pyproject.toml $(CONSTRAINTS)
	$(INSTALL) -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist
