"""Answers from any provider of inspect_ai (vLLM with adapters, OpenAI-compatible endpoints, ...), by its own engine.

In-process models do not come this way: inspect's engine costs about 20 ms a sample, more than a tiny model's answer
(docs/evaluation.md has the figures).
"""

import re
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from inspect_ai import Task, eval_set
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.log import EvalLog, EvalSample, read_eval_log
from inspect_ai.solver import generate
from inspect_ai.util import DisplayType

from holdfast.errors import HoldfastError
from holdfast.evals.inspect_logs import chat_messages, generate_config
from holdfast.evals.journal import digest_of
from holdfast.evals.provider_responder import answer_of
from holdfast.evals.requests import Request
from holdfast.evals.responders import Answer, Decoding


@dataclass(frozen=True)
class ProviderSettings:
    """How a provider is talked to. Times are in seconds."""

    base_url: str | None = None
    max_connections: int = 10
    max_retries: int = 5
    attempt_timeout: int = 120
    display: DisplayType = "plain"


def answers_by_inspect(
    model: str,
    task: str,
    requests: Sequence[Request],
    decoding: Decoding,
    log_dir: Path,
    settings: ProviderSettings,
) -> list[Answer]:
    """An answer for each request of one task, in order.

    Finished samples of a killed run are read back from its log by inspect's `eval_set`; samples that failed are
    asked for again. A sample that fails to the end is an `Answer` without text and with its error. Prompts and
    answers are written to `log_dir` alone.
    """
    place = log_dir / digest_of(
        model, settings.base_url, task, _asked(requests), generate_config(decoding).model_dump()
    )
    dataset = MemoryDataset(
        [
            InspectSample(id=f"{request.prompt.id}#{request.seed}", input=chat_messages(request.messages))
            for request in requests
        ],
        name=task,
    )
    try:
        with redirect_stdout(sys.stderr):  # its progress; standard output is for results
            _, logs = eval_set(
                Task(dataset=dataset, solver=generate(), config=generate_config(decoding), name=task),
                log_dir=str(place),
                model=model,
                model_base_url=settings.base_url,
                max_connections=settings.max_connections,
                max_samples=2 * settings.max_connections,
                max_retries=settings.max_retries,
                attempt_timeout=settings.attempt_timeout,
                retry_attempts=1,
                fail_on_error=True,
                continue_on_fail=True,
                display=settings.display,
                log_level="error",  # its warnings quote the requests, which may be harmful
                log_realtime=False,  # its buffer in the user's data directory outlives a killed run, readable by all
                log_buffer=settings.max_connections,  # finished samples that a killed run may lose
                ctl_server=False,
                score=False,
            )
    except Exception as error:  # inspect and its providers raise many kinds before the first sample is asked
        reason = _first_line(str(error) or type(error).__name__)
        raise HoldfastError(
            f"{model}: cannot be evaluated ({reason}); check its name and keys, or write hf/{model} for the hub's "
            "model of this name"
        ) from error
    if not logs or any(log.status == "cancelled" for log in logs):  # eval_set turns Ctrl-C into a return
        raise KeyboardInterrupt
    return _in_order(requests, logs)


def _in_order(requests: Sequence[Request], logs: Sequence[EvalLog]) -> list[Answer]:
    found: dict[str, EvalSample] = {}
    for log in logs:
        whole = log if log.samples is not None else read_eval_log(log.location)
        found |= {str(sample.id): sample for sample in whole.samples or []}
    return [_answer(found.get(f"{request.prompt.id}#{request.seed}")) for request in requests]


def _answer(sample: EvalSample | None) -> Answer:
    if sample is None:
        return Answer(None, "no answer came")
    if sample.error is not None:
        return Answer(None, _failure(sample.error.message))
    return answer_of(sample.output)


def _failure(message: str) -> str:
    """What went wrong, without the request, which a provider's message may quote: `BadRequestError (400)`."""
    kinds = re.findall(r"\b[A-Z]\w*(?:Error|Exception|Timeout)\b", message)
    code = re.search(r"Error code: (\d{3})", message)
    if kinds:
        return kinds[-1] + (f" ({code[1]})" if code else "")
    return "no answer came" if "Request" in message else _first_line(message)


def _asked(requests: Sequence[Request]) -> list[object]:
    return [
        (request.prompt.id, request.seed, [(message.speaker, message.content) for message in request.messages])
        for request in requests
    ]


def _first_line(message: str) -> str:
    lines = [line.strip() for line in re.sub(r"\[/?[a-z ]+\]", "", message).splitlines() if line.strip()]
    return (lines or ["no answer came"])[0][:200]
