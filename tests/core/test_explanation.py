"""Permutation importance and partial dependence: scikit-learn's figures, coverage by simulation, and bad arguments."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import inspection
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression

from mllab import criteria, explanation
from mllab.explanation import CODE, NUMBER, Column
from mllab.models.preprocessing import Columns
from mllab.validation import accuracy
from support.mistakes import refused_in_one_line

DRAW = np.random.default_rng(1)
NUMBERS = DRAW.normal(size=(240, 4)).astype(np.float32)
CODES = DRAW.integers(0, 3, (240, 1)).astype(np.int32)
COLUMNS = Columns(NUMBERS, CODES)
VALUES = (2 * NUMBERS[:, 0] + np.abs(NUMBERS[:, 1]) + CODES[:, 0] + DRAW.normal(0, 0.3, 240)).astype(np.float32)
LABELS = (np.median(VALUES) < VALUES).astype(np.int32)
FOREST = RandomForestRegressor(30, random_state=0, max_depth=6).fit(np.hstack([NUMBERS, CODES])[:120], VALUES[:120])
LOGISTIC = LogisticRegression().fit(np.hstack([NUMBERS, CODES])[:120], LABELS[:120])
squared = criteria.CRITERIA["rmse"].score()


def rows(ids):
    return Columns(NUMBERS[ids], CODES[ids])


HELD_OUT = rows(slice(120, 240))


def forest(columns):
    return FOREST.predict(np.hstack([columns.numbers, columns.codes])).astype(np.float32)


def logistic(columns):
    return LOGISTIC.predict_log_proba(np.hstack([columns.numbers, columns.codes])).astype(np.float32)


def test_drops_are_those_of_scikit_learn_and_a_column_without_influence_includes_0():
    ours = explanation.permutation_importance(forest, HELD_OUT, VALUES[120:], squared, repeats=50)
    theirs = inspection.permutation_importance(
        FOREST, np.hstack(HELD_OUT), VALUES[120:], scoring="neg_mean_squared_error", n_repeats=50, random_state=0
    )
    assert [each.group for each in ours] == [(Column(NUMBER, i),) for i in range(4)] + [(Column(CODE, 0),)]
    for each, mean, spread in zip(ours, theirs.importances_mean, theirs.importances_std, strict=True):
        apart = mean * 120 / 119  # scikit-learn leaves one row in place on average, of 120
        assert abs(each.drop.mean - apart) < 4 * spread * np.sqrt(2 / 50)
    assert [each.drop.sign for each in ours] == [1, 1, 0, 0, 1]


def test_results_do_not_depend_on_the_blocks_and_predictions_have_one_shape():
    sizes = set()

    def seen(columns):
        sizes.add(columns.numbers.shape)
        return logistic(columns)

    ours = [
        explanation.permutation_importance(seen, HELD_OUT, LABELS[120:], accuracy, repeats=3, block_rows=block)
        for block in (50, 10**6)
    ]
    assert ours[0] == ours[1]
    assert len(sizes) == 2  # one for each call


def test_a_column_that_the_model_ignores_has_an_importance_of_exactly_0():
    (one,) = explanation.permutation_importance(
        lambda columns: columns.numbers[:, 0], COLUMNS, VALUES, squared, [[Column(NUMBER, 1)]], repeats=3
    )
    assert one.drop == (0, 0, 0, 240)


def test_groups_are_shuffled_together_and_missing_numbers_with_them():
    numbers = np.where(NUMBERS > 1, np.nan, NUMBERS)
    pairs = {(a, b) for a, b in zip(numbers[:, 0].tolist(), CODES[:, 0].tolist(), strict=True) if a == a}
    missing = np.isnan(numbers[:, 0]).sum()
    seen = []

    def predict(columns):
        seen.append(columns)
        return columns.codes[:, 0].astype(np.float32)

    group = [Column(NUMBER, 0), Column(CODE, 0)]
    (one,) = explanation.permutation_importance(
        predict, Columns(numbers, CODES), VALUES, squared, [group], repeats=2, block_rows=240
    )
    assert one.group == tuple(group)
    for columns in seen[1:]:
        shuffled = list(zip(columns.numbers[:, 0].tolist(), columns.codes[:, 0].tolist(), strict=True))
        assert {pair for pair in shuffled if pair[0] == pair[0]} == pairs
        assert np.isnan(columns.numbers[:, 0]).sum() == missing
        np.testing.assert_array_equal(columns.numbers[:, 1:], numbers[:, 1:])
    assert not np.array_equal(seen[1].codes, seen[2].codes)


@pytest.mark.parametrize(("rooted", "repeats"), [(False, 10), (True, 10), (False, 2)])
def test_intervals_cover_the_drop_of_the_population(rooted, repeats):
    """A line through normal points: shuffling x raises the squared error from 1 to 1 + 2 b², whatever the rows."""
    slope, rows, draw = 0.7, 80, np.random.default_rng(1)
    utility = criteria.CRITERIA["rmse"].utility if rooted else np.asarray
    before, after = 1.0, 1 + 2 * slope**2
    truth = np.sqrt(after) - np.sqrt(before) if rooted else after - before
    hits = 0
    for _ in range(500):
        x, noise = draw.normal(size=(2, rows))
        donors = np.empty((repeats, rows), int)
        for repeat in range(repeats):
            cycle = draw.permutation(rows)
            donors[repeat, cycle] = np.roll(cycle, 1)
        shuffled = -((slope * (x - x[donors]) + noise) ** 2)
        drop = explanation.drop_interval(-(noise**2), shuffled, donors, utility)
        hits += drop.low <= truth <= drop.high
    assert 0.92 <= hits / 500 <= 0.98


def test_the_drop_is_reported_in_the_unit_of_the_criterion():
    rmse = criteria.CRITERIA["rmse"]
    ours = explanation.permutation_importance(
        forest, HELD_OUT, VALUES[120:], squared, repeats=2, utility=rmse.utility
    )  # fmt: skip
    plain = explanation.permutation_importance(forest, HELD_OUT, VALUES[120:], squared, repeats=2)
    base = np.mean((forest(HELD_OUT) - VALUES[120:]) ** 2)
    for one, other in zip(ours, plain, strict=True):
        assert one.drop.mean == pytest.approx(np.sqrt(base + other.drop.mean) - np.sqrt(base), rel=1e-4, abs=1e-6)
        assert one.drop.sign == other.drop.sign


def test_partial_dependence_is_that_of_scikit_learn():
    ours = explanation.partial_dependence(forest, COLUMNS, Column(NUMBER, 1), block_rows=1000)
    theirs = inspection.partial_dependence(
        FOREST, np.hstack(COLUMNS), [1], method="brute", kind="both", custom_values={1: ours.grid}
    )
    np.testing.assert_allclose(ours.mean, theirs["average"][0], rtol=1e-5, atol=1e-6)
    low, high = np.percentile(theirs["individual"][0], (10, 90), axis=0)
    np.testing.assert_allclose([ours.low, ours.high], [low, high], rtol=1e-5, atol=1e-6)
    assert len(ours.grid) == 20
    assert set(ours.grid) <= set(NUMBERS[:, 1])


def test_partial_dependence_of_a_category_is_of_its_values_and_of_probabilities():
    codes = np.where(np.arange(240)[:, None] < 9, -1, CODES)
    ours = explanation.partial_dependence(logistic, Columns(NUMBERS, codes), Column(CODE, 0), value=jnp.exp)
    assert ours.grid.tolist() == [0, 1, 2]
    for code, mean in zip(ours.grid, ours.mean, strict=True):
        expected = np.exp(logistic(Columns(NUMBERS, np.full_like(CODES, code)))).mean(axis=0)
        np.testing.assert_allclose(mean, expected, rtol=1e-5)
    fewer = explanation.partial_dependence(logistic, Columns(NUMBERS, codes), Column(CODE, 0), points=2)
    rarest = np.bincount(codes[9:, 0]).argmin()
    assert rarest not in fewer.grid


def test_a_column_of_missing_numbers_alone_has_no_grid():
    empty = Columns(np.full((5, 1), np.nan, np.float32), np.zeros((5, 0), np.int32))
    with refused_in_one_line("grid: "):
        explanation.partial_dependence(forest, empty, Column(NUMBER, 0))


def test_the_most_wrong_rows_have_the_lowest_scores():
    scores = [0.5, -2.0, np.nan, -2.0, 3.0]
    assert explanation.most_wrong(scores, 3).tolist() == [2, 1, 3]
    assert explanation.most_wrong(scores).tolist() == [2, 1, 3, 0, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explanation.permutation_importance(forest, rows([0]), VALUES[:1], squared), "1 rows and targets"),
        (lambda: explanation.permutation_importance(forest, COLUMNS, VALUES[:9], squared), r"240 rows and targets \[9"),
        (lambda: explanation.permutation_importance(forest, NUMBERS, VALUES, squared), "expected Columns"),
        (
            lambda: explanation.permutation_importance(forest, COLUMNS, VALUES, squared, [[Column(CODE, 1)]]),
            "column code 1: there are 1",
        ),
        (
            lambda: explanation.permutation_importance(lambda c: c.numbers[:, 0] * np.nan, COLUMNS, VALUES, squared),
            "scores of held-out rows: .* nan",
        ),
        (lambda: explanation.partial_dependence(forest, COLUMNS, Column("date", 0)), "column 'date'"),
        (lambda: explanation.partial_dependence(forest, COLUMNS, Column(CODE, 0), np.array([0.5])), "of a code"),
        (lambda: explanation.most_wrong([[1.0]]), "expected one a row"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(call, message):
    with refused_in_one_line(message):
        call()


def test_running_means_are_those_of_bins_of_equally_many_rows():
    x = np.repeat(np.arange(100.0), 2)[::-1]
    made = explanation.running(x, x**2, bins=4)
    np.testing.assert_allclose(made.x, [12, 37, 62, 87])
    np.testing.assert_allclose(made.mean, [np.mean(np.arange(low, low + 25) ** 2) for low in (0, 25, 50, 75)])
    assert ((made.low < made.mean) & (made.mean < made.high)).all()
    assert len(explanation.running(np.ones(50), x[:50]).x) == 1
    with refused_in_one_line("expected"):
        explanation.running([], [])
