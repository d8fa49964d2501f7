"""One episode as a moving picture: the scenes of an environment's states as bodies in motion."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame
from mllab.control import evaluation
from mllab.control.agents.base import Agent
from mllab.control.environment import Environment
from mllab.control.scene import Circle, Line, Polygon, Rectangle, Scene
from mllab.report import draw
from mllab.report.table import short
from mllab.types import Array, Params


@dataclass(frozen=True)
class Rollout:
    """An episode of a trained agent."""

    agent: str
    seed: int | None  # of its training
    episode: int  # its number
    value: float  # its return
    picture: draw.Animation | None = frame.unsaved()  # None of an episode of one step, in which nothing moves


def returns(agent: Agent, environment: Environment, params: Params, numbers: np.ndarray) -> evaluation.Played:
    """Return the totals [N] of episodes that an agent plays without exploration."""

    @jax.jit
    def played(params: Params) -> evaluation.Played:
        ids = jnp.asarray(numbers)
        return evaluation.totals(environment, lambda observation: agent.act(params, observation, None), ids)

    return jax.tree.map(np.asarray, played(params))


def median_episode(
    agent: Agent, environment: Environment, params: Params, numbers: np.ndarray, *, name: str,
    scene: Callable[[Any], Scene], seed: int | None = None, totals: evaluation.Played | None = None,
) -> Rollout:  # fmt: skip
    """Return the episode whose return is the median of those that an agent plays: a typical one.

    Args:
        agent: the agent.
        environment: of the agent.
        params: of the agent.
        numbers: of the episodes to choose among, [N].
        name: of the agent.
        scene: state -> shapes.
        seed: of its training, where that is known.
        totals: of the episodes, where they were played before.
    """
    totals = totals or returns(agent, environment, params, numbers)
    place = int(np.argsort(totals.returns, kind="stable")[(len(numbers) - 1) // 2])
    value, length = float(totals.returns[place]), int(totals.lengths[place])
    picture = None
    if length > 1:
        which = name if seed is None else f"{name}, seed {seed}"
        title = f"{which}: an episode with a return of {short(value, 4)}"
        note = f"The median of {len(numbers):,} episodes." if len(numbers) > 1 else ""
        picture = episode_picture(agent, environment, params, int(numbers[place]), length, scene, title, [note])
    return Rollout(name, seed, int(numbers[place]), value, picture)


def episode_picture(
    agent: Agent, environment: Environment, params: Params, number: int, length: int, scene: Callable[[Any], Scene],
    title: str, notes: Sequence[str] = (),
) -> draw.Animation:  # fmt: skip
    """Return the moving picture of the episode of this number and length."""

    def act(observation: Array) -> Array:
        return agent.act(params, observation, None)

    trajectory = evaluation.play(environment, act, [number], length + 1)
    states, rewards = jax.tree.map(lambda leaf: np.asarray(leaf[0]), (trajectory.states, trajectory.rewards))
    return moving_picture(scene, states, rewards[:length], title=title, notes=notes)


def moving_picture(
    scene: Callable[[Any], Scene], states: Any, rewards: np.ndarray, *, title: str, notes: Sequence[str] = ()
) -> draw.Animation:
    """Return the animation of an episode.

    Args:
        scene: state -> shapes; the same number and kinds of shapes at every step, each rigid.
        states: acted in, and the last one reached, a tree of arrays [T + 1, ...].
        rewards: [T].
        title: the message.
        notes: further sentences for the foot.
    """
    hosted = jax.tree.map(np.asarray, states)
    scenes = [scene(jax.tree.map(lambda leaf, step=step: leaf[step], hosted)) for step in range(len(rewards) + 1)]
    bodies = [_body(shapes) for shapes in zip(*(each.shapes for each in scenes), strict=True)]
    view = scenes[0].view
    return draw.animation(
        bodies, draw.View(view.left, view.bottom, view.right, view.top), np.cumsum([0.0, *rewards]), title=title,
        line_label="rewards so far",
        notes=["The start, and faintly later moments. On a screen it moves; it rests under the pointer.", *notes],
    )  # fmt: skip


def _body(shapes: Sequence[Line | Circle | Rectangle | Polygon]) -> draw.Body:
    """Return the body whose shape at each step is given."""
    first = shapes[0]
    if isinstance(first, Line):
        ends = np.array([(each.start, each.end) for each in shapes])  # type: ignore[union-attr]
        along = ends[:, 1] - ends[:, 0]
        angles = np.unwrap(np.arctan2(along[:, 1], along[:, 0]))
        outline = [(0.0, 0.0), (math.hypot(*along[0]), 0.0)]
        poses = np.column_stack([ends[:, 0], angles])
        return draw.Body(np.array(outline), first.role, _still(poses), width=first.width, filled=False)
    if isinstance(first, Polygon):
        points = np.array([each.points for each in shapes])  # type: ignore[union-attr]
        poses = np.column_stack([points[:, 0], np.zeros(len(points))])
        return draw.Body(points[0] - points[0, 0], first.role, _still(poses), filled=first.filled)
    centres = np.array([each.centre for each in shapes])  # type: ignore[union-attr]
    poses = _still(np.column_stack([centres, np.zeros(len(centres))]))
    if isinstance(first, Circle):
        return draw.Body(np.zeros((1, 2)), first.role, poses, radius=first.radius)
    half = np.array([first.width, first.height]) / 2
    return draw.Body(half * [(-1, -1), (1, -1), (1, 1), (-1, 1)], first.role, poses)


def _still(poses: np.ndarray) -> np.ndarray:
    """Return poses [T, 3], or the first alone of a body that never moves."""
    return poses[:1] if np.all(poses == poses[0]) else poses
