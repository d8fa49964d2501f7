"""The answer and the table of an optimizer race."""

from experiments import answers
from experiments.race_measurement import Measurement, RefitFacts, steps_cell, width_cell
from mllab.race_results import Result
from mllab.report import table

MAX_NAMED = 4  # tied optimizers whose test scores the answer lists; of more, the table does


def noun(measured: Measurement) -> str:
    """Return what optimizers are compared over: folds where there are any, else seeds."""
    return "fold" if measured.folds > 1 else "seed"


def compared_over(measured: Measurement) -> str:
    """Return what intervals of validation scores are over."""
    seeds = answers.counted(len(measured.seeds), "seed")
    if measured.folds == 1:
        return seeds
    return f"{measured.folds} folds" + (f", each the mean of {seeds}" if len(measured.seeds) > 1 else "")


def chosen_over(measured: Measurement) -> str:
    """Return what the mean is over by which learning rates are chosen."""
    return "folds and seeds" if measured.folds > 1 else "seeds"


def lanes_of_rate(measured: Measurement) -> str:
    """Return how many lanes a learning rate of an optimizer has."""
    seeds = answers.counted(len(measured.seeds), "seed")
    return seeds if measured.folds == 1 else f"{measured.folds} folds × {seeds}"


def tested_over(measured: Measurement) -> str:
    """Return how many params each optimizer was tested with."""
    return answers.counted(len(measured.seeds), "seed") if measured.refits else lanes_of_rate(measured)


def test_interval(measured: Measurement) -> str:
    """Return for a caption what the intervals of test scores are over."""
    count, several = len(measured.seeds), len(measured.optimizers) > 1
    if measured.refits:
        rest = ", refitted on all training and validation rows"
        return answers.over(count, "seed", rest, comparison=several and measured.folds == 1)
    if measured.folds > 1:
        return f"± 95% interval over {compared_over(measured)}; wider, as folds share training rows"
    return answers.over(count, "seed", ", one split", comparison=several)


def published(measured: Measurement) -> str:
    """Return for the facts of a report which params are published; empty if there are none."""
    if not measured.is_published:
        return ""
    if measured.refits:
        which = "the first seed, refitted: no rows are left to choose a seed by"
    elif measured.folds > 1:
        which = "of its folds and seeds the one with the best score on the rows that it held out"
    else:
        which = "of its seeds the best one"
    return f"of {measured.winner}: of tied optimizers the highest mean, {which}"


def refit_facts(measured: Measurement) -> list[str]:
    """Return for the facts of a report what was refitted, and for how long; empty without a refit."""
    lines = [f"{name}: {_length(each)}" for name, each in measured.refits.items()]
    if lines:
        lines.append(
            f"on all training and validation rows, for the mean of the epochs kept over {chosen_over(measured)}; no "
            "early stopping, as no rows are left to choose a step by"
        )
        if measured.settings.get("schedule", "constant") != "constant":
            lines.append(
                f"the learning rate follows the schedule of {measured.epochs} epochs, and stops with the refit"
            )
    return lines


def _length(refit: RefitFacts) -> str:
    return f"{answers.counted(refit.epochs, 'epoch')} ({answers.counted(refit.steps, 'step')})"


def refitted(measured: Measurement) -> str:
    """Return in a sentence what was refitted, and for how long; empty without a refit."""
    lengths = list(measured.refits.items())
    if not lengths:
        return ""
    same = len({each.epochs for _, each in lengths}) == 1
    epochs = _length(lengths[0][1]) if same else ", ".join(f"{name} {each.epochs}" for name, each in lengths)
    return (
        f" Refitted on all {lengths[0][1].rows:,} training and validation rows{'' if same else ', epochs'}"
        f"{' for' if same else ':'} {epochs}, the mean of those kept; no early stopping."
    )


def result_table(measured: Measurement) -> table.Table:
    """Return one row per optimizer, and the baseline: chosen rate, test scores, speed, sensitivity, diverged lanes."""
    target = table.significant(measured.target)
    reported, baseline = measured.score.reported, measured.baseline
    rows: list[list[object]] = []
    for each in measured.optimizers:
        scores = [table.interval(each.test.get(score.name)) for score in reported]
        lost = [f"{len(lanes)}/{measured.lanes_each}" for lanes in (each.nonfinite, each.failed)]
        rate = table.significant(each.learning_rate)
        rows.append(
            [
                each.optimizer,
                rate,
                *scores,
                steps_cell(each, "seed" if measured.folds == 1 else "lane"),
                width_cell(each.width),
                *lost,
            ]
        )
    constant = [table.number(baseline.scores[score.name]) for score in reported]
    rows.append([answers.constant_row(baseline), None, *constant, *[None] * 4])
    mean = f", mean over {chosen_over(measured)}" if measured.lanes_per_rate > 1 else ""
    marked = measured.standing.marked if measured.standing else []
    caption = [
        answers.marks(measured.standing, f"mean validation {measured.score.label}", noun(measured)),
        "" if measured.winner else "every rate of every optimizer has a non-finite lane",
        test_interval(measured),
        f"steps: to a validation {measured.score.label} of {target}{mean}" if measured.target else "",
        "decades: range of rates within one point of the best, ≥ where it reaches an end of the grid",
        answers.LAST_ROW,
    ]
    scores = [f"test {score.label}" for score in reported]
    steps = "steps" if measured.target is None else f"steps to {target}"
    columns = ["optimizer", "best rate", *scores, steps, "decades", "non-finite", "failed"]
    best = [place for place, each in enumerate(measured.optimizers) if each.optimizer in marked]
    return table.Table(columns, rows, best, "; ".join(filter(None, caption)))


def answer(measured: Measurement) -> str:
    """Return what won or is tied, by how much, and whether that is better than the baseline."""
    winner = next((each for each in measured.optimizers if each.optimizer == measured.winner), None)
    if winner is None or winner.learning_rate is None or measured.standing is None:
        return "Every learning rate of every optimizer has a non-finite lane: try smaller ones."
    baseline, score = measured.baseline, measured.score.reported[0]
    headline = measured.score.headline
    gain = winner.test[headline].mean - baseline.scores[headline]
    text = answers.below_baseline(measured.beats_baseline, gain, f"predicting {baseline.name}")
    constant = f"predicting {baseline.name}: {table.number(baseline.scores[score.name])}"
    seeds = tested_over(measured)
    if len(measured.tied) > 1 and measured.standing.is_compared:
        text += _tied(measured, winner, f"Test {score.label}, {seeds}", constant)
    else:
        text += (
            f"{winner.optimizer} at learning rate {table.short(winner.learning_rate)}: test {score.label} "
            f"{table.interval(winner.test[score.name])} ({seeds}); {constant}.{_lead(measured, seeds)}"
        )
    if [lane.learning_rate for lane in winner.failed].count(winner.learning_rate) == measured.lanes_per_rate:
        text += f" The validation loss of {winner.optimizer} is no better than chance."
    return text + refitted(measured)


def _tied(measured: Measurement, winner: Result, label: str, constant: str) -> str:
    """Return which optimizers are tied, their test scores, and whose params are published."""
    name, score = winner.optimizer, measured.score.reported[0].name
    tested = [each for each in measured.optimizers if each.optimizer in measured.tied]
    shown = tested if len(tested) <= MAX_NAMED else [winner]
    scores = [f"{each.optimizer} {table.interval(each.test[score])}" for each in shown]
    text = answers.tie(measured.tied, name, f"mean validation {measured.score.label}", f"{noun(measured)}s")
    text += f" {label}: {', '.join(scores)}; {constant}."
    if lead := measured.ahead:
        text += f" On test rows {name} less {lead.of}, the next by validation: {table.interval(lead.by)} {lead.unit}."
    return (
        f"{text} The published params are those of {name} at learning rate {table.short(winner.learning_rate or 0)}, "
        "the highest mean; rounding may pick another of the tied."
    )


def _lead(measured: Measurement, seeds: str) -> str:
    """Return by how much a winner without ties leads; nothing is compared on one seed."""
    if measured.standing and len(measured.standing.names) > 1 and not measured.standing.is_compared:
        return f" It has the highest validation {measured.score.label}; {seeds}: no comparison."
    if measured.ahead_by_validation is None:
        return ""
    chosen, tested = measured.ahead_by_validation, measured.ahead
    text = (
        f" On the same {noun(measured)}s it is {chosen.verdict} {chosen.of}, the next, by {table.interval(chosen.by)} "
        f"{chosen.unit} on validation rows"
    )
    if tested is None:
        return f"{text}."
    return f"{text}; on test rows it is {tested.verdict} it: {table.interval(tested.by)} {tested.unit}."
