"""The 1,797 handwritten digits of 8 × 8 pixels that scikit-learn ships."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mllab import tasks
from mllab.data.dataset import Dataset
from mllab.data.readers import content
from mllab.data.split import stratified
from mllab.errors import UserError

DIGITS = tuple("0123456789")
MAX_VALUE = 16  # of a pixel in the file


def load(files: Mapping[str, Path], split_seed: int) -> Dataset:
    """Read the digits, [1797, 8, 8, 1], from scikit-learn's installation; `files` is empty.

    Raises:
        UserError: scikit-learn is not installed.
    """
    del files
    path = _path()
    packed = content.read(path)
    table = np.loadtxt(content.unpack(path, packed).decode().splitlines(), delimiter=",", dtype=np.float32)
    targets = table[:, -1].astype(np.int32)
    return Dataset(
        name="digits",
        task=tasks.CLASSIFICATION.name,
        inputs=(table[:, :-1] / MAX_VALUE).reshape(-1, 8, 8, 1),
        targets=targets,
        split=stratified(targets, split_seed, classes=DIGITS),
        classes=DIGITS,
        target="digit",
        sha256={path.name: hashlib.sha256(packed).hexdigest()},
    )


def _path() -> Path:
    # The package is found without importing it, which would take a second.
    package = importlib.util.find_spec("sklearn")
    for folder in (package.submodule_search_locations if package else None) or []:
        path = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise UserError("digits needs scikit-learn, which is not installed: pip install 'mllab[experiments]'")
