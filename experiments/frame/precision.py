"""The precision of matrix products in a run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import jax

from experiments.frame import settings
from experiments.frame.shared_flags import Steps


@contextmanager
def matmul_precision(chosen: settings.Base, say: Callable[[str], None]) -> Iterator[None]:
    """Compute float32 matrix products as the settings say, where they have a precision and the platform has several.

    It is set for all threads, some of which compile programs.
    """
    if not isinstance(chosen, Steps):
        yield
        return
    platform = jax.default_backend()
    if chosen.precision == "tf32" and platform == "cpu":
        say("--precision=tf32 has no effect on a CPU: it computes in float32.")
    name = chosen.matmul_precision(platform)
    before = jax.config.jax_default_matmul_precision  # type: ignore[attr-defined]
    if name is not None:
        jax.config.update("jax_default_matmul_precision", name)
    try:
        yield
    finally:
        if name is not None:
            jax.config.update("jax_default_matmul_precision", before)
