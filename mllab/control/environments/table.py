"""The table of environments: a row each."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mllab.control.environment import Environment
from mllab.control.environments import acrobot, bandit, cartpole, catch, gridworld, mountain_car, pendulum
from mllab.control.planning import Process
from mllab.control.scene import Scene


class Entry(NamedTuple):
    """How an environment is made and drawn."""

    make: Callable[..., Environment]
    help: str
    scene: Callable[..., Scene]  # state, and cells or means if not the default -> shapes
    process: Callable[..., Process] | None = None  # exact transitions, of make's arguments, where they are few


ENVIRONMENTS: Mapping[str, Entry] = {
    "cartpole": Entry(cartpole.environment, "keep a pole upright on a cart", cartpole.scene),
    "acrobot": Entry(acrobot.environment, "swing up two links by the joint between them", acrobot.scene),
    "mountain_car": Entry(mountain_car.environment, "drive a weak car out of a valley", mountain_car.scene),
    "pendulum": Entry(pendulum.environment, "swing up a pendulum by a torque (a continuous action)", pendulum.scene),
    "catch": Entry(catch.environment, "catch a falling ball on a board of pixels", catch.scene),
    "gridworld": Entry(gridworld.environment, "walk a slippery map to its goal", gridworld.scene, gridworld.process),
    "bandit": Entry(bandit.environment, "find the best of ten arms", bandit.scene),
}
