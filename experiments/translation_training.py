"""Train translation models: batches of sentences of similar length, and the loss of each target token.

Sentences are padded to the longest once. A step reads a batch, and computes on the shortest of a few crops that all of
its sentences fit in: one program, whose steps cost what their lengths need.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from experiments.rate_choice import TrainedLanes
from mllab import devices, memory, optimizers, rows, sweep, training, translation_models
from mllab.averaging import evaluation_params
from mllab.data.pairs import PARTS, Pair, Pairs
from mllab.data.vocabulary import Vocabulary
from mllab.errors import UserError
from mllab.models.base import in_precision
from mllab.models.encoder_decoder import EncoderDecoder, TokenScores
from mllab.special_tokens import PADDING
from mllab.types import Array, Examples, Losses, Metrics, Params, Rows

SHOWN_TOKENS = 40  # of a translation that is shown during training


MAX_NATS = 50.0  # of a perplexity, which would overflow float32 from 88 on


def perplexity(nats: np.ndarray | float) -> np.ndarray:
    """Return the perplexity of a loss in nats per token, exp(MAX_NATS) at most."""
    return np.exp(np.minimum(nats, MAX_NATS))


class Sentences(NamedTuple):
    """Parallel text as ids of tokens, padded to the longest."""

    examples: dict[str, np.ndarray]  # source [N, S] and target [N, T]
    rows: dict[str, np.ndarray]  # ids by part
    crops: list[tuple[int, int]]  # the lengths of source and target of each, ascending
    bucket: np.ndarray  # [N] the first crop that a sentence fits in
    pairs: Mapping[str, list[Pair]]  # all of them by part, those that are too long for training and losses, too
    test_sources: list[list[int]]  # ids of all sources of the test part, END included
    left_out: dict[str, int]  # by part: pairs that are too long
    source: Vocabulary
    target: Vocabulary


def lay_out(pairs: Pairs, source: Vocabulary, target: Vocabulary, longest: int, crops: int = 4) -> Sentences:
    """Return parallel text as ids; pairs with more than `longest` tokens on a side neither train nor count in losses.

    Of n crops the k-th holds a share of 1 - (1 - k / n)^2 of the training sentences: few are much longer than the rest.

    Raises:
        UserError: a part whose pairs are all too long, or sentences that do not fit in memory.
    """
    encoded = {part: [(source.encode(one), target.encode(other)) for one, other in pairs.parts[part]] for part in PARTS}
    kept: list[tuple[list[int], list[int]]] = []
    ids, left_out = {}, {}
    for part in PARTS:
        fitting = [pair for pair in encoded[part] if max(map(len, pair)) <= longest]
        if not fitting:
            raise UserError(f"every pair of the {part} part has more than {longest} tokens on a side: raise --longest")
        left_out[part] = len(encoded[part]) - len(fitting)
        ids[part] = np.arange(len(kept), len(kept) + len(fitting))
        kept += fitting
    lengths = np.array([[len(one), len(other)] for one, other in kept])
    widths = lengths.max(axis=0)
    memory.check(8.0 * len(kept) * widths.sum(), "the sentences", "lower --longest or give fewer pairs")
    train = np.sort(lengths[ids["train"]], axis=0)
    shares = 1 - (1 - np.arange(1, crops + 1) / crops) ** 2
    bounds = train[np.maximum(0, np.ceil(shares * len(train)).astype(int) - 1)]
    bounds[-1] = widths
    made = [(int(s), int(t)) for s, t in np.unique(bounds, axis=0)]  # both columns ascend
    bucket = np.max([np.searchsorted([crop[side] for crop in made], lengths[:, side]) for side in (0, 1)], axis=0)
    return Sentences(
        {
            "source": translation_models.padded([one for one, _ in kept], int(widths[0])),
            "target": translation_models.padded([other for _, other in kept], int(widths[1])),
        },
        ids, made, bucket, pairs.parts, [one for one, _ in encoded["test"]], left_out,
        source, target,
    )  # fmt: skip


def batches(sentences: Sentences, batch_size: int, epochs: int, seeds: int, segments: int) -> Rows:
    """Return schedules [P, S, B], one a seed: each epoch visits the training pairs in new batches of similar length.

    The pairs of a bucket are shuffled and cut into batches, and the batches of all buckets shuffled. The last batch is
    filled up with pairs of its epoch, so that all rows weigh alike; steps of one more epoch follow, so that `segments`
    divide the steps and one program computes all segments.
    """
    ids, bucket = sentences.rows["train"], sentences.bucket[sentences.rows["train"]]
    count = -(-len(ids) // batch_size)
    steps = -(-epochs * count // segments) * segments
    schedules = np.empty((seeds, -(-steps // count) * count, batch_size), np.int32)
    for seed in range(seeds):
        draw = np.random.default_rng(seed)
        for first in range(0, steps, count):
            order = draw.permutation(len(ids))
            order = np.resize(order[np.argsort(bucket[order], kind="stable")], count * batch_size)
            schedules[seed, first : first + count] = draw.permutation(ids[order].reshape(count, batch_size))
    return Rows(schedules[:, :steps], np.ones((seeds, steps, batch_size), np.float32))


def scored(sentences: Sentences, part: str, batch_size: int) -> Rows:
    """Return the rows of a part in blocks of similar length."""
    ids = sentences.rows[part]
    return rows.blocks(ids[np.argsort(sentences.bucket[ids], kind="stable")], min(batch_size, len(ids)))


def crop_index(batch: Examples, crops: Sequence[tuple[int, int]]) -> Array:
    """Return the position of the first crop that all sentences of a batch fit in, []."""
    index = jnp.zeros((), jnp.int32)
    for side, words in enumerate((batch["source"], batch["target"])):
        longest = (words != PADDING).sum(axis=1).max()
        index = jnp.maximum(index, jnp.searchsorted(jnp.array([crop[side] for crop in crops]), longest))
    return index


def _cropped(batch: Examples, crop: tuple[int, int]) -> dict[str, Array]:
    return {"source": batch["source"][:, : crop[0]], "target": batch["target"][:, : crop[1]]}


def smoothed(scores: TokenScores, smoothing: float) -> Array:
    """Return the loss of each target token with label smoothing (Szegedy et al. 2016), [B, T]; 0 at padding."""
    return -(1 - smoothing) * scores.log_probability - smoothing * scores.mean_log_probability


def objective(model: EncoderDecoder, crops: Sequence[tuple[int, int]], smoothing: float) -> Callable:
    """Return the loss of a batch: the mean over its target tokens, once for each row, [B].

    Each crop is differentiated within its branch: JAX would keep what the derivatives of all branches need.
    """

    def branch(crop: tuple[int, int]) -> Callable:
        def loss(params: Params, batch: Examples, key: Any) -> Array:
            inputs = _cropped(batch, crop)
            scores, _ = model.apply(params, None, inputs, key)
            return smoothed(scores, smoothing).sum() / (inputs["target"] != PADDING).sum()

        return loss

    def switch(branches: Sequence[Callable], params: Params, batch: Examples, key: Any) -> Any:
        return jax.lax.switch(crop_index(batch, crops), branches, params, batch, key)

    @jax.custom_vjp
    def mean_loss(params: Params, batch: Examples, key: Any) -> Array:
        return switch([branch(crop) for crop in crops], params, batch, key)

    def forward(params: Params, batch: Examples, key: Any) -> tuple[Array, Params]:
        return switch([jax.value_and_grad(branch(crop)) for crop in crops], params, batch, key)

    def backward(gradient: Params, by: Array) -> tuple[Params, None, None]:
        return jax.tree.map(lambda leaf: by * leaf, gradient), None, None

    mean_loss.defvjp(forward, backward)

    def losses(hyper: Any, params: Params, extra: Any, batch: Examples, key: Any) -> tuple[Array, Any]:
        return jnp.broadcast_to(mean_loss(params, batch, key), batch["source"].shape[:1]), extra

    return losses


def make_run(
    model: EncoderDecoder, optimizer: Callable[[Mapping[str, Array]], Any], crops: Sequence[tuple[int, int]],
    smoothing: float,
) -> training.Run:  # fmt: skip
    """Return the run that trains a translation model; its metric `loss` is in nats per target token, END included."""

    def metrics(hyper: Any, params: Params, extra: Any, batch: Examples) -> tuple[dict[str, Losses], Any]:
        def branch(crop: tuple[int, int]) -> Callable:
            def sums(params: Params, batch: Examples) -> Array:
                scores, _ = model.apply(params, None, _cropped(batch, crop), None)
                return -scores.log_probability.sum(axis=1)

            return sums

        total = jax.lax.switch(crop_index(batch, crops), [branch(crop) for crop in crops], params, batch)
        tokens = (batch["target"] != PADDING).sum(axis=1).astype(total.dtype)
        return {"loss": Losses(total / tokens, tokens)}, extra

    return training.supervised(
        model.init, objective(model, crops, smoothing), optimizer, metrics,
        evaluate=lambda state: evaluation_params(state.optimizer, state.params),
    )  # fmt: skip


def with_samples(run: training.Run, model: EncoderDecoder, sources: np.ndarray) -> training.Run:
    """Return a run whose score has greedy translations as well: `sample`, ids [K, SHOWN_TOKENS] of sources [K, S]."""

    def score(hyper: Any, state: training.State, examples: Examples, rows: Rows) -> Metrics:
        params = evaluation_params(state.optimizer, state.params)
        hypotheses = translation_models.hypotheses_of(
            [model], [params], jnp.asarray(sources), width=1, length=SHOWN_TOKENS
        )
        return {**run.score(hyper, state, examples, rows), "sample": hypotheses.tokens[:, 0]}

    return run._replace(score=score)


@dataclass(frozen=True, kw_only=True)
class Trained(TrainedLanes):
    """One model, trained with every learning rate and seed; losses are in nats per target token."""

    name: str
    model: EncoderDecoder  # without dropout
    arguments: dict[str, Any]
    parameters: int
    test: np.ndarray  # [R, G] losses of the kept params, which no choice depends on


def train(
    sentences: Sentences, name: str, arguments: Mapping[str, Any], *, dropout: float, smoothing: float,
    rates: tuple[float, ...], seeds: int, epochs: int, batch_size: int, shared_batches: bool, segments: int,
    optimizer: str, settings: Mapping[str, Any], shown: Sequence[int], mesh: Mesh,
    observe: Callable[[sweep.Grid, int], list], precision: str = "float32", **drive: Any,
) -> Trained:  # fmt: skip
    """Train a model with every learning rate and seed; choose the rate on the validation part, score the test part.

    Args:
        sentences: the parallel text.
        name: a key of `translation_models.MODELS`.
        arguments: of the model.
        dropout: its rate.
        smoothing: of the labels.
        rates: learning rates, [R].
        seeds: G.
        epochs: passes over the training pairs.
        batch_size: pairs in a batch.
        shared_batches: whether all seeds read the same batches, so that one device computes them side by side.
        segments: how often the validation part is scored.
        optimizer: a key of `optimizers.OPTIMIZERS`.
        settings: of `optimizers.build`.
        shown: rows whose sources are translated after each score.
        mesh: devices to spread the lanes over, or the batches of few lanes.
        observe: (grid, steps) -> observers of the drive.
        precision: see `base.in_precision`.
        **drive: further arguments of `training.drive`: patience, workdir, checkpoint_seconds.

    Raises:
        UserError: sizes that do not fit in memory, or settings that the model or the optimizer refuses.
    """
    sizes = len(sentences.source), len(sentences.target)
    model = translation_models.make(name, *sizes, arguments, dropout=dropout)
    batch_size = min(batch_size, len(sentences.rows["train"]))
    segments = min(segments, epochs * -(-len(sentences.rows["train"]) // batch_size))
    grid = sweep.grid({"learning_rate": np.asarray(rates)}, seeds)
    parameters = check_memory(model, sentences, len(grid.seed), batch_size, epochs, 1 if shared_batches else seeds)
    schedule = batches(sentences, batch_size, epochs, 1 if shared_batches else seeds, segments)
    steps = schedule.ids.shape[1]
    if shared_batches:
        schedule = Rows(schedule.ids[0], schedule.weight[0])
    schedule_of_lane = np.zeros_like(grid.schedule) if shared_batches else grid.schedule

    def build(hyper: Mapping[str, Array]) -> Any:
        return optimizers.build(optimizer, hyper["learning_rate"], steps=steps, **settings)

    one = make_run(in_precision(model, precision), build, sentences.crops, smoothing)
    one = with_samples(one, model, sentences.examples["source"][np.asarray(shown)])
    if sweep.leaves_idle(len(grid.seed), mesh):
        run = sweep.batches(one, schedule_of_lane, mesh=mesh)
    else:
        # Lanes with batches of their own run one by one, so that each takes the crop of its batch alone.
        group = devices.lanes_of_long_steps(mesh) if shared_batches else 1
        run = sweep.lanes(one, schedule_of_lane, mesh=mesh, group=group, min_shared_lanes=1)
    blocks = {part: scored(sentences, part, batch_size) for part in ("validation", "test")}
    chosen = {**arguments, **settings, "dropout": dropout, "smoothing": smoothing, "optimizer": optimizer}
    result = training.drive(
        run, grid.hyper, grid.key, sentences.examples, schedule, held_out=blocks["validation"],
        segment=steps // segments, observers=observe(grid, steps), name=name,
        fingerprint=f"{sorted(chosen.items())} {list(shown)}", **drive,
    )  # fmt: skip
    tested = jax.jit(lambda *arguments: run.score(*arguments)["loss"])(  # without samples
        grid.hyper, result.kept, sentences.examples, blocks["test"]
    )
    scored_lanes = TrainedLanes(result=result, grid=grid)
    return Trained(
        result=result, grid=grid, name=name, model=translation_models.make(name, *sizes, arguments),
        arguments=dict(arguments), parameters=parameters, test=scored_lanes.finite(tested),
    )  # fmt: skip


def check_memory(
    model: EncoderDecoder, sentences: Sentences, lanes: int, batch_size: int, epochs: int, schedules: int
) -> int:
    """Return the number of parameters, after a check that a training fits in memory.

    Raises:
        UserError: it does not.
    """
    memory.check(
        8.0 * len(sentences.rows["train"]) * epochs * schedules, f"the batches of {epochs:,} epochs",
        "lower --epochs or --seeds",
    )  # fmt: skip
    shapes, _ = jax.eval_shape(model.init, jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    remedy = "lower the sizes of the model, --seeds or the number of --learning_rates"
    what = f"the params and optimizer states of {lanes:,} lanes"
    memory.check(4.0 * 5 * parameters * lanes, what, remedy)  # params, two moments, the kept params, gradients
    widest = sum(sentences.crops[-1])
    narrowest = min(leaf.shape[-1] for leaf in jax.tree.leaves(shapes) if leaf.ndim > 1)
    memory.check(4.0 * batch_size * widest * narrowest, "the states of a batch", "lower --batch_size or --longest")
    return parameters
