r"""Convolution and pooling of images [B, height, width, C].

Convolution (cross-correlation, as in all deep-learning libraries; Goodfellow et al. 2016, eq. 9.6), with weights
[window height, window width, C_in / groups, C_out], stride s, dilation d and padding p:

    $$ y_{b,i,j,o} = \sum_{u,v,c} x_{b,\; s i + d u - p,\; s j + d v - p,\; c}\, w_{u,v,c,o} $$

Both of its gradients are convolutions. With $\bar y$ the gradient by y, dilated by s (zeros inserted),

    $$ \bar x = \bar y * \mathrm{flip}(w)^T, \qquad \bar w = x^T * \bar y^T $$

where the first transpose swaps C_in and C_out, and the second swaps batch and channels. XLA's CPU backend has a fast
convolution for exactly the layout above, but rewrites gradients into it only outside of loops: inside the scan of a
training run, the weight gradient that JAX derives takes 40 times as long (see BUILD_NOTES.md). On CPUs the gradients
are therefore written out in that layout; other platforms use JAX's own.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mllab.errors import UserError, unknown
from mllab.types import Array

LAYOUT = ("NHWC", "HWIO", "NHWC")
PADDINGS = ("SAME", "VALID", "SAME_LOWER")
Padding = str | Sequence[tuple[int, int]]  # one of these names, or the padding at both ends of height and width


class Window(NamedTuple):
    """How a convolution's window moves; hashable, since it is static under `jit`."""

    padding: tuple[tuple[int, int], tuple[int, int]]
    stride: int = 1
    dilation: int = 1


def convolution(
    x: Array, w: Array, *, stride: int = 1, padding: Padding = "SAME", dilation: int = 1, groups: int = 1
) -> Array:
    """Return the convolution [B, h', w', C_out] of images [B, h, w, C_in].

    Differentiable to any order in reverse mode (`jax.grad`, `jax.vjp`). Under `vmap` over both images and weights (the
    lanes of a sweep), CPUs compute one lane after another.

    Args:
        x: images.
        w: weights [window height, window width, C_in / groups, C_out].
        stride: rows and columns from one window to the next.
        padding: "SAME" (output size = input size at stride 1; an odd number of zeros has the extra one at the end, or
            with "SAME_LOWER" at the beginning), "VALID" (none), or ((top, bottom), (left, right)).
        dilation: rows and columns from one weight to the next (Yu & Koltun 2016).
        groups: groups of channels that are convolved separately. More than 1 uses JAX's own gradients, which are slow
            on CPUs.

    Raises:
        UserError: images that are not floating-point numbers, channels that do not match, a window larger than the
            padded image, an unknown padding, or a stride or dilation below 1.
    """
    x, w = jnp.asarray(x), jnp.asarray(w)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise UserError(f"images of {x.dtype}: pass floating-point numbers, such as images / 255")
    if x.ndim != 4 or w.ndim != 4 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise UserError(
            f"images {list(x.shape)} and weights {list(w.shape)} in {groups} group(s): images are "
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
    # Negative padding, and padding as wide as the window, are applied beforehand: otherwise the convolution or its
    # gradient has negative padding at one end and positive padding at the other, for which XLA's CPU backend reads
    # beyond the image.
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
    strides, dilations = (window.stride,) * 2, (window.dilation,) * 2
    return lax.conv_general_dilated(
        x, w, strides, window.padding, rhs_dilation=dilations, dimension_numbers=LAYOUT, feature_group_count=groups
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _correlate(x: Array, w: Array, window: Window) -> Array:
    return _lane_by_lane(functools.partial(_direct, window=window))(x, w)


def _correlate_forward(x: Array, w: Array, window: Window) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(x, w, window), (x, w)


def _correlate_backward(window: Window, saved: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    def in_fast_layout(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        _, stride, dilation = window
        reach = [dilation * (size - 1) for size in w.shape[:2]]
        axes = list(zip(x.shape[1:3], window.padding, reach, dy.shape[1:3], strict=True))
        # dy as at stride 1: zeros between its rows and columns, and after them for those that no window reached.
        rest = [size + sum(pad) - far - (steps - 1) * stride - 1 for size, pad, far, steps in axes]
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), [(0, 0, 0), *((0, more, stride - 1) for more in rest), (0, 0, 0)])
        down, across = ((far - low, far - high) for _, (low, high), far, _ in axes)
        dx = _correlate(dy, jnp.flip(w, (0, 1)).swapaxes(2, 3), Window((down, across), 1, dilation))
        dw = _correlate(x.transpose(3, 1, 2, 0), dy.transpose(1, 2, 0, 3), Window(window.padding, dilation, 1))
        return dx, dw.transpose(1, 2, 0, 3)

    def derived(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
        return jax.vjp(functools.partial(_direct, window=window), x, w)[1](dy)

    return lax.platform_dependent(*saved, dy, cpu=in_fast_layout, default=derived)


_correlate.defvjp(_correlate_forward, _correlate_backward)


def _lane_by_lane(function: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Return the same function of two arrays; under `vmap` over both, CPUs compute one lane after another.

    Batched weights would become a grouped convolution, which XLA's CPU backend runs several times slower.
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
    """Return the maximum of each window of images [B, h, w, C]; rows and columns that fill no window are dropped.

    The gradient of a tie goes to its first maximum in row-major order.

    Args:
        x: images.
        window: rows and columns of a window.
        stride: from one window to the next (default: the window's size).

    Raises:
        UserError: anything but [B, h, w, C], a window larger than the image, or a window or stride below 1.
    """
    stride = _check_pool(x, window, stride)
    if stride != window:  # overlapping windows or gaps; the gradient, select-and-scatter, is slow on CPUs
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
        raise UserError(f"pooling takes images [B, height, width, C], not {list(x.shape)}")
    if window < 1 or stride < 1:
        raise UserError(f"a pooling window of {window} and stride of {stride}: both must be 1 or more")
    if min(x.shape[1:3]) < window:
        raise UserError(f"a pooling window of {window} x {window} does not fit an image of {x.shape[1]} x {x.shape[2]}")
    return stride


def _reduce_windows(x: Array, reduce: Callable, start: float, window: int, stride: int) -> Array:
    # The start is a NumPy scalar: JAX picks the gradient by its value, which a JAX array does not have under `jit`.
    windows, strides = (1, window, window, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, np.asarray(start, x.dtype), reduce, windows, strides, "VALID")


def _windows(x: Array, window: int) -> Array:
    """Return images [B, h, w, C] as [B, h', window, w', window, C], so that pooling is a reduction of two axes."""
    down, across = x.shape[1] // window, x.shape[2] // window
    cut = x[:, : down * window, : across * window]
    return cut.reshape(x.shape[0], down, window, across, window, x.shape[3])


@jax.custom_vjp
def _max_pool(x: Array) -> Array:
    return x.max((2, 4))


def _max_pool_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    y = _max_pool(x)
    return y, (x, y)


def _max_pool_backward(saved: tuple[Array, Array], dy: Array) -> tuple[Array]:
    x, y = saved
    window = x.shape[2]
    undecided = jnp.ones(y.shape, bool)  # windows whose first maximum is still to come
    gradients = []
    for row in range(window):
        for column in range(window):
            wins = undecided & (x[:, :, row, :, column] == y)
            undecided &= ~wins
            gradients.append(jnp.where(wins, dy, jnp.zeros((), dy.dtype)))
    rows = [jnp.stack(gradients[row * window : (row + 1) * window], 3) for row in range(window)]
    return (jnp.stack(rows, 2),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)
