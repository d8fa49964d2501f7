"""Support vector machines: `fit` one, `grid` for the scores of many; `apply` for log-probabilities.

The modules are `classifier` and `grids`, on `multiclass` (problems of two classes), `smo` (their solver), `kernels` and
`calibration` (probabilities). `regression` is support vector regression, with `fit`, `apply` and `grid` of its own.
"""

from mllab.models.svm.classifier import SVM, apply, decision, fit, support
from mllab.models.svm.grids import grid, solve_tasks
from mllab.models.svm.multiclass import SCHEMES, class_margins, class_scores, pairs
from mllab.models.svm.smo import Dual, solve

__all__ = [
    "SCHEMES", "SVM", "Dual", "apply", "class_margins",
    "class_scores", "decision", "fit", "grid", "pairs", "solve", "solve_tasks",
    "support",
]  # fmt: skip
