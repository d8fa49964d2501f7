r"""Optimizers, learning-rate schedules, clipping, weight decay and averaging: literal tables over optax.

Below, $\theta$ are the params, $g_t$ the gradient of the loss at $\theta_t$ and $\eta$ the learning rate;
products, quotients, powers and roots go element by element; state starts at 0. "Ruder" is Sebastian Ruder's
*An overview of gradient descent optimization algorithms* (arXiv:1609.04747). Options carry optax's names. The
learning rate and every other continuous option may be a traced array, so that a sweep can be a `vmap` over
them; the learning rate may also be an optax schedule.

**sgd** (Robbins and Monro 1951; Ruder §2). Gradient descent on the full batch is a batch size.

    $$ \theta_{t+1} = \theta_t - \eta g_t $$

**momentum** (Polyak 1964; Ruder §4.1), $\mu$ = `momentum`.

    $$ v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta v_t $$

Ruder keeps the rate inside the velocity, $v_t = \gamma v_{t-1} + \eta g_t$: the same path while $\eta$ is
constant, another under a schedule, where his is
`optax.chain(optax.scale_by_learning_rate(schedule), optax.trace(momentum))`.

**nesterov** (Nesterov 1983; Sutskever et al. 2013; Ruder §4.2).

    $$ v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta (g_t + \mu v_t) $$

Ruder takes the gradient at the look-ahead point $\theta - \gamma v$. Here the params are that point, so that
gradients need no second place (at a constant rate; under a schedule, the difference is momentum's).

**adagrad** (Duchi et al. 2011; Ruder §4.3), $G_0$ = `initial_accumulator_value`.

    $$ G_t = G_{t-1} + g_t^2, \quad \theta_{t+1} = \theta_t - \eta g_t / \sqrt{G_t + \epsilon} $$

The defaults are Ruder's, $G_0 = 0$ and $\epsilon = 10^{-8}$; optax's own are 0.1 and $10^{-7}$.

**adadelta** (Zeiler 2012, Algorithm 1; Ruder §4.4).

    $$ E_t = \rho E_{t-1} + (1 - \rho) g_t^2, \quad u_t = g_t \sqrt{(D_{t-1} + \epsilon) / (E_t + \epsilon)} $$
    $$ D_t = \rho D_{t-1} + (1 - \rho) u_t^2, \quad \theta_{t+1} = \theta_t - \eta u_t $$

Neither has a learning rate: theirs is $\eta = 1$. Zeiler's $\rho$ is 0.95, the default is Ruder's 0.9.

**rmsprop** (Hinton 2012, lecture 6e; Ruder §4.5), $\rho$ = `decay`.

    $$ v_t = \rho v_{t-1} + (1 - \rho) g_t^2 $$
    $$ \theta_{t+1} = \theta_t - \eta g_t / \sqrt{v_t + \epsilon} $$

As in Ruder. PyTorch has $\sqrt{v_t} + \epsilon$ and a decay of 0.99: `eps_in_sqrt=False, decay=0.99`.

**adam** (Kingma and Ba 2015, Algorithm 1; Ruder §4.6).

    $$ m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad \hat m_t = m_t / (1 - \beta_1^t) $$
    $$ v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad \hat v_t = v_t / (1 - \beta_2^t) $$
    $$ \theta_{t+1} = \theta_t - \eta \hat m_t / (\sqrt{\hat v_t} + \epsilon) $$

As in the paper and in Ruder, as long as optax's own `eps_root`, added inside the root, stays 0.

**adamax** (Kingma and Ba 2015, Algorithm 2; Ruder §4.7), $\hat m_t$ as in adam.

    $$ u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \quad \theta_{t+1} = \theta_t - \eta \hat m_t / u_t $$

Neither has $\epsilon$: theirs is `eps=0.0`, where a gradient that is 0 from the start gives 0/0.

**nadam** (Dozat 2016, Algorithm 2; Ruder §4.8), $\hat v_t$ as in adam.

    $$ \bar m_t = \beta_1 m_t / (1 - \beta_1^{t+1}) + (1 - \beta_1) g_t / (1 - \beta_1^t) $$
    $$ \theta_{t+1} = \theta_t - \eta \bar m_t / (\sqrt{\hat v_t} + \epsilon) $$

Ruder divides $m_t$ by $1 - \beta_1^t$, Dozat as here; no option gives Ruder's form, and the two meet as
$\beta_1^t$ fades. Like Ruder, optax leaves out Dozat's schedule of $\beta_1$ and his factor $\beta_2$ on
$\hat v_t$.

**adamw** (Loshchilov and Hutter 2019, Algorithm 2), $\lambda$ = `weight_decay`.

    $$ \theta_{t+1} = \theta_t - \eta (\hat m_t / (\sqrt{\hat v_t} + \epsilon) + \lambda \theta_t) $$

The paper multiplies $\lambda$ by the schedule alone; optax, like PyTorch, by the whole rate.

**lion** (Chen et al. 2023, Algorithm 2).

    $$ c_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad m_t = \beta_2 m_{t-1} + (1 - \beta_2) g_t $$
    $$ \theta_{t+1} = \theta_t - \eta (\mathrm{sign}(c_t) + \lambda \theta_t) $$

**muon** (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/), for matrices w [in, out].

    $$ m_t = \beta m_{t-1} + (1 - \beta) g_t, \quad \beta \text{ = beta} $$
    $$ \bar m_t = \beta m_t / (1 - \beta^{t+1}) + (1 - \beta) g_t / (1 - \beta^t) $$
    $$ X_0 = \bar m_t / (\|\bar m_t\|_F + \epsilon) $$
    $$ X_{k+1} = a X_k + (b A_k + c A_k^2) X_k, \quad A_k = X_k X_k^T, \quad k < 5 $$
    $$ \theta_{t+1} = \theta_t - \eta (\sqrt{\max(1, out / in)} X_5 + \lambda \theta_t) $$

The five Newton-Schulz steps, (a, b, c) = (3.4445, -4.7750, 2.0315), bring the singular values near 1. Params
that are no matrices take nadam's step, with `adam_b1`, `adam_b2` and the same rate. Jordan's momentum has no
bias correction, and he leaves embeddings and the last layer to Adam (`muon_weight_dimension_numbers` tells
optax so). `weight_decay` reaches the matrices alone, `adam_weight_decay` the rest.

**schedule_free_sgd** (Defazio et al. 2024, arXiv:2405.15682), $\beta_1$ = `b1`, $p$ = `weight_lr_power`.

    $$ z_{t+1} = z_t - \eta_t g_t, \quad x_{t+1} = (1 - c_t) x_t + c_t z_{t+1} $$
    $$ y_{t+1} = (1 - \beta_1) z_{t+1} + \beta_1 x_{t+1}, \quad c_t = w_t / \sum_{s \le t} w_s $$
    $$ w_t = (\max_{s \le t} \eta_s)^p $$

The params are y, where gradients are taken; the average x is what to evaluate: `evaluation_params`. Under a
schedule optax is one step ahead in $w_t$. `weight_decay` adds $\lambda y_t$ to the gradient.

**schedule_free_adam** (the same, Algorithm 1): as above, but for AdamW without momentum as z's step.

    $$ z_{t+1} = z_t - \eta_t (g_t / (\sqrt{\hat v_t} + \epsilon) + \lambda y_t) $$

**lbfgs** (Liu and Nocedal 1989; Nocedal and Wright 2006, Algorithms 7.4, 3.5 and 3.6).

    $$ \theta_{t+1} = \theta_t - \alpha_t \eta H_t g_t $$

$H_t$ is the inverse Hessian that BFGS builds on $(s^T y / y^T y) I$ from the last `memory_size` pairs of
$s = \Delta\theta$ and $y = \Delta g$; the very first is $\min(1, 1 / \|g\|) I$. A zoom line search finds
$\alpha_t$ by the strong Wolfe conditions. It tries 1 first, so the textbook's rate is $\eta = 1$. Give it the
full batch: pairs from different minibatches measure no curvature, and nothing guards against that.

**Averaging** (Polyak and Juditsky 1992; as an exponential moving average, Szegedy et al. 2016, arXiv:1512.00567, §8),
upon any of them but the schedule-free ones, which average already; $\beta$ = `average`.

    $$ \bar\theta_0 = \theta_0, \quad \bar\theta_t = \beta_t \bar\theta_{t-1} + (1 - \beta_t) \theta_t, \quad
       \beta_t = \min(\beta, (1 + t) / (10 + t)) $$

The params that train are what they would be without; the average is what to evaluate: `evaluation_params`. The warm-up
is that of TensorFlow's `tf.train.ExponentialMovingAverage(num_updates=t)`: while $t < 9 / (1 - \beta)$, the average
is over about the last tenth of the steps, so that a short run does not drag its first params along, as a bias
correction (Adam's) would: that weighs all steps alike. Batch statistics are not averaged: they are running averages
already, of the params that train.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from mllab.errors import UserError, unknown
from mllab.types import Array, Params

Optimizer: TypeAlias = optax.GradientTransformationExtraArgs
LearningRate: TypeAlias = float | Array | optax.Schedule

# OPTIMIZERS[name](learning_rate, **options). Always tell an update the loss too, for L-BFGS's line search:
# optimizer.update(gradients, state, params, value=loss, grad=gradients, value_fn=loss_of_params)
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
    """Stay at `peak`."""
    del steps
    return optax.constant_schedule(peak)


def warmup(peak: float | Array, steps: int, fraction: float = 0.1) -> optax.Schedule:
    """Rise linearly over the first `fraction` of the steps, then stay at `peak`.

    Of W warm-up steps, step t < W has the rate peak (t + 1) / W: the very first one already moves.
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
    """Rise by half a cosine over the first `pct_start` of the steps, fall by another over the rest.

    From peak / div_factor to peak / (div_factor * final_div_factor). Smith and Topin 2017 (arXiv:1708.07120),
    with the cosine and the defaults of PyTorch's OneCycleLR.
    """
    return optax.cosine_onecycle_schedule(steps, peak, pct_start, div_factor, final_div_factor)


# SCHEDULES[name](peak, steps, **options) -> schedule, from step to learning rate. `peak` may be traced.
SCHEDULES: Mapping[str, Callable[..., optax.Schedule]] = {
    "constant": constant,
    "cosine": optax.cosine_decay_schedule,  # peak (1 + cos(pi t / steps)) / 2: arXiv:1608.03983, Eq. 5
    "warmup": warmup,
    "one_cycle": one_cycle,
}


def build(
    name: str,
    learning_rate: LearningRate,
    *,
    schedule: str = "constant",
    steps: int | None = None,
    clip_norm: float | Array | None = None,
    weight_decay: float | Array | None = None,
    average: float | Array | None = None,
    **options: Any,
) -> Optimizer:
    """Return an optimizer of the table with its schedule, gradient clipping, weight decay and averaging.

    Args:
        name: a key of `OPTIMIZERS`.
        learning_rate: what the schedule peaks at; under the constant one it may itself be an optax schedule.
        schedule: a key of `SCHEDULES`.
        steps: how many updates the whole training makes; every schedule but the constant one needs to know.
        clip_norm: gradients whose L2 norm, over all params, exceeds this are first of all scaled down to it
            (Pascanu et al. 2013, arXiv:1211.5063, Algorithm 1). None leaves them.
        weight_decay: the optimizer's own, where it has one, as the module's docstring writes it (adadelta's
            joins the gradient); the others then minimise loss + weight_decay / 2 ‖params‖². None leaves the
            optimizer's default.
        average: the decay of the moving average of the params that `evaluation_params` then returns; it looks back
            over about 1 / (1 - average) steps. None keeps none.
        **options: the optimizer's other options, by optax's names.

    Raises:
        UserError: unknown optimizer, schedule or option; a schedule without its steps, or upon another; a norm or a
            decay out of range; an average upon schedule-free's.
    """
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    known = [option for option in inspect.signature(OPTIMIZERS[name]).parameters if option != "learning_rate"]
    for option in options:
        if option not in known:
            raise unknown(f"option of {name}", option, known)

    decays = "weight_decay" in known
    if weight_decay is not None and decays:
        options["weight_decay"] = weight_decay
    optimizer = OPTIMIZERS[name](_scheduled(learning_rate, schedule, steps), **options)
    if weight_decay is not None and not decays:
        optimizer = _with_penalty(optimizer, weight_decay)
    if clip_norm is not None:
        if isinstance(clip_norm, int | float) and not clip_norm > 0:
            raise UserError(f"clip_norm = {clip_norm}: gradients are clipped to a positive norm, or not at all (None)")
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    if average is not None:
        if name.startswith("schedule_free"):
            raise UserError(f"{name} averages its params already: leave average = {average} out")
        if isinstance(average, int | float) and not 0 < average < 1:
            raise UserError(f"average = {average}: params are averaged with a decay between 0 and 1, or not (None)")
        optimizer = _with_average(optimizer, average)
    return optimizer


def _scheduled(learning_rate: LearningRate, schedule: str, steps: int | None) -> LearningRate:
    """Return the rate as it came if constant, else the schedule that peaks at it."""
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if schedule == "constant":
        return learning_rate
    if callable(learning_rate):
        raise UserError(f"the learning rate is a schedule already: pass a number, or no schedule={schedule!r}")
    if steps is None or steps < 1:
        raise UserError(f"schedule {schedule!r} needs steps, the number of updates (1 or more), not {steps}")
    return SCHEDULES[schedule](learning_rate, steps)


def _with_penalty(optimizer: Optimizer, weight_decay: float | Array) -> Optimizer:
    """Make an optimizer minimise loss + weight_decay / 2 ‖params‖², along its line search too."""

    def penalty(params):
        return 0.5 * weight_decay * optax.tree.norm(params, squared=True)

    def update(updates, state, params, *, value, grad, value_fn):
        return optimizer.update(
            optax.tree.add_scale(updates, weight_decay, params),
            state,
            params,
            value=value + penalty(params),
            grad=optax.tree.add_scale(grad, weight_decay, params),
            value_fn=lambda trial: value_fn(trial) + penalty(trial),
        )

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


class AverageState(NamedTuple):
    """What an averaging optimizer keeps."""

    steps: Array  # [] int32: updates made
    average: Params
    optimizer: optax.OptState


def _with_average(optimizer: Optimizer, decay: float | Array) -> Optimizer:
    """Make an optimizer keep the exponential moving average of the params that its updates lead to."""

    def init(params):
        return AverageState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    def update(updates, state, params, **extra):
        updates, inner = optimizer.update(updates, state.optimizer, params, **extra)
        steps = state.steps + 1
        share = 1 - jnp.minimum(decay, (1 + steps) / (10 + steps))
        average = jax.tree.map(
            lambda old, new: (old + share * (new - old)).astype(old.dtype),
            state.average,
            optax.apply_updates(params, updates),
        )
        return updates, AverageState(steps, average, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def evaluation_params(optimizer_state: optax.OptState, params: Params) -> Params:
    """Return the params to score: the average, if the state holds one anywhere, else `params`.

    It is the exponential moving average of `build(..., average=...)`, or schedule-free's x. It speaks of one run; for
    lanes, call it inside the `vmap`.
    """
    nodes = jax.tree.leaves(optimizer_state, is_leaf=_averages)
    for node in filter(_averages, nodes):
        return node.average if isinstance(node, AverageState) else contrib.schedule_free_eval_params(node, params)
    return params


def _averages(node: Any) -> bool:
    return isinstance(node, AverageState | contrib.ScheduleFreeState)
