"""`holdfast rank`: rows flagged by one of the ranking selectors, written with their `harmful` column."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from holdfast.chat import load_chat_model
from holdfast.data import RoleRows, load_role, load_role_rows
from holdfast.data.truncation import LengthLimits
from holdfast.errors import HoldfastError
from holdfast.files import atomic_writer, check_cache_directory, check_outputs, dump_json
from holdfast.methods.role import Flagged, Preparation, RoleData, RoleMethod, flagged_rows
from holdfast.models import DType
from holdfast.parsing import YAMLError, parse_yaml
from holdfast.recipes.terminal import count, note, out, progress_bar, report_loading, warn_of_unknown_tokens
from holdfast.reference.store import default_cache_dir
from holdfast.report.terminal import histogram, redact
from holdfast.selection import NEEDS, Ranking


@dataclass(frozen=True)
class RankOptions:
    """The options of `holdfast rank`; the command line documents them."""

    model: str
    data: str
    role: Path
    selector: Ranking
    output: Path
    role_name: str | None = None
    selected_share: float | None = None
    safety_data: str | None = None
    unsafe_data: str | None = None
    settings: str | None = None
    limit: int | None = None
    extremes: int = 3
    show_text: bool = False
    batch_size: int = 16
    max_prompt_tokens: int = 512
    max_response_tokens: int = 128
    seed: int = 42
    dtype: DType = "auto"
    cache_dir: Path | None = None
    chat_template: Path | None = None
    drop_bad_rows: bool = False
    trust_remote_code: bool = False


def rank(options: RankOptions) -> None:
    """Rank, write the rows, print the distribution and both ends. What is missing is told before a model loads."""
    check_outputs(
        {"--output": options.output},
        inputs=(
            options.data,
            options.role,
            options.model,
            options.safety_data,
            options.unsafe_data,
            options.chat_template,
        ),
    )
    check_cache_directory(options.cache_dir or default_cache_dir())
    for need in sorted(NEEDS[options.selector]):
        if getattr(options, need) is None:
            raise HoldfastError(f"--selector {options.selector} needs --{need.replace('_', '-')}; docs/methods.md")
    method = RoleMethod(
        selector=options.selector,
        selected_share=options.selected_share,
        selector_settings=_settings(options.settings),
    )
    data = _data(options)
    model, chat = load_chat_model(
        options.model,
        chat_template=options.chat_template,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
    )
    warn_of_unknown_tokens(chat, (row.messages for row in data.rows[:200]))
    preparation = Preparation(
        LengthLimits(options.max_prompt_tokens, options.max_response_tokens),
        batch_size=options.batch_size,
        cache_dir=options.cache_dir or default_cache_dir(),
        seed=options.seed,
        progress=progress_bar,
    )
    flagged = flagged_rows(method, model, chat, data, preparation)
    _write(options.output, flagged, data.role.name, options.selector)
    note(f"wrote {options.output}; train on it with selector: column")
    _show(flagged, options)


def _settings(text: str | None) -> dict[str, object]:
    try:
        settings = parse_yaml(text or "{}")
    except YAMLError as error:
        raise HoldfastError(f"--settings {text!r:.60}: not YAML ({error}); correct it") from None
    if not isinstance(settings, dict):
        raise HoldfastError(f"--settings {text!r:.60}: give a mapping, for example '{{epochs: 6}}'")
    return settings


def _data(options: RankOptions) -> RoleData:
    def load(source: str) -> RoleRows:
        rows = load_role_rows(source, drop_bad_rows=options.drop_bad_rows)
        report_loading(rows)
        return rows

    role = load_role(options.role, options.role_name)
    rows = load(options.data)
    if options.role_name is not None and any(row.role is not None for row in rows):
        rows = rows.with_role(role.name)
    return RoleData(
        role,
        rows[: options.limit],
        safety=load(options.safety_data) if options.safety_data else None,
        unsafe=load(options.unsafe_data) if options.unsafe_data else None,
    )


def _show(flagged: Flagged, options: RankOptions) -> None:
    scores = flagged.scores or []
    chosen = sum(flagged.harmful)
    line = f"{count(len(scores), 'row')}, {chosen:,} flagged by {options.selector} ({chosen / len(scores):.1%})"
    if flagged.rds is not None and chosen:
        both = sum(own and other for own, other in zip(flagged.harmful, flagged.rds, strict=True))
        line += f"; RDS flags {both:,} of these too ({both / chosen:.0%}, {chosen / len(scores):.0%} by chance)"
    out.print(Text(line), soft_wrap=True)
    series = {"flagged": True, "not flagged": False}
    by_flag = {
        name: [score for score, harmful in zip(scores, flagged.harmful, strict=True) if harmful is wanted]
        for name, wanted in series.items()
    }
    out.print(histogram({name: values for name, values in by_flag.items() if values}))
    ordered = sorted(range(len(scores)), key=lambda row: -scores[row])
    _print_rows("most harmful", ordered[: options.extremes], flagged, options.show_text)
    _print_rows("least harmful", ordered[len(ordered) - options.extremes :][::-1], flagged, options.show_text)


def _print_rows(title: str, places: Sequence[int], flagged: Flagged, show_text: bool) -> None:
    for place in places:
        row, score = flagged.rows[place], (flagged.scores or [])[place]
        out.print(Text(f"{title} {score:+.3g}  {row.location}", style="bold"), soft_wrap=True)
        for message in row.messages:
            out.print(Text(f"  {message.speaker}: {redact(message.content, show_text)}"), soft_wrap=True)


def _write(path: Path, flagged: Flagged, role: str, selector: str) -> None:
    """Write the rows as chat `messages` with their flags and scores."""
    with atomic_writer(path) as file:
        for row, harmful, score in zip(flagged.rows, flagged.harmful, flagged.scores or [], strict=True):
            record = {
                "messages": [{"role": message.speaker, "content": message.content} for message in row.messages],
                "role": row.role or role,
                "harmful": harmful,
                f"{selector}_score": score,
                "location": row.location,
            }
            file.write(dump_json(record) + "\n")
