"""Every optimizer against its paper, step by step; schedules, clipping and weight decay against formulas."""

import math
from functools import cache, partial

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from flax import struct

from mllab.averaging import evaluation_params
from mllab.optimizers import OPTIMIZERS, SCHEDULES, build
from support import oracles
from support.mistakes import refused_in_one_line

STEPS = 30
PLATFORMS = ("cpu", "cuda", "tpu")

ADAM = {
    "learning_rate": [0.03, 0.01, 0.1],
    "b1": [0.9, 0.5, 0.99],
    "b2": [0.999, 0.9, 0.99],
    "eps": [1e-8, 1e-4, 1e-2],
}
# Name: (oracle, options: values in three lanes, the first of them the library's default).
ORACLES = {
    "sgd": (oracles.GradientDescent, {"learning_rate": [0.3, 0.1, 1.0]}),
    "momentum": (oracles.Momentum, {"learning_rate": [0.1, 0.03, 0.3], "momentum": [0.9, 0.5, 0.99]}),
    "nesterov": (oracles.Nesterov, {"learning_rate": [0.1, 0.03, 0.3], "momentum": [0.9, 0.5, 0.99]}),
    "adagrad": (
        oracles.Adagrad,
        {"learning_rate": [0.3, 0.1, 1.0], "initial_accumulator_value": [0.0, 0.1, 1.0], "eps": [1e-8, 1e-7, 1e-3]},
    ),
    "adadelta": (
        oracles.Adadelta,
        {
            "learning_rate": [1.0, 0.5, 3.0],
            "rho": [0.9, 0.95, 0.5],
            "eps": [1e-6, 1e-4, 1e-2],
            "weight_decay": [0.0, 0.1, 0.01],
        },
    ),
    "rmsprop": (
        oracles.RMSprop,
        {"learning_rate": [0.03, 0.01, 0.1], "decay": [0.9, 0.99, 0.5], "eps": [1e-8, 1e-6, 1e-2]},
    ),
    "adam": (oracles.Adam, ADAM),
    "adamax": (oracles.AdaMax, ADAM),
    "nadam": (oracles.Nadam, ADAM),
    "adamw": (oracles.AdamW, {**ADAM, "weight_decay": [1e-4, 0.1, 0.0]}),
    "lion": (
        oracles.Lion,
        {
            "learning_rate": [0.01, 0.003, 0.03],
            "b1": [0.9, 0.5, 0.95],
            "b2": [0.99, 0.9, 0.98],
            "weight_decay": [1e-3, 0.1, 0.0],
        },
    ),
    "muon": (
        oracles.Muon,
        {
            "learning_rate": [0.03, 0.01, 0.1],
            "beta": [0.95, 0.9, 0.5],
            "eps": [1e-8, 1e-4, 1e-2],
            "weight_decay": [0.0, 0.1, 0.01],
            "adam_b1": [0.9, 0.5, 0.99],
            "adam_b2": [0.999, 0.9, 0.99],
        },
    ),
    "schedule_free_adam": (
        oracles.ScheduleFreeAdam,
        {
            "learning_rate": [0.03, 0.01, 0.1],
            "b1": [0.9, 0.5, 0.98],
            "b2": [0.999, 0.9, 0.99],
            "eps": [1e-8, 1e-4, 1e-2],
            "weight_decay": [0.0, 0.1, 0.01],
            "weight_lr_power": [2.0, 1.0, 0.0],
        },
    ),
    "schedule_free_sgd": (
        oracles.ScheduleFreeSGD,
        {
            "learning_rate": [0.3, 0.1, 1.0],
            "b1": [0.9, 0.5, 0.98],
            "weight_decay": [0.0, 0.1, 0.01],
            "weight_lr_power": [2.0, 1.0, 0.0],
        },
    ),
}


@struct.dataclass
class Dense:
    w: jax.Array  # [D, C]
    b: jax.Array  # [C]


class SoftmaxRegression:
    """A convex problem of a matrix [6, 3] and a vector [3], its loss in JAX and its loss and gradient by hand."""

    def __init__(self):
        generator = np.random.default_rng(0)
        self.x = generator.normal(size=(40, 6))  # [N, D]
        self.y = np.eye(3)[np.argmax(self.x @ generator.normal(size=(6, 3)) + generator.normal(size=(40, 3)), axis=1)]
        self.start = (generator.normal(size=(6, 3)), generator.normal(size=3))

    def loss(self, params):
        (dense,) = params
        logits = jnp.asarray(self.x) @ dense.w + dense.b[None]
        return -jnp.mean(jnp.sum(jnp.asarray(self.y) * jax.nn.log_softmax(logits), axis=1))

    def params(self, dtype=None):
        w, b = self.start
        return (Dense(jnp.asarray(w, dtype), jnp.asarray(b, dtype)),)

    def by_hand(self, w, b):
        logits = self.x @ w + b
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
        loss = -np.mean(np.log(np.sum(probabilities * self.y, axis=1)))
        error = (probabilities - self.y) / len(self.x)
        return loss, (self.x.T @ error, error.sum(axis=0))


PROBLEM = SoftmaxRegression()


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def train(optimizer, params, loss, steps=STEPS):
    """Return params and evaluation params after each step, as trees with leading axis [S]."""

    def step(carry, _):
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params, value=value, grad=gradient, value_fn=loss)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, evaluation_params(state, params))

    _, trajectory = jax.lax.scan(step, (params, optimizer.init(params)), length=steps)
    return trajectory


def by_the_paper(make, options):
    """Return the expected result of `train` for the softmax regression, one oracle per array: two lists of w and b."""
    theta = list(PROBLEM.start)
    oracle = [make(**options) for _ in theta]
    params, evaluated = [], []
    for _ in range(STEPS):
        _, gradient = PROBLEM.by_hand(*theta)
        theta = [o.step(t, g) for o, t, g in zip(oracle, theta, gradient, strict=True)]
        params.append(theta)
        evaluated.append([getattr(o, "average", t) for o, t in zip(oracle, theta, strict=True)])
    return params, evaluated


def assert_follows(trajectory, expected):
    for (dense,), steps in zip(trajectory, expected, strict=True):
        for array, reference in zip((dense.w, dense.b), zip(*steps, strict=True), strict=True):
            np.testing.assert_allclose(array, np.stack(reference), rtol=1e-10, atol=1e-12)


def test_every_optimizer_has_an_oracle():
    assert set(ORACLES) | {"lbfgs"} == set(OPTIMIZERS)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ORACLES)
def test_defaults_follow_the_paper(name):
    oracle, lanes = ORACLES[name]
    rate = lanes["learning_rate"][0]
    trajectory = jax.jit(lambda params: train(OPTIMIZERS[name].make(rate), params, PROBLEM.loss))(PROBLEM.params())
    assert_follows(trajectory, by_the_paper(oracle, {"learning_rate": rate}))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ORACLES)
def test_traced_options_follow_the_paper(name):
    oracle, lanes = ORACLES[name]
    hyper = {option: jnp.asarray(values) for option, values in lanes.items()}
    run = jax.jit(jax.vmap(lambda options: train(OPTIMIZERS[name].make(**options), PROBLEM.params(), PROBLEM.loss)))
    trajectories = run(hyper)
    for lane in range(3):
        trajectory = jax.tree.map(lambda leaf, lane=lane: leaf[lane], trajectories)
        assert_follows(trajectory, by_the_paper(oracle, {option: values[lane] for option, values in lanes.items()}))


def cosine(t, n):
    return 0.5 * (1 + math.cos(math.pi * t / n))


@pytest.mark.usefixtures("x64")
def test_momentum_in_ruders_form_under_a_schedule():
    schedule = SCHEDULES["cosine"](0.3, STEPS)
    ruders = optax.chain(optax.scale_by_learning_rate(schedule), optax.trace(0.9))
    (dense,), _ = jax.jit(lambda params: train(ruders, params, PROBLEM.loss))(PROBLEM.params())
    theta = list(PROBLEM.start)
    oracle = [oracles.Momentum(None), oracles.Momentum(None)]
    for t in range(STEPS):
        _, gradient = PROBLEM.by_hand(*theta)
        rate = 0.3 * cosine(t, STEPS)
        theta = [o.step(array, g, rate) for o, array, g in zip(oracle, theta, gradient, strict=True)]
    np.testing.assert_allclose(dense.w[-1], theta[0], rtol=1e-10)
    np.testing.assert_allclose(dense.b[-1], theta[1], rtol=1e-10)


# --- L-BFGS ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lbfgs_path():
    """Return the rates [L] and the thetas [L, S + 1, P] of L-BFGS on the softmax regression, memory 5."""
    rates = np.array([1.0, 0.3])
    with jax.enable_x64(True):
        params = PROBLEM.params()

        def run(rate):
            return train(OPTIMIZERS["lbfgs"].make(rate, memory_size=5), params, PROBLEM.loss, 12)[0]

        (dense,) = jax.jit(jax.vmap(run))(jnp.asarray(rates))
        thetas = np.concatenate([np.reshape(dense.w, (2, 12, -1)), dense.b], axis=-1)
    start = np.broadcast_to(np.concatenate([a.ravel() for a in PROBLEM.start]), (2, 1, thetas.shape[-1]))
    return rates, np.concatenate([start, thetas], axis=1)


def flat_softmax_regression(theta):
    loss, (w, b) = PROBLEM.by_hand(theta[:18].reshape(6, 3), theta[18:])
    return loss, np.concatenate([w.ravel(), b])


@pytest.mark.slow
@pytest.mark.parametrize("lane", [0, 1])
def test_lbfgs_steps_along_the_dense_bfgs_direction_by_the_wolfe_conditions(lbfgs_path, lane):
    rates, thetas = lbfgs_path[0], lbfgs_path[1][lane]
    losses, gradients = zip(*map(flat_softmax_regression, thetas), strict=True)
    for t in range(len(thetas) - 1):
        direction = rates[lane] * oracles.bfgs_direction(thetas[: t + 1], gradients[: t + 1], memory_size=5)
        step = thetas[t + 1] - thetas[t]
        alpha = step @ direction / (direction @ direction)
        np.testing.assert_allclose(step, alpha * direction, rtol=1e-6, atol=1e-8 * np.linalg.norm(step))
        slope = gradients[t] @ direction
        assert losses[t + 1] <= losses[t] + 1e-4 * alpha * slope
        assert abs(gradients[t + 1] @ direction) <= 0.9 * abs(slope) + 1e-12
        whole_loss, whole_gradient = flat_softmax_regression(thetas[t] + direction)
        if whole_loss <= losses[t] + 1e-4 * slope and abs(whole_gradient @ direction) <= 0.9 * abs(slope):
            assert alpha == pytest.approx(1.0)  # the first trial is taken if it satisfies the conditions


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@pytest.mark.usefixtures("x64")
def test_lbfgs_finds_rosenbrocks_minimum_as_scipy_does():
    start = jnp.array([-1.2, 1.0, -0.5, 2.0])
    path, _ = jax.jit(lambda x: train(OPTIMIZERS["lbfgs"].make(1.0), x, rosenbrock, 60))(start)
    reference = scipy.optimize.minimize(
        scipy.optimize.rosen, np.asarray(start), jac=scipy.optimize.rosen_der, method="L-BFGS-B", options={"ftol": 0}
    )
    np.testing.assert_allclose(path[-1], reference.x, atol=1e-5)


# --- Schedules -------------------------------------------------------------------------------------------------------


SCHEDULE_VALUES = {  # by name: step of 100 -> rate over peak, by hand
    "constant": {0: 1.0, 50: 1.0, 99: 1.0, 500: 1.0},
    "cosine": {0: 1.0, 25: cosine(1, 4), 50: 0.5, 99: cosine(99, 100), 100: 0.0, 500: 0.0},
    "warmup": {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 500: 1.0},
    "one_cycle": {0: 0.04, 15: 0.52, 30: 1.0, 65: (1 + 4e-6) / 2, 100: 4e-6, 500: 4e-6},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_by_hand(name):
    expected = SCHEDULE_VALUES[name]
    peaks = jnp.array([0.5, 3.0])

    def rates(peak):
        schedule = SCHEDULES[name](peak, 100)
        return jax.lax.map(lambda t: jnp.asarray(schedule(t)), jnp.array(list(expected)))

    by_hand = np.outer(peaks, list(expected.values()))
    np.testing.assert_allclose(jax.jit(jax.vmap(rates))(peaks), by_hand, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shortest_schedules_are_rates(name, steps):
    rates = [float(SCHEDULES[name](2.0, steps)(t)) for t in range(steps)]
    assert all(0.0 < rate <= 2.0 for rate in rates)


# --- build: schedule, clipping, weight decay, errors -----------------------------------------------------------------


def first_update(optimizer, params, gradient):
    """Return the optimizer's first update for a loss with this gradient."""

    def loss(params):
        return sum(jnp.sum(p * g) for p, g in zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True))

    def update(params, gradient):
        state = optimizer.init(params)
        return optimizer.update(gradient, state, params, value=loss(params), grad=gradient, value_fn=loss)[0]

    return jax.jit(update)(params, gradient)


def test_build_applies_the_schedule():
    (trajectory,), _ = jax.jit(
        lambda params: train(build("sgd", 0.5, schedule="warmup", steps=100), params, PROBLEM.loss, 1)
    )(PROBLEM.params())
    _, (gradient, _) = PROBLEM.by_hand(*PROBLEM.start)
    np.testing.assert_allclose(trajectory.w[0], PROBLEM.start[0] - 0.05 * gradient, rtol=1e-5, atol=1e-6)


gradients = hnp.arrays(np.float32, (3, 2), elements=st.floats(-1e6, 1e6, width=32))


@jax.jit
def clipped_descent(gradient, clip_norm):
    optimizer = build("sgd", 1.0, clip_norm=clip_norm)
    return optimizer.update(gradient, optimizer.init(gradient), gradient)[0]


@hypothesis.given(gradients, gradients, st.floats(1e-3, 1e3))
@hypothesis.settings(deadline=None, max_examples=50)
def test_clipping_bounds_the_norm_and_keeps_the_direction(w, other, clip_norm):
    clipped = clipped_descent({"w": w, "b": other[0]}, clip_norm)
    flat = np.concatenate([w.ravel(), other[0]]).astype(np.float64)
    norm = np.linalg.norm(flat)
    expected = -flat * min(1.0, clip_norm / norm) if norm > 0 else -flat
    flat_clipped = np.concatenate([np.ravel(clipped["w"]), clipped["b"]])
    assert np.linalg.norm(flat_clipped) <= clip_norm * (1 + 1e-5)
    np.testing.assert_allclose(flat_clipped, expected, rtol=1e-4, atol=1e-6 * clip_norm)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "lbfgs"])
def test_weight_decay_of_optimizers_without_the_option_is_a_penalty_in_the_loss(name):
    def penalised(params):
        return PROBLEM.loss(params) + 0.05 * sum(jnp.sum(p**2) for p in jax.tree.leaves(params))

    @jax.jit
    def run(params):
        decayed = train(build(name, 0.3, weight_decay=0.1), params, PROBLEM.loss, 8)
        return decayed, train(OPTIMIZERS[name].make(0.3), params, penalised, 8)

    decayed, expected = run(PROBLEM.params())
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), decayed, expected)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon", "schedule_free_adam"])
def test_decoupled_weight_decay_is_applied_after_clipping(name):
    params, zero = {"w": jnp.full((2, 3), 4.0)}, {"w": jnp.zeros((2, 3))}
    update = first_update(build(name, 0.1, weight_decay=0.5, clip_norm=1e-3), params, zero)
    np.testing.assert_allclose(update["w"], -0.1 * 0.5 * 4.0, rtol=1e-5)
    assert np.all(first_update(build(name, 0.1, weight_decay=0.0), params, zero)["w"] == 0.0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adm", {}, "unknown optimizer 'adm': did you mean 'adam'"),
        ("adam", {"schedule": "cosin", "steps": 3}, "unknown schedule 'cosin': did you mean 'cosine'"),
        ("momentum", {"momentun": 0.9}, "unknown option of momentum 'momentun': did you mean 'momentum'"),
        ("lbfgs", {"b1": 0.9}, "unknown option of lbfgs 'b1'"),
        ("adam", {"schedule": "cosine"}, "needs steps"),
        ("adam", {"schedule": "cosine", "steps": 0}, "needs steps"),
        ("adam", {"schedule": "cosine", "steps": 9, "learning_rate": optax.constant_schedule(1.0)}, "already"),
    ],
)
def test_errors_are_one_line(name, options, message):
    with refused_in_one_line(message):
        build(name, options.pop("learning_rate", 0.1), **options)


# --- Properties of all optimizers ------------------------------------------------------------------------------------


RATES = {  # reach the minimum of the bowl below in 300 steps under a cosine schedule
    "sgd": 0.1,
    "momentum": 0.03,
    "nesterov": 0.03,
    "adagrad": 0.3,
    "adadelta": 30.0,
    "rmsprop": 0.03,
    "adam": 0.03,
    "adamax": 0.03,
    "nadam": 0.03,
    "adamw": 0.03,
    "lion": 0.03,
    "muon": 0.03,
    "schedule_free_adam": 0.3,
    "schedule_free_sgd": 0.3,
    "lbfgs": 1.0,
}
BOWL = {"w": jnp.zeros((2, 2)), "b": jnp.ones(2)}


def bowl(params):
    curvature, minimum = jnp.array([[1.0, 3.0], [0.5, 2.0]]), jnp.array([[1.0, -1.0], [0.5, 0.0]])
    return jnp.sum(curvature * (params["w"] - minimum) ** 2) + jnp.sum(params["b"] ** 2)


@cache
def lanes_on_the_bowl(name):
    """Return the compiled training with three rates, a schedule and clipping, to the evaluation params [3, ...]."""

    def run(rate, params):
        optimizer = build(name, rate, schedule="cosine", steps=300, clip_norm=10.0)
        return jax.tree.map(lambda leaf: leaf[-1], train(optimizer, params, bowl, 300)[1])

    return jax.jit(jax.vmap(run, in_axes=(0, None)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_finds_a_minimum_independently_of_other_lanes(name):
    rate = RATES[name]
    final = lanes_on_the_bowl(name)(jnp.array([0.0, rate, jnp.nan]), BOWL)
    still, trained, diverged = (jax.tree.map(lambda leaf, lane=lane: leaf[lane], final) for lane in range(3))
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), still, BOWL)
    assert bowl(trained) < 1e-3 * bowl(BOWL)
    assert np.all(np.isnan(diverged["w"]))
    healthy = lanes_on_the_bowl(name)(jnp.array([0.0, rate, rate]), BOWL)
    jax.tree.map(lambda leaf, other: np.testing.assert_array_equal(leaf[1], other[1]), final, healthy)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_lowers_to_every_platform(name):
    exported = jax.export.export(lanes_on_the_bowl(name), platforms=PLATFORMS)(jnp.ones(3), BOWL)
    assert exported.platforms == PLATFORMS


def test_muon_orthogonalises_matrices_inside_a_stack_of_layers():
    key = jax.random.key(0)
    gradient = (
        Dense(jax.random.normal(key, (5, 8)), jnp.ones(8)),
        Dense(jax.random.normal(key, (8, 3)), jnp.ones(3)),
    )
    first, second = first_update(OPTIMIZERS["muon"].make(1.0), gradient, gradient)
    for update, fan_in, fan_out in ((first.w, 5, 8), (second.w, 8, 3)):
        singular = np.linalg.svd(update, compute_uv=False) / math.sqrt(max(1, fan_out / fan_in))
        assert np.all((singular > 0.5) & (singular < 1.3))
    np.testing.assert_allclose(first.b, -(0.9 * 0.1 / (1 - 0.9**2) + 1.0), rtol=1e-5)  # Nadam's first step


@pytest.mark.parametrize("name", ["schedule_free_sgd", "adam"])
def test_evaluation_params_of_a_nested_state(name):
    params = PROBLEM.params(jnp.float32)
    optimizer = optax.MultiSteps(build(name, 0.1, clip_norm=1.0), every_k_schedule=1)
    (dense,), (evaluated,) = jax.jit(lambda params: train(optimizer, params, PROBLEM.loss, 3))(params)
    assert np.array_equal(dense.w, evaluated.w) == (name == "adam")


TORCH = {  # ours: (PyTorch's class, rate, our options, PyTorch's options)
    "sgd": ("SGD", 0.3, {}, {}),
    "momentum": ("SGD", 0.1, {}, {"momentum": 0.9}),
    "nesterov": ("SGD", 0.1, {}, {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", 0.3, {"eps": 0.0}, {"eps": 0.0}),
    "adadelta": ("Adadelta", 1.0, {}, {}),
    "rmsprop": ("RMSprop", 0.03, {"decay": 0.99, "eps_in_sqrt": False}, {}),
    "adam": ("Adam", 0.03, {}, {}),
    "adamax": ("Adamax", 0.03, {}, {}),
    "adamw": ("AdamW", 0.03, {"weight_decay": 0.1}, {"weight_decay": 0.1}),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", TORCH)
def test_follows_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch is a peer to compare with; it is not installed")
    peer, rate, ours, theirs = TORCH[name]
    tensors = [torch.tensor(array, dtype=torch.float64, requires_grad=True) for array in PROBLEM.start]
    optimizer = getattr(torch.optim, peer)(tensors, lr=rate, **theirs)
    for _ in range(STEPS):
        _, gradient = PROBLEM.by_hand(*(t.detach().numpy() for t in tensors))
        for tensor, g in zip(tensors, gradient, strict=True):
            tensor.grad = torch.tensor(g)
        optimizer.step()
    make = OPTIMIZERS[name].make
    (dense,), _ = jax.jit(lambda params: train(make(rate, **ours), params, PROBLEM.loss))(PROBLEM.params())
    np.testing.assert_allclose(dense.w[-1], tensors[0].detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(dense.b[-1], tensors[1].detach().numpy(), rtol=1e-9)
