"""What the pages and figures of clusters say, from summaries made up, and that figures hold what they were given."""

import base64
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mllab.report import cluster_panels, clustering, colours, figures, page
from mllab.report.cluster_panels import Plane

NASTY = "<b>own</b>"
ENVIRONMENT = {
    "data": {"own.csv": "abc"}, "versions": {"jax": "0"}, "git_commit": None,
    "devices": {"count": 1, "kind": "cpu", "platform": "cpu"},
}  # fmt: skip


def interval(mean, half=0.01, seeds=3):
    return [mean, mean - half, mean + half, seeds] if seeds > 1 else [mean, None, None, seeds]


def summary_of(ks=(2, 3, 4), chosen=3, seeds=(0, 1, 2), classes=("cat", NASTY), terms=True):
    """A summary with figures made up: silhouettes 0.4, 0.6, 0.5, ..., V-measures 0.7, 0.8, 0.9, ..."""
    fits = [
        {
            "k": k,
            "distance": {"training": interval(10 / k, seeds=len(seeds)), "validation": interval(11 / k)},
            "silhouette": interval(0.6 if k == chosen else 0.4, seeds=len(seeds)),
            **({name: interval(0.7 + 0.1 * place) for name in clustering.SCORES} if classes else {}),
        }
        for place, k in enumerate(ks)
    ]
    return {
        "dataset": {
            "name": NASTY, "rows": {"train": 600, "validation": 200, "test": 201}, "dimensions": 2,
            "task": "classification" if classes else "regression", "classes": list(classes), "target": "animal",
            "licence": "", "citation": "", "notes": [],
        },
        "split_seed": 4, "seeds": list(seeds), "restarts": 7, "fits": fits, "chosen": chosen,
        "given": len(ks) == 1, "rows_of_silhouette": 200, "shown_seed": 1,
        "clusters": [
            {
                "size": 100 - place,
                "holds": {"class": classes[place % len(classes)], "share": 0.75} if classes else None,
                "terms": ["purr", "meow"] if terms else [],
            }
            for place in range(chosen)
        ],
        "seconds": {"data": 1.0, "total": 2.0},
    }  # fmt: skip


def page_of(summary, folder, **shown):
    drawn = clustering.figures(summary, folder, **shown)
    return page.render(clustering.page(summary, drawn, ENVIRONMENT, "run it again"))


@pytest.mark.parametrize(
    ("how", "says", "says_not"),
    [
        (
            {},
            [
                "Of 3 numbers of clusters from 2 to 4, k = 3 has the best: silhouette 0.600 ± 0.010 on validation rows",
                "Against the 2 true classes, which had no say", "V-measure 0.800 ± 0.010", "&lt;b&gt;own",
                "purr, meow", "the best of 7 starts", "Its mean over seeds chose k; labels did not", "75%",
                "--split_seed 4", "The silhouette is best at 3 clusters",
            ],
            ["<b>own"],
        ),
        (
            {"ks": (3,)},
            ["Into the 3 clusters that were asked for", "There was one k, which was given"],
            ["chose k", "best mean silhouette", "The silhouette is best"],
        ),
        (
            {"classes": (), "terms": False},
            ["Into which clusters does"],
            ["V-measure", "purity", "purr", "words that stand out", "most held"],
        ),
        ({"seeds": (0,)}, ["one seed: no interval", "silhouette 0.6 on"], ["0.600 ±"]),
    ],
)  # fmt: skip
def test_the_page_says_what_must_be_known(tmp_path, how, says, says_not):
    made = page_of(summary_of(**how), tmp_path)
    for text in says:
        assert text in made, text
    for text in says_not:
        assert text not in made, text


def test_the_chosen_k_is_marked_unless_there_was_no_choice():
    lines = clustering.fit_table(summary_of()).lines()
    assert [line.split()[1] for line in lines if line.startswith("* ")] == ["3"]
    assert not any(line.startswith("* ") for line in clustering.fit_table(summary_of(ks=(3,))).lines())


def texts(figure, path):
    root = ElementTree.parse(figures.save(figure, path)).getroot()
    return ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("}text")]


def pixels(path):
    found = re.findall(r'href="data:image/png;base64,\s*([^"]*)"', path.read_text())
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(each))).convert("RGB")) for each in found]


def test_a_contingency_table_tells_shares_by_darkness_and_number(tmp_path):
    counts = np.array([[90, 10, 0], [0, 5, 5], [0, 0, 0]])
    figure = cluster_panels.contingency(counts, ["a", "b", "none"], ["x", "y", "z"], title="Clusters")
    said = texts(figure, tmp_path / "classes.svg")
    assert {"a", "b", "none", "x", "y", "z", "90", "10", "50"} <= set(said)
    (cells,) = pixels(tmp_path / "classes.svg")
    assert cells.shape == (3, 3, 3)
    darkness = 765 - cells.sum(axis=-1, dtype=int)
    assert darkness[0, 0] > darkness[1, 1] == darkness[1, 2] > darkness[0, 1] > darkness[0, 2] == 0
    with pytest.raises(ValueError, match=r"\(3, 3\): give \[2 clusters, 3 classes\]"):
        cluster_panels.contingency(counts, ["a", "b"], ["x", "y", "z"], title="")


def test_the_plane_has_a_colour_a_cluster_and_every_centre(tmp_path):
    draw = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    labels = np.arange(90) % 3
    figure = cluster_panels.plane(
        Plane(centres[labels] + draw.normal(size=(90, 2)), labels, centres, (NASTY, "y")), title="Plane"
    )
    assert {"Plane", NASTY, "y"} <= set(texts(figure, tmp_path / "plane.svg"))
    (axes,) = figure.axes
    points = [line for line in axes.lines if line.get_marker() != "+"]
    assert len({line.get_color() for line in points}) == 3
    assert [len(line.get_xdata()) for line in points] == [30, 30, 30]
    crosses = [line for line in axes.lines if line.get_marker() == "+"]
    np.testing.assert_array_equal(crosses[-1].get_xydata(), centres)


COLOURS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])


def colour_summary(ks=(2, 4), seeds=3):
    return {
        "image": {"path": f"/x/{NASTY}.png", "name": NASTY, "height": 40, "width": 60, "colours": 2400},
        "seeds": list(range(seeds)), "restarts": 7, "sample": 2400,
        "fits": [{"k": k, "error": interval(20 / k, 0.1, seeds), "file": f"colours-{k}.png"} for k in ks],
        "seconds": {"total": 2.0},
    }  # fmt: skip


def test_a_picture_in_few_colours_stands_above_its_colours_by_share(tmp_path):
    labels = np.zeros((40, 60), int)
    labels[:10] = 1  # a quarter of it is red
    made = colours.with_colours(COLOURS, labels)
    np.testing.assert_array_equal(made[:40], COLOURS[labels])
    np.testing.assert_array_equal(made[-1, :45], 0)
    np.testing.assert_array_equal(made[-1, 45:], np.tile(COLOURS[1], (15, 1)))
    image = np.random.default_rng(0).random((40, 60, 3))
    drawn = colours.figures(colour_summary(), image, [(COLOURS, labels)] * 2, tmp_path)
    first, second, third = pixels(drawn["pictures"])
    np.testing.assert_array_equal(first[:40], np.round(255 * image))
    np.testing.assert_array_equal(second, np.round(255 * made))
    np.testing.assert_array_equal(third, second)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (
            {},
            ["in 2 colours (1 bit) it is off by 10.00 ± 0.10, in 4 colours (2 bits) it is off by 5.00 ± 0.10", "2,400"],
        ),
        ({"ks": (2,), "seeds": 1}, ["in 2 colours (1 bit) it is off by 10:", "one seed: no interval"]),
    ],
)
def test_the_page_of_colours(tmp_path, how, says):
    summary = colour_summary(**how)
    image, reduced = np.zeros((40, 60, 3)), [(COLOURS, np.zeros((40, 60), int))] * len(summary["fits"])
    drawn = colours.figures(summary, image, reduced, tmp_path)
    assert ("error" in drawn) == (len(summary["fits"]) > 1)
    made = page.render(colours.page(summary, drawn, ENVIRONMENT, "again"))
    for text in says:
        assert text in made, text
    assert NASTY not in made


TWENTY = [f"group.number.{index}.of.some.length" for index in range(20)]
FIGURES = {
    "contingency of 20": lambda: cluster_panels.contingency(np.eye(20) + 0.3, TWENTY, TWENTY, title="Twenty " * 20),
    "contingency of 2": lambda: cluster_panels.contingency(np.ones((10, 2)), TWENTY[:10], ["a", NASTY], title="Two"),
    "contingency of 100": lambda: cluster_panels.contingency(np.ones((20, 100)), TWENTY, TWENTY * 5, title="Many"),
    "pictures": lambda: cluster_panels.pictures([np.zeros((4, 6, 1))] * 7, list("abcdefg"), title="t", columns=5),
    "plane": lambda: cluster_panels.plane(
        Plane(np.arange(8.0).reshape(4, 2), np.zeros(4, int), np.ones((1, 2)), ("x" * 99, "y" * 99)), title="t"
    ),
}  # fmt: skip


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES.keys())
def test_no_text_leaves_the_figure_or_covers_another(draw, tmp_path):
    figure = draw()
    figure.set_dpi(288)
    renderer = FigureCanvasAgg(figure).get_renderer()
    width, height = figure.bbox.size
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in figure.texts]
    for index, (text, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text  # noqa: PT018
        for other, beside in boxes[:index]:
            assert not box.shrunk(0.98, 0.7).overlaps(beside.shrunk(0.98, 0.7)), (text, other)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    for name, draw in FIGURES.items():
        first, second = (figures.save(draw(), tmp_path / "figure.svg").read_bytes() for _ in range(2))
        assert first == second, name
