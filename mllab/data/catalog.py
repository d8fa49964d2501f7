"""The data sets by name: their files, checksums, licences, citations, and where they come from.

`load` takes a name of the table below, or the path of a table or of images of your own. A set's files are looked for
in `data_dir`, then in $MLLAB_DATA (in both, as NAME/FILE and as FILE), then in the user's cache, and are downloaded
there where they are nowhere. A file is used only if it is, byte for byte, what the table says.
"""

import dataclasses
import difflib
import gzip
import hashlib
import os
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from mllab.data import housing, images, synthetic
from mllab.data.dataset import Dataset
from mllab.data.scaling import standardise
from mllab.data.split import shuffled, stratified
from mllab.devices import user_cache
from mllab.errors import UserError, unknown

TABLE_ENDINGS = (".csv", ".csv.gz", ".parquet")
ARRAYS_ENDING = ".npz"


@dataclasses.dataclass(frozen=True)
class File:
    """A published file; it may lie here gzipped as NAME.gz, and is then meant unpacked."""

    name: str
    url: str
    size: int  # bytes
    sha256: str
    repacked: str = ""  # sha256 of an archive that holds the same, packed anew: it will do as well


@dataclasses.dataclass(frozen=True)
class Entry:
    """One data set of the catalog."""

    loader: Callable[[Mapping[str, Path], int], Dataset]  # (path of each file by its name, split seed)
    licence: str
    citation: str
    files: tuple[File, ...] = ()


def _line(split_seed: int) -> Dataset:
    """Encode the noisy line; its noise is always the same."""
    x, y = synthetic.line(np.random.default_rng(0))
    split = shuffled(len(x), split_seed)
    inputs, _, _ = standardise(x[:, None], split.train)
    targets, mean, scale = standardise(y, split.train)
    return Dataset(
        name="line",
        task="regression",
        inputs=inputs,
        targets=targets,
        split=split,
        features=("x",),
        target="y",
        target_mean=float(mean),
        target_scale=float(scale),
    )


Draw = Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]  # points [N, 2] and classes [N]


def _plane(name: str, draw: Draw, files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Encode points in the plane; they are always the same."""
    del files  # it needs none
    points, labels = draw(np.random.default_rng(0))
    names = tuple(map(str, range(labels.max() + 1)))
    split = stratified(labels, split_seed, classes=names)
    inputs, _, _ = standardise(points, split.train)
    return Dataset(
        name=name,
        task="classification",
        inputs=inputs,
        targets=labels.astype(np.int32),
        split=split,
        features=("x", "y"),
        classes=names,
        target="class",
    )


PLANES: Mapping[str, tuple[Draw, str]] = {
    "circles": (synthetic.circles, "a circle within another: 600 points, 2 classes, noise of sigma 0.1"),
    "moons": (synthetic.moons, "two half circles that reach into each other: 600 points, noise of sigma 0.2"),
    "xor": (synthetic.xor, "the four quadrants of a square, opposite ones one class: 600 points, noise of sigma 0.1"),
    "blobs": (synthetic.blobs, "four round normal distributions, 5 sigma between neighbours: 600 points"),
    "stretched": (synthetic.stretched, "three normal distributions of different covariances: 600 points"),
}


def _newsgroups(files: Mapping[str, Path], split_seed: int) -> Dataset:
    try:
        from mllab.data import newsgroups  # brings scikit-learn, which takes a second
    except ImportError:
        raise UserError(
            "newsgroups20 needs scikit-learn, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    return newsgroups.newsgroups(files["20news-bydate.tar.gz"], split_seed)


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist"
_FASHION = (
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141"
    "/data/fashion"
)
_HOUSING = "https://raw.githubusercontent.com/lapets/course-data-science/8b7f62812de4e3bd86bbc7879f65691e1775d1c9"

CATALOG: Mapping[str, Entry] = {
    "line": Entry(
        loader=lambda files, split_seed: _line(split_seed),
        licence="generated",
        citation="y = 2x + 25 + noise: 800 points on [-20, 20), sigma 0.5",
    ),
    **{
        name: Entry(loader=partial(_plane, name, draw), licence="generated", citation=citation)
        for name, (draw, citation) in PLANES.items()
    },
    "digits": Entry(
        loader=lambda files, split_seed: images.digits(split_seed),
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
        "Repository, 1998 (test part, as scikit-learn carries it)",
    ),
    "mnist": Entry(
        loader=images.mnist,
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document "
        "recognition, Proceedings of the IEEE 86(11), 1998",
        files=(
            File(
                "train-images-idx3-ubyte.gz",
                f"{_MNIST}/train-images-idx3-ubyte.gz",
                9_912_422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            File(
                "train-labels-idx1-ubyte.gz",
                f"{_MNIST}/train-labels-idx1-ubyte.gz",
                28_881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            File(
                "t10k-images-idx3-ubyte.gz",
                f"{_MNIST}/t10k-images-idx3-ubyte.gz",
                1_648_877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            File(
                "t10k-labels-idx1-ubyte.gz",
                f"{_MNIST}/t10k-labels-idx1-ubyte.gz",
                4_542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    "fashion_mnist": Entry(
        loader=images.fashion_mnist,
        licence="MIT",
        citation="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine "
        "learning algorithms, arXiv:1708.07747, 2017",
        files=(
            File(
                "train-images-idx3-ubyte.gz",
                f"{_FASHION}/train-images-idx3-ubyte.gz",
                26_421_880,
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            File(
                "train-labels-idx1-ubyte.gz",
                f"{_FASHION}/train-labels-idx1-ubyte.gz",
                29_515,
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            File(
                "t10k-images-idx3-ubyte.gz",
                f"{_FASHION}/t10k-images-idx3-ubyte.gz",
                4_422_102,
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            File(
                "t10k-labels-idx1-ubyte.gz",
                f"{_FASHION}/t10k-labels-idx1-ubyte.gz",
                5_148,
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ),
    ),
    "california_housing": Entry(
        loader=lambda files, split_seed: housing.california(files["cal_housing.data"], split_seed),
        licence="none stated (aggregates of the US census)",
        citation="R. K. Pace and R. Barry, Sparse spatial autoregressions, Statistics and Probability Letters 33, 1997",
        files=(
            File(
                "cal_housing.data",
                f"{_HOUSING}/cal_housing.data",
                2_092_122,
                "d3d8a1a722ae78f91134862727d27a70b1415e7d512a89140406248687f4b902",
            ),
        ),
    ),
    "newsgroups20": Entry(
        loader=_newsgroups,
        licence="no formal one (posts to Usenet, with their senders' names); UCI lists its copy as CC BY 4.0",
        citation="K. Lang, NewsWeeder: learning to filter netnews, ICML 1995; the version split by date of J. Rennie",
        files=(
            File(
                "20news-bydate.tar.gz",
                "https://ndownloader.figshare.com/files/5975967",
                14_464_277,
                "8f1b2514ca22a5ade8fbb9cfa5727df95fa587f4c87b786e15c759fa66d95610",
                repacked="d5e30e99795655818c2d919e54bbb1bd87d6ec666079a4a0a573b4ff1a7f7763",
            ),
        ),
    ),
}


def load(
    name_or_path: str | Path,
    *,
    data_dir: str | Path | None = None,
    split_seed: int = 0,
    target: str | None = None,
    task: str | None = None,
    size: tuple[int, int] | None = None,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set of the catalog by name, or your own table or images by path.

    Args:
        name_or_path: a name of `CATALOG`; or the path of a table (.csv, .csv.gz or .parquet; see `table`), of a folder
            of images, one subfolder a class (see `image_files`), or of images as arrays: an .npz file, or a folder
            of IDX files (see `image_arrays`). A folder that is called like a set of the catalog is meant by NAME/.
        data_dir: where to look for files first.
        split_seed: of the 60/20/20 split (of the validation rows, where a set brings its own test rows).
        target: the column to predict; for a table of your own, and required there.
        task: "classification" or "regression", where a table's target should not decide (see `table.load`).
        size: height and width to resize images of your own to.
        download: whether files that are nowhere on this machine may come from the network.
        progress: called during a download with the bytes done and the bytes in all of the file under way.

    Raises:
        UserError: unknown name, missing or damaged file, no network, or a table or images that do not make sense.
    """
    name = str(name_or_path)
    if name in CATALOG:
        if any(given is not None for given in (target, task, size)):
            raise UserError(f"{name!r} brings its own target, task and size: give those only with data of your own")
        return _load_entry(name, data_dir, split_seed, download, progress)
    path = Path(name).expanduser()
    if name.lower().endswith(TABLE_ENDINGS):
        if size is not None:
            raise UserError(f"size is for images, and {name} is a table: leave it out")
        return _load_table(path, target, task, split_seed)
    if name and (path.is_dir() or name.lower().endswith(ARRAYS_ENDING)):
        if target is not None or task is not None:
            raise UserError(f"target and task are for tables, and {name} holds images: leave them out")
        return _load_images(path, size, split_seed)
    if path.is_file():
        raise UserError(
            f"cannot read {name}: tables end in {', '.join(TABLE_ENDINGS)}, arrays of images in {ARRAYS_ENDING}, and "
            "images stand in a folder"
        )
    if path.name != name.rstrip("/"):  # it says where
        raise UserError(f"no folder {name}{_nearest(path)}")
    raise unknown(
        "data set", name, [*CATALOG, *(f"*{ending}" for ending in (*TABLE_ENDINGS, ARRAYS_ENDING)), "FOLDER/"]
    )


def _load_table(path: Path, target: str | None, task: str | None, split_seed: int) -> Dataset:
    if not path.is_file():
        raise UserError(f"no file {path}{_nearest(path)}")
    if target is None:
        raise UserError(f"which column of {path} is to be predicted? name it with target (--target=COLUMN)")
    from mllab.data import table  # brings pandas, which takes half a second

    return table.load(path, target, task=task, split_seed=split_seed)


def _load_images(path: Path, size: tuple[int, int] | None, split_seed: int) -> Dataset:
    if not path.exists():
        raise UserError(f"no file {path}{_nearest(path)}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size is height and width, two whole numbers from 1, not {size}")
    try:
        from mllab.data import image_arrays, image_files  # bring Pillow
    except ImportError:
        raise UserError(
            f"reading {path} needs Pillow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    if not path.is_dir():
        return image_arrays.load_npz(path, size=size, split_seed=split_seed)
    if image_arrays.idx_files(path):
        return image_arrays.load_idx(path, size=size, split_seed=split_seed)
    return image_files.load(path, size=size, split_seed=split_seed)


def _nearest(path: Path) -> str:
    """Return a hint at the file or folder beside `path` with the nearest name, of those that could be data."""
    neighbours = [
        other.name
        for other in path.parent.glob("*")
        if other.name.endswith((*TABLE_ENDINGS, ARRAYS_ENDING)) or other.is_dir()
    ]
    near = difflib.get_close_matches(path.name, neighbours, n=1, cutoff=0.5)
    return f": did you mean {path.with_name(near[0])}?" if near else ": check the path"


def _load_entry(
    name: str,
    data_dir: str | Path | None,
    split_seed: int,
    download: bool,
    progress: Callable[[int, int], None] | None,
) -> Dataset:
    entry = CATALOG[name]
    files = {
        file.name: locate(name, file, data_dir=data_dir, download=download, progress=progress) for file in entry.files
    }
    dataset = entry.loader(files, split_seed)
    return dataclasses.replace(
        dataset,
        licence=entry.licence,
        citation=entry.citation,
        sha256={**{file.name: file.sha256 for file in entry.files}, **dataset.sha256},
    )


def locate(
    name: str,
    file: File,
    *,
    data_dir: str | Path | None = None,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Return where a file of data set `name` lies on this machine, checked, after a download if need be.

    Raises:
        UserError: the folder does not exist, the file is another than the published one, or cannot be had.
    """
    for given, source in ((data_dir, "data_dir"), (os.environ.get("MLLAB_DATA"), "$MLLAB_DATA")):
        if not given:
            continue
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise UserError(f"{source}: no folder {folder}; make it, or leave it out to use the cache")
        for found in _spellings(folder / name / file.name, folder / file.name):
            if fault := _fault(found, file):
                raise UserError(
                    f"{found} is not the file that {name} publishes: {fault}; replace it, or remove it to have "
                    "it downloaded"
                )
            return found
    cached = user_cache() / "data" / name / file.name
    if cached.is_file() and not _fault(cached, file):
        return cached
    if not download:
        raise UserError(f"{name} needs {file.name}: get it from {file.url} and put it in data_dir")
    from mllab.data.download import fetch  # brings the network's modules, seldom needed

    fetch(file.url, cached, sha256=file.sha256, size=file.size, progress=progress)
    return cached


def _spellings(*paths: Path) -> list[Path]:
    """Return those of the paths that exist, as they are or gzipped."""
    candidates = [spelling for path in paths for spelling in (path, path.with_name(f"{path.name}.gz"))]
    return [path for path in candidates if path.is_file()]


def _fault(path: Path, file: File) -> str:
    """Return how the file at `path` differs from the published one; empty where it does not."""
    packed = path.name != file.name
    try:
        with gzip.open(path) if packed else open(path, "rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
            size = content.tell()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        return f"it is cut short or damaged ({error})"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    if sha256 == file.repacked:
        return ""
    if size != file.size:
        return f"it has {size:,} bytes where {file.size:,} belong"
    if sha256 != file.sha256:
        return f"its sha256 is {sha256[:12]}… where {file.sha256[:12]}… belongs"
    return ""
