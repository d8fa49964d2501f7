"""The scores of a finished run by seed or by fold, as its summary.json records them: one function an experiment."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from experiments.recorded_run import RecordedRun, records
from mllab import criteria, metrics
from mllab.errors import UserError, unknown
from mllab.metrics import Interval


@dataclass(frozen=True)
class Repeated:
    """A score of each seed or of each fold."""

    values: np.ndarray  # [G]
    ids: Sequence[int]  # [G] numbers of the seeds, or of the folds
    noun: str = "seed"  # or "fold"
    widening: float = 1.0  # of the interval of the mean: folds share training rows, see `validation.interval`

    def over(self, values: np.ndarray) -> Interval:
        """Return the mean of values [G] on such seeds or folds, and its 95% interval."""
        plain = metrics.interval(values)
        half = self.widening * (plain.high - plain.mean)
        return Interval(plain.mean, plain.mean - half, plain.mean + half, plain.seeds)

    def at(self, ids: Iterable[int]) -> np.ndarray:
        """Return the scores of some of the seeds or folds."""
        place = {each: index for index, each in enumerate(self.ids)}
        return self.values[[place[each] for each in ids]]

    def difference(self, other: "Repeated") -> Interval | None:
        """Return this score less another, paired by the seeds or folds that both have; None where there are none."""
        common = [each for each in self.ids if each in other.ids]
        if self.noun != other.noun or not common:
            return None
        return self.over(metrics.paired(self.at(common), other.at(common)))


@dataclass(frozen=True)
class Contender:
    """An optimizer, cell or model, at its chosen settings."""

    name: str
    validation: Interval | None  # as recorded: over seeds, folds or rows
    test: Interval | None
    repeated: Mapping[str, Repeated]  # "validation" and "test", where a score of each seed or fold is recorded
    chosen: Mapping[str, str | float]  # values of its records in metrics.jsonl


@dataclass(frozen=True)
class Scores:
    """Contenders that one score judges."""

    title: str  # where an experiment has several such groups
    noun: str  # of the contenders: "optimizer"
    label: str  # of the score, with its unit
    contenders: Sequence[Contender]
    best: str | None  # the name of the one that the run chose
    greater_is_better: bool = True
    in_points: bool = False  # whether differences are shown in percentage points
    baselines: Mapping[str, float] = field(default_factory=dict)  # scores on test rows
    loss: str = ""  # label of the curves of the validation loss, with the unit; empty where none are recorded

    @property
    def winner(self) -> Contender | None:
        """The contender that the run chose."""
        return next((each for each in self.contenders if each.name == self.best), None)


def read(recorded: RecordedRun) -> list[Scores]:
    """Return the scores of a run.

    Raises:
        UserError: an experiment whose scores are not paired, or a summary of another version.
    """
    if recorded.experiment not in READERS:
        raise UserError(f"{recorded.path}: {unknown('experiment to compare', recorded.experiment, READERS)}")
    try:
        return READERS[recorded.experiment](recorded)
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{recorded.path / 'summary.json'} lacks the scores that this version of {recorded.experiment} records "
            f"({type(error).__name__} {error}): repeat the run"
        ) from None


# ── One function an experiment ──────────────────────────────────────────────────────────────────────────────────────


def _of_race(run: RecordedRun) -> list[Scores]:
    summary, contenders = run.summary, []
    rates, seeds, folds = summary["learning_rates"], summary["seeds"], summary["folds"]
    headline = summary["score"]["headline"]
    for each in summary["optimizers"]:
        rate, repeated = each["learning_rate"], {}
        if rate is not None:
            at_rate = each["validation_by_rate"][rates.index(rate)]
            parts = {"validation": at_rate, "test": each["test_by_seed"].get(headline) or []}
            recorded = {"validation": each["validation"], "test": each["test"].get(headline)}
            repeated = _repeated(
                {
                    part: _by_fold(values, recorded[part], folds) if len(values) == folds * len(seeds) > len(seeds)
                    else Repeated(_numbers(values), seeds)
                    for part, values in parts.items()
                }
            )  # fmt: skip
        chosen = {"optimizer": each["optimizer"], "learning_rate": rate or math.nan}
        test = _interval(each["test"].get(headline))
        contenders.append(Contender(each["optimizer"], _interval(each["validation"]), test, repeated, chosen))
    return [_classifier(summary, "optimizer", contenders, summary["winner"], summary["score"]["loss_unit"])]


def _of_images(run: RecordedRun) -> list[Scores]:
    summary, seeds = run.summary, run.summary["seeds"]
    recorded, last = summary["validation"]["accuracy"], {}
    for record in records(run.path / "metrics.jsonl"):
        last[record.get("seed")] = record.get("validation_accuracy")
    repeated = {"test": Repeated(_numbers(summary["test_by_seed"]["accuracy"]), seeds)}
    validation = _numbers([last.get(seed) for seed in seeds])
    if math.isclose(validation.mean(), recorded[0] or math.nan, rel_tol=1e-6):  # the records are of the same params
        repeated["validation"] = Repeated(validation, seeds)
    net = Contender(
        run.flags["model"], _interval(recorded), _interval(summary["test"]["accuracy"]), _repeated(repeated), {}
    )
    summary = {"score": {"headline": "accuracy", "label": "accuracy"}, **summary}
    return [_classifier(summary, "net", [net], net.name, "nats")]


def _of_cells(run: RecordedRun) -> list[Scores]:
    summary = run.summary
    cells = [_of_cell(each, each["cell"], {"cell": each["cell"]}) for each in summary["cells"]]
    label, baselines = "loss (nats per character)", summary["baselines"]
    return [Scores("", "cell", label, cells, summary["best"], False, baselines=baselines, loss=f"validation {label}")]


def _of_music(run: RecordedRun) -> list[Scores]:
    groups = []
    for output, baselines in run.summary["baselines"].items():
        rows = [each for each in run.summary["scores"] if each["output"] == output]
        cells = [_of_cell(each, each["cell"], {"model": f"{output}_{each['cell']}"}) for each in rows]
        best, label = _least(cells), "loss (nats per frame)"
        groups.append(
            Scores(output, "cell", label, cells, best, False, baselines=baselines, loss=f"validation {label}")
        )
    return groups


def _of_series(run: RecordedRun) -> list[Scores]:
    summary, models = run.summary, []
    for each in summary["models"]:
        by_seed = _numbers(each["by_seed"])
        repeated = _repeated({"test": Repeated(by_seed, range(len(by_seed)))})
        chosen = {"cell": each["name"]}
        models.append(Contender(each["name"], _interval(each["validation"]), _interval(each["test"]), repeated, chosen))
    naive = {each["name"]: each["test"][0] for each in summary["naive"]}
    loss = "validation loss (of scaled values)"
    return [Scores("", "model", "MASE", models, _least(models), False, baselines=naive, loss=loss)]


def _of_agents(run: RecordedRun) -> list[Scores]:
    summary, agents = run.summary, []
    for each in summary["agents"]:
        by_seed = _numbers(each["returns"]["by_seed"])
        repeated = _repeated({"test": Repeated(by_seed, range(len(by_seed)))})
        agents.append(Contender(each["agent"], None, _interval(each["returns"]["mean"]), repeated, {}))
    baselines = {summary["random"]["name"]: summary["random"]["mean"][0]}
    best = agents[0].name if agents and agents[0].test is not None else None
    return [Scores("", "agent", "return", agents, best, True, baselines=baselines)]


def _of_selection(run: RecordedRun) -> list[Scores]:
    summary, models = run.summary, []
    criterion = criteria.CRITERIA[summary["criterion"]]
    for each in summary["models"]:
        held_out, test, values = each["held_out"], _interval(each["test"]), each["by_fold"]
        repeated = _repeated({"validation": _by_fold(values, held_out, len(values))})
        models.append(Contender(each["name"], _interval(held_out), test, repeated, {}))
    constant = next((each for each in summary["models"] if each["name"] == "constant" and each["test"]), None)
    return [
        Scores(
            "", "model", criterion.label, models, summary["winner"], criterion.greater_is_better,
            bool(criterion.points), {constant["label"]: constant["test"][0]} if constant else {},
        )
    ]  # fmt: skip


READERS: Mapping[str, Callable[[RecordedRun], list[Scores]]] = {
    "optimizer_race": _of_race,
    "image_classifier": _of_images,
    "char_rnn": _of_cells,
    "music": _of_music,
    "time_series": _of_series,
    "reinforcement": _of_agents,
    "model_selection": _of_selection,
}


def _of_cell(row: Mapping[str, Any], name: str, chosen: Mapping[str, str | float]) -> Contender:
    """Return a cell of a recurrent network, whose losses are recorded by seed."""
    parts = {part: _numbers(row[f"{part}_by_seed"]) for part in ("validation", "test")}
    repeated = _repeated({part: Repeated(values, range(len(values))) for part, values in parts.items()})
    rate = math.nan if row["learning_rate"] is None else row["learning_rate"]
    return Contender(
        name, _interval(row["validation"]), _interval(row["test"]), repeated, {**chosen, "learning_rate": rate}
    )


def _least(contenders: Sequence[Contender]) -> str | None:
    """Return the name of the contender with the least mean validation loss."""
    means = {each.name: each.validation.mean for each in contenders if each.validation is not None}
    return min(means, key=lambda name: means[name]) if means else None


def _classifier(
    summary: Mapping[str, Any], noun: str, contenders: Sequence[Contender], best: str | None, unit: str
) -> Scores:
    """Return scores that a task names, such as accuracy, with those of the constant prediction."""
    score, baseline = summary["score"], summary["baseline"]
    constant = baseline["scores"].get(score["headline"])
    baselines = {} if constant is None else {baseline["name"]: constant}
    loss = f"validation loss ({unit})"
    return Scores("", noun, score["label"], contenders, best, True, True, baselines, loss)


def _by_fold(values: Sequence[float | None], recorded: Sequence[float | None], folds: int) -> Repeated:
    """Return scores of lanes, fold by fold, as means over the seeds of each fold.

    The recorded interval of their mean says by how much it is wider than for independent scores.
    """
    means = _numbers(values).reshape(folds, -1).mean(axis=1) if len(values) else np.zeros(0)
    widening = 1.0
    if folds > 1 and len(values) and (bounds := _interval(recorded)):
        plain = metrics.interval(means)
        if plain.high > plain.mean and math.isfinite(bounds.high):
            widening = max(1.0, (bounds.high - bounds.mean) / (plain.high - plain.mean))
    return Repeated(means, range(1, len(means) + 1), "fold", widening)


def _repeated(parts: Mapping[str, Repeated]) -> dict[str, Repeated]:
    """Return the parts that have a finite score for each seed or fold.

    Raises:
        ValueError: not one score for each.
    """
    for each in parts.values():
        if each.values.ndim != 1 or (each.values.size and len({*each.ids}) != each.values.size):
            raise ValueError(f"{each.values.size} scores of {len(each.ids)} {each.noun}s")
    return {part: each for part, each in parts.items() if each.values.size and np.isfinite(each.values).all()}


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    """Return numbers of JSON, where null stands for one that is not finite."""
    return np.array([math.nan if value is None else value for value in values], float)


def _interval(values: Sequence[float | None] | None) -> Interval | None:
    if values is None or values[0] is None:
        return None
    mean, low, high = _numbers(values[:3]).tolist()
    return Interval(mean, low, high, int(values[3] or 0))
