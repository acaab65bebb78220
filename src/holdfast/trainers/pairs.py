"""The policy's side of a batch of preference pairs, which every preference trainer computes alike."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.data.collator import Example, answer_span, forward_inputs
from holdfast.data.pair_collator import (
    CHOSEN,
    PADDING,
    PROMPT,
    REJECTED,
    Anchors,
    PairCollator,
    PairExample,
    shared_tokens,
)
from holdfast.forward import deferred_logits, evaluating, inner_model
from holdfast.losses.deferred import DeferredLogits
from holdfast.losses.logprobs import AnswerTokens, answer_tokens, summed_by_row, token_logps
from holdfast.losses.preference import PairLogps
from holdfast.models import Policy
from holdfast.trainers.row_mean import RowMeanTrainer

logger = logging.getLogger(__name__)

TAKE_MASKS = ("sdpa", "eager")  # attention implementations that take any mask; flash attention takes none


class PairTrainer(RowMeanTrainer):
    """A trainer on preference pairs, whose answers share their prompt where the model allows; see `PairCollator`.

    Args:
        model: the policy, not yet trained.
        pad_token_id: the tokenizer's.
        anchors: what else is forwarded; None is nothing.
        kwargs: RowMeanTrainer's.
    """

    def __init__(self, model: Policy, *, pad_token_id: int, anchors: Anchors | None = None, **kwargs: Any):
        collator = PairCollator(pad_token_id, anchors)
        super().__init__(model=model, data_collator=collator, **kwargs)
        # Tried out on the device that Trainer has put the model on.
        self.data_collator = replace(collator, longest_sharing=longest_sharing(model, pad_token_id))

    @staticmethod
    def row_tokens(example: PairExample) -> int:
        """Length of a pair, by which pairs are put into batches."""
        return shared_tokens(example)


def pair_logps(model: nn.Module, inputs: Mapping[str, Tensor]) -> PairLogps:
    """One forward over the rows of `PairCollator`; the log-probabilities of B pairs."""
    logits, tokens = _answers(model, inputs)
    answers = 2 * len(inputs["row"])
    chosen, rejected = summed_by_row(token_logps(logits, tokens), tokens.row, answers).chunk(2)  # (B,), (B,)
    counts = summed_by_row(torch.ones_like(tokens.row), tokens.row, answers).clamp(min=1)
    chosen_tokens, rejected_tokens = counts.chunk(2)
    return PairLogps(
        policy_chosen_logps=chosen,
        policy_rejected_logps=rejected,
        reference_chosen_logps=inputs.get("reference_chosen_logps"),
        reference_rejected_logps=inputs.get("reference_rejected_logps"),
        chosen_tokens=chosen_tokens,
        rejected_tokens=rejected_tokens,
    )


def _answers(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[DeferredLogits, AnswerTokens]:
    """Logits of the batch's last positions, and the trained tokens there; row b of these is answer b of the 2B."""
    span = answer_span(inputs["labels"])
    tokens = answer_tokens(inputs["labels"][:, -span:])
    if "answer" not in inputs:
        return deferred_logits(model, span, **forward_inputs(inputs)), tokens
    rejected = inputs["answer"][:, -span:].flatten()[tokens.place] == REJECTED
    tokens = tokens._replace(row=tokens.row + rejected * len(inputs["row"]))
    return deferred_logits(model, span, **_shared_inputs(model, inputs)), tokens


def _shared_inputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the model's forward takes for rows that two answers share."""
    inner: Any = inner_model(model)
    mask = visible_positions(inputs["answer"])
    if inner.config.get_text_config()._attn_implementation == "eager":  # adds its mask to the scores
        unseen = torch.finfo(inner.dtype).min
        mask = torch.zeros_like(mask, dtype=inner.dtype).masked_fill(~mask, unseen)
    return {
        "input_ids": inputs["input_ids"],
        "attention_mask": mask,
        "position_ids": shared_positions(inputs["answer"]),
        "use_cache": False,
    }


def visible_positions(answer: Tensor) -> Tensor:
    """(B, 1, T, T) bool: whether a position (the third axis) sees another (the fourth).

    Each sees what is before it of the prompt and of its own answer. `answer` (B, T) is PairCollator's.
    """
    seen, seeing = answer[:, None, :], answer[:, :, None]
    own = (seen == seeing) | ((seen == PROMPT) & (seeing != PADDING))
    return own.tril()[:, None]


def shared_positions(answer: Tensor) -> Tensor:
    """(B, T) the position of each token in its own answer's row, as if the other were not there; 0 on padding."""
    in_row = (answer != PADDING).cumsum(-1) - 1
    others = (answer == CHOSEN).sum(-1, keepdim=True) * (answer == REJECTED)
    return (in_row - others).clamp(min=0)


# --- whether a model's answers may share their prompt


def longest_sharing(model: nn.Module, pad_token_id: int) -> int:
    """How long a prompt with an answer may be for two answers to share the prompt in one row; 0 where none may.

    It needs attention under a mask of our own, and positions of our own. Flash attention takes no such mask, layers
    with a state (linear attention) or with chunks look at none, and under ours a sliding window is not seen, so that
    no row may be longer than the window. Whether the rest works is tried out once on two pairs: prefix tuning, position
    biases and whatever else looks at the mask by itself give other hidden states than in rows of their own.
    """
    inner: Any = inner_model(model)
    config = inner.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    obstacle = None
    if config._attn_implementation not in TAKE_MASKS:
        obstacle = f"attention {config._attn_implementation} takes no mask of our own; sdpa does"
    elif not kinds <= {"full_attention", "sliding_attention"}:
        obstacle = f"layers of {type(inner).__name__} read no attention mask"
    elif not _sharing_works(model, pad_token_id):
        obstacle = f"{type(inner).__name__} gives other hidden states under a mask of our own"
    if obstacle is not None:
        logger.warning("each answer of a pair is forwarded with its own copy of the prompt, slower: %s", obstacle)
        return 0
    window = getattr(config, "sliding_window", None) if kinds != {"full_attention"} else None
    return window or sys.maxsize


def _sharing_works(model: nn.Module, pad_token_id: int) -> bool:
    """Whether the answers of two pairs have the same hidden states in shared rows as in their own, but for rounding."""
    apart, shared = (PairCollator(pad_token_id, longest_sharing=longest) for longest in (0, sys.maxsize))
    try:
        with torch.no_grad(), evaluating(model):
            wanted, got = _answer_states(model, apart), _answer_states(model, shared)
    except Exception as error:  # a model that takes no such mask says so in a way of its own
        logger.info("two answers cannot share their prompt's computation in this model: %s", error)
        return False
    tolerance = max(torch.finfo(wanted.dtype).eps ** 0.5, 0.01)  # half precision and TF32 round by less
    return bool((got - wanted).norm() <= tolerance * wanted.norm())


def _answer_states(model: nn.Module, collator: PairCollator) -> Tensor:
    """(N, H) what predicts each trained token of two small pairs, in the order of their four answers."""
    inner: Any = inner_model(model)
    pairs = [
        _small_pair(inner.config.get_text_config().vocab_size, *lengths) for lengths in ((6, 9, 4), (3, 5, 8))
    ]
    logits, tokens = _answers(model, {name: tensor.to(inner.device) for name, tensor in collator(pairs).items()})
    return logits.at(tokens.place)[tokens.row.argsort(stable=True)]


def _small_pair(vocabulary: int, prompt: int, chosen: int, rejected: int) -> PairExample:
    """A pair of these lengths, of tokens that differ where the vocabulary has enough."""
    ids = [token % vocabulary for token in range(1, 1 + prompt + chosen + rejected)]

    def example(answer: list[int]) -> Example:
        return Example(input_ids=ids[:prompt] + answer, trained=[False] * prompt + [True] * len(answer))

    return PairExample(chosen=example(ids[prompt : prompt + chosen]), rejected=example(ids[prompt + chosen :]))
