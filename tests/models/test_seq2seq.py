"""Translation against the paper's equations in NumPy: values, attention, gradients, forms, padding, step by step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.errors import UserError
from mllab.models import seq2seq
from mllab.special_tokens import BEGIN, END, PADDING

V_X, V_Y, H, E, L = 11, 9, 4, 3, 5
SOURCE = np.array([[4, 8, 10, 5, END], [6, 4, END, PADDING, PADDING], [0, 0, 0, 0, 0], [7, END, 0, 0, 0]], np.int32)
TARGET = np.array([[4, 5, 8, END], [7, 7, END, PADDING], [0, 0, 0, 0], [6, 4, 5, END]], np.int32)
SIZES = {"hidden": H, "embedding": E, "maxout": L}
SENTENCE_WEIGHT = np.array([1.0, 2.0, 1.0, 0.5])[:, None]  # unequal: the vocabulary's gradient has no common factor


@functools.cache
def params_of(attention, tied=False):
    """Params in float64, biases and all away from their initial values."""
    rng = np.random.default_rng(0)
    sizes = SIZES | ({"maxout": E} if tied else {})
    with jax.enable_x64(True):
        params, _ = seq2seq.model(V_X, V_Y, attention=attention, tied=tied, **sizes).init(jax.random.key(0))
        return jax.tree.map(lambda a: jnp.asarray(a + 0.3 * rng.normal(size=a.shape)), params)


def apply(attention, form, params, source, target, **options):
    model = seq2seq.model(V_X, V_Y, attention=attention, form=form, **(SIZES | options))
    return model.apply(params, None, {"source": source, "target": target}, None)[0]


def weighted_loss(scores, weight):
    values = 0.9 * scores.log_probability + 0.1 * scores.mean_log_probability
    return -(values * weight).sum()


@functools.cache
def compiled(attention, form, tied):
    """(params, source, target, weights of sentences) -> (gradients of a loss with label smoothing, scores)."""
    options = {"tied": True, "maxout": E} if tied else {}

    def loss(params, source, target, weight):
        scores = apply(attention, form, params, source, target, **options)
        return weighted_loss(scores, weight), scores

    return jax.jit(jax.grad(loss, has_aux=True))


@functools.cache
def outcome(attention, form, tied=False, weighted=True):
    """(gradients, scores) of the sentences above, in float64."""
    weight = SENTENCE_WEIGHT if weighted else np.ones_like(SENTENCE_WEIGHT)
    with jax.enable_x64(True):
        results = compiled(attention, form, tied)(params_of(attention, tied), SOURCE, TARGET, weight)
        return jax.tree.map(np.asarray, results)


# ── The paper's appendix, for one sentence ──────────────────────────────────────────────────────────────────────────


def sigma(a):
    return 1 / (1 + np.exp(-a))


def encoder_direction(cell, x, order):
    """A.2.1: the states of one direction, by position."""
    (w_r, w_z, w), (u_r, u_z) = np.split(cell.w_x.T, 3), np.split(cell.w_h.T, 2)
    b_r, b_z, b = np.split(cell.b, 3)
    h, states = np.zeros(H), {}
    for j in order:
        z = sigma(w_z @ x[j] + u_z @ h + b_z)
        r = sigma(w_r @ x[j] + u_r @ h + b_r)
        candidate = np.tanh(w @ x[j] + cell.u.T @ (r * h) + b)
        h = (1 - z) * h + z * candidate
        states[j] = h
    return states


def translation(params, source, target):
    """A.1 and A.2 for one sentence without padding: (log P [T, V], alpha [T, S])."""
    x = [params.source_embedding[word] for word in source]
    forward = encoder_direction(params.encoder[0], x, range(len(x)))
    backward = encoder_direction(params.encoder[1], x, reversed(range(len(x))))
    h = [np.concatenate([forward[j], backward[j]]) for j in range(len(x))]
    s = np.tanh(params.w_s.T @ backward[0] + params.b_s)
    decoder, readout, a = params.decoder, params.readout, params.alignment
    (w_r, w_z, w), (u_r, u_z) = np.split(decoder.w.T, 3), np.split(decoder.u_gates.T, 2)
    (c_r, c_z, c_s), (b_r, b_z, b) = np.split(decoder.c.T, 3), np.split(decoder.b, 3)
    w_o = params.target_embedding if readout.w_o is None else readout.w_o
    log_p, alphas = [], []
    for before in [BEGIN, *target[:-1]]:
        y = params.target_embedding[before]
        if a is None:
            alpha, c = np.zeros(len(x)), forward[len(x) - 1]  # "if we fix c_i to the last forward state"
        else:
            e = np.array([a.v_a @ np.tanh(a.w_a.T @ s + a.u_a.T @ h_j + a.b_a) for h_j in h])
            alpha = np.exp(e) / np.exp(e).sum()
            c = sum(weight * h_j for weight, h_j in zip(alpha, h, strict=True))
        t = readout.u_o.T @ s + readout.v_o.T @ y + readout.c_o.T @ c + readout.b_t
        units = len(t) // 2
        logits = w_o @ np.array([max(t[k], t[units + k]) for k in range(units)]) + readout.b_o
        log_p.append(logits - np.log(np.exp(logits).sum()))
        alphas.append(alpha)
        z = sigma(w_z @ y + u_z @ s + c_z @ c + b_z)
        r = sigma(w_r @ y + u_r @ s + c_r @ c + b_r)
        candidate = np.tanh(w @ y + decoder.u.T @ (r * s) + c_s @ c + b)
        s = (1 - z) * s + z * candidate
    return np.array(log_p), np.array(alphas)


def scores_by_hand(params, source, target):
    """Log-probabilities and their means [B, T] of padded sentences."""
    results = np.zeros((2, *target.shape))
    for row in range(len(source)):
        words, n = source[row][source[row] != PADDING], int((target[row] != PADDING).sum())
        if n:
            log_p, _ = translation(params, words, target[row][:n])
            results[:, row, :n] = log_p[np.arange(n), target[row][:n]], log_p.mean(1)
    return results


@pytest.mark.parametrize(
    ("attention", "tied"),
    [
        ("additive", False),
        pytest.param("none", False, marks=pytest.mark.slow),
        pytest.param("additive", True, marks=pytest.mark.slow),
    ],
)
def test_values_equal_the_papers_equations_and_gradients_finite_differences(attention, tied):
    params = jax.tree.map(np.asarray, params_of(attention, tied))
    gradients, scores = outcome(attention, "fast", tied)
    np.testing.assert_allclose(np.array(scores), scores_by_hand(params, SOURCE, TARGET), rtol=1e-10, atol=1e-12)

    def loss(params):
        log_probability, mean = scores_by_hand(params, SOURCE, TARGET)
        return -((0.9 * log_probability + 0.1 * mean) * SENTENCE_WEIGHT).sum()

    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):  # each array along a direction of its own
        direction = np.random.default_rng(1).normal(size=gradient.shape)
        ends = [
            loss(
                jax.tree_util.tree_map_with_path(
                    lambda at, a, path=path, move=sign * 1e-6 * direction: a + move if at == path else a, params
                )
            )
            for sign in (-1, 1)
        ]
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(
            (gradient * direction).sum(), (ends[1] - ends[0]) / 2e-6, rtol=1e-5, atol=1e-7, err_msg=name
        )


@pytest.mark.slow
@pytest.mark.parametrize(("attention", "weighted"), [("additive", True), ("additive", False), ("none", False)])
def test_the_fast_form_equals_the_plain_one(attention, weighted):
    fast, plain = (outcome(attention, form, weighted=weighted) for form in ("fast", "plain"))
    assert jax.tree.structure(fast) == jax.tree.structure(plain)
    for one, other in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)


# ── Step by step ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("attention", seq2seq.ATTENTIONS)
def test_steps_equal_the_whole_and_attention_is_over_the_words_alone(attention):
    model, params = seq2seq.model(V_X, V_Y, attention=attention, **SIZES), params_of(attention)

    @jax.jit
    def by_steps(params):
        memory = model.encode(params, SOURCE)
        cache, words, results = model.start(params, memory, TARGET.shape[1]), jnp.full(len(TARGET), BEGIN), []
        for position in range(TARGET.shape[1]):
            logits, cache, alpha = model.step(params, memory, cache, words, jnp.asarray(position))
            words = jnp.asarray(TARGET[:, position])
            results.append((jax.nn.log_softmax(logits)[jnp.arange(len(words)), words], alpha))
        return jax.tree.map(lambda *a: jnp.stack(a, 1), *results)

    with jax.enable_x64(True):
        log_probability, alpha = jax.tree.map(np.asarray, by_steps(params))
    expected = outcome(attention, "fast")[1].log_probability
    np.testing.assert_allclose(np.where(TARGET != PADDING, log_probability, 0), expected, rtol=1e-10, atol=1e-12)
    by_hand = translation(jax.tree.map(np.asarray, params), SOURCE[1][:3], TARGET[1][:3])[1]
    np.testing.assert_allclose(alpha[1, :3, :3], by_hand, rtol=1e-10)
    assert not alpha[np.broadcast_to((SOURCE == PADDING)[:, None], alpha.shape)].any()
    rows = (SOURCE != PADDING).any(1)
    np.testing.assert_allclose(alpha[rows].sum(-1), attention == "additive", rtol=1e-12)


def test_a_sentence_depends_on_neither_its_neighbours_nor_its_padding():
    params = params_of("additive")  # made outside of the program, since it is cached
    compute = jax.jit(lambda source, target: apply("additive", "fast", params, source, target))
    wide = [np.pad(each, ((0, 3), (0, 4))) for each in (SOURCE, TARGET)]
    alone = [np.where(np.arange(len(each))[:, None] == 1, each, PADDING) for each in wide]
    with jax.enable_x64(True):
        results = zip(outcome("additive", "fast")[1], compute(*wide), compute(*alone), strict=True)
    for narrow, together, one in jax.tree.map(np.asarray, list(results)):
        np.testing.assert_allclose(together[:4, :4], narrow, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(one[1], together[1], rtol=1e-10, atol=1e-12)
        assert not together[wide[1] == PADDING].any()


def test_padding_alone_has_zero_gradients():
    with jax.enable_x64(True):
        function, params = compiled("additive", "fast", False), params_of("additive")
        results = function(params, np.zeros_like(SOURCE), np.zeros_like(TARGET), np.ones_like(SENTENCE_WEIGHT))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(results))  # NaN counts as any


# ── Training ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_dropout_acts_with_a_key_alone_and_a_step_lowers_to_all_platforms():
    model = seq2seq.model(V_X, V_Y, dropout=0.5, **SIZES)
    params = jax.tree.map(lambda a: a.astype(np.float32), params_of("additive"))
    pairs = {"source": SOURCE, "target": TARGET}

    def gradient(params, pairs, key):
        return jax.grad(lambda p: weighted_loss(model.apply(p, None, pairs, key)[0], np.ones((4, 1))))(params)

    scores = jax.jit(lambda key: model.apply(params, None, pairs, key)[0].log_probability)
    one, again, other = (scores(jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0.01
    exported = jax.export.export(jax.jit(gradient), platforms=("cpu", "cuda", "tpu"))(params, pairs, jax.random.key(0))
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize(
    ("message", "options"),
    [
        ("did you mean 'additive'", {"attention": "aditive"}),
        ("form", {"form": "slow"}),
        ("hidden = 0", {"hidden": 0}),
        ("dropout = 1", {"dropout": 1.0}),
        ("make the two sizes equal", {"tied": True, "maxout": 4, "embedding": 5}),
    ],
)
def test_mistakes_in_the_options_are_one_line(message, options):
    with pytest.raises(UserError, match=message) as raised:
        seq2seq.model(V_X, V_Y, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("message", "inputs"),
    [
        ("expected 0 to 10", {"source": SOURCE + 1, "target": TARGET}),
        ("whole numbers", {"source": SOURCE * 1.0, "target": TARGET}),
        ("give one for each", {"source": SOURCE[:2], "target": TARGET}),
        ('give {"source"', {"source": SOURCE}),
        ('give {"source"', SOURCE),
    ],
)
def test_mistakes_in_the_sentences_are_one_line(message, inputs):
    model = seq2seq.model(V_X, V_Y, **SIZES)
    with pytest.raises(UserError, match=message):
        model.apply(params_of("additive"), None, inputs, None)
