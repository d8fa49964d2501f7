r"""Quality of translations: corpus BLEU as sacreBLEU computes it, with intervals over sentences.

BLEU (Papineni et al. 2002) is $\min(1, e^{1 - r/c}) \prod_{n=1}^4 p_n^{1/4}$ of the corpus: $p_n$ is the share of the
n-grams of the hypotheses that are in their references, c and r are the lengths of both. sacreBLEU (Post 2018,
arXiv:1804.08771) fixes the tokenisation, 13a, so that figures can be compared; it counts, and this module resamples its
counts. An interval is a bootstrap over sentences (Koehn 2004).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mllab.errors import UserError
from mllab.metrics.intervals import Interval

ORDERS = 4  # of n-grams
RESAMPLES = 1_000


class Statistics(NamedTuple):
    """What BLEU is computed from, sentence by sentence."""

    counts: np.ndarray  # [N, 10]: matching n-grams of 4 orders, n-grams of 4 orders, length, length of the reference
    signature: str  # of sacreBLEU


def require() -> Any:
    """Return sacreBLEU's BLEU.

    Raises:
        UserError: the package is missing.
    """
    try:
        from sacrebleu.metrics import BLEU  # an extra of its own
    except ImportError:
        raise UserError(
            "BLEU needs the package sacrebleu, which is not installed: pip install 'mllab[translation]'"
        ) from None
    return BLEU


def statistics(hypotheses: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Statistics:
    """Return the counts of each hypothesis [N] against its reference [N].

    Raises:
        UserError: none, or different numbers of the two; or sacreBLEU is missing.
    """
    if len(hypotheses) != len(references) or not references:
        raise UserError(
            f"{len(hypotheses)} hypotheses and {len(references)} references: give one for each, one or more"
        )
    metric = require()(lowercase=lowercase, effective_order=True)
    counts = []
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        score = metric.sentence_score(hypothesis, [reference])
        counts.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return Statistics(np.asarray(counts, np.int64), str(metric.get_signature()).replace("eff:yes", "eff:no"))


def bleu(counts: np.ndarray) -> np.ndarray:
    """Return the BLEU of sums of counts [..., 10], from 0 to 100.

    An order without a match is smoothed as sacreBLEU does by default: the k-th such order counts as 1 / 2^k matches.
    """
    counts = np.asarray(counts, np.float64)
    matches, totals = counts[..., :ORDERS], counts[..., ORDERS : 2 * ORDERS]
    length, reference = counts[..., -2], counts[..., -1]
    missing = (matches == 0) & (totals > 0)
    matches = np.where(missing, 0.5 ** np.cumsum(missing, axis=-1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(totals > 0, np.log(matches / totals), -np.inf)
        penalty = np.where(length < reference, 1 - reference / length, 0.0)
    whole = (totals > 0).all(axis=-1) & (counts[..., :ORDERS].sum(axis=-1) > 0)
    return np.where(whole, 100 * np.exp(np.where(whole, penalty + logs.mean(axis=-1), 0.0)), 0.0)


def corpus_bleu(statistics: Statistics) -> Interval:
    """Return BLEU with its 95% bootstrap interval over N sentences."""
    counts = statistics.counts
    low, high = np.percentile(bleu(_resampled(counts)), [2.5, 97.5])
    return Interval(float(bleu(counts.sum(axis=0))), float(low), float(high), len(counts))


def difference(one: Statistics, other: Statistics) -> Interval:
    """Return the BLEU of one less that of another on the same sentences, with its paired bootstrap interval.

    Raises:
        UserError: different numbers of sentences.
    """
    if len(one.counts) != len(other.counts):
        raise UserError(f"{len(one.counts)} and {len(other.counts)} sentences: compare translations of the same ones")
    differences = bleu(_resampled(one.counts)) - bleu(_resampled(other.counts))
    low, high = np.percentile(differences, [2.5, 97.5])
    mean = bleu(one.counts.sum(axis=0)) - bleu(other.counts.sum(axis=0))
    return Interval(float(mean), float(low), float(high), len(one.counts))


def _resampled(counts: np.ndarray) -> np.ndarray:
    """Return the sums of RESAMPLES samples of N sentences each, [RESAMPLES, 10]; the same samples for the same N."""
    size = len(counts)
    draw = np.random.default_rng(0)
    sums = np.empty((RESAMPLES, counts.shape[1]))
    for sample in range(RESAMPLES):
        sums[sample] = counts[draw.integers(size, size=size)].sum(axis=0)
    return sums
