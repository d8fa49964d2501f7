"""The answer and the table of an optimizer race."""

from experiments import answers
from experiments.race_measurement import Measurement, steps_cell, width_cell
from mllab.race_results import Result
from mllab.report import table

MAX_NAMED = 4  # tied optimizers whose test scores the answer lists; of more, the table does


def result_table(measured: Measurement) -> table.Table:
    """Return one row per optimizer, and the baseline: chosen rate, test scores, speed, sensitivity, diverged lanes."""
    target, seeds = table.significant(measured.target), len(measured.seeds)
    reported, baseline = measured.score.reported, measured.baseline
    rows: list[list[object]] = []
    for each in measured.optimizers:
        scores = [table.interval(each.test.get(score.name)) for score in reported]
        lost = [f"{len(lanes)}/{measured.lanes_each}" for lanes in (each.nonfinite, each.failed)]
        rate = table.significant(each.learning_rate)
        rows.append([each.optimizer, rate, *scores, steps_cell(each), width_cell(each.width), *lost])
    constant = [table.number(baseline.scores[score.name]) for score in reported]
    rows.append([answers.constant_row(baseline), None, *constant, *[None] * 4])
    mean = ", mean over seeds" if seeds > 1 else ""
    marked = measured.standing.marked if measured.standing else []
    caption = [
        answers.marks(measured.standing, f"mean validation {measured.score.label}"),
        "" if measured.winner else "every rate of every optimizer has a non-finite lane",
        answers.over(seeds, "seed", ", one split", comparison=len(measured.optimizers) > 1),
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
    seeds = answers.counted(len(measured.seeds), "seed")
    if len(measured.tied) > 1 and measured.standing.is_compared:
        text += _tied(measured, winner, f"Test {score.label}, {seeds}", constant)
    else:
        text += (
            f"{winner.optimizer} at learning rate {table.short(winner.learning_rate)}: test {score.label} "
            f"{table.interval(winner.test[score.name])} ({seeds}); {constant}.{_lead(measured, seeds)}"
        )
    if [lane.learning_rate for lane in winner.failed].count(winner.learning_rate) == len(measured.seeds):
        text += f" The validation loss of {winner.optimizer} is no better than chance."
    return text


def _tied(measured: Measurement, winner: Result, label: str, constant: str) -> str:
    """Return which optimizers are tied, their test scores, and whose params are published."""
    name, score = winner.optimizer, measured.score.reported[0].name
    tested = [each for each in measured.optimizers if each.optimizer in measured.tied]
    shown = tested if len(tested) <= MAX_NAMED else [winner]
    scores = [f"{each.optimizer} {table.interval(each.test[score])}" for each in shown]
    text = answers.tie(measured.tied, name, f"mean validation {measured.score.label}", "seeds")
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
    if measured.ahead is None or measured.ahead_by_validation is None:
        return ""
    chosen, tested = measured.ahead_by_validation, measured.ahead
    return (
        f" On the same seeds it is {chosen.verdict} {chosen.of}, the next, by {table.interval(chosen.by)} "
        f"{chosen.unit} on validation rows; on test rows it is {tested.verdict} it: {table.interval(tested.by)} "
        f"{tested.unit}."
    )
