"""Samples as logs of inspect_ai, which `inspect view` opens and inspect's own tools read."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalPlanStep,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
)
from inspect_ai.scorer import Score

from holdfast import __version__
from holdfast.data.rows import Message
from holdfast.evals.journal import digest_of
from holdfast.evals.requests import Request
from holdfast.evals.responders import Decoding
from holdfast.files import replacing
from holdfast.samples import Judgement, Sample


def chat_messages(messages: Sequence[Message]) -> list[ChatMessage]:
    """A conversation in inspect's types."""
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[message.speaker](content=message.content) for message in messages]


def sample_metadata(request: Request) -> dict[str, str | None]:
    """What a log says of a sample beside its conversation."""
    prompt = request.prompt
    return {
        "kind": prompt.kind,
        "language": prompt.language,
        "category": prompt.category,
        "role": prompt.role,
        "wrapper": request.wrapper,
    }


def score_of(judgement: Judgement, completion: str | None = None) -> Score:
    """A judgement as inspect's score: the verdict's name, or its `unscored`, which no metric counts."""
    if judgement.verdict == "unscored":
        return Score.unscored(reason=judgement.reason, answer=completion, explanation=judgement.raw)
    return Score(value=judgement.verdict, answer=completion, explanation=judgement.raw)


def write_log(
    directory: Path, task: str, model: str, decoding: Decoding, answered: Sequence[tuple[Request, Sample]]
) -> Path:
    """Write a model's samples of one task as a log, in place of an earlier one of theirs; returns its path.

    In inspect's JSON form: its `.eval` form took nine times as long to write (2,000 samples: 5.7 s, not 0.6 s).
    """
    now = datetime.now(UTC).replace(microsecond=0)
    identifier = digest_of("log", task, model)[:22]
    defence = {} if decoding.defence is None else {"defence": asdict(decoding.defence)}
    samples = [_log_sample(model, request, sample) for request, sample in answered]
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=uuid.uuid4().hex,
            run_id=uuid.uuid4().hex,
            task_id=identifier,
            created=now.isoformat(),
            task=task,
            dataset=EvalDataset(name=task, samples=len(samples), sample_ids=[sample.id for sample in samples]),
            model=model,
            model_generate_config=generate_config(decoding),
            config=EvalConfig(epochs=max((sample.epoch for sample in samples), default=1)),
            packages={"holdfast": __version__, "inspect_ai": version("inspect_ai")},
        ),
        plan=EvalPlan(steps=[EvalPlanStep(solver="generate", params=defence, params_passed=defence)]),
        results=_results([sample for _, sample in answered]),
        stats=EvalStats(started_at=now.isoformat(), completed_at=now.isoformat()),
        samples=samples,
    )
    earlier = list(directory.glob(f"*_{identifier}.json"))
    # Inspect takes a JSON file for a log only where its name begins with a time, as its own do.
    path = directory / f"{now:%Y-%m-%dT%H-%M-%S}-00-00_{re.sub(r'[^a-zA-Z0-9]+', '-', task)}_{identifier}.json"
    with replacing(path) as temporary:
        write_eval_log(log, str(temporary), format="json")
    for log_before in set(earlier) - {path}:
        log_before.unlink(missing_ok=True)  # another process that writes the same log has removed it
    return path


def generate_config(decoding: Decoding) -> GenerateConfig:
    """How answers are drawn, in inspect's type; greedy without a seed or top_p, which several providers reject."""
    return GenerateConfig(
        max_tokens=decoding.max_new_tokens,
        temperature=decoding.temperature,
        top_p=decoding.top_p if decoding.temperature > 0 else None,
        seed=decoding.seed if decoding.temperature > 0 else None,
    )


def _log_sample(model: str, request: Request, sample: Sample) -> EvalSample:
    asked = chat_messages(request.messages)
    answer = ChatMessageAssistant(content=sample.completion or "", model=model, source="generate")
    return EvalSample(
        id=sample.prompt.id,
        epoch=sample.seed + 1,
        input=asked,
        target=list(sample.prompt.references),
        messages=[*asked, answer],
        output=ModelOutput(
            model=model, choices=[ChatCompletionChoice(message=answer)], error=sample.error, completion=answer.text
        ),
        scores={
            **{name: score_of(judgement, sample.completion) for name, judgement in sample.judgements.items()},
            **{name: Score(value=value, answer=sample.completion) for name, value in sample.scores.items()},
        },
        metadata=sample_metadata(request),
    )


def _results(samples: Sequence[Sample]) -> EvalResults:
    """What the viewer shows above the samples: shares of the verdicts and mean scores."""
    scores = []
    for judge in dict.fromkeys(name for sample in samples for name in sample.judgements):
        verdicts = [sample.judgements[judge].verdict for sample in samples if judge in sample.judgements]
        scored = [verdict for verdict in verdicts if verdict != "unscored"]
        shares: dict[str, float] = {
            verdict: scored.count(verdict) / len(scored) for verdict in dict.fromkeys(scored)
        }
        scores.append(_score(judge, shares, len(scored), len(verdicts) - len(scored)))
    for metric in dict.fromkeys(name for sample in samples for name in sample.scores):
        values = [sample.scores[metric] for sample in samples if metric in sample.scores]
        scores.append(_score(metric, {"mean": sum(values) / len(values)}, len(values), len(samples) - len(values)))
    completed = sum(sample.completion is not None for sample in samples)
    return EvalResults(total_samples=len(samples), completed_samples=completed, scores=scores)


def _score(name: str, metrics: dict[str, float], scored: int, unscored: int) -> EvalScore:
    return EvalScore(
        name=name,
        scorer=name,
        scored_samples=scored,
        unscored_samples=unscored,
        metrics={metric: EvalMetric(name=metric, value=value) for metric, value in metrics.items()},
    )
