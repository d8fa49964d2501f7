"""Shapes in world coordinates: what an environment's state looks like, for whoever draws it.

A shape says what it stands for, its role; its colour and line are the drawing's choice.
"""

from dataclasses import dataclass
from typing import Literal

Point = tuple[float, float]
Role = Literal["agent", "part", "target", "danger", "wall", "ground"]


@dataclass(frozen=True)
class Line:
    """A straight line, or a rod of some width (0 is the thinnest line that can be drawn)."""

    start: Point
    end: Point
    role: Role = "part"
    width: float = 0.0


@dataclass(frozen=True)
class Circle:
    """A disc."""

    centre: Point
    radius: float
    role: Role = "part"


@dataclass(frozen=True)
class Rectangle:
    """A rectangle with sides along the axes."""

    centre: Point
    width: float
    height: float
    role: Role = "part"


@dataclass(frozen=True)
class Polygon:
    """A filled polygon, or an open line through its points."""

    points: tuple[Point, ...]
    role: Role = "part"
    filled: bool = True


@dataclass(frozen=True)
class View:
    """The part of the world that is drawn; both axes have the same scale unless `stretched`."""

    left: float
    bottom: float
    right: float
    top: float
    stretched: bool = False


@dataclass(frozen=True)
class Scene:
    """Shapes from back to front, and the part of the world to show."""

    shapes: tuple[Line | Circle | Rectangle | Polygon, ...]
    view: View
