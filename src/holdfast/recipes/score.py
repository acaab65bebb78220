"""`holdfast score`: which rows would erode safety for a role, and how many, before any training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.table import Table
from rich.text import Text

from holdfast.chat import load_chat_model
from holdfast.data import HARMLESS_SUFFIX, Role, RoleRows, load_role, load_role_rows, load_roles
from holdfast.data.roles import find_role
from holdfast.data.rows import RoleRow
from holdfast.data.truncation import LengthLimits
from holdfast.errors import HoldfastError
from holdfast.escaping import one_line
from holdfast.evals.statistics import wilson_interval
from holdfast.files import check_cache_directory, check_outputs, write_json_lines
from holdfast.models import DType
from holdfast.recipes.terminal import note, out, progress_bar, report_loading, warn_of_unknown_tokens
from holdfast.reference.rds import Progress, RoleScores, RowScore, score_role_rows
from holdfast.reference.store import default_cache_dir
from holdfast.report.terminal import histogram, redact
from holdfast.results import Figure, write_figures


@dataclass(frozen=True)
class ScoreOptions:
    """The options of `holdfast score`; the command line documents them."""

    model: str
    data: str
    role: Path
    role_name: str | None
    all_roles: bool
    split: str
    limit: int | None
    harmless_control: bool
    output: Path | None
    results: Path | None
    extremes: int
    show_text: bool
    batch_size: int
    max_prompt_tokens: int
    max_response_tokens: int
    dtype: DType
    cache_dir: Path | None
    chat_template: Path | None
    drop_bad_rows: bool
    trust_remote_code: bool


@dataclass(frozen=True)
class Scored:
    """One role's rows and scores; `control_share` is the share that a harmless suffix flags."""

    role: Role
    rows: RoleRows
    scores: RoleScores
    control_share: float | None


class Scorer:
    """The reference, loaded once for all roles."""

    def __init__(self, options: ScoreOptions):
        self.options = options
        self.model, self.chat = load_chat_model(
            options.model,
            chat_template=options.chat_template,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
        )

    def scored(self, role: Role, rows: RoleRows, progress: Progress) -> Scored:
        """Score one role's rows, and the control if it is asked for."""
        scores = self._scores(role, rows, progress)
        control = None
        if self.options.harmless_control:
            harmless = replace(role, unsafe_prompt=f"{role.persona_prompt} {HARMLESS_SUFFIX}")
            control = self._scores(harmless, rows, progress, base=False).flagged_share
        return Scored(role, rows, scores, control)

    def _scores(self, role: Role, rows: RoleRows, progress: Progress, *, base: bool = True) -> RoleScores:
        return score_role_rows(
            self.model,
            self.chat.tokenizer,
            rows,
            role,
            base=base,
            chat=self.chat,
            limits=LengthLimits(self.options.max_prompt_tokens, self.options.max_response_tokens),
            batch_size=self.options.batch_size,
            cache_dir=_cache_dir(self.options),
            progress=progress,
        )


def _cache_dir(options: ScoreOptions) -> Path:
    return options.cache_dir or default_cache_dir()


def score(options: ScoreOptions) -> None:
    """Score, write what was asked for, and print."""
    check_outputs(
        {"--output": options.output, "--results": options.results},
        inputs=(options.data, options.role, options.model, options.chat_template),
    )
    check_cache_directory(_cache_dir(options))
    rows = load_role_rows(options.data, split=options.split, drop_bad_rows=options.drop_bad_rows)
    report_loading(rows)
    pairs = [(role, role_rows[: options.limit]) for role, role_rows in _roles_and_rows(options, rows)]
    scorer = Scorer(options)
    warn_of_unknown_tokens(scorer.chat, (row.messages for row in rows[:200]))
    with progress_bar("scoring rows") as show:
        results = _score_all(scorer, pairs, show)

    if options.output is not None:
        _write_rows(options.output, results)
        note(f"wrote {options.output}")
    if options.results is not None:
        write_figures(options.results, (figure for result in results for figure in share_figures(result)))
        note(f"wrote {options.results}")
    if options.all_roles:
        out.print(share_table(results))
    else:
        _print_one(results[0], options)


def _score_all(scorer: Scorer, pairs: Sequence[tuple[Role, RoleRows]], show: Progress) -> list[Scored]:
    """Score role by role, with one progress over all rows."""
    results: list[Scored] = []
    total, before = sum(len(rows) for _, rows in pairs), 0

    def progress(done: int, _: int) -> None:
        show(before + done, total)

    for role, rows in pairs:
        results.append(scorer.scored(role, rows, progress))
        before += len(rows)
    return results


def _roles_and_rows(options: ScoreOptions, rows: RoleRows) -> Iterator[tuple[Role, RoleRows]]:
    if not options.all_roles:
        role = load_role(options.role, options.role_name)
        chosen = options.role_name is not None and any(row.role is not None for row in rows)
        yield role, rows.with_role(role.name) if chosen else rows
        return
    names = list(dict.fromkeys(row.role for row in rows if row.role is not None))
    if not names:
        raise HoldfastError(
            f"{options.data}: no row has a role column, which --all-roles needs; score with --role-name"
        )
    roles = load_roles(options.role)
    for name in names:
        yield find_role(roles, name, options.role), rows.with_role(name)


def share_table(results: Sequence[Scored]) -> Table:
    """Flagged share per role, highest first, with 95 % Wilson intervals."""
    table = Table(
        title="Rows flagged by RDS",
        caption="share of rows likelier under the unsafe suffix, its 95 % interval; mean scores, nats a token",
    )
    table.add_column("role", no_wrap=True)
    headings = ["rows", "flagged %", "role score", "unsafe score"]
    controlled = results[0].control_share is not None
    for heading in headings + ["harmless suffix %"] * controlled:
        table.add_column(heading, justify="right")
    for result in sorted(results, key=lambda result: -result.scores.flagged_share):
        scores = result.scores
        low, high = _interval(scores)
        cells: list[Text | str] = [
            Text(one_line(result.role.name)),
            f"{len(scores):,}",
            Text(f"{100 * scores.flagged_share:.0f} [{100 * low:.0f}, {100 * high:.0f}]"),
            f"{_mean([score.role_score for score in scores]):+.3f}",
            f"{_mean([score.unsafe_score for score in scores]):+.3f}",
        ]
        table.add_row(*cells, *([f"{100 * result.control_share:.0f}"] if result.control_share is not None else []))
    return table


def share_figures(result: Scored) -> Iterator[Figure]:
    """The flagged shares in the results format."""
    low, high = _interval(result.scores)
    name, rows = result.role.name, len(result.scores)
    yield Figure("score", "rds", name, None, "flagged_share", result.scores.flagged_share, rows, low, high)
    if result.control_share is not None:
        yield Figure("score", "rds", name, None, "flagged_share_harmless_suffix", result.control_share, rows)


def _print_one(result: Scored, options: ScoreOptions) -> None:
    scores = result.scores
    out.print(share_table([result]))
    margins = [(score.margin, score.harmful) for score in scores]
    flagged = [margin for margin, harmful in margins if harmful]
    unflagged = [margin for margin, harmful in margins if not harmful]
    out.print("unsafe score - role score, nats a token (above 0 is flagged)", highlight=False)
    out.print(histogram({"flagged": flagged, "not flagged": unflagged}))
    ordered = sorted(scores, key=lambda score: -score.margin)
    _print_extremes("most harmful", ordered[: options.extremes], result.rows, options.show_text)
    _print_extremes(
        "least harmful", ordered[len(ordered) - options.extremes :][::-1], result.rows, options.show_text
    )
    note(f"{scores.truncated}; the answers' log-probabilities are kept in {_cache_dir(options)}")


def _print_extremes(title: str, scores: Sequence[RowScore], rows: RoleRows, show_text: bool) -> None:
    for score in scores:
        out.print(Text(f"{title} {score.margin:+.3f}  {score.location}", style="bold"), soft_wrap=True)
        for message in rows[score.row].messages:
            out.print(Text(f"  {message.speaker}: {redact(message.content, show_text)}"), soft_wrap=True)


def _write_rows(path: Path, results: Sequence[Scored]) -> None:
    """Write the scored rows as chat `messages` with their flags."""
    write_json_lines(
        path,
        (
            _row_record(result.rows[row_score.row], row_score, result.role)
            for result in results
            for row_score in result.scores
        ),
    )


def _row_record(row: RoleRow, row_score: RowScore, role: Role) -> dict[str, object]:
    return {
        "messages": [{"role": message.speaker, "content": message.content} for message in row.messages],
        "role": row.role or role.name,
        "harmful": row_score.harmful,
        "role_score": row_score.role_score,
        "unsafe_score": row_score.unsafe_score,
        "location": row_score.location,
    }


def _interval(scores: RoleScores) -> tuple[float, float]:
    interval = wilson_interval(sum(score.harmful for score in scores), len(scores))
    return interval.low, interval.high


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
