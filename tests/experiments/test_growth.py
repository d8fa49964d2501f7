"""The growth experiment: examples of any size, what is measured within a limit of time, and a whole run."""

import dataclasses
import json

import numpy as np
import pytest

from experiments import growth as experiment
from experiments import growth_measurement as measurement
from experiments import growth_models as models
from experiments import growth_results as results
from mllab.data import catalog
from mllab.growth import THEORY
from mllab.metrics import Interval
from mllab.report.table import byte_size, duration
from mllab.tasks import CLASSIFICATION, REGRESSION
from mllab.validation import Learner
from support.mistakes import refused_in_one_line
from support.pages import Reader
from support.workdirs import records_of

TINY = {"models": ("constant",), "rows": (20, 40), "columns": (3,), "job_rows": 1000}


def test_every_approach_has_a_theory_and_is_for_some_task():
    for approach in models.APPROACHES.values():
        assert approach.theory in THEORY
        assert approach.make.keys() <= {CLASSIFICATION.name, REGRESSION.name}


def test_examples_have_the_size_that_is_asked_for_and_every_class():
    data = catalog.load("moons")
    for n, d in ((3, 1), (50, 2), (1300, 5)):
        made = models.resized(data)(n, d)
        assert made["inputs"].shape == (n, d)
        assert set(made["targets"]) == {0, 1}
    assert len(np.unique(made["inputs"], axis=0)) == 1300  # repeated rows are moved
    inside = models.resized(data)(600, 2)
    assert sorted(map(tuple, np.sort(inside["inputs"], axis=1))) == sorted(map(tuple, np.sort(data.inputs, axis=1)))
    assert models.synthetic(REGRESSION.name)(7, 4)["inputs"].shape == (7, 4)


def test_sizes_that_the_time_does_not_allow_are_left_out():
    learner = Learner(lambda hyper, key, examples, rows: 0.0, lambda params, inputs: np.asarray(inputs)[:, 0] + params)
    sizes = measurement.sizes_of((10, 20, 40), (2, 8), 4)
    assert sizes == [(10, 4), (40, 4), (20, 2), (20, 8), (20, 4)]
    make, theory = models.synthetic(REGRESSION.name), THEORY["svm"].fit
    all_of_them = list(measurement.costs_within(learner, {}, make, sizes, 1e9, theory))
    assert [cost.size for cost in all_of_them] == sizes
    first = list(measurement.costs_within(learner, {}, make, sizes, 0.0, theory))
    assert [cost.size for cost in first] == sizes[:1]


def test_limits_in_words():
    limit = Interval(31_234.0, 25_100.0, 39_400.0, 5)
    assert results.rows_text(limit) == "31,000 (25,000 to 39,000)"
    assert results.rows_text(Interval(np.inf, 1e6, np.inf, 5)) == "over 1 billion"
    assert results.rows_text(Interval(2.4e6, 1.8e6, np.inf, 5)) == "2.4 million (1.8 million to over 1 billion)"
    assert results.time_text(Interval(192.0, 126.0, 294.0, 5)) == "3.2 min (2.1 to 4.9 min)"
    assert [duration(each) for each in (3e-4, 1.5, 60, 90, 200, 2e5, 1e9)] == [
        "300 µs", "1.5 s", "60 s", "90 s", "3.3 min", "2.3 days", "32 years",
    ]  # fmt: skip
    assert [byte_size(each) for each in (640, 3.1e6, 22e9)] == ["640 bytes", "3.1 MB", "22 GB"]


@pytest.mark.slow
def test_a_whole_run(tmp_path, capsys):
    measured = experiment.run(workdir=str(tmp_path / "w"), **TINY)
    shown = capsys.readouterr().out
    written = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert [each["model"] for each in written["models"]] == [each.model for each in measured.models]
    assert len(records_of(tmp_path / "w")) == 3
    for each in measured.models:
        assert [cost.size for cost in each.costs] == [(20, 20), (40, 20), (20, 3)]
        assert each.fit_at_full.low < each.fit_at_full.mean < each.fit_at_full.high
        assert 0 < each.fit.law.rows.error <= 0.26  # the exponent of theory counts
    (constant,) = measured.models
    assert constant.memory_by == "program"
    assert max(n for n, _ in constant.memory_points) > 40  # planned, not run
    page = (tmp_path / "w" / "report.html").read_text()
    words = Reader(page).words()
    assert "What was measured" in words
    assert "Nothing is prohibitive at 1,000 rows." in shown
    assert {path.stem for path in (tmp_path / "w" / "figures").iterdir()} == {
        "fit_by_rows", "predict_by_rows", "fit_by_columns", "memory_by_rows",
    }  # fmt: skip


def test_what_is_prohibitive_is_named_first():
    far, near = Interval(1e8, 1e7, 1e9, 3), Interval(5e3, 4e3, 6e3, 3)
    law = None
    one = measurement.Growing(
        "knn", "kNN", "", [], 0, law, law, None, [], "program", far, far, far, far, measurement.NEVER, None
    )
    two = dataclasses.replace(one, label="slow", rows_in_seconds=near)
    three = dataclasses.replace(one, label="large", refuses_above=700)
    measured = results.Measurement(None, "regression", 0, 20, 10_000, 60.0, 22e9, (10,), (), [three, two, one])
    assert results.answer(measured) == (
        "Prohibitive at 10,000 rows: large and slow. One fit on 20 columns: large: it refuses more than 700 rows; "
        "slow: n = 5,000 (4,000 to 6,000) takes the 60 s. Beyond 1 million rows: kNN."
    )


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("--models=ridge: not for classification", {"models": ("ridge",)}),
        ("--target=price: name the table", {"target": "price"}),
        ("--test=later.csv: name the table", {"test": "later.csv"}),
        ("--rows=2: ", {"rows": (2,)}),
        ("unknown model 'tree'", {"models": ("tree",)}),
        ("--rows=4: give 10 or more", {"dataset": "digits", "rows": (4,)}),
        ("examples of 10,000,000 rows", {"rows": (10**7,), "columns": (10**5,)}),
    ],
)
def test_mistakes_are_refused_in_one_line_and_leave_nothing(message, settings, tmp_path):
    with refused_in_one_line(message):
        experiment.run(workdir=str(tmp_path / "w"), **settings)
    assert not (tmp_path / "w").exists()
