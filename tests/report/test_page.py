"""Pages: what comes first, nothing from elsewhere, ids unique, names escaped, legible on a phone and in print."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab.report import draw, page
from mllab.report.draw import Series
from mllab.report.report import Alignment, Bullets, Drawing, Environment, Provenance, Report, Section
from mllab.report.table import Table, printable
from support.figures import NASTY as NASTY_NAMES
from support.pages import Reader

NASTY = "<script>alert('1')</script> \" & $x$ {{ 7 * 7 }}"
MACHINE = Environment(
    versions={"python": "3.11", "jax": "0.10"},
    devices={"count": 2, "kind": "cpu", "platform": "cpu"},
    machine="Linux",
    cpu="a processor",
    xla_flags="",
    git_commit="abc123",
    data={"digits.csv": "0123abcd"},
)


def provenance(name="digits"):
    return Provenance(
        f"python -m experiments.race --dataset={name}", MACHINE, {"train": 3.0, "total": 4.0}, ["A. Author"]
    )


def drawing(name, text):
    series = [Series(label, [1e-3, 1e-2, 1e-1], [0.1, 0.9, 0.5]) for label in ("adam", NASTY)]
    return Drawing(name, draw.against_rate(series, title=name, y_label="accuracy"), f"alt {text}", f"caption {text}")


def report(name="digits"):
    """A report with two drawings made alike: their clip paths and markers have the same ids."""
    return Report(
        title=f"Race on {name}",
        question=f"Which optimizer is best on {name}?",
        answer=f"adam, by 0.2 points on {name}.",
        table=Table(["optimizer", name], [["sgd", "0.97 ± 0.02"], [name, "0.972 ± 0.004"]], 1, f"caption {name}"),
        sections=[
            Section(f"More {name}", [f"A paragraph on {name}."]),
            Section("Figures", [drawing("first", name), drawing("second", name)]),
            Section("Lost", [Bullets([f"adam lost a lane on {name}"])]),
            Section("Nothing", [None, "", Bullets(["", ""])]),
        ],
        facts={"data": name, name: [name, "see https://archive.ics.uci.edu/80"], "nothing": ""},
    )


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """The page of `report` on digits."""
    return html(report(), tmp_path_factory.mktemp("figures"))


def html(made, folder, name="digits"):
    return page.render(made, page.save_drawings(made, folder), provenance(name))


def test_the_question_and_the_answer_come_first_then_the_sections_in_order(rendered):
    words = Reader(rendered).words()
    places = [
        words.index(text)
        for text in (
            "Race on digits Which optimizer is best on digits? adam, by 0.2 points on digits.",
            "0.972 ± 0.004",
            "caption digits",
            "A paragraph on digits.",
            "first",
            "second",
            "adam lost a lane on digits",
            "Where the time went part seconds share train 3.00 75.0% everything else 1.00 25.0% total 4.00 100.0%",
            "How it was run data digits",
            "source A. Author sha256 digits.csv 0123abcd versions python 3.11, jax 0.10",
            "devices 2 × cpu (cpu), a processor",
            "python -m experiments.race --dataset=digits",
        )
    ]
    assert places == sorted(places)
    assert "Nothing" not in words
    assert "nothing" not in words


def test_nothing_comes_from_elsewhere(rendered):
    elements = Reader(rendered).elements
    assert not {"script", "link", "img", "iframe", "object", "base", "image"} & {tag for tag, _ in elements}
    for tag, attributes in elements:
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        href = attributes.get("href", "#")
        assert href.startswith("#") or (tag == "a" and href == "https://archive.ics.uci.edu/80")
    assert "@import" not in rendered
    assert not re.search(r"url\((?!#)", rendered)


def test_ids_are_unique_and_every_reference_finds_its_own(rendered):
    ids = [attributes["id"] for _, attributes in Reader(rendered).elements if "id" in attributes]
    assert len(ids) > 20
    assert len(ids) == len(set(ids))
    first, second = re.findall(r"<svg.*?</svg>", rendered, flags=re.DOTALL)
    for svg, prefix in ((first, "figure-1-"), (second, "figure-2-")):
        references = re.findall(r"url\(#([^)]*)\)", svg) + re.findall(r'href="#([^"]*)"', svg)
        assert len(references) > 5
        assert set(references) <= set(re.findall(r'id="([^"]*)"', svg))
        assert all(reference.startswith(prefix) for reference in references)


def test_names_that_users_chose_are_escaped(tmp_path):
    text = html(report(NASTY), tmp_path, NASTY)
    assert "<script" not in text
    assert "49" not in re.sub(r"<svg.*?</svg>|<style>.*?</style>", "", text, flags=re.DOTALL)
    reader = Reader(text)
    assert reader.words().count(NASTY) >= 11  # figures cut it short
    assert ("svg", f"alt {NASTY}") in [(tag, attributes.get("aria-label")) for tag, attributes in reader.elements]


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_any_name_is_read_back(name):
    made = Report(
        name, "", "", Table(["x"], []), [Section("h", [name, Bullets([name])])], {f"fact {name}": name}
    )  # alone, it may be one of the page itself, such as sha256
    html = page.render(made, {}, provenance(name))
    assert html.replace("\n", "").replace("\xa0", "").isprintable()
    shown = " ".join(printable(name).split())
    assert Reader(html.encode().decode()).words().count(shown) >= 7


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_every_text_of_a_page_may_hold_any_name(tmp_path, name):
    text = html(report(name), tmp_path, name)
    assert text.replace("\n", "").replace("\xa0", "").isprintable()
    reader = Reader(text.encode().decode())
    assert reader.words().count(" ".join(printable(name).split())) >= 11
    assert not {"script", "b"} & {tag for tag, _ in reader.elements}


@pytest.mark.parametrize(("count", "shown"), [(8, 8), (9, 9), (10, 8), (33, 8)])
def test_many_statements_and_lines_of_a_fact_are_folded(count, shown):
    lines = [f"statement {index:02}." for index in range(count)]
    made = Report("t", "q", "a", Table(["x"], []), [Section("h", [Bullets(lines)])], {"notes": lines})
    text = page.render(made, {}, provenance())
    words = Reader(text).words()
    assert all(words.count(line) == 2 for line in lines)
    assert words.count(f"and {count - shown} more") == 2 * (count > shown)
    outside = Reader(re.sub(r"<details>.*?</details>", "", text, flags=re.DOTALL)).words()
    assert all((line in outside) == (index < shown) for index, line in enumerate(lines))


def test_wide_tables_and_figures_scroll_inside_the_page(rendered):
    elements = Reader(rendered).elements
    for tag, inside in (("table", "scroll"), ("svg", "drawing")):
        places = [place for place, (name, _) in enumerate(elements) if name == tag]
        assert places
        assert all(elements[place - 1] == ("div", {"class": inside, "tabindex": "0"}) for place in places)
    for svg in re.findall(r"<svg.*?</svg>", rendered, flags=re.DOTALL):
        (width,) = map(float, re.findall(r'style="--legible: (\d+)px"', svg))
        left, _, across, _ = map(float, re.search(r'viewBox="([^"]*)"', svg)[1].split())
        smallest = min(map(float, re.findall(r"font-size: ([\d.]+)px", svg)))
        assert smallest * width / (across - left) >= page.MIN_TYPE - 0.1


def test_the_best_row_is_marked_and_numbers_stand_apart(rendered):
    rows = re.findall(r"<tr.*?</tr>", rendered, flags=re.DOTALL)[:3]
    assert [("best" in row, "* " in row) for row in rows] == [(False, False), (False, False), (True, True)]
    cells = re.findall(r'<td class="number">(.*?)</td>', "".join(rows))
    assert len({len(cell) for cell in cells}) == len({cell.index(".") for cell in cells}) == 1


def test_a_page_fits_phone_and_paper(rendered):
    attributes = [attributes for tag, attributes in Reader(rendered).elements if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in attributes
    assert "@media print" in rendered
    for svg in re.findall(r"<svg[^>]*>", rendered):
        assert "viewBox" in svg
        assert " width" not in svg


def test_a_page_is_written_whole_and_repeats(tmp_path):
    made = report()
    drawn = page.save_drawings(made, tmp_path / "figures")
    path = page.write(tmp_path / "new" / "report.html", made, drawn, provenance())
    first = path.read_bytes()
    assert (
        first == page.write(path, report(), page.save_drawings(report(), tmp_path / "again"), provenance()).read_bytes()
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


@pytest.mark.slow
def test_two_drawings_of_one_name_are_a_mistake_of_the_program(tmp_path):
    made = Report("t", "q", "a", Table(["x"], []), [Section("s", [drawing("same", "a"), drawing("same", "b")])])
    with pytest.raises(ValueError, match="share a name"):
        page.save_drawings(made, tmp_path)


def test_shares_of_the_time_without_a_total_are_of_the_sum():
    assert page.seconds_table({"imports": 1.0, "train": 3.0}).rows == [
        ["imports", "1.00", "25.0%"],
        ["train", "3.00", "75.0%"],
        ["total", "4.00", "100.0%"],
    ]


def test_an_alignment_lights_up_by_style_alone():
    block = Alignment(["ein", NASTY], ["a", "<b>"], [[1.0, 0.0], [0.255, 0.745]], "reference: a dog")
    made = Report("t", "q", "a", Table(["x"], [["1"]]), [Section("What it reads", [block])])
    text = page.render(made, {}, provenance())
    reader = Reader(text)
    assert not {"script", "b"} & {tag for tag, _ in reader.elements}
    weights = [each["style"] for tag, each in reader.elements if tag == "span" and "style" in each]
    assert weights == ["--weight: 1.00", "--weight: 0.00", "--weight: 0.26", "--weight: 0.74"]
    words = [each for tag, each in reader.elements if tag == "span" and each.get("class") == "word"]
    assert [each["tabindex"] for each in words] == ["0", "0"]
    assert ".alignment .word:is(:hover, :focus) > .lit" in text
    assert "reference: a dog" in reader.words()
