"""The search of a pool: results, what is left out and why, and the budget of time."""

import jax
import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from mllab import learners, pool, validation
from mllab.errors import UserError
from mllab.learners import preprocessed
from mllab.model_search import Budget, Candidate, search
from mllab.models.preprocessing import Columns, Layout
from mllab.nested import Variant, plan_folds
from mllab.schemes import Scheme
from mllab.validation import Learner

KEY, LAYOUT = jax.random.key(0), Layout(2)


def problem(rows=60):
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=(rows, 2)).astype(np.float32)
    labels = (numbers[:, 0] > 0).astype(np.int32)
    scheme = Scheme(0, labels)
    plan = plan_folds(scheme.folds(np.arange(rows), 3), lambda ids: scheme.folds(ids, 2))
    return {"inputs": Columns(numbers, np.zeros((rows, 0), np.int32)), "targets": labels}, plan


class Clock:
    """A clock that a slow learner moves, and each look at it a little."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1e-6
        return self.now


def slow(clock, seconds):
    """Return a constant learner each fit of which takes some seconds."""

    def fit(hyper, key, examples, rows):
        clock.now += seconds
        return np.zeros(2, np.float32)

    def predict(params, inputs):
        return np.broadcast_to(params, (len(inputs.numbers), 2))

    return Learner(fit, predict, validation.one_by_one(fit, predict), takes_missing=True)


def found_by(candidates, budget=None, rows=60):
    examples, plan = problem(rows)
    return search(candidates, KEY, examples, plan, validation.accuracy, budget=budget)


@pytest.mark.slow
def test_estimators_of_scikit_learn_are_searched_beside_learners():
    tree = learners.of_sklearn(DecisionTreeClassifier(random_state=0), 2)
    found = found_by({
        "constant": Candidate("constant", [Variant(preprocessed(learners.most_frequent(2), LAYOUT), {})]),
        "tree": Candidate("tree", [Variant(preprocessed(tree, LAYOUT), {"max_depth": [1, 3]})]),
    })  # fmt: skip
    assert found["tree"].nested.outer.mean() > 0.9 > found["constant"].nested.outer.mean()
    assert set(found["tree"].nested.values(found["tree"].nested.final)) == {"max_depth"}


def test_what_cannot_be_searched_is_left_out_with_the_reason():
    broken = learners.most_frequent(2)._replace(check=lambda examples: (_ for _ in ()).throw(UserError("too few rows")))
    good = preprocessed(learners.most_frequent(2), LAYOUT)
    found = found_by({
        "broken": Candidate("broken", [Variant(preprocessed(broken, LAYOUT), {})]),
        "good": Candidate("good", [Variant(good, {})]),
        "mean": Candidate("mean of broken", [Variant(good, {})], base="broken"),
    })  # fmt: skip
    assert found["broken"].left_out == "too few rows"
    assert "broken was left out" in found["mean"].left_out
    assert found["good"].nested is not None
    with pytest.raises(UserError, match="no model is left: broken: too few rows"):
        found_by({"broken": Candidate("broken", [Variant(preprocessed(broken, LAYOUT), {})])})


def test_a_search_that_turns_out_slow_ends_at_the_next_fold():
    clock = Clock()
    quick = Candidate("quick", [Variant(preprocessed(learners.most_frequent(2), LAYOUT), {})])
    found = found_by(
        {"quick": quick, "slow": Candidate("slow", [Variant(slow(clock, 1.0), {"x": [1, 2]})])}, Budget(15, clock)
    )
    assert found["quick"].nested is not None
    assert found["slow"].nested is None
    assert "6 s" in found["slow"].left_out  # two settings on two inner folds and the outer one
    assert clock.now < 15


def test_large_tables_are_timed_on_a_few_rows_first():
    clock = Clock()

    def fit(hyper, key, examples, rows):
        clock.now += (len(np.asarray(rows.ids)) / 1000) ** 2  # of concrete rows alone: on the host, not compiled
        return np.zeros(2, np.float32)

    quadratic = slow(clock, 1.0)._replace(fit=fit)
    found = found_by({
        "constant": Candidate("constant", [Variant(preprocessed(learners.most_frequent(2), LAYOUT), {})]),
        "slow": Candidate("slow", [Variant(quadratic, {})], exponents=(2.0, 1.0)),
    }, Budget(60, clock), rows=9000)  # fmt: skip
    assert "would take about 324 s" in found["slow"].left_out  # nine fits to 6,000 rows
    assert "by fits to 500 of 6,000 rows" in found["slow"].left_out
    assert clock.now < 20


def test_a_spent_budget_leaves_the_rest_out():
    clock = Clock()
    candidates = {name: Candidate(name, [Variant(slow(clock, 1.0), {})]) for name in ("first", "second", "third")}
    found = found_by(candidates, Budget(11.26, clock))
    assert found["first"].nested is not None
    assert "of the budget for the search were left" in found["second"].left_out
    assert found["third"].left_out == "the budget was spent"
    with pytest.raises(UserError, match="budget = 0 s"):
        Budget(0)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_model_of_the_pool_has_variants_for_its_tasks(task):
    asked = pool.Problem(task, 3 if task == "classification" else 0, Layout(2, (0,), (3,)), 30)
    candidates = pool.candidates_of([], asked)
    assert list(candidates) == [name for name, row in pool.POOL.items() if task in row.tasks]
    for name, candidate in candidates.items():
        assert candidate.variants, name
        for variant in candidate.variants:
            validation.checked_axes(variant.axes)
            assert all(k <= 30 for k in variant.axes.get("k", ())), name


def test_names_of_the_pool_are_checked():
    asked = pool.Problem("regression", 0, LAYOUT, 30)
    assert list(pool.candidates_of(["mlp_ensemble"], asked)) == ["mlp", "mlp_ensemble"]
    with pytest.raises(UserError, match="unknown model 'knnn': did you mean 'knn'"):
        pool.candidates_of(["knnn"], asked)
    with pytest.raises(UserError, match="softmax is for classification"):
        pool.candidates_of(["softmax"], asked)
