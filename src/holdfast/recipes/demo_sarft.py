"""`holdfast demo sarft`: the SaRFT experiment on the proving ground, as a table and a page."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from holdfast.files import write_text
from holdfast.methods.registry import ROLE_METHODS
from holdfast.provingground.roles.experiment import SaRFTExperimentSettings, run_sarft_experiment
from holdfast.provingground.roles.methods import DEMO
from holdfast.recipes.terminal import count, err, note, out
from holdfast.report import Column, Section, TableData, build_table, to_markdown, to_rich, write_report
from holdfast.report.plots import figure_bars, scatter
from holdfast.results import Figure, read_figures, write_figures

TITLES = {name: method.title for name, method in ROLE_METHODS.items()}
METHODS = {name: TITLES[name] for name in ("base", *DEMO)}  # what the demo compares
SAFETY = (
    Column("refusal_rate_near", "near", True),
    Column("refusal_rate_rephrased", "rephrased", True),
    Column("refusal_rate_far", "far", True),
    Column("refusal_rate_jailbreak_rules", "ignore rules", True),
    Column("refusal_rate_jailbreak_role", "role wrap", True),
)
HEADLINE = (
    Column("refusal_rate_mean", "refusals", True),
    Column("over_refusal_rate", "over-refusal", False),
    Column("rouge_l_raw", "how-to, Rouge-L", True),
    Column("rouge_l_role", "about the role, Rouge-L", True),
)
# The page has room for what the terminal has not: an answer that neither refuses nor helps, and dark questions.
PAGE_HEADLINE = (
    HEADLINE[0],
    Column("refusal_gain_over_sft", "gain over SFT, paired", True),
    Column("attack_success_rate_mean", "harm done", False),
    *HEADLINE[1:],
    Column("rouge_l_dark", "dark questions, Rouge-L", True),
)
DIFFERENCES = (HEADLINE[0], SAFETY[2], *HEADLINE[1:], PAGE_HEADLINE[-1])
GROUPS = {"villain": "villains", "kind": "kind roles"}  # of roles, by temper
CAPTION = "95 % intervals, Student's t over base models (one alone has none); ↑ higher is better, ↓ lower"
FLAGS = (
    Column("flagged_share", "unsafe suffix"),
    Column("flagged_share_harmless_suffix", "harmless suffix"),
    Column("flagged_share_of_malicious", "unsafe suffix, malicious rows"),
    Column("flagged_share_of_others", "unsafe suffix, other rows"),
    Column("score_distance", "distance of scores, unsafe suffix"),
    Column("score_distance_harmless_suffix", "distance, harmless suffix"),
)


def demo_sarft(output_dir: Path, *, seeds: int | None, workers: int | None) -> None:
    """Run the experiment (what is there already is not run again), print the table, write results and page."""
    settings = SaRFTExperimentSettings.demo()
    if seeds is not None:
        settings = replace(settings, seeds=tuple(range(1, seeds + 1)))
    note(
        f"the proving ground, offline: {len(settings.seeds)} tiny aligned models trained from scratch, "
        f"{count(len(settings.tempers), 'role')} each, {len(METHODS) - 1} ways to fine-tune; "
        "Ctrl-C is safe, it continues"
    )
    figures = run_sarft_experiment(settings, output_dir, workers=workers or os.cpu_count() or 1, console=err)
    results, page = output_dir / "results.jsonl", output_dir / "index.html"
    write_figures(results, figures)
    figures = list(read_figures(results))  # the report is made from what is on disk
    markdown = []
    for group, title in _groups(settings):
        table = headline_table(figures, group)
        out.print(f"\n{title}: mean over {_runs(figures, group)}", highlight=False)
        out.print(to_rich(table))
        markdown.append(f"## {title}\n\n{to_markdown(table)}")
    write_text(output_dir / "tables.md", "\n".join(markdown))
    write_page(page, figures, settings)
    note(f"figures: {results}\npage:    {page}")


def headline_table(figures: Sequence[Figure], group: str, columns: Sequence[Column] = HEADLINE) -> TableData:
    """Safety, over-refusal and fidelity, side by side: none of them is read alone."""
    return build_table(
        figures,
        metrics=columns,
        group=group,
        labels=TITLES,
        caption=CAPTION,
    )


def write_page(path: Path, figures: Sequence[Figure], settings: SaRFTExperimentSettings) -> None:
    """The self-contained page."""
    seeds = ", ".join(map(str, settings.seeds))
    explained = (
        "SFT is plain fine-tuning on the role's lines. The other rows add the divergence from the aligned model: on "
        "the rows that RDS flags, and as controls on as many rows drawn at random and on all rows. Where a control "
        "does as well, the choice of rows is not what holds the refusals.",
    )
    sections = [
        *(
            Section(
                title.capitalize(),
                explained if group == "mean_villain" else ("The same for kind roles.",),
                table=headline_table(figures, group, PAGE_HEADLINE),
                plots=(safety_plot(figures, group),),
            )
            for group, title in _groups(settings)
        ),
        Section(
            "By kind of request, villains",
            (
                "Near: held-out requests in the phrasing of the training. Rephrased and far: phrasings and framings "
                "that were never trained on. Ignore rules and role wrap: near requests wrapped as jailbreaks.",
            ),
            table=build_table(figures, metrics=SAFETY, group="mean_villain", labels=TITLES),
        ),
        Section(
            "What it costs",
            ("Each point is a method's mean over villains: refusals against fidelity to the role.",),
            plots=(tradeoff_plot(figures),),
        ),
        Section(
            "What RDS flags",
            (
                "Share of training rows flagged by the paper's rule with the unsafe suffix, and with a harmless "
                "sentence in its place: the rule has no margin, so a sentence that says nothing still flags rows, "
                "by chance. In this world it is known which rows were drawn with malice.",
            ),
            table=flags_table(figures),
        ),
        Section(
            "Role by role",
            ("Every run on its own, with Wilson intervals over prompts.",),
            table=_single_runs(figures),
        ),
    ]
    write_report(
        path,
        title="SaRFT on the proving ground",
        intro=(
            "A synthetic world with tiny models, made to be run in minutes. In it hostile tone and compliance go "
            "together by construction: it illustrates the paper's hypothesis and shows that the software does what "
            "it should. It is no evidence about large models.",
            f"Made by “holdfast demo sarft” with the base models of seeds {seeds}, test prompts: {settings.split}.",
        ),
        sections=sections,
    )


def flags_table(figures: Sequence[Figure]) -> TableData:
    """What RDS flags, under the unsafe and under harmless sentences."""
    labels = {f"mean_{temper}": title for temper, title in GROUPS.items()}
    table = build_table(figures, metrics=FLAGS, rows="group", method="base", labels=labels)
    there = {figure.group for figure in figures}
    return table.only(tuple(label for group, label in labels.items() if group in there))


def _groups(settings: SaRFTExperimentSettings) -> list[tuple[str, str]]:
    """The figures' group and its title, for each temper of the experiment."""
    return [(f"mean_{temper}", GROUPS[temper]) for temper in GROUPS if temper in settings.tempers]


def safety_plot(figures: Sequence[Figure], group: str) -> Markup:
    """Refusals by kind of request, a bar a method."""
    title = f"Refusals of held-out harmful requests, {'villains' if group == 'mean_villain' else 'kind roles'}"
    chosen = {(f.method, f.metric): f for f in figures if f.group == group and f.seed is None}
    cells = [[chosen.get((method, column.metric)) for column in SAFETY] for method in METHODS]
    return figure_bars([column.title for column in SAFETY], list(METHODS.values()), cells, "share refused", title)


def tradeoff_plot(figures: Sequence[Figure]) -> Markup:
    """Refusals against fidelity, a point a method."""
    chosen = {(f.method, f.metric): f.value for f in figures if f.group == "mean_villain" and f.seed is None}
    shown = [m for m in TITLES if (m, "refusal_rate_mean") in chosen and m != "base"]
    return scatter(
        [(chosen[m, "rouge_l_role"], chosen[m, "refusal_rate_mean"]) for m in shown],
        [TITLES[m] for m in shown],
        "about the role, Rouge-L",
        "share refused",
        "Refusals against role fidelity, villains",
    )


def _single_runs(figures: Sequence[Figure]) -> TableData:
    """A line for each base, role and method."""
    named = [
        replace(f, method=f"{TITLES.get(f.method, f.method)}, {f.group}, base {f.seed}", group="run", seed=None)
        for f in figures
        if f.seed is not None
    ]
    return build_table(named, metrics=HEADLINE, group="run")


def _runs(figures: Sequence[Figure], group: str) -> str:
    bases = max((f.n for f in figures if f.group == group and f.seed is None), default=0)
    return f"{bases} base models"
