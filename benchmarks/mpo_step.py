"""What an MPO training costs beside the published step, and beside TRL's DPO.

    python -m benchmarks.mpo_step [--vocab 16384 65536] [--rounds 3] [--tuning lora] [--device cuda] [--json]

Five ways take turns in one process, each once a round over the same target pairs, of which six share a dominant pair,
with the same weights, optimiser and clipping (times are of whole epochs, batches put together included):
  published      the published step in random batches (`published_mpo`); its rows are tokenised beforehand
  reference      what MPO's loss asks the aligned model once: reward gaps and anchors of the dominant pairs
                 (`reference.pairs.score_pairs`, `compute_anchors`)
  ours           MPOTrainer's own batches and loss
  trl            TRL's DPOTrainer with precomputed reference log-probabilities, its own batches and loss; no gradient
                 checkpointing and no mixed precision, like the others
  trl_reference  what it asks the aligned model once, the target pairs (`DPOTrainer.compute_ref_log_probs`)
  target_scores  scores of the target pairs, which `holdfast train-mpo` computes once as well, for its report of reward
                 gaps before training; MPO's loss does not need them

Ratios, medians over rounds, E = 2 epochs:
  two_epochs                published / ours, with the reference's pass: E * published / (reference + E * ours)
  two_epochs_with_report    the same with the target scores
  further_epoch             published / ours
  step_vs_trl               ours / trl: the training steps alone
  two_epochs_vs_trl         (reference + E * ours) / (trl_reference + E * trl)
  peak_memory, peak_memory_vs_trl   the most bytes that ours holds / the published step, / TRL's, beyond the policy's
                            weights and the optimiser's state; the published copy of the aligned model is listed beside
Tokens per second are of the target pairs' prompts (once a pair) and answers, without padding, in all ways.
"""

import os
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # TRL's bar over the reference's pass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

from benchmarks.paired import Work, added, interleaved, median_ratio, peak_bytes, times
from benchmarks.published_mpo import ParallelPair, collate, mpo_step_loss
from benchmarks.step_data import Lengths, Pairs, preference_pairs
from benchmarks.step_models import (
    StepOptions,
    batches,
    frozen_copy,
    llama,
    optimiser_of,
    policy_of,
    sharing_weights,
    update,
    word_tokenizer,
    words,
)
from benchmarks.step_report import Figures, bytes_of, listed, rounded, run_benchmark
from holdfast.chat import ChatFormat
from holdfast.data.pair_collator import Anchors, PairExample
from holdfast.models import Policy
from holdfast.reference.pairs import compute_anchors, dominant_anchors, score_pairs
from holdfast.trainers.mpo import MPOSettings, MPOTrainer

BETA = 1.0
EPOCHS = 2


@dataclass(frozen=True)
class Case:
    """One model with its pairs, and everything that is made once."""

    options: StepOptions
    aligned: PreTrainedModel  # frozen
    published_reference: Callable[..., Any]
    policy: Policy
    optimiser: torch.optim.Optimizer
    chat: ChatFormat
    pairs: Pairs
    mpo: Trainer
    trl: Trainer


def make_case(options: StepOptions, vocabulary: int, folder: str, lengths: Lengths | None = None) -> Case:
    """Model, pairs and trainers."""
    tokenizer = word_tokenizer(vocabulary)
    chat = ChatFormat(tokenizer)
    pairs = preference_pairs(tokenizer, words(vocabulary), options.rows, options.seed, lengths)
    base = llama(options, vocabulary)
    aligned = frozen_copy(base)
    policy = policy_of(base, options)
    gaps, anchors = asked_of_reference(aligned, chat, pairs)
    examples = [
        PairExample(**pair.example, reference_dominant_gaps=gaps[dominant], anchor=dominant)
        for pair, dominant in zip(pairs.encoded_targets, pairs.dominant_of, strict=True)
    ]
    return Case(
        options,
        aligned,
        adapters_off(policy) if options.tuning == "lora" else aligned,
        policy,
        optimiser_of(policy),
        chat,
        pairs,
        mpo=MPOTrainer(
            policy,
            options.training_arguments(folder),
            settings=MPOSettings(beta=BETA),
            train_dataset=examples,
            pad_token_id=tokenizer.pad_token_id,
            anchors=anchors,
            processing_class=tokenizer,
        ),
        trl=trl_trainer(options, sharing_weights(policy), tokenizer, pairs, folder),
    )


def asked_of_reference(aligned: PreTrainedModel, chat: ChatFormat, pairs: Pairs) -> tuple[list[float], Anchors]:
    """Reward gaps of the dominant pairs, and the anchors of their prompts."""
    scores = score_pairs(aligned, chat, pairs.dominants, pairs.encoded_dominants)
    sets = dominant_anchors(len(pairs.dominants), pairs.encoded_dominants, "last")
    return [score.reward_gap() for score in scores.values()], compute_anchors(aligned, chat, sets)


def adapters_off(policy: Any) -> Callable[..., Any]:
    """The published reference under LoRA: the policy without its adapters."""

    def forward(**inputs: Any) -> Any:
        with policy.disable_adapter():
            return policy(**inputs)

    return forward


def trl_trainer(
    options: StepOptions, policy: Policy, tokenizer: PreTrainedTokenizerBase, pairs: Pairs, folder: str
) -> Trainer:
    """TRL's trainer on the target pairs; it replaces the policy's forward, so it gets one of its own."""
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    dataset = Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": pair.prompt[-1].content}],
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
            }
            for pair in pairs.targets
        ]
    )
    plain = options.training_arguments(folder)
    arguments = DPOConfig(
        output_dir=plain.output_dir,
        per_device_train_batch_size=options.batch_size,
        precompute_ref_log_probs=True,
        gradient_checkpointing=False,
        bf16=False,
        report_to="none",
        use_cpu=plain.use_cpu,
        dataloader_pin_memory=plain.dataloader_pin_memory,
        seed=options.seed,
        disable_tqdm=True,
    )
    return DPOTrainer(model=policy, args=arguments, train_dataset=dataset, processing_class=tokenizer)


# --- the ways


def published_epoch(case: Case, seed: int) -> None:
    """The published steps over all rows, in random batches."""
    case.policy.train()
    rows = [
        ParallelPair(case.pairs.encoded_dominants[dominant].example, pair.example)
        for pair, dominant in zip(case.pairs.encoded_targets, case.pairs.dominant_of, strict=True)
    ]
    random.Random(seed).shuffle(rows)
    pad = case.chat.tokenizer.pad_token_id
    for start in range(0, len(rows), case.options.batch_size):
        batch = rows[start : start + case.options.batch_size]
        dominant, target = collate(batch, pad, case.options.torch_device)
        loss = mpo_step_loss(case.policy, case.published_reference, dominant, target, beta=BETA)
        update(loss, case.optimiser)


def trainer_epoch(case: Case, trainer: Trainer, seed: int) -> None:
    """A trainer's batches and loss over all pairs."""
    policy: Any = trainer.model  # TRL's is its own, on the same weights
    policy.train()
    for batch in batches(trainer, seed):
        loss: Any = trainer.compute_loss(policy, batch)  # the mean over the batch's pairs
        update(loss, case.optimiser)


def trl_reference(case: Case) -> None:
    """TRL's precomputation, in the dataset's order."""
    trainer: Any = case.trl
    with torch.no_grad():
        for batch in trainer.get_eval_dataloader(trainer.train_dataset):
            trainer.compute_ref_log_probs(trainer.model, batch)


def target_scores(case: Case) -> None:
    """What the recipe asks for its report."""
    score_pairs(case.aligned, case.chat, case.pairs.targets, case.pairs.encoded_targets)


def ways(case: Case) -> dict[str, Work]:
    """See the module."""
    return {
        "published": lambda index: published_epoch(case, index),
        "reference": lambda index: asked_of_reference(case.aligned, case.chat, case.pairs),
        "ours": lambda index: trainer_epoch(case, case.mpo, index),
        "trl": lambda index: trainer_epoch(case, case.trl, index),
        "trl_reference": lambda index: trl_reference(case),
        "target_scores": lambda index: target_scores(case),
    }


# --- figures


def measure(options: StepOptions, vocabulary: int, lengths: Lengths | None = None) -> Figures:
    """All figures of one vocabulary."""
    device = options.torch_device
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(options, vocabulary, folder, lengths)
        made = ways(case)
        peak = {name: peak_bytes(partial(way, 0), device) for name, way in made.items()}
        seconds = interleaved(made, options.rounds, device)
    published, own, trl = (times(EPOCHS, seconds[name]) for name in ("published", "ours", "trl"))
    run = added(seconds["reference"], own)
    most = max(peak["reference"], peak["ours"])
    ratios = {
        "two_epochs": median_ratio(published, run),
        "two_epochs_with_report": median_ratio(published, added(run, seconds["target_scores"])),
        "further_epoch": median_ratio(published, own),
        "step_vs_trl": median_ratio(own, trl),
        "two_epochs_vs_trl": median_ratio(run, added(seconds["trl_reference"], trl)),
        "peak_memory": most / peak["published"],
        "peak_memory_vs_trl": most / max(peak["trl_reference"], peak["trl"]),
    }
    trained = (parameter for parameter in case.policy.parameters() if parameter.requires_grad)
    return {
        **rounded(ratios, 3),
        "seconds": rounded({name: median(values) for name, values in seconds.items()}, 6),
        "tokens_per_second": rounded(
            {name: case.pairs.tokens / median(seconds[name]) for name in ("published", "ours", "trl")}, 1
        ),
        "peak_bytes": peak,
        "gradient_bytes": bytes_of(trained),
        "published_reference_bytes": 0 if options.tuning == "lora" else bytes_of(case.aligned.parameters()),
    }


def told(figures: Figures) -> list[str]:
    """The figures of one vocabulary, in lines for people."""
    return [
        f"{figures['two_epochs']:.2f} x the published throughput over {EPOCHS} epochs, the reference's pass included "
        f"({figures['two_epochs_with_report']:.2f} x with train-mpo's report of the targets)",
        f"{figures['further_epoch']:.2f} x for each further epoch or setting",
        f"{figures['step_vs_trl']:.2f} x the time of TRL's DPO steps "
        f"({figures['two_epochs_vs_trl']:.2f} x over {EPOCHS} epochs with both references' passes)",
        f"{figures['peak_memory']:.2f} x the published peak memory beyond weights and optimiser, "
        f"{figures['peak_memory_vs_trl']:.2f} x TRL's",
        f"tokens per second: {listed(figures['tokens_per_second'])}",
        f"seconds: {listed(figures['seconds'], 2)}",
        f"peak MB: {listed(figures['peak_bytes'], unit=1e6)} (gradients {figures['gradient_bytes'] / 1e6:.0f} of each "
        f"training's); the published reference besides: {figures['published_reference_bytes'] / 1e6:.0f}",
    ]


def main() -> None:
    """Measure and print."""
    run_benchmark("mpo_step", __doc__, measure, told)


if __name__ == "__main__":
    main()
