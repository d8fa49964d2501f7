import itertools
import subprocess
import sys
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from mllab.errors import UserError
from mllab.report import draw
from mllab.report.draw import Panel, Series, base
from mllab.report.style import BLACK, DASHED, OPTIMIZERS, Style, style
from support.figures import check_figure

NAMES = list(OPTIMIZERS)
LONG = ["a_model_of_my_own_with_a_long_name_indeed", *NAMES[:7]]
RATES = np.logspace(-4, 0, 8)
LABELS = {"title": "t", "x_label": "x", "y_label": "y"}


def texts(figure, tmp_path):
    """The texts of a figure's SVG, which must parse as XML."""
    root = ElementTree.parse(draw.save(figure, tmp_path / "figure.svg")).getroot()
    return ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]


def losses(names, points=40):
    steps = np.arange(1, points + 1) * 22
    for index, name in enumerate(names):
        mean = 2.3 * np.exp(-steps / (60 + 25 * index)) + 0.05
        yield Series(name, steps, mean, 0.8 * mean, 1.2 * mean)


def scores(names):
    for index, name in enumerate(names):
        mean = 0.97 - 0.03 * (np.log10(RATES) + 3 - index / 4) ** 2
        diverged = np.where(RATES > 0.2, 1 + index % 3, 0)
        mean = np.where(diverged == 3, np.nan, mean)
        best = RATES[np.nanargmax(mean)]
        yield Series(name, RATES, mean, mean - 0.01, mean + 0.01, best=best, nonfinite=diverged // 2, failed=diverged)


def loss_figure(names, **changes):
    given = {"title": "Loss", "x_label": "step", "y_label": "loss (nats)", "log_y": True, "over": "3 seeds"}
    return draw.curves(list(losses(names)), **given | changes)


def rate_figure(names):
    return draw.against_rate(list(scores(names)), title="Rates", y_label="accuracy", over="3 seeds")


def panel_figure(names):
    steps = np.arange(50)
    quantities = ["gradient of a (y per x)", "a (y per x)", "distance to the closed form, log scale"]
    series = [Series(name, steps, np.exp(-steps / (5 + index))) for index, name in enumerate(names)]
    return draw.panels(
        [Panel(quantity, series, quantity.endswith("scale")) for quantity in quantities], title="Descent"
    )


def fit_figure(names):
    x = np.linspace(-20, 20, 100)
    lines = [Series(name, x[[0, -1]], 2 * x[[0, -1]] + 25) for name in names]
    return draw.fitted_line(x, 2 * x + 25, lines, title="Fit", x_label="area (m²)", y_label="price (k$)")


def test_figures_name_curves_axes_units_and_seeds(tmp_path):
    nine = NAMES[:9]
    shown = texts(loss_figure(nine), tmp_path)
    assert {*nine, "Loss", "step", "loss (nats)", "Lines: means; bands: 95% intervals over 3 seeds."} <= set(shown)
    shown = texts(rate_figure(nine), tmp_path)
    assert {*nine, "Rates", "learning rate, log scale", "accuracy", "0.0001", "0.01", "1"} <= set(shown)
    assert "Filled marker: the rate chosen." in " ".join(shown)
    assert {"area (m²)", "price (k$)", "Points: 100 examples.", *nine} <= set(texts(fit_figure(nine), tmp_path))
    shown = texts(panel_figure(nine), tmp_path)
    assert {"gradient of a (y per x)", "a (y per x)", "step", *nine} <= set(shown)
    assert all(shown.count(name) == 1 for name in nine)  # one key for all panels
    assert "distance to the closed form, log scale" in " ".join(shown)


@pytest.mark.slow
@pytest.mark.parametrize("names", [NAMES[:4], NAMES[:9], LONG, NAMES[:15]], ids=len)
@pytest.mark.parametrize("function", [loss_figure, rate_figure, fit_figure, panel_figure])
def test_no_text_leaves_the_figure_or_covers_another_or_is_too_small(function, names):
    figure = function(names)
    figure.set_dpi(288)  # fine enough that letters need no rounding to pixels
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    width, height = figure.bbox.size
    ticks = {text: axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in axis.get_ticklabels()}
    boxes = []
    for text in figure.findobj(Text):
        box = text.get_window_extent(renderer)
        if not text.get_visible() or not text.get_text().strip():
            continue
        if text in ticks:
            frame = ticks[text].axes.get_window_extent(renderer).padded(3)
            middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
            across = ticks[text].axis_name == "x"
            low, high = (frame.x0, frame.x1) if across else (frame.y0, frame.y1)
            if not low <= middle[0 if across else 1] <= high:
                continue  # a tick beyond the range is not drawn
        boxes.append((text.get_text(), box))
        assert text.get_fontsize() >= 6.5
    assert len(boxes) >= len(names) + 2
    for text, box in boxes:
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text  # noqa: PT018
    for (text, box), (other, beside) in itertools.combinations(boxes, 2):
        assert not box.shrunk(0.98, 0.7).overlaps(beside.shrunk(0.98, 0.7)), (text, other)


def test_a_band_is_the_interval_and_a_lone_point_has_a_bar():
    x, low, high = np.arange(4.0), np.array([0.0, 1, np.nan, 3]), np.array([2.0, 3, np.nan, 5])
    mean = np.array([1.0, 2, np.nan, 4])
    axes = draw.curves([Series("adam", x, mean, low, high)], **LABELS, over="3 seeds").axes[0]
    (band,) = [each for each in axes.collections if isinstance(each, PolyCollection)]
    corners = {tuple(point) for path in band.get_paths() for point in path.vertices}
    assert {(0.0, 0.0), (1.0, 1.0), (1.0, 3.0), (0.0, 2.0)} <= corners
    (bar,) = [path.vertices.tolist() for each in axes.collections if each is not band for path in each.get_paths()]
    assert bar == [[3.0, 3.0], [3.0, 5.0]]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), mean)


def test_a_band_needs_to_say_over_what_and_none_is_drawn_without_bounds(tmp_path):
    with pytest.raises(ValueError, match="over='3 seeds'"):
        draw.curves([Series("adam", [1, 2], [1, 2], [0, 1], [2, 3])], **LABELS)
    unbounded = Series.of_intervals("adam", [1, 2], [(1.0, None, None), (2.0, None, None)])
    figure = draw.curves([unbounded], **LABELS)
    assert not figure.axes[0].collections
    assert not any("interval" in text for text in texts(figure, tmp_path))
    assert "Line: mean over 3 seeds." in texts(draw.curves([unbounded], **LABELS, over="3 seeds"), tmp_path)
    assert not any("mean" in text for text in texts(draw.curves([unbounded], **LABELS, over="1 seed"), tmp_path))


def test_intervals_become_a_series():
    intervals = [(0.97, 0.95, 0.99, 5), (0.99, 0.97, 1.01, 5), (None, None, None, 0)]
    series = Series.of_intervals("knn", [1, 2, 3], intervals, scale=100, limits=(0, 100), best=2)
    np.testing.assert_allclose(series.mean, [97, 99, np.nan])
    np.testing.assert_allclose(series.low, [95, 97, np.nan])
    np.testing.assert_allclose(series.high, [99, 100, np.nan])
    assert series.best == 2


def test_a_style_of_ones_own_takes_the_place_of_the_names(tmp_path):
    own = Style(BLACK, DASHED, "")
    assert Series("adam", [1], [1]).look == style("adam")
    assert Series("the best", [1], [1], name="adam").look == style("adam")
    line = draw.curves([Series("adam", [1, 2], [1, 2], style=own)], **LABELS).axes[0].lines[0]
    assert (line.get_color(), line.get_marker()) == (BLACK, "")


def test_a_line_chart_takes_scales_marks_and_a_bar(tmp_path):
    x = np.array([10.0, 100, 1000, 10_000])
    series = [Series("", x, [70, 80, 90, 95], name="knn", best=1000), Series("adam", x, [60, 75, 85, 94])]
    figure = draw.curves(series, **LABELS, log_x=True, markers=False, bar=(100, 75, 80))
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] < 10 < 10_000 < axes.get_xlim()[1]
    drawn = [(line.get_marker(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
    assert ("h", [1000.0], [90.0]) in drawn
    assert ("_", [100, 100], [75, 80]) in [(marker, list(x), list(y)) for marker, x, y in drawn]
    assert sum(marker not in ("", "None", "h", "_") for marker, *_ in drawn) == 0
    shown = texts(figure, tmp_path)
    assert "adam" in shown
    assert "" not in shown
    whole = draw.curves([Series("a", [1, 2, 3], [1, 2, 3])], **LABELS, integer_x=True)
    assert [text for text in texts(whole, tmp_path) if text in ("1", "2", "3", "1.5")][:3] == ["1", "2", "3"]
    assert all(tick == round(tick) for tick in whole.axes[0].get_xticks())


def test_lost_lanes_are_counted_at_their_rate_by_kind(tmp_path):
    shown = texts(rate_figure(NAMES[:4]), tmp_path)
    assert "diverged lanes, of 3 seeds at each rate: × non-finite, ○ no better than chance" in " ".join(shown)
    # At the two rates above 0.2 sgd and adam lose 1 lane, momentum 1 of 3, rmsprop 1 of 4 to non-finite numbers.
    assert {text: shown.count(text) for text in ("○", "× ○2", "× ○3")} == {"○": 4, "× ○2": 2, "× ○3": 2}
    kinds = {"nonfinite": "× non-finite", "failed": "○ no better than chance"}
    for kind, name in kinds.items():
        one = Series("adam", RATES, np.ones(8), **{kind: np.full(8, 12)})
        shown = texts(draw.against_rate([one], title="", y_label=""), tmp_path)
        assert shown.count(f"{name[0]}12") == 8
        assert f"diverged lanes: {name}" in shown
    none = Series("adam", RATES, np.ones(8), nonfinite=np.zeros(8, int))
    figure = draw.against_rate([none], title="", y_label="")
    assert len(figure.axes) == 1
    assert not any("diverged" in text for text in texts(figure, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "lanes", "mark"), [(5, 5, "×5 ○5"), (8, 10, "×10 ○10"), (8, 100, "×○"), (40, 5, "×")]
)
def test_marks_of_lost_lanes_never_overlap(count, lanes, mark, tmp_path):
    rates = np.logspace(-4, 0, count)
    series = [
        Series(name, rates, np.ones(count), nonfinite=np.full(count, lanes), failed=np.full(count, lanes))
        for name in NAMES[:3]
    ]
    path = tmp_path / "figure.svg"
    check_figure(lambda: draw.against_rate(series, title="", y_label="", over="200 seeds"), path)
    assert texts(draw.against_rate(series, title="", y_label=""), tmp_path).count(mark) == 3 * count


@pytest.mark.parametrize(
    ("means", "inside", "is_cut"),
    [
        ([0.9, 0.95, 0.97, 0.97, 0.96, 0.95, 0.97, 0.1], (0.9, 0.97), True),
        ([-30.0, -29, -28, -28, -27, -28, -29, -1e6], (-30, -27), True),
        ([0.5, 0.6, 0.7, 0.8, 0.9, 0.8, 0.7, 0.6], (0.5, 0.9), False),
        ([-30.0, -29, -28, -28, -27, -28, -29, -np.inf], (-30, -27), False),
    ],
)
def test_scores_far_worse_than_most_do_not_crush_the_range(tmp_path, means, inside, is_cut):
    figure = draw.against_rate([Series("sgd", RATES, means)], title="", y_label="")
    low, high = figure.axes[0].get_ylim()
    assert low < inside[0]
    assert inside[1] < high
    assert high - low < 1.3 * (inside[1] - inside[0])
    arrows = [line for line in figure.axes[0].lines if line.get_marker() == "v" and line.get_clip_on() is False]
    assert sum(len(line.get_xdata()) for line in arrows) == is_cut
    assert ("▼: below the frame." in " ".join(texts(figure, tmp_path))) == is_cut


def test_a_rate_that_lost_lanes_does_not_widen_the_range():
    means, lost = [0.97, 0.96, 0.95, 0.96, 0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0, 3, 3, 3, 2]
    figure = draw.against_rate([Series("adam", RATES, means, failed=lost)], title="", y_label="")
    assert 0.9 < figure.axes[0].get_ylim()[0] < 0.95
    figure = draw.against_rate([Series("adam", RATES, means)], title="", y_label="")
    assert figure.axes[0].get_ylim()[0] < 0.1


@pytest.mark.parametrize("log_y", [False, True])
def test_a_curve_that_diverges_does_not_crush_the_others(tmp_path, log_y):
    steps = np.arange(100.0)
    wild = Series("sgd", steps, 2.0 ** np.minimum(steps, 90))
    labels = {"title": "", "x_label": "step", "y_label": "loss", "log_y": log_y, "over": "3 seeds"}
    figure = draw.curves([wild, *losses(NAMES[1:4])], **labels, note="One split.")
    assert 2.3 < figure.axes[0].get_ylim()[1] < 10
    assert "Curves that leave the frame grow far beyond it. One split." in " ".join(texts(figure, tmp_path))
    tame = draw.curves(list(losses(NAMES[:4])), **labels)
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


@pytest.mark.slow
@pytest.mark.parametrize("points", POINTS.values(), ids=POINTS.keys())
def test_any_numbers_can_be_drawn(tmp_path, points):
    x, mean = points
    mean = np.asarray(mean, float)
    one = Series("adam", x, mean, mean - 0.1, mean + 0.1, best=3, nonfinite=np.full(len(x), 1))
    for log in (False, True):
        figure = draw.curves([one], **LABELS, log_x=log, log_y=log, over="3 seeds")
        assert "adam" in texts(figure, tmp_path)
        panels = [Panel("loss", [one], log), Panel("empty", [])]
        assert "adam" in texts(draw.panels(panels, title="t", over="3 seeds"), tmp_path)
    assert "adam" in texts(draw.against_rate([one], title="t", y_label="y", over="3 seeds"), tmp_path)
    assert "adam" in texts(draw.fitted_line([1, 2], [1, 2], [one], **LABELS), tmp_path)
    assert texts(draw.curves([], **LABELS), tmp_path)


def test_names_of_users_are_neither_markup_nor_formulas(tmp_path):
    nasty = ["<script>alert(1)</script>", "$\\frac{", 'a "b" & c', "price $ per $"]
    series = [Series(name, [1, 2], [1, 2]) for name in nasty]
    shown = texts(draw.curves(series, title=nasty[1], x_label=nasty[0], y_label=""), tmp_path)
    assert {nasty[1], nasty[2], nasty[3], nasty[0]} <= set(shown)
    assert "<script" not in (tmp_path / "figure.svg").read_text()


def test_a_very_long_title_and_a_word_without_end_are_wrapped(tmp_path):
    title = "word " * 40 + "x" * 200
    shown = texts(draw.curves([Series("a", [1, 2], [1, 2])], title=title, x_label="", y_label="", note=title), tmp_path)
    lines = [text for text in shown if "word" in text or "xxx" in text]
    assert len(lines) > 6
    assert "".join(lines).replace(" ", "") == 2 * title.replace(" ", "")
    assert max(base.text_width(line, base.TITLE, "bold") for line in lines[:4]) <= 72 * base.WIDTH - 2 * base.EDGE


def test_an_interval_is_not_broken_over_two_lines():
    for words in range(1, 40):
        text = "a " * words + "0.9677 ± 0.0019"
        wrapped = base.wrap(text, base.NOTE, room=150)
        assert "0.9677 ± 0.0019" in wrapped.split("\n")[-1]
        assert " ".join(wrapped.split("\n")) == text


@pytest.mark.parametrize(("low", "high"), [(6, 12), (0.3, 0.9), (2, 9), (3, 30), (1, 1e4)])
def test_a_log_axis_has_several_ticks_however_short_it_is(low, high, tmp_path):
    figure = draw.curves([Series("a", [low, high], [low, high])], **LABELS, log_x=True, log_y=True)
    shown = texts(figure, tmp_path)
    figure.draw_without_rendering()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        left, right = sorted(axis.get_view_interval())
        ticks = [
            text.get_text()
            for tick, text in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
            if left <= tick <= right
        ]
        assert 2 <= len(ticks) <= 9
        assert set(ticks) <= set(shown)


DRAW = """
import numpy as np
from mllab.report import draw
x = np.arange(1, 9)
made = [draw.Series(name, x, np.sin(x * k), best=3, failed=x % 2) for k, name in enumerate(["adam", "mine"])]
draw.save(draw.curves(made, title="t", x_label="x", y_label="y"), f"{folder}/curves.svg")
draw.save(draw.against_rate(made, title="t", y_label="y"), f"{folder}/rates.svg")
draw.save(draw.panels([draw.Panel("y", made)], title="t"), f"{folder}/panels.svg")
"""


@pytest.mark.slow
def test_the_same_input_gives_the_same_bytes_whatever_the_users_settings(tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    subprocess.run([sys.executable, "-c", f"folder = {str(there)!r}\n{DRAW}"], check=True)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "svg.fonttype": "path", "axes.grid": True}):
        exec(DRAW, {"folder": str(here)})
    assert len(list(here.iterdir())) == 3
    for path in here.iterdir():
        assert path.read_bytes() == (there / path.name).read_bytes()
        assert b"<dc:date>" not in path.read_bytes()


@pytest.mark.slow
def test_a_figure_can_be_saved_again_and_in_another_format_first(tmp_path):
    one, other = rate_figure(NAMES[:4]), rate_figure(NAMES[:4])
    first = draw.save(one, tmp_path / "first.svg").read_bytes()
    assert draw.save(one, tmp_path / "again.svg").read_bytes() == first
    assert draw.save(other, tmp_path / "other.png").read_bytes().startswith(b"\x89PNG")
    assert draw.save(other, tmp_path / "other.svg").read_bytes() == first


def test_drawing_leaves_no_trace_in_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    for figure in (loss_figure(NAMES[:2]), rate_figure(NAMES[:2])):
        draw.save(figure, tmp_path / "figure.png")
    assert dict(matplotlib.rcParams) == before


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"\.svg or \.png"):
        draw.save(Figure(), tmp_path / "figure.jpg")
    assert not list(tmp_path.iterdir())


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"'adam': low has shape \(1,\), x has \(2,\)"):
        Series("adam", [1, 2], [1, 2], low=[1])


def test_a_label_stands_at_the_height_where_its_curve_ends():
    figure = draw.curves([Series("adam", [0, 1], [0, 0.25]), Series("sgd", [0, 1], [0, 1.0])], **LABELS)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    heights = {}
    for text in axes.findobj(Text):
        if text.get_text() in ("adam", "sgd"):
            box = text.get_window_extent()
            heights[text.get_text()] = (box.y0 + box.y1) / 2
            assert box.x0 > axes.get_window_extent().x1
    for name, end in (("adam", 0.25), ("sgd", 1.0)):
        assert heights[name] == pytest.approx(axes.transData.transform((1, end))[1], abs=6)


@given(
    st.lists(st.floats(0, 200), min_size=1, max_size=12).map(sorted),
    st.floats(1, 15),
)
def test_names_move_apart_as_little_as_possible(heights, gap):
    moved = np.array(base.spread(heights, gap, 0.0, 200.0))
    # Heights less their ranks' gaps must not fall: isotonic regression, by its minimax formula.
    free, order = np.array(heights) - gap * np.arange(len(heights)), range(len(heights))
    fitted = [max(min(free[i : j + 1].mean() for j in order[k:]) for i in order[: k + 1]) for k in order]
    expected = np.clip(fitted, 0, 200.0 - gap * order[-1]) + gap * np.array(order)
    np.testing.assert_allclose(moved, expected, atol=1e-6)
