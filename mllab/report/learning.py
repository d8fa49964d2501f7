"""Learning curves of a classifier: losses and accuracy after each epoch, and what they say about overfitting."""

from dataclasses import dataclass

import numpy as np

from mllab.report.report import Drawing
from mllab.report.table import fixed, short

OVERFITTING = 1.05  # final over least validation loss, from which on the curves count as overfitting


@dataclass(frozen=True)
class LearningCurves:
    """Curves over epochs; each [E, 3] holds mean, low and high over seeds."""

    epoch: np.ndarray  # [E]
    train_loss: np.ndarray  # [E, 3] mean over the epoch's minibatches
    validation_loss: np.ndarray  # [E, 3]
    validation_accuracy: np.ndarray  # [E, 3]
    seeds: int

    @property
    def best(self) -> int | None:
        """The index of the least mean validation loss; None where none is finite."""
        losses = self.validation_loss[:, 0]
        return int(np.nanargmin(losses)) if np.isfinite(losses).any() else None

    def overfitting(self) -> str:
        """Return in a sentence what the losses say about overfitting."""
        train, held_out, best = self.train_loss[:, 0], self.validation_loss[:, 0], self.best
        if best is None:
            return "No validation loss is finite"
        last = int(np.flatnonzero(np.isfinite(held_out))[-1])
        if held_out[last] > OVERFITTING * held_out[best] and train[last] < train[best]:
            return (
                f"Overfitting after epoch {self.epoch[best]:g}: validation loss rises from {short(held_out[best])} to "
                f"{short(held_out[last])} while training loss falls to {short(train[last])}"
            )
        if held_out[best] > train[best]:
            return (
                f"Validation loss reaches {short(held_out[best])}, {short(held_out[best] - train[best], 2)} above "
                "training loss, and does not rise again"
            )
        return f"Validation loss reaches {short(held_out[best])}, not above training loss: no sign of overfitting"


def drawings(curves: LearningCurves) -> list[Drawing]:
    """Return the drawings `loss`, with the gap at the least validation loss, and `accuracy`."""
    from mllab.report import draw
    from mllab.report.draw import Series

    epoch, best, reached = curves.epoch, curves.best, 100 * curves.validation_accuracy[:, 0]
    over = f"{curves.seeds} seeds"
    loss = draw.curves(
        [
            Series.of_intervals("validation", epoch, curves.validation_loss),
            Series.of_intervals("training", epoch, curves.train_loss),
        ],
        title=curves.overfitting(), x_label="epoch", y_label="loss (nats, log scale)", log_y=True, integer_x=True,
        bar=None if best is None else (epoch[best], curves.train_loss[best, 0], curves.validation_loss[best, 0]),
        over=over,
        note="Vertical bar: the gap at the least validation loss. Training loss is the mean over an epoch's "
        "minibatches, as trained: with augmentation, dropout and label smoothing, where they are on.",
    )  # fmt: skip
    highest = f"{fixed(np.nanmax(reached), 2)}% at best" if np.isfinite(reached).any() else "never finite"
    accuracy = draw.curves(
        [Series.of_intervals("validation", epoch, curves.validation_accuracy, scale=100.0, limits=(0, 100))],
        title=f"Validation accuracy: {highest}", x_label="epoch", y_label="accuracy (%)", integer_x=True, over=over,
    )  # fmt: skip
    caption = "If training loss falls while validation loss rises, the net overfits: it memorises its training rows."
    return [
        Drawing("loss", loss, "Loss on training and validation rows against the epoch", caption),
        Drawing("accuracy", accuracy, "Accuracy on validation rows against the epoch"),
    ]
