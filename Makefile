# `make demo` and `make test` do everything from a fresh clone; the environment in .venv is made once and reused.
PYTHON ?= python3
BIN := .venv/bin
LATEST := .venv-latest/bin
export HF_HUB_OFFLINE ?= 1
PYTEST := -m pytest -n logical --maxprocesses 4 --dist worksteal

.PHONY: demo test slow check docs latest lock clean

demo: .venv/.ready
	$(BIN)/holdfast demo both

test: .venv/.ready-dev
	$(BIN)/python $(PYTEST)

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

# The tests with the newest release of everything in pyproject's ranges, in an environment of its own; prints what
# differs from requirements.lock. torch keeps the locked version: its CPU wheel is chosen by hand.
latest:
	rm -rf .venv-latest
	$(PYTHON) -m venv .venv-latest
	grep '^torch==' requirements.lock > .venv-latest/torch.txt
	$(LATEST)/python -m pip install --quiet --constraint .venv-latest/torch.txt $(BUILD)
	$(LATEST)/python -m pip install --quiet --constraint .venv-latest/torch.txt --no-build-isolation --editable '.[dev]'
	$(LATEST)/python -m pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+cpu$$/\1/' > .venv-latest/versions.txt
	@echo "Versions that differ from requirements.lock (< locked, > newest):"
	@grep -v '^#' requirements.lock | diff - .venv-latest/versions.txt | grep '^[<>]' || echo "none"
	$(LATEST)/python $(PYTEST)

# Lock the newest versions, once the tests have passed with them.
lock: latest
	{ echo "# Versions that the tests passed with. Written by 'make lock'; do not edit."; \
	  cat .venv-latest/versions.txt; } > requirements.lock

clean:
	rm -rf .venv .venv-latest runs

# Made anew when the dependencies change; the marker is written last, so a cut installation is repeated.
# Every version comes from the lock, the build backend's too, which is why builds are not isolated.
INSTALL = $(BIN)/python -m pip install --quiet --constraint requirements.lock
BUILD := hatchling editables

.venv/.ready: pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) $(BUILD)
	$(INSTALL) --no-build-isolation --editable .
	touch $@

.venv/.ready-dev: .venv/.ready
	$(INSTALL) --no-build-isolation --editable '.[dev]'
	touch $@
