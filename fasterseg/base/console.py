"""Progress of long operations: on a terminal a bar with the time left, elsewhere an occasional line.

Every loop of the toolkit reports its progress through this module. Every message of a run goes through `CONSOLE`, so
that bars and messages do not garble each other.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from operator import length_hint
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fasterseg.base.text import printable, printable_lines


class SafeConsole(Console):
    """A console that escapes control characters, because a class name may hold any character."""

    def render_str(self, text: str, *args: Any, **kwargs: Any) -> Text:
        """Renders a text with control characters escaped; rich calls this for every printed text."""
        return super().render_str(printable_lines(text), *args, **kwargs)


CONSOLE = SafeConsole(highlight=False, markup=False, soft_wrap=True)
# For progress of commands whose output may be piped into a file or another program.
ERROR_CONSOLE = SafeConsole(highlight=False, markup=False, soft_wrap=True, stderr=True)
_LINE_INTERVAL_S = 30.0

ItemT = TypeVar("ItemT")


def print_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Prints a table."""
    table = Table(*header)
    for line in lines:
        table.add_row(*line)
    CONSOLE.print(table, soft_wrap=False)


def format_duration(duration_s: float) -> str:
    """A duration as `1:02:03` or `2:03`."""
    minutes, seconds = divmod(round(duration_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class ProgressReporter:
    """Counts finished steps and estimates the time left from the mean duration of a step.

    Args:
        description: Name of the operation, such as `student`.
        total: Number of steps.
        completed: Number of steps that an earlier run finished.
        bar: The terminal's bar; None to print lines.
        console: Console that lines are printed to.
    """

    def __init__(
        self,
        description: str,
        total: int,
        *,
        completed: int = 0,
        bar: Progress | None = None,
        console: Console = CONSOLE,
    ) -> None:
        self.description = description
        self.total = total
        self.completed = completed
        self._console = console
        self._completed_before = completed
        self._started_s = time.monotonic()
        self._printed_s = self._started_s
        self._bar = bar
        self._task: TaskID | None = None
        if bar is not None:
            self._task = bar.add_task(description, total=total, completed=completed, note="", left="")

    @property
    def time_left_s(self) -> float | None:
        """Estimated seconds for the remaining steps, from this run's steps so far; None before the first."""
        done = self.completed - self._completed_before
        if done <= 0:
            return None
        return (time.monotonic() - self._started_s) / done * max(0, self.total - self.completed)

    def advance(self, steps: int = 1, *, note: str | None = None) -> None:
        """Counts further steps as done.

        Args:
            steps: Number of steps.
            note: A short text beside the bar, such as the current loss; None keeps the last one.
        """
        self.completed += steps
        left_s = self.time_left_s
        left = "" if left_s is None else f"{format_duration(left_s)} left"
        if self._bar is not None and self._task is not None:
            if note is not None:
                self._bar.update(self._task, note=note)
            self._bar.update(self._task, completed=self.completed, left=left)
            return
        now = time.monotonic()
        if now - self._printed_s >= _LINE_INTERVAL_S:
            self._printed_s = now
            parts = [f"{self.description}: {self.completed}/{self.total}", left, note or ""]
            self._console.print(", ".join(part for part in parts if part))


@contextmanager
def epoch_progress(
    description: str, total: int, *, completed: int = 0, console: Console = CONSOLE
) -> Iterator[ProgressReporter]:
    """Shows the progress of `total` steps while the block runs.

    On a terminal a bar with the time left; elsewhere a line every half minute, so that logs stay short.

    Args:
        description: Name of the operation.
        total: Number of steps.
        completed: Number of steps that an earlier run finished.
        console: Console of the bar or the lines.
    """
    description = printable(description)
    if not console.is_terminal or console.quiet:
        yield ProgressReporter(description, total, completed=completed, console=console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        yield ProgressReporter(description, total, completed=completed, bar=bar)


def tracked(
    items: Iterable[ItemT], description: str, *, total: int | None = None, disable: bool = False
) -> Iterator[ItemT]:
    """Yields items one by one and shows how many are done.

    The progress goes to the error stream, so that the output of the command can be piped.

    Args:
        items: The items to iterate over.
        description: Name of the operation.
        total: Number of items; the length of `items` when not given.
        disable: Show nothing.
    """
    if disable:
        yield from items
        return
    count = length_hint(items) if total is None else total
    with epoch_progress(description, count, console=ERROR_CONSOLE) as reporter:
        for item in items:
            yield item
            reporter.advance()
