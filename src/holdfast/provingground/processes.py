"""How worker processes are started. It imports next to nothing, so that a command can begin with it."""

import ctypes
import multiprocessing
import signal
import sys
import threading
from multiprocessing import forkserver
from multiprocessing.context import BaseContext

# Both worlds' cells with all that they import: some seconds, once for all workers.
PRELOADED = (
    "holdfast.provingground.roles.cells",
    "holdfast.provingground.languages.cells",
    "rouge_score.rouge_scorer",
)
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def start_method() -> BaseContext:
    """How workers are started; called early, what they import is imported while this process imports the same.

    Never by forking this process: a fork inherits torch's thread pools in an unusable state. Linux forks a server
    that has imported and computed nothing; elsewhere that is not safe either, and each worker imports for itself.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches this process, which stops the workers; the server inherits that it is ignored.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, handler)
    return multiprocessing.get_context("forkserver")


def keep_freed_memory() -> None:
    """Have the C library keep what is freed: a training step takes and gives back the same tens of megabytes.

    Else they go back to the system and come again page by page, a tenth of the step. glibc only; others are left.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(TRIM_THRESHOLD, 2**31 - 1)
        mallopt(MMAP_THRESHOLD, 2**30)
