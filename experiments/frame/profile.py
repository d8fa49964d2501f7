"""A profile of a training: a trace of one segment, device memory, and the share of the machine's peak.

The first segment compiles, the second one is traced, and the third one, without a tracer, is timed. Of a training of
two segments the traced one is timed.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp

from mllab import flops, training

SIZE, PRODUCTS = 2048, 5  # of the matrix products that measure the machine's peak
DTYPES = {"float32": jnp.float32, "tf32": jnp.float32, "bf16": jnp.bfloat16}
FOLDER = "profile"

Observer = Callable[[training.Segment | training.Notice], None]


class Profile:
    """The profile of the first drive of a run that has enough segments; an observer of `training.drive`."""

    def __init__(self, folder: Path, say: Callable[[str], None], precision: str, device_count: int):
        """Take the folder to write, what shows a line, and what is computed in and on."""
        self._folder, self._say, self._precision, self._device_count = folder, say, precision, device_count
        self._programs: Callable[[], tuple[Any, Any]] | None = None
        self._segments: list[training.Segment] = []  # computed since the drive began
        self._is_done, self._is_tracing = False, False

    def begin(self, programs: Callable[[], tuple[Any, Any]]) -> None:
        """Take the programs of the segments of a drive, `advance` and `score`, as a function that returns jaxprs."""
        if not self._is_done:
            self._stop()
            self._programs, self._segments = programs, []

    def __call__(self, event: training.Segment | training.Notice) -> None:
        """Begin or end the trace, or measure."""
        if self._is_done or not isinstance(event, training.Segment) or event.restored:
            return
        self._segments.append(event)
        if len(self._segments) == 1 and event.step < event.steps:
            options = jax.profiler.ProfileOptions()
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, create_perfetto_trace=True, profiler_options=options)
            self._is_tracing = True
        else:
            self._stop()
        if len(self._segments) == 3 or (len(self._segments) == 2 and event.step == event.steps):
            self._measure()

    def close(self, failed: bool = False) -> None:
        """End a trace that is still going on; say so where a run that has not failed has no profile."""
        self._stop()
        if not self._is_done and not failed:
            self._say("no profile: a training of two segments or more is needed, not one that is resumed at its end")

    def _stop(self) -> None:
        """End the trace, if there is one."""
        if self._is_tracing:
            self._is_tracing = False
            jax.profiler.stop_trace()

    def _measure(self) -> None:
        """Show and write the rate that the last segment reached."""
        assert self._programs is not None
        self._is_done = True
        first, last = self._segments[-2:]
        steps = last.step - first.step
        advance, score = map(flops.count, self._programs())
        local = jax.local_devices()[: self._device_count]
        # Operations are those of all hosts.
        peak = peak_rate(local, DTYPES[self._precision]) * self._device_count / len(local)
        # A segment trains for its steps and scores once. The programs are those of the longest segment.
        longest = self._segments[0].step
        done = advance * steps / longest + score
        measured = {
            "step_flops": advance / longest,
            "steps_per_second": steps / last.seconds,
            "flops_per_second": done / last.seconds,
            "peak_flops_per_second": peak,
            "share_of_peak": done / last.seconds / peak,
            "is_traced": len(self._segments) == 2,  # the timed segment, which takes longer then
            "peak_memory_bytes": memory_bytes(local),
        }
        (self._folder / "profile.json").write_text(json.dumps(measured, indent=1) + "\n")
        self._say(line(measured, self._folder))


class Profiled:
    """An observer with a profile beside it."""

    def __init__(self, observer: Observer, profile: Profile):
        """Take both."""
        self._observer, self._profile = observer, profile
        self.begin = profile.begin

    def __call__(self, event: training.Segment | training.Notice) -> None:
        """Pass an event on to both."""
        self._observer(event)
        self._profile(event)


def line(measured: dict[str, Any], folder: Path) -> str:
    """Return a profile in one line."""
    memory = measured["peak_memory_bytes"]
    return (
        f"profile: {measured['step_flops'] / 1e6:,.3g} million operations a step, "
        f"{measured['steps_per_second']:,.3g} steps a second: {measured['flops_per_second'] / 1e9:,.3g} of "
        f"{measured['peak_flops_per_second'] / 1e9:,.3g} GFLOP/s of matrix products, "
        f"{measured['share_of_peak']:.1%} of the peak{' (while traced)' if measured['is_traced'] else ''}; "
        f"device memory {'not reported' if memory is None else f'{memory / 2**20:,.0f} MiB at most'}; "
        f"trace for TensorBoard and Perfetto in {folder}"
    )


def peak_rate(devices: list[Any], dtype: Any) -> float:
    """Return the measured rate of products of random matrices on all devices at once, in operations a second."""
    left, right = (jax.random.normal(jax.random.key(seed), (SIZE, SIZE), dtype) for seed in (0, 1))
    pairs = [jax.device_put((left, right), device) for device in devices]
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready([product(*pair) for pair in pairs])  # compiles
    seconds = []
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        jax.block_until_ready([product(*pair) for pair in pairs])
        seconds.append(time.perf_counter() - began)
    return len(devices) * 2 * SIZE**3 / median(seconds)


def memory_bytes(devices: list[Any]) -> int | None:
    """Return the most memory of a device that was in use so far; None where the platform does not report it."""
    statistics = [device.memory_stats() or {} for device in devices]
    peaks = [each["peak_bytes_in_use"] for each in statistics if "peak_bytes_in_use" in each]
    return max(peaks, default=None)
