r"""Optimizers, learning-rate schedules, gradient clipping and weight decay: literal tables over optax.

Everywhere below, :math:`\theta` are the params, :math:`g_t` the gradient of the loss at :math:`\theta_t`,
:math:`\eta` the learning rate; products, quotients, powers and roots go element by element, and state starts at 0.
"Ruder" is Sebastian Ruder's *An overview of gradient descent optimization algorithms* (arXiv:1609.04747). Options
carry optax's names; the learning rate and every other continuous one may be a traced array, so that a sweep can be
a `vmap` over them, and the learning rate may be an optax schedule.

**sgd** (Robbins and Monro 1951; Ruder §2). Full-batch gradient descent is a batch size, not another optimizer.

.. math:: \theta_{t+1} = \theta_t - \eta g_t

**momentum** (Polyak 1964; Ruder §4.1), :math:`\mu` = `momentum`.

.. math:: v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta v_t

Ruder keeps the rate inside the velocity, :math:`v_t = \gamma v_{t-1} + \eta g_t`: the same path while
:math:`\eta` is constant, another under a schedule, where his form is
`optax.chain(optax.scale_by_learning_rate(schedule), optax.trace(momentum))`.

**nesterov** (Nesterov 1983; Sutskever et al. 2013; Ruder §4.2).

.. math:: v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta (g_t + \mu v_t)

Ruder takes the gradient at the look-ahead point :math:`\theta - \gamma v`. Here the params *are* that point, so that
gradients need no second place: at a constant rate, params = Ruder's :math:`\theta_t - \gamma v_t`.

**adagrad** (Duchi et al. 2011; Ruder §4.3), :math:`G_0` = `initial_accumulator_value`.

.. math:: G_t = G_{t-1} + g_t^2, \quad \theta_{t+1} = \theta_t - \eta g_t / \sqrt{G_t + \epsilon}

The defaults are Ruder's, :math:`G_0 = 0` and :math:`\epsilon = 10^{-8}`; optax's own are 0.1 and :math:`10^{-7}`.

**adadelta** (Zeiler 2012, Algorithm 1; Ruder §4.4).

.. math::
    E_t &= \rho E_{t-1} + (1 - \rho) g_t^2, \quad u_t = g_t \sqrt{D_{t-1} + \epsilon} / \sqrt{E_t + \epsilon} \\
    D_t &= \rho D_{t-1} + (1 - \rho) u_t^2, \quad \theta_{t+1} = \theta_t - \eta u_t

The papers have no learning rate: pass 1.0. Zeiler's :math:`\rho` is 0.95, the default here Ruder's 0.9.

**rmsprop** (Hinton 2012, lecture 6e; Ruder §4.5), :math:`\rho` = `decay`.

.. math:: v_t = \rho v_{t-1} + (1 - \rho) g_t^2, \quad \theta_{t+1} = \theta_t - \eta g_t / \sqrt{v_t + \epsilon}

As in Ruder. PyTorch has :math:`\sqrt{v_t} + \epsilon` and decay 0.99: `eps_in_sqrt=False, decay=0.99`.

**adam** (Kingma and Ba 2015, Algorithm 1; Ruder §4.6).

.. math::
    m_t &= \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad \hat m_t = m_t / (1 - \beta_1^t) \\
    v_t &= \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad \hat v_t = v_t / (1 - \beta_2^t) \\
    \theta_{t+1} &= \theta_t - \eta \hat m_t / (\sqrt{\hat v_t} + \epsilon)

As in the paper and Ruder. optax's extra `eps_root`, added inside the root, is 0.

**adamax** (Kingma and Ba 2015, Algorithm 2; Ruder §4.7), :math:`\hat m_t` as in adam.

.. math:: u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \quad \theta_{t+1} = \theta_t - \eta \hat m_t / u_t

The papers have no :math:`\epsilon` (pass `eps=0.0`; a gradient of 0 at the first step then gives 0/0).

**nadam** (Dozat 2016, Algorithm 2; Ruder §4.8), :math:`\hat v_t` as in adam.

.. math::
    \bar m_t = \beta_1 \frac{m_t}{1 - \beta_1^{t+1}} + (1 - \beta_1) \frac{g_t}{1 - \beta_1^t}, \quad
    \theta_{t+1} = \theta_t - \eta \bar m_t / (\sqrt{\hat v_t} + \epsilon)

Ruder divides :math:`m_t` by :math:`1 - \beta_1^t`, Dozat as here; no option gives Ruder's form, and the two meet as
:math:`\beta_1^t` fades. Dozat's schedule of :math:`\beta_1` and his factor :math:`\beta_2` on :math:`\hat v_t` are
left out, as Ruder leaves them out.

**adamw** (Loshchilov and Hutter 2019, Algorithm 2), :math:`\lambda` = `weight_decay`.

.. math:: \theta_{t+1} = \theta_t - \eta (\hat m_t / (\sqrt{\hat v_t} + \epsilon) + \lambda \theta_t)

The paper multiplies :math:`\lambda` by the schedule alone; optax, like PyTorch, by the rate as well.

**lion** (Chen et al. 2023, Algorithm 2).

.. math::
    \theta_{t+1} = \theta_t - \eta (\operatorname{sign}(\beta_1 m_{t-1} + (1 - \beta_1) g_t) + \lambda \theta_t),
    \quad m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t

**muon** (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), :math:`\beta` = `beta`, for matrices
[in, out]; every other array takes one step of nadam with the same rate and `adam_b1`, `adam_b2`.

.. math::
    \bar m_t &= \beta \frac{m_t}{1 - \beta^{t+1}} + (1 - \beta) \frac{g_t}{1 - \beta^t}, \quad
    X_0 = \bar m_t / (\lVert \bar m_t \rVert_F + \epsilon) \\
    X_{k+1} &= a X_k + (b A + c A^2) X_k, \quad A = X_k X_k^\top, \quad k < 5 \\
    \theta_{t+1} &= \theta_t - \eta (\sqrt{\max(1, \mathrm{out} / \mathrm{in})} X_5 + \lambda \theta_t)

Five Newton-Schulz steps, (a, b, c) = (3.4445, -4.7750, 2.0315), bring the singular values near 1. Jordan's
momentum has no bias correction; he also keeps embeddings and the last layer for Adam: pass
`muon_weight_dimension_numbers`. optax's `weight_decay` reaches the matrices alone (`adam_weight_decay` the rest).

**schedule_free_sgd** (Defazio et al. 2024, arXiv:2405.15682), :math:`\beta_1` = `b1`: the params are y, where
gradients are taken; x, the average, is what to evaluate (`evaluation_params`).

.. math::
    z_{t+1} = z_t - \eta_t g_t, \quad x_{t+1} = (1 - c_t) x_t + c_t z_{t+1}, \quad
    y_{t+1} = (1 - \beta_1) z_{t+1} + \beta_1 x_{t+1}

.. math:: c_t = w_t / \sum_{s \le t} w_s, \quad w_t = (\max_{s \le t} \eta_s)^p, \quad p = \mathrm{weight\_lr\_power}

Under a schedule optax reads z's rate at count t and the weight's at t + 1.

**schedule_free_adam** (the same, Algorithm 1): z moves by AdamW without momentum,
:math:`z_{t+1} = z_t - \eta_t (g_t / (\sqrt{\hat v_t} + \epsilon) + \lambda y_t)`.

**lbfgs** (Liu and Nocedal 1989; Nocedal and Wright 2006, Algorithms 7.4, 3.5 and 3.6).

.. math:: \theta_{t+1} = \theta_t - \alpha_t \eta H_t g_t

:math:`H_t` is the BFGS inverse Hessian of the last `memory_size` pairs :math:`s = \Delta\theta, y = \Delta g`, from
:math:`(s^\top y / y^\top y) I`, or :math:`\min(1, 1 / \lVert g \rVert) I` at first. A zoom line search finds
:math:`\alpha_t` by the strong Wolfe conditions; it tries 1 first, so a rate of 1 is the textbook's. Give it the full
batch: pairs from different minibatches are no curvature, and nothing guards against that.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import optax
from optax import contrib

from mllab.errors import UserError, unknown
from mllab.types import Array, Params

Optimizer = optax.GradientTransformationExtraArgs
Rate = float | Array | optax.Schedule

# OPTIMIZERS[name](learning_rate, **options) -> Optimizer. Its update always wants the loss at hand, for the one that
# searches along a line: `update(gradients, state, params, value=loss, grad=gradients, value_fn=loss_of_params)`.
OPTIMIZERS: Mapping[str, Callable[..., Optimizer]] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "adagrad": partial(optax.adagrad, initial_accumulator_value=0.0, eps=1e-8),
    "adadelta": optax.adadelta,
    "rmsprop": optax.rmsprop,
    "adam": optax.adam,
    "adamax": optax.adamax,
    "nadam": optax.nadam,
    "adamw": optax.adamw,
    "lion": optax.lion,
    "muon": contrib.muon,
    "schedule_free_adam": contrib.schedule_free_adamw,
    "schedule_free_sgd": contrib.schedule_free_sgd,
    "lbfgs": optax.lbfgs,
}


def constant(peak: float | Array, steps: int) -> optax.Schedule:
    """Return `peak` at every step."""
    del steps
    return optax.constant_schedule(peak)


def warmup(peak: float | Array, steps: int, fraction: float = 0.1) -> optax.Schedule:
    """Rise linearly over the first `fraction` of the steps, then stay at `peak`.

    With W warm-up steps, step t < W has the rate peak (t + 1) / W, so that the very first step already moves.
    """
    warmup_steps = max(1, round(fraction * steps))
    return optax.linear_schedule(peak / warmup_steps, peak, warmup_steps - 1)


def one_cycle(
    peak: float | Array,
    steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> optax.Schedule:
    """Rise by a half cosine from peak / div_factor over the first `pct_start`, then fall by another to almost 0.

    The end is peak / (div_factor * final_div_factor). Smith and Topin 2017, arXiv:1708.07120, with the cosine and
    the defaults of PyTorch's OneCycleLR.
    """
    return optax.cosine_onecycle_schedule(steps, peak, pct_start, div_factor, final_div_factor)


# SCHEDULES[name](peak, steps, **options) -> schedule: step -> learning rate. `peak` may be a traced array.
SCHEDULES: Mapping[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "cosine": optax.cosine_decay_schedule,  # peak (1 + cos(pi t / steps)) / 2; arXiv:1608.03983, Eq. 5
    "warmup": warmup,
    "one_cycle": one_cycle,
}


def build(
    name: str,
    learning_rate: Rate,
    *,
    schedule: str = "constant",
    steps: int | None = None,
    clip_norm: float | Array | None = None,
    weight_decay: float | Array | None = None,
    **options: Any,
) -> Optimizer:
    """Return an optimizer of the table with its schedule, clipping and weight decay.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: the schedule's peak, in params per unit of update; or, with schedule="constant", any optax
            schedule.
        schedule: a key of `SCHEDULES`.
        steps: how many updates the whole training makes; what every schedule but the constant one spans.
        clip_norm: gradients whose global L2 norm exceeds this are scaled down to it, before all else (Pascanu et al.
            2013, arXiv:1211.5063, Algorithm 1); None leaves them.
        weight_decay: the optimizer's own, where it has one: decoupled from the gradient for adamw, lion, muon (its
            matrices) and schedule_free_adam, part of the gradient for adadelta and schedule_free_sgd. For the others
            the objective becomes loss + weight_decay / 2 ‖params‖². None leaves the optimizer's default.
        **options: the optimizer's other options, by optax's names; all but sizes and switches may be traced.

    Raises:
        UserError: an unknown optimizer, schedule or option, or a schedule without its steps.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    accepted = set(inspect.signature(OPTIMIZERS[name]).parameters) - {"learning_rate"}
    for option in options:
        if option not in accepted:
            raise unknown(f"option of {name}", option, sorted(accepted))

    penalty = None
    if "weight_decay" not in accepted:
        penalty = weight_decay
    elif weight_decay is not None:
        options["weight_decay"] = weight_decay

    optimizer = OPTIMIZERS[name](_scheduled(learning_rate, schedule, steps), **options)
    if penalty is not None:
        optimizer = _with_penalty(optimizer, penalty)
    if clip_norm is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    return optimizer


def _scheduled(learning_rate: Rate, schedule: str, steps: int | None) -> Rate:
    """Return the rate as the optimizer takes it: as it came if constant, else a schedule that peaks at it."""
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if schedule == "constant":
        return learning_rate
    if callable(learning_rate):
        raise UserError(
            f"the learning rate is already a schedule: pass a number, or drop schedule={schedule!r}"
        )
    if steps is None or steps < 1:
        raise UserError(
            f"schedule {schedule!r} spans the whole training: pass its steps, at least 1, not {steps}"
        )
    return SCHEDULES[schedule](learning_rate, steps)


def _with_penalty(optimizer: Optimizer, weight_decay: float | Array) -> Optimizer:
    """Let an optimizer descend on loss + weight_decay / 2 ‖params‖², in the gradient and along its line search."""

    def update(updates, state, params, *, value, grad, value_fn):
        def penalised(params):
            return value_fn(params) + penalty(params)

        def penalty(params):
            return 0.5 * weight_decay * optax.tree.norm(params, squared=True)

        return optimizer.update(
            optax.tree.add_scale(updates, weight_decay, params),
            state,
            params,
            value=value + penalty(params),
            grad=optax.tree.add_scale(grad, weight_decay, params),
            value_fn=penalised,
        )

    return Optimizer(optimizer.init, update)


def evaluation_params(optimizer_state: optax.OptState, params: Params) -> Params:
    """Return the params to score: schedule-free's average x if the state holds one anywhere, else `params`.

    For lanes, call it inside the `vmap`, as everything that belongs to one run.
    """
    nodes = jax.tree.leaves(optimizer_state, is_leaf=_is_schedule_free)
    averages = [node for node in nodes if _is_schedule_free(node)]
    return contrib.schedule_free_eval_params(averages[0], params) if averages else params


def _is_schedule_free(node: Any) -> bool:
    return isinstance(node, contrib.ScheduleFreeState)
