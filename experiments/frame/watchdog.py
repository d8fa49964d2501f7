"""A watchdog over the computation of a run: it reports a program that waits for ever.

A deadlock in the runtime below JAX looks like a long computation, except that it uses no processor time. A run counts
as stuck if, in every sample of `IDLE_S` seconds, its main thread waits for JAX, no other thread is able to run, and the
process has used almost no processor time. So a process that is suspended, or that starves on a busy machine, is not
stuck. Computations on a GPU or TPU, downloads and files are not watched, since they use no processor time either.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Self

import jax

IDLE_S = 60.0  # how long a program may be idle
SAMPLES = 12  # in that time
IDLE_SHARE = 0.05  # of one core: the progress bar takes less
_JAX = Path(jax.__file__).parent
_HERE = Path(__file__).parents[2]
_CODE = (_JAX, _HERE / "mllab", _HERE / "experiments")


class Watchdog:
    """A context manager that watches the thread which enters it, and reports once if it is stuck."""

    def __init__(self, task: Callable[[], str], report: Callable[[str], None], *, idle_s: float = IDLE_S):
        """Start nothing yet.

        Args:
            task: returns what the run is doing, such as the description of the progress bar.
            report: is called with one line when the run is stuck, in another thread.
            idle_s: how long a program may be idle, in seconds.
        """
        self._task, self._report, self._interval = task, report, idle_s / SAMPLES
        self._idle_s, self._thread, self._done = idle_s, threading.get_ident(), threading.Event()

    def __enter__(self) -> Self:
        """Watch the calling thread."""
        self._thread = threading.get_ident()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        self._done.set()

    def _watch(self) -> None:
        idle, used = 0, _seconds_of_others()
        while not self._done.wait(self._interval):
            before, used = used, _seconds_of_others()
            frame = sys._current_frames().get(self._thread)
            is_idle = used - before < IDLE_SHARE * self._interval and _waits_for_jax(frame) and not _any_runnable()
            idle = idle + 1 if is_idle else 0
            if idle >= SAMPLES and jax.default_backend() == "cpu" and not self._done.is_set():
                self._report(self._line(frame))
                return

    def _line(self, frame: FrameType | None) -> str:
        place = next((name for name in map(_name, _callers(frame)) if name), "")
        return (
            f"{' in '.join(filter(None, (self._task(), place)))} is stuck: no processor time used for "
            f"{self._idle_s:.0f} s while a program runs, a deadlock in JAX's CPU runtime; run the same command again "
            "with --devices=1, or with a newer jax"
        )


def _seconds_of_others() -> float:
    """Return the processor time of all threads but this one, which adds up where it reads the states of hundreds."""
    return time.process_time() - time.thread_time()


def _callers(frame: FrameType | None) -> list[FrameType]:
    """Return a frame and those that called it, the innermost first."""
    frames = []
    while frame:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _waits_for_jax(frame: FrameType | None) -> bool:
    """Return whether a thread is in a function of JAX, or in a compiled one that this project called."""
    return frame is not None and any(Path(frame.f_code.co_filename).is_relative_to(folder) for folder in _CODE)


def _name(frame: FrameType) -> str:
    """Return the dotted name of a frame's function, if it is this project's."""
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(_HERE) or path.is_relative_to(_JAX):
        return ""
    return ".".join((*path.relative_to(_HERE).with_suffix("").parts, frame.f_code.co_name))


def _any_runnable() -> bool:
    """Return whether a thread other than this one runs, is ready to run, or waits for a disk; False where unknown."""
    try:
        tasks = [task for task in Path("/proc/self/task").iterdir() if task.name != str(threading.get_native_id())]
        return any((task / "stat").read_text().rpartition(")")[2].split()[0] in "RD" for task in tasks)
    except OSError:  # not Linux, or a thread that has just ended
        return os.path.exists("/proc/self/task")
