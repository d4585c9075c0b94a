# Set-up and checks. `make demo` and `make test` are all that a fresh machine needs; both work in .venv and nowhere else.
.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-flower check docs browser wheel-check clean

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,\
  $(shell $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(p))))
# pip is asked again only when what it was asked for has changed.
SOURCES := pyproject.toml constraints.txt

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 10

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or later is needed, and there is none; say where: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python $(SOURCES)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[samples]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,check,docs]'
	@touch $@

demo: $(VENV)/.installed  ## distil bundled real digits, measure the result, and write demo/report.html
	$(BIN)/potstill demo --out demo

browser:
	@if command -v chromium chromium-browser google-chrome >/dev/null; then exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing chromium, which the tests of the report page need"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	else echo "the tests of the report page need a headless browser: install chromium or google-chrome" >&2; exit 1; fi

# One thread in each process: two on a core only wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8

test: $(VENV)/.installed-dev browser  ## the test suite, without what is marked slow
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.installed-dev browser  ## the whole test suite: also full products of methods, parametrizations and so on
	$(PYTEST)

test-flower:  ## the tests of federated sets in Flower, in an environment of its own, .venv-flower
	$(PYTHON) -m venv .venv-flower
	.venv-flower/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[flower]' pytest beartype
	OMP_NUM_THREADS=1 .venv-flower/bin/python -m pytest tests/integrations/test_flower.py

check: $(VENV)/.installed-dev  ## lint, types, import rules, words and docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.words
	$(BIN)/python -m tools.reading
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir build/site

docs: $(VENV)/.installed-dev  ## the documentation, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir build/site

wheel-check: $(VENV)/.installed-dev  ## wheel and sdist, and the wheel tried in an environment of its own, away from here
	$(BIN)/python .ci/wheel_check.py

clean:
	rm -rf demo build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
