"""The terminal: live progress of a run, and tables.

Progress goes to standard error, tables to standard output, so that `command > table.txt` keeps the table alone. On a
terminal there is a bar; in a pipe or a log file there are a few plain lines; in a notebook a board shows it. `NO_COLOR`
is respected.
"""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from mllab.report.report import fold
from mllab.report.table import MINUS, Table, printable, short, wrapped

LINE_SECONDS = 2.0  # between plain lines at least,
LINE_SHARE = 0.1  # with at least this share of the task between them,
QUIET_SECONDS = 60.0  # unless so much time has passed


class Board(Protocol):
    """Where progress is shown other than on a stream, updated in place."""

    def show(self, number: int, description: str, share: float, status: str) -> None:
        """Show task `number`, 0, 1, ..., with the share of it that is done."""


class Progress:
    """Live progress of tasks that follow one another: each is a number of steps, taken by one or many lanes at once.

    A task shows `compiling` until its first `advance`; its rate and the time left count from there, since the first
    steps bring the compilation with them.
    """

    def __init__(self, stream: TextIO | None = None, *, board: Board | None = None):
        """Show progress on a stream, by default standard error, or on a board and the lines of `say` on the stream."""
        self._console = _console(_Lossy(stream or sys.stderr))
        self._board = board
        self._count = 0  # of tasks
        self._task: _Task | None = None
        self._bars: Bars | None = None
        if board is None and self._console.is_terminal and not self._console.is_dumb_terminal:
            columns = (
                SpinnerColumn(finished_text="✓"), TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24), TextColumn("{task.fields[status]}", markup=False), TimeElapsedColumn(),
            )  # fmt: skip
            self._bars = Bars(*columns, console=self._console, refresh_per_second=5)

    def __enter__(self) -> Self:
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._end()
        if self._bars:
            self._bars.stop()

    @property
    def description(self) -> str:
        """The description of the task; empty before the first."""
        return self._task.description if self._task else ""

    def task(self, description: str, total: int, *, lanes: int = 1) -> None:
        """Begin the next task: `total` steps, which `lanes` runs take side by side."""
        self._end()
        self._task = _Task(description, total, lanes)
        self._count += 1
        if self._board:
            self._show(self._task, "compiling", "")
        elif self._bars:
            self._task.bar = self._bars.add_task(description, total=total, status="compiling")
        else:
            self.say(f"{description}: compiling")

    def resume(self, completed: int) -> None:
        """Set the task to a step that an earlier run reached; the steps up to it do not count in the rate."""
        task = self._current()
        task.completed = completed
        self._show(task, "compiling", f"resumed at step {completed:,} of {task.total:,}")

    def advance(self, steps: int = 1, *, best: float | None = None) -> None:
        """Add steps that the task has taken, and the best validation score so far."""
        task = self._current()
        task.advance(steps, best)
        if self._board or self._bars or task.is_line_due():
            self._show(task, task.status(), f"{task.share:4.0%}  {task.status()}")

    def say(self, line: str) -> None:
        """Print a line: above the bars on a terminal, among the plain lines otherwise."""
        self._console.print(Text(line), soft_wrap=True)
        self._console.file.flush()

    def _current(self) -> "_Task":
        if self._task is None:
            raise RuntimeError("no progress before task: Progress.task begins one")
        return self._task

    def _show(self, task: "_Task", status: str, line: str) -> None:
        """Show a task on the board or by its bar, with a status, or by a plain line."""
        if self._board:
            self._board.show(self._count - 1, task.description, task.share, status)
        elif self._bars and task.bar is not None:
            self._bars.update(task.bar, total=task.total, completed=task.completed, status=status)
        else:
            self.say(f"{task.description}: {line}")

    def _end(self) -> None:
        """Finish the bar of a task that stopped before its total (early stopping, an error)."""
        if (task := self._task) and task.completed < task.total:
            stopped = f"stopped early: {task.status()}"
            task.total = task.completed = max(task.completed, 1)
            self._show(task, stopped, stopped)


def kernel() -> Any:
    """Return the IPython shell of the Jupyter or Colab kernel that this process is; None outside one."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and hasattr(ipython, "get_ipython") else None
    return shell if hasattr(shell, "kernel") else None


class _Console(Console):
    """A console that leaves it to the program how to end when the reader of a pipe is gone."""

    def on_broken_pipe(self) -> None:
        raise


def _console(stream: Any) -> Console:
    """Return the console of a stream; some terminals, and $COLUMNS, claim to have no columns.

    Output in a notebook never counts as a terminal, neither the kernel's nor that of programs it starts
    (`!python -m ...`), which may have a terminal and inherit $FORCE_COLOR.
    """
    is_notebook = kernel() is not None or "JPY_PARENT_PID" in os.environ  # which Jupyter sets for kernels
    console = _Console(file=stream, highlight=False, force_jupyter=False, force_terminal=False if is_notebook else None)
    console.width = max(console.width, 1)
    return console


class _Lossy:
    """A stream that drops what cannot be written: a run does not depend on whether its progress can be shown."""

    def __init__(self, stream: TextIO | None):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError, AttributeError):  # full, closed, or none
            self._stream.write(text)  # type: ignore[union-attr]
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            self._stream.flush()  # type: ignore[union-attr]


class _Task:
    """The steps, speed and best score of one task."""

    def __init__(self, description: str, total: int, lanes: int):
        self.description, self.total, self.lanes, self.completed = description, total, lanes, 0
        self.best: float | None = None
        self.bar: TaskID | None = None
        self._first: tuple[float, int] | None = None  # time and steps of the first advance, after the compilation
        self._now = time.monotonic()
        self._last_line = (self._now, 0)

    @property
    def share(self) -> float:
        return self.completed / self.total if self.total else 1.0

    def advance(self, steps: int, best: float | None) -> None:
        self._now = time.monotonic()
        self.completed += steps
        self.best = self.best if best is None else best
        self._first = self._first or (self._now, self.completed)

    def is_line_due(self) -> bool:
        """Return whether to print a plain line now; the next is due some time after one that was."""
        seconds, steps = self._now - self._last_line[0], self.completed - self._last_line[1]
        is_due = (seconds >= LINE_SECONDS and steps >= LINE_SHARE * self.total) or seconds >= QUIET_SECONDS
        if is_due or self.completed >= self.total:
            self._last_line = (self._now, self.completed)
            return True
        return False

    def status(self) -> str:
        """Return steps and lanes, and rate, time left and best score once there are any."""
        parts = [f"{self.completed:,}/{self.total:,}" + (f" × {self.lanes:,} lanes" if self.lanes > 1 else " steps")]
        since, before = self._first or (self._now, self.completed)
        if self._now > since and self.completed > before:
            rate = (self.completed - before) / (self._now - since)
            parts.append(f"{short(rate * self.lanes)} {'lane-' if self.lanes > 1 else ''}steps/s")
            if self.completed < self.total:
                parts.append(f"{_duration((self.total - self.completed) / rate)} left")
        if self.best is not None:
            parts.append(f"best {short(self.best, 4)}")
        return ", ".join(parts)


def show(made: Table, *, stream: TextIO | None = None) -> None:
    """Print a table to a stream or to standard output: as wide as a terminal at most, with bold header and best row."""
    console = _console(stream or sys.stdout)
    for line in made.layout(console.width if console.is_terminal else None):
        text = Text(_encodable(line.text, console.encoding), style="bold" if line.is_bold else "")
        console.print(text, soft_wrap=True)


def show_line(text: str, *, indent: str = "", stream: TextIO | None = None) -> None:
    """Print a text to a stream or to standard output: one printable line, which a terminal's width breaks at spaces."""
    console = _console(stream or sys.stdout)
    text = _encodable(printable(text), console.encoding)
    for line in wrapped(text, console.width - len(indent)) if console.is_terminal else [text]:
        console.print(Text(indent + line), soft_wrap=True)


def show_remarks(remarks: Sequence[str], page: str, *, stream: TextIO | None = None) -> None:
    """Print remarks to a stream or to standard output, a line each: the first ones where `page`, if any, lists all."""
    first, rest = fold(remarks) if page else (remarks, ())
    for remark in [*first, *([f"and {len(rest):,} more, listed in {page}"] if rest else [])]:
        show_line(remark, indent="  ", stream=stream)


def _encodable(text: str, encoding: str) -> str:
    """Return a text with hyphens for minus signs where the encoding has none."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.replace(MINUS, "-")
    return text


def _duration(seconds: float) -> str:
    """Return a time in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
