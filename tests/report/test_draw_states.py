"""Traces of recurrent networks: what is drawn, and what is refused."""

import numpy as np
import pytest

from mllab.report import draw
from support.figures import check_figure, drawn

STEPS = 6


def trace(output):
    target = np.where(np.arange(STEPS) == STEPS - 1, 1.0, np.nan)
    return draw.Trace(np.eye(STEPS), "one row a symbol", output, target, np.linspace(-1, 1, 24).reshape(STEPS, 4))


def test_inputs_and_states_are_cells_and_targets_circles(tmp_path):
    figure = draw.states(trace(np.arange(STEPS)), title="A sequence", y_label="value", notes=["One of many."])
    texts, (inputs, states) = drawn(figure, tmp_path / "trace.svg")
    assert {"A sequence", "one row a symbol", "value", "output", "target", "One of many."} <= set(texts)
    assert any("state of 4 units" in text for text in texts)
    assert inputs.shape == (STEPS, STEPS, 3)
    assert states.shape == (4, STEPS, 3)
    assert (inputs[0, 0] == inputs[3, 3]).all()
    assert (inputs[0, 1] > 240).all()
    assert states[0, 0, 2] > states[0, 0, 0]  # blue below 0
    assert states[-1, -1, 0] > states[-1, -1, 2]
    line, circles = figure.axes[1].lines
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, STEPS + 1))
    assert np.isfinite(circles.get_ydata()).sum() == 1


@pytest.mark.parametrize("output", [np.full(STEPS, np.nan), np.full(STEPS, 1e38), 1e25 * np.arange(STEPS)])
def test_any_numbers_can_be_drawn(output, tmp_path):
    check_figure(lambda: draw.states(trace(output), title="x", y_label="y"), tmp_path / "trace.svg")


def test_steps_that_differ_are_refused():
    with pytest.raises(ValueError, match="6 steps of inputs, 5 outputs"):
        draw.states(trace(np.zeros(5)), title="x", y_label="y")
