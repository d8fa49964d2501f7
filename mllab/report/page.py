"""One self-contained page: the question and the answer first, then everything behind them.

The page opens from disk with no network and no script. Names that users chose (data sets, columns, paths) are escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from mllab.report.atomic import write_bytes
from mllab.report.report import Block, Bullets, Code, Definitions, Drawing, Provenance, Report, Section
from mllab.report.table import BEST, Table


@dataclass(frozen=True)
class Page:
    """A page as it is rendered."""

    title: str
    question: str
    answer: str
    sections: Sequence[Section]


def standard(report: Report, provenance: Provenance) -> Page:
    """Return a report's page: its result and sections, where the time went, how it was run, and how to repeat it."""
    machine = provenance.environment
    facts = {
        **report.facts,
        "source": provenance.sources,
        "sha256": [f"{name} {digest}" for name, digest in machine.data.items()],
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        "devices": f"{machine.devices['count']} × {machine.devices['kind']} ({machine.devices['platform']}), "
        f"{machine.cpu}",
        "code": machine.git_commit or "not a git checkout",
    }
    sections = [
        Section("The result", [report.table]),
        *report.sections,
        Section("Where the time went", [seconds_table(provenance.seconds)] if provenance.seconds else []),
        Section("How it was run", [Definitions({name: value for name, value in facts.items() if value})]),
        Section(
            "Repeat it",
            [
                Code(provenance.command),
                "On the same versions and devices it ends with the same bits, wall times excepted.",
            ],
        ),
    ]
    filled = [Section(each.heading, [block for block in each.blocks if not _is_empty(block)]) for each in sections]
    return Page(report.title, report.question, report.answer, [section for section in filled if section.blocks])


def _is_empty(block: Block | None) -> bool:
    return block is None or block == "" or (isinstance(block, Bullets) and not any(block.items))


def seconds_table(seconds: Mapping[str, float]) -> Table:
    """Return a row for each part of a run: its wall time and its share of `total`, or of the sum of the parts."""
    parts = {name: value for name, value in seconds.items() if name != "total"}
    total = seconds.get("total") or sum(parts.values()) or 1.0
    if (rest := total - sum(parts.values())) >= 0.05:
        parts["everything else"] = rest
    rows = [[name, f"{value:.2f}", f"{value / total:.1%}"] for name, value in parts.items()]
    return Table(["part", "seconds", "share"], [*rows, ["total", f"{total:.2f}", "100.0%"]])


def save_drawings(report: Report, folder: Path) -> dict[str, Path]:
    """Write the report's drawings as <name>.svg; return the files by name."""
    drawings = [block for section in report.sections for block in section.blocks if isinstance(block, Drawing)]
    if len({drawing.name for drawing in drawings}) < len(drawings):
        raise ValueError(f"two drawings share a name: {[drawing.name for drawing in drawings]}")
    if not drawings:
        return {}
    from mllab.report import draw  # brings matplotlib

    return {drawing.name: draw.save(drawing.figure, folder / f"{drawing.name}.svg") for drawing in drawings}


def write(path: str | Path, report: Report, drawn: Mapping[str, Path], provenance: Provenance) -> Path:
    """Write a report's page as one HTML file; `drawn` is what `save_drawings` returned."""
    return write_bytes(path, render(standard(report, provenance), drawn).encode())


def render(page: Page, drawn: Mapping[str, Path]) -> str:
    """Return a page as HTML; the same page gives the same text.

    Args:
        page: the page.
        drawn: the SVG file of each drawing, by name.
    """
    blocks = [block for section in page.sections for block in section.blocks]
    drawings = {
        block.name: inline_svg(drawn[block.name], block.alt, prefix=f"figure-{number}-")
        for number, block in enumerate((each for each in blocks if isinstance(each, Drawing)), start=1)
    }
    return _template().render(page=page, css=Markup(_text("page.css")), drawn=drawings, kind=_kind, rows=_rows)


def inline_svg(path: str | Path, alt: str, prefix: str) -> Markup:
    """Return an SVG file as an element of HTML, its ids made its own.

    Figures made alike share the ids of their clip paths and markers, and a browser would use the first figure's for
    all: so each id, and each reference to it, gets a prefix.
    """
    root = ElementTree.parse(path).getroot()
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) == "metadata":
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            if name == "id":
                value = prefix + value
            elif _local(name) == "href" and value.startswith("#"):
                value = f"#{prefix}{value[1:]}"
            element.set(_local(name), value.replace("url(#", f"url(#{prefix}"))
    for name in ("width", "height", "version"):  # the page's column sets the size; viewBox keeps the shape
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": alt})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(_text("page.html"))


def _text(name: str) -> str:
    return (resources.files("mllab.report") / name).read_text()


def _local(name: str) -> str:
    """Return a name without its namespace, which HTML does not use."""
    return name.rpartition("}")[2]


def _kind(block: Block) -> str:
    return "text" if isinstance(block, str) else type(block).__name__


def _rows(table: Table) -> list[tuple[bool, list[tuple[str, bool]]]]:
    """Return each row as (is it the best, its cells as (text, is it a number)); the best's name begins with `*`."""
    numeric = table.numeric()
    rows = []
    for index, cells in enumerate(table.aligned()):
        is_best = index == table.best
        marked = [(BEST if is_best else "") + cells[0], *cells[1:]] if cells else []
        rows.append((is_best, list(zip(marked, numeric, strict=True))))
    return rows
