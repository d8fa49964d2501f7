"""The measurement of `experiments.verify`: what of each run repeats, in words and as a table."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from experiments import answers
from experiments.bit_differences import ABSENT, Difference, FileComparison, json_differences
from experiments.recorded_run import RecordedRun
from mllab.errors import UserError, shortened
from mllab.report.report import Report
from mllab.report.table import Table, duration, legible, short

PROMISED = ("versions", "devices", "cpu", "xla_flags", "git_commit")  # on which the bits depend, beside flags and data
CODE = "git_commit"


@dataclass(frozen=True)
class Verified:
    """One run and its replay."""

    workdir: str
    experiment: str
    recorded_seconds: float | None
    seconds: float
    environment: list[str]  # how that of the replay differs, a phrase each
    notes: list[str]  # of flags that only one of them has
    files: list[FileComparison]
    kept: str | None  # the workdir of the replay

    @property
    def differing(self) -> int:
        """Number of figures that differ."""
        return sum(each.differing for each in self.files)

    @property
    def figures(self) -> int:
        """Number of figures that were compared."""
        return sum(each.figures for each in self.files)

    @property
    def greatest(self) -> float:
        """The greatest relative difference."""
        return max(each.greatest() for each in self.files)

    @property
    def is_same_environment(self) -> bool:
        """Whether all that the bits depend on is the same."""
        return not self.environment and not self.notes

    def failed(self, tolerance: float) -> bool:
        """Return whether bits differ in the same environment, or figures by more than the tolerance in another."""
        if self.is_same_environment:
            return self.differing > 0
        return self.files[0].greatest(absent=False) > tolerance

    def verdict(self, tolerance: float) -> str:
        """Return in words whether the run repeats."""
        if not self.differing:
            return "repeats to the bit"
        text = f"differs in {answers.counted(self.differing, 'figure')}, greatest relative difference "
        text += _relative(self.greatest)
        if self.is_same_environment:
            return text
        beyond = "beyond" if self.failed(tolerance) else "within"
        of_summary = _relative(self.files[0].greatest(absent=False))
        return f"{text}, in another environment; its summary is {beyond} the tolerance ({of_summary})"


@dataclass(frozen=True)
class Measurement:
    """All runs and their replays."""

    tolerance: float
    runs: list[Verified]
    refused: list[str]  # why others could not be repeated


def environment_differences(recorded: RecordedRun, now: Mapping[str, Any]) -> list[str]:
    """Return how the environment of a replay differs from that of the run, a phrase each.

    Raises:
        UserError: the data read differ.
    """
    before = recorded.environment
    _, of_data = json_differences(before.get("data"), now.get("data"), "data")
    if of_data:
        each = of_data[0]
        raise UserError(
            f"{recorded.path} was made with other data: {each.place.removeprefix('data.')} has sha256 "
            f"{_shown(each.recorded)}, now {_shown(each.replayed)}; restore the file to repeat the run"
        )
    differ = [each for name in PROMISED for each in json_differences(before.get(name), now.get(name), name)[1]]
    return [_phrase(each) for each in differ]


def flag_notes(recorded: RecordedRun, again: RecordedRun) -> list[str]:
    """Return a note on flags that only one version of the experiment has.

    Raises:
        UserError: flags.cfg is not that of the run.
    """
    before, now = recorded.flags, again.flags
    for name in before.keys() & now.keys():
        if not _is_same_flag(before[name], now[name]):
            raise UserError(
                f"{recorded.path / 'flags.cfg'} is not that of the run: --{name} is {_shown(before[name])} in "
                f"summary.json, and {_shown(now[name])} by flags.cfg; restore it"
            )
    only = {"recorded run": before.keys() - now.keys(), "replay": now.keys() - before.keys()}
    return [
        f"flags that only the {which} has: {', '.join(f'--{name}' for name in sorted(names))}"
        for which, names in only.items()
        if names
    ]


def report(measured: Measurement) -> Report:
    """Return the report: a row a file, the figures that differ, and a sentence for each run."""
    rows: list[list[object]] = []
    for run in measured.runs:
        for place, file in enumerate(run.files):
            seconds = [run.recorded_seconds and duration(run.recorded_seconds), duration(run.seconds)]
            head = [legible(os.path.basename(os.path.abspath(run.workdir))), *seconds] if place == 0 else ["", "", ""]
            greatest = _relative(file.greatest()) if file.differing else "0"
            rows.append([*head, file.name, file.figures, file.differing, greatest])
    columns = ["run", "recorded", "replay", "file", "figures", "differ", "greatest relative"]
    caption = "wall times are not compared; of params, differences are relative to the greatest entry of their array"
    sentences = [f"{run.workdir} {run.verdict(measured.tolerance)}" for run in measured.runs]
    remarks = [f"{run.workdir}: {each}" for run in measured.runs for each in (*run.environment, *run.notes)]
    return Report(
        title="Repeated runs",
        question="Do the runs repeat to the bit?",
        answer="; ".join(sentences) + ".",
        table=Table(columns, rows, caption=caption),
        tables=[_differences(run, file) for run in measured.runs for file in run.files if file.differing],
        remarks=[*measured.refused, *remarks]
        + [f"{run.workdir}: the replay is in {run.kept}" for run in measured.runs if run.kept],
    )


def _differences(run: Verified, file: FileComparison) -> Table:
    rows = [
        [shortened(each.place, 80), _shown(each.recorded), _shown(each.replayed), _relative(each.relative)]
        for each in file.differences
    ]
    rest = file.differing - len(rows)
    more = f", and {rest:,} more" if rest else ""
    return Table(
        [f"figure of {file.name}", "recorded", "replay", "relative"], rows, caption=f"{run.workdir}: the greatest{more}"
    )


def _phrase(each: Difference) -> str:
    """Return a difference of environments in words: 'jax 0.10.2, now 0.11.0'."""
    what = each.place.removeprefix("versions.").replace("devices.", "devices, ").replace(CODE, "code at commit")
    return f"{what.replace('_', ' ')}: {_shown(each.recorded)}, now {_shown(each.replayed)}"


def _is_same_flag(one: Any, other: Any) -> bool:
    """Return whether two flags are the same; a path may be relative in one of them."""
    if isinstance(one, str) and isinstance(other, str):
        return one == other or os.path.basename(one) == os.path.basename(other)
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(map(_is_same_flag, one, other))
    return bool(one == other)


def _relative(value: float) -> str:
    return "not a number" if value == float("inf") else short(value, 2)


def _shown(value: Any) -> str:
    if value == ABSENT:
        return ABSENT
    return shortened(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 40)
