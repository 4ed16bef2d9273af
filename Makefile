# make demo: train and evaluate a DenseNet on real digits, and write its report.  make test: run every test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test check format clean

help:
	@echo "make demo     train a DenseNet on real handwritten digits, show the result, write its report"
	@echo "make test     run every test"
	@echo "make check    formatting, lint and types"
	@echo "make install  the package with its tools in $(VENV), which the others do first"

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: install
	$(BIN)/densenets train digits --out runs/demo --resume
	$(BIN)/densenets evaluate runs/demo
	$(BIN)/densenets report runs/demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
