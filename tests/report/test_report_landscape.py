import itertools
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from mllab.report import figures, landscape
from mllab.report.landscape import Path

A = np.linspace(-2.0, 4.0, 31)
B = np.linspace(10.0, 20.0, 41)
LOSS = (A - 1) ** 2 + 0.5 * (B[:, None] - 14) ** 2 + 0.1
LABELS = {"title": "t", "a_label": "a (y per x)", "b_label": "b (y)", "loss_label": "mean squared error (y²)"}

points = st.lists(st.tuples(st.floats(-8, 10), st.floats(0, 30)), min_size=1, max_size=12)


def inside(path):
    return (path[:, 0] >= -2) & (path[:, 0] <= 4) & (path[:, 1] >= 10) & (path[:, 1] <= 20)


def length(path):
    return np.hypot(*np.diff(path, axis=0).T).sum()


@settings(max_examples=50)
@given(points)
def test_a_cut_path_is_what_of_it_is_inside_the_frame(walk):
    walk = np.array(walk)
    seen = landscape.cut(Path("sgd", *walk.T), A, B)
    for piece in seen.pieces:
        assert np.all(piece >= [-2 - 1e-9, 10 - 1e-9])
        assert np.all(piece <= [4 + 1e-9, 20 + 1e-9])
    # Brute force: walk in 2,000 small paces a step, and add those that begin inside.
    fine = 2000
    steps = [np.linspace(one, two, fine, endpoint=False) for one, two in itertools.pairwise(walk)]
    paces = np.concatenate([*steps, walk[-1:]])
    expected = sum(np.hypot(*(paces[1:] - paces[:-1])[inside(paces[:-1])].T))
    longest = max([0.0, *np.hypot(*np.diff(walk, axis=0).T)])
    assert sum(map(length, seen.pieces)) == pytest.approx(expected, abs=2 * longest * len(walk) / fine + 1e-6)
    outside = np.flatnonzero(~inside(walk))
    assert seen.left == (outside[0] if outside.size else None)
    assert (seen.end is not None) == inside(walk)[-1]


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ([0, 1], [14, 14], "sgd"),
        ([0, 9, 12], [14, 14, 14], "sgd (leaves at step 1)"),
        ([0, 1, 9, 1], [14, 14, 14, 14], "sgd (leaves at step 2, returns)"),
        ([0, 1, np.nan, np.nan], [14, 14, 14, 14], "sgd (leaves at step 2)"),
        ([0, -1e9, 1e18, -1e27, np.inf], [14, 1e9, -1e18, 1e27, 0], "sgd (leaves at step 1)"),
        ([9, 10], [14, 14], "sgd (leaves at step 0)"),
        ([], [], "sgd"),
    ],
)
def test_a_name_tells_when_its_path_leaves_and_a_mark_shows_where(tmp_path, a, b, told):
    path = Path("sgd", np.array(a, float), np.array(b, float))
    seen = landscape.cut(path, A, B)
    assert seen.told("sgd") == told
    for draw in (landscape.loss_contours, landscape.loss_surface):
        figure = draw(A, B, LOSS, [path], optimum=(1.0, 14.0), **LABELS)
        root = ElementTree.parse(figures.save(figure, tmp_path / "figure.svg")).getroot()
        said = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
        assert {told, "t", "a (y per x)", "b (y)"} <= set(said)
        assert any("mean squared error (y²)" in text for text in said)
        assert ("leaves the frame" in " ".join(said)) == bool(seen.exits)
        marks = [
            line for line in figure.axes[0].lines if line.get_marker() == "X" or isinstance(line.get_marker(), tuple)
        ]
        assert len(marks) == len(seen.exits)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-2, 4), st.floats(10, 20)), min_size=1, max_size=20))
def test_a_path_lies_on_the_surface(walk):
    expected = RegularGridInterpolator((B, A), LOSS)(np.array(walk)[:, ::-1])
    np.testing.assert_allclose(landscape._height_at(np.array(walk), A, B, LOSS), expected, atol=1e-9)


@pytest.mark.parametrize(
    "loss", [np.zeros_like(LOSS), LOSS * 1e12, LOSS - LOSS.min(), -LOSS], ids=["plain", "huge", "to zero", "negative"]
)
def test_any_loss_can_be_drawn(tmp_path, loss):
    for log_loss in (False, True):
        figure = landscape.loss_surface(A, B, loss, [Path("adam", [0, 1], [12, 14])], log_loss=log_loss, **LABELS)
        figures.save(figure, tmp_path / "surface.svg")
    figures.save(landscape.loss_contours(A, B, loss, [], **LABELS), tmp_path / "contours.svg")


def test_a_loss_that_lies_the_wrong_way_is_refused():
    with pytest.raises(ValueError, match=r"rows go with b"):
        landscape.loss_contours(A, B, LOSS.T, [], **LABELS)
