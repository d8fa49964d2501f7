"""A race of kernels: every accuracy against scikit-learn's SVC on the same rows, and the program end to end."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from experiments import kernel_race as racing
from experiments import kernel_svm as experiment
from experiments.workdir import Workdir
from mllab import validation
from mllab.data import catalog
from mllab.errors import UserError
from mllab.models import svm

ROOT = Path(__file__).parents[2]
MOONS, DIGITS = catalog.load("moons"), catalog.load("digits")
KERNELS = ("linear", "polynomial", "rbf")
C, GAMMA, FOLDS, ROUNDS = (0.1, 10.0), (0.3, 3.0), 3, 2
SMALL = {"c": C, "gamma": GAMMA, "folds": FOLDS, "rounds": ROUNDS, "rows": 150}
FILES = ["environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the moons; its folder and summary."""
    path = tmp_path_factory.mktemp("kernel_svm") / "w"
    return path, experiment.run(Workdir(path, "kernel_svm", ""), **SMALL)


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def peer(kernel, c, gamma, scheme="one_vs_one"):
    names = {"linear": "linear", "polynomial": "poly", "rbf": "rbf"}
    one = SVC(kernel=names[kernel], C=c, gamma=gamma or "scale", coef0=1.0, tol=1e-5)
    return one if scheme == "one_vs_one" else OneVsRestClassifier(one)


def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, summary = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == FILES
    written = json.loads((path / "summary.json").read_text())
    assert written == summary
    told = records(path)
    pairs = [("linear", None), *itertools.product(("polynomial", "rbf"), summary["gamma"])]
    expected = [(kernel, gamma, c) for kernel, gamma in pairs for c in C]
    assert [(record["kernel"], record["gamma"], record["c"]) for record in told] == expected
    assert [each["kernel"] for each in written["kernels"]] == list(KERNELS)
    for entry in written["kernels"]:
        own = [record for record in told if record["kernel"] == entry["kernel"]]
        assert len(own) == len(C) * (1 if entry["kernel"] == "linear" else len(GAMMA))
        (tested,) = [record for record in own if "test_accuracy" in record]
        best = max(record["held_out_accuracy"] for record in own)
        assert tested["held_out_accuracy"] == pytest.approx(best)
        assert (tested["c"], tested["gamma"]) == (entry["c"], entry["gamma"])
        assert tested["test_accuracy"] == entry["test"]
        low, high = entry["test_interval"]
        assert low < entry["test"] < high or entry["test"] in (0, 1)
        assert tested["held_out_accuracy_by_fold"] == entry["held_out_by_fold"]
        assert len(entry["held_out_by_fold"]) == FOLDS * ROUNDS
        mean, low, high, _ = entry["held_out"]
        assert mean == pytest.approx(best)
        assert low < mean < high
    winner = max(written["kernels"], key=lambda entry: round(entry["held_out"][0], 9))
    assert written["winner"] == winner["kernel"] == "rbf"
    follower = next(entry for entry in written["kernels"] if entry["kernel"] == written["ahead"]["of"])
    leads = 100 * np.subtract(winner["held_out_by_fold"], follower["held_out_by_fold"])
    assert written["ahead"]["by"][0] == pytest.approx(leads.mean())


def test_every_accuracy_is_what_scikit_learn_says_on_the_same_rows(ran):
    path, summary = ran
    ids = experiment.drawn(MOONS, SMALL["rows"], 0)
    assert len(ids) == SMALL["rows"]
    inputs, targets, test = MOONS.inputs, MOONS.targets, MOONS.split.test
    dealt = validation.folds(np.arange(len(ids)), FOLDS, 0, targets[ids], rounds=ROUNDS)
    unit = 1 / (2 * inputs[ids].var())
    assert sorted({record["gamma"] for record in records(path)} - {None}) == pytest.approx(
        sorted(unit * np.array(GAMMA))
    )
    for record in records(path):
        for fold, told in enumerate(record["held_out_accuracy_by_fold"]):
            train, held_out = (ids[rows.ids[fold][rows.weight[fold] > 0]] for rows in (dealt.train, dealt.held_out))
            fitted = peer(record["kernel"], record["c"], record["gamma"]).fit(inputs[train], targets[train])
            assert abs(told - fitted.score(inputs[held_out], targets[held_out])) < 1.5 / len(held_out)
    for entry in summary["kernels"]:
        fitted = peer(entry["kernel"], entry["c"], entry["gamma"]).fit(inputs[ids], targets[ids])
        assert abs(entry["test"] - fitted.score(inputs[test], targets[test])) < 1.5 / len(test)
        assert abs(entry["support_vectors"] - len(fitted.support_)) <= 2
        assert entry["short"] == 0
        assert entry["gap"] < 1e-2


def test_the_same_flags_end_with_the_same_bits(ran, tmp_path):
    path, summary = ran
    again = experiment.run(Workdir(tmp_path / "w", "kernel_svm", ""), **SMALL)
    del again["seconds"]
    assert again == {name: value for name, value in summary.items() if name != "seconds"}
    for name in ("metrics.jsonl", "figures/plane.svg", "figures/accuracy.svg"):
        assert (tmp_path / "w" / name).read_bytes() == (path / name).read_bytes()


def raced(data, names, scheme="one_vs_one"):
    """A race with the settings of `ran`."""
    ids = experiment.drawn(data, SMALL["rows"], 0)
    dealt = validation.folds(np.arange(len(ids)), FOLDS, 0, data.targets[ids], rounds=ROUNDS)
    machines = racing.Machines(degree=3, coef0=1.0, scheme=scheme)
    return ids, racing.race(data, ids, dealt, names, np.array(C), np.array(GAMMA), machines)


def test_test_labels_have_no_say_in_what_is_chosen():
    wrong = MOONS.targets.copy()
    wrong[MOONS.split.test] = 1 - wrong[MOONS.split.test]
    blind = dataclasses.replace(MOONS, targets=wrong)
    for seen, unseen in zip(raced(MOONS, KERNELS)[1], raced(blind, KERNELS)[1], strict=True):
        np.testing.assert_array_equal(seen.held_out, unseen.held_out)
        assert seen.chosen == unseen.chosen
        assert racing.test_accuracy(seen, MOONS) == pytest.approx(1 - racing.test_accuracy(unseen, blind))


@pytest.mark.parametrize("scheme", ["one_vs_one", "one_vs_rest"])
def test_more_classes_than_two_are_told_apart_as_scikit_learn_does(scheme):
    data = catalog.load("stretched")
    ids, (entry,) = raced(data, ["rbf"], scheme)
    test, setting = data.split.test, entry.setting(entry.chosen)
    fitted = peer("rbf", setting["c"], setting["gamma"], scheme).fit(data.inputs[ids], data.targets[ids])
    assert np.sum(entry.predicted != fitted.predict(data.inputs[test])) <= 1
    counts = racing.confusion(entry, data)
    expected = [[np.sum((data.targets[test] == a) & (entry.predicted == b)) for b in range(3)] for a in range(3)]
    np.testing.assert_array_equal(counts, expected)
    plane = racing.plane_of(data.inputs[ids], data.targets[ids])
    machine = racing.machine(entry.params, plane)
    clear = np.sum(machine.leads > 0, axis=0) == 1  # one class wins all its problems: then it is decided
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(machine.leads.argmax(axis=0)[clear], machine.decided[clear])


@pytest.mark.parametrize(
    ("classes", "scheme"), [(2, "one_vs_one"), (2, "one_vs_rest"), (4, "one_vs_one"), (4, "one_vs_rest")]
)
def test_leads_are_the_least_value_by_which_a_class_wins(classes, scheme):
    pairs = svm.pairs(classes, scheme)
    values = np.random.default_rng(0).normal(size=(5, len(pairs)))
    for row, leads in zip(values, racing.leads_of(values, pairs, classes), strict=True):
        for own in range(classes):
            wins = [f for f, (positive, _) in zip(row, pairs, strict=True) if positive == own]
            wins += [-f for f, (_, negative) in zip(row, pairs, strict=True) if negative == own]
            assert leads[own] == min(wins)


@pytest.mark.parametrize(
    ("means", "chosen"),
    [
        ([[0.5, 0.9], [0.9, 0.5]], (1, 0)),  # the least C first
        ([[0.9, 0.9], [0.9, 0.9]], (0, 0)),
        ([[0.5, 0.9], [0.5, 0.9]], (0, 1)),  # then the least gamma
        ([[0.5, 0.8], [0.6, 0.81]], (1, 1)),
    ],
)
def test_of_equal_settings_the_smoothest_is_chosen(means, chosen):
    assert racing.first_best(np.array(means)[..., None]) == chosen


def test_rounding_chooses_nothing():
    equal = np.array([[[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]]])  # sums in another order: 0.6 and 0.6000000000000001
    assert racing.first_best(equal) == (0, 0)


@settings(deadline=None)
@given(most=st.integers(20, 1500), seed=st.integers(0, 99))
def test_rows_are_drawn_by_class_and_never_from_the_test_rows(most, seed):
    rows = experiment.drawn(DIGITS, most, seed)
    whole = np.concatenate([DIGITS.split.train, DIGITS.split.validation])
    assert len(rows) == min(most, len(whole))
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(whole)
    taken, there = (np.bincount(DIGITS.targets[ids], minlength=10) for ids in (rows, whole))
    assert (np.abs(taken - there * len(rows) / len(whole)) < 1).all()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"names": ("rbf", "poly")}, "unknown kernel 'poly': did you mean 'polynomial'?"),
        ({"names": ("rbf", "rbf")}, "--kernels=rbf,rbf: give one or more of linear, polynomial, rbf, each once"),
        ({"c": ()}, "--c=: give positive numbers"),
        ({"coef0": float("nan")}, "--coef0=nan: give a finite number"),
        ({"c": (1.0, -1.0)}, "--c=1,-1: give positive numbers"),
        ({"gamma": (1.0, float("nan"))}, "--gamma=1,nan: give positive numbers"),
        ({"gamma": (1.0, float("inf"))}, "--gamma=1,inf: give positive numbers"),
        ({"gamma": (2.0, 2.0)}, "--gamma=2,2: give each once"),
        ({"dataset": "moon"}, "did you mean 'moons'"),
        ({"dataset": "line"}, "line has values to predict, not classes"),
        ({"dataset": "digits", "rows": 12}, "--rows=12: class '0' has 1 of them"),
        ({"folds": 500}, "500 folds of 480 rows"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, options, says):
    with pytest.raises(UserError) as caught:
        experiment.run(Workdir(tmp_path / "w", "kernel_svm", ""), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


def test_a_kernel_beyond_float32_is_refused_and_never_wins(tmp_path):
    options = {"names": ("polynomial",), "degree": 60, "c": (1.0,), "gamma": (1000.0,), "folds": 2}
    with pytest.raises(UserError, match="the values of the polynomial kernel are beyond float32"):
        experiment.run(Workdir(tmp_path / "w", "kernel_svm", ""), **options)
    records = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    assert not any(record.get("held_out_accuracy") for record in records)


def test_the_program_ends_a_mistake_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "experiments.kernel_svm", "--gamma=wide", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    says = "error: --gamma=wide: give LOW:HIGH:COUNT, such as 1e-4:1:9, or numbers, such as 0.1,0.01"
    assert done.stderr.strip() == says
    assert not (tmp_path / "w").exists()


def test_a_table_of_ones_own_with_classes_by_name(tmp_path):
    draw = np.random.default_rng(0)
    rows = "".join(f"{x:.3f},{y:.3f},{'in' if x * x + y * y < 1 else 'out'}\n" for x, y in draw.normal(size=(80, 2)))
    (tmp_path / "own.csv").write_text("wide,high,where\n" + rows)
    data = experiment.load(str(tmp_path / "own.csv"), None, "where", None, 0)
    assert data.classes == ("in", "out")
    assert data.inputs.shape == (80, 2)
