import pytest
import torch

from benchmarks.paired import added, interleaved, median_ratio, peak_bytes, timed, times

CPU = torch.device("cpu")


def test_a_ratio_is_the_median_of_the_rounds_ratios_and_not_the_ratio_of_the_medians():
    assert median_ratio([10, 30, 200], [5, 10, 100]) == 2  # of 2, 3 and 2; the medians' ratio would be 3


def test_rounds_of_unequal_number_are_refused():
    with pytest.raises(ValueError, match="zip"):
        median_ratio([1.0, 2.0], [1.0])


def test_seconds_are_added_and_multiplied_within_a_round():
    assert added([1, 2], [10, 20]) == [11, 22]
    assert times(3, [1, 2]) == [3, 6]


def test_every_way_runs_once_a_round_and_the_order_turns():
    calls = []
    ways = {name: lambda index, name=name: calls.append((index, name)) for name in "abc"}
    seconds = interleaved(ways, 2, CPU)
    assert calls == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 2, "b": 2, "c": 2}


def test_only_the_work_is_timed(monkeypatch):
    clock = iter([10.0, 12.5])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert timed(lambda: None, CPU) == 2.5


def test_peak_memory_is_exact_and_counts_only_what_the_work_adds():
    held = torch.ones(1 << 20)

    def work():
        first = torch.empty(1 << 20)  # 4 MiB of float32
        second = torch.empty(1 << 18, dtype=torch.float64)  # 2 MiB
        del first
        third = torch.empty(1 << 19)  # 2 MiB: less than what is gone
        return held, second, third

    assert peak_bytes(work, CPU) == 6 << 20
