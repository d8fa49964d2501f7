"""Argument checks: what passes, what comes back, and the one line that names what is wrong and what was expected."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mllab import checks
from mllab.errors import UserError
from support.mistakes import refused_in_one_line

POINTS = np.arange(6.0).reshape(3, 2)
LABELS = np.array([0, 2, 1])


def hole(value, index, like=POINTS):
    array = like.astype(float)
    array[index] = value
    return array


def test_arrays_come_back_as_floats_of_their_width():
    assert checks.check_array(np.arange(6).reshape(3, 2), ("N", 2), "points").dtype == jnp.float32
    for half in (jnp.bfloat16, np.float16):  # widened: solvers have no half precision
        assert checks.check_array(POINTS.astype(half), (3, "D"), "points").dtype == jnp.float32
    assert checks.check_array(POINTS.tolist(), (3, "D"), "points").dtype == jnp.float32
    with jax.enable_x64(True):
        assert checks.check_array(POINTS, ("N", "D"), "points").dtype == jnp.float64
    checks.check_shape(np.ones((3, 4, 5)), ("N", "..."), "images")


def test_numbers_whose_squares_overflow_are_refused_and_others_pass():
    for large in (np.float32([[0, 1], [-1e30, 1]]), np.float64([[0, 1], [1e300, 0]]), np.int64([[0, 1], [2**60, 0]])):
        for array in (large, jnp.asarray(large)) if large.dtype == np.float32 else (large,):
            with refused_in_one_line("points: row 1, column 0 is .*; rescale it: squares overflow"):
                checks.check_array(array, ("N", "D"), "points")
    for half in (np.float16, jnp.bfloat16):
        with refused_in_one_line("points: row 0, column 1 is inf; fill it in"):
            checks.check_array(np.array([[0, np.inf]], half), ("N", "D"), "points")
    near = np.full((300, 2), 1e15, np.float32)
    np.testing.assert_array_equal(checks.check_array(near, ("N", "D"), "points"), near)


def test_weights_and_labels_come_back_as_arrays():
    np.testing.assert_array_equal(checks.check_weight(None, 3, jnp.float32), [1, 1, 1])
    assert checks.check_weight(np.array([True, False]), 2, jnp.float32).dtype == jnp.float32
    assert isinstance(checks.check_labels(LABELS, 3, 3), jax.Array)
    checks.check_labels(LABELS - 1, 3, 2, unlabelled=True)
    checks.check_labels(LABELS + 7, 3, None)


def test_values_of_tracers_are_not_checked_and_those_of_constants_are():
    @jax.jit
    def traced(points, labels, weight, number):
        checks.check_array(points, ("N", "D"), "points")
        checks.check_labels(labels, 3, 2)
        checks.check_count("k", number, checks.check_weight(weight, 3, points.dtype), "points")
        checks.check_positive(c=number)
        checks.check_at_least(0, l2=number)
        return points

    traced(hole(np.nan, (1, 1)), LABELS + 9, -np.ones(3), -1)
    with pytest.raises(UserError, match="points: row 1, column 1 is nan"):
        jax.jit(lambda x: checks.check_array(hole(np.nan, (1, 1)), ("N", "D"), "points") + x)(1.0)
    with pytest.raises(UserError, match="points: shape"):
        jax.jit(lambda points: checks.check_array(points, ("N", 3), "points"))(POINTS)


MISTAKES = {
    "axes": (lambda: checks.check_array(POINTS[0], ("N", "D"), "points"), r"points: shape \[2\], expected \[N, D\]$"),
    "size": (lambda: checks.check_array(POINTS, ("N", 3), "points"), r"points: shape \[3, 2\], expected \[N, 3\]$"),
    "empty": (
        lambda: checks.check_array(POINTS[:, :0], ("N", "D"), "points"),
        r"points: shape \[3, 0\], expected \[N, D\], each at least 1",
    ),
    "further axes": (lambda: checks.check_shape(3.0, ("N", "..."), "x"), r"x: shape \[\], expected \[N, ...\]"),
    "NaN": (
        lambda: checks.check_array(hole(np.nan, (2, 1)), ("N", "D"), "points"),
        "points: row 2, column 1 is nan; fill it in or leave the row out",
    ),
    "infinite": (lambda: checks.check_array(hole(-np.inf, (0, 1)), ("N", "D"), "x"), "x: row 0, column 1 is -inf"),
    "NaN of three axes": (
        lambda: checks.check_finite(hole(np.nan, (1, 0, 1), np.ones((2, 2, 2))), "images"),
        r"images: index \[1, 0, 1\] is nan",
    ),
    "label": (lambda: checks.check_labels(LABELS, 3, 2), "targets: row 1 has label 2, expected 0 to 1$"),
    "negative label": (lambda: checks.check_labels(LABELS - 1, 3, 2), "targets: row 0 has label -1"),
    "no label": (
        lambda: checks.check_labels(LABELS - 2, 3, 2, "labels", unlabelled=True),
        "labels: row 0 has label -2, expected 0 to 1, or -1 for no label",
    ),
    "label values": (
        lambda: checks.check_labels(LABELS * 0.5, 3, 3),
        r"targets: float64\[3\], expected 3 integers, one per row",
    ),
    "labels": (lambda: checks.check_labels(LABELS, 4, 3), r"targets: int64\[3\], expected 4 integers"),
    "weight": (lambda: checks.check_weight(np.ones(4), 3, jnp.float32), r"weight: shape \[4\], expected \[3\]"),
    "negative weight": (
        lambda: checks.check_weight(np.array([1, -2.0]), 2, jnp.float32),
        "weight: row 1 is -2.0, expected a finite number of 0 or more",
    ),
    "NaN weight": (lambda: checks.check_weight(np.array([np.nan]), 1, jnp.float32), "weight: row 0 is nan"),
    "count": (
        lambda: checks.check_count("k", 4, np.ones(3), "points"),
        "k = 4: expected 1 to 3, the number of points$",
    ),
    "count of some": (
        lambda: checks.check_count("k", 2, np.array([0, 1, 0]), "points"),
        "k = 2: expected 1 to 1, the number of points with a positive weight",
    ),
    "count of 0": (lambda: checks.check_count("k", jnp.array(0), np.ones(3), "points"), "k = 0: expected 1 to 3"),
    "at least": (lambda: checks.check_at_least(1, steps=3, restarts=0), "restarts = 0: expected 1 or more"),
    "at least, NaN": (lambda: checks.check_at_least(0, l2=np.nan), "l2 = nan: expected 0 or more"),
    "positive": (lambda: checks.check_positive(c=0.0), "c = 0.0: expected a finite number above 0"),
    "positive, infinite": (lambda: checks.check_positive(c=np.inf), "c = inf"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with refused_in_one_line(message):
        call()
