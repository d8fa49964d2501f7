"""Kernel machines: every accuracy against scikit-learn's SVC on the same rows, and whole runs."""

import dataclasses
import itertools
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import SVC

from experiments import frame, kernel_tuning
from experiments import kernel_svm as experiment
from mllab import devices, selection, validation
from mllab.data import catalog
from mllab.errors import UserError
from mllab.metrics import Ranking
from mllab.models import svm
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

MOONS, DIGITS = catalog.load("moons"), catalog.load("digits")
KERNELS = ("linear", "polynomial", "rbf")
C, GAMMA, FOLDS, ROUNDS = (0.1, 10.0), (0.3, 3.0), 3, 2
SMALL = {"c": C, "gamma": GAMMA, "folds": FOLDS, "rounds": ROUNDS, "rows": 150}
FILES = ["environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the moons; its folder and measurement."""
    path = tmp_path_factory.mktemp("kernel_svm") / "w"
    return path, experiment.run(workdir=str(path), **SMALL)


def peer(kernel, c, gamma, scheme="one_vs_one"):
    names = {"linear": "linear", "polynomial": "poly", "rbf": "rbf"}
    one = SVC(kernel=names[kernel], C=c, gamma=gamma or "scale", coef0=1.0, tol=1e-5)
    return one if scheme == "one_vs_one" else OneVsRestClassifier(one)


@pytest.mark.slow
def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, measured = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == FILES
    written = json.loads((path / "summary.json").read_text())
    assert written["kernels"] == frame.to_json(measured.kernels)
    lines = records_of(path)
    pairs = [("linear", None), *itertools.product(("polynomial", "rbf"), measured.gamma)]
    expected = [(kernel, gamma, c) for kernel, gamma in pairs for c in C]
    assert [(record["kernel"], record["gamma"], record["c"]) for record in lines] == expected
    assert [each["kernel"] for each in written["kernels"]] == list(KERNELS)
    for entry in written["kernels"]:
        of_kernel = [record for record in lines if record["kernel"] == entry["kernel"]]
        assert len(of_kernel) == len(C) * (1 if entry["kernel"] == "linear" else len(GAMMA))
        (tested,) = [record for record in of_kernel if "test_accuracy" in record]
        best = max(record["held_out_accuracy"] for record in of_kernel)
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


@pytest.mark.slow
def test_the_answer_names_ties_and_the_baseline(ran):
    _, measured = ran
    names = {"linear": "linear", "polynomial": "polynomial", "rbf": "RBF"}
    answer, table = (made(measured, "3 folds") for made in (experiment.answer, experiment.result_table))
    assert f"The {names[measured.winner]} kernel with C = " in answer
    assert f"predicting the most frequent class: {measured.baseline.scores['accuracy']:.2%}" in answer
    assert table.rows[-1][0] == "most frequent class"
    assert [measured.kernels[row].kernel for row in sorted(table.marked)] == measured.tied
    assert measured.winner in measured.tied
    every = [each.kernel for each in measured.kernels]
    tied = dataclasses.replace(
        measured, tied=every, standing=Ranking(every, every, 3), winner=every[0], beats_baseline=False
    )
    answer = experiment.answer(tied, "3 folds")
    shown = [names[name] for name in every]
    start = (
        f"Not clearly better than predicting the most frequent class: {', '.join(shown[:-1])} and {shown[-1]} are tied"
    )
    assert answer.startswith(start)
    assert experiment.result_table(tied, "3 folds").marked == set(range(len(every)))


@pytest.mark.slow
def test_every_accuracy_is_what_scikit_learn_says_on_the_same_rows(ran):
    path, measured = ran
    ids = experiment.Settings(**SMALL).draw(MOONS)
    assert len(ids) == SMALL["rows"]
    inputs, targets, test = MOONS.inputs, MOONS.targets, MOONS.split.test
    dealt = validation.folds(np.arange(len(ids)), FOLDS, 0, targets[ids], rounds=ROUNDS)
    unit = 1 / (2 * inputs[ids].var())
    assert sorted({record["gamma"] for record in records_of(path)} - {None}) == pytest.approx(
        sorted(unit * np.array(GAMMA))
    )
    for record in records_of(path):
        for fold, accuracy in enumerate(record["held_out_accuracy_by_fold"]):
            train, held_out = (ids[rows.ids[fold][rows.weight[fold] > 0]] for rows in (dealt.train, dealt.held_out))
            fitted = peer(record["kernel"], record["c"], record["gamma"]).fit(inputs[train], targets[train])
            assert abs(accuracy - fitted.score(inputs[held_out], targets[held_out])) < 1.5 / len(held_out)
    for entry in measured.kernels:
        fitted = peer(entry.kernel, entry.c, entry.gamma).fit(inputs[ids], targets[ids])
        assert abs(entry.test - fitted.score(inputs[test], targets[test])) < 1.5 / len(test)
        assert abs(entry.support_vectors - len(fitted.support_)) <= 2
        assert entry.short == 0
        assert entry.gap < 1e-2


@pytest.mark.slow
def test_the_same_flags_end_with_the_same_bits(ran, tmp_path):
    path, measured = ran
    again = experiment.run(workdir=str(tmp_path / "w"), **SMALL)
    assert frame.to_json(again) == frame.to_json(measured)
    for name in ("metrics.jsonl", "figures/plane.svg", "figures/accuracy.svg"):
        assert (tmp_path / "w" / name).read_bytes() == (path / name).read_bytes()


def tuned(data, kernel, scheme="one_vs_one"):
    """One kernel with the settings of `ran`."""
    settings = experiment.Settings(**SMALL)
    ids = settings.draw(data)
    examples = {"inputs": data.inputs[ids], "targets": data.targets[ids]}
    test = data.inputs[data.split.test], data.targets[data.split.test]
    folds, axes = settings.split(data.targets[ids]), {"c": C, "gamma": GAMMA}
    options = {"scheme": scheme, "degree": 3, "coef0": 1.0}
    made = kernel_tuning.tune(kernel, len(data.classes), axes, examples, folds, test, devices.mesh(2), **options)
    return ids, made


@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS)
def test_test_labels_play_no_part_in_the_choice(kernel):
    wrong = MOONS.targets.copy()
    wrong[MOONS.split.test] = 1 - wrong[MOONS.split.test]
    seen, unseen = tuned(MOONS, kernel)[1], tuned(dataclasses.replace(MOONS, targets=wrong), kernel)[1]
    np.testing.assert_array_equal(seen.choice.scores, unseen.choice.scores)
    assert (seen.c, seen.gamma) == (unseen.c, unseen.gamma)
    assert seen.test == pytest.approx(1 - unseen.test)


@pytest.mark.parametrize("scheme", ["one_vs_one", "one_vs_rest"])
@pytest.mark.slow
def test_more_than_two_classes_are_classified_as_scikit_learn_does(scheme):
    data = catalog.load("stretched")
    ids, entry = tuned(data, "rbf", scheme)
    fitted = peer("rbf", entry.c, entry.gamma, scheme).fit(data.inputs[ids], data.targets[ids])
    assert np.sum(entry.predicted != fitted.predict(data.inputs[data.split.test])) <= 1
    over = kernel_tuning.draw.mesh(data.inputs[ids])
    panel = kernel_tuning.panel(entry, over, data.inputs[ids], data.targets[ids])
    clear = np.sum(panel.fields > 0, axis=0) == 1  # one class wins all its problems: then it is predicted
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(panel.fields.argmax(axis=0)[clear], panel.regions[clear])


@pytest.mark.parametrize(
    ("classes", "scheme"), [(2, "one_vs_one"), (2, "one_vs_rest"), (4, "one_vs_one"), (4, "one_vs_rest")]
)
def test_the_margin_of_a_class_is_the_least_value_by_which_it_wins(classes, scheme):
    pairs = svm.pairs(classes, scheme)
    values = np.random.default_rng(0).normal(size=(5, len(pairs))).astype(np.float32)
    for row, margins in zip(values, np.asarray(svm.class_margins(values, classes, scheme)), strict=True):
        for label in range(classes):
            wins = [f for f, (positive, _) in zip(row, pairs, strict=True) if positive == label]
            wins += [-f for f, (_, negative) in zip(row, pairs, strict=True) if negative == label]
            if wins:
                assert margins[label] == min(wins)


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
    row, column = chosen  # of gamma and C; C is the first axis of a choice
    assert selection.best(np.array(means).T[..., None]) == (column, row)


def test_rounding_chooses_nothing():
    equal = np.array([[[0.3, 0.2, 0.1], [0.1, 0.2, 0.3]]])  # sums in another order: 0.6 and 0.6000000000000001
    assert selection.best(equal) == (0, 0)


@settings(deadline=None)
@given(most=st.integers(20, 1500), seed=st.integers(0, 99))
def test_a_sample_of_rows_is_stratified_and_never_has_test_rows(most, seed):
    rows = experiment.Settings(rows=most, split_seed=seed).draw(DIGITS)
    whole = np.concatenate([DIGITS.split.train, DIGITS.split.validation])
    assert len(rows) == min(most, len(whole))
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(whole)
    taken, there = (np.bincount(DIGITS.targets[ids], minlength=10) for ids in (rows, whole))
    assert (np.abs(taken - there * len(rows) / len(whole)) < 1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernels": ("rbf", "poly")}, "unknown kernel 'poly': did you mean 'polynomial'?"),
        (
            {"kernels": ("rbf", "rbf")},
            "--kernels=rbf,rbf: none, or one twice: give one or more of linear, polynomial, rbf",
        ),
        ({"c": ()}, "--c=: empty, or a number out of range"),
        ({"coef0": float("nan")}, "--coef0=nan: not a finite number"),
        ({"c": (1.0, -1.0)}, "--c=1,-1: empty, or a number out of range"),
        ({"gamma": (1.0, float("nan"))}, "--gamma=1,nan: empty, or a number out of range"),
        ({"gamma": (1.0, float("inf"))}, "--gamma=1,inf: empty, or a number out of range"),
        ({"gamma": (2.0, 2.0)}, "--gamma=2,2: a number is given twice"),
        ({"gamma": "wide"}, "--gamma=wide: give LOW:HIGH:COUNT, such as 0.01:100:5"),
        ({"kernels": ("linear",), "gamma": (1.0,)}, "--gamma=1: no kernel of --kernels=linear reads it"),
        ({"kernels": ("linear", "rbf"), "degree": 4}, "--degree=4: no kernel of --kernels=linear,rbf reads it"),
        ({"dataset": "moon"}, "did you mean 'moons'"),
        ({"dataset": "line"}, "the target of line is a quantity, and this experiment needs classes"),
        ({"dataset": "digits", "rows": 12}, "--rows=12: class '0' has 1"),
        ({"folds": 500}, "500 folds of 480 rows"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, options, message):
    with refused_in_one_line(re.escape(message)):
        experiment.run(workdir=str(tmp_path / "w"), **options)
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_kernel_beyond_float32_is_refused_and_never_wins(tmp_path):
    options = {"kernels": ("polynomial",), "degree": 60, "c": (1.0,), "gamma": (1000.0,), "folds": 2}
    with pytest.raises(UserError, match="the values of the polynomial kernel, or c times these, are beyond float32"):
        experiment.run(workdir=str(tmp_path / "w"), **options)
    assert not (tmp_path / "w" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_a_table_of_the_users_own_with_named_classes(tmp_path):
    draw = np.random.default_rng(0)
    rows = "".join(f"{x:.3f},{y:.3f},{'in' if x * x + y * y < 1 else 'out'}\n" for x, y in draw.normal(size=(80, 2)))
    (tmp_path / "own.csv").write_text("wide,high,where\n" + rows)
    options = {"dataset": str(tmp_path / "own.csv"), "target": "where", "kernels": ("rbf",), "c": (1.0,), "folds": 3}
    measured = experiment.run(workdir=str(tmp_path / "w"), gamma=(1.0,), **options)
    assert measured.dataset.classes == ("in", "out")
    assert measured.kernels[0].test > 0.6
    drawing = (tmp_path / "w" / "figures" / "plane.svg").read_text()
    assert all(name in drawing for name in ("wide", "high", "in", "out"))
