"""The table of agents."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mllab.control.agents import ppo
from mllab.control.agents.base import Agent
from mllab.errors import unknown


class Entry(NamedTuple):
    """One agent. Its options are the keyword-only arguments of `make`."""

    make: Callable[..., Agent]  # (environment, **options) -> agent
    actions: tuple[str, ...]  # "discrete", "continuous"
    help: str  # one line


AGENTS: Mapping[str, Entry] = {
    "ppo": Entry(ppo.make, ("discrete", "continuous"), "proximal policy optimisation (Schulman et al. 2017)"),
}


def entry(name: str) -> Entry:
    """Return the row of this name; raise UserError for an unknown one."""
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    return AGENTS[name]
