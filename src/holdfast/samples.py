"""What was asked, what was answered and what judges said of it: JSON lines, one answer a line.

`holdfast eval` and `holdfast judge` write this; tables and comparisons read it. Docs: docs/data_formats.md.
Rates over samples are `Figure`s (holdfast.results).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from holdfast.errors import HoldfastError
from holdfast.files import check_regular, os_errors, write_json_lines
from holdfast.parsing import half_surrogate, is_finite_number, parse_json

Kind = Literal["harmful", "benign", "role"]
"""What a good model does with a prompt: refuses it, answers it, or answers it in its role."""

Verdict = Literal["refusal", "partial_refusal", "compliance", "safe", "unsafe", "invalid", "unscored"]
"""A refusal judge says one of the first three, a safety judge one of the next three; either may fail to say."""


SEPARATOR = "; "
"""Between the categories of a prompt that has several."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a benchmark.

    `id` is unique in its benchmark and the same in every run: comparisons pair answers by it. `references` are
    acceptable answers, for Rouge-L.
    """

    id: str
    text: str
    kind: Kind
    language: str | None = None
    category: str | None = None
    role: str | None = None
    references: tuple[str, ...] = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, of which some benchmarks give a prompt several."""
        return tuple(self.category.split(SEPARATOR)) if self.category else ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of one answer.

    `reason` says why there is no verdict, in a word or two that are the same for all such answers, for counting
    (`empty answer`, `no answer`, `unparsable`, `judge failed`, `judge refused`); `raw` is the judge's text, word for
    word, None where a rule decided.
    """

    verdict: Verdict
    reason: str | None = None
    raw: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of one model.

    `sent` is the user's turn as the model saw it, after the jailbreak `wrapper` where there is one; `completion` is
    None where the model gave no answer, and `error` says why. `seed` tells several sampled answers to one prompt
    apart. `judgements` are by the judge's name, `scores` by the metric's (rouge_l).
    """

    model: str
    benchmark: str
    prompt: Prompt
    sent: str
    completion: str | None
    wrapper: str | None = None
    seed: int = 0
    error: str | None = None
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str | None, str, int]:
        """What makes answers of two models a pair: the same benchmark, wrapper, prompt and seed."""
        return self.benchmark, self.wrapper, self.prompt.id, self.seed


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write samples as JSON lines, replacing the file in one step so that a reader never sees half of it."""
    write_json_lines(path, map(asdict, samples))


def read_samples(path: Path) -> Iterator[Sample]:
    """Read samples; raises HoldfastError where there is no such file, naming the line where one is not a sample."""
    if not path.is_file():
        raise HoldfastError(f"{path}: no samples file here; run `holdfast eval` first, or name what it wrote")
    check_regular(path)
    with os_errors(path), path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield _sample(parse_json(line))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise HoldfastError(
                    f"{path}:{number}: not a line of samples ({error}); delete the file and evaluate again"
                ) from None


def _sample(record: dict[str, Any]) -> Sample:
    prompt = Prompt(**{**record["prompt"], "references": tuple(record["prompt"]["references"])})
    if prompt.kind not in get_args(Kind):
        raise ValueError(f"field prompt.kind is {prompt.kind!r:.40}")
    judgements = {name: Judgement(**judgement) for name, judgement in record["judgements"].items()}
    for name, judgement in judgements.items():
        if judgement.verdict not in get_args(Verdict):
            raise ValueError(f"field judgements.{name}.verdict is {judgement.verdict!r:.40}")
    _check(prompt, ("id", "text"), ("language", "category", "role"), "prompt.")
    if not all(isinstance(reference, str) for reference in prompt.references):
        raise TypeError("field prompt.references holds no texts")
    for name, judgement in judgements.items():
        _check(judgement, (), ("reason", "raw"), f"judgements.{name}.")
    sample = Sample(**{**record, "prompt": prompt, "judgements": judgements})
    _check(sample, ("model", "benchmark", "sent"), ("completion", "wrapper", "error"), "")
    if type(sample.seed) is not int or sample.seed < 0:
        raise ValueError(f"field seed is {sample.seed!r:.40}, expected a count")
    for name, score in sample.scores.items():
        if not is_finite_number(score):
            raise ValueError(f"field scores.{name} is {score!r:.40}, expected a number")
    return sample


def _check(record: object, texts: Sequence[str], or_null: Sequence[str], place: str) -> None:
    """Raise TypeError or ValueError unless the fields are texts, the second ones texts or null."""
    for name in (*texts, *or_null):
        value = getattr(record, name)
        if not isinstance(value, str) and not (value is None and name in or_null):
            raise TypeError(f"field {place}{name} is no text")
        if value is not None and half_surrogate(value) is not None:
            raise ValueError(f"field {place}{name} has half a surrogate pair")
