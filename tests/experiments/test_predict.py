"""Predict, and the small net that ships with mllab: drawings, photographs, and files that are no pictures."""

import fnmatch
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

import mllab
from experiments import optimizer_race, predict
from mllab import weights
from mllab.data import catalog
from mllab.data.readers import image_file
from mllab.models import base, table
from support.mistakes import refused_in_one_line
from support.oracles import convnet_logits

ROOT = Path(__file__).parents[2]
PRETRAINED = Path(mllab.__file__).parent / "pretrained"
SEVEN = str(PRETRAINED / "seven.png")

# Strokes of a pen on paper of 112 × 112; seven.png, which ships with mllab, was drawn by those of the 7.
STROKES = {
    "0": ((58, 24), (44, 30), (36, 46), (35, 64), (42, 80), (56, 87), (70, 80), (77, 62), (76, 44), (69, 30), (58, 24)),
    "1": ((60, 24), (57, 44), (54, 66), (52, 88)),
    "7": ((34, 32), (56, 31), (79, 29), (70, 46), (60, 64), (53, 86)),
}


def drawing(digit, ink=(28, 36, 84), paper=(250, 247, 240)):
    """A digit with round joints and ends, drawn four times as large and reduced, so that its edges are smooth."""
    large = Image.new("RGB", (448, 448), paper)
    pen, points = ImageDraw.Draw(large), [(4 * x, 4 * y) for x, y in STROKES[digit]]
    pen.line(points, fill=ink, width=36, joint="curve")
    for x, y in points:
        pen.ellipse((x - 18, y - 18, x + 18, y + 18), fill=ink)
    return large.resize((112, 112), Image.Resampling.LANCZOS)


def predictions(*pictures, **settings):
    return predict.run(pictures=pictures, **settings).predictions


# ── The net that ships with mllab ───────────────────────────────────────────────────────────────────────────────────


def test_the_bundled_drawing_is_a_seven():
    (seven,) = predictions(SEVEN)
    name, probability = seven.classes[0]
    assert name == "7"
    assert probability > 0.9
    assert seven.inverted
    with Image.open(SEVEN) as image:
        assert (image.size, image.mode) == ((112, 112), "RGB")
        assert np.abs(np.asarray(image, float) - np.asarray(drawing("7"), float)).mean() < 2


@pytest.mark.parametrize("light_on_dark", [False, True])
@pytest.mark.parametrize("digit", STROKES)
def test_drawings_are_recognised_on_either_background(tmp_path, digit, light_on_dark):
    colours = {"ink": (240, 230, 150), "paper": (10, 20, 30)} if light_on_dark else {}
    drawing(digit, **colours).save(tmp_path / "a.png")
    (drawn,) = predictions(tmp_path / "a.png")
    assert drawn.classes[0][0] == digit
    assert drawn.classes[0][1] > 0.9
    assert drawn.inverted != light_on_dark


def test_it_reaches_98_percent_of_mnists_test_rows(data_dir):
    data = catalog.load("mnist", data_dir=data_dir)
    model, params, extra, header = weights.load_model(predict.pretrained())
    images, targets = data.inputs[data.split.test], data.targets[data.split.test]
    logits = base.predict(model, params, extra, images)
    accuracy = np.mean(logits.argmax(axis=1) == targets)
    assert accuracy >= 0.988
    np.testing.assert_allclose(accuracy, header["test_accuracy"][0], atol=2e-4)
    np.testing.assert_allclose(logits[:500], convnet_logits(load_file(predict.pretrained()), images[:500]), atol=1e-3)


def test_package_data_is_small_and_declared():
    assert predict.pretrained() == PRETRAINED / "mnist.safetensors"
    assert predict.pretrained().stat().st_size < 500_000
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mllab"]
    package = ROOT / "mllab"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts:
            name = path.relative_to(package).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in declared), name


# ── Pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_pictures_and_a_photograph(tmp_path, capsys):
    drawing("1").save(tmp_path / "one.png")
    shaded = np.asarray(drawing("0").resize((640, 480)), float) * np.linspace(0.75, 1, 640)[None, :, None]
    Image.fromarray(shaded.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=70)
    pictures = [tmp_path / "one.png", tmp_path / "photo.jpg", SEVEN]
    together = predictions(*pictures, top=2)
    assert [each.classes[0][0] for each in together] == ["1", "0", "7"]
    for picture, prediction in zip(pictures, together, strict=True):
        (alone,) = predictions(picture, top=2)
        assert prediction.classes[0][0] == alone.classes[0][0]
        np.testing.assert_allclose(prediction.classes[0][1], alone.classes[0][1], rtol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["picture", "prediction", "no.", "2", "inverted"]
    assert [line.split()[0] for line in lines[2:5]] == list(map(str, pictures))
    assert all(line.endswith("yes") for line in lines[2:5])
    assert lines[5] == "net: convnet, trained on mnist"


def test_probabilities_are_the_softmax_of_the_logits(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 99, (28, 28), dtype=np.uint8)).save(tmp_path / "noise.png")
    (noise,) = predictions(tmp_path / "noise.png", top=99)
    with Image.open(tmp_path / "noise.png") as image:
        logits = convnet_logits(load_file(predict.pretrained()), np.asarray(image, float)[None, ..., None] / 255)[0]
    probabilities = np.exp(logits) / np.exp(logits).sum()
    assert [name for name, _ in noise.classes] == [str(digit) for digit in np.argsort(-probabilities)]
    np.testing.assert_allclose(
        [probability for _, probability in noise.classes], np.sort(probabilities)[::-1], rtol=1e-3, atol=1e-6
    )
    assert not noise.inverted


@pytest.mark.parametrize(
    ("channels", "training_border", "expected"),
    [
        (1, 0.0, [False, True]),  # light strokes on black
        (1, 1.0, [True, False]),  # ink on paper
        (1, 0.5, [False, False]),  # photographs: no plain background
        (1, None, [False, False]),  # not recorded
        (3, 0.0, [False, False]),  # the negative of a colour image is another image
    ],
)
def test_only_a_picture_on_the_opposite_plain_background_is_inverted(channels, training_border, expected):
    images = np.stack([np.full((8, 8, channels), 0.1), np.full((8, 8, channels), 0.9)])
    images[:, 2:6, 2:6] = 1 - images[:, 2:6, 2:6]
    assert image_file.has_opposite_background(images, training_border).tolist() == expected


# ── Other params ────────────────────────────────────────────────────────────────────────────────────────────────────


def published(path, name, shape, classes):
    """Write the params of an untrained model."""
    plan = table.plan(name, shape, classes)
    params, extra = table.build(plan).init(jax.random.key(0))
    header = {"plan": plan, "dataset": "x", "classes": [str(each) for each in range(classes)]}
    path.write_bytes(weights.encode(params, header, extra))
    return path


def test_the_params_of_an_optimizer_race_are_applied(tmp_path):
    optimizer_race.run(
        workdir=str(tmp_path / "w"), optimizers=["adam"], learning_rates=[0.01], seeds=1, epochs=15, hidden=[16]
    )
    data = catalog.load("digits")
    rows = data.split.test[:20]
    for row in rows:
        Image.fromarray((data.inputs[row, ..., 0] * 255).astype(np.uint8)).save(tmp_path / f"{row}.png")
    made = predictions(*(tmp_path / f"{row}.png" for row in rows), params=str(tmp_path / "w" / "params.safetensors"))
    correct = [int(each.classes[0][0]) == target for each, target in zip(made, data.targets[rows], strict=True)]
    assert np.mean(correct) >= 0.85
    assert not any(each.inverted for each in made)


def cut_short(path):
    path.write_bytes(predict.pretrained().read_bytes()[:-100])
    return path


def without_plan(path):
    save_file({"w": np.zeros((3, 2), np.float32)}, path)
    return path


def of_another_shape(path):
    arrays = load_file(predict.pretrained())
    arrays["layers.10.w"] = arrays["layers.10.w"][:, :9].copy()
    save_file(arrays, path, {"mllab": json.dumps(weights.load_model(predict.pretrained()).about)})
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: published(path, "linear", (8,), 0), "holds a model that takes no images or names no classes"),
        (lambda path: published(path, "softmax", (8,), 3), "holds a model that takes no images"),
        (cut_short, "is not a whole safetensors file"),
        (without_plan, "does not say what model it is of"),
        (of_another_shape, r"does not fit the model: layers.10.w is \(64, 9\) there, \(64, 10\) in the model"),
        (lambda path: path, "no file"),
        (lambda path: path.parent, "no file"),
    ],
    ids=["a line", "a table", "cut short", "no plan", "another shape", "absent", "a folder"],
)
def test_other_params_are_refused_in_one_line(tmp_path, make, message):
    params = make(tmp_path / "params.safetensors")
    with refused_in_one_line(message) as caught:
        predictions(SEVEN, params=str(params))
    assert str(params) in str(caught.value)


# ── The program ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_program_classifies_from_any_folder_and_writes_nothing(tmp_path):
    command = [sys.executable, "-m", "experiments.predict", SEVEN, "--top=1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].split()[1] == "7"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name one or more pictures"),
        (["{cut}"], "{cut} is truncated or damaged"),
        ([SEVEN, "{cut}"], "{cut} is truncated or damaged"),
        (["absent.png"], "cannot read absent.png"),
        ([SEVEN, "--dataset=mnist"], "unknown flag '--dataset'"),
        ([SEVEN, "--top=0"], "--top=0: out of range"),
    ],
)
def test_the_program_ends_a_mistake_in_one_line(tmp_path, capsys, words, message):
    cut = tmp_path / "cut.png"
    cut.write_bytes(Path(SEVEN).read_bytes()[:1500])
    with pytest.raises(SystemExit) as caught:
        predict.main(["predict", *(word.format(cut=cut) for word in words)])
    shown = capsys.readouterr()
    assert caught.value.code == 1
    assert shown.err.startswith("error: ")
    assert message.format(cut=cut) in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_help_shows_pictures_as_arguments(capsys):
    predict.main(["predict", "--help"])
    shown = capsys.readouterr().out
    assert "experiments.predict [--params=FILE] PICTURE ..." in shown
    assert "--top" in shown
    assert "--epochs" not in shown
