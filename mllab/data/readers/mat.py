"""Piano rolls in a MATLAB file of version 5, as polyphonic music is published for benchmarks.

The variables `traindata`, `validdata` and `testdata` are cell arrays of pieces, matrices [frames, 88 keys] of 0 and 1.
"""

import io
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mllab.data.readers import content
from mllab.errors import UserError

VARIABLES = {"train": "traindata", "validation": "validdata", "test": "testdata"}
KEYS = 88  # of a piano
LEAST_FRAMES = 2  # one to read, one to predict
FAULTS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, NotImplementedError, OSError, TypeError,
    UnicodeError, ValueError, struct.error, zlib.error,
)  # fmt: skip


def read(path: Path, *, limit: int | None = None) -> dict[str, list[np.ndarray]]:
    """Return the pieces of each part, uint8 [frames, KEYS] each.

    Args:
        path: of the file, which may be gzipped.
        limit: on its bytes; a share of the memory by default.

    Raises:
        UserError: a file that cannot be read or is no MATLAB file of version 5, a part that is missing or holds no
            pieces, or a piece that is no matrix of 0 and 1 with LEAST_FRAMES or more.
    """
    packed = content.read_unpacked(path, limit=limit)
    if not packed.startswith(b"MATLAB 5.0"):
        raise UserError(f"{path} is no MATLAB file of version 5: save it by `save -v7`, or give another file")
    try:
        stored = _load(packed)
    except FAULTS as error:
        fault = str(error).partition("\n")[0][:120] or type(error).__name__
        raise UserError(f"{path} is truncated or damaged ({fault}): replace the file") from None
    parts = {}
    for part, name in VARIABLES.items():
        if name not in stored:
            raise UserError(f"{path} has no variable {name}: expected {', '.join(VARIABLES.values())}, cells of pieces")
        cells = stored[name]
        if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.size == 0:
            raise UserError(f"{path}: {name} is no cell array of pieces, or an empty one")
        parts[part] = [_piece(cell, f"{path}: {name}{{{place}}}") for place, cell in enumerate(cells.ravel(), start=1)]
    return parts


def _load(packed: bytes) -> dict[str, Any]:
    from scipy.io import loadmat  # deferred: it would slow down `import mllab`

    return loadmat(io.BytesIO(packed), variable_names=list(VARIABLES.values()))


def _piece(cell: Any, where: str) -> np.ndarray:
    """Return a cell of a file as a piano roll; `where` names it, counted from 1 as MATLAB does."""
    if not isinstance(cell, np.ndarray) or cell.ndim != 2 or cell.dtype.kind not in "buif":
        raise UserError(f"{where} is no matrix of numbers: expected [frames, {KEYS} keys] of 0 and 1")
    if cell.shape[1] != KEYS or len(cell) < LEAST_FRAMES:
        raise UserError(f"{where} is {list(cell.shape)}: expected [frames, {KEYS} keys], {LEAST_FRAMES} frames or more")
    wrong = np.argwhere((cell != 0) & (cell != 1))
    if wrong.size:
        frame, key = wrong[0].tolist()
        value = float(cell[frame, key])
        shown = f"{value:g}" if math.isfinite(value) else str(value)
        raise UserError(f"{where} is {shown} at frame {frame + 1}, key {key + 1}: expected 0 or 1")
    return cell.astype(np.uint8)
