"""A training's progress in our own lines, instead of transformers' bar and dictionaries."""

from contextlib import ExitStack
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from holdfast.recipes.terminal import note, progress_bar

_LEFT_OUT = ("epoch", "total_flos", "learning_rate")  # of what transformers logs


def report_progress(trainer: Trainer) -> None:
    """Show progress and logged values of the main process, one line each time that values are logged."""
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TrainingProgress())


class TrainingProgress(TrainerCallback):
    """A progress bar over optimiser steps, and a line for each log entry."""

    def __init__(self) -> None:
        self._bar = ExitStack()
        self._show = lambda done, total: None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar."""
        if state.is_world_process_zero:
            self._show = self._bar.enter_context(progress_bar("training steps"))
            self._show(state.global_step, state.max_steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        self._show(state.global_step, state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print what was logged; the sums at the end stand in the results."""
        if not state.is_world_process_zero or not logs or "train_runtime" in logs:
            return
        values = {name: value for name, value in logs.items() if name not in _LEFT_OUT}
        described = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
        note(f"step {state.global_step} of {state.max_steps}: {described}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self._bar.close()


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
