import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.patches import Ellipse
from sklearn.datasets import make_blobs, make_moons
from sklearn.svm import SVC

from mllab.report import draw
from mllab.report.draw import Mesh, Mixture, Plane, plane
from mllab.report.style import class_style
from support.figures import NASTY, check_figure, drawn

LABELS = {"title": "Plane", "x_label": "width", "y_label": "height"}
REGIONS = {**LABELS, "levels": {}}


def machines_of(classes=2, kernels=("linear", "poly", "rbf")):
    """The mesh over some points, and what scikit-learn's machines decide there."""
    if classes == 2:
        points, labels = make_moons(120, noise=0.2, random_state=0)
    else:
        points, labels = make_blobs(120, centers=classes, random_state=1)
    over, panels = draw.mesh(points, 50), []
    for kernel in kernels:
        fitted = SVC(kernel=kernel, C=10.0, coef0=1.0, decision_function_shape="ovr").fit(points, labels)
        values = fitted.decision_function(over.places)
        fields = np.stack([-values, values]) if classes == 2 else values.T
        panels.append(
            Plane(
                points,
                labels,
                f"{kernel}: C = 10, gamma = 0.5",
                f"97.5% held out, {len(fitted.support_)} support vectors",
                emphasised=np.isin(np.arange(len(points)), fitted.support_),
                regions=fitted.predict(over.places).reshape(over.shape),
                fields=fields.reshape(classes, *over.shape),
            )
        )
    return over, panels


@pytest.mark.parametrize("classes", [2, 3])
def test_kernel_machines_show_points_by_class_support_vectors_with_a_rim_and_where_f_is_0_and_1(tmp_path, classes):
    over, panels = machines_of(classes)
    names = [f"class {index}" for index in range(classes)]
    figure = draw.boundaries(over, panels, names, **LABELS)
    markers = [class_style(index).marker for index in range(classes)]
    for axes, panel in zip(figure.axes, panels, strict=False):
        shown = {False: set(), True: set()}
        for line in axes.lines:
            rim, label = line.get_markeredgewidth() > 0, markers.index(line.get_marker())
            shown[rim] |= {(x, y, to_hex(line.get_color()), label) for x, y in line.get_xydata()}
        for support, entries in shown.items():
            points, labels = (each[panel.emphasised == support] for each in (panel.points, panel.labels))
            colours = [class_style(label).colour.lower() for label in labels]
            assert entries == {(*point, *rest) for point, *rest in zip(points, colours, labels, strict=True)}
        levels = [float(contour.levels[0]) for contour in axes.collections]
        assert sorted(levels) == sorted([0.0, 1.0] * classes)
        steepest = max(np.abs(np.diff(panel.fields, axis=axis)).max() for axis in (1, 2))
        for contour, level in zip(axes.collections, levels, strict=True):
            for path in contour.get_paths():  # f is the level on each line, but for the coarseness of the mesh
                column = np.round(np.interp(path.vertices[:, 0], over.x, np.arange(len(over.x)))).astype(int)
                row = np.round(np.interp(path.vertices[:, 1], over.y, np.arange(len(over.y)))).astype(int)
                assert (np.abs(panel.fields[:, row, column] - level).min(axis=0) <= steepest).all()
        (ground,) = axes.images
        colours = {tuple(pixel) for pixel in np.asarray(ground.get_array()).reshape(-1, 3)}
        assert len(colours) == len(np.unique(panel.regions))
    texts, grounds = drawn(figure, tmp_path / "plane.svg")
    assert [ground.shape[:2] for ground in grounds] == [over.shape] * 3
    assert {*names, "support vector", "boundary: f = 0", "margin: f = 1 or −1"} <= set(texts)
    assert {"width", "height", "rbf: C = 10, gamma = 0.5", "Plane"} <= set(texts)
    assert all(panel.detail in texts for panel in panels)


def test_a_region_lies_where_the_model_decides_for_the_class():
    over = Mesh(np.linspace(0, 1, 3), np.linspace(0, 1, 2))
    regions = np.array([[0, 1, 1], [2, 2, 0]])
    figure = plane.class_regions(over, [Plane(np.zeros((1, 2)), np.zeros(1, int), regions=regions)], "abc", **REGIONS)
    (ground,) = figure.axes[0].images
    assert ground.origin == "lower"  # rows ascend with y
    np.testing.assert_allclose(ground.get_extent(), [-0.25, 1.25, -0.5, 1.5])  # a place is the middle of its pixel
    pixels = np.asarray(ground.get_array(), float)
    for label in range(3):
        colour = np.array(matplotlib.colors.to_rgb(class_style(label).colour))
        for pixel in pixels[regions == label] / 255:  # the class's colour, paler
            np.testing.assert_allclose(1 - pixel, plane.PALE * (1 - colour), atol=0.003)


def test_clusters_have_a_colour_each_their_centres_and_lines_equally_near_to_two(tmp_path):
    random = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    labels = np.arange(90) % 3
    figure = draw.clusters(
        centres[labels] + random.normal(size=(90, 2)), labels, centres, title="Plane", x_label=NASTY[0], y_label="y"
    )
    texts, _ = drawn(figure, tmp_path / "plane.svg")
    assert {"Plane", NASTY[0], "y", "centre", "equally near to two centres"} <= set(texts)
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() != "+"]
    assert len({line.get_color() for line in points}) == 3
    assert len({line.get_marker() for line in points}) == 3
    assert [len(line.get_xdata()) for line in points] == [30, 30, 30]
    crosses = [line for line in axes.lines if line.get_marker() == "+"]
    np.testing.assert_array_equal(crosses[-1].get_xydata(), centres)
    vertices = np.concatenate([path.vertices for line in axes.collections for path in line.get_paths()])
    distances = np.sort(np.linalg.norm(vertices[:, None] - centres, axis=-1), axis=1)
    np.testing.assert_allclose(distances[:, 0], distances[:, 1], atol=0.05)


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_leads_are_positive_where_a_class_wins(classes, seed):
    scores = np.random.default_rng(seed).integers(-3, 3, (classes, 5, 4)).astype(float)
    leads = draw.leads(scores)
    for place in np.ndindex(5, 4):
        for index in range(classes):
            rivals = [scores[(other, *place)] for other in range(classes) if other != index]
            assert leads[(index, *place)] == scores[(index, *place)] - max(rivals, default=-np.inf)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_a_mesh_holds_all_points_and_has_one_unit_of_length(points):
    over = draw.mesh(np.array([*points, (np.nan, 0.0)]), 50)
    for x, y in points:
        assert over.x[0] <= x <= over.x[-1]
        assert over.y[0] <= y <= over.y[-1]
    assert np.diff(over.x).mean() == pytest.approx(np.diff(over.y).mean(), rel=0.1)
    assert 0.55 <= np.ptp(over.y) / np.ptp(over.x) <= 1.25
    assert over.shape == (len(over.y), 50)
    np.testing.assert_array_equal(over.places.reshape(*over.shape, 2)[2, 3], (over.x[3], over.y[2]))


# ── Labelled and unlabelled points ──────────────────────────────────────────────────────────────────────────────────


def semi_supervised(count=60, labelled=8, classes=("a", "b"), boundary=True, **changes):
    """Points of classes made up, and two mixtures over them."""
    points = np.random.default_rng(0).normal(size=(count, 2))
    labels = np.where(np.arange(count) < labelled, np.arange(count) % len(classes), -1)
    over = draw.mesh(points)
    across = np.broadcast_to(over.x, over.shape)
    means, covariances = np.zeros((2, 2)), np.stack([np.diag([4.0, 1.0]), np.array([[2.0, 1.0], [1.0, 2.0]])])
    mixtures = tuple(
        Mixture(heading, means, covariances, np.array([0, 1]), np.stack([-across, across]) if boundary else None)
        for heading in ("alone: 70%", "both: 90%")
    )
    return draw.semi_supervised(over, points, labels, classes, mixtures, **LABELS | changes)


def test_panels_say_how_many_points_they_hold_and_draw_ellipses_of_the_covariances(tmp_path):
    figure = semi_supervised()
    texts, _ = drawn(figure, tmp_path / "panels.svg")
    assert {"8 labelled points", "and 52 without a label", "alone: 70%", "both: 90%", "width", "height"} <= set(texts)
    assert {"a", "b", "no label", "labelled point", "decision boundary"} <= set(texts)
    assert "Ellipses: components at 1 and 2 standard deviations. Tinted: the most probable class." in " ".join(texts)
    assert [sum(len(line.get_xdata()) for line in axes.lines) for axes in figure.axes] == [8, 60, 8, 60]
    for axes in figure.axes[2:]:
        ellipses = [patch for patch in axes.patches if isinstance(patch, Ellipse)]
        assert [(each.width, each.height) for each in ellipses[:2]] == [(4.0, 2.0), (8.0, 4.0)]  # 1 and 2 deviations
        for index in (2, 3):  # the tilted one: points of its rim are at that Mahalanobis distance
            rim = ellipses[index].get_path().vertices @ ellipses[index].get_patch_transform().get_matrix()[:2, :2].T
            distance = np.sqrt(np.einsum("ni,ij,nj->n", rim, np.linalg.inv([[2, 1], [1, 2]]), rim))
            np.testing.assert_allclose(distance[:24:3], index - 1, rtol=1e-6)


def test_a_boundary_is_where_leads_change_sign_and_only_where_there_are_leads(tmp_path):
    figure = semi_supervised()
    for axes in figure.axes[2:]:
        assert axes.collections
        for line in axes.collections:
            for path in line.get_paths():
                np.testing.assert_allclose(path.vertices[:, 0], 0, atol=1e-9)
        pixels = np.asarray(axes.images[0].get_array())
        left, right = pixels[:, 0], pixels[:, -1]
        assert (left == left[0]).all()
        assert left[0, 2] > left[0, 0]  # the first class is blue
        assert right[0, 0] > right[0, 2]  # the second is vermillion
    without = semi_supervised(boundary=False)
    assert not any(axes.collections or axes.images for axes in without.axes)
    texts, _ = drawn(without, tmp_path / "panels.svg")
    assert not any("Tinted" in text or "boundary" in text for text in texts)


def test_many_points_are_thinned_and_many_classes_have_no_key(tmp_path):
    names = tuple(f"class {index}" for index in range(20))
    figure = semi_supervised(count=4000, classes=names, boundary=False)
    texts = " ".join(drawn(figure, tmp_path / "panels.svg")[0])
    assert "Points are thinned to about 1,500 of 4,000 per panel." in texts
    assert "20 classes, too many for a key." in texts
    assert "class 3" not in texts
    assert max(len(line.get_xdata()) for line in figure.axes[1].lines) <= plane.MAX_POINTS // 2
    assert sum(len(line.get_xdata()) for line in figure.axes[0].lines) == 8  # every labelled one remains
    one = draw.clusters(
        np.random.default_rng(0).normal(size=(9000, 2)), np.zeros(9000, int), np.zeros((1, 2)), **LABELS
    )
    assert sum(len(line.get_xdata()) for line in one.axes[0].lines[:-2]) == plane.MAX_POINTS


def test_a_field_without_the_level_or_without_numbers_has_no_line():
    over = draw.mesh(np.random.default_rng(0).normal(size=(9, 2)), 20)
    slope = np.broadcast_to(over.x, over.shape)
    holes = np.where(np.arange(20) < 5, np.nan, slope)
    fields = np.stack([slope, holes, slope + 99, 1e-4 * slope, np.full(over.shape, np.nan)])
    panel = Plane(np.zeros((1, 2)), np.zeros(1, int), fields=fields)
    figure = plane.class_regions(over, [panel], "a", **LABELS, levels={0.0: "zero"})
    assert len(figure.axes[0].collections) == 2


def test_a_component_that_is_not_finite_is_left_out(tmp_path):
    covariances = np.stack([np.eye(2), np.full((2, 2), np.nan)])
    mixture = Mixture("one of two", np.zeros((2, 2)), covariances, np.array([0, 1]))
    panel = Plane(np.zeros((1, 2)), np.zeros(1, int), mixture=mixture)
    figure = plane.class_regions(draw.mesh(panel.points), [panel], "ab", **REGIONS)
    assert len(figure.axes[0].patches) == 2


UGLY = {
    "3 kernels": lambda: draw.boundaries(*machines_of(), ["outer moon", "inner moon"], **LABELS),
    "2 kernels, 5 classes": lambda: draw.boundaries(*machines_of(5, ("linear", "rbf")), "abcde", **LABELS),
    "1 kernel": lambda: draw.boundaries(*machines_of(3, ("rbf",)), NASTY[3:6], **LABELS | {"title": "Plane " * 30}),
    "long names": lambda: draw.clusters(
        np.arange(8.0).reshape(4, 2), np.zeros(4, int), np.ones((1, 2)), title="t", x_label="x" * 99, y_label="y" * 99
    ),
    "equal points": lambda: draw.clusters(np.ones((4, 2)), np.zeros(4, int), np.ones((2, 2)), **LABELS),
    "large numbers": lambda: draw.clusters(
        np.random.default_rng(0).normal(123456, 1000, (99, 2)), np.arange(99) % 50, np.full((50, 2), 123456.0), **LABELS
    ),
    "mixtures": lambda: semi_supervised(),
    "mixtures of ugly names": lambda: semi_supervised(
        labelled=30, classes=NASTY, x_label=NASTY[3], y_label="2nd principal component"
    ),
    "a long heading": lambda: plane.class_regions(
        draw.mesh(np.eye(2)), [Plane(np.eye(2), np.arange(2), "heading " * 9, "detail " * 20)] * 2, "ab", **REGIONS
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("function", UGLY.values(), ids=UGLY.keys())
def test_no_text_leaves_the_figure_or_covers_another_and_the_bytes_repeat(function, tmp_path):
    check_figure(function, tmp_path / "figure.svg")
