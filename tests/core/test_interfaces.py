"""Models of other kinds train through the same Run, drive, lanes and Learner; recurrent ones with a carry."""

import contextlib
import functools
import itertools
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
from mllab.rows import blocks, gather, streams, windows
from mllab.types import Losses
from support import problems

LANES = 5
COUNT = 60


class Case(NamedTuple):
    run: training.Run
    examples: Any
    least: float  # the best lane must reach a smaller held-out loss
    rows: Any = None  # (schedule, held out); those of `problems` by default


def adam(hyper):
    return optax.adam(hyper["learning_rate"])


def batch_norm_and_dropout() -> Case:
    """A net with batch statistics in `extra` and dropout from the step's key; evaluation uses neither."""

    def init(key):
        return mlp.init(key, (6, 16, 3)), {"mean": jnp.zeros(16), "var": jnp.ones(16)}

    def apply(params, extra, inputs, key):
        first, last = params
        h = inputs @ first.w + first.b[None]
        if key is None:
            mean, var, statistics = extra["mean"], extra["var"], extra
        else:
            mean, var = h.mean(axis=0), h.var(axis=0)
            statistics = {"mean": 0.8 * extra["mean"] + 0.2 * mean, "var": 0.8 * extra["var"] + 0.2 * var}
        h = jax.nn.relu((h - mean[None]) / jnp.sqrt(var + 1e-5)[None])
        if key is not None:
            h = h * jax.random.bernoulli(key, 0.8, h.shape) / 0.8
        return h @ last.w + last.b[None], statistics

    model = Model(init, apply)
    run = training.supervised(
        model.init,
        training.objective(model, losses.cross_entropy),
        adam,
        training.measure(model, metrics.classification),
    )
    return Case(run, problems.examples(COUNT), least=0.5)


def masked_sequences() -> Case:
    """Sequences [T] of unequal lengths, with a mask; the class is whether the sum of the valid part is positive."""
    draw = np.random.default_rng(1)
    values = draw.normal(size=(COUNT, 7, 1)).astype(np.float32)
    mask = np.arange(7) < draw.integers(1, 8, size=(COUNT, 1))
    targets = ((values[..., 0] * mask).sum(axis=1) > 0).astype(np.int32)
    values[~mask] = 1e3  # padding must have no effect

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
        outputs = logits(params, examples["inputs"], examples["mask"])
        return metrics.classification(outputs, examples["targets"]), extra

    run = training.supervised(init, objective, adam, measure)
    return Case(run, {"inputs": values, "mask": mask, "targets": targets}, least=0.6)


def averaged_weights() -> Case:
    """An exponential average of the params is kept in `extra` and scored."""
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


BATCH, WINDOW, HIDDEN, VOCABULARY = 3, 5, 4, 6


def recurrent_init(key):
    """A tanh cell over tokens; `extra` is the carry [B, H] from window to window."""
    shapes = {"embed": (VOCABULARY, HIDDEN), "cell": (HIDDEN, HIDDEN), "out": (HIDDEN, VOCABULARY)}
    keys = jax.random.split(key, len(shapes))
    params = {name: jax.random.normal(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
    return params, jnp.zeros((BATCH, HIDDEN))


def token_losses(params, carry, batch):
    """Cross entropy of each next token, [B, T]; the carry is reset where a stream begins."""

    def step(h, token):
        h = jnp.tanh(params["embed"][token] + h @ params["cell"])
        return h, h @ params["out"]

    carry = jnp.where(batch["first"][:, :1], 0, carry)
    carry, logits = jax.lax.scan(step, carry, batch["token"].T)
    values = optax.softmax_cross_entropy_with_integer_labels(logits.swapaxes(0, 1), batch["next"])
    return Losses(values, batch["weight"].astype(values.dtype)), carry


def recurrent_run(optimizer=adam, **options):
    def objective(hyper, params, extra, batch, key):
        return token_losses(params, extra, batch)

    def measure(hyper, params, extra, batch):
        losses, extra = token_losses(params, extra, batch)
        return {"loss": losses}, extra

    return training.supervised(recurrent_init, objective, optimizer, measure, **options)


def text(length, rows):
    """A periodic text with noise as examples for `windows`: tokens, next tokens, weights, and where streams begin."""
    draw = np.random.default_rng(0)
    tokens = np.where(
        draw.random(length + 1) < 0.1, draw.integers(VOCABULARY, size=length + 1), np.arange(length + 1) % 4
    )
    first = np.zeros(length, bool)
    first[rows.ids[0]] = True
    return {"token": tokens[:-1], "next": tokens[1:], "weight": np.ones(length, np.float32), "first": first}


def next_tokens() -> Case:
    """Next-token prediction by truncated backpropagation: windows of one text, the carry in `extra`."""
    rows = streams(COUNT - 7, BATCH, WINDOW)
    run = recurrent_run(gather=functools.partial(windows, size=WINDOW))
    epochs = jax.tree.map(lambda a: np.tile(a, (15, 1)), rows)
    return Case(run, text(COUNT - 7, rows), least=1.3, rows=(epochs, rows))


CASES = [batch_norm_and_dropout, masked_sequences, averaged_weights, next_tokens]


class Stop(Exception):
    """Simulates a kill between two segments."""


def drive(case, count, **options):
    lanes = sweep.grid({"learning_rate": np.logspace(-3, -1, LANES)}, [0])
    schedule, held_out = case.rows or problems.rows(COUNT, epochs=12)
    run = sweep.lanes(case.run, lanes.schedule, mesh=devices.mesh(count))
    return training.drive(
        run, lanes.hyper, lanes.key, case.examples, schedule, held_out=held_out, segment=15, **options
    )


@pytest.mark.parametrize("make", CASES)
@pytest.mark.slow
def test_training_on_one_and_three_devices_agrees_and_a_killed_run_resumes_to_the_same_bits(make, tmp_path):
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
        drive(case, 3, observers=[stop], workdir=tmp_path, checkpoint_seconds=0)
    resumed = drive(case, 3, workdir=tmp_path, checkpoint_seconds=0)
    assert problems.equal(resumed.state, three.state)
    assert problems.equal(resumed.kept, three.kept)


@pytest.mark.slow
def test_each_lane_has_its_batch_statistics_and_evaluation_does_not_depend_on_the_batch():
    case = batch_norm_and_dropout()
    result = drive(case, 3)
    assert len({float(mean[0]) for mean in np.asarray(result.state.extra["mean"])[:LANES]}) == LANES
    state = jax.tree.map(lambda leaf: leaf[0], result.state)
    ids = np.arange(COUNT)
    scores = [case.run.score({}, state, case.examples, blocks(ids, size)) for size in (60, 7)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), *scores)


# ── Sequences: masked losses, a carry through windows, windows of one array ─────────────────────────────────────────


def unrolled(params, tokens, following):
    """The losses [T] of one sequence and its final state, by a loop in float64."""
    embed, cell, out = (np.asarray(params[name], np.float64) for name in ("embed", "cell", "out"))
    h, losses = np.zeros(HIDDEN), []
    for token, label in zip(tokens, following, strict=True):
        h = np.tanh(embed[token] + h @ cell)
        logits = h @ out
        losses.append(np.log(np.exp(logits).sum()) - logits[label])
    return np.array(losses), h


def sgd(hyper):
    return optax.sgd(hyper["learning_rate"])


@pytest.mark.slow
def test_a_masked_loss_and_its_gradients_equal_those_of_unpadded_sequences():
    """Every token counts once: a mean over tokens, not a mean over sequences of their means."""
    draw, lengths = np.random.default_rng(0), np.array([7, 1, 4])
    tokens, following = draw.integers(VOCABULARY, size=(2, BATCH, 7)).astype(np.int32)
    weight = (np.arange(7) < lengths[:, None]).astype(np.float32)
    examples = {"token": tokens, "next": following, "weight": weight, "first": np.ones((BATCH, 7), bool)}
    run, rows = recurrent_run(sgd), blocks(np.arange(BATCH), BATCH)
    state = run.start({"learning_rate": 0.0}, jax.random.key(1))

    def unpadded(params):
        total = 0.0
        for row, length in enumerate(lengths):
            batch = {name: values[row : row + 1, :length] for name, values in examples.items()}
            total += token_losses(params, jnp.zeros((1, HIDDEN)), batch)[0].values.sum()
        return total / lengths.sum()

    expected = [unrolled(state.params, tokens[i, :n], following[i, :n])[0] for i, n in enumerate(lengths)]
    loss, gradients = jax.value_and_grad(unpadded)(state.params)
    np.testing.assert_allclose(loss, np.concatenate(expected).mean(), rtol=1e-5)
    after, step_losses = run.advance({"learning_rate": 1.0}, state, examples, rows)
    np.testing.assert_allclose(step_losses, loss[None], rtol=1e-5)
    changes = jax.tree.map(jnp.subtract, state.params, after.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), changes, gradients)
    np.testing.assert_allclose(run.score({}, state, examples, rows)["loss"], loss, rtol=1e-5)
    # In blocks of fewer tokens the mean is over the same tokens.
    one_by_one = run.score({}, state._replace(extra=jnp.zeros((1, HIDDEN))), examples, blocks(np.arange(BATCH), 1))
    np.testing.assert_allclose(one_by_one["loss"], loss, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("length", [45, 47, 53])  # 9, 10 and 11 windows of 5 in 3 rows
def test_the_carry_through_windows_equals_the_whole_sequence(length):
    rows = streams(length, BATCH, WINDOW)
    examples = text(length, rows)
    run = recurrent_run(sgd, gather=functools.partial(windows, size=WINDOW))
    state = run.start({"learning_rate": 0.0}, jax.random.key(1))
    bounds = [*rows.ids[0], length]
    whole = [
        unrolled(state.params, examples["token"][low:high], examples["next"][low:high])
        for low, high in itertools.pairwise(bounds)
    ]
    # A carry left over from elsewhere is reset; every token of the text counts once.
    state = state._replace(extra=jnp.full((BATCH, HIDDEN), 0.5))
    scores = jax.jit(run.score)({}, state, examples, rows)
    np.testing.assert_allclose(scores["loss"], np.concatenate([losses for losses, _ in whole]).mean(), rtol=1e-5)

    after, step_losses = jax.jit(run.advance)({"learning_rate": 0.0}, state, examples, rows)
    for step, loss in enumerate(step_losses):
        window = [losses[step * WINDOW : (step + 1) * WINDOW] for losses, _ in whole]
        np.testing.assert_allclose(loss, np.concatenate(window).mean(), rtol=1e-5)
    full = rows.weight[-1] == 1  # rows without a padding window; the last one may end inside its window
    full[-1] &= length % WINDOW == 0
    np.testing.assert_allclose(after.extra[full], np.stack([h for _, h in whole])[full], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_windows_of_one_array_equal_stored_windows_to_the_bit():
    case, (schedule, held_out) = next_tokens(), next_tokens().rows
    starts = np.unique(schedule.ids)
    stored = windows(case.examples, starts, WINDOW)
    by_index = [rows._replace(ids=np.searchsorted(starts, rows.ids)) for rows in (schedule, held_out)]
    hyper, results = {"learning_rate": 0.05}, []
    for run, examples, (train, held) in (
        (case.run, case.examples, (schedule, held_out)),
        (recurrent_run(gather=gather), stored, by_index),
    ):
        state, step_losses = jax.jit(run.advance)(hyper, run.start(hyper, jax.random.key(0)), examples, train)
        results.append((state, step_losses, jax.jit(run.score)(hyper, state, examples, held)))
    assert problems.equal(*results)


# ── Learners ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
def test_every_row_is_held_out_once_and_is_not_a_training_row_of_that_fold(rows, count):
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
