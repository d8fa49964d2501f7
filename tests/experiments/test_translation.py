"""Translation: crops against whole sentences, batches, runs that resume, and what is published translates."""

import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import translate, translation, translation_quality
from experiments import translation_training as training
from mllab import optimizers, sweep
from mllab.data import vocabulary
from mllab.data.pairs import Pairs
from mllab.models.encoder_decoder import EncoderDecoder, TokenScores, words_before
from mllab.special_tokens import PADDING
from support.mistakes import refused_in_one_line

WORDS = ("red", "green", "blue", "sky", "sea", "field")


def corpus(count, seed=0, lengths=range(1, 9)):
    """Sentences of 1 to 8 words, to be reversed word by word."""
    draw = np.random.default_rng(seed)
    made = [draw.choice(WORDS, draw.choice(lengths)).tolist() for _ in range(count)]
    return [(" ".join(each), " ".join(word[::-1] for word in each)) for each in made]


@pytest.fixture(scope="module")
def sentences():
    """24 training pairs of words, and a few to choose and to report."""
    pairs = Pairs("toy", {"train": corpus(24), "validation": corpus(5, 1), "test": corpus(5, 2)})
    sides = [[pair[side] for pair in corpus(99, 3)] for side in (0, 1)]
    return training.lay_out(pairs, *(vocabulary.words(side) for side in sides), longest=9)


@pytest.fixture(scope="module")
def model(sentences):
    """A model that compiles at once: the mean of the source's words and the word before predict the next word."""
    sizes = len(sentences.source), len(sentences.target)

    def init(key):
        keys = jax.random.split(key, 3)
        shapes = {"source": (sizes[0], 3), "target": (sizes[1], 3), "out": (3, sizes[1])}
        return {name: jax.random.normal(each, shapes[name]) for name, each in zip(shapes, keys, strict=True)}, None

    def apply(params, extra, inputs, key):
        read = (inputs["source"] != PADDING)[..., None]
        context = (params["source"][inputs["source"]] * read).sum(1) / jnp.maximum(read.sum(1), 1)
        before = params["target"][words_before(inputs["target"])]
        logs = jax.nn.log_softmax((context[:, None] + before) @ params["out"])
        real = inputs["target"] != PADDING
        chosen = jnp.take_along_axis(logs, inputs["target"][..., None], axis=-1)[..., 0]
        return TokenScores(jnp.where(real, chosen, 0), jnp.where(real, logs.mean(-1), 0)), extra

    return EncoderDecoder(init, apply, None, None, None)


def test_each_epoch_visits_each_pair_once_in_batches_of_similar_length(sentences):
    rows = training.batches(sentences, 5, 3, 2, 4)  # 5 batches an epoch, 16 steps: 4 segments of 4
    assert rows.ids.shape == (2, 16, 5)
    assert (rows.weight == 1).all()
    assert not np.array_equal(rows.ids[0], rows.ids[1])
    for schedule in rows.ids:
        for epoch in (schedule[:5], schedule[5:10], schedule[10:15]):
            assert sorted(set(epoch.ravel().tolist())) == sentences.rows["train"].tolist()
        kinds = [len(set(sentences.bucket[batch].tolist())) for batch in schedule]
        assert np.mean(kinds) < 2
    lengths = (sentences.examples["source"] != PADDING).sum(axis=1)
    for row, crop in enumerate(sentences.bucket):
        assert lengths[row] <= sentences.crops[crop][0]
    assert len(sentences.crops) > 2
    assert sentences.crops[-1] == tuple(sentences.examples[side].shape[1] for side in ("source", "target"))


def test_a_crop_changes_neither_loss_nor_gradient(sentences, model):
    """Against the mean over all tokens of the padded batch, differentiated by JAX as a whole."""
    smoothing = 0.2
    params, _ = model.init(jax.random.key(0))
    one = training.objective(model, sentences.crops, smoothing)

    def cropped(params, batch):
        losses, _ = one({}, params, None, batch, None)
        return losses.mean()

    def whole(params, batch):
        scores, _ = model.apply(params, None, batch, None)
        losses = -(1 - smoothing) * scores.log_probability - smoothing * scores.mean_log_probability
        return losses.sum() / (batch["target"] != PADDING).sum()

    functions = [jax.jit(jax.value_and_grad(each)) for each in (cropped, whole)]
    for bucket in (0, len(sentences.crops) - 1):
        ids = np.flatnonzero(sentences.bucket == bucket)[:4]
        batch = {name: jnp.asarray(array[ids]) for name, array in sentences.examples.items()}
        assert int(training.crop_index(batch, sentences.crops)) == bucket
        (loss, gradient), (expected, by_jax) = (each(params, batch) for each in functions)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, by_jax)


def test_lanes_with_batches_of_their_own_compute_one_crop(sentences, model):
    """A batched index would compute the branches of all crops."""
    run = training.make_run(
        model, lambda hyper: optimizers.build("sgd", hyper["learning_rate"]), sentences.crops, smoothing=0.1
    )
    grid = sweep.grid({"learning_rate": np.array([0.1])}, 2)
    lanes = sweep.lanes(run, grid.schedule, group=1, min_shared_lanes=1)
    rows = training.batches(sentences, 5, 1, 2, 1)
    state = jax.eval_shape(lanes.start, grid.hyper, grid.key)
    lowered = jax.jit(lanes.advance).lower(grid.hyper, state, sentences.examples, rows).as_text()
    assert lowered.count("stablehlo.case") == 1
    batched = sweep.lanes(run, grid.schedule, group=2)
    lowered = jax.jit(batched.advance).lower(grid.hyper, jax.eval_shape(batched.start, grid.hyper, grid.key),
                                             sentences.examples, rows).as_text()  # fmt: skip
    assert lowered.count("stablehlo.case") == 0


def test_baselines_read_what_takes_no_learning():
    assert translation_quality.by_digits("Tuesday, 3rd March 1998") == "1998-01-03"
    assert translation_quality.by_digits("12 mars '07") == "2007-01-12"
    made = translation_quality.baselines({"train": [("a", "x"), ("b", "y"), ("c", "y")], "test": [("d", "z")]}, False)
    assert made == {"copying the source": ["d"], "the most frequent target": ["y"]}


def test_a_part_whose_pairs_are_all_too_long_is_refused():
    known = vocabulary.words(["a b c"], minimum=1)
    pairs = Pairs("toy", {"train": [("a", "b")], "validation": [("a b c", "a")], "test": [("a", "b")]})
    with refused_in_one_line("every pair of the validation part has more than 3 tokens on a side: raise --longest"):
        training.lay_out(pairs, known, known, 3)


TINY = {
    "tokens": "words", "hidden": 6, "embedding": 4, "models": ("gru",), "epochs": 2, "batch_size": 16, "segments": 4,
    "seeds": 2, "beam": 2, "devices": 2, "average": 0.9, "dropout": 0.1, "label_smoothing": 0.1,
    "replace_unknown": True, "checkpoint_seconds": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run on the user's own file: workdir, measurement, and the file."""
    pytest.importorskip("sacrebleu")
    folder = tmp_path_factory.mktemp("translation")
    path = folder / "own.tsv"
    path.write_text(
        "".join(f"{source}\t{target}\n" for source, target in corpus(80, lengths=(3, 5))) + "only a source\t\n"
    )
    return folder / "w", translation.run(dataset=str(path), workdir=str(folder / "w"), **TINY), path


@pytest.mark.slow
def test_a_run_resumes_publishes_and_translates(trained, tmp_path, monkeypatch, capsys):
    workdir, measured, path = trained
    assert measured.skipped == 1
    assert [each.votes for each in measured.systems] == [0, 0, 1, 2]
    assert all(np.isfinite(each.quality.bleu.mean) for each in measured.systems)
    again = translation.run(dataset=str(path), workdir=str(workdir), **TINY)  # replayed from its last checkpoint
    assert again.scores[0].validation_nats.tolist() == measured.scores[0].validation_nats.tolist()
    files = [str(workdir / f"gru_{seed}.safetensors") for seed in (0, 1)]
    output = tmp_path / "out.txt"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"red sky\n\nxylophone\n")))
    made = translate.run(params=tuple(files), n_best=2, output=str(output))
    assert made.sentences == ["red sky", "", "xylophone"]
    assert [len(each) for each in made.translations] == [2, 1, 2]
    assert output.read_text().split("\n")[1] == ""
    assert len(output.read_text().split("\n")) == 4
    shown = capsys.readouterr().out
    assert "xylophone" in shown
    page = (workdir / "report.html").read_text()
    assert page.count('class="alignment"') == len([each for each in measured.examples if each.weights.any()]) > 0
    assert json.loads((workdir / "summary.json").read_text())["dataset"] == "own.tsv"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"width": 64}, "--width=64: no model of --models=gru,gru_without_attention reads it"),
        ({"models": ("transformer",), "hidden": 64}, "--hidden=64: no model of --models=transformer reads it"),
        ({"vocabulary": 500}, "--vocabulary=500: the most subwords, and tokens are characters"),
        ({"clip_norm": 0}, "--clip_norm=0: no step"),
        ({"dataset": "none.tsv"}, "no file none.tsv"),
        ({"source": "de"}, "unknown language of dates 'de'"),
        ({"longest": 4}, "every pair of the train part has more than 4 tokens"),
    ],
)
def test_a_mistake_in_training_is_one_line_and_leaves_nothing(overrides, message, tmp_path):
    with refused_in_one_line(message):
        translation.run(workdir=str(tmp_path / "w"), **overrides)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, "params: name the file"),
        ({"params": ("none.safetensors",)}, "no file none.safetensors"),
        ({"params": ("x",), "n_best": 9}, "--n_best=9 of --beam=5"),
        ({"params": ("x",), "output": "/"}, "no regular file"),
    ],
)
def test_a_mistake_in_translating_is_one_line(overrides, message):
    with refused_in_one_line(message):
        translate.run(sentences=("a",), **overrides)


@pytest.mark.parametrize("raw", [b"", b"\n\n", b"a\xff\n"])
def test_standard_input_without_a_sentence_is_one_line(raw, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    with refused_in_one_line("standard input"):
        translate.standard_input()
