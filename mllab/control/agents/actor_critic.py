r"""Advantage actor-critic: short rollouts, whose returns are bootstrapped from values after at most T steps.

$\hat A_t = r_t + \gamma r_{t+1} + \dots + \gamma^{n-1} r_{t+n-1} + \gamma^n v(o_{t+n}) - v(o_t)$

where n reaches to the rollout's end or the episode's, whichever is first. The synchronous form of Mnih et al. 2016,
"Asynchronous methods for deep reinforcement learning" (arXiv:1602.01783).
"""

from collections.abc import Sequence

from mllab.control import evaluation
from mllab.control.agents import policy_gradient
from mllab.control.agents.base import Agent
from mllab.control.agents.nets import MakeModel
from mllab.control.environment import Environment


def make(
    environment: Environment,
    *,
    steps: int = 500_000,
    environments: int = 16,
    length: int = 8,
    hidden: Sequence[int] = (64,),
    activation: str = "tanh",
    model: MakeModel | None = None,
    memory: str | None = None,
    normalise: bool = False,
    optimizer: str = "adam",
    clip_norm: float = 0.5,
    anneal: bool = True,
    max_steps: int = evaluation.MAX_STEPS,
) -> Agent:
    """Return the agent; arguments and errors as in `policy_gradient.make`."""
    return policy_gradient.make(
        environment,
        steps=steps,
        environments=environments,
        length=length,
        hidden=hidden,
        activation=activation,
        model=model,
        memory=memory,
        normalise=normalise,
        optimizer=optimizer,
        clip_norm=clip_norm,
        anneal=anneal,
        max_steps=max_steps,
    )
