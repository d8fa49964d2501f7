"""Moving pictures: what stands in the SVG, where it is at each moment, and that it needs no script."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from mllab.report import draw, page
from support.figures import NASTY
from support.mistakes import refused_in_one_line

STEPS = 40
TIMES = np.linspace(0, 1, STEPS)
SVG = "{http://www.w3.org/2000/svg}"


def moving(title="An episode", steps=STEPS):
    times = np.linspace(0, 1, steps)
    still = draw.Body(np.array([(0, 0), (2, 0), (2, -0.1), (0, -0.1)]), "ground", np.zeros((1, 3)))
    rod = draw.Body(
        np.array([(0, 0), (0.5, 0)]),
        "part",
        np.stack([2 * times, times, np.pi * times], axis=1),
        width=0.1,
        filled=False,
    )
    disc = draw.Body(np.zeros((1, 2)), "agent", np.stack([times, 0 * times, 0 * times], axis=1), radius=0.2)
    return draw.animation(
        [still, rod, disc], draw.View(0, -1, 2, 1), np.cumsum(times), title=title, line_label=title, notes=[title]
    )


def parts(svg):
    """Return the elements of an SVG that its style sheet moves, and the key frames of each: {share: (x, y, angle)}."""
    root = ElementTree.fromstring(svg)
    sheet = root.find(f"{SVG}style").text
    moves = {}
    for name, frames in re.findall(r"@keyframes (\S+?)\{((?:[^{}]*\{[^{}]*\})*)\}", sheet):
        element = next(each for each in root.iter() if each.get("class") == name)
        pattern = r"([\d.]+)%\{transform:translate\((\S+?)px,(\S+?)px\) rotate\((\S+?)deg\)\}"
        moves[name] = element, {float(at): tuple(map(float, pose)) for at, *pose in re.findall(pattern, frames)}
    return root, sheet, moves


def test_bodies_move_to_where_they_are_at_each_step():
    root, _, moves = parts(moving().svg)
    (rod, frames), (disc, _), (mark, _) = moves.values()  # the ground does not move
    assert [each.tag.removeprefix(SVG) for each in (rod, disc, mark)] == ["polyline", "circle", "circle"]
    assert len(frames) == STEPS + 1  # and a rest at the end
    first, *_, last, rest = frames.values()
    assert last == rest
    scale = float(disc.get("r")) / 0.2
    np.testing.assert_allclose(np.subtract(last, first), [2 * scale, -scale, -180], atol=0.03)  # y points down
    x, y, angle = map(float, re.findall(r"[-\d.]+", rod.get("transform")))
    assert (x, y, angle) == first  # where style sheets are not read, the first picture stands
    ghosts = [each for each in root.iter() if each.get("opacity")]
    assert len(ghosts) == 2 * 6


def test_it_rests_on_paper_under_the_pointer_and_where_less_motion_is_preferred():
    _, sheet, moves = parts(moving().svg)
    for name in moves:
        for rule in (r"@media \(prefers-reduced-motion: reduce\)", "@media print"):
            assert re.search(rf"{rule}{{[^{{}}]*\.{name}[^{{}}]*{{animation:none}}}}", sheet)
        assert f"svg:hover .{name}" in sheet
    assert "script" not in moving().svg.decode()


def test_a_page_holds_two_and_a_long_one_has_few_frames(tmp_path):
    one, other = moving(), moving("Another", steps=10_000)
    paths = [draw.save(each, tmp_path / f"{place}.svg") for place, each in enumerate((one, other))]
    inlined = [str(page.inline_svg(path, "alt", f"figure-{place}-")) for place, path in enumerate(paths)]
    names = [set(re.findall(r"@keyframes (\S+?)\{", text)) for text in inlined]
    assert not names[0] & names[1]
    assert 'clip-path="url(#figure-0-scene)"' in inlined[0]
    assert "--legible" in inlined[0]
    assert len(other.svg) < 100_000
    assert moving().svg == one.svg


@pytest.mark.parametrize("name", NASTY)
def test_any_name_can_be_drawn(name):
    root, _, _ = parts(moving(name).svg)
    width = float(root.get("viewBox").split()[2])
    assert all(0 <= float(each.get("x")) <= width for each in root.iter(f"{SVG}text"))


@pytest.mark.parametrize("steps", [1, 2])
def test_short_episodes_can_be_drawn(steps):
    root, _, moves = parts(moving(steps=steps).svg)
    assert len(moves) == (3 if steps > 1 else 1)
    assert root.get("viewBox")


def test_an_animation_is_no_png(tmp_path):
    with refused_in_one_line("an animation is an SVG"):
        draw.save(moving(), tmp_path / "a.png")


def test_walls_goals_and_ties_of_a_policy(tmp_path):
    arrows = np.zeros((2, 2, 4), bool)
    arrows[0, 0], arrows[1, 0, 1] = True, True
    values = np.array([[0.0, np.nan], [-0.5, 1.0]])
    figure = draw.policies([draw.Map("after", values, arrows)], [["S", ""], ["", "G"]], title="Values")
    axes = figure.axes[0]
    texts = [each.get_text() for each in axes.texts if each.get_text()]
    assert texts == ["0.00", "S", "−0.50", "G"]
    drawn = [each for each in axes.texts if getattr(each, "arrow_patch", None)]
    assert len(drawn) == 4 + 1
    colours = axes.images[0].get_array()
    np.testing.assert_allclose(colours[0, 0], [0.97, 0.97, 0.97], atol=0.01)  # white: 0
    assert colours[1, 0, 0] > colours[1, 0, 2]  # red below
    draw.save(figure, tmp_path / "map.svg")
