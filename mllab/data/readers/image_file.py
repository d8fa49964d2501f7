"""One image file as an array: PNG, JPEG, GIF (its first frame), BMP or WebP, recognised by its content.

All images are normalised in the same way:

- upright, by the EXIF orientation;
- in [0, 1]: 8-bit values / 255, 16-bit grey values / 65535 (of 16-bit colours Pillow reads the upper 8 bits);
- opaque: a colour c of opacity a becomes a c + (1 - a), its look on a white background;
- resized by Lanczos's filter, each axis separately, without cropping or padding, so that another aspect ratio is
  squeezed. The filter widens as the image shrinks, which avoids aliasing. (Pillow's box filter weights whole pixels: it
  reduces 3 pixels to 2 by averaging the first two and keeping the third.) Values that overshoot at an edge are clipped;
- grey, [height, width, 1], if red, green and blue agree in every pixel, for every mode of the file.
"""

import contextlib
import hashlib
import importlib.util
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mllab.data.readers import content
from mllab.errors import UserError, unknown

Size = tuple[int, int]  # height, width

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
ENDINGS = {  # file name ending: expected format; those of the last line are refused
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".jfif": "JPEG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP",
    ".tif": "TIFF", ".tiff": "TIFF", ".heic": "HEIF", ".heif": "HEIF", ".avif": "AVIF",
}  # fmt: skip
BUNDLED = ("china", "flower")  # photographs that come with scikit-learn
MAX_PLAIN = 0.25  # a background is plain if its mean is at most this far from black or white
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue: ITU-R BT.601


class Stored(NamedTuple):
    """How a file stores its image."""

    size: Size  # upright, before resizing
    format: str  # one of FORMATS
    grey: bool
    transparent: bool  # before it was composited on white
    deep: bool  # 16-bit grey
    sha256: bytes  # of the file


def read(path: str | Path, size: Size, channels: int) -> np.ndarray:
    """Read an image with the size and the channels that a model takes.

    Args:
        path: of the file.
        size: height and width of the result.
        channels: 1 (colour becomes luma, Y = 0.299 R + 0.587 G + 0.114 B) or 3 (grey is repeated).

    Returns:
        [height, width, channels] float32 in [0, 1].

    Raises:
        UserError: the file cannot be read, or is not an image.
    """
    pixels, _ = decode(Path(path), size)
    if pixels.shape[-1] == channels:
        return pixels
    return np.repeat(pixels, 3, axis=-1) if channels == 3 else (pixels @ LUMA)[..., None]


def decode(path: Path, size: Size) -> tuple[np.ndarray, Stored]:
    """Read an image, [height, width, 1 (grey) or 3], and how it was stored; raises like `read`."""
    encoded = content.read(path)
    if not encoded:
        raise UserError(f"{path} is empty (0 bytes): replace or remove it")
    with _opened(path, io.BytesIO(encoded)) as image:
        upright = _upright_size(image)
        # Decoding a JPEG at 1/2, 1/4 or 1/8 of its size loads photographs several times faster.
        image.draft(None, (2 * max(size), 2 * max(size)))
        transparent = "A" in image.getbands() or "transparency" in image.info
        deep = image.mode.startswith("I")
        pixels = (_deep_pixels if deep else _pixels)(ImageOps.exif_transpose(image), size, transparent)
        grey = bool((pixels == pixels[..., :1]).all())
        stored = Stored(
            size=upright,
            format="JPEG" if image.format == "MPO" else str(image.format),  # MPO: several JPEGs in one file
            grey=grey,
            transparent=transparent,
            deep=deep,
            sha256=hashlib.sha256(encoded).digest(),
        )
        return pixels[..., :1] if grey else pixels, stored


def stored_size(path: Path) -> Size:
    """Return the height and width of an image, upright, from the start of its file; raises like `read`."""
    try:
        with open(path, "rb") as file, _opened(path, file) as image:
            return _upright_size(image)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def locate(name: str) -> Path:
    """Return the path of an image file, or of one in `BUNDLED`, which come with scikit-learn.

    Raises:
        UserError: no such file or name, or scikit-learn is not installed.
    """
    path = Path(name).expanduser()
    if name not in BUNDLED:
        if path.is_file():
            return path
        if path.suffix or path.name != name:
            raise UserError(f"--image={name}: no such file; give the path of an image, or {' or '.join(BUNDLED)}")
        raise unknown("image", name, BUNDLED)
    package = importlib.util.find_spec("sklearn")  # found, not imported: that would take a second
    if package is None or package.origin is None:
        raise UserError(f"{name} comes with scikit-learn, which is not installed: pip install 'mllab[experiments]'")
    return Path(package.origin).parent / "datasets" / "images" / f"{name}.jpg"


@contextlib.contextmanager
def _opened(path: Path, file: BinaryIO) -> Iterator[Image.Image]:
    """Open an image without decoding it; any error of Pillow in the block becomes a `UserError` that names the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata, which is not used
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=FORMATS) as image:
                yield image
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise UserError(
                f"{path} has more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels by its header: make it smaller, or "
                "remove it if it is damaged"
            ) from None
        except UnidentifiedImageError:
            raise UserError(
                f"{path} is not a readable image ({', '.join(FORMATS)}; at least one pixel): convert or remove it"
            ) from None
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, IndexError and others
            raise UserError(f"{path} is truncated or damaged ({error}): replace or remove it") from None


def _upright_size(image: Image.Image) -> Size:
    """Return height and width after the EXIF orientation is applied."""
    # Without the first condition Pillow decodes a whole PNG to look for the orientation at its end.
    sideways = "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    return (image.width, image.height) if sideways else (image.height, image.width)


def _pixels(image: Image.Image, size: Size, transparent: bool) -> np.ndarray:
    """Return the pixels of an 8-bit image: [height, width, 1 or 3]."""
    grey = image.mode in ("1", "L", "LA")
    image = image.convert(("LA" if grey else "RGBA") if transparent else ("L" if grey else "RGB"))
    height, width = size
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.LANCZOS)  # weights colours by their opacity
    pixels = np.asarray(image, np.float32) / 255
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return on_white(pixels) if transparent else pixels


def _deep_pixels(image: Image.Image, size: Size, transparent: bool) -> np.ndarray:
    """Return the pixels of a 16-bit grey image: [height, width, 1]."""
    values = np.asarray(image)[..., None]
    pixels = values.astype(np.float32) / 65535
    if transparent:  # for 16 bits Pillow reads one transparent value and no opacities
        pixels = np.where(values == image.info["transparency"], np.float32(1), pixels)
    return resize(pixels, size)


def border_means(images: np.ndarray) -> np.ndarray:
    """Return the mean of the border pixels of each image [N, H, W, C], [N]: the background, if it is plain."""
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return images[:, edge].mean(axis=(1, 2))


def has_opposite_background(images: np.ndarray, training_border: float | None) -> np.ndarray:
    """Return which images are to be inverted for a model trained on the opposite plain background, [N].

    Colour images never are, nor any images for a model whose training images have no plain background.

    Args:
        images: [N, H, W, C] in [0, 1].
        training_border: mean of the border pixels of the training images; None if not recorded.
    """
    if training_border is None or images.shape[-1] != 1 or MAX_PLAIN < training_border < 1 - MAX_PLAIN:
        return np.zeros(len(images), bool)
    return (border_means(images) > 0.5) != (training_border > 0.5)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Composite [..., C + 1], colours and their opacity in [0, 1], on white: [..., C]."""
    colours, opacity = pixels[..., :-1], pixels[..., -1:]
    return colours * opacity + (1 - opacity)


def resize(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Resize [height, width, C] float32 in [0, 1] by the same filter as files, without rounding to 8 bits."""
    if pixels.shape[:2] == size:
        return pixels
    height, width = size
    channels = [
        Image.fromarray(np.ascontiguousarray(pixels[..., c])).resize((width, height), Image.Resampling.LANCZOS)
        for c in range(pixels.shape[-1])
    ]
    return np.clip(np.stack([np.asarray(channel) for channel in channels], axis=-1), 0, 1)


def to_png(colours: np.ndarray, labels: np.ndarray) -> bytes:
    """Return the PNG file of an image whose pixels [height, width] index colours [K, 3] in [0, 1].

    With up to 256 colours it has a palette, which takes less space.
    """
    palette = np.round(255 * colours).astype(np.uint8)
    if len(palette) > 256:
        image = Image.fromarray(palette[labels])
    else:
        image = Image.fromarray(labels.astype(np.uint8))
        image.putpalette(palette.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()
