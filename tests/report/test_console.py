import io
import re
import subprocess
import sys

import pytest

from mllab.report import console
from mllab.report.table import Table
from support.figures import NASTY


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console.time, "monotonic", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "JPY_PARENT_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def race(stream, clock, seconds_a_segment, segments=40, names=("sgd", "adam [bold]")):
    with console.Progress(stream) as progress:
        for name in names:
            progress.task(name, total=22 * segments, lanes=24)
            clock.now += 3.0  # compiling
            for segment in range(segments):
                clock.now += seconds_a_segment
                progress.advance(22, best=0.9 + 0.001 * segment)


@pytest.mark.parametrize(
    ("seconds_a_segment", "most"),
    [(0.001, 3), (0.1, 4), (1.0, 12), (100.0, 42)],  # a task: quick, seconds, a minute, an hour
)
def test_plain_lines_are_few(clock, seconds_a_segment, most):
    stream = io.StringIO()
    race(stream, clock, seconds_a_segment, names=["sgd"])
    lines = stream.getvalue().splitlines()
    assert 2 <= len(lines) <= most
    assert lines[0] == "sgd: compiling"
    assert "\x1b" not in stream.getvalue()


def test_a_plain_line_tells_rate_time_left_and_best(clock):
    stream = io.StringIO()
    race(stream, clock, 1.0)
    lines = stream.getvalue().splitlines()
    # From the first advance on, 22 steps a second: the compilation before it does not count.
    assert lines[2] == "sgd:  20%  176/880 × 24 lanes, 528 lane-steps/s, 32 s left, best 0.907"
    assert lines[-1] == "adam [bold]: 100%  880/880 × 24 lanes, 528 lane-steps/s, best 0.939"


def test_a_best_score_is_written_as_numbers_of_tables_are():
    stream = io.StringIO()
    with console.Progress(stream) as progress:
        progress.task("gru, −nats", total=10)
        progress.advance(10, best=-2.8473)
        progress.task("ridge, −RMSE", total=10)
        progress.advance(10, best=-12345.6)
    assert re.findall("best .*", stream.getvalue()) == ["best −2.847", "best −12,350"]


def test_a_task_that_resumes_or_stops_early_says_so(clock):
    stream = io.StringIO()
    with console.Progress(stream) as progress:
        progress.task("sgd", total=100)
        progress.resume(40)
        clock.now += 1
        progress.advance(10)
        progress.task("adam", total=100)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["sgd: compiling", "sgd: resumed at step 40 of 100"]
    assert lines[2] == "sgd: stopped early: 50/100 steps"
    assert lines[-1] == "adam: stopped early: 0/100 steps"


def test_an_advance_needs_a_task():
    with console.Progress(io.StringIO()) as progress, pytest.raises(RuntimeError, match="before task"):
        progress.advance()


def test_a_terminal_gets_bars_and_said_lines_above_them(terminal, clock):
    with console.Progress(terminal) as progress:
        progress.task("adam [bold]", total=10, lanes=3)
        progress.say("the newest checkpoint is damaged")
        clock.now += 1
        progress.advance(10, best=0.5)
    shown = terminal.getvalue()
    assert "compiling" in shown
    assert "━" in shown
    assert "adam [bold]" in shown  # a name is no markup
    assert "the newest checkpoint is damaged" in shown


def test_a_program_that_a_notebook_starts_prints_plain_lines(terminal, clock, monkeypatch):
    monkeypatch.setenv("JPY_PARENT_PID", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    race(terminal, clock, 1.0)
    console.show(Table(["optimizer", "test"], [["sgd", 0.9]], best=0), stream=terminal)
    assert "sgd:  20%" in terminal.getvalue()
    assert "* sgd" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


@pytest.mark.parametrize("no_color", [False, True])
def test_the_best_row_is_bold_on_a_terminal_and_colour_is_left_out_on_request(terminal, monkeypatch, no_color):
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    with console.Progress(terminal) as progress:
        progress.task("adam", total=1)
        progress.advance(1)
    console.show(Table(["optimizer", "test"], [["sgd", 0.9], ["adam", 0.95]], best=1), stream=terminal)
    assert "\x1b[1m* adam" in terminal.getvalue()
    coloured = re.search(r"\x1b\[[\d;]*(3[0-7]|38|9[0-7])[\d;]*m", terminal.getvalue())
    assert bool(coloured) is not no_color


def test_a_piped_table_is_not_cut():
    stream = io.StringIO()
    console.show(Table(["name", "value"], [["x" * 300, 1]]), stream=stream)
    assert "x" * 300 + "      1\n" in stream.getvalue()


def test_a_table_is_as_wide_as_the_terminal(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    table = Table([f"column {index}" for index in range(9)], [["a_long_name", *["0.9677 ± 0.0019"] * 8]], best=0)
    console.show(table, stream=terminal)
    lines = re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.startswith("* a_long_name") for line in lines) > 1
    assert " ".join(lines).count("0.9677 ± 0.0019") == 8
    monkeypatch.setenv("COLUMNS", "60")
    piped = io.StringIO()
    console.show(table, stream=piped)
    assert len(piped.getvalue().splitlines()) == 3


def test_long_lines_are_broken_at_spaces_on_a_terminal_alone(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "an answer of several words, 0.9677 ± 0.0019, " * 3 + "x" * 50
    piped = io.StringIO()
    for stream in (terminal, piped):
        console.show_line(text, stream=stream)
        console.show_remarks([text], "", stream=stream)
    lines = terminal.getvalue().splitlines()
    assert " ".join(" ".join(lines).split()) == f"{text} {text}"
    assert all(len(line) <= 40 or line.strip() == "x" * 50 for line in lines)
    assert piped.getvalue() == f"{text}\n  {text}\n"


@pytest.mark.parametrize(("encoding", "sign"), [("utf-8", "−"), ("ascii", "-"), ("latin-1", "-")])
def test_a_minus_sign_is_a_hyphen_where_the_encoding_has_none(encoding, sign):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console.show(Table(["x"], [["−1.5"]]), stream=stream)
    console.show_remarks(["less by −1.5"], "", stream=stream)
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding).count(f"{sign}1.5") == 2


@pytest.mark.parametrize(
    ("count", "page", "last"),
    [
        (33, "report.html", "and 25 more, listed in report.html"),
        (9, "report.html", "remark 8"),
        (33, "", "remark 32"),
        (0, "report.html", None),
    ],
)
def test_many_remarks_are_folded_where_a_page_lists_them(count, page, last):
    stream = io.StringIO()
    console.show_remarks([f"remark {index}" for index in range(count)], page, stream=stream)
    lines = stream.getvalue().splitlines()
    assert [line.strip() for line in lines[-1:]] == ([last] if last else [])
    assert all(line.startswith("  ") for line in lines)
    assert len(lines) == (9 if page and count else count)


@pytest.mark.parametrize("name", NASTY)
def test_any_name_is_printed_on_one_line(name):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    console.show_line(name, stream=stream)
    console.show_remarks([name or "x"], "", stream=stream)
    console.show(Table([name, "b"], [[name, 1]], best=0, caption=name), stream=stream)
    stream.flush()
    lines = stream.buffer.getvalue().decode().split("\n")
    assert all(line.isprintable() for line in lines)
    assert len(lines) >= 6


@pytest.mark.slow
def test_the_console_comes_without_the_heavy_libraries():
    command = "import mllab.report.console, sys; print({'matplotlib', 'jinja2', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
