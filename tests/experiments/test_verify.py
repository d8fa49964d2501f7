"""Replays of finished runs: which bits differ, what is refused, and how the other process ends."""

import json
import math
import os
import shutil
import sys

import numpy as np
import pytest

from experiments import bit_differences, recorded_run, replaying, verify
from experiments.bit_differences import json_differences
from mllab import weights
from support import finished_runs
from support.finished_runs import environment, race
from support.mistakes import refused_in_one_line
from support.workdirs import program

SCORES = {"sgd": [0.8, 0.82, 0.81], "adam": [0.9, 0.91, 0.89]}


@pytest.fixture
def workdir(tmp_path):
    return finished_runs.write(tmp_path / "w", race(SCORES))


@pytest.fixture
def replayed(monkeypatch):
    """Replace the experiment by a program that copies the recorded run and then changes files of the copy."""
    changes = {}

    def command(recorded, workdir):
        code = (
            "import json, shutil, sys, pathlib\n"
            f"shutil.copytree({str(recorded.path)!r}, {str(workdir)!r})\n"
            f"for name, text in json.loads({json.dumps(changes)!r}).items():\n"
            f"    (pathlib.Path({str(workdir)!r}) / name).write_text(text)\n"
            "print('progress', file=sys.stderr)\n"
        )
        return [sys.executable, "-c", code]

    monkeypatch.setattr(replaying, "command", command)
    return changes


def end(capsys, *words):
    """Return exit code, standard output and standard error of `verify`."""
    code = 0
    try:
        verify.main(["", *map(str, words)])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def test_the_same_bits_repeat_and_the_replay_is_removed(workdir, replayed, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(verify.tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    replayed["summary.json"] = json.dumps(race(SCORES) | {"seconds": {"total": 99.0}})
    code, shown, progress = end(capsys, workdir)
    assert code == 0
    assert f"{workdir} repeats to the bit." in shown
    assert "took 2.5 s on 2 devices" in progress
    assert not list((tmp_path / "scratch").iterdir())


def test_a_figure_that_differs_is_shown_and_fails(workdir, replayed, capsys):
    other = race(SCORES)
    other["optimizers"][0]["validation"][0] *= 1 + 1e-5
    replayed["summary.json"] = json.dumps(other)
    code, shown, _ = end(capsys, workdir)
    assert code == 1
    assert "differs in 1 figure, greatest relative difference 1e-5." in shown
    assert "optimizers[0].validation[0]" in shown


def test_a_flipped_bit_of_params_is_noticed(workdir, replayed, capsys):
    path, kept = workdir / "params.safetensors", workdir.parent / "kept"
    content = bytearray(path.read_bytes())
    arrays = len(content) - 9 * 4
    assert end(capsys, workdir, f"--keep={kept}")[0] == 0
    for place in (arrays, len(content) - 4):  # the last bit of a mantissa
        changed = content.copy()
        changed[place] ^= 1
        (kept / "w" / path.name).write_bytes(changed)
        compared = bit_differences.compare_params(path, kept / "w" / path.name)
        assert (compared.differing, compared.figures) == (1, 9 + 2)
        assert 0 < compared.greatest() < 2e-7 or compared.differences[0].recorded == 0.0


def test_in_another_environment_figures_are_compared_within_the_tolerance(workdir, replayed, capsys):
    other = race(SCORES)
    other["optimizers"][0]["validation"][0] *= 1 + 1e-5
    other["new"] = 1
    replayed["summary.json"] = json.dumps(other)
    replayed["environment.json"] = json.dumps(environment(cpu="another CPU", git_commit="abd"))
    code, shown, _ = end(capsys, workdir)
    assert code == 0
    assert "cpu: some CPU, now another CPU" in shown
    assert "code at commit: abc, now abd" in shown
    assert "within the tolerance (1e-5)" in shown
    assert end(capsys, workdir, "--tolerance=1e-6")[0] == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("environment.json", json.dumps(environment(data={"digits.csv.gz": "99"})), "made with other data: digits"),
        ("summary.json", json.dumps(race(SCORES, seeds=2)), "not that of the run: --seeds is 3 .* and 2 by flags"),
        ("metrics.jsonl", '{"a": ', "metrics.jsonl line 1 is damaged"),
        ("summary.json", "{", "summary.json is damaged"),
    ],
)
def test_a_replay_of_something_else_is_refused(workdir, replayed, name, content, message):
    replayed[name] = content
    with refused_in_one_line(message):
        verify.run(workdirs=str(workdir))


def test_a_run_that_cannot_be_repeated_leaves_the_others(workdir, replayed, capsys, tmp_path):
    other = finished_runs.write(tmp_path / "other", race(SCORES), environment(data={"digits.csv.gz": "5"}))
    replayed["environment.json"] = json.dumps(environment())
    code, shown, _ = end(capsys, other, workdir)
    assert code == 1
    assert f"{other} was made with other data" in shown
    assert f"{workdir} repeats to the bit." in shown


def test_flags_of_another_version_are_named(workdir, replayed, capsys):
    replayed["summary.json"] = json.dumps(race(SCORES, precision="float32"))
    code, shown, _ = end(capsys, workdir)
    assert code == 0
    assert "flags that only the replay has: --precision" in shown


def edit(**changes):
    def change(folder):
        summary = json.loads((folder / "summary.json").read_text()) | changes
        (folder / "summary.json").write_text(json.dumps(summary))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


DAMAGE = {
    "empty folder": (lambda folder: [path.unlink() for path in folder.iterdir()], "is no workdir, without flags.cfg"),
    "folder of runs": (lambda folder: shutil.move(folder, folder.with_name("x")), "no such folder"),
    "unfinished": (lambda folder: (folder / "summary.json").unlink(), "unfinished run"),
    "no environment": (lambda folder: (folder / "environment.json").unlink(), "environment.json is missing"),
    "unknown name": (edit(experiment="optimizer_rac"), "unknown experiment 'optimizer_rac': did you mean 'opt"),
    "module": (edit(experiment="os"), "unknown experiment 'os'"),
    "path": (edit(experiment="../x; rm"), "unknown experiment"),
    "no name": (edit(experiment=["optimizer_race"]), "names no experiment"),
    "no flags": (edit(flags=3), "names no experiment and its flags"),
    "growth": (edit(experiment="growth"), "growth measures wall times"),
    "deep": (write("summary.json", b'{"a":' * 2000 + b"1" + b"}" * 2000), "nested too deeply"),
    "deeper": (write("summary.json", b"[" * 200_000), "damaged"),
    "NaN": (write("summary.json", b'{"a": NaN}'), "NaN is no number"),
    "list": (write("environment.json", b"[]"), "holds no object"),
    "binary": (write("flags.cfg", bytes(range(256))), r"flags.cfg is damaged \(not text"),
    "huge": (lambda folder: os.truncate(folder / "summary.json", 2**30), "too long"),
    "long number": (write("summary.json", b'{"a": ' + b"9" * 10_000 + b"}"), "damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_is_no_finished_run_is_refused_before_any_replay(workdir, name, monkeypatch):
    monkeypatch.setattr(replaying, "command", lambda *_: pytest.fail("replayed"))
    damage, message = DAMAGE[name]
    damage(workdir)
    with refused_in_one_line(message):
        verify.run(workdirs=(str(workdir),))


def test_a_folder_of_runs_says_which_it_holds(workdir):
    with refused_in_one_line(r"name the runs in it, such as .*/w$"):
        recorded_run.read(workdir.parent)


def test_a_folder_that_is_kept_is_not_resumed(workdir, tmp_path):
    (tmp_path / "kept" / "w").mkdir(parents=True)
    with refused_in_one_line("holds w already, which would be resumed"):
        verify.run(workdirs=str(workdir), keep=str(tmp_path / "kept"))
    twin = finished_runs.write(tmp_path / "x" / "w", race(SCORES))
    with refused_in_one_line("several workdirs are named w"):
        verify.run(workdirs=(str(workdir), str(twin)), keep=str(tmp_path / "other"))


def test_the_command_has_the_flags_the_devices_and_the_folder_of_its_own_last(workdir):
    words = replaying.command(recorded_run.read(workdir), workdir / "x")
    assert words[2:] == [
        "experiments.optimizer_race", f"--flagfile={workdir / 'flags.cfg'}", "--devices=2", f"--workdir={workdir / 'x'}"
    ]  # fmt: skip


ENDS = {
    "mistake": ("sys.stderr.write('compiling\\nerror: unknown flag --x\\n'); sys.exit(1)", "machine: unknown flag --x"),
    "silent": ("sys.exit(3)", "exit code 3"),
    "killed": ("os.kill(os.getpid(), 9)", "killed by signal 9"),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_replay_that_fails_is_one_line(workdir, name, monkeypatch):
    code, message = ENDS[name]
    monkeypatch.setattr(replaying, "command", lambda *_: [sys.executable, "-c", f"import os, sys; {code}"])
    with refused_in_one_line(message):
        verify.run(workdirs=str(workdir))


def test_an_interruption_ends_the_replay(workdir, monkeypatch):
    code = "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(60)"
    monkeypatch.setattr(replaying, "command", lambda *_: [sys.executable, "-c", code])
    pids = []

    def observe(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replaying.replay(recorded_run.read(workdir), workdir / "x", observe)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


# ── Figures ─────────────────────────────────────────────────────────────────────────────────────────────────────────

FIGURES = [  # recorded, replayed, the number of figures, relative differences
    ({"a": 1.0, "seconds": 3, "b": {"fit_seconds": 1}}, {"a": 1.0, "seconds": 4, "b": {"fit_seconds": 2}}, 1, []),
    ({"a": [1.0, 2.0]}, {"a": [1.0, 2.5]}, 2, [0.2]),
    ({"a": 0.0}, {"a": -0.0}, 1, [0.0]),
    ({"a": None}, {"a": 1.0}, 1, [math.inf]),
    ({"a": "adam"}, {"a": "sgd"}, 1, [math.inf]),
    ({"a": True}, {"a": 1}, 1, [math.inf]),
    ({"a": [1]}, {"a": []}, 2, [math.inf, math.inf]),
    ({"a": 10**400}, {"a": 1}, 1, [math.inf]),
    ({"seconds of rows": 1, "millisecondsx": 1}, {"seconds of rows": 2, "millisecondsx": 2}, 1, [0.5]),
    ({"images_per_second": 1.0}, {"images_per_second": 2.0}, 0, []),
]


@pytest.mark.parametrize(("recorded", "replayed", "figures", "relative"), FIGURES)
def test_figures_are_compared_by_their_bits(recorded, replayed, figures, relative):
    count, differences = json_differences(recorded, replayed)
    assert [each.relative for each in differences] == pytest.approx(relative)
    assert count == figures


def test_records_and_arrays_that_only_one_run_has_are_counted(workdir, tmp_path):
    other = finished_runs.write(tmp_path / "other", race(SCORES))
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (other / "metrics.jsonl").write_text("".join(lines[:-1]))
    compared = bit_differences.compare_records("m", workdir / "metrics.jsonl", other / "metrics.jsonl")
    assert compared.absent == len(json.loads(lines[-1])) - 1
    params = {"w": np.arange(6.0, dtype=np.float32).reshape(2, 3) + 1, "c": np.ones(3, np.float32)}
    (other / "params.safetensors").write_bytes(weights.encode(params, {"dataset": "digits", "score": 0.9}))
    compared = bit_differences.compare_params(workdir / "params.safetensors", other / "params.safetensors")
    assert compared.differing == 6 + 2
    assert compared.greatest(absent=False) == pytest.approx(1 / 6)
    (other / "params.safetensors").unlink()
    assert bit_differences.compare_params(workdir / "params.safetensors", other / "params.safetensors").differing >= 2


@pytest.mark.slow
def test_a_race_repeats_to_the_bit_and_a_flipped_bit_is_reported(tmp_path):
    tiny = ["--optimizers=sgd", "--learning_rates=0.1", "--seeds=2", "--epochs=1", "--hidden=4", "--devices=1"]
    assert program("optimizer_race", *tiny, f"--workdir={tmp_path / 'race'}").returncode == 0
    shutil.copytree(tmp_path / "race", tmp_path / "flipped")
    path = tmp_path / "flipped" / "params.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    done = program("verify", tmp_path / "race", tmp_path / "flipped")
    assert done.returncode == 1, done.stderr
    assert "race repeats to the bit; " in done.stdout
    assert "flipped differs in 1 figure, greatest relative difference " in done.stdout


def test_many_absent_figures_hide_no_difference_of_the_others():
    """As of a later version, which records ten more figures."""
    new = {f"new{number}": 1.0 for number in range(bit_differences.MAX_KEPT)}
    compared = bit_differences.compare_objects("summary.json", {"loss": 1.0}, {"loss": 2.0, **new})
    assert (compared.differing, compared.absent) == (11, 10)
    assert compared.greatest(absent=False) == 0.5
    assert compared.greatest() == float("inf")
