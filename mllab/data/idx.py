"""IDX files, the format of MNIST: a header that gives type and shape, then the values, big-endian.

Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits, "File formats".
"""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from mllab.errors import UserError

DTYPES = {  # the third byte of the header -> how each value is stored
    0x08: ">u1",
    0x09: ">i1",
    0x0B: ">i2",
    0x0C: ">i4",
    0x0D: ">f4",
    0x0E: ">f8",
}


def read(path: str | Path) -> np.ndarray:
    """Read one IDX file, gzipped or plain; an array of bytes is read-only, since it is the file's own memory.

    Raises:
        UserError: naming the file, where it is empty, cut short, damaged, or not what its header says.
    """
    content = _content(path)
    if not content:
        raise UserError(f"{path} is empty: get it again")
    if len(content) < 4 or content[:2] != b"\0\0":
        raise UserError(f"{path} is no IDX file: it begins with {content[:4].hex(' ')}, not with 00 00")
    code, axes = content[2], content[3]
    if code not in DTYPES:
        raise UserError(f"{path} is no IDX file: 0x{code:02x} stands for no type of value")
    start = 4 + 4 * axes
    if axes == 0 or len(content) < start:
        raise UserError(f"{path} ends inside its header: get it again")

    dtype = np.dtype(DTYPES[code])
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", count=axes, offset=4))
    expected, found = math.prod(shape) * dtype.itemsize, len(content) - start
    if expected == 0:
        raise UserError(f"{path} holds no examples: its header says {list(shape)}")
    if found != expected:
        fault = "is cut short" if found < expected else "is too long"
        raise UserError(
            f"{path} {fault}: its header says {list(shape)}, {expected:,} bytes, but {found:,} follow; get it again"
        )
    values = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def _content(path: str | Path) -> bytes:
    """Return the file's bytes, unpacked where it is gzipped."""
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is cut short or damaged ({error}): get it again") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
