# make demo: train and evaluate a DenseNet on real digits, and write its report.  make test: run the quick tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CPP := $(wildcard src/densenets/ops/backends/cpp/csrc/*)
KERNELS := setup.py src/densenets/ops/backends/cpp/sources.py $(CPP)

.PHONY: help install demo test test-all test-lowest check docs wheel sanitize format clean

help:
	@echo "make demo     train a DenseNet on real handwritten digits, show the result, write its report"
	@echo "make test     run the quick tests, in some minutes"
	@echo "make test-all run every test"
	@echo "make test-lowest  run the quick tests with the lowest versions that are supported, in .venv-lowest"
	@echo "make check    formatting, lint, types, and the layers, and whether generated documents are up to date"
	@echo "make docs     the documentation's site, in docs/_build/html"
	@echo "make wheel    a wheel and the sources' archive, in dist"
	@echo "make sanitize look for memory errors in the C++ kernels, in about a minute"
	@echo "make install  the package with its tools in $(VENV), which the others do first"

# Packages are unpacked while the kernels are compiled: nicely, for pip has one core alone. Python compiles what it
# imports when it does so for the first time.
install:
	@$(MAKE) --no-print-directory --jobs 2 $(VENV)/.kernels $(VENV)/.installed

PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-compile --constraint constraints.txt

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) setuptools
	@touch $@

$(VENV)/.kernels: $(KERNELS) | $(VENV)/.python
	nice $(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

$(VENV)/.packages: constraints.txt | $(VENV)/.python
	$(PIP_INSTALL) --requirement constraints.txt
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.packages | $(VENV)/.kernels
	$(PIP_INSTALL) --no-build-isolation --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/densenets train digits --out runs/demo --resume
	$(BIN)/densenets evaluate runs/demo
	$(BIN)/densenets report runs/demo

# A process a core, each of one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: install
	$(PYTEST) -m "not slow"

test-all: install
	$(PYTEST)

# Needs Python 3.11, for which the lowest versions were made.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --constraint constraints-lowest.txt --editable '.[all,test]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest --numprocesses auto --dist worksteal -m "not slow"

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/clang-format --dry-run --Werror $(CPP)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/python docs/architecture.py --check
	$(BIN)/python docs/command_reference.py --check

# The notebook is executed unless DENSENETS_NOTEBOOKS is off.
docs: install
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going docs docs/_build/html
	@echo "docs/_build/html/index.html is the site's first page"

# The archive is built first, the wheel from it.
wheel: install
	rm -rf dist
	$(BIN)/python -m build --no-isolation

sanitize: install
	$(BIN)/python tests/ops/backends/cpp/sanitize.py --short

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(CPP)

clean:
	rm -rf $(VENV) .venv-lowest build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
