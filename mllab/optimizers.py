r"""Optimizers, learning-rate schedules, clipping and weight decay: literal tables over optax.

Below, $\theta$ are the params, $g_t$ the gradient of the loss at $\theta_t$ and $\eta$ the learning rate;
products, quotients, powers and roots are elementwise; all state is 0 initially. "Ruder" is Sebastian Ruder's
*An overview of gradient descent optimization algorithms* (arXiv:1609.04747). Options have optax's names. The
learning rate and every other continuous option may be a traced array, so that a sweep can be a `vmap` over
them; the learning rate may also be an optax schedule.

**sgd** (Robbins and Monro 1951; Ruder §2). With all training rows in the batch it is gradient descent.

    $$ \theta_{t+1} = \theta_t - \eta g_t $$

**momentum** (Polyak 1964; Ruder §4.1), $\mu$ = `momentum`.

    $$ v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta v_t $$

Ruder puts the rate inside the velocity, $v_t = \gamma v_{t-1} + \eta g_t$. The two are equal while $\eta$ is
constant; under a schedule, Ruder's form is
`optax.chain(optax.scale_by_learning_rate(schedule), optax.trace(momentum))`.

**nesterov** (Nesterov 1983; Sutskever et al. 2013; Ruder §4.2).

    $$ v_t = \mu v_{t-1} + g_t, \quad \theta_{t+1} = \theta_t - \eta (g_t + \mu v_t) $$

Ruder takes the gradient at the look-ahead point $\theta - \gamma v$. Here the params are that point, so that one
set of params suffices. The two are equal at a constant rate; under a schedule they differ as for momentum.

**adagrad** (Duchi et al. 2011; Ruder §4.3), $G_0$ = `initial_accumulator_value`.

    $$ G_t = G_{t-1} + g_t^2, \quad \theta_{t+1} = \theta_t - \eta g_t / \sqrt{G_t + \epsilon} $$

The defaults are Ruder's, $G_0 = 0$ and $\epsilon = 10^{-8}$; optax has 0.1 and $10^{-7}$.

**adadelta** (Zeiler 2012, Algorithm 1; Ruder §4.4).

    $$ E_t = \rho E_{t-1} + (1 - \rho) g_t^2, \quad u_t = g_t \sqrt{(D_{t-1} + \epsilon) / (E_t + \epsilon)} $$
    $$ D_t = \rho D_{t-1} + (1 - \rho) u_t^2, \quad \theta_{t+1} = \theta_t - \eta u_t $$

Neither source has a learning rate: $\eta = 1$ reproduces them. Zeiler's $\rho$ is 0.95; the default is Ruder's 0.9.

**rmsprop** (Hinton 2012, lecture 6e; Ruder §4.5), $\rho$ = `decay`.

    $$ v_t = \rho v_{t-1} + (1 - \rho) g_t^2 $$
    $$ \theta_{t+1} = \theta_t - \eta g_t / \sqrt{v_t + \epsilon} $$

This is Ruder's form. PyTorch has $\sqrt{v_t} + \epsilon$ and a decay of 0.99: `eps_in_sqrt=False, decay=0.99`.

**adam** (Kingma and Ba 2015, Algorithm 1; Ruder §4.6).

    $$ m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad \hat m_t = m_t / (1 - \beta_1^t) $$
    $$ v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad \hat v_t = v_t / (1 - \beta_2^t) $$
    $$ \theta_{t+1} = \theta_t - \eta \hat m_t / (\sqrt{\hat v_t} + \epsilon) $$

This is the form of the paper and of Ruder; optax can add `eps_root` (default 0) inside the root.

**adamax** (Kingma and Ba 2015, Algorithm 2; Ruder §4.7), $\hat m_t$ as in adam.

    $$ u_t = \max(\beta_2 u_{t-1}, |g_t| + \epsilon), \quad \theta_{t+1} = \theta_t - \eta \hat m_t / u_t $$

Neither source has $\epsilon$. `eps=0.0` reproduces them, but gives 0/0 for a gradient that is 0 from the start.

**nadam** (Dozat 2016, Algorithm 2; Ruder §4.8), $\hat v_t$ as in adam.

    $$ \bar m_t = \beta_1 m_t / (1 - \beta_1^{t+1}) + (1 - \beta_1) g_t / (1 - \beta_1^t) $$
    $$ \theta_{t+1} = \theta_t - \eta \bar m_t / (\sqrt{\hat v_t} + \epsilon) $$

This is Dozat's form. Ruder divides $m_t$ by $1 - \beta_1^t$; no option gives that, and the difference vanishes with
$\beta_1^t$. Like Ruder, optax omits Dozat's schedule of $\beta_1$ and his factor $\beta_2$ on $\hat v_t$.

**adamw** (Loshchilov and Hutter 2019, Algorithm 2), $\lambda$ = `weight_decay`.

    $$ \theta_{t+1} = \theta_t - \eta (\hat m_t / (\sqrt{\hat v_t} + \epsilon) + \lambda \theta_t) $$

The paper multiplies $\lambda$ by the schedule alone; optax, like PyTorch, multiplies it by the learning rate.

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
that are not matrices take nadam's step, with `adam_b1`, `adam_b2` and the same rate. Jordan's momentum has no
bias correction, and embeddings and the last layer are trained by Adam (`muon_weight_dimension_numbers` selects
them in optax). `weight_decay` applies to the matrices, `adam_weight_decay` to the rest.

**schedule_free_sgd** (Defazio et al. 2024, arXiv:2405.15682), $\beta_1$ = `b1`, $p$ = `weight_lr_power`.

    $$ z_{t+1} = z_t - \eta_t g_t, \quad x_{t+1} = (1 - c_t) x_t + c_t z_{t+1} $$
    $$ y_{t+1} = (1 - \beta_1) z_{t+1} + \beta_1 x_{t+1}, \quad c_t = w_t / \sum_{s \le t} w_s $$
    $$ w_t = (\max_{s \le t} \eta_s)^p $$

The params are y, where gradients are taken; the average x is what to evaluate (`averaging.evaluation_params`).
Under a schedule, optax's $w_t$ is one step ahead. `weight_decay` adds $\lambda y_t$ to the gradient.

**schedule_free_adam** (the same paper, Algorithm 1): as above, with AdamW without momentum as the step of z.

    $$ z_{t+1} = z_t - \eta_t (g_t / (\sqrt{\hat v_t} + \epsilon) + \lambda y_t) $$

**lbfgs** (Liu and Nocedal 1989; Nocedal and Wright 2006, Algorithms 7.4, 3.5 and 3.6).

    $$ \theta_{t+1} = \theta_t - \alpha_t \eta H_t g_t $$

$H_t$ is the inverse Hessian that BFGS builds on $(s^T y / y^T y) I$ from the last `memory_size` pairs of
$s = \Delta\theta$ and $y = \Delta g$; the first is $\min(1, 1 / \|g\|) I$. A zoom line search finds
$\alpha_t$ by the strong Wolfe conditions. It tries 1 first, so the textbook's rate is $\eta = 1$. Use the
full batch: pairs from different minibatches do not measure curvature, and this is not checked.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import optax
from optax import contrib

from mllab import checks
from mllab.averaging import with_average
from mllab.errors import UserError, unknown
from mllab.types import Array

Optimizer: TypeAlias = optax.GradientTransformationExtraArgs
LearningRate: TypeAlias = float | Array | optax.Schedule


class Entry(NamedTuple):
    """One optimizer."""

    make: Callable[..., Optimizer]  # (learning_rate, **options) -> transformation
    help: str
    family: str  # "plain", "adaptive" or "later": figures of paths show one family each, at most five paths
    # Learning rates for the two least-squares problems of `experiments.linear_regression` in raw units, 500 full-batch
    # steps from (8, 75): chosen by trial, for a small final loss and a path that stays within the figure.
    line_rate: float  # y = 2x + 25, condition number 133
    houses_rate: float  # price by area, condition number 3e7
    averages: bool = False  # keeps an average of the params, which is what to evaluate


# Pass the loss to every update, for L-BFGS's line search:
# optimizer.update(gradients, state, params, value=loss, grad=gradients, value_fn=loss_of_params)
OPTIMIZERS: Mapping[str, Entry] = {
    "sgd": Entry(optax.sgd, "stochastic gradient descent", "plain", 0.007, 3e-7),
    "momentum": Entry(partial(optax.sgd, momentum=0.9), "gradient descent with momentum 0.9", "plain", 0.003, 1e-8),
    "nesterov": Entry(
        partial(optax.sgd, momentum=0.9, nesterov=True),
        "momentum 0.9, gradients at the look-ahead point",
        "plain",
        0.002,
        1e-8,
    ),
    "adagrad": Entry(
        partial(optax.adagrad, initial_accumulator_value=0.0, eps=1e-8),
        "rates divided by the root of all squared gradients so far",
        "adaptive",
        5.0,
        5.0,
    ),
    "adadelta": Entry(optax.adadelta, "steps in the units of the params; the usual rate is 1", "adaptive", 30.0, 7.0),
    "rmsprop": Entry(
        optax.rmsprop, "rates divided by the root of a running mean of squared gradients", "adaptive", 0.2, 0.02
    ),
    "adam": Entry(optax.adam, "rmsprop with momentum, both bias-corrected", "adaptive", 1.0, 2.0),
    "adamax": Entry(optax.adamax, "adam with a running maximum instead of a mean square", "adaptive", 2.0, 5.0),
    "nadam": Entry(optax.nadam, "adam with Nesterov's momentum", "later", 2.0, 2.0),
    "adamw": Entry(optax.adamw, "adam with decoupled weight decay", "later", 1.0, 0.1),
    "lion": Entry(optax.lion, "the sign of a momentum", "later", 0.1, 0.07),
    "muon": Entry(contrib.muon, "orthogonalised momentum for matrices, nadam for the rest", "later", 0.3, 0.03),
    "schedule_free_adam": Entry(
        contrib.schedule_free_adamw, "adam with averaged params instead of a schedule", "later", 3.0, 5.0, averages=True
    ),
    "schedule_free_sgd": Entry(
        contrib.schedule_free_sgd, "sgd with averaged params instead of a schedule", "plain", 0.005, 2e-7, averages=True
    ),
    "lbfgs": Entry(
        optax.lbfgs, "quasi-Newton with a line search; the full batch, the usual rate is 1", "plain", 1.0, 1.0
    ),
}


def constant(peak: float | Array, steps: int) -> optax.Schedule:
    """Return the constant schedule."""
    del steps
    return optax.constant_schedule(peak)


def warmup(peak: float | Array, steps: int, fraction: float = 0.1) -> optax.Schedule:
    """Return a linear warm-up over the first `fraction` of the steps, then the constant `peak`.

    Of W warm-up steps, step t < W has the rate peak (t + 1) / W, so the first update is not 0.
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
    """Return the one-cycle schedule: half a cosine up over the first `pct_start` of the steps, then one down.

    It goes from peak / div_factor to peak / (div_factor * final_div_factor). Smith and Topin 2017 (arXiv:1708.07120),
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
    name: str | Callable[..., optax.GradientTransformation],
    learning_rate: LearningRate,
    *,
    schedule: str = "constant",
    steps: int | None = None,
    clip_norm: float | Array | None = None,
    weight_decay: float | Array | None = None,
    average: float | Array | None = None,
    **options: Any,
) -> Optimizer:
    """Return an optimizer with a schedule, gradient clipping, weight decay and averaging.

    Args:
        name: a key of `OPTIMIZERS`, or a function of a learning rate and options, such as `optax.adabelief`. In a sweep
            the learning rate is traced.
        learning_rate: the peak of the schedule; with the constant schedule it may itself be an optax schedule.
        schedule: a key of `SCHEDULES`.
        steps: number of updates in the whole training; required by every schedule except the constant one.
        clip_norm: gradients whose L2 norm over all params exceeds this are scaled down to it before anything else
            (Pascanu et al. 2013, arXiv:1211.5063, Algorithm 1). None: no clipping.
        weight_decay: for optimizers that have this option, its value, as in the module's docstring (adadelta's is added
            to the gradient); the others minimise loss + weight_decay / 2 ‖params‖². None: the optimizer's default.
        average: decay of the moving average of the params that `averaging.evaluation_params` then returns; it spans
            about 1 / (1 - average) steps. None: no average.
        **options: the optimizer's other options, by optax's names.

    Raises:
        UserError: an unknown optimizer, schedule or option; a schedule without `steps`, or on top of another schedule;
            a norm or decay out of range; an average on top of schedule-free's; a function that returns no gradient
            transformation.
    """
    make, averages = _maker(name)
    name = name if isinstance(name, str) else getattr(name, "__name__", "the optimizer")
    accepted = list(inspect.signature(make).parameters)[1:]  # the first is the learning rate
    _check_options(learning_rate, weight_decay, options)
    for option in options:
        if option not in accepted:
            raise unknown(f"option of {name}", option, accepted)

    has_decay = "weight_decay" in accepted
    if weight_decay is not None and has_decay:
        options["weight_decay"] = weight_decay
    optimizer = make(_scheduled(learning_rate, schedule, steps), **options)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise UserError(f"{name} returns a {type(optimizer).__name__}, expected an optax.GradientTransformation")
    if weight_decay is not None and not has_decay:
        optimizer = _with_penalty(optimizer, weight_decay)
    if clip_norm is not None:
        checks.as_numbers(clip_norm, "clip_norm")
        if isinstance(clip_norm, int | float) and not (clip_norm > 0 and math.isfinite(clip_norm)):
            raise UserError(f"clip_norm = {clip_norm}: give a positive norm, or None for no clipping")
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    if average is not None:
        checks.as_numbers(average, "average")
        if averages:
            raise UserError(f"{name} averages its params already: leave average = {average} out")
        if isinstance(average, int | float) and not 0 < average < 1:
            raise UserError(f"average = {average}: give a decay between 0 and 1, or None for no average")
        optimizer = with_average(optimizer, average)
    return optimizer


def _maker(name: Any) -> tuple[Callable[..., Optimizer], bool]:
    """Return the function (learning rate, options) -> optimizer, and whether the optimizer averages its params."""
    if isinstance(name, optax.GradientTransformation):
        raise UserError("an optimizer that has its learning rate already: give the function, such as optax.adabelief")
    if callable(name):
        return name, False
    if name not in OPTIMIZERS:
        raise unknown("optimizer", str(name), OPTIMIZERS)
    return OPTIMIZERS[name].make, OPTIMIZERS[name].averages


def _check_options(learning_rate: LearningRate, weight_decay: float | Array | None, options: Mapping[str, Any]) -> None:
    """Raise UserError for a number that is not finite, and for a rate or a weight decay that is negative."""
    for name, value in {"learning_rate": learning_rate, "weight_decay": weight_decay, **options}.items():
        if name not in options and value is not None and not callable(value):
            checks.as_numbers(value, name)
        if not isinstance(value, int | float):
            continue
        if not math.isfinite(value):
            raise UserError(f"{name} = {value}: give a finite number")
        if name in ("learning_rate", "weight_decay") and value < 0:
            raise UserError(f"{name} = {value}: give a number of 0 or more")


def _scheduled(learning_rate: LearningRate, schedule: str, steps: int | None) -> LearningRate:
    """Return the rate unchanged for the constant schedule, otherwise the schedule with this peak."""
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if schedule == "constant":
        return learning_rate
    if callable(learning_rate):
        raise UserError(f"the learning rate is a schedule already: pass a number, or leave schedule={schedule!r} out")
    if steps is None or steps < 1:
        raise UserError(f"schedule {schedule!r} needs steps, the number of updates (1 or more); got {steps}")
    return SCHEDULES[schedule](learning_rate, steps)


def _with_penalty(optimizer: Optimizer, weight_decay: float | Array) -> Optimizer:
    """Return the optimizer of loss + weight_decay / 2 ‖params‖², which its line search minimises too."""

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
