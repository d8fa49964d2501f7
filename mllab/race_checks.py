"""What a race is checked for before anything is compiled: names, rates, examples, splits and memory."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from mllab import checks, memory, optimizers, rows
from mllab.errors import UserError
from mllab.models.base import Model
from mllab.race_rows import Split
from mllab.tasks import Task, named
from mllab.types import Examples

Names = str | Sequence[str] | Mapping[str, str | Callable[..., optax.GradientTransformation]]


def by_name(names: Names) -> dict[str, str | Callable]:
    """Return optimizers by the name to record, each a key of `optimizers.OPTIMIZERS` or a function of a learning rate.

    Raises:
        UserError: no names, a repeated one, or one that is no text or cannot name a folder.
    """
    if isinstance(names, str):
        names = [names]
    if not isinstance(names, Mapping | Sequence):
        raise UserError(f"names: {type(names).__name__}, expected names of optimizers, or a mapping to functions")
    for name in names:
        if not isinstance(name, str):
            raise UserError(
                f"names: {name!r} is no name: give functions as a mapping, {{'adabelief': optax.adabelief}}"
            )
        if not name or "/" in name or "\\" in name or name.startswith("."):
            raise UserError(f"names: {name!r} cannot name a folder of checkpoints: give a plain word")
    if not names or len(set(names)) != len(names):
        raise UserError(f"optimizers {', '.join(names) or '(none)'}: name one or more, each once")
    return dict(names) if isinstance(names, Mapping) else {name: name for name in names}


def check(
    learning_rates: float | Sequence[float] | np.ndarray,
    names: Names,
    batch_size: int,
    count: int,
    settings: Mapping[str, Any],
) -> np.ndarray:
    """Return the learning rates [R], ascending.

    Raises:
        UserError: a rate that is repeated or not positive and finite; no, unknown or repeated optimizers; settings that
            `optimizers.build` refuses; or a batch larger than the `count` training rows.
    """
    rates = np.sort(np.asarray(checks.as_numbers(learning_rates, "learning rates"), np.float64).reshape(-1))
    if rates.size == 0 or not (np.isfinite(rates).all() and rates[0] > 0) or len(np.unique(rates)) != rates.size:
        raise UserError(f"learning rates {', '.join(f'{rate:g}' for rate in rates)}: give positive numbers, each once")
    for value in settings.values():
        if isinstance(value, float) and not np.isfinite(value):
            raise UserError(f"settings {dict(settings)}: give finite numbers")
    for make in by_name(names).values():
        optimizers.build(make, 1.0, steps=1, **settings)
    rows.check_batch(batch_size, count)
    return rates


def check_memory(
    model: Model,
    examples: Examples,
    names: Names,
    *,
    rates: int,
    seeds: int,
    epochs: int,
    batch_size: int,
    count: int,
    settings: Mapping[str, Any],
    shared_batches: bool = False,
    mesh: Mesh | None = None,
    folds: int = 1,
    refit: int = 0,
    copies: bool = False,
) -> None:
    """Check that a race fits in memory, before anything is compiled.

    These sizes are estimated: the final and the kept state (params and optimizer state) of every lane of all
    optimizers; the minibatches [P, S, B], 8 bytes a row, with one number for each epoch and lane; the inputs of
    folds that have their own; and the largest array of a forward pass over a batch. A refit adds one lane a seed.

    Args:
        model: see `race`.
        examples: see `race`.
        names: see `race`.
        rates: number of learning rates.
        seeds: number of seeds.
        epochs: passes over the training rows.
        batch_size: B.
        count: training rows, of the largest fold.
        settings: of `optimizers.build`.
        shared_batches: see `race`.
        mesh: the devices.
        folds: number of folds; 1 for a single split.
        refit: rows of the refit; 0 without one.
        copies: whether each fold, and the refit, has inputs of its own.

    Raises:
        UserError: one that does not fit.
    """
    held_by: Iterable[Any] = [] if mesh is None else mesh.devices.flat
    per_epoch = -(-count // batch_size) * folds + -(-refit // batch_size)  # of all folds and the refit
    lanes, schedules = rates * seeds * folds + (seeds if refit else 0), 1 if shared_batches else seeds
    schedule = schedules * epochs * per_epoch * batch_size * 8 + len(names) * epochs * lanes * 4
    what = f"the minibatches of {epochs:,} epochs, and the losses of {len(names) * lanes:,} lanes,"
    fewer = "lower --epochs, --seeds or the number of --learning_rates" + " or --folds" * (folds > 1)
    memory.check(schedule, what, fewer)
    if copies and (folds > 1 or refit):
        made = folds * (folds > 1) + (refit > 0)
        size = sum(np.asarray(a).nbytes for a in jax.tree.leaves(examples))
        memory.check(2 * made * size, f"the inputs of {made} sets of training rows", "lower --folds", held_by)

    params, extra = jax.eval_shape(model.init, jax.random.key(0))
    makers = by_name(names).values()
    states = [jax.eval_shape(optimizers.build(make, 1.0, steps=1, **settings).init, params) for make in makers]
    state = sum(memory.tree_bytes((params, extra, optimizer)) for optimizer in states)
    product = f"{len(names)} optimizers × {rates:,} rates × {seeds:,} seeds" + f" × {folds} folds" * (folds > 1)
    what = f"the params and optimizer states of {len(names) * lanes:,} lanes ({product})"
    remedy = "lower the sizes of the layers (--hidden, --channels), --seeds or the number of --learning_rates"
    remedy += " or --folds" * (folds > 1)
    memory.check(2 * lanes * state, what, remedy, held_by)

    inputs = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), jax.numpy.result_type(a)),
        examples["inputs"],
    )
    forward = jax.make_jaxpr(lambda *each: model.apply(each[0], each[1], each[2], None)[0])(params, extra, inputs)
    what = f"the largest arrays of a forward pass over {batch_size:,} rows"
    memory.check(_largest(forward.jaxpr), what, "lower --batch_size, --hidden or --channels", held_by)


def _largest(jaxpr: Any) -> int:
    """Return the bytes of the largest array that a program computes, those of its inner programs included."""
    sizes = [0]
    for equation in jaxpr.eqns:
        sizes += [memory.tree_bytes(output.aval) for output in equation.outvars]
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda each: hasattr(each, "eqns")):
            if hasattr(inner, "eqns"):
                sizes.append(_largest(inner))
    return max(sizes)


class Ids(NamedTuple):
    """A `Split` whose parts are arrays."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def check_examples(
    model: Model, examples: Examples, split: Split, task: str | Task, *, has_folds: bool = False
) -> tuple[Examples, Ids]:
    """Check that examples, split, model and task fit together, before anything is compiled.

    Args:
        model: see `race`.
        examples: as arrays.
        split: row ids; without validation rows only where there are folds, which hold out training rows.
        task: see `race`.
        has_folds: whether the race has folds.

    Returns:
        The examples and the split as arrays.

    Raises:
        UserError: what does not fit, and where.
    """
    task = named(task)
    if not isinstance(model, Model):
        raise UserError(f"model: {type(model).__name__}, expected a Model: see mllab.plain and the modules of models")
    examples = checks.check_examples(examples)
    count = len(examples["targets"])
    parts = []
    for part in Ids._fields:
        if not hasattr(split, part):
            raise UserError(
                f"split: {type(split).__name__} has no {part!r}: give row ids as train, validation and test"
            )
        name = "training" if part == "train" else part
        if has_folds and part == "validation" and np.size(split.validation) == 0:
            parts.append(np.zeros(0, np.int32))
            continue
        parts.append(rows.as_ids(getattr(split, part), f"{name} rows", count))
    everything = np.concatenate(parts)
    if len(np.unique(everything)) != len(everything):
        raise UserError("a row is in two parts of the split, or twice in one part: give each row once")

    def outputs(key: Any, inputs: Any) -> Any:
        return model.apply(*model.init(key), inputs, None)[0]

    row = jax.tree.map(lambda a: np.asarray(a[:1]), examples["inputs"])
    task.check(np.asarray(examples["targets"]), jax.eval_shape(outputs, jax.random.key(0), row).shape)
    return examples, Ids(*parts)
