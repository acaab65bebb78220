"""ConstrainedSFTTrainer: transformers' Trainer with the loss of constrained SFT."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from transformers import TrainingArguments

from holdfast.data.collator import Example, RoleCollator, answer_span, forward_inputs
from holdfast.forward import deferred_logits
from holdfast.losses.constrained import constrained_sft_loss
from holdfast.models import Policy
from holdfast.trainers.row_mean import RowMeanTrainer


@dataclass(frozen=True)
class ConstrainedSettings:
    """The weights of `losses.constrained.constrained_sft_loss`; the defaults are the paper's."""

    first_beta: float = 0.5  # an answer's first token; lower than the next ones' for numerical stability
    early_beta: float = 2.0  # the others of the first `early_tokens`
    later_beta: float = 0.1
    early_tokens: int = 5

    def __post_init__(self) -> None:
        if min(self.first_beta, self.early_beta, self.later_beta) <= 0 or self.early_tokens < 1:
            raise ValueError(f"{self}: the betas must be above 0 and early_tokens at least 1")


class ConstrainedSFTTrainer(RowMeanTrainer):
    """Fine-tunes with a pull that fades on tokens which outrun the aligned model, fastest on an answer's first ones.

    The reference's log-probabilities come with the rows (`reference.token_logps`), so no reference model is in
    memory, with or without adapters.

    Args:
        model: the policy, not yet trained.
        args: `remove_unused_columns` must be False.
        settings: the loss.
        train_dataset, eval_dataset: encoded rows with their `reference_logps`.
        pad_token_id: the tokenizer's.
        kwargs: anything else that Trainer takes, for example `callbacks`, and `loss_hook`.

    Raises ValueError where a row has not one reference value for each trained token.
    """

    def __init__(
        self,
        model: Policy,
        args: TrainingArguments,
        *,
        settings: ConstrainedSettings,
        train_dataset: Sequence[Example],
        pad_token_id: int,
        eval_dataset: Sequence[Example] | None = None,
        **kwargs: Any,
    ):
        for example in (*train_dataset, *(eval_dataset or ())):
            if len(example.get("reference_logps", ())) != sum(example["trained"]):
                raise ValueError(
                    "constrained SFT needs the reference's log-probability of every trained token; "
                    "see score_trained_tokens"
                )
        self.settings = settings
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=RoleCollator(pad_token_id),
            **kwargs,
        )

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The constrained loss of each row."""
        labels = inputs["labels"]
        span = answer_span(labels)
        logits = deferred_logits(model, span, **forward_inputs(inputs))
        loss = constrained_sft_loss(
            logits, inputs["reference_logps"][:, -span:], labels[:, -span:], **asdict(self.settings)
        )
        self.record(model.training, role_loss=loss.role, token_weight=loss.weight)
        return loss.total
