r"""Set finished runs of one experiment side by side: flags, scores, curves and wall times.

  python -m experiments.compare runs/optimizer_race/*
  python -m experiments.compare runs/narrow runs/wide --against=best

Scores are paired by seed, or by fold, where the runs have the same data and the same split: differences from the first
run, with 95% intervals. Where these differ, the scores stand side by side and no differences are taken.
"""

import hashlib
from dataclasses import dataclass

from experiments import compare_report, frame, recorded_run, run_comparison
from experiments.run_comparison import Measurement
from mllab.errors import UserError
from mllab.report.report import Report

MAX_RUNS = 50


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output):
    """The runs, and which of them the others are compared with."""

    workdirs: tuple[str, ...] = frame.folders(
        help="Workdirs of finished runs of one experiment, given as plain arguments or with this flag."
    )
    against: str = frame.choice(["first", "best"], "first", help="The run that differences are from: first or best.")


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Read and compare the runs.

    Raises:
        UserError: no finished runs of one experiment whose scores are known.
    """
    if len(settings.workdirs) > MAX_RUNS:
        raise UserError(f"{len(settings.workdirs)} runs: name at most {MAX_RUNS}")
    with run.timed("reading"):
        recorded = [recorded_run.read(path) for path in settings.workdirs]
        runs = run_comparison.read_runs(recorded)
        for each in recorded:
            run.read({str(each.path): hashlib.sha256((each.path / "summary.json").read_bytes()).hexdigest()})
    with run.timed("comparison"):
        measured = run_comparison.compare(runs, settings.against == "best")
    run.record(
        {"group": group.title, **frame.to_json(row)}
        for group in measured.groups
        for row in (*group.winners, *group.contenders)
    )
    return measured


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the scores, the flags that differ, the curves and the wall times."""
    del run, settings
    return compare_report.report(measured)


main, run = frame.program(Settings, measure, report, words="workdirs")

if __name__ == "__main__":
    main()
