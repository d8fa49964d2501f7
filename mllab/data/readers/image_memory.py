"""The limit on the memory that images take: a data set is in memory as a whole."""

from collections.abc import Sequence

from mllab.data.readers import content
from mllab.errors import UserError

MAX_BYTES = 4 * 2**30  # of all images as float32, on a machine with memory enough


def check_memory(where: str, count: int, size: Sequence[int], *, channels: int = 3, limit: int | None = None) -> None:
    """Raise UserError if images would take more memory as float32 than the limit.

    Args:
        where: file or folder, for the message.
        count: number of images.
        size: height and width.
        channels: of each image.
        limit: in bytes; `MAX_BYTES` or half of the free memory by default, whichever is less.
    """
    limit = min(MAX_BYTES, 2 * content.default_limit()) if limit is None else limit
    height, width = size
    if (needed := count * height * width * channels * 4) > limit:
        raise UserError(
            f"{where}: {count:,} images of {height} × {width} take {needed / 2**30:,.1f} GiB of memory, more than the "
            f"limit of {limit / 2**30:.3g} GiB: choose a smaller size"
        )
