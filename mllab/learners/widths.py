"""A net of one hidden layer whose width is a hyperparameter: every width is a lane of one program.

Units beyond the width are multiplied by 0, so they neither contribute nor learn: the net is one of that width.
"""

import jax
import jax.numpy as jnp
import optax
from flax import struct

from mllab import checks
from mllab.learners.common import check_hyper, checked_learner, points_of, values_of
from mllab.models import linear
from mllab.models import mlp as perceptron
from mllab.models.linear import Linear
from mllab.rows import gather
from mllab.types import Array, Examples, Hyper, Inputs, Key, Outputs, Rows
from mllab.validation import Learner


@struct.dataclass
class Net:
    """Layers of the greatest width, and which units are used."""

    layers: tuple[Linear, Linear]
    used: Array  # [H] 1 or 0


def mlp_of_width(classes: int | None, most: int, *, steps: int = 1000, learning_rate: float = 0.02) -> Learner:
    """Return a net of one hidden layer of ReLUs, trained by Adam on all rows at each step; it reads `width`.

    Initial weights differ with the key and with the first row, so that repeated samples start from others.

    Args:
        classes: C; None for regression, whose targets should be standardised.
        most: the greatest width, a static size.
        steps: of Adam, with a cosine schedule down to 0.
        learning_rate: the initial one.
    """
    checks.check_whole(1, most=most, steps=steps)

    def apply(net: Net, x: Array) -> Array:
        return linear.apply(net.layers[1], jax.nn.relu(linear.apply(net.layers[0], x)) * net.used[None])

    def fit(hyper: Hyper, key: Key, examples: Examples, rows: Rows) -> Net:
        check_hyper(hyper, ["width"])
        x, weight = points_of(examples, rows.ids), jnp.asarray(rows.weight)
        share = weight / jnp.sum(weight)
        outputs = 1 if classes is None else classes
        key = jax.random.fold_in(key, jnp.asarray(rows.ids)[0])
        first, last = perceptron.init(key, (x.shape[1], most, outputs))
        used = (jnp.arange(most) < hyper["width"]).astype(x.dtype)
        # The last layer is drawn for the greatest width; Glorot's rule scales it to this one.
        last = Linear(last.w * jnp.sqrt((most + outputs) / (hyper["width"] + outputs)), last.b)
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

        def loss(layers: tuple[Linear, Linear]) -> Array:
            values = apply(Net(layers, used), x)
            if classes is None:
                return share @ (values[:, 0] - values_of(examples, rows.ids)) ** 2
            labels = gather(examples["targets"], rows.ids)
            return share @ optax.softmax_cross_entropy_with_integer_labels(values, labels)

        def step(state: tuple, _: None) -> tuple[tuple, None]:
            layers, moments = state
            updates, moments = optimizer.update(jax.grad(loss)(layers), moments)
            return (optax.apply_updates(layers, updates), moments), None

        layers = first, last
        (layers, _), _ = jax.lax.scan(step, (layers, optimizer.init(layers)), None, length=steps)
        return Net(layers, used)

    def predict(net: Net, inputs: Inputs) -> Outputs:
        values = apply(net, inputs.reshape(len(inputs), -1))
        return values[:, 0] if classes is None else jax.nn.log_softmax(values)

    return checked_learner(fit, predict, classes=classes, regression=classes is None)
