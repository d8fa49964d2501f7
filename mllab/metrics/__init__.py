"""Metrics: values per example, intervals over seeds or rows, comparisons, confusion matrices, and returns of agents.

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
from mllab.metrics.forecasts import DieboldMariano, diebold_mariano, holm, over_origins
from mllab.metrics.intervals import Interval, bands, interval, proportion
from mllab.metrics.paired_tests import McNemar, bootstrap, mcnemar
from mllab.metrics.reliability import Bin, Calibration, calibration
from mllab.metrics.returns import (
    bootstrap_difference,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
)
from mllab.metrics.search_budget import expected_best

__all__ = [
    "Bin",
    "Calibration",
    "ClassScores",
    "DieboldMariano",
    "Interval",
    "Lead",
    "McNemar",
    "Ranking",
    "bands",
    "bootstrap",
    "bootstrap_difference",
    "by_output",
    "calibration",
    "classification",
    "confusion_matrix",
    "diebold_mariano",
    "example_rows",
    "expected_best",
    "gaussian_log_density",
    "greatest",
    "holm",
    "interquartile_mean",
    "interval",
    "is_clear",
    "mcnemar",
    "most_frequent",
    "named_by_output",
    "over_origins",
    "paired",
    "per_class",
    "performance_profile",
    "probability_of_improvement",
    "proportion",
    "r_squared",
    "ranking",
    "regression",
    "stratified_bootstrap",
    "tied",
]
