"""Models of music: log-probabilities against NumPy, exact distributions by enumeration, packed rows, sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.errors import UserError
from mllab.models.recurrent import polyphony
from support.mistakes import refused_in_one_line

KEYS, HIDDEN = 4, 5
FRAMES = np.array(list(itertools.product([0, 1], repeat=KEYS)))  # all of them
OUTPUTS = list(polyphony.OUTPUTS)


def made(output, **options):
    """A model of few keys whose params are large enough to matter."""
    model = polyphony.model(KEYS, output=output, hidden=HIDDEN, units=6, **options)
    params, extra = model.init(jax.random.key(3))
    assert extra is None
    params = jax.tree.map(lambda a: 2 * a + 0.3 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)
    return model, params.replace(output=params.output.replace(b=jnp.cos(jnp.arange(len(params.output.b)))))


def rows(pieces, length):
    """The pieces one after another in one row, as inputs."""
    frames, begins, weights = np.zeros((1, length, KEYS)), np.zeros((1, length)), np.zeros((1, length))
    at = 0
    for piece in pieces:
        frames[0, at : at + len(piece)], begins[0, at], weights[0, at : at + len(piece)] = piece, 1, 1
        at += len(piece)
    return {"frames": frames, "begins": begins, "weights": weights}


def stacked(inputs):
    return {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}


def piece(length, seed):
    return (np.random.default_rng(seed).random((length, KEYS)) < 0.5).astype(float)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(params, frames):
    """Log-probability of each frame of a piece [T, K] by loops over frames and keys: a GRU, then the output."""
    (cell,), output = jax.tree.map(np.asarray, (params.layers, params.output))
    h, before, logs = np.zeros(HIDDEN), np.zeros(KEYS), []
    for frame in frames:
        p, u = before @ cell.w_x + cell.b, h @ cell.w_h
        r, z = (sigmoid(p[i * HIDDEN : (i + 1) * HIDDEN] + u[i * HIDDEN : (i + 1) * HIDDEN]) for i in (0, 1))
        n = np.tanh(p[2 * HIDDEN :] + r * (u[2 * HIDDEN :] + cell.b_n))
        h = (1 - z) * n + z * h
        state, before = np.concatenate([h, before]), frame
        total, direct = 0.0, state @ output.w + output.b
        hidden, last = state @ output.u + output.c, -1
        if output.v is None:
            for key, logit in enumerate(direct + np.maximum(hidden, 0) @ output.w_hidden):
                total += np.log(sigmoid(logit) if frame[key] else 1 - sigmoid(logit))
        else:
            for key in [*np.flatnonzero(frame), KEYS]:
                logits = (direct + np.maximum(hidden, 0) @ output.w_hidden)[last + 1 :]
                total += logits[key - last - 1] - np.log(np.exp(logits).sum())
                if key < KEYS:
                    hidden, last = hidden + output.v[key], key
        logs.append(total)
    return np.array(logs)


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_log_probabilities_equal_numpy_alone_padded_and_packed(output):
    model, params = made(output)
    pieces = [piece(5, 1), piece(2, 2), piece(1, 3)]
    batch = stacked([rows(pieces[:2], 9), rows(pieces[2:], 9), rows([], 9)])
    batch["frames"][batch["weights"] == 0] = 1.0  # padding may be anything
    logs, _ = jax.jit(model.apply, static_argnums=3)(params, None, batch, None)
    expected = [reference(params, each) for each in pieces]
    np.testing.assert_allclose(logs[0, :7], np.concatenate(expected[:2]), rtol=1e-4)
    np.testing.assert_allclose(logs[1, :1], expected[2], rtol=1e-4)
    assert not np.asarray(logs)[batch["weights"] == 0].any()


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_the_probabilities_of_all_frames_sum_to_one_and_draws_match_them(output):
    model, params = made(output)
    past = [1.0, 0, 1, 0], [0, 0, 0, 0]
    batch = stacked([rows([[*past, frame]], 3) for frame in FRAMES])
    logs, _ = model.apply(params, None, batch, None)
    probability = np.exp(np.asarray(logs)[:, 2])
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    assert probability.max() < 0.9
    for temperature in (1.0, 0.5):
        drawn = polyphony.sample(
            params, jax.random.key(0), np.array(past), length=1, temperature=temperature, count=20_000
        )
        number = np.asarray(drawn[:, 0] @ 2.0 ** np.arange(KEYS)[::-1]).astype(int)
        share = np.bincount(number, minlength=len(FRAMES)) / len(number)
        expected = probability if temperature == 1 else tempered(params, past, temperature)
        np.testing.assert_allclose(share, expected, atol=0.013)  # 3.7 standard deviations


def tempered(params, past, temperature):
    """Probabilities of all frames with the output's logits divided by a temperature; relu is not homogeneous."""
    output = params.output
    scaled = {name: getattr(output, name) / temperature for name in ("w", "b", "w_hidden")}
    colder = params.replace(output=output.replace(**scaled))
    return np.exp([reference(colder, [*past, frame])[2] for frame in FRAMES])


@pytest.mark.slow
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_frame_is_predicted_from_earlier_ones_alone(output):
    model, params = made(output)
    one = rows([piece(6, 4)], 6)
    other = {name: array.copy() for name, array in one.items()}
    other["frames"][0, 3] = 1 - other["frames"][0, 3]
    logs, changed = (np.asarray(model.apply(params, None, each, None)[0])[0] for each in (one, other))
    np.testing.assert_array_equal(logs[:3], changed[:3])
    assert (logs[3:] != changed[3:]).all()


@pytest.mark.slow
def test_greedy_sampling_takes_the_most_probable_choices_and_goes_on_from_them():
    _, params = made("autoregressive", cell="lstm", layers=2)
    greedy = polyphony.sample(params, jax.random.key(0), piece(3, 5), length=4, temperature=0.0, count=2)
    np.testing.assert_array_equal(greedy[0], greedy[1])
    longer = np.concatenate([piece(3, 5), greedy[0, :2]])
    rest = polyphony.sample(params, jax.random.key(9), longer, length=2, temperature=0.0)
    np.testing.assert_array_equal(greedy[0, 2:], rest[0])


@pytest.mark.slow
def test_a_frame_with_more_voices_than_there_is_room_for_is_not_a_number():
    _, params = made("autoregressive")
    narrow = polyphony.model(KEYS, output="autoregressive", hidden=HIDDEN, units=6, voices=2)
    inputs = rows([np.array([[1, 0, 0, 1], [1, 1, 0, 1.0]])], 2)
    logs = np.asarray(narrow.apply(params, None, inputs, None)[0])[0]
    np.testing.assert_allclose(logs[0], reference(params, inputs["frames"][0])[0], rtol=1e-4)
    assert np.isnan(logs[1])


def test_dropout_needs_a_key_and_its_mean_is_near_the_model():
    model, params = made("bernoulli", dropout=0.2, recurrent_dropout=0.1)
    inputs = stacked([rows([piece(4, 6)], 4)] * 50)
    apply = jax.jit(model.apply)
    plain, logs = (np.asarray(apply(params, None, inputs, key)[0]) for key in (None, jax.random.key(0)))
    assert len(np.unique(plain[:, 3])) == 1
    assert len(np.unique(logs[:, 3])) > 20
    np.testing.assert_allclose(logs.mean(0), plain[0], atol=1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "bernouli"}, "did you mean 'bernoulli'"),
        ({"cell": "gruu"}, "did you mean 'gru'"),
        ({"hidden": 0}, "hidden = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"cell": "mingru", "recurrent_dropout": 0.1}, "mingru has no recurrent weights"),
    ],
)
def test_mistakes_are_refused_in_one_line(arguments, message):
    with refused_in_one_line(message):
        polyphony.model(KEYS, **arguments)


def test_wrong_inputs_are_refused():
    model, params = made("bernoulli")
    inputs = rows([piece(2, 0)], 2)
    for wrong in (
        inputs["frames"],
        inputs | {"frames": inputs["frames"][..., :3]},
        inputs | {"begins": inputs["begins"][0]},
    ):
        with pytest.raises(UserError, match="expected"):
            model.apply(params, None, wrong, None)
    with refused_in_one_line(r"prime: shape \[3\]"):
        polyphony.sample(params, jax.random.key(0), np.zeros(3), length=1)
    with refused_in_one_line("temperature = -1"):
        polyphony.sample(params, jax.random.key(0), np.zeros((0, KEYS)), length=1, temperature=-1)
