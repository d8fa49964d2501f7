r"""Proximal policy optimisation: several epochs of minibatches on each rollout, kept near the policy that played it.

With $\rho = \pi_\theta(a|o) / \pi_{old}(a|o)$, advantages $\hat A$ and targets $\hat G = \hat A + v_{old}$:

$L(\theta) = -\overline{\min\big(\rho \hat A,\; \mathrm{clip}(\rho, 1 - \epsilon, 1 + \epsilon) \hat A\big)}
  + c_v \tfrac12 \overline{(v_\theta - \hat G)^2} - c_e \overline{H[\pi_\theta]}$

(Schulman et al. 2017, arXiv:1707.06347, eq. 7 and 9, Algorithm 1), with the core details of Huang et al. 2022, "The 37
implementation details of proximal policy optimization", by their numbers there: environments side by side (1),
orthogonal weights (2), Adam's epsilon 1e-5 (3), an annealed rate (4), generalised advantages (5), shuffled minibatches
(6), advantages normalised in each minibatch (7), the clipped ratio (8), value clipping as an option (9; it did not help
in Andrychowicz et al. 2021, arXiv:2006.05990), an entropy bonus (10), gradients clipped by their norm (11), and nets
apart for policy and value (13).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mllab import checks, optimizers
from mllab.control import evaluation
from mllab.control.agents import base, recurrent, rollout
from mllab.control.agents.base import Agent
from mllab.control.agents.nets import MakeModel
from mllab.control.environment import Environment
from mllab.control.evaluation import Carry
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Key, Params, Rows

HYPER = {
    "discount": 0.99,
    "trace": 0.95,  # lambda of the advantages
    "clip": 0.2,  # of the ratio, and of values if they are clipped
    "entropy": 0.01,  # weight of the bonus
    "value": 0.5,  # weight of the loss of values
}


class Batch(NamedTuple):
    """Transitions [N, ...], or of nets with memory [T, E, ...], with what the loss compares."""

    observation: Array
    action: Array
    log_probability: Array  # under the policy that played
    advantage: Array
    target: Array  # of values
    value: Array  # before the update
    begins: Array  # whether a transition is the first one of an episode
    carry: Carry  # [E, ...] before the first transitions

    def of_environments(self, ids: Array) -> "Batch":
        """Return the transitions [T, e, ...] of some environments."""
        chosen = jax.tree.map(lambda a: a[:, ids], self._replace(carry=()))
        return chosen._replace(carry=jax.tree.map(lambda a: a[ids], self.carry))


def make(
    environment: Environment,
    *,
    steps: int = 500_000,
    environments: int = 16,
    length: int = 128,
    epochs: int = 3,
    minibatches: int = 4,
    hidden: Sequence[int] = (32,),
    activation: str = "tanh",
    model: MakeModel | None = None,
    memory: str | None = None,
    clip_values: bool = False,
    clip_norm: float = 0.5,
    anneal: bool = True,
    max_steps: int = evaluation.MAX_STEPS,
) -> Agent:
    """Return the agent.

    Args:
        environment: with discrete or continuous actions.
        steps: environment steps of the whole training.
        environments: E side by side.
        length: T steps of a rollout in each.
        epochs: passes over each rollout.
        minibatches: in each pass.
        hidden: units of the hidden layers of both nets.
        activation: of both nets.
        model: makes both nets instead: (shape of an observation, outputs) -> model.
        memory: a cell by its name in `mllab.models.recurrent.CELLS`, such as "gru", for agents that remember; see
            `recurrent.actor_and_critic` for `hidden` and `model` then. Minibatches are of whole environments.
        clip_values: whether the step of values is clipped as the ratio is.
        clip_norm: greatest norm of a gradient.
        anneal: whether the learning rate falls linearly to 0.
        max_steps: steps after which an episode of evaluation is cut off.

    Raises:
        UserError: sizes that are not whole numbers of 1 or more, or that the minibatches do not divide.
    """
    checks.check_whole(1, environments=environments, length=length, epochs=epochs, minibatches=minibatches)
    count = environments * length
    if memory is None:
        base.check_divides(minibatches, count, "minibatches", "transitions of a rollout")
    else:
        base.check_divides(minibatches, environments, "minibatches", "environments of an agent with memory")
    updates = base.updates_of(steps, count)
    net = recurrent.either(environment, memory=memory, hidden=hidden, activation=activation, model=model)

    def optimizer(rate: Array) -> optimizers.Optimizer:
        return optimizers.build("adam", rate, clip_norm=clip_norm, eps=1e-5)

    def loss(params: Params, batch: Batch, weights: dict[str, Any]) -> Array:
        distribution, value = net.both(params, batch.observation, batch.begins, batch.carry)
        ratio = jnp.exp(net.policy.log_probability(distribution, batch.action) - batch.log_probability)
        advantage = (batch.advantage - batch.advantage.mean()) / (batch.advantage.std() + 1e-8)
        clip = weights["clip"]
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage).mean()
        errors = (value - batch.target) ** 2
        if clip_values:
            near = batch.value + jnp.clip(value - batch.value, -clip, clip)
            errors = jnp.maximum(errors, (near - batch.target) ** 2)
        bonus = net.policy.entropy(distribution).mean()
        return -gain + weights["value"] * 0.5 * errors.mean() - weights["entropy"] * bonus

    def advance(hyper: Hyper, state: State, examples: Examples, rows: Rows) -> tuple[State, Array]:
        del examples
        chosen = base.settings(HYPER, hyper)

        def update(state: State, row: Rows) -> tuple[State, Array]:
            del row
            play_key, shuffle_key = jax.random.split(jax.random.fold_in(state.key, state.step))
            rate = base.annealed(chosen["learning_rate"], state.step, updates if anneal else None)
            worlds, played = rollout.collect(environment, net, state.params, state.extra, play_key, length)
            _, value = net.both(state.params, played.observation, played.begins, played.carry)
            advantage = rollout.advantages(net, state.params, played, value, chosen)
            batch = Batch(
                played.observation,
                played.action,
                net.policy.log_probability(played.outputs, played.action),
                advantage,
                advantage + value,
                value,
                played.begins,
                played.carry,
            )
            if net.memory is None:
                batch = jax.tree.map(lambda a: a.reshape(count, *a.shape[2:]), batch)

            def epoch(carry: Any, key: Key) -> Any:
                order = base.shuffled(key, count if net.memory is None else environments).reshape(minibatches, -1)

                def minibatch(carry: Any, ids: Array) -> Any:
                    params, opt_state = carry
                    whole = net.memory is not None
                    chosen_rows = batch.of_environments(ids) if whole else jax.tree.map(lambda a: a[ids], batch)
                    loss_value, grads = jax.value_and_grad(loss)(params, chosen_rows, chosen)
                    changes, opt_state = optimizer(rate).update(grads, opt_state, params)
                    return (optax.apply_updates(params, changes), opt_state), loss_value

                return jax.lax.scan(minibatch, carry, order)

            keys = jax.random.split(shuffle_key, epochs)
            (params, opt_state), losses = jax.lax.scan(epoch, (state.params, state.optimizer), keys)
            return State(state.step + 1, state.key, params, worlds, opt_state), losses.mean()

        return jax.lax.scan(update, state, rows)

    score = evaluation.score(environment, net.act, lambda state: state.extra.mean_return, max_steps, net.memory)
    size = base.touched(environment, count, count // minibatches, hidden)
    start = rollout.start_of(environment, net, environments, optimizer, HYPER)
    return Agent(Run(start, advance, score), net.act, count, updates, HYPER, size, net.memory)
