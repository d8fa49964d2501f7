"""A recorded run again, as a user repeats it: another process, with the flags and the number of devices of the run."""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from experiments.recorded_run import EXPERIMENTS, RecordedRun
from mllab.errors import UserError

STOP_S = 1.0  # for the other process to end by itself, less than `process.GRACE_S`
ROOT = Path(__file__).parents[1]


def command(recorded: RecordedRun, workdir: Path) -> list[str]:
    """Return the command that repeats a run in another workdir; later flags override those of the file."""
    words = [sys.executable, "-m", f"experiments.{recorded.experiment}", f"--flagfile={recorded.path / 'flags.cfg'}"]
    if EXPERIMENTS[recorded.experiment] and recorded.device_count is not None:
        words.append(f"--devices={recorded.device_count}")
    return [*words, f"--workdir={workdir}"]


def replay(recorded: RecordedRun, workdir: Path, observe: Callable[[str], None]) -> float:
    """Run a recorded run again; return its wall time in seconds.

    Args:
        recorded: the run.
        workdir: where to write it: a folder that does not exist or is empty.
        observe: takes each line of its progress.

    Raises:
        UserError: it ended by an error, whose line is repeated.
    """
    began, last = time.perf_counter(), ""
    with _process(command(recorded, workdir)) as process:
        assert process.stderr is not None
        for line in _lines(process.stderr):
            last = line or last
            if not line.startswith("error: "):
                observe(line)
        code = process.wait()
    if code < 0:
        raise UserError(f"{recorded.path}: its replay was killed by signal {-code}: out of memory?")
    if code:
        reason = last.removeprefix("error: ") or f"exit code {code}"
        raise UserError(f"{recorded.path} cannot be repeated by this version and on this machine: {reason}")
    return time.perf_counter() - began


@contextmanager
def _process(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command until the block ends; it is stopped where that is by an exception, such as an interruption.

    In a session of its own, so that Ctrl-C reaches only this process, which stops that one: one line is printed.
    """
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(
        words, env=os.environ | {"PYTHONPATH": paths}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()
            process.wait()


def _lines(stream: IO[str]) -> Iterator[str]:
    """Yield the lines of a stream as they come.

    Another thread reads them. This one waits in a queue, which the watchdog does not take for a stuck computation.
    """
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, name="replay", daemon=True).start()
    while (line := lines.get()) is not None:
        yield line
