"""How tests check that a mistake is refused."""

from contextlib import contextmanager

import pytest

from mllab.errors import UserError


@contextmanager
def refused_in_one_line(pattern):
    """Check that the block raises UserError with a message of one line in which the pattern is found."""
    with pytest.raises(UserError, match=pattern) as caught:
        yield caught
    assert "\n" not in str(caught.value)
