"""The capacity experiment: axes, words, and a whole run on the noisy curve (a table's run is among the pages)."""

import json

import numpy as np
import pytest

from experiments import capacity as experiment
from experiments import capacity_axes as axes
from experiments import capacity_results as results
from mllab.capacity import Trend
from mllab.metrics import Interval
from mllab.tasks import CLASSIFICATION, REGRESSION
from support.mistakes import refused_in_one_line
from support.workdirs import records_of


def test_axes_ascend_in_capacity_and_have_both_ends():
    for task, classes in ((REGRESSION.name, 0), (CLASSIFICATION.name, 3)):
        made = {axis.name: axis for axis in axes.axes_of(axes.NAMES, task, classes, 2, 50, 0.5)}
        assert list(made) == list(axes.NAMES)
        for name, axis in made.items():
            rises = np.diff(axis.values) > 0
            assert rises.all() or (name in ("k", "l2") and not rises.any())
            axis.make()
    assert made["k"].span([0, 1]).startswith("k ≥ ")
    assert made["degree"].span([0, 1]) == "degree ≤ 2"
    assert made["c"].span([4, 5]) == "C ≥ 100"
    assert made["c"].span([3]) == "C = 10"
    assert "degree" not in [axis.name for axis in axes.axes_of(axes.NAMES, REGRESSION.name, 0, 1000, 50, 0.5)]


def test_generated_samples_are_independent_and_the_curve_is_what_the_noise_is_around():
    examples, samples = axes.generated(REGRESSION.name, 30, 300, 10, 0)
    noise = examples["targets"] - axes.curve(examples["inputs"][:, 0])
    np.testing.assert_allclose([noise.mean(), noise.std()], [0, axes.NOISE], atol=0.02)
    assert samples.independent
    assert len(noise) == samples.train.size + samples.held_out.size
    labels = axes.generated(CLASSIFICATION.name, 5, 6, 3, 0)[0]["targets"]
    assert (labels.shape, set(labels)) == ((33,), {0, 1})


def test_the_words_on_more_examples_are_cautious():
    gap, fall = Interval(0.5, 0.4, 0.6, 5), Interval(0.2, 0.1, 0.3, 5)
    measured = results.Measurement(None, "x", "regression", "RMSE", 1, 1, 5, True, gap, [], [], None)
    for helps, words in (
        ("likely", "more examples are likely to help: from 10 to 20 rows the error still fell by 0.20 ± 0.10"),
        ("unclear", "more examples may help, or less capacity"),
        ("hardly", "hardly help"),
    ):
        learning = results.Learning("kNN", [10, 20], [], [], Trend(gap, fall, 1.0, 0.1, helps))
        assert words in results.more_data(learning, measured)


@pytest.mark.slow
def test_a_whole_run(tmp_path, capsys):
    workdir = tmp_path / "w"
    degrees = (1, 4, 6, 25)
    settings = {"axes": ("degree",), "degrees": degrees, "learning": ("linear",), "samples": 3, "most_rows": 20}
    measured = experiment.run(workdir=str(workdir), **settings)
    written = json.loads((workdir / "summary.json").read_text())
    (panel,) = written["panels"]
    assert panel["values"] == list(degrees)
    chosen = panel["values"][panel["verdict"]["chosen"]]
    assert chosen in (4, 6)  # of a curve with two bends
    assert panel["verdict"]["overfits"]
    assert 0 in panel["verdict"]["underfits"]
    errors = [np.mean(record["validation"]) for record in records_of(workdir) if record.get("axis") == "degree"]
    np.testing.assert_allclose([each[0] for each in panel["validation"]], errors)
    assert written["baseline"][0] > panel["validation"][panel["verdict"]["chosen"]][0]
    assert measured.fits.values[0].shape == measured.fits.grid.shape
    assert {path.stem for path in (workdir / "figures").iterdir()} == {"fits", "by_degree", "learning_1"}
    assert f"with degree {chosen} has the least validation RMSE" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("--target=price: name the table", {"target": "price"}),
        ("--drop=price: name the table", {"drop": ("price",)}),
        ("--query=SELECT 1: name the table", {"query": "SELECT 1"}),
        ("--degrees=3: of the axis degree", {"axes": ("k",), "degrees": (3,)}),
        ("unknown axis 'depth'", {"axes": ("depth",)}),
        ("--rows=480: 480 training and validation rows", {"dataset": "moons", "rows": 480}),
        ("task: only for your own data", {"dataset": "moons", "task": "regression"}),
        ("--samples=1", {"samples": 1}),
    ],
)
def test_mistakes_are_refused_in_one_line_and_leave_nothing(message, settings, tmp_path):
    with refused_in_one_line(message):
        experiment.run(workdir=str(tmp_path / "w"), **settings)
    assert not (tmp_path / "w").exists()
