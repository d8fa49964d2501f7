r"""The parts of a Transformer: multi-head attention, the feed-forward net, layer normalisation, positional encodings.

Each sub-layer stands in a residual connection and normalises what it reads (pre-norm: Xiong et al. 2020,
arXiv:2002.04745; Radford et al. 2019):

    $$ x \leftarrow x + \mathrm{Dropout}(\mathrm{Sublayer}(\mathrm{LayerNorm}(x))) $$

**Attention** (Vaswani et al. 2017, section 3.2.2), with N heads of D features, $W = N D$:

    $$ \mathrm{MultiHead}(x, m) = \mathrm{Concat}_n\big(\mathrm{Attention}(x W^Q_n, m W^K_n, m W^V_n)\big) W^O $$

where the memory $m$ is $x$ itself in self-attention. **Feed-forward** (section 3.3), with an activation $\phi$:

    $$ \mathrm{FFN}(x) = \phi(x W_1 + b_1) W_2 + b_2 $$
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.models.ops import normalisation
from mllab.models.ops.dropout import dropout as drop
from mllab.models.ops.dropout import is_zero
from mllab.types import Array, Key


@struct.dataclass
class Norm:
    """Params of a layer normalisation."""

    scale: Array  # [W]
    shift: Array | None  # [W]


@struct.dataclass
class Attention:
    """Params of multi-head attention: W^Q, W^K and W^V side by side where all read the same x, else W^Q alone."""

    w_in: Array  # [W, 3, N, D] of queries, keys and values; [W, 1, N, D] of queries
    b_in: Array | None  # [3, N, D] or [1, N, D]
    w_memory: Array | None  # [W, 2, N, D] of the memory's keys and values; None in self-attention
    b_memory: Array | None  # [2, N, D]
    w_out: Array  # [N, D, W] W^O
    b_out: Array | None  # [W]


@struct.dataclass
class FeedForward:
    """Params of the feed-forward net."""

    w_1: Array  # [W, F]
    b_1: Array | None  # [F]
    w_2: Array  # [F, W]
    b_2: Array | None  # [W]


def check_sizes(*, width: int, layers: int, heads: int, dropout: Any, **sizes: int) -> None:
    """Raise unless sizes are whole numbers of 1 or more, the heads divide the width, and dropout is a rate.

    Raises:
        UserError: the first that is not so.
    """
    checks.check_whole(1, width=width, layers=layers, heads=heads, **sizes)
    if width % heads:
        raise UserError(f"width = {width} for {heads} heads: give a multiple of the heads")
    checks.check_rate(dropout=dropout)


def init_layers(key: Key, layers: int, make: Callable[[Key], Any]) -> tuple[Any, ...]:
    """Return the params of layers of one kind, each as `make` draws it."""
    stacked = jax.vmap(make)(jax.random.split(key, layers))
    return tuple(jax.tree.map(lambda leaf, place=place: leaf[place], stacked) for place in range(layers))


def init_norm(width: int, bias: bool = True) -> Norm:
    """Return params that change nothing after normalisation."""
    return Norm(jnp.ones(width), jnp.zeros(width) if bias else None)


class Dropout:
    """The dropout of a model within one call: each place takes the next key.

    Without a key, or at a rate that is known to be 0, it changes nothing.
    """

    def __init__(self, key: Key | None, rate: Any):
        """Take the key of the call and the rate."""
        self._key, self._rate = None if is_zero(rate) else key, rate

    def __call__(self, x: Array) -> Array:
        """Return x with dropout."""
        if self._key is None:
            return x
        self._key, key = jax.random.split(self._key)
        return drop(key, x, self._rate)


def normed(norm: Norm, x: Array) -> Array:
    """Return LayerNorm(x), [..., W]."""
    return normalisation.layer_norm(x, norm.scale, norm.shift)


def dense(x: Array, w: Array, b: Array | None) -> Array:
    """Return x [..., D_in] @ w [D_in, *D_out] + b as one product of matrices, [..., *D_out]."""
    y = x.reshape(-1, x.shape[-1]) @ w.reshape(w.shape[0], -1)
    if b is not None:
        y = y + b.reshape(1, -1)
    return y.reshape(*x.shape[:-1], *w.shape[1:])


def queries(attention: Attention, x: Array) -> tuple[Array, ...]:
    """Return what x [B, T, W] gives: queries, keys and values of self-attention, or queries, [B, N, T, D] each."""
    return _by_head(dense(x, attention.w_in, attention.b_in))


def memory(attention: Attention, encoded: Array) -> tuple[Array, ...]:
    """Return keys and values [B, N, S, D] of what is attended to, [B, S, W]."""
    assert attention.w_memory is not None
    return _by_head(dense(encoded, attention.w_memory, attention.b_memory))


def _by_head(projected: Array) -> tuple[Array, ...]:
    """Return the K parts of projections [B, T, K, N, D], [B, N, T, D] each."""
    return tuple(jnp.swapaxes(projected[:, :, place], 1, 2) for place in range(projected.shape[2]))


def joined(attention: Attention, heads: Array) -> Array:
    """Return what the heads read [B, N, T, D], projected by W^O, [B, T, W]."""
    w_out = attention.w_out.reshape(-1, attention.w_out.shape[-1])
    heads = jnp.swapaxes(heads, 1, 2)
    return dense(heads.reshape(*heads.shape[:2], -1), w_out, attention.b_out)


def feed_forward(params: FeedForward, x: Array, activation: Callable[[Array], Array]) -> Array:
    """Return FFN(x), [..., W]."""
    return dense(activation(dense(x, params.w_1, params.b_1)), params.w_2, params.b_2)


@jax.custom_vjp
def gelu(x: Array) -> Array:
    r"""Return $x \Phi(x)$, $\Phi$ the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    return x * _normal_distribution(x)


def _gelu_forward(x: Array) -> tuple[Array, Array]:
    # The derivative is computed beside the value and kept in place of x: the backward pass is one product.
    phi = _normal_distribution(x)
    return x * phi, phi + x * jnp.exp(-0.5 * jnp.square(x)) * math.sqrt(0.5 / math.pi)


def _normal_distribution(x: Array) -> Array:
    return 0.5 + 0.5 * jax.lax.erf(x * math.sqrt(0.5))


gelu.defvjp(_gelu_forward, lambda derivative, gradient: (derivative * gradient,))


def sinusoids(positions: Array, width: int) -> Array:
    r"""Return positional encodings [..., W] of positions [...] (Vaswani et al. 2017, section 3.5).

    $$ PE_{p, 2i} = \sin(p / 10000^{2i/W}), \qquad PE_{p, 2i+1} = \cos(p / 10000^{2i/W}) $$
    """
    rates = jnp.exp(jnp.arange(0, width, 2) * (-math.log(10_000) / width))
    angles = positions[..., None] * rates.reshape((1,) * positions.ndim + (-1,))
    pairs = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
    return pairs.reshape(*positions.shape, -1)[..., :width]
