"""The answer, tables and drawings of runs side by side."""

from collections.abc import Iterator, Sequence

from experiments import answers
from experiments.run_comparison import Group, Measurement, Row
from mllab.metrics import Interval
from mllab.report import draw, style, table
from mllab.report.report import Drawing, Report, Section
from mllab.report.style import Style
from mllab.report.table import Table, legible

DASHES = (style.SOLID, style.DASHED, style.DOTTED, style.DASH_DOT)
MAX_CURVES = len(DASHES) * len(style.COLOURS)


def report(measured: Measurement) -> Report:
    """Return the report of runs side by side."""
    count = len(measured.runs)
    flags, result = flag_table(measured), result_table(measured)
    sections = [
        Section("The flags that differ", [flags or "No flag differs: `experiments.verify` compares the bits."]),
        Section("Curves", list(drawings(measured))),
        *(
            Section(f"Each {group.noun}{_of(group)}", [contender_table(measured, group)])
            for group in measured.groups
            if len({row.contender for row in group.contenders}) > 1
        ),
        Section("Seconds", [seconds_table(measured)]),
    ]
    return Report(
        title=f"{count} runs of {measured.runs_of}",
        question=f"Which of the {count} runs is best, and by how much?",
        answer=" ".join(answer(measured)),
        table=result,
        sections=sections,
        facts={
            "runs": [f"{run.label}: {run.folder}" for run in measured.runs],
            "machines": sorted({run.machine for run in measured.runs}),
            "intervals": "Differences are paired by seed or fold; their intervals are not corrected for the number of "
            "comparisons." if count > 2 else "Differences are paired by seed or fold.",
        },
        remarks=list(remarks(measured)),
        tables=[flags] if flags else [],
    )  # fmt: skip


def answer(measured: Measurement) -> Iterator[str]:
    """Yield a sentence for each group of scores."""
    if measured.other_data:
        yield f"The runs are not compared: they differ in {answers.joined(measured.other_data)}."
        return
    for group in measured.groups:
        yield (f"{group.title}: " if group.title else "") + _verdict(group)


def _verdict(group: Group) -> str:
    if group.best is None:
        return (
            "No scores of single seeds or folds are recorded for the best of every run (one diverged, or needs no "
            "seed): nothing is compared."
        )
    score, most = f"mean {group.part} {group.label}", "highest" if group.greater_is_better else "lowest"
    beyond, repeats = "below" if group.greater_is_better else "above", answers.counted(group.repeats, group.over)
    if not group.tied:
        return f"{group.best} has the {most} {score} ({repeats}): nothing is compared."
    if len(group.tied) > 1:
        return (
            f"{answers.joined(group.tied)} are tied: on the same {repeats}, none is clearly {beyond} the {most} "
            f"{score}, that of {group.best}{_lead(group)}."
        )
    best = next(row for row in group.winners if row.run == group.best)
    value = best.validation if group.part == "validation" else best.test
    text = f"{group.best} has the {most} {score}, {table.interval(value)}, and all others are clearly {beyond} it on "
    return text + f"the same {repeats}{_lead(group)}."


def _lead(group: Group) -> str:
    """Return the difference of the best run from the one that all are compared with, or of the others from it."""
    rows = [row for row in group.winners if row.run == group.best] if group.best != group.against else [
        row for row in group.winners if row.run != group.best
    ]  # fmt: skip
    pairs = [(row, row.validation_difference if group.part == "validation" else row.test_difference) for row in rows]
    leads = [(row, each) for row, each in pairs if each is not None]
    if not leads:
        return ""
    row, difference = min(leads, key=lambda lead: abs(lead[1].mean))
    return f"; {row.run} less {group.against}: {_difference(group, difference)}{' points' * group.in_points}"


def remarks(measured: Measurement) -> Iterator[str]:
    """Yield what limits the comparison."""
    if measured.other_data:
        yield f"no differences: the runs differ in {answers.joined(measured.other_data)}"
    if any(group.part == "test" for group in measured.groups):
        yield "ties are by test scores, the only ones recorded by seed: a run chosen by them looks better than it is"
    if len({run.machine for run in measured.runs}) > 1:
        yield "the runs were made on different machines: seconds do not compare"


def result_table(measured: Measurement) -> Table:
    """Return one row per run for each group of scores: its best contender; then the baselines."""
    rows: list[list[object]] = []
    marked: list[int] = []
    for group in measured.groups:
        for row, run in zip(group.winners, measured.runs, strict=True):
            if row.run in group.tied or (not group.tied and row.run == group.best):
                marked.append(len(rows))
            total = run.seconds.get("total")
            seconds = None if total is None else table.significant(total)
            rows.append([legible(row.run), _contender(group, row), *_scores(group, row), seconds])
        for name, value in group.baselines.items():
            rows.append([f"baseline: {name}", group.title, None, table.significant(value), None, None, None])
    group = measured.groups[0]
    columns = ["run", group.noun, *_score_columns(group), "seconds"]
    return _without_empty(columns, rows, marked, _caption(measured))


def contender_table(measured: Measurement, group: Group) -> Table:
    """Return the scores of each contender in all runs that have it, at its own chosen settings."""
    rows = [[_contender(group, row), legible(row.run), *_scores(group, row)] for row in group.contenders]
    caption = f"each {group.noun} at the settings that its run chose; differences from the same {group.noun}"
    return _without_empty([group.noun, "run", *_score_columns(group)], rows, [], caption)


def flag_table(measured: Measurement) -> Table | None:
    """Return the flags that differ, one row a flag, or None."""
    labels = [legible(run.label) for run in measured.runs]
    rows = [[f"--{name}", *map(legible, values)] for name, values in measured.differing_flags.items()]
    return Table(["flag", *labels], rows) if rows else None


def seconds_table(measured: Measurement) -> Table:
    """Return the wall time of each part of each run."""
    parts = list(dict.fromkeys(name for run in measured.runs for name in run.seconds if name != "total"))
    rows = [[part, *(table.significant(run.seconds.get(part)) for run in measured.runs)] for part in [*parts, "total"]]
    return Table(["part", *(legible(run.label) for run in measured.runs)], rows)


def drawings(measured: Measurement) -> Iterator[Drawing]:
    """Yield the curves of the validation loss of each run's best contender."""
    for number, group in enumerate(measured.groups):
        curves = {label: curve for label, curve in group.curves.items() if curve[0].size}
        if not curves:
            continue
        series = [
            draw.Series.of_intervals(
                label, steps, losses, style=_style(list(group.curves).index(label)), limits=(0, float("inf"))
            )
            for label, (steps, losses) in list(curves.items())[:MAX_CURVES]
        ]
        counts = {each.seeds for _, losses in curves.values() for each in losses}
        over = answers.counted(counts.pop(), group.over) if len(counts) == 1 else f"each run's {group.over}s"
        is_log = all((one.mean > 0).all() for one in series)
        figure = draw.curves(
            series, title=f"{measured.runs_of}: the best {group.noun} of each run{_of(group)}", x_label="step",
            y_label=f"{group.loss}{', log scale' * is_log}", log_y=is_log, over=over,
        )  # fmt: skip
        alt = f"{group.loss.capitalize()} against the step, one curve a run"
        yield Drawing(f"loss_by_step_{number + 1}" if number else "loss_by_step", figure, alt)


def _style(index: int) -> Style:
    colours = len(style.COLOURS)
    return Style(style.COLOURS[index % colours], DASHES[index // colours % len(DASHES)], style.MARKERS[index % colours])


def _score_columns(group: Group) -> list[str]:
    parts = ("validation", "test")
    less = f"less {legible(group.against or '')}"
    return [*(f"{part} {group.label}" for part in parts), *(f"{part}, {less}" for part in parts)]


def _scores(group: Group, row: Row) -> list[object]:
    differences = (row.validation_difference, row.test_difference)
    return [
        *(each and table.interval(each) for each in (row.validation, row.test)),
        *(each and _difference(group, each) for each in differences),
    ]


def _difference(group: Group, difference: Interval) -> str:
    if group.in_points:
        return table.points(difference)
    text = table.interval(difference)
    return f"+{text}" if difference.mean > 0 else text


def _contender(group: Group, row: Row) -> str:
    return " ".join(filter(None, (group.title, legible(row.contender) if row.contender else "none")))


def _of(group: Group) -> str:
    return f", {group.title}" if group.title else ""


def _without_empty(
    columns: Sequence[str], rows: Sequence[Sequence[object]], marked: Sequence[int], caption: str
) -> Table:
    """Return a table without the columns of which no cell is filled."""
    kept = [place for place in range(len(columns)) if any(row[place] is not None for row in rows)]
    return Table([columns[place] for place in kept], [[row[place] for place in kept] for row in rows], marked, caption)


def _caption(measured: Measurement) -> str:
    group = measured.groups[0]
    if measured.other_data:
        return f"± 95% intervals as each run recorded them; the runs differ in {answers.joined(measured.other_data)}"
    if not group.part:
        return "± 95% intervals as each run recorded them"
    order = "highest" if group.greater_is_better else "lowest"
    ties = " and those tied with it" * (len(group.tied) > 1)
    differences = f"differences{' (points)' * group.in_points} paired by {group.over}"
    return (
        f"± 95% intervals as each run recorded them, of {differences}: "
        f"{answers.counted(group.repeats, group.over)}; * {order} mean {group.part} {group.label}{ties}"
    )
