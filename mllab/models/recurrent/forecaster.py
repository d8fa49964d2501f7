r"""Forecasts of a series by layers of a recurrent cell: from each step the next H values at once.

    $$ h_t^{(l)} = \mathrm{cell}_l\big(h_{t-1}^{(l)}, h_t^{(l-1)}\big), \qquad
       (\hat y_{t+1}, \dots, \hat y_{t+H}) = h_t^{(L)} W_{hy} + b_y $$

(a direct strategy with several outputs: Ben Taieb et al. 2012). The forecasts of step t read the inputs up to t alone.
"""

import jax
import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.errors import unknown
from mllab.models import initializers
from mllab.models.base import Model
from mllab.models.ops.dropout import dropout as drop
from mllab.models.recurrent.cells import CELLS
from mllab.models.recurrent.sequences import init_layers, stack
from mllab.types import Array, Key, Params


@struct.dataclass
class Forecaster:
    """Params of a forecaster of L layers."""

    layers: tuple[Params, ...]  # of the cells, L of them; the first one reads D features, the others H
    w_out: Array  # [H, horizon]
    b_out: Array  # [horizon]


def model(
    features: int,
    horizon: int,
    *,
    cell: str = "gru",
    hidden: int = 32,
    layers: int = 1,
    dropout: float = 0.0,
    forget_bias: float = 1.0,
) -> Model:
    """Return the model of inputs [B, T, D] with forecasts [B, T, horizon] after each step; it has no `extra`.

    Args:
        features: D.
        horizon: steps ahead.
        cell: a name in `CELLS`.
        hidden: H of every layer.
        layers: L.
        dropout: rate between layers and before the output, with a key; alike for all steps of a window (variational
            dropout: Gal & Ghahramani 2016, arXiv:1512.05287).
        forget_bias: see `Cell.init`.

    Raises:
        UserError: an argument out of range, or an unknown cell; when applied, inputs of another shape than expected.
    """
    if cell not in CELLS:
        raise unknown("cell", str(cell), CELLS)
    chosen = CELLS[cell]
    checks.check_whole(1, features=features, horizon=horizon, hidden=hidden, layers=layers)
    checks.check_rate(dropout=dropout)

    def init(key: Key) -> tuple[Forecaster, None]:
        out_key, *layer_keys = jax.random.split(key, 1 + layers)
        cells = init_layers(chosen, layer_keys, features, hidden, forget_bias=forget_bias)
        (w_out,) = initializers.normal(out_key, [(hidden, horizon)], [initializers.lecun((hidden, horizon))])
        return Forecaster(cells, w_out, jnp.zeros(horizon)), None

    def apply(params: Forecaster, extra: None, inputs: Array, key: Key | None) -> tuple[Array, None]:
        inputs = checks.check_inputs(inputs, ("B", "T", features), "inputs")
        inputs = inputs.astype(jnp.result_type(inputs, params.w_out))
        keys = None if key is None or dropout == 0 else jax.random.split(key, layers)

        def dropped(layer: int, states: Array) -> Array:
            """Return states [T, B, H] with features dropped for all steps of a window alike."""
            if keys is None:
                return states
            return states * drop(keys[layer], jnp.ones((1, *states.shape[1:]), states.dtype), dropout)

        _, states = stack(
            chosen, params.layers, None, jnp.swapaxes(inputs, 0, 1), between=dropped, time_major=True, finite=False
        )
        states = jnp.swapaxes(dropped(layers - 1, states), 0, 1)
        return states @ params.w_out + params.b_out[None, None], extra

    return Model(init, apply)
