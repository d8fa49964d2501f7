"""The page of points without a label: what it says where they help, hurt, or cannot be told; and the four panels."""

import matplotlib.patches
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllab.report import figures, mixture_panels, page
from mllab.report import semi_supervised as report

ENVIRONMENT = {
    "data": {}, "versions": {"jax": "0"}, "devices": {"count": 1, "kind": "cpu", "platform": "cpu"}, "git_commit": None,
}  # fmt: skip


def interval(mean, half):
    return [mean, *(None if half is None else mean + sign * half for sign in (-1, 1)), 3]


def summary_of(gains=((20, 5), (-3, 1)), preferred=3, covariances=("tied", "full"), components=(1,), short=0):
    """A summary with figures made up: labelled points alone have 70%, and both what the gains (mean, half) say."""
    tied, full = ({"covariance": name, "components": 1} for name in ("tied", "full"))
    counts = [
        {
            "labels": 3 * 4**index,
            "alone": {"validation": 0.7, "test": interval(0.7, 0.02)} | tied,
            "both": {"validation": 0.9, "test": interval(0.7 + mean / 100, 0.02)} | full,
            "gain": interval(mean, half),
        }
        for index, (mean, half) in enumerate(gains)
    ]
    values = {
        name: [abs(each - preferred) * 100.0 + rank for each in (1, 2, 3, 4)] for rank, name in enumerate(covariances)
    }
    return {
        "dataset": {
            "name": "<b>own</b>", "rows": {"train": 100, "validation": 30, "test": 30}, "classes": ["a", "b", "c"],
            "licence": "", "citation": "", "notes": [],
        },
        "columns": {"given": 2, "kept": 2, "variance": 1.0},
        "split_seed": 4, "draws": [0, 1, 2], "restarts": 5,
        "covariances": list(covariances), "components": list(components),
        "counts": counts,
        "every": {"labels": 100, "test": 0.95, "covariance": "full", "components": 1},
        "bic": {
            "components": [1, 2, 3, 4], "values": values,
            "chosen": {"components": preferred, "covariance": covariances[0]},
        },
        "panels": {"labels": 3, "seed": 0},
        "climbs": [{"labels": count["labels"], "history": [-3.0, -2.5, -2.4]} for count in counts],
        "fits": {"all": 10, "short": short},
        "seconds": {"data": 1.0, "total": 2.0},
    }  # fmt: skip


def page_of(summary, folder):
    drawn = report.figures(summary, folder)
    panels = figures.save(mixture_panels.four_panels(*some_panels(), title="Panels"), folder / "four_panels.svg")
    return page.render(report.page(summary, panels, drawn, ENVIRONMENT, "run it again"))


HURT, MISFIT, UNCLEAR = "Points without a label hurt", "may draw components away", "help or harm cannot be told"


@pytest.mark.parametrize(
    ("how", "says", "says_not"),
    [
        (
            {},
            [
                "70 ± 2% of the test rows", "90 ± 2% from these and 97",
                "+20 ± 5 points. With 12 labels: −3.0 ± 1.0 points",
                "Points without a label hurt with 12 labels.", "The likelihood rises all the same",
                "as many as there are",
                "&lt;b&gt;own", "all rows labelled: 95.00%", "3 are dealt to 3 classes", "run it again",
            ],
            ["<b>own", UNCLEAR, MISFIT, "ended before EM"],
        ),
        ({"gains": ((20, 5), (6, 1))}, ["as many as there are classes"], [HURT, UNCLEAR, "The likelihood rises all"]),
        ({"gains": ((-9, 5), (-3, 1))}, ["hurt with 3, 12 labels: at worst −9 ± 5 points"], [UNCLEAR]),
        ({"gains": ((20, 5), (1, 2))}, ["With 12 labels the gain&#39;s interval holds 0"], [HURT]),
        ({"gains": ((20, None),)}, ["+20.0 points."], [HURT, "With 3 labels: "]),
        ({"preferred": 4}, [MISFIT, "prefers 4 components of tied", "the most that were tried", "have 3:"], []),
        ({"preferred": 2, "components": (1, 2)}, [MISFIT, "have 3 or 6", "1, 2 components a class"], ["were tried"]),
        ({"short": 4}, ["4 of 10 fits ended before EM had settled"], []),
    ],
)  # fmt: skip
def test_the_page_says_what_must_be_known(tmp_path, how, says, says_not):
    made = page_of(summary_of(**how), tmp_path)
    for text in says:
        assert text in made, text
    for text in says_not:
        assert text not in made, text


def test_the_tables_say_who_leads_by_how_much_and_mark_the_least_bic():
    summary = summary_of(gains=((20, 5), (-3, 1), (1, 2)))
    gains = report.gain_table(summary)
    assert [row[-1] for row in gains.rows] == ["help", "hurt", "unclear"]
    assert [row[-2] for row in gains.rows] == ["+20 ± 5", "−3.0 ± 1.0", "+1 ± 2"]
    bic = report.bic_table(summary)
    assert bic.columns == ["components", "tied", "full"]
    assert bic.best == 2
    assert bic.rows[2][1:] == ["0.0 (least)", "1.0"]
    assert bic.rows[0][1:] == ["200.0", "201.0"]
    assert bic.numeric() == [True] * 3


def test_the_figures_name_their_lines_and_axes(tmp_path):
    drawn = report.figures(summary_of(), tmp_path)
    for name, texts in {
        "accuracy_by_labels": (report.ALONE, report.BOTH, report.EVERY, "labelled rows in all, log scale", "3 seeds"),
        "likelihood_by_step": ("3 labels", "12 labels", "step of EM", "nats"),
        "bic_by_components": ("tied", "full", "components", "smaller is better"),
    }.items():
        text = drawn[name].read_text()
        for each in texts:
            assert each in text, each


# ── The four panels ─────────────────────────────────────────────────────────────────────────────────────────────────


def some_panels(count=60, classes=("a", "b"), boundary=True):
    """Points of made up classes, and two mixtures over them."""
    draw = np.random.default_rng(0)
    labels = np.where(np.arange(count) < 8, np.arange(count) % len(classes), -1)
    points = mixture_panels.Points(draw.normal(size=(count, 2)), labels, classes, ("width", "height"))
    margins = None
    if boundary:
        x, y = mixture_panels.mesh(points.places)
        across = np.broadcast_to(x[None], (len(y), len(x)))
        margins = np.stack([across, -across], axis=-1)

    def learned(title):
        means, covariances = np.zeros((2, 2)), np.stack([np.diag([4.0, 1.0]), np.array([[2.0, 1.0], [1.0, 2.0]])])
        return mixture_panels.Learned(title, means, covariances, np.array([0, 1]), margins)

    return points, learned("alone: 70%"), learned("both: 90%")


def test_panels_say_how_many_points_they_hold_and_draw_ellipses_of_the_covariances():
    figure = mixture_panels.four_panels(*some_panels(), title="Panels")
    said = {text.get_text() for text in figure.texts}
    assert {"8 labelled points", "and 52 without a label", "alone: 70%", "both: 90%", "width", "height"} <= said
    for axes in figure.axes[2:]:
        ellipses = [patch for patch in axes.patches if isinstance(patch, matplotlib.patches.Ellipse)]
        assert [(e.width, e.height) for e in ellipses[:2]] == [(4.0, 2.0), (8.0, 4.0)]  # 1 and 2 standard deviations
        for index in (2, 3):  # the tilted one: points of its rim are at that Mahalanobis distance
            rim = ellipses[index].get_path().vertices @ ellipses[index].get_patch_transform().get_matrix()[:2, :2].T
            distance = np.sqrt(np.einsum("ni,ij,nj->n", rim, np.linalg.inv([[2, 1], [1, 2]]), rim))
            np.testing.assert_allclose(distance[:24:3], index - 1, rtol=1e-6)


def test_a_boundary_is_where_margins_change_sign_and_only_where_there_are_margins():
    figure = mixture_panels.four_panels(*some_panels(), title="Panels")
    lines = [each for each in figure.axes[3].collections if not each.filled]
    for line in lines:
        for path in line.get_paths():
            np.testing.assert_allclose(path.vertices[:, 0], 0, atol=1e-9)
    assert lines
    without = mixture_panels.four_panels(*some_panels(boundary=False), title="Panels")
    assert not without.axes[3].collections
    assert not any("Tinted" in text.get_text() for text in without.texts)


def test_many_points_are_thinned_and_many_classes_have_no_key():
    many = some_panels(count=4000, classes=tuple(f"class {index}" for index in range(20)), boundary=False)
    figure = mixture_panels.four_panels(*many, title="Panels")
    said = " ".join(text.get_text() for text in figure.texts)
    assert "of the unlabelled points" in said
    assert "class 3" not in said
    assert max(len(line.get_xdata()) for line in figure.axes[1].lines) <= mixture_panels.MOST
    assert len({mixture_panels.class_style(index) for index in range(49)}) == 49


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_a_frame_holds_all_points_and_has_one_unit_of_length(points):
    (left, right), (low, high) = mixture_panels.frame(np.array(points))
    for x, y in points:
        assert left <= x <= right
        assert low <= y <= high
    x, y = mixture_panels.mesh(np.array(points), 50)
    assert (x[0], x[-1], y[0], y[-1]) == pytest.approx((left, right, low, high))
    assert np.diff(x).mean() == pytest.approx(np.diff(y).mean(), rel=0.1)  # as wide on paper as they are high
