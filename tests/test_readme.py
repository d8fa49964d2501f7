"""What the README shows runs: its Python as it stands, its commands with tiny settings."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, code in BLOCKS[1:]
    if language == "sh"
    for line in code.splitlines()
    if line.startswith("python -m experiments.")
]
TINY = {
    "experiments.optimizer_race": ["--epochs=1", "--learning_rates=0.01,0.1", "--seeds=2"],
    "experiments.linear_regression": ["--steps=20", "--optimizers=sgd,adam"],
}


def test_the_first_block_is_two_commands_that_install_and_run():
    language, code = BLOCKS[0]
    run, test = code.splitlines()
    assert language == "sh"
    assert run.endswith("-m experiments.optimizer_race")
    assert "-m pytest" in test
    assert all("pip install" in line for line in (run, test))


@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
def test_its_python_runs(code, capsys):
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    accuracy = float(capsys.readouterr().out.split()[-1])
    assert accuracy > 0.8


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command, tmp_path, data_dir):
    words = shlex.split(command)[1:]
    draw = np.random.default_rng(0)
    rows = "".join(f"{x:.3f},{2 * x:.3f}\n" for x in draw.normal(size=100))
    (tmp_path / "homes.csv").write_text("size,price\n" + rows)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "flags.cfg").write_text("--dataset=digits\n--model=softmax\n")
    flags = [*TINY[words[1]], f"--data_dir={data_dir}"] if "optimizer_race" in words[1] else TINY[words[1]]
    done = subprocess.run(
        [sys.executable, *words, *flags, f"--workdir={tmp_path / 'w'}"],
        cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w" / "report.html").is_file()


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
