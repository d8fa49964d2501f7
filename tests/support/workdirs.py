"""Experiments as processes of their own, killed and resumed, and the files of two runs that must be equal."""

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
    """Run an experiment as its own process, with the suite's compilation cache."""
    command = [sys.executable, "-m", f"experiments.{experiment}", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def bits(workdir):
    """Everything that two runs must share: all but wall times."""
    summary = json.loads((workdir / "summary.json").read_text())
    summary.pop("seconds")
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("seconds")
    drawn = {path.name: path.read_bytes() for path in sorted((workdir / "figures").iterdir())}
    events = {
        str(path.relative_to(workdir)): path.read_bytes() for path in sorted((workdir / "events").rglob("*.mllab"))
    }
    return summary, records, (workdir / "params.safetensors").read_bytes(), drawn, events


def kill(experiment, words, workdir, seconds, seed):
    """SIGKILL an experiment at a random moment of a run of so many seconds; for even seeds after a checkpoint."""
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
