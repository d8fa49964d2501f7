"""Polyphonic music: the published split, generated pieces, and MATLAB files that hold something else."""

import numpy as np
import pytest
from scipy.io import savemat

from mllab.data import music
from mllab.data.readers import mat
from support.mistakes import refused_in_one_line


def cells(*pieces):
    array = np.empty((1, len(pieces)), object)
    for place, piece in enumerate(pieces):
        array[0, place] = piece
    return array


def roll(length, seed=0):
    return (np.random.default_rng(seed).random((length, 88)) < 0.04).astype(np.uint8)


def written(path, **changes):
    stored = {"traindata": cells(roll(5), roll(3)), "validdata": cells(roll(4)), "testdata": cells(roll(2))} | changes
    savemat(path, {name: value for name, value in stored.items() if value is not None}, do_compression=True)
    return path


def test_the_published_chorales_have_their_split_and_frames(data_dir):
    loaded = music.load("jsb_chorales", data_dir=data_dir, download=False)
    assert [len(loaded.parts[part]) for part in ("train", "validation", "test")] == [229, 76, 77]
    assert [sum(map(len, loaded.parts[part])) for part in loaded.parts] == [13_807, 4_602, 4_725]


def test_generated_progressions_are_four_voices_and_always_the_same():
    one, again = music.load("progressions"), music.load("progressions")
    assert one.sha256 == again.sha256
    for pieces in one.parts.values():
        for piece in pieces:
            assert set(piece.sum(axis=1)) == {4}
            assert piece.shape[1] == 88


def test_a_file_of_your_own_is_read_back(tmp_path):
    path = written(tmp_path / "own.mat")
    loaded = music.load(path)
    assert loaded.name == "own.mat"
    np.testing.assert_array_equal(loaded.parts["train"][1], roll(3))
    with refused_in_one_line("did you mean 'jsb_chorales'"):
        music.load("jsb_chorale")
    with refused_in_one_line("no file"):
        music.load(tmp_path / "none.mat")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"testdata": None}, "has no variable testdata"),
        ({"testdata": np.ones((2, 2))}, "testdata is no cell array"),
        ({"validdata": cells(roll(3)[:, :87])}, r"validdata\{1\} is \[3, 87\]"),
        ({"validdata": cells(roll(1))}, r"validdata\{1\} is \[1, 88\]"),
        ({"traindata": cells(roll(3), roll(3) * 2.5)}, r"traindata\{2\} is 2.5 at frame \d, key \d+: expected 0 or 1"),
        ({"traindata": cells(np.full((2, 88), np.nan))}, r"traindata\{1\} is nan at frame 1, key 1"),
        ({"traindata": cells("notes", "x")}, r"traindata\{1\} is no matrix of numbers"),
    ],
    ids=["missing", "no cells", "narrow", "short", "no bits", "nan", "text"],
)  # fmt: skip
def test_what_is_no_piano_roll_is_refused(changes, message, tmp_path):
    with refused_in_one_line(message):
        mat.read(written(tmp_path / "bad.mat", **changes))


def test_a_damaged_file_is_refused_wherever_it_is_cut_or_changed(tmp_path):
    path = tmp_path / "bad.mat"
    whole = written(tmp_path / "whole.mat").read_bytes()
    for cut in (0, 3, 100, 128, 140, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with refused_in_one_line("is no MATLAB file|truncated or damaged|has no variable"):
            mat.read(path)
