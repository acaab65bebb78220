"""One cell of the SaRFT experiment: one base model, one new role, every method. No cell knows of another."""

import copy
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PrinterCallback, ProgressCallback, TrainingArguments

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRows
from holdfast.data.truncation import LengthLimits
from holdfast.losses.sarft import Direction, SafeLoss, Span
from holdfast.models import Policy, load_model, load_tokenizer
from holdfast.provingground.measurement import Measurement, mean, rate
from holdfast.provingground.pretrain import Progress
from holdfast.provingground.roles.characters import Character
from holdfast.provingground.roles.evaluate import measure_fidelity, measure_safety
from holdfast.provingground.roles.words import Split
from holdfast.provingground.roles.world import HARMLESS_SUFFIXES, UNSAFE_SUFFIX, draw_role_rows
from holdfast.provingground.runner import Measured
from holdfast.reference.rds import RoleScores, encode_row, score_role_rows
from holdfast.reference.selectors import Selector, select_rows
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer

Method = Literal["sft", "sarft", "random", "flip", "uniform"]
SELECTOR_OF: dict[Method, Selector] = {
    "sft": "none",
    "sarft": "rds",
    "random": "random",
    "flip": "flip",
    "uniform": "all",
}
CONTROL_ROWS = 160  # rows scored under each of the harmless suffixes
CONTROL_SUFFIXES = HARMLESS_SUFFIXES[:3]


@dataclass(frozen=True)
class FineTuning:
    """How every method fine-tunes; they differ in the flagged rows only."""

    rows: int = 480
    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 6e-4
    beta: float = 0.25
    normaliser: Span = "response"  # of the cross-entropy; the published code's is `sequence`
    span: Span = "response"  # of the divergence; the published code's is `sequence`
    direction: Direction = "forward"
    safe_loss: SafeLoss = "kl"
    first_tokens: int | None = None


def run_cell(
    base: Path,
    character: Character,
    seed: int,
    split: Split,
    methods: tuple[Method, ...],
    tuning: FineTuning,
    *,
    progress: Progress | None = None,
) -> Measured:
    """Fine-tune the base on the role with each method and measure; `base` is among the returned methods."""
    model, tokenizer = load_model(str(base), dtype="float32", device="cpu"), load_tokenizer(str(base))
    chat = ChatFormat(tokenizer)
    rows, malicious = draw_role_rows(character, tuning.rows, seed)
    scores = score(model, chat, rows, character, UNSAFE_SUFFIX)
    flagging = measure_flags(model, chat, rows, character, scores, malicious)

    def measure(tuned: Policy) -> dict[str, Measurement]:
        return measure_safety(tuned, chat, split) | measure_fidelity(tuned, chat, character, split)

    def done(count: int) -> None:
        if progress:
            progress(count, len(methods) + 1)

    measured: Measured = {"base": measure(model) | flagging}
    done(1)
    for count, method in enumerate(methods, start=2):
        flags = select_rows(SELECTOR_OF[method], rows, scores, seed=seed)
        tuned = fine_tune(model, chat, rows, flags, tuning, seed)
        measured[method] = measure(tuned) | {"flagged_share": rate(flags)}
        done(count)
    return measured


def score(model: Policy, chat: ChatFormat, rows: RoleRows, character: Character, suffix: str) -> RoleScores:
    """RDS with the given sentences after the persona prompt."""
    persona = character.persona_prompt
    return score_role_rows(
        model, chat.tokenizer, rows, Role(character.name, persona, f"{persona} {suffix}"), chat=chat, batch_size=64
    )


def measure_flags(
    model: Policy,
    chat: ChatFormat,
    rows: RoleRows,
    character: Character,
    scores: RoleScores,
    malicious: tuple[bool, ...],
) -> dict[str, Measurement]:
    """What RDS flags, and the same rule with harmless sentences in place of the unsafe ones.

    RDS compares two numbers without a margin, so under a sentence that changes nothing the flags are coin tosses.
    Two things tell a real flag from a toss: whether it falls on the malicious rows (known here, unlike anywhere
    else), and how far the scores are apart, in nats per answer token.
    """
    control = [
        row_score
        for suffix in CONTROL_SUFFIXES
        for row_score in score(model, chat, rows[:CONTROL_ROWS], character, suffix)
    ]
    control_malicious = list(malicious[:CONTROL_ROWS]) * len(CONTROL_SUFFIXES)
    measured = {}
    for name, row_scores, truth in (
        ("", list(scores), list(malicious)),
        ("_harmless_suffix", control, control_malicious),
    ):
        flags = [row_score.harmful for row_score in row_scores]
        measured[f"flagged_share{name}"] = rate(flags)
        measured[f"flagged_share_of_malicious{name}"] = rate([f for f, m in zip(flags, truth, strict=True) if m])
        measured[f"flagged_share_of_others{name}"] = rate([f for f, m in zip(flags, truth, strict=True) if not m])
        margins = [abs(row_score.unsafe_score - row_score.role_score) for row_score in row_scores]
        measured[f"score_distance{name}"] = mean(margins)
    return measured


def fine_tune(
    model: Policy,
    chat: ChatFormat,
    rows: RoleRows,
    flags: list[bool],
    tuning: FineTuning,
    seed: int,
) -> Policy:
    """A fine-tuned copy of the model, by the trainer that users get."""
    encoded = [encode_row(chat, row, LengthLimits()) for row in rows]
    examples = [
        Example(input_ids=row["input_ids"], trained=row["trained"], harmful=flag)
        for row, flag in zip(encoded, flags, strict=True)
        if row is not None
    ]
    settings = SaRFTSettings(
        beta=tuning.beta,
        ce_normaliser=tuning.normaliser,
        kl_span=tuning.span,
        kl_direction=tuning.direction,
        safe_loss=tuning.safe_loss,
        kl_first_tokens=tuning.first_tokens,
    )
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=tuning.epochs,
            per_device_train_batch_size=tuning.batch_size,
            learning_rate=tuning.learning_rate,
            lr_scheduler_type="constant",
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=True,
        )
        tuned = copy.deepcopy(model)
        trainer = SaRFTTrainer(
            tuned,
            arguments,
            settings=settings,
            train_dataset=examples,
            pad_token_id=chat.tokenizer.pad_token_id,
        )
        trainer.remove_callback(PrinterCallback)  # the experiment shows its own progress
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    return tuned.eval()
