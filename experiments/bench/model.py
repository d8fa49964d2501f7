"""The models of the benchmarks: multi-layer perceptrons of any sizes, and softmax regression, which is the smallest."""

from collections.abc import Sequence

from absl import flags

from mllab.models import linear, mlp
from mllab.models.base import plain
from mllab.training import Model

SIZES = flags.DEFINE_list("sizes", ["64", "128", "128", "10"], "Units of each layer, inputs and classes included.")


def sizes() -> list[int]:
    """Return the sizes that --sizes gives."""
    return [int(size) for size in SIZES.value]


def build(sizes: Sequence[int]) -> Model:
    """Return the ReLU MLP of these sizes; softmax regression where there are but two."""
    if len(sizes) == 2:
        features, classes = sizes
        return plain(lambda key: linear.init(key, features, classes), linear.apply)
    return plain(lambda key: mlp.init(key, sizes), mlp.apply)
