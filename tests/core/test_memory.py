"""Memory: what is free is estimated from the limits of the process, and what cannot fit is refused in one line."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from mllab import clustering, devices, memory, racing, validation
from mllab.data import load
from mllab.models import table
from support.mistakes import refused_in_one_line

ROOT = Path(__file__).parents[2]


def test_what_does_not_fit_is_refused_and_what_fits_is_not():
    memory.check(1, "a byte", "lower nothing")
    with refused_in_one_line(r"^the params take about 1e\+21 GB, and .* GB of memory are free: lower --hidden$"):
        memory.check(1e30, "the params", "lower --hidden")
    assert 2**20 < memory.available() < 2**60


@pytest.mark.slow
def test_the_limit_on_the_address_space_counts():
    pytest.importorskip("resource")
    code = (
        "import resource; from mllab import memory\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31)); print(memory.available())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2**31


def test_devices_with_memory_of_their_own_count_instead_of_the_machine():
    gpu = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 5e9})
    cpu = SimpleNamespace(platform="cpu", memory_stats=lambda: None)
    assert memory.available([gpu, gpu]) == 1e10
    assert memory.available([cpu]) > 0
    assert memory.available([SimpleNamespace(platform="gpu", memory_stats=lambda: None)]) > 0


DIGITS = load("digits")
RACE = {"rates": 8, "seeds": 3, "epochs": 20, "batch_size": 32, "count": 1079, "settings": {}}


@pytest.mark.parametrize(
    ("plan", "options", "message"),
    [
        ({"hidden": (10**7,)}, {}, "the params and optimizer states of 48 lanes"),
        ({}, {"epochs": 10**9}, "the minibatches of 1,000,000,000 epochs"),
        ({}, {"seeds": 10**9}, "the minibatches of 20 epochs"),
        ({"hidden": (10,)}, {"rates": 10**8, "seeds": 1, "epochs": 1}, "the params and optimizer states"),
        ({}, {"batch_size": 10**9, "epochs": 1, "seeds": 1}, "the (minibatches|largest arrays)"),
    ],
)  # fmt: skip
def test_a_race_that_cannot_fit_is_refused(plan, options, message):
    model = table.build(table.plan("mlp", DIGITS.inputs.shape[1:], 10, **plan))
    with refused_in_one_line(f"^{message}"):
        racing.check_memory(model, DIGITS.examples, ["sgd", "adam"], **RACE | options)
    racing.check_memory(table.build(table.plan("mlp", (8, 8, 1), 10)), DIGITS.examples, ["sgd", "adam"], **RACE)


@pytest.mark.parametrize(
    "call",
    [
        lambda: validation.folds(np.arange(10**5), 10**5, seed=0, rounds=1000),
        lambda: clustering.check_memory((10**5, 784), range(2, 100), 10**6),
        lambda: next(clustering.fit({"train": np.ones((9, 2))}, None, [2], [0], 10**12)),
    ],
)
def test_other_sizes_that_cannot_fit_are_refused_before_they_are_made(call):
    with refused_in_one_line("GB of memory are free: lower"):
        call()


@pytest.mark.slow
def test_compiled_programs_are_released_when_the_process_nears_its_limit_of_memory_maps(monkeypatch):
    jax.jit(lambda x: x * 3 + 1)(1.0)
    count, limit = memory.maps()
    assert 100 < count < limit
    assert count == pytest.approx(len(Path("/proc/self/maps").read_text().splitlines()), abs=20)
    kept = jax.jit(lambda x: x * 5 - 2)
    kept(1.0)
    assert kept._cache_size() == 1
    monkeypatch.setattr(memory, "maps", lambda: (10, 1000.0))
    assert not devices.release_programs()
    assert kept._cache_size() == 1
    monkeypatch.setattr(memory, "maps", lambda: (900, 1000.0))
    assert devices.release_programs()
    assert kept._cache_size() == 0
    assert kept(1.0) == 3.0


def test_without_proc_programs_are_never_released(monkeypatch):
    monkeypatch.setattr(memory, "_lines", lambda path: [])
    assert memory.maps() == (0, float("inf"))
    assert not devices.release_programs()
