"""NPZ files of a user's own images are read as NumPy wrote them; every mistake ends in one line."""

import contextlib
import hashlib
import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mllab.data import load
from mllab.errors import UserError
from support.mistakes import refused_in_one_line

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (12, 5, 4), dtype=np.uint8)
LABELS = np.arange(12) % 3
COLOURS = RNG.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8)
FLOATS = RNG.random((12, 5, 4), dtype=np.float32)
OPACITY = RNG.random((12, 5, 4, 2))
DIVIDED = ("divided floats by 255, since some exceed 1",)
COMPOSITED = ("composited images with transparency on white",)


def save(folder, **arrays):
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("images", "expected", "notes"),
    [
        (BYTES, BYTES[..., None] / 255, ()),
        (BYTES[..., None], BYTES[..., None] / 255, ()),
        (COLOURS, COLOURS / 255, ()),
        (BYTES.astype(np.uint16) * 257, BYTES[..., None] / 255, ()),
        (BYTES.astype(">u2"), BYTES[..., None] / 65535, ()),
        (FLOATS, FLOATS[..., None], ()),
        (FLOATS.astype(np.float64), FLOATS[..., None], ()),
        (BYTES.astype(np.float32), BYTES[..., None] / 255, DIVIDED),
        (BYTES.astype(np.float16), BYTES[..., None] / 255, DIVIDED),
        (OPACITY, OPACITY[..., :1] * OPACITY[..., 1:] + 1 - OPACITY[..., 1:], COMPOSITED),
        (
            np.concatenate([COLOURS, BYTES[..., None]], -1),
            1 - (1 - COLOURS / 255) * (BYTES[..., None] / 255),
            COMPOSITED,
        ),
    ],
)
@pytest.mark.parametrize(("x", "y"), [("images", "labels"), ("x", "y"), ("X", "y")])
def test_images_of_every_kind_are_read(tmp_path, images, expected, notes, x, y):
    path = save(tmp_path, **{x: images, y: LABELS})
    dataset = load(path)
    assert dataset.inputs.dtype == np.float32
    assert dataset.inputs.flags.c_contiguous
    np.testing.assert_allclose(dataset.inputs, expected, atol=3e-7)
    np.testing.assert_array_equal(dataset.targets, LABELS)
    assert dataset.targets.dtype == np.int32
    assert (dataset.task, dataset.name, dataset.classes) == ("classification", "data.npz", ("0", "1", "2"))
    assert dataset.notes == notes
    assert dataset.sha256 == {"data.npz": hashlib.sha256(path.read_bytes()).hexdigest()}
    split = dataset.split
    assert sorted(np.concatenate([split.train, split.validation, split.test]).tolist()) == list(range(12))
    assert np.bincount(LABELS[split.test]).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("labels", "targets", "classes"),
    [
        (LABELS.astype(np.uint8), LABELS, ("0", "1", "2")),
        (LABELS.astype(np.int64)[::-1], LABELS[::-1], ("0", "1", "2")),
        (np.array(["c 10", "c 9", "B"])[LABELS], np.array([2, 1, 0])[LABELS], ("B", "c 9", "c 10")),
        (np.array(["10", "9", "1"])[LABELS], np.array([2, 1, 0])[LABELS], ("1", "9", "10")),
    ],
)
def test_labels_of_every_kind_are_read(tmp_path, labels, targets, classes):
    dataset = load(save(tmp_path, images=BYTES, labels=labels))
    np.testing.assert_array_equal(dataset.targets, targets)
    assert dataset.classes == classes


@pytest.mark.parametrize("strings", [False, True])
def test_training_and_test_arrays_named_as_by_keras(tmp_path, strings):
    y_test = np.array([2, 0, 2])
    labels = [np.array(["ant", "bee", "cow"])[y] if strings else y for y in (LABELS, y_test)]
    path = save(tmp_path, x_train=BYTES / 255.0, y_train=labels[0], x_test=BYTES[:3] / 300.0, y_test=labels[1])
    dataset = load(path, split_seed=5)
    np.testing.assert_allclose(dataset.inputs[..., 0], np.concatenate([BYTES / 255, BYTES[:3] / 300]), atol=1e-7)
    np.testing.assert_array_equal(dataset.targets, [*LABELS, *y_test])
    assert dataset.classes == (("ant", "bee", "cow") if strings else ("0", "1", "2"))
    np.testing.assert_array_equal(dataset.split.test, [12, 13, 14])
    np.testing.assert_array_equal(np.sort(np.r_[dataset.split.train, dataset.split.validation]), np.arange(12))
    assert np.bincount(LABELS[dataset.split.validation]).tolist() == [1, 1, 1]
    assert dataset.notes == ("took a sixth of the training rows for validation, stratified by class",)


def test_training_and_test_images_share_one_scale(tmp_path):
    dark = np.full((3, 5, 4), 0.5)  # of 255
    path = save(tmp_path, x_train=BYTES.astype(float), y_train=LABELS, x_test=dark, y_test=np.arange(3))
    np.testing.assert_allclose(load(path).inputs[12:], 0.5 / 255, rtol=1e-6)


def test_arrays_are_resized_like_files(tmp_path):
    for i, label in enumerate(LABELS):
        folder = tmp_path / "files" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(COLOURS[i]).save(folder / f"{i}.png")
    order = np.argsort(LABELS, kind="stable")
    dataset = load(save(tmp_path, images=COLOURS[order], labels=LABELS[order]), size=(3, 7))
    files = load(tmp_path / "files", size=(3, 7))
    assert dataset.inputs.shape == (12, 3, 7, 3)
    np.testing.assert_array_equal(dataset.targets, files.targets)
    assert abs(dataset.inputs - files.inputs).mean() < 1 / 255
    assert dataset.notes == ("resized images of 5 × 4 to 3 × 7 (height × width)",)
    assert load(save(tmp_path, images=COLOURS, labels=LABELS), size=(5, 4)).notes == ()


def test_more_than_the_memory_limit_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"data.npz: 12 images of 90000 × 90000 take .*: choose a smaller size"):
        load(save(tmp_path, images=BYTES, labels=LABELS), size=(90_000, 90_000))


def parts(**replaced):
    return {"x_train": BYTES, "y_train": LABELS, "x_test": BYTES[:3], "y_test": np.arange(3)} | replaced


def pair(images=BYTES, labels=LABELS):
    return {"images": images, "labels": labels}


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"imgs": BYTES, "labels": LABELS}, "holds imgs, labels, but no images: name the array images or x or X"),
        ({"images": BYTES}, "holds images, but no labels: name the array labels or y or Y"),
        ({}, "holds nothing, but no images"),
        (pair() | {"x": BYTES}, "images and x may both be the images; keep one of them"),
        ({"x_train": BYTES, "y_train": LABELS}, "holds x_train, y_train, but no x_test"),
        (pair(np.array([BYTES, 1], object)), "cannot be read .*allow_pickle=False"),
        (pair(labels=np.array([*"abcabcabcabc"], object)), "cannot be read .*allow_pickle=False"),
        (pair(BYTES[0]), r"images has shape \[5, 4\], expected \[N, height, width\]"),
        (pair(BYTES[:0], LABELS[:0]), r"images has shape \[0, 5, 4\], expected"),
        (pair(BYTES[:, :0]), r"images has shape \[12, 0, 4\]"),
        (pair(np.moveaxis(np.repeat(COLOURS, 2, 2), -1, 1)), r"\[12, 3, 5, 8\].*images.transpose\(0, 2, 3, 1\)"),
        (pair(np.repeat(COLOURS, 2, -1)), r"images has shape \[12, 5, 4, 6\], expected 1 or 3 channels.* opacity$"),
        (pair(BYTES.astype(np.int64)), "images holds int64, expected uint8, uint16 or floats: convert it"),
        (pair(changed(FLOATS, (7, 1, 1), np.nan)), "images holds nan in image 7, expected floats in"),
        (pair(changed(FLOATS, (7, 1, 1), np.inf)), "images holds inf in image 7"),
        (pair(changed(FLOATS, (7, 1, 1), -0.5)), "images holds -0.5 in image 7"),
        (pair(changed(FLOATS, (7, 1, 1), 1.5)), "images holds 1.5 in image 7"),
        (pair(changed(FLOATS, (7, 1, 1), 256)), "images holds 256 in image 7"),
        (pair(labels=LABELS[:-1]), "images holds 12 images and labels 11 labels, expected as many"),
        (pair(labels=np.eye(3)[LABELS]), r"labels has shape \[12, 3\], expected \[N\]: apply argmax\(axis=1\)"),
        (pair(labels=LABELS.astype(float)), "labels holds float64, expected whole numbers or strings: convert it"),
        (pair(labels=LABELS + 1), r"3 distinct labels, 1 to 3: number the classes 0 to 2"),
        (pair(labels=LABELS - 1), r"3 distinct labels, -1 to 1: number"),
        (pair(labels=LABELS * 2), r"3 distinct labels, 0 to 4: number"),
        (pair(labels=LABELS * 0), "all labels of labels are 0; add rows of another class"),
        (pair(labels=np.array([0] * 10 + [1, 1])), r"class '1' has too few rows \(2\)"),
        (
            parts(x_test=COLOURS[:3]),
            r"x_train holds uint8 \[5, 4\] and x_test uint8 \[5, 4, 3\]: write both with the same dtype",
        ),
        (parts(x_test=FLOATS[:3]), r"x_train holds uint8 \[5, 4\] and x_test float32 \[5, 4\]"),
        (
            parts(y_test=np.array([0, 3, 1])),
            "label 3 of image 1 of y_test is not in y_train: add it there, or remove it",
        ),
        (parts(y_test=np.array(["0", "1", "2"])), "y_test holds <U1, expected whole numbers or strings"),
        (parts(y_test=np.arange(4)), "x_test holds 3 images and y_test 4 labels, expected as many"),
    ],
)
def test_arrays_of_other_shapes_or_types_are_refused(tmp_path, arrays, words):
    path = save(tmp_path, **arrays)
    with refused_in_one_line(words) as caught:
        load(path)
    assert str(path) in str(caught.value) or "class '1'" in str(caught.value)


WHOLE = io.BytesIO()
np.savez_compressed(WHOLE, **pair())
WHOLE = WHOLE.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not an NPZ file: write it with numpy.savez"),
        (b"images,labels\n", "is not an NPZ file"),
        (WHOLE[:-30], "is not an NPZ file"),
        (WHOLE[:100] + bytes(40) + WHOLE[140:], r"cannot be read \(.*\): write it again"),
    ],
)
def test_damaged_archives_are_refused(tmp_path, content, words):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load(path)
    assert str(path) in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_raises_only_user_errors(tmp_path_factory, data):
    content = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    with contextlib.suppress(UserError):
        load(path)


def test_members_that_are_not_arrays_and_errors_of_the_system_are_named(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", b"a text")
        archive.writestr("labels", b"another")
    with pytest.raises(UserError, match=r"'images' is not an array: write the file again with numpy.savez"):
        load(path)

    def refuse(*args, **kwargs):
        raise MemoryError

    save(tmp_path, **pair())
    monkeypatch.setattr(np.lib.format, "read_array", refuse)
    with pytest.raises(UserError, match=r"cannot be read \(MemoryError\)"):
        load(path)


def test_a_missing_file_is_named_with_the_nearest_name(tmp_path):
    save(tmp_path, **pair())
    with pytest.raises(UserError, match=r"no file .*/dat.npz: did you mean .*/data.npz\?"):
        load(tmp_path / "dat.npz")
