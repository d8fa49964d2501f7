r"""Deep Q-learning: a net in place of the table, trained on transitions drawn from all that it remembers.

$L(\theta) = \tfrac12 \overline{\big(r + \gamma \max_{a'} Q_{\bar\theta}(o', a') - Q_\theta(o, a)\big)^2}$

without the maximum where $o'$ is terminal, and with a target net $\bar\theta$ that is set to $\theta$ now and then.
Double Q-learning takes the value of the action that $\theta$ prefers,
$Q_{\bar\theta}(o', \arg\max_{a'} Q_\theta(o', a'))$, which does not overestimate as a maximum does. The buffer is an
array in the state of the run, written round and round. The papers clip the error or its gradient; squares, with
gradients clipped by their norm, were more stable on CartPole.

Mnih et al. 2015, "Human-level control through deep reinforcement learning"; van Hasselt et al. 2016
(arXiv:1509.06461).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mllab import checks, optimizers
from mllab.control import evaluation
from mllab.control.agents import base, nets, rollout
from mllab.control.agents.base import Agent
from mllab.control.agents.nets import MakeModel
from mllab.control.agents.rollout import Worlds
from mllab.control.environment import Environment, Transition, restarted
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Key, Params, Rows

HYPER = {
    "discount": 0.99,
    "exploration": 1.0,  # probability of a random action at first
    "last_exploration": 0.05,  # and from a share of the training on; it falls linearly
    "exploration_share": 0.3,  # of the training
}


class Memory(NamedTuple):
    """The buffer: C transitions."""

    observation: Array  # [C, ...]
    action: Array  # [C] int32
    reward: Array  # [C]
    reached: Array  # [C, ...]
    terminated: Array  # [C] bool


class Extra(NamedTuple):
    """What a run keeps beside params."""

    worlds: Worlds
    memory: Memory
    target: Params


def make(
    environment: Environment,
    *,
    steps: int = 500_000,
    environments: int = 8,
    batch_size: int = 64,
    capacity: int = 32_768,
    warm_up: int = 2_048,
    target_updates: int = 64,
    double: bool = True,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
    model: MakeModel | None = None,
    clip_norm: float = 10.0,
    anneal: bool = True,
    max_steps: int = evaluation.MAX_STEPS,
) -> Agent:
    """Return the agent.

    Args:
        environment: with discrete actions.
        steps: environment steps of the whole training.
        environments: E side by side; an update is a step in each, and one gradient step.
        batch_size: transitions of a gradient step.
        capacity: C transitions that are remembered, a multiple of E.
        warm_up: environment steps before the first gradient step.
        target_updates: updates after which the target net is set to the trained one.
        double: whether double Q-learning is used.
        hidden: units of the hidden layers.
        activation: of the net.
        model: makes the net instead: (shape of an observation, outputs) -> model.
        clip_norm: greatest norm of a gradient.
        anneal: whether the learning rate falls linearly to 0.
        max_steps: steps after which an episode of evaluation is cut off.

    Raises:
        UserError: continuous actions, or sizes that are not whole numbers of 1 or more or do not divide one another.
    """
    checks.check_whole(1, environments=environments, batch_size=batch_size, target_updates=target_updates)
    checks.check_whole(1, capacity=capacity, warm_up=warm_up)
    base.check_divides(environments, capacity, "environments", "transitions of the buffer")
    actions = base.discrete(environment, "dqn")
    updates = base.updates_of(steps, environments)
    shape = environment.observation
    made = model(shape, actions.size) if model else nets.net(shape, actions.size, hidden=hidden, activation=activation)
    q_of = nets.batched(made, shape)

    def optimizer(rate: Array) -> optimizers.Optimizer:
        return optimizers.build("adam", rate, clip_norm=clip_norm, eps=1e-5)

    def start(hyper: Hyper, key: Key) -> State:
        base.settings(HYPER, hyper)
        init_key, world_key, run_key = jax.random.split(key, 3)
        params, _ = made.init(init_key)
        seen = jnp.zeros((capacity, *shape))
        memory = Memory(
            seen, jnp.zeros(capacity, jnp.int32), jnp.zeros(capacity), seen.copy(), jnp.zeros(capacity, bool)
        )
        worlds = rollout.begin(environment, environments, world_key)
        target = jax.tree.map(jnp.copy, params)
        opt_state = optimizer(hyper["learning_rate"]).init(params)
        return State(jnp.zeros((), jnp.int32), run_key, params, Extra(worlds, memory, target), opt_state)

    def loss(params: Params, target: Params, batch: Memory, discount: Array | float) -> Array:
        taken = jax.nn.one_hot(batch.action, actions.size)
        value = (q_of(params, batch.observation) * taken).sum(axis=-1)
        later = q_of(target, batch.reached)
        chooser = jax.lax.stop_gradient(q_of(params, batch.reached)) if double else later
        best = (later * jax.nn.one_hot(jnp.argmax(chooser, axis=-1), actions.size)).sum(axis=-1)
        goal = batch.reward + discount * jnp.where(batch.terminated, 0.0, best)
        return 0.5 * ((value - goal) ** 2).mean()

    def advance(hyper: Hyper, state: State, examples: Examples, rows: Rows) -> tuple[State, Array]:
        del examples
        chosen = base.settings(HYPER, hyper)

        def update(state: State, row: Rows) -> tuple[State, Array]:
            del row
            keys = jax.random.split(jax.random.fold_in(state.key, state.step), 4)
            rate = base.annealed(chosen["learning_rate"], state.step, updates if anneal else None)
            share = jnp.minimum(state.step / (updates * chosen["exploration_share"]), 1.0)
            epsilon = chosen["exploration"] * (1 - share) + chosen["last_exploration"] * share
            worlds, memory, target = state.extra
            greedy = jnp.argmax(q_of(state.params, worlds.observation), axis=-1).astype(jnp.int32)
            action = base.epsilon_greedy(greedy, keys[0], epsilon, actions.size)
            worlds, after = act_in(worlds, action, keys[1], keys[2])
            before = state.extra.worlds.observation
            place = (state.step % (capacity // environments)) * environments
            memory = jax.tree.map(
                lambda kept, new: jax.lax.dynamic_update_slice_in_dim(kept, new, place, 0),
                memory,
                Memory(before, action, after.reward, after.reached, after.terminated),
            )
            filled = jnp.minimum((state.step + 1) * environments, capacity)
            ids = jax.random.randint(keys[3], (batch_size,), 0, filled)
            batch = jax.tree.map(lambda a: a[ids], memory)
            value, grads = jax.value_and_grad(loss)(state.params, target, batch, chosen["discount"])
            changes, opt_state = optimizer(rate).update(grads, state.optimizer, state.params)
            learns = (state.step + 1) * environments >= warm_up
            stepped = optax.apply_updates(state.params, changes), opt_state
            params, opt_state = jax.tree.map(
                lambda new, old: jnp.where(learns, new, old), stepped, (state.params, state.optimizer)
            )
            renews = (state.step + 1) % target_updates == 0
            target = jax.tree.map(lambda new, old: jnp.where(renews, new, old), params, target)
            return State(state.step + 1, state.key, params, Extra(worlds, memory, target), opt_state), value

        return jax.lax.scan(update, state, rows)

    def act_in(worlds: Worlds, action: Array, step_key: Key, reset_key: Key) -> tuple[Worlds, Transition]:
        fresh = jax.vmap(environment.reset)(jax.random.split(reset_key, environments))
        stepped = jax.vmap(environment.step)(jax.random.split(step_key, environments), worlds.state, action)
        after = jax.vmap(restarted)(stepped, *fresh)
        total, ended = worlds.episode_return + after.reward, after.terminated | after.truncated
        mean_return = rollout.running_mean(worlds.mean_return, jnp.where(ended, total, 0.0).sum(), ended.sum())
        return Worlds(after.state, after.observation, jnp.where(ended, 0.0, total), mean_return), after

    def act(params: Params, observation: Array, key: Key | None) -> Array:
        greedy = jnp.argmax(q_of(params, observation), axis=-1).astype(jnp.int32)
        return base.epsilon_greedy(greedy, key, HYPER["last_exploration"], actions.size)

    score = evaluation.score(environment, act, lambda state: state.extra.worlds.mean_return, max_steps)
    size = base.touched(environment, batch_size, batch_size, hidden)
    return Agent(Run(start, advance, score), act, environments, updates, HYPER, size)
