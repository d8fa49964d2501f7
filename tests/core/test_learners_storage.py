"""Learners and their params as plan, structure and arrays: round trips through JSON, and what is refused."""

import copy
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mllab import learners
from mllab.errors import UserError
from mllab.learners import storage
from mllab.models import table
from mllab.models.preprocessing import Columns, Layout
from mllab.types import Rows
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
DRAW = np.random.default_rng(0)
NUMBERS = DRAW.normal(size=(30, 2)).astype(np.float32)
TARGETS = {"labels": (np.arange(30) % 3).astype(np.int32), "values": NUMBERS[:, 0] ** 2}
ROWS = Rows(np.arange(30), np.ones(30, np.float32))
NUMBERS[3, 0] = np.nan
COLUMNS = Columns(NUMBERS, DRAW.integers(-1, 4, (30, 1)).astype(np.int32))
LAYOUT = Layout(2, (0,), (4,))
FILLED = np.nan_to_num(NUMBERS)
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # the plan's arguments, and a setting
    "boosted_trees": ({"classes": 3, "layout": LAYOUT, "iterations": 2}, {}),
    "kernel_ridge": ({}, {"l2": 1.0}),
    "kmeans": ({"most": 3, "restarts": 2}, {"k": 2}),
    "linear": ({}, {}),
    "mean": ({}, {}),
    "mixture": ({"classes": 3, "covariance": "diagonal", "restarts": 1}, {"floor": 0.1}),
    "mlp": ({"classes": 3, "hidden": [4], "steps": 2}, {}),
    "most_frequent": ({"classes": 3}, {}),
    "nearest_neighbors": ({"classes": 3, "most": 4}, {"k": 3}),
    "ridge": ({}, {"l2": 1.0}),
    "softmax_regression": ({"classes": 3}, {"l2": 1.0}),
    "support_vector_regression": ({}, {"c": 1.0}),
    "svm": ({"classes": 3}, {"c": 1.0}),
}
ENSEMBLE = {"of": {"learner": "mlp", "hidden": [4], "steps": 2}, "members": 2}
VALUES = ("kernel_ridge", "linear", "mean", "ridge", "support_vector_regression")


SLOW = ("kmeans", "mixture", "softmax_regression", "support_vector_regression", "svm")  # to compile
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in [*CASES, "preprocessed"]]
HOSTILE = [each for each in NAMES if each.values[0] in ("boosted_trees", "mixture", "ridge", "svm")]


def packed(name, nested=False):
    """The plan, params, structure and arrays of a fit, and the inputs that it takes."""
    arguments, setting = CASES[name]
    plan = storage.plan(name, **arguments)
    of_columns = nested or "layout" in arguments
    if nested:
        plan = storage.plan("preprocessed", of=plan, layout=LAYOUT, transform="quantile")
    inputs = COLUMNS if of_columns else FILLED
    examples = {"inputs": inputs, "targets": TARGETS["values" if name in VALUES else "labels"]}
    params = storage.rebuild(plan).fit(setting, KEY, examples, ROWS)
    arrays, structure = storage.pack(params)
    return json.loads(json.dumps(plan)), params, json.loads(json.dumps(structure)), arrays, inputs


def test_every_learner_of_the_table_is_tested():
    assert {*CASES, "preprocessed", "ensemble", "published"} == set(storage.LEARNERS)
    # of_sklearn needs pickle, the learners of sweeps of capacity are not saved, and the others are no learners.
    without = {"of_sklearn", "polynomial", "mlp_of_width", "check_votes", "ensemble_spread", "DEFAULT_AXES"}
    assert set(learners.__all__) - without <= set(storage.LEARNERS)


def test_a_published_model_is_restored():
    architecture = table.plan("mlp", (2,), 3, hidden=[4])
    learner = storage.rebuild(json.loads(json.dumps(storage.plan("published", architecture=architecture, classes=3))))
    params = table.build(architecture).init(KEY)[0]
    arrays, structure = storage.pack(params)
    again = storage.unpack(arrays, json.loads(json.dumps(structure)))
    np.testing.assert_array_equal(learner.predict(again, FILLED), learner.predict(params, FILLED))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_round_trip_keeps_the_predictions(name):
    plan, params, structure, arrays, inputs = packed("ridge", True) if name == "preprocessed" else packed(name)
    assert all(type(array) is np.ndarray for array in arrays.values())
    again = storage.unpack(arrays, structure)
    assert jax.tree.structure(again) == jax.tree.structure(params)
    before, after = (storage.rebuild(plan).predict(each, inputs) for each in (params, again))
    np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_an_ensemble_is_restored_with_its_spread():
    learner = storage.rebuild(storage.plan("ensemble", **ENSEMBLE))
    params = learner.fit({}, KEY, {"inputs": FILLED, "targets": TARGETS["values"]}, ROWS)
    arrays, structure = storage.pack(params)
    again = storage.unpack(arrays, json.loads(json.dumps(structure)))
    np.testing.assert_allclose(learner.predict(again, FILLED), learner.predict(params, FILLED), rtol=1e-6)
    spread = learners.ensemble_spread(again, FILLED)
    np.testing.assert_allclose(spread, learners.ensemble_spread(params, FILLED), rtol=1e-5)
    with refused_in_one_line("which it cannot be"):
        scalar = {"value": 1}
        parts = {"layers": {"tuple": []}, "net": scalar, "centre": scalar, "scale": scalar}
        storage.unpack({}, {"class": "MLP", "fields": parts})


def test_plans_have_the_defaults():
    assert storage.plan("svm", classes=3)["scheme"] == "one_vs_one"
    assert "mesh" not in storage.plan("svm", classes=3)


def test_plain_containers_and_numbers_are_kept():
    params = {"a": (1, 2.5, "text", None, True), "b.c": [jnp.ones(2), float("inf")], "b": {"c": [np.zeros(0)]}}
    arrays, structure = storage.pack(params)
    again = storage.unpack(arrays, json.loads(json.dumps(structure)))
    assert again["a"] == params["a"]
    assert again["b.c"][1] == float("inf")
    assert len(again["b.c"][0]) == 2
    assert len(again["b"]["c"][0]) == 0


def test_what_needs_pickle_is_refused():
    params = learners.of_sklearn(Ridge(), None).fit({}, KEY, {"inputs": FILLED, "targets": TARGETS["values"]}, ROWS)
    with refused_in_one_line("params hold a FittedEstimator, which cannot be saved without pickle"):
        storage.pack(params)


# ── Hostile files ───────────────────────────────────────────────────────────────────────────────────────────────────

BAD_VALUES = [None, True, -1, 2**40, 0.5, "x", "os.system", [], {}, {"value": {}}, {"array": "none"}, {"class": "int"}]


def mutations(structure):
    """Copies of a structure with one node replaced or removed."""

    def nodes(node, path):
        yield path
        for key, each in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
            yield from nodes(each, (*path, key))

    for path in list(nodes(structure, ()))[1:]:
        for bad in [*BAD_VALUES, "delete"]:
            changed = copy.deepcopy(structure)
            *above, last = path
            at = changed
            for key in above:
                at = at[key]
            if bad == "delete":
                del at[last]
            else:
                at[last] = bad
            yield changed


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_structures_are_refused_or_harmless(name):
    """A number or text may be replaced by another that fits; nothing else passes, and nothing but UserError escapes."""
    _, params, structure, arrays, _ = packed(name, nested=name == "ridge")
    passed = 0
    for changed in mutations(structure):
        try:
            again = storage.unpack(arrays, changed)
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017
            continue
        passed += type(again) is type(params)
    assert passed <= 4


@pytest.mark.parametrize("name", HOSTILE)
def test_arrays_of_other_shapes_are_refused(name):
    _, _, structure, arrays, _ = packed(name, nested=name == "ridge")
    for key, array in arrays.items():
        for other in (array[None], np.array(["x"]), np.array(object()), None):
            with pytest.raises(UserError):
                storage.unpack({**arrays, key: other}, structure)
    with refused_in_one_line("the params do not use the array 'more'"):
        storage.unpack({**arrays, "more": np.ones(1)}, structure)


def test_trees_that_would_not_end_are_refused():
    _, _, structure, arrays, _ = packed("boosted_trees")
    for field, value in {"left": 0, "right": 10**6, "bitset": 10**6, "outputs": 7, "feature": -1}.items():
        changed = {**arrays, field: arrays[field].copy()}
        changed[field][0, ...] = value
        if field == "left":
            changed["right"] = arrays["right"].copy()
            changed["right"][0, 0] = 1
        with refused_in_one_line("the trees have"):
            storage.unpack(changed, structure)


NESTED: Any = {"value": 1}
for _ in range(2000):
    NESTED = {"tuple": [NESTED]}
DEEP: Any = {"learner": "mean"}
for _ in range(100):
    DEEP = {"learner": "preprocessed", "of": DEEP, "layout": {"numbers": 1, "indicators": [], "categories": []}}
MISTAKES = {
    "unknown class": (lambda: storage.unpack({}, {"class": "os", "fields": {}}), "unknown class of params 'os'"),
    "deep": (lambda: storage.unpack({}, NESTED), "nested too deeply"),
    "no structure": (lambda: storage.unpack({}, 3), "the structure of the params has 3: expected what pack makes"),
    "missing array": (lambda: storage.unpack({}, {"array": "w"}), "the params lack the array 'w'"),
    "unknown learner": (lambda: storage.rebuild({"learner": "svn"}), "unknown learner 'svn': did you mean 'svm'"),
    "no plan": (lambda: storage.rebuild([1]), "expected named arguments with 'learner'"),
    "deep plan": (lambda: storage.rebuild(DEEP), "nested too deeply"),
    "argument": (lambda: storage.plan("mean", kernel="rbf"), "unknown argument of the learner mean 'kernel'"),
    "mesh": (lambda: storage.rebuild({"learner": "svm", "classes": 2, "mesh": 1}), "unknown argument .* 'mesh'"),
    "lacking": (lambda: storage.rebuild({"learner": "svm"}), "the plan of the learner svm lacks 'classes'"),
    "type": (lambda: storage.plan("svm", classes="2"), "svm has classes = 2, which it cannot be"),
    "range": (lambda: storage.plan("svm", classes=1), "classes = 1: expected 2 or more"),
    "layout": (
        lambda: storage.plan("preprocessed", of={"learner": "mean"}, layout={"numbers": -1}),
        "layout: .*expected numbers, indicators and categories",
    ),
    "transform": (
        lambda: storage.plan("preprocessed", of={"learner": "mean"}, layout=LAYOUT, transform="log"),
        "unknown transform 'log'",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_refused_in_one_line(call, message):
    with refused_in_one_line(message):
        call()
