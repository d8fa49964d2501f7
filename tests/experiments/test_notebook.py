"""Runs in a notebook: progress in place, the page inline, mistakes in one line; and the Colab notebook."""

import contextlib
import html
import importlib.util
import json
import queue
import re
import subprocess
import sys
import time
import types
from importlib import metadata
from pathlib import Path

import jax
import pytest

from experiments.frame import notebook
from experiments.frame.workdir import default_path
from mllab.errors import UserError
from mllab.report import console
from support import toy_experiment
from support.workdirs import ROOT, bits

SOURCE = ROOT / "experiments" / "notebooks" / "colab.py"
NOTEBOOK = ROOT / "experiments" / "colab.ipynb"
TINY = {"optimizers": ("sgd", "adam"), "learning_rates": (0.01, 0.1), "seeds": 2, "hidden": (8,)}


def skip_without(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (the extra `test` has them)")


class Kernel:
    """A stand-in for the shell of a kernel, which records what is displayed: one list of versions for each output."""

    def __init__(self):
        self.kernel = object()
        self.outputs = []
        self.printers = {}
        formatter = types.SimpleNamespace(for_type=self.printers.__setitem__)
        self.display_formatter = types.SimpleNamespace(formatters={"text/plain": formatter})

    def display(self, bundle, *, raw, display_id=False):
        assert raw
        versions = [bundle]
        self.outputs.append(versions)
        update = lambda bundle, *, raw: versions.append(bundle)  # noqa: E731
        return types.SimpleNamespace(update=update) if display_id else None


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    package, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython, display.display = lambda: kernel, kernel.display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as ipykernel sets it
    return kernel


def test_a_terminal_of_ipython_and_plain_python_are_no_kernels(monkeypatch):
    assert console.kernel() is None
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: types.SimpleNamespace()  # a terminal's shell has no kernel
    monkeypatch.setitem(sys.modules, "IPython", package)
    assert console.kernel() is None
    assert notebook.board() is None


def test_a_run_displays_its_progress_and_its_page(kernel, tmp_path, capsys):
    measured = toy_experiment.run(workdir=tmp_path, numbers=(1.0, 5.0), seeds=2)
    progress, (page,) = kernel.outputs
    assert progress[0]["text/plain"] == "means: 0%  compiling"
    assert progress[-1]["text/plain"].startswith("means: 100%  2/2 steps")
    assert "<progress" in progress[-1]["text/html"]
    shown = html.unescape(re.search("srcdoc='([^']*)'", page["text/html"])[1])
    assert shown.replace('<base target="_blank">', "") == (tmp_path / "report.html").read_text()
    assert f"\nThe mean is 3.000.\nReport: {tmp_path / 'report.html'}\n" in page["text/plain"]
    assert capsys.readouterr() == ("", "")
    assert "\x1b" not in str(kernel.outputs)
    lines = []
    kernel.printers[type(measured)](measured, types.SimpleNamespace(text=lines.append), False)
    assert lines == ["support.toy_experiment.Measurement with the fields mean, nothing, by_seed, picture"]
    assert repr(measured).startswith("Measurement(mean=3.0")


def test_a_page_that_is_too_large_is_named_instead(kernel, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notebook, "MAX_FRAME", 1000)
    toy_experiment.run(workdir=tmp_path, seeds=1)
    assert len(kernel.outputs) == 1  # the progress
    shown = capsys.readouterr().out
    assert shown.endswith(f"Report: {tmp_path / 'report.html'}\n")
    assert "\x1b" not in shown  # though the kernel sets FORCE_COLOR


def test_progress_is_bounded(kernel, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(notebook.time, "monotonic", lambda: now[0])
    board = notebook.board()
    for number in range(40):
        board.show(number, f"<task> {number}", 0.0, "compiling")
        for step in range(1, 1001):
            now[0] += 0.001
            board.show(number, f"<task> {number}", step / 1000, f"{step} steps")
    (versions,) = kernel.outputs
    assert len(versions) <= 40 * (1 + 4 + 1)  # first, last, and one a quarter of a second
    last = versions[-1]
    assert last["text/plain"].splitlines()[:2] == ["30 earlier", "<task> 30: 100%  1000 steps"]
    assert last["text/html"].count("&lt;task&gt;") == notebook.SHOWN_TASKS


def test_a_mistake_is_one_line(kernel, tmp_path):
    with pytest.raises(UserError) as raised:
        toy_experiment.run(workdir=tmp_path / "w", fail="early")
    assert raised.value._render_traceback_() == ["error: a mistake before any result"]
    with pytest.raises(UserError) as raised:
        toy_experiment.run(sedes=3)
    assert raised.value._render_traceback_()[0].startswith("error: unknown setting 'sedes': did you mean 'seeds'")


def test_an_interrupted_run_says_how_to_resume_and_resumes(kernel, tmp_path, monkeypatch):
    toy_experiment.run(workdir=tmp_path / "whole", seeds=3)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(console.Progress, "advance", interrupt)
        with pytest.raises(KeyboardInterrupt) as raised:
            toy_experiment.run(workdir=tmp_path / "cut", seeds=3)
    line = f"interrupted: the same settings with workdir={str(tmp_path / 'cut')!r} resume"
    assert raised.value._render_traceback_() == [line]
    assert (tmp_path / "cut" / "metrics.jsonl").read_text().count("\n") == 1
    toy_experiment.run(workdir=tmp_path / "cut", seeds=3)
    records = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert records[0] == records[1]


def test_runs_of_one_second_have_folders_of_their_own(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    first = default_path("toy")
    first.mkdir(parents=True)
    (first.parent / f"{first.name}-2").mkdir()
    assert default_path("toy") not in (first, first.parent / f"{first.name}-2")


def test_the_notebook_is_made_from_its_source():
    skip_without("jupytext")
    command = [sys.executable, str(ROOT / ".ci" / "notebook.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code")
    assert not any(cell.get("outputs") for cell in cells)
    written = "\n".join(line for line in SOURCE.read_text().splitlines() if not line.startswith("#"))
    assert code.split() == written.split()


def test_it_installs_beside_the_jax_that_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code" / "mllab").mkdir(parents=True)
    (tmp_path / "code" / "experiments").mkdir()
    names = {}
    exec(SOURCE.read_text().partition("CODE = ")[0], names)
    commands, status = [], types.SimpleNamespace(returncode=0, stderr="no jax>=0.10")

    def run(command, **_):
        commands.append(command)
        return status

    monkeypatch.setattr(subprocess, "run", run)
    names["install"](names["checkout"]("code"))
    (command,) = commands
    assert command[1:4] == ["-m", "pip", "install"]
    assert command[-1] == f"{tmp_path / 'code'}[experiments]"
    kept = dict(line.split("==") for line in Path(command[command.index("-c") + 1]).read_text().splitlines())
    for package in ("jax", "jaxlib", "numpy", "flax"):
        assert kept[package] == metadata.version(package)
    status.returncode = 1
    with pytest.raises(AssertionError, match=r"could not install mllab beside jax .*\nno jax>=0.10"):
        names["install"](names["checkout"]("code"))
    with pytest.raises(AssertionError, match="no code of mllab in elsewhere: upload mllab"):
        names["checkout"]("elsewhere")


def test_it_says_in_one_line_that_a_device_is_absent(monkeypatch):
    if "mllab" not in {package.name for package in metadata.distributions()}:
        pytest.skip("mllab is not installed, and the first cell would install it")
    absent = "tpu" if jax.default_backend() != "tpu" else "gpu"
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MLLAB_SOURCE", str(ROOT))
    monkeypatch.setenv("MLLAB_WANTED", absent)
    cell = SOURCE.read_text().partition("# Runs are kept")[0]
    with pytest.raises(
        AssertionError, match=rf"a {absent} was asked for, and jax finds only a \w+: change the runtime"
    ):
        exec(cell, {})


@pytest.mark.slow
def test_it_runs_on_the_cpu(tmp_path, monkeypatch):
    skip_without("nbclient", "nbformat", "ipykernel")
    import nbclient
    import nbformat

    for name, value in {"TINY": "1", "SOURCE": str(ROOT), "WANTED": "any"}.items():
        monkeypatch.setenv(f"MLLAB_{name}", value)
    made = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(made, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in made.cells if cell.cell_type == "code"]
    for cell in cells:
        assert len(cell.outputs) <= 8, cell.source
        texts = [output.get("text") or output["data"].get("text/plain", "") for output in cell.outputs]
        assert not re.search("[\r\x1b]", "".join(texts)), cell.source
        assert sum(map(len, texts)) < 8000
        assert not any(output.get("name") == "stderr" for output in cell.outputs), cell.source
    frames = [output for cell in cells for output in cell.outputs if "<iframe" in str(output.get("data"))]
    assert len(frames) == 4  # race, images, text, dates
    assert all("&lt;svg" in frame.data["text/html"] or "<svg" in frame.data["text/html"] for frame in frames)
    assert len(nbformat.writes(made)) < 5_000_000
    for name in ("race", "images", "text", "dates"):
        assert (tmp_path / "runs" / name / "report.html").is_file()


@pytest.mark.slow
def test_a_kernel_that_is_interrupted_resumes_to_the_same_bits(tmp_path):
    skip_without("jupyter_client", "ipykernel")
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(cwd=str(ROOT))

    def execute(workdir, *, interrupt=False):
        settings = {**TINY, "epochs": 40, "checkpoint_seconds": 0.0 if interrupt else 10.0}
        code = f"from experiments import optimizer_race\noptimizer_race.run(workdir={str(workdir)!r}, **{settings})"
        request = client.execute(code)
        deadline = time.monotonic() + 120
        while interrupt and not list(workdir.glob("checkpoints/*/[0-9]*")):
            assert time.monotonic() < deadline, "no checkpoint"
            time.sleep(0.01)
        for _ in range(20):
            if interrupt:  # again after a while: Python ignores what is raised in a callback
                manager.interrupt_kernel()
            with contextlib.suppress(queue.Empty):
                while (reply := client.get_shell_msg(timeout=10))["parent_header"]["msg_id"] != request:
                    pass
                return reply["content"]
        raise TimeoutError("no reply")

    try:
        cut = execute(tmp_path / "cut", interrupt=True)
        assert (cut["status"], cut["ename"]) == ("error", "KeyboardInterrupt")
        assert cut["traceback"] == [f"interrupted: the same settings with workdir={str(tmp_path / 'cut')!r} resume"]
        assert not (tmp_path / "cut" / "report.html").exists()
        assert execute(tmp_path / "cut")["status"] == "ok"
        assert execute(tmp_path / "whole")["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert bits(tmp_path / "cut") == bits(tmp_path / "whole")
