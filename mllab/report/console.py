"""What a run says on the terminal: live progress, and tables.

Progress goes to standard error, tables to standard output, so that `command > table.txt` keeps the table alone. On a
terminal there is a bar; in a pipe or a log file there are plain lines, few. `NO_COLOR` is respected.
"""

import sys
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from mllab.report.table import Table, number

__all__ = ["Progress", "number", "show", "table"]

LINE_SECONDS = 2.0  # a plain line no more often than this,
LINE_SHARE = 0.1  # and only when this much more of the task is done,
QUIET_SECONDS = 60.0  # unless nothing was said for so long


class Progress:
    """Live progress of tasks that follow one another: each is a number of steps, taken by one or many lanes at once.

    A task shows `compiling` until its first `advance`; its rate and the time left count from there, since the first
    steps bring the compilation with them.

    >>> with Progress() as progress:
    ...     for name in ("sgd", "adam"):
    ...         progress.task(name, total=880, lanes=24)
    ...         for _ in range(20):
    ...             progress.advance(44, best=0.97)
    """

    def __init__(self, stream: TextIO | None = None):
        self._console = Console(file=stream or sys.stderr, highlight=False)
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bars = _bars(self._console) if live else None
        self._task: _Task | None = None

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end()
        if self._bars:
            self._bars.stop()

    def task(self, description: str, total: int, *, lanes: int = 1) -> None:
        """Begin the next task.

        Args:
            description: what the line is called, an optimizer's name for one.
            total: number of steps of the whole task.
            lanes: runs that take each step side by side.
        """
        self._end()
        self._task = _Task(description, total, lanes)
        if self._bars:
            self._task.bar = self._bars.add_task(description, total=total, status="compiling")
        else:
            self.say(f"{description}: compiling")

    def resume(self, completed: int) -> None:
        """Tell that the task stands at so many steps, taken before: they count for no rate."""
        task = self._task
        if task is None:
            raise RuntimeError("resume before task: Progress.task begins the task that resumes")
        task.completed = completed
        if self._bars and task.bar is not None:
            self._bars.update(task.bar, completed=completed)
        else:
            self.say(f"{task.description}: resumed at step {completed:,} of {task.total:,}")

    def advance(self, steps: int = 1, *, best: float | None = None) -> None:
        """Tell that the task took `steps` more steps, and the best validation score that it has reached so far."""
        task = self._task
        if task is None:
            raise RuntimeError("advance before task: Progress.task begins the task that advances")
        task.advance(steps, best)
        if self._bars and task.bar is not None:
            self._bars.update(task.bar, completed=task.completed, status=task.status())
        elif task.wants_line():
            self.say(f"{task.description}: {task.share:4.0%}  {task.status()}")

    def _end(self) -> None:
        """Let a task that stopped before its total (early stopping, an error) not look as if it still went on."""
        task = self._task
        if task is None or task.completed >= task.total:
            return
        stopped = f"stopped early: {task.status()}"
        if self._bars and task.bar is not None:
            self._bars.update(task.bar, total=max(task.completed, 1), completed=max(task.completed, 1), status=stopped)
        else:
            self.say(f"{task.description}: {stopped}")

    def say(self, line: str) -> None:
        """Print a line: above the bars on a terminal, among the plain lines otherwise."""
        self._console.print(Text(line), soft_wrap=True)
        self._console.file.flush()


class _Task:
    """How far one task is, how fast it goes, and when it last said so."""

    def __init__(self, description: str, total: int, lanes: int):
        self.description, self.total, self.lanes, self.completed = description, total, lanes, 0
        self.best: float | None = None
        self.bar: TaskID | None = None
        self._began: tuple[float, int] | None = None  # time and steps of the first advance, after the compilation
        self._now = time.monotonic()
        self._said = (self._now, 0)

    @property
    def share(self) -> float:
        return self.completed / self.total if self.total else 1.0

    def advance(self, steps: int, best: float | None) -> None:
        self._now = time.monotonic()
        self.completed += steps
        self.best = self.best if best is None else best
        if self._began is None:
            self._began = (self._now, self.completed)

    def wants_line(self) -> bool:
        """Return whether a plain line is due, and take it as said."""
        seconds, steps = self._now - self._said[0], self.completed - self._said[1]
        due = (seconds >= LINE_SECONDS and steps >= LINE_SHARE * self.total) or seconds >= QUIET_SECONDS
        if due or self.completed >= self.total:
            self._said = (self._now, self.completed)
            return True
        return False

    def status(self) -> str:
        """Return steps, lanes, rate, time left and best score, each where it is known."""
        parts = [f"{self.completed:,}/{self.total:,}"]
        parts[0] += f" × {self.lanes:,} lanes" if self.lanes > 1 else " steps"
        rate = self._steps_per_second()
        if rate:
            unit = "steps/s" if self.lanes == 1 else "lane-steps/s"
            parts.append(f"{_three_digits(rate * self.lanes)} {unit}")
            if self.completed < self.total:
                parts.append(f"{_duration((self.total - self.completed) / rate)} left")
        if self.best is not None:
            parts.append(f"best {self.best:.4g}")
        return ", ".join(parts)

    def _steps_per_second(self) -> float | None:
        if self._began is None or self._now <= self._began[0]:
            return None
        return (self.completed - self._began[1]) / (self._now - self._began[0])


def table(columns, rows, *, best: int | None = None, caption: str | None = None, stream: TextIO | None = None) -> None:
    """Print a table: numbers aligned at the decimal point, the best row with a `*` before it, and bold on a terminal.

    Args:
        columns: their names.
        rows: cells of each row, text or numbers; see `mllab.report.table.Table`.
        best: index of the row to mark.
        caption: a line below.
        stream: where to; standard output where absent.
    """
    show(Table(columns, rows, best, caption), stream=stream)


def show(made: Table, *, stream: TextIO | None = None) -> None:
    """Print a table that was made before, and stands on the page as well."""
    console = Console(file=stream or sys.stdout, highlight=False)
    for index, line in enumerate(made.lines()):
        is_best = made.best is not None and index == made.best + 2  # after the header and its rule
        console.print(Text(line, style="bold" if is_best or index == 0 else ""), soft_wrap=True)


def _bars(console: Console) -> RichProgress:
    return RichProgress(
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=5,
    )


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """Return seconds, minutes or hours, as a person would say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
