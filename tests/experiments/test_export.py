"""Exported programs: what they predict without mllab, how a caller encodes inputs, and mistakes."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from experiments import export, predict
from mllab import music_models, portable, text_models, weights
from mllab.data.readers import characters, image_file
from mllab.models import table
from mllab.models.recurrent import language, polyphony
from mllab.table_models import encode_table_model
from support.mistakes import refused_in_one_line
from support.table_problems import HEAD, fitted, lines, loaded

pytest.importorskip("flatbuffers")
SEVEN = str(predict.pretrained().with_name("seven.png"))
VOCABULARY = "\n abc"
ARGUMENTS = {"cell": "lstm", "hidden": 4, "layers": 2, "embedding": 3}
WINDOW = {"cell": "transformer", "width": 4, "layers": 1, "heads": 2, "context": 20}
TEXT = "abc cab\nbca a b c"
# Runs each artifact of a folder on the inputs in NAME.npz, and on those but the last; writes the outputs.
PLAIN = """
import pathlib, sys
sys.modules["mllab"] = sys.modules["experiments"] = None  # importing them fails
import jax
import numpy as np
from jax import export
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.jaxexport")):
    program = export.deserialize(bytearray(path.read_bytes()))
    inputs = [*np.load(path.with_suffix(".npz")).values()]
    carry = len(program.in_avals) - len(inputs)  # states of a language model
    zeros = tuple(np.zeros((len(inputs[0]), each.shape[1]), each.dtype) for each in program.in_avals[1:])
    states = [zeros] * (carry > 0)
    outputs = program.call(*inputs, *states)
    few = program.call(*[each[:-1] for each in inputs], *[tuple(each[:-1] for each in part) for part in states])
    np.savez(path.with_suffix(".out.npz"), *map(np.asarray, jax.tree.leaves((outputs, few))))
"""


def random(model):
    """Params and extra state of a model, positive and small, without a compilation."""
    draw = np.random.default_rng(0)
    like = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: draw.uniform(0, 0.5, leaf.shape).astype(leaf.dtype), like)


def texts(path, arguments=ARGUMENTS):
    """Write a language model to a file; return it."""
    model = text_models.make(VOCABULARY, arguments)
    params, _ = random(model)
    path.write_bytes(text_models.encode(params, VOCABULARY, arguments, {"dataset": "letters"}))
    return model, params


def encoded(about, rows):
    """The inputs of a table's program from rows of text by name of the column, as the description says."""
    number = [
        [(float(row[each["column"]]) - each["offset"]) / each["scale"] for each in about["numbers"]] for row in rows
    ]
    code = [[each["categories"].index(row[each["column"]]) for each in about["codes"]] for row in rows]
    return np.array(number, np.float32), np.array(code, np.int32)


@pytest.mark.slow
def test_programs_predict_without_mllab_as_the_models_do(tmp_path, capsys):
    # A classifier of images.
    export.run(params=predict.pretrained(), output=tmp_path / "image.jaxexport")
    assert "0.32 MB) for cpu, cuda, tpu" in capsys.readouterr().out
    image = 1 - image_file.read(SEVEN, (28, 28), 1)  # ink on paper
    np.savez(tmp_path / "image.npz", np.stack([image, 0 * image]))
    # A regression and a classifier of a table.
    abouts = {}
    for target, learner, hyper, arguments in (
        ("price", "ridge", {"l2": 1.0}, {}), ("kind", "most_frequent", {}, {"classes": 2}),
    ):  # fmt: skip
        data = loaded(tmp_path / f"{target}.csv", target)
        plan, params = fitted(data, learner, hyper, **arguments)
        (tmp_path / f"{target}.safetensors").write_bytes(encode_table_model(plan, params, data.schema))
        export.run(params=tmp_path / f"{target}.safetensors")
        abouts[target] = json.loads((tmp_path / f"{target}.jaxexport.json").read_text())
        rows = [dict(zip(HEAD.split(","), line.split(","), strict=True)) for line in lines(8, seed=1)]
        np.savez(tmp_path / f"{target}.npz", *encoded(abouts[target], rows))
    (tmp_path / "new.csv").write_text("\n".join([HEAD, *lines(8, seed=1)]) + "\n")
    # A language model.
    model, params = texts(tmp_path / "text.safetensors")
    export.run(params=tmp_path / "text.safetensors", platforms="cpu")
    about = json.loads((tmp_path / "text.jaxexport.json").read_text())
    assert (about["platforms"], about["vocabulary"]) == (["cpu"], VOCABULARY)
    assert [each["shape"] for each in about["inputs"][1]] == [["b", 4]] * 4
    tokens = np.stack([characters.encode(each, VOCABULARY, "text") for each in (TEXT, TEXT[::-1])])
    np.savez(tmp_path / "text.npz", tokens)
    window, window_params = texts(tmp_path / "window.safetensors", WINDOW)
    export.run(params=tmp_path / "window.safetensors", platforms="cpu")
    np.savez(tmp_path / "window.npz", tokens)

    subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], cwd=tmp_path, check=True)
    made = {path.name.split(".")[0]: [*np.load(path).values()] for path in tmp_path.glob("*.out.npz")}
    (seven,) = predict.run(pictures=SEVEN).predictions
    probabilities = np.asarray(jax.nn.softmax(made["image"][0][0]))
    assert dict(seven.classes) == pytest.approx(
        {name: probabilities[int(name)] for name, _ in seven.classes}, rel=1e-4, abs=1e-6
    )
    new = str(tmp_path / "new.csv")
    values = predict.run(params=tmp_path / "price.safetensors", input=new).columns["prediction"]
    np.testing.assert_allclose(made["price"][0], values, rtol=1e-6)
    columns = predict.run(params=tmp_path / "kind.safetensors", input=new).columns
    assert abouts["kind"]["classes"] == ["large", "small"]
    np.testing.assert_allclose(np.exp(made["kind"][0][:, 1]), columns["probability of small"], rtol=1e-6)
    logits, carry = model.apply(params, language.initial_carry(params, 2), tokens, None)
    for one, other in zip(made["text"], [logits, *jax.tree.leaves(carry)], strict=False):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        made["window"][0], window.apply(window_params, None, tokens, None)[0], rtol=1e-5, atol=1e-6
    )
    for outputs in made.values():  # one row fewer
        whole, few = outputs[0], outputs[len(outputs) // 2]
        np.testing.assert_allclose(few, whole[:-1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", table.MODELS)
def test_every_model_of_the_table_is_exported(name, tmp_path):
    entry = table.MODELS[name]
    shape = (28, 28, 1) if entry.takes == "images" else (3,)
    plan = table.plan(name, shape, 2 if "classification" in entry.tasks else 0)
    params, extra = random(table.build(plan))
    path = tmp_path / "params.safetensors"
    path.write_bytes(weights.encode(params, {"plan": plan}, extra))
    made = portable.make(path)
    program = jax.export.deserialize(bytearray(made.program))
    assert program.platforms == portable.PLATFORMS
    assert str(program.in_avals[0].shape[0]) == "b"
    assert made.description["inputs"][0]["shape"] == ["b", *shape]


def test_mistakes_are_refused_in_one_line_and_leave_no_file(tmp_path, monkeypatch):
    music = {"keys": 3, "hidden": 2, "units": 2}
    params, _ = random(polyphony.model(**music))
    (tmp_path / "music.safetensors").write_bytes(music_models.encode(params, music, {}))
    texts(tmp_path / "text.safetensors")
    whole = (tmp_path / "text.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    text = tmp_path / "text.safetensors"
    for pattern, settings in (
        ("name the file", {}),
        ("no file .*check the path", {"params": tmp_path / "none.safetensors"}),
        ("kind 'music'", {"params": tmp_path / "music.safetensors"}),
        ("not a whole safetensors file", {"params": tmp_path / "half.safetensors"}),
        ("platform", {"params": text, "platforms": "cpu,gpu"}),
        ("it is a folder", {"params": text, "output": tmp_path / "folder"}),
        ("would replace the params", {"params": text, "output": text}),
        ("Not a directory|File exists", {"params": text, "output": text / "a.jaxexport", "platforms": "cpu"}),
    ):
        with refused_in_one_line(pattern):
            export.run(**settings)
    written = []

    def full(path, content):
        if written:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(export.atomic, "write_bytes", full)
    with refused_in_one_line("No space left on device"):
        export.run(params=text, platforms="cpu")
    monkeypatch.setattr(portable, "find_spec", lambda name: None)
    with refused_in_one_line("pip install flatbuffers"):
        export.run(params=text)
    assert sorted(tmp_path.rglob("*")) == before
