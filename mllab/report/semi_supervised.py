"""What points without a label are worth: tables, figures and page, from the plain summary that summary.json holds.

A summary has `dataset` (name, rows {train, validation, test}, classes, licence, citation, notes); `columns` {given,
kept, variance, the share of it that the kept ones hold}; `split_seed`, `draws` (their seeds), `restarts`;
`covariances` and `components` a class, what could be chosen; `counts`, ascending, for each number of labels {labels;
alone and both, each {validation, the mean accuracy there; test, an interval over draws; test_by_draw; covariance and
components, what was chosen}; gain, the interval of the points by which both leads alone, draw by draw}; `every`
{labels, covariance, components, test}, with all training rows labelled; `bic` {components [K], values {covariance: [K]
or None where it was not fitted}, chosen {components, covariance}}; `panels` {labels, seed}, which draw is shown;
`climbs` [{labels, history, the mean log-likelihood of a point after each step of EM}]; and `fits` {all, short}, those
that stopped before EM had settled. The page also wants `seconds` by part, with their total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from mllab.report import figures as draw
from mllab.report import layout
from mllab.report.classifier import seconds_table
from mllab.report.page import Block, Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.palette import (
    BLACK,
    BLUE,
    DASH_DOT,
    DASHED,
    DOTTED,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    SOLID,
    VERMILLION,
    Style,
)
from mllab.report.series import span
from mllab.report.table import Table, number

Summary = Mapping[str, Any]
Count = Mapping[str, Any]

ALONE, BOTH, EVERY = "labelled alone", "labelled and unlabelled", "all rows labelled"

STYLES = {
    ALONE: Style(BLUE, DASHED, "s"),
    BOTH: Style(VERMILLION, SOLID, "o"),
    EVERY: Style(BLACK, DASH_DOT, ""),
    "full": Style(VERMILLION, SOLID, "o"),
    "diagonal": Style(BLUE, DASHED, "s"),
    "tied": Style(GREEN, DASH_DOT, "^"),
    "spherical": Style(PURPLE, DOTTED, "D"),
}
CLIMBS = (BLUE, SKY, GREEN, ORANGE, VERMILLION, PURPLE, BLACK)


def gain_table(summary: Summary) -> Table:
    """Return a row for each number of labels: both accuracies, and what the points without a label were worth."""
    rows = [
        [f"{count['labels']:,}", _percent(count["alone"]["test"]), _percent(count["both"]["test"]),
         _points(count["gain"]), verdict(count)]
        for count in summary["counts"]
    ]  # fmt: skip
    return Table(["labels in all", ALONE, BOTH, "gain (points)", "they"], rows, caption=_caption(summary))


def choice_table(summary: Summary) -> Table:
    """Return a row for each number of labels: the covariance that validation rows chose, and its accuracy there."""
    rows = [
        [f"{count['labels']:,}", *(cell for method in ("alone", "both") for cell in _chosen(summary, count[method]))]
        for count in summary["counts"]
    ]
    columns = ["labels in all", ALONE, "accuracy", BOTH, "accuracy"]
    grid = f"of {', '.join(summary['covariances'])} covariances"
    if len(summary["components"]) > 1:
        grid += f" × {_listed(summary['components'])} components a class"
    caption = f"{grid}: of those within a standard error of the best accuracy on validation rows, the one of least BIC"
    return Table(columns, rows, caption=caption)


def bic_table(summary: Summary) -> Table:
    """Return a row for each number of components: by how much each covariance's BIC exceeds the least of all."""
    bic = summary["bic"]
    least = min(value for values in bic["values"].values() for value in values if value is not None)

    def cell(covariance: str, position: int) -> str | None:
        value = bic["values"][covariance][position]
        if value is None:
            return None
        chosen = {"components": bic["components"][position], "covariance": covariance} == bic["chosen"]
        return f"{value - least:,.1f}{' (least)' if chosen else ''}"

    rows = [
        [count, *(cell(each, position) for each in bic["values"])] for position, count in enumerate(bic["components"])
    ]
    caption = (
        f"BIC less the least of all, {least:,.1f}: −2 log-likelihood + parameters × log rows, of "
        f"{summary['dataset']['rows']['train']:,} training rows without their labels; smaller is better"
    )
    return Table(["components", *bic["values"]], rows, bic["components"].index(bic["chosen"]["components"]), caption)


def verdict(count: Count) -> str:
    """Return whether points without a label help, as far as the interval of the gain tells."""
    _, low, high = np.asarray(count["gain"][:3], float)
    return "help" if low > 0 else "hurt" if high < 0 else "unclear"


def _chosen(summary: Summary, method: Mapping[str, Any]) -> tuple[str, str]:
    components = f", {method['components']} a class" if len(summary["components"]) > 1 else ""
    return f"{method['covariance']}{components}", f"{method['validation']:.1%}"


def _percent(accuracy: Sequence[float]) -> str:
    """Return an accuracy in percent; with two decimals where it has no bounds."""
    mean, low, high = (100 * np.asarray(accuracy[:3], float)).tolist()
    return f"{number(mean, low, high)}%" if np.isfinite(low) else f"{mean:.2f}%"


def _points(gain: Sequence[float]) -> str:
    """Return a gain in points with its sign."""
    mean, low, high = np.asarray(gain[:3], float).tolist()
    text = number(mean, low, high) if np.isfinite(low) else f"{mean:.1f}"
    return text.replace("-", "−") if mean < 0 else f"+{text}"


def _caption(summary: Summary) -> str:
    draws = len(summary["draws"])
    spread = f"± 95% interval over {draws} draws of the labels, one split" if draws > 1 else "one draw: no interval"
    every = summary["every"]
    return (
        f"test accuracy; {spread}; gain: both less alone, draw by draw; {EVERY}: {every['test']:.2%} "
        f"({every['covariance']})"
    )


def answer(summary: Summary) -> str:
    """Return in a few sentences what unlabelled points were worth with few labels and many, and where they hurt."""
    counts, data = summary["counts"], summary["dataset"]
    few, many = counts[0], counts[-1]
    said = (
        f"On {data['name']} with {few['labels']:,} labels, {_percent(few['alone']['test'])} of the test rows are "
        f"classified rightly from the labelled points alone, and {_percent(few['both']['test'])} from these and "
        f"{data['rows']['train'] - few['labels']:,} without a label: {_points(few['gain'])} points."
    )
    if many is not few:
        said += f" With {many['labels']:,} labels: {_points(many['gain'])} points."
    return f"{said} {harm(summary)}".rstrip()


def harm(summary: Summary) -> str:
    """Return where points without a label hurt; empty where they nowhere clearly do."""
    hurt = [count for count in summary["counts"] if verdict(count) == "hurt"]
    if not hurt:
        return ""
    worst = min(hurt, key=lambda count: count["gain"][0])
    where = ", ".join(f"{count['labels']:,}" for count in hurt)
    said = f"Points without a label hurt with {where} labels"
    return f"{said}: at worst {_points(worst['gain'])} points." if len(hurt) > 1 else f"{said}."


def agrees(summary: Summary) -> bool:
    """Return whether BIC prefers a number of components that the classifiers could have."""
    classes = len(summary["dataset"]["classes"])
    return summary["bic"]["chosen"]["components"] in {classes * each for each in summary["components"]}


def fitness(summary: Summary) -> str:
    """Return what BIC says of the number of components that the classifiers have."""
    bic, chosen, classes = summary["bic"], summary["bic"]["chosen"], len(summary["dataset"]["classes"])
    said = f"BIC, which sees no label, prefers {chosen['components']} components of {chosen['covariance']} covariance"
    if chosen["components"] == bic["components"][-1] > 1:
        said += ", the most that were tried"
    if agrees(summary):
        return f"{said}: as many as {'there are classes' if chosen['components'] == classes else 'could be chosen'}."
    had = " or ".join(f"{classes * each:,}" for each in sorted(summary["components"]))
    return (
        f"{said}, where the classifiers have {had}: the classes are not what the points by themselves fall into, "
        "and points without a label may draw components away from their classes."
    )


@dataclass(frozen=True)
class _Line(draw.Series):
    """A curve with a style of its own."""

    drawn_as: Style = STYLES[EVERY]

    @property
    def style(self) -> Style:
        """The one it was given."""
        return self.drawn_as


def figures(summary: Summary, folder: Path) -> dict[str, Path]:
    """Draw accuracy by labels, likelihood by step, and BIC by components; return the paths by name.

    Args:
        summary: see the module's docstring.
        folder: where to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "accuracy_by_labels": _accuracy_figure(summary),
        "likelihood_by_step": _likelihood_figure(summary),
        "bic_by_components": _bic_figure(summary),
    }
    return {name: draw.save(figure, folder / f"{name}.svg") for name, figure in drawn.items()}


def _accuracy_figure(summary: Summary):
    counts, draws = summary["counts"], len(summary["draws"])
    x = np.array([count["labels"] for count in counts], float)
    lines = []
    for method, label in (("alone", ALONE), ("both", BOTH)):
        mean, low, high = 100 * np.array([count[method]["test"][:3] for count in counts], float).T
        bounds = {"low": low, "high": np.minimum(high, 100)} if np.isfinite(low).any() else {}
        lines.append(_Line(label, x, mean, **bounds, drawn_as=STYLES[label]))
    lines.append(_Line(EVERY, x, np.full(len(x), 100 * summary["every"]["test"])))
    few = counts[0]
    figure = draw.curves(
        lines,
        title=f"With {few['labels']:,} labels, points without one are worth {_points(few['gain'])} points of accuracy",
        x_label="labelled rows in all, log scale",
        y_label="test accuracy (%)",
        seeds=draws,
        note="A seed draws which rows keep their label.",
    )
    with layout.look():
        layout.scale_x(figure.axes[0], *span(x, margin=0.03, log=True), log=True)
    return figure


def _likelihood_figure(summary: Summary):
    lines = [
        _Line(
            f"{climb['labels']:,} labels",
            np.arange(1, len(climb["history"]) + 1),
            climb["history"],
            drawn_as=Style(CLIMBS[place % len(CLIMBS)], SOLID, ""),
        )
        for place, climb in enumerate(summary["climbs"])
    ]
    figure = draw.curves(
        lines,
        title="EM never makes the likelihood worse",
        x_label="step of EM",
        y_label="mean log-likelihood of a point (nats)",
        note=f"Learned from labelled and unlabelled points: draw {summary['panels']['seed']}, the covariance chosen.",
    )
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _bic_figure(summary: Summary):
    bic, chosen = summary["bic"], summary["bic"]["chosen"]
    x = np.array(bic["components"], float)
    lines = [
        _Line(
            covariance,
            x,
            np.array([np.nan if value is None else value for value in values], float),
            best=chosen["components"] if covariance == chosen["covariance"] else None,
            drawn_as=STYLES[covariance],
        )
        for covariance, values in bic["values"].items()
    ]
    figure = draw.curves(
        lines,
        title=f"BIC chooses {chosen['components']} components of {chosen['covariance']} covariance; "
        f"there are {len(summary['dataset']['classes'])} classes",
        x_label="components",
        y_label="BIC (nats); smaller is better",
        note="Large marker: the least. Training rows without their labels.",
    )
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def page(
    summary: Summary, panels: Path, drawn: Mapping[str, Path], environment: Mapping[str, Any], command: str
) -> Page:
    """Return the experiment's page.

    Args:
        summary: see the module's docstring.
        panels: the drawing of the four panels.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    name, shown = summary["dataset"]["name"], summary["panels"]
    four = Figure(
        panels,
        alt="Labelled points; labelled and unlabelled points; what was learned from the labelled alone, and from both",
        caption=f"Draw {shown['seed']} of {shown['labels']:,} labels. The percentages are of test rows, by this draw.",
    )
    accuracy = Figure(
        drawn["accuracy_by_labels"],
        alt="Test accuracy against the number of labels, from labelled points alone and from both",
        caption=f"{EVERY}: what the model reaches where nothing is left to guess, one fit.",
    )
    likelihood = Figure(
        drawn["likelihood_by_step"],
        alt="Mean log-likelihood of a point after each step of EM, a line for each number of labels",
        caption="The more labels, the fewer responsibilities are left to EM; a labelled point's likelihood is that of "
        "its own class.",
    )
    bic = Figure(
        drawn["bic_by_components"],
        alt="BIC against the number of components, a line for each covariance",
        caption="The least BIC is the best trade of fit for parameters.",
    )
    blocks: dict[str, list[Block]] = {
        "The result": [gain_table(summary), four, accuracy],
        "How to read it": [Bullets(caveats(summary))],
        "What was chosen": [choice_table(summary)],
        "How many components": [fitness(summary), bic, bic_table(summary)],
        "Likelihood by step": [likelihood],
        "Where the time went": [seconds_table(summary)],
        "How it was run": [Definitions(_how(summary, environment))],
        "Repeat it": [Code(command), "On the same versions and devices it ends with the same bits."],
    }
    return Page(
        title=f"What points without a label are worth: Gaussian mixtures on {name}",
        question=f"How much better are the classes of {name} told apart by Gaussian mixtures that learn from points "
        "without a label too, with few labels and with many?",
        answer=answer(summary),
        sections=[Section(heading, each) for heading, each in blocks.items()],
    )


def caveats(summary: Summary) -> list[str]:
    """Return what must be known to read the figures rightly."""
    rows, counts = summary["dataset"]["rows"], summary["counts"]
    said = []
    if harmed := harm(summary):
        said.append(
            f"{harmed} The likelihood rises all the same: EM explains all the points, and where components do not have "
            "the shape of classes, explaining the points better is not telling classes apart better. "
            + fitness(summary)
        )
    elif not agrees(summary):
        said.append(fitness(summary))
    unclear = [f"{count['labels']:,}" for count in counts if verdict(count) == "unclear"]
    if unclear:
        said.append(f"With {', '.join(unclear)} labels the gain's interval holds 0: help or harm cannot be told.")
    said += [
        f"Labels are counted in all: {counts[0]['labels']:,} are dealt to {len(summary['dataset']['classes'])} classes "
        "in proportion to their rows, one to each at least. Draws of one seed are nested.",
        "The covariance was chosen for each number of labels and each way to learn, on the labels of "
        f"{rows['validation']:,} validation rows"
        + (": more than a user has." if rows["validation"] > counts[0]["labels"] else ".")
        + " Where these cannot tell, BIC decides, by unlabelled points.",
        "Test rows were looked at once, with what was chosen. Points without a label are training rows that hide it.",
    ]
    if short := summary["fits"]["short"]:
        said.append(f"{short:,} of {summary['fits']['all']:,} fits ended before EM had settled.")
    return said


def _how(summary: Summary, environment: Mapping[str, Any]) -> dict[str, str | list[str]]:
    data, columns = summary["dataset"], summary["columns"]
    rows = data["rows"]
    reduced = (
        f"the first {columns['kept']} principal components of {columns['given']:,} columns, by the training rows: "
        f"{columns['variance']:.0%} of the variance"
    )
    how: dict[str, str | list[str]] = {
        "data set": [f"{data['name']}: {len(data['classes'])} classes", *data["notes"]],
        "columns": reduced if columns["kept"] < columns["given"] else f"{columns['given']:,}",
        "rows": f"{rows['train']:,} to learn from, {rows['validation']:,} to choose, {rows['test']:,} to report",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{file} {digest}" for file, digest in environment["data"].items()],
        "model": f"a Gaussian mixture, {_listed(summary['components'])} component(s) a class, by EM; a labelled point "
        "belongs to its class's components",
        "covariances": ", ".join(summary["covariances"]),
        "starts": f"{summary['restarts']} a fit; the best likelihood stays",
        "draws of labels": f"seeds {_listed(summary['draws'])}",
        "split seed": str(summary["split_seed"]),
        "versions": ", ".join(f"{package} {version}" for package, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return {name: value for name, value in how.items() if value}


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
