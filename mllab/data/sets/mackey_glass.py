r"""The Mackey-Glass equation: a chaotic series that needs no file.

    $$ \dot x(t) = \frac{\beta\, x(t - \tau)}{1 + x(t - \tau)^n} - \gamma\, x(t), \qquad
       \beta = 0.2, \gamma = 0.1, n = 10, \tau = 17, $$

with x = 1.2 up to t = 0 (Mackey and Glass, *Oscillation and chaos in physiological control systems*, Science 197,
1977).
Read every 6 time units it is a usual benchmark of forecasts (Lapedes and Farber 1987; Jang, *ANFIS*, IEEE Transactions
on Systems, Man, and Cybernetics 23, 1993).
"""

import numpy as np

BETA, GAMMA, POWER, DELAY = 0.2, 0.1, 10, 17.0
STEP = 0.1  # of the integration; the delay and the spacing are whole multiples of it
SPACING = 6.0  # time units between values
SKIPPED = 500.0  # time units until the start is forgotten
START = 1.2


def mackey_glass(count: int) -> np.ndarray:
    """Return `count` values, [N], one every 6 time units: by the Runge-Kutta method of order 4 with steps of 0.1.

    The delayed value in the middle of a step is the mean of those at its ends.
    """
    delay, every, skipped = (round(length / STEP) for length in (DELAY, SPACING, SKIPPED))
    steps = skipped + every * count
    x = [START] * (delay + 1)

    def slope(now: float, before: float) -> float:
        return BETA * before / (1 + before**POWER) - GAMMA * now

    for step in range(steps):
        now, first, last = x[-1], x[step], x[step + 1]  # the delayed values at the ends of the step
        middle = (first + last) / 2
        one = slope(now, first)
        two = slope(now + STEP / 2 * one, middle)
        three = slope(now + STEP / 2 * two, middle)
        four = slope(now + STEP * three, last)
        x.append(now + STEP / 6 * (one + 2 * two + 2 * three + four))
    return np.array(x[delay + skipped :: every][:count])
