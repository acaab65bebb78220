"""One cell of the SaRFT experiment: one base model, one new role, every method. No cell knows of another."""

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainingArguments

from holdfast.data.collator import Example
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRows
from holdfast.data.truncation import LengthLimits
from holdfast.decoding import Rose, SafeDecoding, SelfCD
from holdfast.methods.role import (
    Preparation,
    RoleData,
    RoleMethod,
    freeze,
    mend,
    rds_scores,
    resolved_layers,
    role_examples,
    role_trainer,
)
from holdfast.models import Policy, load_model, load_tokenizer
from holdfast.provingground.generation import Defended, RememberingChat
from holdfast.provingground.measurement import Measurement, mean, rate
from holdfast.provingground.pretrain import Progress
from holdfast.provingground.roles.characters import Character
from holdfast.provingground.roles.evaluate import measure
from holdfast.provingground.roles.methods import StudyMethod
from holdfast.provingground.roles.safety_data import draw_safety_rows, draw_unsafe_rows
from holdfast.provingground.roles.words import Split
from holdfast.provingground.roles.world import HARMLESS_SUFFIXES, UNSAFE_SUFFIX, draw_role_rows
from holdfast.provingground.runner import Measured
from holdfast.reference.rds import RowScore

CONTROL_ROWS = 160  # rows scored under each of the harmless suffixes
CONTROL_SUFFIXES = HARMLESS_SUFFIXES[:3]


@dataclass(frozen=True)
class FineTuning:
    """How every method fine-tunes; they differ in their own settings only.

    `switches` are settings of `RoleMethod` that stand under every method's own.
    """

    rows: int = 480
    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 6e-4
    switches: Mapping[str, Any] = field(default_factory=lambda: {"beta": 0.25})
    safety_rows: int = 120  # what methods are given besides: as many requests refused, and as many answered


def run_cell(
    base: Path,
    character: Character,
    seed: int,
    split: Split,
    methods: Mapping[str, StudyMethod],
    tuning: FineTuning,
    with_base: bool = True,
    *,
    progress: Progress | None = None,
) -> Measured:
    """Fine-tune the base on the role with each method and measure; the base itself too, unless another cell does."""
    with tempfile.TemporaryDirectory() as scratch:
        cell = RoleCell(base, character, seed, tuning, Path(scratch))

        def measured_as(tuned: Policy, defended: Defended | None = None) -> dict[str, Measurement]:
            return measure(tuned, cell.chat, character, split, defended=defended)

        def done(count: int) -> None:
            if progress:
                progress(count, len(methods) + 1)

        measured: Measured = {"base": measured_as(cell.model) | cell.flagging()} if with_base else {}
        done(1)
        for count, (name, method) in enumerate(methods.items(), start=2):
            tuned, flagged = cell.tuned(method)
            measured[name] = measured_as(tuned, cell.defended(method)) | flagged
            done(count)
        return measured


class RoleCell:
    """One base model and one new role, and what any method may need to fine-tune the one into the other.

    What several methods share (the model before its alignment, plain fine-tuning under the decoding defences) is
    made when it is first needed; `scratch` is where it is kept.
    """

    def __init__(self, base: Path, character: Character, seed: int, tuning: FineTuning, scratch: Path):
        self.base, self.character, self.seed, self.tuning, self.scratch = base, character, seed, tuning, scratch
        self.model = load_model(str(base), dtype="float32", device="cpu")
        self.chat = RememberingChat(load_tokenizer(str(base)))
        self.preparation = Preparation(LengthLimits(), batch_size=64, cache_dir=scratch / "cache", seed=seed)
        rows, self.malicious = draw_role_rows(character, tuning.rows, seed)
        self.data = RoleData(
            role_with(character, UNSAFE_SUFFIX),
            rows,
            safety=draw_safety_rows(tuning.safety_rows, seed),
            unsafe=draw_unsafe_rows(tuning.safety_rows, seed),
        )

    def flagging(self) -> dict[str, Measurement]:
        """What RDS flags."""
        scores = rds_scores(self.model, self.chat, self.data, self.preparation)
        control = [
            row_score
            for suffix in CONTROL_SUFFIXES
            for row_score in rds_scores(self.model, self.chat, self._control(suffix), self.preparation)
        ]
        return measure_flags(scores, self.malicious, control)

    def _control(self, suffix: str) -> RoleData:
        """The first rows, for RDS with a harmless sentence in place of the unsafe ones."""
        return RoleData(role_with(self.character, suffix), self.data.rows[:CONTROL_ROWS])

    def tuned(self, method: StudyMethod) -> tuple[Policy, dict[str, Measurement]]:
        """The base fine-tuned with a method, and the share of rows that it flagged."""
        if method.defence is not None:
            return self._plain, {}
        role_method = RoleMethod(**{**self.tuning.switches, **method.settings})
        if role_method.projection != "none":
            role_method = replace(role_method, unaligned_model=str(self._unaligned))
        made = role_examples(role_method, self.model, self.chat, self.data, self.preparation)
        flagged = round(made.flagged_share * len(self.data.rows))
        shares = {"flagged_share": rate([row < flagged for row in range(len(self.data.rows))])}
        return self._fine_tuned(role_method, made.examples, self.model), shares

    def defended(self, method: StudyMethod) -> Defended | None:
        """How the method decodes, if not plainly."""
        if method.defence is None:
            return None
        settings = dict(method.settings)
        if method.defence != "safe_decoding":
            kind = {"rose": Rose, "self_cd": SelfCD}[method.defence]
            return Defended(kind(**settings))
        return Defended(SafeDecoding("expert", **settings), self._expert)

    @cached_property
    def _plain(self) -> Policy:
        return self.tuned(StudyMethod({"selector": "none"}))[0]

    @cached_property
    def _expert(self) -> Policy:
        """SafeDecoding's expert: the plainly fine-tuned model, fine-tuned on refusals of its requests."""
        return self._trained_on(self.data.safety, self._plain)

    @cached_property
    def _unaligned(self) -> Path:
        """A model that answers harmful requests: the base, fine-tuned on such answers."""
        path = self.scratch / "unaligned"
        self._trained_on(self.data.unsafe, self.model).save_pretrained(str(path))
        return path

    def _trained_on(self, rows: RoleRows | None, model: Policy) -> Policy:
        """A copy of the model, plainly fine-tuned on these rows."""
        assert rows is not None
        method = RoleMethod(selector="none")
        examples = role_examples(
            method, model, self.chat, replace(self.data, rows=rows), self.preparation
        ).examples
        return self._fine_tuned(method, examples, model)

    def _fine_tuned(self, method: RoleMethod, examples: list[Example], model: Policy) -> Policy:
        """A fine-tuned copy of the model, by the trainer that users get."""
        policy = copy.deepcopy(model)
        freeze(policy, resolved_layers(method, model, self.chat, self.data))
        trainer = role_trainer(
            method,
            policy,
            self._arguments(),
            train=examples,
            held_out=None,
            pad_token_id=self.chat.tokenizer.pad_token_id,
        )
        trainer.remove_callback(PrinterCallback)  # the experiment shows its own progress
        trainer.remove_callback(ProgressCallback)
        trainer.train()
        mend(method, policy, str(self.base))
        return policy.eval()

    def _arguments(self) -> TrainingArguments:
        return TrainingArguments(
            output_dir=str(self.scratch / "training"),
            num_train_epochs=self.tuning.epochs,
            per_device_train_batch_size=self.tuning.batch_size,
            learning_rate=self.tuning.learning_rate,
            lr_scheduler_type="constant",
            seed=self.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            use_cpu=True,
        )


def role_with(character: Character, suffix: str) -> Role:
    """The role, its unsafe prompt with the given sentences."""
    return Role(character.name, character.persona_prompt, f"{character.persona_prompt} {suffix}")


def measure_flags(
    scores: Sequence[RowScore], malicious: Sequence[bool], control: Sequence[RowScore]
) -> dict[str, Measurement]:
    """What RDS flags, and the same rule with harmless sentences in place of the unsafe ones (`control`).

    RDS compares two numbers without a margin, so under a sentence that changes nothing the flags are coin tosses.
    Two things tell a real flag from a toss: whether it falls on the malicious rows (known here, unlike anywhere
    else), and how far the scores are apart, in nats per answer token.
    """
    control_malicious = list(malicious[:CONTROL_ROWS]) * len(CONTROL_SUFFIXES)
    measured = {}
    for name, row_scores, truth in (
        ("", scores, malicious),
        ("_harmless_suffix", control, control_malicious),
    ):
        flags = [row_score.harmful for row_score in row_scores]
        measured[f"flagged_share{name}"] = rate(flags)
        measured[f"flagged_share_of_malicious{name}"] = rate([f for f, m in zip(flags, truth, strict=True) if m])
        measured[f"flagged_share_of_others{name}"] = rate([f for f, m in zip(flags, truth, strict=True) if not m])
        measured[f"score_distance{name}"] = mean([abs(row_score.margin) for row_score in row_scores])
    return measured
