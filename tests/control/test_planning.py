"""Value iteration and evaluation against NumPy's linear solver, a textbook's figures, and brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab.control import planning
from mllab.control.environments import gridworld
from support.mistakes import refused_in_one_line


def problem(seed=0, states=5, actions=3):
    generator = np.random.default_rng(seed)
    transitions = generator.dirichlet(np.ones(states), (states, actions)).astype(np.float32)
    rewards = generator.normal(size=(states, actions)).astype(np.float32)
    return planning.Process(jnp.asarray(transitions), jnp.asarray(rewards), jnp.arange(states) == states - 1)


def solved(process, policy, discount):
    """Return the values of action probabilities [S, A], by solving (I - discount P) v = r."""
    transitions, rewards = np.einsum("sa,sat->st", policy, process.transitions), (policy * process.rewards).sum(-1)
    alive = ~np.asarray(process.terminal)
    values = np.zeros(len(rewards))
    matrix = np.eye(alive.sum()) - discount * transitions[np.ix_(alive, alive)]
    values[alive] = np.linalg.solve(matrix, rewards[alive])
    return values


def test_the_values_of_a_policy_are_those_of_the_linear_system():
    process = problem()
    policy = np.random.default_rng(1).dirichlet(np.ones(3), 5).astype(np.float32)
    plan = planning.evaluate(process, jnp.asarray(policy), 0.9)
    np.testing.assert_allclose(plan.values, solved(process, policy, 0.9), rtol=1e-4, atol=2e-5)
    assert plan.change <= 1e-6 * max(1, abs(np.asarray(plan.values)).max())
    actions = np.array([2, 0, 1, 1, 0], np.int32)
    np.testing.assert_allclose(
        planning.evaluate(process, jnp.asarray(actions), 0.9).values,
        solved(process, np.eye(3)[actions], 0.9),
        rtol=1e-4,
        atol=2e-5,
    )


def test_value_iteration_is_as_good_as_the_best_of_all_policies():
    process = problem(2)
    plan = planning.value_iteration(process, 0.8)
    policies = (np.eye(3)[[*choice, 0]] for choice in itertools.product(range(3), repeat=4))
    best = np.max([solved(process, policy, 0.8) for policy in policies], 0)
    np.testing.assert_allclose(plan.values, best, rtol=1e-4, atol=2e-5)
    greedy = planning.greedy(plan.action_values)
    np.testing.assert_allclose(solved(process, np.eye(3)[np.asarray(greedy)], 0.8), best, rtol=1e-5, atol=1e-6)
    assert plan.values[-1] == 0
    np.testing.assert_array_equal(plan.action_values[-1], 0)


def test_the_four_by_three_world_has_the_utilities_of_the_textbook():
    process = gridworld.process(gridworld.FOUR_BY_THREE, slip=0.2, step_reward=-0.04)
    plan = planning.value_iteration(process, 1.0)
    utilities = np.array(plan.values).reshape(3, 4).round(3)
    expected = [[0.812, 0.868, 0.918, 0], [0.762, 0, 0.660, 0], [0.705, 0.655, 0.611, 0.388]]
    np.testing.assert_allclose(utilities, expected, atol=1e-3)
    arrows = np.array(list("^>v<"))[np.asarray(planning.greedy(plan.action_values))].reshape(3, 4)
    assert ["".join(row) for row in arrows[[0, 2]]] == [">>>^", "^<<<"]
    assert (arrows[1, 0], arrows[1, 2]) == ("^", "^")


def test_action_values_look_one_step_ahead_and_ignore_values_of_terminal_states():
    process, values = problem(), np.arange(1.0, 6.0, dtype=np.float32)
    expected = process.rewards + 0.9 * np.asarray(process.transitions) @ (values * [1, 1, 1, 1, 0])
    table = planning.action_values(process, jnp.asarray(values), 0.9)
    np.testing.assert_allclose(table[:-1], expected[:-1], rtol=1e-5)
    np.testing.assert_array_equal(table[-1], 0)


def test_many_discounts_are_planned_in_one_program_for_all_platforms():
    process = problem()
    discounts = jnp.array([0.0, 0.5, 0.9])
    plans = jax.vmap(lambda discount: planning.value_iteration(process, discount))(discounts)
    np.testing.assert_allclose(plans.values[0, :-1], process.rewards[:-1].max(-1), rtol=1e-6)
    np.testing.assert_allclose(plans.values[1], planning.value_iteration(process, 0.5).values, atol=2e-6)
    planned = jax.jit(planning.value_iteration)
    platforms = ("cpu", "cuda", "tpu")
    assert jax.export.export(planned, platforms=platforms)(process, 0.9).platforms == platforms


def test_a_policy_that_never_ends_stops_at_the_limit_of_sweeps():
    process = planning.Process(jnp.eye(2)[:, None], -jnp.ones((2, 1)), jnp.array([False, True]))
    plan = planning.evaluate(process, jnp.zeros(2, jnp.int32), 1.0, max_sweeps=7)
    assert (plan.sweeps, plan.change) == (7, 1)
    assert plan.values.tolist() == [-7, 0]


def test_ties_are_several_best_actions():
    table = jnp.array([[1.0, 1.0, 0.5], [0.0, 2.0, 1.0]])
    assert planning.best_actions(table).tolist() == [[True, True, False], [False, True, False]]
    assert planning.greedy(table).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"transitions": jnp.ones((5, 3, 5))}, r"transitions\[0, 0\]: expected probabilities"),
        ({"transitions": jnp.ones((5, 2, 5))}, r"transitions: shape \[5, 2, 5\]"),
        ({"rewards": jnp.full((5, 3), jnp.nan)}, "rewards: row 0, column 0 is nan"),
        ({"terminal": jnp.zeros(4, bool)}, r"terminal: shape \[4\]"),
    ],
)
def test_mistakes_are_refused(change, pattern):
    with refused_in_one_line(pattern):
        planning.value_iteration(problem()._replace(**change), 0.9)


def test_mistakes_of_a_call_are_refused():
    with refused_in_one_line("discount = 1.1"):
        planning.value_iteration(problem(), 1.1)
    with refused_in_one_line(r"policy: shape \[4\]"):
        planning.evaluate(problem(), jnp.zeros(4, jnp.int32), 0.9)
    with refused_in_one_line("max_sweeps = 0"):
        planning.value_iteration(problem(), 0.9, max_sweeps=0)
    with refused_in_one_line("policy: expected actions from 0 to 2"):
        planning.evaluate(problem(), jnp.array([0, 5, 0, 0, 0]), 0.9)
    with refused_in_one_line(r"policy\[0\]"):
        planning.evaluate(problem(), jnp.ones((5, 3)), 0.9)
