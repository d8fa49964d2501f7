import json
import re
from types import MappingProxyType

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from test_report_page import Reader
from test_report_pictures import embedded

from mllab.metrics import interval
from mllab.report import classifier
from mllab.report import page as pages

NASTY = ['<b>cat</b> & "dog\'s"', "猫" * 5, "x" * 200, "back\x01slash\n"]
LEGIBLE = ['<b>cat</b> & "dog\'s"', "猫" * 5, f"{'x' * 12}…{'x' * 11}", "back slash"]
DIGITS = list("0123456789")
NAN = float("nan")
ENVIRONMENT = {
    "data": {"images.gz": "0" * 64},
    "versions": {"jax": "0.10.2"},
    "devices": {"count": 2, "kind": "cpu", "platform": "cpu"},
    "git_commit": None,
}


def labels(classes, rows=300):
    random = np.random.default_rng(0)
    true = random.integers(0, classes, rows)
    return true, np.where(random.random(rows) < 0.8, true, random.integers(0, classes, rows))


def summary_of(classes, confusion, *, seeds=3, **more):
    def over(*values):
        return interval(np.array(values[:seeds]))

    made = {
        "experiment": "image_classifier",
        "dataset": {
            "name": "a<b>",
            "rows": {"train": 6000, "validation": 2000, "test": 1000},
            "classes": list(classes),
            "shape": [8, 8, 3],
            "licence": "CC0",
            "citation": "Somebody 1998",
            "notes": ["3 images were resized"],
        },
        "model": "convnet: conv 3×3×16, pool 2, dense 10",
        "parameters": 1234,
        "settings": {"optimizer": "adam", "clip_norm": None},
        "batch_size": 64,
        "epochs": 5,
        "steps": 470,
        "seeds": list(range(seeds)),
        "chance_loss": 2.3,
        "validation": {"accuracy": over(0.98, 0.981, 0.982), "loss": over(0.05, 0.06, 0.07)},
        "test": {"accuracy": over(0.971, 0.972, 0.973), "loss": over(0.08, 0.09, 0.1)},
        "train": {"accuracy": over(0.998, 0.999, 1.0), "loss": over(0.01, 0.011, 0.012), "rows": 512},
        "test_by_seed": {"accuracy": [0.971, 0.972, 0.973][:seeds]},
        "gap": over(2.7, 2.7, 2.7),
        "per_class": classifier.per_class(confusion, classes),
        "nonfinite": [],
        "failed": [],
        "seconds": {"imports": 1.5, "train": 30.0, "total": 40.0},
        "images_per_second": 4321.0,
    }
    return made | more


def arrays_of(classes, confusion, channels=3, seeds=3):
    random = np.random.default_rng(0)
    epoch = np.arange(1, 6)
    spread = np.array([1.0, 0.9, 1.1]) if seeds > 1 else np.array([1.0, NAN, NAN])
    images = random.random((5, 8, 8, channels))
    true, taken = random.integers(0, len(classes), (2, 5))
    return {
        "curves": {
            "epoch": epoch,
            "train_loss": np.exp(-epoch / 2)[:, None] * spread,
            "validation_loss": (np.exp(-epoch / 2) + 0.1)[:, None] * spread,
            "validation_accuracy": (0.9 + epoch / 100)[:, None] * spread,
        },
        "confusion": confusion,
        "mistakes": {"images": images, "true": true, "predicted": taken, "probability": random.random(5)},
        "filters": random.normal(size=(3, 3, channels, 6)),
        "feature_maps": {"image": images[0], "layers": [("conv", random.random((6, 6, 4)))], "caption": classes[0]},
        "saliency": {"images": images, "gradients": images - 0.5, "true": true, "predicted": taken},
    }


def report(summary, arrays, folder, command="python -m experiments.image_classifier"):
    drawn = classifier.figures(summary, arrays, folder)
    return drawn, pages.render(classifier.page(summary, arrays, drawn, ENVIRONMENT, command))


def test_per_class_agrees_with_scikit_learn():
    true, taken = labels(7)
    true, taken = np.where(true == 6, 5, true), np.where(taken == 4, 3, taken)  # no row of 6, none taken for 4
    found = classifier.per_class(confusion_matrix(true, taken, labels=range(7)), list("abcdefg"))
    precision, recall, _, rows = precision_recall_fscore_support(true, taken, labels=range(7), zero_division=np.nan)
    np.testing.assert_allclose([NAN if one["recall"] is None else one["recall"] for one in found], recall)
    np.testing.assert_allclose([NAN if one["precision"] is None else one["precision"] for one in found], precision)
    assert [one["rows"] for one in found] == rows.tolist()
    for index, one in enumerate(found):
        wrong = [int(np.sum((true == index) & (taken == other))) * (other != index) for other in range(7)]
        assert one["times"] == max(wrong)
        assert one["confused_with"] == ("abcdefg"[wrong.index(max(wrong))] if max(wrong) else None)
    json.dumps(found, allow_nan=False)


def test_the_tables_say_what_the_summary_holds():
    confusion = np.array([[90, 7, 3], [0, 50, 0], [1, 0, 9]])
    summary = summary_of(["a", "b", "c"], confusion)
    rows = classifier.classifier_table(summary).rows
    assert [row[:3] for row in rows] == [
        ["test", "1,000", "97.2 ± 0.2%"],
        ["validation", "2,000", "98.1 ± 0.2%"],
        ["train", "512", "99.9 ± 0.2%"],
    ]
    assert "95% interval over 3 seeds, one split" in classifier.classifier_table(summary).caption
    assert classifier.class_table(summary).rows == [
        ["a", "100", "90.0%", "98.9%", "b (7×)"],
        ["c", "10", "90.0%", "75.0%", "a (1×)"],
        ["b", "50", "100.0%", "87.7%", None],
    ]
    pairs = classifier.confusion_table(confusion, ["a", "b", "c"])
    assert [row[:3] for row in pairs.rows] == [["a", "b", 7], ["a", "c", 3], ["c", "a", 1]]
    assert classifier.confusion_table(np.diag([3, 4, 5]), ["a", "b", "c"]) is None
    seconds = classifier.seconds_table(summary).rows
    assert seconds == [
        ["imports", "1.50", "3.8%"],
        ["train", "30.00", "75.0%"],
        ["everything else", "8.50", "21.2%"],
        ["total", "40.00", "100.0%"],
    ]
    alone = classifier.seconds_table({"seconds": {"imports": 1.0, "train": 3.0, "score": None}}).rows
    assert alone == [["imports", "1.00", "25.0%"], ["train", "3.00", "75.0%"], ["total", "4.00", "100.0%"]]


LOST = {"test": {"accuracy": (NAN, NAN, NAN, 3), "loss": (NAN, NAN, NAN, 3)}}


@pytest.mark.parametrize(
    ("seeds", "more", "said", "unsaid"),
    [
        (3, {}, ["97.2 ± 0.2% of the 1,000 test rows", "3 seeds", "99.9 ± 0.2%: 2.7 ± 0 points more"], ["chance"]),
        (1, {}, ["97.10% of the 1,000", "one seed: no interval", "99.80%: 2.7 points more"], ["±"]),
        (3, {"gap": (-0.5, -0.7, -0.3, 3)}, ["0.5 ± 0.2 points fewer"], ["more", "-", "−"]),
        (3, {"gap": None, "train": None}, ["97.2 ± 0.2%"], ["trained on"]),
        (3, {"failed": [{"seed": 1, "kept_loss": 2.4}]}, ["1 of 3 seeds ended no better than chance"], []),
        (3, {"nonfinite": [{"seed": 1, "step": 4}]}, ["1 of 3 seeds went non-finite"], []),
        (3, LOST | {"nonfinite": [{"seed": 1, "step": 4}]}, ["1 of 3 seeds went", "smaller learning rate"], ["nan"]),
        (1, LOST | {"nonfinite": [{"seed": 0, "step": 4}]}, ["The run went non-finite"], ["nan", "seeds"]),
    ],
)
def test_the_answer_is_said_in_words(seeds, more, said, unsaid):
    answer = classifier.answer(summary_of(["a", "b"], np.eye(2, dtype=int), seeds=seeds, **more))
    assert [part for part in said if part not in answer] == []
    assert [part for part in unsaid if part in answer] == []


@pytest.mark.parametrize(
    ("train", "held_out", "told"),
    [
        ([1.0, 0.5, 0.2], [1.1, 0.8, 1.0], "Overfitting after epoch 2: validation loss rises from 0.8 to 1 while"),
        ([1.0, 0.5, 0.2], [1.1, 0.8, 0.82], "Validation loss reaches 0.8, 0.3 above training loss"),
        ([1.0, 0.9, 0.8], [1.1, 0.7, 0.6], "Validation loss reaches 0.6, not above training loss"),
        ([1.0, 2.0, 3.0], [1.1, 2.0, 3.0], "Validation loss reaches 1.1, 0.1 above training loss"),
        ([1.0, 0.5, NAN], [1.1, 0.8, NAN], "Validation loss reaches 0.8, 0.3 above training loss"),
        ([0.5], [0.4], "Validation loss reaches 0.4, not above"),
        ([NAN], [NAN], "No validation loss stayed finite"),
    ],
)
def test_the_gap_is_said_in_words(train, held_out, told):
    bounds = np.array([1.0, NAN, NAN])
    curves = {
        "epoch": np.arange(1, len(train) + 1),
        "train_loss": np.array(train)[:, None] * bounds,
        "validation_loss": np.array(held_out)[:, None] * bounds,
    }
    assert classifier.overfitting(curves).startswith(told)


@pytest.mark.parametrize(
    ("classes", "shown_as", "channels"), [(NASTY, LEGIBLE, 3), (DIGITS, DIGITS, 1)], ids=["rgb", "grey"]
)
def test_the_page_holds_every_part_and_its_pictures(tmp_path, classes, shown_as, channels):
    confusion = confusion_matrix(*labels(len(classes)), labels=range(len(classes)))
    summary, arrays = summary_of(classes, confusion), arrays_of(classes, confusion, channels)
    drawn, html = report(summary, arrays, tmp_path, command="python -m x --name='<b>'")
    reader = Reader(html)
    words = reader.words()
    places = [
        words.index(part) for part in (classifier.answer(summary), "Validation loss reaches", "What is taken for")
    ]
    places += [words.index(heading) for heading in ("What the net looks at", "Class by class", "Where the time went")]
    assert places == sorted([*places, words.index("--name='<b>'")])[:-1]
    assert list(drawn) == ["loss", "accuracy", "confusion", "mistakes", "filters", "feature_maps", "saliency"]
    assert "<b>" not in html  # neither a class nor the data set is markup
    cells = [" ".join(cell.split()) for cell in re.findall(r'<th scope="row"[^>]*>(.*?)</th>', html)]
    assert max(map(len, cells)) < 60  # no name makes a table too wide for a phone
    for name in shown_as:
        assert str(pages.Markup.escape(name)) in cells
        assert words.count(name) >= 3  # in the matrix, the table, the pictures
    shown = embedded(html)
    assert len(shown) == 1 + 5 + 6 + (1 + 4) + 2 * 5
    for image, pixels in zip(arrays["mistakes"]["images"], shown[1:6], strict=True):
        np.testing.assert_allclose(pixels, np.broadcast_to(255 * image, (8, 8, 3)), atol=0.51)
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not re.search(r'(src|href)="(?!#|data:image/png;base64,)', html)


def test_the_same_values_give_the_same_bytes(tmp_path):
    confusion = confusion_matrix(*labels(3))
    summary, arrays = summary_of("abc", confusion), arrays_of("abc", confusion)
    frozen = MappingProxyType(arrays)
    (first, html), (second, again) = (report(summary, frozen, tmp_path / name) for name in ("one", "two"))
    assert html == again
    assert [path.read_bytes() for path in first.values()] == [path.read_bytes() for path in second.values()]


def test_whatever_is_absent_leaves_no_trace(tmp_path):
    summary = summary_of("ab", np.diag([3, 4]), seeds=1, train=None, gap=None, per_class=[], images_per_second=None)
    drawn, html = report(summary, {}, tmp_path)
    assert drawn == {}
    assert "<svg" not in html
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == ["The result", "Where the time went", "How it was run", "Repeat it"]
    assert "clip_norm" not in html


def test_no_mistake_is_said_and_one_seed_has_no_bands(tmp_path):
    confusion = np.diag([3, 4])
    arrays = arrays_of("ab", confusion, seeds=1)
    arrays["mistakes"] = {name: values[:0] for name, values in arrays["mistakes"].items()}
    keep = ("curves", "confusion", "mistakes")
    drawn, html = report(summary_of("ab", confusion, seeds=1), {name: arrays[name] for name in keep}, tmp_path)
    assert "None: all 7 test rows are classified rightly." in html
    assert "mistakes" not in drawn
    assert "bands" not in html
    assert "one seed: no interval" in html


def test_seeds_that_were_lost_are_named(tmp_path):
    lost = {"nonfinite": [{"seed": 1, "step": 4321}], "failed": [{"seed": 2, "kept_loss": 2.31}]}
    _, html = report(summary_of("ab", np.diag([3, 4]), **lost), {}, tmp_path)
    assert "seed 1: non-finite from step 4,321" in html
    assert "seed 2: failed, its validation loss of 2.31 no better than chance (2.3)" in html


def test_hundreds_of_classes_are_cut_to_the_worst(tmp_path):
    classes = [f"class {index}" for index in range(200)]
    confusion = 9 * np.eye(200, dtype=int)
    confusion[150, 7] = 5
    summary = summary_of(classes, confusion)
    _, html = report(summary, {"confusion": confusion}, tmp_path)
    (matrix,) = embedded(html)
    assert matrix.shape == (200, 200, 3)
    assert (matrix[150, 7] < [200, 100, 50]).all()
    assert "the 50 classes of least recall, of 200" in html
    worst = [row[0] for row in classifier.class_table(summary).rows]
    assert (worst[0], len(worst)) == ("class 150", 50)
    assert [row[:3] for row in classifier.confusion_table(confusion, classes).rows] == [["class 150", "class 7", 5]]


def test_the_weights_of_whole_images_are_named_by_class(tmp_path):
    summary = summary_of("ab", np.diag([3, 4]))
    weights = np.random.default_rng(0).normal(size=(8, 8, 3, 2))
    drawn = classifier.figures(summary, {"filters": weights}, tmp_path)
    assert "What each class looks for: the weight of every pixel" in drawn["filters"].read_text()
    drawn = classifier.figures(summary, {"filters": np.repeat(weights, 2, -1)}, tmp_path)
    assert "What the first layer looks for: the weight of every pixel" in drawn["filters"].read_text()
