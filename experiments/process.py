"""The process of a program: interruption and standard streams, in order before the imports of an experiment begin.

`experiments/__init__.py` calls `begin` for `python -m experiments.NAME`, and `main` of an experiment for other modules
that run as a program. This module imports nothing that takes time.

A program that is interrupted prints one line and exits with 128 plus the signal's number. Neither depends on the main
thread: compiled code may run there for minutes, and a KeyboardInterrupt that is raised in a callback or a finaliser is
printed and ignored. So another thread learns of the signal through `signal.set_wakeup_fd`, prints the line, silences
standard error, and ends the process if the main thread has not done so after `GRACE_S`.
"""

import codecs
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

GRACE_S = 2.0  # for the main thread to remove partial files
LINES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
SHOW_CURSOR = "\x1b[?25h"  # progress bars hide it
PLAIN = {
    "×": "x",
    "±": "+/-",
    "−": "-",
    "–": "-",
    "—": "-",
    "·": "*",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "→": "->",
    "…": "...",
    "²": "^2",
}


class _Interruption:
    """What is known of a signal that ends this process."""

    def __init__(self) -> None:
        self.installed = False
        self.unwinds = False  # whether the main thread is in `interruptible`
        self.number: int | None = None  # of the signal
        self._handled = False  # in the main thread
        self._lock = threading.RLock()  # reentrant: a second signal may arrive inside the handler

    def announce(self, number: int) -> None:
        """Print the one line of a signal, once, and silence standard error."""
        with self._lock:
            if self.number is None:
                line = LINES[signal.Signals(number)] + "\n"
                with suppress(OSError):
                    os.write(2, (f"{SHOW_CURSOR}\n{line}" if os.isatty(2) else line).encode())
                self.number = number
                with suppress(OSError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal in the main thread: unwind at the first one where there is something to unwind, or exit."""
        del frame
        is_first, self._handled = not self._handled, True
        self.announce(number)
        if not (is_first and self.unwinds):
            self.exit()
        raise KeyboardInterrupt

    def watch(self, descriptor: int) -> None:
        """Wait for a signal, in a thread of its own; end the process where the main thread does not."""
        while (received := os.read(descriptor, 1)) and received[0] not in map(int, LINES):
            pass  # another signal that has a handler
        self.announce(received[0])
        time.sleep(GRACE_S)
        self.exit()

    def exit(self) -> None:
        """End the process with the exit code of its signal."""
        os._exit(128 + int(self.number or 0))


_interruption = _Interruption()
_relays: list[subprocess.Popen[bytes]] = []  # at most one, see `report_lost`


def begin() -> None:
    """Set up the signals and standard streams of a program; a second call does nothing."""
    if not _interruption.installed:
        _interruption.installed = True
        _open_streams()
        _handle_signals()


def runs_as_module(package: str) -> bool:
    """Return whether this process is `python -m PACKAGE.NAME` and is importing the package."""
    prefix = f"{package}."
    return sys.argv[:1] == ["-m"] and any(word.removeprefix("-m").startswith(prefix) for word in sys.orig_argv)


@contextmanager
def interruptible() -> Iterator[None]:
    """Unwind the block at a signal, as KeyboardInterrupt does, and exit with the signal's code in any case."""
    _interruption.unwinds = True
    try:
        yield
    finally:
        _interruption.unwinds = False
        _flush()
        if _interruption.number is not None:  # also where the exception was lost on its way, or replaced
            _interruption.exit()


def _flush() -> None:
    """Write what standard error still holds; where it is full, drop it, since Python would exit with code 120."""
    try:
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        silence(2)


def end(code: int) -> NoReturn:
    """End the program at once, with the code of a signal if one came.

    Otherwise libraries whose threads are still at work might report that on standard error. In a process that `begin`
    did not set up, such as that of a test, raise SystemExit.
    """
    if not _interruption.installed:
        sys.exit(code)
    if _interruption.number is not None:
        _interruption.exit()
    _flush()
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    if _relays:  # the last line may still be on its way
        silence(2)
        with suppress(subprocess.TimeoutExpired):
            _relays[-1].wait(GRACE_S)
    os._exit(code)


def finish() -> None:
    """End a program that succeeded, as `end` does; return in a process that `begin` did not set up.

    While the interpreter shuts down, C++ threads of libraries that ask for its lock may abort the process.
    """
    if _interruption.installed:
        end(0)


def silence(descriptor: int) -> None:
    """Direct standard output (1) or standard error (2) to nowhere, since nothing more can be written there."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def report_lost(line: str, signs: Sequence[str]) -> None:
    """Show one line in place of what libraries print on standard error before they end this process.

    They abort it where another process of the same run is lost, after some twenty lines. So a small program passes
    standard error on line by line, without lines that begin with the marks of these libraries; at a sign of loss it
    shows the line instead, and nothing after it.

    Args:
        line: to show.
        signs: parts of lines that mean a loss.
    """
    words = [sys.executable, "-c", _FILTER, line, *signs]
    relay = subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True)
    _relays.append(relay)
    assert relay.stdin is not None
    sys.stderr.flush()
    os.dup2(relay.stdin.fileno(), 2)
    relay.stdin.close()


_FILTER = r"""
import re, sys
line, signs = sys.argv[1].encode(), [sign.encode() for sign in sys.argv[2:]]
noise = re.compile(
    rb"[EWIF]\d{4} |\[Gloo\]|Additional GRPC|:UNKNOWN|RPC: |\*\*\* Check|    @ |The tasks have crashed|\d+$|$"
)
for each in sys.stdin.buffer:
    # A message of the program itself may quote such a sign, and says more.
    lost = line in each or (not each.startswith(b"error: ") and any(sign in each for sign in signs))
    if lost or not noise.match(each):
        sys.stderr.buffer.write(line + b"\n" if lost else each)
        sys.stderr.flush()
    if lost:
        for _ in sys.stdin.buffer:
            pass
"""


def _open_streams() -> None:
    """Open closed streams to nowhere, and let no character fail that a stream's encoding lacks."""
    for descriptor in (0, 1, 2):  # a closed one would be the next file that is opened, such as metrics.jsonl
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    codecs.register_error("plain", _plain)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - open until the process ends
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):
            stream.reconfigure(errors="plain")  # type: ignore[union-attr]


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Return characters that an encoding lacks in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in missing), error.end


def _handle_signals() -> None:
    """Handle SIGINT and SIGTERM, unless they are ignored (`nohup`, a job in the background)."""
    handled = [number for number in LINES if signal.getsignal(number) is not signal.SIG_IGN]
    if not handled or threading.current_thread() is not threading.main_thread():
        return
    if os.name == "posix":
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=_interruption.watch, args=(read,), name="signals", daemon=True).start()
    for number in handled:
        signal.signal(number, _interruption.handle)
