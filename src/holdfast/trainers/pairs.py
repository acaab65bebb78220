"""The policy's side of a batch of preference pairs, which every preference trainer computes alike."""

from torch import Tensor, nn

from holdfast.data.collator import answer_span, forward_inputs
from holdfast.forward import deferred_logits
from holdfast.losses.logprobs import summed_logps, trained_token_counts
from holdfast.losses.preference import PairLogps


def pair_logps(model: nn.Module, inputs: dict[str, Tensor]) -> PairLogps:
    """One forward over the 2B rows of `PairCollator`; the log-probabilities of B pairs."""
    labels = inputs["labels"]
    span = answer_span(labels)
    logits = deferred_logits(model, span, **forward_inputs(inputs))
    kept = labels[:, -span:]
    chosen, rejected = summed_logps(logits, kept).chunk(2)  # (B,), (B,)
    chosen_tokens, rejected_tokens = trained_token_counts(kept).chunk(2)
    return PairLogps(
        policy_chosen_logps=chosen,
        policy_rejected_logps=rejected,
        reference_chosen_logps=inputs.get("reference_chosen_logps"),
        reference_rejected_logps=inputs.get("reference_rejected_logps"),
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
    )
