"""Points with intervals: what is drawn is what was passed, names are legible, and nothing leaves the figure."""

import numpy as np
import pytest

from mllab.report import draw
from mllab.report.draw import points
from mllab.report.table import legible
from support.figures import NASTY, check_figure, drawn

DRAW = np.random.default_rng(0)
GRID = np.linspace(17, 80, 20)
CURVE = 1 / (1 + np.exp(-(GRID - 40) / 9))
SHARES = np.stack([CURVE, 0.7 * (1 - CURVE), 0.3 * (1 - CURVE)], axis=1)
TRUTHS = DRAW.normal(2e5, 6e4, 4000)
MIDDLES = np.quantile(TRUTHS, np.linspace(0.05, 0.95, 9))
BAND = draw.Running(MIDDLES, 0 * MIDDLES, 0 * MIDDLES - 1e4, 0 * MIDDLES + 1e4)


def test_importances_are_dots_with_intervals_from_the_top_grey_where_they_include_0(tmp_path):
    values = np.array([[3.0, 2.5, 3.5], [1.0, -0.5, 2.5], [0.5, np.nan, np.nan]])
    figure = draw.dots_with_intervals(["a", "b", "<c>"], values, title="Most: a", x_label="points", notes=["Grey: 0."])
    texts, _ = drawn(figure, tmp_path / "dots.svg")
    assert {"a", "b", "<c>", "Most: a", "points", "Grey: 0."} <= set(texts)
    lines = figure.axes[0].lines[1:]
    np.testing.assert_array_equal([line.get_xdata() for line in lines[::2]], values[:, 1:])
    np.testing.assert_array_equal([line.get_xdata()[0] for line in lines[1::2]], values[:, 0])
    colours = [line.get_color() for line in lines[1::2]]
    assert colours == [points.CERTAIN.colour, points.UNCERTAIN.colour, points.CERTAIN.colour]
    low, high = figure.axes[0].get_ylim()
    assert low > high


def test_reliability_has_the_diagonal_intervals_and_numbers_of_rows(tmp_path):
    predicted, observed = [0.1, 0.5, 0.9], [[0.2, 0.1, 0.3], [0.5, 0.4, 0.6], [0.8, 0.7, 0.9]]
    figure = draw.reliability(predicted, observed, [20, 30, 40], title="t", x_label="of yes", y_label="share of yes")
    texts, _ = drawn(figure, tmp_path / "reliability.svg")
    assert {"of yes", "share of yes", "rows", "40", "Dashed: frequencies as predicted."} <= set(texts)
    axes, strip = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    np.testing.assert_allclose(axes.lines[1].get_xydata(), np.c_[predicted, np.array(observed)[:, 0]])
    bars = np.array([path.vertices for path in axes.collections[0].get_paths()])
    np.testing.assert_allclose(bars[:, :, 1], np.array(observed)[:, 1:])
    assert [path.vertices[1, 1] for path in strip.collections[0].get_paths()] == [20, 30, 40]


def test_predictions_and_residuals_are_thinned_and_say_so(tmp_path):
    figure = draw.predicted_against_true(TRUTHS, TRUTHS + 1, title="t", x_label="x", y_label="y")
    texts, _ = drawn(figure, tmp_path / "a.svg")
    assert "2,000 of 4,000 rows are drawn." in " ".join(texts)
    diagonal, cloud = figure.axes[0].lines
    np.testing.assert_array_equal(cloud.get_xydata(), np.c_[TRUTHS, TRUTHS + 1][::2])
    assert figure.axes[0].get_xlim() == figure.axes[0].get_ylim() == tuple(diagonal.get_xdata())
    predictions = np.array([1.0, 2.0, np.inf, 4.0])
    figure = draw.residuals(predictions, predictions - 2, BAND, title="t", x_label="x", y_label="y")
    assert "drawn" not in " ".join(drawn(figure, tmp_path / "b.svg")[0])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 2, 4])
    np.testing.assert_array_equal(figure.axes[0].lines[-1].get_xydata(), np.c_[MIDDLES, 0 * MIDDLES])


def response(name="age", x=GRID, mean=CURVE, **fields):
    mean = np.asarray(mean)[: len(x)]
    return draw.Response(name, x, mean, mean - 0.1, mean + 0.1, **fields)


def test_dependence_has_a_band_for_one_curve_and_a_key_for_several(tmp_path):
    one = draw.dependence([response(unit="years"), response("sex", ["F", "M"])], title="t", y_label="probability of a")
    texts, _ = drawn(one, tmp_path / "one.svg")
    assert {"age (years)", "sex", "F", "M", "probability of a"} <= set(texts)
    curve, points_of = (axes.lines[0] for axes in one.axes)
    np.testing.assert_array_equal(curve.get_xydata(), np.c_[GRID, CURVE])
    np.testing.assert_array_equal(points_of.get_xydata(), np.c_[CURVE[:2], [0, 1]])
    assert [len(axes.collections) for axes in one.axes] == [2, 1]  # band and quantiles; bars
    several = draw.dependence([response(mean=SHARES)], title="t", y_label="probability", classes=["a", "b", NASTY[0]])
    texts, _ = drawn(several, tmp_path / "several.svg")
    assert {"a", "b", legible(NASTY[0])} <= set(texts)
    assert len(several.axes[0].lines) == 3
    assert len(several.axes[0].collections) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: draw.dots_with_intervals(["a"], np.zeros((2, 3)), title="", x_label=""), "1 names for 2 values"),
        (lambda: draw.dependence([draw.Response("age", GRID, [1], [1], [1])], title="", y_label=""), "'age'"),
        (
            lambda: draw.dependence([response(mean=np.zeros((20, 8)))], title="", y_label="", classes="abcdefgh"),
            r"\(20, 8\) means for 20 places",
        ),
    ],
)
def test_shapes_that_do_not_match_are_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


WIDE = np.linspace(-1, 30, len(NASTY))
UGLY = {
    "dots": lambda: draw.dots_with_intervals(
        NASTY, np.stack([WIDE, WIDE - 9, WIDE + 9], axis=1), title=NASTY[5], x_label=NASTY[5], notes=[NASTY[0]]
    ),
    "one dot": lambda: draw.dots_with_intervals(["a"], [[0.0, 0.0, 0.0]], title="t", x_label="x"),
    "reliability": lambda: draw.reliability(
        [0.5], [[0.5, 0.4, 0.6]], [123456], title="t", x_label=NASTY[14] * 3, y_label=NASTY[0] * 3
    ),
    "predicted": lambda: draw.predicted_against_true(
        1e6 * TRUTHS, 1e6 * TRUTHS, title="t", x_label=NASTY[14] * 2, y_label=NASTY[5]
    ),
    "equal": lambda: draw.predicted_against_true([1.0], [1.0], title="t", x_label="x", y_label="y"),
    "residuals": lambda: draw.residuals(TRUTHS, 1e-5 * TRUTHS, BAND, title="t", x_label=NASTY[5], y_label=NASTY[6]),
    "dependence": lambda: draw.dependence(
        [response(name, 1e5 * GRID, unit=NASTY[5]) for name in NASTY[:3]]
        + [response(NASTY[14], NASTY, np.linspace(0, 1, len(NASTY)))],
        title="t", y_label=NASTY[5],
    ),
    "dependence of seven": lambda: draw.dependence(
        [response(NASTY[5], mean=np.tile(CURVE[:, None], 7)), response("b", ["a"], np.ones((1, 7)))],
        title="t", y_label="probability", classes=NASTY[:7],
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("function", UGLY.values(), ids=UGLY.keys())
def test_no_text_leaves_the_figure_or_covers_another_and_the_bytes_repeat(function, tmp_path):
    check_figure(function, tmp_path / "figure.svg")
