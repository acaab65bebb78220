"""What both step benchmarks do alike around their figures."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from benchmarks.step_models import StepOptions, step_options, step_parser

Figures = dict[str, Any]


def run_benchmark(
    name: str,
    description: str | None,
    measure: Callable[[StepOptions, int], Figures],
    told: Callable[[Figures], list[str]],
) -> None:
    """Measure each vocabulary and print it; with --json one JSON line under `name` at the end."""
    arguments = step_parser(description).parse_args()
    options = step_options(arguments)
    print(options)
    results = {}
    for vocabulary in options.vocab:
        results[str(vocabulary)] = figures = measure(options, vocabulary)
        print("\n  ".join([f"vocabulary {vocabulary}:", *told(figures)]), flush=True)
    if arguments.json:
        print(json.dumps({name: results}))


def listed(values: Mapping[str, float], digits: int = 0, unit: float = 1) -> str:
    """`name value` of each, in units of `unit`."""
    return ", ".join(f"{name} {value / unit:.{digits}f}" for name, value in values.items())


def rounded(values: Mapping[str, float], digits: int) -> dict[str, float]:
    """Each value with that many digits after the point."""
    return {name: round(value, digits) for name, value in values.items()}


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """What tensors hold."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
