"""The adapter, on a class of the shape that gymnax's environments have."""

import dataclasses
from types import SimpleNamespace

import flax.struct
import jax
import jax.numpy as jnp

from mllab.control import gymnax
from mllab.control.environment import Continuous, Discrete
from support.mistakes import refused_in_one_line


@flax.struct.dataclass
class Params:
    goal: float = 3.0
    max_steps_in_episode: int = 5


@flax.struct.dataclass
class State:
    place: jax.Array
    time: int


class Walk:
    """Walk along a line to a goal; `done` does not say which of the two ends an episode had."""

    name = "Walk-misc"
    space = SimpleNamespace(n=2)

    @property
    def default_params(self):
        return Params()

    def action_space(self, params):
        return self.space

    def reset_env(self, key, params):
        state = State(jnp.zeros(()), 0)
        return jnp.zeros(1), state

    def step_env(self, key, state, action, params):
        place = state.place + 2 * jnp.asarray(action, jnp.float32) - 1
        state = State(place, state.time + 1)
        done = (place >= params.goal) | (state.time >= params.max_steps_in_episode)
        return place[None], state, place, done, {"discount": 1.0 - done}


def walked(environment, actions):
    state, _ = environment.reset(jax.random.key(0))

    def step(state, action):
        result = environment.step(jax.random.key(0), state, action)
        return result.state, (result.reward, result.terminated, result.truncated)

    return [array.tolist() for array in jax.jit(lambda actions: jax.lax.scan(step, state, actions)[1])(actions)]


def test_an_end_by_time_is_a_truncation_and_one_by_the_goal_a_termination():
    environment = gymnax.adapter(Walk())
    assert (environment.name, environment.actions, environment.observation) == ("Walk-misc", Discrete(2), (1,))
    rewards, terminated, truncated = walked(environment, jnp.array([1, 0, 1, 0, 1]))
    assert rewards == [1, 0, 1, 0, 1]
    assert terminated == [False] * 5
    assert truncated == [False] * 4 + [True]
    rewards, terminated, truncated = walked(environment, jnp.array([1, 1, 1]))
    assert terminated == [False, False, True]
    assert truncated == [False] * 3


def test_params_and_limit_are_the_users():
    _, terminated, truncated = walked(gymnax.adapter(Walk(), Params(goal=9.0), limit=7), jnp.ones(9, jnp.int32))
    assert terminated == [False] * 8 + [True]
    assert truncated == [False] * 6 + [True] * 3


def test_params_without_a_limit_have_none():
    @dataclasses.dataclass
    class Endless:
        goal: float = 50.0

    class Unlimited(Walk):
        default_params = Endless()

        def step_env(self, key, state, action, params):
            return super().step_env(key, state, action, Params(params.goal, gymnax.NEVER))

    _, terminated, truncated = walked(gymnax.adapter(Unlimited()), jnp.ones(50, jnp.int32))
    assert terminated == [False] * 49 + [True]
    assert not any(truncated)


def test_a_box_of_actions_is_continuous():
    class Smooth(Walk):
        space = SimpleNamespace(low=-1.0, high=jnp.ones(()), shape=())

        def step_env(self, key, state, action, params):
            assert action.shape == ()
            return super().step_env(key, state, action, params)

    environment = gymnax.adapter(Smooth())
    assert environment.actions == Continuous((-1.0,), (1.0,))
    rewards, _, _ = walked(environment, jnp.array([[0.75], [2.0]]))
    assert rewards == [0.5, 1.5]


def test_mistakes_are_refused():
    with refused_in_one_line("SimpleNamespace: no reset_env and no step_env and no action_space"):
        gymnax.adapter(SimpleNamespace())

    class Odd(Walk):
        space = SimpleNamespace(spaces=())

    with refused_in_one_line("Walk-misc: actions of a SimpleNamespace, expected a Discrete or a Box"):
        gymnax.adapter(Odd())
