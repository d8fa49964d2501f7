"""Two processes that compute one run over loopback: the figures of one process, and what happens when one is lost."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from support.workdirs import ROOT, bits, program

RACE = ("--optimizers=adam,sgd", "--learning_rates=0.001,0.01", "--epochs=2", "--hidden=8", "--model=mlp")
TEXT = ("--hidden=8", "--embedding=4", "--steps=100", "--batch_size=8", "--window=16", "--checkpoint_seconds=0")

pytestmark = pytest.mark.slow


def started(experiment, flags, workdir, process, port, **options):
    """One of two processes."""
    command = [sys.executable, "-m", f"experiments.{experiment}", *flags, f"--workdir={workdir}"]
    command += [f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={process}"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8", **options
    )


def free_port():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def both(experiment, flags, workdir):
    """Two processes to their end: (exit codes, outputs, errors)."""
    port = free_port()
    processes = [started(experiment, flags, workdir, number, port) for number in (0, 1)]
    outputs = [process.communicate(timeout=300) for process in processes]
    return [process.returncode for process in processes], *zip(*outputs, strict=True)


def test_a_race_over_two_processes_has_the_bits_of_one_process(tmp_path):
    codes, shown, errors = both("optimizer_race", (*RACE, "--seeds=2", "--devices=1"), tmp_path / "two")
    assert codes == [0, 0], errors
    done = program("optimizer_race", *RACE, "--seeds=2", "--devices=2", f"--workdir={tmp_path / 'one'}")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "two") == bits(tmp_path / "one")
    assert "Report:" in shown[0]
    assert shown[1] == errors[1] == ""  # the first process alone shows and writes
    recorded = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert recorded["devices"]["count"] == 2
    flags = (tmp_path / "two" / "flags.cfg").read_text()
    assert "coordinator" not in flags
    assert "process" not in flags


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_is_killed_the_other_ends_with_one_line_and_both_resume(victim, tmp_path):
    flags, workdir, port = (*TEXT, "--seeds=2", "--devices=1"), tmp_path / "killed", free_port()
    processes = [started("char_rnn", flags, workdir, number, port) for number in (0, 1)]
    deadline = time.monotonic() + 120
    while not list(workdir.glob("checkpoints/*/[0-9]*")):
        assert all(process.poll() is None for process in processes)
        assert time.monotonic() < deadline
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    _, error = processes[1 - victim].communicate(timeout=100)
    assert time.monotonic() - killed < 20
    assert processes[1 - victim].returncode not in (0, None)
    processes[victim].communicate()
    lines = [line for line in error.splitlines() if not line.startswith(("gru", "step"))]
    assert len(lines) == 1
    assert "another process of this run has ended" in lines[0]
    if victim == 0:
        return  # resuming does not depend on who was lost
    codes, _, errors = both("char_rnn", flags, workdir)
    assert codes == [0, 0], errors
    whole = tmp_path / "whole"
    assert program("char_rnn", *TEXT, "--seeds=2", "--devices=2", f"--workdir={whole}").returncode == 0
    summaries = [json.loads((path / "summary.json").read_text()) for path in (workdir, whole)]
    assert summaries[0]["cells"] == summaries[1]["cells"]
    assert (workdir / "params.safetensors").read_bytes() == (whole / "params.safetensors").read_bytes()


def test_processes_with_other_flags_end_with_one_line(tmp_path):
    port = free_port()
    flags = [(*RACE, "--seeds=2"), (*RACE, "--seeds=3")]
    processes = [started("optimizer_race", flags[number], tmp_path / "w", number, port) for number in (0, 1)]
    for process in processes:
        _, error = process.communicate(timeout=100)
        assert process.returncode != 0
        assert "other flags than process 0" in error or "another process" in error
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "w").exists()
