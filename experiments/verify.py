r"""Repeat finished runs from their flags, and compare the bits of what they write.

  python -m experiments.verify runs/optimizer_race/TIME
  python -m experiments.verify runs/char_rnn/* --keep=/tmp/again

A run repeats to the bit on the same code, versions, type of CPU and number of devices; wall times are not compared. It
is repeated on as many devices as it was made on. Where the code, the versions or the machine differ, so may the bits:
the figures of its summary are then compared within --tolerance.

The exit code is 1 if bits differ although nothing else does, or figures differ by more than the tolerance.
"""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from experiments import answers, frame, replay_report, replaying
from experiments.bit_differences import compare_objects, compare_params, compare_records
from experiments.recorded_run import RecordedRun, read, read_object
from experiments.replay_report import Measurement, Verified, environment_differences, flag_notes
from mllab.errors import UserError
from mllab.folders import expand
from mllab.report.report import Report
from mllab.report.table import duration

TIMED = ("growth",)  # experiments whose figures are wall times


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """The runs, and what counts as equal."""

    workdirs: tuple[str, ...] = frame.folders(
        help="Workdirs of finished runs, given as plain arguments or with this flag."
    )
    keep: str | None = frame.path(
        None, help="Folder for the workdirs of the replays, by the names of the recorded ones. Default: removed."
    )
    tolerance: float = frame.number(
        1e-3, help="Greatest relative difference of a figure of the summary on another machine or version.", low=0
    )


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Repeat each run and compare it.

    Raises:
        UserError: no finished run of a known experiment, or none that can be repeated, on the same data.
    """
    recorded = [read(path) for path in settings.workdirs]
    for each in recorded:
        if each.experiment in TIMED:
            raise UserError(f"{each.path}: {each.experiment} measures wall times, which do not repeat: leave it out")
    if settings.keep is not None:
        _check_folders(expand(settings.keep), recorded)
    with ExitStack() as stack:
        if settings.keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mllab-verify-")))
        else:
            folder = expand(settings.keep)
            folder.mkdir(parents=True, exist_ok=True)
        runs, refused = [], []
        for each in recorded:
            try:
                runs.append(_verified(run, each, folder, settings))
            except UserError as error:
                refused.append(str(error))
    if not runs:
        raise UserError("; ".join(refused))
    return Measurement(settings.tolerance, runs, refused)


def _check_folders(folder: Path, recorded: list[RecordedRun]) -> None:
    """Raise UserError where a replay would resume another run, or two would share a folder."""
    names = [each.path.resolve().name for each in recorded]
    if len({*names}) < len(names):
        raise UserError(f"--keep={folder}: several workdirs are named {max(names, key=names.count)}: verify one by one")
    for name in names:
        if (folder / name).exists():
            raise UserError(f"--keep={folder}: it holds {name} already, which would be resumed: name another folder")


def _verified(run: frame.Context, recorded: RecordedRun, folder: Path, settings: Settings) -> Verified:
    """Repeat one run and compare it; the environment as soon as the replay has recorded its own."""
    say, workdir = run.progress.say, folder / recorded.path.resolve().name
    took = "" if recorded.seconds is None else f", which took {duration(recorded.seconds)}"
    devices = f" on {answers.counted(recorded.device_count, 'device')}" if recorded.device_count else ""
    say(f"{recorded.path}: repeating {recorded.experiment}{took}{devices}")
    differences: list[str] | None = None

    def observe(line: str) -> None:
        nonlocal differences
        if differences is None and (workdir / "environment.json").is_file():
            differences = environment_differences(recorded, read_object(workdir / "environment.json"))
            for each in differences:
                say(f"  {each}")
        say(f"  {line}")

    with run.timed(f"replay of {recorded.path.name}"):
        seconds = replaying.replay(recorded, workdir, observe)
    with run.timed("comparison"):
        again = read(workdir)
        files = [compare_objects("summary.json", recorded.figures, again.figures)]
        names = {path.name for each in (recorded, again) for path in each.path.glob("*.safetensors")}
        files += [compare_params(recorded.path / name, workdir / name) for name in sorted(names)]
        files.append(compare_records("metrics.jsonl", recorded.path / "metrics.jsonl", workdir / "metrics.jsonl"))
    return Verified(
        workdir=str(recorded.path), experiment=recorded.experiment, recorded_seconds=recorded.seconds,
        seconds=again.seconds or seconds, environment=environment_differences(recorded, again.environment),
        notes=flag_notes(recorded, again), files=files, kept=None if settings.keep is None else str(workdir),
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report each run, and the figures that differ."""
    del run, settings
    return replay_report.report(measured)


def failed(measured: Measurement) -> bool:
    """Return whether a run differs that should not, or cannot be repeated."""
    return bool(measured.refused) or any(each.failed(measured.tolerance) for each in measured.runs)


main, run = frame.program(Settings, measure, report, words="workdirs", failed=failed)

if __name__ == "__main__":
    main()
