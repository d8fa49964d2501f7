"""A toy experiment: the mean of some numbers.

The tests of `experiments.frame` use it in place of a real experiment: `python -m support.toy_experiment` with tests/ on
the path.
"""

import time
from dataclasses import dataclass

import numpy as np

from experiments import frame
from mllab.report.report import Bullets, Report, Section
from mllab.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices):
    """Settings of the toy experiment."""

    numbers: tuple[float, ...] = frame.grid("1:100:3", help="Numbers to take the mean of.")
    kinds: tuple[str, ...] = frame.choices(["plain", "fancy"], help="Kinds of mean.")
    sizes: tuple[int, ...] = frame.wholes((4, 4), help="Sizes, in order.", ordered=True)
    ks: tuple[int, ...] | None = frame.wholes(None, help="Counts. Default: none.", low=2)
    loud: bool = frame.switch(help="Print loudly.")
    pause: float = frame.number(
        0.0, help="Seconds to wait after the first record.", low=0, high=60, affects_result=False
    )
    fail: str = frame.choice(["no", "early", "late", "memory"], "no", help="Where to fail.")


@dataclass(frozen=True)
class Measurement:
    """The mean of the numbers."""

    mean: float
    nothing: float
    by_seed: list[float]
    picture: np.ndarray = frame.unsaved()


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Compute the mean of the numbers once per seed."""
    from mllab.errors import UserError

    if settings.fail == "early":
        raise UserError("a mistake before any result")
    run.read({"numbers": "0" * 64})
    run.progress.task("means", settings.seeds)
    means = []
    with run.timed("means"):
        for seed in range(settings.seeds):
            means.append(float(np.mean(settings.numbers)))
            run.record([{"seed": seed, "mean": means[-1], "bad": float("nan")}])
            run.progress.advance()
            time.sleep(settings.pause if seed == 0 else 0)
            if settings.fail == "late" and seed == 1:
                raise UserError("a mistake after the first result")
            if settings.fail == "memory":
                raise MemoryError
    return Measurement(float(np.mean(means)), float("nan"), means, np.zeros((2, 2)))


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the mean."""
    del run
    return Report(
        title="Means",
        question="What is the mean?",
        answer=f"The mean is {measured.mean:.3f}.",
        table=Table(["seed", "mean"], [[str(seed), mean] for seed, mean in enumerate(measured.by_seed)], best=0),
        sections=[Section("Details", [Bullets(settings.kinds)]), Section("Empty", [])],
        facts={"seeds": str(settings.seeds), "empty": ""},
        remarks=["a remark"],
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
