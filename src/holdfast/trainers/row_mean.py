"""What our trainers share: an optimiser step is the mean over all its rows, and the loss's terms are logged."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import Trainer

from holdfast.errors import HoldfastError
from holdfast.forward import own_dropout_off
from holdfast.trainers.batching import LengthGroupedSampler
from holdfast.trainers.running_means import KeptMeans, RunningMeans

# Wraps the loss of a micro-batch in training: gets the model and a function that computes the loss (a scalar, with its
# graph), which it may call as often as it likes, and returns what is to be minimised. Regularisers are such hooks.
LossHook = Callable[[nn.Module, Callable[[], Tensor]], Tensor]


class RowMeanTrainer(Trainer):
    """A Trainer whose loss is the mean over the rows of a whole optimiser step.

    However the rows are split into micro-batches and devices, the same rows give the same step. Every batch has a
    tensor `row` (B,) with one entry per row. A subclass defines `row_losses`.

    Args:
        loss_hook: a regulariser around the loss, in training only; None is none.
        dropout: whether the dropout that the model's own config asks for stays on in training; adapters' always does.
        args, kwargs: Trainer's.
    """

    # `get_batch_samples` counts the rows of a whole optimiser step and `reduced` divides by them.
    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, loss_hook: LossHook | None = None, dropout: bool = False, **kwargs: Any):
        self.loss_hook = loss_hook
        self.dropout = dropout
        self._counted: int | None = None  # so many of the micro-batch's first rows count; None is all
        self._latest: dict[str, Tensor] = {}  # of the micro-batch
        self._step_loss: Tensor | float = 0.0
        super().__init__(*args, **kwargs)
        self.means = RunningMeans(self.accelerator)
        self.add_callback(KeptMeans(self.means, check=self.check_weights))
        self.model_accepts_loss_kwargs = False

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trainer's, with the model's own dropout off unless asked for: the reference was scored without it."""
        model: Any = self.model
        with nullcontext() if self.dropout else own_dropout_off(model):
            return super().train(*args, **kwargs)

    @staticmethod
    def row_tokens(example: Any) -> int:
        """Length of an encoded row, by which rows are put into batches."""
        return len(example["input_ids"])

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        """Our own where `train_sampling_strategy` is group_by_length."""
        rows: Any = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not hasattr(rows, "__len__"):
            return super()._get_train_sampler(train_dataset)
        at_once = self.args.train_batch_size * self.args.world_size
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return LengthGroupedSampler([self.row_tokens(row) for row in rows], at_once, seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler | None:
        """The data's own order; transformers would group these rows by length too, and knows no length of a pair."""
        return SequentialSampler(eval_dataset) if hasattr(eval_dataset, "__len__") else None

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor]:
        """The micro-batches of one optimiser step, and how many rows they hold over all devices."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._step_loss = 0.0
        if batches:
            self._leave_out_filling(batches[-1])
            self.means.add("loss", 0.0, 1)
            self.means.add("train_loss", 0.0, 1)
        rows = torch.tensor(sum(len(batch.get("counted", batch["row"])) for batch in batches), device=device)
        return batches, self.accelerator.gather(rows).sum()

    def _leave_out_filling(self, batch: dict[str, Tensor]) -> None:
        """Mark rows that only fill up the last batch over all devices; they are there already.

        `counted` has as many entries as the batch has rows of its own, which come first.
        """
        state, rows = self.accelerator.gradient_state, len(batch["row"])
        own = state.remainder - self.accelerator.process_index * rows
        if state.end_of_dataloader and state.remainder > 0 and own < rows:
            batch["counted"] = batch["row"][: max(own, 0)]

    @abstractmethod
    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The losses (B,) of a micro-batch's rows."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Sum over this micro-batch's rows / rows of the whole step; the plain mean in evaluation.

        There is no output besides: logits are made for a few tokens at a time and not kept.
        """

        if not model.training:
            self._leave_out_filling(inputs)
        self._counted = len(inputs["counted"]) if "counted" in inputs else None

        def loss() -> Tensor:
            self._latest = {}  # a hook may compute the loss again: the last call is logged
            per_row = self.row_losses(model, inputs)
            if not model.training:  # Trainer's own mean counts the rows of a batch of pairs twice
                self.record(False, loss=per_row)
            return self.reduced(per_row, num_items_in_batch)

        total = self.loss_hook(model, loss) if self.loss_hook is not None and model.training else loss()
        for name, values in self._latest.items():
            self.means.add(name, values.sum(), len(values))
        if model.training:
            self._step_loss = self._step_loss + total.detach()
            self.means.add("loss", total.detach(), 0)
            self.means.add("train_loss", total.detach(), 0)
        return (total, {}) if return_outputs else total

    def reduced(self, per_row: Tensor, rows_in_step: Tensor | int | None) -> Tensor:
        """Sum over this micro-batch's rows (B,) / rows of the whole step; the plain mean in evaluation."""
        own = per_row[: self._counted]
        if rows_in_step is None:
            return own.sum() / max(len(own), 1)
        # DistributedDataParallel averages gradients over devices, the division is by all their rows.
        return own.sum() * self.accelerator.num_processes / rows_in_step

    def record(self, training: bool, **terms: Tensor) -> None:
        """Keep per-row terms, each (B,), for the next log line."""
        for name, values in terms.items():
            self._latest[name if training else f"eval_{name}"] = values[: self._counted].detach().float()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the loss's terms since the last log, over the rows of all devices.

        `loss` and `train_loss` are means over optimiser steps, those before a resume included.
        """
        evaluating = "eval_loss" in logs
        terms = {name for name in self.means.names if name not in ("loss", "train_loss")}
        taken = {name for name in terms if name.startswith("eval_") == evaluating}
        taken |= {"loss", "train_loss"} & set(logs) & set(self.means.names)
        logs.update(self.means.take(taken))
        super().log(logs, start_time)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Stop before a step that is not finite: transformers would log it as 0 and go on."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._require_finite("loss", self._step_loss)
        scaler = self.accelerator.scaler
        if scaler is None or scaler.get_scale() <= 1:  # under float16 the scaler skips such steps and scales less
            self._require_finite("gradient norm", norm)
        return norm

    def check_weights(self) -> None:
        """Raise HoldfastError where a trained weight is not finite."""
        model: Any = self.model
        weights = [weight for weight in model.parameters() if weight.requires_grad and weight.numel()]
        if weights and not torch.stack([torch.isfinite(weight).all() for weight in weights]).all():
            raise self._not_finite("a weight is not a finite number")

    def check_trained(self) -> None:
        """Raise HoldfastError where the trained weights, or the loss that they give on a few rows, are not finite."""
        self.check_weights()
        rows: Any = self.train_dataset
        few = rows[: self.args.eval_batch_size * self.args.world_size]
        self._require_finite("loss after the last step", (self.predict(few).metrics or {})["test_loss"])

    def _require_finite(self, what: str, value: Any) -> None:
        if value is None:
            return
        value = float(value.full_tensor() if hasattr(value, "full_tensor") else value)
        if not math.isfinite(value):
            raise self._not_finite(f"the {what} is {value}")

    def _not_finite(self, what: str) -> HoldfastError:
        return HoldfastError(
            f"step {self.state.global_step + 1} of {self.state.max_steps}: {what}, so the training stopped and the "
            "last checkpoint is kept; lower learning_rate or max_grad_norm, or compute in float32, and start anew"
        )
