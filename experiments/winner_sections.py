"""The sections of a report that look into a model: importances, partial dependence, calibration, errors."""

from collections.abc import Callable, Sequence

import numpy as np

from experiments.winner import Winner
from mllab import explanation
from mllab.criteria import CRITERIA
from mllab.metrics import Interval
from mllab.report import table
from mllab.report.class_tables import class_table, pair_table
from mllab.report.report import Block, Drawing, Section
from mllab.report.table import Table, legible

MAX_IMPORTANCES = 20  # columns in the drawing


def sections(winner: Winner) -> list[Section]:
    """Return the sections: what the predictions depend on, how good they are, and the rows with the largest errors."""
    quality = ("Calibration and errors by class", _classes) if winner.target.classes else ("Residuals", _residuals)
    parts: list[tuple[str, Callable[[Winner], Sequence[Block | None]]]] = [
        ("What the predictions depend on", _dependence),
        quality,
        ("The rows with the largest errors", _most_wrong),
    ]
    return [Section(heading, blocks) for heading, made in parts if (blocks := made(winner))]


def _dependence(winner: Winner) -> list[Block]:
    from mllab.report import draw

    if not winner.importance:
        return []
    criterion, of_points = winner.criterion, 100.0 if winner.criterion.points else 1.0
    unit = criterion.points or (winner.target.in_unit if criterion.in_target_unit else "")
    what = f"{'drop' if criterion.greater_is_better else 'rise'} of the {criterion.label}"
    shown = winner.importance[:MAX_IMPORTANCES]
    left_out = len(winner.importance) - len(shown)
    first = shown[0]
    cost = table.number(*(of_points * bound for bound in first.drop[:3]))
    verb = "lowers" if criterion.greater_is_better else "raises"
    title = (
        f"Shuffling {legible(first.column)} {verb} the {criterion.label} most, by {cost} {legible(unit)}".rstrip()
        if first.drop.sign > 0
        else "No column's importance is clearly above 0"
    )
    blocks: list[Block] = [
        Drawing(
            "importance",
            draw.dots_with_intervals(
                [each.column for each in shown],
                of_points * np.array([each.drop[:3] for each in shown]),
                title=title,
                x_label=f"{what} ({unit})" if unit else what,
                notes=[
                    "Lines: 95% intervals. Grey: the interval includes 0.",
                    f"{left_out} columns of less importance are left out." if left_out else "",
                ],
            ),
            "The importance of each column as a dot with its interval, the greatest at the top",
            f"Permutation importance: how much worse the score is on {winner.explained_rows:,} held-out rows with the "
            f"column's values shuffled among them ({winner.repeats} times). Intervals: over the sampling of these rows "
            "and over the shuffles, for this fitted model. Columns that carry the same information share their "
            "importance, so that each of them may look unimportant; what matters to this model need not be a cause.",
        )
    ]
    if winner.responses:
        label = winner.target.with_unit(legible(winner.target.name))
        if winner.target.classes:
            label = "probability" if winner.curves else f"probability of {legible(winner.target.classes[1])}"
        spread = "" if winner.curves else "Bands: from 10% to 90% of the rows."
        by_row = [
            draw.Response(each.column, each.x, each.mean, each.low, each.high, each.unit) for each in winner.responses
        ]
        plural = "s" * (len(by_row) > 1)
        blocks.append(
            Drawing(
                "dependence",
                draw.dependence(
                    by_row,
                    title=f"Mean prediction by the most important column{plural}",
                    y_label=label,
                    classes=winner.curves,
                    notes=["Means over rows.", spread, "Marks at the foot: values of the rows, from 2.5% to 97.5%."],
                ),
                "The mean prediction against the values of each of the most important columns",
                "Partial dependence: the mean prediction over the held-out rows if all of them had this value and kept "
                "their other values. Where columns go together, that includes combinations that never occur, to which "
                "the model extrapolates. It describes the model, not what would happen if the value were changed.",
            )
        )
    return blocks


def _classes(winner: Winner) -> list[Block]:
    from mllab.report import draw

    blocks: list[Block] = [_scores(winner)]
    if (made := winner.calibration) is not None:
        observed = np.array([each.observed[:3] for each in made.bins])
        probabilities = np.array([each.predicted for each in made.bins])
        rows = np.array([each.observed.seeds for each in made.bins])
        outside = int(sum(not low <= p <= high for p, (_, low, high) in zip(probabilities, observed, strict=True)))
        is_binary = len(winner.target.classes) == 2
        of = legible(winner.target.classes[1]) if is_binary else "the predicted class"
        blocks.append(
            Drawing(
                "calibration",
                draw.reliability(
                    probabilities,
                    observed,
                    rows,
                    title=f"Calibration: {outside} of {len(rows)} bins differ clearly from the predicted probability",
                    x_label=f"predicted probability of {of}",
                    y_label=f"share of rows that are {of}"
                    if is_binary
                    else "share of rows whose predicted class is right",
                    notes=["Lines: 95% intervals (Wilson) over rows."],
                ),
                "Observed frequency against predicted probability, with the diagonal of perfect calibration",
                f"Expected calibration error: {table.fixed(100 * made.error, 1)} points, the mean distance from the "
                "diagonal. Even a perfectly calibrated model has an error above 0 on finitely many rows: of 10 bins, "
                "one or none should miss the diagonal by its interval.",
            )
        )
    confusion, classes = winner.confusion, winner.target.classes
    assert confusion is not None
    total, wrong = int(confusion.sum()), int(confusion.sum() - np.trace(confusion))
    title = f"Confusion matrix: {wrong:,} of {total:,} held-out rows are misclassified"
    blocks.append(
        Drawing("confusion", draw.confusion(confusion, classes, title=title), "Rows by true and by predicted class")
    )
    blocks.append(class_table(winner.per_class))
    if wrong and len(classes) > 2:
        blocks.append(pair_table(confusion, classes))
    return blocks


def _residuals(winner: Winner) -> list[Block]:
    from mllab.report import draw

    truths, predictions = winner.truths, winner.predictions
    assert truths is not None
    assert predictions is not None
    name, with_unit = legible(winner.target.name), winner.target.with_unit
    errors = truths - predictions
    line = explanation.running(predictions, errors)
    mean = table.significant(float(errors.mean()), 2)
    return [
        _scores(winner),
        Drawing(
            "predicted",
            draw.predicted_against_true(
                truths,
                predictions,
                title=f"Predictions of {name} against the truth, {len(truths):,} held-out rows",
                x_label=with_unit(f"true {name}"),
                y_label=with_unit(f"predicted {name}"),
            ),
            "Predictions against true values, with the diagonal on which they agree",
            "Points above the diagonal are predicted too high. Predictions vary less than true values wherever the "
            "columns do not determine them.",
        ),
        Drawing(
            "residuals",
            draw.residuals(
                predictions,
                errors,
                draw.Running(*line),
                title=f"Residuals against predictions: {mean} on average",
                x_label=with_unit(f"predicted {name}"),
                y_label=with_unit("truth less prediction"),
                notes=["Line: running mean; band: from 10% to 90% of the rows."],
            ),
            "Residuals against predictions, with their running mean and band",
            "Where the line is away from 0, the model is systematically wrong; where the band widens, it is less "
            "certain. A fan suggests a log scale of the target.",
        ),
    ]


def _scores(winner: Winner) -> Table:
    """Return the scores of the model and of the baseline."""
    rows = [CRITERIA[name] for name in winner.scored[0].scores]
    unit = legible(winner.target.in_unit)
    columns = [f"{row.label} ({unit})" if row.in_target_unit else row.label for row in rows]

    def text(name: str, value: Interval) -> str:
        return table.percent(value) if name == "accuracy" else table.interval(value)

    cells = [[legible(by.name), *(text(name, value) for name, value in by.scores.items())] for by in winner.scored]
    caption = (
        f"{winner.rows:,} held-out rows; ± 95% interval over rows; last row: the baseline, the "
        f"{winner.scored[-1].name} of the training rows"
    )
    if winner.target.classes:
        caption += "; Brier score: squared distance of probabilities and truth, from 0 to 2"
    return Table(["predictions by", *columns], cells, caption=caption)


def _most_wrong(winner: Winner) -> list[Block]:
    if not winner.most_wrong:
        return [f"None: all {winner.rows:,} held-out rows are predicted correctly."]
    names = [legible(each.column) for each in winner.importance[: len(winner.most_wrong[0].values)]]
    rows: list[list[object]] = []
    for each in winner.most_wrong:
        if isinstance(each.truth, float) and isinstance(each.prediction, float):
            verdict = [
                *(table.significant(value, 4) for value in (each.truth, each.prediction)),
                table.significant(each.truth - each.prediction, 3),
            ]
        else:
            verdict = [
                legible(str(each.truth)),
                legible(str(each.prediction)),
                table.probability(each.probability or 0),
            ]
        rows.append([str(each.file_row), *verdict, *map(legible, each.values)])
    last = "probability" if winner.target.classes else "truth less prediction"
    by = "the lowest probability of the true class" if winner.target.classes else "the largest absolute error"
    caption = f"row: its number in the file; the held-out rows with {by}"
    if names:
        caption += f", and their values of the {len(names)} most important columns"
    caption += "; look for wrong labels, typing errors and kinds of rows that the columns do not tell apart"
    return [Table(["row", "truth", "prediction", last, *names], rows, caption=caption)]
