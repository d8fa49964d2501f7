"""The optimizer race end to end: its workdir and report, refusals, kills and replays that end with the same bits."""

import dataclasses
import functools
import importlib
import json
import re
import shutil
import time

import numpy as np
import pytest

from experiments import optimizer_race, race_measurement
from mllab import race_results, table_models, weights
from mllab.data import catalog
from mllab.errors import UserError
from mllab.metrics import Interval, Lead, Ranking
from mllab.tasks import Baseline
from support.mistakes import refused_in_one_line
from support.workdirs import ROOT, bits, kill, program, records_of

TINY = {"optimizers": ["sgd", "adam"], "learning_rates": [0.01, 0.1], "epochs": 2, "seeds": 2, "hidden": [8]}


def race(path, **settings):
    return optimizer_race.run(workdir=str(path), **{**TINY, **settings})


race_program = functools.partial(program, "optimizer_race")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem)
def test_all_experiments_can_be_imported_side_by_side(path):
    importlib.import_module(f"experiments.{path.stem}")


@pytest.mark.slow
def test_a_race_writes_its_whole_workdir(tmp_path, capsys):
    measured = race(tmp_path)
    shown = capsys.readouterr().out
    for name in ("flags.cfg", "environment.json", "metrics.jsonl", "summary.json", "report.html", "params.safetensors"):
        assert (tmp_path / name).is_file(), name
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "loss_by_step.svg",
        "score_by_learning_rate.svg",
        "score_by_trials.svg",
    ]
    assert len(list((tmp_path / "events").iterdir())) == 4  # each optimizer's best rate, every seed
    records = records_of(tmp_path)
    assert len(records) == 2 * 2 * 2 * 2  # optimizers × rates × seeds × epochs
    assert json.loads((tmp_path / "summary.json").read_text())["winner"] == measured.winner
    assert f"* {measured.winner}" in shown
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.slow
def test_the_summary_agrees_with_the_records_and_the_published_params(tmp_path):
    """Chosen rate, validation score and test accuracy, each computed again from what was written."""
    measured = race(tmp_path, epochs=3)
    records = records_of(tmp_path)
    data = catalog.load("digits")
    for result in measured.optimizers:
        mean = {}
        for rate in TINY["learning_rates"]:
            kept = []
            for seed in range(TINY["seeds"]):
                lane = [
                    r
                    for r in records
                    if (r["optimizer"], r["learning_rate"], r["seed"]) == (result.optimizer, rate, seed)
                ]
                kept.append(min(lane, key=lambda record: record["validation_loss"])["validation_accuracy"])
            mean[rate] = np.mean(kept)
        assert result.learning_rate == max(mean, key=mean.get)
        np.testing.assert_allclose(result.validation.mean, max(mean.values()), rtol=1e-6)

    published = weights.load_model(tmp_path / "params.safetensors")
    assert published.about["model"] == "mlp 64-8-10"
    assert published.about["optimizer"] == measured.winner
    hidden, out = published.params
    x = data.inputs[data.split.test].reshape(len(data.split.test), -1)
    logits = np.maximum(x @ hidden.w + hidden.b, 0) @ out.w + out.b
    accuracy = np.mean(logits.argmax(axis=1) == data.targets[data.split.test])
    winner = next(result for result in measured.optimizers if result.optimizer == measured.winner)
    assert min(abs(accuracy - seed) for seed in winner.test_by_seed["accuracy"]) < 1e-6
    assert accuracy > 0.5


@pytest.mark.slow
def test_regression_on_the_users_own_table(tmp_path, capsys):
    draw = np.random.default_rng(0)
    size, kind = draw.normal(size=200), draw.choice(["flat", "house"], 200)
    price = 100 + 30 * size + 50 * (kind == "house") + draw.normal(size=200)
    rows = "\n".join(f"{s:.4f},{k},{p:.2f}" for s, k, p in zip(size, kind, price, strict=True))
    (tmp_path / "homes.csv").write_text(f"size,kind,price\n{rows}\n")
    measured = race(
        tmp_path / "w", dataset=str(tmp_path / "homes.csv"), target="price", model="linear", hidden=None, epochs=30,
        learning_rates=[0.003, 0.03],
    )  # fmt: skip
    best = measured.optimizers[0].test
    assert best["rmse"].mean < 3  # in the target's own unit: the noise's sigma is 1
    assert best["r2"].mean > 0.99
    assert "RMSE" in capsys.readouterr().out
    data = catalog.load(tmp_path / "homes.csv", target="price")
    predicted = table_models.load_table_model(tmp_path / "w" / "params.safetensors").values(data.columns)
    error = np.sqrt(np.mean((predicted - price)[data.split.test] ** 2))
    winner = next(each for each in measured.optimizers if each.optimizer == measured.winner)
    assert min(abs(error - seed) for seed in winner.test_by_seed["rmse"]) < 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizers": ["adm"]}, "did you mean 'adam'"),
        ({"optimizers": ["adam", "adam"]}, "each once"),
        ({"optimizers": []}, "give one or more of sgd"),
        ({"dataset": "mnis"}, "did you mean 'mnist'"),
        ({"dataset": "absent.csv"}, "absent.csv"),
        ({"model": "mpl"}, "did you mean 'mlp'"),
        ({"model": "linear"}, "--model=softmax"),
        ({"dataset": "line", "model": "softmax"}, "--model=linear"),
        ({"model": "softmax"}, "--hidden is for mlp and convnet, not for softmax"),
        ({"hidden": "12,x"}, "--hidden=12,x"),
        ({"learning_rates": [0.1, -1.0]}, "--learning_rates=0.1,-1: empty, or a number out of range"),
        ({"learning_rates": [float("nan")]}, "--learning_rates"),
        ({"learning_rates": [0.0]}, "--learning_rates=0"),
        ({"learning_rates": "1e-4:1"}, "LOW:HIGH:COUNT"),
        ({"batch_size": 5000}, "batch_size = 5000 is larger than"),
        ({"devices": 99}, "--devices=99"),
        ({"target": "price"}, "target"),
        ({"clip_norm": 0.0}, "clip_norm"),
        ({"target_score": 97.0}, "--target_score=97: out of range: give a number up to 1"),
        ({"target_score": float("nan")}, "--target_score=nan"),
        ({"optimizer": "adam"}, "unknown setting 'optimizer': did you mean 'optimizers'"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_leaves_nothing(tmp_path, settings, message):
    with refused_in_one_line(message):
        race(tmp_path / "w", **settings)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0.1,0.01", [0.01, 0.1]), ("1e-4:1:5", [1e-4, 1e-3, 1e-2, 1e-1, 1.0]), ("0.5", [0.5]), ("2:2:1", [2.0])],
)
def test_learning_rates_as_text(text, expected):
    np.testing.assert_allclose(optimizer_race.Settings.make({"learning_rates": text}).learning_rates, expected)


@pytest.mark.parametrize(
    "text", ["", "a", "1:2", "1:2:3:4", "0", "-1", "nan", "inf", "1:0.1:3", "1:2:0", "1:2:1", "1:2:x"]
)
def test_malformed_learning_rates_are_refused(text):
    with pytest.raises(UserError, match="--learning_rates"):
        optimizer_race.Settings.make({"learning_rates": text})


@pytest.mark.slow
def test_the_program_ends_a_mistake_without_a_traceback(tmp_path):
    done = race_program("--model=softmax", "--hidden=8", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 1
    assert done.stderr == "error: --hidden is for mlp and convnet, not for softmax\n"
    assert done.stdout == ""
    assert not (tmp_path / "w").exists()


def test_help_shows_the_shared_flags_and_its_own(capsys):
    optimizer_race.main(["optimizer_race", "--help"])
    shown = capsys.readouterr().out
    for name in (
        "--dataset",
        "--learning_rates",
        "--seeds",
        "--workdir",
        "--hidden",
        "--patience",
        "--folds",
        "--refit",
    ):
        assert name in shown, name
    assert "--restarts" not in shown


# ── Killed and resumed ──────────────────────────────────────────────────────────────────────────────────────────────

FLAGS = ["--optimizers=momentum,adam", "--learning_rates=1e-3:3:3", "--seeds=2", "--epochs=12", "--hidden=24"]
KILLABLE = [*FLAGS, "--checkpoint_seconds=0", "--devices=2"]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped, and how long it took."""
    workdir = tmp_path_factory.mktemp("straight") / "w"
    began = time.monotonic()
    done = race_program(*KILLABLE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, time.monotonic() - began


def kill_and_resume(straight, workdir, seed):
    reference, seconds = straight
    kill("optimizer_race", KILLABLE, workdir, seconds, seed)
    done = race_program(*KILLABLE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert bits(workdir) == bits(reference)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 3])
def test_killed_at_a_random_moment_and_resumed_it_ends_with_the_same_bits(straight, tmp_path, seed):
    kill_and_resume(straight, tmp_path / "w", seed)


@pytest.mark.slow
def test_a_kill_while_flags_cfg_was_written_locks_nobody_out(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "flags.cfg.partial").write_text("--epo")
    (tmp_path / "w" / ".lock").write_text("")
    assert race(tmp_path / "w").winner


@pytest.mark.slow
def test_on_another_number_of_devices_a_finished_run_resumes_to_the_same_figures(straight, tmp_path):
    """Stopped at its end on two devices, resumed on one: nothing is computed, so even the bits are the same."""
    reference, _ = straight
    shutil.copytree(reference, tmp_path / "w")
    done = race_program(*KILLABLE, "--devices=1", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 0, done.stderr
    (summary, records, *_), (expected, expected_records, *_) = bits(tmp_path / "w"), bits(reference)
    assert records == expected_records
    assert summary["winner"] == expected["winner"]


@pytest.mark.slow
def test_all_settings_at_once_write_a_whole_workdir_that_shows_them(tmp_path):
    settings = {"schedule": "one_cycle", "clip_norm": 1.0, "weight_decay": 0.01, "patience": 1, "precision": "bf16"}
    measured = race(
        tmp_path, epochs=6, shared_batches=True, split_seed=3, activation="tanh", learning_rates=[0.3, 3.0], **settings
    )
    page = (tmp_path / "report.html").read_text()
    for text in ("one_cycle", "clip_norm = 1.0", "patience = 1", "bf16", "shared_batches", "split_seed = 3", "tanh"):
        assert text in page, text
    stopped = [result.steps for result in measured.optimizers if result.steps < measured.steps]
    assert bool(stopped) == ("stopped early" in page)


@pytest.mark.slow
def test_flags_cfg_repeats_the_run_to_the_bit(straight, tmp_path):
    reference, _ = straight
    done = race_program(f"--flagfile={reference / 'flags.cfg'}", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "w") == bits(reference)


@pytest.mark.slow
def test_other_flags_on_the_same_workdir_are_refused_by_name(straight):
    reference, _ = straight
    before = bits(reference)
    done = race_program(*KILLABLE, "--epochs=13", f"--workdir={reference}")
    assert done.returncode == 1
    assert "--epochs (12, now 13)" in done.stderr
    assert bits(reference) == before


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_reported_and_the_run_ends_with_the_same_bits(straight, tmp_path):
    reference, _ = straight
    workdir = tmp_path / "w"
    shutil.copytree(reference, workdir)
    newest = max((workdir / "checkpoints" / "adam").iterdir(), key=lambda path: int(path.name))
    (newest / "seal.json").write_text("{")
    done = race_program(*KILLABLE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "is damaged: trying the one before" in done.stderr
    assert bits(workdir) == bits(reference)


# ── What is reported ────────────────────────────────────────────────────────────────────────────────────────────────


def lane(rate, seed, step=None):
    return race_results.Lane(rate, seed, step, kept_loss=2.0)


RESULT = race_results.Result(
    optimizer="adam",
    steps=30,
    learning_rate=0.1,
    validation=Interval(0.91, 0.9, 0.92, 3),
    test={"accuracy": Interval(0.9, 0.88, 0.92, 3)},
    test_by_seed={"accuracy": np.array([0.89, 0.9, 0.91])},
    steps_to_target=np.array([10, 20, np.nan]),
    width=race_results.Width(1.5, open_low=False, open_high=True),
    nonfinite=[],
    failed=[],
    validation_by_rate=np.zeros((2, 3)),
)
NEXT = dataclasses.replace(
    RESULT,
    optimizer="sgd",
    nonfinite=[lane(1.0, 0, 4), lane(1.0, 2, 6)],
    failed=[lane(0.1, seed) for seed in (0, 1, 2)],
)


def lead(mean, half, seeds=3):
    return Lead("sgd", Interval(mean, mean - half, mean + half, seeds))


def measured(**changes):
    scores = race_measurement.ScoreNames(
        "accuracy", "accuracy", "nats", [race_measurement.ReportedScore("accuracy", "accuracy")]
    )
    values = {
        "dataset": None, "model": "mlp", "score": scores, "learning_rates": np.array([0.1, 1.0]),
        "seeds": np.arange(3), "epochs": 3, "batch_size": 9, "steps": 30, "lanes_each": 6, "chance_loss": 1.0,
        "target": 0.88, "winner": "adam", "tied": ["adam"], "ahead": lead(1.0, 0.6),
        "ahead_by_validation": lead(2.0, 0.5), "baseline": Baseline("the most frequent class", {"accuracy": 0.25}),
        "beats_baseline": True, "optimizers": [RESULT, NEXT], "settings": {}, "expected_test": {}, "race": None,
    }  # fmt: skip
    values |= changes
    names = sorted((each.optimizer for each in values["optimizers"]), key=lambda name: name != values["winner"])
    standing = Ranking(names, values["tied"], len(values["seeds"])) if values["winner"] else None
    return race_measurement.Measurement(**{"standing": standing} | values)


def test_the_table_and_the_diverged_lanes():
    made = optimizer_race.result_table(measured())
    assert made.marked == {0}
    assert made.rows[2][:3] == ["most frequent class", None, "0.25"]
    assert made.columns[3] == "steps to 0.88"
    assert made.rows[0] == ["adam", "0.1", "0.90 ± 0.02", "15 (2/3 seeds)", "≥1.5", "0/6", "0/6"]
    assert made.rows[1][-2:] == ["2/6", "3/6"]
    assert made.caption.startswith("* highest mean validation accuracy, clearly above all others on the same seeds; ±")
    assert race_measurement.diverged_lanes([RESULT, NEXT], np.array([0.1, 1.0]), 3) == [
        "sgd at 0.1: failed: no better than chance (every seed)",
        "sgd at 1: non-finite from step 4, 6 (seeds 0, 2)",
    ]
    assert race_results.lanes_by_rate([*NEXT.nonfinite, *NEXT.failed], np.array([0.1, 1.0])).tolist() == [3, 2]


ONE_SEED = {"seeds": np.arange(1), "ahead": None, "ahead_by_validation": None, "tied": ["adam", "sgd"]}
FOLDS = {
    "folds": 5, "lanes_each": 30, "ahead_by_validation": lead(2.0, 0.5, 5),
    "standing": Ranking(["adam", "sgd"], ["adam"], 5),
}  # fmt: skip
REFITS = {
    name: race_measurement.RefitFacts(1438, epochs, 45 * epochs, []) for name, epochs in (("adam", 7), ("sgd", 9))
}
BOTH = {"tied": ["adam", "sgd"], "ahead": lead(0.1, 0.5), "ahead_by_validation": lead(0.2, 0.5)}


@pytest.mark.parametrize(
    ("changes", "present", "absent", "marked"),
    [
        (
            {},
            ["adam at learning rate 0.1: test accuracy 0.90 ± 0.02 (3 seeds); predicting the most frequent class: "
             "0.25. On the same seeds it is ahead of sgd, the next, by 2.0 ± 0.5 points on validation rows; on test "
             "rows it is ahead of it: 1.0 ± 0.6 points."],
            ["tied", "etter than"],
            {0},
        ),
        ({"ahead": lead(-1.0, 0.6)}, ["on test rows it is behind it: ", "1.0 ± 0.6 points."], [], {0}),
        ({"ahead": lead(0.1, 0.5)}, ["on test rows it is not clearly ahead of it: 0.1 ± 0.5"], [], {0}),
        (
            BOTH,
            ["adam and sgd are tied: on the same seeds, none is clearly below the highest mean validation accuracy, "
             "that of adam. Test accuracy, 3 seeds: adam 0.90 ± 0.02, sgd 0.90 ± 0.02; predicting the most frequent "
             "class: 0.25. On test rows adam less sgd, the next by validation: 0.1 ± 0.5 points. The published params "
             "are those of adam at learning rate 0.1, the highest mean; rounding may pick another of the tied."],
            ["ahead of"],
            {0, 1},
        ),
        (
            ONE_SEED,
            ["0.90 ± 0.02 (1 seed);", "It has the highest validation accuracy; 1 seed: no comparison."],
            ["ahead", "tied", "1 seeds", "nan"],
            {0},
        ),
        (
            FOLDS,
            ["0.90 ± 0.02 (5 folds × 3 seeds);", "On the same folds it is ahead of sgd"],
            ["Refitted", "same seeds"],
            {0},
        ),
        (
            FOLDS | {"refits": REFITS},
            ["0.90 ± 0.02 (3 seeds);", "On the same folds it is ahead of sgd",
             " Refitted on all 1,438 training and validation rows, epochs: adam 7, sgd 9, the mean of those kept; no "
             "early stopping."],
            ["5 folds ×"],
            {0},
        ),
        (
            FOLDS | {"refits": {"adam": REFITS["adam"]}, "ahead": None, "seeds": np.arange(1)},
            ["(1 seed);", "by 2.0 ± 0.5 points on validation rows. Refitted on all 1,438 training and validation rows "
             "for 7 epochs (315 steps)"],
            ["no comparison", "on test rows"],
            {0},
        ),
        ({"optimizers": [RESULT], "ahead_by_validation": None}, ["(3 seeds);"], ["ahead", "highest"], set()),
        ({"winner": "sgd", "tied": ["sgd"]}, ["The validation loss of sgd is no better than chance."], [], {1}),
        ({"beats_baseline": False}, ["Not clearly better than predicting the most frequent class: adam at"], [], {0}),
        (
            {"beats_baseline": False, "baseline": Baseline("the most frequent class", {"accuracy": 0.9}), **BOTH},
            ["No better than predicting the most frequent class: adam and sgd are tied"], [], {0, 1},
        ),
        (
            {"winner": None, "target": None, "tied": []},
            ["Every learning rate of every optimizer has a non-finite lane"], ["tied"], set(),
        ),
    ],
)  # fmt: skip
def test_the_answer_names_winner_ties_margin_and_baseline_and_the_table_marks_the_same(
    changes, present, absent, marked
):
    made = measured(**changes)
    answer, table = optimizer_race.answer(made), optimizer_race.result_table(made)
    assert [part for part in present if part not in answer] == []
    assert [part for part in absent if part in answer] == []
    assert table.marked == marked
    if made.folds > 1:
        assert "on the same folds" in table.caption
        over = "over 3 seeds, refitted on" if made.refits else "over 5 folds, each the mean of 3 seeds; wider, as folds"
        assert ("1 seed: no interval;" if len(made.seeds) == 1 else over) in table.caption
    elif len(made.seeds) == 1:
        assert "1 seed: no interval, no comparison" in table.caption
        assert "clearly" not in table.caption
        assert "tied" not in table.caption


def table_of(path, target, columns):
    lines = zip(*columns.values(), strict=True)
    path.write_text(",".join(columns) + "\n" + "".join(",".join(map(str, line)) + "\n" for line in lines))
    return {"dataset": str(path), "target": target, "learning_rates": [0.01, 0.1], "hidden": None, "seeds": 3}


NOISE = np.random.default_rng(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "target", "settings", "constant"),
    [
        ({"x": NOISE.normal(size=150).round(3), "price": NOISE.normal(200, 25, 150).round(2)}, "price",
         {"model": "linear"}, "the mean"),
        ({"x": NOISE.normal(size=150).round(3), "fraud": np.where(np.arange(150) % 20 == 7, "yes", "no")}, "fraud",
         {"model": "softmax"}, "the most frequent class"),
    ],
    ids=["noise", "a class of 95%"],
)  # fmt: skip
def test_a_sceptical_reader_is_told_that_nothing_was_learned(tmp_path, columns, target, settings, constant):
    made = race(tmp_path / "w", epochs=1, **settings, **table_of(tmp_path / "own.csv", target, columns))
    answer = optimizer_race.answer(made)
    assert not made.beats_baseline
    assert re.match(f"(No|Not clearly) better than predicting {constant}: ", answer)
    assert made.tied == ["sgd", "adam"]
    assert answer.count("sgd and adam are tied") == 1
    if target == "price":
        assert "Test RMSE (units of price), 3 seeds: sgd" in answer
    written = json.loads((tmp_path / "w" / "summary.json").read_text())
    assert (written["tied"], written["winner"]) == (made.tied, made.winner)
    assert written["winner"] in written["tied"]
    assert written["baseline"]["scores"] == made.baseline.scores


@pytest.mark.slow
def test_a_race_in_which_every_lane_goes_non_finite_is_reported_and_publishes_nothing(tmp_path, capsys):
    found = race(tmp_path, optimizers=["sgd"], learning_rates=[1e30, 1e35], epochs=1)
    assert found.winner is None
    assert "has a non-finite lane: try smaller ones" in capsys.readouterr().out
    assert not (tmp_path / "params.safetensors").exists()
    assert json.loads((tmp_path / "summary.json").read_text())["optimizers"][0]["learning_rate"] is None
