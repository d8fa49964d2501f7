"""The flag --precision: the precision of matrix products in a run, and the note on a CPU."""

import contextlib
from dataclasses import dataclass

import jax
import pytest

from experiments import frame
from experiments.frame import precision


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """Without a precision."""


@pytest.mark.parametrize(
    ("platform", "chosen", "name"),
    [
        ("cpu", "float32", None), ("cpu", "tf32", None), ("cpu", "bf16", None), ("gpu", "float32", "float32"),
        ("gpu", "tf32", "tensorfloat32"), ("tpu", "float32", "float32"), ("gpu", "bf16", None),
    ],
)  # fmt: skip
def test_products_of_a_run_have_the_precision_of_the_settings(platform, chosen, name, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    lines = []
    before = jax.config.jax_default_matmul_precision
    settings = frame.Steps.make({"precision": chosen})
    with contextlib.suppress(KeyError), precision.matmul_precision(settings, lines.append):
        assert jax.config.jax_default_matmul_precision == (name or before)
        raise KeyError
    assert jax.config.jax_default_matmul_precision == before
    is_noted = platform == "cpu" and chosen == "tf32"
    assert lines == ["--precision=tf32 has no effect on a CPU: it computes in float32."] * is_noted
    with precision.matmul_precision(Settings(), lines.append):
        assert jax.config.jax_default_matmul_precision == before
