"""A cell of the grid on disk: one method on one role (or on all languages) under one seed, trained and evaluated.

    CELL/config.yaml    what is trained; `holdfast train-sarft CELL/config.yaml` does the same by hand
    CELL/cell.json      what the cell is; another one in the same place is refused
    CELL/log.txt        what both commands said
    CELL/model/         the result of the training, with its checkpoints while it lasts
    CELL/eval/          the result of the evaluation (further ones, of prompts in other languages: eval_2, ...)
    CELL/finished.json  what was evaluated, once it was

Training and evaluation continue by themselves after a kill, so a cell does too. Its training may not change under it;
its evaluation may: what is new is then asked, and what is there is kept.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from holdfast.errors import HoldfastError
from holdfast.escaping import directory_name
from holdfast.files import write_json, write_text
from holdfast.recipes.run_directory import HARMLESS


@dataclass(frozen=True)
class Training:
    """`command` with a config of these `values`; `resolved` has every field, `files` the digests of what it reads."""

    command: str
    values: Mapping[str, Any]
    resolved: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Evaluation:
    """`holdfast eval` with these arguments, its output in the cell's directory `place`; `files` as above."""

    arguments: tuple[str, ...]
    files: Mapping[str, str]
    place: str = "eval"


@dataclass(frozen=True)
class Cell:
    """One cell. `needs` are the names of cells whose models it reads: they are finished before it begins.

    Without a training the aligned model or another cell's is evaluated; without evaluations the cell is there for
    those that need it and stands in no table.
    """

    name: str
    method: str
    group: str
    seed: int
    directory: Path
    training: Training | None
    evaluations: tuple[Evaluation, ...]
    needs: tuple[str, ...] = ()

    @property
    def model(self) -> Path:
        """Where its training leaves the model."""
        return self.directory / "model"

    @property
    def log(self) -> Path:
        """What its commands said."""
        return self.directory / "log.txt"


@dataclass(frozen=True)
class Step:
    """One command of a cell: `arguments` stand after `holdfast`."""

    name: str
    arguments: tuple[str, ...]


def steps_left(cell: Cell) -> list[Step]:
    """What is not done yet, in order."""
    steps = []
    if cell.training is not None and not (cell.model / "results.jsonl").exists():
        steps.append(Step("train", (cell.training.command, str(cell.directory / "config.yaml"))))
    if steps or _read(cell.directory / "finished.json") != _evaluated(cell):
        for evaluation in cell.evaluations:
            arguments = (*evaluation.arguments, "--output-dir", str(cell.directory / evaluation.place))
            steps.append(Step("evaluate", ("eval", *arguments)))
    return steps


def mark_finished(cell: Cell) -> None:
    """Keep what was evaluated, so that it is not evaluated again."""
    write_json(cell.directory / "finished.json", _evaluated(cell), indent=1)


def check(cell: Cell) -> None:
    """Raises HoldfastError where the directory holds a cell that was trained otherwise."""
    before = _read(cell.directory / "cell.json")
    now = _settings(cell)
    if before is None or before == now:
        return
    for part in ("config", "files"):
        old, new = before.get(part) or {}, now[part] or {}
        for name in [*new, *old]:
            if old.get(name) != new.get(name):
                what = f"{name} ({old.get(name)!r} there, {new.get(name)!r} now)"
                raise _refused(cell, f"another {what}" if part == "config" else f"another content of {name}")
    raise _refused(cell, f"another command ({before.get('command')!r} there, {now['command']!r} now)")


def prepare(cell: Cell) -> None:
    """Make the directory and write what the cell is; the same files every time."""
    write_json(cell.directory / "cell.json", _settings(cell), indent=1)
    if cell.training is not None:
        values = {**cell.training.values, "output_dir": str(cell.model)}
        text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
        write_text(cell.directory / "config.yaml", text)


def written(cell: Cell, name: str) -> list[Path]:
    """The files of this name that its evaluations wrote: samples.jsonl, results.jsonl."""
    # Not what a model of another name left there: it would be counted as well.
    places = (cell.directory / own.place / directory_name(cell.method) for own in cell.evaluations)
    return [place / name for place in places if (place / name).is_file()]


def digests(paths: Iterable[str | Path]) -> dict[str, str]:
    """SHA-256 of those paths that are files here; what is elsewhere (a hub id, a directory) is known by its name."""
    found = {}
    for path in map(Path, paths):
        if path.is_file():
            with path.open("rb") as file:
                found[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return found


def _settings(cell: Cell) -> dict[str, Any]:
    training = cell.training
    if training is None:
        return {"command": None, "config": None, "files": None}
    config = {name: value for name, value in training.resolved.items() if name not in HARMLESS}
    return _as_json({"command": training.command, "config": config, "files": dict(training.files)})


def _evaluated(cell: Cell) -> dict[str, Any]:
    return _as_json({own.place: [own.arguments, dict(own.files)] for own in cell.evaluations})


def _refused(cell: Cell, what: str) -> HoldfastError:
    return HoldfastError(
        f"{cell.directory}: holds a run with {what}; choose another --output-dir, or delete this one"
    )


def _read(path: Path) -> dict[str, Any] | None:
    """The file's object; None where there is no such file. Raises HoldfastError where it holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HoldfastError(f"{path}: corrupt ({error}); delete the cell's directory {path.parent}") from None
    if not isinstance(content, dict):
        raise HoldfastError(f"{path}: corrupt (no object); delete the cell's directory {path.parent}")
    return content


def _as_json(content: Any) -> Any:
    """As it will be read back: a tuple is a list."""
    return json.loads(json.dumps(content))
