"""The results of a race: what they hold, who leads, and lanes that diverged."""

import numpy as np
import pytest

import mllab
from mllab import metrics, race_results
from mllab.data.dataset import Split
from support import problems

SPLIT = Split(np.arange(36), np.arange(36, 48), np.arange(48, 60))
RATES, SEEDS = [1e-6, 0.03, 1e30], [3, 5]
EXAMPLES = problems.examples(60)
TESTED = EXAMPLES["targets"][SPLIT.test]


@pytest.fixture(scope="module")
def raced():
    return mllab.race(
        problems.model(), EXAMPLES, SPLIT, names=["sgd", "adam", "lion"], learning_rates=RATES, seeds=SEEDS,
        epochs=6, batch_size=9,
    )  # fmt: skip


@pytest.mark.slow
def test_results_are_tested_at_the_chosen_rate(raced):
    made = race_results.results(raced, TESTED, target=0.5)
    assert [result.optimizer for result in made] == ["sgd", "adam", "lion"]
    for result, entry in zip(made, raced.entries, strict=True):
        assert result.learning_rate == RATES[entry.best]
        assert result.steps == 24
        expected = race_results.expected_test_scores(entry)
        assert expected.shape == (6,)
        usable = np.isfinite(entry.score)
        assert expected[0] == pytest.approx(
            np.where(usable, entry.test_by_lane, np.nanmin(np.append(entry.test_by_lane[usable], 0.0))).mean()
        )
        np.testing.assert_array_equal(result.test_by_seed["accuracy"], entry.test["accuracy"])
        assert result.test["accuracy"].mean == pytest.approx(np.mean(entry.test["accuracy"]))
        assert result.validation.mean == pytest.approx(entry.score[entry.best].mean())
        assert result.steps_to_target.shape == (2,)
        lost = [(lane.learning_rate, lane.seed) for lane in (*result.nonfinite, *result.failed)]
        assert lost == [
            (RATES[rate], SEEDS[seed])
            for where in (entry.nonfinite_step >= 0, entry.failed)
            for rate, seed in np.argwhere(where)
        ]
        assert all(lane.step is not None for lane in result.nonfinite)
        assert all(lane.step is None for lane in result.failed)
        counts = sum(
            race_results.lanes_by_rate(each, raced.learning_rates) for each in (result.nonfinite, result.failed)
        )
        assert counts.sum() == len(lost)
    assert any(result.nonfinite or result.failed for result in made)
    assert race_results.results(raced, TESTED)[0].steps_to_target.size == 0


@pytest.mark.slow
def test_the_leads_are_over_the_next_by_validation_and_paired_by_seed(raced):
    by_validation, by_test = race_results.leads(raced, race_results.results(raced, TESTED))
    first, second = raced.ranked[:2]
    for lead, difference in (
        (by_validation, first.score[first.best] - second.score[second.best]),
        (by_test, first.test["accuracy"] - second.test["accuracy"]),
    ):
        assert lead.of == second.optimizer
        assert lead.unit == "points"
        assert lead.by.mean == pytest.approx(100 * difference.mean(), abs=1e-3)
        assert lead.by.seeds == 2
    one_seed = raced._replace(seeds=raced.seeds[:1])
    assert race_results.leads(one_seed, []) == (None, None)


def test_metrics_of_single_rows_are_those_that_the_race_has_the_means_of(raced):
    for entry in raced.entries:
        by_row = race_results.row_metrics(raced, entry, problems.model(), EXAMPLES, SPLIT.test)
        assert by_row["accuracy"].shape == (2, len(SPLIT.test))
        for name, values in by_row.items():
            np.testing.assert_allclose(values.mean(axis=1), entry.test[name], rtol=1e-5)


def test_validation_rows_decide_who_is_tied_with_the_winner(raced):
    standing = race_results.standing(raced, problems.model(), EXAMPLES, SPLIT.validation)
    assert standing.names == [entry.optimizer for entry in raced.ranked]
    assert standing.best == raced.winner.optimizer
    assert standing.best in standing.tied
    assert (standing.seeds, standing.is_compared) == (2, True)
    order = [entry.optimizer for entry in raced.entries]
    assert standing.tied == sorted(standing.tied, key=order.index)
    # Other test rows change nothing: they play no part.
    other = dict(EXAMPLES, targets=EXAMPLES["targets"].copy())
    other["targets"][SPLIT.test] = 0
    assert race_results.standing(raced, problems.model(), other, SPLIT.validation) == standing


def test_a_winner_by_one_row_is_the_same_set_of_ties_whichever_rounding_picks(raced):
    """The defect: one validation row more on another number of devices, and another optimizer had won."""
    by_rows = {"adam": [353, 354, 354], "rmsprop": [354, 352, 353], "momentum": [349, 351, 352]}
    for scores in (by_rows, by_rows | {"adam": [353, 354, 353]}, by_rows | {"rmsprop": [354, 353, 354]}):
        ranking = metrics.ranking({name: np.array(rows, np.float32) / 359 for name, rows in scores.items()})
        assert {"adam", "rmsprop"} <= set(ranking.tied)


def test_without_a_valid_rate_there_are_no_scores_and_no_lead(raced):
    entries = [entry._replace(best=None, test={}) for entry in raced.entries]
    for kept in (entries, [raced.entries[0], *entries[1:]]):
        partly = raced._replace(entries=kept)
        made = race_results.results(partly, TESTED, target=0.5)
        assert (made[1].learning_rate, made[1].validation, made[1].test, made[1].width) == (None, None, {}, None)
        assert np.isnan(made[1].steps_to_target).all()
        assert race_results.leads(partly, made) == (None, None)
    nothing = raced._replace(entries=entries)
    assert race_results.standing(nothing, problems.model(), EXAMPLES, SPLIT.validation) is None
