"""Gaussian mixtures by EM: `fit` one, `sweep` several numbers of components, `select_components` by BIC; densities."""

from mllab.models.mixture.expectation import Fit
from mllab.models.mixture.gaussians import COVARIANCES, Mixture, covariances, free_parameters
from mllab.models.mixture.mixture import (
    aic,
    apply,
    bic,
    em,
    fit,
    init,
    log_density,
    owners,
    responsibilities,
    score,
    step,
    sweep,
)
from mllab.models.mixture.selection import Selection, Setting, select_components

__all__ = [
    "COVARIANCES", "Fit", "Mixture", "Selection", "Setting", "aic", "apply", "bic", "covariances", "em", "fit",
    "free_parameters", "init", "log_density", "owners", "responsibilities", "score", "select_components", "step",
    "sweep",
]  # fmt: skip
