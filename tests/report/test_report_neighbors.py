"""The page of nearest neighbours: what it says and leaves out, its tables and figures, from figures made up."""

import numpy as np
import pytest
from test_report_pictures import embedded

from mllab.report import neighbors as report
from mllab.report import page as pages

ENVIRONMENT = {
    "data": {"own.csv": "0" * 64},
    "versions": {"jax": "0"},
    "devices": {"count": 1, "kind": "cpu", "platform": "cpu"},
    "git_commit": None,
}
LOOPS = {
    "rows": 5000, "queries": 500, "features": 3072, "neighbors": 10,
    "ways": [
        {"way": "two loops", "asked": 5, "seconds": 16.4, "reckoned": True, "places": 50, "same": 50},
        {"way": "no loop", "asked": 500, "seconds": 0.5, "reckoned": False, "places": 5000, "same": 4999},
        {"way": "fast", "asked": 500, "seconds": 0.1, "reckoned": False, "places": 5000, "same": 5000},
    ],
}  # fmt: skip


def summary_of(ks=range(1, 31), chosen=3, rounds=1, loops=LOOPS, scarce=(), learned=800, shape=(8, 8, 1)):
    """A summary with figures made up: accuracy falls by a tenth of a point a neighbour beyond the chosen."""
    accuracy = {k: 0.95 - 0.001 * abs(k - chosen) for k in ks}
    return {
        "dataset": {
            "name": "<b>own</b>", "rows": {"learned from": learned, "available": 800, "test": 200},
            "classes": ["a<b>", "b"], "shape": list(shape), "licence": "CC0", "citation": "Somebody 1998", "notes": [],
        },
        "split_seed": 4,
        "folds": 5,
        "rounds": rounds,
        "scarce": list(scarce),
        "k": [{"k": k, "accuracy": [mean, mean - 0.02, mean + 0.02, 5], "by_fold": []} for k, mean in accuracy.items()],
        "chosen": chosen,
        "held_out": [0.95, 0.93, 0.97, 5],
        "test": [0.945, 0.904, 0.969, 200],
        "baseline": {"class": "a<b>", "held_out": [0.6, 0.59, 0.61, 5], "test": [0.61, 0.54, 0.67, 200]},
        "loops": loops,
        "seconds": {"data": 1.0, "total": 2.0},
    }  # fmt: skip


def pictures_of(kind, count=3, side=8, channels=1):
    draw = np.random.default_rng(0)
    true = np.arange(count) % 2
    return {
        "images": draw.random((count, side, side, channels)),
        "true": true,
        "predicted": true if kind == "hits" else 1 - true,
        "neighbors": draw.random((count, 7, side, side, channels)),
        "labels": draw.integers(0, 2, (count, 7)),
    }


def page_of(summary, folder, shown=None):
    drawn = report.figures(summary, shown or {}, folder)
    return pages.render(report.page(summary, drawn, ENVIRONMENT, "run it again"))


@pytest.mark.parametrize(
    ("how", "says", "says_not"),
    [
        (
            {},
            [
                "the vote of the 3 nearest rows is right on 94.50% of 200 test rows (95% interval 90.4–96.9%)",
                "always saying the most frequent class, on 61.00%", "from 1 to 30 on the 800 rows", "95 ± 2%",
                "A search of 5,000 rows takes about 16.4 s by two loops and 0.1 s by fast: 160 times as fast",
                "&lt;b&gt;own", "always &#39;a&lt;b&gt;&#39;", "(5 by two loops)", "4,999/5,000", "pixels in [0, 1]",
                "5 folds, seed 4", "run it again", "licence: CC0",
            ],
            ["<b>own", "a<b>", "--rows", "Fewer rows"],
        ),
        ({"loops": None}, ["Nearest neighbours on"], ["loops", "A search"]),
        ({"chosen": 1}, ["the vote of the nearest row is right"], ["1 nearest"]),
        ({"ks": (1, 3, 9)}, ["chosen from 1, 3, 9 on"], ["1 to 9"]),
        ({"rounds": 4}, ["5 folds, dealt 4 times"], []),
        ({"learned": 90}, ["Learned from 90 of 800 rows (--rows), drawn by class"], []),
        ({"scarce": ("<i>rare",)}, ["Fewer rows than the 5 folds", "&lt;i&gt;rare"], ["<i>rare"]),
        ({"shape": (12,)}, ["scaled by the split", "12 columns"], ["pixels"]),
    ],
)  # fmt: skip
def test_the_page_says_what_must_be_known(tmp_path, how, says, says_not):
    page = page_of(summary_of(**how), tmp_path)
    for text in says:
        assert text in page, text
    for text in says_not:
        assert text not in page, text


@pytest.mark.parametrize("kinds", [(), ("mistakes",), ("hits",), ("mistakes", "hits")])
def test_neighbours_are_shown_where_there_are_pictures(tmp_path, kinds):
    page = page_of(summary_of(), tmp_path, {kind: pictures_of(kind) for kind in kinds})
    assert ("Who the neighbours are" in page) == bool(kinds)
    for kind, title in report.TITLES.items():
        assert (title in page) == (kind in kinds)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", report.TITLES)
def test_each_picture_stands_before_its_neighbours_with_their_classes(tmp_path, kind, channels):
    shown = pictures_of(kind, channels=channels)
    drawn = report.figures(summary_of(), {kind: shown}, tmp_path)[f"neighbors_of_{kind}"]
    rows = np.concatenate([shown["images"][:, None], shown["neighbors"]], axis=1).reshape(-1, 8, 8, channels)
    text = drawn.read_text()
    found = embedded(text)
    assert len(found) == len(rows) == 24
    for picture, row in zip(found, rows, strict=True):
        np.testing.assert_array_equal(picture[..., :3], np.broadcast_to((row * 255).round(), (8, 8, 3)))
    assert ("→ b" in text) == (kind == "mistakes")


def test_large_photographs_are_averaged_down(tmp_path):
    shown = pictures_of("hits", count=6, side=120, channels=3)
    drawn = report.figures(summary_of(), {"hits": shown}, tmp_path)["neighbors_of_hits"]
    assert drawn.stat().st_size < 500_000


def test_the_table_of_k_has_the_chosen_one_marked_and_both_ends():
    table = report.k_table(summary_of(ks=range(1, 51), chosen=23))
    ks = [row[0] for row in table.rows]
    assert ks == sorted(set(ks))
    assert (ks[0], ks[-1], ks[table.best]) == (1, 50, 23)
    assert len(ks) <= report.LISTED + 1
    assert [row[0] for row in report.k_table(summary_of(ks=(5,), chosen=5)).rows] == [5]


def test_loops_are_compared_with_the_first_and_the_fastest_is_marked():
    table = report.loops_table(summary_of())
    assert [row[2] for row in table.rows] == ["1", "33", "160"]
    assert [row[1] for row in table.rows] == ["≈ 16.4", "0.5", "0.1"]
    assert table.best == 2


@pytest.mark.parametrize("ks", [(3,), (3, 4), range(1, 31)])
def test_accuracy_is_drawn_against_k_whatever_k_there_are(tmp_path, ks):
    drawn = report.figures(summary_of(ks=ks), {}, tmp_path)["accuracy_by_k"].read_text()
    for text in (
        "k, the neighbours that vote",
        "accuracy on held-out rows (%)",
        "95 ± 2% right on held-out rows at k = 3",
    ):
        assert text in drawn
