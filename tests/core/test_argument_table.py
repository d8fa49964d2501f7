"""Every public function of arrays × every way in which an array may be wrong: one line of refusal, or finite results.

Arrays have the same shapes in all cases, so that what is accepted (lists, half precision) compiles nothing anew.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mllab
from mllab import learners, losses, metrics, optimizers, paths, rows, selection, sweep, training, validation
from mllab.data.dataset import Split
from mllab.metrics import clustering, comparisons
from mllab.models import base, convnet, kmeans, linear, mixture, mlp, neighbors, pca, softmax, svm
from mllab.models.svm import kernels
from mllab.types import Rows
from support.wrong_arguments import ACCEPTED, Case, check_arrays, outcome

KEY = jax.random.key(0)
COUNT, FEATURES, CLASSES = 12, 3, 3
DRAW = np.random.default_rng(0)
LABELS = np.arange(COUNT, dtype=np.int32) % CLASSES
POINTS = (DRAW.normal(size=(COUNT, FEATURES)) + LABELS[:, None]).astype(np.float32)
ARRAYS = {
    "points": POINTS,
    "queries": POINTS[:5] + 0.25,
    "images": DRAW.random((COUNT, 4, 4, 1)).astype(np.float32),
    "labels": LABELS,
    "values": POINTS @ np.float32([1, 2, 3]),
    "weight": np.linspace(0.5, 1.5, COUNT).astype(np.float32),
    "fold_weight": np.float32([[1, 0] * 6, [0, 1] * 6]),
    "scores": np.log(DRAW.dirichlet(np.ones(CLASSES), COUNT)).astype(np.float32),
    "counts": np.array([[3, 1, 0], [1, 4, 1], [0, 0, 2]]),
    "correct": LABELS == 1,
    "signs": np.where(LABELS == 1, 1, -1).astype(np.float32),
    "kernel": (POINTS @ POINTS.T).astype(np.float32),
    "centres": POINTS[:2],
    "ids": np.arange(COUNT),
    "rates": np.array([0.1, 0.2, 0.3]),
}
SPLIT = Split(np.arange(6), np.arange(6, 9), np.arange(9, 12))
FOLDS = validation.folds(np.arange(COUNT), 2, 0, LABELS)
TRAIN = Rows(np.arange(COUNT), np.ones(COUNT, np.float32))


MORE = ("one row more",)


@functools.cache
def fitted(name: str) -> Any:
    """Return the fit of a model to the good arrays."""
    return {
        "linear": lambda: linear.Linear(w=jnp.ones((FEATURES, CLASSES)), b=jnp.zeros(CLASSES)),
        "one": lambda: linear.Linear(w=jnp.ones((FEATURES, 1)), b=jnp.zeros(1)),
        "neighbors": lambda: neighbors.fit(POINTS, LABELS, 2),
        "kmeans": lambda: kmeans.fit(KEY, POINTS, 2, restarts=2, steps=5),
        "mixture": lambda: mixture.fit(KEY, POINTS, 3, covariance="spherical", restarts=2, steps=5).params,
        "svm": lambda: svm.fit(POINTS, LABELS, CLASSES),
        "pca": lambda: pca.fit(POINTS, 2),
        "nystroem": lambda: kernels.nystroem(KEY, POINTS, "rbf", {"gamma": 1.0}, 4),
        "mlp": lambda: mlp.init(KEY, (FEATURES, 4, CLASSES)),
        "convnet": lambda: convnet.init(KEY, NET, (4, 4, 1))[0],
        "run": lambda: supervised(LINEAR),
    }[name]()


NET = (convnet.Conv(2), convnet.MaxPool(), convnet.Activation("relu"), convnet.Dense(CLASSES))
LINEAR = linear.model((FEATURES,), CLASSES)


def supervised(model: base.Model) -> training.Run:
    return training.supervised(
        model.init,
        training.objective(model, losses.cross_entropy),
        lambda hyper: optax.sgd(hyper["learning_rate"]),
        training.measure(model, metrics.classification),
    )


def drive(inputs: Any, targets: Any, schedule: Any = SPLIT.train, held_out: Any = SPLIT.validation) -> Any:
    schedule = rows.blocks(schedule, 3) if isinstance(schedule, np.ndarray) else schedule
    examples = {"inputs": inputs, "targets": targets}
    result = training.drive(
        fitted("run"), {"learning_rate": 0.1}, KEY, examples, schedule, held_out=held_out, segment=2
    )
    return result.history, result.kept.params


def race(inputs: Any, targets: Any, task: str = "classification") -> Any:
    outputs = CLASSES if task == "classification" else 1
    return mllab.race(linear.model((FEATURES,), outputs), {"inputs": inputs, "targets": targets}, SPLIT, task=task)


def cross_validated(learner: validation.Learner, axes: Any) -> Callable[[Any, Any], Any]:
    def call(inputs: Any, targets: Any) -> np.ndarray:
        examples = {"inputs": inputs, "targets": targets}
        return validation.cross_validate(learner, axes, KEY, examples, FOLDS, validation.accuracy)

    return call


def learned(learner: validation.Learner, hyper: Any) -> Callable[[Any, Any, Any], Any]:
    def call(inputs: Any, targets: Any, queries: Any) -> Any:
        params = learner.fit(hyper, KEY, {"inputs": inputs, "targets": targets}, TRAIN)
        return learner.predict(params, queries)

    return call


LEARNERS = {
    "most_frequent": (learners.most_frequent(CLASSES), {}),
    "nearest_neighbors": (learners.nearest_neighbors(CLASSES, 2), {"k": 2}),
    "softmax_regression": (learners.softmax_regression(CLASSES), {"l2": 1.0}),
    "svm": (learners.svm(CLASSES), {"c": 1.0}),
    "kmeans": (learners.kmeans(2, 2), {"k": 2}),
    "mixture": (learners.mixture(CLASSES, "spherical", restarts=2), {"floor": 1e-3}),
}
P, Q, L, V, W = "points", "queries", "labels", "values", "weight"
SPHERICAL = {"covariance": "spherical", "restarts": 2, "steps": 5}

CASES = {
    "linear.fit": Case(lambda x, y, w: linear.fit(x, y, weight=w), (P, V, W)),
    "linear.apply": Case(lambda x: linear.apply(fitted("linear"), x), (Q,), MORE),
    "linear.values": Case(lambda x: linear.values(fitted("one"), x), (Q,), MORE),
    "linear.polynomial": Case(lambda x: linear.polynomial(x, 2), (P,), MORE),
    "softmax.fit": Case(lambda x, y, w: softmax.fit(x, y, CLASSES, l2=1.0, weight=w), (P, L, W)),
    "mlp.apply": Case(lambda x: mlp.apply(fitted("mlp"), x), (Q,), MORE),
    "convnet.apply": Case(lambda x: convnet.apply(fitted("convnet"), x), ("images",), MORE),
    "convnet.features": Case(lambda x: convnet.features(fitted("convnet"), x), ("images",), MORE),
    "base.predict": Case(lambda x: base.predict(LINEAR, fitted("linear"), None, x), (Q,), (*MORE, "an axis more")),
    "base.saliency": Case(lambda x, y: base.saliency(LINEAR, fitted("linear"), None, x, y), (P, L), ("an axis more",)),
    "neighbors.fit": Case(lambda x, y, w: neighbors.fit(x, y, 2, w), (P, L, W), ("an axis more",)),
    "neighbors.nearest": Case(lambda x, q, w: neighbors.nearest(x, q, 2, w), (P, Q, W), MORE),
    "neighbors.apply": Case(
        lambda q: neighbors.apply(fitted("neighbors"), q, CLASSES, 2), (Q,), (*MORE, "an axis more")
    ),
    "pca.fit": Case(lambda x: pca.fit(x, 2), (P,), MORE),
    "pca.transform": Case(lambda x: pca.transform(fitted("pca"), x), (Q,), (*MORE, "NaN", "infinite")),
    "kmeans.fit": Case(lambda x, w: kmeans.fit(KEY, x, 2, restarts=2, steps=5, weight=w), (P, W)),
    "kmeans.fit start": Case(lambda x, c: kmeans.fit(KEY, x, 2, steps=5, start=c), (P, "centres"), MORE),
    "kmeans.sweep": Case(lambda x, w: kmeans.sweep(KEY, x, [1, 2], restarts=2, steps=5, weight=w), (P, W)),
    "kmeans.assign": Case(lambda x: kmeans.assign(fitted("kmeans"), x), (Q,), MORE),
    "kmeans.step": Case(kmeans.step, (P, "centres", W), MORE),
    "kmeans.plus_plus": Case(lambda x, w: kmeans.plus_plus(KEY, x, 2, w), (P, W)),
    "mixture.fit": Case(lambda x, y, w: mixture.fit(KEY, x, 3, labels=y, weight=w, **SPHERICAL), (P, L, W)),
    "mixture.sweep": Case(lambda x, w: mixture.sweep(KEY, x, [1, 2], weight=w, **SPHERICAL).params.means, (P, W)),
    "mixture.em": Case(lambda x, w: mixture.em(fitted("mixture"), x, weight=w, steps=5), (P, W)),
    "mixture.step": Case(lambda x: mixture.step(fitted("mixture"), x), (P,), MORE),
    "mixture.init": Case(lambda x, w: mixture.init(KEY, x, 3, "spherical", weight=w), (P, W)),
    "mixture.log_density": Case(lambda x: mixture.log_density(fitted("mixture"), x), (Q,), MORE),
    "mixture.responsibilities": Case(lambda x: mixture.responsibilities(fitted("mixture"), x), (Q,), MORE),
    "mixture.score": Case(lambda x, w: mixture.score(fitted("mixture"), x, w), (P, W)),
    "mixture.bic": Case(lambda x, w: mixture.bic(fitted("mixture"), x, w), (P, W)),
    "mixture.aic": Case(lambda x, w: mixture.aic(fitted("mixture"), x, w), (P, W)),
    "mixture.apply": Case(lambda x: mixture.apply(fitted("mixture"), x, CLASSES), (Q,), MORE),
    "mixture.select_components": Case(
        lambda x: mixture.select_components(KEY, x, [1, 2], ["spherical"], restarts=2, steps=5).values, (P,), MORE
    ),
    "svm.fit": Case(lambda x, y, w: svm.fit(x, y, CLASSES, weight=w).coefficients, (P, L, W)),
    "svm.decision": Case(lambda x: svm.decision(fitted("svm"), x), (Q,), MORE),
    "svm.apply": Case(lambda x: svm.apply(fitted("svm"), x), (Q,), MORE),
    "svm.grid": Case(
        lambda x, y, w: svm.grid(x, y, CLASSES, w, c=[1.0], gamma=[0.5]), (P, L, "fold_weight"), ("one row more",)
    ),
    "svm.solve": Case(lambda k, y, w: svm.solve(k, y, 1.0, w, 1e-3, 100), ("kernel", "signs", W)),
    "kernels.nystroem": Case(lambda x: kernels.nystroem(KEY, x, "rbf", {"gamma": 1.0}, 4).root, (P,), MORE),
    "kernels.features": Case(lambda x: kernels.features(fitted("nystroem"), x), (Q,), MORE),
    "kernels.gamma_scale": Case(kernels.gamma_scale, (P, W)),
    "losses.cross_entropy": Case(losses.cross_entropy, ("scores", L), ("infinite",)),
    "losses.squared_error": Case(losses.squared_error, (V, W)),
    "metrics.classification": Case(metrics.classification, ("scores", L), ("infinite",)),
    "metrics.regression": Case(metrics.regression, (V, W)),
    "metrics.most_frequent": Case(metrics.most_frequent, (L,), MORE),
    "metrics.r_squared": Case(lambda targets: metrics.r_squared(0.5, targets), (V,), MORE),
    "metrics.confusion_matrix": Case(lambda t, p: metrics.confusion_matrix(t, p, CLASSES), (L, "predicted")),
    "metrics.per_class": Case(lambda m: metrics.per_class(m).rows, ("counts",)),
    "metrics.example_rows": Case(metrics.example_rows, (L, "predicted", W), ("NaN", "infinite")),
    "metrics.interval": Case(metrics.interval, (V,), (*MORE, "NaN", "infinite")),
    "metrics.proportion": Case(metrics.proportion, ("correct",), MORE),
    "metrics.holm": Case(metrics.holm, ("rates",), (*MORE, "NaN", "empty")),
    "comparisons.greatest": Case(comparisons.greatest, ("rates",), (*MORE, "NaN", "infinite")),
    "clustering.silhouette": Case(clustering.silhouette, (P, "any_labels")),
    "clustering.v_measure": Case(clustering.v_measure, ("any_labels", "any_labels")),
    "clustering.adjusted_rand": Case(clustering.adjusted_rand, ("any_labels", "any_labels")),
    "clustering.purity": Case(clustering.purity, ("any_labels", "any_labels")),
    "rows.minibatches": Case(lambda ids: rows.minibatches(ids, 3, 2, [0]), ("ids",), MORE),
    "rows.blocks": Case(lambda ids: rows.blocks(ids, 3), ("ids",), MORE),
    "validation.folds": Case(lambda ids, t, g: validation.folds(ids, 2, 0, t, g), ("ids", "any_labels", "groups")),
    "validation.holdout": Case(validation.holdout, ("ids", "other_ids"), MORE),
    "validation.interval": Case(lambda scores: validation.interval(scores, 4), (V,), (*MORE, "NaN", "infinite")),
    "selection.best": Case(selection.best, ("scores",), (*MORE, "NaN", "infinite")),
    "sweep.grid": Case(lambda rates, seeds: sweep.grid({"rate": rates}, seeds).hyper, ("rates", "ids"), MORE),
    "paths.follow": Case(
        lambda start: paths.follow(lambda w: jnp.sum(w**2), optax.sgd(0.1), start, 3),
        ("rates",),
        (*MORE, "an axis more", "list", "nothing", "ragged", "empty"),  # a list is a tree, and any tree will do
    ),
    "training.drive": Case(drive, (P, L)),
    "training.drive rows": Case(lambda ids: drive(POINTS, LABELS, held_out=ids), ("ids",), MORE),
    "race classes": Case(race, (P, L), ACCEPTED),
    "race values": Case(functools.partial(race, task="regression"), (P, V), ACCEPTED),
    **{f"learners.{name}": Case(learned(*each), (P, L, Q), (*MORE, "an axis more")) for name, each in LEARNERS.items()},
    "learners.most_frequent": Case(  # which reads no inputs
        learned(*LEARNERS["most_frequent"]), (P, L, Q), (*MORE, "an axis more", "NaN", "infinite")
    ),
    "cross_validate": Case(cross_validated(LEARNERS["most_frequent"][0], {}), (P, L), ("an axis more",)),
}
ARRAYS |= {
    "predicted": np.roll(LABELS, 1),
    "any_labels": LABELS,
    "groups": LABELS,
    "other_ids": np.arange(COUNT, 2 * COUNT),
}


ALIKE = "kmeans.sweep", "mixture.em", "mixture.sweep", "learners.kmeans", "learners.mixture", "svm.grid"  # as the fits


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in CASES]
)
def test_a_wrong_array_is_refused_in_one_line_or_gives_finite_results(name):
    check_arrays(CASES[name], ARRAYS)


# ── Numbers and names ───────────────────────────────────────────────────────────────────────────────────────────────

WRONG_VALUES: dict[str, list[Any]] = {
    "number": ["a", np.nan, -1.0, np.inf],
    "whole": ["a", np.nan, -1, 2.5, [1, 2]],
    "name": ["nope", 3],
    "key": [0, "a", None, np.zeros(2)],
    "tolerance": ["a", np.nan],
    "seeds": ["nope", 2.5, [], [1.5], [1, 1], -1, None],
}
AXES = {"c": [1.0]}
SETTINGS = {
    "linear.fit": (lambda **k: linear.fit(POINTS, ARRAYS["values"], **k), {"ridge": "number", "method": "name"}),
    "linear.polynomial": (lambda **k: linear.polynomial(POINTS, **k), {"degree": "whole"}),
    "softmax.fit": (
        lambda **k: softmax.fit(POINTS, LABELS, **{"classes": 3, "l2": 1.0, **k}),
        {"classes": "whole", "l2": "number", "tolerance": "tolerance", "steps": "whole", "block_rows": "whole"},
    ),
    "mlp.init": (lambda **k: mlp.init(**{"key": KEY, "sizes": (3, 4, 3), **k}), {"key": "key", "activation": "name"}),
    "mlp.model": (lambda **k: mlp.model((3,), **{"outputs": 3, **k}), {"outputs": "whole", "activation": "name"}),
    "neighbors.fit": (lambda **k: neighbors.fit(POINTS, LABELS, **k), {"k": "whole"}),
    "neighbors.nearest": (lambda **k: neighbors.nearest(POINTS, POINTS, **k), {"count": "whole"}),
    "neighbors.apply": (
        lambda **k: neighbors.apply(fitted("neighbors"), POINTS, **{"classes": 3, "most": 2, **k}),
        {"classes": "whole", "most": "whole"},
    ),
    "pca.fit": (lambda **k: pca.fit(POINTS, **k), {"count": "whole"}),
    "kmeans.fit": (
        lambda **k: kmeans.fit(**{"key": KEY, "points": POINTS, "count": 2, "restarts": 2, "steps": 5, **k}),
        {
            "key": "key", "count": "whole", "restarts": "whole", "steps": "whole", "tolerance": "tolerance",
            "most": "whole",
        },
    ),
    "kmeans.sweep": (
        lambda **k: kmeans.sweep(**{"key": KEY, "points": POINTS, "counts": [1, 2], "restarts": 2, "steps": 5, **k}),
        {"key": "key", "restarts": "whole", "counts": "whole"},
    ),
    "kmeans.plus_plus": (lambda **k: kmeans.plus_plus(**{"key": KEY, "points": POINTS, "count": 2, **k}), {
        "key": "key", "count": "whole",
    }),
    "mixture.fit": (
        lambda **k: mixture.fit(**{"key": KEY, "points": POINTS, "count": 3, **SPHERICAL, **k}),
        {
            "key": "key", "count": "whole", "covariance": "name", "classes": "whole", "restarts": "whole",
            "steps": "whole", "floor": "number", "tolerance": "tolerance",
        },
    ),
    "mixture.sweep": (
        lambda **k: mixture.sweep(**{"key": KEY, "points": POINTS, "counts": [1, 2], **SPHERICAL, **k}).params.means,
        {"key": "key", "covariance": "name", "floor": "number"},
    ),
    "mixture.em": (
        lambda **k: mixture.em(fitted("mixture"), POINTS, **{"steps": 5, **k}), {"steps": "whole", "floor": "number"}
    ),
    "mixture.init": (lambda **k: mixture.init(**{"key": KEY, "points": POINTS, "count": 3, **k}), {
        "key": "key", "count": "whole", "covariance": "name",
    }),
    "mixture.apply": (lambda **k: mixture.apply(fitted("mixture"), POINTS, **k), {"classes": "whole"}),
    "svm.fit": (
        lambda **k: svm.fit(POINTS, LABELS, **{"classes": 3, **k}).coefficients,
        {
            "classes": "whole", "kernel": "name", "scheme": "name", "c": "number", "gamma": "number",
            "tolerance": "tolerance", "steps": "whole",
        },
    ),
    "svm.fit polynomial": (
        lambda **k: svm.fit(POINTS, LABELS, 3, kernel="polynomial", **k).coefficients, {"degree": "whole"}
    ),
    "kernels.nystroem": (
        lambda **k: kernels.nystroem(**{
            "key": KEY, "inputs": POINTS, "kernel": "rbf", "hyper": {"gamma": 1.0}, "count": 4, **k,
        }).root,
        {"key": "key", "kernel": "name", "count": "whole"},
    ),
    "metrics.confusion_matrix": (lambda **k: metrics.confusion_matrix(LABELS, LABELS, **k), {"classes": "whole"}),
    "rows.minibatches": (
        lambda **k: rows.minibatches(**{"rows": np.arange(9), "batch_size": 3, "epochs": 1, "seeds": [0], **k}),
        {"batch_size": "whole", "epochs": "whole"},
    ),
    "rows.blocks": (lambda **k: rows.blocks(np.arange(9), **{"size": 3, **k}), {"size": "whole", "count": "whole"}),
    "rows.streams": (
        lambda **k: rows.streams(**{"length": 9, "batch_size": 3, "window": 2, **k}),
        {"length": "whole", "batch_size": "whole", "window": "whole", "first": "whole"},
    ),
    "rows.buckets": (lambda **k: [each.length for each in rows.buckets([3, 4], **{"batch_size": 1, **k})], {
        "batch_size": "whole", "count": "whole",
    }),
    "validation.folds": (
        lambda **k: validation.folds(np.arange(9), **{"count": 3, "seed": 0, **k}),
        {"count": "whole", "seed": "whole", "rounds": "whole"},
    ),
    "sweep.grid": (lambda **k: sweep.grid({"rate": [0.1]}, **k).hyper, {"seeds": "seeds"}),
    "learners.most_frequent": (lambda **k: learners.most_frequent(**k), {"classes": "whole"}),
    "learners.nearest_neighbors": (
        lambda **k: learners.nearest_neighbors(**{"classes": 3, "most": 2, **k}), {"classes": "whole", "most": "whole"}
    ),
    "learners.softmax_regression": (
        lambda **k: learners.softmax_regression(**{"classes": 3, **k}), {"classes": "whole", "tolerance": "tolerance"}
    ),
    "learners.svm": (
        lambda **k: learners.svm(**{"classes": 3, **k}), {"classes": "whole", "kernel": "name", "scheme": "name"}
    ),
    "learners.kmeans": (lambda **k: learners.kmeans(**{"most": 3, **k}), {"most": "whole", "restarts": "whole"}),
    "learners.mixture": (
        lambda **k: learners.mixture(**{"classes": 3, **k}),
        {"classes": "whole", "covariance": "name", "components": "whole", "restarts": "whole"},
    ),
    "cross_validate": (
        lambda **k: validation.cross_validate(**{
            "learner": learners.svm(CLASSES), "axes": AXES, "key": KEY, "folds": FOLDS, "score": validation.accuracy,
            "examples": {"inputs": POINTS, "targets": LABELS}, **k,
        }),
        {"learner": "name", "axes": "name", "key": "key", "folds": "name", "examples": "name"},
    ),
    "optimizers.build": (
        lambda **k: optimizers.build(**{"name": "adamw", "learning_rate": 0.1, "steps": 5, **k}) and None,
        {
            "name": "name", "learning_rate": "number", "schedule": "name", "clip_norm": "number",
            "weight_decay": "number", "average": "number",
        },
    ),
    "training.drive": (
        lambda **k: training.drive(**{
            "run": fitted("run"), "hyper": {"learning_rate": 0.1}, "key": KEY, "segment": 1,
            "examples": {"inputs": POINTS, "targets": LABELS}, "schedule": rows.blocks(SPLIT.train, 3),
            "held_out": SPLIT.validation, **k,
        }).history,
        {"key": "key", "segment": "whole", "patience": "whole", "schedule": "name", "held_out": "name"},
    ),
    "race": (
        lambda **k: mllab.race(**{
            "model": LINEAR, "examples": {"inputs": POINTS, "targets": LABELS}, "split": SPLIT, "batch_size": 3, **k,
        }),
        {
            "model": "name", "examples": "name", "split": "name", "task": "name", "names": "name",
            "learning_rates": "number", "epochs": "whole", "batch_size": "whole", "patience": "whole",
        },
    ),
    "paths.follow": (
        lambda **k: paths.follow(lambda w: jnp.sum(w**2), optax.sgd(0.1), jnp.ones(2), **k), {"steps": "whole"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_a_wrong_number_or_name_is_refused_in_one_line(name):
    (call, arguments), failures = SETTINGS[name], []
    for argument, kind in arguments.items():
        for value in WRONG_VALUES[kind]:
            if (name, argument) == ("kmeans.sweep", "counts") and value == [1, 2]:
                continue
            try:
                message = outcome(Case(lambda value, argument=argument: call(**{argument: value}), ()), [value])
                if message is None or "\n" in message:
                    failures.append(f"{argument} = {value!r}: {message or 'accepted'}")
            except Exception as error:
                failures.append(f"{argument} = {value!r}: {type(error).__name__} {str(error)[:150]}")
    assert not failures, "\n".join(failures)
