"""What points without a label are worth: fits against closed forms, draws by counting, and the program end to end."""

import json
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from experiments import labelling
from experiments import semi_supervised as experiment
from experiments.labelling import ALONE, BOTH, EVERY, Setting
from experiments.workdir import Workdir
from mllab import devices
from mllab.data import catalog
from mllab.errors import UserError

ROOT = Path(__file__).parents[2]
DATA = catalog.load("stretched")
TRAIN, TEST = DATA.split.train, DATA.split.test
COUNTS, SEEDS = (3, 24), (0, 1, 2)
OPTIONS = {
    "labels": COUNTS, "seeds": SEEDS, "covariances": ("full",), "most_components": 3, "restarts": 2, "device_count": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on points of three stretched classes; its folder and summary."""
    workdir = Workdir(tmp_path_factory.mktemp("semi_supervised") / "w", "semi_supervised", "")
    return workdir.path, experiment.run(workdir, **OPTIONS)


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def discriminant(rows):
    """The accuracy on test rows of Gaussians fitted to each class of some training rows, in closed form."""
    points, targets = DATA.inputs[TRAIN][rows].astype(float), DATA.targets[TRAIN][rows]
    columns = []
    for label in range(3):
        own = points[targets == label]
        normal = multivariate_normal(own.mean(axis=0), np.cov(own.T, bias=True) + 1e-6 * np.eye(2))
        columns.append(normal.logpdf(DATA.inputs[TEST]) + np.log(np.mean(targets == label)))
    return np.mean(np.argmax(columns, axis=0) == DATA.targets[TEST])


def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, _ = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    summary = json.loads((path / "summary.json").read_text())
    tested = [record for record in records(path) if "test_accuracy" in record]
    assert len(tested) == 2 * len(COUNTS) * len(SEEDS) + 1
    for count in summary["counts"]:
        for method in (ALONE, BOTH):
            told = [
                record["test_accuracy"]
                for record in tested
                if (record["method"], record["labels"]) == (method, count["labels"])
            ]
            assert count[method]["test_by_draw"] == told
            np.testing.assert_allclose(count[method]["test"][0], np.mean(told))
        gains = np.subtract(count[BOTH]["test_by_draw"], count[ALONE]["test_by_draw"])
        assert count["gain"][0] == pytest.approx(100 * gains.mean())
    assert len((path / "report.html").read_text()) > 20_000
    for climb in summary["climbs"]:
        assert (np.diff(climb["history"]) > -1e-5).all()


def test_what_is_learned_from_labelled_rows_alone_is_the_closed_form(ran):
    _, summary = ran
    most = summary["counts"][-1]
    for seed, accuracy in zip(SEEDS, most[ALONE]["test_by_draw"], strict=True):
        expected = discriminant(labelling.drawn(DATA.targets[TRAIN], most["labels"], seed))
        assert abs(accuracy - expected) < 1.5 / len(TEST)
    assert abs(summary[EVERY]["test"] - discriminant(np.arange(len(TRAIN)))) < 1.5 / len(TEST)


def test_three_labels_and_all_points_tell_stretched_classes_apart(ran):
    _, summary = ran
    few = summary["counts"][0]
    assert few[BOTH]["test"][0] > 0.9  # what all labels reach, and the labelled alone do not
    assert few["gain"][0] > 5


def test_bic_is_that_of_scikit_learn(ran):
    _, summary = ran
    points = DATA.inputs[TRAIN]
    for components, value in zip(summary["bic"]["components"], summary["bic"]["values"]["full"], strict=True):
        peer = GaussianMixture(components, n_init=5, random_state=0).fit(points)
        assert value == pytest.approx(peer.bic(points), rel=1e-2 if components > 1 else 1e-4)
    assert summary["bic"]["chosen"] == {"components": 3, "covariance": "full"}


def test_again_it_has_the_same_bits(ran):
    path, summary = ran
    lines = (path / "metrics.jsonl").read_bytes()
    again = experiment.run(Workdir(path, "semi_supervised", ""), **OPTIONS)
    assert (path / "metrics.jsonl").read_bytes() == lines
    for name in ("counts", EVERY, "bic", "climbs"):
        assert json.dumps(experiment.finite(again[name])) == json.dumps(experiment.finite(summary[name]))


def test_test_labels_have_no_say_in_what_is_chosen():
    def part(rows, targets):
        return labelling.Part(jnp.asarray(DATA.inputs[rows]), jnp.asarray(targets))

    train, validation = (part(rows, DATA.targets[rows]) for rows in (TRAIN, DATA.split.validation))
    bic = {Setting("spherical", 1): 1.0, Setting("diagonal", 1): 0.0}
    right, wrong = (
        labelling.measure(
            train, validation, part(TEST, targets), 3, counts=[12], seeds=[0], bic=bic, restarts=1, mesh=devices.mesh(1)
        )
        for targets in (DATA.targets[TEST], (DATA.targets[TEST] + 1) % 3)
    )
    assert right.chosen == wrong.chosen
    for place, accuracy in right.test.items():
        assert wrong.test[place] < accuracy


@pytest.mark.parametrize(
    ("accuracy", "rows", "chosen"),
    [
        ((0.80, 0.95), 100, "full"),  # a lead that 100 rows can tell
        ((0.94, 0.95), 100, "tied"),  # one that they cannot: the lesser BIC
        ((0.94, 0.95), 100_000, "full"),
        ((1.0, 1.0), 10, "tied"),
    ],
)
def test_validation_rows_choose_what_they_can_tell_and_bic_the_rest(accuracy, rows, chosen):
    settings = [Setting("tied", 1), Setting("full", 1)]
    bic = dict(zip(settings, (10.0, 20.0), strict=True))
    assert labelling.best(dict(zip(settings, accuracy, strict=True)), rows, bic).covariance == chosen


@given(st.data())
def test_a_draw_is_nested_in_proportion_and_has_every_class(data):
    sizes = data.draw(st.lists(st.integers(1, 40), min_size=2, max_size=6))
    targets = np.random.default_rng(data.draw(st.integers(0, 9))).permutation(np.repeat(np.arange(len(sizes)), sizes))
    seed, count = data.draw(st.integers(0, 99)), data.draw(st.integers(len(sizes), sum(sizes)))
    rows = labelling.drawn(targets, count, seed)
    assert len(set(rows)) == len(rows) == count
    taken = np.bincount(targets[rows], minlength=len(sizes))
    assert (taken >= 1).all()
    exact = count * np.array(sizes) / sum(sizes)
    assert (taken - exact < 1.5).all()  # ones that are owed to small classes come off the others
    fewer = data.draw(st.integers(len(sizes), count))
    assert set(labelling.drawn(targets, fewer, seed)) <= set(rows)


def test_another_seed_draws_other_rows():
    assert set(labelling.drawn(DATA.targets[TRAIN], 12, 0)) != set(labelling.drawn(DATA.targets[TRAIN], 12, 1))


def test_every_fit_is_told_its_own_labels_and_sees_its_own_rows():
    targets = DATA.targets[TRAIN]
    places, lanes = labelling.arranged(targets, COUNTS, SEEDS)
    assert len(places) == len(set(places)) == len(lanes.labels) == 2 * len(COUNTS) * len(SEEDS) + 1
    for place, labels, weight in zip(places, np.asarray(lanes.labels), np.asarray(lanes.weight), strict=True):
        told = labels >= 0
        assert told.sum() == place.labels
        assert (labels[told] == targets[told]).all()
        assert (weight == (told if place.method == ALONE else 1)).all()


def test_principal_components_are_those_of_scikit_learn():
    digits = catalog.load("digits")
    columns = experiment.reduced(digits, None)
    flat = digits.inputs.reshape(len(digits.inputs), -1)
    peer = PCA(experiment.WHOLE).fit(flat[digits.split.train])
    expected = peer.transform(flat)
    expected /= np.sqrt(np.mean(expected[digits.split.train] ** 2))
    np.testing.assert_allclose(np.abs(columns.points), np.abs(expected), atol=2e-4)
    assert columns.variance == pytest.approx(peer.explained_variance_ratio_.sum(), rel=1e-4)
    assert experiment.reduced(DATA, None).points is not None
    np.testing.assert_array_equal(experiment.reduced(DATA, None).points, DATA.inputs)


def test_leads_are_over_the_best_rival():
    outputs = np.log([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]])
    for row, leads in zip(outputs, experiment.leads(outputs), strict=True):
        for label, lead in enumerate(leads):
            assert lead == pytest.approx(row[label] - max(np.delete(row, label)))


def test_more_columns_than_two_are_drawn_in_a_plane_without_boundary(tmp_path):
    experiment.run(
        Workdir(tmp_path / "w", "semi_supervised", ""),
        dataset="digits", dimensions=3, labels=(20,), seeds=(0,), covariances=("spherical",), most_components=10,
        restarts=1, device_count=1,
    )  # fmt: skip
    drawn = (tmp_path / "w" / "figures" / "four_panels.svg").read_text()
    assert "1st principal component" in drawn
    assert "Tinted" not in drawn
    page = (tmp_path / "w" / "report.html").read_text()
    assert "the first 3 principal components of 64 columns" in page
    assert "one draw: no interval" in page


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": (2,)}, "--labels=2: stretched has 3 classes, and each needs a label: give 3 or more"),
        ({"labels": (360,)}, "--labels=360: stretched has 360 training rows"),
        ({"labels": (6, 6)}, "give one or more, each once"),
        ({"covariances": ("ful",)}, "unknown covariance 'ful': did you mean 'full'"),
        ({"covariances": ()}, "--covariances=: give one or more"),
        ({"components": (1, 1)}, "--components=1,1: give one or more, each once"),
        ({"most_components": 2}, "--most_components=2: the classifiers have up to 3 components"),
        ({"dimensions": 3}, "--dimensions=3: stretched has 2 columns"),
        ({"dataset": "streched"}, "did you mean 'stretched'"),
        ({"dataset": "line"}, "line has values to predict"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, options, says):
    with pytest.raises(UserError) as caught:
        experiment.run(Workdir(tmp_path / "w", "semi_supervised", ""), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


def test_the_program_ends_a_mistake_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "experiments.semi_supervised", "--labels=few", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --labels=few: give positive whole numbers")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "w").exists()


def test_default_labels_double_from_one_a_class_and_leave_half_of_the_rows():
    assert experiment.checked_labels(None, DATA) == [3, 6, 12, 24, 48, 96]
    assert experiment.checked_most(None, 3, (1, 4), 360) == 12
