"""Texts as rows of numbers: TF-IDF, then a truncated SVD, each row of length 1 (latent semantic analysis).

Sources: Salton and Buckley, *Term-weighting approaches in automatic text retrieval*, Information Processing and
Management 24 (1988); Deerwester et al., *Indexing by latent semantic analysis*, J. American Society for Information
Science 41 (1990).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from mllab.data.dataset import Dataset
from mllab.errors import UserError

FEWEST, MOST = 5, 0.5  # a term stands in 5 training texts at least, and in half of them at most


class Encoded(NamedTuple):
    """Texts as numbers."""

    inputs: np.ndarray  # [N, D] float32, each row of length 1; a text without a term that counts is all 0
    tfidf: csr_matrix  # [N, V] float32, each row of length 1
    terms: tuple[str, ...]  # [V]


@dataclass(frozen=True, kw_only=True)
class Documents(Dataset):
    """A data set whose examples are texts, with what each of them says."""

    tfidf: csr_matrix  # [N, V] float32
    terms: tuple[str, ...]  # [V]


def encode(texts: Sequence[str], train: np.ndarray, dimensions: int = 100) -> Encoded:
    r"""Weigh each term of each text, and keep the directions in which the training texts differ most.

    Term t, f times in a text, weighs f (ln((1 + N) / (1 + N_t)) + 1), where N_t of the N training texts have it; rows
    are then divided by their length. Terms are words of two letters or digits at least, in lower case, without
    English's commonest. Which terms there are, their N_t and the directions are the training texts' alone.

    Args:
        texts: [N].
        train: ids of the training texts.
        dimensions: D; fewer where there are not so many terms or training texts.

    Raises:
        UserError: no term stands in FEWEST training texts.
    """
    weigh = TfidfVectorizer(min_df=FEWEST, max_df=MOST, stop_words="english", dtype=np.float32)
    try:
        weigh.fit([texts[row] for row in train])
    except ValueError:
        raise UserError(
            f"no word stands in {FEWEST} of the {len(train):,} training texts and in half of them at most: "
            "give more texts"
        ) from None
    tfidf = weigh.transform(texts)
    kept = min(dimensions, len(train), len(weigh.vocabulary_))
    # Its start is random, and always the same: the same texts give the same inputs.
    directions = TruncatedSVD(kept, random_state=0).fit(tfidf[train])
    inputs = normalize(directions.transform(tfidf)).astype(np.float32)
    return Encoded(inputs, tfidf, tuple(weigh.get_feature_names_out().tolist()))


def top_terms(documents: Documents, rows: np.ndarray, labels: np.ndarray, clusters: int, count: int) -> list[list[str]]:
    """Return the terms that stand out in each cluster: those whose mean weight exceeds that over all rows the most.

    Args:
        documents: whose terms they are.
        rows: ids [M].
        labels: cluster of each, [M] in 0..clusters-1.
        clusters: how many.
        count: how many terms of each at most; an empty cluster has none.
    """
    weights = documents.tfidf[rows]
    members = csr_matrix((np.ones(len(rows), np.float32), (labels, np.arange(len(rows)))), (clusters, len(rows)))
    sizes = np.bincount(labels, minlength=clusters)
    means = np.asarray((members @ weights).todense()) / np.maximum(sizes, 1)[:, None]
    ahead = means - np.asarray(weights.mean(axis=0))
    ranked = np.argsort(-ahead, axis=1, kind="stable")[:, :count]
    return [[documents.terms[term] for term in best if ahead[k, term] > 0] for k, best in enumerate(ranked)]
