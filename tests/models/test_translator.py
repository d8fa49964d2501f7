"""The Transformer that translates: against NumPy, step by step, padding, neighbours, dropout, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.models import transformer
from mllab.models.transformer import blocks
from mllab.special_tokens import BEGIN, END, FIRST_WORD, PADDING
from support.mistakes import refused_in_one_line

SOURCE, TARGET = 11, 13
SIZES = {"width": 6, "layers": 2, "heads": 2, "feedforward": 5}


def sentences(vocabulary, lengths, size, seed=0):
    """Return sentences [B, size] of the given numbers of words, END included; a row with 0 words is padding."""
    ids = np.random.default_rng(seed).integers(FIRST_WORD, vocabulary, (len(lengths), size))
    for row, length in enumerate(lengths):
        ids[row, length:] = PADDING
        ids[row, max(length - 1, 0) : length] = END
    return ids


PAIRS = {"source": sentences(SOURCE, [6, 3, 4, 0], 6), "target": sentences(TARGET, [2, 5, 4, 3], 5)}


@pytest.fixture(scope="module")
def model():
    """The model, and params that are no zeros or ones."""
    made = transformer.translator(SOURCE, TARGET, dropout=0.3, **SIZES)
    params, _ = jax.jit(made.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    draw = np.random.default_rng(3)
    leaves = [leaf + 0.2 * draw.normal(size=leaf.shape).astype(np.float32) for leaf in leaves]
    return made, jax.tree.unflatten(tree, leaves), jax.jit(lambda *arguments: made.apply(*arguments)[0])


# ── Written from the paper alone ────────────────────────────────────────────────────────────────────────────────────


def layer_norm(norm, x):
    deviation = np.sqrt(((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True) + 1e-5)
    return (x - x.mean(-1, keepdims=True)) / deviation * norm.scale + norm.shift


def attend(p, x, memory, mask):
    """Multi-head attention of positions x [T, W] over memory [S, W] where mask [T, S]; weights [N, T, S]."""
    total, all_weights = np.zeros_like(x) + p.b_out, []
    w_memory, b_memory = (p.w_in[:, 1:], p.b_in[1:]) if p.w_memory is None else (p.w_memory, p.b_memory)
    for head in range(p.w_out.shape[0]):
        q = x @ p.w_in[:, 0, head] + p.b_in[0, head]
        k, v = (memory @ w_memory[:, part, head] + b_memory[part, head] for part in range(2))
        weights = np.exp(q @ k.T / np.sqrt(q.shape[1])) * mask
        weights /= np.maximum(weights.sum(1, keepdims=True), 1e-30)
        all_weights.append(weights)
        total = total + weights @ v @ p.w_out[head]
    return total, np.array(all_weights)


def feed(layer, x):
    p, x = layer.feed_forward, layer_norm(layer.feed_forward_norm, x)
    return np.maximum(0, x @ p.w_1 + p.b_1) @ p.w_2 + p.b_2


def embed(table, words):
    width = table.shape[1]
    codes = np.zeros((len(words), width))
    for position, feature in np.ndindex(*codes.shape):
        angle = position / 10_000 ** (feature // 2 * 2 / width)
        codes[position, feature] = np.cos(angle) if feature % 2 else np.sin(angle)
    return table[words] * np.sqrt(width) + codes


def reference(params, source, target):
    """Return log P [T, V] of the target of one pair, and the mean weights of the last attention to the source."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    real = (source != PADDING)[None]
    x = embed(params.source_embedding, source)
    for layer in params.encoder:
        y = layer_norm(layer.attention_norm, x)
        x = x + attend(layer.attention, y, y, real)[0]
        x = x + feed(layer, x)
    memory = layer_norm(params.encoder_norm, x)
    y = embed(params.target_embedding, np.array([BEGIN, *target[:-1]]))
    for layer in params.decoder:
        z = layer_norm(layer.attention_norm, y)
        y = y + attend(layer.attention, z, z, np.tri(len(y)))[0]
        read, weights = attend(layer.source_attention, layer_norm(layer.source_norm, y), memory, real)
        y = y + read
        y = y + feed(layer, y)
    logits = layer_norm(params.decoder_norm, y) @ params.target_embedding.T + params.b_out
    return logits - np.log(np.exp(logits).sum(1, keepdims=True)), weights.mean(0)


@pytest.mark.slow
def test_scores_and_steps_are_those_of_the_paper(model):
    made, params, apply = model
    scores = apply(params, None, PAIRS, None)
    memory = jax.jit(made.encode)(params, PAIRS["source"])
    cache, step, words = made.start(params, memory, 5), jax.jit(made.step), np.full(4, BEGIN)
    steps, attention = [], []
    for position in range(5):
        logits, cache, weights = step(params, memory, cache, words, jnp.int32(position))
        steps.append(jax.nn.log_softmax(logits))
        attention.append(weights)
        words = PAIRS["target"][:, position]
    for row, (source, target) in enumerate(zip(*PAIRS.values(), strict=True)):
        expected, weights = reference(params, source, target)
        count = int((target != PADDING).sum())
        of_words = expected[np.arange(count), target[:count]]
        np.testing.assert_allclose(scores.log_probability[row, :count], of_words, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(scores.mean_log_probability[row, :count], expected[:count].mean(1), rtol=1e-4)
        assert not np.asarray(scores.log_probability[row, count:]).any()
        np.testing.assert_allclose(np.stack(steps)[:count, row], expected[:count], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(np.stack(attention)[:count, row], weights[:count], rtol=1e-4, atol=1e-5)


def test_neither_padding_nor_neighbours_nor_later_words_change_a_score(model):
    _, params, apply = model
    scores = apply(params, None, PAIRS, None)
    wider = {name: np.pad(ids, ((0, 0), (0, 3)))[::-1] for name, ids in PAIRS.items()}
    np.testing.assert_allclose(
        apply(params, None, wider, None).log_probability[::-1, :5], scores.log_probability, rtol=1e-5, atol=1e-6
    )
    changed = PAIRS["target"].copy()
    changed[1, 3] = FIRST_WORD + (changed[1, 3] == FIRST_WORD)
    other = apply(params, None, PAIRS | {"target": changed}, None).log_probability
    np.testing.assert_array_equal(other[1, :3], scores.log_probability[1, :3])
    assert abs(other[1, 4] - scores.log_probability[1, 4]) > 1e-4


@pytest.mark.slow
def test_dropout_acts_with_a_key_and_depends_on_it(model):
    _, params, apply = model
    one, again, other = (apply(params, None, PAIRS, jax.random.key(seed)).log_probability for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01


@pytest.mark.slow
def test_gradients_are_those_of_finite_differences(model):
    made, params, _ = model
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
        direction = jax.tree.map(lambda leaf: np.random.default_rng(leaf.size).normal(size=leaf.shape), params)

        def loss(step):
            moved = jax.tree.map(lambda leaf, change: leaf + step * change, params, direction)
            scores, _ = made.apply(moved, None, PAIRS, None)
            return (scores.log_probability + 0.1 * scores.mean_log_probability).sum()

        both = jax.jit(jax.value_and_grad(loss))
        difference = (both(1e-5)[0] - both(-1e-5)[0]) / 2e-5
        np.testing.assert_allclose(both(0.0)[1], difference, rtol=1e-6)


def test_positional_encodings_of_an_odd_width():
    found = blocks.sinusoids(jnp.arange(4), 5)
    np.testing.assert_allclose(found, embed(np.zeros((1, 5)), np.zeros(4, int)), atol=1e-6)


def test_joint_and_untied_models_have_the_embeddings_they_say():
    shapes = jax.eval_shape(transformer.translator(9, 9, joint=True, **SIZES).init, jax.random.key(0))[0]
    assert shapes.source_embedding is None
    assert shapes.w_out is None
    shapes = jax.eval_shape(transformer.translator(9, 8, tied=False, **SIZES).init, jax.random.key(0))[0]
    assert shapes.w_out.shape == (6, 8)


def test_a_training_step_and_a_translation_step_lower_to_three_platforms(model):
    made, params, _ = model

    def both(params, pairs):
        gradient = jax.grad(lambda params: made.apply(params, None, pairs, None)[0].log_probability.sum())(params)
        memory = made.encode(params, pairs["source"])
        words = pairs["target"][:, 0]
        return gradient, made.step(params, memory, made.start(params, memory, 5), words, jnp.int32(0))

    platforms = ("cpu", "cuda", "tpu")
    assert jax.export.export(jax.jit(both), platforms=platforms)(params, PAIRS).platforms == platforms


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 4}, "width = 6 for 4 heads: give a multiple"),
        ({"layers": 0}, "layers = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"joint": True}, "one vocabulary for both"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(options, message):
    with refused_in_one_line(message):
        transformer.translator(SOURCE, TARGET, **(SIZES | options))
