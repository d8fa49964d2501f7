"""Functions of sequences × every way in which an array may be wrong; see `core/test_argument_table.py`."""

import jax
import numpy as np
import pytest

from mllab import forecasting
from mllab.models import transformer
from mllab.models.recurrent import (
    CELLS,
    LSTMCarry,
    bidirectional,
    forecaster,
    jacobians,
    language,
    polyphony,
    readout,
    sampling,
    stack,
    unroll,
)
from support.mistakes import refused_in_one_line
from support.wrong_arguments import Case, check_arrays

KEY = jax.random.key(0)
B, T, D, H, V = 3, 4, 2, 5, 6
DRAW = np.random.default_rng(0)
CELL = CELLS["gru"]
MORE = ("one row more",)
ARRAYS = {
    "inputs": DRAW.normal(size=(B, T, D)).astype(np.float32),
    "carry": DRAW.normal(size=(B, H)).astype(np.float32),
    "lengths": np.array([4, 4, 1]),
    "mask": np.float32(np.tri(B, T, 2)),
    "reset": np.zeros((B, T), bool),
    "tokens": DRAW.integers(0, V, (B, T)),
    "text": DRAW.integers(0, V, (1, T)),
    "frames": np.float32(DRAW.random((B, T, 3)) < 0.4),
    "begins": np.float32([[1, 0, 0, 0]] * B),
    "prime": np.float32([[1, 0, 0], [0, 1, 0]]),
    "values": DRAW.normal(size=60).cumsum() + 50,
    "origins": np.arange(20, 30),
}
CELL_PARAMS = CELL.init(KEY, D, H)
LANGUAGE, GPT = language.model(V, hidden=H), transformer.language(V, width=4, layers=1, heads=2, context=T)
MODELS = {
    "language": LANGUAGE,
    "gpt": GPT,
    "readout": readout.model(D, D, hidden=H),
    "forecaster": forecaster.model(D, 3, hidden=H),
    "polyphony": polyphony.model(3, hidden=H, units=4),
}
PARAMS = {name: model.init(KEY)[0] for name, model in MODELS.items()}


def applied(name, *names):
    """Return a model as a function of one array, or of those of a mapping of inputs."""

    def call(*arrays):
        inputs = dict(zip(names, arrays, strict=True)) if names else arrays[0]
        return MODELS[name].apply(PARAMS[name], None, inputs, None)[0]

    return call


def sampled(prime):
    carry = language.initial_carry(PARAMS["language"], 1)
    return sampling.sample(LANGUAGE, PARAMS["language"], carry, KEY, prime, length=2)


CASES = {
    "unroll": Case(lambda x, carry: unroll(CELL, CELL_PARAMS, carry, x), ("inputs", "carry")),
    "unroll lengths": Case(lambda n: unroll(CELL, CELL_PARAMS, None, ARRAYS["inputs"], lengths=n), ("lengths",)),
    "unroll masks": Case(
        lambda mask, reset: unroll(CELL, CELL_PARAMS, None, ARRAYS["inputs"], mask=mask, reset=reset), ("mask", "reset")
    ),
    "stack": Case(lambda x: stack(CELL, [CELL_PARAMS], None, x), ("inputs",), MORE),
    "bidirectional": Case(lambda x: bidirectional(CELL, (CELL_PARAMS, CELL_PARAMS), None, x), ("inputs",), MORE),
    "language": Case(applied("language", "tokens", "lengths", "reset"), ("tokens", "lengths", "reset")),
    "language mask": Case(applied("language", "tokens", "mask"), ("tokens", "mask")),
    "hidden_states": Case(lambda tokens: language.hidden_states(PARAMS["language"], tokens), ("tokens",), MORE),
    "gpt": Case(applied("gpt", "tokens", "lengths", "reset"), ("tokens", "lengths", "reset")),
    "gpt mask": Case(applied("gpt", "tokens", "mask"), ("tokens", "mask")),
    "sample": Case(sampled, ("text",)),
    "readout": Case(applied("readout", "inputs", "lengths"), ("inputs", "lengths")),
    "continued": Case(lambda x, seen: readout.continued(PARAMS["readout"], x, seen), ("inputs", "lengths")),
    "states_of": Case(lambda x: readout.states_of(PARAMS["readout"], x), ("inputs",), MORE),
    "norms_by_distance": Case(lambda x: jacobians.norms_by_distance(CELL, CELL_PARAMS, x), ("inputs",), MORE),
    "forecaster": Case(applied("forecaster"), ("inputs",), MORE),
    "polyphony": Case(applied("polyphony", "frames", "begins", "weights"), ("frames", "begins", "begins")),
    "polyphony.sample": Case(
        lambda prime: polyphony.sample(PARAMS["polyphony"], KEY, prime, length=2), ("prime",), (*MORE, "empty")
    ),
    "naive": Case(lambda y, t: forecasting.naive("drift", y, t, 3, 4), ("values", "origins"), MORE),
    "truth": Case(lambda y, t: forecasting.truth(y, t, 3), ("values", "origins"), MORE),
    "mase_scale": Case(lambda y: forecasting.mase_scale(y, 4), ("values",), MORE),
    "transform_of": Case(lambda y: forecasting.transform_of("log", y, "y").first, ("values",), MORE),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_array_is_refused_in_one_line_or_gives_finite_results(name):
    check_arrays(CASES[name], ARRAYS)


def test_padding_may_be_anything():
    inputs = ARRAYS["inputs"].copy()
    inputs[2, 1:] = np.nan
    _, states = unroll(CELL, CELL_PARAMS, None, inputs, lengths=ARRAYS["lengths"])
    assert np.isfinite(states).all()


def test_params_that_are_not_finite_are_no_mistake_of_the_inputs():
    lost = jax.tree.map(lambda leaf: leaf * np.nan, PARAMS["language"])
    logits, _ = LANGUAGE.apply(lost, None, ARRAYS["tokens"], None)
    assert np.isnan(logits).all()


def test_masks_that_contradict_each_other_and_carries_of_another_structure_are_refused():
    masks = {"tokens": ARRAYS["tokens"], "mask": ARRAYS["mask"], "lengths": ARRAYS["lengths"]}
    for name in ("language", "gpt"):
        with refused_in_one_line("lengths and a mask: give one of them"):
            MODELS[name].apply(PARAMS[name], None, masks, None)
    with refused_in_one_line("carry: expected an LSTMCarry"):
        unroll(CELLS["lstm"], CELLS["lstm"].init(KEY, D, H), ARRAYS["carry"], ARRAYS["inputs"])
    with refused_in_one_line(r"carry: shape \[2, 3, 5\]"):
        unroll(CELL, CELL_PARAMS, LSTMCarry(ARRAYS["carry"], ARRAYS["carry"]), ARRAYS["inputs"])
    with refused_in_one_line("1 layers, 2 carries"):
        stack(CELL, [CELL_PARAMS], [ARRAYS["carry"]] * 2, ARRAYS["inputs"])
    with refused_in_one_line("dropout"):
        language.model(V, dropout="much")
