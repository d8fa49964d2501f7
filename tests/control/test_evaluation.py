"""Episodes of evaluation against a loop over single steps."""

import jax
import jax.numpy as jnp
import numpy as np

from mllab.control import evaluation
from mllab.control.environments import cartpole
from mllab.types import Rows
from tests.support.mistakes import refused_in_one_line

ENVIRONMENT = cartpole.environment(limit=40)


def upright(observation):
    return (observation[2] + observation[3] > 0).astype(jnp.int32)


def to_the_left(observation):
    return jnp.zeros((), jnp.int32)


def test_totals_and_trajectories_are_those_of_a_loop_over_single_steps():
    numbers, lengths = np.array([3, 0, 5]), []
    step = jax.jit(ENVIRONMENT.step)
    starts = jax.jit(jax.vmap(lambda key: ENVIRONMENT.reset(jax.random.split(key)[0])[0]))(evaluation.keys(numbers))
    for episode in range(3):
        state, ended = jax.tree.map(lambda leaf, episode=episode: np.asarray(leaf)[episode], starts), False
        lengths.append(0)
        while not ended:
            after = step(jax.random.key(0), state, np.int32(0))
            state, ended = after.state, after.terminated or after.truncated
            lengths[-1] += 1
    played = jax.jit(lambda ids: evaluation.totals(ENVIRONMENT, to_the_left, ids))(numbers)
    np.testing.assert_array_equal(played.lengths, lengths)
    np.testing.assert_array_equal(played.returns, lengths)
    seen = evaluation.play(ENVIRONMENT, to_the_left, numbers, steps=12)
    np.testing.assert_array_equal(seen.alive.sum(axis=1), lengths)
    np.testing.assert_array_equal(seen.rewards.sum(axis=1), lengths)


def test_a_score_is_the_weighted_mean_over_the_episodes_of_its_rows():
    score = evaluation.score(ENVIRONMENT, lambda params, seen, key: upright(seen), lambda state: jnp.zeros(()), 30)
    rows = Rows(np.array([[7, 7], [2, 2]], np.int32), np.array([[1, 1], [2, 0]], np.float32))
    state = type("State", (), {"params": None})
    metrics = jax.jit(lambda: score({}, state, evaluation.episodes(8), rows))()
    assert metrics["length"] == metrics["return"] == -metrics["loss"] == 30  # cut off before the limit


def test_mistakes_are_refused():
    with refused_in_one_line("episodes = 0"):
        evaluation.episodes(0)
    with refused_in_one_line("episodes = 0: expected 1 or more"):
        evaluation.play(ENVIRONMENT, to_the_left, [], steps=3)
    with refused_in_one_line("action = 2: expected 0 to 1"):
        evaluation.play(ENVIRONMENT, lambda observation: jnp.full((), 2), [0], steps=3)
