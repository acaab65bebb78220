"""Every command and every line of Python in the README runs, on a tiny model in place of MODEL."""

import re
import shlex
from pathlib import Path

import pytest

from holdfast.cli import main
from tests.conftest import save

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (holdfast .*)$", README, flags=re.MULTILINE)
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def tiny(llama, tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(ROOT)
    return str(save(llama, tmp_path / "model"))


def test_the_readme_has_the_commands():
    assert [command.split()[1] for command in COMMANDS] == [
        "show-template",
        "score",
        "train-sarft",
        "gap",
        "train-mpo",
        "train-preference",
        "eval",
        "compare",
        "judge",
        "table",
    ]
    assert len(PYTHON) == 1


NEEDS = {"eval": ["train-sarft"], "compare": ["train-sarft", "eval"]}  # what an earlier command leaves


SLOW = {"table": pytest.mark.slow}  # a grid of trainings


@pytest.mark.parametrize(
    "command",
    [pytest.param(text, id=(verb := text.split()[1]), marks=SLOW.get(verb, ())) for text in COMMANDS],
)
def test_command_runs(command, tiny, tmp_path):
    by_verb = {text.split()[1]: text for text in COMMANDS}
    for text in (*(by_verb[verb] for verb in NEEDS.get(command.split()[1], ())), command):
        main([part.replace("MODEL", tiny).replace("runs/", f"{tmp_path}/") for part in shlex.split(text)][1:])


def test_python_runs(tiny, capsys):
    exec(PYTHON[0].replace("MODEL", tiny), {})
    assert re.search(r"\d+% of the rows would erode safety for The Keeper", capsys.readouterr().out)


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
