import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.report import figures, page
from mllab.report.figures import Series
from mllab.report.page import Bullets, Code, Definitions, Figure, Page, Section
from mllab.report.table import Table

NASTY = "<script>alert('1')</script> \" & $x$ {{ 7 * 7 }}"
VOID = {"meta", "br"}


class Reader(HTMLParser):
    """Reads a page as a browser would, and checks that its elements are closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.text, self.tags = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def words(self):
        return " ".join("".join(self.text).split())


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return two figures made alike: their clip paths and markers have the same ids."""
    folder = tmp_path_factory.mktemp("figures")
    series = [Series(name, [1e-3, 1e-2, 1e-1], [0.1, 0.9, 0.5]) for name in ("adam", NASTY)]
    return [
        figures.save(figures.against_rate(series, title=title, y_label="accuracy"), folder / f"{title}.svg")
        for title in ("first", "second")
    ]


def report(drawn, name="digits"):
    table = Table(["optimizer", name], [["sgd", "0.97 ± 0.02"], [name, "0.972 ± 0.004"]], 1, f"caption {name}")
    return Page(
        f"Race on {name}",
        f"Which optimizer is best on {name}?",
        f"adam, by 0.2 points on {name}.",
        [
            Section(f"Result {name}", [table, f"A paragraph on {name}."]),
            Section("Figures", [Figure(path, f"alt {name}", f"caption {name}") for path in drawn]),
            Section("Lost", [Bullets([f"adam lost a lane on {name}"])]),
            Section("How", [Definitions({"data": name, name: [name, "see https://archive.ics.uci.edu/80"]})]),
            Section("Again", [Code(f"python -m experiments.race --dataset={name}")]),
        ],
    )


def test_the_page_says_first_what_was_asked_and_what_won(drawn):
    words = Reader(page.render(report(drawn))).words()
    places = [
        words.index(said)
        for said in (
            "Race on digits Which optimizer is best on digits? adam, by 0.2 points on digits.",
            "0.972 ± 0.004",
            "caption digits",
            "A paragraph on digits.",
            "first",
            "second",
            "adam lost a lane on digits",
            "python -m experiments.race --dataset=digits",
        )
    ]
    assert places == sorted(places)


def test_nothing_comes_from_elsewhere(drawn):
    html = page.render(report(drawn))
    elements = Reader(html).elements
    assert not {"script", "link", "img", "iframe", "object", "base", "image"} & {tag for tag, _ in elements}
    for tag, attributes in elements:
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        href = attributes.get("href", "#")
        assert href.startswith("#") or (tag == "a" and href == "https://archive.ics.uci.edu/80")
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_ids_are_unique_and_every_reference_finds_its_own(drawn):
    html = page.render(report(drawn))
    ids = [attributes["id"] for _, attributes in Reader(html).elements if "id" in attributes]
    assert len(ids) > 20
    assert len(ids) == len(set(ids))
    first, second = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    for svg, prefix in ((first, "figure-1-"), (second, "figure-2-")):
        references = re.findall(r"url\(#([^)]*)\)", svg) + re.findall(r'href="#([^"]*)"', svg)
        assert len(references) > 5
        assert set(references) <= set(re.findall(r'id="([^"]*)"', svg))
        assert all(reference.startswith(prefix) for reference in references)


def test_what_users_named_is_escaped(drawn):
    html = page.render(report(drawn, NASTY))
    assert "<script" not in html
    assert "49" not in re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", html, flags=re.DOTALL)
    reader = Reader(html)
    assert reader.words().count(NASTY) >= 13  # wherever it was named, and in the key of both figures
    assert ("svg", f"alt {NASTY}") in [(tag, attributes.get("aria-label")) for tag, attributes in reader.elements]


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30))
def test_any_name_is_read_back(name):
    made = Page(name, "", "", [Section("h", [name, Code(name), Definitions({name: name}), Bullets([name])])])
    assert "".join(Reader(page.render(made)).text).count(name.strip()) >= 6


def test_the_best_row_is_marked_and_numbers_stand_apart(drawn):
    html = page.render(report(drawn))
    rows = re.findall(r"<tr.*?</tr>", html, flags=re.DOTALL)
    assert [("best" in row, "* " in row) for row in rows] == [(False, False), (False, False), (True, True)]
    cells = re.findall(r'<td class="number">(.*?)</td>', html)
    assert len({len(cell) for cell in cells}) == len({cell.index(".") for cell in cells}) == 1


def test_a_page_fits_phone_and_paper(drawn):
    html = page.render(report(drawn))
    attributes = [attributes for tag, attributes in Reader(html).elements if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in attributes
    assert "@media print" in html
    for svg in re.findall(r"<svg[^>]*>", html):
        assert "viewBox" in svg
        assert " width" not in svg


def test_a_page_is_written_whole_and_repeats(drawn, tmp_path):
    path = page.write(tmp_path / "new" / "report.html", report(drawn))
    first = path.read_bytes()
    assert first == page.write(path, report(drawn)).read_bytes() == page.render(report(drawn)).encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]
