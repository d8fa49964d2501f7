"""Predict, and the small net that comes with mllab: what it says of drawings, photographs, and what is no picture."""

import fnmatch
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file
from test_image_classifier import convnet_by_hand

import mllab
from experiments import optimizer_race, predict
from experiments.workdir import Workdir
from mllab import weights
from mllab.data import catalog
from mllab.errors import UserError
from mllab.models import base, table

ROOT = Path(__file__).parents[2]
PRETRAINED = Path(mllab.__file__).parent / "pretrained"

# Strokes of a pen on paper of 112 × 112; seven.png, which comes with mllab, was drawn by those of the 7.
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


def best(told):
    return [one["classes"][0][0] for one in told]


# ── The net that comes with mllab ───────────────────────────────────────────────────────────────────────────────────


def test_the_bundled_drawing_is_a_seven():
    (told,) = predict.run([PRETRAINED / "seven.png"])
    (name, probability), *_ = told["classes"]
    assert name == "7"
    assert probability > 0.9
    assert told["inverted"]
    with Image.open(PRETRAINED / "seven.png") as image:
        assert (image.size, image.mode) == ((112, 112), "RGB")
        assert np.abs(np.asarray(image, float) - np.asarray(drawing("7"), float)).mean() < 2


@pytest.mark.parametrize("light_on_dark", [False, True])
@pytest.mark.parametrize("digit", STROKES)
def test_drawings_are_told_apart_whatever_their_ground(tmp_path, digit, light_on_dark):
    colours = {"ink": (240, 230, 150), "paper": (10, 20, 30)} if light_on_dark else {}
    drawing(digit, **colours).save(tmp_path / "a.png")
    (told,) = predict.run([tmp_path / "a.png"])
    assert told["classes"][0][0] == digit
    assert told["classes"][0][1] > 0.9
    assert told["inverted"] != light_on_dark


def test_it_reaches_98_percent_of_mnists_test_rows(data_dir):
    data = catalog.load("mnist", data_dir=data_dir)
    model, params, extra, about = weights.load_model(predict.pretrained())
    images, targets = data.inputs[data.split.test], data.targets[data.split.test]
    logits = base.predict(model, params, extra, images)
    accuracy = np.mean(logits.argmax(axis=1) == targets)
    assert accuracy >= 0.988
    np.testing.assert_allclose(accuracy, about["test_accuracy"][0], atol=2e-4)
    by_hand = convnet_by_hand(load_file(predict.pretrained()), images[:500])
    np.testing.assert_allclose(logits[:500], by_hand, atol=1e-3)


def test_whatever_comes_with_the_package_is_small_and_named_as_its_data():
    assert predict.pretrained() == PRETRAINED / "mnist.safetensors"
    assert predict.pretrained().stat().st_size < 500_000
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mllab"]
    package = ROOT / "mllab"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts:
            name = path.relative_to(package).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in named), name


# ── Pictures ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_pictures_and_a_photograph(tmp_path, capsys):
    drawing("1").save(tmp_path / "one.png")
    shaded = np.asarray(drawing("0").resize((640, 480)), float) * np.linspace(0.75, 1, 640)[None, :, None]
    Image.fromarray(shaded.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=70)
    pictures = [tmp_path / "one.png", tmp_path / "photo.jpg", PRETRAINED / "seven.png"]
    told = predict.run(pictures, top=2)
    assert best(told) == ["1", "0", "7"]
    alone = [predict.run([picture], top=2)[0] for picture in pictures]
    for together, single in zip(told, alone, strict=True):
        assert together["classes"][0][0] == single["classes"][0][0]
        np.testing.assert_allclose(together["classes"][0][1], single["classes"][0][1], rtol=1e-4)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["picture", "prediction", "no.", "2", "inverted"]
    assert [line.split()[0] for line in lines[2:5]] == list(map(str, pictures))
    assert all(line.endswith("yes") for line in lines[2:5])
    assert lines[5] == "net: convnet, trained on mnist"


def test_probabilities_are_the_softmax_of_the_logits(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 99, (28, 28), dtype=np.uint8)).save(tmp_path / "noise.png")
    (told,) = predict.run([tmp_path / "noise.png"], top=99)
    with Image.open(tmp_path / "noise.png") as image:
        logits = convnet_by_hand(load_file(predict.pretrained()), np.asarray(image, float)[None, ..., None] / 255)[0]
    shares = np.exp(logits) / np.exp(logits).sum()
    assert [name for name, _ in told["classes"]] == [str(digit) for digit in np.argsort(-shares)]
    np.testing.assert_allclose([share for _, share in told["classes"]], np.sort(shares)[::-1], rtol=1e-3, atol=1e-6)
    assert not told["inverted"]


@pytest.mark.parametrize(
    ("channels", "ground", "expected"),
    [
        (1, 0.0, [False, True]),  # trained on light strokes in the dark
        (1, 1.0, [True, False]),  # on ink on paper
        (1, 0.5, [False, False]),  # on photographs: no plain ground
        (1, None, [False, False]),  # nothing is told
        (3, 0.0, [False, False]),  # a negative of colours is another thing
    ],
)
def test_only_a_picture_on_the_opposite_plain_ground_is_inverted(channels, ground, expected):
    images = np.stack([np.full((8, 8, channels), 0.1), np.full((8, 8, channels), 0.9)])
    images[:, 2:6, 2:6] = 1 - images[:, 2:6, 2:6]
    assert predict.on_the_opposite_ground(images, ground).tolist() == expected


# ── Params of one's own ─────────────────────────────────────────────────────────────────────────────────────────────


def published(path, name, shape, classes, **about):
    """Write the params of a model that was never trained."""
    plan = table.plan(name, shape, classes)
    params, extra = table.build(plan).init(jax.random.key(0))
    about = {"plan": plan, "dataset": "x", "classes": [str(each) for each in range(classes)]} | about
    path.write_bytes(weights.encode(params, about, extra))
    return path


def test_the_params_of_an_optimizer_race_are_applied(tmp_path):
    optimizer_race.run(
        Workdir(tmp_path / "w", "optimizer_race", ""),
        names=["adam"], learning_rates=[0.01], seeds=[0], epochs=15, model="mlp", options={"hidden": (16,)},
    )  # fmt: skip
    data = catalog.load("digits")
    rows = data.split.test[:20]
    for row in rows:
        Image.fromarray((data.inputs[row, ..., 0] * 255).astype(np.uint8)).save(tmp_path / f"{row}.png")
    told = predict.run([tmp_path / f"{row}.png" for row in rows], params=tmp_path / "w" / "params.safetensors")
    assert np.mean([int(name) == target for name, target in zip(best(told), data.targets[rows], strict=True)]) >= 0.85
    assert not any(one["inverted"] for one in told)


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
    ("make", "says"),
    [
        (lambda path: published(path, "linear", (8,), 0), "is of a model that takes no pictures or knows no classes"),
        (lambda path: published(path, "softmax", (8,), 3), "is of a model that takes no pictures"),
        (cut_short, "is not a whole safetensors file"),
        (without_plan, "does not say what model it is of"),
        (of_another_shape, r"does not fit the model: layers.10.w is \(64, 9\) there, \(64, 10\) in the model"),
        (lambda path: path, "no file"),
        (lambda path: path.parent, "no file"),
    ],
    ids=["a line", "a table", "cut short", "no plan", "another shape", "absent", "a folder"],
)
def test_other_params_are_refused_in_one_line(tmp_path, make, says):
    params = make(tmp_path / "params.safetensors")
    with pytest.raises(UserError, match=says) as caught:
        predict.run([PRETRAINED / "seven.png"], params=params)
    assert str(params) in str(caught.value)
    assert "\n" not in str(caught.value)


# ── The program ─────────────────────────────────────────────────────────────────────────────────────────────────────


def program(*words, folder=ROOT):
    command = [sys.executable, "-m", "experiments.predict", *map(str, words)]
    return subprocess.run(
        command, cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
    )


def test_the_program_says_what_it_sees_from_any_folder(tmp_path):
    done = program(PRETRAINED / "seven.png", "--top=1", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2].split()[1] == "7"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "name one picture or more"),
        (["{cut}"], "{cut} is cut short or damaged"),
        (["{whole}", "{cut}"], "{cut} is cut short or damaged"),
        (["absent.png"], "cannot read absent.png"),
        (["{whole}", "--dataset=mnist"], "--dataset means nothing to this experiment"),
    ],
)
def test_the_program_ends_a_mistake_in_one_line(tmp_path, words, says):
    whole, cut = PRETRAINED / "seven.png", tmp_path / "cut.png"
    cut.write_bytes(whole.read_bytes()[:1500])
    done = program(*(word.format(whole=whole, cut=cut) for word in words))
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert says.format(cut=cut) in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_shows_pictures_as_arguments():
    done = program("--help")
    assert "experiments.predict [--params=FILE] PICTURE ..." in done.stdout
    assert "--top" in done.stdout
    assert "--epochs" not in done.stdout
