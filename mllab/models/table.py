"""The table of models, and plans: a model with its arguments as plain values.

A plan is a dict that JSON holds, `{"model": name, "shape": ..., "outputs": ..., **options}`: the arguments of
`MODELS[name].make`, and the header of a published params file. `plan` makes and checks one, `build` returns its model.
A plan may list the layers of its net instead: `{"model": name, "shape": ..., "layers": convnet.describe(layers)}`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

from mllab.errors import UserError, shortened, unknown
from mllab.models import convnet, linear, mlp
from mllab.models.base import Model
from mllab.models.layers import Layer

Plan = Mapping[str, Any]

MAX_SIZE = 2**31 - 1  # of an axis, and of the values of an input row
MAX_LENGTH = 1000  # of a list of sizes or layers, and blocks in a stage: a net that is built in a second


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
    if not isinstance(plan, Mapping):
        raise UserError(f"the plan of a model is {_shown(plan)}: expected named arguments")
    name = plan.get("model")
    if not isinstance(name, str) or name not in MODELS:
        raise unknown("model", str(name), MODELS)
    if "layers" not in plan:
        return None
    if "shape" not in plan:
        raise UserError(f"the plan of a model lacks 'shape': {_shown(plan)}")
    _check_sizes("shape", plan["shape"], least=1)
    layers = plan["layers"]
    if not isinstance(layers, Sequence) or not 0 < len(layers) <= MAX_LENGTH:
        raise UserError(f"the plan of a model has layers = {_shown(layers)}: expected a list of 1 to {MAX_LENGTH:,}")
    return convnet.build(layers)


def _arguments(plan: Plan) -> dict[str, Any]:
    """Return the arguments of `make`, also from plans of the form {"model", "sizes", ...} of older files."""
    arguments = {key: value for key, value in plan.items() if key != "model"}
    options = defaults(plan["model"])
    needed = {"shape", "outputs"}
    if "sizes" in arguments:
        sizes = arguments.pop("sizes")
        _check_sizes("sizes", sizes, least=1)
        if len(sizes) < 2:
            raise UserError(f"the plan of a model has sizes = {_shown(sizes)}: expected the inputs and the outputs")
        first, *hidden, last = sizes
        arguments = (
            {"shape": [first], "outputs": last} | ({"hidden": hidden} if "hidden" in options else {}) | arguments
        )
        needed |= options.keys()
    for key in sorted(needed - arguments.keys()):
        raise UserError(f"the plan of a model lacks {key!r}: {_shown(plan)}")
    for key in sorted(arguments.keys() - {"shape", "outputs", *options}):
        raise UserError(f"the plan of a model has an unknown argument {shortened(key)!r}: {_shown(plan)}")
    _check_sizes("shape", arguments["shape"], least=1)
    _check_argument("outputs", arguments["outputs"], 1)
    for key, default in options.items():
        if key in arguments:
            _check_argument(key, arguments[key], default)
    return arguments


def _check_argument(name: str, value: Any, default: Any) -> None:
    """Raise UserError unless an argument of a plan is of the kind of its default; ranges are checked by the model."""
    if isinstance(default, tuple):
        _check_sizes(name, value)
    elif isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"the plan of a model has {name} = {_shown(value)}: expected a number")
    elif isinstance(default, int):
        limit = MAX_LENGTH if name == "blocks" else MAX_SIZE
        if not _is_size(value) or value > limit:
            raise UserError(
                f"the plan of a model has {name} = {_shown(value)}: expected a whole number up to {limit:,}"
            )
    elif not isinstance(value, type(default)):
        raise UserError(f"the plan of a model has {name} = {_shown(value)}: expected text")


def _check_sizes(name: str, value: Any, least: int | None = None) -> None:
    """Raise UserError unless a value is a list of sizes, whole numbers of at least `least`."""
    whole = isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_size, value))
    if not whole or len(value) > MAX_LENGTH or math.prod(value) > MAX_SIZE**2:
        raise UserError(f"the plan of a model has {name} = {_shown(value)}: expected a list of whole numbers")
    if least is not None and (not value or min(value) < least):
        raise UserError(f"the plan of a model has {name} = {_shown(value)}: expected sizes of {least} or more")
    if name == "shape" and math.prod(value) > MAX_SIZE:
        raise UserError(f"the plan of a model has {name} = {_shown(value)}: more than {MAX_SIZE:,} values in a row")


def _is_size(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) <= MAX_SIZE


def _shown(value: Any) -> str:
    return shortened(str(dict(value) if isinstance(value, Mapping) else value), 200)
