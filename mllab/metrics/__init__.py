"""Metrics: values per example, intervals over seeds or rows, comparisons, and confusion matrices.

Scores of clusterings are in `mllab.metrics.clustering`.
"""

from mllab.metrics.comparisons import Lead, Ranking, greatest, is_clear, paired, ranking, tied
from mllab.metrics.confusion import ClassScores, confusion_matrix, example_rows, per_class
from mllab.metrics.examples import (
    by_output,
    classification,
    gaussian_log_density,
    most_frequent,
    named_by_output,
    r_squared,
    regression,
)
from mllab.metrics.intervals import Interval, interval, proportion

__all__ = [
    "ClassScores",
    "Interval",
    "Lead",
    "Ranking",
    "by_output",
    "classification",
    "confusion_matrix",
    "example_rows",
    "gaussian_log_density",
    "greatest",
    "interval",
    "is_clear",
    "most_frequent",
    "named_by_output",
    "paired",
    "per_class",
    "proportion",
    "r_squared",
    "ranking",
    "regression",
    "tied",
]
