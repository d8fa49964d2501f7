"""Every experiment run tiny, end to end; killed and resumed, and replayed from flags.cfg, to the same bits."""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments import optimizer_race
from experiments.workdir import Workdir
from mllab import weights
from mllab.data import catalog
from mllab.errors import UserError

ROOT = Path(__file__).parents[2]
TINY = {
    "names": ["sgd", "adam"],
    "learning_rates": [0.01, 0.1],
    "epochs": 2,
    "seeds": range(2),
    "options": {"hidden": (8,)},
}


def race(path, **options):
    return optimizer_race.run(Workdir(path, "optimizer_race", ""), **{**TINY, **options})


def program(*flags, experiment="optimizer_race", **options):
    """The experiment as its own process, with the suite's compilation cache."""
    return subprocess.run(
        [sys.executable, "-m", f"experiments.{experiment}", *map(str, flags)],
        cwd=ROOT, capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem)
def test_all_experiments_can_be_imported_side_by_side(path):
    """Two flags of one name would collide in the second of them."""
    importlib.import_module(f"experiments.{path.stem}")


def test_a_race_writes_its_whole_workdir(tmp_path, capsys):
    summary = race(tmp_path)
    shown = capsys.readouterr().out
    for name in ("flags.cfg", "environment.json", "metrics.jsonl", "summary.json", "report.html", "params.safetensors"):
        assert (tmp_path / name).is_file(), name
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "loss_by_step.svg",
        "score_by_learning_rate.svg",
    ]
    assert len(list((tmp_path / "events").iterdir())) == 4  # each optimizer's best rate, every seed
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2 * 2 * 2 * 2  # optimizers × rates × seeds × epochs
    assert json.loads((tmp_path / "summary.json").read_text())["winner"] == summary["winner"]
    assert f"* {summary['winner']}" in shown
    assert not list(tmp_path.rglob("*.partial"))


def test_the_summary_is_what_its_own_records_and_params_say(tmp_path):
    """Chosen rate, validation score and test accuracy, each computed again from what was written."""
    summary = race(tmp_path, epochs=3)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    data = catalog.load("digits")
    for entry in summary["optimizers"]:
        mean = {}
        for rate in TINY["learning_rates"]:
            kept = []
            for seed in TINY["seeds"]:
                lane = [
                    r
                    for r in records
                    if (r["optimizer"], r["learning_rate"], r["seed"]) == (entry["optimizer"], rate, seed)
                ]
                kept.append(min(lane, key=lambda record: record["validation_loss"])["validation_accuracy"])
            mean[rate] = np.mean(kept)
        assert entry["learning_rate"] == max(mean, key=mean.get)
        np.testing.assert_allclose(entry["validation"].mean, max(mean.values()), rtol=1e-6)

    published = weights.load_model(tmp_path / "params.safetensors")
    assert published.about["model"] == "mlp 64-8-10"
    hidden, out = published.params
    x = data.inputs[data.split.test].reshape(len(data.split.test), -1)
    logits = np.maximum(x @ hidden.w + hidden.b, 0) @ out.w + out.b
    accuracy = np.mean(logits.argmax(axis=1) == data.targets[data.split.test])
    won = next(entry for entry in summary["optimizers"] if entry["optimizer"] == summary["winner"])
    assert min(abs(accuracy - seed) for seed in won["test_by_seed"]["accuracy"]) < 1e-6
    assert accuracy > 0.5


def test_regression_on_the_users_own_table(tmp_path, capsys):
    draw = np.random.default_rng(0)
    size, kind = draw.normal(size=200), draw.choice(["flat", "house"], 200)
    price = 100 + 30 * size + 50 * (kind == "house") + draw.normal(size=200)
    rows = "\n".join(f"{s:.4f},{k},{p:.2f}" for s, k, p in zip(size, kind, price, strict=True))
    (tmp_path / "homes.csv").write_text(f"size,kind,price\n{rows}\n")
    summary = race(
        tmp_path / "w", dataset=str(tmp_path / "homes.csv"), target="price", model="linear", options={}, epochs=30,
        learning_rates=[0.003, 0.03],
    )  # fmt: skip
    best = summary["optimizers"][0]["test"]
    assert best["rmse"].mean < 3  # in the target's own unit: the noise's sigma is 1
    assert best["r2"].mean > 0.99
    assert "RMSE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"names": ["adm"]}, "did you mean 'adam'"),
        ({"names": ["adam", "adam"]}, "each once"),
        ({"dataset": "mnis"}, "did you mean 'mnist'"),
        ({"model": "mpl"}, "did you mean 'mlp'"),
        ({"model": "linear"}, "--model=softmax"),
        ({"dataset": "line", "model": "softmax"}, "--model=linear"),
        ({"model": "softmax"}, "--hidden is for mlp and convnet, not for softmax"),
        ({"learning_rates": [0.1, -1.0]}, "learning rates"),
        ({"learning_rates": [float("nan")]}, "learning rates"),
        ({"learning_rates": [0.0]}, "learning rates"),
        ({"batch_size": 5000}, "batch_size = 5000 is larger than"),
        ({"device_count": 99}, "--devices=99"),
        ({"target": "price"}, "target"),
        ({"names": []}, "name one or more"),
        ({"settings": {"clip_norm": 0.0}}, "clip_norm"),
        ({"target_score": 97.0}, "at most 1"),
        ({"target_score": float("nan")}, "at most 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, options, says):
    with pytest.raises(UserError, match=says) as caught:
        race(tmp_path / "w", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--learning_rates=0"], "error: --learning_rates=0: 0 is not a positive number"),
        (["--learning_rates=1e-4:1"], "LOW:HIGH:COUNT"),
        (["--hidden=12,x"], "--hidden=12,x"),
        (["stray"], "unexpected argument 'stray'"),
        (["--model=softmax", "--hidden=8"], "--hidden is for mlp and convnet, not for softmax"),
        (["--optimizer=adam"], "Did you mean: optimizers"),
        (["--dataset=absent.csv"], "absent.csv"),
    ],
)
def test_the_program_ends_a_mistake_without_a_traceback(tmp_path, flags, says):
    done = program(*flags, f"--workdir={tmp_path / 'w'}")
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (tmp_path / "w").exists()


def test_a_shared_flag_that_an_experiment_does_not_read_is_refused(tmp_path):
    done = program("--epochs=3", f"--workdir={tmp_path / 'w'}", experiment="linear_regression")
    assert done.returncode == 1
    assert "--epochs means nothing to this experiment" in done.stderr
    assert not (tmp_path / "w").exists()


def test_help_shows_the_shared_flags_and_its_own():
    shown = program("--help").stdout
    for name in ("--dataset", "--learning_rates", "--seeds", "--workdir", "--hidden", "--patience", "--precision"):
        assert name in shown, name
    assert "TFRecord" not in shown


# ── Killed and resumed ──────────────────────────────────────────────────────────────────────────────────────────────

FLAGS = ["--optimizers=momentum,adam", "--learning_rates=1e-3:3:3", "--seeds=2", "--epochs=12", "--hidden=24"]
KILLABLE = [*FLAGS, "--checkpoint_seconds=0", "--devices=2"]


def bits(workdir):
    """All that two runs must share: everything but wall times."""
    summary = json.loads((workdir / "summary.json").read_text())
    summary.pop("seconds")
    records = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        record.pop("seconds")
    drawn = {path.name: path.read_bytes() for path in sorted((workdir / "figures").iterdir())}
    events = {
        str(path.relative_to(workdir)): path.read_bytes() for path in sorted((workdir / "events").rglob("*.mllab"))
    }
    return summary, records, (workdir / "params.safetensors").read_bytes(), drawn, events


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run that was never stopped, and how long it took."""
    workdir = tmp_path_factory.mktemp("straight") / "w"
    began = time.monotonic()
    done = program(*KILLABLE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, time.monotonic() - began


def kill_and_resume(straight, workdir, seed):
    """SIGKILL at a random moment, for even seeds after the first checkpoint; then the same command again."""
    reference, seconds = straight
    draw = random.Random(seed)
    command = [sys.executable, "-m", "experiments.optimizer_race", *KILLABLE, f"--workdir={workdir}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after_checkpoint = seed % 2 == 0
    if after_checkpoint:
        while process.poll() is None and not list(workdir.glob("checkpoints/*/[0-9]*")):
            time.sleep(0.005)
        time.sleep(draw.uniform(0, seconds / 3))
    else:
        time.sleep(draw.uniform(0, seconds))
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    if after_checkpoint:
        assert list(workdir.glob("checkpoints/*/[0-9]*"))
    done = program(*KILLABLE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert bits(workdir) == bits(reference)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_and_resumed_it_ends_with_the_same_bits(straight, tmp_path, seed):
    kill_and_resume(straight, tmp_path / "w", seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 23))
def test_killed_at_20_random_moments(straight, tmp_path, seed):
    kill_and_resume(straight, tmp_path / "w", seed)


def test_a_kill_while_flags_cfg_was_written_locks_nobody_out(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "flags.cfg.partial").write_text("--epo")
    (tmp_path / "w" / ".lock").write_text("")
    assert race(tmp_path / "w")["winner"]


def test_on_another_number_of_devices_it_resumes_to_rounding(straight, tmp_path):
    """Stopped at its end on two devices, told again on one: nothing is computed, so even the bits are the same."""
    reference, _ = straight
    shutil.copytree(reference, tmp_path / "w")
    done = program(*KILLABLE, "--devices=1", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 0, done.stderr
    (summary, records, *_), (expected, expected_records, *_) = bits(tmp_path / "w"), bits(reference)
    assert records == expected_records
    assert summary["winner"] == expected["winner"]


def test_all_settings_at_once_write_a_whole_workdir_that_tells_them(tmp_path):
    settings = {"schedule": "one_cycle", "clip_norm": 1.0, "weight_decay": 0.01}
    summary = race(
        tmp_path, epochs=6, settings=settings, patience=1, precision="bf16", shared_batches=True, split_seed=3,
        options={"hidden": (8,), "activation": "tanh"}, learning_rates=[0.3, 3.0],
    )  # fmt: skip
    page = (tmp_path / "report.html").read_text()
    for said in ("one_cycle", "clip_norm = 1.0", "patience = 1", "bf16", "shared_batches", "split_seed = 3", "tanh"):
        assert said in page, said
    stopped = [entry["steps"] for entry in summary["optimizers"] if entry["steps"] < summary["steps"]]
    assert bool(stopped) == ("stopped early" in page)


def test_flags_cfg_repeats_the_run_to_the_bit(straight, tmp_path):
    reference, _ = straight
    done = program(f"--flagfile={reference / 'flags.cfg'}", f"--workdir={tmp_path / 'w'}")
    assert done.returncode == 0, done.stderr
    assert bits(tmp_path / "w") == bits(reference)


def test_other_flags_on_the_same_workdir_are_refused_by_name(straight):
    reference, _ = straight
    before = bits(reference)
    done = program(*KILLABLE, "--epochs=13", f"--workdir={reference}")
    assert done.returncode == 1
    assert "--epochs (12, now 13)" in done.stderr
    assert bits(reference) == before


def test_a_damaged_newest_checkpoint_is_told_and_the_run_ends_with_the_same_bits(straight, tmp_path):
    reference, _ = straight
    workdir = tmp_path / "w"
    shutil.copytree(reference, workdir)
    newest = max((workdir / "checkpoints" / "adam").iterdir(), key=lambda path: int(path.name))
    (newest / "seal.json").write_text("{")
    done = program(*KILLABLE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "is damaged: trying the one before" in done.stderr
    assert bits(workdir) == bits(reference)
