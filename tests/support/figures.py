"""Helpers for tests of figures: the texts and images of an SVG, and checks of its layout."""

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from mllab.report import draw
from mllab.report.draw import base

NASTY = [  # names that a figure, a table or a page has to show, as far as they are printable
    "<script>alert(1)</script>",
    'a "b" & c',
    "price $ per $",
    "line\nbreak\x01\udcff",
    "Ünïcødé",
    "x" * 200,
    "中文",
    "",
    "  \t ",
    "$\\frac{1}{x_1}$ \\n",
    "{{ 7 * 7 }} <b>bold</b>",
    "\x00\x1b[31mred",
    "\u202egnirts\u202c \u200f\ufeff",
    "😀👩\u200d🔬 ≠ 𝔘",
    "中文的一个非常长的列名称带有许多汉字没有空格所以必须截断",
    "ความสุข नमस्ते ሰላም",
]


def embedded(svg):
    """Return the images embedded in an SVG as decoded PNGs, [H, W, 3] each."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for data in re.findall(r'href="data:image/png;base64,\s*([^"]*)"', svg)
    ]


def drawn(figure, path):
    """Return the texts and the embedded images of a figure's SVG, which must be well-formed XML."""
    root = ElementTree.parse(draw.save(figure, path)).getroot()
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
    return texts, embedded(path.read_text())


def check_figure(function, path, smallest=6.0):
    """Check that the texts of a figure are inside it, do not overlap and are not too small.

    Also check that drawing the figure again under other settings of matplotlib gives the same bytes.

    Args:
        function: draws the figure.
        path: SVG file to write.
        smallest: least size of a text, in points.
    """
    figure = function()
    written, _ = drawn(figure, path)  # saved first, which fixes the layout
    first = path.read_bytes()
    figure.set_dpi(288)  # so fine that rounding to pixels does not matter
    with base.look():
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        hidden = _labels_not_drawn(figure)
        texts = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text().strip()]
        texts = [each for each in texts if each not in hidden]
        names = [each.get_text() for each in texts]
        with base.measured(figure):  # as wide as a font that has every glyph draws them
            boxes = np.array([each.get_window_extent(renderer).extents for each in texts]).reshape(-1, 4)
    assert {line for name in names for line in name.split("\n")} <= set(written)
    assert not [each for each in texts if each.get_fontsize() < smallest]
    low, high = boxes[:, :2], boxes[:, 2:]
    outside = (low < 0).any(axis=1) | (high > figure.bbox.size).any(axis=1)
    assert not [name for name, out in zip(names, outside, strict=True) if out]
    middle, half = (low + high) / 2, (high - low) / 2 * (0.98, 0.7)
    apart = np.abs(middle[:, None] - middle) > half[:, None] + half
    covering = np.argwhere(np.triu(~apart.any(axis=-1), 1))
    assert not [(names[one], names[other]) for one, other in covering]
    with matplotlib.rc_context({"font.size": 20, "image.cmap": "gray", "image.interpolation": "bilinear"}):
        assert draw.save(function(), path).read_bytes() == first


def _labels_not_drawn(figure):
    """Return the labels that matplotlib keeps but does not draw: of hidden axes, and of ticks outside the range."""
    hidden = set()
    for axis in [
        axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis, getattr(axes, "zaxis", None)) if axis
    ]:
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
        if not axis.axes.axison:
            hidden |= set(axis.findobj(Text))
    return hidden
