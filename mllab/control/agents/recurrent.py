r"""Nets of agents with memory: a recurrent cell between the observations and what is made of them.

$h_t = \mathrm{cell}(h_{t-1}, \phi(o_t))$, with $h_{t-1} = 0$ in the first step of an episode; the parameters of the
policy and the value of step t are linear in the $h_t$ of a cell each.

The five details of recurrent agents in Huang et al. 2022, "The 37 implementation details of proximal policy
optimization": orthogonal weights (1), carries that begin at zero (2), are reset at the ends of episodes (3), and are
computed again along whole rollouts from the carry before their first step (4), in minibatches of environments (5).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mllab import checks
from mllab.control import policy
from mllab.control.agents import nets
from mllab.control.agents.nets import Carry, MakeModel, Memory, Nets
from mllab.control.environment import Environment
from mllab.errors import UserError, unknown
from mllab.models import mlp
from mllab.models.recurrent import CELLS, Cell, unroll
from mllab.types import Array, Key, Params


def either(environment: Environment, *, memory: str | None, **options: Any) -> Nets:
    """Return nets with memory if a cell is named, else those of `nets.actor_and_critic`; both take the options."""
    if memory is None:
        return nets.actor_and_critic(environment, **options)
    return actor_and_critic(environment, memory=memory, **options)


def actor_and_critic(
    environment: Environment, *, memory: str, hidden: Sequence[int], activation: str, model: MakeModel | None
) -> Nets:
    """Return nets apart for the policy and for values, each with a recurrent cell.

    Args:
        environment: whose observations they take.
        memory: the cell, by its name in `CELLS`.
        hidden: units of the dense layers before the cell, then of the cell.
        activation: after each dense layer.
        model: (shape of an observation, outputs) -> model, instead of the dense layers; with as many outputs as the
            cell has units.

    Raises:
        UserError: an unknown cell, or one without units.
    """
    if memory not in CELLS:
        raise unknown("memory", str(memory), CELLS)
    if not hidden:
        raise UserError("hidden: none, expected the units of the cell")
    checks.check_whole(1, hidden=hidden[-1])
    cell, units, shape = CELLS[memory], hidden[-1], environment.observation
    distribution = policy.of(environment.actions)
    features = _Features(shape, hidden, activation, model)
    actor = _Net(cell, units, features, policy.actor(environment.actions, _head(units, distribution.outputs, 0.01)))
    critic = _Net(cell, units, features, _head(units, 1, 1.0))

    def init(key: Key) -> dict[str, Params]:
        actor_key, critic_key = jax.random.split(key)
        return {"actor": actor.init(actor_key), "critic": critic.init(critic_key)}

    def first(count: int) -> Carry:
        return {"actor": actor.first(count), "critic": critic.first(count)}

    def step(params: Params, carry: Carry, observations: Array) -> tuple[Carry, Array]:
        actor_carry, outputs = actor.step(params["actor"], carry["actor"], observations)
        critic_carry, _ = critic.step(params["critic"], carry["critic"], observations)
        return {"actor": actor_carry, "critic": critic_carry}, outputs

    def both(params: Params, observations: Array, begins: Array, carry: Carry) -> tuple[Array, Array]:
        outputs = actor.along(params["actor"], carry["actor"], observations, begins)
        return outputs, critic.along(params["critic"], carry["critic"], observations, begins)[..., 0]

    def next_values(params: Params, observations: Array, reached: Array, begins: Array, carry: Carry) -> Array:
        # The observation reached differs from the next one acted on where an episode has ended, so each takes one step
        # from the carry of its own.
        def one(carry: Carry, now: tuple[Array, Array, Array]) -> tuple[Carry, Array]:
            observation, reached, begins = now
            carry, _ = critic.step(params["critic"], restarted(begins, carry), observation)
            return carry, critic.step(params["critic"], carry, reached)[1][..., 0]

        return jax.lax.scan(one, carry["critic"], (observations, reached, begins))[1]

    def act(params: Params, observation: Array, key: Key | None) -> Array:
        raise UserError("this agent has memory, and acts by a carry as well: call its memory.act")

    def act_by_carry(params: Params, carry: Carry, observation: Array, key: Key | None) -> tuple[Carry, Array]:
        carry = jax.tree.map(lambda a: a[None], carry)
        after, outputs = actor.step(params["actor"], carry["actor"], observation[None])
        carry = jax.tree.map(lambda a: a[0], carry | {"actor": after})
        return carry, nets.chosen(distribution, outputs[0], key)

    remembered = Memory(lambda: jax.tree.map(lambda a: a[0], first(1)), act_by_carry)
    return Nets(distribution, init, first, step, both, next_values, act, remembered)


def restarted(begins: Array, carry: Carry) -> Carry:
    """Return carries [E, ...] with zeros where an episode begins, [E]."""
    return jax.tree.map(lambda a: jnp.where(begins[:, None], jnp.zeros_like(a), a), carry)


class _Features:
    """What a cell reads: an observation after dense layers or a model, or the observation itself."""

    def __init__(self, shape: tuple[int, ...], hidden: Sequence[int], activation: str, model: MakeModel | None) -> None:
        self.activation, self.shape = mlp.activation_of(activation), shape
        self.model = None
        if model is not None:
            self.model = model(shape, hidden[-1])
        elif len(hidden) > 1:
            self.model = nets.net(shape, hidden[-2], hidden=hidden[:-2], activation=activation, last=2**0.5)

    def init(self, key: Key) -> Params:
        return None if self.model is None else self.model.init(key)[0]

    def apply(self, params: Params, observations: Array) -> Array:
        if self.model is not None:
            return self.activation(nets.batched(self.model, self.shape)(params, observations))
        leading = observations.shape[: observations.ndim - len(self.shape)]
        return observations.reshape(*leading, -1)


class _Net:
    """A cell with features below it and a linear model above it."""

    def __init__(self, cell: Cell, units: int, features: _Features, head: Any) -> None:
        self.cell, self.units, self.features = cell, units, features
        self.head, self.head_of = head, nets.batched(head, (units,))

    def init(self, key: Key) -> dict[str, Params]:
        features_key, cell_key, head_key = jax.random.split(key, 3)
        features = self.features.init(features_key)
        inputs = jax.eval_shape(self.features.apply, features, jnp.zeros((1, *self.features.shape))).shape[-1]
        cell = self.cell.init(cell_key, inputs, self.units)
        return {"features": features, "cell": cell, "head": self.head.init(head_key)[0]}

    def first(self, count: int) -> Carry:
        params = jax.eval_shape(lambda: self.cell.init(jax.random.key(0), 1, self.units))
        return self.cell.initial_carry(params, count)

    def step(self, params: Params, carry: Carry, observations: Array) -> tuple[Carry, Array]:
        carry, h = self.cell.step(params["cell"], carry, self.features.apply(params["features"], observations))
        return carry, self.head_of(params["head"], h)

    def along(self, params: Params, carry: Carry, observations: Array, begins: Array) -> Array:
        features = self.features.apply(params["features"], observations)
        _, h = unroll(self.cell, params["cell"], carry, features, reset=begins.T, time_major=True)
        return self.head_of(params["head"], h)


def _head(units: int, outputs: int, gain: float) -> Any:
    return nets.net((units,), outputs, hidden=(), last=gain)
