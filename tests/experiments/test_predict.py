"""Predict, and the small net that ships with mllab: drawings, photographs, and files that are no pictures."""

import contextlib
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
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

import mllab
from experiments import optimizer_race, predict
from mllab import weights
from mllab.data import catalog
from mllab.data.readers import image_file
from mllab.errors import UserError
from mllab.models import base, convnet, table
from mllab.models.layers import Activation, BatchNorm, Conv, Dense, Dropout, MaxPool, Residual
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def named_pipe(path):
    os.mkfifo(path)
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
        (lambda path: path.parent, "it is a folder"),
        (lambda path: Path("/dev/zero"), "it is a device"),
        (named_pipe, "it is a named pipe"),
    ],
    ids=["a line", "a table", "cut short", "no plan", "another shape", "absent", "a folder", "a device", "a pipe"],
)
def test_other_params_are_refused_in_one_line(tmp_path, make, message):
    params = make(tmp_path / "params.safetensors")
    with refused_in_one_line(message) as caught:
        predictions(SEVEN, params=str(params))
    assert str(params) in str(caught.value)


PLANS = {
    "softmax": table.plan("softmax", (2, 3, 1), 3),
    "mlp": table.plan("mlp", (2, 3, 1), 3, hidden=(2,)),
    "residual": table.plan("residual", (4, 4, 3), 3, channels=(2,)),
    "layers": {
        "model": "convnet", "shape": [4, 4, 1], "layers": convnet.describe(
            (Conv(2), Residual((Conv(2), BatchNorm())), MaxPool(), Activation("tanh"), Dropout(0.1), Dense(3))
        ),
    },
}  # fmt: skip
HEADERS = {
    name: {"plan": plan, "dataset": "x", "classes": ["a", "b", "c"], "border": 0.0} for name, plan in PLANS.items()
}


def arrays_of(name):
    """The arrays of an untrained model, by their names in the file."""
    params, extra = table.build(PLANS[name]).init(jax.random.key(0))
    return safetensors.numpy.load(weights.encode(params, {}, extra))


ARRAYS = {name: arrays_of(name) for name in PLANS}


def classifier(path, about, arrays):
    """Write a params file, and describe the classifier in it."""
    path.write_bytes(safetensors.numpy.save(arrays, {"mllab": about if isinstance(about, str) else json.dumps(about)}))
    return predict.described(path, weights.load_model(path))


@pytest.mark.parametrize("name", PLANS)
def test_the_header_describes_the_classifier(tmp_path, name):
    found = classifier(tmp_path / "params", HEADERS[name], ARRAYS[name])
    assert found.classes == ("a", "b", "c")
    assert list(found.shape) == list(PLANS[name]["shape"])


def replaced(value, **changes):
    """A nested dict with some of its entries replaced; `key__inner` names an inner one, ... leaves an entry out."""
    value = json.loads(json.dumps(value))
    for path, change in changes.items():
        *outer, last = path.split("__")
        inner = value
        for key in outer:
            inner = inner[key]
        if change is ...:
            del inner[last]
        else:
            inner[last] = change
    return value


DEEP = "[" * 100_000
MLP, SOFTMAX, RESIDUAL, LAYERS = HEADERS["mlp"], HEADERS["softmax"], HEADERS["residual"], HEADERS["layers"]
W = {"w": np.ones((6, 3), np.float32), "b": np.zeros(3, np.float32)}
MISTAKEN = {  # the header, the arrays, and the message
    "a list": ([1], W, "its header holds list instead of named values"),
    "no JSON": ("{", W, "its header cannot be read"),
    "deep JSON": (DEEP, W, "nested too deeply"),
    "no plan": (replaced(SOFTMAX, plan=...), W, "does not say what model"),
    "a plan of text": (replaced(SOFTMAX, plan="softmax"), W, "the plan of a model is softmax: expected named"),
    "no model": (replaced(SOFTMAX, plan__model=...), W, "unknown model 'None'"),
    "a list of models": (replaced(SOFTMAX, plan__model=["softmax"]), W, "unknown model"),
    "units of text": (replaced(MLP, plan__hidden="64"), W, "hidden = 64: expected a list of whole numbers"),
    "fractions": (replaced(MLP, plan__hidden=[2.5]), W, "hidden = \\[2.5\\]: expected a list of whole numbers"),
    "nested units": (replaced(MLP, plan__hidden=[[2]]), W, "expected a list of whole numbers"),
    "no units": (replaced(MLP, plan__hidden=[0]), W, "1 or more"),
    "negative units": (replaced(MLP, plan__hidden=[-2]), W, "1 or more"),
    "a billion units": (replaced(MLP, plan__hidden=[10**9]), W, "does not fit the model"),
    "units without end": (replaced(MLP, plan__hidden=[10**30]), W, "expected a list of whole numbers"),
    "many layers": (replaced(MLP, plan__hidden=[1] * 10**5), W, "expected a list of whole numbers"),
    "negative sides": (replaced(SOFTMAX, plan__shape=[-2, -3, 1]), W, "shape = .*: expected sizes of 1 or more"),
    "a huge image": (replaced(SOFTMAX, plan__shape=[10**6, 10**6, 1]), W, "more than 2,147,483,647 values in a row"),
    "sides of a table": (replaced(SOFTMAX, plan__shape=[6]), W, "takes no images"),
    "four channels": (replaced(SOFTMAX, plan__shape=[1, 2, 3]), W | {"w": W["w"]}, None),
    "two channels": (replaced(SOFTMAX, plan__shape=[1, 3, 2]), W, "takes no images"),
    "many blocks": (replaced(RESIDUAL, plan__blocks=10**9), W, "blocks = 1000000000: expected a whole number up to"),
    "no channels": (replaced(RESIDUAL, plan__channels=[]), W, "channels: none"),
    "an activation": (replaced(MLP, plan__activation=["relu"]), W, "activation = .*: expected text"),
    "layers of text": (replaced(LAYERS, plan__layers="Dense"), W, "layer D: expected its name and fields"),
    "a layer of numbers": (replaced(LAYERS, plan__layers=[1]), W, "layer 1: expected its name and fields"),
    "a window of text": (
        replaced(LAYERS, plan__layers=[{"layer": "MaxPool", "stride": "2"}]), W, "stride = '2', expected a whole"
    ),
    "an unhashable name": (replaced(LAYERS, plan__layers=[{"layer": ["Dense"]}]), W, "unknown layer"),
    "few classes": (replaced(SOFTMAX, classes=["a", "b"]), W, "names 2 classes, and its model has 3 outputs"),
    "numbers as classes": (replaced(SOFTMAX, classes=[0, 1, 2]), W, "no list of names"),
    "a class of text": (replaced(SOFTMAX, classes="abc"), W, "no list of names"),
    "a border of text": (replaced(SOFTMAX, border="white"), W, "border = white in its header"),
    "NaN as border": (replaced(SOFTMAX, border=float("nan")), W, "border = nan"),
    "a data set of numbers": (replaced(SOFTMAX, dataset=[3]), W, "dataset = .* expected a name"),
    "no data set": (replaced(SOFTMAX, dataset=...), W, None),
    "integers": (SOFTMAX, W | {"b": np.zeros(3, np.int32)}, "b holds int32 there, float32 in the model"),
    "truth": (SOFTMAX, W | {"b": np.zeros(3, bool)}, "b holds bool there"),
    "doubles": (SOFTMAX, {name: array.astype(np.float64) for name, array in W.items()}, None),
    "NaN": (SOFTMAX, W | {"b": np.array([0, np.nan, 0], np.float32)}, "b is nan at \\[1\\]"),
    "infinity": (SOFTMAX, W | {"w": np.full((6, 3), np.inf, np.float32)}, "w is inf at \\[0, 0\\]"),
    "too many": (SOFTMAX, W | {"c": np.zeros(3, np.float32)}, "c is \\(3,\\) there, no such array in the model"),
    "too few": (SOFTMAX, {"w": W["w"]}, "b is no such array there"),
    "another shape": (SOFTMAX, W | {"w": W["w"].T.copy()}, "w is \\(3, 6\\) there"),
}  # fmt: skip


@pytest.mark.parametrize(("about", "arrays", "message"), MISTAKEN.values(), ids=MISTAKEN)
def test_an_edited_file_is_refused_before_anything_is_computed(tmp_path, about, arrays, message):
    path = tmp_path / "params"
    if message is None:
        classifier(path, about, arrays)
        return
    with refused_in_one_line(message) as caught:
        classifier(path, about, arrays)
    assert str(path) in str(caught.value)


def test_complex_numbers_and_huge_outputs_are_refused(tmp_path):
    path = tmp_path / "params"
    header = {"b": {"dtype": "C64", "shape": [3], "data_offsets": [0, 24]}, "__metadata__": {"mllab": "{}"}}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    with refused_in_one_line("not a whole safetensors file|b holds C64"):
        weights.load_model(path)
    classifier(path, SOFTMAX, {name: np.full_like(array, 3e38) for name, array in W.items()})
    with refused_in_one_line("outputs are not finite"):
        predictions(SEVEN, params=str(path))


leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 5), st.sampled_from([10**9, -(10**9), 10**25]), st.floats(),
    st.sampled_from(["", "relu", "Dense", "convnet", "\x01\n", "SAME"]),
)  # fmt: skip
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2)
)


def places(value, path=()):
    """Every place in a nested value, as a path of keys and indices."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(PLANS)))
def test_any_other_header_raises_only_user_errors(tmp_path_factory, data, name):
    about = json.loads(json.dumps(HEADERS[name]))
    for _ in range(data.draw(st.integers(1, 2))):
        *outer, last = data.draw(st.sampled_from(list(places(about))[1:] or [("plan",)]))
        inner = about
        for key in outer:
            inner = inner[key]
        if data.draw(st.booleans()):
            inner[last] = data.draw(values)
        else:
            inner.pop(last, None) if isinstance(inner, dict) else inner.pop(last)
    with contextlib.suppress(UserError):
        classifier(tmp_path_factory.getbasetemp() / "edited", about, ARRAYS[name])


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_raises_only_user_errors(tmp_path_factory, data):
    content = bytearray(safetensors.numpy.save(ARRAYS["mlp"], {"mllab": json.dumps(HEADERS["mlp"])}))
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(UserError):
        predict.described(path, weights.load_model(path))


# ── The program ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
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
