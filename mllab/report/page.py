"""One self-contained page: what was asked, what won and by how much, then everything behind it.

The page opens from disk with no network and no script. Whatever a user named (data sets, columns, paths) is escaped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from mllab.report.atomic import write_bytes
from mllab.report.table import BEST, Table


@dataclass(frozen=True)
class Figure:
    """An SVG file, to stand on the page itself."""

    path: str | Path
    alt: str  # what it shows, for those who cannot see it
    caption: str = ""


@dataclass(frozen=True)
class Definitions:
    """Names and what they stand for: how the run was made, its data, its versions."""

    items: Mapping[str, str | Sequence[str]]  # several lines where a sequence


@dataclass(frozen=True)
class Bullets:
    """Short statements, one a line."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """A command to copy."""

    text: str


Block = str | Table | Figure | Definitions | Bullets | Code  # text is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it, in order."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A report: the question, the answer, the rest."""

    title: str
    question: str
    answer: str
    sections: Sequence[Section]


def write(path: str | Path, page: Page) -> Path:
    """Write a page as one HTML file."""
    return write_bytes(path, render(page).encode())


def render(page: Page) -> str:
    """Return a page as HTML; the same page gives the same text."""
    drawn: dict[Figure, Markup] = {}
    for section in page.sections:
        for block in section.blocks:
            if isinstance(block, Figure) and block not in drawn:
                drawn[block] = inline_svg(block, prefix=f"figure-{len(drawn) + 1}-")
    return _TEMPLATE.render(page=page, css=Markup(_CSS), drawn=drawn, kind=_kind, rows=_rows)


def inline_svg(figure: Figure, prefix: str) -> Markup:
    """Return a figure's SVG as an element of HTML, its ids made the figure's own.

    Figures made alike share the ids of their clip paths and markers, and a browser would use the first figure's for
    all: so each id, and each reference to it, gets a prefix.
    """
    root = ElementTree.parse(figure.path).getroot()
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
    root.attrib.update({"role": "img", "aria-label": figure.alt})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """Return a name without its namespace: HTML knows what belongs to SVG."""
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


_CSS = """
:root { --ink: #1a1a1a; --soft: #5a5a5a; --paper: #fff; --rule: #d9d9d9; --tint: #f3f6f9; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a8a8a8; --paper: #16181b; --rule: #3a3d42; --tint: #202428; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 48rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; padding-top: .6rem; border-top: 1px solid var(--rule); }
p, ul { margin: .6rem 0; }
a { color: var(--accent); }
.question { color: var(--soft); margin: 0 0 .4rem; }
.answer { font-size: 1.15rem; background: var(--tint); border-left: 4px solid var(--accent);
  padding: .8rem 1rem; margin: 0 0 1rem; }
figure { margin: 1.2rem 0; }
figcaption { color: var(--soft); font-size: .88rem; margin-top: .4rem; }
.drawing { background: #fff; border-radius: 4px; padding: 4px; }
.drawing svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; min-width: 100%; }
th, td { padding: .35rem .5rem; text-align: left; border-bottom: 1px solid var(--rule); white-space: nowrap; }
thead th { vertical-align: bottom; border-bottom: 2px solid var(--soft); white-space: normal; min-width: 4rem; }
tbody th { font-weight: normal; position: sticky; left: 0; background: var(--paper); }
tbody td.number { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: .95em; white-space: pre; }
.number { text-align: right; }
.best > * { font-weight: 700; background: var(--tint); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1rem; margin: .6rem 0; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 4px; font-size: .88rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 30rem) {
  main { padding: 1rem .75rem 2rem; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
}
@media print {
  :root { --ink: #000; --soft: #444; --paper: #fff; --rule: #bbb; --tint: #f2f2f2; --accent: #000; }
  body { font-size: 10pt; }
  h2 { margin-top: 1.2rem; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { padding: 2pt 4pt; }
  thead th { min-width: 0; }
  figure, tr, dt, dd, pre, .answer { break-inside: avoid; }
  h2 { break-after: avoid; }
  .drawing { max-width: 12.5cm; padding: 0; }
  tbody th { position: static; background: none; }
  * { print-color-adjust: exact; }
}
"""

_TEMPLATE = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined).from_string(
    """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ page.title }}</title>
<style>{{ css }}</style>
</head>
<body>
<main>
<h1>{{ page.title }}</h1>
<p class="question">{{ page.question }}</p>
<p class="answer">{{ page.answer }}</p>
{% for section in page.sections %}
<section>
<h2>{{ section.heading }}</h2>
{% for block in section.blocks %}
{% if kind(block) == "text" %}
<p>{{ block | urlize }}</p>
{% elif kind(block) == "Table" %}
<figure>
<div class="scroll">
<table>
<thead><tr>
{% for name in block.columns %}<th scope="col"{% if block.numeric()[loop.index0] %} class="number"{% endif %}>\
{{ name }}</th>{% endfor %}
</tr></thead>
<tbody>
{% for is_best, cells in rows(block) %}
<tr{% if is_best %} class="best"{% endif %}>
{% for text, is_number in cells %}
{% set tag = "th" if loop.first else "td" %}
<{{ tag }}{% if loop.first %} scope="row"{% endif %}{% if is_number %} class="number"{% endif %}>{{ text }}</{{ tag }}>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if block.caption %}
<figcaption>{{ block.caption }}</figcaption>
{% endif %}
</figure>
{% elif kind(block) == "Figure" %}
<figure>
<div class="drawing">{{ drawn[block] }}</div>
{% if block.caption %}
<figcaption>{{ block.caption }}</figcaption>
{% endif %}
</figure>
{% elif kind(block) == "Definitions" %}
<dl>
{% for name, value in block.items.items() %}
<dt>{{ name }}</dt>
<dd>{% for line in ([value] if value is string else value) %}{{ line | urlize }}{% if not loop.last %}<br>{% endif %}\
{% endfor %}</dd>
{% endfor %}
</dl>
{% elif kind(block) == "Bullets" %}
<ul>
{% for item in block.items %}
<li>{{ item | urlize }}</li>
{% endfor %}
</ul>
{% else %}
<pre><code>{{ block.text }}</code></pre>
{% endif %}
{% endfor %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
)
