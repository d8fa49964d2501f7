"""A model that was trained by a race, as a learner that predicts."""

from typing import Any

import jax

from mllab.errors import UserError
from mllab.learners.common import points_of
from mllab.models import table
from mllab.types import Examples, Hyper, Inputs, Key, Outputs, Params, Rows
from mllab.validation import Learner


def published(architecture: dict[str, Any], classes: int | None = None) -> Learner:
    """Return the learner whose `predict` is that of a model of `models.table`; it is trained elsewhere.

    Args:
        architecture: the model's plan, of one without extra state.
        classes: C, if its outputs are logits; None for values.

    Raises:
        UserError: a plan of no model, or of one with extra state.
    """
    model = table.build(architecture)
    _, extra = jax.eval_shape(model.init, jax.random.key(0))
    if jax.tree.leaves(extra):
        raise UserError(f"{architecture['model']} has extra state, such as batch statistics, which is not stored here")

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Params:
        raise UserError("a published model is not fitted again: train it by experiments.optimizer_race")

    def predict(params: Params, inputs: Inputs) -> Outputs:
        outputs = model.apply(params, extra, points_of({"inputs": inputs}), None)[0]
        return outputs.reshape(len(outputs)) if classes is None else jax.nn.log_softmax(outputs)

    return Learner(fit, predict)
