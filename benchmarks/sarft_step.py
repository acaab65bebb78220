"""What a SaRFT training costs beside the published step, and beside plain fine-tuning.

    python -m benchmarks.sarft_step [--vocab 16384 65536] [--rounds 3] [--tuning lora] [--device cuda] [--json]

Five ways take turns in one process, each going over the same rows once a round, with the same weights, optimiser and
clipping (times are of whole epochs, batches put together included):
  published  the published step in random batches (`published_sarft`); its rows are tokenised beforehand
  scoring    `reference.rds.score_role_rows` from texts, for the flags (`base=False`), which a run does once
  ours       SaRFTTrainer's own batches and loss, 30 % of the rows flagged by a seed (random weights flag anything)
  top_k      the same with what the reference says kept on disk (`reference_top_k: 64`), so that it is not asked
  sft        the same trainer with no row flagged

Ratios, medians over rounds:
  epoch_with_scoring  published / (scoring + ours): one epoch, in rows per second
  further_epoch       published / ours: each further epoch, or another setting on the same scores
  further_epoch_top_k published / top_k
  step_vs_sft         ours / sft
  peak_memory         the most bytes that ours holds (scoring or training) / the published step, beyond the policy's
                      weights and the optimiser's state: gradients, activations, logits. The copy of the aligned model
                      that is the reference counts in neither; it is listed beside (`reference`), as are the gradients.
  least_epoch_with_scoring, least_further_epoch   what the first two would be if nothing but the multiplications by the
                      weights of layers and head took time, and ours did the least that there must be of them
Tokens per second are of questions and answers, without persona and padding, in all ways.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.paired import Work, added, interleaved, median_ratio, peak_bytes
from benchmarks.published_sarft import Views, collate, sarft_step_loss
from benchmarks.step_data import LIMITS, Lengths, flags, role_data
from benchmarks.step_models import (
    StepOptions,
    batches,
    frozen_copy,
    llama,
    optimiser_of,
    policy_of,
    update,
    word_tokenizer,
    words,
)
from benchmarks.step_report import Figures, bytes_of, listed, rounded, run_benchmark
from holdfast.chat import ChatFormat
from holdfast.data.collator import Example
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRow, RoleRows
from holdfast.models import Policy
from holdfast.reference.prefix import shared_ids
from holdfast.reference.rds import encode_row, score_role_rows
from holdfast.reference.top_k import with_reference_top_k
from holdfast.trainers.row_mean import RowMeanTrainer
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer

FLAGGED_SHARE = 0.3
BETA = 0.5
TOP_K = 64


@dataclass(frozen=True)
class Case:
    """One model with its rows, and everything that is made once."""

    options: StepOptions
    aligned: PreTrainedModel  # frozen; the published step's reference, and what is scored with
    policy: Policy
    optimiser: torch.optim.Optimizer
    tokenizer: PreTrainedTokenizerBase
    role: Role
    rows: RoleRows
    views: list[Views]
    sarft: RowMeanTrainer
    top_k: RowMeanTrainer
    sft: RowMeanTrainer

    @property
    def tokens(self) -> int:
        """Of questions and answers."""
        return sum(len(view.plain["input_ids"]) for view in self.views)


def make_case(options: StepOptions, vocabulary: int, folder: str, lengths: Lengths | None = None) -> Case:
    """Model, rows and trainers."""
    tokenizer = word_tokenizer(vocabulary)
    role, rows = role_data(words(vocabulary), options.rows, options.seed, lengths)
    chat = ChatFormat(tokenizer)
    views = [
        Views(
            encoded(chat, row, ""),  # an empty system turn, as published
            encoded(chat, row, role.persona_prompt),
            encoded(chat, row, role.unsafe_prompt),
        )
        for row in rows
    ]
    base = llama(options, vocabulary)
    aligned = frozen_copy(base)
    policy = policy_of(base, options)
    trained = [encoded(chat, row, None) for row in rows]

    def examples(harmful: Sequence[bool]) -> list[Example]:
        return [
            Example(input_ids=row["input_ids"], trained=row["trained"], harmful=flag)
            for row, flag in zip(trained, harmful, strict=True)
        ]

    def trainer(examples: Sequence[Example]) -> RowMeanTrainer:
        return SaRFTTrainer(
            policy,
            options.training_arguments(folder),
            settings=SaRFTSettings(beta=BETA),
            train_dataset=examples,
            pad_token_id=tokenizer.pad_token_id,
            processing_class=tokenizer,
        )

    flagged = examples(flags(len(rows), FLAGGED_SHARE, options.seed))
    return Case(
        options,
        aligned,
        policy,
        optimiser_of(policy),
        tokenizer,
        role,
        rows,
        views,
        sarft=trainer(flagged),
        top_k=trainer(kept_reference(aligned, tokenizer, flagged, folder)),
        sft=trainer(examples([False] * len(rows))),
    )


def kept_reference(
    aligned: Policy, tokenizer: PreTrainedTokenizerBase, examples: list[Example], folder: str
) -> list[Example]:
    """The rows with the reference's likeliest tokens; not timed: it costs the forwards that it saves in one epoch."""
    return with_reference_top_k(
        aligned,
        tokenizer.pad_token_id,
        examples,
        TOP_K,
        span="response",
        first_tokens=None,
        cache_dir=Path(folder),
    )


def encoded(chat: ChatFormat, row: RoleRow, system: str | None) -> Example:
    """A row's tokens under a system text; none is too long here."""
    example = encode_row(chat, row, LIMITS, system=system)
    if example is None:
        raise ValueError(f"{row.location} is longer than {LIMITS}")
    return example


# --- the ways


def published_epoch(case: Case, seed: int) -> None:
    """The published steps over all rows, in random batches."""
    case.policy.train()
    device = case.options.torch_device
    order = torch.randperm(len(case.views), generator=torch.Generator().manual_seed(seed)).tolist()
    for start in range(0, len(order), case.options.batch_size):
        rows = [case.views[index] for index in order[start : start + case.options.batch_size]]
        batch = collate(rows, case.tokenizer.pad_token_id, device)
        update(sarft_step_loss(case.policy, case.aligned, batch, beta=BETA), case.optimiser)


def trainer_epoch(case: Case, trainer: RowMeanTrainer, seed: int) -> None:
    """A trainer's batches and loss over all rows."""
    case.policy.train()
    for batch in batches(trainer, seed):
        loss: Any = trainer.compute_loss(case.policy, batch)  # the mean over the batch's rows
        update(loss, case.optimiser)


def score(case: Case) -> None:
    """What a run asks the aligned model once, before it trains."""
    score_role_rows(case.aligned, case.tokenizer, case.rows, case.role, base=False, limits=LIMITS)


def ways(case: Case) -> dict[str, Work]:
    """See the module."""
    return {
        "published": lambda index: published_epoch(case, index),
        "scoring": lambda index: score(case),
        "ours": lambda index: trainer_epoch(case, case.sarft, index),
        "top_k": lambda index: trainer_epoch(case, case.top_k, index),
        "sft": lambda index: trainer_epoch(case, case.sft, index),
    }


# --- figures


def multiplications(case: Case) -> dict[str, float]:
    """By the weights of layers and head: a published epoch's, and the least for scoring and for an epoch of ours.

    A backward pass counts as two forwards. No softmax, no product within attention, no optimiser.
    """
    layers = sum(weight.numel() for weight in case.aligned.model.layers.parameters() if weight.ndim == 2)
    head = case.aligned.lm_head.weight.numel()
    plain, role, unsafe = zip(*case.views, strict=True)
    answers = sum(sum(example["trained"]) for example in plain) * head
    size = case.options.batch_size
    padded = sum(
        passes * max(len(example["input_ids"]) for example in batch) * len(batch)
        for examples, passes in (
            (plain, 4),
            (role, 1),
            (unsafe, 1),
        )  # policy with its backward pass, and reference
        for batch in (examples[start : start + size] for start in range(0, len(examples), size))
    )
    scoring = 0
    for examples in (role, unsafe):
        prefix = len(shared_ids(examples))
        own = sum(len(example["input_ids"]) - prefix for example in examples)
        scoring += (prefix + own) * layers + answers
    return {
        "published": padded * (layers + head),
        "scoring": scoring,
        "ours": (3 + FLAGGED_SHARE) * (case.tokens * layers + answers),
    }


def measure(options: StepOptions, vocabulary: int, lengths: Lengths | None = None) -> Figures:
    """All figures of one vocabulary."""
    device = options.torch_device
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(options, vocabulary, folder, lengths)
        made = ways(case)
        peak = {name: peak_bytes(partial(way, 0), device) for name, way in made.items()}
        seconds = interleaved(made, options.rounds, device)
    least = multiplications(case)
    ratios = {
        "epoch_with_scoring": median_ratio(seconds["published"], added(seconds["scoring"], seconds["ours"])),
        "further_epoch": median_ratio(seconds["published"], seconds["ours"]),
        "further_epoch_top_k": median_ratio(seconds["published"], seconds["top_k"]),
        "step_vs_sft": median_ratio(seconds["ours"], seconds["sft"]),
        "peak_memory": max(peak["scoring"], peak["ours"]) / peak["published"],
        "least_epoch_with_scoring": least["published"] / (least["scoring"] + least["ours"]),
        "least_further_epoch": least["published"] / least["ours"],
    }
    trained = (parameter for parameter in case.policy.parameters() if parameter.requires_grad)
    copied = bytes_of(case.aligned.parameters())
    return {
        **rounded(ratios, 3),
        "seconds": rounded({name: median(values) for name, values in seconds.items()}, 6),
        "tokens_per_second": rounded(
            {name: case.tokens / median(seconds[name]) for name in ("published", "ours", "sft")}, 1
        ),
        "peak_bytes": peak,
        "gradient_bytes": bytes_of(trained),
        "reference_bytes": {"published": copied, "ours": 0 if options.tuning == "lora" else copied},
    }


def told(figures: Figures) -> list[str]:
    """The figures of one vocabulary, in lines for people."""
    gradients = f"gradients {figures['gradient_bytes'] / 1e6:.0f} of each but scoring's"
    return [
        f"{figures['epoch_with_scoring']:.2f} x the published throughput over one epoch, scoring included",
        f"{figures['further_epoch']:.2f} x for each further epoch or setting, "
        f"{figures['further_epoch_top_k']:.2f} x with reference_top_k {TOP_K}",
        f"at the least multiplications: {figures['least_epoch_with_scoring']:.2f} x, "
        f"{figures['least_further_epoch']:.2f} x",
        f"{figures['step_vs_sft']:.2f} x the time of plain SFT, with {FLAGGED_SHARE:.0%} of the rows flagged",
        f"{figures['peak_memory']:.2f} x the published peak memory beyond weights and optimiser",
        f"tokens per second: {listed(figures['tokens_per_second'])}",
        f"seconds: {listed(figures['seconds'], 2)}",
        f"peak MB: {listed(figures['peak_bytes'], unit=1e6)} ({gradients}); "
        f"the reference besides: {listed(figures['reference_bytes'], unit=1e6)}",
    ]


def main() -> None:
    """Measure and print."""
    run_benchmark("sarft_step", __doc__, measure, told)


if __name__ == "__main__":
    main()
