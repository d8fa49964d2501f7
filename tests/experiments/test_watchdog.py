"""The watchdog tells a program that waits for ever from one that computes, sleeps elsewhere or starves."""

import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import mllab
from experiments.frame.watchdog import Watchdog

IDLE_S = 0.6


@pytest.fixture
def lines():
    return []


def waits(seconds, until):
    """Wait for a lock in a frame of mllab, as one of its functions waits for a compiled program."""
    code = compile("def fit(): lock.acquire(timeout=seconds)", str(Path(mllab.__file__).parent / "stuck.py"), "exec")
    lock = threading.Lock()
    lock.acquire()
    until.append(lock.release)
    scope = {"lock": lock, "seconds": seconds}
    exec(code, scope)
    scope["fit"]()


def test_a_program_that_waits_for_ever_is_reported_once_by_name(lines):
    until = []
    with Watchdog(lambda: "mixtures", lambda line: (lines.append(line), until[0]()), idle_s=IDLE_S):
        waits(30, until)
    assert len(lines) == 1
    assert lines[0].startswith("mixtures in mllab.stuck.fit is stuck: no processor time")
    assert "\n" not in lines[0]


@pytest.mark.slow
def test_it_is_reported_among_hundreds_of_threads(lines):
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait, daemon=True) for _ in range(600)]
    for thread in threads:
        thread.start()
    test_a_program_that_waits_for_ever_is_reported_once_by_name(lines)
    ended.set()
    for thread in threads:
        thread.join()


@pytest.mark.slow
def test_other_waits_are_not_reported(lines):
    with Watchdog(lambda: "", lines.append, idle_s=IDLE_S):
        time.sleep(0)  # warm
        threading.Event().wait(3 * IDLE_S)  # waits in the standard library, as a download does
        waits(IDLE_S / 2, [])  # not long enough
    assert not lines


@pytest.mark.slow
def test_a_program_that_computes_is_not_reported(lines):
    step = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, x: jnp.sin(x @ x), x))
    x = jnp.eye(300)
    with Watchdog(lambda: "", lines.append, idle_s=IDLE_S):
        end = time.monotonic() + 3 * IDLE_S
        while time.monotonic() < end:
            x = jax.block_until_ready(step(x))
    assert not lines


def test_nothing_is_reported_after_the_end(lines):
    with Watchdog(lambda: "", lines.append, idle_s=IDLE_S):
        pass
    waits(2 * IDLE_S, [])
    assert not lines
