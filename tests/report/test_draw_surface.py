import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.report import draw
from mllab.report.draw import Landscape, Path
from mllab.report.draw.surface import cut_to_frame

A = np.linspace(-2.0, 4.0, 31)
B = np.linspace(10.0, 20.0, 41)
LOSS = (A - 1) ** 2 + 0.5 * (B[:, None] - 14) ** 2 + 0.1
LABELS = {"a_label": "a (y per x)", "b_label": "b (y)", "loss_label": "mean squared error (y²)"}
LANDSCAPE = Landscape(A, B, LOSS, **LABELS, optimum=(1.0, 14.0))

points = st.lists(st.tuples(st.floats(-8, 10), st.floats(0, 30)), min_size=1, max_size=12)


def inside(path):
    return (path[:, 0] >= -2) & (path[:, 0] <= 4) & (path[:, 1] >= 10) & (path[:, 1] <= 20)


@settings(max_examples=50)
@given(points)
def test_a_cut_path_is_its_part_inside_the_frame(walk):
    walk = np.array(walk)
    cut = cut_to_frame(Path("sgd", *walk.T), A, B)
    drawn = cut.line[~np.isnan(cut.line[:, 0])]
    assert np.all(drawn >= [-2 - 1e-9, 10 - 1e-9])
    assert np.all(drawn <= [4 + 1e-9, 20 + 1e-9])
    # Brute force: walk in 2,000 small paces a step, and add those that begin inside.
    fine = 2000
    steps = [np.linspace(one, two, fine, endpoint=False) for one, two in itertools.pairwise(walk)]
    paces = np.concatenate([*steps, walk[-1:]])
    expected = sum(np.hypot(*(paces[1:] - paces[:-1])[inside(paces[:-1])].T))
    longest = max([0.0, *np.hypot(*np.diff(walk, axis=0).T)])
    length = np.nansum(np.hypot(*np.diff(cut.line, axis=0).T))
    assert length == pytest.approx(expected, abs=2 * longest * len(walk) / fine + 1e-6)
    outside = np.flatnonzero(~inside(walk))
    assert cut.left == (outside[0] if outside.size else None)
    assert len(cut.end) == inside(walk)[-1]


@pytest.mark.parametrize(
    ("a", "b", "label"),
    [
        ([0, 1], [14, 14], "sgd"),
        ([0, 9, 12], [14, 14, 14], "sgd (leaves at step 1)"),
        ([0, 1, 9, 1], [14, 14, 14, 14], "sgd (leaves at step 2, returns)"),
        ([0, 1, np.nan, np.nan], [14, 14, 14, 14], "sgd (leaves at step 2)"),
        ([0, -1e9, 1e18, -1e27, np.inf], [14, 1e9, -1e18, 1e27, 0], "sgd (leaves at step 1)"),
        ([9, 10], [14, 14], "sgd (leaves at step 0)"),
        ([-2, -2, 4, 4], [10, 20, 20, 10], "sgd"),  # along the border
        ([], [], "sgd"),
    ],
)
def test_the_key_tells_when_a_path_leaves_and_a_mark_shows_where(tmp_path, a, b, label):
    path = Path("sgd", np.array(a, float), np.array(b, float))
    cut = cut_to_frame(path, A, B)
    assert cut.label == label
    for function in (draw.loss_contours, draw.loss_surface):
        figure = function(LANDSCAPE, [path], title="t")
        root = ElementTree.parse(draw.save(figure, tmp_path / "figure.svg")).getroot()
        shown = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
        assert {label, "t", "a (y per x)", "b (y)"} <= set(shown)
        assert any("mean squared error (y²)" in text for text in shown)
        assert "Star: the closed form." in " ".join(shown)
        assert ("leaves the frame" in " ".join(shown)) == bool(len(cut.exits))
        lines = figure.axes[0].lines
        marks = [line for line in lines if line.get_marker() == "X" or isinstance(line.get_marker(), tuple)]
        assert len(marks) == len(cut.exits)


def test_a_path_lies_on_the_surface():
    twisted = 1 + 2 * A + 3 * B[:, None] + 0.5 * A * B[:, None]  # bilinear interpolation is exact
    walk = np.random.default_rng(0).uniform((-4, 8), (6, 22), (30, 2))
    landscape = Landscape(A, B, twisted, **LABELS)
    lines = draw.loss_surface(landscape, [Path("sgd", *walk.T)], title="t").axes[0].lines
    x, y, z = np.concatenate([np.stack(line.get_data_3d()) for line in lines], axis=1)
    drawn = ~np.isnan(x)
    assert drawn.sum() > 100
    np.testing.assert_allclose(z[drawn], (1 + 2 * x + 3 * y + 0.5 * x * y)[drawn], rtol=1e-9)
    steps = np.abs(np.diff(np.stack([x, y]), axis=1)) / [[6 / 25], [10 / 25]]
    longest = np.nanmax(steps[:, : lines[0].get_data_3d()[0].size - 1])
    assert longest <= 1 + 1e-9  # follows the surface between its steps


def test_paths_that_share_a_start_have_it_marked(tmp_path):
    def shown(*paths):
        figure = draw.loss_contours(LANDSCAPE, paths, title="t")
        return "start" in [text.get_text() for text in figure.axes[0].texts]

    assert shown(Path("sgd", [0, 1], [12, 14]), Path("adam", [0, 1], [12, 13]))
    assert not shown(Path("sgd", [0, 1], [12, 14]), Path("adam", [0, 1], [12.5, 13]))
    assert not shown(Path("sgd", [9, 1], [12, 14]))


def test_equal_losses_are_a_constant_factor_apart(tmp_path):
    figure = draw.loss_contours(LANDSCAPE, [], title="t")
    root = ElementTree.parse(draw.save(figure, tmp_path / "figure.svg")).getroot()
    note = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text"))
    factor = (LOSS.max() / LOSS.min()) ** (1 / 14)
    assert f"Lines of equal mean squared error (y²); each is {factor:.2g} times the one inside it." in note


@pytest.mark.parametrize(
    "loss", [np.zeros_like(LOSS), LOSS * 1e12, LOSS - LOSS.min(), -LOSS], ids=["plain", "huge", "to zero", "negative"]
)
def test_any_loss_can_be_drawn(tmp_path, loss):
    landscape = Landscape(A, B, loss, **LABELS)
    for log_loss in (False, True):
        figure = draw.loss_surface(landscape, [Path("adam", [0, 1], [12, 14])], title="t", log_loss=log_loss)
        draw.save(figure, tmp_path / "surface.svg")
    draw.save(draw.loss_contours(landscape, [], title="t"), tmp_path / "contours.svg")


def test_the_same_surface_gives_the_same_bytes(tmp_path):
    paths = [Path("adam", [0, 1, 2], [12, 14, 13])]
    for function in (draw.loss_contours, draw.loss_surface):
        one, two = (draw.save(function(LANDSCAPE, paths, title="t"), tmp_path / f"{name}.svg") for name in "ab")
        assert one.read_bytes() == two.read_bytes()


def test_a_loss_of_the_wrong_orientation_is_refused():
    with pytest.raises(ValueError, match=r"rows are b"):
        Landscape(A, B, LOSS.T, **LABELS)
