"""The nets of agents: orthogonal weights, and a policy and values side by side."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab.control import policy
from mllab.control.environment import Environment
from mllab.control.evaluation import Act
from mllab.control.policy import Policy
from mllab.errors import UserError
from mllab.models import initializers, mlp
from mllab.models.base import Model, plain
from mllab.models.linear import Linear
from mllab.types import Array, Key, Params

MakeModel = Callable[[tuple[int, ...], int], Model]  # shape of an observation, outputs -> model


class Nets(NamedTuple):
    """The two nets of an agent with a policy."""

    policy: Policy
    init: Callable[[Key], dict[str, Params]]  # "actor" and "critic"
    outputs: Callable[[Params, Array], Array]  # params, observations [...] -> parameters of the policy [..., O]
    values: Callable[[Params, Array], Array]  # params, observations [...] -> values [...]
    act: Act


def actor_and_critic(
    environment: Environment, *, hidden: Sequence[int], activation: str, model: MakeModel | None
) -> Nets:
    """Return nets apart for the policy and for values.

    Args:
        environment: whose observations they take.
        hidden: units of each hidden layer.
        activation: between layers.
        model: (shape of an observation, outputs) -> model, instead of such nets; used for both.
    """
    shape, distribution = environment.observation, policy.of(environment.actions)
    if model is None:
        actor = net(shape, distribution.outputs, hidden=hidden, activation=activation, last=0.01)
        critic = net(shape, 1, hidden=hidden, activation=activation)
    else:
        actor, critic = model(shape, distribution.outputs), model(shape, 1)
    actor = policy.actor(environment.actions, actor)
    of_actor, of_critic = batched(actor, shape), batched(critic, shape)

    def init(key: Key) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        return {"actor": actor.init(actor_key)[0], "critic": critic.init(critic_key)[0]}

    def outputs(params: Params, observations: Array) -> Array:
        return of_actor(params["actor"], observations)

    def act(params: Params, observation: Array, key: Key | None) -> Array:
        parameters = outputs(params, observation)
        if key is None:
            return distribution.bounded(distribution.mode(parameters))
        return distribution.bounded(distribution.sample(parameters, distribution.noise(key, ())))

    return Nets(
        distribution, init, outputs, lambda params, observed: of_critic(params["critic"], observed)[..., 0], act
    )


def net(
    shape: Sequence[int], outputs: int, *, hidden: Sequence[int], activation: str = "tanh", last: float = 1.0
) -> Model:
    r"""Return an MLP with orthogonal weights: gain $\sqrt 2$ in hidden layers, `last` in the last one.

    Huang et al. 2022, "The 37 implementation details of proximal policy optimization", detail 2; the small last gain of
    a policy, so that it begins near uniform, is what Andrychowicz et al. 2021 (arXiv:2006.05990) found to matter most.
    """
    model = mlp.model(shape, outputs, hidden=hidden, activation=activation)

    def init(key: Key) -> tuple[Linear, ...]:
        layers, _ = jax.eval_shape(model.init, key)
        gains = [2**0.5] * (len(layers) - 1) + [last]
        # One square matrix of the largest size for each layer, cut to its shape, keeps rows or columns orthonormal.
        drawn = []
        for each, layer, gain in zip(jax.random.split(key, len(layers)), layers, gains, strict=True):
            side = max(layer.w.shape)
            matrix = initializers.orthogonal(each, (side, side))
            drawn.append(Linear(w=gain * matrix[: layer.w.shape[0], : layer.w.shape[1]], b=jnp.zeros(layer.b.shape)))
        return tuple(drawn)

    return plain(init, lambda params, inputs: model.apply(params, None, inputs, None)[0])


def batched(model: Model, shape: Sequence[int]) -> Callable[[Params, Array], Array]:
    """Return `(params, inputs [..., *shape]) -> outputs [..., O]`, for inputs with any leading axes.

    Raises:
        UserError: a model with extra state, such as batch statistics, which agents do not keep.
    """
    _, extra = jax.eval_shape(model.init, jax.random.key(0))
    if jax.tree.leaves(extra):
        raise UserError("a model with extra state, such as batch statistics: agents take models without any")

    def apply(params: Params, inputs: Array) -> Array:
        leading = inputs.shape[: inputs.ndim - len(shape)]
        outputs, _ = model.apply(params, extra, inputs.reshape(-1, *shape), None)
        return outputs.reshape(*leading, *outputs.shape[1:])

    return apply
