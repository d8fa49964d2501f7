"""What all tests share: 8 CPU devices, one compilation cache, strict shapes."""

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)  # before JAX starts
jax.config.update("jax_numpy_rank_promotion", "raise")

from mllab import devices  # noqa: E402

devices.cache_compilations()

DATA = Path(os.environ.get("MLLAB_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> None:
    """Keep the programs of thousands of tests below the limit on memory maps."""
    devices.release_programs()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; tests that need one skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no folder of real data sets at {DATA}: set MLLAB_DATA")
    return DATA
