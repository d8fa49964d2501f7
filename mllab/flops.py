"""Floating-point operations of a program, counted in its jaxpr.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs: of a recurrent net, one time step.
"""

import math
from collections.abc import Iterator
from typing import Any


def count(jaxpr: Any) -> float:
    """Return the operations of a program's matrix products and convolutions, 2 for each product of two numbers.

    A scan counts as often as it runs, a while loop, whose number of steps is not known, once, and a branch as the most
    expensive of its alternatives. Other operations are left out: they take a small share of a net's.

    Args:
        jaxpr: from `jax.make_jaxpr`.
    """
    return sum(map(_of, getattr(jaxpr, "jaxpr", jaxpr).eqns))


def _of(eqn: Any) -> float:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = eqn.invars[0].aval.shape
        return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        features = kernel[params["dimension_numbers"].rhs_spec[0]]  # of the output
        return 2.0 * math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / features
    inner = [count(each) for each in _inner(list(params.values()))]
    if name == "cond":
        return max(inner, default=0.0)
    return _times(name, params) * sum(inner)


def _times(name: str, params: Any) -> int:
    """Return how often an operation runs the programs among its parameters."""
    if name == "scan":
        return params["length"]
    if name == "shard_map":  # along the mesh's other axes the program inside is that of all devices
        return math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"])
    return 1


def _inner(values: list[Any]) -> Iterator[Any]:
    """Yield the programs among the parameters of an operation."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _inner(list(value))
        elif hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns"):
            yield value
