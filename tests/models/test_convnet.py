"""Conv nets: layers against Flax's, errors by layer, and architectures as plain values."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.errors import UserError
from mllab.models import convnet
from mllab.models.base import in_bfloat16, predict, saliency
from mllab.models.layers import (
    LAYERS,
    Activation,
    AveragePool,
    BatchNorm,
    Bias,
    Conv,
    Dense,
    Dropout,
    GlobalAverage,
    GroupNorm,
    Layer,
    MaxPool,
    Residual,
)
from mllab.models.mlp import ACTIVATIONS
from support.mistakes import refused_in_one_line

KEY = jax.random.key(0)
SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).normal(size=(6, *SHAPE)).astype(np.float32)
NETS = {
    "convnet": convnet.convnet(4, channels=(5,), hidden=(7,), dropout=0.5),
    "lenet": convnet.lenet(4),
    "residual": convnet.residual(4, channels=(5, 6)),
    "group norm": (Conv(8, stride=2, groups=1), GroupNorm(4), Activation("silu"), GlobalAverage(), Dense(4)),
}


def shaken(tree, seed=0):
    """Return the tree with every number changed: biases and scales that no `init` gives."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(draw.uniform(0.1, 0.6, leaf.shape), leaf.dtype), tree)


@pytest.fixture(params=NETS)
def net(request):
    """Return (params, extra) of an architecture, as after training."""
    return shaken(convnet.init(KEY, NETS[request.param], SHAPE))


# ── Layers and their peers ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 3)], ids=["images", "units"])
def test_batch_norm_matches_flax_in_training_and_in_evaluation(shape):
    draw = np.random.default_rng(1)
    layer, peer = BatchNorm(momentum=0.8, epsilon=1e-3), linen.BatchNorm(momentum=0.8, epsilon=1e-3)
    params, extra = layer.init(None, None, shape[1:])
    params = shaken(params)
    variables = {"params": {"scale": params.scale, "bias": params.b}}
    stats = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    for _ in range(3):  # each step starts from the statistics of the one before
        x = jnp.asarray(2 * draw.normal(size=shape) + 5, jnp.float32)
        y, extra = layer.apply(params, extra, x, KEY)
        expected, kept = peer.apply(
            {**variables, "batch_stats": stats}, x, use_running_average=False, mutable="batch_stats"
        )
        stats = kept["batch_stats"]
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(extra.mean, stats["mean"], rtol=1e-5)
        np.testing.assert_allclose(extra.variance, stats["var"], rtol=1e-4)
    scored, same = layer.apply(params, extra, x, None)
    expected = peer.apply({**variables, "batch_stats": stats}, x, use_running_average=True)
    np.testing.assert_allclose(scored, expected, rtol=1e-4, atol=1e-4)
    assert same is extra


def test_group_norm_matches_flax():
    x = 3 * IMAGES[..., :2].repeat(2, axis=3) + 1
    layer, peer = GroupNorm(2), linen.GroupNorm(2, epsilon=1e-5)
    params = shaken(layer.init(None, None, (8, 8, 4))[0])
    expected = peer.apply({"params": {"scale": params.scale, "bias": params.b}}, x)
    np.testing.assert_allclose(layer.apply(params, None, x, KEY)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_whole_net_matches_flax():
    class Peer(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(5, (3, 3), strides=2)(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
            x = linen.tanh(linen.Dense(7)(x.reshape(len(x), -1)))
            return linen.Dense(4)(x)

    layers = (Conv(5, stride=2), Activation("relu"), MaxPool(), Dense(7), Activation("tanh"), Dense(4))
    params, _ = shaken(convnet.init(KEY, layers, SHAPE))
    ours = [layer for layer in params.layers if layer is not None]
    names = ("Conv_0", "Dense_0", "Dense_1")
    theirs = {name: {"kernel": layer.w, "bias": layer.b} for name, layer in zip(names, ours, strict=True)}
    np.testing.assert_allclose(
        convnet.apply(params, IMAGES), Peer().apply({"params": theirs}, IMAGES), rtol=1e-4, atol=1e-4
    )


def test_a_bias_after_the_maximum_equals_one_before():
    before, _ = shaken(convnet.init(KEY, (Conv(5), MaxPool()), SHAPE))
    first = before.layers[0]
    after = convnet.Params((first.replace(b=None), None, first.b), (Conv(5, bias=False), MaxPool(), Bias()))
    np.testing.assert_allclose(convnet.apply(after, IMAGES), convnet.apply(before, IMAGES), rtol=1e-5, atol=1e-6)


def test_a_residual_block_adds_its_layers_and_a_skip_where_channels_change():
    inner = (Conv(5), Activation("relu"))
    (params, extra) = shaken(convnet.init(KEY, (Residual(inner),), SHAPE))
    made, skip = params.layers[0]
    w = np.asarray(skip)[0, 0]
    branch = convnet.apply(convnet.Params(made, inner), IMAGES)
    np.testing.assert_allclose(convnet.apply(params, IMAGES, extra), branch + IMAGES @ w, rtol=1e-4, atol=1e-4)
    (kept, _) = convnet.init(KEY, (Residual((Conv(3),)),), SHAPE)
    assert kept.layers[0][1] is None
    (inner_params, _) = kept.layers[0]
    np.testing.assert_allclose(
        convnet.apply(kept, IMAGES) - IMAGES,
        convnet.apply(convnet.Params(inner_params, (Conv(3),)), IMAGES),
        rtol=1e-4,
        atol=1e-5,
    )


def test_dropout_follows_the_key_in_training_and_is_off_in_evaluation():
    params, extra = convnet.init(KEY, (Dropout(0.5),), SHAPE)
    ones = jnp.ones((50, *SHAPE))
    dropped, _ = convnet.forward(params, extra, ones, KEY)
    assert set(np.unique(dropped)) == {0.0, 2.0}
    np.testing.assert_array_equal(dropped, convnet.forward(params, extra, ones, KEY)[0])
    assert not np.array_equal(dropped, convnet.forward(params, extra, ones, jax.random.key(1))[0])
    np.testing.assert_array_equal(convnet.forward(params, extra, ones, None)[0], ones)


def test_dropouts_of_a_net_are_independent():
    layers = (Dropout(0.5), Residual((Dropout(0.5),)), Dropout(0.5))
    params, extra = convnet.init(KEY, layers, (400, 1, 1))
    outputs = np.asarray(convnet.forward(params, extra, jnp.ones((1, 400, 1, 1)), KEY)[0]).ravel()
    # Kept by the first and the last, doubled by each; the middle adds 0 or twice its input.
    values, counts = np.unique(outputs, return_counts=True)
    np.testing.assert_array_equal(values, [0, 4, 12])
    np.testing.assert_allclose(counts / 400, [3 / 4, 1 / 8, 1 / 8], atol=0.08)


# ── Whole nets ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_float64_images_of_numpy_are_cast_as_by_jax(net):
    params, extra = net
    np.testing.assert_array_equal(
        convnet.apply(params, IMAGES.astype(np.float64), extra), convnet.apply(params, IMAGES, extra)
    )


@pytest.mark.slow
def test_features_times_the_last_layer_are_the_logits(net):
    params, extra = net
    logits = convnet.apply(params, IMAGES, extra)
    last = params.layers[-1]
    assert logits.shape == (6, 4)
    outputs = convnet.features(params, IMAGES, extra)
    np.testing.assert_allclose(outputs @ last.w + last.b[None], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_activations_are_the_images_and_the_output_of_each_layer(net):
    params, extra = net
    outputs = convnet.activations(params, IMAGES, extra)
    np.testing.assert_array_equal(outputs[0], IMAGES)
    np.testing.assert_array_equal(outputs[-1], convnet.apply(params, IMAGES, extra))
    assert len(outputs) == len(params.architecture) + 1
    for number, layer in enumerate(params.architecture):
        single = convnet.Params((params.layers[number],), (layer,))
        np.testing.assert_array_equal(convnet.apply(single, outputs[number], (extra[number],)), outputs[number + 1])


@pytest.mark.slow
def test_evaluation_does_not_depend_on_the_batch_and_keeps_the_statistics(net):
    params, extra = net
    logits, kept = jax.jit(convnet.forward, static_argnums=3)(params, extra, IMAGES, None)
    jax.tree.map(np.testing.assert_array_equal, kept, extra)
    for rows in (slice(0, 1), slice(2, 6)):
        np.testing.assert_allclose(convnet.apply(params, IMAGES[rows], extra), logits[rows], rtol=1e-4, atol=1e-4)


def test_training_updates_the_batch_statistics(net):
    params, extra = net
    _, kept = convnet.forward(params, extra, IMAGES, KEY)
    assert jax.tree.structure(kept) == jax.tree.structure(extra)
    for before, after in zip(jax.tree.leaves(extra), jax.tree.leaves(kept), strict=True):
        assert (np.asarray(before) != np.asarray(after)).all()


@pytest.mark.slow
def test_bfloat16_keeps_statistics_and_logits_in_float32(net):
    params, extra = net
    low = in_bfloat16(convnet.model(params.architecture, SHAPE))
    logits, _ = low.apply(params, extra, IMAGES, None)
    exact = np.asarray(convnet.apply(params, IMAGES, extra))
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits, exact, atol=0.05 * np.abs(exact).max())
    _, kept = low.apply(params, extra, IMAGES, KEY)
    _, expected = convnet.model(params.architecture, SHAPE).apply(params, extra, IMAGES, KEY)
    for mine, theirs in zip(jax.tree.leaves(kept), jax.tree.leaves(expected), strict=True):
        assert mine.dtype == jnp.float32
        np.testing.assert_allclose(mine, theirs, rtol=0.05, atol=0.05)


@pytest.mark.slow
def test_prediction_in_blocks_equals_that_of_all_rows_at_once(net):
    params, extra = net
    model, whole = convnet.model(params.architecture, SHAPE), convnet.apply(params, IMAGES, extra)
    for block in (1, 4, 6, 100):
        np.testing.assert_allclose(predict(model, params, extra, IMAGES, block), whole, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_saliency_is_the_gradient_of_the_logit_of_the_label():
    layers = (Conv(5), Activation("tanh"), Conv(5), BatchNorm(), GlobalAverage(), Dense(4))  # smooth
    with jax.enable_x64(True):
        params, extra = jax.tree.map(lambda a: a.astype(np.float64), shaken(convnet.init(KEY, layers, SHAPE)))
        labels, images = np.array([0, 3, 1]), IMAGES[:3].astype(np.float64)
        gradient = saliency(convnet.model(layers, SHAPE), params, extra, images, labels)
        assert gradient.shape == images.shape
        for row, i, j, c in ((0, 0, 0, 0), (1, 3, 7, 2), (2, 5, 1, 1)):
            moved = np.repeat(images[row : row + 1], 2, axis=0)
            moved[:, i, j, c] += [-1e-5, 1e-5]
            low, high = np.asarray(convnet.apply(params, moved, extra))[:, labels[row]]
            np.testing.assert_allclose(gradient[row, i, j, c], (high - low) / 2e-5, rtol=1e-5)


def test_weights_are_drawn_for_the_activation_that_follows():
    layers = (Conv(64, bias=False), MaxPool(), Bias(), Activation("relu"), Conv(64), Activation("tanh"), Dense(50))
    first, _, _, _, second, _, last = convnet.init(KEY, layers, (16, 16, 32))[0].layers
    np.testing.assert_allclose(np.std(first.w), (2 / (9 * 32)) ** 0.5, rtol=0.03)  # He
    np.testing.assert_allclose(np.std(second.w), (2 / (9 * 128)) ** 0.5, rtol=0.03)  # Glorot
    np.testing.assert_allclose(np.std(last.w), (2 / (64 * 64 + 50)) ** 0.5, rtol=0.03)
    assert not np.any(second.b)
    assert first.b is None
    assert abs(np.corrcoef(first.w.ravel(), second.w.ravel()[: first.w.size])[0, 1]) < 0.05


def test_the_named_architectures_have_the_sizes_of_their_papers():
    def count(layers, shape):
        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(lambda: convnet.init(KEY, layers, shape))[0]))

    # LeNet-5 on 28 x 28: C1 156, C3 whole 2,416, F5 7 * 7 * 16 * 120 + 120 (padded), F6 10,164, output 850.
    assert count(convnet.lenet(10), (28, 28, 1)) == 156 + 2416 + 94_200 + 10_164 + 850
    # The reference net: 320 + 18,496 + 7 * 7 * 64 * 128 + 128 + 1,290.
    assert count(convnet.convnet(10, channels=(32, 64)), (28, 28, 1)) == 320 + 18_496 + 401_536 + 1290
    # A block of w channels: two of 9 w² and 2 w; where it widens v to w: 9 v w + 9 w w + 2 v + 2 w + v w of the skip.
    assert count(convnet.residual(10, channels=(4, 6)), (8, 8, 1)) == 36 + (288 + 16) + (216 + 324 + 20 + 24) + 12 + 70


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (convnet.lenet(10), (3, 3, 1), r"layer 6, AveragePool\(\), of images \(1, 1, 16\): a pooling window of 2 x 2"),
        (convnet.convnet(3, channels=(4, 4, 4)), (6, 6, 1), r"layer 10, MaxPool\(\), of images \(1, 1, 4\)"),
        ((Conv(2, window=9, padding="VALID"),), (8, 9, 1), "layer 1, .* a window of 9 x 9 does not fit an image of 8"),
        ((Conv(2, padding="full"),), SHAPE, "layer 1, .* unknown padding 'full'"),
        ((Conv(4, groups=2),), SHAPE, r"layer 1, Conv\(channels=4, groups=2\), .* in 2 group"),
        ((Dense(3), Conv(2)), SHAPE, r"layer 2, Conv\(channels=2\), of images \(3,\)"),
        ((GlobalAverage(), MaxPool()), SHAPE, r"layer 2, MaxPool\(\), of images \(3,\)"),
        ((GlobalAverage(), GlobalAverage()), SHAPE, "layer 2, GlobalAverage"),
        ((Conv(4), GroupNorm(3)), SHAPE, "4 channels cannot be divided into 3 groups"),
        ((Residual((Conv(3), MaxPool())),), SHAPE, r"must keep the size of images, and this one returns \(4, 4, 3\)"),
        ((Residual((Conv(2, window=9, padding="VALID"),)),), SHAPE, "layer 1, Residual.* layer 1, Conv"),
        ((Conv(2),), (8, 8), r"layer 1, .* images are \[B, height, width, C_in\]"),
    ],
)
def test_a_layer_that_does_not_take_its_input_is_named_by_number(layers, shape, message):
    with refused_in_one_line(message):
        convnet.init(KEY, layers, shape)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 10, 10, 3), np.float32), "layer 6, Dense.* takes 80 values per image, not 125"),
        (np.zeros((2, 8, 8, 1), np.float32), "layer 1, Conv"),
        (IMAGES[0], "layer 1, Conv"),
        (np.zeros((2, *SHAPE), np.uint8), "layer 1, Conv.* images of uint8"),
    ],
)
def test_images_of_another_size_are_refused_by_every_function(images, message):
    layers = convnet.convnet(4, channels=(5,), hidden=(7,))
    layers = (layers[0], Activation("tanh"), *layers[1:])
    params, extra = convnet.init(KEY, layers, SHAPE)
    model = convnet.model(layers, SHAPE)
    for call in (
        lambda: convnet.apply(params, images),
        lambda: model.apply(params, extra, images, KEY),
        lambda: predict(model, params, extra, images),
    ):
        with pytest.raises(UserError, match=message):
            call()


@pytest.mark.parametrize("layers", [(BatchNorm(), Dense(2)), convnet.residual(2, channels=(4,))], ids=["flat", "block"])
def test_missing_batch_statistics_are_an_error(layers):
    params, _ = convnet.init(KEY, layers, SHAPE)
    with pytest.raises(UserError, match="give extra, too"):
        convnet.apply(params, IMAGES)


def test_predicting_no_rows_is_an_error():
    model = convnet.model(NETS["lenet"], SHAPE)
    with pytest.raises(UserError, match="one row or more"):
        predict(model, *model.init(KEY), IMAGES[:0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv(0), "Conv: channels = 0"),
        (lambda: Conv(4, groups=0), "Conv: groups = 0"),
        (lambda: Conv("16"), "Conv: channels = '16'"),
        (lambda: MaxPool(window=0), "MaxPool: window = 0"),
        (lambda: Dense(-1), "Dense: units = -1"),
        (lambda: Dropout(1.0), "dropout = 1.0"),
        (lambda: convnet.convnet(3, dropout=-0.5), "dropout = -0.5"),
        (lambda: Activation("rulu"), "unknown activation 'rulu': did you mean 'relu'"),
    ],
)
def test_invalid_fields_of_a_layer_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


# ── Architectures as plain values ───────────────────────────────────────────────────────────────────────────────────

SIZES = st.integers(1, 9)
SIMPLE = st.one_of(
    st.builds(Conv, SIZES, SIZES, SIZES, st.sampled_from(["SAME", "VALID"]), SIZES, SIZES, st.booleans()),
    st.builds(Bias),
    st.builds(Dense, SIZES),
    st.builds(Activation, st.sampled_from(sorted(ACTIVATIONS))),
    st.builds(MaxPool, SIZES, st.none() | SIZES),
    st.builds(AveragePool, SIZES, st.none() | SIZES),
    st.builds(GlobalAverage),
    st.builds(Dropout, st.floats(0, 0.99)),
    st.builds(BatchNorm, st.floats(0, 1), st.floats(1e-8, 1)),
    st.builds(GroupNorm, SIZES, st.floats(1e-8, 1)),
)
ANY = st.recursive(SIMPLE, lambda inner: st.builds(Residual, st.lists(inner, max_size=3).map(tuple)), max_leaves=6)


@settings(max_examples=100, deadline=None)
@given(st.lists(ANY, max_size=5).map(tuple))
def test_an_architecture_survives_json(layers):
    again = convnet.build(json.loads(json.dumps(convnet.describe(layers))))
    assert again == layers
    assert hash(again) == hash(layers)  # it is static under jit
    assert [str(layer) for layer in again] == [str(layer) for layer in layers]


def test_every_layer_can_be_built():
    def all_below(kind):
        return {kind.__name__, *(name for each in kind.__subclasses__() for name in all_below(each))}

    assert set(LAYERS) == all_below(Layer) - {"Layer"}


def test_the_name_of_a_layer_has_the_fields_that_are_not_defaults():
    assert str(Conv(16, stride=2)) == "Conv(channels=16, stride=2)"
    assert str(MaxPool()) == "MaxPool()"
    assert str(Residual((BatchNorm(), Conv(4, bias=False)))) == "Residual(BatchNorm(), Conv(channels=4, bias=False))"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([{"layer": "Conw", "channels": 3}], "unknown layer 'Conw': did you mean 'Conv'"),
        ([{"channels": 3}], "unknown layer ''"),
        ([{"layer": "Conv", "channels": 3, "chanels": 4}], "layer Conv: .*'chanels'"),
        ([{"layer": "Dense"}], "layer Dense: .*'units'"),
        ([{"layer": "Residual"}], "layer Residual: .*'layers'"),
        ([{"layer": "Residual", "layers": [{"layer": "Convv"}]}], "did you mean 'Conv'"),
        ([{"layer": "Dropout", "rate": "much"}], "Dropout: rate = 'much'"),
        ([{"layer": "Dense", "units": 2.5}], "Dense: units = 2.5"),
    ],
)
def test_an_invalid_description_is_refused(described, message):
    with pytest.raises(UserError, match=message):
        convnet.build(described)
