"""Learners: models as whole algorithms, for validation and selection; see `mllab.validation.Learner`.

    learner = learners.nearest_neighbors(classes=10, most=20)
    scores = validation.cross_validate(learner, {"k": [1, 5, 20]}, key, examples, folds, validation.accuracy)  # [3, K]

The docstrings name the hyperparameters that a learner reads; it refuses others. `preprocessed` makes a learner of the
columns of a table from one of inputs [N, D].
"""

from mllab.learners.boosted import boosted_trees
from mllab.learners.clusters_and_mixtures import kmeans, mixture
from mllab.learners.constant import mean, most_frequent
from mllab.learners.ensembles import ensemble, ensemble_spread
from mllab.learners.from_sklearn import of_sklearn
from mllab.learners.kernel_machines import svm
from mllab.learners.kernel_regression import kernel_ridge, support_vector_regression
from mllab.learners.linear_models import linear, ridge, softmax_regression
from mllab.learners.nearest import check_votes, nearest_neighbors
from mllab.learners.nets import DEFAULT_AXES, mlp
from mllab.learners.pipelines import preprocessed
from mllab.learners.polynomials import polynomial
from mllab.learners.widths import mlp_of_width

__all__ = [
    "DEFAULT_AXES",
    "boosted_trees",
    "check_votes",
    "ensemble",
    "ensemble_spread",
    "kernel_ridge",
    "kmeans",
    "linear",
    "mean",
    "mixture",
    "mlp",
    "mlp_of_width",
    "most_frequent",
    "nearest_neighbors",
    "of_sklearn",
    "polynomial",
    "preprocessed",
    "ridge",
    "softmax_regression",
    "support_vector_regression",
    "svm",
]
