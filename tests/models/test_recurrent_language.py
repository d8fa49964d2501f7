"""Language models of recurrent cells: carries across windows, resets, regularisation, training on streams."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mllab import losses, rows, training
from mllab.errors import UserError
from mllab.models.base import in_bfloat16
from mllab.models.recurrent import language
from mllab.types import Losses

V, B, T = 7, 3, 6
TOKENS = np.random.default_rng(0).integers(0, V, (B, 2 * T))
FULL = {"hidden": 8, "layers": 2, "layer_norm": True, "tied": True, "dropout": 0.3, "recurrent_dropout": 0.3}


@pytest.mark.slow
def test_windows_in_turn_equal_the_whole_and_a_reset_begins_anew():
    model = language.model(V, batch_size=B, cell="gru", **FULL)
    params, extra = model.init(jax.random.key(0))
    apply = jax.jit(lambda inputs, extra: model.apply(params, extra, inputs, None))
    whole, end = apply(TOKENS, extra)
    first, middle = apply(TOKENS[:, :T], extra)
    second, last = apply(TOKENS[:, T:], middle)
    np.testing.assert_allclose(np.concatenate([first, second], 1), whole, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(jax.tree.leaves(end)[-1], jax.tree.leaves(last)[-1], rtol=1e-5, atol=1e-5)
    again, _ = apply({"tokens": TOKENS[:, :T], "reset": np.array([True, False, False])}, middle)
    np.testing.assert_allclose(again[0], first[0], rtol=1e-5, atol=1e-5)
    assert not np.allclose(again[1], first[1], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("cell", ["lstm", "mingru"])
def test_the_last_layer_of_hidden_states_is_what_the_logits_are_computed_from(cell):
    model = language.model(V, cell=cell, hidden=8, layers=2, layer_norm=True)
    params, _ = model.init(jax.random.key(0))
    states = language.hidden_states(params, TOKENS)
    assert states.shape == (2, B, 2 * T, 8)
    last = np.asarray(states[-1])
    normal = (last - last.mean(-1, keepdims=True)) / np.sqrt(last.var(-1, keepdims=True) + 1e-5)
    logits, _ = model.apply(params, None, TOKENS, None)
    expected = normal @ np.asarray(params.w_out) + np.asarray(params.b_out)
    np.testing.assert_allclose(expected, logits, rtol=1e-4, atol=1e-5)


def test_padding_changes_no_logit_before_it():
    model = language.model(V, hidden=8)
    params, extra = model.init(jax.random.key(0))
    apply = jax.jit(lambda inputs: model.apply(params, extra, inputs, None)[0])
    padded = {"tokens": np.where(np.arange(2 * T) < 5, TOKENS, 0), "lengths": np.full(B, 5)}
    np.testing.assert_allclose(apply(padded)[:, :5], apply(TOKENS)[:, :5], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_dropout_acts_with_a_key_alone_and_depends_on_it():
    model = language.model(V, **FULL)
    params, _ = model.init(jax.random.key(0))
    apply = jax.jit(lambda key: model.apply(params, None, TOKENS, key)[0])
    one, again, other = (apply(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01
    assert params.w_out is None
    assert params.embedding.shape == (V, 8)


@pytest.mark.parametrize("size", [V, language.ONE_HOT_VOCABULARY + 1])
def test_the_gradient_of_an_embedding_sums_over_its_tokens(size):
    weights = np.random.default_rng(1).normal(size=(*TOKENS.shape, 4)).astype(np.float32)
    gradient = jax.grad(lambda table: (language.lookup(table, TOKENS) * weights).sum())(jnp.zeros((size, 4)))
    expected = np.zeros((size, 4))
    np.add.at(expected, TOKENS, weights)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_run_on_streams_learns_a_repeated_text_in_bfloat16_too():
    text = np.tile(np.random.default_rng(2).permutation(V), 60)
    schedule = rows.streams(len(text) - 1, B, T)
    examples = {"tokens": text[:-1], "targets": text[1:], "reset": np.isin(np.arange(len(text) - 1), schedule.ids[0])}
    examples["weight"] = np.ones(len(text) - 1, np.float32)
    schedule = jax.tree.map(lambda a: np.concatenate([a] * 4), schedule)

    def objective(hyper, params, extra, batch, key):
        logits, extra = model.apply(params, extra, {"tokens": batch["tokens"], "reset": batch["reset"]}, key)
        values = losses.cross_entropy(logits.reshape(-1, V), batch["targets"].ravel())
        return Losses(values.reshape(batch["targets"].shape), batch["weight"]), extra

    def metrics(hyper, params, extra, batch):
        values, extra = objective(hyper, params, extra, batch, None)
        return {"loss": values}, extra

    model = in_bfloat16(language.model(V, hidden=16, cell="lstm", batch_size=B, recurrent_dropout=0.1))
    gather = functools.partial(rows.windows, size=T)
    run = training.supervised(model.init, objective, lambda hyper: optax.adam(0.03), metrics, gather=gather)
    first = jax.tree.map(lambda a: a[:2], schedule)
    result = training.drive(
        run, {}, jax.random.key(0), examples, schedule, held_out=first, segment=len(schedule.ids) // 2
    )
    state = jax.eval_shape(run.start, {}, jax.random.key(0))
    exported = jax.export.export(jax.jit(run.advance), platforms=("cpu", "cuda", "tpu"))({}, state, examples, first)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert result.history.train_loss[0] > 3 * result.history.train_loss[-1]
    assert result.history.held_out["loss"][-1] < 0.5
    assert {leaf.dtype for leaf in jax.tree.leaves(result.state.extra)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("cell", {"cell": "lsmt"}),
        ("layers", {"layers": 0}),
        ("dropout = 1", {"dropout": 1.0}),
        ("make the two sizes equal", {"tied": True, "embedding": 4}),
        ("no recurrent weights", {"cell": "mingru", "recurrent_dropout": 0.1}),
    ],
)
def test_mistakes_in_the_options_are_one_line(message, options):
    with pytest.raises(UserError, match=message) as raised:
        language.model(V, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("message", "inputs"),
    [
        ("expected 0 to 6", np.array([[0, 7]])),
        ("whole numbers", np.zeros((1, 2))),
        ("give tokens", {"reset": np.zeros((1, 2))}),
        ("same batch size", np.zeros((2, 2), int)),
    ],
)
def test_mistakes_in_the_inputs_are_one_line(message, inputs):
    model = language.model(V, hidden=4, cell="mingru", batch_size=1)
    params, extra = model.init(jax.random.key(0))
    with pytest.raises(UserError, match=message):
        model.apply(params, extra, inputs, None)
