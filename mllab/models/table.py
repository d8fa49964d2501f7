"""The table of models, and plans: a model with its arguments as plain values.

A plan is a dict that JSON holds, `{"model": name, "shape": ..., "outputs": ..., **options}`: the arguments of
`MODELS[name].make`, and the header of a published params file. `plan` makes and checks one, `build` returns its model.
A plan may list the layers of its net instead: `{"model": name, "shape": ..., "layers": convnet.describe(layers)}`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from mllab.errors import UserError, unknown
from mllab.models import convnet, linear, mlp
from mllab.models.base import Model
from mllab.models.layers import Layer

Plan = Mapping[str, Any]


def _sizes(shape: Sequence[int], outputs: int, hidden: Sequence[int] = (), **options: Any) -> str:
    return f" {'-'.join(map(str, (math.prod(shape), *hidden, outputs)))}"


def _layers(architecture: Callable[..., tuple[Layer, ...]]) -> Callable[..., str]:
    return lambda shape, outputs, **options: f": {', '.join(map(str, architecture(outputs, **options)))}"


class Entry(NamedTuple):
    """A model by name. Its options are the keyword-only arguments of `make`."""

    make: Callable[..., Model]  # (shape of one input row, outputs, **options) -> model
    takes: str  # "rows" of any shape, or "images" of shape (height, width, C)
    tasks: tuple[str, ...]
    help: str  # one line
    describe: Callable[..., str] = _sizes  # the same arguments -> what follows the name in `describe`


def _net(architecture: Callable[..., tuple[Layer, ...]], help: str) -> Entry:
    """Return the row of a net of layers, a classifier of images."""
    return Entry(convnet.named(architecture), "images", ("classification",), help, _layers(architecture))


BOTH = ("classification", "regression")
MODELS: Mapping[str, Entry] = {
    "linear": Entry(linear.model, "rows", ("regression",), "linear regression"),
    "softmax": Entry(linear.model, "rows", ("classification",), "softmax regression"),
    "mlp": Entry(mlp.model, "rows", BOTH, "multi-layer perceptron"),
    "convnet": _net(convnet.convnet, "convolutional net: blocks of convolution and pooling, then dense layers"),
    "lenet": _net(convnet.lenet, "LeNet-5 (LeCun et al. 1998)"),
    "residual": _net(convnet.residual, "small residual net (He et al. 2016)"),
}


def plan(name: str, shape: Sequence[int], classes: int, **options: Any) -> dict[str, Any]:
    """Return the plan of a model, with the defaults of all options that are not given or None.

    Args:
        name: a key of `MODELS`.
        shape: of one input row: (D,), or (height, width, C_in) of an image.
        classes: C, or 0 for regression of one value.
        **options: of the model, such as hidden and activation of an MLP.

    Raises:
        UserError: an unknown model, one that is for another task or other inputs, or an option that it does not have
            or that is out of range.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    entry = MODELS[name]
    task = "classification" if classes else "regression"

    def others() -> str:
        fit = [each for each, other in MODELS.items() if task in other.tasks and _accepts(other, shape)]
        return f"try --model={_either(fit)}"

    if task not in entry.tasks:
        raise UserError(f"--model={name} is for {_either(entry.tasks)}, and this is {task}: {others()}")
    for option, value in options.items():
        if value is not None and option not in defaults(name):
            models = " and ".join(takers(option)) or "no model"
            raise UserError(f"--{option} is for {models}, not for {name}")
    if not _accepts(entry, shape):
        raise UserError(f"--model={name} takes images, and these rows have {math.prod(shape)} features: {others()}")
    chosen = {option: value for option, value in options.items() if value is not None}
    arguments = {"shape": shape, "outputs": classes or 1, **defaults(name), **chosen}
    plain = {
        key: list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
        for key, value in arguments.items()
    }
    made = {"model": name, **plain}
    build(made)  # checks the values
    return made


def build(plan: Plan) -> Model:
    """Return the model of a plan, for inputs [B, *shape].

    Raises:
        UserError: a plan of an unknown model, or with arguments that are missing, unknown or out of range.
    """
    layers = _explicit_layers(plan)
    if layers is not None:
        return convnet.model(layers, tuple(plan["shape"]))
    return MODELS[plan["model"]].make(**_arguments(plan))


def describe(plan: Plan) -> str:
    """Return a plan in a few words: "mlp 64-128-10", "lenet: Conv(channels=6, window=5), ..."."""
    layers = _explicit_layers(plan)
    if layers is not None:
        return f"{plan['model']}: {', '.join(map(str, layers))}"
    return plan["model"] + MODELS[plan["model"]].describe(**_arguments(plan))


def defaults(name: str) -> dict[str, Any]:
    """Return the options of a model with their defaults."""
    parameters = inspect.signature(MODELS[name].make).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def takers(option: str) -> dict[str, Any]:
    """Return the models that have an option, with its default in each."""
    return {name: defaults(name)[option] for name in MODELS if option in defaults(name)}


def models_help() -> str:
    """Return the models with their lines of help, for the help of a flag: "linear (linear regression), ..."."""
    return ", ".join(f"{name} ({entry.help})" for name, entry in MODELS.items())


def option_help(option: str) -> str:
    """Return the models that have an option with its defaults, for the help of a flag: "mlp (128,128), ..."."""

    def text(value: Any) -> str:
        return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return ", ".join(f"{name} ({text(default)})" for name, default in takers(option).items())


def _accepts(entry: Entry, shape: Sequence[int]) -> bool:
    return entry.takes != "images" or len(shape) == 3


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _explicit_layers(plan: Plan) -> tuple[Layer, ...] | None:
    """Return the layers of a plan that lists them; raise UserError for one of no known model."""
    if plan.get("model") not in MODELS:
        raise unknown("model", str(plan.get("model")), MODELS)
    if "layers" not in plan:
        return None
    if "shape" not in plan:
        raise UserError(f"the plan of a model lacks 'shape': {dict(plan)}")
    return convnet.build(plan["layers"])


def _arguments(plan: Plan) -> dict[str, Any]:
    """Return the arguments of `make`, also from plans of the form {"model", "sizes", ...} of older files."""
    arguments = {key: value for key, value in plan.items() if key != "model"}
    options = defaults(plan["model"])
    needed = {"shape", "outputs"}
    if "sizes" in arguments:
        first, *hidden, last = arguments.pop("sizes")
        arguments = (
            {"shape": [first], "outputs": last} | ({"hidden": hidden} if "hidden" in options else {}) | arguments
        )
        needed |= options.keys()
    for key in sorted(needed - arguments.keys()):
        raise UserError(f"the plan of a model lacks {key!r}: {dict(plan)}")
    for key in sorted(arguments.keys() - {"shape", "outputs", *options}):
        raise UserError(f"the plan of a model has an unknown argument {key!r}: {dict(plan)}")
    return arguments
