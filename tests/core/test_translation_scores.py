"""BLEU: sacreBLEU's own figures, and bootstrap intervals."""

import sys

import numpy as np
import pytest

from mllab.metrics import translation
from support.mistakes import refused_in_one_line

WORDS = ["a", "man", "is", "on", "the", "Street,", "and", "two", "dogs", "run.", "It's", "3.5", "o'clock", "(now)!"]


def corpus(count, seed=0):
    draw = np.random.default_rng(seed)
    references = [" ".join(draw.choice(WORDS, draw.integers(1, 14))) for _ in range(count)]
    hypotheses = [" ".join(word for word in each.split() if draw.random() < 0.8) for each in references]
    return hypotheses, references


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_bleu_is_that_of_sacrebleu(count, lowercase):
    sacrebleu = pytest.importorskip("sacrebleu")
    hypotheses, references = corpus(count)
    hypotheses[-1] = hypotheses[-1].swapcase()
    metric = sacrebleu.BLEU(lowercase=lowercase)
    expected = metric.corpus_score(hypotheses, [references]).score
    found = translation.statistics(hypotheses, references, lowercase=lowercase)
    np.testing.assert_allclose(translation.bleu(found.counts.sum(axis=0)), expected, atol=1e-9)
    assert found.signature == str(metric.get_signature())


def test_edges_are_those_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    for hypothesis, reference in [("", "a b"), ("x y", "a b"), ("a b c d e", "a c b d f"), ("a b c d", "a b c d")]:
        found = translation.bleu(translation.statistics([hypothesis], [reference]).counts.sum(axis=0))
        np.testing.assert_allclose(found, sacrebleu.corpus_bleu([hypothesis], [[reference]]).score, atol=1e-9)


def test_intervals_are_over_sentences_and_paired():
    pytest.importorskip("sacrebleu")
    hypotheses, references = corpus(200)
    good, worse = (translation.statistics(each, references) for each in (hypotheses, [h[:-4] for h in hypotheses]))
    one, other, lead = (
        translation.corpus_bleu(good),
        translation.corpus_bleu(worse),
        translation.difference(good, worse),
    )
    assert one.low < one.mean < one.high
    assert one.seeds == 200
    np.testing.assert_allclose(lead.mean, one.mean - other.mean)
    assert lead.sign == 1
    assert lead.high - lead.low < min(one.high - one.low, other.high - other.low)
    assert translation.difference(good, good)[:3] == (0, 0, 0)
    with refused_in_one_line("2 hypotheses and 1 references"):
        translation.statistics(["a", "b"], ["a"])
    with refused_in_one_line("200 and 1 sentences"):
        translation.difference(good, good._replace(counts=good.counts[:1]))


def test_the_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu.metrics", None)
    with refused_in_one_line(r"pip install 'mllab\[translation\]'"):
        translation.require()
