"""One table of cases: what every model trains and predicts with lowers to cpu, cuda and tpu, and computes in bfloat16.

Nothing is compiled. The models of `models.table` are cases of `test_models`, too, with what their races run.
"""

import ast
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mllab import models, portable, training
from mllab.control import evaluation
from mllab.control.agents import base as agents
from mllab.control.agents.table import AGENTS
from mllab.control.environments import cartpole, mountain_car, pendulum
from mllab.learners import storage
from mllab.models import base, convnet, linear, mlp, seq2seq, table
from mllab.models.preprocessing import Columns, Layout
from mllab.models.recurrent import CELLS, forecaster, language, polyphony, readout
from mllab.models.transformer import gpt, translation
from mllab.types import Losses, Rows

PLATFORMS = ("cpu", "cuda", "tpu")
DRAW = np.random.default_rng(0)
ROWS, STEPS = 4, 3


def numbers(*shape):
    return DRAW.normal(size=(ROWS, *shape)).astype(np.float32)


def ids(most, *shape):
    return DRAW.integers(0, most, (ROWS, *shape)).astype(np.int32)


def lowers(function, *arguments):
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS


# ── Models that are trained by gradients ────────────────────────────────────────────────────────────────────────────

FRAMES = {
    "frames": (numbers(STEPS, 5) > 0).astype(np.float32), "begins": np.ones((ROWS, STEPS), np.float32),
    "weights": np.ones((ROWS, STEPS), np.float32),
}  # fmt: skip
SIZES = {"hidden": 4, "layers": 2}


def of_table(name):
    shape = (28, 28, 1) if table.MODELS[name].takes == "images" else (3,)
    plan = table.plan(name, shape, 2 if "classification" in table.MODELS[name].tasks else 0)
    return table.build(plan), numbers(*shape)


# Module -> name -> () -> (model, inputs).
TRAINED = {
    **{
        module: {name: lambda name=name: of_table(name) for name in names}
        for module, names in {
            linear: ["linear", "softmax"], mlp: ["mlp"], convnet: ["convnet", "lenet", "residual"],
        }.items()
    },
    language: {
        cell: lambda cell=cell: (language.model(7, cell=cell, batch_size=ROWS, **SIZES), {"tokens": ids(7, STEPS)})
        for cell in CELLS
    },
    readout: {"gru": lambda: (readout.model(2, 3, **SIZES), numbers(STEPS, 2))},
    forecaster: {"gru": lambda: (forecaster.model(2, 3, dropout=0.1, **SIZES), numbers(STEPS, 2))},
    polyphony: {
        name: lambda name=name: (polyphony.model(5, output=name, units=3, **SIZES), FRAMES)
        for name in polyphony.OUTPUTS
    },
    seq2seq: {
        name: lambda name=name: (
            seq2seq.model(8, 9, attention=name, hidden=4, embedding=3, dropout=0.1),
            {"source": ids(8, STEPS), "target": ids(9, STEPS)},
        )
        for name in seq2seq.ATTENTIONS
    },
    gpt: {
        "transformer": lambda: (gpt.language(7, width=4, layers=2, heads=2, context=STEPS, dropout=0.1), ids(7, STEPS))
    },
    translation: {
        "transformer": lambda: (
            translation.translator(8, 9, width=4, layers=1, heads=2, feedforward=6, dropout=0.1),
            {"source": ids(8, STEPS), "target": ids(9, STEPS)},
        )
    },
}  # fmt: skip
NAMES = [pytest.param(module, name, id=f"{module.__name__}-{name}") for module in TRAINED for name in TRAINED[module]]


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_a_step_of_training_and_a_prediction_lower_to_three_platforms(module, name):
    model, inputs = TRAINED[module][name]()

    def objective(hyper, params, extra, batch, key):
        outputs, extra = model.apply(params, extra, batch, key)
        values = sum(leaf.reshape(ROWS, -1).sum(axis=1) for leaf in jax.tree.leaves(outputs))
        return Losses(values, jnp.ones(ROWS)), extra

    def metrics(hyper, params, extra, batch):
        losses, extra = objective(hyper, params, extra, batch, None)
        return {"loss": losses}, extra

    run = training.supervised(model.init, objective, lambda hyper: optax.adam(hyper["rate"]), metrics)
    hyper, schedule = {"rate": 0.1}, Rows(np.arange(ROWS)[None], np.ones((1, ROWS), np.float32))
    state = jax.eval_shape(run.start, hyper, jax.random.key(0))
    lowers(run.advance, hyper, state, inputs, schedule)
    lowers(lambda *arguments: model.apply(*arguments, None), state.params, state.extra, inputs)


@pytest.mark.parametrize(("module", "name"), NAMES)
def test_in_bfloat16_products_take_bfloat16_and_results_are_float32(module, name):
    model, inputs = TRAINED[module][name]()
    low, inputs = base.in_precision(model, "bf16"), jax.tree.map(jnp.asarray, inputs)
    params, extra = jax.eval_shape(model.init, jax.random.key(0))

    def loss(params, extra):
        outputs, extra = low.apply(params, extra, inputs, jax.random.key(1))
        return sum(leaf.sum() for leaf in jax.tree.leaves(outputs)), (outputs, extra)

    traced, shapes = jax.make_jaxpr(jax.grad(loss, has_aux=True), return_shape=True)(params, extra)
    assert shapes[0] == params
    assert shapes[1][1] == extra
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} <= {jnp.dtype("float32")}
    products = [eqn for eqn in equations(traced.jaxpr) if eqn.primitive.name in ("dot_general", "conv_general_dilated")]
    low_products = [eqn for eqn in products if {each.aval.dtype for each in eqn.invars} == {jnp.dtype(jnp.bfloat16)}]
    # The scores of words are summed in float32.
    assert len(products) - len(low_products) <= (2 if module in (seq2seq, translation) else 0)
    assert low_products


def equations(jaxpr):
    """Yield the equations of a program and of those inside it."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jax.tree.leaves([*eqn.params.values()], is_leaf=lambda each: hasattr(each, "jaxpr")):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def test_every_model_of_the_table_is_a_case():
    assert set(table.MODELS) == {name for module in (linear, mlp, convnet) for name in TRAINED[module]}


# ── Learners ────────────────────────────────────────────────────────────────────────────────────────────────────────

LAYOUT = Layout(2, (0,), (4,))
# Arguments of the plan, the setting, and the module of the model.
LEARNERS = {
    "boosted_trees": ({"classes": 2, "layout": LAYOUT, "iterations": 2}, {}, "trees"),
    "ensemble": ({"of": {"learner": "mlp", "hidden": [4], "steps": 2}, "members": 2}, {}, "mlp"),
    "kernel_ridge": ({}, {"l2": 1.0}, "kernel_ridge"),
    "kmeans": ({"most": 2, "restarts": 2}, {"k": 2}, "kmeans.kmeans"),
    "linear": ({}, {}, "linear"),
    "mean": ({}, {}, None),
    "mixture": ({"classes": 2, "covariance": "full", "restarts": 1}, {"floor": 0.1}, "mixture.mixture"),
    "mlp": ({"classes": 2, "hidden": [4], "steps": 2}, {}, "mlp"),
    "most_frequent": ({"classes": 2}, {}, None),
    "nearest_neighbors": ({"classes": 2, "most": 2}, {"k": 2}, "neighbors"),
    "preprocessed": ({"of": {"learner": "ridge"}, "layout": LAYOUT}, {"l2": 1.0}, "preprocessing"),
    "published": ({"architecture": table.plan("mlp", (2,), 2), "classes": 2}, None, "mlp"),
    "ridge": ({}, {"l2": 1.0}, "linear"),
    "softmax_regression": ({"classes": 2}, {"l2": 1.0}, "softmax"),
    "support_vector_regression": ({}, {"c": 1.0}, "svm.regression"),
    "svm": ({"classes": 2}, {"c": 1.0}, "svm.classifier"),
}
# Fits that begin on the host: scikit-learn grows the trees, and NumPy draws the order of the minibatches.
ON_THE_HOST = ("boosted_trees", "mlp", "ensemble")
WITHOUT_CASE = {
    "base": "wrappers of other models",
    "flax_module": "cases of `test_models`",
    "pca": "NumPy and one factorisation, before a training",
    "table": "its rows are cases",
}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_fit_and_a_prediction_of_a_learner_lower_to_three_platforms(name):
    arguments, hyper, _ = LEARNERS[name]
    learner = storage.rebuild(storage.plan(name, **arguments))
    inputs = numbers(2)
    inputs = Columns(inputs, ids(4, 1)) if "layout" in arguments else inputs
    examples = {"inputs": inputs, "targets": np.arange(ROWS) % 2 if "classes" in arguments else numbers()}
    rows = Rows(np.arange(ROWS), np.ones(ROWS, np.float32))
    if name in ON_THE_HOST:
        params = learner.fit(hyper, jax.random.key(0), examples, rows)
    elif hyper is None:
        params, _ = jax.eval_shape(table.build(arguments["architecture"]).init, jax.random.key(0))
    else:
        params = jax.eval_shape(lambda hyper, key: learner.fit(hyper, key, examples, rows), hyper, jax.random.key(0))
        lowers(lambda hyper, key: learner.fit(hyper, key, examples, rows), hyper, jax.random.key(0))
    lowers(learner.predict, params, inputs)
    (any_number,) = jax.export.symbolic_shape("b")
    rows = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((any_number, *leaf.shape[1:]), leaf.dtype), inputs)
    lowers(functools.partial(portable.by_row, learner.predict), params, rows)


# ── Agents of reinforcement learning ────────────────────────────────────────────────────────────────────────────────

NETS = {"hidden": (4,), "environments": 2}
ON_POLICY = {**NETS, "length": 4}
# Environment and options.
PLAYERS = {
    "reinforce": (pendulum, ON_POLICY),
    "actor_critic": (pendulum, ON_POLICY),
    "ppo": (cartpole, {**ON_POLICY, "minibatches": 2}),
    "q_learning": (mountain_car, {"length": 4, "bins": 3}),
    "dqn": (cartpole, {**NETS, "capacity": 16, "batch_size": 4}),
}


@pytest.mark.parametrize("name", AGENTS)
def test_an_update_and_the_score_of_an_agent_lower_to_three_platforms(name):
    module, options = PLAYERS[name]
    agent = AGENTS[name].make(module.environment(), **options)
    hyper, examples, rows = {"learning_rate": 0.1}, evaluation.episodes(2), agents.schedule(agent, 2)
    state = jax.eval_shape(agent.run.start, hyper, jax.random.key(0))
    lowers(agent.run.advance, hyper, state, examples, rows)
    lowers(agent.run.score, hyper, state, examples, rows)


# ── No model without a case ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_model_has_a_case():
    folder = Path(models.__file__).parent
    defined = {}
    for path in folder.rglob("*.py"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        returns = {ast.unparse(node.returns) for node in functions if node.returns and node.name[0] != "_"}
        if returns & {"Model", "EncoderDecoder"} or {node.name for node in functions} & {"fit", "apply"}:
            defined[".".join(path.relative_to(folder).with_suffix("").parts)] = path
    cases = {module.__name__.removeprefix("mllab.models.") for module in TRAINED}
    cases |= {module for _, _, module in LEARNERS.values() if module}
    assert set(defined) == cases | set(WITHOUT_CASE)
    assert set(LEARNERS) == set(storage.LEARNERS)
