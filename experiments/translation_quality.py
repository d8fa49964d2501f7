"""Quality of translations of the test part: BLEU and exact matches, by group and by length of the source."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from experiments import frame
from experiments.translation_training import Sentences
from mllab import metrics, translation_models
from mllab.data.pairs import Pair
from mllab.metrics import Interval
from mllab.metrics import translation as scoring
from mllab.models.encoder_decoder import EncoderDecoder
from mllab.translation_models import Translation
from mllab.types import Params

BATCH_SIZE = 128  # sentences of a beam search at once
BINS = 6  # of source lengths, with about equally many sentences


@dataclass(frozen=True)
class Quality:
    """How good the translations of the test part by one system are."""

    exact: Interval  # share of translations that equal their reference, over sentences
    exact_by_group: Mapping[str, Interval]  # the same of each group of the test part; empty for one group
    bleu: Interval | None  # cased, over sentences; None where it is not measured
    bleu_lowercase: Interval | None
    signature: str  # of sacreBLEU
    correct: np.ndarray = frame.unsaved()  # [N]
    statistics: scoring.Statistics | None = frame.unsaved()


def quality(hypotheses: Sequence[str], pairs: Sequence[Pair], groups: Sequence[str], with_bleu: bool) -> Quality:
    """Return the quality of a translation of each pair's source [N]; groups are [N] or empty."""
    references = [target for _, target in pairs]
    correct = np.array([one == other for one, other in zip(hypotheses, references, strict=True)])
    by_group = {
        group: metrics.proportion(correct[[each == group for each in groups]]) for group in dict.fromkeys(groups)
    }
    cased, lower = (
        scoring.statistics(hypotheses, references, lowercase=lowercase) if with_bleu else None
        for lowercase in (False, True)
    )
    return Quality(
        metrics.proportion(correct), by_group, cased and scoring.corpus_bleu(cased),
        lower and scoring.corpus_bleu(lower), cased.signature if cased else "", correct, cased,
    )  # fmt: skip


class ByLength(NamedTuple):
    """Quality against the length of the source."""

    length: np.ndarray  # [E] mean length of the sentences in a bin
    quality: np.ndarray  # [E, 3] BLEU or the share of exact matches in percent, and its interval over sentences


def by_length(each: Quality, lengths: np.ndarray) -> ByLength:
    """Return the quality of sentences in bins of their source's length [N]."""
    ends = np.unique(np.quantile(lengths, np.arange(1, BINS + 1) / BINS, method="higher"))
    bins = np.searchsorted(ends, lengths)
    means, values = [], []
    for number in np.unique(bins):
        rows = bins == number
        means.append(lengths[rows].mean())
        if each.statistics is None:
            values.append([100 * value for value in metrics.proportion(each.correct[rows])[:3]])
        else:
            counts = each.statistics.counts[rows]
            values.append([*scoring.corpus_bleu(each.statistics._replace(counts=counts))[:3]])
    return ByLength(np.array(means), np.array(values))


class Translator(NamedTuple):
    """Translates the test part with one model or an ensemble."""

    sentences: Sentences
    width: int
    penalty: float
    replace_unknown: bool
    mesh: Mesh

    def translate(self, members: Sequence[tuple[EncoderDecoder, Params]]) -> list[Translation]:
        """Return the best translation of each test source, [N]."""
        found = translation_models.translate(
            members, self.sentences.test_sources, width=self.width, penalty=self.penalty, mesh=self.mesh,
            batch_size=BATCH_SIZE,
        )  # fmt: skip
        return [each[0] for each in found]

    def texts(self, translations: Sequence[Translation]) -> list[str]:
        """Return translations [N] of the test part as texts."""
        return [
            translation_models.sentence(
                each, self.sentences.target, self.sentences.source.tokens(source) if self.replace_unknown else None
            )
            for each, (source, _) in zip(translations, self.sentences.pairs["test"], strict=True)
        ]


# ── Baselines ───────────────────────────────────────────────────────────────────────────────────────────────────────


def baselines(pairs: Mapping[str, Sequence[Pair]], dates: bool) -> dict[str, list[str]]:
    """Return translations [N] of the test part that take no learning, by name.

    Args:
        pairs: by part.
        dates: whether they are dates, whose digits are worth a guess.
    """
    test = [source for source, _ in pairs["test"]]
    frequent, _ = Counter(target for _, target in pairs["train"]).most_common(1)[0]
    made = {"copying the source": test, "the most frequent target": [frequent] * len(test)}
    return made | ({"the source's digits, in January": [by_digits(source) for source in test]} if dates else {})


def by_digits(source: str) -> str:
    """Return a date whose year and day are the source's digits, and whose month is a guess."""
    digits = re.findall(r"\d+", source)
    year = next((each for each in digits if len(each) == 4), digits[-1])
    day = next((each for each in digits if len(each) < 3), "1")
    return f"{year if len(year) == 4 else '20' + year}-01-{int(day):02d}"
