"""Mixtures with few labels: fits against closed forms, choices by hand, and whole runs."""

import dataclasses
import json
import re

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from experiments import frame, mixture_bic
from experiments import semi_supervised as experiment
from experiments import semi_supervised_results as results
from mllab.data import catalog
from mllab.metrics import Interval
from mllab.models.mixture import Selection, Setting
from mllab.report.draw import save
from mllab.semi_supervised import ALONE, BOTH, hide_labels
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

DATA = catalog.load("stretched")
TRAIN, VALIDATION, TEST = vars(DATA.split).values()
COUNTS, DRAWS = (3, 24), 3
SMALL = {
    "labels": COUNTS, "draws": DRAWS, "covariances": ("full",), "most_components": 3, "restarts": 2, "devices": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on points of three stretched classes; its folder and measurement."""
    path = tmp_path_factory.mktemp("semi_supervised") / "w"
    return path, experiment.run(workdir=str(path), **SMALL)


def discriminant(labels):
    """The test accuracy of Gaussians fitted to each class of the labelled training rows, in closed form."""
    points, columns = DATA.inputs[TRAIN].astype(float), []
    for label in range(3):
        rows = points[labels == label]
        normal = multivariate_normal(rows.mean(axis=0), np.cov(rows.T, bias=True) + 1e-6 * np.eye(2))
        columns.append(normal.logpdf(DATA.inputs[TEST]) + np.log(np.mean(labels[labels >= 0] == label)))
    return np.mean(np.argmax(columns, axis=0) == DATA.targets[TEST])


@pytest.mark.slow
def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, measured = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert sorted(each.stem for each in (path / "figures").iterdir()) == [
        "accuracy_by_labels", "bic_by_components", "four_panels", "likelihood_by_step",
    ]  # fmt: skip
    summary, lines = json.loads((path / "summary.json").read_text()), records_of(path)
    assert summary["counts"] == frame.to_json(measured.counts)
    tested = [record for record in lines if "test_accuracy" in record]
    assert len(tested) == 2 * len(COUNTS) * DRAWS + 1
    assert sum("validation_accuracy" in record for record in lines) == len(tested)
    assert [record["bic"] for record in lines if "bic" in record] == summary["bic"]["values"]["full"]
    for count in summary["counts"]:
        for method in (ALONE, BOTH):
            by_draw = [
                record["test_accuracy"]
                for record in tested
                if (record["method"], record["labels"]) == (method, count["labels"])
            ]
            assert count[method]["test_by_draw"] == by_draw
            np.testing.assert_allclose(count[method]["test"][0], np.mean(by_draw))
        gains = np.subtract(count[BOTH]["test_by_draw"], count[ALONE]["test_by_draw"])
        assert count["gain"][0] == pytest.approx(100 * gains.mean(), abs=1e-3)
    assert [climb["labels"] for climb in summary["climbs"]] == list(COUNTS)
    for climb in summary["climbs"]:
        assert (np.diff(climb["history"]) > -1e-5).all()


@pytest.mark.slow
def test_what_is_fitted_to_labelled_rows_alone_is_the_closed_form(ran):
    _, measured = ran
    most, targets = measured.counts[-1], DATA.targets[TRAIN]
    for seed, accuracy in enumerate(most.alone.test_by_draw):
        assert abs(accuracy - discriminant(hide_labels(targets, most.labels, seed))) < 1.5 / len(TEST)
    assert abs(measured.every.test - discriminant(targets)) < 1.5 / len(TEST)


@pytest.mark.slow
def test_three_labels_and_all_rows_separate_stretched_classes(ran):
    _, measured = ran
    few = measured.counts[0]
    assert few.both.test.mean > 0.9  # what all labels reach, and the labelled rows alone do not
    assert few.gain.mean > 5


@pytest.mark.slow
def test_bic_is_that_of_scikit_learn(ran):
    _, measured = ran
    points = DATA.inputs[TRAIN]
    for components, value in zip(measured.bic.components, measured.bic.values["full"], strict=True):
        peer = GaussianMixture(components, n_init=5, random_state=0).fit(points)
        assert value == pytest.approx(peer.bic(points), rel=1e-2 if components > 1 else 1e-4)
    assert measured.bic.chosen == Setting("full", 3)


@pytest.mark.slow
def test_again_it_has_the_same_bits(ran):
    path, _ = ran
    lines, summary = (path / "metrics.jsonl").read_bytes(), json.loads((path / "summary.json").read_text())
    experiment.run(workdir=str(path), **SMALL)
    assert (path / "metrics.jsonl").read_bytes() == lines
    again = json.loads((path / "summary.json").read_text())
    assert {**again, "seconds": None} == {**summary, "seconds": None}


@pytest.mark.slow
def test_more_columns_than_two_are_drawn_in_a_plane_without_boundary(tmp_path):
    experiment.run(
        workdir=str(tmp_path / "w"), dataset="digits", dimensions=3, labels=(20,), draws=1, covariances=("spherical",),
        most_components=10, restarts=1, devices=1,
    )  # fmt: skip
    drawn = (tmp_path / "w" / "figures" / "four_panels.svg").read_text()
    assert "1st principal component" in drawn
    assert "Tinted" not in drawn
    page = (tmp_path / "w" / "report.html").read_text()
    assert "the first 3 principal components of 64" in page
    assert "1 draw: no interval" in page


# ── The report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def gains(measured, *intervals):
    """The measurement with 3, 12, ... labels and these gains (mean, half-width), labelled rows alone reaching 70%."""
    method, counts = measured.counts[0].alone, []
    for index, (mean, half) in enumerate(intervals):
        alone = dataclasses.replace(method, test=Interval(0.7, 0.68, 0.72, 3))
        both = dataclasses.replace(method, test=Interval(0.7 + mean / 100, 0.68 + mean / 100, 0.72 + mean / 100, 3))
        gain = Interval(mean, mean - half, mean + half, 3) if half else Interval(mean, np.nan, np.nan, 1)
        counts.append(results.Count(3 * 4**index, alone, both, gain, both.test.mean > 0.72))
    return dataclasses.replace(measured, counts=counts, panels=dataclasses.replace(measured.panels, labels=3))


def bic(components, most=4):
    values = {
        name: [abs(k - components) * 100.0 + rank for k in range(1, most + 1)]
        for rank, name in enumerate(("tied", "full"))
    }
    return Selection(list(range(1, most + 1)), values, Setting("tied", components))


def text_of(measured, **settings):
    """The answer and the bullets of the report."""
    report = experiment.report(None, experiment.Settings.make(settings), measured)
    (bullets,) = (section.blocks[0].items for section in report.sections if section.heading == "How to read it")
    return "\n".join([report.answer, *bullets])


HARM, MISFIT, UNCLEAR = (
    "Unlabelled rows reduce the accuracy",
    "draw components away",
    "the interval of the gain contains 0",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("intervals", "contains", "lacks"),
    [
        (
            ((20, 5), (-3, 1)),
            ["With 3 labels", "70 ± 2% from", "90 ± 2% with 357", "+20 ± 5 points (3 draws); predicting the most "
 "frequent class: 33.33%. With 12 labels: −3.0 ± 1.0 points.",
             f"{HARM} with 12 labels: −3.0 ± 1.0 points.", "yet increase the likelihood",
             "as many as there are classes"],
            [UNCLEAR, MISFIT, "before EM"],
        ),
        (((20, 5), (6, 1)), [], [HARM, UNCLEAR]),
        (((-9, 5), (-3, 1)), [f"{HARM} with 3, 12 labels: at worst −9 ± 5 points"], [UNCLEAR]),
        (((20, 5), (1, 2)), [f"With 12 labels {UNCLEAR}"], [HARM]),
        (((20, None),), ["+20.0 points (1 draw);"], [HARM, "With 3 labels:", UNCLEAR]),
    ],
)  # fmt: skip
def test_the_report_states_where_unlabelled_rows_help_and_where_they_hurt(ran, intervals, contains, lacks):
    text = text_of(dataclasses.replace(gains(ran[1], *intervals), bic=bic(3)))
    for each in contains:
        assert each in text, each
    for each in lacks:
        assert each not in text, each


@pytest.mark.slow
@pytest.mark.parametrize(
    ("intervals", "present"),
    [
        (((-5, 1), (1, 1)), "Not clearly better than predicting the most frequent class: with 3 labels"),
        (((-45, 1), (-43, 1)), "No better than predicting the most frequent class: with 3 labels"),
        (((1, 1), (9, 1)), "With 3 labels and unlabelled rows it is not clearly better than predicting the most"),
    ],
)
def test_a_gain_below_the_most_frequent_class_is_named(ran, intervals, present):
    assert present in text_of(dataclasses.replace(gains(ran[1], *intervals), bic=bic(3)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preferred", "per_class", "contains", "lacks"),
    [
        (3, (1,), ["prefers 3 components of tied covariance: as many as there are classes"], [MISFIT, "were tried"]),
        (4, (1,), [MISFIT, "of tied covariance, the most that were tried; the classifiers have 3."], []),
        (2, (1, 2), [MISFIT, "the classifiers have 3 or 6."], ["were tried"]),
        (3, (1, 2), ["as many as there are classes"], [MISFIT]),
    ],
)
def test_the_report_states_what_bic_prefers(ran, preferred, per_class, contains, lacks):
    text = text_of(dataclasses.replace(ran[1], bic=bic(preferred)), components=per_class)
    for each in contains:
        assert each in text, each
    for each in lacks:
        assert each not in text, each


@pytest.mark.slow
def test_the_report_counts_fits_that_have_not_converged(ran):
    assert "4 of 10 fits ended before EM had converged" in text_of(
        dataclasses.replace(ran[1], fits={"all": 10, "short": 4})
    )


@pytest.mark.slow
def test_tables_give_the_gain_its_sign_and_mark_the_least_bic(ran):
    measured = gains(ran[1], (20, 5), (-3, 1), (1, 2))
    table = results.gain_table(measured.counts, measured.every, measured.baseline, 3)
    below = ", not clearly better than the baseline"
    assert [row[-1] for row in table.rows] == ["help", f"hurt{below}", f"unclear{below}"]
    assert "baseline: predicting the most frequent class, 33.33%" in table.caption
    assert [row[-2] for row in table.rows] == ["+20 ± 5", "−3.0 ± 1.0", "+1 ± 2"]
    one_draw = gains(ran[1], (20, None))
    table = results.gain_table(one_draw.counts, one_draw.every, one_draw.baseline, 1)
    assert [row[-1] for row in table.rows] == ["1 draw: no comparison"]
    assert "1 draw: no interval, no comparison" in table.caption
    least = mixture_bic.table(bic(3), 100)
    assert least.columns == ["components", "tied", "full"]
    assert least.best == 2
    assert least.rows[2][1:] == ["0.0 (least)", "1.0"]
    assert least.rows[0][1:] == ["200.0", "201.0"]
    assert least.numeric() == [True] * 3


@pytest.mark.slow
def test_figures_name_their_lines_and_axes(ran, tmp_path):
    _, measured = ran
    drawings = [
        results.accuracy_by_labels(measured.counts, measured.every, DRAWS),
        results.likelihood_by_step(measured.climbs),
        mixture_bic.drawing(bic(3), 3),
    ]
    expected = {
        "accuracy_by_labels": (*results.METHODS, "all rows labelled", "labelled rows in all, log scale", "3 draws"),
        "likelihood_by_step": ("3 labels", "24 labels", "step of EM", "nats"),
        "bic_by_components": ("tied", "full", "components", "smaller is better"),
    }
    assert [drawing.name for drawing in drawings] == list(expected)
    for drawing in drawings:
        text = save(drawing.figure, tmp_path / "figure.svg").read_text()
        for each in expected[drawing.name]:
            assert each in text, each


# ── Settings and mistakes ───────────────────────────────────────────────────────────────────────────────────────────


def test_default_labels_double_from_one_a_class_and_leave_half_of_the_rows():
    settings = experiment.Settings.make({"components": (1, 4)})
    assert settings.label_counts(3, 360) == [3, 6, 12, 24, 48, 96]
    assert settings.label_counts(3, 20) == [3, 6]
    assert settings.bic_components(3, 360) == 12


def test_more_than_16_columns_are_replaced_by_16_principal_components():
    kept = [experiment.Settings.make({"dimensions": each}).components_kept("digits", 64) for each in (None, 3)]
    assert kept == [16, 3]
    assert experiment.Settings.make({}).components_kept("stretched", 16) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": (2,)}, "--labels=2: 3 classes need a label each: give 3 or more"),
        ({"labels": (360,)}, "--labels=360: of 360 training rows some must be unlabelled"),
        ({"labels": (6, 6)}, "--labels=6,6: a number is given twice"),
        ({"labels": "few"}, "--labels=few: give LOW:HIGH"),
        ({"covariances": ("ful",)}, "unknown covariance 'ful': did you mean 'full'"),
        ({"covariances": ()}, "--covariances=: none, or one twice"),
        ({"components": (1, 1)}, "--components=1,1: a number is given twice"),
        ({"most_components": 2}, "--most_components=2: the classifiers have up to 3 components"),
        ({"dimensions": 3}, "--dimensions=3: stretched has 2 columns"),
        ({"dataset": "streched"}, "did you mean 'stretched'"),
        ({"dataset": "line"}, "this experiment needs classes"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_leaves_nothing(tmp_path, settings, message):
    with refused_in_one_line(re.escape(message)):
        experiment.run(workdir=str(tmp_path / "w"), **settings)
    assert not (tmp_path / "w").exists()
