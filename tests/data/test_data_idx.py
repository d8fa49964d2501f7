"""IDX files: written with struct and read back; damage and mismatches end in one line."""

import contextlib
import gzip
import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.data import load
from mllab.data.readers import idx
from mllab.errors import UserError
from support.idx_files import encode, write
from support.mistakes import refused_in_one_line

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
def test_every_type_is_read(tmp_path, code, letter, dtype, pack):
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
        (b"\x00\x00", "is not an IDX file"),
        (b"PNG!" + GOOD, "is not an IDX file: it starts with 50 4e 47 21, expected 00 00"),
        (b"\x00\x00\x07\x01" + GOOD[4:], "0x07 is not the code of a type"),
        (b"\x00\x00\x08\x00", "is truncated inside its header"),
        (GOOD[:10], "is truncated inside its header"),
        (GOOD[:-1], r"is truncated: the shape \[2, 3, 4\] in its header takes 24 bytes, not 23"),
        (GOOD + b"\x00", "is too long"),
        (encode(np.empty((0, 3, 4)), 0x08, "B"), r"holds no examples: the shape in its header is \[0, 3, 4\]"),
        (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "is truncated"),  # 2^96 bytes do not overflow
        (gzip.compress(GOOD, mtime=0)[:-4], "is truncated or damaged"),
        (gzip.compress(GOOD, mtime=0)[:-12] + b"\x00" * 12, "is truncated or damaged"),
    ],
)
def test_damage_is_named(tmp_path, content, words):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with refused_in_one_line(words) as caught:
        idx.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
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
    """Write a tiny set as four files named like MNIST's; `replaced` swaps arrays: train_images, train_labels, ..."""
    arrays = {
        "train_images": np.arange(36 * 4).reshape(36, 2, 2),
        "train_labels": np.arange(36) % 3,
        "t10k_images": np.arange(12).reshape(3, 2, 2),
        "t10k_labels": np.arange(3),
    } | replaced
    return write(folder, {name.replace("_", "-"): array % 256 for name, array in arrays.items()})


def test_four_files_are_a_labelled_set(tmp_path):
    dataset = idx.labelled_images("tiny", image_files(tmp_path), 0, ("a", "b", "c"), "letter")
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
        ({"train_images": np.arange(36) % 3}, "train-images.*expected uint8 images .*labels are swapped"),
        ({"t10k_labels": np.zeros((3, 2, 2), int)}, "t10k-labels.*expected uint8 labels .*labels are swapped"),
        ({"train_labels": np.arange(35) % 3}, "36 images and .*train-labels.* 35 labels"),
        ({"t10k_labels": np.array([0, 3, 1])}, "t10k-labels.*label 3 of image 1 is out of range, expected 0 to 2"),
        ({"t10k_images": np.zeros((3, 2, 3), int)}, r"training images are \[2, 2\] and test images \[2, 3\]"),
        ({"train_labels": np.r_[2, np.zeros(35, int)]}, "class 'c' has too few rows"),
    ],
)
def test_files_that_do_not_match_are_named(tmp_path, replaced, words):
    with pytest.raises(UserError, match=words):
        idx.labelled_images("tiny", image_files(tmp_path, **replaced), 0, ("a", "b", "c"), "letter")


BYTES = np.random.default_rng(0).integers(0, 256, (12, 5, 4), dtype=np.uint8)
LABELS = np.arange(12) % 3


def user_folder(folder, packed=True, **replaced):
    """Write a user's own folder of three classes; `replaced` swaps arrays."""
    arrays = {
        "train_images": BYTES,
        "train_labels": LABELS,
        "t10k_images": BYTES[:3],
        "t10k_labels": np.array([2, 0, 2]),
    } | replaced
    write(folder, {name.replace("_", "-"): array for name, array in arrays.items()}, packed)
    return folder


@pytest.mark.parametrize("packed", [True, False])
def test_a_users_own_folder_is_a_data_set(tmp_path, packed):
    dataset = load(user_folder(tmp_path, packed))
    np.testing.assert_allclose(dataset.inputs[..., 0], np.concatenate([BYTES, BYTES[:3]]) / 255, atol=1e-7)
    np.testing.assert_array_equal(dataset.targets, [*LABELS, 2, 0, 2])
    np.testing.assert_array_equal(dataset.split.test, [12, 13, 14])
    assert dataset.classes == ("0", "1", "2")
    assert dataset.name == tmp_path.name
    assert dataset.sha256 == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()}
    assert len(dataset.sha256) == 4
    resized = load(tmp_path, size=(10, 8))
    assert resized.inputs.shape == (15, 10, 8, 1)
    assert resized.notes[-1] == "resized images of 5 × 4 to 10 × 8 (height × width)"


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({"train_labels": LABELS + 1}, "train-labels holds 3 distinct labels, 1 to 3: number the classes 0 to 2"),
        ({"train_labels": LABELS * 0}, "all labels of train-labels are 0"),
        ({"t10k_labels": np.array([0, 7, 0])}, "label 7 of image 1 of t10k-labels is not in train-labels"),
        ({"train_labels": LABELS[:-1]}, "12 images and .* 11 labels, expected as many"),
        ({"train_labels": BYTES}, "whether images and labels are swapped"),
    ],
)
def test_a_users_files_that_do_not_match_are_refused(tmp_path, replaced, words):
    with pytest.raises(UserError, match=words) as caught:
        load(user_folder(tmp_path, **replaced))
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("missing", ["train-images-idx3", "t10k-labels-idx1"])
def test_a_missing_file_of_the_four_is_named(tmp_path, missing):
    (user_folder(tmp_path) / f"{missing}-ubyte.gz").unlink()
    with pytest.raises(UserError, match=f"has IDX files, but no {missing}-ubyte \\(gzipped or plain\\): add it"):
        load(tmp_path)
