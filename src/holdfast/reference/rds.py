"""RDS, Role-Safety Adaptive Data Selection: what the frozen aligned model says about each training row.

Paper: https://arxiv.org/abs/2502.20968, section on RDS. With ref the aligned model, P the persona prompt and
P' the persona prompt with the unsafe suffix:

    role_score(x, y)   = mean_logp_ref(y | P, x)  - mean_logp_ref(y | x)
    unsafe_score(x, y) = mean_logp_ref(y | P', x) - mean_logp_ref(y | x)
    harmful(x, y)      = unsafe_score > role_score
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from holdfast.chat import ChatFormat
from holdfast.data.collator import Example
from holdfast.data.roles import Role
from holdfast.data.rows import RoleRow, RoleRows
from holdfast.data.truncation import LengthLimits, TruncationCounts, fit
from holdfast.errors import HoldfastError
from holdfast.models import Policy, model_fingerprint
from holdfast.reference.answers import answer_logps, batches_by_length
from holdfast.reference.store import RowStore

Progress = Callable[[int, int], None]  # (rows done, rows in all)


@dataclass(frozen=True, slots=True)
class RowScore:
    """What the reference says about one row; scores are in nats per answer token."""

    row: int  # index in the loaded rows
    location: str
    base_logp: float  # mean log p(answer) without a persona
    role_score: float
    unsafe_score: float
    harmful: bool
    response_tokens: int


@dataclass(frozen=True)
class RoleScores(Sequence[RowScore]):
    """Scores in row order; rows that the length limits drop have none."""

    scores: tuple[RowScore, ...]
    truncated: TruncationCounts
    path: Path | None  # where they are stored

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.scores[index]

    @property
    def flagged_share(self) -> float:
        """Share of the scored rows that are flagged harmful."""
        return sum(score.harmful for score in self.scores) / len(self.scores)


@dataclass(frozen=True)
class _Views:
    """One row under the three prompts; the trained tokens are the same in all."""

    row: int
    location: str
    base: Example
    role: Example
    unsafe: Example

    @property
    def tokens(self) -> int:
        return len(self.unsafe["input_ids"])


def encode_row(
    chat: ChatFormat,
    row: RoleRow,
    limits: LengthLimits,
    *,
    system: str | None = None,
    counts: TruncationCounts | None = None,
) -> Example | None:
    """One row as tokens within the limits; None where the limits drop it. Errors name the row's place."""
    try:
        encoded = chat.encode(row.messages, system=system)
    except HoldfastError as error:
        raise HoldfastError(f"{row.location}: {error}") from None
    if True not in encoded.trained:
        raise HoldfastError(f"{row.location}: no assistant token to learn; remove the row")
    fitted = fit(encoded.input_ids, encoded.trained, limits, counts)
    return None if fitted is None else Example(input_ids=fitted[0], trained=fitted[1])


def score_role_rows(
    model: Policy,
    tokenizer: PreTrainedTokenizerBase,
    rows: RoleRows,
    role: Role,
    *,
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
        chat: how the template is used; default `ChatFormat(tokenizer)`.
        limits: lengths; a persona prompt is cut only under `keep_start` and `keep_end`, never dropped for.
        system_prompt: the system text of training, for the base score; None leaves the row's own.
        batch_size: rows per forward; rows are grouped by length.
        cache_dir: where scores are kept and looked for; None keeps them in memory.
        progress: called after each batch.

    Returns the scores in row order. Raises HoldfastError for a row that cannot be rendered, a corrupt cache, or
    a model that returns numbers that are not finite.
    """
    chat = chat or ChatFormat(tokenizer)
    limits = limits or LengthLimits()
    truncated = TruncationCounts()
    views = list(_three_views(chat, rows, role, limits, system_prompt, truncated))
    if not views:
        raise HoldfastError(f"{rows.source}: no row is left to score ({truncated}); raise max_prompt_tokens")
    store = None
    if cache_dir is not None:
        manifest = _manifest(model, chat, rows, role, limits, system_prompt)
        names = [field.name for field in fields(RowScore)]
        store = RowStore(cache_dir, "role_scores", manifest, rows=len(rows), fields=names)
    scores = {row: RowScore(**record) for row, record in store.records.items()} if store else {}

    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    for batch in batches_by_length(views, batch_size, lambda view: view.tokens):
        missing = [view for view in batch if view.row not in scores]
        if missing:  # the whole batch is computed again, so that a resumed run gives the same digits
            scored = _score_batch(model, pad, batch)
            scores.update((score.row, score) for score in scored)
            if store:
                store.append(asdict(score) for score in scored)
        if progress:
            progress(len(scores), len(views))
    ordered = tuple(scores[view.row] for view in views)
    return RoleScores(ordered, truncated, store.path if store else None)


def _three_views(
    chat: ChatFormat,
    rows: RoleRows,
    role: Role,
    limits: LengthLimits,
    system_prompt: str | None,
    truncated: TruncationCounts,
) -> Iterator[_Views]:
    """The rows under no persona, the persona, and the persona with the unsafe suffix."""
    persona_limits = limits if limits.long_prompts != "drop" else limits.without_prompt_limit()
    for index, row in enumerate(rows):
        base = encode_row(chat, row, limits, system=system_prompt, counts=truncated)
        if base is None:
            continue
        as_role = encode_row(chat, row, persona_limits, system=role.persona_prompt)
        as_unsafe = encode_row(chat, row, persona_limits, system=role.unsafe_prompt)
        if as_role is not None and as_unsafe is not None:  # always so: only `drop` drops, and it is switched off
            yield _Views(index, row.location, base, as_role, as_unsafe)


def _score_batch(model: Policy, pad_token_id: int, batch: Sequence[_Views]) -> list[RowScore]:
    base = _mean_logps(model, pad_token_id, [view.base for view in batch])
    as_role = _mean_logps(model, pad_token_id, [view.role for view in batch])
    as_unsafe = _mean_logps(model, pad_token_id, [view.unsafe for view in batch])
    scored = []
    for view, base_logp, role_logp, unsafe_logp in zip(batch, base, as_role, as_unsafe, strict=True):
        if not all(map(math.isfinite, (base_logp, role_logp, unsafe_logp))):
            raise HoldfastError(
                f"{view.location}: the model's log-probability is not finite; load it in float32 or bfloat16"
            )
        scored.append(
            RowScore(
                row=view.row,
                location=view.location,
                base_logp=base_logp,
                role_score=role_logp - base_logp,
                unsafe_score=unsafe_logp - base_logp,
                harmful=unsafe_logp > role_logp,
                response_tokens=sum(view.base["trained"]),
            )
        )
    return scored


def _mean_logps(model: Policy, pad_token_id: int, examples: Sequence[Example]) -> list[float]:
    """Mean log-probability of each answer."""
    tokens = [sum(example["trained"]) for example in examples]
    sums = answer_logps(model, pad_token_id, examples).tolist()
    return [total / count for total, count in zip(sums, tokens, strict=True)]


def _manifest(
    model: Policy,
    chat: ChatFormat,
    rows: RoleRows,
    role: Role,
    limits: LengthLimits,
    system_prompt: str | None,
) -> dict[str, object]:
    return {
        "format": 1,
        "model": model_fingerprint(model),
        "tokenizer_and_template": chat.fingerprint(),
        "rows": rows.fingerprint(),
        "role": {"persona_prompt": role.persona_prompt, "unsafe_prompt": role.unsafe_prompt},
        "limits": asdict(limits),
        "system_prompt": system_prompt,
    }
