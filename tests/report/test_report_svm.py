"""A race of kernels as told: what the page says, and figures against scikit-learn's machines and by counting."""

import re

import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.svm import SVC

from mllab.data import synthetic
from mllab.report import margins, page
from mllab.report import svm as report
from mllab.report.classifier import per_class

ENVIRONMENT = {
    "data": {}, "versions": {"jax": "0"}, "devices": {"count": 1, "kind": "cpu", "platform": "cpu"}, "git_commit": None,
}  # fmt: skip
GRID = [[0.5, 0.52, 0.61], [0.55, 0.975, 0.9]]  # [G, C]


def summary_of(*, by=(4.0, 1.0, 7.0), classes=("0", "1"), scheme="one_vs_one", available=480, rounds=1, short=0):
    """A race that RBF won with C = 10 and gamma = 5, with figures made up."""

    def entry(kernel, c, gamma, accuracy, grid):
        return {
            "kernel": kernel, "c": c, "gamma": gamma, "held_out": [accuracy, accuracy - 0.01, accuracy + 0.01, 5],
            "held_out_by_fold": [accuracy] * 5, "test": accuracy - 0.005,
            "test_interval": [accuracy - 0.04, accuracy + 0.02], "support_vectors": 120, "problems": 1,
            "short": short, "gap": 2e-4, "steps": 1234, "grid": grid,
        }  # fmt: skip

    return {
        "dataset": {
            "name": "<b>own</b>", "rows": {"choosing": 480, "available": available, "test": 120},
            "classes": list(classes), "features": ["<width>", "height"], "shape": [2], "licence": "", "citation": "",
            "notes": [],
        },
        "folds": 5, "rounds": rounds, "split_seed": 3, "scheme": scheme, "degree": 3, "coef0": 1.0,
        "tolerance": {"choosing": 1e-3, "reported": 1e-5}, "most_steps": 100_000,
        "c": [1.0, 10.0, 100.0], "gamma": [0.5, 5.0], "scale": 0.5,
        "kernels": [
            entry("linear", 1.0, None, 0.85, [[0.85, 0.84, 0.83]]),
            entry("polynomial", 100.0, 0.5, 0.935, GRID),
            entry("rbf", 10.0, 5.0, 0.975, GRID),
        ],
        "winner": "rbf", "baseline": 0.51,
        "ahead": by and {"of": "polynomial", "by": [*by, 5]},
        "per_class": per_class(np.diag([40] * len(classes)), classes) if len(classes) > 2 else [],
        "seconds": {"data": 1.0, "total": 2.0},
    }  # fmt: skip


def test_accuracy_of_test_rows_comes_with_its_interval_and_what_must_be_beaten(tmp_path):
    said = report.answer(summary_of())
    assert "(95% interval 93.5–99.5%), always saying the most frequent class 51.00%" in said
    assert report.kernel_table(summary_of()).rows[0][5] == "81.0–87.0%"


def plane_of(classes=2):
    """Points, and the machines that scikit-learn makes of them."""
    if classes == 2:
        points, labels = synthetic.moons(np.random.default_rng(0), 120)
    else:
        points, labels = synthetic.blobs(np.random.default_rng(0), 120, centres=classes)
    x, y = (np.linspace(side.min() - 0.3, side.max() + 0.3, 50) for side in points.T)
    asked = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    machines = {}
    for kernel, name in (("linear", "linear"), ("polynomial", "poly"), ("rbf", "rbf")):
        fitted = SVC(kernel=name, C=10.0, coef0=1.0, decision_function_shape="ovr").fit(points, labels)
        values = fitted.decision_function(asked)
        leads = np.stack([-values, values]) if classes == 2 else values.T
        support = np.isin(np.arange(len(points)), fitted.support_)
        decided = fitted.predict(asked).reshape(50, 50)
        machines[kernel] = margins.Machine(decided, leads.reshape(classes, 50, 50), support)
    return margins.Plane(points, labels, x, y), machines


def page_of(summary, folder, **arrays):
    drawn = report.figures(summary, arrays, folder)
    return page.render(report.page(summary, drawn, ENVIRONMENT, "run it again"))


@pytest.mark.parametrize(
    ("how", "says", "says_not"),
    [
        (
            {},
            [
                "The RBF kernel with C = 10 and gamma = 5: 97.00% of the 120 test rows",
                "of rows held out, 97.5 ± 1.0% (95% interval over 5 folds)",
                "it is ahead of polynomial, the next: 4 ± 3 points",
                "The largest duality gap of the machines is 0.0002 of the objective",
                "linear: held-out accuracy still rises by 1.0 points at the least C of the grid, 1:",
                "polynomial: held-out accuracy still rises by 9.0 points at the largest C of the grid, 100:",
                "RBF: held-out accuracy still rises by 45.5 points at the largest gamma of the grid, 5:",
                "(gamma x · z + 1) to the power 3",
                "&lt;b&gt;own",
                "120 (25%)",
            ],
            ["<b>own", "<width>", "at the least gamma", "rows were used", "Class by class", "stopped at"],
        ),
        ({"by": (0.5, -1.0, 2.0)}, ["not clearly ahead of polynomial"], ["it is ahead of"]),
        ({"available": 60000}, ["480 of 60,000 rows were used, drawn by class", "Fitted to 480 of 60,000"], []),
        ({"by": None}, ["over 5 folds). The largest duality gap"], ["ahead"]),
        ({"rounds": 3}, ["5 folds × 3 rounds"], []),
        ({"short": 1}, ["3 of 3 stopped at 100,000 steps"], []),
        ({"classes": ("a", "b", "c")}, ["each pair of classes, which vote", "Class by class"], ["two, one machine"]),
        ({"classes": ("a", "b", "c"), "scheme": "one_vs_rest"}, ["each class against all others"], ["which vote"]),
    ],
)
def test_the_page_says_what_must_be_known(tmp_path, how, says, says_not):
    summary = summary_of(**how)
    several = len(summary["dataset"]["classes"]) > 2
    told = page_of(summary, tmp_path, **({"confusion": np.diag([40] * 3)} if several else {}))
    for text in says:
        assert text in told, text
    for text in says_not:
        assert text not in told, text


def test_the_table_marks_the_winner():
    table = report.kernel_table(summary_of())
    assert table.rows[table.best][:3] == ["RBF", "10", "5"]
    assert table.rows[0][:3] == ["linear", "1", None]


def test_the_heat_map_has_every_setting_and_frames_the_chosen_one():
    figure = report.heat_map(summary_of())
    for axes, grid, chosen in zip(
        figure.axes, ([[0.85, 0.84, 0.83]], GRID, GRID), ((0, 0), (0, 2), (1, 1)), strict=True
    ):
        written = {
            (round(text.get_position()[1] - 0.5), round(text.get_position()[0] - 0.5)): text for text in axes.texts
        }
        assert {place: text.get_text() for place, text in written.items()} == {
            place: f"{100 * value:.1f}" for place, value in np.ndenumerate(np.array(grid))
        }
        assert [place for place, text in written.items() if text.get_weight() == "bold"] == [chosen]
        (frame,) = axes.patches
        assert (frame.get_y(), frame.get_x()) == chosen


@pytest.mark.parametrize("classes", [2, 3])
def test_the_plane_shows_points_by_class_support_vectors_with_a_rim_and_where_f_is_0_and_1(classes):
    plane, machines = plane_of(classes)
    names = [f"class {index}" for index in range(classes)]
    headings = [(kernel, "", "") for kernel in machines]
    figure = margins.boundaries(plane, list(machines.values()), headings, names, title="t", note="n")
    for axes, machine in zip(figure.axes, machines.values(), strict=True):
        drawn = {False: set(), True: set()}
        for line in axes.lines:
            rim = line.get_markeredgewidth() > 0
            drawn[rim] |= {(x, y, to_hex(line.get_color())) for x, y in line.get_xydata()}
        for support, shown in drawn.items():
            points, labels = (each[machine.support == support] for each in (plane.points, plane.labels))
            colours = [margins.CLASSES[label][0].lower() for label in labels]
            assert shown == {(*point, colour) for point, colour in zip(points, colours, strict=True)}
        levels = [float(contour.levels[0]) for contour in axes.collections]
        assert sorted(levels) == sorted([0.0, 1.0] * classes)
        for contour, level in zip(axes.collections, levels, strict=True):
            for (
                path
            ) in contour.get_paths():  # on each line f is what the line stands for, but for the grid's coarseness
                column, row = (
                    np.clip(np.round(np.interp(path.vertices[:, axis], side, np.arange(50))), 0, 49).astype(int)
                    for axis, side in ((0, plane.x), (1, plane.y))
                )
                steepest = max(np.abs(np.diff(machine.leads, axis=axis)).max() for axis in (1, 2))
                nearest = np.abs(machine.leads[:, row, column] - level).min(axis=0)
                assert (nearest <= steepest).all()
        (ground,) = axes.images
        colours = {tuple(pixel) for pixel in np.asarray(ground.get_array()).reshape(-1, 3)}
        assert len(colours) == len(np.unique(machine.decided))


def test_the_plane_is_on_the_page_and_the_same_input_gives_the_same_bytes(tmp_path):
    plane, machines = plane_of()
    pages = [page_of(summary_of(), tmp_path / name, plane=plane, machines=machines) for name in "ab"]
    assert pages[0] == pages[1]
    assert len(re.findall("<svg", pages[0])) == 2
    for text in ("with a rim: a support vector", "boundary: f = 0", "margin: f = 1 or −1", "height; both standardised"):
        assert text in pages[0]
