"""The catalog of data sets: one row a set, and `load`, which takes a name of it or the path of your own data.

To add a data set, write a loader `(files, split_seed) -> Dataset` in `sets/NAME.py`, and add its row to `CATALOG`: the
loader, licence, citation, and the address, size and SHA-256 of each file. `files.locate` finds or downloads the files.
"""

import contextlib
import dataclasses
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path

from mllab.data.dataset import Dataset
from mllab.data.files import File, locate
from mllab.data.readers import content, idx, sql, table
from mllab.data.sets import california_housing, digits, mnist, newsgroups20, synthetic
from mllab.errors import UserError, unknown
from mllab.folders import expand

TABLE_ENDINGS = (".csv", ".csv.gz", ".parquet", *sql.ENDINGS)
ARRAYS_ENDING = ".npz"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A data set of the catalog."""

    loader: Callable[[Mapping[str, Path], int], Dataset]  # (path of each file by its name, split seed)
    licence: str
    citation: str
    files: tuple[File, ...] = ()
    holds: str = "images"  # or "points" in the plane, "numbers" or "text"
    task: str = "classification"  # a key of `tasks.TASKS`


def _idx_files(address: str, *published: tuple[int, str]) -> tuple[File, ...]:
    """Return the four IDX files at an address, from the size and SHA-256 of each."""
    names = [f"{name}.gz" for name in idx.FILES]
    return tuple(
        File(name, f"{address}/{name}", size, sha256) for name, (size, sha256) in zip(names, published, strict=True)
    )


def _plane(name: str, draw: synthetic.Draw, description: str) -> Entry:
    return Entry(synthetic.plane_dataset(name, draw), licence="generated", citation=description, holds="points")


CATALOG: Mapping[str, Entry] = {
    "line": Entry(
        synthetic.line_dataset,
        licence="generated",
        citation="y = 2x + 25 + noise: 800 points on [-20, 20), sigma 0.5",
        holds="numbers",
        task="regression",
    ),
    "circles": _plane(
        "circles", synthetic.circles, "a circle inside another: 600 points, 2 classes, noise with sigma 0.1"
    ),
    "moons": _plane("moons", synthetic.moons, "two interleaved half circles: 600 points, noise with sigma 0.2"),
    "xor": _plane(
        "xor", synthetic.xor, "the quadrants of a square, opposite ones of one class: 600 points, noise with sigma 0.1"
    ),
    "blobs": _plane("blobs", synthetic.blobs, "four round normal distributions, neighbours 5 sigma apart: 600 points"),
    "stretched": _plane(
        "stretched", synthetic.stretched, "three normal distributions with different covariances: 600 points"
    ),
    "digits": Entry(
        digits.load,
        licence="CC BY 4.0",
        citation="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning "
        "Repository, 1998 (the test part, as shipped with scikit-learn)",
    ),
    "mnist": Entry(
        mnist.mnist,
        licence="CC BY-SA 3.0",
        citation="Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied to document "
        "recognition, Proceedings of the IEEE 86(11), 1998",
        files=_idx_files(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion_mnist": Entry(
        mnist.fashion_mnist,
        licence="MIT",
        citation="H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine "
        "learning algorithms, arXiv:1708.07747, 2017",
        files=_idx_files(
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/b2617bb6d3ffa2e429640350f613e3291e10b141"
            "/data/fashion",
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
    "california_housing": Entry(
        california_housing.load,
        licence="none stated (aggregates of the US census)",
        citation="R. K. Pace and R. Barry, Sparse spatial autoregressions, Statistics and Probability Letters 33, 1997",
        holds="numbers",
        task="regression",
        files=(
            File(
                california_housing.FILE,
                "https://raw.githubusercontent.com/lapets/course-data-science/8b7f62812de4e3bd86bbc7879f65691e1775d1c9"
                "/cal_housing.data",
                2_092_122,
                "d3d8a1a722ae78f91134862727d27a70b1415e7d512a89140406248687f4b902",
            ),
        ),
    ),
    "newsgroups20": Entry(
        newsgroups20.load,
        licence="no formal one (posts to Usenet, with the names of their senders); UCI lists its copy as CC BY 4.0",
        citation="K. Lang, NewsWeeder: learning to filter netnews, ICML 1995; J. Rennie's version, split by date",
        holds="text",
        files=(
            File(
                newsgroups20.FILE,
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
    needs_target: bool = True,
    task: str | None = None,
    table_options: table.Options = table.Options(),  # noqa: B008 - a tuple
    size: tuple[int, int] | None = None,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Load a data set of the catalog by name, or your own table or images by path.

    Args:
        name_or_path: a name in `CATALOG`; or the path of a table (.csv, .csv.gz or .parquet, or a database; see
            `readers.table`), of a folder of images, one subfolder a class (see `readers.image_folder`), of an .npz file
            of images (see `readers.npz`), or of a folder of IDX files (see `readers.idx`). NAME/ is a folder even if
            NAME is in the catalog.
        data_dir: the folder to look for files in first; see `files.locate`.
        split_seed: seed of the 60/20/20 split, or of the validation rows if a data set has its own test rows.
        target: the column to predict; for your own table.
        needs_target: whether your own table needs a target; without one all of its columns are inputs, and its
            `targets` are [N, 0].
        task: a name in `tasks.TASKS`, to override what a table's target implies (see `readers.table`).
        table_options: the rest that can be set for your own table, such as its test file; see `readers.table`.
        size: height and width to resize your own images to.
        download: whether missing files may be downloaded.
        progress: called during a download with the bytes downloaded and the bytes in total of the current file.

    Raises:
        UserError: an unknown name, a missing or damaged file, a failed download, or a table or images that cannot be
            used.
    """
    name = str(name_or_path)
    if name in CATALOG:
        options = {"target": target, "task": task, "size": size, **table_options.chosen()}
        if chosen := [option for option, value in options.items() if value is not None]:
            raise UserError(
                f"{', '.join(chosen)}: only for your own data, and {name!r} is a set of the catalog; leave it out"
            )
        return _load_entry(name, data_dir, split_seed, download, progress)
    path = expand(name)
    if name.lower().endswith(TABLE_ENDINGS):
        if size is not None:
            raise UserError(f"size is for images, and {name} is a table: leave it out")
        options_of_table = table_options if task is None else table_options._replace(task=task)
        return _load_table(path, target, needs_target, options_of_table, split_seed)
    kind = content.kind(path) if name else ""
    if kind == "folder" or name.lower().endswith(ARRAYS_ENDING):
        if target is not None or task is not None:
            raise UserError(f"target and task are for tables, and {name} holds images: leave them out")
        if chosen := list(table_options.chosen()):
            raise UserError(f"{', '.join(chosen)}: only for tables, and {name} holds images; leave it out")
        return _load_images(path, size, split_seed)
    if kind:
        raise UserError(
            f"cannot read {name}: expected a table ({', '.join(TABLE_ENDINGS)}), arrays of images ({ARRAYS_ENDING}) "
            "or a folder of images"
        )
    if path.name != name.rstrip("/"):  # a path with folders
        raise UserError(f"no folder {name}{_nearest(path)}")
    raise unknown(
        "data set", name, [*CATALOG, *(f"*{ending}" for ending in (*TABLE_ENDINGS, ARRAYS_ENDING)), "FOLDER/"]
    )


def _load_table(path: Path, target: str | None, needs_target: bool, options: table.Options, split_seed: int) -> Dataset:
    if not content.kind(path):
        raise UserError(f"no file {path}{_nearest(path)}")
    if target is None and needs_target:
        raise UserError(f"{path} needs a target: name the column to predict (--target=COLUMN)")
    return table.load(path, target, split_seed=split_seed, options=options)


def _load_images(path: Path, size: tuple[int, int] | None, split_seed: int) -> Dataset:
    kind = content.kind(path)
    if not kind:
        raise UserError(f"no file {path}{_nearest(path)}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size = {size}: expected height and width, two whole numbers of 1 or more")
    try:
        from mllab.data.readers import image_folder, npz  # import Pillow
    except ImportError:
        raise UserError(
            f"reading {path} needs Pillow, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    if kind != "folder":
        return npz.load(path, size=size, split_seed=split_seed)
    if idx.find(path):
        return idx.load(path, size=size, split_seed=split_seed)
    return image_folder.load(path, size=size, split_seed=split_seed)


def _nearest(path: Path) -> str:
    """Return a hint at the data file or folder beside `path` with the most similar name."""
    names = []
    with contextlib.suppress(OSError, UserError):  # the folder cannot be listed
        for other in path.parent.iterdir():
            if other.name.endswith((*TABLE_ENDINGS, ARRAYS_ENDING)) or content.kind(other) == "folder":
                names.append(other.name)
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=0.5)
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
