"""A model as a plain value: a plan goes through JSON, builds its model again, and refuses what makes no sense."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.errors import UserError
from mllab.models import architecture, convnet
from support import problems

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
    return architecture.plan(case.split(",")[0].split()[0], shape, classes, **options)


@pytest.mark.parametrize("case", PLANS)
def test_a_plan_builds_the_same_model_again_from_json(case):
    (shape, classes, _), told = PLANS[case], plan(case)
    again = json.loads(json.dumps(told))
    assert again == told
    inputs = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    params, extra = architecture.model(told).init(KEY)
    same_params, same_extra = architecture.model(again).init(KEY)
    assert problems.equal((params, extra), (same_params, same_extra))
    outputs, _ = architecture.model(again).apply(params, extra, inputs, None)
    assert outputs.shape == (3, classes or 1)
    assert outputs.dtype == jnp.float32


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("softmax", "softmax 4-3"),
        ("mlp", "mlp 60-5-4-3"),
        ("lenet", "lenet: Conv(channels=6, window=5), Activation(name=tanh), AveragePool()"),
        ("residual", "residual: Conv(channels=4, bias=False), Residual(BatchNorm(), Activation(), Conv(channels=4, "),
    ],
)
def test_a_plan_in_words(case, said):
    assert architecture.describe(plan(case)).startswith(said)


def test_options_reach_the_net_and_none_means_as_usual():
    usual = architecture.plan("convnet", (8, 8, 1), 10)
    assert architecture.plan("convnet", (8, 8, 1), 10, channels=None, hidden=None, dropout=None) == usual
    assert convnet.build(usual["layers"]) == convnet.convnet(10)
    other = architecture.plan("convnet", (8, 8, 1), 10, channels=(3,), hidden=(7,), dropout=0.25)
    assert convnet.build(other["layers"]) == convnet.convnet(10, channels=(3,), hidden=(7,), dropout=0.25)
    assert architecture.plan("mlp", (4,), 3)["sizes"] == [4, 128, 128, 3]
    assert architecture.plan("residual", (8, 8, 1), 10, blocks=2)["layers"] == convnet.describe(
        convnet.residual(10, blocks=2)
    )


@pytest.mark.parametrize(
    ("arguments", "options", "says"),
    [
        (("convnt", (8, 8, 1), 10), {}, "did you mean 'convnet'"),
        (("linear", (4,), 3), {}, "--model=linear is for regression, and this is classification: try --model=softmax"),
        (("softmax", (4,), 0), {}, "try --model=linear"),
        (("lenet", (8, 8, 1), 0), {}, "--model=lenet is for classification, and this is regression: try --model=mlp"),
        (("convnet", (64,), 10), {}, "takes images, and these rows have 64 features: try --model=mlp"),
        (("softmax", (4,), 3), {"hidden": (5,)}, "--hidden is for mlp and convnet, not for softmax"),
        (("lenet", (8, 8, 1), 10), {"channels": (5,)}, "--channels is for convnet and residual, not for lenet"),
        (("residual", (8, 8, 1), 10), {"dropout": 0.5}, "--dropout is for convnet, not for residual"),
        (("mlp", (4,), 3), {"stride": 2}, "--stride is for no model, not for mlp"),
        (("convnet", (8, 8, 1), 10), {"dropout": 1.5}, "dropout = 1.5"),
        (("convnet", (8, 8, 1), 10), {"channels": (0,)}, "Conv: channels = 0"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(arguments, options, says):
    with pytest.raises(UserError, match=says) as caught:
        architecture.plan(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({}, "unknown model 'None'"),
        ({"model": "renset"}, "unknown model 'renset'"),
        ({"model": "convnet", "shape": [8, 8, 1]}, "lacks 'layers'"),
        ({"model": "convnet", "layers": []}, "lacks 'shape'"),
        ({"model": "mlp", "sizes": [4, 3]}, "lacks 'activation'"),
        ({"model": "mlp", "sizes": [4, 3], "activation": "rulu"}, "'rulu'"),
        ({"model": "softmax"}, "lacks 'sizes'"),
        ({"model": "lenet", "shape": [8, 8, 1], "layers": [{"layer": "Dens", "units": 3}]}, "did you mean 'Dense'"),
    ],
)
def test_a_plan_that_lacks_something_is_refused(told, says):
    with pytest.raises(UserError, match=says):
        architecture.model(told)


def test_inputs_of_another_size_are_refused():
    for case in ("mlp", "convnet", "lenet"):
        model = architecture.model(plan(case))
        with pytest.raises(UserError):
            model.apply(*model.init(KEY), np.ones((2, 9, 9, 2), np.float32), None)
