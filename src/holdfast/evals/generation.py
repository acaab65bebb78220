"""What a model in this process writes after its prompts: batched, padded on the left, longest prompts first."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from holdfast.decoding import Branch, DefenceProcessor
from holdfast.evals.responders import Decoding
from holdfast.forward import evaluating
from holdfast.models import Policy, context_tokens, own_generation_config_left_out


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much is generated at once.

    `rows` is the most prompts in a batch, `tokens` the most tokens in its cache: rows x (longest prompt + new tokens),
    twice that where a defence has a second cache. A single prompt may be larger than `tokens`.
    """

    rows: int = 64
    tokens: int = 32_768


@dataclass(frozen=True, slots=True)
class BranchSource:
    """What a defence's branch reads: a prompt for each of the prompts, in `model` with `adapter` (see `Branch`)."""

    prompts: Sequence[Sequence[int]]
    model: Policy
    adapter: str | None = None

    def of(self, indices: Sequence[int]) -> Branch:
        """The branch of a batch."""
        return Branch(self.model, [self.prompts[index] for index in indices], adapter=self.adapter)


@dataclass(frozen=True, slots=True)
class Generation:
    """What was written after one prompt: its tokens without the one that ends it; `cut` where none ended it."""

    tokens: list[int]
    cut: bool


def generate(
    model: Policy,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    *,
    stop_token_ids: Sequence[int],
    pad_token_id: int | None,
    limits: BatchLimits | None = None,
    branch: BranchSource | None = None,
) -> Iterator[list[tuple[int, Generation | None]]]:
    """Each prompt's index with what the model writes after it, a list a batch, the longest prompts first.

    Greedy tokens are those of one prompt at a time, up to the rounding of the model's arithmetic. So are sampled
    ones: each prompt's random numbers come from the seed and its own tokens, whatever else is in the batch. The
    model's own generation_config is left out: Qwen2.5's, for one, would penalise repetition in greedy answers too.

    Where a batch does not fit a CUDA device's memory, half its tokens are the limit from there on; None stands for a
    prompt that does not fit alone. Prompts must be shorter than the model's context, at which an answer ends.

    A defence (`decoding.defence`) needs its `branch`; its prompts count as the prompts do.
    """
    if (decoding.defence is None) != (branch is None):
        raise ValueError("a defence needs a branch, and a branch a defence")
    limits = limits or BatchLimits()
    context = context_tokens(model)
    readings = [prompts] if branch is None else [prompts, branch.prompts]
    longest = [max(map(len, read)) for read in zip(*readings, strict=True)]
    room = [int(min(decoding.max_new_tokens, context - length)) for length in longest]
    waiting = sorted(range(len(prompts)), key=lambda index: longest[index], reverse=True)
    while waiting:
        new_tokens = room[waiting[0]]
        row_tokens = len(readings) * (longest[waiting[0]] + new_tokens)
        rows = max(1, min(limits.rows, limits.tokens // row_tokens))
        # Only a prompt near the context's end has less room than the next one; it goes with its equals.
        batch = [index for index in waiting[:rows] if room[index] == new_tokens]
        try:
            chosen = [prompts[index] for index in batch]
            written = _generate_batch(
                model,
                chosen,
                decoding,
                new_tokens,
                stop_token_ids,
                pad_token_id or 0,
                None if branch is None else branch.of(batch),
            )
        except torch.OutOfMemoryError:
            written = None
        if written is None:  # outside the handler, whose traceback holds on to the batch's memory
            torch.cuda.empty_cache()
            if len(batch) > 1:
                limits = replace(limits, tokens=len(batch) // 2 * row_tokens)
                continue
            written = [None]
        waiting = waiting[len(batch) :]
        yield list(zip(batch, written, strict=True))


def _generate_batch(
    model: Policy,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    new_tokens: int,
    stop_token_ids: Sequence[int],
    pad_token_id: int,
    branch: Branch | None = None,
) -> list[Generation | None]:
    width = max(map(len, prompts))
    padding = [width - len(prompt) for prompt in prompts]
    # The mask comes of the lengths: a pad token that is also an end of turn may well stand inside a prompt.
    ids = [[pad_token_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    mask = [[0] * pad + [1] * (width - pad) for pad in padding]
    processors = LogitsProcessorList()
    if decoding.defence is not None and branch is not None:
        processors.append(DefenceProcessor(decoding.defence, branch))
    if decoding.temperature > 0:
        processors.append(_Sampling(prompts, decoding, new_tokens, model.device))
    with torch.inference_mode(), evaluating(model), own_generation_config_left_out(model):
        output = model.generate(  # type: ignore[operator]
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(mask, device=model.device),
            logits_processor=processors,
            max_new_tokens=new_tokens,
            do_sample=False,
            eos_token_id=list(stop_token_ids),
            pad_token_id=pad_token_id,
        )
    return [_up_to_stop(row, stop_token_ids) for row in output[:, width:].tolist()]


def _up_to_stop(tokens: list[int], stop_token_ids: Sequence[int]) -> Generation:
    end = next((place for place, token in enumerate(tokens) if token in stop_token_ids), None)
    return Generation(tokens[:end], cut=end is None)


class _Sampling(LogitsProcessor):
    """Draws every row's next token from its own random numbers and rules out all others, so greedy search takes it.

    The numbers are drawn on the CPU: a seed means the same on every device. A token is the first at which the
    cumulative probability passes the number.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], decoding: Decoding, new_tokens: int, device: torch.device
    ):
        self.width = max(map(len, prompts))
        self.warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(float(decoding.temperature))]
        if decoding.top_p < 1:
            self.warpers.append(TopPLogitsWarper(decoding.top_p))
        draws = []
        for prompt in prompts:
            source = random.Random(f"{decoding.seed} {list(prompt)}")
            draws.append([source.random() for _ in range(new_tokens)])
        below_one = 1 - 2**-24  # what float32 would round up to 1 is no place in the distribution
        self.draws = torch.tensor(draws).clamp(max=below_one).to(device)  # (B, new tokens)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for warp in self.warpers:
            scores = warp(input_ids, scores)
        cumulative = scores.float().softmax(-1).cumsum(-1)  # (B, V)
        draw = self.draws[:, input_ids.shape[1] - self.width, None] * cumulative[:, -1:]
        drawn = torch.searchsorted(cumulative, draw, right=True)
        return torch.full_like(scores, -math.inf).scatter_(1, drawn, 0.0)
