"""The program around a measurement, shown on a toy experiment: files, closing lines, mistakes, resumption."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import optimizer_race
from mllab.errors import UserError
from support import toy_experiment
from support.pages import Reader
from support.workdirs import records_of

ROOT = Path(__file__).parents[2]
FILES = ["environment.json", "flags.cfg", "metrics.jsonl", "report.html", "summary.json"]


def program(*words, **options):
    """The toy as a process of its own."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-m", "support.toy_experiment", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, **options)


def test_run_returns_the_measurement_and_writes_the_workdir(tmp_path, capsys):
    measured = toy_experiment.run(workdir=str(tmp_path / "w"), numbers=(1.0, 5.0), seeds=2)
    assert measured.mean == 3.0
    shown = capsys.readouterr()
    assert "* 0" in shown.out.replace("*    0", "* 0")
    assert f"  a remark\n\nThe mean is 3.000.\nReport: {tmp_path / 'w' / 'report.html'}\n" in shown.out
    assert "means" in shown.err
    assert sorted(path.name for path in (tmp_path / "w").iterdir() if path.name != ".lock") == FILES
    summary = json.loads((tmp_path / "w" / "summary.json").read_text())
    seconds, chosen = summary.pop("seconds"), summary.pop("flags")
    assert (chosen["numbers"], chosen["seeds"]) == ([1.0, 5.0], 2)
    assert "workdir" not in chosen
    assert summary == {"experiment": "toy_experiment", "mean": 3.0, "nothing": None, "by_seed": [3.0, 3.0]}
    assert {"means", "figures", "total"} <= seconds.keys()
    records = records_of(tmp_path / "w")
    assert records == [{"seed": seed, "mean": 3.0, "bad": None} for seed in (0, 1)]
    assert "--numbers=1,5\n" in (tmp_path / "w" / "flags.cfg").read_text()


def test_the_page_has_what_every_page_has(tmp_path):
    toy_experiment.run(workdir=str(tmp_path), seeds=2)
    words = Reader((tmp_path / "report.html").read_text()).words()
    places = [
        words.index(heading)
        for heading in (
            "Means What is the mean? The mean is",
            "The result",
            "Details",
            "Where the time went",
            "How it was run",
            "Repeat it python -m experiments.toy_experiment --flagfile=",
        )
    ]
    assert places == sorted(places)
    assert "numbers 000000" in words
    assert "Empty" not in words


def test_the_same_settings_resume_and_others_are_refused(tmp_path):
    toy_experiment.run(workdir=str(tmp_path), seeds=2)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    toy_experiment.run(workdir=str(tmp_path), seeds=2, pause=0.01)  # which affects no result
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match=r"other flags: --loud \(false, now true\), --seeds \(2, now 3\); name another"):
        toy_experiment.run(workdir=str(tmp_path), seeds=3, loud=True)


def test_a_flags_cfg_written_otherwise_compares_by_value(tmp_path):
    toy_experiment.run(workdir=str(tmp_path), numbers=(1, 10, 100), seeds=2)
    text = (tmp_path / "flags.cfg").read_text()
    (tmp_path / "flags.cfg").write_text(text.replace("--numbers=1,10,100", "--numbers=100,10,1.0"))
    toy_experiment.run(workdir=str(tmp_path), numbers=(1, 10, 100), seeds=2)


def test_a_mistake_before_the_first_result_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="before any result"):
        toy_experiment.run(workdir=str(tmp_path / "w"), fail="early")
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("existed", [True, False])
def test_the_mended_command_may_use_the_same_workdir_after_a_mistake(tmp_path, existed):
    folder = tmp_path / "new" / "w"
    if existed:
        folder.mkdir(parents=True)
    for fail, error in (("late", UserError), ("memory", MemoryError)):
        with pytest.raises(error):
            toy_experiment.run(workdir=str(folder), fail=fail)
        assert sorted(tmp_path.rglob("*")) == ([folder.parent, folder] if existed else [])
    toy_experiment.run(workdir=str(folder))
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == FILES


def test_a_mistake_leaves_results_that_a_run_can_resume_from(tmp_path):
    checkpoint = tmp_path / "checkpoints" / "adam" / "3"
    flags = toy_experiment.Settings(fail="late", seeds=3).flagfile()
    checkpoint.mkdir(parents=True)
    (tmp_path / "flags.cfg").write_text(flags)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="after the first result"):
        toy_experiment.run(workdir=str(tmp_path), fail="late", seeds=3)
    assert set(before) <= set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="other flags"):
        toy_experiment.run(workdir=str(tmp_path), seeds=3)


def test_what_a_kill_leaves_before_the_first_result_may_be_begun_with_other_flags(tmp_path):
    (tmp_path / "flags.cfg").write_text(toy_experiment.Settings(seeds=9).flagfile())
    (tmp_path / "environment.json").write_text('{"data": {"other": "1"}}')
    (tmp_path / "metrics.jsonl").write_text("")
    (tmp_path / "checkpoints" / "adam" / "1.partial").mkdir(parents=True)
    toy_experiment.run(workdir=str(tmp_path), seeds=2)
    assert "--seeds=2\n" in (tmp_path / "flags.cfg").read_text()
    assert "0000" in (tmp_path / "environment.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["--numbers=a"], "error: --numbers=a: give LOW:HIGH:COUNT", 1),
        (["--epochs=3"], "error: unknown flag '--epochs'", 1),
        (["stray"], "error: unexpected argument 'stray': flags are written --name=value", 1),
        (["--fail=memory"], "error: out of memory: lower --seeds", 1),
        (["--workdir=/proc/nowhere/w"], "error: cannot write /proc/nowhere", 1),
    ],
)
def test_the_program_ends_a_mistake_with_one_line(tmp_path, words, message, code):
    done = program(f"--workdir={tmp_path / 'w'}", *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stdout == ""


def test_help_is_the_docstring_and_the_flags():
    done = program("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: python -m experiments.toy_experiment [--flag=value ...]\n\nA toy experiment")
    assert "--workdir" in done.stdout


@pytest.mark.parametrize("columns", [0, 1, 40, 80, 200])
def test_help_fits_the_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    optimizer_race.main(["optimizer_race", "--help"])
    lines = capsys.readouterr().out.splitlines()
    width = max(map(len, lines[2:]))  # the usage, a command, is longer where columns are few
    assert width <= (100 if columns == 0 else min(max(columns, 40), 100))
    commands = "\n".join(lines).split("\n\n")[2].replace("\\\n", "")
    assert "--dataset=table.csv --target=price" in " ".join(commands.split())


def test_run_documents_its_settings():
    assert "numbers: Numbers to take the mean of." in toy_experiment.run.__doc__
