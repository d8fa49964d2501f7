import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from mllab.report import draw
from mllab.report.draw import images
from support.figures import NASTY, check_figure, drawn, embedded

DIGITS = [str(digit) for digit in range(10)]
DATA = load_digits()
IMAGES, LABELS = DATA.images[..., None] / 16, DATA.target
YELLOW, DARK_BLUE = (253, 231, 37), (68, 1, 84)  # viridis' ends


@pytest.mark.parametrize("channels", [1, 3])
def test_a_mistake_has_its_own_pixels_its_classes_and_its_probability(tmp_path, channels):
    pictures = np.random.default_rng(0).random((30, 8, 6, channels))
    pictures[1] = pictures[0]  # even then, ids differ
    probabilities = np.linspace(1, 0.5, 30)
    true, predicted = np.arange(30) % 10, (np.arange(30) + 3) % 10
    figure = draw.mistakes(pictures, true, predicted, probabilities, DIGITS, title="Mistakes")
    texts, shown = drawn(figure, tmp_path / "mistakes.svg")
    assert len(shown) == images.MAX_MISTAKES
    for picture, pixels in zip(pictures, shown, strict=False):
        np.testing.assert_allclose(pixels, np.broadcast_to(255 * picture, (8, 6, 3)), atol=0.51)
    captions = [text for text in texts if "→" in text and "%" in text]
    assert captions[:3] == ["0 → 3 (>99%)", "1 → 4 (98%)", "2 → 5 (97%)"]
    assert len(captions) == images.MAX_MISTAKES
    svg = (tmp_path / "mistakes.svg").read_text()
    assert svg.count("image-rendering:pixelated") == images.MAX_MISTAKES  # enlarged without smoothing
    assert len({part.partition('"')[0] for part in svg.split('id="picture-')[1:]}) == images.MAX_MISTAKES


def test_pixels_stay_square():
    (axes,) = draw.mistakes(np.zeros((1, 4, 10, 1)), [0], [1], [0.5], "ab", title="").axes
    assert axes.get_aspect() == 1
    left, right, bottom, top = axes.images[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(10 / 4)


def test_filters_share_one_scale_around_zero(tmp_path):
    weights = np.zeros((1, 3, 1, 2))
    weights[0, :, 0, 0] = -2.0, 0.0, 2.0
    weights[0, :, 0, 1] = -0.2, np.nan, 0.2
    figure = draw.filters(weights, title="Filters", names=["one", "two"])
    texts, (wide, narrow) = drawn(figure, tmp_path / "filters.svg")
    assert {"one", "two"} <= set(texts)
    assert "from −2 to 2, the same for all." in " ".join(texts)
    red_less_blue = [image[0, :, 0].astype(int) - image[0, :, 2] for image in (wide, narrow)]
    for low, middle, high in red_less_blue:
        assert low < -10 < middle < 10 < high
    assert red_less_blue[0][2] > 2 * red_less_blue[1][2]
    many = draw.filters(np.random.default_rng(0).normal(size=(3, 3, 3, 70)), title="Filters")
    texts, shown = drawn(many, tmp_path / "many.svg")
    assert len(shown) == images.MAX_FILTERS
    assert "The first 64 of 70." in " ".join(texts)


def test_feature_maps_go_layer_by_layer_each_on_its_own_scale(tmp_path):
    random = np.random.default_rng(0)
    layers = [(f"conv {index}", 10.0**index * random.random((6 - index, 6, 5 + 8 * index))) for index in range(3)]
    figure = draw.feature_maps(np.zeros((8, 8, 1)), layers, title="Maps", caption=NASTY[0])
    texts, (image, *maps) = drawn(figure, tmp_path / "maps.svg")
    assert image.shape == (8, 8, 3)
    assert [one.shape[:2] for one in maps] == [(6, 6)] * 5 + [(5, 6)] * 13 + [(4, 6)] * 16
    headings = [text for text in texts if text.startswith("conv")]
    assert headings[2].startswith("conv 2: 16 of 21 maps of 4 × 6")
    for (_, values), first in zip(layers, (0, 5, 18), strict=True):
        count = min(values.shape[-1], 16)
        stack = np.stack(maps[first : first + count], axis=-2)  # [h, w, maps, 3]
        shown = values[..., :count]
        np.testing.assert_array_equal(stack.reshape(-1, 3)[shown.argmax()], YELLOW)
        np.testing.assert_array_equal(stack.reshape(-1, 3)[shown.argmin()], DARK_BLUE)
    layers = [(f"layer {index}", np.ones((1, 1, 1))) for index in range(12)]
    texts = " ".join(
        drawn(draw.feature_maps(np.zeros((8, 8, 3)), layers, title="", caption="a"), tmp_path / "deep.svg")[0]
    )
    assert "layer 0: 1 map of 1 × 1, 1 to 1" in texts
    assert "layer 11" in texts
    assert "8 of 12 layers." in texts


def test_saliency_is_brightest_where_the_gradient_is_largest(tmp_path):
    random = np.random.default_rng(0)
    gradients = random.normal(size=(3, 5, 7, 3))
    gradients[2] = 0.0
    pictures = random.random((3, 5, 7, 3))
    figure = draw.saliency(pictures, gradients, [0, 1, 2], [0, 2, 2], ["cat", "dog", NASTY[0]], title="Saliency")
    texts, shown = drawn(figure, tmp_path / "saliency.svg")
    assert len(shown) == 6
    for index in range(3):
        np.testing.assert_allclose(shown[2 * index], 255 * pictures[index], atol=0.51)
    for index in range(2):
        steepest = max(np.ndindex(5, 7), key=lambda at: max(abs(gradients[index][at])))
        np.testing.assert_array_equal(shown[2 * index + 1][steepest], YELLOW)
    assert (shown[5] == shown[5][0, 0]).all()
    assert "cat" in texts
    assert any(text.startswith("dog → <script") for text in texts)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("missed", [False, True])
def test_each_image_stands_before_its_neighbours_with_their_classes(tmp_path, missed, channels):
    random = np.random.default_rng(0)
    pictures, nearest = random.random((3, 8, 8, channels)), random.random((3, 7, 8, 8, channels))
    true, labels = np.array([0, 1, 0]), random.integers(0, 2, (3, 7))
    figure = draw.neighbours(pictures, true, 1 - true if missed else true, nearest, labels, "ab", title="Neighbours")
    texts, shown = drawn(figure, tmp_path / "neighbours.svg")
    rows = np.concatenate([pictures[:, None], nearest], axis=1).reshape(-1, 8, 8, channels)
    assert len(shown) == len(rows) == 24
    for pixels, picture in zip(shown, rows, strict=True):
        np.testing.assert_array_equal(pixels, np.broadcast_to((picture * 255).round(), (8, 8, 3)))
    (axes,) = figure.axes
    verdicts = ["a → b", "b → a", "a → b"] if missed else ["a", "b", "a"]
    assert [text.get_text() for text in axes.texts] == [
        text for verdict, each in zip(verdicts, labels, strict=True) for text in (verdict, *("ab"[one] for one in each))
    ]
    assert ("predicted class" in " ".join(texts)) == missed


@pytest.mark.slow
def test_pictures_side_by_side_keep_their_pixels_and_large_ones_their_colours(tmp_path):
    pictures = [np.random.default_rng(seed).random((40, 60, 3)) for seed in range(3)]
    texts, shown = drawn(draw.side_by_side(pictures, ["one", "two", "three"], title="t"), tmp_path / "three.svg")
    assert {"one", "two", "three"} <= set(texts)
    for picture, pixels in zip(pictures, shown, strict=True):
        np.testing.assert_array_equal(pixels, np.round(255 * picture))
    palette = np.array([[0, 0, 0], [255, 0, 0], [12, 34, 56]])
    large = palette[np.random.default_rng(0).integers(0, 3, (600, 900))]
    _, (pixels,) = drawn(draw.side_by_side([large / 255], ["large"], title="t"), tmp_path / "large.svg")
    assert pixels[..., 0].size <= images.MAX_PIXELS_SIDE_BY_SIDE
    assert {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()} == {tuple(each) for each in palette.tolist()}


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3])),
    st.integers(5, 3000),
)
def test_images_are_averaged_down_to_a_number_of_pixels(shape, pixels):
    pictures = np.random.default_rng(0).random(shape)
    small = images.shrink(pictures, pixels)
    count, rows, columns, _ = small.shape
    if pictures[..., 0].size <= pixels:
        np.testing.assert_array_equal(small, pictures)
    assert count * rows * columns <= max(pixels, count * max(shape[1:3]))  # at least one pixel a side remains
    for row, column in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 2)):
        top, bottom = (shape[1] * at // rows for at in (row, row + 1))
        left, right = (shape[2] * at // columns for at in (column, column + 1))
        block = pictures[:, top:bottom, left:right]
        np.testing.assert_allclose(small[:, row, column], block.mean(axis=(1, 2)), rtol=1e-12)


def test_files_of_large_images_of_noise_stay_small(tmp_path):
    random = np.random.default_rng(0)
    path = draw.save(draw.filters(random.normal(size=(96, 64, 3, 128)), title="t"), tmp_path / "filters.svg")
    assert 200e3 < path.stat().st_size < 400e3
    pictures, nearest = random.random((6, 120, 120, 3)), random.random((6, 7, 120, 120, 3))
    figure = draw.neighbours(pictures, range(6), range(6), nearest, np.zeros((6, 7), int), DIGITS, title="t")
    path = draw.save(figure, tmp_path / "neighbours.svg")
    assert path.stat().st_size < 500e3
    assert len(embedded(path.read_text())) == 48


DARK, TRUE, PREDICTED = np.zeros((8, 4, 4, 1)), [*range(7), 0], [1, 2, 3, 4, 5, 6, 0, 5]
UGLY = {
    "mistakes": lambda: draw.mistakes(DARK, TRUE, PREDICTED, [0.5] * 8, NASTY, title="Mistakes " * 20),
    "one mistake": lambda: draw.mistakes(IMAGES[:1], [0], [1], [0.5], DIGITS, title="One"),
    "no mistake": lambda: draw.mistakes(np.zeros((0, 4, 4, 1)), [], [], [], DIGITS, title="None"),
    "filters": lambda: draw.filters(np.full((2, 2, 1, len(NASTY)), np.nan), title="Filters", names=NASTY),
    "64 filters": lambda: draw.filters(np.ones((5, 5, 1, 64)), title="Constant"),
    "saliency": lambda: draw.saliency(DARK, DARK * np.nan, TRUE, PREDICTED, NASTY, title="Saliency"),
    "maps": lambda: draw.feature_maps(DARK[0], [("conv " * 40, np.ones((2, 2, 9)))] * 2, title="t", caption=NASTY[5]),
    "maps of one pixel": lambda: draw.feature_maps(
        DARK[0], [(NASTY[6], np.full((1, 64, 1), np.nan))], title="t", caption="a"
    ),
    "neighbours": lambda: draw.neighbours(
        DARK[:7], TRUE[:7], PREDICTED[:7], np.zeros((7, 7, 4, 4, 1)), np.tile(np.arange(7), (7, 1)), NASTY, title="t"
    ),
    "neighbours of digits": lambda: draw.neighbours(
        IMAGES[:2], LABELS[:2], LABELS[1:3], IMAGES[2:22].reshape(2, 10, 8, 8, 1), LABELS[2:22].reshape(2, 10), DIGITS,
        title="t",
    ),
    "centres": lambda: draw.side_by_side(
        [DARK[0]] * len(NASTY), [f"{name}, 75%" for name in NASTY], title="t", columns=5
    ),
    "side by side": lambda: draw.side_by_side([np.zeros((4, 300, 1))], ["a caption of two\nlines"], title="t"),
}  # fmt: skip


@pytest.mark.parametrize("function", UGLY.values(), ids=UGLY.keys())
def test_no_text_leaves_the_figure_or_covers_another_and_the_bytes_repeat(function, tmp_path):
    check_figure(function, tmp_path / "figure.svg")


@pytest.mark.parametrize(
    "function",
    [
        lambda: draw.mistakes(np.zeros((1, 4, 4, 2)), [0], [1], [1], "ab", title=""),
        lambda: draw.filters(np.zeros((3, 3, 16, 8)), title=""),
        lambda: draw.side_by_side([np.zeros((4, 4))], ["flat"], title=""),
    ],
)
def test_shapes_that_are_no_images_are_refused(function):
    with pytest.raises(ValueError, match="1 or 3 channels"):
        function()
