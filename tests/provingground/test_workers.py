"""Jobs that follow from jobs, here and in worker processes."""

import operator
import signal
from collections.abc import Callable

import pytest
import torch

from holdfast.provingground.workers import Job, run_jobs


def double(number: int, progress: Callable[[int, int], None]) -> int:
    progress(1, 2)
    progress(2, 2)
    return 2 * number


def fail(_: Callable[[int, int], None]) -> None:
    raise ValueError("broken job")


def threads(progress: Callable[[int, int], None]) -> int:
    return torch.get_num_threads()


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_and_its_followers_run_once_and_report(workers):
    results, reports = [], []

    def follow(job, result):
        results.append((job.name, result))
        return [Job(f"{job.name}+", double, (result,))] if result < 20 else []

    jobs = [Job("three", double, (3,)), Job("five", double, (5,))]
    run_jobs(jobs, follow, lambda *report: reports.append(report), workers=workers)
    assert sorted(results) == [
        ("five", 10),
        ("five+", 20),
        ("three", 6),
        ("three+", 12),
        ("three++", 24),
    ]
    assert ("three", 2, 2) in reports


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_job_ends_the_run_with_its_own_error(workers):
    with pytest.raises(ValueError, match="broken job"):
        run_jobs([Job("bad", fail, ())], lambda *_: [], lambda *_: None, workers=workers)


def test_jobs_run_on_one_thread_and_the_setting_comes_back():
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    run_jobs(
        [Job("threads", threads, ())],
        lambda _, result: operator.iadd(seen, [result]) and [],
        lambda *_: None,
        workers=1,
    )
    assert (seen, torch.get_num_threads()) == ([1], 2)
    torch.set_num_threads(before)


def interrupts(progress: Callable[[int, int], None]) -> str:
    return str(signal.getsignal(signal.SIGINT))


def test_workers_leave_ctrl_c_to_their_parent_which_keeps_its_own_handler():
    before, seen = signal.getsignal(signal.SIGINT), []
    run_jobs(
        [Job("interrupts", interrupts, ())],
        lambda _, result: operator.iadd(seen, [result]) and [],
        lambda *_: None,
        workers=2,
    )
    assert seen == [str(signal.SIG_IGN)]
    assert signal.getsignal(signal.SIGINT) is before
