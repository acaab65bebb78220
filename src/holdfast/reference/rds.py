"""RDS, Role-Safety Adaptive Data Selection: what the frozen aligned model says about each training row.

Paper: https://arxiv.org/abs/2502.20968, section on RDS. With ref the aligned model, P the persona prompt and
P' the persona prompt with the unsafe suffix:

    role_score(x, y)   = mean_logp_ref(y | P, x)  - mean_logp_ref(y | x)
    unsafe_score(x, y) = mean_logp_ref(y | P', x) - mean_logp_ref(y | x)
    harmful(x, y)      = unsafe_score > role_score

The last term cancels in the comparison, so flags cost two forwards a row; the scores themselves cost three.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

from transformers import PreTrainedTokenizerBase

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRow, RoleRows
from holdfast.data.truncation import LengthLimits, TruncationCounts, fit
from holdfast.errors import HoldfastError
from holdfast.models import Policy
from holdfast.reference.answers import AnswerScorer, Progress
from holdfast.reference.prefix import SharedPrefix, shared_ids


@dataclass(frozen=True, slots=True)
class RowScore:
    """What the reference says about one row, in nats per answer token."""

    row: int  # index in the loaded rows
    location: str
    role_logp: float  # mean log p(answer) under the persona prompt
    unsafe_logp: float  # under the persona prompt with the unsafe suffix
    base_logp: float | None  # without a persona; None where it was not asked for
    response_tokens: int

    @property
    def harmful(self) -> bool:
        """Whether RDS flags the row: its answer is likelier under the unsafe suffix."""
        return self.unsafe_logp > self.role_logp

    @property
    def margin(self) -> float:
        """unsafe_score - role_score, above 0 where the row is flagged; it needs no base."""
        return self.unsafe_logp - self.role_logp

    @property
    def role_score(self) -> float:
        """How much likelier the persona makes the answer. Raises HoldfastError without a base."""
        return self.role_logp - self._base()

    @property
    def unsafe_score(self) -> float:
        """How much likelier the persona with the unsafe suffix makes it. Raises HoldfastError without a base."""
        return self.unsafe_logp - self._base()

    def _base(self) -> float:
        if self.base_logp is None:
            raise HoldfastError(
                f"{self.location}: scored for its flag only; score_role_rows(..., base=True) gives the scores"
            )
        return self.base_logp


@dataclass(frozen=True)
class RoleScores(Sequence[RowScore]):
    """Scores in row order; rows that the length limits drop have none."""

    scores: tuple[RowScore, ...]
    truncated: TruncationCounts

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, index: int) -> RowScore: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[RowScore, ...]: ...
    def __getitem__(self, index: int | slice) -> RowScore | tuple[RowScore, ...]:
        return self.scores[index]

    @property
    def flagged_share(self) -> float:
        """Share of the scored rows that are flagged harmful."""
        return sum(score.harmful for score in self.scores) / len(self.scores)


def encode_row(
    chat: ChatFormat,
    row: RoleRow,
    limits: LengthLimits,
    *,
    system: str | None = None,
    counts: TruncationCounts | None = None,
    last_answer_only: bool = False,
) -> Example | None:
    """Return one row as tokens within the limits, or None where the limits drop it. Errors name the row's place.

    With `last_answer_only` only the last assistant turn is the response, and all before it is the prompt.
    """
    try:
        encoded = chat.encode(row.messages, system=system, last_answer_only=last_answer_only)
    except HoldfastError as error:
        raise HoldfastError(f"{row.location}: {error}") from None
    if True not in encoded.trained:
        raise HoldfastError(f"{row.location}: no assistant token to learn; remove the row")
    fitted = fit(encoded.input_ids, encoded.trained, limits, counts)
    if fitted is None:
        return None
    if len(fitted[0]) > chat.context:
        raise HoldfastError(
            f"{row.location}: {len(fitted[0]):,} tokens are more than the model's context of {chat.context:,}; lower "
            "max_prompt_tokens or max_response_tokens, shorten the persona, or leave the row out"
        )
    return Example(input_ids=fitted[0], trained=fitted[1])


def score_role_rows(
    model: Policy,
    tokenizer: PreTrainedTokenizerBase,
    rows: RoleRows,
    role: Role,
    *,
    base: bool = True,
    chat: ChatFormat | None = None,
    limits: LengthLimits | None = None,
    system_prompt: str | None = None,
    batch_size: int = 16,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
) -> RoleScores:
    """Score every row with the frozen reference; flags depend on it and the data only.

    Args:
        model: the aligned model, before fine-tuning.
        tokenizer: its tokenizer, with a chat template.
        rows, role: what is scored, for which role.
        base: whether the rows are scored without a persona too; flags and margins do not need it.
        chat: how the template is used; default `ChatFormat(tokenizer)`.
        limits: lengths; a persona prompt is cut only under `keep_start` and `keep_end`, never dropped for.
        system_prompt: the system text of training, for the base score; None leaves the row's own.
        batch_size: rows per forward; rows are grouped by length.
        cache_dir: where the answers' log-probabilities are kept and looked for, each prompt's by itself: a later
            call computes what is missing. None keeps them in memory.
        progress: called after each batch.

    Returns the scores in row order. Raises HoldfastError for a row that cannot be rendered, a corrupt cache, or
    a model that returns numbers that are not finite.
    """
    truncated = TruncationCounts()
    views = _views(chat or ChatFormat(tokenizer), rows, role, limits or LengthLimits(), system_prompt, truncated)
    if not views.rows:
        raise HoldfastError(f"{rows.source}: no row is left to score ({truncated}); raise max_prompt_tokens")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    scorer = AnswerScorer(model, pad, batch_size=batch_size, cache_dir=cache_dir)
    places = [rows[row].location for row in views.rows]
    lengths = [sum(example["trained"]) for example in views.base]  # the trained tokens are the same in all views
    passes = 3 if base else 2

    def mean_logps(nth: int, examples: list[Example], after: SharedPrefix | None) -> list[float]:
        def show(done: int, total: int) -> None:
            if progress:
                progress((nth * total + done) // passes, total)

        sums = scorer.sums(examples, places, after=after, progress=show)
        return [total / length for total, length in zip(sums, lengths, strict=True)]

    persona = SharedPrefix(model, shared_ids([*views.role, *views.unsafe]))
    role_logps = mean_logps(0, views.role, persona)
    unsafe_logps = mean_logps(1, views.unsafe, persona)
    base_logps: Sequence[float | None] = mean_logps(2, views.base, None) if base else [None] * len(places)
    columns = zip(views.rows, places, role_logps, unsafe_logps, base_logps, lengths, strict=True)
    return RoleScores(tuple(RowScore(*values) for values in columns), truncated)


@dataclass
class _Views:
    """Every row that the limits leave, under three prompts."""

    rows: list[int] = field(default_factory=list)  # indices in the loaded rows
    base: list[Example] = field(default_factory=list)
    role: list[Example] = field(default_factory=list)
    unsafe: list[Example] = field(default_factory=list)


def _views(
    chat: ChatFormat,
    rows: RoleRows,
    role: Role,
    limits: LengthLimits,
    system_prompt: str | None,
    truncated: TruncationCounts,
) -> _Views:
    """The rows under no persona, the persona, and the persona with the unsafe suffix.

    The first decides what is dropped, and what counts as cut, whether it is scored or not.
    """
    persona_limits = limits if limits.long_prompts != "drop" else limits.without_prompt_limit()
    views = _Views()
    for index, row in enumerate(rows):
        base = encode_row(chat, row, limits, system=system_prompt, counts=truncated)
        if base is None:
            continue
        as_role = encode_row(chat, row, persona_limits, system=role.persona_prompt)
        as_unsafe = encode_row(chat, row, persona_limits, system=role.unsafe_prompt)
        if as_role is not None and as_unsafe is not None:  # always so: only `drop` drops, and it is switched off
            views.rows.append(index)
            views.base.append(base)
            views.role.append(as_role)
            views.unsafe.append(as_unsafe)
    return views
