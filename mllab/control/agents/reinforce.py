r"""REINFORCE with a baseline: the returns of episodes weigh the gradient of the log-probability of what was done.

$\nabla J = \overline{\sum_t (G_t - v(o_t)) \nabla \log \pi_\theta(a_t | o_t)}$

Returns are those of whole episodes, which rollouts as long as episodes contain. The one that a rollout's end cuts off
counts as truncated: its return is bootstrapped from the baseline (Pardo et al. 2018, arXiv:1712.00378), as dropping it
would favour short episodes. Williams 1992, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning"; Sutton and Barto 2018, section 13.4.
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
    environments: int = 8,
    length: int = 512,
    hidden: Sequence[int] = (64,),
    activation: str = "tanh",
    model: MakeModel | None = None,
    normalise: bool = True,
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
        normalise=normalise,
        optimizer=optimizer,
        clip_norm=clip_norm,
        anneal=anneal,
        max_steps=max_steps,
    )
