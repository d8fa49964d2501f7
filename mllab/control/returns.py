r"""Returns and advantages of rollouts that run over the ends of episodes.

With the value $v'_t$ of the observation that step $t$ led to, and $v'_t = 0$ where the episode terminated there,

$\delta_t = r_t + \gamma v'_t - v_t, \qquad \hat A_t = \delta_t + \gamma\lambda (1 - e_t) \hat A_{t+1}$

where $e_t$ is 1 if the episode ended at step $t$, by termination or truncation: nothing flows back over a reset.
$\lambda = 1$ gives $\hat A_t = G_t - v_t$ for the discounted return $G_t$, bootstrapped where an episode is cut off;
$\lambda = 0$ the one-step temporal difference.

Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation" (arXiv:1506.02438).
"""

import jax
import jax.numpy as jnp

from mllab.types import Array


def advantages(
    rewards: Array,
    values: Array,
    next_values: Array,
    terminated: Array,
    truncated: Array,
    *,
    discount: Array | float,
    trace: Array | float,
) -> Array:
    """Return the generalised advantage estimates [T, ...]; those of the last step are bootstrapped.

    Args:
        rewards: [T, ...] of each step.
        values: [T, ...] of the observation acted on.
        next_values: [T, ...] of the observation reached, before any reset.
        terminated: [T, ...] bool.
        truncated: [T, ...] bool.
        discount: $\\gamma$.
        trace: $\\lambda$.
    """
    errors = rewards + discount * jnp.where(terminated, 0.0, next_values) - values
    flows = discount * trace * jnp.where(terminated | truncated, 0.0, 1.0)

    def step(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        error, flow = now
        advantage = error + flow * later
        return advantage, advantage

    return jax.lax.scan(step, jnp.zeros_like(errors[0]), (errors, flows), reverse=True)[1]
