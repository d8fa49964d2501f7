"""Documents as vectors: TF-IDF, then a truncated SVD, scaled to length 1 (latent semantic analysis).

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

MIN_TEXTS = 5  # with a term
MAX_SHARE = 0.5  # of the texts with a term; more frequent ones are ignored


class Encoded(NamedTuple):
    """Texts as vectors."""

    inputs: np.ndarray  # [N, D] float32, each row of length 1; zeros for a text without any of the terms
    tfidf: csr_matrix  # [N, V] float32, each row of length 1
    terms: tuple[str, ...]  # [V]


@dataclass(frozen=True, kw_only=True)
class Documents(Dataset):
    """A data set of texts, with the weights of their terms."""

    tfidf: csr_matrix  # [N, V] float32
    terms: tuple[str, ...]  # [V]


def encode(texts: Sequence[str], train: np.ndarray, dimensions: int = 100) -> Encoded:
    r"""Weight the terms of each text by TF-IDF, and project onto the leading singular vectors of the training texts.

    A term t that occurs f times in a text has the weight f (ln((1 + N) / (1 + N_t)) + 1), where N_t of the N training
    texts contain it; each row is then scaled to length 1. Terms are words of at least two letters or digits, in lower
    case, without English stop words. Vocabulary, N_t and singular vectors are those of the training texts.

    Args:
        texts: [N].
        train: ids of the training texts.
        dimensions: D, at most; no more than there are terms or training texts.

    Raises:
        UserError: no term occurs in `MIN_TEXTS` training texts.
    """
    vectorizer = TfidfVectorizer(min_df=MIN_TEXTS, max_df=MAX_SHARE, stop_words="english", dtype=np.float32)
    try:
        vectorizer.fit([texts[row] for row in train])
    except ValueError:
        raise UserError(
            f"no word occurs in at least {MIN_TEXTS} and at most half of the {len(train):,} training texts: add texts"
        ) from None
    tfidf = vectorizer.transform(texts)
    count = min(dimensions, len(train), len(vectorizer.vocabulary_))
    # A fixed seed: the same texts give the same inputs.
    directions = TruncatedSVD(count, random_state=0).fit(tfidf[train])
    inputs = normalize(directions.transform(tfidf)).astype(np.float32)
    return Encoded(inputs, tfidf, tuple(vectorizer.get_feature_names_out().tolist()))


def top_terms(documents: Documents, rows: np.ndarray, labels: np.ndarray, clusters: int, count: int) -> list[list[str]]:
    """Return the characteristic terms of each cluster: those whose mean weight exceeds that over all rows the most.

    Args:
        documents: the data set.
        rows: ids of the clustered rows, [M].
        labels: cluster of each row, [M] in 0..clusters-1.
        clusters: number of clusters.
        count: number of terms of each cluster, at most; an empty cluster has none.
    """
    weights = documents.tfidf[rows]
    members = csr_matrix((np.ones(len(rows), np.float32), (labels, np.arange(len(rows)))), (clusters, len(rows)))
    sizes = np.bincount(labels, minlength=clusters)
    means = np.asarray((members @ weights).todense()) / np.maximum(sizes, 1)[:, None]
    excess = means - np.asarray(weights.mean(axis=0))
    ranked = np.argsort(-excess, axis=1, kind="stable")[:, :count]
    return [[documents.terms[term] for term in best if excess[k, term] > 0] for k, best in enumerate(ranked)]
