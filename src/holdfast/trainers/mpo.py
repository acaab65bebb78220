"""MPOTrainer: Multilingual reward gaP Optimization, with no reference model in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from transformers import TrainingArguments

from holdfast.data.pair_collator import Anchors, PairExample
from holdfast.losses.mpo import mpo_loss, reward_gaps
from holdfast.models import Policy
from holdfast.reference.pairs import pooled_hidden_states
from holdfast.trainers.pairs import PairTrainer, pair_logps

Gap = Literal["simpo", "dpo"]


@dataclass(frozen=True)
class MPOSettings:
    """The switches of `losses.mpo.mpo_loss`; the defaults are the preset `holdfast`.

    `gap`: `simpo` compares plain reward gaps, `dpo` (the paper's ablation) takes the reference's own gap off the
    policy's. `huber_delta` None squares every error, a number makes errors beyond it linear. `one_sided` counts only
    gaps that are too small.
    """

    beta: float
    retention_weight: float = 1.0
    length_normalise: bool = True
    gap: Gap = "simpo"
    huber_delta: float | None = None
    one_sided: bool = False


class MPOTrainer(PairTrainer):
    """Pulls target languages' reward gaps to the dominant language's, and holds the dominant's hidden states.

    What the reference says comes with the rows and the anchors (`reference.pairs`).

    Args:
        model: the policy, not yet trained.
        args: `remove_unused_columns` must be False.
        settings: the loss.
        train_dataset, eval_dataset: encoded target pairs, with `reference_dominant_gaps`, with `anchor` where there
            are anchors, and with the pair's own reference log-probabilities for `gap="dpo"`.
        pad_token_id: the tokenizer's.
        anchors: what is held, dominant prompts and whatever else; None holds nothing (the ablation without L2).
        kwargs: anything else that Trainer takes, for example `callbacks` or `processing_class`.
    """

    def __init__(
        self,
        model: Policy,
        args: TrainingArguments,
        *,
        settings: MPOSettings,
        train_dataset: Sequence[PairExample],
        pad_token_id: int,
        anchors: Anchors | None,
        eval_dataset: Sequence[PairExample] | None = None,
        **kwargs: Any,
    ):
        self.settings = settings
        super().__init__(
            model,
            pad_token_id=pad_token_id,
            anchors=anchors if settings.retention_weight else None,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The MPO loss of each pair."""
        settings = self.settings
        logps = pair_logps(model, inputs)
        tokens = (logps.chosen_tokens, logps.rejected_tokens)
        normalise = settings.length_normalise
        gaps = reward_gaps(
            logps.policy_chosen_logps, logps.policy_rejected_logps, *tokens, length_normalise=normalise
        )
        own = None
        if settings.gap == "dpo":
            reference = (inputs["reference_chosen_logps"], inputs["reference_rejected_logps"])
            own = reward_gaps(*reference, *tokens, length_normalise=normalise)
        hidden, held = self._hidden_states(model, inputs)
        loss = mpo_loss(
            gaps,
            inputs["reference_dominant_gaps"],
            hidden,
            held,
            beta=settings.beta,
            retention_weight=settings.retention_weight,
            huber_delta=settings.huber_delta,
            one_sided=settings.one_sided,
            reference_target_gaps=own,
        )
        self.record(model.training, gap_loss=loss.gap, retention_loss=loss.retention, reward_gap=gaps)
        return loss.total

    def _hidden_states(self, model: nn.Module, inputs: dict[str, Tensor]) -> tuple[Tensor | None, Tensor | None]:
        """(B, S * H) of the policy and of the reference, for each row's dominant pair."""
        if "anchor_of" not in inputs:
            return None, None
        held = inputs["anchor_vectors"].flatten(1)  # (A, S * H)
        hidden = pooled_hidden_states(model, inputs).view(held.shape)
        return hidden[inputs["anchor_of"]], held[inputs["anchor_of"]]
