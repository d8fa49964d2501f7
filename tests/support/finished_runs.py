"""Workdirs of finished optimizer races, written by hand."""

import json

import numpy as np

from mllab import weights
from mllab.metrics import interval

RATES = [0.01, 0.1]
STEPS = (10, 20)


def environment(**changes):
    """Return an environment.json."""
    return {
        "versions": {"python": "3.11.7", "jax": "0.10.2"},
        "devices": {"count": 2, "kind": "cpu", "platform": "cpu"},
        "machine": "Linux",
        "cpu": "some CPU",
        "xla_flags": "",
        "git_commit": "abc",
        "data": {"digits.csv.gz": "1234"},
    } | changes


def race(scores, folds=1, seeds=3, widening=1.0, **flags):
    """Return the summary of a race; `scores` has the validation scores of each optimizer at its rate, by lane."""

    def optimizer(name, values):
        values = np.asarray(values, float)
        mean, low, high, count = interval(values.reshape(folds, -1).mean(axis=1) if folds > 1 else values)
        low, high = (mean + widening * (bound - mean) for bound in (low, high))
        bounds = [mean, low if np.isfinite(low) else None, high if np.isfinite(high) else None, count]
        return {
            "optimizer": name, "learning_rate": RATES[1], "validation": bounds, "test": {"accuracy": [*bounds]},
            "test_by_seed": {"accuracy": values.tolist()},
            "validation_by_rate": [[0.5] * values.size, values.tolist()],
        }  # fmt: skip

    results = [optimizer(*each) for each in scores.items()]
    chosen = {"dataset": "digits", "split_seed": 0, "folds": None if folds == 1 else folds, "seeds": seeds}
    return {
        "experiment": "optimizer_race", "flags": chosen | flags,
        "dataset": {"rows": {"train": 10, "validation": 5, "test": 5}},
        "score": {"label": "accuracy", "headline": "accuracy", "loss_unit": "nats"},
        "learning_rates": RATES, "seeds": list(range(seeds)), "folds": folds,
        "winner": max(results, key=lambda each: each["validation"][0])["optimizer"],
        "baseline": {"name": "the most frequent class", "scores": {"accuracy": 0.1}},
        "optimizers": results, "seconds": {"training": 1.5, "total": 2.5},
    }  # fmt: skip


def write(folder, summary, environ=None):
    """Write the workdir of a finished run; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "flags.cfg").write_text("--seeds=3\n")
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "environment.json").write_text(json.dumps(environ or environment()))
    lines = [
        {"optimizer": each["optimizer"], "learning_rate": rate + 1e-10, "seed": seed, "step": step,
         "validation_loss": rate + seed + 1 / step, "seconds": 0.1}
        for each in summary["optimizers"] for step in STEPS for rate in RATES for seed in summary["seeds"]
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    params = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}
    (folder / "params.safetensors").write_bytes(weights.encode(params, {"dataset": "digits", "score": 0.9}))
    return folder
