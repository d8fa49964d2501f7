"""A race of kernels: its table, figures and page, from the plain summary that summary.json holds.

A summary has `dataset` (name; rows {choosing, test, and available, of which the first were drawn}; classes, features,
shape, licence, citation, notes); `folds`, `rounds`, `split_seed`, `scheme`, `degree`, `coef0`; `tolerance` {choosing,
reported}, by how much a condition of the optimum may be violated, and `most_steps`; `c` [C] and `gamma` [G], the grids,
ascending, and `scale`, what gamma is a multiple of; `kernels`, for each {kernel; c and gamma, as chosen; held_out, the
interval of its accuracy over folds, and held_out_by_fold; test, its accuracy, and test_interval, low and high;
support_vectors; problems, how many binary ones, and short, how many of them ran out of steps; gap, their largest;
steps, of all of them; grid, the held-out accuracy at each setting, [G, C]}; `winner`, the kernel of the best held-out
accuracy; `baseline`, the test accuracy of the most frequent class; `ahead` {of, the next; by, the interval over folds
of the points of the lead}, None where it ran alone; and `per_class` of the winner's test rows (`report.classifier`),
where there are more than two. The linear kernel has no gamma: it is None there, and G is 1. The page also wants
`seconds` by part, with their total.

Arrays come as a mapping, of which any may be absent: `confusion`, the winner's test rows of each true class (rows)
predicted as each class (columns), [C, C]; `plane` and, by kernel, `machines` (`report.margins`), where there are two
columns.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from mllab.report import figures as draw
from mllab.report import margins, pictures
from mllab.report.classifier import class_table, seconds_table
from mllab.report.layout import plain
from mllab.report.page import Block, Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.table import Table, number

Summary = Mapping[str, Any]
Entry = Mapping[str, Any]

NAMES = {"linear": "linear", "polynomial": "polynomial", "rbf": "RBF"}
FORMULAS = {
    "linear": "x · z",
    "polynomial": "(gamma x · z + {coef0:g}) to the power {degree}",
    "rbf": "exp(−gamma ‖x − z‖²)",
}
SCHEMES = {
    "one_vs_one": "one machine for each pair of classes, which vote",
    "one_vs_rest": "one machine for each class against all others; the largest value decides",
}

RISE = 0.5  # points of accuracy from a setting to the next: less is a plateau


def kernel_table(summary: Summary) -> Table:
    """Return a row a kernel: what was chosen, how well it does, and what it rests on."""
    rows = [
        [
            NAMES[entry["kernel"]],
            _short(entry["c"]),
            None if entry["gamma"] is None else _short(entry["gamma"]),
            _percent(entry["held_out"]),
            f"{entry['test']:.2%}",
            _bounds(entry),
            f"{entry['support_vectors']:,} ({entry['support_vectors'] / summary['dataset']['rows']['choosing']:.0%})",
            _gap(entry["gap"]),
        ]
        for entry in summary["kernels"]
    ]
    columns = ["kernel", "C", "gamma", "held-out accuracy", "test accuracy", "95% interval", "support vectors", "gap"]
    return Table(columns, rows, _kernels(summary).index(summary["winner"]), _caption(summary))


def _caption(summary: Summary) -> str:
    rows = summary["dataset"]["rows"]
    return (
        f"* best held-out accuracy; ± 95% interval over {_folds(summary)} of {rows['choosing']:,} rows, one split, "
        f"allowing for the training rows they share; test: {rows['test']:,} rows, looked at once, one fit, interval "
        "over which rows were drawn; gap: the largest duality gap of a kernel's machines, primal less dual, as a share "
        f"of the primal; the most frequent class is right on {summary['baseline']:.2%} of the test rows"
    )


def answer(summary: Summary) -> str:
    """Return in a few sentences which kernel won, by how much, and how near its optimum it was solved."""
    data, won = summary["dataset"], _entry(summary, summary["winner"])
    said = (
        f"The {NAMES[won['kernel']]} kernel with {_setting(won)}: {won['test']:.2%} of the {data['rows']['test']:,} "
        f"test rows of {data['name']} are classified rightly (95% interval {_bounds(won)}), always saying the most "
        f"frequent class {summary['baseline']:.2%}; of rows held out, {_percent(won['held_out'])} (95% interval over "
        f"{_folds(summary)})."
    )
    if ahead := summary["ahead"]:
        clearly = "ahead" if ahead["by"][1] > 0 else "not clearly ahead"
        said += (
            f" On the same folds it is {clearly} of {NAMES[ahead['of']]}, the next: {number(*ahead['by'][:3])} points."
        )
    rows = data["rows"]
    used = (
        f" Fitted to {rows['choosing']:,} of {rows['available']:,} rows."
        if rows["choosing"] < rows["available"]
        else ""
    )
    return f"{said}{used} {_solved(summary)}"


def _solved(summary: Summary) -> str:
    """Return in a sentence how near their optimum the machines are."""
    gap = max(entry["gap"] for entry in summary["kernels"])
    short, problems = (sum(entry[name] for entry in summary["kernels"]) for name in ("short", "problems"))
    said = f"The largest duality gap of the machines is {_gap(gap)} of the objective"
    return f"{said}; {short} of {problems} stopped at {summary['most_steps']:,} steps." if short else f"{said}."


def edges(summary: Summary) -> list[str]:
    """Return a sentence for each choice that is at an edge of its grid, where accuracy still rises."""
    said = []
    for entry in summary["kernels"]:
        accuracy = np.asarray(entry["grid"], float)
        row, column = _place(summary, entry)
        sides = {"C": (summary["c"], column, accuracy[row]), "gamma": (summary["gamma"], row, accuracy[:, column])}
        for name, (grid, position, along) in sides.items():
            if len(along) < 2 or position not in (0, len(along) - 1):
                continue
            rise = 100 * (along[position] - along[1 if position == 0 else -2])
            if rise >= RISE:
                end = "least" if position == 0 else "largest"
                said.append(
                    f"{NAMES[entry['kernel']]}: held-out accuracy still rises by {rise:.1f} points at the {end} {name} "
                    f"of the grid, {_short(grid[position])}: better may lie beyond it."
                )
    return said


def _place(summary: Summary, entry: Entry) -> tuple[int, int]:
    """Return where in [G, C] a kernel's choice is."""
    row = 0 if entry["gamma"] is None else summary["gamma"].index(entry["gamma"])
    return row, summary["c"].index(entry["c"])


def _kernels(summary: Summary) -> list[str]:
    return [entry["kernel"] for entry in summary["kernels"]]


def _entry(summary: Summary, kernel: str) -> Entry:
    return summary["kernels"][_kernels(summary).index(kernel)]


def _setting(entry: Entry, joined: str = " and ") -> str:
    gamma = "" if entry["gamma"] is None else f"{joined}gamma = {_short(entry['gamma'])}"
    return f"C = {_short(entry['c'])}{gamma}"


def _folds(summary: Summary) -> str:
    rounds = summary["rounds"]
    return f"{summary['folds']} folds" + (f" × {rounds} rounds" if rounds > 1 else "")


def _percent(accuracy: Sequence[float]) -> str:
    mean, low, high = (100 * np.asarray(accuracy[:3], float)).tolist()
    return f"{number(mean, low, high)}%"


def _bounds(entry: Entry) -> str:
    low, high = entry["test_interval"]
    return f"{100 * low:.1f}–{100 * high:.1f}%"


def _gap(value: float) -> str:
    return plain(float(f"{value:.1e}"))


def _short(value: float) -> str:
    return plain(float(f"{value:.3g}"))


def figures(summary: Summary, arrays: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Draw what there is and return the files by name: accuracy, plane, confusion.

    Args:
        summary: see the module's docstring.
        arrays: likewise.
        folder: where to.
    """
    made = {"accuracy": heat_map(summary)}
    if plane := arrays.get("plane"):
        made["plane"] = _plane(summary, plane, arrays["machines"])
    if (confusion := arrays.get("confusion")) is not None:
        wrong = int(np.sum(confusion) - np.trace(confusion))
        title = f"{NAMES[summary['winner']]}: {wrong:,} of {int(np.sum(confusion)):,} test rows are mistaken"
        made["confusion"] = pictures.confusion(confusion, summary["dataset"]["classes"], title=title)
    folder.mkdir(parents=True, exist_ok=True)
    return {name: draw.save(figure, folder / f"{name}.svg") for name, figure in made.items()}


def heat_map(summary: Summary) -> Drawing:
    """Return each kernel's held-out accuracy over C and gamma, as cells."""
    won = _entry(summary, summary["winner"])
    grids = []
    for entry in summary["kernels"]:
        gamma = [] if entry["gamma"] is None else summary["gamma"]
        place = _place(summary, entry)
        grids.append(margins.Grid(NAMES[entry["kernel"]], np.asarray(entry["grid"], float), place, gamma))
    return margins.accuracy_by_setting(
        grids,
        summary["c"],
        title=f"Held-out accuracy: {NAMES[won['kernel']]} reaches {won['held_out'][0]:.1%} at {_setting(won)}",
        note=f"Numbers: % of the rows held out, mean over {_folds(summary)}.",
    )


def _plane(summary: Summary, plane: margins.Plane, machines: Mapping[str, margins.Machine]) -> Drawing:
    across, up = (pictures.legible(name) for name in summary["dataset"]["features"])
    headings = [
        (
            NAMES[entry["kernel"]],
            _setting(entry, ", "),
            f"{entry['held_out'][0]:.1%} held out, {entry['support_vectors']:,} support vectors",
        )
        for entry in summary["kernels"]
    ]
    return margins.boundaries(
        plane,
        [machines[kernel] for kernel in _kernels(summary)],
        headings,
        summary["dataset"]["classes"],
        title="Each kernel's boundary, margins and support vectors",
        note=f"Across: {across}; up: {up}; both standardised.",
    )


def page(summary: Summary, drawn: Mapping[str, Path], environment: Mapping[str, Any], command: str) -> Page:
    """Return the experiment's page.

    Args:
        summary: see the module's docstring.
        drawn: what `figures` returned.
        environment: what environment.json holds.
        command: what repeats the run.
    """
    name = summary["dataset"]["name"]
    sections: dict[str, list[Block]] = {
        "The result": [kernel_table(summary)],
        "Boundary, margins and support vectors": [_shown_plane(summary, drawn["plane"])] if "plane" in drawn else [],
        "C and gamma": [_shown_heat_map(drawn["accuracy"]), *([Bullets(said)] if (said := edges(summary)) else [])],
        "Class by class": _class_blocks(summary, drawn),
        "How to read it": [Bullets(_caveats(summary))],
        "How near the optimum": [solver_table(summary)],
        "Where the time went": [seconds_table(summary)],
        "How it was run": [Definitions(_how(summary, environment))],
        "Repeat it": [Code(command), "On the same versions and devices it ends with the same bits."],
    }
    return Page(
        title=f"Kernel machines: {', '.join(NAMES[kernel] for kernel in _kernels(summary))} on {name}",
        question=f"Which kernel, at which C and gamma, tells the classes of {name} apart best, and on how many support "
        "vectors does it rest?",
        answer=answer(summary),
        sections=[Section(heading, blocks) for heading, blocks in sections.items() if blocks],
    )


def _shown_heat_map(drawn: Path) -> Figure:
    return Figure(
        drawn,
        alt="Held-out accuracy at each C and gamma, a block of cells a kernel, the chosen setting framed",
        caption="Small C and small gamma make smooth boundaries; large ones, boundaries that bend to single points.",
    )


def _shown_plane(summary: Summary, drawn: Path) -> Figure:
    if len(summary["dataset"]["classes"]) == 2:
        said = (
            "f is the machine's value: above 0 for one class, below for the other. Support vectors are the points on "
            "the margin, between the margins, or on the wrong side; without all others the boundary would be the same."
        )
    elif summary["scheme"] == "one_vs_one":
        said = (
            "Each pair of classes has its f. A class's lines: where the least f by which it wins its pairs is 0, and "
            "where it is 1. Support vectors are those of any pair."
        )
    else:
        said = (
            "Each class has its f, against all others. A class's lines: where its f is 0, and where it is 1. Support "
            "vectors are those of any class."
        )
    return Figure(
        drawn,
        alt="Regions, boundary, margins and support vectors in the plane, one panel a kernel",
        caption=f"Colour of the ground: the class that is decided there. {said}",
    )


def _class_blocks(summary: Summary, drawn: Mapping[str, Path]) -> list[Block]:
    if "confusion" not in drawn:
        return []
    alt = "Confusion matrix of the test rows: true classes down, predicted classes across"
    caption = f"The {NAMES[summary['winner']]} kernel on the test rows."
    return [Figure(drawn["confusion"], alt=alt, caption=caption), class_table(summary)]


def solver_table(summary: Summary) -> Table:
    """Return a row a kernel: how many binary problems were solved, in how many steps, and how near their optimum."""
    rows = [
        [NAMES[entry["kernel"]], f"{entry['problems']:,}", f"{entry['steps']:,}", _gap(entry["gap"])]
        for entry in summary["kernels"]
    ]
    caption = (
        "the machines that test rows were scored with; each went on until no condition of its optimum was violated by "
        f"more than {plain(summary['tolerance']['reported'])} of f; gap: primal less dual, as a share of the primal"
    )
    return Table(["kernel", "binary problems", "steps", "largest duality gap"], rows, caption=caption)


def _caveats(summary: Summary) -> list[str]:
    """Return what must be known to read the figures rightly."""
    rows, settings = summary["dataset"]["rows"], len(summary["c"]) * len(summary["gamma"])
    said = []
    if rows["choosing"] < rows["available"]:
        said.append(
            f"{rows['choosing']:,} of {rows['available']:,} rows were used, drawn by class: a kernel matrix grows with "
            "their square. More rows, by --rows, would do better."
        )
    said += [
        f"C and gamma were chosen by the mean accuracy on the rows held out, {_folds(summary)} with every class in "
        "proportion; of equal ones the least C, then the least gamma. Test rows had no say.",
        f"The best of {settings} settings looks a little better on the rows that chose it than it is: test accuracy is "
        "the honest one.",
        "Each kernel's chosen machine was then fitted to all those rows, and test rows were looked at once.",
    ]
    if not summary["dataset"]["shape"][1:]:
        said.append("Columns were standardised by the training rows before folds were dealt, without their labels.")
    return said


def _how(summary: Summary, environment: Mapping[str, Any]) -> dict[str, str | list[str]]:
    data = summary["dataset"]
    rows, columns = data["rows"], int(np.prod(data["shape"]))
    c, gamma, scale = summary["c"], summary["gamma"], summary["scale"]
    tolerance = summary["tolerance"]
    values = {"coef0": summary["coef0"], "degree": summary["degree"]}
    how: dict[str, str | list[str]] = {
        "data set": [f"{data['name']}: {len(data['classes'])} classes, {columns:,} columns", *data["notes"]],
        "rows": f"{rows['choosing']:,} to choose on and to fit to, {rows['test']:,} to report",
        "source": [
            line for line in (data["citation"], f"licence: {data['licence']}" if data["licence"] else "") if line
        ],
        "sha256": [f"{file} {digest}" for file, digest in environment["data"].items()],
        "kernels": [f"{NAMES[kernel]}: {FORMULAS[kernel].format(**values)}" for kernel in _kernels(summary)],
        "C": f"{len(c)} values from {_short(c[0])} to {_short(c[-1])}",
        "gamma": f"{len(gamma)} values from {_short(gamma[0])} to {_short(gamma[-1])}: {_short(gamma[0] / scale)} to "
        f"{_short(gamma[-1] / scale)} times {_short(scale)}, which is 1 / (columns × variance of the inputs)",
        "classes": SCHEMES[summary["scheme"]] if len(data["classes"]) > 2 else "two, one machine",
        "folds": f"{_folds(summary)}, stratified, dealt with seed {summary['split_seed']}",
        "solver": "of the dual, two coefficients a step, until the conditions of its optimum hold to within "
        f"{plain(tolerance['choosing'])} of f while settings are tried and {plain(tolerance['reported'])} for the "
        f"machines reported, or for {summary['most_steps']:,} steps",
        "versions": ", ".join(f"{package} {version}" for package, version in environment["versions"].items()),
        "devices": f"{environment['devices']['count']} × {environment['devices']['kind']} "
        f"({environment['devices']['platform']})",
        "code": environment["git_commit"] or "not a git checkout",
    }
    return {name: value for name, value in how.items() if value}
