"""`holdfast demo mpo`: the MPO experiment on the proving ground, as tables and a page."""

import os
from dataclasses import replace
from pathlib import Path

from holdfast.provingground.languages.experiment import MPOExperimentSettings, run_mpo_experiment
from holdfast.recipes.mpo_report import (
    DOMINANT,
    HEADLINE,
    NOISES,
    RETENTION,
    TARGETS,
    experiment,
    headline_table,
    write_page,
)
from holdfast.recipes.terminal import err, note, out
from holdfast.report import to_markdown, to_rich
from holdfast.results import read_figures, write_figures

SHOWN = HEADLINE[:4]  # a terminal has no room for more


def demo_mpo(output_dir: Path, *, seeds: int | None, workers: int | None) -> None:
    """Run the experiment (what is there already is not run again), print the tables, write results and page."""
    settings = MPOExperimentSettings.demo()
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(1, seeds + 1)))
    note(
        f"the proving ground, offline: {len(settings.seeds)} tiny multilingual models trained from scratch, "
        f"{len(settings.alignments)} ways to align them; Ctrl-C is safe, it continues"
    )
    figures = run_mpo_experiment(settings, output_dir, workers=workers or os.cpu_count() or 1, console=err)
    results, page = output_dir / "results.jsonl", output_dir / "index.html"
    write_figures(results, figures)
    figures = list(read_figures(results))  # the report is made from what is on disk
    markdown = []
    for noise in (noise for noise in NOISES if any(f.experiment == experiment(noise) for f in figures)):
        for group, title, columns in (
            (TARGETS, f"target languages, {NOISES[noise]}", SHOWN),
            (DOMINANT, f"English, the dominant language, {NOISES[noise]}", RETENTION),
        ):
            table = headline_table(figures, noise, group, columns)
            out.print(f"\n{title}: mean over {len(settings.seeds)} base models", highlight=False)
            out.print(to_rich(table))
            markdown.append(f"## {title}\n\n{to_markdown(table)}")
    (output_dir / "tables.md").write_text("\n".join(markdown), encoding="utf-8")
    seed_list = ", ".join(map(str, settings.seeds))
    write_page(
        page,
        figures,
        title="MPO on the proving ground",
        intro=(
            "A synthetic multilingual world with tiny models, made to be run in minutes. Which things are known to "
            "be harmful in which language is a fixed part of it. It shows that the software does what it should and "
            "compares methods on equal terms; it is no evidence about large models.",
            f"Made by “holdfast demo mpo” with the base models of seeds {seed_list}, test prompts: {settings.split}.",
        ),
    )
    note(f"figures: {results}\npage:    {page}")
