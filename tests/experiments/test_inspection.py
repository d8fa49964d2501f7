"""The inspection of a classifier: scores by class against scikit-learn, and what each section shows."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from experiments import inspection
from mllab.data import catalog
from mllab.models import table as models
from mllab.report.report import Drawing
from mllab.report.table import Table
from support.figures import drawn

NASTY = ('<b>cat</b> & "dog\'s"', "猫" * 5, "x" * 200, "back\x01slash\n")
LEGIBLE = ('<b>cat</b> & "dog\'s"', "猫" * 5, f"{'x' * 12}…{'x' * 11}", "back slash")
NAN = float("nan")


def test_scores_by_class_agree_with_scikit_learn():
    random = np.random.default_rng(0)
    true = random.integers(0, 7, 300)
    predicted = np.where(random.random(300) < 0.8, true, random.integers(0, 7, 300))
    true, predicted = (
        np.where(true == 6, 5, true),
        np.where(predicted == 4, 3, predicted),
    )  # no row of 6, no prediction of 4
    rows = inspection.class_rows(confusion_matrix(true, predicted, labels=range(7)), tuple("abcdefg"))
    scores = precision_recall_fscore_support(true, predicted, labels=range(7), zero_division=np.nan)
    for name, expected in zip(("precision", "recall", "f1", "rows"), scores, strict=True):
        values = [getattr(row, name) for row in rows]
        np.testing.assert_allclose(values, np.nan_to_num(expected) if name == "f1" else expected)
    for index, row in enumerate(rows):
        wrong = [int(np.sum((true == index) & (predicted == other))) * (other != index) for other in range(7)]
        assert row.times == max(wrong)
        assert row.confused_with == ("abcdefg"[wrong.index(max(wrong))] if max(wrong) else None)


def inspected_of(classes, channels=3, **changes):
    """An inspection with made-up images and counts."""
    random, count = np.random.default_rng(0), len(classes)
    confusion = random.integers(1, 9, (count, count))
    images = random.random((5, 8, 8, channels))
    true, predicted = random.integers(0, count, (2, 5))
    labels = {"true": true, "predicted": predicted}
    made = inspection.Inspection(
        classes=tuple(classes), predicted=predicted, confusion=confusion,
        per_class=inspection.class_rows(confusion, tuple(classes)),
        mistakes={"images": images, "probabilities": random.random(5), **labels},
        saliency={"images": images, "gradients": images - 0.5, **labels},
        filters=random.normal(size=(3, 3, channels, 6)),
        feature_maps={"image": images[0], "layers": [("conv", random.random((6, 6, 4)))], "caption": classes[0]},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def blocks_of(inspected, seeds=1):
    return {section.heading: section.blocks for section in inspection.sections(inspected, seeds)}


def drawings_of(inspected):
    return {
        block.name: block for blocks in blocks_of(inspected).values() for block in blocks if isinstance(block, Drawing)
    }


@pytest.mark.parametrize(("classes", "legible", "channels"), [(NASTY, LEGIBLE, 3), ("0123", tuple("0123"), 1)])
def test_every_part_is_shown_with_legible_names(tmp_path, classes, legible, channels):
    inspected = inspected_of(classes, channels)
    drawings = drawings_of(inspected)
    assert list(drawings) == ["confusion", "mistakes", "filters", "feature_maps", "saliency"]
    texts, images = zip(*(drawn(each.figure, tmp_path / f"{name}.svg") for name, each in drawings.items()), strict=True)
    wrong = int(inspected.confusion.sum() - np.trace(inspected.confusion))
    assert f"Confusion matrix: {wrong} of {inspected.confusion.sum()} test rows are misclassified" in " ".join(texts[0])
    for name in legible:
        assert any(text[:8] == name[:8] for text in texts[0])  # a matrix may cut it further
    assert [len(each) for each in images[1:]] == [5, 6, 1 + 4, 2 * 5]
    for image, pixels in zip(inspected.mistakes["images"], images[1], strict=True):
        np.testing.assert_allclose(pixels, np.broadcast_to(255 * image, (8, 8, 3)), atol=0.51)
    (names,) = (block for block in blocks_of(inspected)["Scores by class"])
    assert {row[0] for row in names.rows} == set(legible)
    assert all(each.alt for each in drawings.values())


def test_without_errors_there_is_no_matrix():
    inspected = inspected_of("ab", confusion=np.diag([3, 4]))
    assert blocks_of(inspected)["Errors"] == ["None: all 7 test rows are classified correctly."]


def test_two_classes_have_no_table_of_pairs_and_several_seeds_are_pointed_out():
    kinds = [type(block) for block in blocks_of(inspected_of("ab"), seeds=2)["Errors"]]
    assert kinds == [str, Drawing, Drawing]
    assert [type(block) for block in blocks_of(inspected_of("abc"))["Errors"]] == [Drawing, Table, Drawing]


def test_weights_of_whole_images_are_named_by_class(tmp_path):
    weights = np.random.default_rng(0).normal(size=(8, 8, 3, 2))
    for changed, title in (
        (weights, "Weights of each class: one per pixel"),
        (np.repeat(weights, 2, -1), "Weights of the first"),
    ):
        drawing = drawings_of(inspected_of("ab", filters=changed))["filters"]
        texts, _ = drawn(drawing.figure, tmp_path / "filters.svg")
        assert title in " ".join(texts)
        assert ("a" in texts) == title.startswith("Weights of each")
    assert "filters" not in drawings_of(inspected_of("ab", filters=None, feature_maps=None))


@pytest.mark.slow
def test_a_net_is_inspected_on_test_rows_alone():
    """Confident mistakes first, one image a class, and nothing of what the net has seen."""
    data = catalog.load("digits")
    plan = models.plan("convnet", (8, 8, 1), 10, channels=(4,), hidden=(8,))
    model = models.build(plan)
    params, extra = model.init(jax.random.key(0))
    inspected = inspection.inspect(model, params, extra, data)
    assert inspected.confusion.sum() == len(data.split.test)
    test = data.inputs[data.split.test].reshape(len(data.split.test), -1)
    for images in (inspected.mistakes["images"], inspected.saliency["images"]):
        assert (np.abs(images.reshape(len(images), 1, -1) - test).max(axis=2).min(axis=1) == 0).all()
    assert (np.diff(inspected.mistakes["probabilities"]) <= 0).all()
    assert (inspected.mistakes["true"] != inspected.mistakes["predicted"]).all()
    assert len(inspected.mistakes["true"]) == inspection.MAX_MISTAKES
    assert inspected.saliency["true"].tolist() == list(range(10))
    assert inspected.filters.shape == (3, 3, 1, 4)
    # A perturbation of one pixel moves the logit as the gradient says.
    image, pixel = inspected.saliency["images"][:1], (0, 3, 4, 0)
    moved = image.copy()
    moved[pixel] += 1e-2
    label = inspected.saliency["predicted"][0]
    logits = [model.apply(params, extra, each, None)[0][0, label] for each in (image, moved)]
    np.testing.assert_allclose(
        inspected.saliency["gradients"][pixel], (logits[1] - logits[0]) / 1e-2, rtol=0.05, atol=1e-3
    )
