"""Lists and log-spaced ranges of learning rates on the command line."""

import numpy as np
import pytest

from experiments import flags as shared
from mllab.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.1,0.01", [0.1, 0.01]), ("1e-4:1:5", [1e-4, 1e-3, 1e-2, 1e-1, 1.0]), ("0.5", [0.5]), ("2:2:1", [2.0])],
)
def test_rates_by_flag(text, expected):
    np.testing.assert_allclose(shared.numbers(text, "learning_rates"), expected)


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "1:2:3:4", "0", "-1", "nan", "inf", "1:0.1:3", "1:2:0", "1:2:1", "1:2:x"]
)
def test_rates_that_make_no_sense_by_flag(text):
    with pytest.raises(UserError, match="--learning_rates"):
        shared.numbers(text, "learning_rates")
