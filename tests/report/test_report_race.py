"""The race's table, its list of diverged lanes and its answer, from a summary."""

import numpy as np
import pytest

from mllab.report import race as report


def summary(**changed):
    entry = {
        "learning_rate": 0.1,
        "test": {"accuracy": (0.9, 0.88, 0.92, 3)},
        "steps_to_target": [10, 20, np.nan],
        "width": {"decades": 1.5, "open_low": False, "open_high": True},
        "nonfinite": [],
        "failed": [],
    }
    lost = {
        "nonfinite": [{"learning_rate": 1.0, "seed": seed, "step": 4 + seed} for seed in (0, 2)],
        "failed": [{"learning_rate": 0.1, "seed": seed} for seed in (0, 1, 2)],
    }
    return {
        "winner": "adam",
        "ahead": {"of": "sgd", "by": (1.0, 0.4, 1.6, 3), "unit": "points"},
        "seeds": [0, 1, 2],
        "learning_rates": [0.1, 1.0],
        "lanes_each": 6,
        "target": 0.88,
        "score": {"label": "accuracy", "reported": [{"name": "accuracy", "label": "accuracy"}]},
        "optimizers": [{"optimizer": "adam", **entry}, {"optimizer": "sgd", **entry, **lost}],
        **changed,
    }


def test_the_table_shows_the_summary():
    table = report.race_table(summary())
    assert table.best == 0
    assert table.rows[0] == ["adam", "0.1", "0.90 ± 0.02", "15 (2/3 seeds)", "≥1.5", "0/6", "0/6"]
    assert table.rows[1][-2:] == ["2/6", "3/6"]
    assert report.lost_lanes(summary()) == [
        "sgd at 0.1: failed: no better than chance (every seed)",
        "sgd at 1: non-finite from step 4, 6 (seeds 0, 2)",
    ]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "it is ahead of sgd"),
        ({"ahead": {"of": "sgd", "by": (-1.0, -1.6, -0.4, 3), "unit": "points"}}, "it is behind sgd"),
        ({"ahead": {"of": "sgd", "by": (0.1, -0.4, 0.6, 3), "unit": "points"}}, "not clearly ahead of sgd"),
        ({"ahead": {"of": "sgd", "by": (0.1, np.nan, np.nan, 1), "unit": "points"}, "seeds": [0]}, "(1 seed)"),
        ({"ahead": None}, "(3 seeds)."),
        ({"winner": "sgd"}, "no better than chance"),
        ({"winner": None, "target": None}, "No optimizer kept all its lanes finite"),
    ],
)
def test_the_answer_names_the_winner_and_its_lead(changed, expected):
    assert expected in report.answer(summary(**changed))
    assert report.race_table(summary(**changed)).lines()
