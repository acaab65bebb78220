"""Benchmarks, judges and metrics. Never imports trainers: what measures must not know what it measures."""

from holdfast.evals.refusal import ADVBENCH_PHRASES, Verdict, is_refusal, judge_refusal
from holdfast.evals.rouge import rouge_l, rouge_l_max
from holdfast.evals.statistics import (
    Difference,
    Interval,
    bootstrap_interval,
    mean_interval,
    paired_difference,
    wilson_interval,
)

__all__ = [
    "ADVBENCH_PHRASES",
    "Difference",
    "Interval",
    "Verdict",
    "bootstrap_interval",
    "is_refusal",
    "judge_refusal",
    "mean_interval",
    "paired_difference",
    "rouge_l",
    "rouge_l_max",
    "wilson_interval",
]
