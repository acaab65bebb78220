"""Progress bars of an experiment."""

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars


class Display:
    """A bar for the whole, and one for each job that runs."""

    def __init__(self, console: Console | None, jobs: int):
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        self._bars = Bars(*columns, console=console or Console(quiet=True), transient=True)
        self._whole = self._bars.add_task("the experiment", total=max(jobs, 1))
        self._running: dict[str, Any] = {}

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def report(self, name: str, done: int, total: int) -> None:
        """A job has got so far."""
        if name not in self._running:
            self._running[name] = self._bars.add_task(name, total=total)
        self._bars.update(self._running[name], completed=done, total=total)

    def finished(self, name: str) -> None:
        """A job is done: its bar goes, the whole's moves."""
        self._bars.advance(self._whole)
        task = self._running.pop(name, None)
        if task is not None:
            self._bars.remove_task(task)
