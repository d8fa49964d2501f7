"""Rollouts of on-policy agents: many environments side by side, which start anew at the end of each episode."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mllab.control import returns
from mllab.control.agents import base
from mllab.control.agents.nets import Nets
from mllab.control.environment import Environment, EnvironmentState, restarted
from mllab.control.evaluation import Carry
from mllab.optimizers import Optimizer
from mllab.training import State
from mllab.types import Array, Hyper, Key, Params

MEMORY = 0.05  # weight of one finished episode in the running mean of returns


class Worlds(NamedTuple):
    """E environments under way, and what their episodes returned."""

    state: EnvironmentState  # [E, ...]
    observation: Array  # [E, ...]
    episode_return: Array  # [E] of the episode under way
    mean_return: Array  # [] running mean of finished episodes; NaN before the first one
    carry: Carry = ()  # [E, ...] of nets with memory


class Rollout(NamedTuple):
    """T steps in E environments."""

    observation: Array  # [T, E, ...] acted on
    outputs: Array  # [T, E, O] of the policy's model
    action: Array  # [T, E] or [T, E, A], before it was bounded
    reward: Array  # [T, E]
    reached: Array  # [T, E, ...] the observation that the action led to, before any reset
    terminated: Array  # [T, E]
    truncated: Array  # [T, E]
    begins: Any = ()  # [T, E] bool: whether an episode begins here, after another one in this rollout
    carry: Carry = ()  # [E, ...] of nets with memory, before the first step


def begin(environment: Environment, count: int, key: Key, carry: Carry = ()) -> Worlds:
    """Return `count` environments at the start of an episode; `carry` is that of nets with memory."""
    state, observation = jax.vmap(environment.reset)(jax.random.split(key, count))
    return Worlds(state, observation, jnp.zeros(count), jnp.full((), jnp.nan), carry)


def start_of(
    environment: Environment, net: Nets, count: int, optimizer: Callable[[Array], Optimizer], defaults: Hyper
) -> Callable[[Hyper, Key], State]:
    """Return the `start` of an on-policy agent's run.

    Args:
        environment: one episode's functions.
        net: the nets.
        count: of environments side by side.
        optimizer: learning rate -> optimizer.
        defaults: of the agent's traced settings, which are checked.
    """

    def start(hyper: Hyper, key: Key) -> State:
        base.settings(defaults, hyper)
        init_key, world_key, run_key = jax.random.split(key, 3)
        params = net.init(init_key)
        worlds = begin(environment, count, world_key, net.first(count))
        return State(jnp.zeros((), jnp.int32), run_key, params, worlds, optimizer(hyper["learning_rate"]).init(params))

    return start


def collect(
    environment: Environment, net: Nets, params: Params, worlds: Worlds, key: Key, steps: int
) -> tuple[Worlds, Rollout]:
    """Return the environments after `steps` steps of a policy, and the rollout.

    Everything random is drawn before the first step: small draws in every step would take longer than the steps.

    Args:
        environment: one episode's functions.
        net: the nets, of which the policy acts.
        params: of both.
        worlds: the environments, E of them.
        key: of this rollout.
        steps: T.
    """
    policy, count = net.policy, worlds.observation.shape[0]
    noise_key, step_key, reset_key = jax.random.split(key, 3)
    noise = policy.noise(noise_key, (steps, count))
    keys = jax.random.split(step_key, (steps, count))
    fresh = jax.vmap(jax.vmap(environment.reset))(jax.random.split(reset_key, (steps, count)))
    first = net.first(count)

    def step(before: Any, drawn: Any) -> Any:
        state, observation, total, carry = before
        noise, keys, fresh = drawn
        carry, outputs = net.step(params, carry, observation)
        action = policy.sample(outputs, noise)
        after = jax.vmap(environment.step)(keys, state, policy.bounded(action))
        now = jax.vmap(restarted)(after, *fresh)
        total = total + now.reward
        ended = now.terminated | now.truncated
        carry = jax.tree.map(lambda start, a: jnp.where(ended[:, None], start, a), first, carry)
        seen = Rollout(observation, outputs, action, now.reward, now.reached, now.terminated, now.truncated)
        finished = jnp.where(ended, total, 0.0)
        return (now.state, now.observation, jnp.where(ended, 0.0, total), carry), (seen, finished)

    start = worlds.state, worlds.observation, worlds.episode_return, worlds.carry
    (state, observation, total, carry), (seen, finished) = jax.lax.scan(step, start, (noise, keys, fresh))
    ended = seen.terminated | seen.truncated
    begins = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
    count = ended.sum()
    mean_return = running_mean(worlds.mean_return, finished.sum(), count)
    return Worlds(state, observation, total, mean_return, carry), seen._replace(begins=begins, carry=worlds.carry)


def advantages(net: Nets, params: Params, played: Rollout, values: Array, settings: Hyper) -> Array:
    """Return the advantages [T, E] of a rollout; see `returns.advantages`.

    Args:
        net: the nets.
        params: of both.
        played: the rollout.
        values: [T, E] of the observations acted on.
        settings: "discount" and "trace".
    """
    next_values = net.next_values(params, played.observation, played.reached, played.begins, played.carry)
    return returns.advantages(
        played.reward, values, next_values, played.terminated, played.truncated,
        discount=settings["discount"], trace=settings["trace"],
    )  # fmt: skip


def running_mean(mean: Array, total: Array, count: Array) -> Array:
    """Return the running mean after `count` further episodes with returns of this total; NaN before the first one."""
    latest = total / jnp.maximum(count, 1)
    share = jnp.where(jnp.isnan(mean), 1.0, 1.0 - (1.0 - MEMORY) ** count)
    return jnp.where(count > 0, jnp.where(jnp.isnan(mean), 0.0, mean) * (1.0 - share) + share * latest, mean)
