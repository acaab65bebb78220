"""Is the model still useful? Benchmarks of lm-evaluation-harness, run by it and merged into our results.

Needs the extra `holdfast[utility]` (lm-eval 0.4.13 or newer). Benchmarks, prompts, answers' parsing and standard errors
are the harness's; the raw output that it would write is kept beside ours.
"""

import logging
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.errors import HoldfastError
from holdfast.files import write_json
from holdfast.results import Figure

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

SHORT_NAMES: Mapping[str, tuple[str, ...]] = {
    "mgsm": ("mgsm_en_cot_??",),  # 11 languages, reasoning in English
    "global_mmlu": ("global_mmlu_??",),  # Global-MMLU-Lite, 15 languages
    "global_mmlu_full": ("global_mmlu_full_??", "global_mmlu_full_fil"),  # 42 languages, 57 subjects each
    "m_mmlu": ("m_mmlu_??",),  # 34 languages
}
"""Names for a benchmark in all its languages, as patterns over lm-eval's names; any name of lm-eval's works too."""

# A name's end that is a language (ISO 639-1; `fil` is lm-eval's one code of three letters that we name).
_IN_LANGUAGE = re.compile(
    r"""(.+)_(af|am|ar|az|be|bg|bn|ca|cs|cy|da|de|el|en|es|et|eu|fa|fi|fil|fr|ga|gl|gu|ha|he|hi|hr|ht|hu|hy|id|ig|is|it|
    ja|jv|ka|kk|km|kn|ko|ky|lo|lt|lv|mg|mi|mk|ml|mn|mr|ms|mt|my|nb|ne|nl|no|ny|pa|pl|ps|pt|qu|ro|ru|rw|si|sk|sl|sn|so|
    sq|sr|su|sv|sw|ta|te|tg|th|tl|tr|uk|ur|uz|vi|xh|yo|zh|zu)""",
    re.VERBOSE,
)


def run_utility(
    model: str,
    tasks: Sequence[str],
    *,
    raw_path: Path | None = None,
    method: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
    chat_template: Path | None = None,
    apply_chat_template: bool = True,
    batch_size: int | str = 8,
    limit: int | None = None,
    include_path: Path | None = None,
) -> list[Figure]:
    """Run benchmarks of lm-evaluation-harness on a model and give their results as figures.

    Args:
        model: a model or adapter, by directory or hub id.
        tasks: names of `SHORT_NAMES` or of lm-eval: tasks, groups, tags, or patterns such as `mgsm_direct_*`.
        raw_path: where lm-eval's own results go, as JSON without the samples.
        method: what the model is called in the figures; its name by default.
        dtype, device, trust_remote_code, chat_template: as for every model of ours; the code of data sets is never run.
        apply_chat_template: ask as a chat, which is how an aligned model is used.
        batch_size: prompts at once, or `auto`.
        limit: only the first prompts of each task, to try it out.
        include_path: a directory of further lm-eval task files.

    Raises HoldfastError where lm-eval is missing, a task is unknown, or its data cannot be had.
    """
    manager = _task_manager(include_path)
    built = [part for name in resolve_tasks(manager, tasks) for part in _build(manager, name)]
    results = _evaluate(
        _wrap(model, dtype, device, trust_remote_code, chat_template, batch_size),
        built,
        task_manager=manager,
        apply_chat_template=apply_chat_template,
        limit=limit,
        log_samples=False,
    )
    if raw_path is not None:
        write_json(raw_path, results, default=str)
    return utility_figures(results, method or model)


def resolve_tasks(manager: "TaskManager", asked: Sequence[str]) -> list[str]:
    """lm-eval's names for what was asked, each once; raises HoldfastError with close names for an unknown one."""
    names: list[str] = []
    for name in asked:
        found = [match for pattern in SHORT_NAMES.get(name, (name,)) for match in manager.match_tasks([pattern])]
        if not found:
            close = get_close_matches(name, [*SHORT_NAMES, *manager.all_tasks], n=3)
            advice = f"did you mean {' or '.join(close)}" if close else "`lm-eval ls tasks` lists them"
            raise HoldfastError(f"--utility: lm-eval knows no task {name[:60]!r}; {advice}")
        names += sorted(found)
    return list(dict.fromkeys(names))


def utility_figures(results: Mapping[str, Any], method: str) -> list[Figure]:
    """Figures of what lm-eval returned; of a group, its aggregate stands for its tasks.

    The experiment is `utility/` and the task's name without its language; the group is that language, else `all`. A
    metric keeps lm-eval's name, with its filter where there is one (`exact_match,strict-match`). The interval is
    lm-eval's standard error x 1.96 on both sides, within [0, 1] for a share. Where a task ran in several languages,
    the group `mean` is their plain mean, its error that of independent languages.
    """
    within = {task for tasks in results.get("group_subtasks", {}).values() for task in tasks}
    by_metric: dict[tuple[str, str], list[tuple[str, float, float | None, int]]] = defaultdict(list)
    for task, entries in results["results"].items():
        if task in within:
            continue
        benchmark, language = _split_language(task)
        for metric, value, error in _metrics(entries):
            by_metric[benchmark, metric].append((language, value, error, int(entries["sample_len"])))
    figures = []
    for (benchmark, metric), rows in by_metric.items():
        for group, value, error, n in rows if len(rows) == 1 else [*rows, _mean(rows)]:
            low, high = _interval(value, error)
            figures.append(Figure(f"utility/{benchmark}", method, group, None, metric, value, n, low, high))
    return figures


def _split_language(task: str) -> tuple[str, str]:
    found = _IN_LANGUAGE.fullmatch(task)
    return (found[1], found[2]) if found else (task, "all")


def _metrics(entries: Mapping[str, Any]) -> Iterator[tuple[str, float, float | None]]:
    """Name, value and standard error of each metric; lm-eval writes them as `metric,filter`."""
    for key, value in entries.items():
        parts = re.fullmatch(r"(.+?)(?<!_stderr),(.+)", key)
        if parts is None or not isinstance(value, int | float):
            continue
        metric, chosen = parts.groups()
        error = entries.get(f"{metric}_stderr,{chosen}")
        known = float(error) if isinstance(error, int | float) and math.isfinite(error) else None  # else "N/A"
        yield metric if chosen == "none" else key, float(value), known


def _mean(rows: Sequence[tuple[str, float, float | None, int]]) -> tuple[str, float, float | None, int]:
    errors = [error for _, _, error, _ in rows if error is not None]
    joint = math.hypot(*errors) / len(rows) if len(errors) == len(rows) else None
    return "mean", math.fsum(value for _, value, _, _ in rows) / len(rows), joint, sum(n for *_, n in rows)


def _interval(value: float, error: float | None) -> tuple[float | None, float | None]:
    if error is None:
        return None, None
    low, high = value - 1.96 * error, value + 1.96 * error
    return (max(low, 0.0), min(high, 1.0)) if 0 <= value <= 1 else (low, high)


# -- lm-eval itself


def _task_manager(include_path: Path | None) -> "TaskManager":
    try:
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise HoldfastError(
            "--utility needs lm-evaluation-harness; run: pip install 'holdfast[utility]'"
        ) from None
    return TaskManager(include_path=include_path)


def _build(manager: "TaskManager", name: str) -> list[Any]:
    """The task, group or tag with its data; before the model is loaded, since this is what fails offline."""
    try:
        loaded = manager.load([name])
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise HoldfastError(
            f"--utility {name}: its data cannot be loaded ({reason[:200]}); run once with the hub in reach, or choose "
            "another task"
        ) from error
    return [loaded["groups"][name]] if name in loaded["groups"] else list(loaded["tasks"].values())


def _wrap(
    name: str,
    dtype: Any,
    device: str | None,
    trust_remote_code: bool,
    chat_template: Path | None,
    batch_size: int | str,
) -> Any:
    """The model as lm-eval wants it, loaded as ours are: safetensors only, adapters on their base."""
    from lm_eval.models.huggingface import HFLM

    from holdfast.models import load_model, load_tokenizer

    tokenizer = load_tokenizer(name, chat_template=chat_template, trust_remote_code=trust_remote_code)
    model = load_model(name, dtype=dtype, device=device, trust_remote_code=trust_remote_code)
    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)


def _evaluate(model: Any, tasks: list[Any], **options: Any) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # a page of settings per run; the raw results hold them
    return simple_evaluate(model, tasks=tasks, **options)
