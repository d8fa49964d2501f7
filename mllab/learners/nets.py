r"""The multi-layer perceptron as a learner: every setting × fold × seed is a lane of one training program.

Each lane minimises the mean cross entropy or squared error of its training rows by AdamW under a one-cycle schedule,
for a number of steps that is the same for all lanes. In regression the targets are standardised by the training rows
of the lane, and the outputs are in the targets' units.
"""

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from mllab import checks, devices, losses, memory, optimizers, sweep, training
from mllab.errors import UserError
from mllab.learners.common import check_hyper, checked_learner
from mllab.models import linear
from mllab.models import mlp as perceptron
from mllab.models.linear import Linear
from mllab.rows import gather
from mllab.training import Run, State
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Params, Rows
from mllab.validation import Axes, Learner

DEFAULT_HYPER: Mapping[str, float] = {"learning_rate": 0.01, "weight_decay": 0.1, "dropout": 0.0, "seed": 0}
DEFAULT_AXES: Mapping[str, tuple[float, ...]] = {  # chosen on five regression tables of 308 to 1,599 rows
    "learning_rate": (0.01, 0.03),
    "weight_decay": (0.03, 0.3),
    "dropout": (0.0, 0.05),
}
MIN_SHARED_LANES = 4  # as `sweep.MIN_SHARED_LANES`: lanes of tables take equally long if they share, and less memory
PREDICTED_ROWS = 4096  # rows predicted at once: bounds the memory of the hidden units


class Net(NamedTuple):
    """The static part of a learner, which a compiled program depends on."""

    classes: int | None
    outputs: int
    hidden: tuple[int, ...]
    activation: str
    smoothing: float

    @property
    def width(self) -> int:
        """Units of the last layer."""
        return self.classes or self.outputs


@struct.dataclass
class MLP:
    """A trained net, and the targets' mean and standard deviation (0 and 1 in classification)."""

    layers: tuple[Linear, ...]
    centre: Array  # [] or [T]
    scale: Array  # [] or [T]
    net: Net = struct.field(pytree_node=False)


class Length(NamedTuple):
    """How long to train."""

    batch_size: int
    steps: int


def training_length(rows: int) -> Length:
    """Return the default batch size and number of steps for this many training rows.

    Small tables are read more than a hundred times, large ones about ten times.
    """
    batch_size = min(256, max(32, 2 ** round(math.log2(max(rows, 1) / 32))))
    epochs = max(12, min(120, 40_000 / max(rows, 1) ** 0.75))
    steps = max(500, epochs * rows / batch_size)
    return Length(batch_size, _rounded(steps, 2))


def _rounded(steps: float, digits: int) -> int:
    """Return about this many steps: folds whose sizes differ by a few rows then share a program."""
    unit = max(1.0, 10.0 ** (math.floor(math.log10(steps)) - digits + 1) * 5)
    return max(1, round(round(steps / unit) * unit))


def mlp(
    classes: int | None = None,
    outputs: int = 1,
    *,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    smoothing: float = 0.0,
    batch_size: int | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    mesh: Mesh | None = None,
) -> Learner:
    """Return the multi-layer perceptron; it reads `learning_rate`, `weight_decay`, `dropout` and `seed`, all optional.

    The order of the minibatches depends on the key and the number of the lane's training rows; `seed` changes the
    initial weights and the dropped units alone. So lanes of all settings and seeds share the minibatches of a fold.
    Rows of weight 0 are in no minibatch. The rows must be concrete, not traced. Where training diverges, the outputs
    are NaN. The fit also takes a `seed` [E], and then returns params with a leading axis [E]; see `ensemble`.

        axes = {"learning_rate": [0.003, 0.01, 0.03], "weight_decay": [0.01, 1.0], "dropout": [0.0, 0.1]}
        scores = cross_validate(learners.mlp(3), axes, key, examples, folds, accuracy)  # [3, 2, 2, K]

    Args:
        classes: C, for labels; outputs are log-probabilities [N, C]. None for regression.
        outputs: T, for targets [N] (T = 1) or [N, T]; outputs have the shape of the targets.
        hidden: units of each hidden layer.
        activation: a name in `mlp.ACTIVATIONS`.
        smoothing: of the labels; see `losses.smoothed`.
        batch_size: rows of a minibatch; by default that of `training_length`.
        steps: number of updates; by default that of `training_length`.
        epochs: passes over the rows of the largest fold, instead of steps; within 0.5%.
        mesh: the devices over which the lanes are spread (default: one).

    Raises:
        UserError: sizes that are not whole numbers of 1 or more, an unknown activation, or steps beside epochs.
    """
    checks.check_whole(1, outputs=outputs, **({} if classes is None else {"classes": classes}))
    lengths = {"batch_size": batch_size, "steps": steps, "epochs": epochs}
    checks.check_whole(1, **{name: value for name, value in lengths.items() if value is not None})
    if steps is not None and epochs is not None:
        raise UserError(f"steps = {steps} and epochs = {epochs}: give one of the two")
    if classes is not None and outputs != 1:
        raise UserError(f"classes = {classes} and outputs = {outputs}: outputs are for regression, leave them out")
    perceptron.activation_of(activation)
    losses.smoothed(smoothing)
    net = Net(classes, outputs, tuple(hidden), activation, smoothing)
    mesh = mesh or devices.mesh(1)

    def length(rows: int) -> Length:
        default = training_length(rows)
        size = min(batch_size or default.batch_size, rows)
        if steps is not None:
            return Length(size, steps)
        count = default.steps * default.batch_size / size if epochs is None else epochs * rows / size
        return Length(size, _rounded(count, 3))

    def fitted(axes: Axes, key: Key, examples: Examples, train: Rows, folded: bool) -> tuple[MLP, int]:
        """Return the params of all lanes [L], fold by fold, and the number of settings."""
        check_hyper(axes, (), DEFAULT_HYPER)
        _check_values(axes)
        targets = _checked_targets(examples["targets"], net)
        folds = len(train.ids)
        inputs = jnp.asarray(examples["inputs"])
        inputs = inputs.reshape(*inputs.shape[: 1 + folded], -1)
        plan = length(int(np.sum(np.asarray(train.weight) > 0, axis=-1).max()))
        lanes, settings = _lanes(axes, key, targets, train, net)
        _check_memory(net, inputs, folds * settings, plan, folds)
        schedule = _schedule(key, train, plan, inputs.shape[-2] if folded else 0)
        layers = _trained(
            lanes, inputs.reshape(-1, inputs.shape[-1]), targets, schedule, net=net, folds=folds, settings=settings,
            steps=plan.steps, mesh=mesh,
        )  # fmt: skip
        return MLP(layers, lanes["centre"], lanes["scale"], net), settings

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> MLP:
        axes = {name: np.atleast_1d(value) for name, value in hyper.items()}
        one = Rows(*(np.asarray(part)[None] for part in rows))
        lanes, _ = fitted(axes, key, examples, one, False)
        return lanes if np.ndim(hyper.get("seed", 0)) else jax.tree.map(lambda a: a[0], lanes)

    def outputs_of(folded: bool, axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
        params, settings = fitted(axes, key, examples, train, folded)
        folds = len(train.ids)
        inputs = jnp.asarray(examples["inputs"])
        values = _held_out(
            params, inputs, jnp.asarray(held_out.ids), folds=folds, settings=settings, folded=folded, mesh=mesh
        )
        sizes = tuple(map(len, axes.values()))
        return jnp.moveaxis(values.reshape(folds, *sizes, *values.shape[1:]), 0, len(sizes))

    return checked_learner(
        fit,
        predict,
        functools.partial(outputs_of, False),
        classes=classes,
    )._replace(by_fold=functools.partial(outputs_of, True))


def predict(params: MLP, inputs: Inputs) -> Outputs:
    """Return log-probabilities [N, C], or values [N] or [N, T] in the targets' units."""
    count = len(inputs)
    if count <= PREDICTED_ROWS:
        return _predicted(params, jnp.asarray(inputs))
    blocks = [_predicted(params, jnp.asarray(inputs[i : i + PREDICTED_ROWS])) for i in range(0, count, PREDICTED_ROWS)]
    return jnp.concatenate(blocks)


@jax.jit
def _predicted(params: MLP, inputs: Array) -> Outputs:
    return _outputs(params, inputs)


def _outputs(params: MLP, inputs: Array) -> Outputs:
    values = perceptron.apply(params.layers, inputs, params.net.activation)
    if params.net.classes is not None:
        return jax.nn.log_softmax(values)
    values = values[:, 0] if params.centre.ndim == 0 else values
    return params.centre[None] + params.scale[None] * values


# ── Lanes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _lanes(axes: Axes, key: Key, targets: np.ndarray, train: Rows, net: Net) -> tuple[dict[str, Any], int]:
    """Return the hypers, key and targets' statistics of each lane, [K * settings], and the number of settings."""
    values = [np.asarray(each) for each in axes.values()]
    combined = [each.ravel() for each in np.meshgrid(*values, indexing="ij")] if values else []
    settings = math.prod(map(len, values))
    hyper = {name: np.full(settings, value) for name, value in DEFAULT_HYPER.items()} | dict(
        zip(axes, combined, strict=True)
    )
    folds = len(train.ids)
    seeds = _folded_keys(key, jnp.asarray(hyper.pop("seed"), jnp.uint32))
    if not hyper["dropout"].any():
        del hyper["dropout"]  # no random draws
    centre, scale = _statistics(targets, train, net)
    lanes: dict[str, Any] = {name: np.tile(np.asarray(each, np.float32), folds) for name, each in hyper.items()}
    lanes |= {"centre": np.repeat(centre, settings, axis=0), "scale": np.repeat(scale, settings, axis=0)}
    lanes["key"] = seeds[np.tile(np.arange(settings), folds)]
    return lanes, settings


_folded_keys = jax.jit(jax.vmap(jax.random.fold_in, (None, 0)))


def _statistics(targets: np.ndarray, train: Rows, net: Net) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and standard deviation of the training targets of each fold, [K] or [K, T]; 1 for a constant."""
    if net.classes is not None:
        return np.zeros(len(train.ids), np.float32), np.ones(len(train.ids), np.float32)
    values = targets.astype(np.float64)[np.asarray(train.ids)]  # [K, M] or [K, M, T]
    weight = np.asarray(train.weight, np.float64).reshape(*train.weight.shape, *(1,) * (values.ndim - 2))
    weight = weight / weight.sum(axis=1, keepdims=True)
    mean = (weight * values).sum(axis=1)
    deviation = np.sqrt((weight * (values - mean[:, None]) ** 2).sum(axis=1))
    small = deviation <= 1e-6 * np.abs(mean)
    return mean.astype(np.float32), np.where(small, 1, deviation).astype(np.float32)


def _check_values(axes: Axes) -> None:
    values: dict[str, Any] = {name: np.asarray(each) for name, each in axes.items()}
    checks.check_at_least(0, **values)
    if "seed" in values and values["seed"].dtype.kind not in "iu":
        raise UserError(f"seed = {values['seed'].tolist()}: expected whole numbers")
    if np.max(values.get("dropout", 0)) >= 1:
        raise UserError(f"dropout = {np.max(values['dropout'])}: expected a probability of 0 or more, less than 1")


def _checked_targets(targets: Any, net: Net) -> np.ndarray:
    array = np.asarray(targets)
    shape = (len(array),) if net.classes is not None or net.outputs == 1 else (len(array), net.outputs)
    if array.shape != shape:
        raise UserError(f"targets: shape {list(array.shape)}, expected {list(shape)} for {net.outputs} output(s)")
    return array if net.classes is not None else array.astype(np.float32)


def _schedule(key: Key, train: Rows, length: Length, stride: int) -> Rows:
    """Return minibatches [K, S, B]: permutations of a fold's rows one after another, in batches that are always full.

    Args:
        key: of the permutations; folds with equally many rows share them.
        train: [K, M].
        length: S and B.
        stride: added to the ids once for each fold before.
    """
    seed = np.asarray(jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key).ravel()
    ids = np.empty((len(train.ids), length.steps * length.batch_size), np.int32)
    weight = np.empty(ids.shape, np.float32)
    for fold in range(len(ids)):
        used = np.flatnonzero(np.asarray(train.weight[fold]) > 0)
        draw = np.random.default_rng(seed)
        for begin in range(0, ids.shape[1], len(used)):
            place = draw.permutation(used)[: ids.shape[1] - begin]
            ids[fold, begin : begin + len(place)] = np.asarray(train.ids[fold])[place] + fold * stride
            weight[fold, begin : begin + len(place)] = np.asarray(train.weight[fold])[place]
    shape = len(ids), length.steps, length.batch_size
    return Rows(ids.reshape(shape), weight.reshape(shape))


def _check_memory(net: Net, inputs: Array, lanes: int, length: Length, folds: int) -> None:
    features = inputs.shape[-1]
    sizes = (features, *net.hidden, net.width)
    params = sum((before + 1) * after for before, after in itertools.pairwise(sizes))
    needed = 4 * (3 * params * lanes + 2 * folds * length.steps * length.batch_size)
    what = f"{lanes:,} nets of {params:,} params and the minibatches of {folds:,} folds"
    memory.check(needed, what, "lower the number of settings, folds, hidden units or steps")


def _run(net: Net, features: int, rows: int, steps: int) -> Run:
    """Return the training run of one lane; `rows` examples repeat for each fold."""
    sizes = (features, *net.hidden, net.width)
    activation = perceptron.activation_of(net.activation)
    loss = losses.smoothed(net.smoothing) if net.smoothing else losses.cross_entropy

    def objective(hyper: Hyper, params: Params, extra: Any, batch: Examples, key: Key) -> tuple[Array, Any]:
        h = batch["inputs"]
        scales = _dropout_scales(key, len(h), net.hidden, hyper["dropout"]) if "dropout" in hyper else None
        for number, layer in enumerate(params[:-1]):
            h = activation(linear.apply(layer, h))
            h = h if scales is None else h * scales[number]
        values = linear.apply(params[-1], h)
        if net.classes is not None:
            return loss(values, batch["targets"]), extra
        return losses.squared_error(values, (batch["targets"] - hyper["centre"][None]) / hyper["scale"][None]), extra

    def gathered(examples: Examples, ids: Array | np.ndarray) -> Examples:
        return {"inputs": gather(examples["inputs"], ids), "targets": gather(examples["targets"], ids % rows)}

    return training.supervised(
        lambda key: (perceptron.init(key, sizes, activation), None),
        objective,
        lambda hyper: optimizers.build(
            "adamw",
            hyper["learning_rate"],
            schedule="one_cycle",
            steps=steps,
            weight_decay=hyper["weight_decay"],
        ),
        lambda hyper, params, extra, batch: ({}, extra),
        gather=gathered,
    )


def _dropout_scales(key: Key, rows: int, hidden: Sequence[int], rate: Array) -> list[Array]:
    """Return factors [rows, units] of hidden units: 0 with probability `rate`, in steps of 1/256, else 1 / (1 - rate).

    One byte decides on a unit, and all bytes are drawn at once: the draws of `ops.dropout`, a word for each unit, take
    as long as the training of a small net.
    """
    sizes = [rows * units for units in hidden]
    words = jax.random.bits(key, (-(-sum(sizes) // 4),), jnp.uint32)
    bits = jax.lax.bitcast_convert_type(words, jnp.uint8).ravel()
    dropped = jnp.minimum(jnp.round(256 * rate), 255)
    scales = jnp.where(bits >= dropped, 256 / (256 - dropped), 0)
    ends = itertools.accumulate(sizes)
    return [scales[end - size : end].reshape(rows, -1) for end, size in zip(ends, sizes, strict=True)]


@functools.partial(jax.jit, static_argnames=("net", "folds", "settings", "steps", "mesh"))
def _trained(
    lanes: dict[str, Any],
    inputs: Array,
    targets: Array,
    schedule: Rows,
    *,
    net: Net,
    folds: int,
    settings: int,
    steps: int,
    mesh: Mesh,
) -> tuple[Linear, ...]:
    """Return the layers of all lanes, [K * settings] each; NaN where a loss was not finite."""
    hyper = {name: value for name, value in lanes.items() if name != "key"}
    examples = {"inputs": inputs, "targets": targets}
    run = sweep.lanes(_run(net, inputs.shape[1], len(targets), steps), np.repeat(np.arange(folds), settings), mesh=mesh)
    state: State = run.start(hyper, lanes["key"])
    state, _ = run.advance(hyper, state, examples, schedule)
    return jax.tree.map(lambda a: a[: folds * settings], state.params)


@functools.partial(jax.jit, static_argnames=("folds", "settings", "folded", "mesh"))
def _held_out(
    params: MLP, inputs: Array, ids: Array, *, folds: int, settings: int, folded: bool, mesh: Mesh
) -> Outputs:
    """Return the outputs [K * settings, M', ...] on the held-out rows, lane by lane."""

    def one(lane: tuple[MLP, Array], inputs: Array, ids: Array) -> Outputs:
        params, fold = lane
        rows = inputs[fold, ids[fold]] if folded else inputs[ids[fold]]
        return _outputs(params, rows.reshape(len(rows), -1))

    row_bytes = 4 * (math.prod(inputs.shape[1 + folded :]) + 2 * max(params.net.hidden, default=1))
    lanes = params, np.repeat(np.arange(folds), settings)
    return sweep.over_lanes(one, mesh, ids.shape[1] * row_bytes)(lanes, inputs, ids)
