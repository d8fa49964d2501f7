"""One self-contained page: the question and the answer first, then everything behind them.

The page opens from disk with no network and no script: a sound is a data URL, which the browser's own player plays.
Names that users chose (data sets, columns, paths) are escaped, and characters that are not printable become spaces.
"""

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import jinja2
from markupsafe import Markup

from mllab.report.atomic import write_bytes
from mllab.report.report import Block, Bullets, Provenance, Report, Section, fold
from mllab.report.table import Table, printable

MIN_TYPE = 9.0  # pixels, of the smallest text of a figure on a phone, where a figure scrolls rather than shrink further

_TYPE_SIZE = re.compile(r"font(?:-size)?:[^;]*?([\d.]+)px")


def save_drawings(report: Report, folder: Path) -> dict[str, Path]:
    """Write the report's drawings as <name>.svg; return the files by name."""
    names = [drawing.name for drawing in report.drawings]
    if len({*names}) < len(names):
        raise ValueError(f"two drawings share a name: {names}")
    if not names:
        return {}
    from mllab.report import draw  # brings matplotlib

    return {drawing.name: draw.save(drawing.figure, folder / f"{drawing.name}.svg") for drawing in report.drawings}


def write(path: str | Path, report: Report, drawn: Mapping[str, Path], provenance: Provenance) -> Path:
    """Write a report's page as one HTML file; `drawn` is what `save_drawings` returned."""
    return write_bytes(path, render(report, drawn, provenance).encode())


def render(report: Report, drawn: Mapping[str, Path], provenance: Provenance) -> str:
    """Return a report's page as HTML; the same report gives the same text."""
    seconds = [seconds_table(provenance.seconds)] if provenance.seconds else []
    sections = [Section("The result", [report.table]), *report.sections, Section("Where the time went", seconds)]
    sections = [Section(each.heading, [block for block in each.blocks if not _is_empty(block)]) for each in sections]
    figures = {
        drawing.name: inline_svg(drawn[drawing.name], drawing.alt, prefix=f"figure-{number}-")
        for number, drawing in enumerate(report.drawings, start=1)
    }
    html = _template().render(
        report=report, sections=[section for section in sections if section.blocks], figures=figures,
        facts=_facts(report, provenance), command=provenance.command, css=Markup(_text("page.css")),
        kind=lambda block: type(block).__name__, fold=fold, base64=lambda content: b64encode(content).decode(),
    )  # fmt: skip
    html = "\n".join(map(printable, html.split("\n")))
    return html.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}")


def _facts(report: Report, provenance: Provenance) -> dict[str, str | Sequence[str]]:
    """Return the report's facts, and those on the data, the versions, the devices and the code."""
    machine = provenance.environment
    devices = "{count} × {kind} ({platform})".format(**machine.devices)
    facts = {
        **report.facts,
        "source": provenance.sources,
        "sha256": [f"{name} {digest}" for name, digest in machine.data.items()],
        "versions": ", ".join(f"{name} {version}" for name, version in machine.versions.items()),
        "devices": f"{devices}, {machine.cpu}",
        "code": machine.git_commit or "not a git checkout",
    }
    return {name: value for name, value in facts.items() if value}


def _is_empty(block: Block | None) -> bool:
    return not block or (isinstance(block, Bullets) and not any(block.items))


def seconds_table(seconds: Mapping[str, float]) -> Table:
    """Return a row for each part of a run: its wall time and its share of `total`, or of the sum of the parts."""
    parts = {name: value for name, value in seconds.items() if name != "total"}
    total = seconds.get("total") or sum(parts.values()) or 1.0
    if (rest := total - sum(parts.values())) >= 0.05:
        parts["everything else"] = rest
    rows = [[name, f"{value:.2f}", f"{value / total:.1%}"] for name, value in [*parts.items(), ("total", total)]]
    return Table(["part", "seconds", "share"], rows)


def inline_svg(path: str | Path, alt: str, prefix: str) -> Markup:
    """Return an SVG file as an element of HTML, with a prefix before each id and each reference to one.

    Figures made alike share ids, and a browser would use the first figure's clip paths and markers for all. The style
    `--legible` is the width at which the smallest text has MIN_TYPE.
    """
    root = ElementTree.parse(path).getroot()
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
    sizes = [float(size) for style in root.iter("text") for size in _TYPE_SIZE.findall(style.get("style", ""))]
    if sizes:
        width = float(root.attrib["viewBox"].split()[2])
        root.set("style", f"--legible: {width * MIN_TYPE / min(sizes):.0f}px")
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """Return a name without its namespace, which HTML does not use."""
    return name.rpartition("}")[2]


@cache
def _template() -> jinja2.Template:
    undefined = jinja2.StrictUndefined
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=undefined)
    return environment.from_string(_text("page.html"))


def _text(name: str) -> str:
    return (resources.files("mllab.report") / name).read_text(encoding="utf-8")
