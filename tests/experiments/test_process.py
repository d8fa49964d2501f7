"""A program as a process: interruption at any moment, and surroundings that are not as usual."""

import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.workdirs import records_of

ROOT = Path(__file__).parents[2]
TOY = [sys.executable, "-m", "support.toy_experiment"]
LAST_LINE = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


def environment(path=(), **changes):
    """Return this process's environment with `path` first on Python's path; None removes a variable."""
    every = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT, ROOT / "tests"]))} | changes
    return {name: value for name, value in every.items() if value is not None}


def start(command, **options):
    options = {"env": environment()} | options
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def ends_in_one_line(process, number, seconds=10.0):
    """Check that a process that was sent a signal ends with its line and its exit code, soon."""
    began = time.monotonic()
    output, errors = process.communicate(timeout=60)
    if process.returncode == -number and output:  # it had ended, and Python had taken the handlers down
        return errors
    assert process.returncode == 128 + number, errors
    assert errors.splitlines()[-1:] == [LAST_LINE[number]]
    assert "Traceback" not in output + errors
    assert "rror" not in errors
    assert time.monotonic() - began < seconds
    return errors


@pytest.mark.parametrize("number", LAST_LINE)
def test_an_interruption_of_the_imports_is_one_line(tmp_path, number):
    """A module in place of jax waits; the real one takes a second to import."""
    (tmp_path / "jax.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = start([sys.executable, "-m", "experiments.predict"], env=environment([tmp_path]))
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    assert ends_in_one_line(process, number) == LAST_LINE[number] + "\n"


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 2), pytest.param(signal.SIGTERM, 1, marks=pytest.mark.slow)]
)
def test_an_interrupted_run_is_one_line_and_resumes(tmp_path, number, times):
    process = start([*TOY, "--pause=30", "--seeds=2", f"--workdir={tmp_path / 'w'}"])
    while not (tmp_path / "w" / "metrics.jsonl").exists() or not records_of(tmp_path / "w"):
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(number)
    ends_in_one_line(process, number)
    again = [*TOY, "--seeds=2", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(again, cwd=ROOT, env=environment(), capture_output=True, check=False)
    assert done.returncode == 0
    assert [record["seed"] for record in records_of(tmp_path / "w")] == [0, 1]


STUBBORN = {
    "swallows the exception": """
while True:
    try:
        ready()
        time.sleep(60)
    except BaseException:
        pass
""",
    "raises it in a finaliser": """
ready()
class Cell:
    def __del__(self):
        time.sleep(0.05)
while True:
    Cell()
""",
    "runs compiled code": "ready()\nhashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
    "replaces the exception": """
try:
    ready()
    time.sleep(60)
except BaseException:
    raise RuntimeError('lost')
""",
    "ends well nevertheless": """
try:
    ready()
    time.sleep(60)
except BaseException:
    pass
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STUBBORN)
def test_a_program_that_does_not_unwind_is_ended(case):
    body = "\n".join(f"    {line}" for line in STUBBORN[case].splitlines())
    code = (
        "import hashlib, time\nfrom experiments import process\nprocess.begin()\n"
        f"ready = lambda: print('ready', flush=True)\nwith process.interruptible():\n{body}"
    )
    process = start([sys.executable, "-c", code])
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert ends_in_one_line(process, signal.SIGINT) == "interrupted\n"


def test_an_interrupted_program_unwinds(tmp_path):
    code = (
        "import pathlib, time\nfrom experiments import process\nprocess.begin()\n"
        f"partial = pathlib.Path({str(tmp_path / 'partial')!r})\n"
        "with process.interruptible():\n    try:\n        partial.touch()\n        print('ready', flush=True)\n"
        "        time.sleep(60)\n    finally:\n        partial.unlink()"
    )
    process = start([sys.executable, "-c", code])
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ends_in_one_line(process, signal.SIGTERM) == "terminated\n"
    assert not list(tmp_path.iterdir())


def test_an_import_of_the_package_leaves_signals_and_streams_alone():
    code = (
        "import signal, sys, threading\nfrom experiments import process\n"
        "handler = signal.getsignal(signal.SIGINT)\n"
        "print(handler is signal.default_int_handler, threading.active_count(), sys.stdout.errors)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["True", "1"]
    assert "plain" not in done.stdout


NO_HOME = (
    "import pwd, runpy, sys\ndef missing(user): raise KeyError(user)\npwd.getpwuid = missing\n"
    "runpy.run_module('support.toy_experiment', run_name='__main__', alter_sys=True)"
)
WORKS, FAILS, ENDS = 0, 1, None  # a run writes its report, ends with one line, or shows its help

# What is unusual, how the toy is run in a shell, changes of the environment, exit code, and a part of standard error.
# `{toy}` is the program with a workdir, `{run}` without one, `{help}` with --help, `{homeless}` the program of a user
# who has no home folder; `{cwd}` is an empty folder.
SURROUNDINGS = {
    "all that does not matter": (
        "{homeless} --workdir={cwd}/größe --seeds=1 2>/dev/full",
        {"HOME": None, "MPLBACKEND": "nonsense", "PYTHONIOENCODING": "ascii", "COLUMNS": "0", "TERM": "dumb"},
        WORKS, "",
    ),
    "no streams, C locale, no cache": (
        "{run} --workdir={cwd}/w <&- >&- 2>&-",
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "XDG_CACHE_HOME": "/dev/null", "COLUMNS": "1"},
        WORKS, "",
    ),
    "a reader that goes away": ("set -o pipefail; {toy} | head -1", {}, WORKS, "means"),
    "a help that nobody reads": ("set -o pipefail; {help} | true", {}, ENDS, ""),
    "full standard output": ("{toy} >/dev/full", {}, FAILS, "error: standard output: No space left on device"),
    "an error that cannot be shown": ("{toy} --nonsense 2>/dev/full", {}, FAILS, ""),
    "a platform that is not there": ("{toy}", {"JAX_PLATFORMS": "cuda"}, FAILS, "error: JAX_PLATFORMS=cuda: "),
    "a platform that does not exist": ("{toy}", {"JAX_PLATFORMS": "no"}, FAILS, "error: JAX_PLATFORMS=no: "),
    "unknown XLA flags": ("{toy}", {"XLA_FLAGS": "--no"}, FAILS, "error: XLA_FLAGS=--no: "),
    "a folder that is gone": ("cd {cwd}; rmdir {cwd}; {run}", {}, FAILS, "error: cannot write runs"),
    "another user's home": ("{run} --workdir=~nosuch-user/w", {}, FAILS, "error: ~nosuch-user/w: "),
}  # fmt: skip
SLOW_SURROUNDINGS = {
    "no home": ("{homeless} --workdir={cwd}/w", {"HOME": None}, WORKS, ""),
    "home not writable": ("{toy}", {"HOME": "/proc/nowhere", "XDG_CACHE_HOME": None}, WORKS, "means"),
    "cache not writable": ("{toy}", {"XDG_CACHE_HOME": "/proc/nowhere"}, WORKS, "means"),
    "a cache of JAX that is not writable": ("{toy}", {"JAX_COMPILATION_CACHE_DIR": "/proc/nowhere"}, WORKS, "means"),
    "closed standard output": ("{toy} >&-", {}, WORKS, "means"),
    "closed standard error": ("{toy} 2>&-", {}, WORKS, ""),
    "full standard error": ("{toy} 2>/dev/full", {}, WORKS, ""),
    "ascii": ("{toy}", {"PYTHONIOENCODING": "ascii"}, WORKS, "means"),
    "latin-1": ("{toy}", {"PYTHONIOENCODING": "latin-1"}, WORKS, "means"),
    "no such backend of matplotlib": ("{toy}", {"MPLBACKEND": "nonsense"}, WORKS, "means"),
    "no columns": ("{toy}", {"COLUMNS": "0"}, WORKS, "means"),
    "one column": ("{toy}", {"COLUMNS": "1"}, WORKS, "means"),
    "20 columns": ("{toy}", {"COLUMNS": "20"}, WORKS, "means"),
    "dumb terminal": ("{toy}", {"TERM": "dumb"}, WORKS, "means"),
    "malformed XLA flags": ("{toy}", {"XLA_FLAGS": "--xla_force_host_platform_device_count=x"}, FAILS, "error: XLA"),
    "valid XLA flags": ("{toy}", {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, WORKS, "means"),
    "a working folder that is not writable": ("cd /proc; {run}", {}, FAILS, "error: cannot write"),
    "help without standard output": ("{help} >&-", {}, ENDS, ""),
    "help on a full disk": ("{help} >/dev/full", {}, FAILS, "error: standard output"),
}  # fmt: skip


def check_surroundings(tmp_path, command, changes, outcome, message):
    words, workdir = shlex.join(TOY), tmp_path / "größe"
    runs = {"toy": f"{words} --seeds=1 --workdir={workdir}", "help": f"{words} --help", "run": f"{words} --seeds=1"}
    runs["homeless"] = shlex.join([sys.executable, "-c", NO_HOME])
    done = subprocess.run(
        ["bash", "-c", command.format(**runs, cwd=tmp_path)],
        cwd=ROOT, env=environment(**changes), capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == (outcome or 0), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "Warning" not in done.stderr
    if outcome is FAILS:
        assert len([line for line in done.stderr.splitlines() if "means" not in line]) == (message != "")
    elif outcome is WORKS and tmp_path.exists():
        assert list(tmp_path.glob("*/report.html"))


@pytest.mark.slow
@pytest.mark.parametrize("case", SURROUNDINGS)
def test_unusual_surroundings_do_not_matter_or_are_one_line(tmp_path, case):
    check_surroundings(tmp_path, *SURROUNDINGS[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW_SURROUNDINGS)
def test_each_of_the_unusual_surroundings_by_itself(tmp_path, case):
    check_surroundings(tmp_path, *SLOW_SURROUNDINGS[case])


@pytest.mark.slow
def test_drawings_do_not_depend_on_the_backend_of_matplotlib():
    code = "import os\nfrom mllab.report import draw\nprint(os.environ['MPLBACKEND'])"
    surroundings = environment(MPLBACKEND="nonsense")
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("nonsense\n", "")


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_not_mentioned():
    code = "import jax\nfrom mllab import devices\ndevices.cache_compilations()\nprint(jax.jit(lambda x: x + 1)(1.0))"
    command, surroundings = [sys.executable, "-c", code], environment(XDG_CACHE_HOME="/dev/null")
    done = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2.0\n", "")


MOMENTS = 2  # of each experiment
TINY = {  # a training, and a program without a folder
    "optimizer_race": "--optimizers=sgd,adam --learning_rates=0.01,0.1 --seeds=2 --epochs=3 --hidden=16 "
    "--checkpoint_seconds=0",
    "predict": "mllab/pretrained/seven.png",
}


def wait_for_handler(process):
    """Wait until Python has started and the package of experiments handles SIGTERM, as Linux tells."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        if int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.002)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("experiment", TINY)
def test_an_experiment_that_is_interrupted_at_any_moment_ends_with_one_line(tmp_path, experiment):
    draw = random.Random(experiment)

    def command(number):
        workdir = [] if experiment == "predict" else [f"--workdir={tmp_path / str(number)}"]
        return [sys.executable, "-m", f"experiments.{experiment}", *TINY[experiment].split(), *workdir]

    began = time.monotonic()
    subprocess.run(command(0), cwd=ROOT, capture_output=True, check=True)
    seconds = time.monotonic() - began
    for attempt in range(1, 1 + MOMENTS):
        process = start(command(attempt))
        wait_for_handler(process)
        try:
            process.communicate(timeout=draw.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            number = draw.choice(list(LAST_LINE))
            for _ in range(draw.choice([1, 2])):
                process.send_signal(number)
            ends_in_one_line(process, number)
