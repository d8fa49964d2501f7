"""Gaussian mixtures by EM: `fit` one, `sweep` several numbers of components; densities, classes, BIC and AIC."""

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

__all__ = [
    "COVARIANCES", "Fit", "Mixture", "aic", "apply", "bic", "covariances", "em", "fit", "free_parameters", "init",
    "log_density", "owners", "responsibilities", "score", "step", "sweep",
]  # fmt: skip
