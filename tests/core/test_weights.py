"""Published params: a file restores the arrays and the model, and is refused where they do not match."""

from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from mllab import weights
from mllab.errors import UserError
from mllab.models import convnet, mlp, table
from mllab.models.base import predict
from support import problems
from support.mistakes import refused_in_one_line

IMAGES = np.random.default_rng(0).uniform(size=(5, 12, 12, 1)).astype(np.float32)


def test_params_are_restored_and_others_are_refused(tmp_path):
    params = {"a": mlp.init(jax.random.key(0), (3, 2)), "scale": jnp.ones(())}
    path = tmp_path / "params.safetensors"
    path.write_bytes(weights.encode(params, {"model": "mlp"}))
    again, extra, about = weights.load(path, jax.eval_shape(lambda: params))
    assert problems.equal(again, params)
    assert extra is None
    assert about == {"model": "mlp"}
    with pytest.raises(UserError, match=r"does not fit the model: a\.0\.b"):
        weights.load(path, {**params, "a": mlp.init(jax.random.key(0), (3, 4))})
    with pytest.raises(UserError, match=r"does not fit the model: extra\.mean is no such array there"):
        weights.load(path, params, {"mean": jnp.zeros(2)})
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(UserError, match="not a whole safetensors file"):
        weights.load(path, params)
    with pytest.raises(UserError, match="no file"):
        weights.load(tmp_path / "absent", params)


def published(path, name, shape, options):
    """Publish a model with params and statistics that no `init` gives; return it with them."""
    plan = table.plan(name, shape, 3, **options)
    model = table.build(plan)
    draw = np.random.default_rng(1)
    trained = jax.tree.map(
        lambda leaf: leaf + draw.uniform(0.1, 0.5, leaf.shape).astype(leaf.dtype), model.init(jax.random.key(0))
    )
    path.write_bytes(weights.encode(trained[0], {"plan": plan, "classes": ["a", "b", "c"]}, trained[1]))
    return model, *trained


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("softmax", {}),
        ("mlp", {"hidden": (6, 5), "activation": "tanh"}),
        ("convnet", {"channels": (4,), "hidden": (6,), "dropout": 0.5}),
        ("lenet", {}),
        ("residual", {"channels": (4, 6)}),
    ],
)
def test_a_published_model_gives_the_same_logits_to_the_bit(tmp_path, name, options):
    path = tmp_path / "params.safetensors"
    model, params, extra = published(path, name, IMAGES.shape[1:], options)
    again = weights.load_model(path)
    assert again.about["classes"] == ["a", "b", "c"]
    assert problems.equal((again.params, again.extra), (params, extra))
    expected = predict(model, params, extra, IMAGES)
    assert np.std(expected) > 1e-3
    np.testing.assert_array_equal(predict(again.model, again.params, again.extra, IMAGES), expected)


@pytest.mark.parametrize(
    ("name", "options", "old_plan"),
    [
        ("mlp", {"hidden": (6,)}, {"model": "mlp", "sizes": [144, 6, 3], "activation": "relu"}),
        (
            "convnet", {"channels": (4,), "hidden": (6,)},
            {"model": "convnet", "layers": convnet.describe(convnet.convnet(3, channels=(4,), hidden=(6,)))},
        ),
    ],
)  # fmt: skip
def test_files_of_older_versions_load(tmp_path, name, options, old_plan):
    path = tmp_path / "params.safetensors"
    model, params, extra = published(path, name, IMAGES.shape[1:], options)
    path.write_bytes(weights.encode(params, {"plan": old_plan | {"shape": list(IMAGES.shape[1:])}}, extra))
    old = weights.load_model(path)
    expected = predict(model, params, extra, IMAGES)
    np.testing.assert_array_equal(predict(old.model, old.params, old.extra, IMAGES), expected)


def test_the_pretrained_net_classifies_its_picture():
    net = weights.load_model(resources.files("mllab") / "pretrained" / "mnist.safetensors")
    with Image.open(resources.files("mllab") / "pretrained" / "seven.png") as picture:
        pixels = np.asarray(picture.convert("L").resize((28, 28)), np.float32)[None, :, :, None] / 255
    pixels = 1 - pixels if pixels.mean() > 0.5 else pixels
    assert predict(net.model, net.params, net.extra, pixels).argmax() == 7


def test_batch_statistics_are_published_too(tmp_path):
    path = tmp_path / "params.safetensors"
    _, params, extra = published(path, "residual", IMAGES.shape[1:], {"channels": (4,)})
    stored = load_file(path)
    assert {name for name in stored if name.startswith("extra.")} == {
        *(f"extra.1.{layer}.{of}" for layer in (0, 3) for of in ("mean", "variance")),
        *(f"extra.2.{of}" for of in ("mean", "variance")),
    }
    np.testing.assert_array_equal(stored["extra.2.variance"], extra[2].variance)
    np.testing.assert_array_equal(stored["layers.0.w"], params.layers[0].w)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"model": "mlp 3-2"}, "does not say what model it is of"),
        ({"plan": {"model": "convnt"}}, "did you mean 'convnet'"),
        ({"plan": {"model": "convnet", "shape": [8, 8, 1]}}, "lacks 'outputs'"),
        ({"plan": {"model": "mlp", "sizes": [3, 2]}}, "lacks 'activation'"),
        ({"plan": table.plan("softmax", (4,), 2)}, "does not fit the model"),
    ],
)
def test_a_file_of_no_model_or_of_another_is_refused(tmp_path, about, message):
    path = tmp_path / "params.safetensors"
    path.write_bytes(weights.encode(mlp.init(jax.random.key(0), (3, 2)), about))
    with refused_in_one_line(message):
        weights.load_model(path)


@pytest.mark.parametrize("path", [None, 3, b"params", ["params"]], ids=str)
def test_what_is_no_path_is_refused_in_one_line(path):
    with refused_in_one_line("is no path: give a text or a Path"):
        weights.load_model(path)
