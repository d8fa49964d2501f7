"""Losses against formulas in NumPy, scikit-learn and optax."""

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss

from mllab.errors import UserError
from mllab.losses import cross_entropy, per_example, smoothed, squared_error
from mllab.types import Losses

B, C = 12, 5
DRAW = np.random.default_rng(0)
LOGITS = (3 * DRAW.normal(size=(B, C))).astype(np.float32)
LABELS = (np.arange(B) % C).astype(np.int32)
ONE_HOT = np.eye(C, dtype=np.float32)[LABELS]
PROBABILITIES = softmax(DRAW.normal(size=(B, C)), axis=1).astype(np.float32)
# Targets, and the same as distributions.
TARGETS = {"labels": (LABELS, ONE_HOT), "probabilities": (PROBABILITIES, PROBABILITIES)}
EPSILONS = np.array([0.0, 0.1, 0.5], np.float32)


def test_cross_entropy_of_labels_equals_scikit_learns():
    assert float(cross_entropy(LOGITS, LABELS).mean()) == pytest.approx(
        log_loss(LABELS, softmax(LOGITS.astype(np.float64), axis=1)), rel=1e-5
    )


@pytest.mark.parametrize("kind", TARGETS)
def test_cross_entropy_and_its_gradient_by_hand(kind):
    targets, distribution = TARGETS[kind]
    predicted = softmax(LOGITS.astype(np.float64), axis=1)
    np.testing.assert_allclose(
        cross_entropy(LOGITS, targets), -np.sum(distribution * np.log(predicted), axis=1), rtol=1e-5, atol=1e-6
    )
    gradient = jax.grad(lambda logits: cross_entropy(logits, targets).sum())(LOGITS)
    np.testing.assert_allclose(gradient, predicted - distribution, atol=1e-6)


@pytest.mark.parametrize("kind", TARGETS)
def test_smoothed_is_the_cross_entropy_of_smoothed_targets(kind):
    targets, distribution = TARGETS[kind]
    ours = jax.jit(jax.vmap(lambda epsilon: smoothed(epsilon)(LOGITS, targets)))(EPSILONS)  # traced
    for epsilon, losses in zip(EPSILONS, ours, strict=True):
        theirs = optax.softmax_cross_entropy(LOGITS, optax.smooth_labels(distribution, epsilon))
        np.testing.assert_allclose(losses, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", TARGETS)
def test_no_smoothing_is_the_cross_entropy(kind):
    targets, _ = TARGETS[kind]
    np.testing.assert_allclose(smoothed(0.0)(LOGITS, targets), cross_entropy(LOGITS, targets), rtol=1e-6, atol=1e-6)


@hypothesis.given(hnp.arrays(np.float32, (B, C), elements=st.floats(-30, 30, width=32)), st.floats(0, 0.99))
@hypothesis.settings(deadline=None, max_examples=50)
def test_a_smoothed_loss_is_never_below_its_targets_entropy(logits, smoothing):
    target = (1 - smoothing) * ONE_HOT + smoothing / C
    entropy = -np.sum(target * np.log(np.maximum(target, 1e-30)), axis=1)
    assert np.all(np.asarray(smoothed(smoothing)(logits, LABELS)) >= entropy - 1e-4)


@pytest.mark.parametrize("loss", [cross_entropy, smoothed(0.1)], ids=["cross_entropy", "smoothed"])
def test_large_logits_do_not_overflow_and_nothing_is_gathered(loss):
    assert np.isfinite(loss(1e4 * LOGITS, LABELS)).all()
    program = jax.jit(jax.value_and_grad(lambda logits: loss(logits, jnp.asarray(LABELS)).sum())).lower(LOGITS)
    assert not any(word in program.as_text() for word in ("gather", "scatter"))


@pytest.mark.parametrize("smoothing", [-0.1, 1, 1.5, float("nan")])
def test_smoothing_out_of_range_is_refused(smoothing):
    with pytest.raises(UserError, match=f"label smoothing = {smoothing}: give a number from 0 up to"):
        smoothed(smoothing)


def test_squared_error_of_a_column_is_that_of_its_values():
    values, targets = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 0.0, 1.0])
    np.testing.assert_array_equal(squared_error(values, targets), [0.0, 4.0, 9.0])


def test_losses_of_one_number_per_example_count_once_and_broadcasting_mistakes_are_refused():
    values = jnp.arange(3.0)
    np.testing.assert_array_equal(per_example(values).weights, np.ones(3))
    weighted = Losses(jnp.ones((3, 4)), jnp.zeros((3, 4)))
    assert per_example(weighted) is weighted
    for shape in ((3, 1), (3, 3), ()):
        with pytest.raises(UserError, match="return one number per example"):
            per_example(jnp.zeros(shape))


def test_cross_entropy_allows_logits_of_minus_infinity():
    logits = jnp.array([[0.0, 1.0, -jnp.inf]])
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1])), np.log1p(np.exp(-1)), rtol=1e-6)
