"""A disk that is full at any point: one line, exit code 2, and the same command then does what it would have done.

Files larger than a limit cannot be written (EFBIG, from the system itself, whoever writes: Python, safetensors,
torch), so that each limit stops a command at another file.
"""

import json
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from holdfast.cli import main
from tests.architectures import ARCHITECTURES
from tests.conftest import save

TURNS = [[("Why?", "The sea."), ("Who are you?", "I am Ahab.")][index % 2] for index in range(12)]
LIMITS = (0, 300, 1_500, 20_000)
# Names of what is written at the time, with its dates, versions and places.
VOLATILE = {"run.json", "metrics.jsonl", "README.md", "adapter_config.json", "config.yaml"}


@contextmanager
def files_of_at_most(limit: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    save(ARCHITECTURES["llama3"], tmp_path / "model")
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in TURNS
    ]
    write(tmp_path / "rows.jsonl", rows)
    write(tmp_path / "answers.jsonl", [{"prompt": asked, "completion": said} for asked, said in TURNS])
    (tmp_path / "role.yaml").write_text("name: Ahab\npersona_prompt: You are Ahab.\n")
    config = {
        "model": "model",
        "data": "rows.jsonl",
        "role": "role.yaml",
        "output_dir": "out",
        "lora_rank": 2,
        "epochs": 2,
        "save_steps": 1,
        "dtype": "float32",
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


SCORE = ["score", "--model", "model", "--data", "rows.jsonl", "--role", "role.yaml", "--batch-size", "2"]
COMMANDS = {
    "score": [*SCORE, "--output", "out/rows.jsonl", "--results", "out/results.jsonl"],
    "judge": [
        *("judge", "answers.jsonl", "--prompt-column", "prompt", "--completion-column", "completion"),
        *("--output", "out/judged.jsonl", "--results", "out/results.jsonl"),
    ],
    "eval": [
        *("eval", "--model", "m=model", "--benchmarks", "file:answers.jsonl", "--output-dir", "out"),
        *("--max-new-tokens", "4"),
    ],
    "train-sarft": ["train-sarft", "run.yaml"],
}


def run(command) -> int:
    try:
        main(command)
    except SystemExit as error:
        return error.code or 0
    return 0


def written(directory: Path) -> dict[str, bytes | None]:
    """What must be the same: contents; of what is dated, the names."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_file() and not name.startswith("logs/"):
            lines = path.read_bytes().splitlines(keepends=True)
            ordered = sorted(set(lines)) if path.name == "answers.jsonl" else lines  # a journal: as they came
            found[name] = None if path.name in VOLATILE else b"".join(ordered)
    return found


@pytest.mark.parametrize("verb", COMMANDS)
def test_a_full_disk_is_one_line_and_the_same_command_continues(verb, place, monkeypatch, capsys):
    command = COMMANDS[verb]
    assert run(command) == 0
    undisturbed = written(place / "out")
    for limit in LIMITS:
        (place / "out").rename(place / f"before-{limit}")
        monkeypatch.setenv("HOLDFAST_CACHE", str(place / f"cache-{limit}"))
        capsys.readouterr()
        with files_of_at_most(limit):
            code = run(command)
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if code:
            assert code == 2
            last = said.rstrip().splitlines()[-1]
            assert last.startswith("holdfast: "), last
            assert "larger than a file may be" in last or "cannot be written" in last, last
        assert run(command) == 0
        again = written(place / "out")
        assert again.keys() == undisturbed.keys(), limit
        assert [n for n in again if again[n] != undisturbed[n]] == [], limit
    assert [path for path in place.rglob("*") if ".partial" in path.name] == []
