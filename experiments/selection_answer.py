"""The answer of a model selection, its table, and the sentences around them."""

from collections.abc import Sequence

import numpy as np

from experiments import answers
from experiments.selection_results import Measurement, Model
from mllab import criteria
from mllab.metrics import Interval
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Section
from mllab.report.table import BLANK, Table, interval, legible, number, percent, points, short, significant

MAX_DRAWN = 8  # curves in one figure


def score_text(criterion: str, values: Interval | None) -> str:
    """Return a score of a criterion: accuracy in percent, all others in their own unit."""
    if values is None:
        return BLANK
    return percent(values) if criteria.CRITERIA[criterion].points else interval(values)


def difference_text(criterion: str, values: Interval) -> str:
    """Return a difference of scores: of accuracies in points."""
    return f"{points(values)} points" if criteria.CRITERIA[criterion].points else number(*values[:3])


def result_table(measured: Measurement) -> Table:
    """Return one row per model: held-out, inner and test scores, costs, and the chosen setting."""
    row = criteria.CRITERIA[measured.criterion]
    tested = any(model.test for model in measured.models)
    densities = any(model.log_likelihood for model in measured.models)
    columns = ["model", f"held-out {row.label}", "inner", "optimism", *[f"test {row.label}"] * tested,
               *["log likelihood"] * densities, "fit (s)", "predict (ms / 1,000 rows)", "setting"]  # fmt: skip
    kept = [model for model in measured.models if not model.left_out]
    rows = []
    for model in kept:
        inner = None if model.inner is None else Interval(model.inner, float("nan"), float("nan"), 1)
        optimism = BLANK if model.optimism is None else difference_text(measured.criterion, model.optimism)
        rows.append([
            model.label,
            score_text(measured.criterion, model.held_out),
            score_text(measured.criterion, inner),
            optimism.removesuffix(" points"),
            *[score_text(measured.criterion, model.test)] * tested,
            *[interval(model.log_likelihood)] * densities,
            significant(model.fit_seconds, 2),
            significant(None if model.predict_seconds is None else 1000 * model.predict_seconds, 2),
            model.setting or BLANK,
        ])  # fmt: skip
    marked = [place for place, model in enumerate(kept) if model.name in measured.standing.marked]
    unit = f", in units of {legible(measured.dataset.target)}" if row.in_target_unit else ""
    better = "higher" if row.greater_is_better else "lower"
    caption = [
        answers.marks(measured.standing, f"held-out {row.label}", "fold").replace("highest", "best"),
        f"held-out {row.label}{unit} ({better} is better): settings chosen by inner folds, scored on the outer ones, "
        f"± corrected 95% interval over {measured.folds}",
        "inner: the mean score by which settings were chosen; optimism: by how much that is better than the held-out "
        "score" + (", in points" if row.points else ""),
        f"test: {measured.dataset.rows['test']:,} held-out rows, ± over the sampling of rows" * tested,
        "log likelihood: of held-out rows, Gaussian, in nats" * densities,
        "fit: on all rows to choose by, without compilation",
    ]
    return Table(columns, rows, marked, "; ".join(filter(None, caption)))


def answer(measured: Measurement) -> str:
    """Return which model is best or which are tied, by how much, and what the test rows say."""
    won, row = measured.won, criteria.CRITERIA[measured.criterion]
    labels = {model.name: model.label for model in measured.models}
    text = ""
    if measured.beats_constant is False:
        text = f"No model is clearly better than predicting the {labels['constant']}. "
    if len(measured.tied) > 1:
        names = [labels[name] for name in measured.tied]
        tie = answers.tie(names, won.label, f"held-out {row.label}", "folds").replace("highest", "best")
        text += _capital(tie.replace("clearly below", "clearly behind")) + " "
    described = f" ({won.setting})" if won.setting else ""
    text += (
        f"{_capital(won.label)}{described}: held-out {row.label} {score_text(measured.criterion, won.held_out)} over "
        f"{measured.folds}, settings chosen inside each fold"
    )
    if constant := next((model for model in measured.models if model.name == "constant" and model is not won), None):
        text += f"; predicting the {constant.label}: {score_text(measured.criterion, constant.held_out)}"
    text += "."
    if won.test:
        text += (
            f" On {measured.dataset.rows['test']:,} test rows that played no part in any choice: {row.label} "
            f"{score_text(measured.criterion, won.test)}."
        )
    if lead := measured.ahead:
        by = difference_text(measured.criterion, lead.by)
        text += f" On the same folds it is {lead.verdict} {labels[lead.of]}, the next: by {by}."
    return text


def remarks(measured: Measurement) -> list[str]:
    """Return what to know before trusting the result: models left out, flattering folds, warnings of the data."""
    lines = [f"{model.label}: left out: {model.left_out}" for model in measured.models if model.left_out]
    kind = {"rmse": "squared error, standardised,"}.get(measured.criterion) or criteria.CRITERIA[
        measured.criterion
    ].label
    for name, each in measured.flattered.items():
        lines.append(
            f"{legible(name)} looks like the name of a group ({each.groups:,} values): without that column a simple "
            f"model scores {short(abs(each.random))} with random folds and {short(abs(each.grouped))} where all rows "
            f"of one {legible(name)} are on one side (mean {kind} of a row): use --group={legible(name)} unless new "
            "rows come from the same groups"
        )
    return [*lines, *measured.warnings]


def budget_section(measured: Measurement) -> Section:
    """Return the section on how the expected score grows with the number of settings that are tried."""
    row = criteria.CRITERIA[measured.criterion]
    drawn = [(name, curve) for name, curve in measured.search.items() if len(curve["score"]) > 1]
    labels = {model.name: model.label for model in measured.models}
    ranked = [name for name in measured.standing.names if name in dict(drawn)][:MAX_DRAWN]
    if not ranked:
        return Section("What tuning buys", [])
    scale = 100 if row.points else 1
    series = [
        draw.Series(
            labels[name],
            np.asarray(measured.search[name]["tried"], float),
            scale * np.asarray(measured.search[name]["score"]),
            name=name,
        )
        for name in ranked
    ]
    figure = draw.curves(
        series,
        title="Expected held-out score of the best of n settings",
        x_label="n, settings that are tried",
        y_label=f"held-out {row.label}" + (" (%)" if row.points else ""),
        log_x=True,
        markers=False,
        note="Settings are drawn at random from those of the model, and chosen by inner folds (Dodge et al. 2019).",
    )
    return Section("What tuning buys", [
        Drawing("expected_score", figure, "Expected held-out score against the number of settings tried"),
        "Left: with no tuning, a random setting of the model. Right: with all of its settings. Where curves cross, "
        "which model is best depends on how many settings one can afford to try.",
    ])  # fmt: skip


def comparison_section(measured: Measurement, lines: Sequence[str]) -> Section:
    """Return the section on the winner and the next on the same rows."""
    items = list(lines)
    labels = {model.name: model.label for model in measured.models}
    if measured.ahead and measured.on_test:
        by = difference_text(measured.criterion, measured.on_test)
        items.append(
            f"On the same test rows the score of {measured.won.label} is {by} better than that of "
            f"{labels[measured.ahead.of]} (95% bootstrap interval over rows; below 0: worse)."
        )
    if test := measured.mcnemar:
        items.append(
            f"McNemar's test: {test.only_first:,} test rows only the first gets right, {test.only_second:,} only the "
            f"second; p = {short(test.p_value, 2)} under equal accuracy."
        )
    return Section("The comparison", [Bullets(items)])


def costs_section(models: Sequence[Model]) -> Section:
    """Return the section on what each model's search took."""
    rows = [[model.label, significant(model.search_seconds, 2), model.left_out or BLANK] for model in models]
    return Section("What the search took", [Table(["model", "search (s)", "left out"], rows)])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
