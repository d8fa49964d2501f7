"""The nets of agents: orthogonal weights, and a policy and values side by side."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.control import policy
from mllab.control.environment import Environment
from mllab.control.evaluation import Act, Carry, Memory
from mllab.control.policy import Policy
from mllab.errors import UserError
from mllab.models import convnet, initializers, mlp
from mllab.models.base import Model, plain
from mllab.models.layers import Activation, Conv, Dense, Layer
from mllab.models.linear import Linear
from mllab.types import Array, Key, Params

MakeModel = Callable[[tuple[int, ...], int], Model]  # shape of an observation, outputs -> model


class Nets(NamedTuple):
    """The two nets of an agent with a policy."""

    policy: Policy
    init: Callable[[Key], dict[str, Params]]  # "actor" and "critic"
    first: Callable[[int], Carry]  # E -> carry [E, ...] before an episode; () of nets without memory
    # params, carry, observations [E, ...] -> carry, parameters of the policy [E, O]
    step: Callable[[Params, Carry, Array], tuple[Carry, Array]]
    # params, observations [T, E, ...], where episodes begin [T, E], carry before the first step
    # -> parameters of the policy [T, E, O], values [T, E]; nets without memory take any leading axes
    both: Callable[[Params, Array, Array, Carry], tuple[Array, Array]]
    # the same, with the observations reached after those acted on -> values [T, E] of the observations reached
    next_values: Callable[[Params, Array, Array, Array, Carry], Array]
    act: Act
    memory: Memory | None = None


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

    def step(params: Params, carry: Carry, observations: Array) -> tuple[Carry, Array]:
        return carry, of_actor(params["actor"], observations)

    def both(params: Params, observations: Array, begins: Array, carry: Carry) -> tuple[Array, Array]:
        return of_actor(params["actor"], observations), of_critic(params["critic"], observations)[..., 0]

    def next_values(params: Params, observations: Array, reached: Array, begins: Array, carry: Carry) -> Array:
        return of_critic(params["critic"], reached)[..., 0]

    def act(params: Params, observation: Array, key: Key | None) -> Array:
        return chosen(distribution, of_actor(params["actor"], observation), key)

    return Nets(distribution, init, lambda count: (), step, both, next_values, act)


def chosen(distribution: Policy, outputs: Array, key: Key | None) -> Array:
    """Return the action of an environment that a policy samples, or the most probable one without a key."""
    if key is None:
        return distribution.bounded(distribution.mode(outputs))
    return distribution.bounded(distribution.sample(outputs, distribution.noise(key, ())))


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


def conv(channels: Sequence[int] = (16,), hidden: Sequence[int] = (64,), activation: str = "relu") -> MakeModel:
    """Return what makes a conv net for observations [height, width, C_in], as the `model` of an agent.

    Without pooling, as in Mnih et al. 2015 and in MinAtar (Young & Tian 2019, arXiv:1903.03176), since it matters where
    things are. The weights of the last layer are small, so that a policy begins near uniform; see `net`.

    Args:
        channels: of each 3 x 3 convolution.
        hidden: units of each dense layer after them.
        activation: after each convolution and each hidden layer.
    """
    checks.check_whole(1, **{f"channels[{i}]": size for i, size in enumerate(channels)})
    checks.check_whole(1, **{f"hidden[{i}]": size for i, size in enumerate(hidden)})
    layers: list[Layer] = []
    for layer in (*map(Conv, channels), *map(Dense, hidden)):
        layers += [layer, Activation(activation)]

    def make(shape: tuple[int, ...], outputs: int) -> Model:
        if len(shape) != 3:
            raise UserError(f"a conv net takes observations [height, width, channels], not {list(shape)}")
        model = convnet.model((*layers, Dense(outputs)), shape)

        def init(key: Key) -> tuple[convnet.Params, Any]:
            params, extra = model.init(key)
            last = params.layers[-1]
            return params.replace(layers=(*params.layers[:-1], last.replace(w=0.01 * last.w))), extra

        return model._replace(init=init)

    return make


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
