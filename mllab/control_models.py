"""Agents as files: params, and what rebuilds the agent and its environment.

The header of a params file holds `kind` "agent", the names `environment` and `agent` of rows of their tables, and the
`options` of the agent's `make` that its params depend on.
"""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mllab import weights
from mllab.control.agents import table as agents
from mllab.control.agents.base import Agent
from mllab.control.environment import Discrete, Environment
from mllab.control.environments import table as environments
from mllab.errors import UserError, shortened
from mllab.models.mlp import ACTIVATIONS
from mllab.types import Key, Params

KIND = "agent"
MAX_LAYERS, MAX_HIDDEN = 100, 10_000  # of a published agent
EXPERIMENT = "experiments.reinforcement"


class Published(NamedTuple):
    """An agent with the params and the header of its file."""

    name: str  # of the agent
    environment: Environment
    agent: Agent
    params: Params
    about: Mapping[str, Any]


class _Initialised(NamedTuple):
    """An agent as `weights.restore` takes it."""

    environment: Environment
    agent: Agent

    def init(self, key: Key) -> tuple[Params, None]:
        """Return the params before training."""
        return self.agent.run.start({"learning_rate": 0.0}, key).params, None


def options_of(name: str, **chosen: Any) -> dict[str, Any]:
    """Return the options of an agent's `make` that its params depend on, of those in CHECKS.

    Args:
        name: of the agent.
        **chosen: values; None for the agent's own default. Those that it does not have are left out.
    """
    parameters = inspect.signature(agents.entry(name).make).parameters
    defaults = {option: parameters[option].default for option in CHECKS if option in parameters}
    return {option: default if chosen.get(option) is None else chosen[option] for option, default in defaults.items()}


def unable(name: str, environment: Environment) -> str:
    """Return why an agent cannot act in an environment; empty where it can."""
    entry = agents.entry(name)
    kind = "discrete" if isinstance(environment.actions, Discrete) else "continuous"
    if kind not in entry.actions:
        return f"it does not take the {kind} actions of {environment.name}"
    try:
        entry.make(environment)
    except UserError as error:
        return str(error)
    return ""


def encode(params: Params, environment: str, name: str, options: Mapping[str, Any], about: Mapping[str, Any]) -> bytes:
    """Return the file of an agent.

    Args:
        params: of the agent.
        environment: a key of `environments.table.ENVIRONMENTS`, made with its defaults.
        name: a key of `agents.table.AGENTS`.
        options: see `options_of`.
        about: further values of the header, as JSON holds them.
    """
    header = {**about, "kind": KIND, "environment": environment, "agent": name, "options": dict(options)}
    return weights.encode(params, header)


def load(path: str | Path, *, limit: int | None = None) -> Published:
    """Return the agent of a file that `encode` made.

    Args:
        path: of the file.
        limit: on the bytes of the file; a share of the memory by default.

    Raises:
        UserError: no such file, one of another kind, or a header that does not match its arrays.
    """
    stored, about = weights.read_kind(path, limit, KIND, "agent", EXPERIMENT)
    where, name = about.get("environment"), about.get("agent")
    for value, known, kind in ((where, environments.ENVIRONMENTS, "environment"), (name, agents.AGENTS, "agent")):
        if not isinstance(value, str) or value not in known:
            raise UserError(f"{path}: the header says {kind} = {shortened(str(value))}: publish it again")

    def make() -> _Initialised:
        made = environments.ENVIRONMENTS[str(where)].make()
        options = _checked_options(str(name), about.get("options"))
        return _Initialised(made, agents.AGENTS[str(name)].make(made, **options))

    restored, params = weights.restore(path, stored, make)
    return Published(str(name), restored.environment, restored.agent, params, about)


def _checked_options(name: str, options: Any) -> dict[str, Any]:
    """Return the options of a header, each of its kind and size.

    Raises:
        UserError: another option, or another value.
    """
    if not isinstance(options, dict):
        raise UserError("the options in its header are no named values: publish it again")
    checks = {option: check for option, check in CHECKS.items() if option in options_of(name)}
    for option, value in options.items():
        if option not in checks or not checks[option](value):
            raise UserError(f"the header says {shortened(str(option))} = {shortened(str(value))}: publish it again")
    for option in checks:
        if option not in options:
            raise UserError(f"the options in its header lack {option!r}: publish it again")
    return options


def _is_hidden(value: Any) -> bool:
    """Return whether a value is a list of numbers of units."""
    return (
        isinstance(value, list)
        and len(value) <= MAX_LAYERS
        and all(type(units) is int and 1 <= units <= MAX_HIDDEN for units in value)
    )


CHECKS = {"hidden": _is_hidden, "activation": lambda value: isinstance(value, str) and value in ACTIVATIONS}
