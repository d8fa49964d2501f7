import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.isotonic import IsotonicRegression

from mllab.errors import UserError
from mllab.report import figures, layout
from mllab.report.figures import Panel, Series

NINE = ["sgd", "momentum", "rmsprop", "adam", "nesterov", "adagrad", "adadelta", "adamax", "nadam"]
RATES = np.logspace(-4, 0, 8)


def texts(figure, tmp_path):
    """Return what an SVG says, whitespace joined; it must parse as XML."""
    root = ElementTree.parse(figures.save(figure, tmp_path / "figure.svg")).getroot()
    return ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]


def losses(names, points=40):
    steps = np.arange(1, points + 1) * 22
    made = []
    for index, name in enumerate(names):
        mean = 2.3 * np.exp(-steps / (60 + 25 * index)) + 0.05
        made.append(Series(name, steps, mean, 0.8 * mean, 1.2 * mean))
    return made


def scores(names):
    made = []
    for index, name in enumerate(names):
        mean = 0.97 - 0.03 * (np.log10(RATES) + 3 - index / 4) ** 2
        diverged = np.where(RATES > 0.2, 1 + index % 3, 0)
        mean = np.where(diverged == 3, np.nan, mean)
        made.append(
            Series(name, RATES, mean, mean - 0.01, mean + 0.01, best=RATES[np.nanargmax(mean)], diverged=diverged)
        )
    return made


def race_figures(names):
    return (
        figures.curves(losses(names), title="Loss", x_label="step", y_label="loss (nats)", log_y=True, seeds=3),
        figures.against_rate(scores(names), title="Rates", y_label="accuracy", seeds=3),
    )


def descent(names):
    steps = np.arange(50)
    quantities = ["gradient of a (y per x)", "a (y per x)", "loss (y²)"]
    series = [Series(name, steps, np.exp(-steps / (5 + index))) for index, name in enumerate(names)]
    return figures.against_step([Panel(quantity, series) for quantity in quantities], title="Descent")


def fit(names):
    x = np.linspace(-20, 20, 100)
    lines = [Series(name, x[[0, -1]], 2 * x[[0, -1]] + 25) for name in names]
    return figures.fitted_line(x, 2 * x + 25, lines, title="Fit", x_label="area (m²)", y_label="price (k$)")


def test_figures_name_curves_axes_units_and_seeds(tmp_path):
    loss, rate = race_figures(NINE)
    said = texts(loss, tmp_path)
    assert {*NINE, "Loss", "step", "loss (nats)", "Lines: means; bands: 95% intervals over 3 seeds."} <= set(said)
    said = texts(rate, tmp_path)
    assert {*NINE, "Rates", "learning rate, log scale", "accuracy", "0.0001", "0.01", "1"} <= set(said)
    assert "Filled marker: the rate chosen." in " ".join(said)
    assert {"area (m²)", "price (k$)", "Points: 100 examples.", *NINE} <= set(texts(fit(NINE), tmp_path))
    assert {"gradient of a (y per x)", "a (y per x)", "loss (y²)", "step", *NINE} <= set(texts(descent(NINE), tmp_path))


@pytest.mark.parametrize("names", [NINE[:4], NINE, ["a_model_of_my_own_with_a_long_name_indeed", *NINE[:7]]], ids=len)
@pytest.mark.parametrize(
    "draw", [lambda names: race_figures(names)[0], lambda names: race_figures(names)[1], fit, descent]
)
def test_no_text_leaves_the_figure_or_covers_another(draw, names):
    figure = draw(names)
    figure.set_dpi(288)  # fine enough that letters need no rounding to pixels
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.bbox.size
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    assert len(boxes) >= len(names) + 2
    for index, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text  # noqa: PT018
        for other, beside in boxes[:index]:
            assert not box.shrunk(0.98, 0.7).overlaps(beside.shrunk(0.98, 0.7)), (text, other)


def test_lost_lanes_are_counted_at_their_rate(tmp_path):
    _, rate = race_figures(NINE[:4])
    said = texts(rate, tmp_path)
    assert "× a diverged lane, of 3 at each rate" in said
    # sgd loses 1 lane at the last two rates that are above 0.2, momentum 2, rmsprop 3, adam 1.
    assert {crosses: said.count(crosses) for crosses in ("×", "××", "×××")} == {"×": 4, "××": 2, "×××": 2}
    many = Series("adam", RATES, np.ones(8), diverged=np.full(8, 12))
    assert texts(figures.against_rate([many], title="", y_label=""), tmp_path).count("12×") == 8
    none = Series("adam", RATES, np.ones(8), diverged=np.zeros(8, int))
    assert not any("diverged" in text for text in texts(figures.against_rate([none], title="", y_label=""), tmp_path))


@pytest.mark.parametrize(
    ("means", "higher_is_better", "inside", "note"),
    [
        ([0.9, 0.95, 0.97, 0.97, 0.96, 0.95, 0.97, 0.1], True, (0.9, 0.97), "▼: below the frame."),
        ([30.0, 29, 28, 28, 27, 28, 29, 1e6], False, (27, 30), "▲: above the frame."),
        ([0.5, 0.6, 0.7, 0.8, 0.9, 0.8, 0.7, 0.6], True, (0.5, 0.9), None),
        ([30.0, 29, 28, 28, 27, 28, 29, np.inf], False, (27, 30), None),
    ],
)
def test_scores_far_worse_than_most_do_not_crush_the_range(tmp_path, means, higher_is_better, inside, note):
    series = [Series("sgd", RATES, means)]
    figure = figures.against_rate(series, title="", y_label="", higher_is_better=higher_is_better)
    low, high = figure.axes[0].get_ylim()
    assert low < inside[0]
    assert inside[1] < high
    assert high - low < 1.3 * (inside[1] - inside[0])
    arrows = [line for line in figure.axes[0].lines if line.get_marker() in ("v", "^") and line.get_clip_on() is False]
    assert sum(len(line.get_xdata()) for line in arrows) == (note is not None)
    assert any(text.startswith(("▼", "▲")) for text in " ".join(texts(figure, tmp_path)).split()) == (note is not None)


def test_a_rate_that_lost_lanes_does_not_widen_the_range():
    means, lost = [0.97, 0.96, 0.95, 0.96, 0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0, 3, 3, 3, 2]
    figure = figures.against_rate([Series("adam", RATES, means, diverged=lost)], title="", y_label="")
    assert 0.9 < figure.axes[0].get_ylim()[0] < 0.95
    figure = figures.against_rate([Series("adam", RATES, means)], title="", y_label="")
    assert figure.axes[0].get_ylim()[0] < 0.1


@pytest.mark.parametrize("log_y", [False, True])
def test_a_curve_that_diverges_does_not_crush_the_others(tmp_path, log_y):
    steps = np.arange(100.0)
    wild = Series("sgd", steps, 2.0 ** np.minimum(steps, 90))
    figure = figures.curves(
        [wild, *losses(NINE[1:4])], title="", x_label="step", y_label="loss", log_y=log_y, note="One split."
    )
    assert 2.3 < figure.axes[0].get_ylim()[1] < 10
    assert "Curves that leave the frame grow far beyond it. One split." in " ".join(texts(figure, tmp_path))
    tame = figures.curves(losses(NINE[:4]), title="", x_label="step", y_label="loss", log_y=log_y)
    assert "leave the frame" not in " ".join(texts(tame, tmp_path))


POINTS = {
    "nothing": ([], []),
    "one point": ([3], [0.5]),
    "only NaN": ([1, 2, 3], [np.nan] * 3),
    "a gap": ([1, 2, 3, 4, 5], [1, np.nan, 2, np.nan, np.nan]),
    "infinite": ([1, 2, 3], [1, np.inf, -np.inf]),
    "huge": ([1, 2, 3], [1, 1e38, 1e300]),
    "constant": ([1, 2, 3], [0.0, 0.0, 0.0]),
    "negative": ([1, 2, 3], [-1.0, -2.0, -3.0]),
    "tiny": ([1, 2, 3], [1e-30, 1e-32, 1e-31]),
}


@pytest.mark.parametrize("points", POINTS.values(), ids=POINTS.keys())
def test_any_numbers_can_be_drawn(tmp_path, points):
    x, mean = points
    mean = np.asarray(mean, float)
    one = Series("adam", x, mean, mean - 0.1, mean + 0.1, best=3, diverged=np.full(len(x), 1))
    for log_y in (False, True):
        assert "adam" in texts(figures.curves([one], title="t", x_label="x", y_label="y", log_y=log_y), tmp_path)
        panels = [Panel("loss", [one], log_y), Panel("empty", [])]
        assert "adam" in texts(figures.against_step(panels, title="t"), tmp_path)
    assert "adam" in texts(figures.against_rate([one], title="t", y_label="y"), tmp_path)
    assert "adam" in texts(figures.fitted_line([1, 2], [1, 2], [one], title="t", x_label="x", y_label="y"), tmp_path)
    assert texts(figures.curves([], title="t", x_label="x", y_label="y"), tmp_path)


def test_names_of_users_are_neither_markup_nor_formulas(tmp_path):
    nasty = ["<script>alert(1)</script>", "$\\frac{", 'a "b" & c', "price $ per $"]
    figure = figures.curves(
        [Series(name, [1, 2], [1, 2]) for name in nasty], title=nasty[1], x_label=nasty[0], y_label=""
    )
    said = texts(figure, tmp_path)
    assert set(nasty) <= set(said)
    assert "<script" not in (tmp_path / "figure.svg").read_text()


DRAW = """
import numpy as np
from mllab.report import figures
x = np.arange(1, 9)
made = [figures.Series(name, x, np.sin(x * k), best=3, diverged=x % 2) for k, name in enumerate(["adam", "mine"])]
figures.save(figures.curves(made, title="t", x_label="x", y_label="y"), f"{folder}/curves.svg")
figures.save(figures.against_rate(made, title="t", y_label="y"), f"{folder}/rates.svg")
"""


def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    subprocess.run([sys.executable, "-c", f"folder = {str(there)!r}\n{DRAW}"], check=True)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.fonttype": "path", "axes.grid": True}):
        exec(DRAW, {"folder": str(here)})
    assert len(list(here.iterdir())) == 2
    for path in here.iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes()
        assert b"<dc:date>" not in path.read_bytes()


def test_drawing_leaves_no_trace_in_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    for figure in race_figures(NINE[:2]):
        figures.save(figure, tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.svg or \.png"):
        figures.save(Figure(), tmp_path / "figure.jpg")
    assert not list(tmp_path.iterdir())


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"'adam': low has shape \(1,\), x has \(2,\)"):
        Series("adam", [1, 2], [1, 2], low=[1])


@given(
    st.lists(st.floats(0, 200), min_size=1, max_size=12).map(sorted),
    st.floats(1, 15),
)
def test_names_move_apart_as_little_as_possible(heights, gap):
    moved = np.array(layout.spread(heights, gap, 0.0, 200.0))
    ranks = np.arange(len(heights))
    room = 200.0 - gap * (len(heights) - 1)
    isotonic = IsotonicRegression(y_min=0.0, y_max=room)  # heights less their ranks' gaps must not fall
    expected = isotonic.fit_transform(ranks, np.array(heights) - gap * ranks) + gap * ranks
    np.testing.assert_allclose(moved, expected, atol=1e-6)
