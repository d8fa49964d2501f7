r"""PPO on CartPole: 128 runs in one program, one run alone, and PyTorch's as CleanRL writes it.

  python -m experiments.bench.reinforcement

16 seeds × 8 learning rates, 500,000 environment steps each. The 128 runs are timed as a process, from its start to its
end, with nothing in a compilation cache; the one run without compilation. Final policies play fresh episodes. PyTorch
trains on gymnasium's environments, with CleanRL's settings and one thread, for a share of the steps, and its seconds
are extrapolated. Settings differ: CleanRL has 4 environments and two layers of 64 units, mllab the defaults of `ppo`.
"""

import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import frame
from experiments.bench import harness
from experiments.bench.harness import Samples, Settings
from mllab import devices, sweep
from mllab.control import evaluation
from mllab.control.agents import base, ppo
from mllab.control.environments import cartpole
from mllab.metrics import interquartile_mean
from mllab.report.report import Report
from mllab.report.table import Table
from mllab.rows import blocks

STEPS = 500_000  # of the environment, in each run
RATES = (0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024)
SEEDS = 16
EPISODES = 100  # that each final policy plays
RATE = 0.01  # of one run
TORCH_STEPS = 20_480  # of STEPS
TORCH_RATE = 2.5e-4  # CleanRL's
TARGET_S, ONE_TARGET_S = 60.0, 1.5


def measure(run: frame.Context, settings: Settings) -> Samples:
    """Return the samples of all programs."""
    del run
    harness.require("torch")
    harness.require("gymnasium", ", and pip install gymnasium")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        programs = {
            "mllab, 128 runs": harness.role_command("reinforcement", "many"),
            "mllab, one run": harness.role_command("reinforcement", "one"),
            "PyTorch, one run": harness.role_command("reinforcement", "torch"),
        }
        return harness.in_turn(
            {name: harness.program(path, words) for name, words in programs.items()}, settings.repeats
        )


def many() -> dict[str, Any]:
    """Return the seconds of the 128 runs in this process, and what their final policies return by rate."""
    devices.use_cores()
    grid = sweep.grid({"learning_rate": RATES}, SEEDS)
    began = time.perf_counter()
    seconds, returns = _train(grid)
    best = grid.by_axis(returns).reshape(len(RATES), SEEDS)
    return {
        "seconds": time.perf_counter() - began,
        "running": seconds,
        "iqm": interquartile_mean(best[:, None]).tolist(),
    }


def one() -> dict[str, Any]:
    """Return the seconds of one run on one device, without compilation."""
    grid = sweep.grid({"learning_rate": [RATE]}, [0])
    _train(grid)
    seconds, returns = _train(grid)
    return {"seconds": seconds, "running": seconds, "iqm": [float(interquartile_mean(returns[None]))]}


def torch() -> dict[str, Any]:
    """Return the seconds of one run of PyTorch, extrapolated from a share of its steps."""
    from experiments.bench import reinforcement_torch, torch_start

    device = torch_start.start(1)
    arguments = {"name": "CartPole-v1", "seed": 0, "rate": TORCH_RATE, "of_steps": STEPS, "device": device}
    reinforcement_torch.train(steps=1_024, **arguments)
    began = time.perf_counter()
    reinforcement_torch.train(steps=TORCH_STEPS, **arguments)
    seconds = (time.perf_counter() - began) * STEPS / TORCH_STEPS
    return {"seconds": seconds, "running": seconds, "iqm": []}


@functools.cache  # a second training compiles nothing
def _functions(schedule: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the rows of a training of lanes, and the compiled functions of its run."""
    agent = ppo.make(cartpole.environment(), steps=STEPS)
    mesh = devices.mesh()
    run = sweep.lanes(
        agent.run, np.asarray(schedule), mesh=mesh, group=devices.lanes_in_cache(mesh, agent.lane_bytes)
    )  # fmt: skip
    return base.schedule(agent), jax.jit(run.start), jax.jit(run.advance, donate_argnums=1), jax.jit(run.score)


def _train(grid: sweep.Grid) -> tuple[float, np.ndarray]:
    """Return the seconds of training, compilation included at first, and the mean return of each final policy [L]."""
    rows, start, advance, score = _functions(tuple(grid.schedule.tolist()))
    examples = evaluation.episodes(EPISODES)
    state = jax.block_until_ready(start(grid.hyper, grid.key))
    began = time.perf_counter()
    state, losses = jax.block_until_ready(advance(grid.hyper, state, examples, rows))
    seconds = time.perf_counter() - began
    assert np.isfinite(losses).all()
    metrics = score(grid.hyper, state, examples, blocks(np.arange(EPISODES), EPISODES))
    return seconds, np.asarray(metrics["return"])


def report(run: frame.Context, settings: Settings, measured: Samples) -> Report:
    """Report the seconds, beside the targets and PyTorch's."""
    del run, settings
    targets = {"mllab, 128 runs": TARGET_S, "mllab, one run": ONE_TARGET_S}
    peer = harness.figure(measured["PyTorch, one run"], "seconds")
    rows: list[list[Any]] = []
    for name, samples in measured.items():
        runs = len(RATES) * SEEDS if name == "mllab, 128 runs" else 1
        whole = [sample.seconds for sample in samples]
        seconds = float(np.median(whole)) if runs > 1 else harness.figure(samples, "seconds")
        spread = whole if runs > 1 else [sample.report["seconds"] for sample in samples]
        target, iqm = targets.get(name), samples[0].report["iqm"]
        rows.append(
            [
                name,
                f"{seconds:.2f}",
                harness.spread(spread),
                f"{runs * peer / seconds:.0f}",
                ", ".join(f"{each:.0f}" for each in iqm) or None,
                target,
                None if target is None else harness.verdict(seconds <= target),
            ]
        )
    columns = [
        "PPO on CartPole",
        "seconds",
        "least – greatest",
        "× PyTorch's rate",
        "IQM of returns by rate",
        "target",
        "met",
    ]
    return harness.report("reinforcement", [Table(columns, rows)])


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    harness.start(main, many=many, one=one, torch=torch)
