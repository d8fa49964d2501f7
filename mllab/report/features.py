"""What features are worth: the table, the figure and the page, from the plain summary that summary.json holds.

A summary has `dataset` (name, rows {train, validation, test}, classes, shape, licence, citation, notes); `net` (params,
its file; model, described; dataset, what it was trained on, and at_home, whether that is this one; features, how many;
accuracy, its own on the test rows, at home); `split_seed`, `seeds`; `fractions` [{fraction, rows}], ascending;
`settings` by probe {name, grid}; and `cells`, for each representation, probe and fraction {test, an interval over
draws; test_by_draw; ahead, the interval of the points by which it leads pixels, draw by draw; chosen, the setting of
each draw; short, fits that stopped short of the optimum}. The page also wants `seconds` by part, with their total.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mllab.report import figures as draw
from mllab.report import layout
from mllab.report.classifier import seconds_table
from mllab.report.page import Block, Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.palette import BLACK, BLUE, DASH_DOT, DOTTED, GREEN, SOLID, VERMILLION, Style
from mllab.report.series import span
from mllab.report.table import Table, number

Summary = Mapping[str, Any]
Cell = Mapping[str, Any]

PIXELS, TRAINED, UNTRAINED = "pixels", "trained net", "untrained net"  # representations
PROBE, NEIGHBORS = "linear probe", "nearest neighbours"  # what is fitted to them
ITSELF = "the net itself"

STYLES = {  # a colour for each representation, a dash and marker for each probe
    (PIXELS, PROBE): Style(BLUE, SOLID, "s"),
    (PIXELS, NEIGHBORS): Style(BLUE, DOTTED, "h"),
    (TRAINED, PROBE): Style(VERMILLION, SOLID, "s"),
    (TRAINED, NEIGHBORS): Style(VERMILLION, DOTTED, "h"),
    (UNTRAINED, PROBE): Style(GREEN, SOLID, "s"),
    (UNTRAINED, NEIGHBORS): Style(GREEN, DOTTED, "h"),
    (ITSELF, ""): Style(BLACK, DASH_DOT, ""),
}
SHORT = {PIXELS: "pixels", TRAINED: "trained", UNTRAINED: "untrained", PROBE: "linear", NEIGHBORS: "kNN"}


def worth_table(summary: Summary) -> Table:
    """Return a row for each representation and probe: test accuracy by how many training rows were drawn."""
    rows = [
        [representation, probe, *(_percent(cell["test"]) for cell in cells)]
        for (representation, probe), cells in _rows(summary).items()
    ]
    return Table(["representation", "fitted to it", *_columns(summary)], rows, caption=_caption(summary))


def setting_table(summary: Summary) -> Table:
    """Return a row for each representation and probe: the settings that validation rows chose."""
    rows = [
        [representation, summary["settings"][probe]["name"], *(_settings(cell["chosen"]) for cell in cells)]
        for (representation, probe), cells in _rows(summary).items()
    ]
    grids = "; ".join(
        f"{setting['name']} of {', '.join(f'{value:g}' for value in setting['grid'])}"
        for setting in summary["settings"].values()
    )
    caption = f"chosen on validation rows, {grids}; of k no more than there are rows; draw by draw where they differ"
    return Table(["representation", "setting", *_columns(summary)], rows, caption=caption)


def _rows(summary: Summary) -> dict[tuple[str, str], list[Cell]]:
    """Return the cells of each representation and probe, the fewest training rows first."""
    rows: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(summary["cells"], key=lambda cell: cell["fraction"]):
        rows.setdefault((cell["representation"], cell["probe"]), []).append(cell)
    order = list(STYLES)
    return dict(sorted(rows.items(), key=lambda row: order.index(row[0])))


def _columns(summary: Summary) -> list[str]:
    return [f"{each['rows']:,} rows ({_share(each['fraction'])})" for each in summary["fractions"]]


def _share(fraction: float) -> str:
    return f"{100 * fraction:.3g}%"


def _settings(chosen: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in (chosen[:1] if len(set(chosen)) == 1 else chosen))


def _percent(accuracy: Sequence[float]) -> str:
    """Return an accuracy in percent; with two decimals where it has no bounds."""
    mean, low, high = (100 * np.asarray(accuracy[:3], float)).tolist()
    return f"{number(mean, low, high)}%" if np.isfinite(low) else f"{mean:.2f}%"


def _points(ahead: Sequence[float]) -> str:
    """Return a lead in points with its sign."""
    mean, low, high = np.asarray(ahead[:3], float).tolist()
    text = number(mean, low, high) if np.isfinite(low) else f"{mean:.1f}"
    return text.replace("-", "−") if mean < 0 else f"+{text}"


def _caption(summary: Summary) -> str:
    seeds = len(summary["seeds"])
    said = ["test accuracy"]
    if seeds > 1:
        said.append(f"± 95% interval over {seeds} draws of the training rows, one split")
        if summary["fractions"][-1]["fraction"] == 1:
            said.append(
                "all rows can be drawn once only: no interval there, but for the untrained net, a new one for each draw"
            )
    else:
        said.append("one draw: no interval")
    if (accuracy := summary["net"]["accuracy"]) is not None:
        said.append(f"{ITSELF}, trained on {summary['dataset']['rows']['train']:,} rows: {accuracy:.2%}")
    return "; ".join(said)


def answer(summary: Summary) -> str:
    """Return in a few sentences by how many points features lead pixels, with few rows and with many."""
    rows, few, many = _rows(summary), summary["fractions"][0], summary["fractions"][-1]

    def leads(representation: str, joined: str) -> str:
        def at(position: int) -> list[str]:
            return [_points(rows[representation, probe][position]["ahead"]) for probe in (PROBE, NEIGHBORS)]

        said = joined.format(*at(0))
        return said if many == few else f"{said}; with {many['rows']:,}, {' and '.join(at(-1))}"

    said = (
        f"On {summary['dataset']['name']} with {few['rows']:,} training rows, the net's features are worth "
        f"{leads(TRAINED, '{} points of test accuracy over pixels to a linear probe and {} to nearest neighbours')}. "
        f"Those of the same net untrained: {leads(UNTRAINED, '{} and {}')}."
    )
    return f"{said} {_seen(summary)}" if summary["net"]["at_home"] else said


def _seen(summary: Summary) -> str:
    """Return what a net has seen that was trained on the data set itself."""
    few = summary["fractions"][0]["fraction"]
    said = "The net was trained on this data set, with the labels of all its training rows"
    return f"{said}: its features at {_share(few)} stand on more labels than the probes'." if few < 1 else f"{said}."


@dataclass(frozen=True)
class _Line(draw.Series):
    """A curve in the colour of its representation and the dash and marker of its probe."""

    of: tuple[str, str] = (ITSELF, "")

    @property
    def style(self) -> Style:
        """See `STYLES`."""
        return STYLES[self.of]


def figure(summary: Summary, folder: Path) -> Path:
    """Draw test accuracy against the number of training rows, a line for each representation and probe.

    Args:
        summary: see the module's docstring.
        folder: where to.
    """
    x = np.array([each["rows"] for each in summary["fractions"]], float)
    rows = _rows(summary)
    lines = []
    for (representation, probe), cells in rows.items():
        mean, low, high = 100 * np.array([cell["test"][:3] for cell in cells], float).T
        bounds = {"low": low, "high": np.minimum(high, 100)} if np.isfinite(low).any() else {}
        label = f"{SHORT[representation]}, {SHORT[probe]}"
        lines.append(_Line(label, x, mean, **bounds, of=(representation, probe)))
    if (accuracy := summary["net"]["accuracy"]) is not None:
        lines.append(_Line(ITSELF, x, np.full(len(x), 100 * accuracy)))
    reached = {of: _percent(rows[of, PROBE][0]["test"]) for of in (TRAINED, PIXELS)}
    drawn = draw.curves(
        lines,
        title=f"A linear probe of {x[0]:,.0f} training rows: {reached[TRAINED]} on the net's features, "
        f"{reached[PIXELS]} on pixels",
        x_label="training rows, log scale",
        y_label="test accuracy (%)",
        seeds=len(summary["seeds"]),
    )
    with layout.look():
        layout.scale_x(drawn.axes[0], *span(x, margin=0.03, log=True), log=True)
    folder.mkdir(parents=True, exist_ok=True)
    return draw.save(drawn, folder / "accuracy_by_training_rows.svg")


def page(summary: Summary, drawn: Path, environment: Mapping[str, Any], command: str) -> Page:
    """Return the experiment's page.

    Args:
        summary: see the module's docstring.
        drawn: what `figure` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    name = summary["dataset"]["name"]
    shown = Figure(
        drawn,
        alt="Test accuracy against the number of training rows, one line for each representation and probe",
        caption="linear: softmax regression at its optimum; kNN: the vote of the nearest; trained and untrained: what "
        "the net's last layer sees, with the published params and with params as drawn.",
    )
    blocks: dict[str, list[Block]] = {
        "The result": [worth_table(summary), shown],
        "How to read it": [Bullets(_caveats(summary))],
        "What was chosen": [setting_table(summary)],
        "Where the time went": [seconds_table(summary)],
        "How it was run": [Definitions(_how(summary, environment))],
        "Repeat it": [Code(command), "On the same versions and devices it ends with the same bits."],
    }
    return Page(
        title=f"What features are worth: {summary['net']['model'].partition(':')[0]} on {name}",
        question=f"What are the net's features worth on {name}, compared with raw pixels, to a linear probe and to "
        "nearest neighbours, with few training rows and with many?",
        answer=answer(summary),
        sections=[Section(heading, each) for heading, each in blocks.items()],
    )


def _caveats(summary: Summary) -> list[str]:
    """Return what must be known to read the figures rightly."""
    net, rows, few = summary["net"], summary["dataset"]["rows"], summary["fractions"][0]
    said = []
    if net["at_home"]:
        said.append(_seen(summary))
        said.append(
            f"A set without test rows of its own is split by --split_seed, here {summary['split_seed']}: the net must "
            "have been trained with the same, or it has seen test rows."
        )
    else:
        said.append(f"The net was trained on {net['dataset'] or 'another data set'}: it has seen no label of this one.")
    said += [
        "The untrained net is the control: what the architecture alone is worth, with params as drawn, by the seed.",
        f"l2 and k were chosen on {rows['validation']:,} validation rows, whatever the number of training rows"
        + (": with few of these, better than a user with few rows could." if rows["validation"] > few["rows"] else "."),
        "Test rows were looked at once, with what was chosen.",
        "Columns are centred by the training rows drawn and divided by one deviation that all have in common, theirs "
        "too. A deviation a column would stretch pixels that have ink in few rows: nearest neighbours on pixels would "
        "lose several points, and features would look better than they are.",
        "Draws of one seed are nested: its rows at a small share are among its rows at a larger one.",
    ]
    if short := sum(cell["short"] for cell in summary["cells"]):
        said.append(f"{short} fits of the linear probe stopped short of the optimum.")
    return said


def _how(summary: Summary, environment: Mapping[str, Any]) -> dict[str, str | list[str]]:
    data, net = summary["dataset"], summary["net"]
    rows, (height, width, channels) = data["rows"], data["shape"]
    how: dict[str, str | list[str]] = {
        "data set": [
            f"{data['name']}: {len(data['classes'])} classes, {height} × {width} × {channels}",
            *data["notes"],
        ],
        "rows": f"{rows['train']:,} to draw training rows from, {rows['validation']:,} to choose, {rows['test']:,} to "
        "report",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{file} {digest}" for file, digest in environment["data"].items()],
        "net": [net["model"], f"params: {net['params']}", f"trained on {net['dataset'] or 'what it does not say'}"],
        "columns": f"{height * width * channels:,} pixels; {net['features']:,} features",
        "linear probe": "softmax regression with an l2 penalty on the sum of the losses, at its optimum (L-BFGS)",
        "nearest neighbours": "by brute force, Euclidean, one vote each: exact with all the training rows too",
        "seeds": ", ".join(map(str, summary["seeds"])),
        "versions": ", ".join(f"{package} {version}" for package, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return {name: value for name, value in how.items() if value}
