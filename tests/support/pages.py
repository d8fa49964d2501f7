"""What tests read out of figures and pages."""

import base64
import io
import itertools
import re
from xml.etree import ElementTree

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from mllab.report import draw
from mllab.report.draw import base


def embedded(svg):
    """The images embedded in the text of an SVG, as their PNGs decode, [H, W, 3] each."""
    return [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        for data in re.findall(r'href="data:image/png;base64,\s*([^"]*)"', svg)
    ]


def drawn(figure, path):
    """The texts of a figure's SVG, which must parse as XML, and the images embedded in it."""
    root = ElementTree.parse(draw.save(figure, path)).getroot()
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]
    return texts, embedded(path.read_text())


def check_texts(figure, smallest=6.0):
    """Fail where a text leaves the figure, covers another, or is too small; return all texts."""
    figure.set_dpi(288)  # fine enough that letters need no rounding to pixels
    with base.look():
        renderer = FigureCanvasAgg(figure).get_renderer()
        for _ in range(2):
            figure.draw(renderer)
        hidden = _labels_not_drawn(figure)
        boxes = [
            (text.get_text(), text.get_window_extent(renderer), text.get_fontsize())
            for text in figure.findobj(Text)
            if text.get_visible() and text.get_text().strip() and text not in hidden
        ]
    width, height = figure.bbox.size
    for text, box, size in boxes:
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text  # noqa: PT018
        assert size >= smallest, text
    for (text, box, _), (other, beside, _) in itertools.combinations(boxes, 2):
        assert not box.shrunk(0.98, 0.7).overlaps(beside.shrunk(0.98, 0.7)), (text, other)
    return [text for text, *_ in boxes]


def _labels_not_drawn(figure):
    """Labels of hidden axes, and of ticks beyond the range: matplotlib keeps them without drawing them."""
    hidden = set()
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not low <= tick.get_loc() <= high:
                hidden |= {tick.label1, tick.label2}
        if not axis.axes.axison:
            hidden |= set(axis.findobj(Text))
    return hidden
