"""The results of a race: what they hold, who leads, and lanes that diverged."""

import numpy as np
import pytest

import mllab
from mllab import race_results
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


def test_results_are_tested_at_the_chosen_rate(raced):
    made = race_results.results(raced, TESTED, target=0.5)
    assert [result.optimizer for result in made] == ["sgd", "adam", "lion"]
    for result, entry in zip(made, raced.entries, strict=True):
        assert result.learning_rate == RATES[entry.best]
        assert result.steps == 24
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


def test_the_lead_is_over_the_next_by_validation_and_paired_by_seed(raced):
    lead = race_results.lead(raced, race_results.results(raced, TESTED))
    first, second = raced.ranked[:2]
    assert lead.of == second.optimizer
    assert lead.unit == "points"
    difference = 100 * (first.test["accuracy"] - second.test["accuracy"])
    assert lead.by.mean == pytest.approx(difference.mean())
    assert lead.by.seeds == 2


def test_without_a_valid_rate_there_are_no_scores_and_no_lead(raced):
    entries = [entry._replace(best=None, test={}) for entry in raced.entries]
    for kept in (entries, [raced.entries[0], *entries[1:]]):
        partly = raced._replace(entries=kept)
        made = race_results.results(partly, TESTED, target=0.5)
        assert (made[1].learning_rate, made[1].validation, made[1].test, made[1].width) == (None, None, {}, None)
        assert np.isnan(made[1].steps_to_target).all()
        assert race_results.lead(partly, made) is None
