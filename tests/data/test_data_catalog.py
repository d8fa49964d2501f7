"""The catalog: data sets as published, files found in the right order and verified, mistakes in one line."""

import gzip
import hashlib
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from mllab.data import Dataset, load
from mllab.data.catalog import CATALOG
from mllab.data.files import File, locate
from mllab.data.sets import california_housing, synthetic
from mllab.errors import UserError


def check(dataset: Dataset, rows: int, shape: tuple[int, ...]) -> None:
    """Check the invariants of every data set."""
    assert dataset.inputs.shape == (rows, *shape)
    assert dataset.inputs.dtype == np.float32
    assert dataset.inputs.flags.c_contiguous
    assert np.isfinite(dataset.inputs).all()
    assert len(dataset.targets) == rows
    assert dataset.licence
    assert dataset.citation
    split = dataset.split
    assert sorted(np.concatenate([split.train, split.validation, split.test]).tolist()) == list(range(rows))
    if dataset.task == "classification":
        assert dataset.targets.dtype == np.int32
        np.testing.assert_array_equal(np.unique(dataset.targets), np.arange(len(dataset.classes)))
    else:
        assert dataset.targets.dtype == np.float32
        train = dataset.targets[split.train]
        assert abs(train.mean()) < 1e-4
        assert train.std() == pytest.approx(1, rel=1e-4)
        assert abs(dataset.inputs[split.train].mean(axis=0)).max() < 1e-4
        np.testing.assert_allclose(dataset.inputs[split.train].std(axis=0), 1, rtol=1e-3)


def test_digits_equal_scikit_learn():
    from sklearn.datasets import load_digits

    dataset, published = load("digits"), load_digits()
    check(dataset, 1797, (8, 8, 1))
    np.testing.assert_array_equal(dataset.inputs[..., 0] * 16, published.images)
    np.testing.assert_array_equal(dataset.targets, published.target)
    assert [len(part) for part in (dataset.split.validation, dataset.split.test)] == [359, 359]
    assert list(dataset.sha256) == ["digits.csv.gz"]
    assert not np.array_equal(load("digits", split_seed=1).split.test, dataset.split.test)


def test_digits_load_in_milliseconds():
    load("digits")
    seconds = []
    for _ in range(5):
        start = time.process_time()  # of this process alone: other load does not count
        load("digits")
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.06


def test_digits_without_scikit_learn_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'mllab\[experiments\]'"):
        load("digits")


@pytest.mark.slow
def test_loading_small_sets_imports_nothing_heavy():
    program = (
        "import sys, mllab.data.catalog as catalog; catalog.load('digits'); catalog.load('line');"
        "print([name for name in ('pandas', 'pyarrow', 'sklearn', 'urllib.request') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_line():
    x, y = synthetic.line(np.random.default_rng(7))
    assert x.shape == (800,)
    assert (x[0], x[-1]) == (-20, pytest.approx(19.95))
    slope, intercept = np.polyfit(x, y, 1)
    assert slope == pytest.approx(2, abs=0.01)
    assert intercept == pytest.approx(25, abs=0.1)
    assert (y - 2 * x - 25).std() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_array_equal(y, synthetic.line(np.random.default_rng(7))[1])
    dataset = load("line")
    check(dataset, 800, (1,))
    values = dataset.targets * dataset.target_scale + dataset.target_mean
    assert np.polyfit(x, values, 1) == pytest.approx([2, 25], abs=0.1)


def test_houses():
    area, price = synthetic.houses()
    assert list(zip(area, price, strict=True)) == [
        (1210, 234),
        (1450, 266),
        (750, 172),
        (1200, 232),
        (1380, 257),
        (840, 184),
    ]


@pytest.fixture(scope="module")
def real(data_dir):
    """A function of a data set's name that returns the folder of real data, or skips the test without that set."""

    def folder(name):
        if not (data_dir / name).is_dir():
            pytest.skip(f"no real data set at {data_dir / name}")
        return data_dir

    return folder


def test_california_housing_as_scikit_learn_documents_it(real):
    folder = real("california_housing")
    features, values = california_housing.read(folder / "california_housing" / "cal_housing.data.gz")
    first = [8.3252, 41.0, 6.98412698, 1.02380952, 322.0, 2.55555556, 37.88, -122.23]
    assert values[0] == 4.526
    np.testing.assert_allclose(features[0], first, rtol=1e-8)
    assert values.mean() == pytest.approx(2.06856, abs=1e-5)  # its documentation
    dataset = load("california_housing", data_dir=folder, download=False)
    check(dataset, 20_640, (8,))
    np.testing.assert_allclose(dataset.targets * dataset.target_scale + dataset.target_mean, values, rtol=1e-5)
    train, test = dataset.split.train, dataset.split.test
    x = np.c_[dataset.inputs, np.ones(len(values))].astype(np.float64)
    fitted = x @ np.linalg.lstsq(x[train], values[train], rcond=None)[0]
    r2 = 1 - np.mean((fitted - values)[test] ** 2) / values[test].var()
    assert r2 == pytest.approx(0.60, abs=0.03)  # 0.6062 on all rows


@pytest.fixture(scope="module")
def mnist(real):
    return load("mnist", data_dir=real("mnist"), download=False)


@pytest.mark.slow
def test_mnist_as_published(mnist):
    check(mnist, 70_000, (28, 28, 1))
    assert (mnist.inputs.min(), mnist.inputs.max()) == (0, 1)
    assert mnist.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(mnist.targets[:60_000]).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949
    ]  # fmt: skip
    assert mnist.inputs[:60_000].mean(dtype=np.float64) == pytest.approx(0.1307, abs=1e-4)
    assert mnist.inputs[:60_000].std(dtype=np.float64) == pytest.approx(0.3081, abs=1e-4)
    assert len(mnist.split.validation) == 10_000
    np.testing.assert_array_equal(mnist.split.test, np.arange(60_000, 70_000))


def test_another_set_under_the_same_file_names_is_refused(real):
    folder = real("fashion_mnist") / "fashion_mnist"
    with pytest.raises(
        UserError, match="is not the file that mnist publishes: it has 26,421,880 bytes, expected 9,912,422"
    ):
        load("mnist", data_dir=folder, download=False)


@pytest.mark.slow
def test_fashion_mnist_as_published(real):
    dataset = load("fashion_mnist", data_dir=real("fashion_mnist"), download=False)
    check(dataset, 70_000, (28, 28, 1))
    assert np.bincount(dataset.targets).tolist() == [7000] * 10
    assert dataset.classes[dataset.targets[0]] == "Ankle boot"
    assert dataset.inputs[:60_000].mean(dtype=np.float64) == pytest.approx(0.2860, abs=1e-4)


def test_every_checksum_is_that_of_the_real_file(real):
    for name, entry in CATALOG.items():
        if entry.files:
            folder = real(name)
        for file in entry.files:
            assert locate(name, file, data_dir=folder, download=False).parent == folder / name


CONTENT = b"some content\n"
FILE = File("file.txt", "http://127.0.0.1:1/none", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The three folders that are searched, in this order."""
    folders = {place: tmp_path / place for place in ("data_dir", "environment", "cache")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("MLLAB_DATA", str(folders["environment"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folders["cache"]))
    return folders


def test_search_order(places):
    candidates = [
        places["data_dir"] / "some" / "file.txt",
        places["data_dir"] / "some" / "file.txt.gz",
        places["data_dir"] / "file.txt",
        places["environment"] / "some" / "file.txt",
        places["environment"] / "file.txt.gz",
        places["cache"] / "mllab" / "data" / "some" / "file.txt",
    ]
    for path in reversed(candidates):  # each takes precedence over those after it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(CONTENT) if path.suffix == ".gz" else CONTENT)
        assert locate("some", FILE, data_dir=places["data_dir"], download=False) == path


@pytest.mark.parametrize(
    ("content", "suffix", "words"),
    [
        (CONTENT[:-1], "", "it has 12 bytes, expected 13"),
        (CONTENT[::-1], "", "its SHA-256 is .*, expected .*; replace it"),
        (gzip.compress(CONTENT, mtime=0)[:-9], ".gz", "it is truncated or damaged"),
    ],
)
def test_a_file_with_other_content_is_refused(places, content, suffix, words):
    (places["data_dir"] / f"file.txt{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=words):
        locate("some", FILE, data_dir=places["data_dir"])


def test_a_missing_file_or_folder_is_named(places):
    with pytest.raises(UserError, match=r"some needs file.txt: download it from http://127.0.0.1:1/none into data_dir"):
        locate("some", FILE, data_dir=places["data_dir"], download=False)
    with pytest.raises(UserError, match=r"no folder .*/absent"):
        locate("some", FILE, data_dir=places["data_dir"] / "absent")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("digts", {}, "unknown data set 'digts': did you mean 'digits'"),
        ("fashion-mnist", {}, "did you mean 'fashion_mnist'"),
        (
            "digits",
            {"target": "digit"},
            "^target: only for your own data, and 'digits' is a set of the catalog; leave it out$",
        ),
        ("line", {"task": "regression", "size": (2, 2)}, "^task, size: only for your own data, and 'line' is"),
        ("hoses.csv", {"target": "price"}, r"no file .*hoses.csv: did you mean .*houses.csv\?"),
        ("other/houses.csv", {"target": "price"}, "no file other/houses.csv: check the path"),
        ("houses.csv", {}, r"houses.csv needs a target: name the column to predict \(--target=COLUMN\)"),
        (
            "houses.txt",
            {"target": "price"},
            r"cannot read houses.txt: expected a table \(.csv, .csv.gz, .parquet, .*\), arrays of images \(.npz\) or",
        ),
    ],
)
def test_mistaken_names_and_options_are_refused(tmp_path, monkeypatch, name, options, words):
    monkeypatch.chdir(tmp_path)
    for file in ("houses.csv", "houses.txt"):
        (tmp_path / file).write_text("area,price\n1,2\n")
    with pytest.raises(UserError, match=words):
        load(name, **options)


@pytest.mark.parametrize(
    ("name", "classes"), [("circles", 2), ("moons", 2), ("xor", 2), ("blobs", 4), ("stretched", 3)]
)
def test_points_in_the_plane_are_separable_by_neighbours(name, classes):
    data = load(name)
    assert data.inputs.shape == (600, 2)
    assert sorted(set(data.targets)) == list(range(classes))
    assert np.bincount(data.targets).min() > 600 / classes * 0.8
    train = data.split.train
    line = LogisticRegression().fit(data.inputs[train], data.targets[train])
    neighbours = KNeighborsClassifier(10).fit(data.inputs[train], data.targets[train])
    inputs, targets = data.inputs[data.split.test], data.targets[data.split.test]
    assert neighbours.score(inputs, targets) > 0.85
    if classes == 2:  # "circles", "moons" and "xor" need a kernel
        assert line.score(inputs, targets) < neighbours.score(inputs, targets) - 0.05
