"""Metrics: values per example, intervals over seeds or rows, and confusion matrices.

Scores of clusterings are in `mllab.metrics.clustering`.
"""

from mllab.metrics.confusion import ClassScores, confusion_matrix, example_rows, per_class
from mllab.metrics.examples import by_output, classification, most_frequent, r_squared, regression
from mllab.metrics.intervals import Interval, Lead, interval, proportion

__all__ = [
    "ClassScores",
    "Interval",
    "Lead",
    "by_output",
    "classification",
    "confusion_matrix",
    "example_rows",
    "interval",
    "most_frequent",
    "per_class",
    "proportion",
    "r_squared",
    "regression",
]
