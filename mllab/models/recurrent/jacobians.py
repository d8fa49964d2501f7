r"""How a gradient grows or shrinks with its distance in time.

The gradient of a loss at step T by the state at step t passes the Jacobian

    $$ \frac{\partial h_T}{\partial h_t} = \prod_{k=t+1}^{T} \frac{\partial h_k}{\partial h_{k-1}}, \qquad
       \frac{\partial h_k}{\partial h_{k-1}} = \mathrm{diag}(1 - h_k^2) W_{hh} \text{ for the tanh cell,} $$

whose norm falls or grows about geometrically with T - t. It vanishes where the largest singular value of $W_{hh}$ is
below 1, since $|1 - h^2| \le 1$; that it is above 1 is necessary for it to explode, not sufficient.

Source: Pascanu, Mikolov & Bengio 2013 (arXiv:1211.5063), section 2; Hochreiter 1991; Bengio, Simard & Frasconi 1994.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.models.recurrent.cells import Cell
from mllab.types import Array, Params


def norms_by_distance(cell: Cell, params: Params, inputs: Array) -> Array:
    r"""Return the size of $\partial h_T / \partial s_t$ by distance T - t, [B, T]; the first is that of distance 0.

    The size is the Frobenius norm divided by $\sqrt H$: the root mean square of the singular values, the factor by
    which the gradient of a random direction changes; 1 for an orthogonal Jacobian. The carry $s_t$ is $h_t$; for an
    LSTM it is $(c_t, h_t)$, since its memory is the cell.

    Args:
        cell: one of `CELLS`.
        params: of the cell.
        inputs: [B, T, D].

    Raises:
        UserError: inputs of another shape, or with an entry that is no finite number.
    """
    inputs = checks.check_inputs(inputs, ("B", "T", params.w_x.shape[0]), "inputs")
    hidden = cell.hidden_size(params)

    def of_one(xs: Array) -> Array:
        start = jax.tree.map(lambda a: a[0], cell.initial_carry(params, 1))

        def step(carry, x):
            batched = jax.tree.map(lambda a: a[None], carry)
            return jax.tree.map(lambda a: a[0], cell.step(params, batched, x[None])[0])

        def forward(carry, x):
            return step(carry, x), carry

        end, before = jax.lax.scan(forward, start, xs)
        _, to_hidden = jax.vjp(cell.hidden, end)
        (jacobian,) = jax.vmap(to_hidden)(jnp.eye(hidden))

        def backward(jacobian, each):
            carry, x = each
            _, pull = jax.vjp(lambda carry: step(carry, x), carry)
            (earlier,) = jax.vmap(pull)(jacobian)
            return earlier, _size(jacobian, hidden)

        _, sizes = jax.lax.scan(backward, jacobian, (before, xs), reverse=True)
        return sizes[::-1]

    return jax.vmap(of_one)(inputs)


def with_spectral_radius(params: Params, radius: float | Array) -> Params:
    """Return params whose orthogonal recurrent matrix [H, H] is scaled to this spectral radius.

    All its singular values are the radius then, too.

    Raises:
        UserError: params without a recurrent matrix, or with one of several gates.
    """
    w_h = getattr(params, "w_h", None)
    if w_h is None or w_h.shape[0] != w_h.shape[1]:
        raise UserError("a spectral radius is that of one recurrent matrix [H, H]: give params of a tanh cell")
    return params.replace(w_h=w_h * radius)


def _size(jacobian: Array, hidden: int) -> Array:
    leaves = jax.tree.leaves(jacobian)
    scale = jnp.maximum(jnp.stack([jnp.abs(leaf).max() for leaf in leaves]).max(), jnp.finfo(leaves[0].dtype).tiny)
    squares = sum(jnp.sum(jnp.square(leaf / scale)) for leaf in leaves)  # scaled: squares of large entries overflow
    return scale * jnp.sqrt(squares / np.float32(hidden))
