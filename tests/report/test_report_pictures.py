import base64
import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mllab.report import figures, pictures

NASTY = ["<script>alert(1)</script>", 'a "b" & c', "price $ per $", "line\nbreak\x01\udcff", "Ünïcødé", "x" * 200]
DIGITS = [str(digit) for digit in range(10)]
GREY = 0xE3  # the diagonal


def drawn(figure, path):
    """Return what an SVG says, and the pictures it holds, as its PNGs decode."""
    root = ElementTree.parse(figures.save(figure, path)).getroot()
    said = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
    return said, embedded(path.read_text())


def embedded(svg):
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for data in re.findall(r'href="data:image/png;base64,\s*([^"]*)"', svg)
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mistake_shows_its_own_pixels_and_what_it_was_taken_for(tmp_path, channels):
    images = np.random.default_rng(0).random((30, 8, 6, channels))
    images[1] = images[0]  # even then, ids differ
    probability = np.linspace(1, 0.5, 30)
    true, taken = np.arange(30) % 10, (np.arange(30) + 3) % 10
    figure = pictures.mistakes(images, true, taken, probability, DIGITS, title="Mistakes")
    said, shown = drawn(figure, tmp_path / "mistakes.svg")
    assert len(shown) == pictures.MISTAKES
    for image, pixels in zip(images, shown, strict=False):
        np.testing.assert_allclose(pixels, np.broadcast_to(255 * image, (8, 6, 3)), atol=0.51)
    captions = [text for text in said if "→" in text and "%" in text]
    assert captions[:3] == ["0 → 3, >99%", "1 → 4, 98%", "2 → 5, 97%"]
    assert len(captions) == pictures.MISTAKES
    svg = (tmp_path / "mistakes.svg").read_text()
    assert svg.count("image-rendering:pixelated") == pictures.MISTAKES  # enlarged without smoothing
    assert len(set(re.findall(r'<image[^>]* id="([^"]*)"', svg))) == pictures.MISTAKES


def test_a_confusion_matrix_holds_every_count_and_name(tmp_path):
    counts = np.random.default_rng(1).integers(0, 4, (10, 10)) + np.diag(np.arange(100, 110))
    figure = pictures.confusion(counts, DIGITS, title="Confusion")
    said, (matrix,) = drawn(figure, tmp_path / "confusion.svg")
    numbers = [text.get_text() for text in figure.texts if text.get_text().isdecimal()]
    assert sorted(numbers) == sorted([*map(str, counts[counts > 0]), *DIGITS, *DIGITS])
    assert {"Confusion", *DIGITS} <= set(said)
    assert matrix.shape == (10, 10, 3)
    assert (matrix[np.eye(10, dtype=bool)] == GREY).all()
    brightness = matrix.sum(axis=-1)[~np.eye(10, dtype=bool)]
    off = counts[~np.eye(10, dtype=bool)]
    levels = [set(brightness[off == count]) for count in range(4)]  # the more mistakes, the darker
    assert levels[0] == {3 * 255}
    assert levels == sorted(levels, key=max, reverse=True)
    assert len(set.union(*levels)) == 4


@pytest.mark.parametrize(
    ("size", "named", "numbered"), [(2, True, True), (20, True, True), (40, True, False), (200, False, False)]
)
def test_names_and_numbers_are_written_where_they_fit(size, named, numbered):
    counts = 50 * np.eye(size, dtype=int)
    counts[0, 1] = 1
    figure = pictures.confusion(counts, [f"class {index}" for index in range(size)], title="Confusion")
    texts = [text.get_text() for text in figure.texts]
    assert (texts.count(f"class {size - 1}") == 2) == named
    assert (texts.count("50") == size) == numbered
    assert ("unnamed" in " ".join(texts)) != named
    assert "Colour: 1 mistake." in " ".join(texts)
    assert "No mistakes." in " ".join(
        text.get_text() for text in pictures.confusion(np.eye(2), ["a", "b"], title="").texts
    )


def test_filters_share_one_scale_around_zero(tmp_path):
    weights = np.zeros((1, 3, 1, 2))
    weights[0, :, 0, 0] = -2.0, 0.0, 2.0
    weights[0, :, 0, 1] = -0.2, np.nan, 0.2
    figure = pictures.filters(weights, title="Filters", names=["one", "two"])
    said, (wide, narrow) = drawn(figure, tmp_path / "filters.svg")
    assert {"one", "two"} <= set(said)
    assert "one scale for all, from −2 to 2." in " ".join(said)
    red_less_blue = [image[0, :, 0].astype(int) - image[0, :, 2] for image in (wide, narrow)]
    for low, middle, high in red_less_blue:
        assert low < -10 < middle < 10 < high
    assert red_less_blue[0][2] > 2 * red_less_blue[1][2]
    many = pictures.filters(np.random.default_rng(0).normal(size=(3, 3, 3, 70)), title="Filters")
    said, shown = drawn(many, tmp_path / "many.svg")
    assert len(shown) == pictures.FILTERS
    assert "The first 64 of 70." in " ".join(said)


def test_feature_maps_go_layer_by_layer_each_on_its_own_scale(tmp_path):
    random = np.random.default_rng(0)
    layers = [(f"conv {index}", 10.0**index * random.random((6 - index, 6, 5 + 8 * index))) for index in range(3)]
    figure = pictures.feature_maps(np.zeros((8, 8, 1)), layers, title="Maps", caption=NASTY[0])
    said, (image, *maps) = drawn(figure, tmp_path / "maps.svg")
    assert image.shape == (8, 8, 3)
    assert [one.shape[:2] for one in maps] == [(6, 6)] * 5 + [(5, 6)] * 13 + [(4, 6)] * 16
    heads = [text for text in said if text.startswith("conv")]
    assert heads[2].startswith("conv 2: 16 of 21 maps of 4 × 6")
    for (_, values), first in zip(layers, (0, 5, 18), strict=True):
        count = min(values.shape[-1], 16)
        stack = np.stack(maps[first : first + count], axis=-2)  # [h, w, maps, 3]
        for extreme, colour in (
            (values[..., :count].argmax(), (253, 231, 37)),
            (values[..., :count].argmin(), (68, 1, 84)),
        ):
            np.testing.assert_array_equal(stack.reshape(-1, 3)[extreme], colour)  # viridis' ends
    deep = pictures.feature_maps(np.zeros((8, 8, 3)), [(f"layer {i}", np.ones((1, 1, 1))) for i in range(12)], title="")
    texts = " ".join(text.get_text() for text in deep.texts)
    assert "layer 0: 1 map of 1 × 1, 1 to 1" in texts
    assert "layer 11" in texts
    assert "8 of 12 layers." in texts


def test_saliency_is_brightest_where_the_gradient_is_largest(tmp_path):
    random = np.random.default_rng(0)
    gradients = random.normal(size=(3, 5, 7, 3))
    gradients[2] = 0.0
    images = random.random((3, 5, 7, 3))
    figure = pictures.saliency(images, gradients, [0, 1, 2], [0, 2, 2], ["cat", "dog", NASTY[0]], title="Saliency")
    said, shown = drawn(figure, tmp_path / "saliency.svg")
    assert len(shown) == 6
    for index in range(3):
        np.testing.assert_allclose(shown[2 * index], 255 * images[index], atol=0.51)
    for index in range(2):
        places = np.ndindex(5, 7)
        steepest = max(places, key=lambda at: max(abs(gradients[index][at])))
        np.testing.assert_array_equal(shown[2 * index + 1][steepest], (253, 231, 37))
    assert (shown[5] == shown[5][0, 0]).all()
    assert "cat" in said
    assert any(text.startswith("dog → <script") for text in said)


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3])),
    st.integers(5, 3000),
)
def test_pictures_are_averaged_down_to_a_number_of_pixels(shape, pixels):
    images = np.random.default_rng(0).random(shape)
    small = pictures._shrunk(images, pixels)
    count, rows, columns, _ = small.shape
    if images[..., 0].size <= pixels:
        np.testing.assert_array_equal(small, images)
    assert count * rows * columns <= max(pixels, count * max(shape[1:3]))  # a picture keeps at least one pixel a side
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        top, bottom = (shape[1] * at // rows for at in (row, row + 1))
        left, right = (shape[2] * at // columns for at in (column, column + 1))
        block = images[:, top:bottom, left:right]
        np.testing.assert_allclose(small[:, row, column], block.mean(axis=(1, 2)), rtol=1e-12)


def test_noise_stays_below_the_size_that_was_promised(tmp_path):
    weights = np.random.default_rng(0).normal(size=(96, 64, 3, 128))
    path = figures.save(pictures.filters(weights, title="Filters"), tmp_path / "filters.svg")
    assert 200e3 < path.stat().st_size < 400e3


DARK = np.zeros((7, 4, 4, 1))
TRUE, TAKEN = [*range(6), 0], [1, 2, 3, 4, 5, 0, 5]
LONG_NAMES = {
    "confusion": lambda: pictures.confusion(np.arange(36).reshape(6, 6), NASTY, title="Confusion"),
    "title": lambda: pictures.confusion(np.eye(6), list("abcdef"), title="Confusion of letters " * 6),
    "mistakes": lambda: pictures.mistakes(DARK, TRUE, TAKEN, [0.5] * 7, NASTY, title="Mistakes"),
    "filters": lambda: pictures.filters(np.ones((2, 2, 1, 6)), title="Filters", names=NASTY),
    "saliency": lambda: pictures.saliency(DARK, DARK, TRUE, TAKEN, NASTY, title="Saliency", note="A note."),
    "maps": lambda: pictures.feature_maps(
        DARK[0], [("conv " * 40, np.ones((2, 2, 9)))] * 2, title="Maps", caption=NASTY[5]
    ),
}


@pytest.mark.parametrize("draw", LONG_NAMES.values(), ids=LONG_NAMES.keys())
def test_no_text_leaves_the_figure_or_covers_another(draw, tmp_path):
    figure = draw()
    figure.set_dpi(288)
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.bbox.size
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    for index, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text  # noqa: PT018
        for other, beside in boxes[:index]:
            assert not box.shrunk(0.98, 0.7).overlaps(beside.shrunk(0.98, 0.7)), (text, other)
    figure.set_dpi(72)
    said, _ = drawn(figure, tmp_path / "figure.svg")  # parses as XML, whatever the names
    assert len(said) >= len(boxes)


def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    def everything():
        return [figures.save(draw(), tmp_path / "figure.svg").read_bytes() for draw in LONG_NAMES.values()]

    first = everything()
    with matplotlib.rc_context({"font.size": 20, "image.cmap": "gray", "image.interpolation": "bilinear"}):
        assert everything() == first


@pytest.mark.parametrize(
    ("draw", "told"),
    [
        (lambda: pictures.confusion(np.eye(3), ["a", "b"], title=""), r"\(3, 3\), and there are 2 classes"),
        (lambda: pictures.mistakes(np.zeros((1, 4, 4, 2)), [0], [1], [1], "ab", title=""), "1 or 3 channels"),
        (lambda: pictures.filters(np.zeros((3, 3, 16, 8)), title=""), "1 or 3 channels"),
    ],
)
def test_shapes_that_are_no_pictures_are_refused(draw, told):
    with pytest.raises(ValueError, match=told):
        draw()
