"""Inspect a trained image classifier: its errors on test rows, and what its predictions depend on.

`inspect` computes, `sections` reports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mllab import metrics
from mllab.data.dataset import Dataset
from mllab.models import convnet, layers
from mllab.models.base import Model, predict, saliency
from mllab.report.class_tables import ClassRow, class_table, pair_table
from mllab.report.report import Block, Drawing, Section
from mllab.types import Params

MAX_MISTAKES = 24
MAX_SALIENCY = 12  # images, one per class


@dataclass(frozen=True)
class Inspection:
    """One net on the test rows."""

    classes: tuple[str, ...]
    predicted: np.ndarray  # class of each test row, [M]
    confusion: np.ndarray  # [C, C] rows of each true class (matrix rows) predicted as each class (columns)
    per_class: list[ClassRow]
    mistakes: Mapping[str, Any]  # images [M, H, W, C], true, predicted, probabilities [M], most confident first
    saliency: Mapping[str, Any]  # images and gradients [M, H, W, C], true, predicted [M]
    filters: np.ndarray | None  # weights of the image itself, [height, width, C, filters]
    feature_maps: Mapping[str, Any] | None  # image [H, W, C]; layers, pairs of name and [h, w, c]; caption


def inspect(model: Model, params: Params, extra: Any, data: Dataset) -> Inspection:
    """Return a net's errors on the test rows, and its filters, feature maps and saliency maps."""
    rows = data.split.test
    logits, true = predict(model, params, extra, data.inputs[rows]), data.targets[rows]
    predicted = logits.argmax(axis=1)
    confusion = metrics.confusion_matrix(true, predicted, len(data.classes))
    confidence = np.asarray(jax.nn.softmax(logits).max(axis=1))
    worst = metrics.example_rows(true, predicted, confidence)["mistakes"][:MAX_MISTAKES]
    # The first row of each class, a correctly classified one if there is any.
    order = np.lexsort((predicted != true, true))
    shown = order[np.unique(true[order], return_index=True)[1]][:MAX_SALIENCY]
    images = data.inputs[rows[shown]]
    return Inspection(
        classes=tuple(data.classes),
        predicted=predicted,
        confusion=confusion,
        per_class=class_rows(confusion, data.classes),
        mistakes={
            "images": data.inputs[rows[worst]],
            "true": true[worst],
            "predicted": predicted[worst],
            "probabilities": confidence[worst],
        },
        saliency={
            "images": images,
            "gradients": np.asarray(saliency(model, params, extra, images, jnp.asarray(predicted[shown]))),
            "true": true[shown],
            "predicted": predicted[shown],
        },
        filters=image_filters(params, data.inputs.shape[1:]),
        feature_maps=feature_maps(params, extra, images[0], f"A test image of class {data.classes[true[shown[0]]]}."),
    )


def class_rows(confusion: np.ndarray, classes: tuple[str, ...]) -> list[ClassRow]:
    """Return the scores of each class from a confusion matrix [C, C]."""
    scores = metrics.per_class(confusion)
    return [
        ClassRow(
            name=name,
            rows=int(scores.rows[index]),
            recall=float(scores.recall[index]),
            precision=float(scores.precision[index]),
            f1=float(scores.f1[index]),
            confused_with=classes[other] if (other := scores.confused_with[index]) >= 0 else None,
            times=int(scores.confusions[index]),
        )
        for index, name in enumerate(classes)
    ]


def image_filters(params: Params, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the first layer's weights as images [h, w, C, units]; None where it does not take images [*shape]."""
    first = next(leaf for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    if first.ndim == 4:
        return first
    return first.reshape(*shape, -1) if first.shape[0] == np.prod(shape) else None


def feature_maps(params: Params, extra: Any, image: np.ndarray, caption: str) -> dict[str, Any] | None:
    """Return the activations of each layer of a conv net for one image; None for another model."""
    if not isinstance(params, convnet.Params):
        return None
    activations = jax.jit(convnet.activations)(params, image[None], extra)[1:]
    shown = [
        (layer_name(layer), np.asarray(values[0]))
        for layer, values in zip(params.architecture, activations, strict=True)
        if values.ndim == 4 and not isinstance(layer, layers.Bias)  # a bias changes no picture
    ]
    return {"image": image, "layers": shown, "caption": caption}


def layer_name(layer: layers.Layer) -> str:
    """Return a layer's name: relu, Residual block, Conv(channels=16)."""
    if isinstance(layer, layers.Activation):
        return layer.name
    return "Residual block" if isinstance(layer, layers.Residual) else str(layer)


def sections(inspected: Inspection, seeds: int) -> list[Section]:
    """Return the sections of a report: errors, what the net responds to, and scores by class."""
    return [
        Section("Errors", _errors(inspected, seeds)),
        Section("What the net responds to", _responses(inspected)),
        Section("Scores by class", [class_table(inspected.per_class)]),
    ]


def _errors(inspected: Inspection, seeds: int) -> list[Block]:
    from mllab.report import draw

    confusion, classes = inspected.confusion, inspected.classes
    total, wrong = int(confusion.sum()), int(confusion.sum() - np.trace(confusion))
    if not wrong:
        return [f"None: all {total:,} test rows are classified correctly."]
    title = f"Confusion matrix: {wrong:,} of {total:,} test rows are misclassified"
    blocks: list[Block] = ["Of the seed with the best validation accuracy."] if seeds > 1 else []
    blocks.append(
        Drawing(
            "confusion", draw.confusion(confusion, classes, title=title), "Test rows by true and by predicted class"
        )
    )
    if len(classes) > 2:
        blocks.append(pair_table(confusion, classes))
    blocks.append(
        Drawing(
            "mistakes",
            draw.mistakes(**inspected.mistakes, classes=classes, title="The most confident errors"),
            "Misclassified images with their true class, the predicted class, and its probability",
            "Where a person would hesitate too, or the label is wrong, more training will not help.",
        )
    )
    return blocks


def _responses(inspected: Inspection) -> list[Block]:
    from mllab.report import draw

    blocks: list[Block] = []
    if (weights := inspected.filters) is not None:
        whole = weights.shape[:2] == inspected.saliency["images"].shape[1:3]
        by_class = whole and weights.shape[-1] == len(inspected.classes)
        title = "Weights of each class: one per pixel" if by_class else (
            "Weights of the first layer: one per pixel" if whole
            else f"Weights of the first layer: filters of {weights.shape[0]} × {weights.shape[1]}"
        )  # fmt: skip
        names = inspected.classes if by_class else ()
        drawn = draw.filters(weights, title=title, names=names)
        caption = "Stripes and edges are features; speckle is noise."
        blocks.append(Drawing("filters", drawn, "Weights of the first layer as images", caption))
    if inspected.feature_maps is not None:
        drawn = draw.feature_maps(**inspected.feature_maps, title="Activations of each layer for one image")
        caption = "Early layers keep the position of edges and strokes; later ones trade position for meaning."
        blocks.append(Drawing("feature_maps", drawn, "Activations of each layer for one image, as images", caption))
    drawn = draw.saliency(
        **inspected.saliency, classes=inspected.classes, title="The pixels that the predictions depend on"
    )
    alt = "Images, each beside the magnitude of the gradient of a logit by its pixels"
    caption = "The gradient shows what would change the logit, not what the object is."
    return [*blocks, Drawing("saliency", drawn, alt, caption)]
