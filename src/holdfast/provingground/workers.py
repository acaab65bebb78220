"""Worker processes for an experiment: progress comes back to the parent, and they never outlive it."""

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from queue import Empty
from typing import Any

import torch
import transformers

from holdfast.provingground.processes import keep_freed_memory, start_method

Report = Callable[[str, int, int], None]  # (job's name, done, in all)


@dataclass(frozen=True)
class Job:
    """`function(*arguments, progress)` in some process; `progress` takes (done, in all). Both must pickle."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


Follow = Callable[[Job, Any], list[Job]]  # what to do next when a job has returned a result

_channel: Any = None  # in a worker: the queue to the parent
_stop: Any = None  # in a worker: set when the parent gives up


class StoppedError(Exception):
    """Raised inside a worker's job after the parent gave up."""


def run_jobs(jobs: list[Job], follow: Follow, report: Report, *, workers: int) -> None:
    """Run jobs and those that follow from them; the first error of a job, or Ctrl-C, ends everything.

    With one worker the jobs run here, one after the other. Either way each uses one thread, so that the numbers
    do not depend on how many workers there are.
    """
    if workers == 1 or not jobs:
        _run_here(jobs, follow, report)
    else:
        _run_in_workers(jobs, follow, report, workers)


def _run_here(jobs: list[Job], follow: Follow, report: Report) -> None:
    waiting = list(jobs)
    with _one_thread():
        while waiting:
            job = waiting.pop(0)
            waiting = follow(job, job.function(*job.arguments, _named(report, job.name))) + waiting


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _named(report: Report, name: str) -> Callable[[int, int], None]:
    return lambda done, total: report(name, done, total)


def _run_in_workers(jobs: list[Job], follow: Follow, report: Report, workers: int) -> None:
    context = start_method()
    channel, stop = context.Queue(), context.Event()
    with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(channel, stop)) as pool:
        running: dict[Future, Job] = {}

        def submit(job: Job) -> None:
            running[pool.submit(_run_in_worker, job)] = job

        try:
            for job in jobs:
                submit(job)
            while running:
                finished, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                _drain(channel, report)
                for future in finished:
                    job = running.pop(future)
                    for following in follow(job, future.result()):
                        submit(following)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _drain(channel: Any, report: Report) -> None:
    while True:
        try:
            report(*channel.get_nowait())
        except Empty:
            return


def _start_worker(channel: Any, stop: Any) -> None:
    global _channel, _stop
    _channel, _stop = channel, stop
    torch.set_num_threads(1)
    keep_freed_memory()
    gc.freeze()  # Trainer collects garbage after every training: not among all that was imported
    transformers.logging.disable_progress_bar()  # the parent shows the progress
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops the workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_in_worker(job: Job) -> Any:
    def progress(done: int, total: int) -> None:
        if _stop.is_set():
            raise StoppedError(job.name)
        _channel.put((job.name, done, total))

    return job.function(*job.arguments, progress)
