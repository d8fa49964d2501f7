"""Character-level language models: the layout of a text, losses against brute force, runs, published models."""

import json
import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from experiments import char_cells, char_parts, char_rnn, char_training, sample
from mllab import text_models, weights
from mllab.data import texts
from mllab.data.readers import characters
from mllab.errors import UserError
from mllab.models.recurrent import language
from support.mistakes import refused_in_one_line
from support.workdirs import bits, kill, program, records_of

WORDS = "the cat sat on the mat; a dog, too.\n"
TINY = {"hidden": 6, "embedding": 3, "batch_size": 4, "window": 8, "steps": 12, "devices": 2, "sample_length": 20}


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text of 1,440 characters whose words come in random order."""
    draw, path = np.random.default_rng(0), tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text("".join(WORDS[at : at + 6] for at in draw.integers(0, 30, 240)))
    return path


@pytest.fixture(scope="module")
def trained(text, tmp_path_factory):
    """A run of two rates and two seeds: workdir and measurement."""
    workdir = tmp_path_factory.mktemp("trained") / "w"
    return workdir, char_rnn.run(text=str(text), workdir=str(workdir), learning_rates=(0.001, 0.03), seeds=2, **TINY)


def test_every_character_of_a_part_is_predicted_once_from_the_one_before(text):
    loaded = texts.load(text)
    streams = char_parts.lay_out(loaded, batch_size=5, window=7)
    seen = []
    for part in char_parts.PARTS:
        rows, pairs = streams.rows[part], []
        for row in range(5):
            for step in range(len(rows.ids)):
                if rows.weight[step, row]:
                    first = rows.ids[step, row]
                    assert streams.examples["begins"][first] == (step == 0)
                    assert (
                        not streams.examples["begins"][first + 1 : first + 7].any()
                        or not streams.examples["weights"][first + 1 : first + 7].all()
                    )
                    for place in range(first, first + 7):
                        if streams.examples["weights"][place]:
                            pairs.append((streams.examples["tokens"][place], streams.examples["targets"][place]))
        assert len(pairs) == streams.counts[part]
        seen += [pairs[0][0], *(after for _, after in pairs)]
    np.testing.assert_array_equal(seen, loaded.ids)
    assert [streams.counts[part] + 1 for part in char_parts.PARTS] == [1166, 130, 144]
    streams = char_parts.lay_out(loaded, batch_size=5, window=7, validation=0.01)
    assert [streams.counts[part] + 1 for part in char_parts.PARTS] == [1282, 14, 144]


def test_a_text_shorter_than_a_window_is_refused(text):
    loaded = texts.load(text)
    with refused_in_one_line(r"words\.txt has 1,440 characters, of which 130 are the validation part"):
        char_parts.lay_out(loaded, 4, 130)
    char_parts.lay_out(loaded, 4, 129)


def test_baselines_are_the_entropies_of_counts():
    train, test = np.array([0, 1, 0, 1, 1, 2]), np.array([1, 1, 0, 2])
    found = char_parts.baselines(train, test, 4)
    single = {character: (count + 1) / 10 for character, count in (Counter(train.tolist()) + Counter()).items()}
    losses = [-math.log(single[after]) for after in (1, 0, 2)]
    assert math.isclose(found["frequencies of characters"], np.mean(losses))
    # After 1, seen three times before another character: 0, 1 and 2 once each; after 0: 1 twice.
    pairs = [(1 + single[1]) / 4, (1 + single[0]) / 4, (0 + single[2]) / 3]
    assert math.isclose(found["frequencies of pairs"], -np.log(pairs).mean())


@pytest.mark.slow
def test_the_test_loss_is_that_of_the_published_params_read_stretch_by_stretch(trained, text):
    workdir, measured = trained
    loaded = text_models.load(workdir / "params.safetensors")
    (cell,) = measured.cells
    test = texts.load(text).ids[round(0.9 * 1440) :]
    windows = -(-(len(test) - 1) // TINY["window"])
    bounds = np.arange(TINY["batch_size"] + 1) * windows // TINY["batch_size"] * TINY["window"]
    losses = []
    for first, last in zip(bounds[:-1], np.minimum(bounds[1:], len(test) - 1), strict=True):
        logits, _ = loaded.model.apply(loaded.params, None, jnp.asarray(test[None, first:last]), None)
        losses.extend(-jax.nn.log_softmax(logits[0])[np.arange(last - first), test[first + 1 : last + 1]])
    assert len(losses) == len(test) - 1
    np.testing.assert_allclose(cell.test_by_seed[loaded.about["seed"]], np.mean(losses), rtol=1e-5)
    assert cell.learning_rate == 0.03
    np.testing.assert_allclose(np.array(cell.test_bits[:3]) * math.log(2), cell.test[:3], rtol=1e-5)


@pytest.mark.slow
def test_it_records_every_lane_and_learns(trained):
    workdir, measured = trained
    records = records_of(workdir)
    assert len(records) == 4 * 12
    assert {record["cell"] for record in records} == {"gru"}
    figures = {path.stem for path in (workdir / "figures").iterdir()}
    assert figures == {"loss", "written", "greedy", "surprise", "unit_1"}
    first, last = records[0], records[-1]
    assert last["validation_loss"] < first["validation_loss"]
    assert json.loads((workdir / "summary.json").read_text())["best"] == "gru"
    assert len(measured.writing.written) == 20
    samples = measured.writing.samples
    assert [each.step for each in samples] == [1, 4, 7, 9, 12]
    assert {len(each.text) for each in samples} == {char_rnn.LIVE}
    assert len({each.text for each in samples}) > 1


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits(text, tmp_path):
    settings = {"text": text, **TINY, "seeds": 1, "steps": 40, "checkpoint_seconds": 0, "average": 0.9}
    flags, whole, killed = [f"--{name}={value}" for name, value in settings.items()], tmp_path / "a", tmp_path / "b"
    assert program("char_rnn", *flags, f"--workdir={whole}").returncode == 0
    kill("char_rnn", flags, killed, seconds=0.1, seed=0)
    assert program("char_rnn", *flags, f"--workdir={killed}").returncode == 0
    assert bits(killed) == bits(whole)
    samples = [re.findall(r"step \d+, .* bits: .*", (each / "report.html").read_text()) for each in (whole, killed)]
    assert samples[0]
    assert samples[0] == samples[1]


# ── Units that track a property ─────────────────────────────────────────────────────────────────────────────────────

PLAY = 'He said "go (now)" and\n  left (in haste).\n\n"Why?"\n'


def test_properties_of_a_text_are_those_counted_by_hand():
    text, read = PLAY * 3, range(len(PLAY) * 3)
    heads = [text[: place + 1] for place in read]
    paragraphs = [head.rsplit("\n\n", 1)[-1] for head in heads]
    expected = {
        "inside quotes": [part.count('"') % 2 for part in paragraphs],
        "inside brackets": [part.count("(") > part.count(")") for part in paragraphs],
        "position in the line": [len(head.rsplit("\n", 1)[-1]) for head in heads],
        "indentation": [len(line) - len(line.lstrip(" ")) for line in (head.rsplit("\n", 1)[-1] for head in heads)],
        "line of the paragraph": [part.count("\n") for part in paragraphs],
    }
    assert expected.keys() == char_cells.PROPERTIES.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(char_cells.PROPERTIES[name](text), values, err_msg=name)


@pytest.mark.slow
def test_a_planted_unit_is_found(monkeypatch):
    draw = np.random.default_rng(0)
    text = "".join(PLAY[: draw.integers(20, len(PLAY))] for _ in range(60))
    vocabulary = "".join(sorted(set(text)))
    ids = characters.encode(text, vocabulary)
    states = draw.normal(size=(2, 1, len(text), 5)).astype(np.float32)
    states[1, 0, :, 3] -= 9 * char_cells.inside_brackets(text)
    states[0, 0, :, 2] += 0.1 * char_cells.line_position(text)
    model = language.model(len(vocabulary), hidden=5, layers=2, cell="gru")
    monkeypatch.setattr(language, "hidden_states", lambda params, tokens: jnp.asarray(states))
    best, second, *_ = char_cells.find(model.init(jax.random.key(0))[0], ids, vocabulary)
    assert (best.property, best.layer, best.unit) == ("inside brackets", 2, 4)
    assert (second.property, second.layer, second.unit) == ("position in the line", 1, 3)
    half = len(text) // 2
    inside = char_cells.inside_brackets(text)[half:]
    np.testing.assert_allclose(best.correlation, np.corrcoef(-states[1, 0, half:, 3], inside)[0, 1], rtol=1e-5)
    assert best.all_units >= best.correlation - 0.01
    assert best.values[inside[text[half:].index(best.text) :][: len(best.text)] == 1].mean() > 5


@pytest.mark.slow
def test_the_same_flags_give_the_same_bits_and_a_workdir_of_others_is_refused(trained, text, tmp_path):
    workdir, measured = trained
    settings = {"text": str(text), "learning_rates": (0.001, 0.03), "seeds": 2, **TINY}
    again = char_rnn.run(workdir=str(tmp_path / "w"), **settings | {"devices": 1, "checkpoint_seconds": 0.0})
    np.testing.assert_array_equal(again.cells[0].test_by_seed, measured.cells[0].test_by_seed)
    assert again.writing.written == measured.writing.written
    resumed = char_rnn.run(workdir=str(tmp_path / "w"), **settings)  # with a checkpoint of each segment
    np.testing.assert_array_equal(resumed.cells[0].test_by_seed, measured.cells[0].test_by_seed)
    with refused_in_one_line("--window"):
        char_rnn.run(workdir=str(workdir), **settings | {"window": 9})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prime": "the Ω"}, "--prime: the character 'Ω'"),
        ({"window": 1000}, "fewer than a window"),
        ({"clip_norm": 0.0}, "--clip_norm=0"),
        ({"cells": ("lstn",)}, "did you mean 'lstm'"),
        ({"hidden": 100_000, "seeds": 10_000}, "the params and optimizer states of 10,000 lanes"),
        ({"batch_size": 1_000_000, "window": 100, "hidden": 10_000}, "of memory are free"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_mistakes_end_in_one_line_and_leave_nothing(settings, message, text, tmp_path):
    with refused_in_one_line(message):
        char_rnn.run(text=str(text), workdir=str(tmp_path / "w"), **{**TINY, **settings})
    assert not (tmp_path / "w").exists()


# ── Published models ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_published_model_writes_on_and_the_seed_repeats_it(trained):
    params = str(trained[0] / "params.safetensors")
    one, again = (sample.run(params=params, prime="the ", length=30, count=2, seed=3) for _ in range(2))
    assert one.texts == again.texts
    assert one.texts[0] != one.texts[1]
    assert [len(each) for each in one.texts] == [30, 30]
    greedy = sample.run(params=params, prime="the ", length=30, temperature=0.0)
    loaded = text_models.load(params)
    ids = characters.encode("the ", loaded.vocabulary)
    carry = language.initial_carry(loaded.params, 1)
    logits, _ = loaded.model.apply(loaded.params, carry, jnp.asarray(ids)[None], None)
    assert loaded.vocabulary[int(np.argmax(logits[0, -1]))] == greedy.texts[0][0]
    with refused_in_one_line("prime: the character 'Ω'"):
        sample.run(params=params, prime="Ω")
    with refused_in_one_line("give it to experiments.sample"):
        weights.load_model(params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": "ab"}, "does not fit the model"),
        ({"vocabulary": 7}, "the vocabulary in its header is no text"),
        ({"vocabulary": "aab"}, "has a character twice"),
        ({"arguments": {"hidden": 10**12}}, "hidden = 1000000000000"),
        ({"arguments": {"hidden": True}}, "hidden = True"),
        ({"arguments": {"cell": ["gru"]}}, "cell = "),
        ({"arguments": {"form": "x"}}, "form = x"),
        ({"arguments": [1]}, "no named values"),
        ({"kind": "table"}, "holds no language model of characters"),
    ],
    ids=str,
)
def test_a_header_that_was_changed_is_refused(changes, message, trained, tmp_path):
    source, path = trained[0] / "params.safetensors", tmp_path / "p.safetensors"
    _, about = weights.read(source)
    save_file(load_file(source), path, {"mllab": json.dumps(about | changes)})
    with refused_in_one_line(message):
        text_models.load(path)


def test_params_must_be_named():
    with pytest.raises(UserError, match="--params=FILE"):
        sample.run()


@pytest.mark.slow
@pytest.mark.parametrize("init", ["orthogonal", "normal"])
def test_the_flags_of_the_initialisation_reach_the_params(init, text, tmp_path):
    settings = {**TINY, "cells": ("lstm",), "steps": 1, "seeds": 1, "learning_rates": (1e-6,), "layers": 1}
    char_rnn.run(text=str(text), workdir=str(tmp_path), recurrent_init=init, forget_bias=3.0, **settings)
    (cell,) = text_models.load(tmp_path / "params.safetensors").params.layers
    hidden = cell.w_h.shape[0]
    gates = np.asarray(cell.w_h).reshape(hidden, 4, hidden).swapaxes(0, 1)
    off = max(np.abs(gate @ gate.T - np.eye(hidden)).max() for gate in gates)
    assert (off < 1e-4) == (init == "orthogonal")
    biases = np.asarray(cell.b).reshape(4, hidden)
    assert sorted(np.round(biases.mean(axis=1)).tolist()) == [0, 0, 0, 3]


# ── The Transformer ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def transformed(text, tmp_path_factory):
    """A run of a Transformer: workdir and measurement."""
    workdir = tmp_path_factory.mktemp("transformed") / "w"
    sizes = {name: value for name, value in TINY.items() if name != "embedding"} | {"heads": 2, "seeds": 2}
    return workdir, char_rnn.run(text=str(text), workdir=str(workdir), cells=("transformer",), **sizes)


@pytest.mark.slow
def test_a_transformer_learns_is_published_and_writes_beyond_its_context(transformed):
    workdir, measured = transformed
    records = records_of(workdir)
    assert records[-1]["validation_loss"] < records[0]["validation_loss"]
    loaded = text_models.load(workdir / "params.safetensors")
    assert loaded.params.positions.shape == (TINY["window"], TINY["hidden"])
    assert len(measured.writing.written) == 20
    params = str(workdir / "params.safetensors")
    one, again = (sample.run(params=params, prime="the cat sat on", length=30, seed=3) for _ in range(2))
    assert one.texts == again.texts
    assert len(one.texts[0]) == 30
    assert "the best model is a Transformer" in (workdir / "report.html").read_text()
    # Surprise of each character: the last window that is read predicts the last ones.
    ids = characters.encode("the cat sat on the mat", loaded.vocabulary)
    bits_read = char_training.surprise(loaded.model, loaded.params, ids)
    logits, _ = loaded.model.apply(loaded.params, None, jnp.asarray(ids[None, -9:-1]), None)
    np.testing.assert_allclose(bits_read[-1], -jax.nn.log_softmax(logits[0, -1])[ids[-1]] / math.log(2), rtol=1e-4)
    assert bits_read.shape == (len(ids) - 1,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"heads": 10**9}, "heads = 1000000000"),
        ({"tied": True}, "tied = True"),
        ({"heads": 4}, "width = 6 for 4 heads"),
    ],
    ids=str,
)
def test_a_changed_header_of_a_transformer_is_refused(arguments, message, transformed, tmp_path):
    source, path = transformed[0] / "params.safetensors", tmp_path / "p.safetensors"
    _, about = weights.read(source)
    about["arguments"] |= arguments
    save_file(load_file(source), path, {"mllab": json.dumps(about)})
    with refused_in_one_line(message):
        text_models.load(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 2}, "--heads=2: not read by a recurrent cell"),
        ({"cells": ("transformer",), "tied": True}, "--tied=true: not read by a Transformer"),
        ({"cells": ("mingru",), "recurrent_dropout": 0.5}, "--recurrent_dropout=0.5: minGRU has no recurrent weights"),
        ({"cells": ("mingru",), "recurrent_init": "normal"}, "--recurrent_init=normal: minGRU has no"),
        ({"cells": ("tanh",), "forget_bias": 2.0}, "--forget_bias=2: a tanh cell has no gate"),
        ({"tied": True, "embedding": 3}, "--embedding=3: of --hidden features"),
        ({"cells": ("transformer",), "embedding": 64, "hidden": 6}, "--hidden=6 --heads=4: give a multiple"),
    ],
    ids=str,
)
def test_flags_that_no_model_reads_are_refused(settings, message, text, tmp_path):
    with refused_in_one_line(message):
        char_rnn.run(text=str(text), workdir=str(tmp_path / "w"), **({**TINY, "embedding": 64} | settings))
    assert not (tmp_path / "w").exists()
