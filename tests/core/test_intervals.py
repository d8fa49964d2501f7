"""Intervals of a share against a published table."""

import numpy as np
import pytest

from mllab import metrics


@pytest.mark.parametrize(
    ("right", "rows", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_of_a_proportion_match_a_published_table(right, rows, low, high):
    """Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I."""
    share, *bounds, count = metrics.proportion(np.arange(rows) < right)
    assert (share, count) == (right / rows, rows)
    np.testing.assert_allclose(bounds, [low, high], atol=6e-5)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 2.0, "ahead of"),
        (-2.0, -0.1, "behind"),
        (-0.1, 2.0, "not clearly ahead of"),
        (float("nan"), float("nan"), "not clearly ahead of"),  # one seed
    ],
)
def test_a_lead_is_clear_where_its_interval_excludes_0(low, high, verdict):
    assert metrics.Lead("adam", metrics.Interval(1.0, low, high, 3)).verdict == verdict
