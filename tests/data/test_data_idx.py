"""IDX files: what is written with struct is read back, and damage ends in one line."""

import contextlib
import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.data import idx, images
from mllab.errors import UserError


def encode(array: np.ndarray, code: int, letter: str) -> bytes:
    """Write IDX value by value, as its description says, sharing nothing with the reader."""
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + b"".join(struct.pack(f">{letter}", value) for value in array.ravel().tolist())


GOOD = encode(np.arange(24).reshape(2, 3, 4), 0x08, "B")


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize(
    ("code", "letter", "dtype"),
    [
        (0x08, "B", np.uint8),
        (0x09, "b", np.int8),
        (0x0B, "h", np.int16),
        (0x0C, "i", np.int32),
        (0x0D, "f", np.float32),
        (0x0E, "d", np.float64),
    ],
)
def test_reads_every_type(tmp_path, code, letter, dtype, pack):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype) * (1 if letter == "B" else -3)
    path = tmp_path / "a.idx"
    path.write_bytes(pack(encode(array, code, letter)))
    read = idx.read(path)
    assert read.dtype == dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\x00\x00", "is no IDX file"),
        (b"PNG!" + GOOD, "is no IDX file: it begins with 50 4e 47 21"),
        (b"\x00\x00\x07\x01" + GOOD[4:], "0x07 stands for no type"),
        (b"\x00\x00\x08\x00", "ends inside its header"),
        (GOOD[:10], "ends inside its header"),
        (GOOD[:-1], r"is cut short: its header says \[2, 3, 4\], 24 bytes, but 23 follow"),
        (GOOD + b"\x00", "is too long"),
        (encode(np.empty((0, 3, 4)), 0x08, "B"), r"holds no examples: its header says \[0, 3, 4\]"),
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "is cut short"),  # 2^96 bytes: no overflow
        (gzip.compress(GOOD, mtime=0)[:-4], "is cut short or damaged"),
        (gzip.compress(GOOD, mtime=0)[:-12] + b"\x00" * 12, "is cut short or damaged"),
    ],
)
def test_damage_is_named(tmp_path, content, words):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        idx.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file"):
        idx.read(tmp_path / "nowhere")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), packed=st.booleans())
def test_any_damage_raises_only_user_errors(tmp_path_factory, data, packed):
    content = bytearray(gzip.compress(GOOD, mtime=0) if packed else GOOD)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(UserError):
        idx.read(path)


def image_files(folder, **replaced):
    """Write a tiny set in MNIST's four files; `replaced` swaps arrays: train_images, train_labels, ..."""
    arrays = {
        "train_images": np.arange(36 * 4).reshape(36, 2, 2),
        "train_labels": np.arange(36) % 3,
        "t10k_images": np.arange(12).reshape(3, 2, 2),
        "t10k_labels": np.arange(3),
    } | replaced
    files = {}
    for name, array in arrays.items():
        part, what = name.split("_")
        file = f"{part}-{what}-idx{3 if what == 'images' else 1}-ubyte.gz"
        files[file] = folder / file
        files[file].write_bytes(gzip.compress(encode(array % 256, 0x08, "B")))
    return files


def test_image_set(tmp_path):
    dataset = images.idx_images("tiny", image_files(tmp_path), 0, ("a", "b", "c"), "letter")
    assert dataset.inputs.shape == (39, 2, 2, 1)
    assert dataset.inputs.dtype == np.float32
    np.testing.assert_allclose(dataset.inputs[1].ravel(), np.array([4, 5, 6, 7]) / 255, rtol=1e-6)
    np.testing.assert_allclose(dataset.inputs[37].ravel(), np.array([4, 5, 6, 7]) / 255, rtol=1e-6)
    np.testing.assert_array_equal(dataset.targets, [*(np.arange(36) % 3), 0, 1, 2])
    np.testing.assert_array_equal(dataset.split.test, [36, 37, 38])
    np.testing.assert_array_equal(np.bincount(dataset.targets[dataset.split.validation]), [2, 2, 2])
    assert len(dataset.split.train) == 30


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"train_images": np.arange(36) % 3}, "train-images.*are images and labels swapped"),
        ({"t10k_labels": np.zeros((3, 2, 2), int)}, "t10k-labels.*are images and labels swapped"),
        ({"train_labels": np.arange(35) % 3}, "36 images and .*train-labels.* 35 labels"),
        ({"t10k_labels": np.array([0, 3, 1])}, "t10k-labels.*label 3 of image 1 is not one of 0 to 2"),
        ({"t10k_images": np.zeros((3, 2, 3), int)}, r"training images are \[2, 2\] and test images \[2, 3\]"),
        ({"train_labels": np.r_[2, np.zeros(35, int)]}, "class 'c' has too few rows"),
    ],
)
def test_mismatched_image_files_are_named(tmp_path, replaced, words):
    with pytest.raises(UserError, match=words):
        images.idx_images("tiny", image_files(tmp_path, **replaced), 0, ("a", "b", "c"), "letter")
