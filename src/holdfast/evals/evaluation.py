"""One model's evaluation on disk: what it answered, what judges said, the samples, their figures and the log.

MODEL/answers.jsonl      answers of a model in this process, as they came (a provider's are in inspect/)
MODEL/judgements.jsonl   what model judges said, as it came
MODEL/samples.jsonl      everything, once all is answered and judged
MODEL/results.jsonl      the rates, with intervals
logs/MODEL_TASK.json     one log a benchmark, for `inspect view`
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.escaping import directory_name
from holdfast.evals.answering import Progress, answer_all
from holdfast.evals.inspect_eval import ProviderSettings, answers_by_inspect
from holdfast.evals.inspect_logs import write_log
from holdfast.evals.journal import Journal
from holdfast.evals.judges.base import Exchange, Judge
from holdfast.evals.judging import judge_all
from holdfast.evals.metrics import figures_of
from holdfast.evals.requests import Request
from holdfast.evals.responders import Answer, Decoding, Responder
from holdfast.evals.rouge import role_fidelity
from holdfast.results import Figure, write_figures
from holdfast.samples import Judgement, Sample, write_samples

Shown = Callable[[str], AbstractContextManager[Progress]]
"""Gives a progress display, a context manager, for a piece of work by its title."""
Decode = Callable[[Request, str], str]
"""An answer as plain text, for judges: what a cipher's wrapper asked for is deciphered."""


class ModelEvaluation:
    """Args: `directory` is the evaluation's, shared by all its models; `label` is the model's name in tables."""

    def __init__(self, directory: Path, label: str, requests: Sequence[Request], decoding: Decoding):
        self.directory = directory
        self.label = label
        self.requests = requests
        self.decoding = decoding
        self.place = directory / directory_name(label)

    async def answer(self, responder: Callable[[], Responder], identity: str, progress: Progress) -> list[Answer]:
        """Ask a model in this process what it has not been asked yet."""
        with Journal(self.place / "answers.jsonl") as journal:
            return await answer_all(responder, identity, self.requests, self.decoding, journal, progress)

    def answer_by_inspect(self, model: str, settings: ProviderSettings) -> list[Answer]:
        """Have a provider of inspect_ai answer, task by task, under inspect's own engine.

        Raises HoldfastError under a defence: a provider's logits are out of reach.
        """
        if self.decoding.defence is not None:
            raise HoldfastError(
                f"{model}: a decoding defence ({self.decoding.defence.name}) needs logits, which a provider does "
                "not give; evaluate a model in this process (a directory, or hf/OWNER/NAME)"
            )
        answers: dict[int, Answer] = {}
        for task, places in _by_task(self.requests).items():
            asked = [self.requests[place] for place in places]
            found = answers_by_inspect(
                model, directory_name(task), asked, self.decoding, self.place / "inspect", settings
            )
            answers |= dict(zip(places, found, strict=True))
        return [answers[place] for place in range(len(self.requests))]

    async def judge(
        self, answers: Sequence[Answer], judges: Sequence[Judge], decode: Decode, shown: Shown
    ) -> list[Sample]:
        """The samples: every answer with each judge's judgement and, in a role, its fidelity."""
        plain = [
            None if answer.text is None else decode(request, answer.text)
            for request, answer in zip(self.requests, answers, strict=True)
        ]
        judgements: list[dict[str, Judgement]] = [{} for _ in self.requests]
        with Journal(self.place / "judgements.jsonl") as journal:
            for judge in judges:
                places = [place for place, request in enumerate(self.requests) if _is_for(judge, request)]
                exchanges = [_exchange(self.requests[place], plain[place]) for place in places]
                with shown(f"{self.label}: {judge.name}") as progress:
                    found = await judge_all(judge, exchanges, journal, progress)
                for place, judgement in zip(places, found, strict=True):
                    judgements[place][judge.name] = judgement
        return [
            self._sample(request, answer, text, judged)
            for request, answer, text, judged in zip(self.requests, answers, plain, judgements, strict=True)
        ]

    def write(self, samples: Sequence[Sample], more: Sequence[Figure] = ()) -> None:
        """Write samples, their figures and `more` of them, and a log for each task."""
        for task, places in _by_task(self.requests).items():
            answered = [(self.requests[place], samples[place]) for place in places]
            write_log(self.directory / "logs", task, self.label, self.decoding, answered)
        write_samples(self.place / "samples.jsonl", samples)
        write_figures(self.place / "results.jsonl", [*figures_of(samples), *more])

    def _sample(
        self, request: Request, answer: Answer, text: str | None, judgements: dict[str, Judgement]
    ) -> Sample:
        prompt, scores = request.prompt, {}
        if prompt.references and text is not None:
            scores["rouge_l"] = role_fidelity(text, prompt.references, prompt.language)
        return Sample(
            model=self.label,
            benchmark=request.benchmark,
            prompt=prompt,
            sent=request.sent,
            completion=answer.text,
            wrapper=request.wrapper,
            seed=request.seed,
            error=answer.error,
            judgements=judgements,
            scores=scores,
        )


def _by_task(requests: Sequence[Request]) -> dict[str, list[int]]:
    """Where the requests of each task are: of one benchmark, in one wrapper or none."""
    tasks: dict[str, list[int]] = {}
    for place, request in enumerate(requests):
        task = request.benchmark + (f"+{request.wrapper}" if request.wrapper else "")
        tasks.setdefault(task, []).append(place)
    return tasks


def _is_for(judge: Judge, request: Request) -> bool:
    # Whether an answer in a role is safe is not asked: the question was harmless. Whether it refuses is.
    return request.prompt.kind != "role" or "refusal" in judge.verdicts


def _exchange(request: Request, text: str | None) -> Exchange | None:
    return None if text is None else Exchange(request.prompt.text, text, request.prompt.language)
