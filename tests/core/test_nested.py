"""Nested cross-validation in one program: the same as cross-validating a learner that tunes itself."""

import jax
import numpy as np
import pytest

from mllab import learners, selection, validation
from mllab.errors import UserError
from mllab.learners import preprocessed
from mllab.models.preprocessing import Columns, Layout
from mllab.nested import Variant, nested, plan_folds
from mllab.schemes import Scheme

KEY = jax.random.key(0)


def problem(rows=90, seed=0):
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(rows, 3)).astype(np.float32)
    codes = draw.integers(0, 3, (rows, 1)).astype(np.int32)
    labels = (numbers[:, 0] + 0.8 * draw.normal(size=rows) > 0).astype(np.int32)
    numbers[draw.random((rows, 3)) < 0.1] = np.nan
    return {"inputs": Columns(numbers, codes), "targets": labels}


def table(learner):
    return preprocessed(learner, Layout(3, (0, 1, 2), (3,)))


def planned(examples, seed=0, groups=None):
    scheme = Scheme(seed, examples["targets"], groups)
    outer = scheme.folds(np.arange(len(examples["targets"])), 4)
    return outer, plan_folds(outer, lambda ids: scheme.folds(ids, 3))


@pytest.mark.slow
def test_nested_equals_the_cross_validation_of_a_tuned_learner():
    examples = problem()
    outer, plan = planned(examples)
    axes = {"k": [1, 3, 9]}
    result = nested(
        [Variant(table(learners.nearest_neighbors(2, 9)), axes)], KEY, examples, plan, validation.accuracy
    )  # fmt: skip
    choices = []
    tuned = selection.tuned(
        table(learners.nearest_neighbors(2, 9)),
        axes,
        lambda inner: validation.folds(np.arange(len(inner["targets"])), 3, seed=0, targets=inner["targets"]),
        validation.accuracy,
        observe=choices.append,
    )
    expected = validation.cross_validate(tuned, {}, KEY, examples, outer, validation.accuracy)
    np.testing.assert_allclose(result.outer, expected)
    np.testing.assert_allclose(result.inner, [choice.interval.mean for choice in choices], rtol=1e-12)
    assert [result.values(setting) for setting in result.chosen] == [choice.setting for choice in choices]
    for ids, outputs, score in zip(plan.outer, result.outputs, result.outer, strict=True):
        assert np.mean(outputs.argmax(axis=1) == examples["targets"][ids]) == pytest.approx(score)


def test_the_best_variant_is_chosen_and_all_settings_are_kept():
    examples = problem()
    _, plan = planned(examples)
    frequent = Variant(table(learners.most_frequent(2)), {}, "most frequent")
    neighbours = Variant(table(learners.nearest_neighbors(2, 9)), {"k": [5, 9]}, "neighbours")
    result = nested([frequent, neighbours], KEY, examples, plan, validation.accuracy)
    assert {setting.variant for setting in result.chosen} == {1}
    assert result.final.variant == 1
    inner, outer = result.all_scores()
    assert inner.shape == outer.shape == (3, 4)
    assert np.all(result.inner == inner.max(axis=0))


def test_no_held_out_row_influences_a_choice_or_the_outputs_of_others():
    examples = problem()
    _, plan = planned(examples)
    variants = [Variant(table(learners.nearest_neighbors(2, 9)), {"k": [1, 5, 9]})]
    before = nested(variants, KEY, examples, plan, validation.accuracy)
    numbers = examples["inputs"].numbers.copy()
    numbers[plan.outer[2][0]] = 1e6  # an outlier among the held-out rows of the third outer fold
    examples = {"inputs": Columns(numbers, examples["inputs"].codes), "targets": examples["targets"]}
    after = nested(variants, KEY, examples, plan, validation.accuracy)
    assert after.chosen[2] == before.chosen[2]
    np.testing.assert_array_equal(after.outputs[2][1:], before.outputs[2][1:])


@pytest.mark.slow
def test_with_shuffled_labels_the_outer_score_is_chance_and_the_inner_score_is_above_it():
    examples = problem(240)
    inner, outer = [], []
    for seed in range(4):
        shuffled = np.random.default_rng(seed).permutation(np.repeat([0, 1], 120)).astype(np.int32)
        drawn = {"inputs": examples["inputs"], "targets": shuffled}
        _, plan = planned(drawn, seed)
        ks = {"k": list(range(1, 30, 2))}
        variants = [Variant(table(learners.nearest_neighbors(2, 29)), ks)]
        result = nested(variants, KEY, drawn, plan, validation.accuracy)
        inner.append(result.inner.mean())
        outer.append(result.outer.mean())
    assert abs(np.mean(outer) - 0.5) < 0.04
    assert np.mean(inner) > np.mean(outer) + 0.01


def test_mistakes_are_one_line():
    examples = problem()
    _, plan = planned(examples)
    with pytest.raises(UserError, match="no learner"):
        nested([], KEY, examples, plan, validation.accuracy)
    broken = validation.Learner(lambda *_: None, lambda _, inputs: np.full(len(inputs.codes), np.nan))
    broken = broken._replace(grid=validation.one_by_one(*broken[:2]), takes_missing=True)
    with pytest.raises(UserError, match="not finite"):
        nested([Variant(broken, {})], KEY, examples, plan, lambda outputs, targets: outputs)
