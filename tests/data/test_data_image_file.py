"""One image file: written with Pillow or by hand, compared with plain arithmetic; damage ends in one line."""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from mllab.data.readers import image_file
from mllab.errors import UserError
from support.mistakes import refused_in_one_line

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
GREY_ALPHA = RNG.integers(0, 256, (5, 7, 2), dtype=np.uint8)
DEEP = np.array([[0, 1, 255, 256, 65535], [4660, 65534, 40000, 128, 32768]], np.uint16)


def palette(transparent: int | None = None) -> Image.Image:
    """An image with the palette entries 0 to 3: black, red, white and grey."""
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
    image.putpalette([0, 0, 0, 255, 0, 0, 255, 255, 255, 51, 51, 51])
    if transparent is not None:
        image.info["transparency"] = transparent
    return image


def write(folder, image, name="a.png", **options):
    path = folder / name
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def on_white(values):
    """Composite by hand, value by value."""
    rows = []
    for row in (np.asarray(values, np.float64) / 255).tolist():
        rows.append([[c * pixel[-1] + 1 - pixel[-1] for c in pixel[:-1]] for pixel in row])
    return np.array(rows)


def without_first(values, greatest):
    """Values / greatest, with the colour of the first pixel transparent on white."""
    return np.where((values == values[0, 0]).all(axis=-1, keepdims=True), 1, values / greatest)


BLACK, RED, WHITE, DARK = (0, 0, 0), (1, 0, 0), (1, 1, 1), (0.2, 0.2, 0.2)


@pytest.mark.parametrize(
    ("image", "name", "options", "expected"),
    [
        (GREY, "a.png", {}, GREY[..., None] / 255),
        (GREY, "a.bmp", {}, GREY[..., None] / 255),
        (GREY, "a.gif", {}, GREY[..., None] / 255),
        (np.stack([GREY] * 3, -1), "a.png", {}, GREY[..., None] / 255),  # grey, stored as colours
        (GREY > 99, "a.png", {}, (GREY > 99)[..., None]),
        (RGB, "a.png", {}, RGB / 255),
        (RGB, "a.bmp", {}, RGB / 255),
        (RGB, "a.webp", {"lossless": True}, RGB / 255),
        (RGBA, "a.png", {}, on_white(RGBA)),
        (RGBA, "a.webp", {"lossless": True, "exact": True}, on_white(RGBA)),
        (GREY_ALPHA, "a.png", {}, on_white(GREY_ALPHA)),
        (RGB, "b.png", {"transparency": tuple(RGB[0, 0].tolist())}, without_first(RGB, 255)),
        (GREY, "b.png", {"transparency": int(GREY[0, 0])}, without_first(GREY[..., None], 255)),
        (palette(), "a.png", {}, [[BLACK, RED], [WHITE, DARK]]),
        (palette(), "a.gif", {}, [[BLACK, RED], [WHITE, DARK]]),
        (palette(), "b.png", {"transparency": 1}, [[[0], [1]], [[1], [0.2]]]),  # without red it is grey
        (palette(), "b.gif", {"transparency": 0}, [[WHITE, RED], [WHITE, DARK]]),
        (palette(), "c.png", {"transparency": bytes([255, 51, 0, 255])}, [[BLACK, (1, 0.8, 0.8)], [WHITE, DARK]]),
        (DEEP, "a.png", {}, DEEP[..., None] / 65535),
        (DEEP, "b.png", {"transparency": int(DEEP[0, 0])}, without_first(DEEP[..., None], 65535)),
    ],
)  # fmt: skip
def test_pixels_are_those_of_the_file(tmp_path, image, name, options, expected):
    path = write(tmp_path, image, name, **options)
    expected = np.asarray(expected, np.float64)
    pixels, stored = image_file.decode(path, expected.shape[:2])
    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels, expected, atol=2e-7)
    assert stored.size == image_file.stored_size(path) == expected.shape[:2]
    assert stored.grey == (expected.shape[-1] == 1)
    assert stored.transparent == (image is RGBA or image is GREY_ALPHA or "transparency" in options)
    assert stored.deep == (image is DEEP)
    assert stored.format == {"png": "PNG", "bmp": "BMP", "gif": "GIF", "webp": "WEBP"}[name[2:]]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, without Pillow."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_images_of_every_kind_are_read(tmp_path, colour, channels):
    values = RNG.integers(0, 65536, (3, 4, channels), dtype=np.uint16)
    rows = b"".join(b"\x00" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(png(4, 3, 16, colour, rows))
    exact = values / 65535
    if channels in (2, 4):
        exact = exact[..., :-1] * exact[..., -1:] + 1 - exact[..., -1:]
    pixels, _ = image_file.decode(tmp_path / "a.png", (3, 4))
    np.testing.assert_allclose(pixels, exact, atol=1e-7 if channels == 1 else 2.1 / 255)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_images_are_upright_by_their_exif_orientation(tmp_path, name, orientation):
    # Exif 2.3, tag 0x112: on which side of the upright image the first row and the first column of the file are.
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: a.T[:, ::-1],
        7: lambda a: a.T[::-1, ::-1],
        8: lambda a: a.T[::-1],
    }[orientation]
    blocks = np.kron(np.array([[0, 80, 160], [255, 200, 40]], np.uint8), np.ones((16, 16), np.uint8))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = write(tmp_path, blocks, name, exif=exif, **({"quality": 100} if name != "a.png" else {}))
    expected = upright(blocks)
    assert image_file.stored_size(path) == expected.shape
    pixels, stored = image_file.decode(path, expected.shape)
    assert stored.size == expected.shape
    np.testing.assert_allclose(pixels[..., 0], expected / 255, atol=0.03)


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (51, 204)]
    for name in ("a.gif", "a.png", "a.webp"):
        options = {"lossless": True} if name == "a.webp" else {}
        path = write(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_allclose(image_file.read(path, (4, 4), 1), 0.2, atol=1e-6)


def test_a_multi_picture_file_of_a_phone_is_a_jpeg(tmp_path):
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (51, 204)]
    path = write(tmp_path, frames[0], "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert image.format == "MPO"
    pixels, stored = image_file.decode(path, (16, 16))
    assert stored.format == "JPEG"
    np.testing.assert_allclose(pixels, 0.2, atol=0.01)


def test_cmyk_is_read_as_colours(tmp_path):
    path = write(tmp_path, Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg", quality=100)
    np.testing.assert_allclose(image_file.read(path, (8, 8), 3), np.broadcast_to([1, 0, 0], (8, 8, 3)), atol=0.02)


def test_channels_are_those_requested(tmp_path):
    colour, grey = write(tmp_path, RGB, "c.png"), write(tmp_path, GREY, "g.png")
    weighted = (0.299 * RGB[..., 0] + 0.587 * RGB[..., 1] + 0.114 * RGB[..., 2]) / 255
    np.testing.assert_allclose(image_file.read(colour, (5, 7), 1)[..., 0], weighted, atol=1e-6)
    np.testing.assert_allclose(image_file.read(grey, (5, 7), 3), np.stack([GREY / 255] * 3, -1), atol=1e-6)
    white = np.full((3, 3, 3), 255, np.uint8)
    white[0, 0] = [255, 0, 0]  # otherwise it would be read as grey
    assert image_file.read(write(tmp_path, white, "w.png"), (3, 3), 1).max() <= 1


def lanczos(length: int, to: int) -> np.ndarray:
    """The matrix [to, length] of Lanczos's filter with 3 lobes, widened as the image shrinks."""
    scale = length / to
    widen = max(scale, 1)
    distance = (np.arange(length) + 0.5 - (np.arange(to)[:, None] + 0.5) * scale) / widen
    weights = np.where(abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(5, 7), (2, 3), (9, 20), (1, 1), (12, 3)])
def test_resizing_is_lanczos_filter(tmp_path, size):
    rows, columns = lanczos(5, size[0]), lanczos(7, size[1])

    def expected(values):
        return np.clip(np.einsum("ij,jkc,lk->ilc", rows, values, columns), 0, 1)

    deep = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    soft = RNG.integers(100, 156, (5, 7, 3), dtype=np.uint8)  # no overshoot leaves [0, 255]
    deep = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    for image, values, atol in ((soft, soft / 255, 1.5 / 255), (deep, deep[..., None] / 65535, 1e-5)):
        pixels, _ = image_file.decode(write(tmp_path, image), size)
        np.testing.assert_allclose(pixels, expected(values), atol=atol)
    floats = RNG.random((5, 7, 3), dtype=np.float32)
    np.testing.assert_allclose(image_file.resize(floats, size), expected(floats), atol=1e-5)


def test_colours_of_transparent_pixels_do_not_bleed(tmp_path):
    """A resized edge stays red."""
    image = np.zeros((8, 8, 4), np.uint8)
    image[:, :4] = [255, 0, 0, 255]  # the other half is transparent black
    pixels = image_file.read(write(tmp_path, image), (8, 3), 3)
    np.testing.assert_allclose(pixels[..., 0], 1, atol=2 / 255)
    np.testing.assert_allclose(pixels[..., 1], pixels[..., 2], atol=2 / 255)


def test_a_photograph_is_reduced_accurately(tmp_path):
    smooth = np.asarray(Image.fromarray(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((800, 600)))
    expected = np.einsum("ij,jkc,lk->ilc", lanczos(600, 30), smooth / 255, lanczos(800, 40), optimize=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    path = write(tmp_path, smooth, "a.jpg", quality=95, exif=exif)
    pixels, stored = image_file.decode(path, (40, 30))
    assert stored.size == (800, 600)
    assert abs(pixels - np.swapaxes(expected, 0, 1)[:, ::-1]).mean() < 0.01


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    stored=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([1, 3]),
    level=st.none() | st.integers(0, 255),
    seed=st.integers(0, 99),
)
def test_every_mode_and_size_gives_the_requested_shape_and_range(
    tmp_path_factory, mode, stored, size, channels, level, seed
):
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        values = (
            rng.integers(0, 65536, stored, dtype=np.uint16)
            if level is None
            else np.full(stored, level * 257, np.uint16)
        )
        image = Image.fromarray(values)
    else:
        values = rng.integers(0, 256, (*stored, 4), dtype=np.uint8)
        if level is not None:
            values[...] = (level, level, level, 255)
        image = Image.fromarray(values).convert(mode)
    path = write(tmp_path_factory.getbasetemp(), image, "any.png")
    pixels = image_file.read(path, size, channels)
    assert pixels.shape == (*size, channels)
    assert pixels.dtype == np.float32
    assert (pixels >= 0).all()
    assert (pixels <= 1).all()
    if level is not None and mode not in ("1", "P"):  # few levels, dithered
        np.testing.assert_allclose(pixels, level / 255, atol=1e-6 if mode == "I;16" else 1.01 / 255)
        if mode != "I;16":
            assert np.ptp(pixels) <= 1e-6


WHOLE = io.BytesIO()
Image.fromarray(RGB).save(WHOLE, "PNG")
WHOLE = WHOLE.getvalue()
PHOTO = io.BytesIO()
Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(PHOTO, "JPEG")
PHOTO = PHOTO.getvalue()

DAMAGED = [
    ("a.png", b"", r"is empty \(0 bytes\): replace or remove it"),
    ("a.png", WHOLE[: len(WHOLE) // 2], "is truncated or damaged .*: replace or remove it"),
    ("a.png", WHOLE[:20], "is truncated or damaged|is not a readable image"),
    ("a.png", WHOLE[:60] + b"\xff\xff" + WHOLE[62:], "is truncated or damaged"),
    ("a.jpg", PHOTO[: len(PHOTO) // 2], "is truncated or damaged"),
    ("a.png", b"a label, not an image\n", r"is not a readable image \(PNG, JPEG, GIF, BMP, WEBP;"),
    ("a.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a readable image"),
    ("a.tif", b"II*\x00" + bytes(60), "is not a readable image"),
    ("a.png", png(0, 5, 8, 0, b""), "is not a readable image .*at least one pixel"),
    ("a.png", png(5, 0, 8, 0, b""), "is not a readable image"),
    ("a.png", png(10_000, 10_000, 8, 0, b""), "more than 89,478,485 pixels by its header: make it smaller, or"),
    ("a.png", png(60_000, 60_000, 8, 0, b""), "more than 89,478,485 pixels"),
]


@pytest.mark.parametrize(("name", "content", "words"), DAMAGED)
def test_damage_is_named(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with refused_in_one_line(words) as caught:
        image_file.read(tmp_path / name, (4, 4), 1)
    assert str(tmp_path / name) in str(caught.value)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_images_in_other_formats_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="is not a readable image"):
        image_file.read(write(tmp_path, GREY, name, format="TIFF"), (4, 4), 1)


def test_a_missing_file_or_a_folder_is_named(tmp_path):
    for path, words in (
        (tmp_path / "nowhere.png", "No such file"),
        (tmp_path, "it is a folder; give the path of a file"),
    ):
        for read in (lambda path: image_file.read(path, (4, 4), 1), image_file.stored_size):
            with pytest.raises(UserError, match=f"cannot read {path}: {words}"):
                read(path)


FILES = {"PNG": WHOLE, "JPEG": PHOTO}
for kind, image in (("GIF", palette(1)), ("BMP", Image.fromarray(RGB)), ("WEBP", Image.fromarray(RGBA))):
    content = io.BytesIO()
    image.save(content, kind)
    FILES[kind] = content.getvalue()


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(sorted(FILES)))
def test_any_damage_raises_only_user_errors(tmp_path_factory, data, kind):
    content = bytearray(FILES[kind])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(UserError), warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = image_file.read(path, (4, 4), 3)
        assert np.isfinite(pixels).all()


@pytest.mark.parametrize("count", [3, 256, 300])
def test_a_png_has_the_colours_that_its_pixels_index_with_a_palette_up_to_256(count):
    labels = np.arange(20 * 15).reshape(20, 15) % count
    colours = RNG.random((count, 3))
    content = image_file.to_png(colours, labels)
    image = Image.open(io.BytesIO(content))
    assert image.mode == ("P" if count <= 256 else "RGB")
    np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.round(255 * colours[labels]))


def test_the_images_that_scikit_learn_brings_are_read_as_it_reads_them():
    from sklearn.datasets import load_sample_image

    path = image_file.locate("china")
    pixels = image_file.read(path, image_file.stored_size(path), channels=3)
    np.testing.assert_allclose(255 * pixels, load_sample_image("china.jpg"), atol=1e-4)


def test_an_image_that_is_not_there_is_named(tmp_path):
    (tmp_path / "photo.png").touch()
    assert image_file.locate(str(tmp_path / "photo.png")) == tmp_path / "photo.png"
    with pytest.raises(
        UserError, match=r"absent/photo\.jpg: no such file; give the path of an image, or china or flower"
    ):
        image_file.locate("absent/photo.jpg")
    with pytest.raises(UserError, match="did you mean 'flower'"):
        image_file.locate("flowers")
