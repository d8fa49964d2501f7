"""The pool of models to choose from: one row a model, with the settings to tune it over. See `Member`.

    problem = Problem("classification", classes=3, layout=layout, rows=120)
    candidates = candidates_of(["knn", "svm"], problem)

Axes list their values from simple to complex, since of equal scores the first setting is chosen.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from mllab import learners
from mllab.errors import UserError, unknown
from mllab.learners import storage
from mllab.model_search import Candidate
from mllab.models.preprocessing import Layout
from mllab.nested import Variant
from mllab.tasks import CLASSIFICATION, REGRESSION, TASKS
from mllab.validation import Axes

NEIGHBOURS = (1, 3, 5, 9, 15, 25, 50)
PENALTIES = (1e4, 1e3, 100.0, 10.0, 1.0, 0.1, 0.01)  # from simple to complex
MEMBERS = 5  # nets of an ensemble
BOTH = CLASSIFICATION.name, REGRESSION.name


class Problem(NamedTuple):
    """What the settings of a model depend on."""

    task: str
    classes: int  # C; 0 in regression
    layout: Layout
    rows: int  # training rows of the smallest fold
    mesh: Mesh | None = None

    @property
    def labels(self) -> int | None:
        """C, or None in regression."""
        return self.classes or None


class Member(NamedTuple):
    """A model of the pool."""

    label: str  # in tables; of the baseline that of the task
    variants: Callable[[Problem], list[Variant]]
    tasks: tuple[str, ...] = BOTH
    exponents: tuple[float, float] = (
        1.0,
        1.0,
    )  # with which the time of a fit grows with rows and with columns, in theory
    base: str = ""  # the model whose chosen settings it uses


def _variants(
    problem: Problem, learner: str, arguments: Mapping[str, Any], axes: Axes, *,
    transforms: Sequence[str] = ("standard",), name: str = "",
) -> list[Variant]:  # fmt: skip
    """Return a variant for each transform of the numbers; one where there are no numbers.

    Args:
        problem: what it is for.
        learner: a key of `storage.LEARNERS`, of inputs [N, D].
        arguments: of that learner.
        axes: the settings.
        transforms: names in `preprocessing.TRANSFORMS`.
        name: what tells it from other variants of the model.
    """
    transforms = transforms if problem.layout.numbers else ("standard",)
    made = []
    for transform in transforms:
        parts = [name] * bool(name) + [f"{transform} inputs"] * (len(transforms) > 1)
        of = storage.plan(learner, **arguments)
        plan = storage.plan("preprocessed", of=of, layout=problem.layout, transform=transform)
        made.append(Variant(storage.rebuild(plan, mesh=problem.mesh), axes, ", ".join(parts), plan))
    return made


def _constant(problem: Problem) -> list[Variant]:
    arguments = {"classes": problem.classes} if problem.classes else {}
    return _variants(problem, "most_frequent" if problem.classes else "mean", arguments, {})


def _linear(problem: Problem) -> list[Variant]:
    return _variants(problem, "linear", {}, {})


def _penalised(problem: Problem) -> list[Variant]:
    name, arguments = ("softmax_regression", {"classes": problem.classes}) if problem.classes else ("ridge", {})
    return _variants(problem, name, arguments, {"l2": PENALTIES}, transforms=("standard", "quantile"))


def _nearest(problem: Problem) -> list[Variant]:
    ks = [k for k in NEIGHBOURS if k <= problem.rows] or [1]
    arguments = {"classes": problem.labels, "most": max(ks)}
    return _variants(problem, "nearest_neighbors", arguments, {"k": ks[::-1]}, transforms=("standard", "quantile"))


def _gamma(problem: Problem) -> np.ndarray:
    """Return gammas around 1 / D, scikit-learn's "scale" for standardised inputs, the smoothest first."""
    return np.array([0.25, 1.0, 4.0]) / max(problem.layout.size, 1)


def _svm(problem: Problem) -> list[Variant]:
    axes = {"gamma": _gamma(problem), "c": [0.3, 3.0, 30.0]}
    if problem.classes:
        return _variants(problem, "svm", {"classes": problem.classes}, axes)
    return _variants(problem, "support_vector_regression", {}, {**axes, "epsilon": [0.1]})


def _kernel_ridge(problem: Problem) -> list[Variant]:
    return _variants(problem, "kernel_ridge", {}, {"gamma": _gamma(problem), "l2": [10.0, 1.0, 0.1, 0.01]})


def _mixture(problem: Problem) -> list[Variant]:
    made = []
    for covariance in ("diagonal", "tied", "full"):
        arguments = {"classes": problem.classes, "covariance": covariance, "restarts": 1}
        made += _variants(problem, "mixture", arguments, {"floor": [0.1, 0.01, 0.001]}, name=f"{covariance} covariance")
    return made


def _boosted_trees(problem: Problem) -> list[Variant]:
    plan = storage.plan("boosted_trees", classes=problem.labels, layout=problem.layout)
    axes = {"learning_rate": [0.1], "max_leaf_nodes": [8, 31]}
    return [Variant(storage.rebuild(plan), axes, plan=plan)]


def _mlp(problem: Problem, members: int = 1) -> list[Variant]:
    axes, made = learners.DEFAULT_AXES, []
    # In regression without much noise a smooth activation may fit twice as well; a wider net costs four times as much.
    forms = [(64, "relu", axes), (64, "silu", axes)]
    if problem.classes:
        forms[1] = 128, "relu", {**axes, "dropout": axes["dropout"][:1]}
    for units, activation, of_form in forms:
        name = "mlp"
        arguments: dict[str, Any] = {
            "classes": problem.labels, "hidden": (units, units), "activation": activation
        }  # fmt: skip
        if members > 1:
            of = storage.plan(name, **arguments)
            name, arguments = "ensemble", {"of": of, "members": members, "classes": problem.labels}
        label = f"{units} × {units} units" + f", {activation}" * (not problem.classes)
        made += _variants(problem, name, arguments, of_form, transforms=("clipped",), name=label)
    return made


POOL: Mapping[str, Member] = {
    "constant": Member("", _constant),
    "linear": Member("linear regression", _linear, (REGRESSION.name,), (1, 2)),
    "ridge": Member("ridge regression", _penalised, (REGRESSION.name,), (1, 2)),
    "softmax": Member("softmax regression", _penalised, (CLASSIFICATION.name,)),
    "knn": Member("nearest neighbours", _nearest, exponents=(2, 1)),
    "mixture": Member("Gaussian mixtures", _mixture, (CLASSIFICATION.name,), (1, 2)),
    "mlp": Member("MLP", _mlp),
    "mlp_ensemble": Member(f"mean of {MEMBERS} MLPs", partial(_mlp, members=MEMBERS), base="mlp"),
    "trees": Member("boosted trees", _boosted_trees),
    "svm": Member("kernel SVM", _svm, exponents=(2, 1)),
    "kernel_ridge": Member("kernel ridge", _kernel_ridge, (REGRESSION.name,), (3, 0)),
}


def candidates_of(names: Sequence[str], problem: Problem) -> dict[str, Candidate]:
    """Return the candidates of these names; of no names, those of all models for the task. Cheap ones come first.

    The base of an ensemble is searched too.

    Raises:
        UserError: an unknown name, or a model of another task.
    """
    for name in names:
        if name not in POOL:
            raise unknown("model", name, POOL)
        if problem.task not in POOL[name].tasks:
            raise UserError(f"{name} is for {POOL[name].tasks[0]}, and the task is {problem.task}: leave it out")
    constant = TASKS[problem.task].constant_name.removeprefix("the ")
    wanted = {name for name in names or POOL if problem.task in POOL[name].tasks}
    wanted |= {POOL[name].base for name in wanted if POOL[name].base}
    return {
        name: Candidate(row.label or constant, row.variants(problem), row.exponents, row.base)
        for name, row in POOL.items()
        if name in wanted
    }
