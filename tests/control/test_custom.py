"""A user's own environment is checked before anything learns from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.control import custom
from mllab.control.environment import Continuous, Discrete, Limited, Step, step_and_reset
from support.mistakes import refused_in_one_line

CORRIDOR = 4


def reset(key):
    del key
    return {"place": 0, "fuel": jnp.ones(2)}, jnp.zeros(3)


def step(key, state, action):
    del key
    place = jnp.maximum(state["place"] + 2 * action - 1, 0)
    done = place >= CORRIDOR
    observation = jnp.stack([place, action, jnp.sum(state["fuel"])]).astype(jnp.float32)
    return {"place": place, "fuel": state["fuel"]}, observation, jnp.where(done, 1, 0), done, False


def test_two_functions_of_python_numbers_make_an_environment():
    environment = custom.make(reset, step, Discrete(2), limit=6, name="corridor")
    assert (environment.name, environment.observation, environment.actions) == ("corridor", (3,), Discrete(2))

    def walk(key, actions):
        first = environment.reset(key)[0]
        return jax.lax.scan(lambda state, act: step_and_reset(environment, key, state, act)[:1] * 2, first, actions)

    last, states = jax.jit(walk)(jax.random.key(0), jnp.array([1, 1, 0, 1, 1, 1, 1]))
    assert states.inner["place"].tolist() == [1, 2, 1, 2, 3, 0, 1]  # the fourth place or the sixth step is the end
    assert states.time.tolist() == [1, 2, 3, 4, 5, 0, 1]
    assert isinstance(last, Limited)
    result = environment.step(jax.random.key(0), environment.reset(jax.random.key(0))[0], 1)
    assert isinstance(result, Step)
    assert result.reward.dtype == result.observation.dtype == jnp.float32
    assert result.terminated.dtype == result.truncated.dtype == bool
    with refused_in_one_line("action = 2: expected 0 to 1"):
        environment.step(jax.random.key(0), environment.reset(jax.random.key(0))[0], 2)


def test_continuous_actions_are_cut_off_at_their_bounds():
    def pushed(key, state, action):
        return state, state, action[0] + 10 * action[1], jnp.bool_(False), jnp.bool_(False)

    environment = custom.make(lambda key: (jnp.zeros(1),) * 2, pushed, Continuous((-1.0, 0.0), (1.0, 2.0)))
    taken = jax.jit(environment.step)(jax.random.key(0), jnp.zeros(1), jnp.array([-3.0, 5.0]))
    assert taken.reward == 19


def test_integer_observations_become_floats_and_one_hot_ones_are_checked():
    def place(key, state, action):
        return action, jnp.arange(3) == action, 0.0, jnp.bool_(True), jnp.bool_(False)

    environment = custom.make(lambda key: (jnp.int32(0), jnp.arange(3) == 0), place, Discrete(3), states=3)
    assert environment.reset(jax.random.key(0))[1].dtype == jnp.float32
    with refused_in_one_line("states = 3: an observation is not a one-hot vector"):
        custom.make(lambda key: (jnp.int32(0), jnp.arange(3) >= 0), place, Discrete(3), states=3)
    with refused_in_one_line(r"states = 4: expected observations \[4\]"):
        custom.make(lambda key: (jnp.int32(0), jnp.arange(3) == 0), place, Discrete(3), states=4)


def altered(**entries):
    """Return `step` with other entries of its result, functions of those that it returns."""

    def other(key, state, action):
        result = Step(*step(key, state, action))
        return result._replace(**{name: change(result) for name, change in entries.items()})

    return other


@pytest.mark.parametrize(
    ("other", "pattern"),
    [
        (altered(observation=lambda result: result.observation[:2]), r"observation is float32 \[2\], but .* \[3\]"),
        (altered(state=lambda result: {"place": 0}), "step: state is dict.*but.*after reset"),
        (altered(state=lambda result: result.state | {"place": 1.0}), r"\['place'\] is float32 .*, but int32"),
        (altered(reward=lambda result: jnp.ones(2)), r"reward is float32 \[2\], expected a number, of shape \[\]"),
        (altered(reward=lambda result: "high"), r"step: result\.reward is str, expected arrays and numbers"),
        (altered(terminated=lambda result: 1.0), r"terminated is float32 \[\], expected a bool"),
        (altered(reward=lambda result: result.reward / result.state["place"]), r"the reward is not finite: (nan|inf)"),
        (altered(observation=lambda result: jnp.log(result.observation - 1)), "the observation is not finite"),
        (lambda key, state, action: step(key, state, action)[:4], r"step: it returns \(.*expected \(state, "),
        (lambda state, action: None, r"expected a function that is called as step\(key, state, action\)"),
        (lambda key, state, action: 1 if action > 0 else 0, "step: JAX cannot trace it"),
        (lambda key, state, action: np.asarray(action), "step: JAX cannot trace it"),
    ],
)  # fmt: skip
def test_mistakes_of_a_step_are_refused(other, pattern):
    with refused_in_one_line(pattern):
        custom.make(reset, other, Discrete(2))


def test_mistakes_of_a_reset_are_refused():
    with refused_in_one_line("reset: an observation is not finite"):
        custom.make(lambda key: (reset(key)[0], jnp.full(3, jnp.nan)), step, Discrete(2))
    with refused_in_one_line(r"reset: observation is dict, expected one array of numbers"):
        custom.make(lambda key: (reset(key)[0], {"sight": jnp.zeros(3)}), step, Discrete(2))
    with refused_in_one_line(r"reset: it returns float32 \[3\]"):
        custom.make(lambda key: jnp.zeros(3), step, Discrete(2))
    with refused_in_one_line(r"called as reset\(key\)"):
        custom.make(lambda: None, step, Discrete(2))


def test_mistakes_of_actions_and_bounds_are_refused():
    for actions, pattern in (
        (2, r"actions: int, expected Discrete\(size\) or Continuous"),
        (Discrete(0), "actions = 0"),
        (Continuous((0.0,), (0.0, 1.0)), "1 lowest and 2 highest"),
        (Continuous((0.0,), (float("inf"),)), "entry 0 is from 0.0 to inf"),
    ):
        with refused_in_one_line(pattern):
            custom.make(reset, step, actions)
    with refused_in_one_line(r"bounds: of 2 entries, but an observation has shape \[3\]"):
        custom.make(reset, step, Discrete(2), bounds=((0.0, 0.0), (1.0, 1.0)))
    with refused_in_one_line("limit = 0"):
        custom.make(reset, step, Discrete(2), limit=0)
