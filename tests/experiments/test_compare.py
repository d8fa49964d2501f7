"""Runs side by side: labels, pairing by seed and by fold, ties, curves, and what is not compared."""

import json

import numpy as np
import pytest
from scipy import stats

from experiments import compare, recorded_run, run_comparison
from support import finished_runs
from support.finished_runs import environment, race
from support.mistakes import refused_in_one_line

NARROW = {"sgd": [0.80, 0.82, 0.81, 0.80], "adam": [0.90, 0.91, 0.89, 0.92]}
WIDE = {"sgd": [0.81, 0.80, 0.84, 0.80], "adam": [0.93, 0.95, 0.93, 0.96]}


def written(folder, *summaries, **environ):
    return [
        str(finished_runs.write(folder / f"run{number}", summary, environment(**environ) if number == 1 else None))
        for number, summary in enumerate(summaries)
    ]


def compared(paths, against_best=False):
    runs = run_comparison.read_runs([recorded_run.read(path) for path in paths])
    return run_comparison.compare(runs, against_best)


def test_differences_are_paired_by_seed(tmp_path):
    paths = written(tmp_path, race(NARROW, seeds=4, hidden=[16]), race(WIDE, seeds=4, hidden=[32]))
    measured = compared(paths)
    assert measured.differing_flags == {"hidden": ["16", "32"]}
    assert [run.label for run in measured.runs] == ["hidden 16", "hidden 32"]
    (group,) = measured.groups
    expected = stats.ttest_rel(WIDE["adam"], NARROW["adam"]).confidence_interval()
    difference = group.winners[1].validation_difference
    assert group.winners[0].validation_difference is None
    np.testing.assert_allclose(difference[1:3], 100 * np.array(expected), rtol=1e-5)
    assert (group.part, group.repeats, group.best, group.tied) == ("validation", 4, "hidden 32", ["hidden 32"])
    sgd = next(row for row in group.contenders if (row.contender, row.run) == ("sgd", "hidden 32"))
    np.testing.assert_allclose(sgd.validation_difference.mean, 100 * (np.mean(WIDE["sgd"]) - np.mean(NARROW["sgd"])))
    (against_best,) = compared(paths, against_best=True).groups
    assert against_best.against == "hidden 32"
    np.testing.assert_allclose(against_best.winners[0].validation_difference[0], -difference.mean)


def test_seeds_that_both_runs_have_are_paired(tmp_path):
    more = {name: [*values, 0.1] for name, values in WIDE.items()}
    (group,) = compared(written(tmp_path, race(NARROW, seeds=4), race(more, seeds=5))).groups
    assert group.repeats == 4
    np.testing.assert_allclose(group.winners[1].validation_difference.mean, 3.75)


def test_differences_over_folds_are_widened_as_the_recorded_intervals_are(tmp_path):
    folds, widening = 4, np.sqrt(1 + 4 / 3)
    paths = written(
        tmp_path,
        *(race(scores, folds=folds, seeds=1, widening=widening, hidden=[n]) for n, scores in enumerate((NARROW, WIDE))),
    )
    (group,) = compared(paths).groups
    paired = np.array(WIDE["adam"]) - np.array(NARROW["adam"])
    low, high = stats.t.interval(0.95, 3, paired.mean(), widening * stats.sem(paired))  # Nadeau and Bengio
    assert (group.over, group.repeats) == ("fold", 4)
    np.testing.assert_allclose(group.winners[1].validation_difference[1:3], [100 * low, 100 * high], rtol=1e-4)


def test_ties_are_named_and_one_seed_compares_nothing(tmp_path, capsys):
    close = {"adam": [0.91, 0.90, 0.90, 0.92]}
    paths = written(tmp_path, race({"adam": NARROW["adam"]}, seeds=4, hidden=[1]), race(close, seeds=4, hidden=[2]))
    compare.run(workdirs=paths, workdir=str(tmp_path / "tied"))
    shown = capsys.readouterr().out
    assert "hidden 1 and hidden 2 are tied: on the same 4 seeds, none is clearly below the highest mean" in shown
    one = [{"adam": [value]} for value in (0.8, 0.9)]
    paths = written(tmp_path / "one", *(race(each, seeds=1, hidden=[n]) for n, each in enumerate(one)))
    compare.run(workdirs=paths, workdir=str(tmp_path / "single"))
    shown = capsys.readouterr().out
    assert "hidden 1 has the highest mean validation accuracy (1 seed): nothing is compared." in shown
    assert "±" not in shown.split("\n", 3)[2]
    assert compared(paths).groups[0].tied == []


@pytest.mark.parametrize(
    ("flags", "environ", "message"),
    [
        ({"split_seed": 1}, {}, "they differ in --split_seed."),
        ({"dataset": "moons"}, {}, "they differ in --dataset."),
        ({}, {"data": {"digits.csv.gz": "99"}}, "they differ in the data read."),
    ],
)
def test_other_data_or_another_split_is_not_compared(tmp_path, capsys, flags, environ, message):
    paths = written(tmp_path, race(NARROW, seeds=4), race(WIDE, seeds=4, **flags), **environ)
    compare.run(workdirs=paths, workdir=str(tmp_path / "out"))
    shown = capsys.readouterr().out
    assert f"The runs are not compared: {message}" in shown
    assert "± 0.02" in shown  # stands there all the same
    assert " less " not in shown


def test_a_path_that_is_relative_in_one_run_is_the_same_data(tmp_path):
    paths = written(tmp_path, race(NARROW, seeds=4, dataset="t.csv"), race(WIDE, seeds=4, dataset="/data/t.csv"))
    assert compared(paths).other_data == []


def test_curves_are_of_the_chosen_rate_with_bands_over_seeds(tmp_path):
    (group,) = compared(written(tmp_path, race(NARROW, seeds=4, hidden=[1]), race(WIDE, seeds=4, hidden=[2]))).groups
    steps, losses = group.curves["hidden 2"]
    assert steps.tolist() == list(finished_runs.STEPS)
    np.testing.assert_allclose([each.mean for each in losses], [0.1 + 1.5 + 1 / 10, 0.1 + 1.5 + 1 / 20])
    expected = stats.t.interval(0.95, 3, 1.7, stats.sem(np.arange(4)))
    np.testing.assert_allclose(losses[0][1:3], expected)


def test_a_diverged_lane_and_a_run_without_a_winner_are_shown_and_compare_nothing(tmp_path, capsys):
    lost = race(WIDE, seeds=4, hidden=[2])
    lost["optimizers"][1]["validation_by_rate"][1][2] = None
    none = race(NARROW, seeds=4, hidden=[3]) | {"winner": None}
    for number, summary in enumerate((lost, none)):
        paths = written(tmp_path / str(number), race(NARROW, seeds=4, hidden=[1]), summary)
        compare.run(workdirs=paths, workdir=str(tmp_path / f"out{number}"))
        shown = capsys.readouterr().out
        assert ("by test scores" if number == 0 else "nothing is compared") in shown


def other(tmp_path, **changes):
    paths = written(tmp_path, race(NARROW, seeds=4), race(WIDE, seeds=4))
    (tmp_path / "run1" / "summary.json").write_text(json.dumps(race(WIDE, seeds=4) | changes))
    return paths


REFUSED = {
    "one": (lambda path: written(path, race(NARROW, seeds=4)), "name two runs or more"),
    "twice": (lambda path: 2 * written(path, race(NARROW, seeds=4)), "a folder is named twice"),
    "several": (lambda path: other(path, experiment="char_rnn"), "runs of different experiments are not compared"),
    "unknown": (
        lambda path: written(path, *2 * [race(NARROW, seeds=4) | {"experiment": "clustering"}]),
        "unknown experiment to compare 'clustering'",
    ),
    "version": (lambda path: other(path, optimizers=[{"optimizer": "sgd"}]), "lacks the scores that this version"),
    "kinds": (lambda path: other(path, optimizers=3), "lacks the scores that this version"),
    "seeds": (lambda path: other(path, seeds=[[0], [1], [2], [3]]), "lacks the scores that this version"),
    "fewer seeds": (lambda path: other(path, seeds=[0, 1]), "lacks the scores that this version"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compared_is_refused_and_writes_nothing(tmp_path, name):
    make, message = REFUSED[name]
    with refused_in_one_line(message):
        compare.run(workdirs=make(tmp_path), workdir=str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_flags_cfg_holds_all_folders_and_repeats_the_comparison(tmp_path, capsys):
    paths = written(tmp_path / "a, b", race(NARROW, seeds=4), race(WIDE, seeds=4, hidden=[2]))
    compare.run(workdirs=paths, workdir=str(tmp_path / "out"))
    compare.main(["", f"--flagfile={tmp_path / 'out' / 'flags.cfg'}", f"--workdir={tmp_path / 'again'}"])
    one, again = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("out", "again"))
    assert one.pop("seconds")
    assert again.pop("seconds")
    assert one == again
    assert (one["experiment"], one["flags"]["against"]) == ("compare", "first")
    assert (tmp_path / "out" / "figures" / "loss_by_step.svg").is_file()
