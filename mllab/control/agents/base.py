"""What an agent is, and what all agents share: settings, nets, the schedule of a training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.control import policy
from mllab.control.environment import Environment
from mllab.control.evaluation import Act
from mllab.control.policy import Policy
from mllab.errors import UserError, unknown
from mllab.models import initializers, mlp
from mllab.models.base import Model, plain
from mllab.models.linear import Linear
from mllab.training import Run
from mllab.types import Array, Hyper, Key, Params, Rows

MakeModel = Callable[[tuple[int, ...], int], Model]  # shape of an observation, outputs -> model


class Agent(NamedTuple):
    """An agent for one environment. Its whole training is a `Run`; a step of the schedule is one update."""

    run: Run
    act: Act
    interactions: int  # environment steps in one update
    updates: int  # of the whole training, over which rates are annealed
    hyper: Mapping[str, float]  # traced settings and their defaults, beside "learning_rate"


def schedule(agent: Agent, updates: int | None = None) -> Rows:
    """Return the rows [S, 1] of an agent's training; they say how many updates there are, and are not read.

    Args:
        agent: the agent.
        updates: S; all of the training by default.
    """
    count = agent.updates if updates is None else updates
    checks.check_whole(1, updates=count)
    return Rows(np.zeros((count, 1), np.int32), np.ones((count, 1), np.float32))


def updates_of(steps: int, interactions: int) -> int:
    """Return how many updates take `steps` environment steps, the last one included in full."""
    checks.check_whole(1, steps=steps)
    return -(-steps // interactions)


def settings(defaults: Mapping[str, float], hyper: Hyper) -> dict[str, Any]:
    """Return the traced settings of a run: those of `hyper`, and the defaults of the others.

    Raises:
        UserError: one that the agent does not have.
    """
    for name in hyper:
        if name != "learning_rate" and name not in defaults:
            raise unknown("setting", name, ["learning_rate", *defaults])
    return {**defaults, **hyper}


def annealed(rate: Array | float, step: Array, updates: int) -> Array:
    """Return the rate of an update, which falls linearly to 0 over the training (Huang et al. 2022, detail 4)."""
    return rate * jnp.maximum(1.0 - step / updates, 0.0)


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


def extra_of(model: Model) -> Any:
    """Return the extra state of a model without arrays in it, such as the Nones of a net of layers."""
    return jax.eval_shape(model.init, jax.random.key(0))[1]


def over_batch(model: Model, params: Any, inputs: Array, shape: Sequence[int]) -> Array:
    """Return the outputs [..., O] of a model for inputs [..., *shape] with any leading axes."""
    leading = inputs.shape[: inputs.ndim - len(shape)]
    outputs, _ = model.apply(params, extra_of(model), inputs.reshape(-1, *shape), None)
    return outputs.reshape(*leading, *outputs.shape[1:])


def actor_and_critic(
    environment: Environment, *, hidden: Sequence[int], activation: str, model: MakeModel | None
) -> tuple[Model, Model]:
    """Return the model of a policy's parameters and the model of values, nets apart.

    Args:
        environment: whose observations they take.
        hidden: units of each hidden layer.
        activation: between layers.
        model: (shape of an observation, outputs) -> model, instead of such nets; used for both.
    """
    shape, size = environment.observation, policy.of(environment.actions).outputs
    if model is None:
        actor = net(shape, size, hidden=hidden, activation=activation, last=0.01)
        critic = net(shape, 1, hidden=hidden, activation=activation)
    else:
        actor, critic = model(shape, size), model(shape, 1)
    return policy.actor(environment.actions, actor), critic


def init_both(actor: Model, critic: Model, key: Key) -> dict[str, Params]:
    """Return the params of both nets.

    Raises:
        UserError: a net with extra state, such as batch statistics, which agents do not keep.
    """
    actor_key, critic_key = jax.random.split(key)
    params = {}
    for name, model, each in (("actor", actor, actor_key), ("critic", critic, critic_key)):
        params[name], extra = model.init(each)
        if jax.tree.leaves(extra):
            raise UserError(f"the {name} has extra state, such as batch statistics: give a model without any")
    return params


def act_of(distribution: Policy, actor: Model, shape: Sequence[int]) -> Act:
    """Return the `act` of an agent with a policy: its mode without a key, a sample with one."""

    def act(params: Params, observation: Array, key: Key | None) -> Array:
        outputs = over_batch(actor, params["actor"], observation, shape)
        if key is None:
            return distribution.bounded(distribution.mode(outputs))
        return distribution.bounded(distribution.sample(outputs, distribution.noise(key, ())))

    return act


def check_divides(part: int, whole: int, name: str, of: str) -> None:
    """Raise UserError unless a number of parts divides a whole."""
    if whole % part:
        raise UserError(f"{name} = {part}: does not divide the {whole} {of}: give a divisor")
