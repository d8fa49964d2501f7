r"""Forecast a series by recurrent cells, a linear autoregression and naive rules, and say whether anything beats these.

  python -m experiments.time_series
  python -m experiments.time_series --dataset=sp500 --cells=gru,lstm
  python -m experiments.time_series --dataset=sales.csv --column=units --time=month --horizon=6 --transform=log

All are judged from the same origins, walking forward: from each origin the next --horizon values are forecast by a
model fitted to earlier values alone. The validation part chooses lags, penalty, learning rate and when to stop; the
last part of the series is read once, at the end. The naive forecasts are the last value, the mean, the last value of
the same season, and the drift. Errors are absolute, in units of what the seasonal naive forecast (without a
season: the last value) misses by one season ahead in the validation part (MASE); their intervals allow for neighbouring
origins being correlated.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from experiments import frame, series_page, series_scores
from experiments import series_training as training
from experiments.frame import observers
from experiments.series_scores import Measurement, Scores
from mllab import forecasting, optimizers, sweep
from mllab.data import series as data
from mllab.errors import UserError
from mllab.models.recurrent import CELLS
from mllab.report.report import Report
from mllab.report.table import legible, short

SEGMENTS = 10  # scores of the validation part over the training


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices, frame.Steps):
    """The series, how far ahead, and the models."""

    dataset: str = frame.path(
        "mackey_glass", names=data.SERIES,
        help=f"Series: {', '.join(data.SERIES)}, or the path of your own .csv or .parquet table. All but mackey_glass "
        f"are files that $MLLAB_DATA/{data.FOLDER} must hold.",
    )  # fmt: skip
    column: str | None = frame.text(
        None, help="Column of your own table to forecast. Default: the only one of numbers."
    )
    time: str | None = frame.text(
        None, help="Column of your own table with the times. Default: the only one of dates, else the order of rows."
    )
    data_dir: str | None = frame.Data.with_default("data_dir", None)
    horizon: int = frame.whole(12, help="Steps ahead to forecast, each by an output of its own.", low=1, high=10_000)
    test_share: float = frame.number(
        0.2, help="Share of the series for the test part, its last values; as many before choose.", low=0.01, high=0.45
    )
    blocks: int = frame.whole(
        3, help="Blocks of origins in either part; models are fitted anew before each.", low=1, high=1000
    )
    period: int | None = frame.whole(
        None, help="Steps of a season; 1 for none. Default: that of a known series, 12 for monthly rows, otherwise 1.",
        low=1, high=1_000_000,
    )  # fmt: skip
    waves: int | None = frame.whole(
        None, help="Sine and cosine pairs of the season that models read. Default: 3 for a season of the calendar, "
        "otherwise none.", low=0, high=1000,
    )  # fmt: skip
    transform: str | None = frame.choice(
        forecasting.TRANSFORMS, None,
        help="Scale on which models forecast; scores are in the series' own unit. Default: that of a known series, "
        "otherwise difference.",
    )  # fmt: skip
    cells: tuple[str, ...] = frame.choices(CELLS, ("tanh", "gru"), help="Cells to compare.", kind="cell")
    hidden: int = frame.whole(32, help="Units of each layer.", low=1, high=100_000)
    layers: int = frame.whole(1, help="Layers of cells.", low=1, high=100)
    dropout: float = frame.number(
        0.0, help="Probability of dropping a feature between layers and before the output.", low=0, high=0.95
    )
    window: int = frame.whole(32, help="Values that a forecast of a cell reads.", low=2, high=1_000_000)
    optimizer: str = frame.choice(optimizers.OPTIMIZERS, "adam", help="Optimizer.", kind="optimizer")
    learning_rates: tuple[float, ...] = frame.LearningRates.with_default(
        "learning_rates", (0.003, 0.01), help="Learning rates to choose among: LOW:HIGH:COUNT on a log scale, or A,B,C."
    )
    schedule: str = frame.Training.with_default("schedule", "one_cycle")
    clip_norm: float | None = frame.Training.with_default("clip_norm", 1.0)
    batch_size: int = frame.whole(32, help="Windows in a minibatch.", low=1, high=1_000_000)
    steps: int = frame.whole(400, help="Minibatches to train on, at most.", low=1, high=100_000_000)
    coverage: float = frame.number(
        0.9, help="Share of the values that prediction intervals are to hold.", low=0.01, high=0.999
    )
    checkpoint_seconds: float = frame.Training.with_default("checkpoint_seconds", 10.0)


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Forecast in every way, choose on the validation part, and score the test part once."""
    with run.timed("data"):
        series = data.load(settings.dataset, column=settings.column, time=settings.time, data_dir=settings.data_dir)
        run.read(series.sha256)
        run.sources += [line for line in (series.citation, series.licence and f"licence: {series.licence}") if line]
        period = series.period if settings.period is None else settings.period
        if period == 1 and settings.waves:
            raise UserError(
                f"--waves={settings.waves}: the series has no season; give its --period, or leave waves out"
            )
        pairs = settings.waves if settings.waves is not None else 3 if series.fixed_season else 0
        name = settings.transform or series.transform
        transform = forecasting.transform_of(name, series.values, legible(series.name))
        walk = forecasting.walk(len(series.values), settings.horizon, share=settings.test_share, blocks=settings.blocks)
        if period > 1 and walk.validation[0].end < period:
            raise UserError(
                f"--period={period}: the first forecast has {walk.validation[0].end:,} values before it, fewer than a "
                "season; give --period=1"
            )
        plan = training.plan(series.values, transform, walk, settings.window, period, pairs)
        frame.check_clip_norm(settings.clip_norm)
    values = series.values
    recent = max(
        walk.test_start - walk.validation[0].end, 2 * period
    )  # values: a whole history may have grown manifold
    scale = forecasting.mase_scale(values[max(0, walk.test_start - recent) : walk.test_start], period)
    if not scale > 0:
        raise UserError(f"{legible(series.name)} repeats its season without an error, so nothing is left to forecast")

    def scored(name: str, chosen: str, forecasts: series_scores.Forecasts, by_seed: np.ndarray | None = None) -> Scores:
        return series_scores.score(
            name, chosen, forecasts, values, transform, walk, scale, settings.coverage, by_seed
        )  # fmt: skip

    with run.timed("naive forecasts and autoregression"):
        rules = series_scores.naive_forecasts(values, transform, walk, period)
        naive = [scored(rule, "", forecasts) for rule, forecasts in rules.items()]
        chosen, linear = series_scores.autoregression(values, transform, walk, period, pairs)
        described = f"{chosen.lags} lag{'s' * (chosen.lags > 1)}, penalty {short(chosen.penalty)}"
        models = [scored(series_scores.AUTOREGRESSION, described, linear)]
    trained = []
    with observers.timed_race(run):
        for cell in settings.cells:
            trained.append(train_cell(run, settings, plan, cell))
    diverged = [f"{one.cell}: {one.nonfinite} lanes went non-finite" for one in trained if one.nonfinite]
    for one in trained:
        if one.outputs is None or not np.isfinite(np.concatenate(one.outputs, axis=1)).all(axis=(1, 2)).any():
            diverged.append(f"{one.cell}: no seed has finite forecasts, so it is left out: try smaller rates")
            continue
        described = f"rate {short(one.learning_rate or 0)}, {one.stop:,} steps, {one.parameters:,} parameters"
        models.append(scored(one.cell, described, *series_scores.of_cell(values, transform, walk, one)))
    run.record(record for each in (*naive, *models) for record in records(each))
    return Measurement(
        series=series_scores.SeriesFacts.of(series, period, name), horizon=walk.horizon, window=settings.window,
        origins={part: len(walk.origins(part)) for part in walk.parts}, blocks=settings.blocks, seeds=settings.seeds,
        coverage=settings.coverage, mase_scale=scale, naive=naive, models=models,
        comparisons=series_scores.compare(naive, models, walk.horizon), diverged=diverged, walk=walk, trained=trained,
    )  # fmt: skip


def train_cell(run: frame.Context, settings: Settings, plan: training.Plan, cell: str) -> training.Trained:
    """Train one cell with every learning rate, block and seed, with progress and records."""

    def observe(name: str, grid: sweep.Grid, steps: int) -> list:
        title = f"{name} on {legible(settings.dataset)}, −error"
        refit = not name.endswith(training.CHOICE)  # trained on the rows that the first drive was scored on
        return [observers.observer(run, cell, grid, steps, lambda held: -held["loss"], title, "cell", refit)]

    arguments = {"cell": cell, "hidden": settings.hidden, "layers": settings.layers, "dropout": settings.dropout}
    lanes = settings.seeds * settings.blocks * len(settings.learning_rates)
    return training.train(
        plan, arguments, rates=settings.learning_rates, seeds=settings.seeds, steps=settings.steps, segments=SEGMENTS,
        batch_size=settings.batch_size, optimizer=settings.optimizer, precision=settings.precision,
        settings={"schedule": settings.schedule, "clip_norm": settings.clip_norm},
        mesh=run.mesh(lanes, all_hosts=True), observe=observe, workdir=run.path,
        checkpoint_seconds=settings.checkpoint_seconds,
    )  # fmt: skip


def records(scores: Scores) -> list[Mapping[str, object]]:
    """Return a record for each step ahead."""
    pairs = zip(scores.by_horizon, scores.coverage_by_horizon, strict=True)
    return [
        {"forecast": scores.name, "steps_ahead": step, "test_mase": each.mean, "test_coverage": covered}
        for step, (each, covered) in enumerate(pairs, 1)
    ]


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report errors beside those of the naive forecasts, the forecasts with their intervals, and what comes next."""
    del run
    name = legible(measured.series.name)
    return Report(
        f"Forecasts of {name}",
        f"Does anything forecast {name} better than the naive forecasts, {measured.horizon} steps ahead?",
        series_page.answer(measured),
        series_page.result_table(measured),
        series_page.sections(measured),
        series_page.facts(measured, settings.flagfile().splitlines()),
        remarks=series_page.remarks(measured),
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
