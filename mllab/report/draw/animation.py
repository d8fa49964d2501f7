"""A moving picture of rigid bodies as an SVG that moves by its own style sheet: pages carry no script.

The first picture stands still where the reader prefers less motion, on paper, and where style sheets are not read; it
has later moments faintly behind it, and below it a line over all steps, along which a mark moves with the picture.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from mllab.report.draw import base
from mllab.report.draw.base import EDGE, INK, LABEL, NOTE, SOFT, TICK, TITLE, Floats
from mllab.report.style import BLUE, GREEN, ORANGE, VERMILLION
from mllab.report.table import short

WIDTH = 72 * base.WIDTH  # points, as all figures
MAX_HEIGHT = 230.0  # points of the scene
STRIP_HEIGHT = 70.0  # points of the line below it
MAX_FRAMES = 250  # poses of a body; of more steps some are left out, between which a browser draws straight lines
GHOSTS = 6  # later moments behind the first picture
PAUSE_S = 1.2  # at the end
FRAMES_A_SECOND, MIN_SECONDS, MAX_SECONDS = 30.0, 3.0, 12.0
COLOURS = {
    "agent": BLUE, "part": ORANGE, "target": GREEN, "danger": VERMILLION, "wall": "#6b6b6b", "ground": "#e9e9e9",
}  # fmt: skip
FONT = "'DejaVu Sans', Verdana, sans-serif"


@dataclass(frozen=True)
class Body:
    """A rigid body and where it is at each step."""

    outline: Floats  # [P, 2] around its origin, in the units of the scene; [1, 2] with a radius is a disc
    role: str  # a key of COLOURS
    poses: Floats  # [T, 3]: x, y and the angle, counter-clockwise in radians; [1, 3] of a body that never moves
    radius: float = 0.0
    width: float = 0.0  # of an open line; 0 is the thinnest
    filled: bool = True


@dataclass(frozen=True)
class View:
    """The part of the world that is drawn."""

    left: float
    bottom: float
    right: float
    top: float


@dataclass(frozen=True)
class Animation:
    """A drawing that moves; `draw.save` writes it."""

    svg: bytes


def animation(
    bodies: Sequence[Body], view: View, line: Floats, *, title: str, line_label: str, notes: Sequence[str] = ()
) -> Animation:
    """Draw bodies in motion, from back to front.

    Args:
        bodies: what is seen.
        view: where.
        line: a quantity at each step, [T], drawn below the scene; the first is before any action.
        title: the message.
        line_label: what the line is.
        notes: sentences for the foot.
    """
    scale = min((WIDTH - 2 * EDGE) / (view.right - view.left), MAX_HEIGHT / (view.top - view.bottom))
    size = scale * (view.right - view.left), scale * (view.top - view.bottom)
    root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg"})
    sheet = ElementTree.SubElement(root, "style")
    ElementTree.SubElement(root, "rect", {"width": "100%", "height": "100%", "fill": "white"})
    down = _texts(root, base.wrap(title, TITLE, "bold"), EDGE, TITLE, weight="bold") + 4
    left = (WIDTH - size[0]) / 2
    frame = {"x": _fixed(left), "y": _fixed(down), "width": _fixed(size[0]), "height": _fixed(size[1])}
    ElementTree.SubElement(ElementTree.SubElement(root, "clipPath", {"id": "scene"}), "rect", frame)
    scene = ElementTree.SubElement(root, "g", {"clip-path": "url(#scene)"})
    steps = max(len(body.poses) for body in bodies)
    frames = np.unique(np.linspace(0, steps - 1, min(steps, MAX_FRAMES)).round().astype(int))
    corner = np.array([left - scale * view.left, down + scale * view.top])
    moves: list[tuple[ElementTree.Element, list[str]]] = []
    for body in bodies:
        poses = body.poses * [scale, -scale, -180 / math.pi] + [*corner, 0.0]
        places = [_transform(pose) for pose in poses]
        if len(set(places)) > 1:
            later = np.unique(np.linspace(0, steps - 1, GHOSTS + 2).round().astype(int))[1:-1]
            for step in later if steps > 1 else ():
                _shape(scene, body, scale, places[step], opacity=0.14)
        shape = _shape(scene, body, scale, places[0])
        if len(set(places)) > 1:
            moves.append((shape, [places[frame] for frame in frames]))
    down += size[1] + 8
    mark, along = _strip(root, np.asarray(line, float), down, line_label)
    moves.append((mark, [along[frame] for frame in frames]))
    down += STRIP_HEIGHT + 22
    foot = " ".join(filter(None, notes))
    down = _texts(root, base.wrap(foot, NOTE), down, NOTE, colour=SOFT) if foot else down
    root.set("viewBox", f"0 0 {_fixed(WIDTH)} {_fixed(down + EDGE)}")
    root.attrib.update({"width": f"{_fixed(WIDTH)}pt", "height": f"{_fixed(down + EDGE)}pt"})
    sheet.text = _style_sheet(moves, frames / max(steps - 1, 1), steps)
    return Animation(ElementTree.tostring(root, encoding="utf-8"))


def _style_sheet(moves: Sequence[tuple[ElementTree.Element, list[str]]], times: Floats, steps: int) -> str:
    """Return the style sheet that moves each element through its places, and name the elements in it."""
    seconds = min(max(steps / FRAMES_A_SECOND, MIN_SECONDS), MAX_SECONDS)
    share = 100 * seconds / (seconds + PAUSE_S)
    rules: list[str] = []
    names: list[str] = []
    for element, places in moves:
        frames = "".join(f"{share * time:.2f}%{{transform:{place}}}" for time, place in zip(times, places, strict=True))
        name = f"move-{zlib.crc32(frames.encode()):08x}-{len(names)}"  # style sheets of all figures share one page
        names.append(name)
        element.set("class", name)
        rules.append(f"@keyframes {name}{{{frames}100%{{transform:{places[-1]}}}}}")
        rules.append(f".{name}{{animation:{name} {seconds + PAUSE_S:.2f}s linear infinite}}")
    every = ",".join(f".{name}" for name in names)
    paused = ",".join(f"svg:hover .{name},:focus .{name}" for name in names)
    rules.append(f"{paused}{{animation-play-state:paused}}")
    rules.append(f"@media (prefers-reduced-motion: reduce){{{every}{{animation:none}}}}")
    rules.append(f"@media print{{{every}{{animation:none}}}}")
    return "\n".join(rules)


def _shape(
    parent: ElementTree.Element, body: Body, scale: float, place: str, opacity: float | None = None
) -> ElementTree.Element:
    """Draw a body at a place."""
    colour = COLOURS[body.role]
    points = np.asarray(body.outline, float) * [scale, -scale]
    # As an attribute a transform has no units: where style sheets are not read the first picture stands.
    look = {"transform": place.replace("px", "").replace("deg", "")}
    if opacity is not None:
        look["opacity"] = f"{opacity:g}"
    if body.radius:
        look |= {"r": _fixed(body.radius * scale), "fill": colour}
        return ElementTree.SubElement(parent, "circle", look)
    outline = " ".join(f"{_fixed(x)},{_fixed(y)}" for x, y in points)
    if body.filled:
        edge = {"stroke": "white", "stroke-width": "1"} if body.role in ("ground", "wall", "target", "danger") else {}
        return ElementTree.SubElement(parent, "polygon", look | edge | {"points": outline, "fill": colour})
    stroke = SOFT if body.role == "ground" else colour
    line = {"fill": "none", "stroke": stroke, "stroke-width": _fixed(max(body.width * scale, 1.5))}
    return ElementTree.SubElement(parent, "polyline", look | line | {"points": outline, "stroke-linecap": "round"})


def _strip(root: ElementTree.Element, line: Floats, down: float, label: str) -> tuple[ElementTree.Element, list[str]]:
    """Draw a line over the steps; return the mark that moves along it and its places."""
    low, high = base.span(line[np.isfinite(line)], margin=0.05)
    left, right, head = EDGE + 2, WIDTH - EDGE - 64, LABEL * 1.5
    _texts(root, base.fit(label, LABEL, right - left), down, LABEL)
    top, bottom = down + head + 4, down + STRIP_HEIGHT
    x = left + (right - left) * np.arange(len(line)) / max(len(line) - 1, 1)
    y = bottom - (bottom - top) * (np.nan_to_num(line) - low) / (high - low)
    axis = {"x1": _fixed(left), "x2": _fixed(right), "y1": _fixed(bottom), "y2": _fixed(bottom), "stroke": SOFT}
    ElementTree.SubElement(root, "line", axis | {"stroke-width": "0.8"})
    shown = np.unique(np.linspace(0, len(line) - 1, min(len(line), MAX_FRAMES)).round().astype(int))
    points = " ".join(f"{_fixed(x[place])},{_fixed(y[place])}" for place in shown)
    curve = {"points": points, "fill": "none", "stroke": BLUE, "stroke-width": "1.6"}
    ElementTree.SubElement(root, "polyline", curve)
    _text(root, "start", left, bottom + TICK * 1.25, TICK)
    steps = f"{len(line) - 1:,} step" + "s" * (len(line) != 2)
    _text(root, f"after {steps}", right, bottom + TICK * 1.25, TICK, anchor="end")
    _text(root, short(float(line[-1])), right + 8, float(np.clip(y[-1] + TICK / 3, top, bottom)), TICK)
    places = [_transform(np.array([*place, 0.0])) for place in zip(x, y, strict=True)]
    mark = {"r": "4", "fill": INK, "stroke": "white", "stroke-width": "1"}
    mark["transform"] = places[0].replace("px", "").replace("deg", "")
    return ElementTree.SubElement(root, "circle", mark), places


def _transform(pose: Floats) -> str:
    """Return a pose (points, points, degrees) as CSS has it."""
    x, y, angle = pose
    return f"translate({_fixed(x)}px,{_fixed(y)}px) rotate({_fixed(angle)}deg)"


def _texts(
    root: ElementTree.Element, text: str, down: float, size: float, *, weight: str = "normal", colour: str = INK
) -> float:
    """Write lines below each other at the left margin; return where they end."""
    for line in text.split("\n"):
        _text(root, line, EDGE, down + size, size, weight=weight, colour=colour)
        down += size * 1.25
    return down


def _text(
    root: ElementTree.Element, text: str, x: float, y: float, size: float, *, anchor: str = "start",
    weight: str = "normal", colour: str = INK,
) -> None:  # fmt: skip
    look = {"x": _fixed(x), "y": _fixed(y), "text-anchor": anchor, "fill": colour}
    look["style"] = f"font-family: {FONT}; font-weight: {weight}; font-size: {size:g}px"
    ElementTree.SubElement(root, "text", look).text = text


def _fixed(value: float) -> str:
    """Return a number with at most two decimals."""
    return f"{round(float(value), 2) + 0.0:.2f}".rstrip("0").rstrip(".")
