"""Finished runs of one experiment side by side: the flags that differ, and scores paired by seed or fold."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import frame, run_scores
from experiments.recorded_run import RecordedRun, records
from experiments.run_scores import Contender, Repeated, Scores
from mllab import metrics
from mllab.errors import UserError
from mllab.metrics import Interval

LONGEST_LABEL = 24  # characters
DEFAULT = "default"  # of a flag that is not set
# What decides which rows a score is of; flags that a run does not have are at their default.
SPLIT_FLAGS = (
    "dataset", "text", "column", "target", "task", "test", "split_column", "query", "split_seed", "rows", "folds",
    "folds_file", "group", "time", "gap", "score", "horizon", "test_share", "blocks", "validation_share",
)  # fmt: skip
SPLIT_FACTS = ("parts", "pieces", "frames", "origins", "mase_scale")  # and what of the summary


@dataclass(frozen=True)
class Run:
    """One of the runs."""

    label: str
    folder: str
    seconds: Mapping[str, float]  # wall time of each part
    machine: str  # CPU and devices
    recorded: RecordedRun = frame.unsaved()
    scores: Sequence[Scores] = frame.unsaved()


@dataclass(frozen=True)
class Row:
    """A contender of one run, and its scores less those of the run that all are compared with."""

    run: str
    contender: str
    validation: Interval | None
    test: Interval | None
    validation_difference: Interval | None  # in points where the score is
    test_difference: Interval | None


@dataclass(frozen=True)
class Group:
    """Scores of one kind over all runs."""

    title: str
    noun: str
    label: str
    greater_is_better: bool
    in_points: bool
    part: str  # whose scores decide: "validation", or "test" where no others are recorded by seed; "" for none
    over: str  # "seed" or "fold"
    repeats: int  # seeds or folds that all runs have
    best: str | None  # the run whose winner has the best mean score
    tied: list[str]  # runs, the best included; empty where nothing is compared
    against: str | None  # the run that differences are from
    winners: list[Row]  # one a run
    contenders: list[Row]  # those that several runs have
    baselines: Mapping[str, float]  # on test rows
    loss: str = frame.unsaved()
    curves: Mapping[str, tuple[np.ndarray, list[Interval]]] = frame.unsaved()  # by run: steps, and the loss at each


@dataclass(frozen=True)
class Measurement:
    """The comparison."""

    runs_of: str  # the experiment
    runs: list[Run]
    differing_flags: Mapping[str, list[str]]  # those that differ, as texts by run
    other_data: list[str]  # in what the data or the split differ; nothing is paired then
    groups: list[Group]


def read_runs(recorded: Sequence[RecordedRun]) -> list[Run]:
    """Return the runs with their scores and with distinct labels.

    Raises:
        UserError: one run, or runs of several experiments.
    """
    if len(recorded) < 2:
        raise UserError(f"{recorded[0].path}: name two runs or more to compare")
    names = sorted({each.experiment for each in recorded})
    if len(names) > 1:
        first = {name: next(each.path for each in recorded if each.experiment == name) for name in names}
        raise UserError(
            "runs of different experiments are not compared: "
            + ", ".join(f"{path} is of {name}" for name, path in first.items())
        )
    scores = [run_scores.read(each) for each in recorded]
    made = []
    for label, each, its_scores in zip(_labels(recorded), recorded, scores, strict=True):
        made.append(Run(label, str(each.path), each.seconds_by_part, _machine(each), each, its_scores))
    return made


def compare(runs: Sequence[Run], against_best: bool) -> Measurement:
    """Return the comparison of runs of one experiment, with differences from the first or from the best."""
    recorded = [run.recorded for run in runs]
    other_data = _other_data(recorded)
    titles = [each.title for each in runs[0].scores]
    shared = [title for title in titles if all(title in [each.title for each in run.scores] for run in runs)]
    by_title = {title: [next(each for each in run.scores if each.title == title) for run in runs] for title in shared}
    groups = [_group(runs, scores, other_data, against_best) for scores in by_title.values()]
    return Measurement(recorded[0].experiment, list(runs), differing_flags(recorded), other_data, groups)


def differing_flags(recorded: Sequence[RecordedRun]) -> dict[str, list[str]]:
    """Return the flags that differ between runs, with their texts by run."""
    names = sorted({name for each in recorded for name in each.flags})
    texts = {name: [_text(each.flags.get(name)) for each in recorded] for name in names}
    return {name: values for name, values in texts.items() if len({*values}) > 1}


def _labels(recorded: Sequence[RecordedRun]) -> list[str]:
    """Return a name for each run: the one flag that differs, or its folder."""
    flags = differing_flags(recorded)
    if len(flags) == 1:
        ((name, values),) = flags.items()
        labels = [f"{name} {value}" for value in values]
        if len({*labels}) == len(labels) and max(map(len, labels)) <= LONGEST_LABEL:
            return labels
    paths = [each.path.resolve() for each in recorded]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len({*labels}) == len(labels):
            break
    return labels


def _other_data(recorded: Sequence[RecordedRun]) -> list[str]:
    """Return in what the data or the split of runs differ."""
    differ = []
    if len({json.dumps(each.environment.get("data"), sort_keys=True) for each in recorded}) > 1:
        differ.append("the data read")
    flags = differing_flags(recorded)
    for name in SPLIT_FLAGS:
        if len({os.path.basename(value) for value in flags.get(name, ())}) > 1:  # a path may be relative in one
            differ.append(f"--{name}")
    facts = [[each.summary.get(name) for name in SPLIT_FACTS] + [_rows(each)] for each in recorded]
    if not differ and any(each != facts[0] for each in facts):
        differ.append("the numbers of rows")
    return differ


def _group(runs: Sequence[Run], scores: Sequence[Scores], other_data: Sequence[str], against_best: bool) -> Group:
    first, labels = scores[0], [run.label for run in runs]
    winners = [each.winner for each in scores]
    is_paired = not other_data and len({each.label for each in scores}) == 1
    part, common = _deciding(winners) if is_paired else ("", [])
    sign = 1 if first.greater_is_better else -1
    best, tied = None, []
    if part:
        repeated = {label: each.repeated[part] for label, each in zip(labels, winners, strict=True) if each}
        standing = metrics.ranking(
            {label: sign * each.at(common) for label, each in repeated.items()}, next(iter(repeated.values())).over
        )
        best, tied = standing.best, list(standing.tied) if standing.is_compared else []
    reference = labels.index(best) if best is not None and against_best else 0

    def row(index: int, contender: Contender | None, other: Contender | None) -> Row:
        if contender is None:
            return Row(labels[index], "", None, None, None, None)
        differences = [
            None if not is_paired or other is None or index == reference
            else _difference(contender.repeated.get(part), other.repeated.get(part), first.in_points)
            for part in ("validation", "test")
        ]  # fmt: skip
        return Row(labels[index], contender.name, contender.validation, contender.test, *differences)

    def named(of: Scores, name: str) -> Contender | None:
        return next((each for each in of.contenders if each.name == name), None)

    names = list(dict.fromkeys(each.name for of in scores for each in of.contenders))
    several = (
        [name for name in names if sum(named(of, name) is not None for of in scores) > 1] if len(names) > 1 else []
    )
    return Group(
        title=first.title, noun=first.noun, label=first.label, greater_is_better=first.greater_is_better,
        in_points=first.in_points, part=part, over=_noun(winners, part), repeats=len(common), best=best, tied=tied,
        against=labels[reference] if is_paired else None,
        winners=[row(index, each, winners[reference]) for index, each in enumerate(winners)],
        contenders=[
            row(index, each, named(scores[reference], name))
            for name in several
            for index, of in enumerate(scores)
            if (each := named(of, name)) is not None
        ],
        baselines={} if other_data else first.baselines, loss=first.loss,
        curves={
            run.label: _curve(run.recorded, each, winner)
            for run, each, winner in zip(runs, scores, winners, strict=True)
            if each.loss and winner is not None
        },
    )  # fmt: skip


def _deciding(winners: Sequence[Contender | None]) -> tuple[str, list[int]]:
    """Return the part whose scores are recorded by seed or fold for all winners, and the seeds or folds of all."""
    for part in ("validation", "test"):
        repeated = [each.repeated.get(part) if each else None for each in winners]
        present = [each for each in repeated if each is not None]
        common = [each for each in present[0].ids if all(each in other.ids for other in present)] if present else []
        if len(present) == len(winners) and len({each.noun for each in present}) == 1 and common:
            return part, common
    return "", []


def _noun(winners: Sequence[Contender | None], part: str) -> str:
    return next((each.repeated[part].noun for each in winners if each and part in each.repeated), "seed")


def _difference(one: Repeated | None, other: Repeated | None, in_points: bool) -> Interval | None:
    if one is None or other is None or (difference := one.difference(other)) is None:
        return None
    mean, low, high = (value * (100 if in_points else 1) for value in difference[:3])
    return Interval(mean, low, high, difference.seeds)


def _curve(recorded: RecordedRun, scores: Scores, winner: Contender) -> tuple[np.ndarray, list[Interval]]:
    """Return the steps and the validation loss of the winner at each, with intervals over seeds or folds."""
    by_step: dict[int, dict[int, list[float]]] = {}
    repeated = next(iter(winner.repeated.values()), Repeated(np.zeros(0), []))
    for record in records(recorded.path / "metrics.jsonl"):
        loss, step = record.get("validation_loss"), record.get("step")
        if isinstance(loss, int | float) and isinstance(step, int) and _is_of(record, winner.chosen):
            by_step.setdefault(step, {}).setdefault(record.get(repeated.noun, 0), []).append(float(loss))
    steps = sorted(by_step)
    means = [np.array([np.mean(values) for values in by_step[step].values()]) for step in steps]
    return np.array(steps, float), [repeated.over(each) for each in means]


def _is_of(record: Mapping[str, Any], chosen: Mapping[str, str | float]) -> bool:
    """Return whether a record is of a contender at its chosen settings."""
    for name, value in chosen.items():
        stored = record.get(name)
        if isinstance(value, str) or not isinstance(stored, int | float):
            if stored != value:
                return False
        elif not math.isclose(stored, value, rel_tol=1e-6):  # rates are float32 in records
            return False
    return not record.get("refit")


def _rows(recorded: RecordedRun) -> Any:
    dataset = recorded.summary.get("dataset")
    return dataset.get("rows") if isinstance(dataset, dict) else None


def _machine(recorded: RecordedRun) -> str:
    devices = recorded.environment.get("devices")
    kind = devices.get("kind") if isinstance(devices, dict) else None
    return f"{recorded.device_count or '?'} × {kind or 'unknown device'}, {recorded.environment.get('cpu') or ''}"


def _text(value: Any) -> str:
    """Return the text of a flag as the command line takes it."""
    if value is None:
        return DEFAULT
    if isinstance(value, list):
        return ",".join(map(_text, value)) or DEFAULT
    return value if isinstance(value, str) else json.dumps(value)
