"""Learning curves: what they say about overfitting, and their drawings."""

import numpy as np
import pytest

from mllab.report import learning
from mllab.report.learning import LearningCurves
from support.figures import drawn

NAN = float("nan")


def curves_of(train, held_out, seeds=1):
    """Curves over some epochs; bands of ±10% if there are several seeds."""
    bounds = np.array([1.0, NAN, NAN] if seeds == 1 else [1.0, 0.9, 1.1])
    train, held_out = (np.array(values)[:, None] * bounds for values in (train, held_out))
    return LearningCurves(np.arange(1, len(train) + 1), train, held_out, np.exp(-held_out), seeds)


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        ([1.0, 0.5, 0.2], [1.1, 0.8, 1.0], "Overfitting after epoch 2: validation loss rises from 0.8 to 1 while"),
        ([1.0, 0.5, 0.2], [1.1, 0.8, 0.82], "Validation loss reaches 0.8, 0.3 above training loss"),
        ([1.0, 0.9, 0.8], [1.1, 0.7, 0.6], "Validation loss reaches 0.6, not above training loss"),
        ([1.0, 2.0, 3.0], [1.1, 2.0, 3.0], "Validation loss reaches 1.1, 0.1 above training loss"),
        ([1.0, 0.5, NAN], [1.1, 0.8, NAN], "Validation loss reaches 0.8, 0.3 above training loss"),
        ([0.5], [0.4], "Validation loss reaches 0.4, not above"),
        ([NAN], [NAN], "No validation loss is finite"),
    ],
)
def test_overfitting_in_words(train, held_out, message):
    assert curves_of(train, held_out).overfitting().startswith(message)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("finite", [True, False])
def test_two_drawings_with_bands_if_there_are_several_seeds(tmp_path, seeds, finite):
    curves = curves_of([1.0, 0.5, 0.2], [1.1, 0.8, 1.0], seeds) if finite else curves_of([NAN] * 3, [NAN] * 3, seeds)
    loss, accuracy = learning.drawings(curves)
    assert (loss.name, accuracy.name) == ("loss", "accuracy")
    texts = {each.name: " ".join(drawn(each.figure, tmp_path / f"{each.name}.svg")[0]) for each in (loss, accuracy)}
    assert all(name in texts["loss"] for name in ("training", "validation", "epoch", "loss (nats, log scale)"))
    assert ("Overfitting after epoch 2" if finite else "No validation loss") in texts["loss"]
    assert ("44.93% at best" if finite else "never finite") in texts["accuracy"]
    assert ("bands" in texts["loss"]) == (finite and seeds > 1)
    gap = loss.figure.axes[0].lines[-1]
    assert (gap.get_xdata().tolist() == [2, 2]) == finite
    if finite:
        np.testing.assert_allclose(gap.get_ydata(), [0.5, 0.8])
