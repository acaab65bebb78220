"""One measured number of the proving ground, with what it was measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from holdfast.evals.statistics import mean_interval, wilson_interval


@dataclass(frozen=True)
class Measurement:
    """A number, what it was measured on, and its 95 % interval."""

    value: float
    n: int
    low: float | None = None
    high: float | None = None


def rate(outcomes: Sequence[bool]) -> Measurement:
    """A share with its Wilson interval; 0 of 0 where nothing was scored."""
    share = sum(outcomes) / len(outcomes) if outcomes else 0.0
    return Measurement(share, len(outcomes), *wilson_interval(sum(outcomes), len(outcomes)))


def mean(values: Sequence[float]) -> Measurement:
    """A mean with its t interval."""
    return Measurement(fmean(values), len(values), *(mean_interval(values) or (None, None)))
