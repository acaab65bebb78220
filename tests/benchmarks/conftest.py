"""Small cases of the step benchmarks."""

import json
import sys

import pytest

from benchmarks.step_data import Lengths
from benchmarks.step_models import StepOptions

SHORT = Lengths(persona=12, unsafe_suffix=5, question=(2, 5), answer=(3, 9))


@pytest.fixture
def options():
    """A model of one layer, six rows in batches of two."""
    return StepOptions(vocab=(64,), hidden=32, layers=1, batch_size=2, rows=6, rounds=1)


@pytest.fixture
def lengths():
    return SHORT


@pytest.fixture
def run(monkeypatch, capsys):
    """(main, arguments) -> what the benchmark printed, and its last line read as JSON."""

    def ran(main, *arguments):
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--json"])
        main()
        printed = capsys.readouterr().out.strip()
        return printed, json.loads(printed.splitlines()[-1])

    return ran
