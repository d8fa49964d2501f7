r"""Kernel ridge regression: ridge in the feature space of a kernel, in closed form.

With weights $\omega_i$, $\bar t$ the weighted mean of the targets and kernel matrix K:

    $$ f(x) = \bar t + \sum_i a_i k(x_i, x), \quad
       \min_a \sum_i \omega_i (t_i - f(x_i))^2 + \lambda a^\top K a, \quad
       a = S (S K S + \lambda)^{-1} S (t - \bar t), \quad S = \mathrm{diag}(\sqrt{\omega}) $$

The penalty is at least the rounding error of the matrix, eps times its trace, without which the Cholesky factor of a
nearly singular matrix would not exist.

Source: Hastie, Tibshirani and Friedman, *The Elements of Statistical Learning*, 2nd ed., section 12.3.7.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct

from mllab import checks
from mllab.models.ops import factorization
from mllab.models.svm import kernels
from mllab.types import Array


@struct.dataclass
class KernelRidge:
    """A function of the inputs."""

    inputs: Array  # [N, D] training rows
    coefficients: Array  # [N]
    bias: Array  # [] the mean of the targets
    hyper: dict[str, Array]  # of the kernel
    kernel: str = struct.field(pytree_node=False)


def fit(
    inputs: Array,
    targets: Array,
    *,
    l2: Array | float,
    kernel: str = "rbf",
    gamma: Array | float | None = None,
    degree: Array | int = 3,
    coef0: Array | float = 0.0,
    weight: Array | None = None,
) -> KernelRidge:
    """Return kernel ridge regression fitted to these rows. Numbers and arrays may be traced.

    Args:
        inputs: [N, D].
        targets: [N].
        l2: the penalty, at least 0, relative to the sum over examples: scikit-learn's alpha.
        kernel: a name in `kernels.KERNELS`.
        gamma: of the kernel; `kernels.gamma_scale` by default.
        degree: of the polynomial kernel.
        coef0: of the polynomial kernel.
        weight: of each row, [N]; 1 by default. Rows of weight 0 are ignored.

    Raises:
        UserError: an unknown kernel, a shape that does not match, a number out of range, more rows than a kernel matrix
            may have, or a fit that is not finite.
    """
    checks.check_at_least(0, l2=l2)
    inputs = checks.check_array(inputs, ("N", "D"), "inputs")
    targets = checks.check_array(targets, (len(inputs),), "targets").astype(inputs.dtype)
    weight = checks.check_weight(weight, len(inputs), inputs.dtype)
    kernels.check_memory(len(inputs), inputs.dtype.itemsize)
    numbers = {"gamma": gamma, "degree": degree, "coef0": coef0}
    hyper = kernels.hyper_of(kernel, numbers, inputs, weight)
    coefficients, bias = _fit(inputs, targets, jnp.asarray(l2, inputs.dtype), hyper, weight, kernel)
    fitted = KernelRidge(inputs, coefficients, bias, hyper, kernel)
    return checks.finite_fit(fitted, "rescale the inputs, raise l2, or lower gamma or degree", coefficients, bias)


@partial(jax.jit, static_argnames="kernel")
def _fit(
    inputs: Array, targets: Array, l2: Array, hyper: dict[str, Array], weight: Array, kernel: str
) -> tuple[Array, Array]:
    return solve(kernels.named(kernel)(inputs, inputs, hyper), targets, weight, l2)


def solve(matrix: Array, targets: Array, weight: Array, l2: Array) -> tuple[Array, Array]:
    """Return the coefficients [N] and the bias [] for a kernel matrix [N, N].

    Args:
        matrix: [N, N], symmetric, positive semidefinite.
        targets: [N].
        weight: [N].
        l2: the penalty, [].
    """
    bias = weight @ targets / jnp.sum(weight)
    root = jnp.sqrt(weight)
    weighted = matrix * root[:, None] * root[None]
    penalty = jnp.maximum(l2, jnp.finfo(matrix.dtype).eps * jnp.trace(weighted))
    penalty = jnp.maximum(penalty, jnp.finfo(matrix.dtype).tiny)  # a matrix of zeros
    # The default product of a TPU or GPU has 8 to 11 bits.
    with jax.default_matmul_precision("highest"):
        solved = factorization.solve_positive(
            weighted + penalty * jnp.eye(len(matrix), dtype=matrix.dtype), (root * (targets - bias))[:, None]
        )[:, 0]
    return root * solved, bias


def apply(params: KernelRidge, inputs: Array) -> Array:
    """Return values [M] of inputs [M, D].

    Raises:
        UserError: inputs of another shape, or not finite.
    """
    inputs = checks.check_array(inputs, ("M", params.inputs.shape[1]), "inputs").astype(params.inputs.dtype)
    return kernels.expansion(
        params.kernel, params.hyper, params.inputs, params.coefficients[None], params.bias[None], inputs
    )[:, 0]
