"""A model as a plain value: what experiments name, and what a published params file says of itself.

`plan` turns a name and what the model takes into a plan, a dict that JSON holds; `model` turns a plan into the two pure
functions. A plan that was written to a file builds the same model again.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mllab.errors import UserError, unknown
from mllab.models import convnet, linear, mlp
from mllab.models.base import Model, plain
from mllab.types import Array

Plan = Mapping[str, Any]  # {"model": name, "shape": of one input row, and its sizes or layers}


def _linear(features: int, outputs: int) -> dict[str, Any]:
    return {"sizes": [features, outputs]}


def _mlp(features: int, outputs: int, hidden: Sequence[int] = (128, 128), activation: str = "relu") -> dict[str, Any]:
    return {"sizes": [features, *hidden, outputs], "activation": activation}


CONVNETS: Mapping[str, Callable[..., tuple[convnet.Layer, ...]]] = {
    "convnet": convnet.convnet,
    "lenet": convnet.lenet,
    "residual": convnet.residual,
}
MODELS: Mapping[str, Callable] = {"linear": _linear, "softmax": _linear, "mlp": _mlp, **CONVNETS}
# What is for one task alone, and what to take for the other.
ONLY = {"linear": ("regression", "softmax"), "softmax": ("classification", "linear")} | dict.fromkeys(
    CONVNETS, ("classification", "mlp")
)


def plan(name: str, shape: Sequence[int], classes: int, **options: Any) -> dict[str, Any]:
    """Return the plan of a model.

    Args:
        name: one of `MODELS`.
        shape: of one input row: (D,), or (height, width, C_in) of an image.
        classes: C, or 0 where one value is regressed.
        **options: hidden and activation of the MLP; channels, hidden, dropout or blocks of a conv net (see
            `mllab.models.convnet`). What is None is as usual.

    Raises:
        UserError: no such model, one that is not for the task, takes no such option, or takes images and gets none.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    task = "classification" if classes else "regression"
    for_task, instead = ONLY.get(name, (task, ""))
    if for_task != task:
        raise UserError(f"--model={name} is for {for_task}, and this is {task}: try --model={instead}")
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        takers = [each for each, make in MODELS.items() if option in inspect.signature(make).parameters]
        if name not in takers:
            raise UserError(f"--{option} is for {' and '.join(takers) or 'no model'}, not for {name}")
    made: dict[str, Any] = {"model": name, "shape": list(shape)}
    features, outputs = math.prod(shape), classes or 1
    if name not in CONVNETS:
        return made | MODELS[name](features, outputs, **given)
    if len(shape) != 3:
        raise UserError(f"--model={name} takes images, and these rows have {features} features: try --model=mlp")
    return made | {"layers": convnet.describe(CONVNETS[name](outputs, **given))}


def model(plan: Plan) -> Model:
    """Return the model of a plan; inputs are [B, *shape].

    Raises:
        UserError: a plan of a model that is not known here, or that lacks something.
    """
    name = plan.get("model")
    if name not in MODELS:
        raise unknown("model", str(name), MODELS)
    try:
        if name in CONVNETS:
            return convnet.model(convnet.build(plan["layers"]), tuple(plan["shape"]))
        sizes = tuple(plan["sizes"])
        if name == "mlp":
            named, activation = plan["activation"], mlp.ACTIVATIONS[plan["activation"]]
            return plain(
                functools.partial(mlp.init, sizes=sizes, activation=named),
                functools.partial(mlp.apply, activation=activation),
            )
    except KeyError as missing:
        raise UserError(f"the plan of a model lacks {missing}, or names it wrongly: {plan}") from None

    def apply(params: linear.Linear, inputs: Array) -> Array:
        return linear.apply(params, inputs.reshape(inputs.shape[0], -1))

    return plain(functools.partial(linear.init, features=sizes[0], outputs=sizes[1]), apply)


def describe(plan: Plan) -> str:
    """Return a plan in a few words: "mlp 64-128-10", "lenet: Conv(channels=6, window=5), ..."."""
    if "layers" in plan:
        return f"{plan['model']}: {', '.join(map(str, convnet.build(plan['layers'])))}"
    return f"{plan['model']} {'-'.join(map(str, plan['sizes']))}"
