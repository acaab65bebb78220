"""`holdfast gap`: the reward gap of every language, without training and without generating."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from holdfast.chat import load_chat_model
from holdfast.data.pairs import ParallelPairs
from holdfast.data.truncation import LengthLimits
from holdfast.errors import HoldfastError
from holdfast.escaping import one_line
from holdfast.evals.statistics import mean_interval, wilson_interval
from holdfast.files import check_cache_directory, check_outputs
from holdfast.models import DType
from holdfast.recipes.pair_data import ScoredPairs, load_pairs, score_both_sides
from holdfast.recipes.terminal import note, out
from holdfast.reference.store import default_cache_dir
from holdfast.report import Column, Section, build_table, pivoted, to_rich, write_report
from holdfast.report.plots import figure_bars
from holdfast.results import Figure, write_figures


@dataclass(frozen=True)
class GapOptions:
    """The options of `holdfast gap`; the command line documents them."""

    models: tuple[str, ...]
    data: str
    dominant_language: str
    languages: tuple[str, ...]
    split: str
    limit: int | None
    drop: bool
    sums: bool
    results: Path | None
    page: Path | None
    batch_size: int
    max_prompt_tokens: int
    max_response_tokens: int
    system_prompt: str | None
    dtype: DType
    cache_dir: Path | None
    chat_template: Path | None
    trust_remote_code: bool


def gap(options: GapOptions) -> None:
    """Measure every model on the same pairs, write what was asked for, and print a table a model."""
    check_outputs(
        {"--results": options.results, "--page": options.page},
        inputs=(options.data, *options.models, options.chat_template),
    )
    check_cache_directory(options.cache_dir or default_cache_dir())
    names = _distinct(options.models)
    pairs = load_pairs(
        options.data,
        dominant=options.dominant_language,
        languages=options.languages,
        split=options.split,
        drop=options.drop,
        limit=options.limit,
    )
    figures: list[Figure] = []
    for name, model in names.items():
        scored = _score(options, model, pairs)
        figures += gap_figures(scored, experiment="gap", method=name, length_normalise=not options.sums)
        if scored.truncated.counts:
            note(f"{model}: {scored.truncated}")
        for warning in gap_warnings(scored, length_normalise=not options.sums):
            note(f"{model}: warning: {warning}")
    if options.results is not None:
        write_figures(options.results, figures)
        note(f"wrote {options.results}")
    if options.page is not None:
        write_page(options.page, figures, list(names), pairs.languages, sums=options.sums)
        note(f"wrote {options.page}")
    _print(figures, list(names), options)


def _distinct(models: Sequence[str]) -> dict[str, str]:
    """A short name for each model: the last part of its path, the whole where that is not unique."""
    if len(set(models)) < len(models):
        raise HoldfastError("--model: the same model is given twice; give each once")
    short = [Path(model).name or model for model in models]
    return {name if short.count(name) == 1 else model: model for name, model in zip(short, models, strict=True)}


def _score(options: GapOptions, name: str, pairs: ParallelPairs) -> ScoredPairs:
    model, chat = load_chat_model(
        name,
        chat_template=options.chat_template,
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
    )
    return score_both_sides(
        model,
        chat,
        pairs,
        LengthLimits(options.max_prompt_tokens, options.max_response_tokens),
        system=options.system_prompt,
        batch_size=options.batch_size,
        cache_dir=options.cache_dir or default_cache_dir(),
    )


def gap_figures(
    scored: ScoredPairs,
    *,
    experiment: str,
    method: str,
    seed: int | None = None,
    length_normalise: bool = True,
) -> list[Figure]:
    """`reward_gap` (t interval) and `safe_preferred`, the share of gaps above 0 (Wilson), per language.

    `answers_cut`, the share of answers that are over the limit, stands for languages where there are any.
    """
    gaps = scored.gaps(length_normalise=length_normalise)
    figures = [f for language, values in gaps.items() for f in _of(experiment, method, language, seed, values)]
    for language, (cut, answers) in scored.cut_answers().items():
        interval = wilson_interval(cut, answers)
        figures.append(
            Figure(experiment, method, language, seed, "answers_cut", cut / answers, answers, *interval)
        )
    return figures


def gap_warnings(scored: ScoredPairs, *, length_normalise: bool = True, dominant_leads: bool = True) -> list[str]:
    """Return what the reward gaps themselves say against training on these pairs, a sentence each.

    `dominant_leads`: whether the dominant language's gaps are what the targets' are pulled to, as in MPO.
    """
    warnings = []
    gaps = {language: fmean(own) for language, own in scored.gaps(length_normalise=length_normalise).items()}
    dominant = scored.pairs.dominant_language
    above = [f"{language} {gap:.2f}" for language, gap in gaps.items() if gap > gaps.get(dominant, math.inf)]
    if above and dominant_leads:
        warnings.append(
            f"the reward gap of the dominant language, {dominant} {gaps[dominant]:.2f}, is below that of "
            f"{', '.join(above)}; MPO would teach its weakness to the others; choose a dominant language that the "
            "model refuses better in"
        )
    for language, (cut, answers) in scored.cut_answers().items():
        warnings.append(
            f"{language}: {cut:,} of {answers:,} answers ({cut / answers:.0%}) are cut; raise max_response_tokens"
        )
    return warnings


def _of(
    experiment: str, method: str, language: str, seed: int | None, values: Sequence[float]
) -> Iterator[Figure]:
    n = len(values)
    low, high = mean_interval(values) or (None, None)
    yield Figure(experiment, method, language, seed, "reward_gap", sum(values) / n, n, low, high)
    above = sum(value > 0 for value in values)
    yield Figure(experiment, method, language, seed, "safe_preferred", above / n, n, *wilson_interval(above, n))


def _unit(sums: bool) -> str:
    return "nats an answer, summed" if sums else "nats a token"


def _columns(sums: bool) -> tuple[Column, ...]:
    return (
        Column("reward_gap", "reward gap, summed" if sums else "reward gap", True),
        Column("safe_preferred", "safe answer preferred", True),
    )


def _print(figures: Sequence[Figure], models: Sequence[str], options: GapOptions) -> None:
    unit = _unit(options.sums)
    caption = f"reward gap: log p(safe answer) - log p(unsafe answer), {unit}; 95 % intervals over pairs"
    columns = _columns(options.sums)
    for model in models:
        out.print(f"\n{one_line(model)}", highlight=False)
        table = build_table(figures, metrics=columns, rows="group", method=model, group=None, caption=caption)
        out.print(to_rich(table))
    if len(models) > 1:
        out.print("\nside by side", highlight=False)
        print_side_by_side(figures, models, sums=options.sums)


def print_side_by_side(
    figures: Sequence[Figure], models: Sequence[str], *, seed: int | None = None, sums: bool = False
) -> None:
    """Print one line per language, one column per model, the reward gap alone."""
    table = build_table(
        pivoted(figures, "reward_gap", columns="method"),
        metrics=tuple(Column(model, model, True) for model in models),
        rows="group",
        group=None,
        seed=seed,
        caption=f"reward gap, {_unit(sums)}",
    )
    out.print(to_rich(table))


def write_page(
    path: Path, figures: Sequence[Figure], models: Sequence[str], languages: Sequence[str], *, sums: bool = False
) -> None:
    """A self-contained page: the gaps as bars, and a table a model."""
    by = {(f.method, f.group): f for f in figures if f.metric == "reward_gap"}
    rows = [[by.get((model, language)) for language in languages] for model in models]
    plot = figure_bars(languages, models, rows, f"reward gap, {_unit(sums)}", "Reward gap per language")
    prose = (
        f"The reward gap of a request is the {'summed' if sums else 'mean'} log-probability of its safe answer minus "
        f"that of its unsafe one, in {_unit(sums)}. "
        "Where it is small, the model hardly prefers to refuse. Intervals are over pairs; the unsafe and the safe "
        "answers are translations, so a gap also says how likely the translations are as such.",
    )
    sections = [Section("All models", prose, plots=(plot,))]
    for model in models:
        table = build_table(figures, metrics=_columns(sums), rows="group", method=model, group=None)
        sections.append(Section(model, table=table))
    write_report(path, title="Reward gaps", intro=("Written by holdfast gap.",), sections=sections)
