"""Fine-tuning a role by any method: which rows are flagged, what is trained on them, what is held, what is mended.

The settings are those of `holdfast train-sarft`, by the same names; recipes and proving ground both train through here.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from holdfast.chat import ChatFormat
from holdfast.data.answer_preview import REAL_TOKENS, VIRTUAL_PREFIX, first_tokens_of, preview_rows
from holdfast.data.collator import Example
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRow, RoleRows
from holdfast.data.truncation import LengthLimits, TruncationCounts
from holdfast.errors import HoldfastError
from holdfast.losses.sarft import Direction, SafeLoss, Span
from holdfast.models import Policy
from holdfast.parameters import (
    ProjectionReport,
    apply_mask,
    decoder_layers,
    find_safety_layers,
    frozen_layers,
    safe_lora,
)
from holdfast.reference.rds import Progress, RoleScores, encode_row, score_role_rows
from holdfast.reference.selectors import NEEDS_SCORES, Selector, select_rows
from holdfast.reference.store import default_cache_dir
from holdfast.reference.token_logps import score_trained_tokens
from holdfast.reference.top_k import with_reference_top_k
from holdfast.selection import RANKINGS, Ranking, flag_top, rank_rows, ranking_settings
from holdfast.trainers.constrained import ConstrainedSettings, ConstrainedSFTTrainer
from holdfast.trainers.regularisers import Perturbation, Proximal
from holdfast.trainers.row_mean import LossHook, RowMeanTrainer
from holdfast.trainers.sarft import SaRFTSettings, SaRFTTrainer

SHOWN_PROMPTS = 100  # of each kind, when safety layers are looked for (the paper's number)


@dataclass(frozen=True)
class RoleMethod:
    """How a role is fine-tuned into a model. Every field is one of `SaRFTConfig`, which says what it means."""

    selector: Selector | Ranking = "rds"
    selected_share: float | None = None
    selector_settings: Mapping[str, Any] = field(default_factory=dict)
    flagged_rows: Literal["anchor", "drop"] = "anchor"
    safety_share: float = 0.0
    role_loss: Literal["cross_entropy", "constrained"] = "cross_entropy"
    beta: float = 0.5
    ce_normaliser: Span = "response"
    kl_span: Span = "response"
    kl_direction: Direction = "forward"
    safe_loss: SafeLoss = "kl"
    kl_first_tokens: int | None = None
    reference_top_k: int | None = None
    answer_preview: Literal["none", "real", "virtual"] = "none"
    preview_tokens: int = REAL_TOKENS
    preview_prefix: str = VIRTUAL_PREFIX
    frozen_layers: Literal["auto"] | tuple[int, int] | None = None
    perturbation: float = 0.0
    proximal_weight: float = 0.0
    projection: Literal["none", "safe_lora"] = "none"
    unaligned_model: str | None = None
    projection_threshold: float = 0.5
    projected_layers: int | None = None

    def __post_init__(self) -> None:
        """Raise HoldfastError for settings that the selector rejects, before anything is loaded."""
        if (ranking := self.ranking) is not None:
            ranking_settings(ranking, self.selector_settings)

    @property
    def ranking(self) -> Ranking | None:
        """The selector where it ranks rows, else None."""
        return next((name for name in RANKINGS if name == self.selector), None)

    @property
    def anchors(self) -> bool:
        """Whether rows are anchored to the aligned model."""
        return self.selector != "none" and self.flagged_rows == "anchor" and self.beta > 0


@dataclass(frozen=True)
class RoleData:
    """What is trained on, and what a method may look at besides."""

    role: Role
    rows: RoleRows
    safety: RoleRows | None = None  # harmful requests, refused
    unsafe: RoleRows | None = None  # harmful requests, answered


def _no_progress(what: str) -> AbstractContextManager[Progress | None]:
    return nullcontext()


@dataclass(frozen=True)
class Preparation:
    """How rows are encoded and what the aligned model says of them is computed.

    `progress` gives a progress callback for a piece of work that it is told the name of.
    """

    limits: LengthLimits
    system_prompt: str | None = None
    batch_size: int = 16
    cache_dir: Path | None = None
    seed: int = 0
    progress: Callable[[str], AbstractContextManager[Progress | None]] = _no_progress


@dataclass(frozen=True)
class RoleExamples:
    """Encoded rows as they are trained, and what was counted on the way."""

    examples: list[Example]
    flagged_share: float  # of the role's rows, those that were left out included
    truncated: TruncationCounts


# --- rows


def role_examples(
    method: RoleMethod, model: Policy, chat: ChatFormat, data: RoleData, preparation: Preparation
) -> RoleExamples:
    """Encode and flag the role's rows, with whatever the method asks the aligned model about them.

    Raises HoldfastError where no row is left, and for data that the method needs and that are not there.
    """
    rows, counts = data.rows, TruncationCounts()
    shown = _previewed(method, chat.tokenizer, rows)
    encoded = [_encoded(chat, row, preparation, counts) for row in shown]
    kept = {index: example for index, example in enumerate(encoded) if example is not None}
    if not kept:
        raise HoldfastError(f"{rows.source}: no row is left to train on ({counts}); raise max_prompt_tokens")
    flags = _flagged(method, model, chat, data, kept, preparation).harmful
    trained = [
        Example(input_ids=example["input_ids"], trained=example["trained"], harmful=flag)
        for example, flag in zip(kept.values(), flags, strict=True)
        if not (flag and method.flagged_rows == "drop")
    ]
    if not trained:
        raise HoldfastError(
            f"{rows.source}: selector {method.selector} flags every row, so none is left to train on"
        )
    trained += _mixed_in(method, chat, data, preparation, round(method.safety_share * len(kept)))
    if method.role_loss == "constrained":
        trained = _with_reference_logps(model, chat, trained, preparation)
    if method.reference_top_k is not None and method.anchors:
        trained = _with_reference_top_k(method.reference_top_k, method, model, chat, trained, preparation)
    return RoleExamples(trained, sum(flags) / len(flags), counts)


def held_out_examples(
    method: RoleMethod, model: Policy, chat: ChatFormat, data: RoleData, preparation: Preparation
) -> list[Example]:
    """Rows that the loss is reported on: all of them, none added, flagged where the method anchors flagged rows."""
    selector: Selector | Ranking = method.selector if method.anchors else "none"
    measured = replace(method, selector=selector, flagged_rows="anchor", safety_share=0.0)
    return role_examples(measured, model, chat, data, preparation).examples


def _previewed(method: RoleMethod, tokenizer: PreTrainedTokenizerBase, rows: RoleRows) -> RoleRows:
    if method.answer_preview == "none":
        return rows
    return preview_rows(
        rows,
        method.answer_preview,
        first_tokens=first_tokens_of(tokenizer, method.preview_tokens)
        if method.answer_preview == "real"
        else None,
        prefix=method.preview_prefix,
    )


def _encoded(
    chat: ChatFormat, row: RoleRow, preparation: Preparation, counts: TruncationCounts | None = None
) -> Example | None:
    return encode_row(chat, row, preparation.limits, system=preparation.system_prompt, counts=counts)


def _all_encoded(chat: ChatFormat, rows: RoleRows | None, preparation: Preparation) -> list[Example] | None:
    """The rows that the limits leave; None where there are no such data."""
    if rows is None:
        return None
    return [example for row in rows if (example := _encoded(chat, row, preparation)) is not None]


@dataclass(frozen=True)
class Flagged:
    """Kept rows with their flags.

    `scores` are a ranking selector's, `rds` what RDS flags; None where the method needs none of them.
    """

    rows: list[RoleRow]
    harmful: list[bool]
    scores: list[float] | None = None
    rds: list[bool] | None = None


def flagged_rows(
    method: RoleMethod, model: Policy, chat: ChatFormat, data: RoleData, preparation: Preparation
) -> Flagged:
    """The role's rows that the limits leave, flagged by the method's selector."""
    encoded = {index: _encoded(chat, row, preparation) for index, row in enumerate(data.rows)}
    kept = {index: example for index, example in encoded.items() if example is not None}
    if not kept:
        raise HoldfastError(f"{data.rows.source}: no row is left to rank; raise max_prompt_tokens")
    return _flagged(method, model, chat, data, kept, preparation)


def _flagged(
    method: RoleMethod,
    model: Policy,
    chat: ChatFormat,
    data: RoleData,
    kept: dict[int, Example],
    preparation: Preparation,
) -> Flagged:
    rows = [data.rows[index] for index in kept]
    ranking = method.ranking
    scores = None
    if method.selector in NEEDS_SCORES or (ranking is not None and method.selected_share is None):
        by_row = {score.row: score for score in rds_scores(model, chat, data, preparation)}
        scores = [by_row[index] for index in kept]
    rds = None if scores is None else [score.harmful for score in scores]
    if ranking is None:
        flags = select_rows(method.selector, rows, scores, seed=preparation.seed)  # type: ignore[arg-type]
        return Flagged(rows, flags, rds=rds)
    with preparation.progress(f"ranking rows by {ranking}") as progress:
        ranked = rank_rows(
            ranking,
            model,
            chat,
            rows,
            list(kept.values()),
            data.role,
            safety=_all_encoded(chat, data.safety, preparation),
            unsafe=_all_encoded(chat, data.unsafe, preparation),
            seed=preparation.seed,
            settings=ranking_settings(ranking, method.selector_settings),
            cache_dir=preparation.cache_dir,
            progress=progress,
        )
    share = method.selected_share
    if share is None and rds is not None:
        share = sum(rds) / len(rds)
    return Flagged(rows, flag_top(ranked, share or 0.0), ranked, rds)


def rds_scores(model: Policy, chat: ChatFormat, data: RoleData, preparation: Preparation) -> RoleScores:
    """RDS scores of the role's rows."""
    with preparation.progress("scoring rows") as progress:
        return score_role_rows(
            model,
            chat.tokenizer,
            data.rows,
            data.role,
            base=False,
            chat=chat,
            limits=preparation.limits,
            system_prompt=preparation.system_prompt,
            batch_size=preparation.batch_size,
            cache_dir=preparation.cache_dir,
            progress=progress,
        )


def _mixed_in(
    method: RoleMethod, chat: ChatFormat, data: RoleData, preparation: Preparation, count: int
) -> list[Example]:
    """`count` safety rows, drawn once each; fewer where there are fewer."""
    if count == 0:
        return []
    safety = _all_encoded(chat, data.safety, preparation)
    if not safety:
        raise HoldfastError(f"safety_share {method.safety_share:g} needs safety_data; none is left to mix in")
    return random.Random(f"safety rows {preparation.seed}").sample(safety, min(count, len(safety)))


def _with_reference_logps(
    model: Policy, chat: ChatFormat, examples: Sequence[Example], preparation: Preparation
) -> list[Example]:
    with preparation.progress("scoring tokens") as progress:
        logps = score_trained_tokens(
            model,
            chat.tokenizer.pad_token_id or 0,
            examples,
            batch_size=preparation.batch_size,
            cache_dir=preparation.cache_dir,
            progress=progress,
        )
    return [{**example, "reference_logps": own} for example, own in zip(examples, logps, strict=True)]


def _with_reference_top_k(
    k: int,
    method: RoleMethod,
    model: Policy,
    chat: ChatFormat,
    examples: Sequence[Example],
    preparation: Preparation,
) -> list[Example]:
    with preparation.progress("keeping the reference") as progress:
        return with_reference_top_k(
            model,
            chat.tokenizer.pad_token_id or 0,
            examples,
            k,
            span=method.kl_span,
            first_tokens=method.kl_first_tokens,
            cache_dir=preparation.cache_dir or default_cache_dir(),
            batch_size=preparation.batch_size,
            progress=progress,
        )


# --- parameters


def resolved_layers(method: RoleMethod, model: Policy, chat: ChatFormat, data: RoleData) -> tuple[int, int] | None:
    """The layers that are not trained; `auto` looks for the safety layers of the aligned model."""
    if method.frozen_layers != "auto":
        return method.frozen_layers
    if data.safety is None:
        raise HoldfastError(
            "frozen_layers auto needs safety_data: harmful requests, to find the safety layers with"
        )
    found = find_safety_layers(
        model, chat, _requests(data.rows, data.safety.source), _requests(data.safety, data.safety.source)
    )
    return found.first, found.last


def _requests(rows: RoleRows, source: str) -> list[str]:
    """The first user turns of the first rows."""
    turns = [next((m.content for m in row.messages if m.speaker == "user"), None) for row in rows[:SHOWN_PROMPTS]]
    found = [turn for turn in turns if turn is not None]
    if not found:
        raise HoldfastError(f"{source}: no row has a request; safety layers cannot be looked for")
    return found


def freeze(policy: Policy, layers: tuple[int, int] | None) -> str:
    """Freeze layers of the policy before its trainer is made; says what was done."""
    if layers is None:
        return ""
    return str(apply_mask(policy, frozen_layers(*layers, count=len(decoder_layers(policy)))))


# --- training


def role_trainer(
    method: RoleMethod,
    policy: Policy,
    arguments: TrainingArguments,
    *,
    train: Sequence[Example],
    held_out: Sequence[Example] | None,
    pad_token_id: int,
    callbacks: Sequence[TrainerCallback] = (),
    **kwargs: Any,
) -> RowMeanTrainer:
    """The method's trainer; `policy` is not yet trained, and what is to be frozen is. `kwargs` are Trainer's."""
    perturbation = Perturbation(method.perturbation) if method.perturbation else None
    proximal = Proximal(policy, method.proximal_weight) if method.proximal_weight else None
    common: dict[str, Any] = {
        "train_dataset": train,
        "eval_dataset": held_out,
        "pad_token_id": pad_token_id,
        "loss_hook": _both(perturbation, proximal),
        "callbacks": [*callbacks, *([proximal] if proximal else [])],  # it is told where an optimiser step begins
        **kwargs,
    }
    if method.role_loss == "constrained":
        return ConstrainedSFTTrainer(policy, arguments, settings=ConstrainedSettings(), **common)
    settings = SaRFTSettings(
        beta=method.beta,
        ce_normaliser=method.ce_normaliser,
        kl_span=method.kl_span,
        kl_direction=method.kl_direction,
        safe_loss=method.safe_loss,
        kl_first_tokens=method.kl_first_tokens,
    )
    return SaRFTTrainer(policy, arguments, settings=settings, **common)


def _both(inner: LossHook | None, outer: LossHook | None) -> LossHook | None:
    """One regulariser around the other."""
    if inner is None or outer is None:
        return inner or outer
    return lambda model, loss: outer(model, lambda: inner(model, loss))


# --- afterwards


def mend(method: RoleMethod, policy: Policy, aligned: str) -> ProjectionReport | None:
    """What the method does to the trained policy, in place; `aligned` names the model it started from."""
    if method.projection == "none":
        return None
    if method.unaligned_model is None:
        raise HoldfastError("projection safe_lora needs unaligned_model: the model before its alignment")
    by_threshold = method.projected_layers is None
    return safe_lora(
        policy,
        method.unaligned_model,
        threshold=method.projection_threshold if by_threshold else None,
        layers=method.projected_layers,
        aligned=aligned,
    )
