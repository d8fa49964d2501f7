"""The tables of the benchmark `keel`: accuracies, ranks, and the seconds of the searches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Samples
from mllab.metrics import interval
from mllab.report.table import Table, number

MOST_SECONDS = 30.0  # target: of the search on a table, compiled before
OURS = "mllab's choice"


def means_of(samples: Samples) -> dict[str, float]:
    """Return the mean accuracy over folds of mllab's choice and of each single model of scikit-learn."""
    ours, theirs = (samples[name][0].report["scores"] for name in ("mllab", "sklearn"))
    return {name: round(float(np.mean(each)), 9) for name, each in {OURS: ours[OURS], **theirs}.items()}


def _ranks(measured: Mapping[str, Samples]) -> tuple[list[str], np.ndarray]:
    """Return the names of the models and their ranks [tables, models], 1 the best; equal ones share the mean rank."""
    means = [means_of(samples) for samples in measured.values()]
    names = list(means[0])
    scores = np.array([[each[name] for name in names] for each in means])
    better = (scores[:, None, :] > scores[:, :, None]).sum(axis=2)
    equal = (scores[:, None, :] == scores[:, :, None]).sum(axis=2)
    return names, better + (equal + 1) / 2


def accuracies(measured: Mapping[str, Samples]) -> Table:
    """Return the table of accuracies, and of what beats mllab's choice."""
    rows = []
    for name, samples in measured.items():
        means = means_of(samples)
        ahead = [other for other, mean in means.items() if mean > means[OURS]]
        rows.append([name, *(f"{100 * mean:.2f}" for mean in means.values()), ", ".join(ahead)])
    return Table(["accuracy %", *means_of(next(iter(measured.values()))), "above mllab's choice"], rows)


def ranks(measured: Mapping[str, Samples]) -> Table:
    """Return the table of ranks, with the mean rank, and the lead of mllab's choice with its interval over tables."""
    names, by_table = _ranks(measured)
    mean = by_table.mean(axis=0)
    rows: list[list[Any]] = [[name, *each.tolist()] for name, each in zip(measured, by_table, strict=True)]
    rows.append(["mean rank", *(f"{each:.2f}" for each in mean)])
    leads = (interval(by_table[:, k] - by_table[:, 0])[:3] for k in range(1, len(names)))
    rows.append(["behind mllab's choice by", None, *(number(*lead) for lead in leads)])
    rows.append(
        ["as good as the best single model", harness.verdict(bool(mean[0] <= mean[1:].min()))] + [None] * len(mean[1:])
    )
    return Table(["rank", *names], rows)


def searches(measured: Mapping[str, Samples]) -> Table:
    """Return the table of the seconds of each search, and of what it chose."""
    rows = []
    for name, samples in measured.items():
        each = samples["mllab"]
        seconds = harness.figure(each, "seconds")
        chosen = each[0].report["chosen"]
        counts = ", ".join(f"{model} {chosen.count(model)}" for model in dict.fromkeys(chosen))
        longest = each[0].report["model_seconds"]
        slowest = max(longest, key=longest.get)
        rows.append(
            [
                name, f"{harness.figure(each, 'first_seconds'):.1f}", f"{seconds:.1f}", MOST_SECONDS,
                harness.verdict(seconds <= MOST_SECONDS), f"{harness.figure(each, 'cpu_seconds'):.1f}",
                f"{slowest} {longest[slowest]:.1f}", counts,
            ]
        )  # fmt: skip
    columns = [
        "search", "first fold, compiling, s", "all, compiled, s", "target", "met", "CPU s", "slowest model, s",
        "chosen on how many folds",
    ]  # fmt: skip
    return Table(columns, rows)
