"""A user's own folder of images: rows, classes and parts follow the folders; every mistake ends in one line."""

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mllab.data import load
from mllab.data.readers import image_dataset, image_memory
from mllab.errors import UserError
from support.mistakes import refused_in_one_line


def draw(path: Path, value=0.0, shape=(4, 4), colour=False, **options) -> Path:
    """Write an image with one value in [0, 255]; a coloured one has no blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*shape, 3) if colour else shape, value, np.uint8)
    if colour:
        pixels[..., 2] = 0
    Image.fromarray(pixels).save(path, **options)
    return path


def folder_of(path: Path, classes=("cat", "dog"), count=3, **options) -> Path:
    """Write `count` images a class, named 0.png, 1.png, ..., each with its own value."""
    for c, name in enumerate(classes):
        for i in range(count):
            draw(path / name / f"{i}.png", 100 * c + i, **options)
    return path


def values(dataset) -> list[int]:
    """The value that each image was written with."""
    return np.rint(dataset.inputs.max(axis=(1, 2, 3)) * 255).astype(int).tolist()


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    return load_digits()


def test_three_hundred_digits_are_read_as_written(tmp_path, digits):
    pixels = np.rint(digits.images[:300] * 255 / 16).astype(np.uint8)
    rows = []
    for i in range(300):
        path = tmp_path / f"digit {digits.target[i]}" / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[i]).save(path)
        rows.append((digits.target[i], i))
    order = [i for _, i in sorted(rows)]
    dataset = load(tmp_path, split_seed=3)
    assert dataset.inputs.shape == (300, 8, 8, 1)
    assert dataset.inputs.dtype == np.float32
    assert dataset.inputs.flags.c_contiguous
    np.testing.assert_allclose(dataset.inputs[..., 0], digits.images[order] / 16, atol=0.5001 / 255)
    assert dataset.targets.dtype == np.int32
    np.testing.assert_array_equal(dataset.targets, digits.target[order])
    assert dataset.classes == tuple(f"digit {c}" for c in range(10))
    assert (dataset.task, dataset.name, dataset.target) == ("classification", tmp_path.name, "class")
    assert dataset.notes == ()
    split = dataset.split
    assert [len(part) for part in (split.train, split.validation, split.test)] == [180, 60, 60]
    assert sorted(np.concatenate([split.train, split.validation, split.test]).tolist()) == list(range(300))
    for part in (split.validation, split.test):
        share = np.bincount(dataset.targets[part], minlength=10) - np.bincount(dataset.targets) / 5
        assert abs(share).max() <= 1
    assert not np.array_equal(load(tmp_path, split_seed=4).split.test, split.test)


def test_classes_and_files_are_in_natural_order_on_every_file_system(tmp_path, monkeypatch):
    for c, name in enumerate(("Class 1", "class 2", "class 10")):
        for i, file in enumerate(("A1.png", "b9.png", "b10.png")):
            draw(tmp_path / name / file, 10 * c + i)
    shuffled = np.random.default_rng(0)
    listed = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(shuffled.permutation(sorted(listed(path))).tolist()))
    for _ in range(5):
        dataset = load(tmp_path)
        assert dataset.classes == ("Class 1", "class 2", "class 10")
        assert values(dataset) == [0, 1, 2, 10, 11, 12, 20, 21, 22]
        assert dataset.targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@given(names=st.permutations(["a1", "A1", "a01", "a1b", "a", "1", "01", "", "²", "٣"]))
def test_names_that_differ_in_case_or_zeros_have_one_order(names):
    ordered = sorted(names, key=image_dataset.natural_order)
    assert ordered == ["", "01", "1", "٣", "a", "A1", "a01", "a1", "a1b", "²"]


@pytest.mark.parametrize("validation", ["", "validation", "val", "Val"])
def test_parts_become_the_split(tmp_path, validation):
    for part, count, first in (("train", 12, 0), (validation, 2, 40), ("test", 3, 60)):
        for c, name in enumerate(("cat", "dog")):
            for i in range(count if part else 0):
                draw(tmp_path / part / name / f"{i}.png", 100 * c + first + i)
    dataset = load(tmp_path)
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(np.array(values(dataset)) // 100, dataset.targets)
    values_of = {
        part: sorted(value % 100 for value in np.array(values(dataset))[rows])
        for part, rows in vars(dataset.split).items()
    }
    assert values_of["test"] == [60, 60, 61, 61, 62, 62]
    if validation:
        assert values_of["validation"] == [40, 40, 41, 41]
        assert values_of["train"] == sorted([*range(12), *range(12)])
        assert dataset.notes == ()
    else:
        assert sorted(values_of["train"] + values_of["validation"]) == sorted([*range(12), *range(12)])
        assert np.bincount(dataset.targets[dataset.split.validation]).tolist() == [2, 2]
        assert dataset.notes == ("took a sixth of the training rows for validation, stratified by class",)


def test_a_class_may_be_called_test(tmp_path):
    assert load(folder_of(tmp_path, ("test", "train"))).classes == ("test", "train")


@pytest.mark.parametrize(
    ("shapes", "size", "expected", "note"),
    [
        ([(5, 7)], None, (5, 7), None),
        ([(90, 70)], None, (90, 70), None),
        ([(90, 70)], (9, 7), (9, 7), r"resized 6 images of 6 to 9 × 7 \(height × width\), none squeezed"),
        (
            [(8, 8), (10, 12), (12, 30)],
            None,
            (10, 12),
            r"4 images of 6 to 10 × 12 \(.*medians, each at most 64\), 4 of",
        ),
        ([(100, 20), (200, 30)], None, (64, 25), "6 images of 6 to 64 × 25 .* 6 of them squeezed"),
        ([(8, 8), (4, 4), (4, 8)], (2, 2), (2, 2), r"6 images of 6 to 2 × 2 \(height × width\), 2 of them squeezed"),
    ],
)
def test_images_get_one_size(tmp_path, shapes, size, expected, note):
    for i in range(3):
        for c, name in enumerate(("cat", "dog")):
            draw(tmp_path / name / f"{i}.png", 10 * i + 100 * c, shapes[(i + c) % len(shapes)])
    dataset = load(tmp_path, size=size)
    assert dataset.inputs.shape == (6, *expected, 1)
    assert values(dataset) == [0, 10, 20, 100, 110, 120]
    assert len(dataset.notes) == (note is not None)
    if note:
        assert re.search(note, dataset.notes[0])


def test_more_than_the_memory_limit_is_refused(tmp_path):
    limit = 12 * 2**20  # three channels of four bytes
    image_memory.check_memory("folder", 2**20, (1, 1), limit=limit)
    with pytest.raises(UserError, match=r"folder: .* images of 1 × 1 take 0\.0 GiB of memory, more than the limit"):
        image_memory.check_memory("folder", 2**20 + 1, (1, 1), limit=limit)
    with pytest.raises(UserError, match=r"6 images of 90000 × 90000 take .* GiB of memory.*: choose a smaller size"):
        load(folder_of(tmp_path), size=(90_000, 90_000))


def test_grey_images_among_colours_are_repeated_in_three_channels(tmp_path):
    folder_of(tmp_path / "grey")
    folder_of(tmp_path / "colour", colour=True)
    draw(tmp_path / "colour" / "cat" / "0.png", 77)
    assert load(tmp_path / "grey").inputs.shape == (6, 4, 4, 1)
    mixed = load(tmp_path / "colour")
    assert mixed.inputs.shape == (6, 4, 4, 3)
    assert mixed.notes == ("repeated 1 grey image in three channels, since others have colours",)
    np.testing.assert_allclose(mixed.inputs[0], 77 / 255, rtol=1e-6)
    np.testing.assert_allclose(mixed.inputs[4, ..., 0], 101 / 255, rtol=1e-6)
    assert not mixed.inputs[4, ..., 2].any()


def test_the_preparation_is_noted(tmp_path):
    folder_of(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "README.txt", "cat/.hidden.png", "cat/list.txt", "dog/labels", "loose.png"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / ".cache" / "deeper").mkdir(parents=True)
    (tmp_path / "__MACOSX").mkdir()
    draw(tmp_path / "cat" / "0.png", 5, format="JPEG")
    draw(tmp_path / "dog" / "0.JPG", 8, format="PNG")  # a PNG with the ending of a JPEG
    os.truncate(draw(tmp_path / "dog" / ".1.png"), 9)
    Image.fromarray(np.full((4, 4, 2), 102, np.uint8)).save(tmp_path / "dog" / "1.png")
    Image.fromarray(np.full((4, 4), 300, np.uint16)).save(tmp_path / "dog" / "2.png")
    dataset = load(tmp_path)
    assert dataset.notes == (
        "composited 1 image with transparency on white",
        "divided 1 image of 16 bits by 65,535",
        f"read 2 files of another format than their names suggest: {tmp_path}/cat/0.png is JPEG",
        "skipped files that are not images by their names: 5 hidden, 2 .txt, 1 .db, 1 without ending",
        "skipped 1 image outside of the class folders, such as loose.png",
    )
    assert len(dataset.inputs) == 7
    np.testing.assert_allclose(dataset.inputs[[0, 3, 4, 5, 6], 0, 0, 0] * 255, [5, 8, 100, 193.8, 300 / 257], rtol=1e-5)


def test_the_digest_is_of_paths_and_contents(tmp_path):
    draw(folder_of(tmp_path / "a") / "cat" / "10.png", 10)
    (digest,) = load(tmp_path / "a").sha256.values()
    lines = [
        name.encode() + b"\0" + hashlib.sha256((tmp_path / "a" / name).read_bytes()).digest()
        for name in ("cat/0.png", "cat/1.png", "cat/10.png", "cat/2.png", "dog/0.png", "dog/1.png", "dog/2.png")
    ]
    assert digest == hashlib.sha256(b"".join(lines)).hexdigest()
    draw(folder_of(tmp_path / "b" / "a") / "cat" / "10.png", 10)
    (tmp_path / "b" / "a" / "notes.txt").write_text("not read")
    assert load(tmp_path / "b" / "a").sha256 == {"a/": digest} == load(tmp_path / "a", size=(2, 2)).sha256
    (tmp_path / "a" / "cat" / "0.png").rename(tmp_path / "a" / "cat" / "3.png")
    assert load(tmp_path / "a").sha256["a/"] != digest


def test_links_are_followed(tmp_path):
    folder_of(tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "here" / name).symlink_to(tmp_path / "elsewhere" / name)
    np.testing.assert_array_equal(load(tmp_path / "here").inputs, load(tmp_path / "elsewhere").inputs)


def remove(folder, pattern):
    for path in folder.glob(pattern):
        path.unlink()


def parts(folder, *names):
    for name in names:
        folder_of(folder / name)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: remove(f, "dog/*"), r"/dog has no image \(PNG, JPEG, .*\): add some, or remove the folder"),
        (lambda f: (remove(f, "dog/*"), (f / "dog" / "a.txt").touch()), "/dog has no image"),
        (lambda f: draw(f / "dog" / "young" / "0.png"), "/dog has the subfolder young: put images directly"),
        (lambda f: (f / "dog").rename(f.with_name("moved")), "has only the class 'cat': add the folder"),
        (lambda f: remove(f, "dog/[12].png"), r"class 'dog' has too few rows \(1\)"),
        (lambda f: (f / "dog" / "again").symlink_to(f), "/dog has the subfolder again"),
        (lambda f: (f / "again").symlink_to(f), "/again has the subfolder again"),
        (lambda f: (f / "dog" / "a.png").symlink_to("a.png"), "/dog/a.png is neither a file nor a folder: remove"),
        (lambda f: (f / "bird").symlink_to("nowhere"), "/bird is neither a file nor a folder: .* correct the link"),
        (lambda f: os.mkfifo(f / "dog" / "a.png"), "/dog/a.png is neither a file nor a folder"),
        (lambda f: (f / "dog" / "1.png").write_bytes(b""), r"/dog/1.png is empty \(0 bytes\): replace or remove it$"),
        (lambda f: [os.truncate(f / "dog" / f"{i}.png", 50) for i in (0, 1)],
         "/dog/0.png is truncated or damaged .*; 1 other file of .* cannot be read either$"),
        (lambda f: [(f / "cat" / f"{i}.png").write_text("cat") for i in (0, 1, 2)],
         "/cat/0.png is not a readable image .*; 2 other files of .* cannot be read either$"),
        (lambda f: [path.write_text("none") for path in f.glob("*/*")], "/cat/0.png is not a .*; 5 other files"),
        (lambda f: (f / "dog" / "a.tiff").write_bytes(b"II*\0"), "/dog/a.tiff is not a readable image"),
    ],
)  # fmt: skip
def test_a_damaged_folder_is_refused(tmp_path, spoil, words):
    folder = folder_of(tmp_path / "pets")
    spoil(folder)
    with refused_in_one_line(words) as caught:
        load(folder)
    assert str(folder) in str(caught.value) or "class 'dog'" in str(caught.value)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: None, "has no class folders: put the images of each class"),
        (lambda f: draw(f / "0.png"), "has images but no class folders: put the images of each class"),
        (lambda f: parts(f, "train", "val"), "has the folder train and val but no test: add it"),
        (lambda f: parts(f, "test"), "has the folder test but no train: add it"),
        (lambda f: parts(f, "train", "test", "extra"), "/extra is not one of train, validation, val, test, like the"),
        (lambda f: parts(f, "train", "test", "val", "validation"), "/val and .*/validation are both for validation"),
        (lambda f: (parts(f, "train", "test"), folder_of(f / "train", ["emu"])), "/test has no class folder 'emu'"),
        (lambda f: (parts(f, "train", "test"), folder_of(f / "test", ["emu"])), "/train has no class folder 'emu'"),
        (lambda f: (parts(f, "train", "test"), remove(f, "test/dog/*")), "/test/dog has no image"),
        (lambda f: (parts(f, "train", "test"), remove(f, "train/dog/[12].png")), "class 'dog' has too few rows"),
    ],
)  # fmt: skip
def test_folders_of_another_layout_are_refused(tmp_path, make, words):
    make(tmp_path)
    with refused_in_one_line(words):
        load(tmp_path)


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    folder_of(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=f"cannot read {tmp_path}: Permission denied"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("pets", {"target": "class"}, "target and task are for tables, and pets holds images"),
        ("pets", {"task": "classification"}, "target and task are for tables"),
        ("pets", {"size": (0, 4)}, r"size = \(0, 4\): expected height and width, two whole numbers of 1 or more"),
        ("pets", {"size": (4,)}, "expected height and width"),
        ("pets", {"size": (100_000, 100_000)}, "choose a smaller size"),
        ("digits", {"size": (4, 4)}, "size: only for your own data, and 'digits' is a set of the catalog"),
        ("t.csv", {"size": (4, 4), "target": "a"}, "size is for images, and t.csv is a table"),
        ("data/pots", {}, r"no folder data/pots: did you mean data/pets\?"),
        ("data/zzz/", {}, "no folder data/zzz/: check the path"),
        ("dogits/", {}, "unknown data set 'dogits/': did you mean 'digits'"),
        ("", {}, "unknown data set ''"),
        ("a.png", {}, "cannot read a.png: expected a table .*, arrays of images .* or a folder of images"),
    ],
)
def test_mistaken_names_and_options_are_refused(tmp_path, monkeypatch, name, options, words):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "pets")
    folder_of(tmp_path / "data" / "pets")
    draw(tmp_path / "a.png")
    with pytest.raises(UserError, match=words):
        load(name, **options)


def test_a_folder_with_the_name_of_a_set_is_read_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "digits")
    assert len(load("digits").inputs) == 1797
    for name in ("digits/", "./digits", tmp_path / "digits"):
        assert load(name).classes == ("cat", "dog")
    monkeypatch.chdir("digits")
    assert load(".").name == "digits"


@pytest.mark.slow
def test_pillow_is_imported_for_images_only(tmp_path):
    program = (
        "import sys; from mllab.data import load; load('digits'); print('PIL' in sys.modules)\n"
        "sys.modules['PIL'] = None\n"
        f"try: load({str(folder_of(tmp_path))!r})\n"
        "except ValueError as error: print(error)"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "False",
        f"reading {tmp_path} needs Pillow, which is not installed: pip install 'mllab[experiments]'",
    ]
