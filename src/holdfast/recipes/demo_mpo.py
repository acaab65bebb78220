"""`holdfast demo mpo`: the MPO experiment on the proving ground, as tables and a page."""

import os
from pathlib import Path

from holdfast.files import write_text
from holdfast.provingground.languages.experiment import demo_parts, run_mpo_parts
from holdfast.recipes.mpo_report import (
    DOMINANT,
    HEADLINE,
    NOISES,
    RETENTION,
    TARGETS,
    headline_table,
    split_by_rate,
    write_page,
)
from holdfast.recipes.terminal import count, err, note, out
from holdfast.report import to_markdown, to_rich
from holdfast.results import read_figures, write_figures

SHOWN = HEADLINE[:4]  # a terminal has no room for more


def demo_mpo(output_dir: Path, *, seeds: int | None, workers: int | None) -> None:
    """Run the experiment (what is there already is not run again), print the tables, write results and page."""
    parts = demo_parts()
    bases = seeds or max(len(part.seeds) for part in parts)
    note(
        f"the proving ground, offline: {count(bases, 'tiny multilingual model')} trained from scratch, "
        f"{len(parts[0].alignments)} ways to align them; Ctrl-C is safe, it continues"
    )
    figures = run_mpo_parts(parts, output_dir, seeds=seeds, workers=workers or os.cpu_count() or 1, console=err)
    results, page = output_dir / "results.jsonl", output_dir / "index.html"
    write_figures(results, figures)
    figures = list(read_figures(results))  # the report is made from what is on disk
    compared, _ = split_by_rate(figures)
    markdown = []
    for noise in dict.fromkeys(part.noise for part in parts):
        for group, title, columns in (
            (TARGETS, f"target languages, {NOISES[noise]}", SHOWN),
            (DOMINANT, f"English, the dominant language, {NOISES[noise]}", RETENTION),
        ):
            table = headline_table(compared, noise, group, columns)
            out.print(f"\n{title}: mean over {count(bases, 'base model')}", highlight=False)
            out.print(to_rich(table))
            markdown.append(f"## {title}\n\n{to_markdown(table)}")
    write_text(output_dir / "tables.md", "\n".join(markdown))
    write_page(
        page,
        figures,
        title="MPO on the proving ground",
        intro=(
            "A synthetic multilingual world with tiny models, made to be run in minutes. Which things are known to "
            "be harmful in which language is a fixed part of it. It shows that the software does what it should and "
            "compares methods on equal terms; it is no evidence about large models.",
            f"Made by “holdfast demo mpo” with the base models of seeds 1 to {bases}, test prompts: {parts[0].split}.",
        ),
    )
    note(f"figures: {results}\npage:    {page}")
