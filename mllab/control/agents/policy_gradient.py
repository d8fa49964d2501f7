r"""One gradient step on each rollout: what REINFORCE and advantage actor-critic have in common.

$L(\theta) = -\overline{\hat A \log \pi_\theta(a|o)} + c_v \tfrac12 \overline{(v_\theta(o) - \hat G)^2}
  - c_e \overline{H[\pi_\theta]}$

with advantages $\hat A = \hat G - v(o)$ that are constants of the gradient.
"""

from collections.abc import Sequence
from typing import Any

import jax
import optax

from mllab import checks, optimizers
from mllab.control import evaluation
from mllab.control.agents import base, recurrent, rollout
from mllab.control.agents.base import Agent
from mllab.control.agents.nets import MakeModel, Nets
from mllab.control.agents.rollout import Rollout
from mllab.control.environment import Environment
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Params, Rows

HYPER = {
    "discount": 0.99,
    "trace": 1.0,  # lambda of the advantages: 1 for returns, bootstrapped where an episode is cut off
    "entropy": 0.01,  # weight of the bonus
    "value": 0.5,  # weight of the loss of values
}


def make(
    environment: Environment,
    *,
    steps: int,
    environments: int,
    length: int,
    hidden: Sequence[int],
    activation: str,
    model: MakeModel | None,
    normalise: bool,
    optimizer: str,
    clip_norm: float,
    anneal: bool,
    max_steps: int,
    memory: str | None = None,
) -> Agent:
    """Return the agent.

    Args:
        environment: with discrete or continuous actions.
        steps: environment steps of the whole training.
        environments: E side by side.
        length: T steps of a rollout in each.
        hidden: units of the hidden layers of both nets.
        activation: of both nets.
        model: makes both nets instead: (shape of an observation, outputs) -> model.
        normalise: whether advantages are scaled to mean 0 and standard deviation 1 in each rollout.
        optimizer: a name of `mllab.optimizers.OPTIMIZERS`.
        clip_norm: greatest norm of a gradient.
        anneal: whether the learning rate falls linearly to 0.
        max_steps: steps after which an episode of evaluation is cut off.
        memory: a cell by its name in `mllab.models.recurrent.CELLS`, such as "gru", for agents that remember; see
            `recurrent.actor_and_critic` for `hidden` and `model` then.

    Raises:
        UserError: sizes that are not whole numbers of 1 or more, or an unknown optimizer.
    """
    checks.check_whole(1, environments=environments, length=length)
    count = environments * length
    updates = base.updates_of(steps, count)
    net = recurrent.either(environment, memory=memory, hidden=hidden, activation=activation, model=model)
    options: dict[str, Any] = {"eps": 1e-5} if optimizer in ("adam", "rmsprop") else {}

    def transformation(rate: Array) -> optimizers.Optimizer:
        return optimizers.build(optimizer, rate, clip_norm=clip_norm, **options)

    def advance(hyper: Hyper, state: State, examples: Examples, rows: Rows) -> tuple[State, Array]:
        del examples
        chosen = base.settings(HYPER, hyper)

        def update(state: State, row: Rows) -> tuple[State, Array]:
            del row
            key = jax.random.fold_in(state.key, state.step)
            rate = base.annealed(chosen["learning_rate"], state.step, updates if anneal else None)
            worlds, played = rollout.collect(environment, net, state.params, state.extra, key, length)
            loss, grads = jax.value_and_grad(objective)(state.params, net, played, chosen, normalise)
            changes, opt_state = transformation(rate).update(grads, state.optimizer, state.params)
            params = optax.apply_updates(state.params, changes)
            return State(state.step + 1, state.key, params, worlds, opt_state), loss

        return jax.lax.scan(update, state, rows)

    score = evaluation.score(environment, net.act, lambda state: state.extra.mean_return, max_steps, net.memory)
    size = base.touched(environment, count, count, hidden)
    start = rollout.start_of(environment, net, environments, transformation, HYPER)
    return Agent(Run(start, advance, score), net.act, count, updates, HYPER, size, net.memory)


def objective(params: Params, net: Nets, played: Rollout, settings: dict[str, Any], normalise: bool = False) -> Array:
    """Return the loss of a rollout, whose gradient by params is an estimate of the policy gradient.

    Args:
        params: of both nets.
        net: the nets.
        played: by the policy of these params.
        settings: "discount", "trace", "entropy" and "value"; see `HYPER`.
        normalise: see `make`.
    """
    distribution, values = net.both(params, played.observation, played.begins, played.carry)
    fixed = jax.lax.stop_gradient(values)
    advantages = rollout.advantages(net, jax.lax.stop_gradient(params), played, fixed, settings)
    errors = values - (fixed + advantages)
    if normalise:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    gain = (advantages * net.policy.log_probability(distribution, played.action)).mean()
    bonus = net.policy.entropy(distribution).mean()
    return -gain + settings["value"] * 0.5 * (errors**2).mean() - settings["entropy"] * bonus
