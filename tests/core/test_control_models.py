"""Published agents: a file plays as the agent that was written, and a changed header is refused in one line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mllab import control_models, weights
from mllab.control.agents.table import AGENTS
from mllab.control.environments.table import ENVIRONMENTS
from support.mistakes import refused_in_one_line

OPTIONS = {"hidden": [3], "activation": "relu"}


def params_of(agent, seed=0):
    """Params of the right shapes without a compilation."""
    like = jax.eval_shape(agent.run.start, {"learning_rate": 0.0}, jax.random.key(0)).params
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), leaf.dtype), like)


def options_of(name):
    return control_models.options_of(name, **OPTIONS)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The file of an agent, and its params."""
    agent = AGENTS["ppo"].make(ENVIRONMENTS["cartpole"].make(), **OPTIONS)
    params, path = params_of(agent), tmp_path_factory.mktemp("agent") / "params.safetensors"
    path.write_bytes(control_models.encode(params, "cartpole", "ppo", OPTIONS, {"seed": 3}))
    return path, params


WHERE = {
    "reinforce": "pendulum", "actor_critic": "catch", "ppo": "bandit", "q_learning": "mountain_car", "dqn": "gridworld"
}  # fmt: skip


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_is_rebuilt_from_its_file(name, tmp_path):
    where = WHERE[name]
    environment = ENVIRONMENTS[where].make()
    agent = AGENTS[name].make(environment, **options_of(name))
    params, path = params_of(agent), tmp_path / "params.safetensors"
    path.write_bytes(control_models.encode(params, where, name, options_of(name), {"seed": 3}))
    loaded = control_models.load(path)
    assert (loaded.name, loaded.environment.name, loaded.about["seed"]) == (name, where, 3)
    assert jax.tree.structure(loaded.params) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)


def test_agents_that_cannot_act_say_why():
    made = {where: ENVIRONMENTS[where].make() for where in ("pendulum", "catch", "gridworld")}
    able = {where: [name for name in AGENTS if not control_models.unable(name, each)] for where, each in made.items()}
    every = list(AGENTS)
    assert able["pendulum"] == ["reinforce", "actor_critic", "ppo"]
    assert able["catch"] == [name for name in every if name != "q_learning"]
    assert able["gridworld"] == every
    assert "states, or bounds" in control_models.unable("q_learning", made["catch"])


def test_a_file_acts_as_the_agent_that_was_written(published):
    path, params = published
    loaded = control_models.load(path)
    agent = AGENTS["ppo"].make(ENVIRONMENTS["cartpole"].make(), **OPTIONS)
    for observation in np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32):
        assert loaded.agent.act(loaded.params, observation, None) == agent.act(params, observation, None)


CHANGES = [
    ({"kind": "table"}, "holds no agent"),
    ({"kind": None}, "holds no agent"),
    ({"agent": "pppo"}, "agent = pppo"),
    ({"agent": ["ppo"]}, "agent = "),
    ({"environment": "cartpool"}, "environment = cartpool"),
    ({"environment": None}, "environment = None"),
    ({"environment": "acrobot"}, "does not fit the model"),
    ({"environment": "pendulum", "agent": "q_learning", "options": {}}, "q_learning compares the values"),
    ({"agent": "q_learning"}, "hidden = "),  # which has no nets
    ({"options": [1]}, "no named values"),
    ({"options": {"hidden": [4], "activation": "relu"}}, "does not fit the model"),
    ({"options": {"hidden": [3, 3], "activation": "relu"}}, "does not fit the model"),
    ({"options": {"hidden": [10**9], "activation": "relu"}}, "hidden = "),
    ({"options": {"hidden": [3] * 1000, "activation": "relu"}}, "hidden = "),
    ({"options": {"hidden": 3, "activation": "relu"}}, "hidden = 3"),
    ({"options": {"hidden": [True], "activation": "relu"}}, "hidden = "),
    ({"options": {"hidden": [3], "activation": "eval"}}, "activation = eval"),
    ({"options": {"hidden": [3], "activation": ["relu"]}}, "activation = "),
    ({"options": {"hidden": [3]}}, "lack 'activation'"),
    ({"options": {"steps": 10**12}}, "steps = 1000000000000"),
    ({"options": {"model": "x"}}, "model = x"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES, ids=str)
def test_a_header_that_was_changed_is_refused(changes, message, published, tmp_path):
    _, about = weights.read(published[0])
    path = tmp_path / "params.safetensors"
    save_file(load_file(published[0]), path, {"mllab": json.dumps(about | changes)})
    with refused_in_one_line(message):
        control_models.load(path)


def test_any_other_value_of_a_header_is_refused_in_one_line(published, tmp_path):
    """Each value of the header, and of what it holds, replaced by each of many others."""
    _, about = weights.read(published[0])
    arrays, path = load_file(published[0]), tmp_path / "params.safetensors"
    others = [None, True, -1, 1.5, 10**30, "x" * 5000, [[]], {}, "\x00\n"]
    for key in ("kind", "environment", "agent", "options", "hidden", "activation"):
        for other in others:
            changed = about | {key: other} if key in about else about | {"options": about["options"] | {key: other}}
            save_file(arrays, path, {"mllab": json.dumps(changed)})
            with refused_in_one_line("params.safetensors") as caught:
                control_models.load(path)
            assert len(str(caught.value)) < 600


def test_another_program_is_named_for_the_file_of_an_agent(published):
    with refused_in_one_line("give it to experiments.play"):
        weights.load_model(published[0])
