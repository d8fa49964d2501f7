"""Writers of IDX files for tests, value by value, following the description of the format."""

import gzip
import struct
from pathlib import Path

import numpy as np


def encode(array: np.ndarray, code: int, letter: str) -> bytes:
    """Return the content of an IDX file.

    Args:
        array: the values.
        code: type code in the header.
        letter: format character of the type in `struct`.
    """
    header = struct.pack(">BBBB", 0, 0, code, array.ndim) + b"".join(struct.pack(">I", n) for n in array.shape)
    return header + b"".join(struct.pack(f">{letter}", value) for value in array.ravel().tolist())


def write(folder: Path, arrays: dict[str, np.ndarray], packed: bool = True) -> dict[str, Path]:
    """Write arrays of bytes as IDX files with the names of MNIST's; return their paths by file name.

    The file names in the result end in .gz even if the files are plain, since `idx.labelled_images` takes them so.

    Args:
        folder: where to write.
        arrays: values by name, such as `train-images`.
        packed: whether to compress the files.
    """
    paths = {}
    for name, array in arrays.items():
        file = f"{name}-idx{3 if name.endswith('images') else 1}-ubyte"
        content = encode(array, 0x08, "B")
        paths[f"{file}.gz"] = folder / (f"{file}.gz" if packed else file)
        paths[f"{file}.gz"].write_bytes(gzip.compress(content) if packed else content)
    return paths
