"""A training run's directory: started, killed, continued, finished.

`run.json` says what the run is: its settings, fingerprints of what it read, versions, and the files it wrote. A
directory with another run in it is refused, and only what `run.json` lists, and checkpoints, are ever deleted.
`results.jsonl` appears when the run is finished.
"""

import json
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from holdfast import __version__
from holdfast.config import Config
from holdfast.errors import HoldfastError
from holdfast.files import (
    LOCK_NAME,
    MAX_TEXT_BYTES,
    check_output_directory,
    os_errors,
    parse_json,
    read_bytes,
    read_json,
    remove_leftovers,
    share,
    write_json,
    write_text,
)
from holdfast.recipes.terminal import note
from holdfast.results import Figure, write_figures

# Settings that may change between a kill and its continuation without changing the result.
HARMLESS = {
    "overwrite",
    "output_dir",
    "cache_dir",
    "logging_steps",
    "save_steps",
    "report_to",
    "score_batch_size",
}
# Settings that name a file or a model; what is in it counts, see recipes/identity.py.
_COMPARED_BY_CONTENT = {
    "model",
    "data",
    "eval_data",
    "role",
    "safety_data",
    "unsafe_data",
    "retention_data",
    "unaligned_model",
    "chat_template",
    "deepspeed",
}
_MANIFEST = "run.json"
_SAVING = ".model.partial"  # the trained model is written here and moved when it is whole
_FIRST_FILES = ("config.yaml", "continued.jsonl")
_LAST_FILES = ("metrics.jsonl", "README.md", "results.jsonl")
_CHECKPOINT = re.compile(r"checkpoint-\d+")


class RunDirectory:
    """The directory of one training run.

    Args:
        path: made if need be.
        config: the settings of the run.
        overwrite: start anew where another run, or this one finished, is there.

    Raises HoldfastError where the path cannot be written, or holds anything but a run with the same settings.
    Nothing is written or deleted before `start`.
    """

    def __init__(self, path: Path, config: Config, *, overwrite: bool):
        self.path = path
        self.settings = config.model_dump(mode="json")
        self._overwrite = overwrite
        check_output_directory(path)
        with os_errors(path):
            self._before = _read_manifest(path, overwrite=overwrite)
            self._refuse(self._different_settings())
        self._inputs: Mapping[str, str] = {}
        self._continues = False

    @property
    def finished(self) -> bool:
        """Whether the run's results are there."""
        return (self.path / "results.jsonl").exists()

    def is_done(self, inputs: Mapping[str, str]) -> bool:
        """Whether this very run is finished. Raises HoldfastError where the directory holds another one.

        `inputs` are fingerprints of all that the run reads (`recipes.identity`), by the setting that names it.
        """
        self._inputs = inputs
        different = self._different_settings() + self._different_inputs()
        self._refuse(different)
        self._continues = self._before is not None and not different and not (self._overwrite and self.finished)
        return self._continues and self.finished

    def start(self, **data: Any) -> None:
        """Write the manifest and the resolved config, and delete what an earlier run left; the main process only."""
        with os_errors(self.path):
            shutil.rmtree(self.path / _SAVING, ignore_errors=True)
            if self._continues:
                self._note_versions()
            else:
                self._clear()
                self._before = {
                    "settings": self.settings,
                    "inputs": dict(self._inputs),
                    "data": data,
                    "versions": versions(),
                    "files": [*_FIRST_FILES],
                }
                write_json(self.path / _MANIFEST, self._before)
            write_text(self.path / "config.yaml", yaml.safe_dump(self.settings, sort_keys=False))

    def train(self, trainer: Trainer) -> None:
        """Train from the newest whole checkpoint, or from the start."""
        watch = _Checkpoints(self.path, keep=trainer.args.save_total_limit)
        # transformers would count, and delete, whatever is called checkpoint-*.
        trainer.args.save_total_limit = None
        trainer.add_callback(watch)
        checkpoint = self.newest_checkpoint()
        if checkpoint is None:
            trainer.train()
            return
        note(f"continuing from {checkpoint}")
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint))
        except (HoldfastError, torch.OutOfMemoryError, MemoryError):
            raise
        except Exception as error:  # a damaged file fails in many ways
            if watch.loaded:
                raise
            raise _corrupt(checkpoint, error) from error

    def newest_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written to its end, whatever a kill has left of a newer one."""
        return next((path for path in reversed(checkpoints(self.path)) if _step_of(path) is not None), None)

    def save_model(self, trainer: Trainer, save: Callable[[Path], None]) -> None:
        """Save the trained model by `save`; its files appear one by one, each whole. Every process calls this."""
        saving = self.path / _SAVING
        with os_errors(self.path):
            save(saving)
        trainer.accelerator.wait_for_everyone()
        if not trainer.is_world_process_zero():
            return
        with os_errors(self.path):
            (saving / "training_args.bin").unlink(missing_ok=True)  # a pickle; config.yaml says the same
            share(saving)
            files = [file.relative_to(saving) for file in sorted(saving.rglob("*")) if file.is_file()]
            self._list_files(str(file) for file in files)  # first, so that no file is ever left unlisted
            for file in files:
                (self.path / file).parent.mkdir(parents=True, exist_ok=True)
                (saving / file).replace(self.path / file)
            shutil.rmtree(saving)

    def finish(self, figures: list[Figure], log_history: list[dict[str, Any]]) -> None:
        """Write metrics and results; checkpoints have done their work."""
        write_text(self.path / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in log_history))
        write_figures(self.path / "results.jsonl", figures)
        self.clean()

    def clean(self) -> None:
        """Delete what a finished run does not need."""
        with os_errors(self.path):
            shutil.rmtree(self.path / _SAVING, ignore_errors=True)
            for name in (_MANIFEST, *(self._before or {"files": []})["files"]):
                remove_leftovers(self.path / name)
            for checkpoint in checkpoints(self.path):
                remove_checkpoint(checkpoint)

    def _list_files(self, names: Any) -> None:
        if self._before is None:
            raise RuntimeError("start comes before save_model")
        files = sorted({*self._before["files"], *_LAST_FILES, *names})
        if files != self._before["files"]:
            self._before["files"] = files
            write_json(self.path / _MANIFEST, self._before)

    def _clear(self) -> None:
        """Delete the files that the manifest lists, results first, so that no half is taken for a finished run."""
        if self._before is None:
            return
        for name in sorted(self._before["files"], key=lambda name: name != "results.jsonl"):
            file = self.path / name
            if file.is_file() and not file.is_symlink() and file.resolve().is_relative_to(self.path.resolve()):
                file.unlink()
        self.clean()

    def _note_versions(self) -> None:
        """Add a line to continued.jsonl where other versions continue the run."""
        if self._before is None or self.newest_checkpoint() is None:
            return
        now = versions()
        old = self._before["versions"]
        changed = [f"{name} {old.get(name)} -> {now[name]}" for name in now if old.get(name) != now[name]]
        if not changed:
            return
        note(f"the run was started with other versions: {', '.join(changed)}")
        path = self.path / "continued.jsonl"
        earlier = path.read_text(encoding="utf-8") if path.exists() else ""
        line = json.dumps({"step": _step_of(self.newest_checkpoint()), "versions": now})
        write_text(path, f"{earlier}{line}\n")

    def _different_settings(self) -> list[str]:
        if self._before is None:
            return []
        old, new = self._before["settings"], self.settings
        return [
            f"{name} ({_shown(old.get(name))} there, {_shown(new.get(name))} now)"
            for name in dict.fromkeys((*new, *old))
            if name not in HARMLESS | _COMPARED_BY_CONTENT and old.get(name) != new.get(name)
        ]

    def _different_inputs(self) -> list[str]:
        if self._before is None:
            return []
        old, new = self._before["inputs"], self._inputs
        return [
            f"{name} ({_shown_input(name, old)} there, {_shown_input(name, new)} now)"
            for name in dict.fromkeys((*new, *old))
            if old.get(name) != new.get(name)
        ]

    def _refuse(self, different: list[str]) -> None:
        """Another run that has trained is not replaced unasked; one that failed before it trained is."""
        if not different or self._overwrite or not (self.finished or self.newest_checkpoint()):
            return
        more = f", and {len(different) - 4} more" if len(different) > 4 else ""
        raise HoldfastError(
            f"{self.path}: output_dir holds a run with another {', '.join(different[:4])}{more}; choose another "
            "output_dir, or pass --overwrite true to start anew"
        )


class _Checkpoints(TrainerCallback):
    """Keeps the newest `keep` checkpoints of the run, all where it is None."""

    def __init__(self, directory: Path, *, keep: int | None):
        self.directory = directory
        self.keep = keep
        self.loaded = False  # whether a step has begun, so that a checkpoint was read to its end

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.loaded = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.keep or not state.is_world_process_zero:
            return
        for checkpoint in checkpoints(self.directory)[: -self.keep]:
            if str(checkpoint) != state.best_model_checkpoint:
                remove_checkpoint(checkpoint)


def checkpoints(directory: Path) -> list[Path]:
    """Return the run's checkpoints, oldest first: directories `checkpoint-NUMBER`, and no links to such."""
    found = [path for path in directory.glob("checkpoint-*") if _CHECKPOINT.fullmatch(path.name)]
    own = [path for path in found if path.is_dir() and not path.is_symlink()]
    return sorted(own, key=lambda path: int(path.name.rpartition("-")[2]))


def remove_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint; killed on the way, what is left is not taken for a whole one."""
    (checkpoint / "trainer_state.json").unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)


def versions() -> dict[str, str | None]:
    """What the result was made with."""
    libraries = ("torch", "transformers", "peft", "accelerate", "datasets", "safetensors")
    return {
        "holdfast": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        **{name: version(name) for name in libraries},
    }


def _commit() -> str | None:
    """Commit of the source tree that runs, None where it is an installed package."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__], cwd=here, capture_output=True, check=False
        )
        if tracked.returncode:
            return None
        return subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _read_manifest(directory: Path, *, overwrite: bool) -> dict[str, Any] | None:
    """The manifest of the run in `directory`; None where there is no run, or only a damaged start of one."""
    names = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    names = {name for name in names if name != LOCK_NAME and not _is_temporary(name)}
    path = directory / _MANIFEST
    if _MANIFEST not in names:
        if names:
            raise HoldfastError(f"{directory}: output_dir holds other files; choose an empty or a new directory")
        return None
    try:
        manifest = parse_json(read_bytes(path, "run manifest", limit=MAX_TEXT_BYTES))
    except (HoldfastError, ValueError) as error:
        nothing_else = names <= {_MANIFEST, "config.yaml"} and path.is_file()
        if nothing_else and overwrite:
            return None
        advice = (
            "pass --overwrite true to start anew"
            if nothing_else
            else "nothing was deleted: put back a copy of the file, or choose another output_dir"
        )
        raise HoldfastError(f"{path}: corrupt ({str(error).splitlines()[0][:200]}); {advice}") from None
    if not _is_ours(manifest):
        raise HoldfastError(
            f"{path}: was not written by this version of Holdfast, so this is taken for somebody else's directory and "
            "left as it is; choose another output_dir"
        )
    return manifest


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(".partial")


def _is_ours(manifest: Any) -> bool:
    """Whether it is what `start` writes."""
    if not isinstance(manifest, dict):
        return False
    objects = all(isinstance(manifest.get(name), dict) for name in ("settings", "inputs", "data", "versions"))
    files = manifest.get("files")
    listed = isinstance(files, list) and all(isinstance(name, str) and "\0" not in name for name in files)
    return objects and listed and "holdfast" in manifest["versions"]


def _step_of(checkpoint: Path | None) -> int | None:
    """Steps trained; None where writing was cut short: the Trainer writes this file last."""
    if checkpoint is None:
        return None
    try:
        return int(read_json(checkpoint / "trainer_state.json")["global_step"])
    except (HoldfastError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _corrupt(checkpoint: Path, error: Exception) -> HoldfastError:
    reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return HoldfastError(
        f"{checkpoint}: the checkpoint is corrupt ({reason}); delete this directory to continue from an earlier one, "
        "or pass --overwrite true to start anew"
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _shown_input(name: str, inputs: Mapping[str, str]) -> str:
    value = inputs.get(name)
    return "none" if value is None else value if name == "processes" else f"content {value[:8]}"
