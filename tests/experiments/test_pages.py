"""The page and the folder of every experiment, run tiny: one table of runs, one set of checks."""

import html
import importlib
import json
import math
import re
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest

from experiments import compare, recorded_run, run_comparison, run_scores
from mllab.report import table
from support.pages import Reader

NASTY = "<b>cat</b> & {{ 7 * 7 }} $x$"  # a class of the user's own table
OWN = "own 中文 $x$.csv"
TABLE = {"dataset": "TABLE", "target": "kind"}  # replaced by the path of a table with such a class
FEW = {"seeds": 1, "epochs": 1}
RUNS = {
    "optimizer_race": {**TABLE, "optimizers": ("adam", "sgd"), "learning_rates": (0.01, 1.0), "seeds": 2, "epochs": 1},
    "linear_regression": {"optimizers": ("sgd", "adam"), "steps": 20},
    "nearest_neighbors": {**TABLE, "k": (1, 3), "loops": 100},
    "kernel_svm": {**TABLE, "c": (1.0, 10.0), "gamma": (1.0,), "folds": 2},
    "clustering": {**TABLE, "clusters": (2, 3), "restarts": 1, "seeds": 2},
    "clustering image": {"image": "china", "clusters": (2, 4), "restarts": 1, "seeds": 1},
    "semi_supervised": {**TABLE, "labels": (6, 12), "draws": 2, "covariances": ("spherical",), "restarts": 1},
    "capacity": {**TABLE, "axes": ("degree", "k"), "learning": ("knn",), "samples": 2, "rows": 12},
    "image_classifier": {"dataset": "digits", "channels": (2, 2), "hidden": (4,), **FEW},
    "model_selection": {**TABLE, "models": ("knn",), "folds": 2, "inner_folds": 2},
    "char_rnn": {
        "text": "TEXT", "cells": ("gru", "mingru"), "hidden": 4, "embedding": 3, "batch_size": 4, "window": 8,
        "steps": 4, "seeds": 2, "sample_length": 60,
    },
    "sequence_toys": {
        "problems": ("parity", "adding"), "cells": ("gru",), "lengths": (2, 3), "hidden": 4, "batch_size": 4,
        "steps": 4, "seeds": 2, "held_out": 8, "radii": (1.0,), "distance": 4, "learning_rates": (0.01,),
    },
    "music": {"hidden": 4, "units": 4, "epochs": 1, "seeds": 2, "frames": 12},
    "translation": {
        "dataset": "PAIRS", "tokens": "words", "minimum": 1, "models": ("gru", "gru_without_attention"), "hidden": 4,
        "embedding": 3, "epochs": 1, "batch_size": 16, "segments": 2, "seeds": 2, "beam": 2, "crops": 1,
    },
    "time_series": {
        "dataset": "SERIES", "cells": ("tanh", "mingru"), "hidden": 3, "window": 6, "horizon": 3, "steps": 4,
        "seeds": 2, "learning_rates": (0.01,),
    },
    "reinforcement": {
        "environment": "gridworld", "agents": ("q_learning", "reinforce"), "interactions": 300, "seeds": 2,
        "tuning_seeds": 2, "learning_rates": (0.1, 0.3), "hidden": (4,), "episodes": 3, "validation_episodes": 2,
    },
    "features": {"dataset": "digits", "fractions": (0.05,), "seeds": 1, "params": "PARAMS"},
    "compare": {"workdirs": "RACES"},
}  # fmt: skip
SLOW = (
    "reinforcement",
    "compare",
    "clustering",
    "char_rnn",
    "music",
    "translation",
    "time_series",
    "features",
    "kernel_svm",
    "semi_supervised",
    "sequence_toys",
    "clustering image",
    "model_selection",
    "image_classifier",
    "capacity",
    "linear_regression",
    "nearest_neighbors",
)  # with whole runs in tests of their own
NAMES = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in RUNS]
HEADINGS = ["The result", "Where the time went", "How it was run", "Repeat it"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table of three classes in the plane; file, column and classes have nasty names."""
    path, draw = tmp_path_factory.mktemp("pages"), np.random.default_rng(0)
    kinds = draw.permutation(np.repeat([0, 1, 2], 40))
    names = ["ok\x01bad", "中文 😀", f'"{NASTY}"']
    points = draw.normal(size=(120, 2)) + 2 * np.stack([kinds == 1, kinds == 2], axis=1)
    rows = "".join(f"{x:.3f},{y:.3f},{names[kind]}\n" for (x, y), kind in zip(points, kinds, strict=True))
    (path / OWN).write_text("width $w_1$,high,kind\n" + rows)
    return path


def started(name, folder):
    """The run of this name, made once; its folder."""
    workdir = folder / name.replace(" ", "_")
    if not workdir.exists():
        settings = dict(RUNS[name])
        if settings.get("dataset") == "TABLE":
            settings["dataset"] = str(folder / OWN)
        if settings.get("text") == "TEXT":
            text = folder / "own 中文 $x$.txt"
            text.write_text(f"{NASTY} 中文 😀\t&amp; the most frequent words\n" * 30, encoding="utf-8")
            settings["text"] = str(text)
        if settings.get("dataset") == "SERIES":
            series = folder / "own series 中文 $x$.csv"
            high = np.random.default_rng(0).normal(size=90).cumsum() + 50
            rows = "".join(f"{1990 + i // 12}-{i % 12 + 1:02d},{each:.2f}\n" for i, each in enumerate(high))
            series.write_text(f"when,{NASTY}\n{rows}", encoding="utf-8")
            settings["dataset"] = str(series)
        if settings.get("dataset") == "PAIRS":
            own = folder / "own pairs 中文 $x$.tsv"
            words = [f"{NASTY}\x01 {n} {n % 7}" for n in range(60)]
            own.write_text("".join(f"中文 😀 {word}\t{word} &amp;\n" for word in words), encoding="utf-8")
            settings["dataset"] = str(own)
        if settings.get("params") == "PARAMS":
            settings["params"] = str(started("image_classifier", folder) / "params.safetensors")
        if settings.get("workdirs") == "RACES":
            race, wide = RUNS["optimizer_race"] | {"dataset": str(folder / OWN)}, folder / "wide"
            importlib.import_module("experiments.optimizer_race").run(workdir=str(wide), **race, hidden=(8,))
            settings["workdirs"] = (str(started("optimizer_race", folder)), str(wide))
        experiment = importlib.import_module(f"experiments.{name.split()[0]}")
        experiment.run(workdir=str(workdir), **settings)
    return workdir


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_writes_a_whole_folder_and_a_self_contained_page(name, folder, capsys):
    workdir = started(name, folder)
    shown, progress = capsys.readouterr()
    assert "Warning" not in progress
    assert all(line.isprintable() for line in shown.split("\n"))
    for figure in (workdir / "figures").glob("*.svg"):
        ElementTree.parse(figure)
    names = {path.name for path in workdir.iterdir()}
    assert {"flags.cfg", "environment.json", "metrics.jsonl", "summary.json", "report.html", "figures"} <= names
    assert not list(workdir.rglob("*.partial"))
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["experiment"] == name.split()[0]
    total = summary["seconds"].pop("total")
    assert sum(summary["seconds"].values()) <= total + 0.01
    assert (workdir / "metrics.jsonl").read_text()
    assert f"Report: {workdir / 'report.html'}" in shown

    page = (workdir / "report.html").read_text()
    reader = Reader(page)
    elements, words = reader.elements, reader.words()
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in elements}
    for tag, attributes in elements:
        assert attributes.get("src", "").startswith("data:audio/wav;base64," if tag == "audio" else "")
        assert "src" not in attributes or tag == "audio"
        assert not any(attribute.startswith("on") for attribute in attributes)
        if not attributes.get("href", "#").startswith(("#", "data:image/png")):
            assert (tag, attributes["href"][:8]) == ("a", "https://")
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    drawn = [attributes for tag, attributes in elements if tag == "svg"]
    assert len(drawn) == len(list((workdir / "figures").glob("*.svg")))
    assert all(attributes["aria-label"] for attributes in drawn)

    places = [words.index(heading) for heading in HEADINGS]
    assert places == sorted(places)
    answer = re.search(r'<p class="answer">(.*?)</p>', page, flags=re.DOTALL)
    assert answer[1]
    assert shown.count(re.sub(r"<[^>]*>", "", answer[1].split("&")[0]).strip()[:40]) == 1  # the same on the terminal
    assert f"python -m experiments.{name.split()[0]} --flagfile=" in words
    assert "49" not in re.sub(r"<svg.*?</svg>|<style>.*?</style>|<t[dh].*?</t[dh]>", "", page, flags=re.DOTALL)[:400]
    assert "<b>cat" not in page
    if "target" in RUNS[name] and name != "optimizer_race":
        assert "<b>cat</b>" in words


NUMBER = r"[-−+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?"
BASELINES = ("most frequent", "(random)", "random actions", "predicting the mean", "first row: the baseline")


def leaves(value):
    """Yield every number of a summary."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def intervals(value):
    """Yield every (mean, low, high, count) of a summary."""
    if isinstance(value, list) and len(value) == 4 and all(isinstance(each, int | float | None) for each in value):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from intervals(item)


def plain_number(text):
    return float(text.replace(",", "").replace("−", "-"))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_the_answer_and_of_the_table_are_those_of_the_summary(name, folder):
    """Each interval as the text of one of the summary's, each decimal number as the rounding of one."""
    workdir = started(name, folder)
    page, summary = (workdir / "report.html").read_text(), json.loads((workdir / "summary.json").read_text())
    seconds = summary.pop("seconds")
    answer = html.unescape(re.search(r'<p class="answer">(.*?)</p>', page, flags=re.DOTALL)[1])
    answer = re.sub(r"<[^>]*>", "", answer).partition(" A search of ")[0]  # times, and their ratio
    result = html.unescape(re.search(r"<table.*?</table>", page, flags=re.DOTALL)[0])
    assert seconds
    texts = set()
    for each in intervals(summary):
        written = [math.nan if value is None else value for value in each]
        texts |= {form(written) for form in (table.interval, table.percent, table.points)}
    shown = {re.sub(r"\s+", " ", text) for text in texts}
    for text in (answer, " ".join(re.sub(r"<caption.*?</caption>|<[^>]*>", " ", result, flags=re.DOTALL).split())):
        for found in re.findall(rf"{NUMBER} ± {NUMBER}%?|\({NUMBER} ± {NUMBER}\)e[-+]?\d+", text):
            assert {found, found.rstrip("%")} & shown, found
    values = [scale * value for value in leaves(summary) for scale in (1, 100)]
    plain = re.sub(rf"{NUMBER}\s±\s{NUMBER}", "", answer)
    for found in re.findall(r"(?<![\w.])[-−+]?\d[\d,]*\.\d+(?:e[-+]?\d+)?", plain):
        mantissa, _, exponent = found.partition("e")
        last = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        assert any(abs(abs(value) - abs(plain_number(found))) <= 0.500001 * last for value in values), found
    words = Reader(page).words()
    assert any(each in answer or each in words for each in BASELINES)
    assert not re.search(r"(?<![/.,\d])\b1 (seeds|draws|optimizers|learning rates|epochs|steps|folds|columns)\b", words)
    assert not re.search(r"\bnan\b|[-−]0(\.0*)?(?![.\d])", answer)
    if RUNS[name].get("seeds") == 1:
        assert "±" not in answer
        assert re.search(r"\(1 (seed|draw)\)", answer)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in run_scores.READERS]
)
def test_the_scores_of_a_run_are_found_and_differ_from_themselves_by_nothing(name, folder, capsys):
    workdir = started(name, folder)
    twin = folder / f"twin of {name}"
    shutil.copytree(workdir, twin)
    runs = run_comparison.read_runs([recorded_run.read(path) for path in (workdir, twin)])
    for group in run_comparison.compare(runs, against_best=False).groups:
        rows = group.contenders or group.winners
        differences = [each for row in rows for each in (row.validation_difference, row.test_difference)]
        taken = [each for each in differences if each is not None]
        assert taken
        assert {each.mean for each in taken} == {0.0}
        assert all(steps.size for steps, _ in group.curves.values() if group.loss and group.part == "validation")
    compare.run(workdirs=(str(workdir), str(twin)), workdir=str(folder / f"compared {name}"))
    assert "The runs are not compared" not in capsys.readouterr().out
