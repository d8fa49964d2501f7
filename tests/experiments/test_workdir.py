"""The workdir: one process at a time, the same flags resume, others are refused, nothing half-written."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from experiments.workdir import Lines, Workdir, finite
from mllab.errors import UserError

SETTINGS = "--epochs=2\n--optimizers=sgd,adam\n--shared_batches=false\n"


def test_the_same_flags_open_it_again_and_others_are_named(tmp_path):
    path = tmp_path / "w"
    with Workdir(path, "x", SETTINGS).opened():
        pass
    assert (path / "flags.cfg").read_text() == SETTINGS
    with Workdir(path, "x", SETTINGS + "--devices=3\n--data_dir=elsewhere\n").opened():
        pass  # where a run happens is not what it computes
    other = SETTINGS.replace("epochs=2", "epochs=3") + "--hidden=8\n"
    with (
        pytest.raises(UserError, match=r"--epochs \(2, now 3\), --hidden \(unset, now 8\)"),
        Workdir(path, "x", other).opened(),
    ):
        pass
    assert (path / "flags.cfg").read_text() == SETTINGS


def test_a_workdir_in_use_by_another_process_is_refused(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from experiments.workdir import Workdir\n"
        "with Workdir(Path(sys.argv[1]), 'x', '').opened(): print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="in use by another process"), Workdir(tmp_path, "x", "").opened():
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    with Workdir(tmp_path, "x", "").opened():
        pass  # a killed process holds nothing


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match=r"holds other files and no flags\.cfg"), Workdir(tmp_path, "x", "").opened():
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name != ".lock") == ["thesis.tex"]


@pytest.mark.parametrize("under", ["file", "/proc/nowhere"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, under):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write") as caught, Workdir(tmp_path / under / "w", "x", "").opened():
        pass
    assert "\n" not in str(caught.value)


def test_other_data_in_the_same_workdir_is_refused(tmp_path):
    with Workdir(tmp_path, "x", "").opened() as workdir:
        workdir.write_environment({"a.csv": "1234"}, 2)
        with pytest.raises(UserError, match="other data"):
            workdir.write_environment({"a.csv": "5678"}, 2)
        environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["data"] == {"a.csv": "1234"}
    assert environment["versions"]["numpy"] == np.__version__
    assert environment["devices"]["count"] == 2


def test_a_write_that_fails_leaves_what_stood(tmp_path):
    with Workdir(tmp_path, "x", "").opened() as workdir:
        workdir.write("a.txt", "before")
        with pytest.raises(UnicodeEncodeError):
            workdir.write("a.txt", "after" * 100_000 + "\ud800")
    assert (tmp_path / "a.txt").read_text() == "before"
    assert not list(tmp_path.glob("*.partial"))


def test_json_has_null_for_what_is_not_finite(tmp_path):
    value = {"a": [1.0, float("nan"), np.inf], "b": np.array([[1.5, -np.inf]]), "c": np.float32("nan"), 3: (1,)}
    assert finite(value) == {"a": [1.0, None, None], "b": [[1.5, None]], "c": None, "3": [1]}


def test_lines_told_again_stay_and_the_file_is_cut_where_they_differ(tmp_path):
    path = tmp_path / "m.jsonl"

    def tell(*records):
        with Lines(path) as lines:
            for record in records:
                lines.add([{"v": record}])
        return [json.loads(line)["v"] for line in path.read_text().splitlines()]

    assert tell(1, 2, 3) == [1, 2, 3]
    inode = os.stat(path).st_ino
    assert tell(1, 2, 3, 4) == [1, 2, 3, 4]
    assert tell(1, 2, float("nan"), 5) == [1, 2, None, 5]
    assert tell(1, 2) == [1, 2]
    path.write_text(path.read_text() + '{"v": 3')  # a kill in the middle of a line
    assert tell(1, 2, 3) == [1, 2, 3]
    assert os.stat(path).st_ino == inode

    def break_off():
        with Lines(path) as lines:
            lines.add([{"v": 1}])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert tell(1, 2, 3) == [1, 2, 3]  # a run that broke off before telling all again lost none
