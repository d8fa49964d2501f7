"""Nearest neighbours: the choice of k against scikit-learn, the demonstration of loops, and whole runs."""

import dataclasses
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.neighbors import KNeighborsClassifier

from experiments import distance_demo
from experiments import nearest_neighbors as experiment
from mllab import validation
from mllab.data import catalog
from mllab.report.console import Progress
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

DIGITS = catalog.load("digits")
KS, FOLDS, ROUNDS, LOOPS = (1, 4, 9, 30), 4, 2, 200
TINY = {"k": KS, "folds": FOLDS, "rounds": ROUNDS}
POOL = np.union1d(DIGITS.split.train, DIGITS.split.validation)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the digits; its folder and measurement."""
    path = tmp_path_factory.mktemp("neighbors") / "w"
    return path, experiment.run(workdir=str(path), loops=LOOPS, **TINY)


@pytest.mark.slow
def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, measured = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert sorted(each.name for each in (path / "figures").iterdir()) == [
        "accuracy_by_k.svg", "neighbors_of_hits.svg", "neighbors_of_mistakes.svg",
    ]  # fmt: skip
    written = json.loads((path / "summary.json").read_text())
    *by_setting, last = records_of(path)
    assert len(by_setting) == len(KS) * FOLDS * ROUNDS
    for entry in written["k"]:
        by_fold = [record["accuracy"] for record in by_setting if record["k"] == entry["k"]]
        assert entry["by_fold"] == by_fold
        np.testing.assert_allclose(entry["accuracy"][0], np.mean(by_fold))
    means = {entry["k"]: entry["accuracy"][0] for entry in written["k"]}
    assert means[written["chosen"]] == max(means.values())
    assert last == {"k": written["chosen"], "test_accuracy": written["test"][0]}
    assert written["dataset"]["rows"] == {"choosing": 1438, "available": 1438, "test": 359}
    assert written["chosen"] == measured.chosen


@pytest.mark.slow
def test_choice_and_test_accuracy_are_scikit_learns(ran):
    _, measured = ran
    pool = POOL
    inputs, targets = DIGITS.inputs.reshape(len(DIGITS.inputs), -1), DIGITS.targets
    made = validation.folds(np.arange(len(pool)), FOLDS, 0, targets[pool], rounds=ROUNDS)
    expected = np.zeros((len(KS), FOLDS * ROUNDS))
    for begin in range(0, FOLDS * ROUNDS, FOLDS):
        fold = np.empty(len(pool), int)
        for k in range(FOLDS):
            held = made.held_out.weight[begin + k] > 0
            fold[made.held_out.ids[begin + k][held]] = k
        peer = GridSearchCV(KNeighborsClassifier(algorithm="brute"), {"n_neighbors": KS}, cv=PredefinedSplit(fold))
        results = peer.fit(inputs[pool], targets[pool]).cv_results_
        expected[:, begin : begin + FOLDS] = np.stack([results[f"split{k}_test_score"] for k in range(FOLDS)], axis=1)
    ours = np.array([score.by_fold for score in measured.k])
    rows = len(pool) // FOLDS
    assert np.abs(ours - expected).max() < 1.5 / rows  # whole pixels: equally near rows may come in another order
    assert np.isclose(ours, expected, rtol=1e-6).mean() > 0.8
    chosen = KNeighborsClassifier(measured.chosen, algorithm="brute").fit(inputs[pool], targets[pool])
    test = DIGITS.split.test
    assert abs(measured.test.mean - chosen.score(inputs[test], targets[test])) < 1.5 / len(test)
    dummy = DummyClassifier().fit(inputs[pool], targets[pool])
    assert measured.baseline[2].mean == pytest.approx(dummy.score(inputs[test], targets[test]))


@pytest.mark.slow
def test_the_answer_names_ties_and_the_baseline(ran):
    _, measured = ran
    folds = np.array([score.by_fold for score in measured.k])
    best = folds[KS.index(measured.chosen)]
    for k, scores in zip(KS, folds, strict=True):
        assert (k in measured.tied) == (not validation.interval(best - scores, FOLDS).low > 0)
    assert measured.beats_baseline
    answer, table = experiment.answer(measured), experiment.result_table(measured, "folds")
    assert answer.startswith(
        f"digits with k = {measured.chosen} has a test accuracy of {measured.test.mean:.2%} on 359"
    )
    assert f"predicting the most frequent class: {measured.baseline[2].mean:.2%}" in answer
    assert table.marked == {0}
    tied = dataclasses.replace(measured, tied=[1, 4, 9], chosen=4, beats_baseline=False)
    answer, table = experiment.answer(tied), experiment.result_table(tied, "folds")
    assert answer.startswith("Not clearly better than predicting the most frequent class: digits with k = 4")
    assert "Tied with it, on the same folds: k = 1 and 9." in answer
    assert table.marked == set()
    assert [row[0] for place, row in enumerate(experiment.by_k(tied, "folds").rows) if place in (0, 1, 2)] == [1, 4, 9]
    assert experiment.by_k(tied, "folds").marked == {0, 1, 2}


@pytest.mark.slow
def test_test_rows_play_no_part_in_the_choice(tmp_path, monkeypatch, ran):
    _, measured = ran
    inputs, targets = DIGITS.inputs.copy(), DIGITS.targets.copy()
    inputs[DIGITS.split.test] = 1 - inputs[DIGITS.split.test]
    targets[DIGITS.split.test] = (targets[DIGITS.split.test] + 1) % 10
    changed = dataclasses.replace(DIGITS, inputs=inputs, targets=targets)
    monkeypatch.setattr(catalog, "load", lambda *_, **__: changed)
    blind = experiment.run(workdir=str(tmp_path / "w"), loops=0, **TINY)
    assert blind.k == measured.k
    assert blind.chosen == measured.chosen
    assert blind.test.mean < 0.5 < measured.test.mean
    assert blind.loops is None


@pytest.mark.slow
def test_the_same_run_again_has_the_same_bits_but_for_times(tmp_path, ran):
    path, _ = ran
    again = tmp_path / "w"
    experiment.run(workdir=str(again), loops=LOOPS, **(TINY | {"k": KS[::-1]}))
    for name in ("metrics.jsonl", *(f"figures/{each.name}" for each in (path / "figures").iterdir())):
        assert (again / name).read_bytes() == (path / name).read_bytes(), name

    def timeless(folder):
        summary = json.loads((folder / "summary.json").read_text())
        del summary["seconds"]
        for way in summary["loops"]["ways"]:
            del way["seconds"]
        return summary

    assert timeless(again) == timeless(path)


@pytest.mark.slow
def test_the_neighbours_that_are_drawn_are_the_nearest(ran):
    _, measured = ran
    flat = DIGITS.inputs.reshape(len(DIGITS.inputs), -1).astype(float)
    assert set(measured.images) == {"mistakes", "hits"}
    for kind, shown in measured.images.items():
        images, true, predicted, neighbors, labels = shown.values()
        assert (true == predicted).all() == (kind == "hits")
        assert len(set(true)) == len(true) or kind == "mistakes"
        assert labels.shape == neighbors.shape[:2]
        for image, near in zip(images, neighbors, strict=True):
            nearest = np.sort(np.linalg.norm(flat[POOL] - image.reshape(-1), axis=1))[: experiment.SHOWN]
            distances = np.linalg.norm(near.reshape(len(near), -1) - image.reshape(-1).astype(float), axis=1)
            np.testing.assert_allclose(distances, nearest, rtol=1e-6)


def test_a_sample_of_rows_is_stratified_and_leaves_out_the_test_rows():
    draw = lambda rows, seed: experiment.Settings(rows=rows, split_seed=seed).draw(DIGITS)  # noqa: E731
    sample = draw(300, 5)  # another seed than the split's, which orders the rows alike
    assert len(sample) == len(set(sample)) == 300
    assert not set(sample) & set(DIGITS.split.test)
    whole = np.bincount(DIGITS.targets[draw(None, 0)])
    assert (np.abs(np.bincount(DIGITS.targets[sample]) - whole * 300 / whole.sum()) < 1).all()
    assert set(sample) != set(draw(300, 1))
    assert len(draw(10**6, 0)) == whole.sum()


@pytest.mark.slow
def test_every_method_finds_the_same_neighbours_and_a_wrong_one_is_seen(ran):
    _, measured = ran
    loops = measured.loops
    assert (loops.rows, loops.queries, loops.features) == (LOOPS, LOOPS // 10, 3072)
    assert [timing.way for timing in loops.ways] == list(distance_demo.METHODS)
    for timing in loops.ways:
        assert timing.same == timing.places == timing.asked * distance_demo.NEIGHBORS
        assert timing.reckoned == (timing.asked < loops.queries)
        assert timing.seconds > 0
    draw = np.random.default_rng(0)
    train, queries = draw.random((50, 3)), draw.random((4, 3))
    train[7] = train[8]
    ids = np.argsort(((queries[:, None] - train[None]) ** 2).sum(2), axis=1, kind="stable")[:, :50]
    swapped = np.select([ids == 7, ids == 8], [8, 7], ids)  # equally near
    assert distance_demo.equally_near(train, queries, swapped, ids) == ids.size
    assert distance_demo.equally_near(train, queries, ids[:, ::-1], ids) < ids.size


def test_times_of_fewer_queries_are_extrapolated_to_all(monkeypatch):
    clock = iter(np.arange(100.0))
    monkeypatch.setattr(distance_demo.time, "perf_counter", lambda: next(clock))  # a second a search
    loops = distance_demo.demonstrate(400, Progress(io.StringIO()))
    assert [timing.seconds for timing in loops.ways] == [40 / 5, 40 / 20, 1, 1, 1]
    assert [timing.reckoned for timing in loops.ways] == [True, True, False, False, False]
    table = distance_demo.table(loops)
    assert [row[2] for row in table.rows] == ["1", "4", "8", "8", "8"]
    assert "5 by two loops (NumPy), 20 by one loop (NumPy)" in distance_demo.note(loops)
    assert "8 times as fast" in distance_demo.answer(loops)


@pytest.mark.slow
def test_a_table_and_a_folder_of_images_of_the_users_own(tmp_path):
    draw = np.random.default_rng(0)
    points = draw.normal(size=(90, 2))
    kinds = np.array(["<i>up</i>", "down"])[(points[:, 0] > 0).astype(int)]
    rows = [f"{x:.4f},{y:.4f},{kind}\n" for (x, y), kind in zip(points, kinds, strict=True)]
    (tmp_path / "own.csv").write_text("x,y,kind\n" + "".join([*rows, *3 * ["0.5,0.5,rare\n"]]))
    measured = experiment.run(
        workdir=str(tmp_path / "table"), dataset=str(tmp_path / "own.csv"), target="kind", loops=0
    )
    assert [score.k for score in measured.k] == list(range(1, 51))
    assert measured.scarce == ["rare"]
    assert measured.test.mean > measured.baseline[2].mean
    page = (tmp_path / "table" / "report.html").read_text()
    assert "fewer rows than folds: rare" in page
    assert "<i>up" not in page
    for label, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(15):
            pixels = draw.integers(shade - 40, shade + 40, (6, 9, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    measured = experiment.run(workdir=str(tmp_path / "images"), dataset=f"{tmp_path / 'photos'}/", loops=0)
    assert measured.test.mean == 1
    assert measured.k[-1].k == 19  # rows to train on in the smallest fold of 24 rows
    assert [each.name for each in (tmp_path / "images" / "figures").glob("neighbors*")] == ["neighbors_of_hits.svg"]


MISTAKES = {
    "no k": ({"k": ()}, "--k=: empty: give LOW:HIGH"),
    "k of 0": ({"k": (0, 1)}, "--k=0,1: out of range: give LOW:HIGH"),
    "k twice": ({"k": (3, 3)}, "--k=3,3: a number is given twice"),
    "k of another form": ({"k": "1:2:3"}, "--k=1:2:3: give LOW:HIGH"),
    "k beyond the rows": ({"k": range(1, 2000)}, "--k: 1999 neighbours, and a fold trains on 1150 rows"),
    "a fold": ({"folds": 1}, "--folds=1: out of range"),
    "too few rows": ({"rows": 12}, "none of the classes has 5 rows"),
    "loops": ({"loops": 99}, "--loops=99: give 100 training rows or more, or 0"),
    "an unknown set": ({"dataset": "digit"}, "did you mean 'digits'"),
    "a quantity": ({"dataset": "line"}, "the target of line is a quantity, and this experiment needs classes"),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, options, message):
    with refused_in_one_line(re.escape(message)):
        experiment.run(workdir=str(tmp_path / "w"), **options)
    assert not (tmp_path / "w").exists()
