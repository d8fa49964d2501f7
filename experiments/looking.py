"""What an image classifier is looked into by: its figures, its mistakes, and what it looks at.

`inspect` gives the summary and the arrays that `mllab.report.classifier` shows.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mllab import metrics, racing
from mllab.data.dataset import Dataset
from mllab.metrics import interval
from mllab.models import convnet, layers
from mllab.models import table as models
from mllab.models.base import Model, predict, saliency
from mllab.report import classifier

TRAIN_SAMPLE = 5000  # training rows that are looked at, to tell the gap and the images' ground
SHOWN = 24  # mistakes on the page
LOOKED_AT = 12  # images whose saliency is shown


def inspect(
    raced: racing.Race, model: Model, plan: Mapping[str, Any], data: Dataset
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the summary's figures and the arrays that are drawn; see `mllab.report.classifier`."""
    entry, split = raced.entries[0], data.split
    summary: dict[str, Any] = {
        "experiment": "image_classifier",
        "dataset": {
            "name": data.name,
            "rows": {part: len(getattr(split, part)) for part in ("train", "validation", "test")},
            "classes": list(data.classes),
            "shape": list(data.inputs.shape[1:]),
            "licence": data.licence,
            "citation": data.citation,
            "notes": list(data.notes),
        },
        "model": models.describe(plan),
        "seeds": raced.seeds.tolist(),
        "chance_loss": raced.chance_loss,
        "nonfinite": [
            {"seed": int(seed), "step": int(step)}
            for seed, step in zip(raced.seeds, entry.nonfinite_step[0], strict=True)
            if step >= 0
        ],
        "failed": [
            {"seed": int(seed), "kept_loss": float(loss)}
            for seed, loss, failed in zip(raced.seeds, entry.kept_loss[0], entry.failed[0], strict=True)
            if failed
        ],
        "per_class": [],
    }
    lost = np.full(raced.seeds.size, np.nan)
    kept_loss = np.where(np.isfinite(entry.kept_loss[0]), entry.kept_loss[0], np.nan)
    test = entry.test or {"accuracy": lost, "loss": lost}
    summary |= {
        "validation": {"accuracy": interval(entry.score[0]), "loss": interval(kept_loss)},
        "test": {name: interval(values) for name, values in test.items()},
        "test_by_seed": {"accuracy": test["accuracy"].tolist()},
    }
    band = lambda values: np.stack([interval(row)[:3] for row in values])  # noqa: E731 - [E, G] -> [E, 3]
    arrays: dict[str, Any] = {
        "curves": {
            "epoch": np.arange(1, len(raced.steps) + 1),
            "train_loss": band(entry.train_loss[:, 0]),
            "validation_loss": band(entry.loss[:, 0]),
            "validation_accuracy": band(entry.curve[:, 0]),
        }
    }
    if entry.best is None:
        return summary | {"parameters": 0}, arrays

    sample = sampled(split.train)
    on_train = [score(predict(model, *racing.published(entry, seed), data.inputs[sample]), data.targets[sample])
                for seed in range(raced.seeds.size)]  # fmt: skip
    accuracy, loss = np.transpose(on_train)
    params, extra = racing.published(entry)
    logits = predict(model, params, extra, data.inputs[split.test])
    confusion, mistakes = mistaken(logits, data)
    summary |= {
        "train": {"accuracy": interval(accuracy), "loss": interval(loss), "rows": len(sample)},
        "gap": interval(100 * (accuracy - test["accuracy"])),
        "confusion": confusion.tolist(),
        "per_class": classifier.per_class(confusion, data.classes),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
    }
    return summary, arrays | {"confusion": confusion, "mistakes": mistakes} | looks(
        model, params, extra, data, logits, mistakes
    )


def sampled(rows: np.ndarray) -> np.ndarray:
    """Return TRAIN_SAMPLE of the rows at random, always the same ones; all where there are fewer."""
    return np.random.default_rng(0).permutation(rows)[:TRAIN_SAMPLE]


def score(logits: np.ndarray, targets: np.ndarray) -> tuple[float, float]:
    """Return mean accuracy and cross entropy (nats) of logits [M, C]."""
    values = metrics.classification(jnp.asarray(logits), jnp.asarray(targets))
    return float(values["accuracy"].mean()), float(values["loss"].mean())


def mistaken(logits: np.ndarray, data: Dataset) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the confusion [C, C] of the test rows with these logits, and the most confident mistakes among them."""
    rows = data.split.test
    true, predicted = data.targets[rows], logits.argmax(axis=1)
    confusion = np.zeros((len(data.classes),) * 2, int)
    np.add.at(confusion, (true, predicted), 1)
    confidence = np.asarray(jax.nn.softmax(logits).max(axis=1))
    wrong = np.flatnonzero(true != predicted)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:SHOWN]
    return confusion, {
        "images": data.inputs[rows[worst]],
        "true": true[worst],
        "predicted": predicted[worst],
        "probability": confidence[worst],
    }


def looks(
    model: Model, params: Any, extra: Any, data: Dataset, logits: np.ndarray, mistakes: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return first-layer weights, one image's feature maps, and the saliency of an image a class, ready to be drawn."""
    rows, shape = data.split.test, data.inputs.shape[1:]
    true, predicted = data.targets[rows], logits.argmax(axis=1)
    # The first row of each class, a rightly classified one where there is any.
    ranked = np.lexsort((predicted != true, true))
    chosen = ranked[np.unique(true[ranked], return_index=True)[1]][:LOOKED_AT]
    images = data.inputs[rows[chosen]]
    seen: dict[str, Any] = {
        "saliency": {
            "images": images,
            "gradients": np.asarray(saliency(model, params, extra, images, jnp.asarray(predicted[chosen]))),
            "true": true[chosen],
            "predicted": predicted[chosen],
        }
    }
    first = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    if first.ndim == 4:
        seen["filters"] = first
    elif first.shape[0] == np.prod(shape):  # each unit of a dense layer looks at the whole image
        seen["filters"] = first.reshape(*shape, -1)
    if isinstance(params, convnet.Params):
        maps = jax.jit(convnet.activations)(params, images[:1], extra)[1:]
        shown = [
            (called(layer), np.asarray(values[0]))
            for layer, values in zip(params.architecture, maps, strict=True)
            if values.ndim == 4 and not isinstance(layer, layers.Bias)  # which changes no picture
        ]
        caption = f"A test image of class {data.classes[true[chosen[0]]]}."
        seen["feature_maps"] = {"image": images[0], "layers": shown, "caption": caption}
    return seen


def called(layer: layers.Layer) -> str:
    """Return what a layer's maps are called: relu, Residual block, Conv(channels=16)."""
    if isinstance(layer, layers.Activation):
        return layer.name
    return "Residual block" if isinstance(layer, layers.Residual) else str(layer)


def borders(images: np.ndarray) -> np.ndarray:
    """Return the mean of each image's outermost pixels, [N]: near 1 for ink on paper, near 0 for light on dark."""
    edge = np.ones(images.shape[1:3], bool)
    edge[1:-1, 1:-1] = False
    return images[:, edge].mean(axis=(1, 2))
