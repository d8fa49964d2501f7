"""The answer and the table of an image classifier."""

from experiments import answers
from experiments.image_training import Measurement
from mllab.report import table


def result_table(measured: Measurement) -> table.Table:
    """Return accuracy and loss on test, validation and training rows, and the baseline."""
    seeds = len(measured.seeds)
    rows: list[list[object]] = [
        [part, f"{scores.rows:,}", table.percent(scores.accuracy), table.interval(scores.loss)]
        for part, scores in (("test", measured.test), ("validation", measured.validation), ("train", measured.train))
        if scores
    ]
    constant = measured.baseline
    rows.append([answers.constant_row(constant), rows[0][1], table.share(constant.scores["accuracy"], 2), None])
    caption = (
        f"{answers.over(seeds, 'seed', ', one split')}; {'each seed' if seeds > 1 else 'scored'} with the params of "
        f"its least validation loss; {answers.LAST_ROW}, on test rows"
    )
    return table.Table(["rows", "number", "accuracy", "loss (nats)"], rows, caption=caption)


def answer(measured: Measurement) -> str:
    """Return the test accuracy in a sentence, and the gap to the training rows in another."""
    seeds, test, name = len(measured.seeds), measured.test, measured.dataset.name
    if measured.train is None or measured.gap is None:
        lost = f"{len(measured.nonfinite)} of {seeds} seeds" if seeds > 1 else "The run"
        return f"{lost} went non-finite, so nothing is reported or published: try a smaller learning rate."
    constant, gain = f"predicting {measured.baseline.name}", test.accuracy.mean - measured.baseline.scores["accuracy"]
    text = (
        f"{answers.below_baseline(measured.beats_baseline, gain, constant)}{table.percent(test.accuracy)} of the "
        f"{test.rows:,} test rows of {name} are classified correctly ({answers.counted(seeds, 'seed')}); {constant}: "
        f"{table.share(measured.baseline.scores['accuracy'], 2)}."
    )
    if measured.failed:
        text += f" {len(measured.failed)} of {answers.counted(seeds, 'seed')} failed: "
        text += "a validation loss no better than chance."
    size, half = abs(measured.gap.mean), measured.gap.high - measured.gap.mean
    return (
        f"{text} Accuracy on training rows is {table.percent(measured.train.accuracy)}: "
        f"{table.number(size, size - half, size + half)} points {'higher' if measured.gap.mean >= 0 else 'lower'}"
        f"{' (not clear)' * (seeds > 1 and measured.gap.sign == 0)}."
    )
