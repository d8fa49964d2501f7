"""Deep ensembles: the mean prediction of several trainings from different initial weights.

Source: Lakshminarayanan, Pritzel and Blundell, *Simple and scalable predictive uncertainty estimation using deep
ensembles* (2017), section 2.4, without adversarial training.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mllab import checks
from mllab.errors import UserError
from mllab.learners.pipelines import Pipeline
from mllab.models import preprocessing
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Params, Rows
from mllab.validation import Axes, Learner


@struct.dataclass
class Ensemble:
    """The members' params, with a leading axis [E]."""

    members: Params
    predict: Callable[[Params, Inputs], Outputs] = struct.field(pytree_node=False)  # of one member


def ensemble(learner: Learner, members: int, *, classes: int | None = None) -> Learner:
    """Return the ensemble of a learner trained with the seeds 0 to `members` - 1; it reads the learner's other hypers.

    Log-probabilities are averaged as probabilities, values as they are. A member that diverged makes the outputs NaN.

        table = preprocessed(ensemble(mlp(classes=3), members=5, classes=3), layout)

    Args:
        learner: reads `seed`, and its fit takes seeds [E] and returns params with a leading axis [E], as `mlp` does.
        members: E.
        classes: C, if the learner's outputs are log-probabilities.
    """
    checks.check_whole(1, members=members, **({} if classes is None else {"classes": classes}))
    seeds = np.arange(members)

    def averaged(outputs: Outputs, axis: int) -> Outputs:
        if classes is None:
            return jnp.mean(outputs, axis=axis)
        return jax.nn.logsumexp(outputs, axis=axis) - math.log(members)

    def check_seed(hyper: Any) -> None:
        if "seed" in hyper:
            raise UserError("hyper 'seed' is set by the ensemble: leave it out")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Ensemble:
        check_seed(hyper)
        return Ensemble(learner.fit({**hyper, "seed": seeds}, key, examples, rows), learner.predict)

    def predict(params: Ensemble, inputs: Inputs) -> Outputs:
        return averaged(_members_outputs(params, inputs), 0)

    def over_seeds(grid: Callable[..., Outputs] | None) -> Callable[..., Outputs] | None:
        def mean(axes: Axes, key: Key, examples: Examples, train: Rows, held_out: Rows) -> Outputs:
            check_seed(axes)
            assert grid
            outputs = grid({**axes, "seed": seeds}, key, examples, train, held_out)
            return averaged(outputs, len(axes))

        return mean if grid else None

    return Learner(
        fit, predict, over_seeds(learner.grid), learner.check, over_seeds(learner.by_fold), learner.takes_missing
    )


def ensemble_spread(params: Ensemble | Pipeline, inputs: Inputs) -> Array:
    """Return the variance of the members' values over the members, [N] or [N, T], in squared units of the targets.

    With the variance of the noise added it is the variance of a Gaussian predictive density; see
    `metrics.gaussian_log_density`.

    Args:
        params: of the fit of an `ensemble` for regression, or of a `preprocessed` one.
        inputs: [N, D], or the columns of a preprocessed one.
    """
    if isinstance(params, Pipeline):
        inputs, params = preprocessing.apply(params.preprocessing, inputs), params.params
    if not isinstance(params, Ensemble):
        raise UserError(f"params: {type(params).__name__}, expected those of an ensemble: see learners.ensemble")
    return jnp.var(_members_outputs(params, inputs), axis=0)


def _members_outputs(params: Ensemble, inputs: Inputs) -> Outputs:
    return jax.vmap(params.predict, (0, None))(params.members, inputs)
