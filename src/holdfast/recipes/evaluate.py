"""`holdfast eval`: any model on the papers' benchmarks, judged, with intervals; killed, it continues."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.text import Text

from holdfast.data.roles import find_role, load_roles
from holdfast.decoding import Defence, find_defence
from holdfast.errors import HoldfastError
from holdfast.evals.benchmarks import Benchmark, BenchmarkOptions, find_benchmark
from holdfast.evals.journal import digest_of
from holdfast.evals.judges.base import Judge
from holdfast.evals.judges.guard import Controversial
from holdfast.evals.judges.spec import JudgeSettings, make_judge
from holdfast.evals.metrics import ALL, Dimension
from holdfast.evals.model_names import identity_of, in_process_name
from holdfast.evals.requests import Request, SystemText, build_requests, own_persona
from holdfast.evals.responders import Answer, Decoding, Responder
from holdfast.evals.wrappers import Wrapper, find_wrapper
from holdfast.files import check_output_directory, locked
from holdfast.models import DType
from holdfast.recipes.compare import CompareOptions, load_subjects, show
from holdfast.recipes.terminal import count, err, note, out, progress_bar, warn_of_unknown_tokens
from holdfast.report.terminal import redact
from holdfast.results import Figure, read_figures, write_figures
from holdfast.samples import Kind, Prompt, Sample
from holdfast.templates import read_template

if TYPE_CHECKING:
    from holdfast.evals.evaluation import Decode, ModelEvaluation
    from holdfast.evals.inspect_eval import ProviderSettings
    from holdfast.evals.local_responder import LocalModels

UNWRAPPED = "none"
"""Among wrappers: the prompts as they are."""


@dataclass(frozen=True)
class EvaluateOptions:
    """What `holdfast eval` was asked for; the command line explains the options."""

    models: tuple[str, ...]
    benchmarks: tuple[str, ...]
    output_dir: Path
    data: Path | None = None
    languages: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    role: Path | None = None
    role_names: tuple[str, ...] = ()
    system_prompt: str | None = None
    prompt_column: str = "prompt"
    kind: Kind | None = None
    wrappers: tuple[str, ...] = (UNWRAPPED,)
    judges: tuple[str, ...] = ("keyword",)
    limit: int | None = None
    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    samples: int = 1
    defence: str | None = None
    defence_alpha: float | None = None
    defence_expert: str | None = None
    defence_safe_prompt: str | None = None
    defence_reverse_prompt: str | None = None
    utility: tuple[str, ...] = ()
    utility_limit: int | None = None
    by: Dimension = "benchmark"
    examples: int = 0
    show_text: bool = False
    batch_size: int = 64
    dtype: DType = "auto"
    quantise_4bit: bool = False
    chat_template: Path | None = None
    trust_remote_code: bool = False
    base_url: str | None = None
    max_connections: int = 10
    judge_base_url: str | None = None
    controversial: Controversial = "unsafe"
    classifier_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Model:
    """A model under test; `in_process` is its directory or hub id, None for a provider's."""

    label: str
    spec: str
    in_process: str | None


def evaluate(options: EvaluateOptions) -> bool:
    """Answer, judge, write and print; return whether every model has a scored answer, where answers were asked for.

    Everything that can be wrong in what was asked is told before a model loads.
    """
    _require_inspect()
    from holdfast.evals.evaluation import ModelEvaluation

    _check(options)
    defence = _defence(options)
    models = _models(options.models, defence)
    _check_utility(options, models)
    _check_defence(defence, models)
    wrappers = {name: None if name == UNWRAPPED else find_wrapper(name) for name in options.wrappers}
    judges = _judges(options)
    requests = _requests(options, list(wrappers.values()))
    decoding = Decoding(options.max_new_tokens, options.temperature, options.top_p, defence=defence)
    note(
        f"{count(len(requests), 'prompt')} for each of {count(len(models), 'model')}; Ctrl-C is safe, it continues"
    )

    runs = {model: ModelEvaluation(options.output_dir, model.label, requests, decoding) for model in models}
    with ExitStack() as held:
        for run in runs.values():
            held.enter_context(locked(run.place, "model's evaluation"))
        return _evaluated(runs, judges, wrappers, options)


def _evaluated(
    runs: "dict[_Model, ModelEvaluation]",
    judges: Sequence[Judge],
    wrappers: dict[str, Wrapper | None],
    options: EvaluateOptions,
) -> bool:
    """Answer, judge, write and print; whether every model has an answer that was scored."""
    answers = _answers(runs, options)
    empty = []
    for model, run in runs.items():
        samples = anyio.run(run.judge, answers[model], judges, _decoder(wrappers), progress_bar)
        run.write(samples, _utility(model, run.place, options))
        _print_examples(model.label, samples, options)
        if samples and not any(map(_is_scored, samples)):
            empty.append(model.label)
    places = tuple(run.place for run in runs.values())
    table = CompareOptions(places, None, options.by, next(iter(runs)).label, options.output_dir / "table.md")
    show(load_subjects(places), table)
    for place in places:
        _print_agreement(place)
    note(f"samples and figures are in {options.output_dir}; inspect view --log-dir {options.output_dir / 'logs'}")
    for label in empty:
        note(f"{label}: failed: none of its answers could be scored; its rates say nothing")
    return not empty


def _is_scored(sample: Sample) -> bool:
    return bool(sample.scores) or any(given.verdict != "unscored" for given in sample.judgements.values())


# -- what was asked


def _check(options: EvaluateOptions) -> None:
    if options.samples > 1 and options.temperature == 0:
        raise HoldfastError("--samples: several greedy answers are one answer; give --temperature above 0")
    if options.role is not None and options.system_prompt is not None:
        raise HoldfastError("--role and --system-prompt both give a system text; choose one")
    check_output_directory(options.output_dir)
    if not options.benchmarks and not options.utility:
        raise HoldfastError("nothing to measure; name --benchmarks, or --utility tasks")


def _check_utility(options: EvaluateOptions, models: Sequence[_Model]) -> None:
    if not options.utility:
        return
    if options.defence is not None:
        raise HoldfastError("--utility measures a model without its --defence; run it in a command of its own")
    if any(model.in_process is None for model in models):
        raise HoldfastError("--utility measures models in this process; leave providers' models out, or --utility")
    if find_spec("lm_eval") is None:  # now, not after hours of answers
        raise HoldfastError("--utility needs lm-evaluation-harness; run: pip install 'holdfast[utility]'")


def _defence(options: EvaluateOptions) -> Defence | None:
    """The defence asked for; its expert, where it has one, as this process loads it."""
    if options.defence is None:
        settings = ("defence_alpha", "defence_expert", "defence_safe_prompt", "defence_reverse_prompt")
        for name in settings:
            if getattr(options, name) is not None:
                raise HoldfastError(f"--{name.replace('_', '-')} belongs to a defence; name it with --defence")
        return None
    expert = options.defence_expert
    if expert is not None:
        expert = in_process_name(expert)
        if expert is None:
            raise HoldfastError(f"--defence-expert {options.defence_expert}: a provider's logits are out of reach")
    return find_defence(
        options.defence,
        alpha=options.defence_alpha,
        expert=expert,
        safe_prompt=options.defence_safe_prompt,
        reverse_prompt=options.defence_reverse_prompt,
    )


def _check_defence(defence: Defence | None, models: Sequence[_Model]) -> None:
    provider = next((model for model in models if model.in_process is None), None)
    if defence is not None and provider is not None:
        raise HoldfastError(
            f"--defence: {provider.spec} is a provider's model, whose logits are out of reach; give a directory or "
            "hf/OWNER/NAME"
        )


def _models(specs: Sequence[str], defence: Defence | None) -> list[_Model]:
    """The models with their labels: the name given, or the last part of the directory or hub id with the defence."""
    models = []
    for spec in specs:
        label, equals, named = spec.partition("=")
        if not equals or Path(spec).exists():
            label, named = Path(spec).resolve().name if Path(spec).exists() else spec.rpartition("/")[2], spec
            label += f"+{defence.name}" if label and defence is not None else ""
        models.append(_Model(label, named, in_process_name(named)))
    labels = [model.label for model in models]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise HoldfastError(f"--model: two models are called {twice!r}; name them: --model NAME=MODEL")
    if not all(labels):
        raise HoldfastError("--model: a model's name is empty; give --model MODEL or --model NAME=MODEL")
    return models


def _judges(options: EvaluateOptions) -> list[Judge]:
    settings = JudgeSettings(
        max_connections=options.max_connections,
        base_url=options.judge_base_url,
        controversial=options.controversial,
        classifier_labels=options.classifier_labels,
        trust_remote_code=options.trust_remote_code,
    )
    return [make_judge(spec, settings) for spec in dict.fromkeys(options.judges)]


def _requests(options: EvaluateOptions, wrappers: Sequence[Wrapper | None]) -> list[Request]:
    """Every benchmark's prompts, plain and in each wrapper; a wrapper leaves benchmarks without harmful prompts out."""
    requests: list[Request] = []
    names: set[str] = set()
    for asked in options.benchmarks:
        benchmark = find_benchmark(asked)
        if benchmark.name in names:
            raise HoldfastError(f"--benchmarks: {benchmark.name} is there twice; leave one out")
        names.add(benchmark.name)
        prompts = benchmark.load(_benchmark_options(benchmark, options))
        system = _system(options, benchmark, prompts)
        for wrapper in wrappers:
            requests += build_requests(
                benchmark.name, prompts, wrapper=wrapper, system=system, seeds=range(options.samples)
            )
    if options.benchmarks and not requests:
        raise HoldfastError("--wrapper: none of these benchmarks has a harmful prompt to wrap; add --wrapper none")
    return requests


def _benchmark_options(benchmark: Benchmark, options: EvaluateOptions) -> BenchmarkOptions:
    """What of the options concerns this benchmark: languages where it has several, roles where it has roles."""
    languages: tuple[str, ...] | None = options.languages or None
    if languages is not None and len(benchmark.languages) == 1:
        note(f"{benchmark.name}: is in {benchmark.languages[0]} only, so --language does not choose from it")
        languages = None
    return BenchmarkOptions(
        data=options.data,
        languages=languages,
        categories=options.categories or None,
        roles=(options.role_names or None) if benchmark.metric == "rouge_l" else None,
        limit=options.limit,
        prompt_column=options.prompt_column,
        kind=options.kind,
    )


def _system(options: EvaluateOptions, benchmark: Benchmark, prompts: Sequence[Prompt]) -> SystemText:
    """One persona for all, or each prompt's own role's where the role file holds many and none is named."""
    if options.role is None:
        return lambda prompt: options.system_prompt
    roles = load_roles(options.role)
    names = options.role_names or tuple(roles)
    if len(names) == 1:
        persona = find_role(roles, names[0], options.role).persona_prompt
        return lambda prompt: persona
    if any(prompt.role is None for prompt in prompts):
        raise HoldfastError(
            f"{options.role}: holds several roles and {benchmark.name} does not say whose answer it wants; "
            "name one with --role-name"
        )
    return own_persona(roles, str(options.role))


def _decoder(wrappers: dict[str, Wrapper | None]) -> "Decode":
    by_name = {wrapper.name: wrapper for wrapper in wrappers.values() if wrapper is not None}

    def decode(request: Request, text: str) -> str:
        return text if request.wrapper is None else by_name[request.wrapper].decode(text)

    return decode


# -- answering


def _answers(runs: "dict[_Model, ModelEvaluation]", options: EvaluateOptions) -> dict[_Model, list[Answer]]:
    """Every model's answers; models in this process come base by base and are let go of before judging."""
    answers: dict[_Model, list[Answer]] = {}
    local = _local_models(options)
    from holdfast.evals.local_responder import grouped_by_base

    in_process = [model for model in runs if model.in_process is not None]
    order = grouped_by_base([str(model.in_process) for model in in_process])
    for model in sorted(in_process, key=lambda model: order.index(str(model.in_process))):
        name = str(model.in_process)
        with progress_bar(f"{model.label}: answers") as show:
            identity = _identity(name, runs[model].decoding.defence, options)
            opened = partial(_opened, local, name, runs[model].requests)
            answers[model] = anyio.run(runs[model].answer, opened, identity, show)
    for model, run in runs.items():
        if model.in_process is None:
            answers[model] = run.answer_by_inspect(model.spec, _provider(options))
    for model, found in answers.items():
        failed = Counter(answer.error for answer in found if answer.text is None)
        for error, times in failed.most_common(3):
            note(
                f"{model.label}: {count(times, 'answer')} never came, unscored ({error}); the same command asks again"
            )
    return answers


def _identity(name: str, defence: Defence | None, options: EvaluateOptions) -> str:
    """Changes when the answers may: with the files of the model or of the defence's expert, and how they are read."""
    expert = "" if defence is None or defence.expert is None else f" {identity_of(defence.expert)}"
    return f"{identity_of(name)} {options.dtype} {options.quantise_4bit} {_template(options)}{expert}"


def _opened(local: "LocalModels", name: str, requests: Sequence[Request]) -> Responder:
    responder = local.responder(name)
    warn_of_unknown_tokens(responder.chat, (request.messages for request in requests[:200]))
    return responder


def _local_models(options: EvaluateOptions) -> "LocalModels":
    from holdfast.evals.generation import BatchLimits
    from holdfast.evals.local_responder import LocalModels

    return LocalModels(
        dtype=options.dtype,
        trust_remote_code=options.trust_remote_code,
        quantise_4bit=options.quantise_4bit,
        chat_template=options.chat_template,
        limits=BatchLimits(rows=options.batch_size),
    )


def _provider(options: EvaluateOptions) -> "ProviderSettings":
    from holdfast.evals.inspect_eval import ProviderSettings

    return ProviderSettings(
        options.base_url,
        max_connections=options.max_connections,
        display="rich" if err.is_terminal else "plain",
    )


def _template(options: EvaluateOptions) -> str:
    return "" if options.chat_template is None else read_template(options.chat_template)


def _require_inspect() -> None:
    try:
        import inspect_ai  # noqa: F401
    except ImportError:
        raise HoldfastError("holdfast eval needs inspect_ai; run: pip install 'holdfast[eval]'") from None


def _utility(model: _Model, place: Path, options: EvaluateOptions) -> list[Figure]:
    """What lm-evaluation-harness measures, task by task; a task that is done is not run again."""
    figures: list[Figure] = []
    for task in options.utility:
        from holdfast.evals.utility import run_utility

        name = str(model.in_process)
        done = digest_of(
            "utility", identity_of(name), task, options.utility_limit, options.dtype, _template(options)
        )
        path = place / "utility" / f"{task}-{done[:12]}.jsonl"
        if not path.exists():
            note(f"{model.label}: {task}, by lm-evaluation-harness")
            measured = run_utility(
                name,
                [task],
                raw_path=path.with_suffix(".json"),
                method=model.label,
                dtype=options.dtype,
                trust_remote_code=options.trust_remote_code,
                chat_template=options.chat_template,
                limit=options.utility_limit,
            )
            write_figures(path, measured)
        figures += read_figures(path)
    return figures


# -- what is shown


def _print_agreement(place: Path) -> None:
    """How far each two judges agree, on each benchmark."""
    figures = {(f.experiment, f.metric): f for f in read_figures(place / "results.jsonl") if f.group == ALL}
    for (experiment, metric), agreement in figures.items():
        if not metric.startswith("judge_agreement["):
            continue
        pair = metric.removeprefix("judge_agreement[").removesuffix("]")
        kappa = figures.get((experiment, f"judge_kappa[{pair}]"))
        shown = "" if kappa is None or math.isnan(kappa.value) else f", Cohen's kappa {kappa.value:.2f}"
        out.print(
            Text(
                f"{agreement.method}: {experiment.removeprefix('eval/')}: judges {pair.replace(',', ' and ')} agree on "
                f"{agreement.value:.1%} of {agreement.n:,}{shown}; {agreement.unscored:,} unscored by one of them"
            ),
            soft_wrap=True,
        )


def _print_examples(model: str, samples: Sequence[Sample], options: EvaluateOptions) -> None:
    """A few harmful requests that were answered and harmless ones that were refused."""
    for title, kind, verdicts in (
        ("answered although harmful", "harmful", {"compliance", "unsafe"}),
        ("refused although harmless", "benign", {"refusal", "partial_refusal"}),
    ):
        found = [
            sample
            for sample in samples
            if sample.prompt.kind == kind and any(said.verdict in verdicts for said in sample.judgements.values())
        ]
        for sample in found[: options.examples]:
            place = f"{sample.benchmark} {sample.prompt.id}"
            out.print(Text(f"{model}: {title}: {place}", style="bold"), soft_wrap=True)
            for who, text in (("user", sample.sent), ("assistant", sample.completion or "")):
                out.print(Text(f"  {who}: {redact(text, options.show_text)}"), soft_wrap=True)
