"""PreferenceTrainer: every preference loss of `losses.preference` on the same forward pass."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from transformers import TrainingArguments

from holdfast.data.pair_collator import PairExample
from holdfast.losses.mpo import reward_gaps
from holdfast.losses.preference import PREFERENCE_LOSSES, bind
from holdfast.models import Policy
from holdfast.trainers.pairs import PairTrainer, pair_logps


class PreferenceTrainer(PairTrainer):
    """Trains on preference pairs with one of `PREFERENCE_LOSSES`.

    The reference's log-probabilities come with the rows (`reference.pairs.score_pairs`), so no reference model is
    in memory, with or without adapters.

    Args:
        model: the policy, not yet trained.
        args: `remove_unused_columns` must be False.
        loss: a name of PREFERENCE_LOSSES.
        weights: the loss's weights, for example {"beta": 0.1}; what is not given stands at its default.
        train_dataset, eval_dataset: encoded pairs.
        pad_token_id: the tokenizer's.
        kwargs: anything else that Trainer takes, for example `callbacks` or `processing_class`.

    Raises ValueError for an unknown loss or weight, and where rows lack the reference values that the loss needs.
    """

    def __init__(
        self,
        model: Policy,
        args: TrainingArguments,
        *,
        loss: str,
        weights: Mapping[str, float] | None = None,
        train_dataset: Sequence[PairExample],
        pad_token_id: int,
        eval_dataset: Sequence[PairExample] | None = None,
        **kwargs: Any,
    ):
        self.loss = bind(loss, **(weights or {}))
        if PREFERENCE_LOSSES[loss].needs_reference:
            for example in (*train_dataset, *(eval_dataset or ())):
                if "reference_chosen_logps" not in example or "reference_rejected_logps" not in example:
                    raise ValueError(
                        f"{loss} needs the reference's log-probabilities in every row; see score_pairs"
                    )
        super().__init__(
            model,
            pad_token_id=pad_token_id,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            **kwargs,
        )

    def row_losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """The chosen loss of each pair."""
        logps = pair_logps(model, inputs)
        per_pair = self.loss(logps)
        gaps = reward_gaps(
            logps.policy_chosen_logps,
            logps.policy_rejected_logps,
            logps.chosen_tokens,
            logps.rejected_tokens,
            length_normalise=True,
        )
        self.record(model.training, reward_gap=gaps, reward_accuracy=(gaps > 0).float())
        return per_pair
