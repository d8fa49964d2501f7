"""The table of agents."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mllab.control.agents import actor_critic, dqn, ppo, q_learning, reinforce
from mllab.control.agents.base import Agent
from mllab.errors import unknown


class Entry(NamedTuple):
    """One agent. Its options are the keyword-only arguments of `make`."""

    make: Callable[..., Agent]  # (environment, **options) -> agent
    actions: tuple[str, ...]  # "discrete", "continuous"
    help: str  # one line


BOTH = ("discrete", "continuous")
AGENTS: Mapping[str, Entry] = {
    "reinforce": Entry(reinforce.make, BOTH, "REINFORCE with a baseline (Williams 1992)"),
    "actor_critic": Entry(actor_critic.make, BOTH, "advantage actor-critic (Mnih et al. 2016)"),
    "ppo": Entry(ppo.make, BOTH, "proximal policy optimisation (Schulman et al. 2017)"),
    "q_learning": Entry(q_learning.make, ("discrete",), "Q-learning with a table of states or bins (Watkins 1989)"),
    "dqn": Entry(dqn.make, ("discrete",), "deep Q-learning with a replay buffer (Mnih et al. 2015)"),
}


def entry(name: str) -> Entry:
    """Return the row of this name; raise UserError for an unknown one."""
    if name not in AGENTS:
        raise unknown("agent", name, AGENTS)
    return AGENTS[name]
