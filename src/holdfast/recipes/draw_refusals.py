"""`holdfast draw-refusals`: the aligned model's own refusals (or its answers) as training rows, for other methods.

A benchmark's prompts are asked, a judge reads the answers, and those of the wanted kind become conversations that
`load_role_rows` reads. No text is printed. Killed, the same command continues.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from holdfast.errors import HoldfastError
from holdfast.evals.answering import answer_all
from holdfast.evals.benchmarks import Benchmark, BenchmarkOptions, find_benchmark
from holdfast.evals.generation import BatchLimits
from holdfast.evals.journal import Journal
from holdfast.evals.judges.base import Exchange, Judge
from holdfast.evals.judges.spec import JudgeSettings, make_judge
from holdfast.evals.judging import judge_all
from holdfast.evals.local_responder import LocalModels, LocalResponder
from holdfast.evals.model_names import identity_of, in_process_name
from holdfast.evals.requests import Request, build_requests
from holdfast.evals.responders import Answer, Decoding
from holdfast.files import check_outputs, is_written_through, write_json_lines
from holdfast.models import DType
from holdfast.recipes.terminal import count, note, progress_bar, warn_of_unknown_tokens
from holdfast.samples import Judgement, Verdict
from holdfast.templates import read_template

Keep = Literal["refusals", "answers"]
AskedKind = Literal["harmful", "benign"]

_KEPT_VERDICT: dict[Keep, Verdict] = {"refusals": "refusal", "answers": "compliance"}
_SAID: dict[Verdict, str] = {
    "refusal": "refused",
    "partial_refusal": "refused in part",
    "compliance": "answered",
    "unscored": "unscored",
}


@dataclass(frozen=True)
class DrawRefusalsOptions:
    """What `holdfast draw-refusals` was asked for; the command line explains the options."""

    model: str
    benchmark: str
    output: Path
    keep: Keep = "refusals"
    data: Path | None = None
    languages: tuple[str, ...] = ()
    kind: AskedKind = "harmful"
    prompt_column: str = "prompt"
    skip: int = 0
    limit: int | None = None
    judge: str = "keyword"
    max_new_tokens: int = 128
    batch_size: int = 64
    dtype: DType = "auto"
    quantise_4bit: bool = False
    chat_template: Path | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class _Drawn:
    """One prompt with its answer and what the judge said of it."""

    request: Request
    answer: Answer
    judgement: Judgement


def draw_refusals(options: DrawRefusalsOptions) -> None:
    """Ask, judge, keep, write. Everything that can be wrong in what was asked is told before a model loads."""
    _check_output(options)
    name = _local_name(options.model)
    judge = _refusal_judge(options)
    benchmark = find_benchmark(options.benchmark)
    requests = _requests(benchmark, options)

    with Journal.beside(options.output) as journal:
        drawn = asyncio.run(_draw(name, judge, requests, journal, options))
    kept = [row for row in drawn if _is_kept(row, options.keep)]
    _report(benchmark.name, drawn, kept, options)
    if not kept:
        raise HoldfastError(
            f"{options.model}: none of {count(len(drawn), 'answer')} could be kept, so nothing was written; "
            "try more prompts, a larger --max-new-tokens, or another --judge"
        )
    write_json_lines(options.output, (_record(row, options) for row in kept))
    note(f"wrote {count(len(kept), 'row')} to {options.output}")
    _warn_of_evaluation(benchmark.name, kept, options)
    if all(row.answer.text is not None and row.judgement.reason != "judge failed" for row in drawn):
        journal.remove()  # it has served, unless there is something left to try again
    else:
        note("some answers or judgements failed; run the same command again, and only what failed is asked again")


# -- what was asked


def _check_output(options: DrawRefusalsOptions) -> None:
    path = options.output
    if not is_written_through(path) and path.suffix.lower() not in (".jsonl", ".ndjson"):
        raise HoldfastError(f"{path}: the rows are JSON lines; name a .jsonl file with --output")
    read = (options.model, options.benchmark, options.data, options.judge, options.chat_template)
    check_outputs({"--output": path}, inputs=read)


def _local_name(model: str) -> str:
    name = in_process_name(model)
    if name is None:
        raise HoldfastError(
            f"--model {model}: a provider's model cannot be trained here, so its answers are not its own safety data; "
            "give a directory or a hub id (hf/OWNER/NAME)"
        )
    return name


def _refusal_judge(options: DrawRefusalsOptions) -> Judge:
    judge = make_judge(options.judge, JudgeSettings(trust_remote_code=options.trust_remote_code))
    if "refusal" not in judge.verdicts:
        raise HoldfastError(
            f"--judge {options.judge}: says whether an answer is safe, not whether it refuses; "
            "choose keyword, advbench or refusal:MODEL"
        )
    return judge


def _requests(benchmark: Benchmark, options: DrawRefusalsOptions) -> list[Request]:
    """The benchmark's prompts after the first `skip`, at most `limit` of them, of the wanted kind.

    Prompts are counted as `holdfast eval --limit` counts them, so that what is skipped here is what it asks there.
    """
    wanted = BenchmarkOptions(
        data=options.data,
        languages=options.languages or None,
        limit=None if options.limit is None else options.skip + options.limit,
        prompt_column=options.prompt_column,
        kind=options.kind,
    )
    prompts = benchmark.load(wanted)
    if options.skip:
        skipped = {prompt.id for prompt in benchmark.load(replace(wanted, limit=options.skip))}
        prompts = [prompt for prompt in prompts if prompt.id not in skipped]
    if not prompts:
        raise HoldfastError(f"{benchmark.name}: --skip {options.skip} leaves no prompt; skip fewer")
    prompts = [prompt for prompt in prompts if prompt.kind == options.kind]
    if not prompts:
        raise HoldfastError(f"{benchmark.name}: none of these prompts is {options.kind}; choose another --kind")
    return build_requests(benchmark.name, prompts)


# -- asking and judging


async def _draw(
    name: str, judge: Judge, requests: Sequence[Request], journal: Journal, options: DrawRefusalsOptions
) -> list[_Drawn]:
    template = "" if options.chat_template is None else read_template(options.chat_template)
    identity = f"{identity_of(name)} {options.dtype} {options.quantise_4bit} {template}"
    decoding = Decoding(options.max_new_tokens)
    with progress_bar("answers") as show:
        opened = partial(_opened, name, requests, options)
        answers = await answer_all(opened, identity, requests, decoding, journal, show)
    exchanges = [
        None if answer.text is None else Exchange(request.prompt.text, answer.text, request.prompt.language)
        for request, answer in zip(requests, answers, strict=True)
    ]
    with progress_bar(f"judging: {judge.name}") as show:
        judgements = await judge_all(judge, exchanges, journal, show)
    return [_Drawn(*drawn) for drawn in zip(requests, answers, judgements, strict=True)]


def _opened(name: str, requests: Sequence[Request], options: DrawRefusalsOptions) -> LocalResponder:
    models = LocalModels(
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        quantise_4bit=options.quantise_4bit,
        chat_template=options.chat_template,
        limits=BatchLimits(rows=options.batch_size),
    )
    responder = models.responder(name)
    warn_of_unknown_tokens(responder.chat, (request.messages for request in requests[:200]))
    return responder


def _is_kept(row: _Drawn, keep: Keep) -> bool:
    # An answer that was cut would teach the model to end its turn in the middle of a sentence.
    return row.judgement.verdict == _KEPT_VERDICT[keep] and not row.answer.cut


# -- what is written and said


def _record(row: _Drawn, options: DrawRefusalsOptions) -> dict[str, Any]:
    """A chat row with where it comes from; `load_role_rows` ignores what it does not know."""
    prompt = row.request.prompt
    origin = {
        "source": row.request.benchmark,
        "id": prompt.id,
        "kind": prompt.kind,
        "language": prompt.language,
        "category": prompt.category,
        "model": options.model,
        "judge": options.judge,
        "verdict": row.judgement.verdict,
    }
    turns = [
        {"role": "user", "content": row.request.sent},
        {"role": "assistant", "content": row.answer.text},
    ]
    return {"messages": turns} | {field: value for field, value in origin.items() if value is not None}


def _report(benchmark: str, drawn: Sequence[_Drawn], kept: Sequence[_Drawn], options: DrawRefusalsOptions) -> None:
    verdicts = Counter(row.judgement.verdict for row in drawn)
    said = ", ".join(f"{verdicts[verdict]:,} {word}" for verdict, word in _SAID.items() if verdicts[verdict])
    cut = sum(row.answer.cut and row.judgement.verdict == _KEPT_VERDICT[options.keep] for row in drawn)
    note(f"{benchmark}: kept {len(kept):,} of {count(len(drawn), 'answer')} as {options.keep} ({said})")
    if cut:
        note(
            f"{benchmark}: {count(cut, 'answer')} of that kind left out, cut at {options.max_new_tokens} tokens "
            "(raise --max-new-tokens)"
        )
    errors = Counter(row.answer.error for row in drawn if row.answer.text is None)
    for error, times in errors.most_common(3):
        note(f"{benchmark}: {count(times, 'answer')} never came ({error})")


def _warn_of_evaluation(benchmark: str, kept: Sequence[_Drawn], options: DrawRefusalsOptions) -> None:
    """Which prompts are training data now, and how to evaluate on others."""
    ids = id_ranges([row.request.prompt.id for row in kept])
    shown = ", ".join(ids[:40]) + (f", and {len(ids) - 40:,} more in the file's field id" if len(ids) > 40 else "")
    note(f"warning: a model trained on these rows must not be evaluated on their prompts: {benchmark} {shown}")
    if options.skip:
        language = "".join(f" --language {code}" for code in options.languages)
        note(
            f"`holdfast eval --benchmarks {options.benchmark}{language} --limit {options.skip}` asks none of them"
        )
    else:
        note("to leave prompts for the evaluation: --skip N here, and --limit N in `holdfast eval`")


def id_ranges(ids: Sequence[str]) -> list[str]:
    """The ids with runs of consecutive numbers as `first-last`: 0, 1, 2, 7 is `0-2`, `7`."""
    numbered = sorted(int(name) for name in ids if name.isascii() and name.isdigit())
    ranges = []
    for _, run in groupby(enumerate(numbered), key=lambda item: item[1] - item[0]):
        numbers = [number for _, number in run]
        ranges.append(f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else str(numbers[0]))
    return ranges + [name for name in ids if not (name.isascii() and name.isdigit())]
