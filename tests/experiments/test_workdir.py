"""The workdir: one process at a time, the same settings resume, others are refused, nothing half-written."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments import frame
from experiments.frame.workdir import Lines, Workdir, environment
from mllab.errors import UserError
from support import toy_experiment
from support.mistakes import refused_in_one_line

ROOT = Path(__file__).parents[2]


def workdir(path):
    return Workdir(path, "x", "--epochs=2\n", lambda text: [] if text == "--epochs=2\n" else ["--epochs (2, now 3)"])


def here(data=None, count=1):
    return environment(data or {}, count)


def test_the_same_settings_open_it_again_and_others_are_refused_by_name(tmp_path):
    path = tmp_path / "w"
    first = workdir(path)
    first.check()
    assert not path.exists()  # a check writes nothing
    first.claim(here())
    assert first.held
    first.write("result.txt", "1")
    first.release()
    assert (path / "flags.cfg").read_text() == "--epochs=2\n"
    again = workdir(path)
    again.claim(here())
    again.release()
    (path / "flags.cfg").write_text("--epochs=3\n")
    for refuse in (workdir(path).check, lambda: workdir(path).claim(here())):
        with pytest.raises(UserError, match=r"made with other flags: --epochs \(2, now 3\); name another --workdir"):
            refuse()
    assert (path / "flags.cfg").read_text() == "--epochs=3\n"


def test_a_workdir_in_use_by_another_process_is_refused_and_a_kill_releases_it(tmp_path):
    hold = (
        "import sys, time; from experiments.frame.workdir import Workdir, environment\n"
        "workdir = Workdir(sys.argv[1], 'x', '', lambda text: []); workdir.claim(environment({}, 1))\n"
        "print('held', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "w")]
    holder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for refuse in (workdir(tmp_path / "w").check, lambda: workdir(tmp_path / "w").claim(here())):
            with pytest.raises(UserError, match="in use by another process"):
                refuse()
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    (tmp_path / "w" / "flags.cfg").write_text("--epochs=2\n")
    after = workdir(tmp_path / "w")
    after.claim(here())
    after.release()


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"holds other files and no flags\.cfg"):
        workdir(tmp_path).check()
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_kill_while_flags_cfg_was_written_locks_nobody_out(tmp_path):
    (tmp_path / "flags.cfg.partial").write_text("--epo")
    (tmp_path / ".lock").write_text("")
    opened = workdir(tmp_path)
    opened.check()
    opened.claim(here())
    opened.release()
    assert (tmp_path / "flags.cfg").read_text() == "--epochs=2\n"


@pytest.mark.parametrize("under", ["file", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, under):
    (tmp_path / "file").write_text("")
    with refused_in_one_line("cannot write"):
        workdir(tmp_path / under / "w").claim(here())


def test_other_data_in_the_same_workdir_is_refused(tmp_path):
    first = workdir(tmp_path)
    first.claim(here({"a.csv": "1234"}, 2))
    first.write("result.txt", "1")
    first.release()
    with pytest.raises(UserError, match="other data"):
        workdir(tmp_path).claim(here({"a.csv": "5678"}, 2))
    recorded = json.loads((tmp_path / "environment.json").read_text())
    assert recorded["data"] == {"a.csv": "1234"}
    assert recorded["versions"]["numpy"] == np.__version__
    assert recorded["devices"]["count"] == 2
    assert recorded["cpu"]


def test_another_number_of_devices_is_noted(tmp_path, capsys):
    for count in (1, 2):
        opened = workdir(tmp_path)
        opened.claim(here(count=count))
        opened.write("result.txt", "1")
        opened.release()
    assert "its bits may differ" in capsys.readouterr().err


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path):
    opened = workdir(tmp_path)
    opened.write("a.txt", "before")
    with pytest.raises(UnicodeEncodeError):
        opened.write("a.txt", "after" * 100_000 + "\ud800")
    assert (tmp_path / "a.txt").read_text() == "before"
    assert not list(tmp_path.glob("*.partial"))


@dataclass(frozen=True)
class Inner:
    rate: float
    image: np.ndarray = frame.unsaved()


def test_json_of_measurements(tmp_path):
    value = {"a": [1.0, float("nan"), np.inf], "b": np.array([[1.5, -np.inf]]), "c": np.float32("nan"), 3: (1,)}
    assert frame.to_json(value) == {"a": [1.0, None, None], "b": [[1.5, None]], "c": None, "3": [1]}
    assert frame.to_json([Inner(0.5, np.zeros(9))]) == [{"rate": 0.5}]


def test_repeated_lines_stay_and_the_file_is_cut_where_they_differ(tmp_path):
    path = tmp_path / "m.jsonl"

    def write(*records):
        with Lines(path) as lines:
            for record in records:
                lines.add([{"v": record}])
        return [json.loads(line)["v"] for line in path.read_text().splitlines()]

    assert write(1, 2, 3) == [1, 2, 3]
    inode = os.stat(path).st_ino
    assert write(1, 2, 3, 4) == [1, 2, 3, 4]
    assert write(1, 2, float("nan"), 5) == [1, 2, None, 5]
    assert write(1, 2) == [1, 2]
    path.write_text(path.read_text() + '{"v": 3')  # a kill in the middle of a line
    assert write(1, 2, 3) == [1, 2, 3]
    assert os.stat(path).st_ino == inode

    def break_off():
        with Lines(path) as lines:
            lines.add([{"v": 1}])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert write(1, 2, 3) == [1, 2, 3]  # a run that broke off before it repeated all lost none


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of a finished run."""
    folder = tmp_path_factory.mktemp("finished") / "w"
    toy_experiment.run(workdir=str(folder), seeds=2)
    return folder


def resumed(finished, name, damage):
    """Resume a finished run of which one file is damaged; return the new files, or None if that is refused."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "w"
        shutil.copytree(finished, folder)
        damage(folder / name)
        message = ""
        try:
            toy_experiment.run(workdir=str(folder), seeds=2)
        except UserError as error:
            message = str(error)
        assert not message or ("\n" not in message and str(folder) in message)
        return None if message else {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


FILES = ["flags.cfg", "environment.json", "metrics.jsonl", "summary.json", "report.html"]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), name=st.sampled_from(FILES[:4]))
def test_a_run_with_damaged_files_is_resumed_or_refused_in_one_line(finished, data, name):
    content = (finished / name).read_bytes()
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(content))] * 2)))
    damaged = content[:start] + data.draw(st.binary(max_size=20)) + content[end:]
    new = resumed(finished, name, lambda path: path.write_bytes(damaged))
    if new:  # all is as it was, but for the wall times and what a finished run does not need
        assert new["metrics.jsonl"] == (finished / "metrics.jsonl").read_bytes()
        assert json.loads(new["summary.json"])["by_seed"] == [37.0, 37.0]
        assert isinstance(json.loads(new["environment.json"]), dict)


WHOLE = {
    "empty": lambda path: path.write_bytes(b""),
    "list": lambda path: path.write_bytes(b"[]"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "absent": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "huge": lambda path: os.truncate(path, 2**30),  # with a hole, of zeros
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", WHOLE)
def test_each_file_of_a_finished_run_may_be_damaged_as_a_whole(finished, name, damage):
    if damage == "huge" and name not in FILES[:2]:
        pytest.skip("not read as a whole, or a legitimate size")
    new = resumed(finished, name, WHOLE[damage])
    assert (new is None) == (name == "flags.cfg" or damage == "folder")


def test_a_workdir_that_is_removed_during_the_run_ends_it_and_does_not_come_back(tmp_path, monkeypatch):
    folder = tmp_path / "w"
    monkeypatch.setattr(time, "sleep", lambda seconds: shutil.rmtree(folder))  # the pause after the first record
    with refused_in_one_line("removed or replaced during the run"):
        toy_experiment.run(workdir=str(folder), seeds=2)
    assert not folder.exists()


def test_only_a_run_that_began_a_folder_removes_it(tmp_path):
    (tmp_path / "flags.cfg").write_text("--epochs=2\n")
    (tmp_path / "notes.partial").write_text("precious")
    opened = workdir(tmp_path)
    opened.claim(here())
    opened.release(failed=True, mistaken=True)
    assert (tmp_path / "notes.partial").read_text() == "precious"


@pytest.mark.parametrize("under", ["file", "~nosuch-user", "dangling"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(tmp_path, under):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    with refused_in_one_line("cannot"):
        workdir(Path(under if under[0] == "~" else tmp_path / under) / "w").check()
