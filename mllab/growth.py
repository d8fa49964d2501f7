r"""What a learner costs as the data grow: measured times and memory, power laws fitted to them, and forecasts.

A cost t at n rows and d columns follows $t = a + b\,n^p d^q$: a fixed overhead, which matters at small sizes, and a
power law. `measure` times a learner at several sizes, `fit_power_law` fits the law to the times, and `forecast` does
both for a table that is too large to try on.

    costs = growth.measure(learner, {"c": 1.0}, make, [(250, 20), (1000, 20), (4000, 20)])
    law = growth.fit_power_law([cost.size for cost in costs], [cost.fit.median for cost in costs])
    law.predict(100_000, 20)  # seconds, with a 95% interval
    law.limit(seconds=60, d=20)  # the rows that a minute allows

Times are wall time of this machine: they differ from run to run, and with what else it does.
"""

import math
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mllab import checks, memory
from mllab.errors import UserError
from mllab.metrics import Interval
from mllab.power_law import Exponents, PowerLaw, fit_power_law
from mllab.rows import as_ids
from mllab.types import Examples, Hyper, Key, Rows
from mllab.validation import Learner

Make = Callable[[int, int], Examples]  # (n, d) -> {"inputs", "targets"} of n rows and d columns
QUERIES = 1000  # rows that are predicted
LONG = 0.5  # seconds: longer runs are not repeated,
FEW = 3  # and shorter ones no more than this once they take as long together


# ── Theory ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Theory(NamedTuple):
    """The leading terms that an algorithm implies, for many rows; predictions of a fixed number of rows m."""

    fit: Exponents
    predict: Exponents
    memory: Exponents
    formula: str  # operations of a fit, of a prediction, and numbers held


THEORY: Mapping[str, Theory] = {
    "constant": Theory(Exponents(1, 0), Exponents(0, 0), Exponents(1, 1), "fit n, prediction m, memory n d"),
    "linear": Theory(Exponents(1, 2), Exponents(0, 1), Exponents(1, 1), "fit n d² + d³, prediction m d, memory n d"),
    "softmax": Theory(
        Exponents(1, 1), Exponents(0, 1), Exponents(1, 1), "fit n d C a step, prediction m d C, memory n d"
    ),
    "knn": Theory(Exponents(1, 1), Exponents(1, 1), Exponents(1, 1), "fit: a copy, prediction n m d, memory n d"),
    "svm": Theory(Exponents(2, 1), Exponents(1, 1), Exponents(2, 0), "fit n² to n³ (SMO), prediction n m d, memory n²"),
    "kernel_ridge": Theory(
        Exponents(3, 0), Exponents(1, 1), Exponents(2, 0), "fit n³ / 3 + n² d, prediction n m d, memory n²"
    ),
    "mlp": Theory(
        Exponents(1, 1), Exponents(0, 1), Exponents(1, 1), "fit n d H an epoch, prediction m d H, memory n d"
    ),
    "mixture": Theory(
        Exponents(1, 2), Exponents(0, 2), Exponents(1, 1), "fit n d² an iteration, prediction m d², memory n d"
    ),
    "trees": Theory(
        Exponents(1, 1), Exponents(0, 0), Exponents(1, 1), "fit n d a tree (n log n to bin), prediction m, memory n d"
    ),
}


# ── Measurement ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Seconds(NamedTuple):
    """Wall times of equal runs."""

    median: float
    least: float
    greatest: float
    runs: int


@dataclass(frozen=True)
class Cost:
    """What a learner took at one size."""

    rows: int
    columns: int
    fit: Seconds
    predict: Seconds  # of `queries` rows
    queries: int
    compile_seconds: float  # of both programs; of a learner on the host, what its first run took longer
    bytes: int | None  # peak of fit and prediction, arguments and results included; None where unknown
    bytes_by: str  # "program": XLA's plan; "process": growth of the resident memory or of Python's, a lower bound

    @property
    def size(self) -> tuple[int, int]:
        """(n, d)."""
        return self.rows, self.columns


def measure(
    learner: Learner, setting: Hyper, make: Make, sizes: Iterable[Sequence[int]], repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter, *, queries: int = QUERIES, key: Key | None = None,
    traced: bool | None = None,
) -> list[Cost]:  # fmt: skip
    """Return what a learner takes at several sizes; see `measured`."""
    return list(measured(learner, setting, make, sizes, repeats, clock, queries=queries, key=key, traced=traced))


def measured(
    learner: Learner, setting: Hyper, make: Make, sizes: Iterable[Sequence[int]], repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter, *, queries: int = QUERIES, key: Key | None = None,
    traced: bool | None = None,
) -> Iterator[Cost]:  # fmt: skip
    """Yield what a learner takes at one size after another, so that the caller may stop.

    Programs are compiled apart and run once before they are timed.

    Args:
        learner: the algorithm.
        setting: its hyperparameters.
        make: makes examples of a size.
        sizes: (n, d) each.
        repeats: timed runs, at most; one where it takes more than `LONG` seconds, `FEW` where they do together.
        clock: returns seconds.
        queries: rows to predict.
        key: of the fits.
        traced: whether `fit` and `predict` are compiled as whole programs, whose memory XLA then tells; None: where
            they can be traced.

    Raises:
        UserError: sizes or counts that are not whole numbers of 1 or more, or what the learner refuses.
    """
    checks.check_whole(1, repeats=repeats, queries=queries)
    key = jax.random.key(0) if key is None else key
    for n, d in _checked_sizes(sizes):
        examples = checks.check_examples(make(int(n), int(d)), finite=False)
        rows = Rows(np.arange(n, dtype=np.int32), np.ones(n, np.float32))
        asked = jax.tree.map(lambda leaf: _cycled(leaf, queries), examples["inputs"])
        examples, rows, asked = jax.block_until_ready(jax.device_put((examples, rows, asked)))
        first, seconds, params, used, by = _run(learner.fit, (setting, key, examples, rows), repeats, clock, traced)
        again = _run(learner.predict, (params, asked), repeats, clock, traced and by == "program")
        peaks = [each for each in (used, again[3]) if each is not None]
        yield Cost(
            int(n), int(d), seconds, again[1], queries, first + again[0], max(peaks, default=None),
            by if by == again[4] else "process",
        )  # fmt: skip


def planned_bytes(
    learner: Learner, setting: Hyper, examples: Examples, rows: int, key: Key | None = None
) -> int | None:
    """Return the peak of fit and prediction on `rows` rows like the examples, as XLA plans it, without running them.

    Args:
        learner: the algorithm.
        setting: its hyperparameters.
        examples: of any number of rows.
        rows: n.
        key: of the fit.

    Returns:
        Bytes, arguments and results included; None for a learner that cannot be traced.

    Raises:
        UserError: what the learner refuses, such as a kernel matrix beyond the memory.
    """
    key = jax.random.key(0) if key is None else key

    every = _shaped(Rows(np.zeros(1, np.int32), np.zeros(1, np.float32)), rows)
    try:
        arguments = (_as_arrays(setting), key, _shaped(examples, rows), every)
        fitted = jax.jit(learner.fit).lower(*arguments)
        params = jax.eval_shape(learner.fit, *arguments)
        predicted = jax.jit(learner.predict).lower(params, _shaped(examples["inputs"], QUERIES))
    except _UNTRACEABLE:
        return None
    peaks = [_peak(lowered.compile()) for lowered in (fitted, predicted)]
    return None if None in peaks else max(peak for peak in peaks if peak is not None)


def most_accepted(learner: Learner, setting: Hyper, examples: Examples, rows: int) -> int:
    """Return the most rows, to two digits and at most `rows`, that a learner accepts: some refuse what does not fit.

    Args:
        learner: the algorithm.
        setting: its hyperparameters.
        examples: of any number of rows, which it accepts.
        rows: n; this number is returned for a learner that cannot be traced.
    """
    low, high = len(jax.tree.leaves(examples)[0]), rows
    if low >= high or not _refuses(learner, setting, examples, high):
        return rows
    while high > low * 1.02:
        middle = round(math.sqrt(low * high))
        low, high = (low, middle) if _refuses(learner, setting, examples, middle) else (middle, high)
    return low


def _refuses(learner: Learner, setting: Hyper, examples: Examples, rows: int) -> bool:
    every = _shaped(Rows(np.zeros(1, np.int32), np.zeros(1, np.float32)), rows)
    try:
        jax.eval_shape(learner.fit, _as_arrays(setting), jax.random.key(0), _shaped(examples, rows), every)
    except _UNTRACEABLE:
        return False
    except UserError:
        return True
    return False


_UNTRACEABLE = (jax.errors.JAXTypeError, jax.errors.JAXIndexError, TypeError)


def _run(
    function: Callable[..., Any], arguments: tuple, repeats: int, clock: Callable[[], float], traced: bool | None
) -> tuple[float, Seconds, Any, int | None, str]:
    """Return the seconds of compiling, those of the runs, the result, the peak in bytes, and what told it."""
    compiled, began = None, clock()
    if traced is not False:
        try:
            arrays = (_as_arrays(arguments[0]), *arguments[1:])
            compiled = jax.jit(function).lower(*arrays).compile()
            arguments = arrays
        except _UNTRACEABLE:
            if traced:
                raise
    compiling, call = clock() - began, compiled or function
    began = clock()
    result = jax.block_until_ready(call(*arguments))
    times, first = [], clock() - began
    if compiled is None:  # the first run may have compiled, and the next one is watched
        peak = _watched(lambda: jax.block_until_ready(call(*arguments))) if first < 4 * LONG else None
    else:
        peak = _peak(compiled)
    if compiled is not None and first > LONG:
        times.append(first)
    while len(times) < repeats:
        is_enough = sum(times) > LONG and len(times) >= FEW
        if times and (is_enough or min(first, *times) > LONG):
            break
        began = clock()
        jax.block_until_ready(call(*arguments))
        times.append(clock() - began)
    seconds = Seconds(float(np.median(times)), min(times), max(times), len(times))
    extra = compiling if compiled is not None else max(first - seconds.median, 0.0)
    return extra, seconds, result, peak, "process" if compiled is None else "program"


def _peak(compiled: Any) -> int | None:
    """Return the bytes that a compiled program holds at once, at most."""
    plan = compiled.memory_analysis()
    if plan is None:
        return None
    held = plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes
    return int(held - plan.alias_size_in_bytes)


def _watched(call: Callable[[], Any]) -> int:
    """Return by how many bytes the process, or what Python has allocated, grows during a call: a lower bound."""
    done, peak = threading.Event(), memory.resident()
    before = peak

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, memory.resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    ours = not tracemalloc.is_tracing()
    if ours:
        tracemalloc.start()
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    try:
        call()
        allocated = tracemalloc.get_traced_memory()[1] - held
    finally:
        if ours:
            tracemalloc.stop()
        done.set()
        watcher.join()
    return int(max(peak - before, allocated, 0))


def _checked_sizes(sizes: Iterable[Sequence[int]]) -> np.ndarray:
    array = np.asarray(checks.as_numbers(list(sizes), "sizes"))
    if array.ndim != 2 or array.shape[1] != 2 or not len(array) or array.dtype.kind not in "iu" or array.min() < 1:
        raise UserError(f"sizes: {array.tolist()}; give (n, d), whole numbers of 1 or more, one size or more")
    return array


def _cycled(leaf: Any, count: int) -> Any:
    return np.asarray(leaf)[np.arange(count) % len(leaf)]


def _shaped(tree: Any, rows: int) -> Any:
    """Return the shapes and dtypes of arrays with another number of rows."""

    def leaf_of(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *np.shape(leaf)[1:]), jax.dtypes.canonicalize_dtype(np.asarray(leaf).dtype))

    return jax.tree.map(leaf_of, tree)


def _as_arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


# ── Forecasts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Forecast:
    """What a fit to all rows will take."""

    seconds: Interval  # without compiling; the interval is a prediction interval
    bytes: int | None  # of fit and prediction; None where it cannot be told
    law: PowerLaw  # of the seconds
    costs: list[Cost]  # that were measured
    refused: str = ""  # what the learner says to a fit of that size, such as that its kernel matrix does not fit


def forecast(
    learner: Learner, setting: Hyper, examples: Examples, rows: Any, *, sizes: Sequence[int] | None = None,
    exponents: Exponents | None = None, repeats: int = 2, key: Key | None = None, most_seconds: float = 2.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Forecast:  # fmt: skip
    """Return what a fit to `rows` will take, from fits to a few small samples of them.

    Args:
        learner: the algorithm.
        setting: its hyperparameters.
        examples: `{"inputs", "targets"}`, [N, ...] each.
        rows: ids of the rows to fit to, [M].
        sizes: numbers of rows of the samples, in ascending order; by default up to three from 250 to 4000.
        exponents: what theory has (see `THEORY`): with two sizes it decides.
        repeats: see `measured`.
        key: of the fits.
        most_seconds: no further sample is fitted once the fits so far, and the expected next one, take longer.
        clock: returns seconds.

    Raises:
        UserError: rows or sizes that do not fit the examples, or what the learner refuses on the samples.
    """
    examples = checks.check_examples(examples, finite=False)
    ids = as_ids(rows, "rows", len(examples["targets"]))
    total = len(ids)
    chosen = [min(size, total) for size in sizes or (250, 1000, 4000)]
    checks.check_whole(1, **{f"sizes[{place}]": size for place, size in enumerate(chosen)})
    order = _mixed(ids, np.asarray(examples["targets"]))
    width = max(1, sum(math.prod(np.shape(leaf)[1:]) for leaf in jax.tree.leaves(examples["inputs"])))
    prior = Exponents(*exponents) if exponents else Exponents(1.0, 0.0)
    host = jax.tree.map(np.asarray, examples)

    def make(n: int, d: int) -> Examples:
        del d
        return jax.tree.map(lambda leaf: leaf[order[:n]], host)

    costs: list[Cost] = []
    spent = 0.0
    for size in sorted(set(chosen)):
        if costs:
            ahead = costs[-1].fit.median * (size / costs[-1].rows) ** max(prior.rows, 1.0)
            if spent + ahead * (1 + repeats) > most_seconds:
                break
        began = clock()
        costs += measured(learner, setting, make, [(size, width)], repeats, clock, queries=min(QUERIES, total), key=key)
        spent += clock() - began - costs[-1].compile_seconds
    law = fit_power_law([cost.size for cost in costs], [cost.fit.median for cost in costs], prior=prior)
    needed, refused = costs[-1].bytes if costs[-1].rows == total else None, ""
    if needed is None and costs[-1].bytes_by == "program":
        try:
            needed = planned_bytes(learner, setting, host, total, key)
        except UserError as error:
            refused = str(error)
    return Forecast(law.predict(total, width), needed, law, costs, refused)


def _mixed(ids: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return row ids in a random order that begins with a row of each class, so that small samples have them all."""
    order = np.random.default_rng(0).permutation(ids)
    if targets.dtype.kind not in "iub" or targets.ndim != 1:
        return order
    first = np.sort(np.unique(targets[order], return_index=True)[1])
    return np.concatenate([order[first], np.delete(order, first)])
