"""Every model × every invariant: each row of the table of models is a case, and so are Flax modules."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from mllab import devices, racing, sweep, training
from mllab.models import flax_module, table
from mllab.models.base import Model
from support import problems

CLASSES = problems.examples(60)
VALUES = {"inputs": CLASSES["inputs"], "targets": CLASSES["inputs"] @ np.arange(6, dtype=np.float32)}
PICTURES = np.random.default_rng(1).normal(size=(6, 1, 8, 2)).repeat(8, axis=1).astype(np.float32)  # of each feature
IMAGES = {"inputs": np.tensordot(CLASSES["inputs"], PICTURES, 1) / 3, "targets": CLASSES["targets"]}


class Case(NamedTuple):
    model: Model
    examples: dict[str, np.ndarray]
    outputs: tuple[int, ...]  # shape for one row
    task: str = "classification"


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(3)(linen.tanh(linen.Dense(4)(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.hidden, self.out = nnx.Linear(6, 4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        return self.out(nnx.gelu(self.hidden(x)))


OPTIONS = {  # small ones; a model without any has its defaults
    "mlp": {"hidden": (5,)},
    "convnet": {"channels": (4,), "hidden": (8,), "dropout": 0.2},
    "residual": {"channels": (8,)},
}


def row(name):
    """The case of a model of the table."""
    entry = table.MODELS[name]
    task = entry.tasks[0]
    outputs, examples = {"classification": (3, CLASSES), "regression": (0, VALUES)}[task]
    examples = IMAGES if entry.takes == "images" else examples
    shape = examples["inputs"].shape[1:]
    model = table.build(table.plan(name, shape, outputs, **OPTIONS.get(name, {})))
    return Case(model, examples, (outputs or 1,), task)


CASES = {name: functools.partial(row, name) for name in table.MODELS} | {
    "linen": lambda: Case(flax_module.linen(Linen(), jnp.ones((1, 6))), CLASSES, (3,)),
    "nnx": lambda: Case(flax_module.nnx(Nnx), CLASSES, (3,)),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]()


def run(case):
    return racing.problem(case.model, case.task)(lambda hyper: optax.adam(hyper["learning_rate"]))


def drive(case, one, lanes, mesh=None):
    schedule, held_out = problems.rows(seeds=(0, 1))
    many = sweep.lanes(one, lanes.schedule, mesh=mesh)
    return training.drive(many, lanes.hyper, lanes.key, case.examples, schedule, held_out=held_out, segment=10)


GRID = {"learning_rate": [0.003, 0.03, 0.1]}
LANE = 3  # the second seed's, at the least rate: the greater the rate, the faster rounding grows


def test_outputs_have_one_row_per_example_at_any_batch_size(case):
    params, extra = case.model.init(jax.random.key(0))
    for rows in (1, 7):
        outputs, _ = case.model.apply(params, extra, case.examples["inputs"][:rows], None)
        assert outputs.shape == (rows, *case.outputs)
        assert outputs.dtype == jnp.float32


@pytest.mark.slow
def test_outputs_do_not_depend_on_the_rest_of_the_batch(case):
    params, extra = case.model.init(jax.random.key(1))
    whole, _ = case.model.apply(params, extra, case.examples["inputs"], None)
    part, _ = case.model.apply(params, extra, case.examples["inputs"][20:25], None)
    np.testing.assert_allclose(whole[20:25], part, rtol=1e-5, atol=1e-6)


def test_advance_and_score_lower_to_three_platforms(case):
    one, (schedule, held_out) = run(case), problems.rows()
    schedule, hyper = jax.tree.map(lambda a: a[0], schedule), {"learning_rate": jnp.float32(0.1)}
    state = jax.eval_shape(one.start, hyper, jax.random.key(0))
    for function, rows in ((one.advance, schedule), (one.score, held_out)):
        exported = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))
        assert exported(hyper, state, case.examples, rows).platforms == ("cpu", "cuda", "tpu")


@pytest.mark.slow
def test_it_learns_and_a_replay_ends_with_the_same_bits(case):
    lanes = sweep.grid(GRID, [0, 1])
    one, again = (drive(case, run(case), lanes, devices.mesh(2)) for _ in range(2))
    assert problems.equal(one.state, again.state)
    assert problems.equal(one.kept_loss, again.kept_loss)
    assert one.history.train_loss[-1].min() < 0.5 * one.history.train_loss[0].max()


@pytest.mark.slow
def test_a_lane_equals_the_run_alone(case):
    lanes = sweep.grid(GRID, [0, 1])
    together = drive(case, run(case), lanes, devices.mesh(2))
    schedule, held_out = problems.rows(seeds=(0, 1))
    hyper = {"learning_rate": lanes.hyper["learning_rate"][LANE]}
    lane_rows = jax.tree.map(lambda a: a[1], schedule)
    alone = training.drive(run(case), hyper, lanes.key[LANE], case.examples, lane_rows, held_out=held_out, segment=10)
    np.testing.assert_allclose(together.history.train_loss[:, LANE], alone.history.train_loss, rtol=1e-4)


@pytest.mark.slow
def test_a_second_drive_of_the_same_run_compiles_nothing(case, caplog):
    one = sweep.lanes(run(case), sweep.grid(GRID, [0, 1]).schedule)

    def go(rates):
        lanes = sweep.grid({"learning_rate": rates}, [0, 1])
        schedule, held_out = problems.rows(seeds=(0, 1))
        training.drive(one, lanes.hyper, lanes.key, case.examples, schedule, held_out=held_out, segment=20)

    go([0.003, 0.03, 0.1])
    with jax.log_compiles(True), caplog.at_level("WARNING"):
        go([0.001, 0.01, 0.2])
    assert not [record.message for record in caplog.records if "Finished XLA compilation" in record.message]
