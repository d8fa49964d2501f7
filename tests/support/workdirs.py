"""Helpers to run experiments as separate processes, to kill them, and to compare the files of two runs."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def program(experiment, *words):
    """Run an experiment as a separate process, with the compilation cache of the test suite."""
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def records_of(workdir):
    """Return the records of a run."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def bits(workdir):
    """Return the contents of a workdir that must be equal for two equal runs: all but wall times."""
    summary = json.loads((workdir / "summary.json").read_text())
    summary.pop("seconds")
    lines = records_of(workdir)
    for record in lines:
        record.pop("seconds")
    drawn = {path.name: path.read_bytes() for path in sorted((workdir / "figures").iterdir())}
    events = {
        str(path.relative_to(workdir)): path.read_bytes() for path in sorted((workdir / "events").rglob("*.mllab"))
    }
    return summary, lines, (workdir / "params.safetensors").read_bytes(), drawn, events


def kill(experiment, words, workdir, seconds, seed):
    """Start an experiment and kill it (SIGKILL) at a random moment.

    Args:
        experiment: name of its module.
        words: its flags.
        workdir: its workdir.
        seconds: how long it takes if it is not killed.
        seed: of the random moment. For even seeds it is killed after a checkpoint has been written.
    """
    draw = random.Random(seed)
    command = [sys.executable, "-m", f"experiments.{experiment}", *words, f"--workdir={workdir}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after_checkpoint = seed % 2 == 0
    if after_checkpoint:
        while process.poll() is None and not list(workdir.glob("checkpoints/*/[0-9]*")):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, seconds / 3))
    else:
        time.sleep(draw.uniform(0, seconds))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not after_checkpoint or list(workdir.glob("checkpoints/*/[0-9]*"))
