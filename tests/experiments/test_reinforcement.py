"""Agents over seeds: ranks, ties and failures in words, the lesson against its own arithmetic, whole runs, play."""

import dataclasses
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import agent_results, agent_rollout, play, q_learning_lesson, q_learning_results, reinforcement
from experiments import agent_training as training
from experiments.agent_results import AgentScores, Measurement, Returns
from mllab import control_models, devices
from mllab.control import evaluation, planning
from mllab.control.agents import q_learning
from mllab.control.environments.table import ENVIRONMENTS
from mllab.errors import UserError
from mllab.metrics import Interval
from support.mistakes import refused_in_one_line
from support.workdirs import bits, kill, program, records_of

TINY = {
    "environment": "gridworld", "agents": ("q_learning",), "interactions": 3000, "seeds": 3, "tuning_seeds": 2,
    "learning_rates": (0.01, 0.3), "episodes": 4, "validation_episodes": 2, "devices": 2,
}  # fmt: skip


# ── Words ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def measurement(random=(20.0, 21.0, 19.0, 22.0), **returns):
    agents = [
        AgentScores(
            agent=name, returns=Returns.of(name, np.array(values, float)), learning_rate=0.01, interactions=2000,
            nonfinite={"tuning": 0, "reported": int(np.isnan(values).sum())}, validation_by_rate=None, seconds=1.0,
            step=np.array([1000, 2000]), curve=np.zeros((2, 3)),
        )
        for name, values in returns.items()
    ]  # fmt: skip
    return Measurement(
        environment="cartpole", task="keep a pole upright", seeds=len(random), tuning_seeds=2, validation_episodes=2,
        episodes=5, rates=(0.01,), agents=agent_results.ranked(agents),
        random=Returns.of(agent_results.RANDOM, np.array(random)), optimum=None, left_out=[], rollout=None, lesson=None,
    )  # fmt: skip


def test_the_winner_has_the_highest_interquartile_mean_and_ties_are_named():
    measured = measurement(dqn=[300, 310, 290, 305], ppo=[500, 500, 400, 10], reinforce=[498, 499, 500, 500])
    text = agent_results.answer(measured)
    assert text.startswith("reinforce returns 500 in cartpole (95% interval")
    assert "reinforce and ppo are tied: none is clearly below reinforce." in text
    assert "random actions: 20.5" in text
    assert [each.agent for each in measured.tied] == ["reinforce", "ppo"]
    table = agent_results.result_table(measured)
    assert [row[0] for row in table.rows] == ["reinforce", "ppo", "dqn", "random actions"]
    assert table.marked == {0, 1}
    assert table.rows[2][5] == "100% (100–100%)"


def test_an_honest_failure_reads_as_one():
    failed = [-200.0] * 4
    measured = measurement(random=failed, ppo=failed, q_learning=failed)
    text = agent_results.answer(measured)
    assert text.startswith("No better than random actions: ppo returns −200 in cartpole")
    assert "q_learning is no better than random actions" in text
    assert "ppo failed: no better than random actions, an IQM of −200 against −200" in agent_results.remarks(measured)
    solved = measurement(random=failed, ppo=failed, q_learning=[-130, -140, -120, -150])
    text = agent_results.answer(solved)
    assert text.startswith("q_learning returns −135")
    assert text.endswith("ppo is no better than random actions.")
    assert agent_results.bounds(Interval(-135.0, -147.0, -123.0, 4)) == "−147 to −123"
    assert agent_results.bounds(Interval(0.0, -0.123, 0.45, 4)) == "−0.123 to 0.450"
    assert agent_results.middle(Interval(0.0, 0.0, 0.0, 4)) == "0"


def test_an_agent_with_a_run_that_went_nonfinite_cannot_win_and_is_named():
    measured = measurement(ppo=[500, math.nan, 500, 500], dqn=[100, 110, 90, 105])
    assert agent_results.answer(measured).startswith("dqn returns")
    assert "ppo: 1 reported run went non-finite" in agent_results.remarks(measured)
    assert agent_results.result_table(measured).rows[1][2] == "—"
    nothing = measurement(ppo=[math.nan] * 4)
    assert "try smaller rates" in agent_results.answer(nothing)
    assert agent_results.sections(nothing)


def test_one_seed_compares_nothing():
    measured = measurement(random=(20.0,), ppo=[500.0], dqn=[100.0])
    text = agent_results.answer(measured)
    assert "(on 5 fresh episodes (1 seed))" not in text
    assert "(1 seed)" in text
    assert "tied" not in text
    assert "interval" not in text
    table = agent_results.result_table(measured)
    assert not table.marked
    assert {row[5] for row in table.rows} == {"—"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"environment": "pendulum"}, "--agents=q_learning: .*continuous.*; name another agent"),
        ({"environment": "cartpol"}, "did you mean 'cartpole'"),
        ({"agents": ("pppo",)}, "did you mean 'ppo'"),
        ({"episodes": 0}, "--episodes=0"),
        ({"seeds": 0}, "--seeds=0"),
        ({"learning_rates": (0.0,)}, "--learning_rates=0"),
        ({"agents": ("dqn",), "hidden": (10_000,) * 9, "seeds": 9999}, "the states of 20 runs|of memory are free"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_mistakes_end_in_one_line_and_leave_nothing(settings, message, tmp_path):
    with refused_in_one_line(message):
        reinforcement.run(workdir=str(tmp_path / "w"), **{**TINY, **settings})
    assert not (tmp_path / "w").exists()


def test_agents_that_cannot_act_are_left_out_with_a_line():
    pendulum = ENVIRONMENTS["pendulum"].make()
    able, left_out = training.contenders(pendulum, 1000, ("dqn", "ppo"), {"hidden": (3,), "activation": "relu"})
    assert [each.name for each in able] == ["ppo"]
    assert able[0].options == {"hidden": (3,), "activation": "relu"}
    assert len(left_out) == 1
    assert left_out[0].startswith("dqn is left out: ")


# ── The lesson ──────────────────────────────────────────────────────────────────────────────────────────────────────


def plan_of(name, interactions, seeds=2):
    environment = ENVIRONMENTS[name].make()
    return training.Plan(name, environment, interactions, (0.2,), seeds, 2, validation_episodes=2, episodes=3)


@pytest.fixture(scope="module")
def watched():
    """Two updates of Q-learning in the gridworld: plan, its optimum, interactions."""
    plan = plan_of("gridworld", 2000)
    return plan, q_learning_lesson.process_of("gridworld", 0.99), q_learning_lesson.watch(plan, 0.2)


def test_the_five_steps_are_those_of_q_learning(watched):
    _, process, seen = watched
    values = np.zeros(process.optimum.shape)
    for place in range(len(seen.state)):
        state, action, reached = seen.state[place], seen.action[place], seen.reached[place]
        assert seen.explored[place] or values[state, action] == values[state].max()
        assert seen.before[place] == np.float32(values[state, action])
        best = values[reached].max() if process.acting[reached] else 0.0
        np.testing.assert_allclose(seen.best_next[place], best, rtol=1e-6, atol=1e-7)
        target = seen.reward[place] + 0.99 * best
        values[state, action] += seen.rate[place] * (target - values[state, action])
        np.testing.assert_allclose(seen.after[place], values[state, action], rtol=1e-4, atol=1e-6)
        values[state, action] = seen.after[place]
        if not seen.ended[place] and place + 1 < len(seen.state):
            assert seen.state[place + 1] == reached
    np.testing.assert_array_equal(q_learning_lesson.values_after(seen, len(seen.state), process), values)
    np.testing.assert_allclose(np.unique(seen.rate), [0.1, 0.2])  # annealed over two updates


@pytest.mark.slow
def test_what_is_watched_is_the_training_of_the_agent(watched):
    plan, process, seen = watched
    agent = q_learning.make(plan.environment, steps=2000)
    hyper = {"learning_rate": np.float64(0.2)}
    rows = SimpleNamespace(ids=np.zeros((2, 1), np.int32), weight=np.ones((2, 1), np.float32))
    state = agent.run.start(hyper, jax.random.key(0))
    state, _ = jax.jit(agent.run.advance)(hyper, state, plan.examples, training.rows.Rows(rows.ids, rows.weight))
    np.testing.assert_allclose(
        state.params.q, q_learning_lesson.values_after(seen, len(seen.state), process), rtol=1e-5, atol=1e-6
    )


def test_a_lesson_names_its_steps_and_measures_the_distance(watched):
    plan, process, seen = watched
    lesson = q_learning_lesson.lesson(plan, process, seen, rate=0.2, discount=0.99)
    assert lesson.episodes == seen.ended.sum()
    assert [each.episodes for each in lesson.moments][:2] == [0, 1]
    first, last = lesson.watched
    assert (first.first, last.last) == (1, lesson.episodes)
    assert first.steps[0].state == "row 1, column 1"
    table = q_learning_results.steps(first, lesson)
    assert tuple(table.columns[1:]) == q_learning_results.LECTURE
    assert table.rows[0][1:3] == ["row 1, column 1", "up (best known)"]
    assert table.rows[0][5] == "Q = 0 + 0.2 · (−0.02 + 0.99 · 0 − 0) = −0.004"
    distance = np.sqrt((process.optimum[process.acting] ** 2).mean())
    assert abs(lesson.distances["all actions"][0] - distance) < 0.2
    perfect = seen._replace(after=process.optimum[seen.state, seen.action].astype(np.float32))
    start = q_learning_lesson.lesson(plan, process, perfect, rate=0.2, discount=0.99).distances["the start's value"]
    assert start[-1] < 1e-6


def test_the_optimum_of_the_gridworld_is_that_of_value_iteration_and_of_the_bandit_its_means():
    process = q_learning_lesson.process_of("gridworld", 0.99)
    expected = planning.value_iteration(ENVIRONMENTS["gridworld"].process(), 0.99).action_values
    np.testing.assert_array_equal(process.optimum, expected)
    assert len(process.states) == len(process.acting) == len(expected)
    bandit = q_learning_lesson.process_of("bandit", 0.99)
    assert bandit.actions[int(bandit.optimum.argmax())] == "arm 3"
    assert q_learning_lesson.process_of("cartpole", 0.99) is None


# ── Whole runs ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of Q-learning in the gridworld: workdir and measurement."""
    workdir = tmp_path_factory.mktemp("trained") / "w"
    return workdir, reinforcement.run(workdir=str(workdir), **TINY)


@pytest.mark.slow
def test_it_tunes_on_seeds_of_their_own_and_scores_the_last_policies_on_fresh_episodes(trained):
    workdir, measured = trained
    records = records_of(workdir)
    tuning = {each["seed"] for each in records if each["seed"] >= training.FIRST_TUNING_SEED}
    reported = {each["seed"] for each in records} - tuning
    assert (len(tuning), reported) == (2, {0, 1, 2})
    assert {each["learning_rate"] for each in records if each["seed"] in reported} == {measured.agents[0].learning_rate}
    (scores,) = measured.agents
    at_end = {rate: [each["validation_return"] for each in records if each["seed"] in tuning and each["step"] == 3
                     and each["learning_rate"] == rate] for rate in (0.01, 0.3)}  # fmt: skip
    assert scores.learning_rate == max(at_end, key=lambda rate: np.mean(at_end[rate]))
    np.testing.assert_allclose(scores.validation_by_rate, list(at_end.values()), rtol=1e-5)
    # The published params are those of the end of training, and their return is that of the fresh episodes.
    loaded = control_models.load(workdir / "params.safetensors")
    fresh = 2 + np.arange(4)
    played = agent_rollout.returns(loaded.agent, loaded.environment, loaded.params, fresh)
    np.testing.assert_allclose(scores.returns.by_seed[loaded.about["seed"]], played.returns.mean(), rtol=1e-5)
    figures = {path.stem for path in (workdir / "figures").iterdir()}
    assert {"rollout", "learning", "rates", "values", "distance"} <= figures
    assert measured.optimum.interquartile_mean.mean >= scores.returns.interquartile_mean.mean - 0.2
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["agents"][0]["returns"]["by_seed"] == pytest.approx(scores.returns.by_seed.tolist())


@pytest.mark.slow
def test_the_policies_at_the_end_are_scored_and_published_not_the_best_of_several_looks():
    """The rate is too great, so that some earlier policies were better."""
    plan = dataclasses.replace(plan_of("cartpole", 3000, seeds=4), rates=(0.3,))
    ((contender,), _) = training.contenders(plan.environment, plan.interactions, ["actor_critic"], {})
    trained = training.train(plan, contender, mesh=devices.mesh(1), observe=lambda *drive: [])

    def played(params):
        return agent_rollout.returns(contender.agent, plan.environment, params, plan.fresh_ids).returns.mean()

    last = [played(trained.params(seed)) for seed in range(4)]
    kept = [
        played(jax.tree.map(lambda leaf, seed=seed: leaf[seed], trained.final.result.kept.params)) for seed in range(4)
    ]
    assert max(np.subtract(kept, last)) > 1
    np.testing.assert_allclose(trained.returns, last, rtol=1e-5)


@pytest.mark.slow
def test_the_same_flags_give_the_same_bits_also_on_one_device_and_resumed(trained, tmp_path):
    workdir, measured = trained
    again = reinforcement.run(workdir=str(tmp_path / "w"), **TINY | {"devices": 1, "checkpoint_seconds": 0.0})
    np.testing.assert_array_equal(again.agents[0].returns.by_seed, measured.agents[0].returns.by_seed)
    resumed = reinforcement.run(workdir=str(tmp_path / "w"), **TINY | {"devices": 1})
    np.testing.assert_array_equal(resumed.agents[0].returns.by_seed, measured.agents[0].returns.by_seed)
    assert (tmp_path / "w" / "params.safetensors").read_bytes() == (workdir / "params.safetensors").read_bytes()
    with refused_in_one_line("--episodes"):
        reinforcement.run(workdir=str(workdir), **TINY | {"episodes": 5})


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(tmp_path):
    flags = [f"--{name}={','.join(map(str, value)) if isinstance(value, tuple) else value}" for name, value in
             (TINY | {"environment": "cartpole", "interactions": 20_000, "checkpoint_seconds": 0}).items()]  # fmt: skip
    whole, killed = tmp_path / "a", tmp_path / "b"
    assert program("reinforcement", *flags, f"--workdir={whole}").returncode == 0
    kill("reinforcement", flags, killed, seconds=0.1, seed=0)
    assert program("reinforcement", *flags, f"--workdir={killed}").returncode == 0
    assert bits(killed) == bits(whole)


@pytest.mark.slow
def test_a_published_agent_plays_again(trained, tmp_path, capsys):
    params, picture = str(trained[0] / "params.safetensors"), tmp_path / "rollout.svg"
    one = play.run(params=params, episodes=3, animation=str(picture))
    again = play.run(params=params, episodes=3)
    np.testing.assert_array_equal(one.returns, again.returns)
    assert b"@keyframes" in picture.read_bytes()
    assert "1,000,002" in capsys.readouterr().out
    same = play.run(params=params, episodes=4, first_episode=2)
    seed = control_models.load(params).about["seed"]
    np.testing.assert_allclose(same.returns.mean(), trained[1].agents[0].returns.by_seed[seed], rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"hidden": (4,)}, {"activation": "relu"}, {"learning_rates": (0.1,), "tuning_seeds": 2}]
)
def test_settings_that_nothing_reads_are_refused(tmp_path, settings):
    with refused_in_one_line("leave it out"):
        reinforcement.run(workdir=str(tmp_path / "w"), **TINY | {"tuning_seeds": 3} | settings)
    assert not (tmp_path / "w").exists()


def test_play_refuses_what_it_cannot_use(tmp_path):
    with pytest.raises(UserError, match="--params=FILE"):
        play.run()
    with refused_in_one_line("ends in .svg"):
        play.run(params="x", animation=str(tmp_path / "a.png"))


@pytest.mark.slow
def test_random_actions_are_random_and_differ_by_repetition():
    plan = plan_of("cartpole", 1000, seeds=4)
    every = training.random_returns(plan)
    assert every.shape == (4, 5)
    validation, returns = training.of_parts(plan, every)
    np.testing.assert_allclose(validation, every[:, :2].mean(axis=1))
    assert len(set(returns)) == 4
    assert (returns > 8).all()
    assert (returns < 60).all()
    numbers = evaluation.episodes(3)["episode"]
    assert numbers.tolist() == [0, 1, 2]
