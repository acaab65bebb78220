"""`holdfast judge`: verdicts on completions that exist, and how far judges agree with each other and with people."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from holdfast.data.files import shortened
from holdfast.data.names import is_name
from holdfast.errors import HoldfastError
from holdfast.evals.journal import Journal
from holdfast.evals.judges.base import Exchange, Judge
from holdfast.evals.judges.classifier import ClassifierJudge, Reads, truncated
from holdfast.evals.judges.guard import Controversial
from holdfast.evals.judges.labels import family, parse_label_map, verdict_of_label
from holdfast.evals.judges.spec import JudgeSettings, make_judge
from holdfast.evals.judging import judge_all
from holdfast.files import check_outputs, is_written_through
from holdfast.recipes.judge_report import Judged, agreement_table, figures, label_tables, mistakes, rate_table
from holdfast.recipes.judged_file import CompletionsFile, read_completions, write_completions
from holdfast.recipes.terminal import count, note, out, progress_bar
from holdfast.results import write_figures
from holdfast.samples import Judgement, Verdict


@dataclass(frozen=True)
class JudgeOptions:
    """The options of `holdfast judge`; the command line documents them."""

    file: Path
    prompt_column: str
    completion_column: str
    judges: tuple[str, ...] = ("keyword",)
    label_column: str | None = None
    label_map: tuple[str, ...] = ()
    language_column: str | None = None
    output: Path | None = None
    results: Path | None = None
    show_text: bool = False
    max_connections: int = 8
    max_new_tokens: int = 512
    max_retries: int = 5
    attempt_timeout: int = 120
    base_url: str | None = None
    controversial: Controversial = "unsafe"
    classifier_labels: tuple[str, ...] = ()
    classifier_reads: Reads = "completion"
    batch_size: int = 16
    trust_remote_code: bool = False


def judge(options: JudgeOptions) -> bool:
    """Judge, write the file with its verdicts and the figures, print rates and agreement.

    Return whether every judge scored a row.
    """
    file = read_completions(options.file)
    exchanges = _exchanges(file, options)
    labels = _labels(file, options)
    output = _output(options)
    check_outputs({"--output": output, "--results": options.results}, inputs=(options.file, *options.judges))
    judges = _judges(options)
    columns = _columns([judge.name for judge in judges], file)

    # Judge by judge, and each is let go of when it is done: two local models need not be in memory at once.
    journal = Journal.beside(output)
    judgements: dict[str, list[Judgement]] = {}
    with journal:
        while judges:
            each = judges.pop(0)
            with progress_bar(f"judging: {each.name}") as show:
                judgements[each.name] = asyncio.run(judge_all(each, exchanges, journal, show))
            _report_truncation(each, judgements[each.name])
    added: dict[str, list[str | None]] = {}
    for name, given in judgements.items():
        verdict, reason, raw = columns[name]
        added[verdict] = [judgement.verdict for judgement in given]
        added[reason] = [judgement.reason for judgement in given]
        added[raw] = [judgement.raw for judgement in given]
    write_completions(file, output, added)
    note(f"wrote {output}")

    judged = Judged(options.file, file.places, exchanges, judgements, labels)
    if options.results is not None:
        write_figures(options.results, figures(judged))
        note(f"wrote {options.results}")
    _close(journal, judgements)
    _print(judged, options)
    silent = [name for name, given in judgements.items() if all(each.verdict == "unscored" for each in given)]
    for name in silent:
        note(f"{name}: failed: could score no completion; its rates say nothing")
    return not silent


def _exchanges(file: CompletionsFile, options: JudgeOptions) -> list[Exchange | None]:
    """What is judged; None where there is no completion. A prompt may be empty, as some rows have none to show."""
    prompts = file.texts(options.prompt_column, "--prompt-column")
    completions = file.texts(options.completion_column, "--completion-column")
    languages: list[str | None] = [None] * len(prompts)
    if options.language_column is not None:
        languages = [text or None for text in file.texts(options.language_column, "--language-column")]
    rows = zip(prompts, completions, languages, strict=True)
    return [
        None if completion is None else Exchange(prompt or "", completion, lang)
        for prompt, completion, lang in rows
    ]


def _labels(file: CompletionsFile, options: JudgeOptions) -> list[Verdict | None] | None:
    """People's verdicts, None for rows without one; None where no column is named."""
    mapping = parse_label_map(options.label_map)
    column = options.label_column
    if column is None:
        return None
    labels: list[Verdict | None] = []
    for place, text in zip(file.places, file.texts(column, "--label-column"), strict=True):
        verdict = verdict_of_label(text, mapping) if text and text.strip() else None
        if verdict is None and text and text.strip():
            example = text if is_name(text) else "LABEL"
            raise HoldfastError(
                f"{place}: field {column} is {shortened(text)}, which is no known label; say what it means with "
                f"--label-map '{example}=unsafe' (or safe, invalid, refusal, partial_refusal, compliance)"
            )
        labels.append(verdict)
    if family(label for label in labels if label) is None:
        raise HoldfastError(
            f"{file.path}: field {column} has labels of refusal and of safety; map them to one kind with --label-map"
        )
    return labels


def _judges(options: JudgeOptions) -> list[Judge]:
    specs = options.judges or ("keyword",)
    repeated = [spec for spec, times in Counter(specs).items() if times > 1]
    if repeated:
        raise HoldfastError(f"--judge {repeated[0]}: is given twice; a judge agrees with itself, so give it once")
    settings = JudgeSettings(
        max_connections=options.max_connections,
        max_new_tokens=options.max_new_tokens,
        max_retries=options.max_retries,
        attempt_timeout=options.attempt_timeout,
        base_url=options.base_url,
        controversial=options.controversial,
        classifier_labels=options.classifier_labels,
        classifier_reads=options.classifier_reads,
        batch_size=options.batch_size,
        trust_remote_code=options.trust_remote_code,
    )
    return [make_judge(spec, settings) for spec in specs]


def _output(options: JudgeOptions) -> Path:
    file = options.file
    output = options.output or file.with_name(f"{file.stem}.judged{file.suffix}")
    if not is_written_through(output) and output.suffix.lower() != file.suffix.lower():
        raise HoldfastError(f"--output {output}: the file is written as it was read; name it *{file.suffix}")
    if output.resolve() == file.resolve():
        raise HoldfastError(
            f"--output {output}: is the file that is judged; name another, so that it stays as it is"
        )
    return output


def _columns(names: Sequence[str], file: CompletionsFile) -> dict[str, tuple[str, str, str]]:
    """The three columns of each judge, by its name; where two names would give the same, those are numbered."""
    columns: dict[str, tuple[str, str, str]] = {}
    used: Counter[str] = Counter()
    for name in names:
        short = re.sub(r"[^\w.-]+", "_", name).strip("_")
        used[short] += 1
        short += f"_{used[short]}" if used[short] > 1 else ""
        columns[name] = (f"verdict_{short}", f"reason_{short}", f"raw_{short}")
    taken = [column for three in columns.values() for column in three if column in file.columns]
    if taken:
        raise HoldfastError(
            f"{file.path}: has a column {taken[0]} already, from an earlier run; judge the original file, or rename it"
        )
    return columns


def _print(judged: Judged, options: JudgeOptions) -> None:
    out.print(rate_table(judged, by_language=options.language_column is not None))
    if len(judged.judgements) > 1:
        out.print(agreement_table(judged))
    if judged.labels is not None:
        for table in label_tables(judged):
            out.print(table)
        for line in mistakes(judged, options.show_text):
            out.print(line, soft_wrap=True)
    for name, judgements in judged.judgements.items():
        failures = Counter(
            given.raw or "no reason given" for given in judgements if given.reason == "judge failed"
        )
        for what, number in failures.most_common(3):
            note(f"{name}: {count(number, 'judgement')} failed: {what}")


def _report_truncation(judge: Judge, judgements: Sequence[Judgement]) -> None:
    if isinstance(judge, ClassifierJudge) and (cut := truncated(judgements)):
        note(f"{judge.name}: {count(cut, 'text')} longer than the classifier reads; the rest of each was left out")


def _close(journal: Journal, judgements: dict[str, list[Judgement]]) -> None:
    """The side file has served, unless there is something left to try again."""
    failed = sum(given.reason == "judge failed" for each in judgements.values() for given in each)
    if failed:
        note(
            f"{count(failed, 'judgement')} failed; run the same command again, and only what failed is asked again"
        )
    else:
        journal.remove()
