"""`holdfast study`: both worlds with every method, ablation and idea, written as figures, tables and plots."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup
from rich.console import Console

from holdfast.files import check_output_directory, write_text
from holdfast.provingground.languages.experiment import run_mpo_parts, study_parts
from holdfast.provingground.roles.aggregate import PAIRED, paired_figures
from holdfast.provingground.roles.experiment import (
    ABLATIONS,
    FIRST_TOKENS_AGAINST_ALL,
    SaRFTExperimentSettings,
    run_sarft_ablations,
    run_sarft_experiment,
)
from holdfast.recipes import demo_sarft, mpo_report
from holdfast.recipes.terminal import err, note
from holdfast.report import TableData, build_table, to_markdown
from holdfast.results import Figure, read_figures, write_figures


def study(output_dir: Path, results_dir: Path, *, seeds: int | None, workers: int | None) -> None:
    """Run what is not there yet; write `sarft.*` and `mpo.*` to `results_dir`.

    Args:
        output_dir: base models and cells, reused when the study is run again.
        results_dir: figures (JSON lines), tables (Markdown) and plots (SVG).
        seeds: how many base models a world; default 8.
        workers: processes; default the machine's cores.
    """
    parts: tuple[tuple[str, Callable[[Path, int | None, int, Console], list[Figure]], _Report], ...] = (
        ("sarft", _run_sarft, _report_sarft),
        ("mpo", _run_mpo, _report_mpo),
    )
    check_output_directory(results_dir)
    for name, run, report in parts:
        note(f"study, {name}: hours on two cores, Ctrl-C is safe, the same command continues")
        figures = run(output_dir / name, seeds, workers or os.cpu_count() or 1, err)
        path = results_dir / f"{name}.jsonl"
        write_figures(path, [figure for figure in figures if _kept(figure)])
        report(results_dir, list(read_figures(path)))
        note(f"wrote {path}, {results_dir / name}.md and its plots")


def _kept(figure: Figure) -> bool:
    """Means over bases; of the frontier, those that its table shows."""
    single_language = figure.group not in (mpo_report.TARGETS, mpo_report.DOMINANT)
    return figure.seed is None and not (" @ " in figure.method and single_language)


_Report = Callable[[Path, Sequence[Figure]], None]


def _run_sarft(directory: Path, seeds: int | None, workers: int, console: Console) -> list[Figure]:
    settings = SaRFTExperimentSettings.study()
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(1, seeds + 1)))
    figures = run_sarft_experiment(settings, directory, workers=workers, console=console)
    figures += run_sarft_ablations(settings, directory, workers=workers, console=console)
    return figures + paired_figures(figures, FIRST_TOKENS_AGAINST_ALL, "villain")


def _run_mpo(directory: Path, seeds: int | None, workers: int, console: Console) -> list[Figure]:
    return run_mpo_parts(study_parts(), directory, seeds=seeds, workers=workers, console=console)


def _report_sarft(directory: Path, figures: Sequence[Figure]) -> None:
    paired = [figure for figure in figures if figure.experiment == PAIRED]
    figures = [figure for figure in figures if figure.experiment != PAIRED]
    bases = max(figure.n for figure in figures)
    methods = [figure for figure in figures if figure.method in demo_sarft.TITLES]
    changed = [figure for figure in figures if figure.method in ABLATIONS]
    tables = {
        f"{title}, {bases} base models": demo_sarft.headline_table(methods, group, demo_sarft.PAGE_HEADLINE)
        for group, title in (("mean_villain", "Villains"), ("mean_kind", "Kind roles"))
    }
    tables["Villains, by kind of request"] = demo_sarft.headline_table(methods, "mean_villain", demo_sarft.SAFETY)
    tables["SaRFT with one thing changed, villains"] = demo_sarft.headline_table(
        changed, "mean_villain", (*demo_sarft.HEADLINE, demo_sarft.PAGE_HEADLINE[-1])
    )
    tables["What RDS flags of the training rows; score distances in nats a token"] = demo_sarft.flags_table(
        figures
    )
    tables["The first three tokens anchored less the whole answer, paired by base and villain"] = build_table(
        paired, metrics=demo_sarft.DIFFERENCES, group="mean_villain", caption=demo_sarft.CAPTION
    )
    _write(
        directory / "sarft.md",
        "SaRFT on the proving ground",
        "What each method is: docs/methods.md. SaRFT's own beta is 0.25, that of all the rows with KL.",
        tables,
    )
    _write_plot(directory / "sarft_safety.svg", demo_sarft.safety_plot(figures, "mean_villain"))
    _write_plot(directory / "sarft_tradeoff.svg", demo_sarft.tradeoff_plot(figures))


def _report_mpo(directory: Path, figures: Sequence[Figure]) -> None:
    tables: dict[str, TableData] = {}
    compared, at_a_rate = mpo_report.split_by_rate(figures)
    bases = max(figure.n for figure in compared)
    for noise, pairs in mpo_report.NOISES.items():
        tables[f"Target languages, {pairs}, {bases} base models"] = mpo_report.headline_table(
            compared, noise, mpo_report.TARGETS
        )
        tables[f"English, {pairs}"] = mpo_report.headline_table(
            compared, noise, mpo_report.DOMINANT, mpo_report.RETENTION
        )
        for metric, better in (("attack_success_rate", False), ("over_refusal_rate", False), ("reward_gap", None)):
            title = metric.replace("_", " ").capitalize()
            tables[f"{title} by language, {pairs}"] = mpo_report.language_table(compared, noise, metric, better)
        _write_plot(directory / f"mpo_tradeoff_{noise}.svg", mpo_report.tradeoff_plot(compared, noise))
        _write_plot(directory / f"mpo_gap_{noise}.svg", mpo_report.gap_plot(compared, noise))
        if any(figure.experiment == mpo_report.experiment(noise) for figure in at_a_rate):
            tables[f"Every learning rate, {pairs}"] = mpo_report.headline_table(
                at_a_rate, noise, mpo_report.TARGETS
            )
            _write_plot(directory / f"mpo_frontier_{noise}.svg", mpo_report.frontier_plot(at_a_rate, noise))
    _write(
        directory / "mpo.md",
        "MPO on the proving ground",
        "The last lines of the first tables are ablations of MPO and ideas of ours.",
        tables,
    )


def _write(path: Path, title: str, about: str, tables: dict[str, TableData]) -> None:
    lines = [
        f"# {title}",
        "",
        "Written by `holdfast study`; do not edit. What it means: docs/proving_ground.md.",
        about,
    ]
    for heading, table in tables.items():
        lines += ["", f"## {heading}", "", to_markdown(table).rstrip()]
    write_text(path, "\n".join(lines) + "\n")


def _write_plot(path: Path, plot: Markup) -> None:
    write_text(path, str(plot) + "\n")
