"""Convolution, pooling, normalisation and dropout, against loops written from their definitions and against peers.

`reference` computes the sum of the module's docstring and its adjoints in NumPy, window by window, in float64.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from mllab.models.ops.convolution import average_pool, max_pool
from mllab.models.ops.convolution import convolution as convolve
from mllab.models.ops.dropout import dropout
from mllab.models.ops.normalisation import group_norm
from support.mistakes import refused_in_one_line

FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}

# Typical errors: odd sizes under even strides, windows that leave rows over, one-sided padding, padding wider than the
# window, windows that are not square, a single channel.
CASES = {
    "same": ((2, 7, 6, 3), (3, 3, 3, 4), {}),
    "valid": ((2, 7, 6, 3), (3, 3, 3, 4), {"padding": "VALID"}),
    "same lower": ((2, 6, 6, 2), (2, 4, 2, 3), {"padding": "SAME_LOWER"}),
    "even window": ((1, 6, 7, 2), (4, 2, 2, 3), {}),
    "stride, rows left over": ((2, 8, 7, 2), (3, 3, 2, 4), {"stride": 3, "padding": "VALID"}),
    "stride beyond the window": ((2, 9, 8, 2), (2, 1, 2, 3), {"stride": 3}),
    "dilation": ((2, 9, 8, 2), (3, 2, 2, 3), {"dilation": 2}),
    "stride and dilation": ((2, 11, 10, 2), (3, 3, 2, 3), {"stride": 2, "dilation": 3}),
    "one-sided padding": ((2, 5, 6, 2), (3, 3, 2, 3), {"padding": ((2, 0), (0, 1)), "stride": 2}),
    "padding wider than the window": ((1, 4, 4, 2), (2, 3, 2, 3), {"padding": ((3, 5), (4, 0))}),
    "negative padding": ((1, 7, 6, 2), (3, 3, 2, 3), {"padding": ((-1, 2), (1, -2))}),
    "one by one": ((2, 5, 5, 3), (1, 1, 3, 2), {}),
    "one by one, padded": ((2, 5, 5, 3), (1, 1, 3, 2), {"padding": ((2, 0), (0, 1)), "stride": 2}),
    "as large as the image": ((3, 4, 5, 2), (4, 5, 2, 6), {"padding": "VALID"}),
    "one channel": ((4, 6, 6, 1), (3, 3, 1, 1), {}),
    "groups": ((2, 6, 6, 4), (3, 3, 2, 6), {"groups": 2, "stride": 2}),
    "groups, padded": ((1, 4, 4, 4), (2, 2, 2, 4), {"groups": 2, "padding": ((3, 0), (0, 4))}),
    "a group a channel": ((2, 6, 5, 3), (3, 3, 1, 6), {"groups": 3}),
}


def arrays(*shapes, seed=0, dtype=np.float32):
    draw = np.random.default_rng(seed)
    return [jnp.asarray(draw.normal(size=shape), dtype) for shape in shapes]


def pads(size, window, stride, padding):
    """Return the rows of padding before and after, SAME as TensorFlow defines it."""
    if not isinstance(padding, str):
        return padding
    total = 0 if padding == "VALID" else max(0, (-(-size // stride) - 1) * stride + window - size)
    return (total - total // 2, total // 2) if padding == "SAME_LOWER" else (total // 2, total - total // 2)


def reference(x, w, cotangent=None, *, stride=1, padding="SAME", dilation=1, groups=1):
    """Return y, or with a cotangent of it (y, dx, dw)."""
    x, w = np.asarray(x, np.float64), np.asarray(w, np.float64)
    down, across = padding if not isinstance(padding, str) else (padding, padding)
    span = [dilation * (size - 1) + 1 for size in w.shape[:2]]
    low = [pads(x.shape[1], span[0], stride, down)[0], pads(x.shape[2], span[1], stride, across)[0]]
    high = [pads(x.shape[1], span[0], stride, down)[1], pads(x.shape[2], span[1], stride, across)[1]]
    sizes = [(x.shape[1 + a] + low[a] + high[a] - span[a]) // stride + 1 for a in (0, 1)]
    y = np.zeros((x.shape[0], *sizes, w.shape[3]))
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    inputs, outputs = x.shape[3] // groups, w.shape[3] // groups
    for i, j, u, v, g in np.ndindex(*sizes, *w.shape[:2], groups):
        row, column = stride * i + dilation * u - low[0], stride * j + dilation * v - low[1]
        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
            c, o = slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)
            y[:, i, j, o] += x[:, row, column, c] @ w[u, v, :, o]
            if cotangent is not None:
                dy = np.asarray(cotangent, np.float64)[:, i, j, o]
                dx[:, row, column, c] += dy @ w[u, v, :, o].T
                dw[u, v, :, o] += x[:, row, column, c].T @ dy
    return y if cotangent is None else (y, dx, dw)


def pulled(x, w, dy, **options):
    """Return the library's (y, dx, dw)."""
    y, back = jax.vjp(functools.partial(convolve, **options), x, w)
    return y, *back(dy)


def problem(x_shape, w_shape, options, **more):
    x, w = arrays(x_shape, w_shape, **more)
    (dy,) = arrays(jax.eval_shape(functools.partial(convolve, **options), x, w).shape, seed=1, **more)
    return x, w, dy


def assert_close(actual, expected, **tolerance):
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a, np.float64), np.asarray(b, np.float64), **tolerance)


# ── Convolution ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_convolution_and_its_gradients_equal_their_definition(case):
    x, w, dy = problem(*case)
    assert_close(jax.jit(functools.partial(pulled, **case[2]))(x, w, dy), reference(x, w, dy, **case[2]), **FLOAT32)


@st.composite
def convolutions(draw):
    size = st.integers(1, 3)
    groups, stride, dilation = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    window = (draw(size), draw(size))
    image = [draw(st.integers(dilation * (each - 1) + 1, 8)) for each in window]
    # JAX's own gradients are wrong on CPUs for wider padding; the loops above cover that.
    ends = st.tuples(*(st.tuples(*[st.integers(0, dilation * (each - 1))] * 2) for each in window))
    padding = draw(st.sampled_from(["SAME", "VALID", "SAME_LOWER"]) | ends)
    inputs, outputs = draw(size), draw(size)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (draw(size), *image, inputs * groups), (*window, inputs, outputs * groups), options


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(convolutions())
def test_a_convolution_of_any_shape_matches_jax(case):
    x, w, dy = problem(*case)
    options = case[2]

    def direct(x, w):
        return lax.conv_general_dilated(
            x, w, (options["stride"],) * 2, options["padding"], rhs_dilation=(options["dilation"],) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=options["groups"],
        )  # fmt: skip

    def both(x, w, dy):
        y, back = jax.vjp(direct, x, w)
        return pulled(x, w, dy, **options), (y, *back(dy))

    assert_close(*jax.jit(both)(x, w, dy), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["same", "stride and dilation", "groups"])
def test_a_convolution_matches_flax(name):
    x_shape, w_shape, options = CASES[name]
    x, w = arrays(x_shape, w_shape)
    layer = linen.Conv(
        w_shape[3], w_shape[:2], strides=options.get("stride", 1), kernel_dilation=options.get("dilation", 1),
        feature_group_count=options.get("groups", 1), use_bias=False,
    )  # fmt: skip
    np.testing.assert_allclose(convolve(x, w, **options), layer.apply({"params": {"kernel": w}}, x), **FLOAT32)


@pytest.mark.parametrize("name", ["same", "one-sided padding", "padding wider than the window", "groups"])
def test_a_convolution_matches_pytorch(name):
    torch = pytest.importorskip("torch")
    options = CASES[name][2]
    x, w, dy = problem(*CASES[name])
    down, across = options.get("padding", ((1, 1), (1, 1)))
    if name == "groups":
        down = across = (0, 1)  # what SAME is for 6 pixels at stride 2
    theirs = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    weights = torch.tensor(np.asarray(w).transpose(3, 2, 0, 1).copy(), requires_grad=True)
    y = torch.nn.functional.conv2d(
        torch.nn.functional.pad(theirs, (*across, *down)), weights,
        stride=options.get("stride", 1), groups=options.get("groups", 1),
    )  # fmt: skip
    y.backward(torch.tensor(np.asarray(dy).transpose(0, 3, 1, 2).copy()))
    expected = (
        y.detach().numpy().transpose(0, 2, 3, 1),
        theirs.grad.numpy().transpose(0, 2, 3, 1),
        weights.grad.numpy().transpose(2, 3, 1, 0),
    )
    assert_close(pulled(x, w, dy, **options), expected, **FLOAT32)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["same", "stride and dilation", "one-sided padding", "groups"])
@pytest.mark.parametrize("mapped", [(0, None), (None, 0), (0, 0)], ids=["images", "weights", "both"])
def test_lanes_agree_with_one_at_a_time(name, mapped):
    """Under vmap and inside a scan, as in a sweep."""
    x_shape, w_shape, options = CASES[name]
    lanes = 3
    x, w = arrays(*((*([lanes] if axis == 0 else []), *CASES[name][i]) for i, axis in enumerate(mapped)))
    dy = problem(x_shape, w_shape, options)[2]

    @jax.jit
    def together(x, w):
        many = jax.vmap(functools.partial(pulled, dy=dy, **options), mapped)
        return lax.scan(lambda carry, _: (carry, many(x, w)), None, length=2)[1]

    actual = together(x, w)
    for lane in range(lanes):
        lane_arrays = [each[lane] if axis == 0 else each for each, axis in zip((x, w), mapped, strict=True)]
        expected = reference(*lane_arrays, dy, **options)
        for step in (0, 1):
            assert_close([each[step, lane] for each in actual], expected, **FLOAT32)


def test_lanes_of_lanes_agree_with_one_at_a_time():
    x, w = arrays((2, 3, 2, 5, 5, 2), (2, 3, 3, 3, 2, 4))
    (dy,) = arrays((2, 5, 5, 4), seed=1)
    actual = jax.jit(jax.vmap(jax.vmap(functools.partial(pulled, dy=dy))))(x, w)
    for outer, inner in np.ndindex(2, 3):
        assert_close(
            [each[outer, inner] for each in actual], reference(x[outer, inner], w[outer, inner], dy), **FLOAT32
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["same", "stride, rows left over", "stride and dilation", "one-sided padding"])
def test_second_derivatives_match_jax(name):
    x_shape, w_shape, options = CASES[name]
    x, w, dy = problem(x_shape, w_shape, options)
    direction = arrays(x_shape, w_shape, seed=2)
    padding = options.get("padding", "SAME")

    def direct(x, w):
        stride, dilation = options.get("stride", 1), options.get("dilation", 1)
        return lax.conv_general_dilated(
            x, w, (stride,) * 2, padding, rhs_dilation=(dilation,) * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def curvature(function):
        """Return the Hessian of a loss that is linear in neither, times a direction."""

        def slope(x, w):
            gradient = jax.grad(lambda x, w: jnp.sum(dy * jnp.tanh(function(x, w) / 3)), (0, 1))(x, w)
            return sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))

        return jax.jit(jax.grad(slope, (0, 1)))(x, w)

    assert_close(curvature(functools.partial(convolve, **options)), curvature(direct), **FLOAT32)


def test_bfloat16_inputs_give_bfloat16_outputs():
    x, w, dy = problem((2, 8, 8, 3), (3, 3, 3, 4), {"stride": 2}, dtype=jnp.bfloat16)
    actual = jax.jit(functools.partial(pulled, stride=2))(x, w, dy)
    assert [each.dtype for each in actual] == [jnp.bfloat16] * 3
    assert_close(actual, reference(x, w, dy, stride=2), rtol=0.03, atol=0.1)


def test_float64_is_computed_in_float64():
    with jax.enable_x64(True):
        x, w, dy = problem((2, 8, 8, 3), (3, 3, 3, 4), {"stride": 2}, dtype=np.float64)
        assert_close(pulled(x, w, dy, stride=2), reference(x, w, dy, stride=2), rtol=1e-12, atol=1e-12)
        assert convolve(x.astype(np.float32), w).dtype == convolve(x, w.astype(np.float32)).dtype == np.float64


def lowered(platform, function, *arguments):
    """Return the lowered text of a scan of the function for a platform."""

    def steps(*arguments):
        return lax.scan(lambda carry, _: (carry, function(*arguments)), None, length=2)[1]

    return jax.export.export(jax.jit(steps), platforms=(platform,))(*arguments).mlir_module()


FAST = "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"  # the only layout that is fast on CPUs inside a loop


@pytest.mark.parametrize("name", ["same", "stride and dilation"])
def test_gradients_are_written_in_the_fast_layout_on_cpus_and_left_to_jax_elsewhere(name):
    x, w, dy = problem(*CASES[name])
    function = functools.partial(pulled, **CASES[name][2])
    layouts = {
        platform: re.findall(r"dim_numbers = (\[.*?\]x\[.*?\]->\[.*?\])", lowered(platform, function, x, w, dy))
        for platform in ("cpu", "cuda", "tpu")
    }
    assert layouts["cpu"] == [FAST] * 3
    for platform in ("cuda", "tpu"):
        assert len(layouts[platform]) == 3
        assert layouts[platform].count(FAST) == 1  # forwards


def test_lanes_do_not_become_a_grouped_convolution_on_cpus():
    x, w, dy = (jnp.stack([each] * 4) for each in problem((2, 6, 6, 2), (3, 3, 2, 3), {}))
    groups = {
        platform: re.findall(r"feature_group_count = (\d+)|batch_group_count = (\d+)", text)
        for platform in ("cpu", "cuda")
        for text in [lowered(platform, jax.vmap(pulled), x, w, dy)]
    }
    assert {count for pair in groups["cpu"] for count in pair if count} == {"1"}
    assert {count for pair in groups["cuda"] for count in pair if count} == {"1", "4"}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    "layer",
    [
        lambda x, stride: convolve(x, *arrays((3, 3, 2, 4), seed=5), stride=stride, padding="VALID"),
        lambda x, stride: convolve(x, *arrays((3, 2, 2, 4), seed=5), stride=stride, padding="VALID", dilation=2),
        lambda x, stride: max_pool(x, 3, stride),
        lambda x, stride: max_pool(x, stride),
        lambda x, stride: average_pool(x, 2, stride),
        lambda x, stride: average_pool(x, stride),
    ],
    ids=["convolution", "dilated", "max pool, overlapping", "max pool", "average pool, overlapping", "average pool"],
)
def test_an_image_moved_by_the_stride_moves_the_output_by_one(layer, stride):
    (x,) = arrays((2, 13, 12, 2))
    y, moved = layer(x, stride), layer(x[:, stride:, stride:], stride)
    assert min(moved.shape) > 0
    np.testing.assert_allclose(moved, y[:, 1:, 1:], rtol=1e-6, atol=1e-6)


# ── Pooling ─────────────────────────────────────────────────────────────────────────────────────────────────────────

POOLS = [(2, None, (2, 6, 4, 3)), (2, None, (1, 7, 5, 2)), (3, None, (2, 8, 9, 1)), (1, None, (1, 3, 3, 2)),
         (3, 2, (2, 7, 8, 2)), (2, 1, (1, 4, 5, 2)), (2, 3, (2, 8, 7, 2))]  # fmt: skip


def windows(x, window, stride):
    """Yield (index of a window of x, index of its output)."""
    for i in range((x.shape[1] - window) // stride + 1):
        for j in range((x.shape[2] - window) // stride + 1):
            rows, columns = slice(i * stride, i * stride + window), slice(j * stride, j * stride + window)
            yield (slice(None), rows, columns), (slice(None), i, j)


def pooled(pool, x, dy):
    y, back = jax.vjp(pool, x)
    return y, *back(dy)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("window", "stride", "shape"), POOLS)
def test_a_max_pool_equals_the_loop_and_one_maximum_has_the_gradient(window, stride, shape, ties):
    x = np.random.default_rng(0).integers(0, 3, shape).astype(np.float32) if ties else np.asarray(arrays(shape)[0])
    pool = functools.partial(max_pool, window=window, stride=stride)
    y_shape = jax.eval_shape(pool, x).shape
    dy = np.asarray(arrays(y_shape, seed=1)[0])
    y, dx = np.zeros(y_shape), np.zeros(shape)
    for source, place in windows(x, window, stride or window):
        flat = x[source].reshape(shape[0], -1, shape[3])
        y[place] = flat.max(axis=1)
        first = flat.argmax(axis=1)  # the first of several, row by row
        share = np.zeros_like(flat)
        np.put_along_axis(share, first[:, None], dy[place][:, None], axis=1)
        dx[source] += share.reshape(x[source].shape)
    assert_close(jax.jit(functools.partial(pooled, pool))(x, dy), (y, dx), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("window", "stride", "shape"), POOLS)
def test_an_average_pool_equals_the_loop(window, stride, shape):
    pool = functools.partial(average_pool, window=window, stride=stride)
    x = np.asarray(arrays(shape)[0])
    y_shape = jax.eval_shape(pool, x).shape
    dy = np.asarray(arrays(y_shape, seed=1)[0])
    y, dx = np.zeros(y_shape), np.zeros(shape)
    for source, place in windows(x, window, stride or window):
        y[place] = x[source].mean(axis=(1, 2))
        dx[source] += dy[place][:, None, None] / window**2
    assert_close(jax.jit(functools.partial(pooled, pool))(x, dy), (y, dx), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(3, 8), st.integers(3, 8))
def test_pools_equal_reduce_window(window, stride, height, width):
    (x,) = arrays((2, height, width, 2))
    shape, steps = (1, window, window, 1), (1, stride, stride, 1)
    np.testing.assert_array_equal(
        max_pool(x, window, stride), lax.reduce_window(x, -np.inf, lax.max, shape, steps, "VALID")
    )
    sums = lax.reduce_window(x, 0.0, lax.add, shape, steps, "VALID")
    np.testing.assert_allclose(average_pool(x, window, stride), sums / window**2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stride", [None, 1])
def test_nan_affects_its_own_window_only(stride):
    x = arrays((1, 4, 4, 2))[0].at[0, 0, 0, 0].set(jnp.nan)
    for pool in (max_pool, average_pool):
        y = np.asarray(pool(x, 2, stride))
        expected = np.zeros(y.shape, bool)
        expected[0, 0, 0, 0] = True
        np.testing.assert_array_equal(np.isnan(y), expected)


@pytest.mark.parametrize("stride", [None, 1])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.int32])
def test_a_maximum_keeps_the_dtype(dtype, stride):
    x = jnp.asarray(np.random.default_rng(0).integers(-9, 0, (2, 4, 4, 3)), dtype)
    y = max_pool(x, 2, stride)
    assert y.dtype == dtype
    assert float(y[1, 0, 0, 2]) == np.asarray(x, np.float32)[1, :2, :2, 2].max()


def test_float64_of_numpy_is_cast_as_by_jax():
    x, w = (np.asarray(each, np.float64) for each in arrays((1, 4, 4, 2), (3, 3, 2, 3)))
    np.testing.assert_allclose(convolve(x, jnp.asarray(w)), reference(x, w), **FLOAT32)


# ── Errors ──────────────────────────────────────────────────────────────────────────────────────────────────────────

X = np.zeros((1, 5, 6, 3), np.float32)
W = np.zeros((3, 3, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: convolve(X, np.zeros((6, 1, 3, 4)), padding="VALID"), "a window of 6 x 1 does not fit an image of 5"),
        (lambda: convolve(X, W, padding="VALID", dilation=3), "a window of 7 x 7 does not fit an image of 5 x 6"),
        (lambda: convolve(X, W[:, :, :2]), r"\[1, 5, 6, 3\] and weights \[3, 3, 2, 4\]"),
        (lambda: convolve(X, W[:, :, :1, :2], groups=3), r"groups divide C_out"),
        (lambda: convolve(X[0], W), r"images are \[B, height, width, C_in\]"),
        (lambda: convolve(X.astype(np.uint8), W), "images of uint8"),
        (lambda: convolve(X, W, padding="SMAE"), "unknown padding 'SMAE': did you mean 'SAME'"),
        (lambda: convolve(X, W, stride=0), "stride = 0"),
        (lambda: convolve(X, W, dilation=0), "dilation = 0"),
        (lambda: max_pool(X, 6), "a pooling window of 6 x 6 does not fit an image of 5 x 6"),
        (lambda: average_pool(X, 6, 1), "a pooling window of 6 x 6 does not fit an image of 5 x 6"),
        (lambda: max_pool(X[0]), r"pooling takes images \[B, height, width, C\], not \[5, 6, 3\]"),
        (lambda: max_pool(X, 2, 0), "both must be 1 or more"),
        (lambda: average_pool(X, 0), "both must be 1 or more"),
    ],
)  # fmt: skip
def test_arguments_that_do_not_match_raise_one_line(make, message):
    with refused_in_one_line(message):
        make()


# ── Normalisation and dropout ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("shape", [(3, 4, 5, 6), (3, 6)])
def test_a_group_norm_matches_flax(groups, shape):
    x = 3 * arrays(shape)[0] + 2
    peer = linen.GroupNorm(groups, epsilon=1e-5, use_scale=False, use_bias=False)
    np.testing.assert_allclose(group_norm(x, groups), peer.apply({}, x), rtol=1e-4, atol=1e-4)


def test_means_and_variances_of_bfloat16_are_in_float32():
    """For pixels far from 0, rounding their mean to bfloat16 errs by as much as their spread."""
    x = jnp.asarray(100 + np.random.default_rng(0).integers(0, 4, (2, 8, 8, 4)) / 2, jnp.bfloat16)
    actual = group_norm(x, 2)
    assert actual.dtype == jnp.bfloat16
    exact = np.asarray(group_norm(x.astype(jnp.float32), 2))
    np.testing.assert_allclose(np.asarray(actual, np.float32), exact, rtol=0.01, atol=0.01)


def test_dropout_keeps_the_mean_drops_at_the_rate_and_follows_its_key():
    x = jnp.full((400, 500), 3.0)
    y = dropout(jax.random.key(0), x, 0.3)
    assert set(np.unique(y)) == {0.0, np.float32(3.0) / np.float32(0.7)}
    deviation = 3 * (0.3 / 0.7 / x.size) ** 0.5
    assert abs(float(y.mean()) - 3) < 4 * deviation
    assert abs(float((y == 0).mean()) - 0.3) < 4 * (0.3 * 0.7 / x.size) ** 0.5
    np.testing.assert_array_equal(y, dropout(jax.random.key(0), x, 0.3))
    assert not np.array_equal(y, dropout(jax.random.key(1), x, 0.3))
    np.testing.assert_array_equal(dropout(jax.random.key(0), x, 0.0), x)
    gradient = jax.grad(lambda x: dropout(jax.random.key(0), x, 0.3).sum())(x)
    np.testing.assert_allclose(gradient, y / 3, rtol=1e-6)
    assert dropout(jax.random.key(0), x.astype(jnp.bfloat16), 0.3).dtype == jnp.bfloat16
