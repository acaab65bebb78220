"""What the recipes show on a terminal: tables on standard output, progress and notes on standard error."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from holdfast.chat import ChatFormat
from holdfast.data import Message, RoleRows
from holdfast.errors import HoldfastError
from holdfast.escaping import one_line, printable
from holdfast.report.terminal import fit_table
from holdfast.system_errors import describe_os_error, silence

SECONDS_BETWEEN_LINES = 30.0
UNLIMITED = 10_000  # columns of a file or pipe


class SafeConsole(Console):
    """A console on which no text is markup, and whatever it prints, no control character of it works.

    Tables are split so that they fit a terminal without breaking a word; in a file or pipe they are whole.
    """

    @property
    def size(self) -> ConsoleDimensions:
        """The terminal's size; lines of a file or pipe are as long as they are."""
        size = super().size
        limited = self.is_terminal or "COLUMNS" in os.environ
        return size if limited else ConsoleDimensions(UNLIMITED, size.height)

    @size.setter
    def size(self, size: tuple[int, int]) -> None:
        self.width, self.height = size

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Render as `Console` does, with unprintable characters shown as escapes."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `Console` does, tables in as many parts as the width asks for.

        Raises HoldfastError where standard output cannot be written.
        """
        try:
            if not (len(objects) == 1 and isinstance(objects[0], Table)):
                super().print(*objects, **options)
                return
            for part in fit_table(objects[0], self.width):
                # A part that is text has its line breaks already.
                super().print(part, **{**options, "soft_wrap": isinstance(part, Text)})
        except OSError as error:
            self.on_broken_pipe()
            if not self.stderr:
                raise HoldfastError(describe_os_error(error, "standard output")) from error

    def on_broken_pipe(self) -> None:
        """Print no more, since nobody reads it (`| head`), and go on with the work."""
        self.quiet = True
        silence(self.file)


out = SafeConsole(markup=False, emoji=False)
err = SafeConsole(markup=False, emoji=False, stderr=True)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; call what it yields with (done, in all).

    Where standard error is no terminal: a plain line every half minute.
    """
    if not err.is_terminal:
        yield _plain_progress(what)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(one_line(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _plain_progress(what: str) -> Callable[[int, int], None]:
    reported = time.monotonic()

    def show(done: int, total: int) -> None:
        nonlocal reported
        if time.monotonic() - reported >= SECONDS_BETWEEN_LINES:
            reported = time.monotonic()
            note(f"{what}: {done:,} of {total:,}")

    return show


def note(text: str) -> None:
    """One line about what is going on."""
    err.print(one_line(text), highlight=False, soft_wrap=True)


def count(number: int, what: str) -> str:
    """`1 row`, `4,750 rows`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def report_loading(rows: RoleRows) -> None:
    """What loading dropped, and what it changed."""
    for reason, number in sorted(rows.dropped.items()):
        note(f"{rows.source}: dropped {count(number, 'row')} ({reason})")
    for change, number in sorted(rows.notes.items()):
        if number:
            note(f"{rows.source}: {count(number, 'row')} changed ({change})")


def warn_of(
    source: str, warnings: Mapping[str, int], examples: Mapping[str, Sequence[str]], dropped: Mapping[str, int]
) -> None:
    """What looks wrong in the data, with the first places of each, and what was dropped."""
    for reason, number in sorted(warnings.items(), key=lambda item: -item[1]):
        shown = examples.get(reason, ())
        places = ", ".join(place.removeprefix(f"{source}:") for place in shown)
        more = ", ..." if len(shown) < number else ""
        note(f"{source}: warning: {count(number, 'row')}: {reason}" + (f" ({places}{more})" if places else ""))
    for reason, number in sorted(dropped.items()):
        note(f"{source}: dropped {count(number, 'row')} ({reason})")


def warn_of_unknown_tokens(
    chat: ChatFormat, conversations: Iterable[Sequence[Message]], what: str = "the tokens"
) -> None:
    """Numbers of a model that cannot read the text mean nothing; say so."""
    share = chat.unknown_share(conversations)
    if share > 0.05:
        note(
            f"warning: {share:.0%} of {what} are unknown to this tokenizer; the numbers say little about the text"
        )
