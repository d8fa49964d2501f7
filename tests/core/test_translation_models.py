"""Translation models: files, batches that do not matter, ensembles against NumPy, and sentences that are odd."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mllab import translation_models
from mllab.data import vocabulary
from mllab.special_tokens import BEGIN, END, PADDING, UNKNOWN
from support.mistakes import refused_in_one_line

SOURCE, TARGET = vocabulary.characters(["abcdefg "]), vocabulary.words(["x y z w"], minimum=1)
ARGUMENTS = {"hidden": 5, "embedding": 4, "tied": False}


def model_of(name, seed, **arguments):
    made = translation_models.make(name, len(SOURCE), len(TARGET), ARGUMENTS | arguments)
    params, _ = made.init(jax.random.key(seed))
    return made, jax.tree.map(lambda leaf: 3 * leaf, params)  # far from uniform


@pytest.fixture(scope="module")
def members():
    made, params = model_of("gru", 0)
    return [(made, params), (made, made.init(jax.random.key(1))[0])]


def greedy(members, ids, length):
    """The greedy translation by the mean of the members' probabilities, in NumPy around the models' own steps."""
    source = np.array([ids])
    memories = [model.encode(params, source) for model, params in members]
    caches = [model.start(params, memory, length) for (model, params), memory in zip(members, memories, strict=True)]
    token, made, total = BEGIN, [], 0.0
    for position in range(length):
        probabilities = []
        for place, ((model, params), memory) in enumerate(zip(members, memories, strict=True)):
            logits, caches[place], _ = model.step(params, memory, caches[place], np.array([token]), np.array(position))
            logits = np.asarray(logits[0], np.float64)
            probabilities.append(np.exp(logits) / np.exp(logits).sum())
        mean = np.mean(probabilities, axis=0)
        mean[[PADDING, BEGIN]] = 0
        token = int(mean.argmax())
        total += np.log(mean[token])
        made.append(token)
        if token == END:
            break
    return made, total


@pytest.mark.slow
def test_an_ensemble_averages_probabilities(members):
    ids = SOURCE.encode("bad cab")
    (best,) = translation_models.translate(members, [ids], width=1)
    expected, total = greedy(members, ids, 16)
    assert best[0].ids.tolist() == expected
    np.testing.assert_allclose(best[0].score, total / len(expected), rtol=1e-5)
    alone, _ = greedy(members[:1], ids, 16)
    (twice,) = translation_models.translate([members[0]] * 2, [ids], width=1)
    assert twice[0].ids.tolist() == alone
    np.testing.assert_allclose(best[0].attention.sum(axis=1), 1, rtol=1e-5)
    assert best[0].attention.shape == (len(expected), len(ids))


@pytest.mark.slow
def test_a_translation_does_not_depend_on_its_batch(members):
    ids = [SOURCE.encode(text) for text in ("a", "fed cab", "gag", "bee", "e")]
    together = translation_models.translate(members, ids, width=1, batch_size=2)
    for one, each in zip(ids, together, strict=True):
        (alone,) = translation_models.translate(members, [one], width=1)
        assert each[0].ids.tolist() == alone[0].ids.tolist()
        np.testing.assert_allclose(each[0].score, alone[0].score, rtol=1e-5)
        np.testing.assert_allclose(each[0].attention, alone[0].attention, atol=1e-5)
    assert translation_models.translate(members, []) == []
    with refused_in_one_line("sentence 2 has 1,001 tokens, more than 1,000"):
        translation_models.translate(members, [[END], [5] * 1000 + [END]])


def test_unknown_words_are_replaced_by_the_word_that_was_read():
    attention = np.array([[0.1, 0.7, 0.2], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
    each = translation_models.Translation(np.array([TARGET.ids["x"], UNKNOWN, END]), 0.0, attention)
    assert translation_models.sentence(each, TARGET, ["Rex", "bellt"]) == "x Rex"
    assert translation_models.sentence(each, TARGET) == "x <unknown>"
    silent = each._replace(attention=np.zeros((3, 3)))
    assert translation_models.sentence(silent, TARGET, ["Rex", "bellt"]) == "x <unknown>"


def test_a_file_holds_all_that_translates(tmp_path, members):
    path = tmp_path / "m.safetensors"
    params = members[0][1]
    path.write_bytes(translation_models.encode(params, "gru", ARGUMENTS, SOURCE, TARGET, {"dataset": "toy"}))
    loaded = translation_models.load(path)
    assert (loaded.source, loaded.target, loaded.about["dataset"]) == (SOURCE, TARGET, "toy")
    jax.tree.map(np.testing.assert_array_equal, loaded.params, params)
    other = loaded._replace(target=vocabulary.words(["u v"], minimum=1))
    with refused_in_one_line("b has another target vocabulary than a: an ensemble is of models that one run"):
        translation_models.check_ensemble([loaded, other], ["a", "b"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "characters"}, "holds no translation model"),
        ({"model": "lstm"}, "the header says model = lstm"),
        ({"model": ["gru"]}, "the header says model ="),
        ({"arguments": {"hidden": 10**9}}, "the header says hidden = 1000000000"),
        ({"arguments": {**ARGUMENTS, "hidden": 6}}, "does not fit the model"),
        ({"model": "transformer"}, "the header says hidden = 5"),
        ({"source_vocabulary": None}, "the vocabulary in its header is none"),
        ({"source_vocabulary": vocabulary.characters(["ab"]).header()}, "does not fit the model"),
        ({"target_vocabulary": {"kind": "words"}}, "has no list of tokens"),
        ({"target_vocabulary": None}, "does not fit the model"),
    ],
)
def test_a_header_that_describes_no_model_is_refused_in_one_line(change, message, tmp_path, members):
    path = tmp_path / "m.safetensors"
    path.write_bytes(translation_models.encode(members[0][1], "gru", ARGUMENTS, SOURCE, TARGET, {}))
    header = {"kind": "translation", "model": "gru", "arguments": ARGUMENTS}
    header |= {"source_vocabulary": SOURCE.header(), "target_vocabulary": TARGET.header()} | change
    save_file(load_file(path), path, {"mllab": json.dumps(header)})
    with refused_in_one_line(message):
        translation_models.load(path)
