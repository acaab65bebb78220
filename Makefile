# `make demo` and `make test` do everything from a fresh clone; the environment in .venv is made once and reused.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test slow check docs clean

demo: .venv/.ready
	$(BIN)/holdfast demo both

test: .venv/.ready-dev
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

# What takes more than a minute: a whole experiment.
slow: .venv/.ready-dev
	$(BIN)/python -m pytest -m slow

# Style, types, the import floors, and that the generated docs are fresh.
check: .venv/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_floors.py tests/test_docs.py

docs: .venv/.ready-dev
	$(BIN)/python -m tests.test_docs
	$(BIN)/python -m tests.recipes.table.page

clean:
	rm -rf .venv runs

# Made anew when the dependencies change; the marker is written last, so a cut installation is repeated.
.venv/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/.ready-dev: .venv/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
