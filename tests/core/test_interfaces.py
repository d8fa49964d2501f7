"""The interfaces hold for what comes next: each case trains through the unchanged Run, drive, lanes and Learner."""

import contextlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsClassifier

from mllab import devices, losses, metrics, sweep, training, validation
from mllab.models import linear, mlp
from mllab.models.base import Model
from mllab.rows import blocks
from support import problems

LANES = 5
COUNT = 60


class Case(NamedTuple):
    run: training.Run
    examples: Any
    least: float  # held-out loss that its best lane must come below


def adam(hyper):
    return optax.adam(hyper["learning_rate"])


def batch_norm_and_dropout() -> Case:
    """A net whose batch statistics are extra, and whose dropout draws from the step's key; scored without either."""

    def init(key):
        return mlp.init(key, (6, 16, 3)), {"mean": jnp.zeros(16), "var": jnp.ones(16)}

    def apply(params, extra, inputs, key):
        first, last = params
        h = inputs @ first.w + first.b[None]
        if key is None:
            mean, var, kept = extra["mean"], extra["var"], extra
        else:
            mean, var = h.mean(axis=0), h.var(axis=0)
            kept = {"mean": 0.8 * extra["mean"] + 0.2 * mean, "var": 0.8 * extra["var"] + 0.2 * var}
        h = jax.nn.relu((h - mean[None]) / jnp.sqrt(var + 1e-5)[None])
        if key is not None:
            h = h * jax.random.bernoulli(key, 0.8, h.shape) / 0.8
        return h @ last.w + last.b[None], kept

    model = Model(init, apply)
    run = training.supervised(
        model.init,
        training.objective(model, losses.cross_entropy),
        adam,
        training.measure(model, metrics.classification),
    )
    return Case(run, problems.examples(COUNT), least=0.5)


def masked_sequences() -> Case:
    """Sequences [T] of unequal lengths: predict whether the sum of the valid part is positive. Mask rides along."""
    draw = np.random.default_rng(1)
    values = draw.normal(size=(COUNT, 7, 1)).astype(np.float32)
    mask = np.arange(7) < draw.integers(1, 8, size=(COUNT, 1))
    targets = ((values[..., 0] * mask).sum(axis=1) > 0).astype(np.int32)
    values[~mask] = 1e3  # padding is garbage, and must not be felt

    def init(key):
        a, b = jax.random.split(key)
        return {"cell": mlp.init(a, (9, 8), "tanh")[0], "out": mlp.init(b, (8, 2))[0]}, None

    def logits(params, inputs, mask):
        def step(h, now):
            x, valid = now
            new = jnp.tanh(jnp.concatenate([x, h], axis=-1) @ params["cell"].w + params["cell"].b[None])
            return jnp.where(valid[:, None], new, h), None

        start = jnp.zeros((inputs.shape[0], 8))
        h, _ = jax.lax.scan(step, start, (jnp.where(mask[..., None], inputs, 0).swapaxes(0, 1), mask.T))
        return h @ params["out"].w + params["out"].b[None]

    def objective(hyper, params, extra, examples, key):
        outputs = logits(params, examples["inputs"], examples["mask"])
        return losses.cross_entropy(outputs, examples["targets"]), extra

    def measure(hyper, params, extra, examples):
        return metrics.classification(logits(params, examples["inputs"], examples["mask"]), examples["targets"])

    run = training.supervised(init, objective, adam, measure)
    return Case(run, {"inputs": values, "mask": mask, "targets": targets}, least=0.6)


def averaged_weights() -> Case:
    """An exponential average of the params is kept in extra, and is what is scored."""
    base = problems.model()

    def init(key):
        params, _ = base.init(key)
        return params, params

    def objective(hyper, params, extra, examples, key):
        outputs, _ = base.apply(params, None, examples["inputs"], key)
        average = jax.tree.map(lambda old, new: 0.8 * old + 0.2 * jax.lax.stop_gradient(new), extra, params)
        return losses.cross_entropy(outputs, examples["targets"]), average

    measure = training.measure(base, metrics.classification)
    run = training.supervised(init, objective, adam, measure, evaluate=lambda state: state.extra)
    return Case(run, problems.examples(COUNT), least=0.5)


CASES = [batch_norm_and_dropout, masked_sequences, averaged_weights]


class Stop(Exception):
    """Stands in for a kill between two segments."""


def drive(case, count, **options):
    lanes = sweep.grid({"learning_rate": np.logspace(-3, -1, LANES)}, [0])
    schedule, held_out = problems.rows(COUNT, epochs=12)
    run = sweep.lanes(case.run, lanes.schedule, mesh=devices.mesh(count))
    return training.drive(
        run, lanes.hyper, lanes.key, case.examples, schedule, held_out=held_out, segment=15, **options
    )


@pytest.mark.parametrize("make", CASES)
def test_it_trains_on_one_device_and_on_three_killed_and_resumed(make, tmp_path):
    case = make()
    one, three = drive(case, 1), drive(case, 3)
    assert one.kept_loss.shape == three.kept_loss.shape == (LANES,)
    assert one.kept_loss.min() < case.least
    # Another number of devices promises a tolerance, not bits; rounding grows with the steps.
    np.testing.assert_allclose(one.history.train_loss[0], three.history.train_loss[0], rtol=1e-3)

    def stop(event):
        if event.number == 2:
            raise Stop

    with contextlib.suppress(Stop):
        drive(case, 3, observe=[stop], workdir=tmp_path, checkpoint_seconds=0)
    resumed = drive(case, 3, workdir=tmp_path, checkpoint_seconds=0)
    assert problems.equal(resumed.state, three.state)
    assert problems.equal(resumed.kept, three.kept)


def test_batch_statistics_are_those_of_the_lane_and_evaluation_does_not_depend_on_the_batch():
    case = batch_norm_and_dropout()
    result = drive(case, 3)
    assert len({float(mean[0]) for mean in np.asarray(result.state.extra["mean"])[:LANES]}) == LANES
    state = jax.tree.map(lambda leaf: leaf[0], result.state)
    ids = np.arange(COUNT)
    scores = [case.run.score({}, state, case.examples, blocks(ids, size)) for size in (60, 7)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *scores)


def nearest_neighbour() -> validation.Learner:
    """One nearest neighbour; weights of 0 put a row out of reach."""

    def fit(hyper, key, examples, rows):
        inputs = jax.tree.map(lambda a: jnp.asarray(a)[rows.ids], examples)
        return {**inputs, "weight": rows.weight}

    def predict(params, inputs):
        square = jnp.sum((inputs[:, None] - params["inputs"][None]) ** 2, axis=-1)
        nearest = jnp.argmin(jnp.where(params["weight"][None] > 0, square, jnp.inf), axis=1)
        return jnp.log(jax.nn.one_hot(params["targets"][nearest], 3))

    return validation.Learner(fit, predict)


def ridge() -> validation.Learner:
    return validation.Learner(
        fit=lambda hyper, key, examples, rows: linear.fit(
            jnp.asarray(examples["inputs"])[rows.ids],
            jnp.asarray(examples["targets"])[rows.ids],
            weight=rows.weight,
            method="normal",
            ridge=hyper["ridge"],
        ),
        predict=lambda params, inputs: linear.values(params, inputs),
    )


def by_fold(made: validation.Folds, k: int):
    """Row ids (train, held out) of fold k, without the padding."""
    return tuple(rows.ids[k][rows.weight[k] > 0] for rows in made)


@pytest.mark.parametrize("count", [58, 60])  # 58: folds of unequal size
def test_a_nearest_neighbour_learner_scores_as_scikit_learn_does_on_the_same_folds(count):
    examples = problems.examples(count)
    made = validation.folds(np.arange(count), 5, seed=0, targets=examples["targets"])
    score = lambda outputs, targets: (jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32)  # noqa: E731
    hyper = {"unused": jnp.zeros(2)}
    ours = validation.cross_validate(nearest_neighbour(), hyper, jax.random.key(0), examples, made, score)
    assert ours.shape == (2, 5)
    for k in range(5):
        train, held_out = by_fold(made, k)
        peer = KNeighborsClassifier(1).fit(examples["inputs"][train], examples["targets"][train])
        theirs = peer.score(examples["inputs"][held_out], examples["targets"][held_out])
        np.testing.assert_allclose(ours[:, k], theirs, rtol=1e-6)


def test_a_ridge_with_5_folds_and_many_penalties_scores_as_scikit_learn_does():
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(53, 4)).astype(np.float32)
    targets = (inputs @ [1.0, -2.0, 0.5, 3.0] + draw.normal(size=53) + 4).astype(np.float32)
    examples = {"inputs": inputs, "targets": targets}
    penalties = np.logspace(-3, 3, LANES)
    made = validation.folds(np.arange(53), 5, seed=1)
    ours = validation.cross_validate(
        ridge(), {"ridge": penalties}, jax.random.key(0), examples, made, losses.squared_error
    )
    for lane, penalty in enumerate(penalties):
        for k in range(5):
            train, held_out = by_fold(made, k)
            peer = Ridge(alpha=penalty).fit(inputs[train], targets[train])
            theirs = np.mean((peer.predict(inputs[held_out]) - targets[held_out]) ** 2)
            np.testing.assert_allclose(ours[lane, k], theirs, rtol=1e-3)


def test_a_gradient_trained_learner_runs_all_hypers_and_folds_in_one_program():
    examples = problems.examples(COUNT)
    base = problems.model()
    learner = validation.trained(
        problems.run(), lambda params, inputs: base.apply(params, None, inputs, None)[0], batch_size=8, epochs=12
    )
    made = validation.folds(np.arange(COUNT), 5, seed=0, targets=examples["targets"])
    hyper = {"learning_rate": np.array([1e-5, 0.05])}
    losses_ = validation.cross_validate(learner, hyper, jax.random.key(0), examples, made, losses.cross_entropy)
    assert losses_.shape == (2, 5)
    assert (losses_[1] < 0.7).all()  # trained
    assert (losses_[0] > losses_[1]).all()  # hardly moved


@pytest.mark.parametrize(("rows", "count"), [(10, 5), (11, 5), (7, 2), (5, 5)])
def test_every_row_is_held_out_once_and_never_trained_on_then(rows, count):
    ids = np.arange(100, 100 + rows)
    made = validation.folds(ids, count, seed=3)
    held = [by_fold(made, k)[1] for k in range(count)]
    np.testing.assert_array_equal(np.sort(np.concatenate(held)), ids)
    for k in range(count):
        train, out = by_fold(made, k)
        np.testing.assert_array_equal(np.sort(np.concatenate([train, out])), ids)
    sizes = sorted(len(test) for _, test in KFold(count).split(ids))
    assert sorted(map(len, held)) == sizes


def test_stratified_folds_hold_every_class_in_proportion():
    targets = np.repeat([0, 1, 2], [20, 10, 7])
    made = validation.folds(np.arange(37), 5, seed=0, targets=targets)
    for k in range(5):
        counts = np.bincount(targets[by_fold(made, k)[1]], minlength=3)
        assert (np.abs(counts - np.array([20, 10, 7]) / 5) < 1).all()
