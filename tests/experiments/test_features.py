"""What features are worth: cells against scikit-learn, draws against counting, and the program end to end."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from experiments.workdir import Workdir
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from experiments import features as experiment
from mllab import weights
from mllab.data import catalog
from mllab.errors import UserError
from mllab.models import convnet, table
from mllab.report import features as report

ROOT = Path(__file__).parents[2]
DIGITS = catalog.load("digits")
FRACTIONS, SEEDS = (0.1, 1.0), (0, 1, 2)


def publish(path, key, *, model="convnet", shape=(8, 8, 1), dataset="digits", **options):
    """A net as `init` draws it, published as if it had been trained."""
    plan = table.plan(model, shape, 10, **options)
    params, extra = table.build(plan).init(jax.random.key(key))
    about = {"plan": plan, "dataset": dataset, "classes": list(DIGITS.classes)}
    path.write_bytes(weights.encode(params, about, extra))
    return path


SMALL = {"channels": (4,), "hidden": (16,)}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the digits, with a net that is as the first seed's untrained one; its folder and summary."""
    folder = tmp_path_factory.mktemp("features")
    net = publish(folder / "net.safetensors", SEEDS[0], **SMALL)
    workdir = Workdir(folder / "w", "features", "")
    return workdir.path, experiment.run(workdir, params=net, fractions=FRACTIONS, seeds=SEEDS)


def cell_of(summary, representation, probe, fraction):
    (cell,) = (
        cell
        for cell in summary["cells"]
        if (cell["representation"], cell["probe"], cell["fraction"]) == (representation, probe, fraction)
    )
    return cell


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, summary = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert json.loads((path / "environment.json").read_text())["data"].keys() >= {"net.safetensors"}
    written = json.loads((path / "summary.json").read_text())
    assert len(written["cells"]) == 3 * 2 * len(FRACTIONS)
    for cell in written["cells"]:
        place = {name: cell[name] for name in ("representation", "probe", "fraction")}
        told = [record for record in records(path) if place.items() <= record.items()]
        tested = [record for record in told if "test_accuracy" in record]
        whole = cell["fraction"] == 1 and cell["representation"] != report.UNTRAINED
        assert [record["seed"] for record in tested] == ([0] if whole else [0, 1, 2])
        assert cell["test_by_draw"] == [record["test_accuracy"] for record in tested]
        np.testing.assert_allclose(cell["test"][0], np.mean(cell["test_by_draw"]))
        assert (cell["test"][1] is None) == whole  # one draw has no interval
        for record in tested:  # what was tested is what did best on validation rows
            rivals = [other["validation_accuracy"] for other in told if other["seed"] == record["seed"]]
            assert record["validation_accuracy"] == max(rivals)
        assert cell["short"] == 0
    assert summary["net"]["features"] == 16


@pytest.mark.parametrize("representation", [report.PIXELS, report.UNTRAINED])
@pytest.mark.parametrize("probe", [report.PROBE, report.NEIGHBORS])
def test_a_cell_is_what_scikit_learn_says(ran, representation, probe):
    path, summary = ran
    seed, fraction = 1, 0.1
    inputs = DIGITS.inputs.reshape(len(DIGITS.inputs), -1)
    if representation == report.UNTRAINED:
        layers = convnet.convnet(10, **SMALL)
        params, extra = convnet.init(jax.random.key(seed), layers, (8, 8, 1))
        inputs = np.asarray(convnet.features(params, DIGITS.inputs, extra))
    train = experiment.drawn(DIGITS, fraction, seed)
    mean, deviation = inputs[train].mean(axis=0), np.sqrt(inputs[train].var(axis=0).mean())
    inputs, targets = (inputs - mean) / deviation, DIGITS.targets
    rows = DIGITS.split

    def peer(setting):
        if probe == report.NEIGHBORS:
            return KNeighborsClassifier(setting, algorithm="brute")
        return LogisticRegression(C=1 / setting, tol=1e-6, max_iter=5000)

    name, grid = experiment.SETTINGS[probe]
    told = {
        record[name]: record
        for record in records(path)
        if (record["representation"], record["probe"], record["fraction"], record["seed"])
        == (representation, probe, fraction, seed)
    }
    assert list(told) == list(grid)
    for setting, record in told.items():
        fitted = peer(setting).fit(inputs[train], targets[train])
        expected = fitted.score(inputs[rows.validation], targets[rows.validation])
        assert abs(record["validation_accuracy"] - expected) < 1.5 / len(rows.validation)
        if "test_accuracy" in record:
            expected = fitted.score(inputs[rows.test], targets[rows.test])
            assert abs(record["test_accuracy"] - expected) < 1.5 / len(rows.test)
            assert cell_of(summary, representation, probe, fraction)["chosen"][seed] == setting


def test_a_net_that_was_never_trained_is_worth_what_the_control_is(ran):
    _, summary = ran
    for probe in experiment.PROBES:
        for fraction in FRACTIONS:
            trained, untrained = (
                cell_of(summary, of, probe, fraction)["test_by_draw"] for of in (report.TRAINED, report.UNTRAINED)
            )
            assert trained[0] == untrained[0]
            if fraction < 1:
                assert trained[1:] != untrained[1:]  # another seed, another net


def test_the_lead_over_pixels_is_taken_draw_by_draw(ran):
    _, summary = ran
    for cell in summary["cells"]:
        pixels = cell_of(summary, report.PIXELS, cell["probe"], cell["fraction"])
        there = np.broadcast_to(pixels["test_by_draw"], len(cell["test_by_draw"]))
        assert cell["ahead"][0] == pytest.approx(100 * np.mean(np.subtract(cell["test_by_draw"], there)))


def test_test_labels_have_no_say_in_what_is_chosen(tmp_path):
    net = weights.load_model(publish(tmp_path / "net.safetensors", 0, **SMALL))
    wrong = DIGITS.targets.copy()
    wrong[DIGITS.split.test] = (wrong[DIGITS.split.test] + 1) % 10
    told = [
        experiment.measure(net, dataclasses.replace(DIGITS, targets=targets), (0.1,), (0,))
        for targets in (DIGITS.targets, wrong)
    ]
    for place, (cell,) in told[0].items():
        (blind,) = told[1][place]
        assert (cell.validation, cell.chosen) == (blind.validation, blind.chosen)
        assert blind.test < cell.test


@given(fraction=st.floats(0.005, 1), seed=st.integers(0, 99))
def test_draws_are_of_the_training_rows_by_class_and_nested(fraction, seed):
    rows = experiment.drawn(DIGITS, fraction, seed)
    assert set(rows) <= set(DIGITS.split.train)
    assert len(set(rows)) == len(rows)
    whole, taken = (np.bincount(DIGITS.targets[ids], minlength=10) for ids in (DIGITS.split.train, rows))
    assert (taken >= 1).all()
    assert (np.abs(taken - whole * fraction) < 1).all() or (taken == 1).any()
    assert set(rows) <= set(experiment.drawn(DIGITS, min(1.0, 2 * fraction), seed))


def test_another_seed_draws_other_rows_and_the_whole_is_the_whole():
    few = [set(experiment.drawn(DIGITS, 0.1, seed)) for seed in (0, 1)]
    assert few[0] != few[1]
    assert set(experiment.drawn(DIGITS, 1.0, 3)) == set(DIGITS.split.train)


def test_scales_are_the_training_rows_alone():
    draw = np.random.default_rng(0)
    inputs, targets = draw.normal(3, [0, 1, 5], (60, 3)).astype(np.float32), np.zeros(60, np.int32)
    first, second = np.arange(20), np.arange(20, 60)
    train, other = experiment.parts(inputs, targets, first, second)
    np.testing.assert_allclose(np.mean(train.inputs, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.mean(np.square(train.inputs)), 1, rtol=1e-5)
    inputs[second] *= 7
    again, changed = experiment.parts(inputs, targets, first, second)
    np.testing.assert_array_equal(train.inputs, again.inputs)
    assert not np.allclose(other.inputs, changed.inputs)
    constant, _ = experiment.parts(np.ones_like(inputs), targets, first, second)
    np.testing.assert_array_equal(constant.inputs, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"fractions": ()}, "--fractions=: give numbers above 0"),
        ({"fractions": (0.0, 0.5)}, "--fractions=0,0.5: give numbers above 0"),
        ({"fractions": (1.5,)}, "up to 1"),
        ({"fractions": (float("nan"),)}, "up to 1"),
        ({"fractions": (0.5, 0.5)}, "give each once"),
        ({"params": "absent.safetensors"}, "no file absent.safetensors"),
        ({"dataset": "digit"}, "did you mean 'digits'"),
        ({"dataset": "line"}, "line holds no pictures"),
        ({"dataset": "own.csv"}, "own.csv is a table"),
        ({"net": {"model": "mlp"}}, "is of the model mlp, and features are a conv net's"),
        ({"net": {"shape": (12, 12, 1)}}, "takes images of 12 × 12 × 1, and those of digits are 8 × 8 × 1"),
        ({"net": {"dataset": None}}, "does not say what it was trained on"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, options, says):
    net = publish(tmp_path / "net.safetensors", 0, **options.pop("net", {}))
    with pytest.raises(UserError) as caught:
        experiment.run(Workdir(tmp_path / "w", "features", ""), **{"params": net, **options})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


def test_the_program_ends_a_mistake_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "experiments.features", "--fractions=all", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --fractions=all: give numbers, such as 0.01,0.1,1"
    assert not (tmp_path / "w").exists()


def test_a_users_own_images_are_resized_to_what_the_net_takes(tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "own.npz", images=draw.integers(0, 255, (60, 12, 12), np.uint8), labels=np.arange(60) % 3)
    path = publish(tmp_path / "net.safetensors", 0, **SMALL)
    data = experiment.load_images(str(tmp_path / "own.npz"), None, 0, weights.load_model(path), path)
    assert data.inputs.shape == (60, 8, 8, 1)


# ── The report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def summary_of(fractions=(0.01, 1.0), seeds=(0, 1, 2), at_home=True):
    """A summary with figures made up: pixels have 80% and 90%, the net's features 95% and 97%."""
    means = {report.PIXELS: (0.8, 0.9), report.TRAINED: (0.95, 0.97), report.UNTRAINED: (0.7, 0.85)}
    cells = []
    for representation, mean in means.items():
        for probe in (report.PROBE, report.NEIGHBORS):
            for fraction, value, pixels in zip(fractions, mean, means[report.PIXELS], strict=False):
                half = 0.01 if len(seeds) > 1 and fraction < 1 else None

                def interval(middle, half):
                    return [middle, *(middle + sign * half if half else None for sign in (-1, 1)), len(seeds)]

                cells.append(
                    {
                        "representation": representation,
                        "probe": probe,
                        "fraction": fraction,
                        "test": interval(value, half),
                        "test_by_draw": [value],
                        "ahead": interval(100 * (value - pixels), half and 100 * half),
                        "chosen": [1.0],
                        "short": 0,
                    }
                )
    return {
        "dataset": {
            "name": "<b>own</b>", "rows": {"train": 1000, "validation": 200, "test": 200}, "classes": ["a", "b"],
            "shape": [8, 8, 1], "licence": "", "citation": "", "notes": [],
        },
        "net": {
            "params": "net.safetensors", "model": "convnet: Dense(10)", "dataset": "own" if at_home else "mnist",
            "at_home": at_home, "features": 16, "accuracy": 0.96 if at_home else None,
        },
        "split_seed": 4,
        "seeds": list(seeds),
        "fractions": [{"fraction": each, "rows": round(1000 * each)} for each in fractions],
        "settings": {probe: {"name": name, "grid": grid} for probe, (name, grid) in experiment.SETTINGS.items()},
        "cells": cells,
        "seconds": {"data": 1.0, "total": 2.0},
    }  # fmt: skip


def page_of(summary, folder):
    environment = {
        "data": {}, "versions": {"jax": "0"}, "devices": {"count": 1, "kind": "cpu", "platform": "cpu"},
        "git_commit": None,
    }  # fmt: skip
    from mllab.report import page

    return page.render(report.page(summary, report.figure(summary, folder), environment, "run it again"))


@pytest.mark.parametrize(
    ("how", "says", "says_not"),
    [
        (
            {},
            [
                "with 10 training rows, the net&#39;s features are worth +15.0 ± 1.0 points",
                "; with 1,000, +7.0 and +7.0",
                "with the labels of all its training rows", "its features at 1% stand on more", "--split_seed, here 4",
                "95.0 ± 1.0%", "97.00%", "−10.0 ± 1.0", "&lt;b&gt;own", "96.00%",
            ],
            ["<b>own"],
        ),
        ({"at_home": False}, ["it has seen no label of this one"], ["with the labels of all", "the net itself"]),
        ({"seeds": (0,)}, ["one draw: no interval"], ["±"]),
        ({"fractions": (1.0,)}, ["1,000 training rows, the net&#39;s features are worth +15.0"], ["stand on more"]),
    ],
)  # fmt: skip
def test_the_page_says_what_must_be_known(tmp_path, how, says, says_not):
    page = page_of(summary_of(**how), tmp_path)
    for text in says:
        assert text in page, text
    for text in says_not:
        assert text not in page, text


def test_the_figure_has_a_line_for_each_representation_and_probe_and_a_log_axis(tmp_path):
    drawn = report.figure(summary_of(), tmp_path).read_text()
    for label in ("pixels, linear", "trained, kNN", "untrained, kNN", "the net itself", "training rows, log scale"):
        assert label in drawn
    assert len({style[:2] for style in report.STYLES.values()}) == len(report.STYLES)  # told apart without the marker
