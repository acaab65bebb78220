"""Tables and page of the MPO experiment, made from its figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from holdfast.provingground.languages.alignment import Noise
from holdfast.report import Column, Section, TableData, build_table, pivoted, write_report
from holdfast.report.plots import figure_bars, scatter
from holdfast.results import Figure

METHODS = {
    "base": "aligned model",
    "mpo": "MPO",
    "sft": "SFT on safe answers",
    "dpo": "DPO",
    "ipo": "IPO",
    "robust_dpo": "robust DPO",
    "cpo": "CPO",
    "kto": "KTO",
    "orpo": "ORPO",
    "r_dpo": "R-DPO",
    "simpo": "SimPO",
    "mpo_no_retention": "MPO without L2",
    "mpo_mean": "MPO, L2 over answers",
    "mpo_padded_mean": "MPO, L2 as published",
    "mpo_sums": "MPO, summed log-probabilities",
    "mpo_dpo_gap": "MPO, gap relative to reference",
    "mpo_huber": "MPO, Huber",
    "mpo_one_sided": "MPO, one-sided",
    "mpo_retention_16": "MPO, L2 x 16",
    "mpo_benign": "MPO, L2 x 16, benign prompts held",
    "mpo_benign_one_sided": "the same, one-sided",
    "mpo_benign_huber": "MPO, Huber, L2 x 16, benign prompts held",
}
LANGUAGES = {"en": "English", "zh": "Chinese", "ko": "Korean", "ar": "Arabic", "bn": "Bengali", "sw": "Swahili"}
NOISES: dict[Noise, str] = {"clean": "clean pairs", "published": "pairs as noisy as the published ones"}
DOMINANT, TARGETS = "en", "mean_target"
HEADLINE = (
    Column("attack_success_rate", "attack success", False),
    Column("over_refusal_rate", "over-refusal", False),
    Column("exact_match_benign", "benign, exact match", True),
    Column("combined_error", "combined error", False),
    Column("same_language_rate", "answers in the language", True),
    Column("reward_gap", "reward gap"),
)
RETENTION = HEADLINE[:4]
CAPTION = "95 % intervals, Student's t over base models (one alone has none); ↑ higher is better, ↓ lower"


def experiment(noise: Noise) -> str:
    """The figures' `experiment` for a kind of pairs."""
    return f"proving_ground_mpo_{noise}"


def split_by_rate(figures: Sequence[Figure]) -> tuple[list[Figure], list[Figure]]:
    """Methods at their chosen learning rates, and methods at every rate (named `method @ rate`)."""
    return [f for f in figures if " @ " not in f.method], [f for f in figures if " @ " in f.method]


def headline_table(
    figures: Sequence[Figure], noise: Noise, group: str, columns: Sequence[Column] = HEADLINE
) -> TableData:
    """Safety, over-refusal and utility side by side: none of them is read alone."""
    return build_table(
        figures, metrics=columns, experiment=experiment(noise), group=group, labels=METHODS, caption=CAPTION
    )


def language_table(figures: Sequence[Figure], noise: Noise, metric: str, better: bool | None) -> TableData:
    """One metric: a line a method, a column a language."""
    columns = tuple(Column(code, name, better) for code, name in LANGUAGES.items())
    return build_table(
        pivoted(figures, metric), metrics=columns, experiment=experiment(noise), group=None, labels=METHODS
    )


def write_page(path: Path, figures: Sequence[Figure], *, title: str, intro: Sequence[str]) -> None:
    """The self-contained page."""
    compared, at_a_rate = split_by_rate(figures)
    sections = []
    for noise in NOISES:
        if any(f.experiment == experiment(noise) for f in compared):
            sections += _sections(compared, noise)
        if any(f.experiment == experiment(noise) for f in at_a_rate):
            sections.append(_frontier_section(at_a_rate, noise))
    write_report(path, title=title, intro=intro, sections=sections)


def _sections(figures: Sequence[Figure], noise: Noise) -> list[Section]:
    pairs = NOISES[noise]
    return [
        Section(
            f"Target languages, {pairs}",
            (
                "Means over Chinese, Korean, Arabic, Bengali and Swahili. A model that refuses everything has no "
                "attack success and full over-refusal, one that talks nonsense neither: so they are read together. The "
                "combined error is attack success plus the share of benign requests that are not answered word for "
                "word; learning rates were chosen by it, on other base models and other prompts.",
            ),
            table=headline_table(figures, noise, TARGETS),
            plots=(tradeoff_plot(figures, noise), language_plot(figures, noise)),
        ),
        Section(
            f"English, the dominant language, {pairs}",
            ("What every method must leave as it was.",),
            table=headline_table(figures, noise, DOMINANT, RETENTION),
        ),
        Section(
            f"Language by language, {pairs}",
            ("Attack success rate.",),
            table=language_table(figures, noise, "attack_success_rate", False),
        ),
        Section(
            f"Over-refusal by language, {pairs}",
            table=language_table(figures, noise, "over_refusal_rate", False),
        ),
        Section(
            f"Reward gap by language, {pairs}",
            ("On held-out requests. Each point below is a language under a method.",),
            table=language_table(figures, noise, "reward_gap", None),
            plots=(gap_plot(figures, noise),),
        ),
    ]


def _frontier_section(figures: Sequence[Figure], noise: Noise) -> Section:
    return Section(
        f"Every learning rate, {NOISES[noise]}",
        (
            "The same methods at each learning rate of the grid; a method's rate with the lowest combined error is "
            "labelled. Frontiers can be compared where single points cannot.",
        ),
        table=headline_table(figures, noise, TARGETS),
        plots=(frontier_plot(figures, noise),),
    )


def language_plot(figures: Sequence[Figure], noise: Noise) -> Markup:
    """Attack success as bars, a cluster a language."""
    shown = ("base", "mpo", "sft", "dpo", "ipo", "simpo")  # the tables have them all
    chosen = _aggregates(figures, noise, "attack_success_rate")
    cells = [[chosen.get((method, language)) for language in LANGUAGES] for method in shown]
    return figure_bars(
        list(LANGUAGES.values()),
        [METHODS[method] for method in shown],
        cells,
        "attack success rate",
        "Attack success by language",
    )


def tradeoff_plot(
    figures: Sequence[Figure],
    noise: Noise,
    labels: Mapping[str, str] = METHODS,
    title: str = "Attack success against over-refusal, target languages",
) -> Markup:
    """Attack success against over-refusal in the target languages; the lower left corner is best."""
    success = _aggregates(figures, noise, "attack_success_rate")
    refusal = _aggregates(figures, noise, "over_refusal_rate")
    shown = [method for method, group in success if group == TARGETS]
    return scatter(
        [(refusal[method, TARGETS].value, success[method, TARGETS].value) for method in shown],
        [labels.get(method, method) for method in shown],
        "over-refusal rate",
        "attack success rate",
        title,
    )


def frontier_plot(figures: Sequence[Figure], noise: Noise) -> Markup:
    """The same for every learning rate; only a method's best rate is labelled with its name."""
    cost = _aggregates(figures, noise, "combined_error")
    best: dict[str, tuple[float, str]] = {}
    for method, group in cost:
        if group == TARGETS:
            name = method.partition(" @ ")[0]
            best[name] = min(best.get(name, (3.0, "")), (cost[method, group].value, method))
    named = {method: METHODS.get(name, name) for name, (_, method) in best.items()}
    labels = {method: named.get(method, "") for method, _ in cost}
    return tradeoff_plot(figures, noise, labels, "Attack success against over-refusal, every rate")


def gap_plot(figures: Sequence[Figure], noise: Noise) -> Markup:
    """Reward gap against attack success, one point a language and method."""
    gaps = _aggregates(figures, noise, "reward_gap")
    success = _aggregates(figures, noise, "attack_success_rate")
    points = [key for key in gaps if key in success and key[1] in LANGUAGES]
    return scatter(
        [(gaps[key].value, success[key].value) for key in points],
        [f"{key[1]}" if key[0] == "base" else "" for key in points],
        "reward gap, nats a token",
        "attack success rate",
        "Reward gap against attack success; labelled: the aligned model",
    )


def _aggregates(figures: Sequence[Figure], noise: Noise, metric: str) -> dict[tuple[str, str], Figure]:
    return {
        (f.method, f.group): f
        for f in figures
        if f.experiment == experiment(noise) and f.metric == metric and f.seed is None
    }
