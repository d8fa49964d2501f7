"""The image classifier end to end, tiny: its figures are those of its params; no kill or replay changes a bit."""

import contextlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import test_experiments
from experiments.workdir import Workdir
from PIL import Image
from safetensors.numpy import load_file
from scipy.special import log_softmax
from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support
from test_experiments import ROOT, program

from experiments import image_classifier, predict
from mllab import augmentation, weights
from mllab.data import catalog
from mllab.errors import UserError
from mllab.models import base

TINY = {"dataset": "digits", "seeds": (0,), "device_count": 2}
QUICK = {"epochs": 1, "batch_size": 64}


def classify(path, **options):
    """Run it in this process; return its summary and what it said."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        summary = image_classifier.run(Workdir(path, "image_classifier", ""), **{**TINY, "settings": QUICK, **options})
    return summary, said.getvalue()


def convnet_by_hand(arrays, images):
    """Logits of blocks of a 3 × 3 convolution, pooling by 2, biases and ReLU, then dense layers with ReLU between."""
    x, layers = np.asarray(images, np.float64), {}
    for name, array in arrays.items():
        _, number, *field = name.split(".")
        layers.setdefault(int(number), {})[field[0] if field else "bias"] = array.astype(np.float64)
    *hidden, last = (layers[number] for number in sorted(layers))
    for layer in hidden:
        if "bias" in layer:  # after the pooling
            x = np.maximum(x + layer["bias"], 0)
        elif layer["w"].ndim == 4:
            height, width = x.shape[1:3]
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = sum(padded[:, i : i + height, j : j + width] @ layer["w"][i, j] for i in range(3) for j in range(3))
            x = x.reshape(len(x), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
        else:
            x = np.maximum(x.reshape(len(x), -1) @ layer["w"] + layer["b"], 0)
    return x.reshape(len(x), -1) @ last["w"] + last["b"]


# ── What it says is what its params do ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=[1, 3], ids=["one seed", "three seeds"])
def trained(request, tmp_path_factory):
    """A conv net with dropout, for one seed and for three: workdir, summary and what was said."""
    workdir = tmp_path_factory.mktemp("trained") / "w"
    return workdir, *classify(
        workdir,
        seeds=range(4, 4 + request.param),
        options={"channels": (4, 6), "hidden": (16,), "dropout": 0.1},
        settings={"epochs": 3, "augment": ("shift",), "learning_rate": 0.03},
    )


def test_it_writes_its_whole_workdir(trained):
    workdir, summary, said = trained
    for name in ("flags.cfg", "environment.json", "metrics.jsonl", "summary.json", "report.html", "params.safetensors"):
        assert (workdir / name).is_file(), name
    drawn = ["accuracy", "confusion", "feature_maps", "filters", "loss", "mistakes", "saliency"]
    assert sorted(path.stem for path in (workdir / "figures").iterdir()) == drawn
    seeds = len(summary["seeds"])
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [(record["seed"], record["step"]) for record in records] == [
        (4 + seed, 34 * epoch) for epoch in (1, 2, 3) for seed in range(seeds)
    ]
    assert len(list((workdir / "events").iterdir())) == seeds
    written = json.loads((workdir / "summary.json").read_text())
    assert written["test_by_seed"] == summary["test_by_seed"]
    assert written["seconds"]["total"] >= sum(v for name, v in written["seconds"].items() if name != "total") > 0
    assert str(workdir / "report.html") in said
    answer = said.strip().splitlines()[-2]
    assert " ".join(answer.split()) in " ".join((workdir / "report.html").read_text().split())
    assert not list(workdir.rglob("*.partial"))


def test_its_figures_are_those_of_the_published_params(trained):
    """Accuracy, loss, confusion, class by class and the gap, by NumPy and scikit-learn from params.safetensors."""
    workdir, summary, _ = trained
    data, arrays = catalog.load("digits"), load_file(workdir / "params.safetensors")
    true, logits = {}, {}
    for part in ("train", "validation", "test"):
        rows = getattr(data.split, part)
        true[part], logits[part] = data.targets[rows], convnet_by_hand(arrays, data.inputs[rows])
    accuracy = {part: np.mean(logits[part].argmax(axis=1) == true[part]) for part in true}
    loss = {part: log_loss(true[part], np.exp(log_softmax(logits[part], axis=1)), labels=range(10)) for part in true}

    # The published seed is that with the best validation accuracy where its validation loss was least.
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    kept = [
        min((r for r in records if r["seed"] == seed), key=lambda r: r["validation_loss"]) for seed in summary["seeds"]
    ]
    best = int(np.argmax([record["validation_accuracy"] for record in kept]))
    np.testing.assert_allclose(accuracy["validation"], kept[best]["validation_accuracy"], rtol=1e-6)
    np.testing.assert_allclose(loss["validation"], kept[best]["validation_loss"], rtol=1e-4)
    np.testing.assert_allclose(accuracy["test"], summary["test_by_seed"]["accuracy"][best], rtol=1e-6)
    for name in ("accuracy", "loss"):
        mean = np.mean([record[f"validation_{name}"] for record in kept])
        np.testing.assert_allclose(summary["validation"][name].mean, mean, rtol=1e-6)
    np.testing.assert_allclose(summary["test"]["accuracy"].mean, np.mean(summary["test_by_seed"]["accuracy"]))
    if len(kept) == 1:
        for part in ("test", "train"):
            np.testing.assert_allclose(summary[part]["accuracy"].mean, accuracy[part], rtol=1e-6)
            np.testing.assert_allclose(summary[part]["loss"].mean, loss[part], rtol=1e-4)
        np.testing.assert_allclose(summary["gap"].mean, 100 * (accuracy["train"] - accuracy["test"]), atol=1e-4)

    taken = logits["test"].argmax(axis=1)
    confusion = confusion_matrix(true["test"], taken)
    np.testing.assert_array_equal(summary["confusion"], confusion)
    precision, recall, _, rows = precision_recall_fscore_support(true["test"], taken, zero_division=np.nan)
    told = {name: [entry[name] for entry in summary["per_class"]] for name in ("name", "rows", "recall", "precision")}
    assert told["name"] == list("0123456789")
    np.testing.assert_array_equal(told["rows"], rows)
    np.testing.assert_allclose(told["recall"], recall)
    np.testing.assert_allclose(np.array(told["precision"], float), precision)
    assert accuracy["test"] > 0.5
    assert summary["parameters"] == sum(array.size for array in arrays.values())


def test_it_looks_at_every_class_and_layer(trained):
    workdir, summary, _ = trained
    written = {
        name: re.findall(r"<text[^>]*>([^<]*)</text>", (workdir / "figures" / f"{name}.svg").read_text())
        for name in ("saliency", "feature_maps")
    }
    below = [text for text in written["saliency"] if re.fullmatch(r"\d( → \d)?", text)]
    assert [text[0] for text in below] == list("0123456789")
    assert ["→" in text for text in below] == [entry["recall"] == 0 for entry in summary["per_class"]]
    assert "A test image of class 0." in written["feature_maps"]
    maps = [text.partition(":")[0] for text in written["feature_maps"] if " maps of " in text]
    assert maps == [
        *("Conv(channels=4, bias=False)", "MaxPool()", "relu"),
        *("Conv(channels=6, bias=False)", "MaxPool()", "relu"),
    ]


def test_the_header_says_what_the_params_are_of(trained):
    workdir, summary, _ = trained
    about = weights.load_model(workdir / "params.safetensors").about
    data = catalog.load("digits")
    edge = np.pad(np.zeros((6, 6), bool), 1, constant_values=True)
    np.testing.assert_allclose(about["border"], data.inputs[data.split.train][:, edge].mean(), rtol=1e-5)
    assert about["classes"] == list(data.classes)
    assert about["plan"]["shape"] == [8, 8, 1]
    assert about["settings"]["epochs"] == 3
    assert about["settings"]["augment"] == "shift"
    assert about["test_accuracy"][0] == summary["test"]["accuracy"].mean


MATRIX = [  # model, precision, what else the run takes, and figures of its own
    ("softmax", "float32", {}, {}, {"filters"}),
    ("mlp", "bf16", {"hidden": (8,), "activation": "tanh"}, {"augment": ("flip",), "clip_norm": 1.0}, {"filters"}),
    ("lenet", "float32", {}, {"augment": ("mixup",), "label_smoothing": 0.1}, {"filters", "feature_maps"}),
    (
        "convnet",
        "float32",
        {"channels": (4,), "hidden": (8,), "dropout": 0.2},
        {"augment": ("shift", "crop", "flip", "cutout", "mixup"), "average": 0.9, "schedule": "cosine"},
        {"filters", "feature_maps"},
    ),
    (
        "residual",
        "bf16",
        {"channels": (4, 8)},
        {"augment": ("crop",), "weight_decay": 0.01},
        {"filters", "feature_maps"},
    ),
]


@pytest.mark.parametrize(("model", "precision", "options", "settings", "looks"), MATRIX, ids=[row[0] for row in MATRIX])
def test_every_model_and_setting(tmp_path, model, precision, options, settings, looks):
    summary, _ = classify(
        tmp_path, model=model, options=options, settings=QUICK | settings, precision=precision, split_seed=3
    )
    published = weights.load_model(tmp_path / "params.safetensors")
    data = catalog.load("digits", split_seed=3)
    logits = base.predict(published.model, published.params, published.extra, data.inputs[data.split.test])
    accuracy = np.mean(logits.argmax(axis=1) == data.targets[data.split.test])
    # In bfloat16 the run scored in it; what is published computes in float32.
    assert abs(accuracy - summary["test"]["accuracy"].mean) < (0.03 if precision == "bf16" else 1e-6)
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"accuracy", "confusion", "loss", "mistakes", "saliency"} | looks
    page = (tmp_path / "report.html").read_text()
    for name, value in (settings | {"precision": precision, "split_seed": 3}).items():
        assert f"{name} = {', '.join(value) if name == 'augment' else value}" in page


@pytest.mark.parametrize("name", [*augmentation.AUGMENTATIONS, "mixup", "none"])
def test_what_is_trained_on_is_augmented_as_asked(name):
    """A model whose logits are the pixels shows by its loss what became of them."""
    model = base.plain(lambda key: (), lambda params, images: images.reshape(len(images), -1))
    draw = np.random.default_rng(0)
    examples = {"inputs": draw.random((16, 4, 4, 1), np.float32), "targets": draw.integers(0, 16, 16)}
    own = log_softmax(examples["inputs"].reshape(16, 16), axis=1)
    plain = -own[np.arange(16), examples["targets"]]
    augment = () if name == "none" else (name,)
    for smoothing, expected in ((0.0, plain), (0.2, 0.8 * plain - 0.2 * own.mean(axis=1))):
        objective = image_classifier.objective_of(model, augment, smoothing, 16)
        losses, _ = objective({}, (), None, examples, jax.random.key(0))
        again, _ = objective({}, (), None, examples, jax.random.key(0))
        np.testing.assert_array_equal(losses, again)
        assert np.allclose(losses, expected, rtol=1e-5) == (name == "none")


# ── Images of one's own ─────────────────────────────────────────────────────────────────────────────────────────────

COLOURS = {"a<b>&'c'": (220, 40, 40), "grün": (40, 220, 40), "blau": (40, 40, 220)}


def paint(folder, count, side=9):
    """Write so many noisy pictures of each colour, a folder a class."""
    draw = np.random.default_rng(count)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + draw.normal(0, 30, (side + number % 2, side, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("parted", [False, True], ids=["one folder", "train and test"])
def test_a_folder_of_ones_own_pictures(tmp_path, parted):
    photos = tmp_path / "photos"
    if parted:
        paint(photos / "train", 12)
        paint(photos / "test", 4)
    else:
        paint(photos, 10)
    summary, _ = classify(
        tmp_path / "w", dataset=f"{photos}/", model="softmax", size=(8, 6),
        settings={"epochs": 10, "batch_size": 8, "learning_rate": 0.03},
    )  # fmt: skip
    assert summary["dataset"]["shape"] == [8, 6, 3]
    rows = {"train": 30, "validation": 6, "test": 12} if parted else {"train": 18, "validation": 6, "test": 6}
    assert summary["dataset"]["rows"] == rows
    assert summary["test"]["accuracy"].mean == 1
    page = (tmp_path / "w" / "report.html").read_text()
    assert "a&lt;b&gt;&amp;&#39;c&#39;" in page
    assert "a<b>" not in page
    assert "all 6 test rows" in page or "all 12 test rows" in page
    pictures = [photos / ("test" if parted else "") / name / "0.png" for name in COLOURS]
    with contextlib.redirect_stdout(io.StringIO()):
        told = predict.run(pictures, params=tmp_path / "w" / "params.safetensors")
    assert [one["classes"][0][0] for one in told] == list(COLOURS)
    assert not any(one["inverted"] for one in told)


def test_an_npz_file_of_ones_own_images(tmp_path):
    digits = catalog.load("digits")
    few = np.flatnonzero(digits.targets < 3)
    images = (digits.inputs[few, ..., 0] * 255).astype(np.uint8)
    names = np.array(["null", "eins", "zwei"])[digits.targets[few]]
    np.savez(tmp_path / "few.npz", images=images, labels=names)
    summary, _ = classify(tmp_path / "w", dataset=str(tmp_path / "few.npz"), model="softmax")
    assert summary["dataset"]["classes"] == ["eins", "null", "zwei"]
    assert summary["test"]["accuracy"].mean > 0.9


# ── What goes wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Images of 2 × 2 pixels."""
    path = tmp_path_factory.mktemp("small") / "small.npz"
    np.savez(path, images=np.zeros((40, 2, 2), np.uint8), labels=np.arange(40) % 2)
    return str(path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"settings": QUICK | {"augment": ("flop",)}}, "unknown augmentation 'flop': did you mean 'flip'"),
        ({"settings": QUICK | {"augment": ("flip", "flip")}}, "name each once"),
        ({"settings": QUICK | {"augment": ("mixup", "mixup")}}, "name each once"),
        ({"settings": QUICK | {"optimizer": "adm"}}, "did you mean 'adam'"),
        ({"settings": QUICK | {"learning_rate": float("nan")}}, "give positive numbers"),
        ({"settings": QUICK | {"learning_rate": 0.0}}, "give positive numbers"),
        ({"settings": QUICK | {"label_smoothing": float("nan")}}, "label smoothing = nan"),
        ({"settings": QUICK | {"average": 1.5}}, "average = 1.5"),
        ({"settings": QUICK | {"batch_size": 5000}}, "batch_size = 5000 is larger than the 1079 training rows"),
        ({"model": "convnt"}, "did you mean 'convnet'"),
        ({"model": "linear"}, "--model=softmax"),
        ({"model": "mlp", "options": {"channels": (8,)}}, "--channels is for convnet and residual, not for mlp"),
        ({"dataset": "mnist", "size": (8, 8)}, "size: only for your own data, and 'mnist' is a set of the catalog"),
        ({"dataset": "line"}, "line holds no pictures"),
        ({"dataset": "homes.csv"}, "homes.csv holds no pictures"),
        ({"dataset": "mnis"}, "did you mean 'mnist'"),
        ({"dataset": "photos/absent/"}, "no folder photos/absent/"),
        ({"dataset": "small", "settings": {"batch_size": 8}}, r"layer 6, MaxPool\(\), of images \(1, 1, 32\)"),
        ({"device_count": 99}, "--devices=99"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, small, options, says):
    if options.get("dataset") == "small":
        options = options | {"dataset": small}
    with pytest.raises(UserError, match=says) as caught:
        classify(tmp_path / "w", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("text", ["8", "8x", "0x8", "8x8x1", "-8x8", "axb", "8.5x8"])
def test_a_size_is_height_and_width(text):
    with pytest.raises(UserError, match=f"--size={text}: give HEIGHTxWIDTH"):
        image_classifier.image_size(text)
    assert image_classifier.image_size("12X7") == (12, 7)


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--size=8", "error: --size=8: give HEIGHTxWIDTH"),
        ("--learning_rates=0.1", "--learning_rates means nothing to this experiment"),
    ],
)
def test_the_program_ends_a_mistake_without_a_traceback(tmp_path, flag, says):
    done = program(flag, f"--workdir={tmp_path / 'w'}", experiment="image_classifier")
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("optimizer", "rate", "seeds", "said"),
    [
        ("adam", 1e6, [0], "ended no better than chance"),
        ("sgd", 1e38, [0], "The run went non-finite, so nothing is reported or published"),
        ("sgd", 1e38, [0, 1], "2 of 2 seeds went non-finite, so nothing is reported or published"),
    ],
)
def test_a_run_that_diverges_ends_with_a_page_that_says_so(tmp_path, optimizer, rate, seeds, said):
    settings = {"epochs": 2, "batch_size": 64, "optimizer": optimizer, "learning_rate": rate}
    summary, shown = classify(tmp_path, seeds=seeds, model="mlp", options={"hidden": (8,)}, settings=settings)
    assert said in shown
    page = (tmp_path / "report.html").read_text()
    assert said in page
    assert "nan" not in shown + page
    lost = "nonfinite" if "non-finite" in said else "failed"
    assert [lane["seed"] for lane in summary[lost]] == seeds
    assert (tmp_path / "params.safetensors").exists() == (lost == "failed")
    written = json.loads((tmp_path / "summary.json").read_text())
    assert (written["test"]["accuracy"][0] is None) == (lost == "nonfinite")


# ── Killed and resumed, and replayed ────────────────────────────────────────────────────────────────────────────────

FLAGS = [
    *("--dataset=digits", "--channels=4,6", "--hidden=12", "--dropout=0.3", "--augment=shift,cutout,mixup"),
    *("--average=0.9", "--label_smoothing=0.1", "--epochs=12", "--checkpoint_seconds=0", "--devices=2"),
]


def bits(workdir):
    """All that two runs must share: everything but wall times."""
    summary, *rest = test_experiments.bits(workdir)
    summary.pop("images_per_second")
    return summary, *rest


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped, and how long it took."""
    workdir, began = tmp_path_factory.mktemp("straight") / "w", time.monotonic()
    done = program(*FLAGS, f"--workdir={workdir}", experiment="image_classifier")
    assert done.returncode == 0, done.stderr
    return workdir, time.monotonic() - began


def kill_and_resume(straight, workdir, seed):
    """SIGKILL at a random moment, for even seeds after the first checkpoint; then the same command again."""
    reference, seconds = straight
    draw = random.Random(seed)
    command = [sys.executable, "-m", "experiments.image_classifier", *FLAGS, f"--workdir={workdir}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if seed % 2:
        time.sleep(draw.uniform(0, seconds))
    else:
        while process.poll() is None and not list(workdir.glob("checkpoints/*/[0-9]*")):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, seconds / 4))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = program(*FLAGS, f"--workdir={workdir}", experiment="image_classifier")
    assert done.returncode == 0, done.stderr
    assert bits(workdir) == bits(reference)


def test_killed_and_resumed_it_ends_with_the_same_bits(straight, tmp_path):
    kill_and_resume(straight, tmp_path / "w", 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_killed_at_10_random_moments(straight, tmp_path, seed):
    kill_and_resume(straight, tmp_path / "w", seed)


def test_a_run_that_had_ended_is_told_again_and_took_no_training(tmp_path):
    settings = QUICK | {"epochs": 3}
    first, said = classify(tmp_path, model="softmax", settings=settings, checkpoint_seconds=0)
    before = bits(tmp_path)
    again, said_again = classify(tmp_path, model="softmax", settings=settings, checkpoint_seconds=0)
    assert bits(tmp_path) == before
    assert said_again.splitlines()[-2:] == said.splitlines()[-2:]
    assert again["seconds"]["training"] == 0 < first["seconds"]["training"]
    assert again["images_per_second"] is None


def test_flags_cfg_repeats_the_run_to_the_bit(straight, tmp_path):
    reference, _ = straight
    flagfile = f"--flagfile={reference / 'flags.cfg'}"
    done = program(flagfile, f"--workdir={tmp_path / 'w'}", experiment="image_classifier")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "w") == bits(reference)
    told = weights.load_model(tmp_path / "w" / "params.safetensors").about["flags"]
    assert sorted({*FLAGS} - {*told}) == ["--checkpoint_seconds=0", "--dataset=digits", "--devices=2"]


def test_other_flags_on_the_same_workdir_are_refused_by_name(straight):
    reference, _ = straight
    before = bits(reference)
    done = program(*FLAGS, "--augment=shift", f"--workdir={reference}", experiment="image_classifier")
    assert done.returncode == 1
    assert "--augment (shift,cutout,mixup, now shift)" in done.stderr
    assert bits(reference) == before
