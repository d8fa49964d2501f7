"""Expected best score against the number of settings that are tried."""

import numpy as np

from mllab import checks
from mllab.errors import UserError


def expected_best(scores: np.ndarray, reported: np.ndarray | None = None) -> np.ndarray:
    r"""Return the expected reported score of the best of n settings drawn at random with replacement, for n = 1..S.

    With the scores in ascending order, setting i is the best of n draws with probability
    $(i / S)^n - ((i - 1) / S)^n$; the expectation is exact over the S settings that were tried. Settings of equal score
    share their probability.

    Args:
        scores: of each setting, [S], by which the best one is chosen; minus infinity for one that cannot be chosen.
        reported: of each setting, [S], such as its test score; the scores themselves by default.

    Returns:
        [S].

    Raises:
        UserError: no settings, a NaN among the scores, or of a finite score a reported one that is not finite.

    Source: Dodge, Gururangan, Card, Schwartz and Smith, *Show your work: improved reporting of experimental results*,
    EMNLP (2019), equation 7.
    """
    scores = np.asarray(checks.as_numbers(scores, "scores"), np.float64)
    reported = scores if reported is None else np.asarray(checks.as_numbers(reported, "reported"), np.float64)
    if scores.ndim != 1 or scores.size == 0 or reported.shape != scores.shape or np.isnan(scores).any():
        raise UserError(
            f"scores {list(scores.shape)} and reported {list(reported.shape)}: expected [S] of both, no NaN"
        )
    _, place = np.unique(scores, return_inverse=True)
    if not np.isfinite(reported[np.isfinite(scores)]).all():
        raise UserError("reported: not finite where the score is")
    least = np.min(reported[np.isfinite(reported)], initial=0.0)
    means = np.bincount(place, np.where(np.isfinite(reported), reported, least)) / np.bincount(place)
    share = np.cumsum(np.bincount(place)) / scores.size
    draws = np.arange(1, scores.size + 1)[:, None]
    weight = share[None] ** draws - np.concatenate([[0.0], share[:-1]])[None] ** draws
    return weight @ means
