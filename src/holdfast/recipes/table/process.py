"""Child processes of the grid: what they say goes to a log, and they never outlive the grid.

On Linux the kernel ends a child when its parent dies, even of kill -9. Everywhere, a lock on the grid's directory is
held by the grid and its children together: while one of them lives, no second grid writes beside it.
"""

import ctypes
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from holdfast.errors import HoldfastError
from holdfast.files import LOCK_NAME, os_errors

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


class Child:
    """A running command. `lock` is a file descriptor that it inherits; its output is added to `log`.

    A `launcher` (accelerate launch, torchrun) is asked to end by SIGTERM, which it passes on to its workers.
    """

    def __init__(self, command: Sequence[str], log: Path, *, lock: int, launcher: bool = False):
        last_signal = signal.SIGTERM if launcher else signal.SIGKILL
        with log.open("ab") as output:
            output.write(f"\n$ {shlex.join(command)}\n".encode())
            output.flush()
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # a group of its own: Ctrl-C comes to the grid, which ends the group
                    pass_fds=(lock,),
                    preexec_fn=_dying_with(os.getpid(), last_signal),  # one call into C, no locks
                )
            except OSError as error:
                raise HoldfastError(
                    f"{command[0]}: cannot be started ({error.strerror}); check --launch"
                ) from None

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.poll()

    def stop(self, patience: float = 10.0) -> None:
        """End it and its own children: by SIGTERM, and after `patience` seconds by SIGKILL."""
        for chosen, wait in ((signal.SIGTERM, patience), (signal.SIGKILL, None)):
            try:
                os.killpg(self._process.pid, chosen)
            except ProcessLookupError:
                break
            try:
                self._process.wait(wait)
                break
            except subprocess.TimeoutExpired:
                continue


@contextmanager
def locked(directory: Path, patience: float = 20.0) -> Iterator[int]:
    """Hold the directory for this grid and its children; yields the descriptor that children inherit.

    Waits for the children of a killed grid to be gone; raises HoldfastError where somebody still holds it then.
    """
    import fcntl

    with os_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > end:
                    raise HoldfastError(
                        f"{directory}: another `holdfast table`, or a process that one started, works here; wait for "
                        "it or end it, or choose another --output-dir"
                    ) from None
                time.sleep(0.2)
        yield descriptor
    finally:
        os.close(descriptor)


def last_line(log: Path) -> str:
    """The last line of a log that is not blank, shortened."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        lines = [line.strip() for line in file.read().decode("utf-8", errors="replace").splitlines()]
    said = next((line for line in reversed(lines) if line), "")
    return said if len(said) <= 300 else said[:297] + "..."


def _dying_with(parent: int, last_signal: int) -> Callable[[], None]:
    """What a child does before it becomes the command: ask to be ended with its parent, which may be dead already."""

    def prepare() -> None:
        if _LIBC is not None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, last_signal)
            if os.getppid() != parent:
                os._exit(1)

    return prepare
