"""Nearest neighbours: the choice of k against scikit-learn, the demonstration of loops, and the program end to end."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier

from experiments import loops
from experiments import nearest_neighbors as experiment
from experiments.workdir import Workdir
from mllab import metrics, validation
from mllab.data import catalog
from mllab.errors import UserError

ROOT = Path(__file__).parents[2]
DIGITS = catalog.load("digits")
KS, FOLDS, ROUNDS, LOOPS = (1, 4, 9, 30), 4, 2, 200


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the digits; its folder and summary."""
    workdir = Workdir(tmp_path_factory.mktemp("neighbors") / "w", "nearest_neighbors", "")
    return workdir.path, experiment.run(workdir, ks=KS, folds=FOLDS, rounds=ROUNDS, loop_rows=LOOPS)


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, summary = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert sorted(each.name for each in (path / "figures").iterdir()) == [
        "accuracy_by_k.svg", "neighbors_of_hits.svg", "neighbors_of_mistakes.svg",
    ]  # fmt: skip
    written = json.loads((path / "summary.json").read_text())
    *told, last = records(path)
    assert len(told) == len(KS) * FOLDS * ROUNDS
    for entry in written["k"]:
        by_fold = [record["accuracy"] for record in told if record["k"] == entry["k"]]
        assert entry["by_fold"] == by_fold
        np.testing.assert_allclose(entry["accuracy"][0], np.mean(by_fold))
    means = {entry["k"]: entry["accuracy"][0] for entry in written["k"]}
    assert means[written["chosen"]] == max(means.values())
    assert last == {"k": written["chosen"], "test_accuracy": written["test"][0]}
    assert summary["dataset"]["rows"] == {"learned from": 1438, "available": 1438, "test": 359}


def test_choice_and_test_accuracy_are_scikit_learns(ran):
    _, summary = ran
    pool = experiment.drawn(DIGITS, None, 0)
    inputs, targets = DIGITS.inputs.reshape(len(DIGITS.inputs), -1), DIGITS.targets
    made = validation.folds(np.arange(len(pool)), FOLDS, 0, targets[pool], rounds=ROUNDS)
    expected = np.zeros((len(KS), FOLDS * ROUNDS))
    for begin in range(0, FOLDS * ROUNDS, FOLDS):
        fold = np.empty(len(pool), int)
        for k in range(FOLDS):
            held = made.held_out.weight[begin + k] > 0
            fold[made.held_out.ids[begin + k][held]] = k
        peer = GridSearchCV(KNeighborsClassifier(algorithm="brute"), {"n_neighbors": KS}, cv=PredefinedSplit(fold))
        found = peer.fit(inputs[pool], targets[pool]).cv_results_
        expected[:, begin : begin + FOLDS] = np.stack([found[f"split{k}_test_score"] for k in range(FOLDS)], axis=1)
    ours = np.array([entry["by_fold"] for entry in summary["k"]])
    rows = len(pool) // FOLDS
    assert np.abs(ours - expected).max() < 1.5 / rows  # whole pixels: equally near rows may come in another order
    assert np.isclose(ours, expected, rtol=1e-6).mean() > 0.8
    chosen = KNeighborsClassifier(summary["chosen"], algorithm="brute").fit(inputs[pool], targets[pool])
    test = DIGITS.split.test
    assert abs(summary["test"][0] - chosen.score(inputs[test], targets[test])) < 1.5 / len(test)
    dummy = DummyClassifier().fit(inputs[pool], targets[pool])
    assert summary["baseline"]["test"][0] == pytest.approx(dummy.score(inputs[test], targets[test]))


def test_test_rows_have_no_say_in_what_is_chosen(tmp_path, monkeypatch, ran):
    _, summary = ran
    inputs, targets = DIGITS.inputs.copy(), DIGITS.targets.copy()
    inputs[DIGITS.split.test] = 1 - inputs[DIGITS.split.test]
    targets[DIGITS.split.test] = (targets[DIGITS.split.test] + 1) % 10
    changed = dataclasses.replace(DIGITS, inputs=inputs, targets=targets)
    monkeypatch.setattr(catalog, "load", lambda *_, **__: changed)
    workdir = Workdir(tmp_path / "w", "nearest_neighbors", "")
    blind = experiment.run(workdir, ks=KS, folds=FOLDS, rounds=ROUNDS, loop_rows=0)
    assert [entry["accuracy"] for entry in blind["k"]] == [entry["accuracy"] for entry in summary["k"]]
    assert blind["chosen"] == summary["chosen"]
    assert blind["test"][0] < 0.5 < summary["test"][0]
    assert blind["loops"] is None


def test_the_same_run_again_has_the_same_bits_but_for_times(tmp_path, ran):
    path, _ = ran
    again = Workdir(tmp_path / "w", "nearest_neighbors", "")
    experiment.run(again, ks=KS[::-1], folds=FOLDS, rounds=ROUNDS, loop_rows=LOOPS)
    for name in ("metrics.jsonl", *(f"figures/{each.name}" for each in (path / "figures").iterdir())):
        assert (again.path / name).read_bytes() == (path / name).read_bytes(), name

    def timeless(folder):
        summary = json.loads((folder / "summary.json").read_text())
        del summary["seconds"]
        for way in summary["loops"]["ways"]:
            del way["seconds"]
        return summary

    assert timeless(again.path) == timeless(path)


def test_the_neighbours_that_are_drawn_are_the_nearest(ran):
    _, summary = ran
    pool = experiment.drawn(DIGITS, None, 0)
    shown = experiment.pictures(DIGITS, experiment.judge(DIGITS, pool, summary["chosen"]))
    flat = DIGITS.inputs.reshape(len(DIGITS.inputs), -1).astype(float)
    for kind, each in shown.items():
        assert (each["true"] == each["predicted"]).all() == (kind == "hits")
        assert len(set(each["true"])) == len(each["true"]) or kind == "mistakes"
        for image, found in zip(each["images"], each["neighbors"], strict=True):
            nearest = np.sort(np.linalg.norm(flat[pool] - image.reshape(-1), axis=1))[: experiment.SHOWN]
            distances = np.linalg.norm(found.reshape(len(found), -1) - image.reshape(-1).astype(float), axis=1)
            np.testing.assert_allclose(distances, nearest, rtol=1e-6)


def test_fewer_rows_are_drawn_by_class_from_what_is_no_test_row():
    pool = experiment.drawn(DIGITS, 300, 5)  # another seed than the split's, which deals alike
    assert len(pool) == len(set(pool)) == 300
    assert not set(pool) & set(DIGITS.split.test)
    whole = np.bincount(DIGITS.targets[experiment.drawn(DIGITS, None, 0)])
    assert (np.abs(np.bincount(DIGITS.targets[pool]) - whole * 300 / whole.sum()) < 1).all()
    assert set(pool) != set(experiment.drawn(DIGITS, 300, 1))
    assert len(experiment.drawn(DIGITS, 10**6, 0)) == whole.sum()


@pytest.mark.parametrize(("right", "rows", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605),
                                                            (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])  # fmt: skip
def test_the_interval_of_a_share_is_the_published_one(right, rows, low, high):
    """Newcombe, Two-sided confidence intervals for the single proportion, Statistics in Medicine 17 (1998), table I."""
    share, *bounds, count = metrics.proportion(np.arange(rows) < right)
    assert (share, count) == (right / rows, rows)
    np.testing.assert_allclose(bounds, [low, high], atol=6e-5)


def test_every_way_finds_the_same_neighbours_and_a_wrong_one_is_seen(ran):
    _, summary = ran
    shown = summary["loops"]
    assert (shown["rows"], shown["queries"], shown["features"]) == (LOOPS, LOOPS // 10, 3072)
    assert [way["way"] for way in shown["ways"]] == list(loops.WAYS)
    for way in shown["ways"]:
        assert way["same"] == way["places"] == way["asked"] * loops.NEIGHBORS
        assert way["reckoned"] == (way["asked"] < shown["queries"])
        assert way["seconds"] > 0
    draw = np.random.default_rng(0)
    train, queries = draw.random((50, 3)), draw.random((4, 3))
    train[7] = train[8]
    ids = np.argsort(((queries[:, None] - train[None]) ** 2).sum(2), axis=1, kind="stable")[:, :50]
    swapped = np.select([ids == 7, ids == 8], [8, 7], ids)  # equally near
    assert loops.same(train, queries, swapped, ids) == ids.size
    assert loops.same(train, queries, ids[:, ::-1], ids) < ids.size


def test_what_was_asked_for_a_share_of_queries_is_reckoned_for_all(monkeypatch):
    clock = iter(np.arange(100.0))
    monkeypatch.setattr(loops.time, "perf_counter", lambda: next(clock))  # a second a search
    shown = loops.demonstrate(400)
    assert [way["seconds"] for way in shown["ways"]] == [40 / 5, 40 / 20, 1, 1, 1]
    assert [way["reckoned"] for way in shown["ways"]] == [True, True, False, False, False]


def test_a_table_and_a_folder_of_classes_of_ones_own(tmp_path):
    draw = np.random.default_rng(0)
    points = draw.normal(size=(90, 2))
    kinds = np.array(["<i>up</i>", "down"])[(points[:, 0] > 0).astype(int)]
    rows = [f"{x:.4f},{y:.4f},{kind}\n" for (x, y), kind in zip(points, kinds, strict=True)]
    (tmp_path / "own.csv").write_text("x,y,kind\n" + "".join([*rows, *3 * ["0.5,0.5,rare\n"]]))
    summary = experiment.run(
        Workdir(tmp_path / "table", "nearest_neighbors", ""),
        dataset=str(tmp_path / "own.csv"),
        target="kind",
        loop_rows=0,
    )
    assert [entry["k"] for entry in summary["k"]] == list(range(1, 51))
    assert summary["scarce"] == ["rare"]
    assert summary["test"][0] > summary["baseline"]["test"][0]
    page = (tmp_path / "table" / "report.html").read_text()
    assert "hold out none of them: rare" in page
    assert "<i>up" not in page
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(15):
            pixels = draw.integers(shade - 40, shade + 40, (6, 9, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    summary = experiment.run(
        Workdir(tmp_path / "images", "nearest_neighbors", ""), dataset=f"{tmp_path / 'photos'}/", loop_rows=0
    )
    assert summary["test"][0] == 1
    assert summary["k"][-1]["k"] == 19  # what the smallest fold of 24 rows trains on
    assert [each.name for each in (tmp_path / "images" / "figures").glob("neighbors*")] == ["neighbors_of_hits.svg"]


MISTAKES = {
    "no k": ({"ks": ()}, "--k=: give numbers from 1"),
    "k of 0": ({"ks": (0, 1)}, "--k=0,1: give numbers from 1"),
    "k twice": ({"ks": (3, 3)}, "--k=3,3: give numbers from 1, each once"),
    "k beyond the rows": ({"ks": range(1, 2000)}, "--k=1,...,1999: 1999 neighbours, and a fold trains on 1150 rows"),
    "a fold": ({"folds": 1}, "1 folds of 1438 rows"),
    "too few rows": ({"rows": 12}, "none of the classes has 5 rows"),
    "loops": ({"loop_rows": 99}, "--loops=99: give 100 training rows or more, or 0"),
    "an unknown set": ({"dataset": "digit"}, "did you mean 'digits'"),
    "a quantity": ({"dataset": "line"}, "y of line is a quantity, and neighbours vote for classes: try digits"),
}


@pytest.mark.parametrize(("options", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, options, says):
    with pytest.raises(UserError) as caught:
        experiment.run(Workdir(tmp_path / "w", "nearest_neighbors", ""), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(("text", "ks"), [("1:4", [1, 2, 3, 4]), ("7", [7]), ("5,1", [5, 1]), ("3:3", [3])])
def test_numbers_of_neighbours_are_a_range_or_a_list(text, ks):
    assert experiment.parse_ks(text) == ks


@pytest.mark.parametrize("text", ["", "4:2", "1:2:3", "a", "1.5", "1,,2", ":"])
def test_other_forms_are_refused(text):
    with pytest.raises(UserError, match=f"^--k={text}: give LOW:HIGH, such as 1:50, or numbers"):
        experiment.parse_ks(text)


def test_the_program_ends_a_mistake_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "experiments.nearest_neighbors", "--k=few", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --k=few: give LOW:HIGH, such as 1:50, or numbers, such as 1,3,5"
    assert not (tmp_path / "w").exists()
