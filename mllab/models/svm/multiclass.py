r"""Several classes by problems of two: one-vs-one, with C (C - 1) / 2 pairs of classes that vote, or one-vs-rest.

Source: Chang and Lin, *LIBSVM* (2011), section 7.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import unknown
from mllab.types import Array, is_concrete

SCHEMES = ("one_vs_one", "one_vs_rest")


def pairs(classes: int, scheme: str) -> np.ndarray:
    """Return the classes [P, 2] of each problem: the positive one, and the negative one or -1 for all others.

    Two classes are one problem, with class 1 as the positive one. One-vs-one has C (C - 1) / 2 problems, with the later
    class as the positive one.

    Raises:
        UserError: an unknown scheme, or fewer than two classes.
    """
    if scheme not in SCHEMES:
        raise unknown("scheme", scheme, SCHEMES)
    checks.check_whole(2, classes=classes)
    if scheme == "one_vs_one" or classes == 2:
        return np.array([(late, early) for early in range(classes) for late in range(early + 1, classes)])
    return np.array([(positive, -1) for positive in range(classes)])


def class_scores(decisions: Array, classes: int, scheme: str) -> Array:
    r"""Return per-class scores [..., C] from decision values [..., P]; the greatest score is the class.

    One-vs-rest: the decision value of the class. Two classes: half the decision value, with either sign. One-vs-one:
    the votes for the class, plus less than half a vote that breaks ties by confidence: $s / (3 (|s| + 1))$ with s the
    sum of the decision values for the class less those against it.
    """
    if classes == 2:
        return jnp.concatenate([-decisions, decisions], axis=-1) / 2
    if scheme == "one_vs_rest":
        return decisions
    positive, negative = pairs(classes, scheme).T
    sides = np.eye(classes)[positive] - np.eye(classes)[negative]  # [P, C] 1 for the positive class, -1 for the other
    won = (decisions > 0).astype(decisions.dtype)
    against = jnp.asarray(sides < 0, decisions.dtype)
    votes = won @ jnp.asarray(sides > 0, decisions.dtype) + (1 - won) @ against
    confidence = jnp.matmul(decisions, jnp.asarray(sides, decisions.dtype), precision="highest")
    return votes + confidence / (3 * (jnp.abs(confidence) + 1))


class Problem(NamedTuple):
    """A problem of two classes, its rows gathered."""

    ids: Array  # [n] into all rows; those of the two classes first
    signs: Array  # [n] +1 or -1
    present: Array  # [n] whether a row belongs to either class


def problems(targets: Array, classes: int, scheme: str, size: int | None, dtype: jnp.dtype) -> Problem:
    """Return all P problems with `size` rows each; None keeps all rows, in their order.

    A problem with more than `size` rows is NaN, rather than solved without some of its rows.
    """
    signs = _signs(targets, classes, scheme)
    if size is None:
        ids = jnp.broadcast_to(jnp.arange(len(targets))[None], signs.shape)
    else:
        beyond = jnp.sum(signs != 0, axis=1, keepdims=True) > size
        ids = jnp.argsort(signs == 0, axis=1, stable=True)[:, :size]
        signs = jnp.take_along_axis(signs, ids, axis=1)
        signs = jnp.where(beyond, jnp.nan, signs)
    return Problem(ids, jnp.where(signs == 0, 1, signs).astype(dtype), signs != 0)


def problem_rows(targets: Array, classes: int, scheme: str, traced_rows: int | None) -> int | None:
    """Return the most rows that a problem has; None if each has all of them.

    Args:
        targets: labels [N].
        classes: C.
        scheme: one of `SCHEMES`.
        traced_rows: what to return where targets are traced.
    """
    if scheme != "one_vs_one" or classes == 2:
        return None
    if not is_concrete(targets):
        return traced_rows
    counts = np.sort(np.bincount(np.asarray(targets), minlength=classes))
    return max(1, int(counts[-2:].sum()))


def _signs(targets: Array, classes: int, scheme: str) -> Array:
    """Return the sign [P, N] of each row in each problem: +1 positive, -1 negative, 0 in neither class."""
    positive, negative = jnp.asarray(pairs(classes, scheme).T)
    is_positive = targets[None] == positive[:, None]
    is_negative = jnp.where(negative[:, None] < 0, ~is_positive, targets[None] == negative[:, None])
    return is_positive.astype(jnp.int32) - is_negative.astype(jnp.int32)


def class_margins(decisions: Array, classes: int, scheme: str) -> Array:
    """Return the least decision value by which each class wins its problems [..., C], from decision values [..., P].

    Above 0 where a class wins all of them; 1 on the margin that is nearest to being lost.
    """
    sides: list[list[Array]] = [[] for _ in range(classes)]  # the signed decision values of each class
    for problem, (positive, negative) in enumerate(pairs(classes, scheme)):
        sides[positive].append(decisions[..., problem])
        if negative >= 0:
            sides[negative].append(-decisions[..., problem])
    return jnp.stack([jnp.min(jnp.stack(values), axis=0) for values in sides], axis=-1)
