"""A run in a Jupyter or Colab kernel: progress that is updated in place, the page inline, a mistake in one line.

IPython is imported only in a kernel.
"""

import html
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from mllab.errors import UserError
from mllab.report.console import kernel

MAX_FRAME = 2_000_000  # characters; Jupyter drops output beyond 3 MB in 3 seconds
PAGE_HEIGHT = "40rem"
UPDATE_S = 0.25  # between updates of a task, at least
SHOWN_TASKS = 10  # of a run, the last ones


class Board:
    """The tasks of a run in one output of a cell: a bar and a status each, updated in place."""

    def __init__(self) -> None:
        """Display nothing before the first task."""
        self._tasks: list[tuple[str, float, str]] = []  # description, share that is done, status
        self._handle: Any = None
        self._updated = 0.0  # seconds

    def show(self, number: int, description: str, share: float, status: str) -> None:
        """Show task `number`, 0, 1, ..., with the share of it that is done."""
        is_new = number >= len(self._tasks)
        self._tasks[number:] = [(description, share, status)]
        if is_new or share >= 1 or time.monotonic() - self._updated >= UPDATE_S:
            self._updated = time.monotonic()
            self._display()

    def _display(self) -> None:
        from IPython.display import display

        last = self._tasks[-SHOWN_TASKS:]
        earlier = len(self._tasks) - len(last)
        bars = "".join(
            f'<div style="white-space: nowrap"><progress max="1" value="{share:.3f}"></progress> '
            f"{html.escape(f'{description}: {status}')}</div>"
            for description, share, status in last
        )
        lines = [f"{description}: {share:.0%}  {status}" for description, share, status in last]
        if earlier:
            note = f"{earlier} earlier"
            bars, lines = f"<div>{note}</div>{bars}", [note, *lines]
        bundle = {"text/html": bars, "text/plain": "\n".join(lines)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


def board() -> Board | None:
    """Return where a kernel shows the progress of a run; None outside a kernel."""
    return Board() if kernel() else None


def show_closing(page: Path | None, text: str) -> None:
    """Display a report's page in a frame of its own, or print what a run ends with where there is no such page.

    Args:
        page: report.html, if the run wrote one; one that is too large is not displayed.
        text: the table and the answer.
    """
    if page and len(frame := _frame(page.read_text(encoding="utf-8"))) <= MAX_FRAME:
        from IPython.display import display

        display({"text/html": frame, "text/plain": text}, raw=True)
    else:
        print(text, end="")


def _frame(page: str) -> str:
    """Return a page, HTML, in an element that can be part of another page; links open in a tab of their own."""
    escaped = page.replace("<head>", '<head><base target="_blank">', 1).replace("&", "&amp;").replace("'", "&#39;")
    return (
        f"<iframe sandbox='allow-popups allow-popups-to-escape-sandbox' title='report' srcdoc='{escaped}' "
        f"style='width: 100%; height: {PAGE_HEIGHT}; border: 1px solid #8888; resize: vertical'></iframe>"
    )


@contextmanager
def brief_errors() -> Iterator[None]:
    """Let a kernel show a mistake of the user, or an interruption, as one line rather than as a traceback."""
    try:
        yield
    except UserError as error:
        _render(error, f"error: {error}")
        raise
    except KeyboardInterrupt as error:
        _render(error, "interrupted")
        raise


@contextmanager
def brief_interruption(folder: Path | None) -> Iterator[None]:
    """Let a kernel show an interruption as one line, which says how to resume from a workdir that was begun."""
    try:
        yield
    except KeyboardInterrupt as error:
        if folder and (folder / "flags.cfg").exists():
            _render(error, f"interrupted: the same settings with workdir={str(folder)!r} resume")
        raise


def _render(error: BaseException, line: str) -> None:
    if kernel() and not hasattr(error, "_render_traceback_"):
        error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]


def abbreviate(measurement: Any) -> None:
    """Let a kernel show a measurement that ends a cell by the names of its fields; `repr` stays as it is."""
    shell = kernel()
    if shell is None or not is_dataclass(measurement):
        return
    kind = type(measurement)
    names = ", ".join(field.name for field in fields(measurement))
    line = f"{kind.__module__}.{kind.__name__} with the fields {names}"
    shell.display_formatter.formatters["text/plain"].for_type(kind, lambda _, printer, cycle: printer.text(line))
