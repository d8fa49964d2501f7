r"""What convolutional nets are made of, as functions of arrays: convolution, pooling, normalisation, dropout.

Images are [B, height, width, C]; weights are [window height, window width, C_in / groups, C_out].

Convolution (cross-correlation, as all deep-learning libraries have it; Goodfellow et al. 2016, eq. 9.6):

    $$ y_{b,i,j,o} = \sum_{u,v,c} x_{b,\; s i + d u - p,\; s j + d v - p,\; c}\, w_{u,v,c,o} $$

with stride s, dilation d and padding p. Its gradients are convolutions again: with $\bar y$ the gradient of y, spread
out by s with zeros between,

    $$ \bar x = \bar y * \mathrm{flip}(w)^T, \qquad \bar w = x^T * \bar y^T $$

where the first transpose swaps C_in and C_out, and the second makes channels of the batch and a batch of the channels.
XLA's CPU backend has one fast convolution, for exactly the layout above, and finds it for the gradients only outside of
loops: inside the scan of a training run, the weight gradient that JAX would derive took 40 times as long (see
BUILD_NOTES.md). So they are written out here in that layout; on other platforms JAX's own gradients stand.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mllab.errors import UserError, unknown
from mllab.types import Array, Key

LAYOUT = ("NHWC", "HWIO", "NHWC")
PADDINGS = ("SAME", "VALID", "SAME_LOWER")
Padding = str | Sequence[tuple[int, int]]  # one of these names, or rows and columns to add at each side


class Window(NamedTuple):
    """How a convolution's window moves; hashable, since programs are compiled for it."""

    padding: tuple[tuple[int, int], tuple[int, int]]
    stride: int = 1
    dilation: int = 1


def convolution(
    x: Array, w: Array, *, stride: int = 1, padding: Padding = "SAME", dilation: int = 1, groups: int = 1
) -> Array:
    """Return the convolution [B, h', w', C_out] of images [B, h, w, C_in].

    Differentiable as often as wanted, in reverse mode (`jax.grad`, `jax.vjp`). Under `vmap` over both images and
    weights (lanes of a sweep), CPUs take one lane after the other.

    Args:
        x: images.
        w: weights [window height, window width, C_in / groups, C_out].
        stride: rows and columns that the window moves.
        padding: "SAME" (as many outputs as inputs, at stride 1; what is odd goes to the end, and with "SAME_LOWER" to
            the beginning), "VALID" (none), or ((top, bottom), (left, right)).
        dilation: rows and columns from one weight to the next (Yu & Koltun 2016).
        groups: parts of the channels that do not see each other. More than 1 goes JAX's own way, which is slow to
            train on CPUs.

    Raises:
        UserError: images that are not floating-point numbers, channels that do not fit, a window larger than the padded
            image, an unknown padding, or a stride or dilation below 1.
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise UserError(f"images of {x.dtype}: convolve floating-point numbers, such as images / 255")
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise UserError(
            f"a convolution of {list(x.shape)} by weights {list(w.shape)} in {groups} group(s): images are "
            "[B, height, width, C_in], weights [height, width, C_in / groups, C_out], and groups divide C_out"
        )
    if stride < 1 or dilation < 1:
        raise UserError(f"stride = {stride}, dilation = {dilation}: both must be 1 or more")
    x, w = (each.astype(jnp.promote_types(x.dtype, w.dtype)) for each in (x, w))  # as a matrix product would
    span = tuple(dilation * (size - 1) + 1 for size in w.shape[:2])
    if isinstance(padding, str):
        if padding not in PADDINGS:
            raise unknown("padding", padding, PADDINGS)
        padding = lax.padtype_to_pads(x.shape[1:3], span, (stride, stride), padding)
    if any(size + sum(pad) < reach for size, pad, reach in zip(x.shape[1:3], padding, span, strict=True)):
        raise UserError(f"a window of {span[0]} x {span[1]} does not fit an image of {x.shape[1]} x {x.shape[2]}")
    # Padding below 0, or so wide that a window lies wholly in it, is done beforehand: else a convolution, or its
    # gradient, is padded below 0 at one end and above 0 at the other, and XLA's CPU backend reads beyond the image.
    (top, bottom), (left, right) = (
        (min(max(low, 0), reach - 1), min(max(high, 0), reach - 1))
        for (low, high), reach in zip(padding, span, strict=True)
    )
    rest = ((padding[0][0] - top, padding[0][1] - bottom, 0), (padding[1][0] - left, padding[1][1] - right, 0))
    if any(map(any, rest)):
        x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *rest, (0, 0, 0)))
    window = Window(((top, bottom), (left, right)), stride, dilation)
    return _direct(x, w, window, groups) if groups > 1 else _correlate(x, w, window)


def _direct(x: Array, w: Array, window: Window, groups: int = 1) -> Array:
    steps, gaps = (window.stride,) * 2, (window.dilation,) * 2
    return lax.conv_general_dilated(
        x, w, steps, window.padding, rhs_dilation=gaps, dimension_numbers=LAYOUT, feature_group_count=groups
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate(x: Array, w: Array, window: Window) -> Array:
    return _lane_by_lane(functools.partial(_direct, window=window))(x, w)


def _correlate_forward(x: Array, w: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, w, window), (x, w)


def _correlate_backward(window: Window, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def written_out(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        _, stride, dilation = window
        reach = [dilation * (size - 1) for size in w.shape[:2]]
        around = list(zip(x.shape[1:3], window.padding, reach, dy.shape[1:3], strict=True))
        # What the rows and columns of dy would be at stride 1: zeros between, and those that the last step left out.
        rest = [size + sum(pad) - far - (steps - 1) * stride - 1 for size, pad, far, steps in around]
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *((0, more, stride - 1) for more in rest), (0, 0, 0)])
        down, across = ((far - low, far - high) for _, (low, high), far, _ in around)
        dx = _correlate(dy, jnp.flip(w, (0, 1)).swapaxes(2, 3), Window((down, across), 1, dilation))
        turned = _correlate(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), Window(window.padding, dilation, 1))
        return dx, turned.transpose(1, 2, 0, 3)

    def derived(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_direct, window=window), x, w)[1](dy)

    return lax.platform_dependent(*saved, dy, cpu=written_out, default=derived)


_correlate.defvjp(_correlate_forward, _correlate_backward)


def _lane_by_lane(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return the function of two arrays; vmapped over both, CPUs map it instead.

    A batch of weights makes a grouped convolution of it, which XLA's CPU backend runs several times slower.
    """
    single = jax.custom_batching.custom_vmap(function)

    @single.def_vmap
    def batched(lanes: int, mapped: list[bool], x: Array, w: Array) -> tuple[Array, bool]:
        together = jax.vmap(function, [0 if is_mapped else None for is_mapped in mapped])
        if not all(mapped):
            return together(x, w), True
        if lanes == 1:
            return single(x[0], w[0])[None], True
        one_by_one = lambda x, w: lax.map(lambda lane: single(*lane), (x, w))  # noqa: E731
        return lax.platform_dependent(x, w, cpu=one_by_one, default=together), True

    return single


def max_pool(x: Array, window: int = 2, stride: int | None = None) -> Array:
    """Return the greatest of each window of images [B, h, w, C]; the rows and columns left over are dropped.

    Where several are greatest, the first of them, row by row, has the gradient.

    Args:
        x: images.
        window: rows and columns of a window.
        stride: from one window to the next (default: the window's size).

    Raises:
        UserError: what is not [B, h, w, C], a window larger than the image, or a window or stride below 1.
    """
    stride = _check_pool(x, window, stride)
    if stride != window:  # windows overlap or leave gaps: its gradient, select-and-scatter, is slow on CPUs
        low = -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min
        return _reduce_windows(x, lax.max, low, window, stride)
    return _max_pool(_windows(x, window))


def average_pool(x: Array, window: int = 2, stride: int | None = None) -> Array:
    """Return the mean of each window of images [B, h, w, C]; arguments and errors as in `max_pool`."""
    stride = _check_pool(x, window, stride)
    if stride != window:
        return _reduce_windows(x, lax.add, 0, window, stride) / window**2
    return _windows(x, window).mean((2, 4))


def _check_pool(x: Array, window: int, stride: int | None) -> int:
    stride = window if stride is None else stride
    if x.ndim != 4:
        raise UserError(f"pooling is of images [B, height, width, C], not of {list(x.shape)}")
    if window < 1 or stride < 1:
        raise UserError(f"a pooling window of {window}, moved by {stride}: both must be 1 or more")
    if min(x.shape[1:3]) < window:
        raise UserError(f"a pooling window of {window} x {window} does not fit an image of {x.shape[1]} x {x.shape[2]}")
    return stride


def _reduce_windows(x: Array, reduce: Callable, start: float, window: int, stride: int) -> Array:
    # The start is NumPy's: JAX knows the gradient by a start that it can read, and under `jit` its own have no value.
    windows, steps = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, np.asarray(start, x.dtype), reduce, windows, steps, "VALID")


def _windows(x: Array, window: int) -> Array:
    """Return images [B, h, w, C] as [B, h', window, w', window, C]: pooling is then a reduction of two axes."""
    down, across = x.shape[1] // window, x.shape[2] // window
    kept = x[:, : down * window, : across * window]
    return kept.reshape(x.shape[0], down, window, across, window, x.shape[3])


@jax.custom_vjp
def _max_pool(x: Array) -> Array:
    return x.max((2, 4))


def _max_pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = _max_pool(x)
    return y, (x, y)


def _max_pool_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array]:
    x, y = saved
    window = x.shape[2]
    open_ = jnp.ones(y.shape, bool)  # windows whose winner is still to come
    gradients = []
    for row in range(window):
        for column in range(window):
            wins = open_ & (x[:, :, row, :, column] == y)
            open_ &= ~wins
            gradients.append(jnp.where(wins, dy, jnp.zeros((), dy.dtype)))
    rows = [jnp.stack(gradients[row * window : (row + 1) * window], 3) for row in range(window)]
    return (jnp.stack(rows, 2),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def widened(x: Array) -> Array:
    """Return x in float32 at least: what a mean and a variance are computed in."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalise(x: Array, mean: Array, variance: Array, epsilon: float) -> Array:
    r"""Return $(x - \mu) / \sqrt{\sigma^2 + \epsilon}$; mean and variance have x's number of axes."""
    return (x - mean) * lax.rsqrt(variance + jnp.asarray(epsilon, variance.dtype))


def group_norm(x: Array, groups: int, epsilon: float = 1e-5) -> Array:
    """Normalise each image's channels, part by part, over all its places (Wu & He 2018, eq. 1-3); stateless."""
    parts = widened(x).reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = parts.mean((1, 3), keepdims=True)
    variance = jnp.square(parts - mean).mean((1, 3), keepdims=True)
    return normalise(parts, mean, variance, epsilon).reshape(x.shape).astype(x.dtype)


def dropout(key: Key, x: Array, rate: float) -> Array:
    """Set each value to 0 with this probability, and scale up the others (Srivastava et al. 2014, section 10)."""
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), jnp.zeros((), x.dtype))
