"""The table of models: plans go through JSON and build the same model again; plans that make no sense are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.errors import UserError
from mllab.models import convnet, table
from support import problems
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
PLANS = {
    "linear": ((4,), 0, {}),
    "softmax": ((4,), 3, {}),
    "mlp, values": ((4,), 0, {"hidden": (5,)}),
    "mlp": ((6, 5, 2), 3, {"hidden": (5, 4), "activation": "tanh"}),
    "softmax of images": ((6, 5, 2), 3, {}),
    "convnet": ((6, 5, 2), 3, {"channels": (4,), "hidden": (), "dropout": 0.5}),
    "lenet": ((6, 5, 2), 3, {}),
    "residual": ((6, 5, 2), 3, {"channels": (4, 6), "blocks": 2}),
}


def plan(case):
    shape, classes, options = PLANS[case]
    return table.plan(case.split(",")[0].split()[0], shape, classes, **options)


def test_every_model_has_a_case():
    assert {plan(case)["model"] for case in PLANS} == set(table.MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("case", PLANS)
def test_a_plan_builds_the_same_model_from_json(case):
    (shape, classes, _), original = PLANS[case], plan(case)
    restored = json.loads(json.dumps(original))
    assert restored == original
    inputs = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    params, extra = table.build(original).init(KEY)
    assert problems.equal((params, extra), table.build(restored).init(KEY))
    outputs, _ = table.build(restored).apply(params, extra, inputs, None)
    assert outputs.shape == (3, classes or 1)
    assert outputs.dtype == jnp.float32


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_holds_the_arguments_of_make(case):
    model, arguments = plan(case)["model"], {key: value for key, value in plan(case).items() if key != "model"}
    made = table.MODELS[model].make(**arguments)
    assert problems.equal(made.init(KEY), table.build(plan(case)).init(KEY))
    assert set(arguments) == {"shape", "outputs", *table.defaults(model)}  # none is left to a default that may change


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("softmax", "softmax 4-3"),
        ("mlp", "mlp 60-5-4-3"),
        ("lenet", "lenet: Conv(channels=6, window=5), Activation(name=tanh), AveragePool()"),
        ("residual", "residual: Conv(channels=4, bias=False), Residual(BatchNorm(), Activation(), Conv(channels=4, "),
    ],
)
def test_the_description_of_a_plan(case, text):
    assert table.describe(plan(case)).startswith(text)


@pytest.mark.slow
def test_options_reach_the_model_and_none_means_the_default():
    default = table.plan("convnet", (8, 8, 1), 10)
    assert table.plan("convnet", (8, 8, 1), 10, channels=None, hidden=None, dropout=None) == default

    def layers(plan):
        return table.build(plan).init(KEY)[0].architecture

    assert layers(default) == convnet.convnet(10)
    options = {"channels": (3,), "hidden": (7,), "dropout": 0.25}
    assert layers(table.plan("convnet", (8, 8, 1), 10, **options)) == convnet.convnet(10, **options)
    assert layers(table.plan("residual", (8, 8, 1), 10, blocks=2)) == convnet.residual(10, blocks=2)
    assert table.plan("mlp", (4,), 3) == {
        "model": "mlp", "shape": [4], "outputs": 3, "hidden": [128, 128], "activation": "relu",
    }  # fmt: skip


def test_the_help_of_flags_follows_from_the_table():
    assert table.models_help().startswith("linear (linear regression), softmax (softmax regression), mlp (multi-layer")
    assert all(name in table.models_help() for name in table.MODELS)
    assert table.option_help("hidden") == "mlp (128,128), convnet (128)"
    assert table.option_help("activation") == "mlp (relu)"


OLD_PLANS = {
    "linear": {"model": "linear", "shape": [4], "sizes": [4, 1]},
    "softmax of images": {"model": "softmax", "shape": [6, 5, 2], "sizes": [60, 3]},
    "mlp": {"model": "mlp", "shape": [6, 5, 2], "sizes": [60, 5, 4, 3], "activation": "tanh"},
    "lenet": {"model": "lenet", "shape": [6, 5, 2], "layers": convnet.describe(convnet.lenet(3))},
    "residual": {
        "model": "residual", "shape": [6, 5, 2],
        "layers": convnet.describe(convnet.residual(3, channels=(4, 6), blocks=2)),
    },
}  # fmt: skip


@pytest.mark.parametrize("case", OLD_PLANS)
def test_plans_of_older_files_build_the_same_model(case):
    old = json.loads(json.dumps(OLD_PLANS[case]))
    assert problems.equal(table.build(old).init(KEY), table.build(plan(case)).init(KEY))
    assert table.describe(old) == table.describe(plan(case))


def test_a_plan_may_list_its_layers():
    layers = (convnet.Conv(2), convnet.MaxPool(3), convnet.Dense(3))
    listed = {"model": "convnet", "shape": [8, 8, 1], "layers": convnet.describe(layers)}
    assert table.build(listed).init(KEY)[0].architecture == layers
    assert table.describe(listed) == "convnet: Conv(channels=2), MaxPool(window=3), Dense(units=3)"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("convnt", (8, 8, 1), 10), {}, "did you mean 'convnet'"),
        (("linear", (4,), 3), {}, "--model=linear is for regression, and this is classification: try --model=softmax"),
        (("softmax", (4,), 0), {}, "try --model=linear"),
        (("lenet", (8, 8, 1), 0), {}, "is for classification, and this is regression: try --model=linear or mlp"),
        (("convnet", (64,), 10), {}, "takes images, and these rows have 64 features: try --model=softmax or mlp"),
        (("softmax", (4,), 3), {"hidden": (5,)}, "--hidden is for mlp and convnet, not for softmax"),
        (("lenet", (8, 8, 1), 10), {"channels": (5,)}, "--channels is for convnet and residual, not for lenet"),
        (("residual", (8, 8, 1), 10), {"dropout": 0.5}, "--dropout is for convnet, not for residual"),
        (("mlp", (4,), 3), {"stride": 2}, "--stride is for no model, not for mlp"),
        (("mlp", (4,), 3), {"hidden": (0,)}, r"MLP sizes \(4, 0, 3\)"),
        (("mlp", (4,), 3), {"activation": "rulu"}, "unknown activation 'rulu': did you mean 'relu'"),
        (("convnet", (8, 8, 1), 10), {"dropout": 1.5}, "dropout = 1.5"),
        (("convnet", (8, 8, 1), 10), {"channels": (0,)}, "Conv: channels = 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(arguments, options, message):
    with refused_in_one_line(message):
        table.plan(*arguments, **options)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({}, "unknown model 'None'"),
        ({"model": "renset"}, "unknown model 'renset'"),
        ({"model": "convnet", "shape": [8, 8, 1]}, "lacks 'outputs'"),
        ({"model": "convnet", "layers": []}, "lacks 'shape'"),
        ({"model": "mlp", "sizes": [4, 3]}, "lacks 'activation'"),
        ({"model": "mlp", "sizes": [4, 3], "activation": "rulu"}, "'rulu'"),
        ({"model": "softmax"}, "lacks 'outputs'"),
        ({"model": "softmax", "shape": [4], "outputs": 3, "hidden": [5]}, "unknown argument 'hidden'"),
        ({"model": "lenet", "shape": [8, 8, 1], "layers": [{"layer": "Dens", "units": 3}]}, "did you mean 'Dense'"),
    ],
)
def test_a_stored_plan_that_lacks_something_is_refused(stored, message):
    with pytest.raises(UserError, match=message):
        table.build(stored)


@pytest.mark.slow
def test_inputs_of_another_size_are_refused():
    for case in ("mlp", "convnet", "lenet"):
        model = table.build(plan(case))
        with pytest.raises(UserError):
            model.apply(*model.init(KEY), np.ones((2, 9, 9, 2), np.float32), None)
