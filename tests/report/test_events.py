import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mllab.report import events


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {tag: accumulator.Scalars(tag) for tag in accumulator.Tags()["scalars"]}


def test_what_was_written_is_read_back(tmp_path):
    steps = np.arange(5) * 44
    loss = np.array([2.3, 1.0, np.nan, 0.5, 1e39])
    tags = {"loss/train": (steps, loss), "loss/validation": (steps[1::2], loss[1::2])}
    events.write(tmp_path / "adam", tags)
    back = read(tmp_path / "adam")
    assert back.keys() == tags.keys()
    train = back["loss/train"]
    assert [point.step for point in train] == steps.tolist()
    np.testing.assert_array_equal([point.value for point in train], [np.float32(2.3), 1, np.nan, 0.5, np.inf])
    assert [point.wall_time for point in train] == [0] * 5
    assert [point.step for point in back["loss/validation"]] == [44, 132]


def test_a_lane_written_again_doubles_nothing_and_repeats_its_bytes(tmp_path):
    half = {"loss": (np.arange(3), np.ones(3))}
    whole = {"loss": (np.arange(6), np.ones(6))}
    events.write(tmp_path, half)
    first = events.write(tmp_path, whole).read_bytes()
    second = events.write(tmp_path, whole).read_bytes()
    assert first == second
    assert (tmp_path / "events.out.tfevents.0.mllab").exists()  # the same name in every process
    assert len(list(tmp_path.iterdir())) == 1
    assert [point.step for point in read(tmp_path)["loss"]] == list(range(6))


def test_steps_and_values_must_match(tmp_path):
    with pytest.raises(ValueError, match="'loss'"):
        events.write(tmp_path / "lane", {"loss": (np.arange(3), np.ones(2))})
    assert not (tmp_path / "lane").exists()


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = events.write(tmp_path, {"loss": (np.arange(3), np.ones(3))})
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        events.write(tmp_path, {"loss": (np.arange(9), np.ones(9))})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before
