r"""Policies: distributions over actions whose parameters are the outputs of a model.

Categorical, of logits $z$: $\pi(a) = \mathrm{softmax}(z)_a$, $\; H = -\sum_a \pi(a) \log \pi(a)$.

Gaussian, of means $\mu$ and log standard deviations $\log\sigma$, one for each of A coordinates:

$\log \pi(a) = -\sum_i \big((a_i - \mu_i)^2 / 2\sigma_i^2 + \log\sigma_i + \tfrac12 \log 2\pi\big)$,
$\; H = \sum_i \big(\log\sigma_i + \tfrac12 \log 2\pi e\big)$.

Actions of a Gaussian are in units of the environment's range: -1 stands for its low end and 1 for its high end. What is
sampled beyond is cut off for the environment only, so that the gradient remains that of the distribution which was
sampled. Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab.control.environment import Continuous, Discrete
from mllab.models.base import Model
from mllab.types import Array, Key


class Policy(NamedTuple):
    """A distribution over actions as functions of a model's outputs [..., O]; actions are [...] or [..., A]."""

    outputs: int  # of the model: logits, or means
    noise: Callable[[Key, tuple[int, ...]], Array]  # key, leading axes -> what `sample` needs: many draws at once
    sample: Callable[[Array, Array], Array]  # outputs, noise -> action
    mode: Callable[[Array], Array]  # outputs -> the most probable action
    log_probability: Callable[[Array, Array], Array]  # outputs, action -> [...]
    entropy: Callable[[Array], Array]  # outputs -> [...]
    bounded: Callable[[Array], Array]  # action -> action of the environment


def of(actions: Discrete | Continuous) -> Policy:
    """Return the categorical policy of discrete actions, or the Gaussian one of continuous actions."""
    return categorical(actions.size) if isinstance(actions, Discrete) else gaussian(actions)


def categorical(size: int) -> Policy:
    """Return the categorical policy over the actions 0 to size - 1."""
    # The actions, which are few, come first in all that is computed: a last axis of two numbers does not vectorise.

    def log_probabilities(logits: Array) -> Array:
        return jax.nn.log_softmax(jnp.moveaxis(logits, -1, 0), axis=0)

    def sample(logits: Array, noise: Array) -> Array:
        # By the inverse of the distribution function: one uniform number for an action, whatever their number.
        below = jnp.cumsum(jnp.exp(log_probabilities(logits)), axis=0)[:-1] <= noise[None]
        return below.sum(axis=0, dtype=jnp.int32)

    def log_probability(logits: Array, action: Array) -> Array:
        # A masked sum, since XLA's CPU backend gathers slowly.
        taken = jax.nn.one_hot(action, size, dtype=bool, axis=0)
        return jnp.where(taken, log_probabilities(logits), 0.0).sum(axis=0)

    def entropy(logits: Array) -> Array:
        logs = log_probabilities(logits)
        return -(jnp.exp(logs) * logs).sum(axis=0)

    return Policy(
        outputs=size,
        noise=jax.random.uniform,
        sample=sample,
        mode=lambda logits: jnp.argmax(logits, axis=-1).astype(jnp.int32),
        log_probability=log_probability,
        entropy=entropy,
        bounded=lambda action: action,
    )


def gaussian(actions: Continuous) -> Policy:
    """Return the Gaussian policy over actions of A coordinates; its model is made by `with_deviations`."""
    low, high = np.asarray(actions.low, np.float32), np.asarray(actions.high, np.float32)
    size = len(low)

    def parts(outputs: Array) -> tuple[Array, Array]:
        return outputs[..., :size], outputs[..., size:]

    def sample(outputs: Array, noise: Array) -> Array:
        mean, log_deviation = parts(outputs)
        return mean + jnp.exp(log_deviation) * noise

    def log_probability(outputs: Array, action: Array) -> Array:
        mean, log_deviation = parts(outputs)
        standard = (action - mean) * jnp.exp(-log_deviation)
        return -(0.5 * standard**2 + log_deviation + 0.5 * math.log(2 * math.pi)).sum(axis=-1)

    def bounded(action: Array) -> Array:
        low_end, high_end = (jnp.broadcast_to(end, action.shape) for end in (low, high))
        return low_end + 0.5 * (jnp.clip(action, -1.0, 1.0) + 1.0) * (high_end - low_end)

    return Policy(
        outputs=size,
        noise=lambda key, shape: jax.random.normal(key, (*shape, size)),
        sample=sample,
        mode=lambda outputs: parts(outputs)[0],
        log_probability=log_probability,
        entropy=lambda outputs: (parts(outputs)[1] + 0.5 * math.log(2 * math.pi * math.e)).sum(axis=-1),
        bounded=bounded,
    )


def actor(actions: Discrete | Continuous, model: Model, log_deviation: float = 0.0) -> Model:
    """Return the model of a policy's parameters from a model of logits or means.

    Args:
        actions: of the environment.
        model: with `Policy.outputs` outputs.
        log_deviation: of a Gaussian policy before training; it is a parameter for each coordinate that does not depend
            on the observation, as in TRPO (Schulman et al. 2015) and PPO.
    """
    if isinstance(actions, Discrete):
        return model
    size = len(actions.low)

    def init(key: Key):
        net, extra = model.init(key)
        return {"mean": net, "log_deviation": jnp.full((size,), log_deviation)}, extra

    def apply(params, extra, inputs, key):
        mean, extra = model.apply(params["mean"], extra, inputs, key)
        deviations = jnp.broadcast_to(params["log_deviation"], mean.shape)
        return jnp.concatenate([mean, deviations], axis=-1), extra

    return Model(init, apply)
