"""One picture file as an array: PNG, JPEG, GIF (its first frame), BMP or WebP, told by what it holds.

Every picture comes out alike, whatever wrote it:

- upright, as its EXIF orientation says;
- in [0, 1]: 8-bit values / 255, 16-bit grey values / 65535 (16-bit colours: their upper 8 bits, which is what Pillow
  reads);
- opaque: a colour c of opacity a is laid on white, a c + (1 - a);
- resized by Lanczos's filter, each axis by itself: nothing is cropped or added at a border, and a picture of another
  aspect ratio is squeezed. The filter widens as the picture shrinks, so that nothing aliases. (Pillow's box filter
  weighs whole pixels: 3 to 2 would average the first two and keep the third.) Where it overshoots at an edge, values
  are clipped;
- grey, [height, width, 1], where red, green and blue agree in every pixel, whatever the file's own mode.
"""

import contextlib
import hashlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mllab.errors import UserError

Size = tuple[int, int]  # height, width

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
ENDINGS = {  # what a file so called should hold; the last line's are images, but of formats that are refused
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP",
    ".tif": "TIFF", ".tiff": "TIFF", ".heic": "HEIF", ".heif": "HEIF", ".avif": "AVIF",
}  # fmt: skip
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601


class Stored(NamedTuple):
    """How a file holds its picture."""

    size: Size  # upright, before it was resized
    format: str  # one of FORMATS
    grey: bool
    transparent: bool  # was laid on white
    deep: bool  # 16-bit grey
    sha256: bytes  # of the file


def read(path: str | Path, size: Size, channels: int) -> np.ndarray:
    """Read one picture as a model wants it.

    Args:
        path: of the file.
        size: height and width of the result.
        channels: 1 (a coloured picture becomes its luma, Y = 0.299 R + 0.587 G + 0.114 B) or 3 (a grey one is
            repeated).

    Returns:
        [height, width, channels] float32 in [0, 1].

    Raises:
        UserError: naming the file, where it cannot be read or is no picture.
    """
    pixels, _ = decode(Path(path), size)
    if pixels.shape[-1] == channels:
        return pixels
    return np.repeat(pixels, 3, axis=-1) if channels == 3 else (pixels @ LUMA)[..., None]


def decode(path: Path, size: Size) -> tuple[np.ndarray, Stored]:
    """Read one picture, [height, width, 1 (grey) or 3], and how it was stored; raises as `read` does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if not content:
        raise UserError(f"{path} is empty (0 bytes): get it again, or remove it")
    with _opened(path, io.BytesIO(content)) as image:
        upright = _upright(image)
        # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size: photographs load several times faster for it.
        image.draft(None, (2 * max(size), 2 * max(size)))
        transparent = "A" in image.getbands() or "transparency" in image.info
        deep = image.mode.startswith("I")
        pixels = (_deep_pixels if deep else _pixels)(ImageOps.exif_transpose(image), size, transparent)
        grey = bool((pixels == pixels[..., :1]).all())
        stored = Stored(
            size=upright,
            format="JPEG" if image.format == "MPO" else str(image.format),  # MPO: a JPEG and others behind it
            grey=grey,
            transparent=transparent,
            deep=deep,
            sha256=hashlib.sha256(content).digest(),
        )
        return pixels[..., :1] if grey else pixels, stored


def stored_size(path: Path) -> Size:
    """Return height and width of a picture, upright, from the beginning of its file; raises as `read` does."""
    try:
        with open(path, "rb") as file, _opened(path, file) as image:
            return _upright(image)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


@contextlib.contextmanager
def _opened(path: Path, file: BinaryIO) -> Iterator[Image.Image]:
    """Open a picture, not decoded yet; whatever Pillow makes of a damaged one becomes one line that names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, which nobody needs here
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise UserError(
                f"{path} says that it has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels: it is damaged, or wants "
                "to be made smaller"
            ) from None
        except UnidentifiedImageError:
            raise UserError(
                f"{path} holds no image that can be read ({', '.join(FORMATS)}; at least one pixel): convert it, or "
                "remove it"
            ) from None
        except Exception as error:  # decoders raise nearly anything: OSError, SyntaxError, struct.error, IndexError
            raise UserError(f"{path} is cut short or damaged ({error}): get it again, or remove it") from None


def _upright(image: Image.Image) -> Size:
    """Return height and width as the picture is to be looked at."""
    # Without the first condition Pillow would decode a whole PNG to look for the orientation at its end.
    sideways = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (image.width, image.height) if sideways else (image.height, image.width)


def _pixels(image: Image.Image, size: Size, transparent: bool) -> np.ndarray:
    """Return what 8-bit values show: [height, width, 1 or 3]."""
    grey = image.mode in ("1", "L", "LA")
    image = image.convert(("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB"))
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)  # weighs colours by their opacity
    pixels = np.asarray(image, np.float32) / 255
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return on_white(pixels) if transparent else pixels


def _deep_pixels(image: Image.Image, size: Size, transparent: bool) -> np.ndarray:
    """Return what 16-bit grey values show: [height, width, 1]."""
    values = np.asarray(image)[..., None]
    pixels = values.astype(np.float32) / 65535
    if transparent:  # Pillow reads one transparent value here, no opacities
        pixels = np.where(values == image.info["transparency"], np.float32(1), pixels)
    return resize(pixels, size)


def border_means(images: np.ndarray) -> np.ndarray:
    """Return the mean of the outermost pixels of each image [N, H, W, C], [N]: its background, if that is plain."""
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return images[:, edge].mean(axis=(1, 2))


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Lay [..., C + 1], colours and their opacity in [0, 1], on white: [..., C]."""
    colours, opacity = pixels[..., :-1], pixels[..., -1:]
    return colours * opacity + (1 - opacity)


def resize(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Resize [height, width, C] float32 in [0, 1] as files are resized, without rounding to 8 bits."""
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize((width, height), Image.Resampling.LANCZOS)
        for c in range(pixels.shape[-1])
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], axis=-1), 0, 1)


def to_png(colours: np.ndarray, labels: np.ndarray) -> bytes:
    """Return the image whose pixels [height, width] index colours [K, 3] in [0, 1], as a PNG file.

    Up to 256 colours make a palette, which takes less space.
    """
    palette = np.round(255 * colours).astype(np.uint8)
    if len(palette) > 256:
        image = Image.fromarray(palette[labels])
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(palette.tobytes())
    content = io.BytesIO()
    image.save(content, format="PNG")
    return content.getvalue()
