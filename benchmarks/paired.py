"""Paired timings in one process, and the peak memory of a piece of work.

A machine's speed drifts, and other work disturbs it: two ways are therefore compared within a round, one right after
the other, and what is quoted is the median over rounds of such ratios, never a ratio of two medians.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[int], object]  # gets the round's number, to seed what it draws
Seconds = list[float]  # by round


def interleaved(ways: Mapping[str, Work], rounds: int, device: torch.device) -> dict[str, Seconds]:
    """Seconds of each way in each round. The order turns round by round, so that none always has the warm machine.

    Nothing is warmed up here: measure the peak memory first, which runs the same work once.
    """
    seconds: dict[str, Seconds] = {name: [] for name in ways}
    for index in range(rounds):
        for name in list(ways) if index % 2 == 0 else reversed(list(ways)):
            seconds[name].append(timed(partial(ways[name], index), device))
    return seconds


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Wall-clock seconds until the device has done the work."""
    _wait_for(device)
    start = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - start


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over rounds of one quantity over another."""
    return median(a / b for a, b in zip(above, below, strict=True))


def added(*terms: Sequence[float]) -> Seconds:
    """The sum within each round."""
    return [sum(values) for values in zip(*terms, strict=True)]


def times(factor: float, seconds: Sequence[float]) -> Seconds:
    """Each round's value times a factor."""
    return [factor * value for value in seconds]


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that the work holds at once, beyond what was held before it began.

    On a GPU what torch's allocator says. On the CPU the running sum over the profiler's events, one for each
    allocation and each release of a tensor, so it is exact and no other process disturbs it; buffers that kernels take
    for themselves are not tensors and do not count.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        work()
    held = peak = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
