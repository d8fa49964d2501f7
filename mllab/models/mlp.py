r"""The multi-layer perceptron: dense layers with an activation between them.

$h_0 = x, \quad h_l = \sigma(h_{l-1} W_l + b_l), \quad \hat y = h_{L-1} W_L + b_L$
(Rumelhart, Hinton & Williams 1986; Goodfellow et al. 2016, chapter 6).
"""

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError, unknown
from mllab.models import initializers, linear
from mllab.models.base import Model, plain
from mllab.models.initializers import Deviation
from mllab.models.linear import Linear
from mllab.types import Array, Key

Activation = Callable[[Array], Array]

ACTIVATIONS: Mapping[str, Activation] = {
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,  # Maas et al. 2013
    "elu": jax.nn.elu,  # Clevert et al. 2016
    "selu": jax.nn.selu,  # Klambauer et al. 2017
    "gelu": jax.nn.gelu,  # Hendrycks & Gimpel 2016
    "silu": jax.nn.silu,  # swish: Ramachandran et al. 2017
    "mish": jax.nn.mish,  # Misra 2019
}

DEVIATIONS: Mapping[str, Deviation] = {  # by activation; the others are of the ReLU family and use He's
    "sigmoid": initializers.glorot,
    "tanh": initializers.glorot,
    "selu": initializers.lecun,
}


def init(key: Key, sizes: Sequence[int], activation: str | Activation = "relu") -> tuple[Linear, ...]:
    """Return params of the layers `sizes[0] -> sizes[1] -> ...`: weights drawn for the activation, biases zero.

    The last layer has no activation after it and is drawn by Glorot's rule.

    Args:
        key: for the weights.
        sizes: features in, units of each hidden layer, and outputs.
        activation: a name in `ACTIVATIONS`, or a function, for which weights are drawn by He's rule unless it is one of
            the table's.

    Raises:
        UserError: fewer than two sizes, a size that is not positive, or an unknown activation.
    """
    checks.check_key(key)
    _check_sizes(sizes)
    function = activation_of(activation)
    name = next((name for name, each in ACTIVATIONS.items() if each is function), "")
    shapes = list(itertools.pairwise(sizes))
    hidden = DEVIATIONS.get(name, initializers.he)
    deviations = [*map(hidden, shapes[:-1]), initializers.glorot(shapes[-1])]
    weights = initializers.normal(key, shapes, deviations)
    return tuple(Linear(w=w, b=jnp.zeros(w.shape[1])) for w in weights)


def apply(params: tuple[Linear, ...], x: Array, activation: str | Activation = "relu") -> Array:
    """Return logits or values [B, C] of inputs [B, ...], flattened to [B, D].

    Args:
        params: of `init` or of a training run.
        x: the inputs.
        activation: a name in `ACTIVATIONS`, or a function; as for `init`.

    Raises:
        UserError: inputs with another number of features than the params, or an unknown activation.
    """
    activation = activation_of(activation)
    x = checks.check_inputs(x, ("B", "..."), "inputs")
    h = x.reshape(x.shape[0], -1)
    if h.shape[1] != params[0].w.shape[0]:
        raise UserError(f"this MLP takes {params[0].w.shape[0]} features per example, not {h.shape[1]}")
    for layer in params[:-1]:
        h = activation(linear.apply(layer, h))
    return linear.apply(params[-1], h)


def model(
    shape: Sequence[int], outputs: int, *, hidden: Sequence[int] = (128, 128), activation: str | Activation = "relu"
) -> Model:
    """Return the model of inputs [B, *shape].

    Args:
        shape: of one input row, flattened.
        outputs: C.
        hidden: units of each hidden layer.
        activation: a name in `ACTIVATIONS`, or a function.

    Raises:
        UserError: an unknown activation, or a size that is not positive.
    """
    function = activation_of(activation)
    sizes = math.prod(shape), *hidden, outputs
    _check_sizes(sizes)
    return plain(
        functools.partial(init, sizes=sizes, activation=function), functools.partial(apply, activation=function)
    )


def activation_of(activation: str | Activation) -> Activation:
    """Return the activation of this name in `ACTIVATIONS`; a function is returned unchanged.

    Raises:
        UserError: an unknown name.
    """
    if callable(activation):
        return activation
    if activation not in ACTIVATIONS:
        raise unknown("activation", str(activation), ACTIVATIONS)
    return ACTIVATIONS[activation]


def _check_sizes(sizes: Sequence[int]) -> None:
    whole = all(isinstance(size, int | np.integer) for size in sizes)
    if len(sizes) < 2 or not whole or min(sizes) < 1:
        raise UserError(f"MLP sizes {tuple(sizes)}: give at least input and output, each a whole number of 1 or more")
