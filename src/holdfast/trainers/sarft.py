"""SaRFTTrainer: transformers' Trainer with the SaRFT loss."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor, nn
from transformers import TrainingArguments

from holdfast.data.collator import Example, RoleCollator, answer_span, forward_inputs, top_k_in
from holdfast.errors import HoldfastError
from holdfast.forward import deferred_logits, unwrapped
from holdfast.losses.deferred import DeferredLogits
from holdfast.losses.sarft import Direction, SafeLoss, Span, sarft_loss
from holdfast.losses.top_k import TopKLogps
from holdfast.models import Policy, Reference, reference_for
from holdfast.trainers.row_mean import RowMeanTrainer


@dataclass(frozen=True)
class SaRFTSettings:
    """The switches of `losses.sarft.sarft_loss`; the defaults are the preset `holdfast`."""

    beta: float
    ce_normaliser: Span = "response"
    kl_span: Span = "response"
    kl_direction: Direction = "forward"
    safe_loss: SafeLoss = "kl"
    kl_first_tokens: int | None = None


class SaRFTTrainer(RowMeanTrainer):
    """Fine-tunes a role into a model and anchors it to the reference on the rows flagged `harmful`.

    The reference is asked about flagged rows only; a batch without any costs what plain fine-tuning costs.

    Args:
        model: the policy, not yet trained. A PeftModel is its own reference with its adapters off; of any other
            model a frozen copy is made if a row is flagged. Rows with `reference_top_k` need neither: what the
            reference says of them is in the rows.
        args: `remove_unused_columns` must be False.
        settings: the loss.
        train_dataset, eval_dataset: encoded rows (`Example`), flagged by a selector.
        pad_token_id: the tokenizer's.
        reference: overrides the reference above.
        kwargs: anything else that Trainer takes, for example `callbacks` or `processing_class`.
    """

    def __init__(
        self,
        model: Policy,
        args: TrainingArguments,
        *,
        settings: SaRFTSettings,
        train_dataset: Sequence[Example],
        pad_token_id: int,
        eval_dataset: Sequence[Example] | None = None,
        reference: Reference | None = None,
        **kwargs: Any,
    ):
        rows = (*train_dataset, *(eval_dataset or ()))
        flagged = [row for row in rows if row.get("harmful", False)] if settings.beta > 0 else []
        self.settings = settings
        self.reference: Reference | None = None
        if flagged and not _all_stored(flagged, settings):
            self.reference = reference or reference_for(model)
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=RoleCollator(pad_token_id),
            **kwargs,
        )
        if self.reference is not None:
            self.reference.to(self.args.device)

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The SaRFT loss of each row."""
        labels, mask, harmful = inputs["labels"], inputs["attention_mask"], inputs["harmful"]
        kept = labels.shape[1] if self.settings.kl_span == "sequence" else answer_span(labels)
        forward = forward_inputs(inputs)
        anchor: DeferredLogits | TopKLogps | None
        if self.reference is not None:
            anchor = self._reference_logits(self.reference, model, kept, forward, harmful)
        else:
            anchor = top_k_in(inputs) if self.settings.beta > 0 else None
        loss = sarft_loss(
            deferred_logits(model, kept, **forward), anchor, labels, mask, harmful, **asdict(self.settings)
        )
        self.record(model.training, role_loss=loss.role, safety_loss=loss.safety, flagged_share=harmful.float())
        return loss.total

    def _reference_logits(
        self, reference: Reference, model: nn.Module, kept: int, forward: dict[str, Any], harmful: Tensor
    ) -> DeferredLogits | None:
        """(F, K, V) logits of the frozen reference on the flagged rows, None where no row is flagged."""
        # A forward of sharded weights is collective: a device without a flagged row must take part, or the others
        # wait for it for ever. A forward of whole weights must not be: DistributedDataParallel's would broadcast.
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        if not harmful.any() and not sharded:
            return None
        asked = harmful if harmful.any() else torch.arange(len(harmful), device=harmful.device) == 0
        inputs = {key: value[asked] if isinstance(value, Tensor) else value for key, value in forward.items()}
        with self.accelerator.autocast():
            policy = model if sharded else unwrapped(model)
            logits = reference.logits(policy, kept, **inputs)
        return logits if harmful.any() else None


def _all_stored(flagged: Sequence[Example], settings: SaRFTSettings) -> bool:
    """Whether the flagged rows carry what the reference says of them, which all do or none."""
    stored = sum("reference_top_k" in row for row in flagged)
    if 0 < stored < len(flagged):
        raise HoldfastError(
            f"{stored} of {len(flagged)} flagged rows have reference_top_k; score all of them, eval_dataset's too, "
            "or none"
        )
    if stored and settings.safe_loss == "mse":
        raise HoldfastError("safe_loss mse needs the reference's whole distribution; leave reference_top_k out")
    return stored > 0
