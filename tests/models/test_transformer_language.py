"""The Transformer as a language model: against NumPy, cached reading, causality, masks, nanoGPT's parameter count."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.models import transformer
from mllab.models.recurrent import sampling
from support.mistakes import refused_in_one_line

V, B, C = 7, 3, 6
SIZES = {"width": 6, "layers": 2, "heads": 2, "context": C}
TOKENS = np.random.default_rng(0).integers(0, V, (B, C))


@pytest.fixture(scope="module")
def model():
    """The model with biases, params far from their initial values, and its compiled reading of windows."""
    made = transformer.language(V, bias=True, dropout=0.3, **SIZES)
    params, _ = jax.jit(made.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(3)
    leaves = [leaf + 0.4 * draw.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    params = jax.tree.unflatten(tree, leaves)
    return made, params, jax.jit(lambda params, inputs, key=None: made.apply(params, None, inputs, key)[0])


def reference(params, tokens):
    """Return logits [T, V] of one window, in loops over heads."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def norm(p, x):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p.scale + p.shift

    x = params.embedding[tokens] + params.positions[: len(tokens)]
    for layer in params.layers:
        p, y = layer.attention, norm(layer.attention_norm, x)
        x = x + p.b_out
        for head in range(p.w_out.shape[0]):
            q, k, v = (y @ p.w_in[:, part, head] + p.b_in[part, head] for part in range(3))
            weights = np.exp(q @ k.T / math.sqrt(q.shape[1])) * np.tri(len(tokens))
            x = x + weights / weights.sum(1, keepdims=True) @ v @ p.w_out[head]
        p, y = layer.feed_forward, norm(layer.feed_forward_norm, x)
        z = y @ p.w_1 + p.b_1
        x = x + (z / 2 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))) @ p.w_2 + p.b_2
    return norm(params.norm, x) @ params.embedding.T


def test_logits_are_those_of_the_equations(model):
    _, params, read = model
    for row, logits in enumerate(read(params, TOKENS)):
        np.testing.assert_allclose(logits, reference(params, TOKENS[row]), rtol=1e-3, atol=1e-4)


def test_cached_reading_equals_windows_within_the_context_and_beyond(model):
    made, params, read = model
    text = np.random.default_rng(1).integers(0, V, (B, C + 3))
    step = jax.jit(lambda params, cache, tokens: made.apply(params, cache, tokens, None))
    cache = transformer.initial_cache(params, B)
    logits, cache = step(params, cache, text[:, :4])
    found = [*np.moveaxis(np.asarray(logits), 1, 0)]
    for place in range(4, C + 3):
        logits, cache = step(params, cache, text[:, place : place + 1])
        found.append(logits[:, 0])
    whole = read(params, text[:, :C])
    np.testing.assert_allclose(np.stack(found[:C], 1), whole, rtol=1e-4, atol=1e-4)
    for place in range(C, C + 3):  # as nanoGPT: the last C tokens as a window of their own
        expected = read(params, text[:, place - C + 1 : place + 1])[:, -1]
        np.testing.assert_allclose(found[place], expected, rtol=1e-4, atol=1e-4)


def test_a_logit_depends_on_no_later_token(model):
    _, params, read = model
    tokens = np.arange(C)[None] % V  # each once

    def by_token(place):
        return jax.grad(lambda positions: read(params.replace(positions=positions), tokens)[0, place].sum())

    for place in (0, 3):
        gradient = np.abs(by_token(place)(params.positions)).max(1)
        assert (gradient[: place + 1] > 0).all()
        assert not gradient[place + 1 :].any()


@pytest.mark.slow
def test_masks_hide_padding_and_other_texts(model):
    _, params, read = model
    whole = read(params, TOKENS)
    changed = np.where(np.arange(C) < 4, TOKENS, 0)
    padded = read(params, {"tokens": changed, "lengths": np.full(B, 4)})
    np.testing.assert_allclose(padded[:, :4], whole[:, :4], rtol=1e-5, atol=1e-5)
    mask = np.ones((B, C))
    mask[:, :2] = 0
    late = read(params, {"tokens": TOKENS, "mask": mask})
    np.testing.assert_allclose(late[:, 2:], read(params, TOKENS[:, 2:]), rtol=1e-4, atol=1e-5)
    reset = np.zeros((B, C))
    reset[:, 3] = 1
    two = read(params, {"tokens": TOKENS, "reset": reset})
    np.testing.assert_allclose(two[:, :3], whole[:, :3], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(two[:, 3:], read(params, TOKENS[:, 3:]), rtol=1e-4, atol=1e-5)
    first = read(params, {"tokens": TOKENS, "reset": np.ones(B)})
    np.testing.assert_allclose(first, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences_and_dropout_acts_with_a_key(model):
    made, params, read = model
    one, again, other = (read(params, TOKENS, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        direction = jax.tree.map(lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape), params)

        def loss(step):
            moved = jax.tree.map(lambda leaf, change: leaf + step * change, params, direction)
            return jnp.sin(made.apply(moved, None, TOKENS, None)[0]).sum()

        both = jax.jit(jax.value_and_grad(loss))
        np.testing.assert_allclose(both(0.0)[1], (both(1e-5)[0] - both(-1e-5)[0]) / 2e-5, rtol=1e-5)


@pytest.mark.slow
def test_samples_are_those_of_windows_read_anew(model):
    made, params, read = model
    prime, length = jnp.asarray(TOKENS[:, :2]), 2 * C
    cache = transformer.initial_cache(params, B)
    greedy = sampling.sample(made, params, cache, jax.random.key(0), prime, length=length, temperature=0.0)
    text = np.concatenate([prime, greedy], 1)
    for place in range(2, length):
        logits = np.asarray(read(params, text[:, max(0, place - C) : place]))[:, -1]
        np.testing.assert_array_equal(logits.argmax(-1), text[:, place])


@pytest.mark.parametrize("bias", [False, True])
def test_it_has_as_many_parameters_as_nanogpt(bias):
    made = transformer.language(65, width=128, layers=4, heads=4, context=64, bias=bias)
    params, extra = jax.eval_shape(made.init, jax.random.key(0))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    # wte, wpe, h.{ln_1, attn.c_attn, attn.c_proj, ln_2, mlp.c_fc, mlp.c_proj}, ln_f; lm_head is wte.
    a_layer = 128 + 128 * 3 * 128 + 128 * 128 + 128 + 128 * 512 + 512 * 128
    biases = 128 + 3 * 128 + 128 + 128 + 512 + 128
    assert count == 65 * 128 + 64 * 128 + 4 * (a_layer + bias * biases) + 128 + bias * 128
    assert extra is None
    if not bias:
        assert round((count - 64 * 128) / 1e6, 2) == 0.80  # what nanoGPT prints for this model


def test_the_initial_weights_are_nanogpts():
    params, cache = jax.jit(transformer.language(50, width=64, layers=2, batch_size=2).init)(jax.random.key(1))
    layer = params.layers[1]
    np.testing.assert_allclose(np.std(layer.feed_forward.w_1), 0.02, rtol=0.03)
    np.testing.assert_allclose(np.std(layer.feed_forward.w_2), 0.02 / 2, rtol=0.03)
    np.testing.assert_allclose(np.std(params.embedding), 0.02, rtol=0.05)
    assert cache.keys[0].shape == (2, 4, 64, 16)


def test_a_training_step_and_sampling_lower_to_three_platforms(model):
    made, params, _ = model

    def both(params, tokens):
        gradient = jax.grad(lambda params: made.apply(params, None, tokens, None)[0].sum())(params)
        return gradient, made.apply(params, transformer.initial_cache(params, B), tokens, None)

    platforms = ("cpu", "cuda", "tpu")
    assert jax.export.export(jax.jit(both), platforms=platforms)(params, TOKENS).platforms == platforms


@pytest.mark.parametrize(
    ("message", "extra", "inputs"),
    [
        ("7 tokens for a context of 6: give windows", False, np.zeros((B, 7), int)),
        ("reset beside a cache", True, {"tokens": TOKENS, "reset": np.zeros(B)}),
        ("2 rows of tokens for a cache of 3", True, TOKENS[:2]),
    ],
)
def test_mistakes_in_the_inputs_are_one_line(message, extra, inputs, model):
    made, params, _ = model
    with refused_in_one_line(message):
        made.apply(params, transformer.initial_cache(params, B) if extra else None, inputs, None)
