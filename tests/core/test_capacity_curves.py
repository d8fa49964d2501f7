"""Errors along an axis against scikit-learn, samples, and verdicts on curves whose shape is known."""

import jax
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures

from mllab import capacity, learners, metrics
from mllab.capacity import Errors
from mllab.learners import polynomials
from mllab.types import Rows
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)


def squared(outputs, targets):
    return (outputs - targets) ** 2


def problem(count, columns=1):
    draw = np.random.default_rng(0)
    inputs = draw.uniform(-1, 1, (count, columns)).astype(np.float32)
    return {"inputs": inputs, "targets": np.sin(3 * inputs[:, 0]) + 0.2 * draw.normal(size=count).astype(np.float32)}


def of_sample(make, examples, train, held_out):
    """Training and validation RMSE of a scikit-learn model."""
    x, y = examples["inputs"].astype(np.float64), examples["targets"]
    model = make().fit(x[train], y[train])
    return [np.sqrt(np.mean((model.predict(x[rows]) - y[rows]) ** 2)) for rows in (train, held_out)]


@pytest.mark.slow
def test_errors_by_degree_are_scikit_learns_inside_the_training_range():
    samples, examples, degrees = capacity.fresh(20, 8, 2), problem(56), [1, 3, 5]
    for sample in samples.train:  # ends inside which the validation rows lie, since they are clipped there
        examples["inputs"][sample[:2], 0] = -1, 1
    found = capacity.along_axis(
        learners.polynomial(None, 5), "degree", degrees, {}, KEY, examples, samples, squared, np.sqrt
    )
    for place, degree in enumerate(degrees):
        for sample, (train, held_out) in enumerate(zip(samples.train, samples.held_out, strict=True)):
            expected = of_sample(
                lambda degree=degree: make_pipeline(PolynomialFeatures(degree), LinearRegression()),
                examples, train, held_out,
            )  # fmt: skip
            measured = found.training[place, sample], found.validation[place, sample]
            np.testing.assert_allclose(measured, expected, rtol=2e-4)


def test_products_of_columns_span_all_polynomials_where_they_are_few():
    expected = PolynomialFeatures(3, include_bias=False).fit(np.zeros((1, 2))).powers_
    assert sorted(map(tuple, polynomials.powers(2, 3))) == sorted(map(tuple, expected))
    many = polynomials.powers(50, 6)
    assert many.shape == (300, 50)
    assert ((many > 0).sum(axis=1) == 1).all()


@pytest.mark.parametrize("apart", [False, True])
def test_a_learning_curve_trains_on_the_first_rows_of_each_sample(apart):
    examples, rows = problem(60), [4, 16]
    samples = capacity.resampled(np.arange(60), 16, 20, 2, 0, examples["targets"])
    found = capacity.along_rows(
        learners.nearest_neighbors(None, 3), rows, {"k": 3}, KEY, examples, samples, squared, np.sqrt, apart=apart
    )
    for place, n in enumerate(rows):
        for sample, (train, held_out) in enumerate(zip(samples.train, samples.held_out, strict=True)):
            expected = of_sample(lambda: KNeighborsRegressor(3), examples, train[:n], held_out)
            np.testing.assert_allclose(
                (found.training[place, sample], found.validation[place, sample]), expected, rtol=1e-5
            )


@pytest.mark.slow
def test_units_beyond_the_width_do_nothing():
    examples = problem(12)
    learner = learners.mlp_of_width(None, 6, steps=30)
    rows = Rows(np.arange(12), np.ones(12, np.float32))
    net = learner.fit({"width": 2}, KEY, examples, rows)
    first, last = jax.tree.map(np.asarray, net.layers)
    start = learners.mlp_of_width(None, 6, steps=1, learning_rate=0.0).fit({"width": 2}, KEY, examples, rows).layers
    np.testing.assert_array_equal(first.w[:, 2:], start[0].w[:, 2:])
    np.testing.assert_array_equal(last.w[2:], start[1].w[2:])
    assert not np.array_equal(first.w[:, :2], start[0].w[:, :2])
    hidden = np.maximum(examples["inputs"] @ first.w[:, :2] + first.b[:2], 0)
    expected = hidden @ last.w[:2, 0] + last.b[0]
    np.testing.assert_allclose(learner.predict(net, examples["inputs"]), expected, rtol=1e-4, atol=1e-6)


# ── Samples ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_samples_share_no_row_between_training_and_validation_and_begin_with_each_class():
    targets = np.zeros(40, np.int32)
    targets[[3, 30]] = 1, 2
    samples = capacity.resampled(np.arange(40), 20, 10, 5, 0, targets)
    for train, held_out in zip(samples.train, samples.held_out, strict=True):
        assert len({*train.tolist(), *held_out.tolist()}) == 30
        assert set(targets[train[:3]]) == {0, 1, 2}
    new = capacity.fresh(3, 2, 4)
    assert sorted(np.concatenate([new.train, new.held_out], axis=1).ravel().tolist()) == list(range(20))
    values = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
    assert samples.interval(values).high > metrics.interval(values).high  # for the rows that they share
    assert new.interval(values) == metrics.interval(values)
    with refused_in_one_line("30 training and 11 validation rows of 40"):
        capacity.resampled(np.arange(40), 30, 11, 2, 0, targets)


# ── Verdicts ────────────────────────────────────────────────────────────────────────────────────────────────────────


def curves(training, validation, samples=8):
    noise = 0.01 * np.random.default_rng(0).normal(size=(len(training), samples))
    return Errors(*(np.array(each)[:, None] + noise for each in (training, validation)))


@pytest.mark.parametrize(
    ("training", "validation", "expected"),
    [
        ([4, 2, 1, 0.5, 0.1], [4, 2.2, 1.5, 2, 3], (2, [0, 1], [3, 4], [], None)),
        ([4, 2, 1, 1, 1], [4, 2.2, 1.5, 1.5, 1.5], (None, [0, 1], [], [], None)),
        ([4, 2, 1, 2, 3], [4, 2.2, 1.5, 2.5, 3.5], (2, [0, 1], [], [3, 4], None)),  # training fails, too
        ([4, 2, 1, 0, 0], [4, 1.5, 3, 9, 3], (1, [0], [2, 3, 4], [], 3)),  # double descent
        ([1, 0.5, 0.2], [1, 2, 3], (0, [], [1, 2], [], None)),
    ],
)
def test_verdicts_on_known_shapes(training, validation, expected):
    verdict = capacity.judge(curves(training, validation), metrics.interval)
    chosen, *rest = expected
    assert chosen is None or verdict.chosen == chosen
    assert [verdict.underfits, verdict.overfits, verdict.others, verdict.peak] == rest


def test_errors_that_are_not_finite_are_never_chosen():
    errors = curves([1, 1, 1], [2, 1, 3])
    errors.validation[1, 0] = np.nan
    verdict = capacity.judge(errors, metrics.interval)
    assert (verdict.chosen, verdict.overfits) == (0, [1, 2])
    with refused_in_one_line("no value of the axis has finite"):
        capacity.judge(Errors(errors.training, np.full((3, 8), np.nan)), metrics.interval)


@pytest.mark.parametrize(
    ("training", "validation", "helps"),
    [
        ([0.1, 0.5, 0.6], [3, 2, 1.5], "likely"),
        ([0.1, 0.5, 0.6], [3, 1.5, 1.5], "unclear"),
        ([1.4, 1.48, 1.49], [3, 1.5, 1.5], "hardly"),
    ],
)
def test_whether_more_rows_help(training, validation, helps):
    assert capacity.trend([10, 20, 40], curves(training, validation), metrics.interval).helps == helps
