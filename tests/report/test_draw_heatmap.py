import matplotlib
import numpy as np
import pytest

from mllab.report import draw
from mllab.report.draw import Grid, heatmap
from support.figures import NASTY, check_figure, drawn

DIGITS = [str(digit) for digit in range(10)]
GREY = 0xE3  # the diagonal
ACCURACY = np.array([[0.5, 0.52, 0.61], [0.55, 0.975, 0.9]])  # [gamma, C]


def cells_of(axes):
    """The texts in the cells of axes by (row, column)."""
    return {tuple(round(each) for each in text.get_position()[::-1]): text for text in axes.texts}


def test_a_confusion_matrix_has_every_count_and_name(tmp_path):
    counts = np.random.default_rng(1).integers(0, 4, (10, 10)) + np.diag(np.arange(100, 110))
    figure = draw.confusion(counts, DIGITS, title="Confusion")
    texts, (matrix,) = drawn(figure, tmp_path / "confusion.svg")
    cells = cells_of(figure.axes[0])
    assert {at: text.get_text() for at, text in cells.items()} == {
        at: str(count) for at, count in np.ndenumerate(counts) if count
    }
    assert {at for at, text in cells.items() if text.get_weight() == "bold"} == {(each, each) for each in range(10)}
    numbers = [text for text in texts if text.isdecimal()]
    assert sorted(numbers) == sorted([*map(str, counts[counts > 0]), *DIGITS, *DIGITS])
    assert {"Confusion", "true class", "predicted class"} <= set(texts)
    assert matrix.shape == (10, 10, 3)
    assert (matrix[np.eye(10, dtype=bool)] == GREY).all()
    brightness = matrix.sum(axis=-1)[~np.eye(10, dtype=bool)]
    off = counts[~np.eye(10, dtype=bool)]
    levels = [set(brightness[off == count]) for count in range(4)]  # the more mistakes, the darker
    assert levels[0] == {3 * 255}
    assert levels == sorted(levels, key=max, reverse=True)
    assert len(set.union(*levels)) == 4


@pytest.mark.parametrize(
    ("size", "named", "numbered"),
    [(1, True, True), (2, True, True), (20, True, True), (40, True, False), (100, False, False), (200, False, False)],
)
def test_names_and_numbers_are_written_where_they_fit(tmp_path, size, named, numbered):
    counts = 50 * np.eye(size, dtype=int)
    counts[0, size - 1] = 1
    figure = draw.confusion(counts, [f"class {index}" for index in range(size)], title="Confusion")
    texts, (matrix,) = drawn(figure, tmp_path / "confusion.svg")
    assert (texts.count(f"class {size - 1}") == 2) == named
    assert (texts.count("50") >= size - 1) == numbered
    assert ("Names are omitted" in " ".join(texts)) != named
    assert matrix.shape == (size, size, 3)


@pytest.mark.parametrize(
    ("mistakes", "scale"),
    [
        ([0, 0], "No mistakes."),
        ([1, 1], "Colour: 1 mistake."),
        ([1, 1234], "Colour: mistakes, from 1 (pale) to 1,234 (dark) per cell."),
    ],
)
def test_a_confusion_matrix_states_its_colour_scale(tmp_path, mistakes, scale):
    counts = np.diag([5, 5])
    counts[[0, 1], [1, 0]] = mistakes
    texts, _ = drawn(draw.confusion(counts, "ab", title=""), tmp_path / "confusion.svg")
    assert f"Grey: correct. {scale}" in " ".join(texts)


def test_accuracy_is_written_at_every_setting_and_the_chosen_one_is_framed(tmp_path):
    grids = [
        Grid("linear", np.array([[0.85, 0.84, 0.83]]), (0, 0)),
        Grid("polynomial", ACCURACY, (0, 2), [0.5, 5.0]),
        Grid("RBF", ACCURACY, (1, 1), [0.5, 5.0]),
    ]
    figure = draw.accuracy_by_setting(grids, [1.0, 10.0, 10000.0], title="Accuracy", note="Mean over 5 folds.")
    texts, shown = drawn(figure, tmp_path / "accuracy.svg")
    for axes, grid in zip(figure.axes, grids, strict=True):
        cells = cells_of(axes)
        assert {at: text.get_text() for at, text in cells.items()} == {
            at: f"{100 * value:.1f}" for at, value in np.ndenumerate(grid.accuracy)
        }
        assert [at for at, text in cells.items() if text.get_weight() == "bold"] == [grid.chosen]
        (frame,) = axes.patches
        assert (frame.get_y() + 0.5, frame.get_x() + 0.5) == grid.chosen
        low, high = axes.get_ylim()
        assert low < high  # gamma ascends upwards
    assert {"linear", "polynomial", "RBF", "C", "gamma", "0.5", "5", "1", "10", "10,000"} <= set(texts)
    assert texts.count("gamma") == 2  # the linear kernel has none
    scale = "Mean over 5 folds. Palest: 82% and less; darkest: 97.5%. Framed: the chosen setting."
    assert scale in " ".join(texts)
    darkness = 765 - shown[2].sum(axis=-1, dtype=int)
    order = np.argsort(ACCURACY, axis=None)
    assert (np.diff(darkness.ravel()[order]) >= 0).all()
    assert darkness[1, 1] > darkness[1, 2] > darkness[0, 2] == darkness[0, 0]  # 0.5 to 0.61 are all palest


def test_settings_without_an_accuracy_are_blank_and_equal_ones_equal(tmp_path):
    accuracy = np.array([[np.nan, 0.1], [0.1, 0.1]])
    figure = draw.accuracy_by_setting([Grid("RBF", accuracy, (1, 1), [1, 2])], [1, 2], title="t")
    texts, (shown,) = drawn(figure, tmp_path / "accuracy.svg")
    assert [texts.count(text) for text in ("—", "10.0")] == [1, 3]
    assert (shown[0, 0] == GREY).all()
    assert (shown[1] == shown[0, 1]).all()
    nothing = draw.accuracy_by_setting([Grid("RBF", np.full((2, 2), np.nan), (0, 0), [1, 2])], [1, 2], title="t")
    assert drawn(nothing, tmp_path / "accuracy.svg")[0].count("—") == 4
    zero = draw.accuracy_by_setting([Grid("RBF", np.zeros((1, 1)), (0, 0), [1])], [1], title="t")
    assert "Palest: 0% and less" in " ".join(drawn(zero, tmp_path / "accuracy.svg")[0])


def test_a_contingency_table_gives_shares_by_darkness_and_number(tmp_path):
    counts = np.array([[90, 10, 0], [0, 5, 5], [0, 0, 0]])
    figure = draw.contingency(counts, ["a", "b", "none"], ["x", "y", "z"], title="Clusters")
    texts, (cells,) = drawn(figure, tmp_path / "classes.svg")
    assert {"a", "b", "none", "x", "y", "z", "90", "10", "50", "cluster", "class"} <= set(texts)
    assert "written from 10%" in " ".join(texts)
    assert cells.shape == (3, 3, 3)
    darkness = 765 - cells.sum(axis=-1, dtype=int)
    assert darkness[0, 0] > darkness[1, 1] == darkness[1, 2] > darkness[0, 1] > darkness[0, 2] == 0
    below = draw.contingency([[91, 9]], ["a"], ["x", "y"], title="t")
    assert "9" not in drawn(below, tmp_path / "classes.svg")[0]


def test_an_alignment_is_darker_where_the_weight_is_greater(tmp_path):
    figure = draw.alignment(["ein", "Hund"], ["a", "dog", "."], [[1, 0], [0.2, 0.8], [0.5, 0.5]], title="Read")
    texts, (cells,) = drawn(figure, tmp_path / "alignment.svg")
    assert {"ein", "Hund", "a", "dog", ".", "source", "target"} <= set(texts)
    darkness = 765 - cells.sum(axis=-1, dtype=int)
    assert darkness.shape == (3, 2)
    assert darkness[0, 0] > darkness[1, 1] > darkness[2, 0] == darkness[2, 1] > darkness[1, 0] > darkness[0, 1] == 0


@pytest.mark.parametrize("value", np.linspace(0, 1, 6))
def test_numbers_contrast_with_their_cell(value):
    cells = heatmap.Cells(heatmap.ACCURACY([[value]])[..., :3], [["1"]])
    (text,) = heatmap.heat_map([cells], ["a"], title="t").axes[0].texts

    def luminance(colour):  # WCAG 2.1
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05

    back, front = luminance(cells.colours[0, 0]), luminance(matplotlib.colors.to_rgb(text.get_color()))
    assert max(back, front) / min(back, front) >= 4


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: draw.confusion(np.eye(3), ["a", "b"], title=""), r"\(3, 3\), but there are 2 classes"),
        (lambda: draw.alignment("ab", "xyz", np.eye(3), title=""), r"\(3, 3\) of 3 target and 2 source tokens"),
        (lambda: draw.contingency(np.eye(3), "ab", "xyz", title=""), r"\(3, 3\), not \[2 clusters, 3 classes\]"),
    ],
)
def test_shapes_that_do_not_match_the_names_are_refused(function, message):
    with pytest.raises(ValueError, match=message):
        function()


TWENTY = [f"group.number.{index}.of.some.length" for index in range(20)]
C = [2.0**power for power in range(-5, 15)]
MANY = np.random.default_rng(0).poisson(0.3, (100, 100))
UGLY = {
    "confusion": lambda: draw.confusion(np.full([len(NASTY)] * 2, 48000), NASTY, title="Confusion"),
    "title": lambda: draw.confusion(np.eye(6), list("abcdef"), title="Confusion of letters " * 6),
    "two words": lambda: draw.confusion(np.full((2, 2), 12345), ["benign", "malignant"], title="Two"),
    "confusion of 20": lambda: draw.confusion(np.full((20, 20), 7), TWENTY, title="Twenty"),
    "confusion of 45": lambda: draw.confusion(MANY[:45, :45], DIGITS * 4 + DIGITS[:5], title="Forty-five"),
    "confusion of 100": lambda: draw.confusion(MANY, DIGITS * 10, title="Hundred"),
    "contingency of 20": lambda: draw.contingency(np.eye(20) + 0.3, TWENTY, TWENTY, title="Twenty " * 20),
    "contingency of 2": lambda: draw.contingency(np.ones((10, 2)), TWENTY[:10], ["a", NASTY[0]], title="Two"),
    "contingency of 100": lambda: draw.contingency(np.ones((20, 100)), TWENTY, TWENTY * 5, title="Many"),
    "accuracy": lambda: draw.accuracy_by_setting(
        [Grid("linear", np.full((1, 10), 0.9), (0, 0)), Grid("RBF", np.full((9, 10), 1.0), (8, 9), C[:18:2])], C[::2],
        title="Accuracy",
    ),
    "accuracy at 20": lambda: draw.accuracy_by_setting([Grid("RBF", np.eye(20), (3, 3), C)], C, title="Accuracy"),
    "accuracy at 1": lambda: draw.accuracy_by_setting([Grid("RBF", np.eye(1), (0, 0), [1e-7])] * 2, [1e6], title="t"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("function", UGLY.values(), ids=UGLY.keys())
def test_no_text_leaves_the_figure_or_covers_another_and_the_bytes_repeat(function, tmp_path):
    check_figure(function, tmp_path / "figure.svg")


def test_successes_are_counted_row_by_row_from_the_top(tmp_path):
    blocks = [draw.Shares(name, ["tanh", "gru"], [[3, 0], [2, 1]], 3) for name in ("parity", "copy")]
    figure = draw.successes(blocks, ["4", "8"], title="Solved", x_label="length")
    texts, images = drawn(figure, tmp_path / "solved.svg")
    assert {"Solved", "parity", "copy", "tanh", "gru", "length"} <= set(texts)
    assert [texts.count(each) for each in ("3/3", "2/3", "1/3", "0/3", "4")] == [2, 2, 2, 2, 1]
    cells = {at: text.get_text() for at, text in cells_of(figure.axes[0]).items()}
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert [cells[names.index("tanh"), column] for column in (0, 1)] == ["3/3", "0/3"]
    assert names == ["gru", "tanh"]  # from the bottom
    assert len({image.shape for image in images}) == 1
    with pytest.raises(ValueError, match="counts of 'parity'"):
        draw.successes(blocks, ["4"], title="", x_label="")
