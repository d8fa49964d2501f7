"""Training agents of reinforcement learning: rates chosen on seeds of their own, final policies on fresh episodes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mllab import control_models, devices, memory, metrics, rows, sweep, training
from mllab.control import evaluation
from mllab.control.agents import base
from mllab.control.agents.table import AGENTS
from mllab.control.environment import Discrete, Environment, Step, random_action
from mllab.errors import UserError
from mllab.types import Array, Key, Params

FIRST_TUNING_SEED = 10_000  # seeds that choose a rate begin here; reported ones are 0, 1, ...
SEGMENTS = 20  # scores of the validation episodes over a training


@dataclass(frozen=True)
class Plan:
    """How all agents are trained and judged."""

    environment_name: str
    environment: Environment
    interactions: int  # environment steps of each run, at least
    rates: tuple[float, ...]  # learning rates to choose among, [R]
    seeds: int  # G that are reported
    tuning_seeds: int  # K that choose the rate
    validation_episodes: int
    episodes: int  # fresh ones, played by final policies

    @property
    def examples(self) -> dict[str, np.ndarray]:
        """The episodes of evaluation, those for validation first."""
        return evaluation.episodes(self.validation_episodes + self.episodes)

    @property
    def validation_ids(self) -> np.ndarray:
        """The episodes that are played during training."""
        return np.arange(self.validation_episodes)

    @property
    def fresh_ids(self) -> np.ndarray:
        """The episodes that only final policies play."""
        return self.validation_episodes + np.arange(self.episodes)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An agent for the environment of a plan."""

    name: str
    agent: base.Agent
    options: Mapping[str, Any]  # that its params depend on


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """Runs of an agent with every learning rate (R) and seed (G), at the end of their training."""

    grid: sweep.Grid
    result: training.Result

    @property
    def is_finite(self) -> np.ndarray:
        """Whether each run stayed finite, [R, G]."""
        return self.grid.by_axis(self.result.nonfinite_step) < 0

    @property
    def validation(self) -> np.ndarray:
        """The mean return of the final policy on the validation episodes, [R, G]; NaN of a run that went non-finite."""
        last = self.grid.by_axis(self.result.history.held_out["return"][-1])
        return np.where(self.is_finite, last, np.nan)

    @property
    def seconds(self) -> float:
        """Wall time of all runs, the scores during training included, compiling too."""
        return float(np.nansum(self.result.history.seconds))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """An agent, tuned and trained with the chosen rate."""

    contender: Contender
    tuning: Lanes | None  # None where there is one rate only
    best: int | None  # index of the chosen rate; None where each has a run that went non-finite
    final: Lanes | None  # the reported seeds at that rate
    returns: np.ndarray  # [G] mean return on the fresh episodes; NaN of a run that went non-finite

    @property
    def steps(self) -> np.ndarray:
        """The environment steps before each score, [E]."""
        assert self.final is not None
        return self.final.result.history.step * self.contender.agent.interactions

    def params(self, seed: int) -> Params:
        """Return the params of a reported seed at the end of its training."""
        assert self.final is not None
        lane = jax.tree.map(lambda leaf: np.asarray(leaf[seed]), self.final.result.state.params)
        return jax.tree.map(jnp.asarray, lane)

    @property
    def median_seed(self) -> int:
        """The seed whose return on the validation episodes is the median: a typical run, not the best."""
        assert self.final is not None
        return int(np.argsort(self.final.validation[0], kind="stable")[(len(self.returns) - 1) // 2])


def contenders(
    environment: Environment, interactions: int, names: Sequence[str] | None, options: Mapping[str, Any]
) -> tuple[list[Contender], list[str]]:
    """Return the agents that can act in an environment, and a line for each named one that cannot.

    Args:
        environment: to act in.
        interactions: environment steps of each run, at least.
        names: of agents; None for all that can act.
        options: of the agents, see `control_models.options_of`.

    Raises:
        UserError: none can act.
    """
    able, left_out = [], []
    for name in AGENTS if names is None else names:
        if reason := control_models.unable(name, environment):
            left_out.append(f"{name} is left out: {reason}")
            continue
        taken = control_models.options_of(name, **options)
        able.append(
            Contender(name=name, agent=AGENTS[name].make(environment, steps=interactions, **taken), options=taken)
        )
    if not able:
        raise UserError(f"--agents={','.join(names or ())}: {left_out[0].partition(': ')[2]}; name another agent")
    return able, [] if names is None else left_out


def train(
    plan: Plan, contender: Contender, *, mesh: Mesh, observe: Callable[[str, sweep.Grid, int], list], **drive: Any
) -> Trained:
    """Choose the rate of an agent on the tuning seeds, train the reported seeds with it, and score their last policies.

    Args:
        plan: of all agents.
        contender: the agent.
        mesh: devices to spread the runs over.
        observe: name, grid, updates -> observers of a drive.
        **drive: further arguments of `training.drive`: workdir, checkpoint_seconds.

    Raises:
        UserError: runs that do not fit in memory.
    """
    tuning, best = None, 0
    if len(plan.rates) > 1:
        seeds = range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + plan.tuning_seeds)
        tuning = _lanes(plan, contender, plan.rates, seeds, f"{contender.name}-tuning", mesh, observe, drive)
        mean = tuning.validation.mean(axis=1)
        if np.isnan(mean).all():
            return Trained(
                contender=contender, tuning=tuning, best=None, final=None, returns=np.full(plan.seeds, np.nan)
            )
        best = metrics.greatest(mean)
    final = _lanes(
        plan, contender, plan.rates[best : best + 1], range(plan.seeds), contender.name, mesh, observe, drive
    )
    run = _over_lanes(contender, final.grid, mesh)
    fresh = rows.blocks(plan.fresh_ids, plan.episodes)
    scored = jax.jit(run.score)(final.grid.hyper, final.result.state, plan.examples, fresh)
    returns = np.where(final.is_finite, final.grid.by_axis(scored["return"]), np.nan)[0]
    return Trained(contender=contender, tuning=tuning, best=best, final=final, returns=returns)


def _lanes(
    plan: Plan, contender: Contender, rates: Sequence[float], seeds: Sequence[int], name: str, mesh: Mesh,
    observe: Callable[[str, sweep.Grid, int], list], drive: Mapping[str, Any],
) -> Lanes:  # fmt: skip
    """Train an agent with every rate and seed to the end."""
    grid = sweep.grid({"learning_rate": np.asarray(rates)}, list(seeds))
    agent = contender.agent
    check_memory(agent, len(grid.seed))
    result = training.drive(
        _over_lanes(contender, grid, mesh), grid.hyper, grid.key, plan.examples, base.schedule(agent),
        held_out=plan.validation_ids, segment=-(-agent.updates // SEGMENTS),
        observers=observe(contender.name, grid, agent.updates), name=name,
        fingerprint=f"{contender.name} {plan.environment_name} {plan.interactions} {sorted(contender.options.items())}",
        **drive,
    )  # fmt: skip
    return Lanes(grid=grid, result=result)


def _over_lanes(contender: Contender, grid: sweep.Grid, mesh: Mesh) -> training.Run:
    group = devices.lanes_in_cache(mesh, contender.agent.lane_bytes)
    return sweep.lanes(contender.agent.run, grid.schedule, mesh=mesh, group=group)


def check_memory(agent: base.Agent, lanes: int) -> None:
    """Raise UserError where the runs of an agent do not fit in memory."""
    memory.check(8.0 * agent.updates, f"the schedule of {agent.updates:,} updates", "lower --interactions")
    state = jax.eval_shape(agent.run.start, {"learning_rate": 0.0}, jax.random.key(0))
    remedy = "lower --seeds, --tuning_seeds, --hidden or the number of --learning_rates"
    needed = 3.0 * memory.tree_bytes(state) * lanes  # the kept state and gradients as well
    memory.check(needed, f"the states of {lanes:,} runs", remedy)


def best(trained: Sequence[Trained]) -> Trained | None:
    """Return the agent with the highest interquartile mean on the fresh episodes; None if none has finite runs only."""
    whole = [each for each in trained if np.isfinite(each.returns).all()]
    return max(whole, key=lambda each: float(metrics.interquartile_mean(each.returns)), default=None)


def of_parts(plan: Plan, returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means over the validation and over the fresh episodes, [...] each, of returns [..., N] of all."""
    return returns[..., plan.validation_ids].mean(axis=-1), returns[..., plan.fresh_ids].mean(axis=-1)


def random_returns(plan: Plan) -> np.ndarray:
    """Return the returns of random actions in all episodes, [G, N]: as many repetitions as there are seeds."""
    actions = plan.environment.actions
    none = jnp.zeros((), jnp.int32) if isinstance(actions, Discrete) else jnp.zeros(len(actions.low))

    def repetition(seed: Array) -> Array:
        def step(key: Key, state: Any, action: Array) -> Step:
            del action
            step_key, action_key = jax.random.split(jax.random.fold_in(key, seed))
            return plan.environment.step(step_key, state, random_action(actions, action_key))

        random = plan.environment._replace(step=step)
        return evaluation.totals(random, lambda observation: none, jnp.asarray(plan.examples["episode"])).returns

    return np.asarray(jax.jit(lambda seeds: jax.lax.map(repetition, seeds))(jnp.arange(plan.seeds)))
