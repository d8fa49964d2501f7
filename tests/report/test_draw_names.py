"""Any name in any place of any drawing: no warning, well-formed SVG, every text inside the figure."""

import warnings

import numpy as np
import pytest

from mllab.report import draw
from mllab.report.table import legible
from support.figures import NASTY, check_figure

X = np.arange(1.0, 6.0)
IMAGES = np.zeros((3, 4, 4, 1))
POINTS = np.random.default_rng(0).normal(size=(12, 2))
LABELS = np.arange(12) % 3
MESH = draw.mesh(POINTS, 20)
CLASSES = np.arange(3)


def series(name):
    return [draw.Series(label, X, X, X - 1, X + 1, best=3, failed=X > 4) for label in (name, "adam")]


def landscape(name):
    return draw.Landscape(X, X, X * X[:, None], name, name, name, (2.0, 2.0))


def mixture(name):
    return draw.Mixture(name, POINTS[:3], np.stack([np.eye(2)] * 3), CLASSES)


FUNCTIONS = {  # each puts a name wherever its figure takes a text
    draw.curves: lambda name: draw.curves(
        series(name), title=name, x_label=name, y_label=name, over="3 seeds", note=name
    ),
    draw.panels: lambda name: draw.panels(
        [draw.Panel(name, series(name))] * 3, title=name, x_label=name, over="3 seeds", note=name
    ),
    draw.against_rate: lambda name: draw.against_rate(series(name), title=name, y_label=name, over="3 seeds"),
    draw.fitted_line: lambda name: draw.fitted_line(
        X, X, series(name), title=name, x_label=name, y_label=name, note=name
    ),
    draw.alignment: lambda name: draw.alignment([name, "a", name], [name, "b"], np.full((2, 3), 0.3), title=name),
    draw.accuracy_by_setting: lambda name: draw.accuracy_by_setting(
        [draw.Grid(name, np.eye(2), (0, 0), [1, 2])] * 2, [1, 2], title=name, note=name
    ),
    draw.successes: lambda name: draw.successes(
        [draw.Shares(name, [name, "a"], np.eye(2), 2)] * 2, [name, "b"], title=name, x_label=legible(name), notes=[name]
    ),
    draw.states: lambda name: draw.states(
        draw.Trace(np.eye(5), name, X, np.where(X > 3, X, np.nan), np.eye(5)),
        title=name, y_label=name, x_label=legible(name), notes=[name],
    ),
    draw.confusion: lambda name: draw.confusion(np.eye(3), [name, "a", name], title=name),
    draw.contingency: lambda name: draw.contingency(np.eye(3), [name, "a", name], [name, "b", name], title=name),
    draw.feature_maps: lambda name: draw.feature_maps(IMAGES[0], [(name, IMAGES[0])], title=name, caption=name),
    draw.filters: lambda name: draw.filters(np.ones((2, 2, 1, 3)), title=name, names=[name] * 3),
    draw.mistakes: lambda name: draw.mistakes(IMAGES, CLASSES, CLASSES[::-1], [0.5] * 3, [name] * 3, title=name),
    draw.neighbours: lambda name: draw.neighbours(
        IMAGES, CLASSES, CLASSES[::-1], np.zeros((3, 7, 4, 4, 1)), np.zeros((3, 7), int), [name] * 3, title=name
    ),
    draw.saliency: lambda name: draw.saliency(IMAGES, IMAGES, CLASSES, CLASSES[::-1], [name] * 3, title=name),
    draw.side_by_side: lambda name: draw.side_by_side(IMAGES, [name] * 3, title=name, columns=3),
    draw.boundaries: lambda name: draw.boundaries(
        MESH, [draw.Plane(POINTS, LABELS, name, name)] * 2, [name] * 3, title=name, x_label=name, y_label=name
    ),
    draw.clusters: lambda name: draw.clusters(
        POINTS, LABELS, POINTS[:3], title=name, x_label=name, y_label=name
    ),
    draw.semi_supervised: lambda name: draw.semi_supervised(
        MESH, POINTS, LABELS, [name] * 3, (mixture(name), mixture(name)), title=name, x_label=name, y_label=name
    ),
    draw.dots_with_intervals: lambda name: draw.dots_with_intervals(
        [name, "a"], np.array([[1, 0, 2], [0, -1, 1.0]]), title=name, x_label=legible(name), notes=[name]
    ),
    draw.reliability: lambda name: draw.reliability(
        [0.2, 0.8], [[0.1, 0, 0.3], [0.9, 0.7, 1]], [5, 7], title=name, x_label=name, y_label=name, notes=[name]
    ),
    draw.predicted_against_true: lambda name: draw.predicted_against_true(
        X, X + 1, title=name, x_label=name, y_label=name, notes=[name]
    ),
    draw.residuals: lambda name: draw.residuals(
        X, X - 1, draw.Running(X, X, X - 1, X + 1), title=name, x_label=name, y_label=name, notes=[name]
    ),
    draw.dependence: lambda name: draw.dependence(
        [
            draw.Response(name, x, *(np.asarray(values, float)[:, None] for values in ([1, 2], [0, 1], [2, 3])))
            for x in ([1.0, 2.0], [name, "b"])
        ],
        title=name, y_label=name, notes=[name],
    ),
    draw.coloured_text: lambda name: draw.coloured_text(
        name, np.arange(len(name)), title=name, label=name, notes=[name]
    ),
    draw.piano_roll: lambda name: draw.piano_roll(
        [(name, np.eye(6, 88, 40)), (name, np.eye(4, 88, 30))], title=name, x_label=name, given=2, notes=[name]
    ),
    draw.policies: lambda name: draw.policies(
        [draw.Map(name, np.arange(6.0).reshape(2, 3), np.ones((2, 3, 4), bool))] * 3, [["S", "", "G"]] * 2,
        title=name, notes=[name],
    ),
    draw.loss_contours: lambda name: draw.loss_contours(landscape(name), [draw.Path(name, X, X)], title=name),
    draw.loss_surface: lambda name: draw.loss_surface(
        landscape(name), [draw.Path(name, X, X)], title=name, note=name
    ),
}  # fmt: skip
NO_FIGURE = {draw.save, draw.mesh, draw.leads, draw.animation}


def test_every_drawing_function_has_a_row():
    public = {value for value in vars(draw).values() if callable(value) and not isinstance(value, type)}
    assert public - NO_FIGURE == FUNCTIONS.keys()


LIMITS = {
    (draw.boundaries, 14),  # a key of three names of 24 full-width characters leaves the figure
    (draw.coloured_text, 15),  # Ethiopic and Devanagari letters are wider than a cell
}
CASES = [  # the fast tests take each name with a few functions
    pytest.param(function, name, id=f"{function.__name__}-{place}", marks=[] if fast else [pytest.mark.slow])
    for row, function in enumerate(FUNCTIONS)
    for place, name in enumerate(NASTY)
    for fast in [(row + place) % 8 == 0]
    if (function, place) not in LIMITS
]


@pytest.mark.parametrize(("function", "name"), CASES)
def test_any_name_can_be_drawn(function, name, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_figure(lambda: FUNCTIONS[function](name), tmp_path / "figure.svg")
