r"""Support vector machines: linear, polynomial and RBF kernels tuned over C and gamma by cross-validation, tested once.

  python -m experiments.kernel_svm
  python -m experiments.kernel_svm --dataset=circles --c=0.01:1e4:7 --gamma=0.01:100:9
  python -m experiments.kernel_svm --dataset=fashion_mnist --rows=4000 --folds=3

C and gamma are chosen for each kernel by the mean accuracy over folds of the training and validation rows. Each kernel is
then fitted to all of those rows with its chosen setting, and evaluated on the held-out test rows. For data with two
columns the decision boundary, the margins and the support vectors are drawn.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import frame
from mllab import learners, metrics, selection, validation
from mllab.data.dataset import Dataset
from mllab.data.split import sample
from mllab.errors import UserError
from mllab.metrics import Interval
from mllab.models import kernels, svm
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import Table, interval, percent, percent_bounds, plain, share, short

NAMES = {"linear": "linear", "polynomial": "polynomial", "rbf": "RBF"}
SCHEMES = {
    "one_vs_one": "one binary problem for each pair of classes, which vote",
    "one_vs_rest": "one binary problem for each class against all others; the largest decision value wins",
}
TOLERANCE = 1e-3  # of the optimality conditions while settings are compared: LIBSVM's default
FINAL_TOLERANCE = 1e-5  # of the reported machines: on separable data closing the duality gap takes as much
MAX_STEPS = 100_000  # of a binary problem: huge C or kernel values could take minutes
RISE = 0.005  # of accuracy between neighbouring settings: less is a plateau
