"""Mixtures with few labels: lanes, choices by hand, and the fits that are kept."""

import jax.numpy as jnp
import numpy as np
import pytest

from mllab import devices, semi_supervised
from mllab.data import catalog
from mllab.models.mixture import Selection, Setting
from mllab.semi_supervised import ALONE, BOTH, EVERY, Lane

DATA = catalog.load("stretched")
TRAIN, TEST = DATA.split.train, DATA.split.test
COUNTS, DRAWS = (3, 24), 3


@pytest.fixture(scope="module")
def fitted():
    """Fits with 12 labels and their lanes, of two settings."""
    lanes, arrays = semi_supervised.lanes(DATA.targets[TRAIN], [12], 1)
    points, mesh = jnp.asarray(DATA.inputs[TRAIN]), devices.mesh(1)
    settings = [Setting(covariance, 1) for covariance in ("spherical", "diagonal")]
    return lanes, {setting: semi_supervised.fit(arrays, points, setting, 3, 1, mesh) for setting in settings}


def chosen(fitted, accuracies, rows, targets=DATA.targets[TEST]):
    """The choice by these validation accuracies, the same for all lanes, and a BIC that prefers the first setting."""
    lanes, fits = fitted
    bic = Selection([1, 2, 3], {"spherical": [9.0, 9.0, 10.0], "diagonal": [9.0, 9.0, 20.0]}, Setting("spherical", 1))
    validation = {setting: np.full(len(lanes), each) for setting, each in zip(fits, accuracies, strict=True)}
    test = jnp.asarray(DATA.inputs[TEST]), jnp.asarray(targets)
    return semi_supervised.choose(fits, validation, lanes, rows, bic, test, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accuracies", "rows", "covariance"),
    [
        ((0.80, 0.95), 100, "diagonal"),  # a lead that 100 rows support
        ((0.94, 0.95), 100, "spherical"),  # one that they do not: the lesser BIC
        ((0.94, 0.95), 100_000, "diagonal"),
        ((1.0, 1.0), 10, "spherical"),
    ],
)
def test_validation_rows_choose_and_bic_within_a_standard_error(fitted, accuracies, rows, covariance):
    methods = chosen(fitted, accuracies, rows)
    assert list(methods) == [(ALONE, 12), (BOTH, 12), (EVERY, len(TRAIN))]
    for method in methods.values():
        assert (method.covariance, method.components) == (covariance, 1)
        assert method.validation == pytest.approx(accuracies[["spherical", "diagonal"].index(covariance)])


@pytest.mark.slow
def test_test_rows_play_no_part_in_the_choice(fitted):
    right, wrong = (
        chosen(fitted, (0.94, 0.95), 100, targets) for targets in (DATA.targets[TEST], (DATA.targets[TEST] + 1) % 3)
    )
    for group, method in right.items():
        assert (method.covariance, method.validation) == (wrong[group].covariance, wrong[group].validation)
        assert wrong[group].test.mean < method.test.mean


def test_every_fit_has_its_labels_and_sees_its_rows():
    targets = DATA.targets[TRAIN]
    lanes, arrays = semi_supervised.lanes(targets, COUNTS, DRAWS)
    assert len(lanes) == len(set(lanes)) == len(arrays.labels) == 2 * len(COUNTS) * DRAWS + 1
    for lane, labels, weight in zip(lanes, np.asarray(arrays.labels), np.asarray(arrays.weight), strict=True):
        labelled = labels >= 0
        assert labelled.sum() == lane.labels
        assert (labels[labelled] == targets[labelled]).all()
        assert (weight == (labelled if lane.method == ALONE else 1)).all()


def test_hidden_labels_leave_a_stratified_part_that_grows_with_the_count():
    targets = DATA.targets[TRAIN]
    few, many, other = (semi_supervised.hide_labels(targets, *each) for each in ((12, 5), (48, 5), (12, 6)))
    assert few.dtype == np.int32
    assert np.bincount(few[few >= 0]).tolist() == [4, 4, 4]
    assert (many[few >= 0] == few[few >= 0]).all()
    assert (few != other).any()  # another seed, other rows


@pytest.mark.slow
def test_the_fit_of_a_lane_is_that_of_its_chosen_setting(fitted):
    lanes, fits = fitted
    methods = chosen(fitted, (0.80, 0.95), 100)
    one = semi_supervised.fit_of(fits, lanes, Lane(BOTH, 12, 0), methods)
    np.testing.assert_array_equal(one.params.means, fits[Setting("diagonal", 1)].params.means[1])
