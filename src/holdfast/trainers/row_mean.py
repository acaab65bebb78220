"""What our trainers share: an optimiser step is the mean over all its rows, and the loss's terms are logged."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import Trainer


class RowMeanTrainer(Trainer):
    """A Trainer whose loss is the mean over the rows of a whole optimiser step.

    However the rows are split into micro-batches and devices, the same rows give the same step. Every batch has a
    tensor `row` (B,) with one entry per row. A subclass defines `compute_loss` and ends it with `reduced`.
    """

    # `get_batch_samples` counts the rows of a whole optimiser step and `reduced` divides by them.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **kwargs: Any):
        self._terms: defaultdict[str, list[Tensor]] = defaultdict(list)
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one optimiser step, and how many rows they hold over all devices."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rows = torch.tensor(sum(len(batch["row"]) for batch in batches), device=device)
        return batches, self.accelerator.gather(rows).sum()

    def reduced(self, per_row: Tensor, rows_in_step: Tensor | int | None) -> Tensor:
        """Sum over this micro-batch's rows (B,) / rows of the whole step; the plain mean in evaluation."""
        if rows_in_step is None:
            return per_row.mean()
        # DistributedDataParallel averages gradients over devices, the division is by all their rows.
        return per_row.sum() * self.accelerator.num_processes / rows_in_step

    def record(self, training: bool, **terms: Tensor) -> None:
        """Keep per-row terms, each (B,), for the next log line."""
        for name, values in terms.items():
            self._terms[name if training else f"eval_{name}"].append(values.detach().float())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's terms since the last log, over the rows of all devices."""
        evaluating = "eval_loss" in logs
        for name in [name for name in self._terms if name.startswith("eval_") == evaluating]:
            values = torch.cat(self._terms.pop(name))
            own = torch.stack([values.sum(), values.new_tensor(len(values))])
            summed, rows = self.accelerator.reduce(own, "sum").tolist()
            logs[name] = summed / rows
        super().log(logs, start_time)
