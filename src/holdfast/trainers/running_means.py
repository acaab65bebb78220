"""Means of what a training measures, as if it had never been interrupted: checkpoints keep the sums."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState


class RunningMeans:
    """Sums and counts by name, over all devices together."""

    def __init__(self, accelerator: Accelerator):
        self.accelerator = accelerator
        self.kept: dict[str, list[float]] = {}  # of training, as a checkpoint keeps them
        self._sums: dict[str, tuple[Tensor | float, float]] = {}

    @property
    def names(self) -> list[str]:
        """What has been added and not taken, in an order that is the same on all devices."""
        return sorted(self._sums)

    def add(self, name: str, total: Tensor | float, count: float) -> None:
        """Add a sum over `count` rows or steps of this device."""
        before, counted = self._sums.get(name, (0.0, 0))
        if isinstance(total, Tensor) and total.device.type != "mps":  # which has no float64
            total = total.double()
        self._sums[name] = (before + total, counted + count)

    def take(self, names: Iterable[str]) -> dict[str, float]:
        """Return the means of `names` over all devices, and forget their sums. Every process calls this."""
        means = {name: total / count for name, (total, count) in self._reduced(sorted(names)).items() if count}
        for name in means:
            self._sums.pop(name)
            self.kept.pop(name, None)
        return means

    def keep(self) -> None:
        """Note the sums of training for a checkpoint. Every process calls this."""
        names = [name for name in self.names if not name.startswith("eval_")]
        self.kept = {name: list(pair) for name, pair in self._reduced(names).items()}

    def restore(self, kept: dict[str, list[float]]) -> None:
        """Go on from the sums of a checkpoint, which are those of all devices: one of them holds them."""
        mine = 1 if self.accelerator.is_main_process else 0
        self._sums = {name: (mine * float(total), mine * float(count)) for name, (total, count) in kept.items()}

    def _reduced(self, names: list[str]) -> dict[str, tuple[float, float]]:
        if not names:
            return {}
        device = self.accelerator.device
        wide = torch.float64 if device.type != "mps" else torch.float32
        own = torch.tensor([[float(value) for value in self._sums[name]] for name in names], dtype=wide)
        summed = self.accelerator.reduce(own.to(device), "sum").tolist()
        return {name: (total, count) for name, (total, count) in zip(names, summed, strict=True)}


class KeptMeans(TrainerCallback, ExportableState):
    """Puts the sums into every checkpoint and takes them out again.

    `check` is called before each checkpoint. Where an epoch is evaluated at its end, a checkpoint that is due then is
    written after the evaluation, or a resumed run would lack it.
    """

    def __init__(self, means: RunningMeans, *, check: Callable[[], None]):
        self.means = means
        self.check = check
        self._postponed = False

    def state(self) -> dict[str, Any]:
        """What `trainer_state.json` keeps."""
        return {"args": {}, "attributes": {"sums": self.means.kept}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on from the checkpoint's sums, or from none."""
        kept: Any = state.stateful_callbacks or {}
        before = kept.get(type(self).__name__, {}) if state.global_step else {}
        self.means.restore(before.get("attributes", {}).get("sums", {}))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before a checkpoint; the log of this step comes between."""
        ends = control.should_training_stop or float(state.epoch or 0.0).is_integer()
        if control.should_save and ends and args.eval_strategy == "epoch":
            self._postponed, control.should_save = True, False
        self._before_save(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Before a checkpoint that waited for the evaluation."""
        if self._postponed:
            self._postponed, control.should_save = False, True
        self._before_save(control)

    def _before_save(self, control: TrainerControl) -> None:
        if control.should_save:
            self.check()
            self.means.keep()
