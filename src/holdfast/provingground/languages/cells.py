"""One base model of world 2, aligned in one way on one set of pairs, and measured in every language."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PrinterCallback, ProgressCallback, Trainer, TrainingArguments

from holdfast.chat import ChatFormat
from holdfast.data.pair_collator import AnchorSequence, PairExample
from holdfast.data.pairs import PreferencePair
from holdfast.data.rows import Message
from holdfast.data.truncation import LengthLimits
from holdfast.models import Policy, load_model, load_tokenizer
from holdfast.provingground.generation import RememberingChat
from holdfast.provingground.languages import frames
from holdfast.provingground.languages.alignment import Noise, draw_parallel_pairs
from holdfast.provingground.languages.benign import draw_benign_rows
from holdfast.provingground.languages.evaluate import measure
from holdfast.provingground.languages.frames import Split
from holdfast.provingground.languages.lexicon import Language
from holdfast.provingground.languages.probes import harmful_probes
from holdfast.provingground.measurement import Measurement, mean
from holdfast.provingground.pretrain import Progress
from holdfast.provingground.runner import Measured
from holdfast.reference.pairs import (
    EncodedPair,
    PairScore,
    Retention,
    compute_anchors,
    dominant_anchors,
    encode_pairs,
    prompt_anchor,
    score_pairs,
    with_retained_prompts,
)
from holdfast.reference.rds import encode_row
from holdfast.trainers.mpo import MPOSettings, MPOTrainer
from holdfast.trainers.preference import PreferenceTrainer

LIMITS = LengthLimits()


@dataclass(frozen=True)
class Alignment:
    """One way to align. `mpo` None trains with the preference loss `loss`, else with MPO."""

    name: str
    learning_rate: float
    loss: str = ""
    weights: tuple[tuple[str, float], ...] = ()
    mpo: MPOSettings | None = None
    retention: Retention | None = None
    benign_prompts: int = 0  # how many benign requests in target languages are held besides
    epochs: int = 2
    batch_size: int = 10


def run_cell(
    base: Path,
    seed: int,
    noise: Noise,
    split: Split,
    alignment: Alignment | None,
    *,
    progress: Progress | None = None,
) -> Measured:
    """Align the base (None leaves it as it is) and measure; keys are languages."""
    model, tokenizer = load_model(str(base), dtype="float32", device="cpu"), load_tokenizer(str(base))
    chat = RememberingChat(tokenizer)
    if alignment is not None:
        align(model, chat, alignment, noise, seed)
    if progress:
        progress(1, 2)
    measured: Measured = {}
    for language, metrics in measure(model, chat, split).items():
        measured[language] = metrics | {"reward_gap": reward_gap(model, chat, language, split)}
    if progress:
        progress(2, 2)
    return measured


def align(model: Policy, chat: ChatFormat, alignment: Alignment, noise: Noise, seed: int) -> None:
    """Train the model in place, by the trainers that users get."""
    pairs = draw_parallel_pairs(seed, noise=noise)
    targets, dominants = (encode_pairs(chat, side, LIMITS) for side in (pairs.targets, pairs.dominants))
    target_scores = score_pairs(model, chat, pairs.targets, targets, batch_size=64)
    dominant_scores = score_pairs(model, chat, pairs.dominants, dominants, batch_size=64)
    normalise = alignment.mpo.length_normalise if alignment.mpo else True
    examples = [
        _example(pair.example, target_scores[pair.row], dominant_scores[dominant], dominant, normalise)
        for pair in targets
        for dominant in (pairs.dominant_of[pair.row],)
    ]
    pad = chat.tokenizer.pad_token_id
    with tempfile.TemporaryDirectory() as scratch:
        arguments = _arguments(alignment, seed, scratch)
        trainer: Trainer
        if alignment.mpo is not None:
            sets = _anchor_sets(chat, alignment, len(pairs.dominants), dominants, examples, seed)
            anchors = compute_anchors(model, chat, sets, batch_size=64) if any(sets) else None
            trainer = MPOTrainer(
                model,
                arguments,
                settings=alignment.mpo,
                train_dataset=examples,
                pad_token_id=pad,
                anchors=anchors,
            )
        else:
            trainer = PreferenceTrainer(
                model,
                arguments,
                loss=alignment.loss,
                weights=dict(alignment.weights),
                train_dataset=examples,
                pad_token_id=pad,
            )
        trainer.remove_callback(PrinterCallback)  # the experiment shows its own progress
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    model.eval()


def _anchor_sets(
    chat: ChatFormat,
    alignment: Alignment,
    dominants: int,
    encoded: Sequence[EncodedPair],
    examples: Sequence[PairExample],
    seed: int,
) -> list[tuple[AnchorSequence, ...]]:
    """What is held, as `train-mpo` does it: dominant prompts, and benign ones in the target languages if asked."""
    sets: list[tuple[AnchorSequence, ...]] = [()] * dominants
    if alignment.retention is not None:
        sets = dominant_anchors(dominants, encoded, alignment.retention)
    if alignment.benign_prompts:
        retained = [
            prompt_anchor(example)
            for row in draw_benign_rows(alignment.benign_prompts, seed)
            for example in (encode_row(chat, row, LIMITS, last_answer_only=True),)
            if example is not None
        ]
        sets = with_retained_prompts([sets[example["anchor"]] for example in examples], retained, seed)
        for index, example in enumerate(examples):
            example["anchor"] = index
    return sets


def _example(
    example: PairExample, own: PairScore, dominant: PairScore, anchor: int, normalise: bool
) -> PairExample:
    return PairExample(
        chosen=example["chosen"],
        rejected=example["rejected"],
        reference_chosen_logps=own.chosen_logps,
        reference_rejected_logps=own.rejected_logps,
        reference_dominant_gaps=dominant.reward_gap(length_normalise=normalise),
        anchor=anchor,
    )


def _arguments(alignment: Alignment, seed: int, scratch: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=scratch,
        num_train_epochs=alignment.epochs,
        per_device_train_batch_size=alignment.batch_size,
        learning_rate=alignment.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
    )


def reward_gap(model: Policy, chat: ChatFormat, language: Language, split: Split) -> Measurement:
    """Mean reward gap on held-out harmful requests, with the language's first frames of refusal and answer."""
    pairs = [
        PreferencePair(
            (Message("user", probe.prompt),), frames.REFUSALS[language][0], probe.answers[0], language, "probe"
        )
        for probe in harmful_probes(language, split)
    ]
    encoded = encode_pairs(chat, pairs, LIMITS)
    scores = score_pairs(model, chat, pairs, encoded, batch_size=64)
    return mean([score.reward_gap() for score in scores.values()])
