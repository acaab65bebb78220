"""`holdfast compare`: models side by side from what evaluations wrote, with paired differences from a baseline."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.evals.metrics import Dimension, Metric, experiment_of
from holdfast.evals.paired import Line, compared, pair_key
from holdfast.files import check_outputs, write_text
from holdfast.recipes.terminal import count, note, out
from holdfast.report.compare import Grid, differences_grid, to_csv, to_json, to_markdown, to_rich, values_grid
from holdfast.results import Figure, read_figures
from holdfast.samples import Sample, read_samples

SAMPLES, RESULTS = "samples.jsonl", "results.jsonl"

LONGEST = 200  # lines of a table on a terminal; files hold them all

# In the results file for whoever looks deeper; in the table they would say again what the others say.
_ASIDE = ("partial_refusal_rate", "partial_over_refusal_rate", "safe_rate", "invalid_rate", "answered_rate")


@dataclass(frozen=True)
class CompareOptions:
    """The options of `holdfast compare`; the command line documents them."""

    paths: tuple[Path, ...]
    judge: str | None
    by: Dimension
    baseline: str | None
    output: Path | None


@dataclass(frozen=True)
class Subject:
    """One model of one place: its samples, where there are any, and the figures that do not come from them."""

    label: str
    model: str
    place: Path
    argument: Path
    samples: tuple[Sample, ...]
    figures: tuple[Figure, ...]


def compare(options: CompareOptions) -> None:
    """Read, compare, print both tables, and write what was asked for."""
    if options.output is not None and options.output.suffix not in (".md", ".csv", ".json"):
        raise HoldfastError(f"--output {options.output}: the name must end in .md, .csv or .json")
    check_outputs({"--output": options.output})
    subjects = load_subjects(options.paths)
    if len(subjects) == 1:
        note("one model only: name another to compare it with")
    show(subjects, options)


def show(subjects: Sequence[Subject], options: CompareOptions) -> None:
    """Print the tables of what was read, and write what was asked for."""
    baseline = _baseline(subjects, options.baseline)
    _check(subjects, baseline, options.judge)
    lines = comparison_lines(subjects, baseline, options.by, options.judge)
    if not lines:
        raise HoldfastError(
            f"{', '.join(map(str, options.paths))}: no figure to show; try another --by or --judge"
        )
    values = values_grid(lines, [subject.label for subject in subjects])
    differences = differences_grid(lines, baseline.label)
    _print(values)
    if differences.lines:
        _print(differences)
    elif len(subjects) > 1:
        note(_why_nothing_is_paired(subjects, baseline))
    if options.output is not None:
        _write(
            options.output,
            lines,
            baseline.label,
            "\n".join(to_markdown(g) for g in (values, differences) if g.lines),
        )
        note(f"wrote {options.output}")


def load_subjects(paths: Sequence[Path]) -> list[Subject]:
    """Every model in every path, in order; those of one name are told apart by their place."""
    found = [subject for path in paths for subject in _subjects_of(path)]
    places = Counter((subject.model, subject.place) for subject in found)
    for (model, place), times in places.items():
        if times > 1:
            raise HoldfastError(f"{place}: model {model!r} is named twice; name each path once")
    names = Counter(subject.model for subject in found)
    return [
        subject if names[subject.model] == 1 else replace(subject, label=f"{subject.model} ({subject.place})")
        for subject in found
    ]


def comparison_lines(
    subjects: Sequence[Subject], baseline: Subject, by: Dimension, judge: str | None = None
) -> list[Line]:
    """What was judged answer by answer, with differences, and then what there are only figures of."""

    def wanted(metric: Metric) -> bool:
        return _shown(metric.name) and (judge is None or metric.judge in (None, judge))

    answered = {subject.label: subject.samples for subject in subjects if subject.samples}
    lines = compared(answered, baseline.label, by, wanted)
    return lines + [
        Line(replace(figure, method=subject.label))
        for subject in subjects
        for figure in _aggregates(subject)
        if _shown(figure.metric)
        and (judge is None or _judge_of(figure) in (None, judge))
        and (by != "benchmark" or figure.group.startswith(("all", "mean")))
    ]


def _subjects_of(argument: Path) -> Iterator[Subject]:
    """The models of a file, of a directory, or of the directories in it that an evaluation wrote."""
    if argument.is_file():
        by_samples = _holds_samples(argument)
        yield from _models_in(
            argument, argument, argument if by_samples else None, None if by_samples else argument
        )
        return
    if not argument.is_dir():
        raise HoldfastError(f"{argument}: no such file or directory; name what `holdfast eval` wrote")
    places = (
        [argument]
        if _written(argument)
        else sorted({p.parent for n in (SAMPLES, RESULTS) for p in argument.rglob(n)})
    )
    if not places:
        raise HoldfastError(
            f"{argument}: there is no {SAMPLES} and no {RESULTS} in it; name what `holdfast eval` wrote"
        )
    for place in places:
        samples, results = place / SAMPLES, place / RESULTS
        yield from _models_in(
            argument, place, samples if samples.is_file() else None, results if results.is_file() else None
        )


def _written(place: Path) -> bool:
    return (place / SAMPLES).is_file() or (place / RESULTS).is_file()


def _holds_samples(path: Path) -> bool:
    """Whether the file's first line is a sample's; HoldfastError where it is no figure's either."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline()
    try:
        record = json.loads(first)
    except ValueError:
        record = None
    if isinstance(record, dict) and "completion" in record:
        return True
    if isinstance(record, dict) and "metric" in record:
        return False
    raise HoldfastError(f"{path}:1: neither a line of samples nor of results; name what `holdfast eval` wrote")


def _models_in(
    argument: Path, place: Path, samples_path: Path | None, results_path: Path | None
) -> Iterator[Subject]:
    samples = list(read_samples(samples_path)) if samples_path else []
    figures = list(read_figures(results_path)) if results_path else []
    if not samples and not figures:
        raise HoldfastError(f"{place}: nothing was measured here; evaluate again, or leave it out")
    _check_answered_once(samples, place)
    recomputed = {(sample.model, experiment_of(sample)) for sample in samples}
    models = dict.fromkeys([*(sample.model for sample in samples), *(figure.method for figure in figures)])
    for model in models:
        yield Subject(
            label=model,
            model=model,
            place=place,
            argument=argument,
            samples=tuple(sample for sample in samples if sample.model == model),
            figures=tuple(f for f in figures if f.method == model and (model, f.experiment) not in recomputed),
        )


def _check_answered_once(samples: Iterable[Sample], place: Path) -> None:
    seen = set()
    for sample in samples:
        key = (sample.model, pair_key(sample))
        if key in seen:
            raise HoldfastError(
                f"{place}: model {sample.model!r} has two answers to one prompt of {sample.benchmark} under seed "
                f"{sample.seed}; two runs are mixed, so evaluate into separate directories"
            )
        seen.add(key)


def _baseline(subjects: Sequence[Subject], name: str | None) -> Subject:
    if name is None:
        return subjects[0]
    for subject in subjects:
        if name in (subject.label, subject.model) or Path(name) in (subject.place, subject.argument):
            return subject
    labels = ", ".join(subject.label for subject in subjects)
    raise HoldfastError(f"--baseline {name}: no such model here; there are {labels}")


def _check(subjects: Sequence[Subject], baseline: Subject, judge: str | None) -> None:
    judges = dict.fromkeys(
        [
            *(name for subject in subjects for sample in subject.samples for name in sample.judgements),
            *(name for subject in subjects for figure in subject.figures if (name := _judge_of(figure))),
        ]
    )
    if judge is not None and judge not in judges:
        there = f"there are {', '.join(judges)}" if judges else "none was used"
        raise HoldfastError(f"--judge {judge}: no answer was judged by it; {there}")
    asked = {pair_key(sample) for sample in baseline.samples}
    for subject in subjects:
        if subject is baseline or not asked or not subject.samples:
            continue
        if asked.isdisjoint(map(pair_key, subject.samples)):
            raise HoldfastError(
                f"{subject.label} and the baseline {baseline.label} have no prompt in common ({_asked(subject)} and "
                f"{_asked(baseline)}); evaluate both on the same benchmarks and seeds"
            )


def _asked(subject: Subject) -> str:
    return ", ".join(dict.fromkeys(experiment_of(sample).removeprefix("eval/") for sample in subject.samples))


def _aggregates(subject: Subject) -> Iterator[Figure]:
    """One figure for each experiment, group and metric: the aggregate, or the only seed's; else it is left out."""
    found: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in subject.figures:
        found.setdefault((figure.experiment, figure.group, figure.metric), []).append(figure)
    left_out = 0
    for figures in found.values():
        aggregates = [figure for figure in figures if figure.seed is None] or figures
        if len(aggregates) == 1:
            yield aggregates[0]
        else:
            left_out += 1
    if left_out:
        note(
            f"{subject.place}: {subject.label}: {count(left_out, 'figure')} left out: several seeds, no aggregate"
        )


def _shown(metric: str) -> bool:
    return metric.partition("[")[0] not in _ASIDE and not metric.startswith("judge_")


def _judge_of(figure: Figure) -> str | None:
    name, _, judge = figure.metric.partition("[")
    return judge.removesuffix("]") if judge and not name.startswith("judge_") else None


def _why_nothing_is_paired(subjects: Sequence[Subject], baseline: Subject) -> str:
    if not baseline.samples or not any(s.samples for s in subjects if s is not baseline):
        return f"figures without their answers ({SAMPLES}): nothing can be paired, so there are no p values"
    return "no answer was scored for both a model and the baseline: nothing can be paired"


def _print(grid: Grid) -> None:
    out.print(to_rich(replace(grid, lines=grid.lines[:LONGEST])))
    if (more := len(grid.lines) - LONGEST) > 0:
        note(f"{count(more, 'more line')}: write all of them with --output, or show less with --by or --judge")


def _write(path: Path, lines: Sequence[Line], baseline: str, markdown: str) -> None:
    if path.suffix == ".md":
        text = markdown
    else:
        text = to_csv(lines, baseline) if path.suffix == ".csv" else to_json(lines, baseline)
    write_text(path, text)
