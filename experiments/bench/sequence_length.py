r"""Recurrent networks along longer and longer sequences: seconds and memory of a gradient.

  python -m experiments.bench.sequence_length

A GRU with everything kept for the backward pass, in segments of about the square root of the length whose inner states
are computed again (`jax.checkpoint`), and minGRU step by step and by an associative scan; lengths double. All on one
CPU device; compilation is not timed. Memory is that of the compiled program's temporary arrays.

The loss reads the last hidden state alone, so that nothing but the backward pass needs what lies before.
The exponent of seconds or memory is the slope of its logarithm against that of the length, over the longer half of the
lengths: 1 is linear, 0.5 grows as the square root.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from experiments import frame
from experiments.bench import harness
from mllab.report.report import Report
from mllab.report.table import Table

BATCH, FEATURES = 8, 32


class Form(NamedTuple):
    """A cell, and how it is unrolled."""

    cell: str
    form: str
    segments: bool = False


FORMS: Mapping[str, Form] = {
    "GRU": Form("gru", "fast"),
    "GRU in segments": Form("gru", "fast", segments=True),
    "minGRU": Form("mingru", "fast"),
    "minGRU, associative": Form("mingru", "associative"),
}


@dataclass(frozen=True, kw_only=True)
class Settings(harness.Settings):
    """What to measure."""

    shortest: int = frame.whole(64, help="Steps of the shortest sequence.", low=1)
    doublings: int = frame.whole(7, help="How often the length is doubled.", low=1, high=20)
    hidden: int = frame.whole(64, help="Units.", low=1, high=10_000)


class Figures(NamedTuple):
    """What a form needs, by length."""

    seconds: np.ndarray  # [lengths]
    megabytes: np.ndarray  # [lengths]


def measure(run: frame.Context, settings: Settings) -> tuple[list[int], dict[str, Figures]]:
    """Measure all forms at each length once, then again."""
    del run
    import jax

    lengths = [settings.shortest * 2**power for power in range(settings.doublings + 1)]
    programs: dict[tuple[str, int], Any] = {}
    for name, form in FORMS.items():
        for length in lengths:
            arguments = problem(form, length, settings.hidden)
            compiled = jax.jit(gradient(form, length)).lower(*arguments).compile()
            jax.block_until_ready(compiled(*arguments))
            programs[name, length] = compiled, arguments
    times: dict[tuple[str, int], list[float]] = {key: [] for key in programs}
    for _ in range(settings.repeats):
        for key, (compiled, arguments) in programs.items():
            began = perf_counter()
            jax.block_until_ready(compiled(*arguments))
            times[key].append(perf_counter() - began)

    def of(name: str) -> Figures:
        memory = [programs[name, length][0].memory_analysis().temp_size_in_bytes / 1e6 for length in lengths]
        return Figures(np.array([median(times[name, length]) for length in lengths]), np.array(memory))

    return lengths, {name: of(name) for name in FORMS}


def problem(form: Form, length: int, hidden: int) -> tuple[Any, Any]:
    """Return params and inputs [T, B, D]."""
    import jax

    from mllab.models.recurrent import CELLS

    key, inputs_key = jax.random.split(jax.random.key(0))
    return CELLS[form.cell].init(key, FEATURES, hidden), jax.random.normal(inputs_key, (length, BATCH, FEATURES))


def gradient(form: Form, length: int) -> Any:
    """Return (params, inputs) -> the gradient of the mean square of the last hidden state."""
    import jax
    import jax.numpy as jnp

    from mllab.models.recurrent import CELLS, unroll

    segment = near_root(length) if form.segments else None

    def loss(params: Any, inputs: Any) -> Any:
        carry, _ = unroll(CELLS[form.cell], params, None, inputs, form=form.form, segment=segment, time_major=True)
        return jnp.square(CELLS[form.cell].hidden(carry)).mean()

    return jax.grad(loss)


def near_root(length: int) -> int:
    """Return the divisor of a length that is nearest to its square root, by ratio; others would copy the inputs."""
    divisors = [size for size in range(1, length + 1) if length % size == 0]
    return min(divisors, key=lambda size: abs(math.log(size * size / length)))


def exponent(lengths: list[int], values: np.ndarray) -> float:
    """Return the slope of log values against log lengths over the longer half."""
    half = len(lengths) // 2
    return float(np.polyfit(np.log(lengths[half:]), np.log(values[half:]), 1)[0])


def report(run: frame.Context, settings: Settings, measured: tuple[list[int], dict[str, Figures]]) -> Report:
    """Report seconds and megabytes by length, and their exponents."""
    del run, settings
    lengths, figures = measured

    def table(title: str, field: str, scale: float) -> Table:
        rows = [
            [name, *(f"{scale * value:.3g}" for value in getattr(each, field)),
             f"{exponent(lengths, getattr(each, field)):.2f}"]
            for name, each in figures.items()
        ]  # fmt: skip
        return Table([title, *(f"{length:,}" for length in lengths), "exponent"], rows)

    return harness.report(
        "sequence_length", [table("milliseconds by length", "seconds", 1e3), table("MB by length", "megabytes", 1.0)]
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main)
