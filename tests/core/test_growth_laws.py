"""Costs against size: planted power laws, NumPy's polyfit, learners whose costs are known, and refusals."""

import math
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from mllab import growth, learners
from mllab.errors import UserError
from mllab.growth import Exponents, fit_power_law
from mllab.validation import Learner
from support.mistakes import refused_in_one_line

SIZES = [*((n, 20) for n in (250, 500, 1000, 2000, 4000, 8000)), *((1000, d) for d in (5, 10, 40, 80))]


def planted(sizes, overhead, constant, p, q):
    n, d = np.array(sizes, float).T
    return overhead + constant * n**p * d**q


@pytest.mark.slow
@pytest.mark.parametrize(("overhead", "intercept"), [(0.0, False), (5e-3, True)])
def test_intervals_of_planted_exponents_and_of_predictions_cover(overhead, intercept):
    draw, runs, p, q, noise = np.random.default_rng(0), 500, 1.3, 0.8, 0.08
    truth = planted(SIZES, overhead, 1e-6, p, q)
    far = planted([(100_000, 20)], overhead, 1e-6, p, q)[0]
    covered = np.zeros(3)
    for _ in range(runs):
        law = fit_power_law(SIZES, truth * np.exp(noise * draw.normal(size=len(truth))), intercept)
        ahead = law.predict(100_000, 20)
        covered += [
            law.rows.low <= p <= law.rows.high,
            law.columns.low <= q <= law.columns.high,
            ahead.low <= far * np.exp(noise * draw.normal()) <= ahead.high,
        ]
    assert (covered / runs >= 0.92).all()
    assert (covered / runs <= 0.98).all()


def test_without_noise_the_law_is_polyfits():
    n = np.array([100, 300, 1000, 5000])
    seconds = 3e-7 * n**1.7
    slope, level = np.polyfit(np.log(n), np.log(seconds), 1)
    law = fit_power_law([(each, 8) for each in n], seconds, intercept=False)
    np.testing.assert_allclose([law.rows.value, law.constant], [slope, np.exp(level)], rtol=1e-8)
    assert math.isnan(law.columns.value)
    np.testing.assert_allclose(law.predict(20_000, 8).mean, 3e-7 * 20_000**1.7, rtol=1e-8)
    with refused_in_one_line("all sizes have the same columns"):
        law.predict(20_000, 9)


def test_the_overhead_is_found_and_the_limit_inverts_the_prediction():
    law = fit_power_law(SIZES, planted(SIZES, 2e-3, 1e-7, 2.0, 0.5))
    np.testing.assert_allclose([law.overhead, law.rows.value, law.columns.value], [2e-3, 2.0, 0.5], rtol=1e-4)
    limit = law.limit(seconds=60.0, d=20)
    np.testing.assert_allclose(law.predict(limit.mean, 20).mean, 60.0, rtol=1e-3)
    assert law.limit(seconds=1e-3, d=20).mean == 0  # less than the overhead


def test_a_wide_interval_of_the_law_is_a_wide_interval_of_the_limit():
    draw = np.random.default_rng(1)
    seconds = planted(SIZES, 1e-3, 1e-6, 1.0, 1.0) * np.exp(0.2 * draw.normal(size=len(SIZES)))
    limit = fit_power_law(SIZES, seconds).limit(seconds=60.0, d=20)
    assert 0 < limit.low < limit.mean < limit.high
    flat = fit_power_law(SIZES, np.exp(0.01 * draw.normal(size=len(SIZES))), intercept=False)
    assert flat.limit(seconds=60.0, d=20).mean == math.inf


def test_theory_decides_where_two_sizes_cannot():
    two = [(500, 10), (1000, 10)]
    seconds = planted(two, 1e-2, 1e-8, 2.0, 1.0)
    with refused_in_one_line("2 sizes for a law of 3 params"):
        fit_power_law(two, seconds)
    law = fit_power_law(two, seconds, prior=Exponents(2, 1))
    np.testing.assert_allclose([law.rows.value, law.columns.value], [2, 1], atol=0.05)
    ahead = law.predict(50_000, 10)
    assert ahead.low < planted([(50_000, 10)], 1e-2, 1e-8, 2.0, 1.0)[0] < ahead.high
    assert fit_power_law(two[:1], [1e-2], prior=Exponents(3, 0)).predict(1000, 10).mean == pytest.approx(8e-2)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("sizes: shape", lambda: fit_power_law([1, 2, 3], [1.0, 2.0, 3.0])),
        ("values: shape", lambda: fit_power_law(SIZES, [1.0])),
        ("values.* = 0", lambda: fit_power_law(SIZES, np.zeros(len(SIZES)))),
        ("values.* = nan", lambda: fit_power_law(SIZES, np.full(len(SIZES), np.nan))),
        ("sizes.* = -1", lambda: fit_power_law([(-1, 2)], [1.0], prior=Exponents(1, 1))),
        ("sizes: .*text", lambda: fit_power_law([("a", "b")], [1.0])),
        ("a limit: give seconds", lambda: fit_power_law(SIZES, np.ones(len(SIZES))).limit(d=2)),
        ("give \\(n, d\\)", lambda: growth.measure(learners.mean(), {}, None, [(0, 2)])),
        ("repeats = 0", lambda: growth.measure(learners.mean(), {}, None, [(1, 2)], repeats=0)),
        ("there are rows 0 to 3", lambda: growth.forecast(learners.mean(), {}, examples(4, 2), [9])),
    ],
)
def test_bad_input_is_refused_in_one_line(message, call):
    with refused_in_one_line(message):
        call()


# ── Measurement ─────────────────────────────────────────────────────────────────────────────────────────────────────


def examples(n, d):
    draw = np.random.default_rng(0)
    return {"inputs": draw.normal(size=(n, d)).astype(np.float32), "targets": draw.normal(size=n).astype(np.float32)}


def on_host(now, cost):
    """A learner that cannot be traced, whose fit takes `cost(n, d)` of the clock's seconds."""

    def fit(hyper, key, examples, rows):
        now.seconds += cost(*np.asarray(examples["inputs"])[np.asarray(rows.ids)].shape)
        return np.zeros(10**6)  # 8 MB

    def predict(params, inputs):
        now.seconds += 0.25
        return np.zeros(len(np.asarray(inputs)))

    return Learner(fit, predict)


def test_a_learner_on_the_host_takes_what_the_clock_says():
    now = SimpleNamespace(seconds=0.0)
    costs = growth.measure(
        on_host(now, lambda n, d: 1e-3 * n * d), {}, examples, [(10, 2), (40, 2)], 3, lambda: now.seconds
    )
    assert [cost.size for cost in costs] == [(10, 2), (40, 2)]
    np.testing.assert_allclose([cost.fit.median for cost in costs], [0.02, 0.08])
    np.testing.assert_allclose([cost.predict.median for cost in costs], 0.25)
    assert [cost.bytes_by for cost in costs] == ["process"] * 2
    assert all(8e6 <= cost.bytes < 1e8 for cost in costs)


def test_the_memory_of_a_traced_learner_is_that_of_its_program():
    def fit(hyper, key, examples, rows):
        gram = examples["inputs"] @ examples["inputs"].T  # n² numbers
        return jnp.sort(gram, axis=1).sum(axis=1)  # which needs all of a row; newer compilers fuse products away

    learner = Learner(fit, lambda params, inputs: inputs.sum(axis=1) + params.sum())
    (cost,) = growth.measure(learner, {}, examples, [(300, 4)], repeats=2)
    assert cost.bytes_by == "program"
    assert 4 * 300**2 <= cost.bytes <= 20 * 300**2
    assert cost.compile_seconds > 0
    assert 0 < cost.fit.least <= cost.fit.median <= cost.fit.greatest
    assert growth.planned_bytes(learner, {}, examples(5, 4), 300) == cost.bytes


def test_a_forecast_from_samples_holds_the_time_of_the_whole_and_keeps_to_its_seconds():
    now = SimpleNamespace(seconds=0.0)
    learner, whole = on_host(now, lambda n, d: 0.01 + 1e-7 * n**2), examples(50_000, 3)
    ahead = growth.forecast(
        learner, {}, whole, np.arange(50_000), exponents=Exponents(2, 1), clock=lambda: now.seconds, most_seconds=4.0
    )
    assert [cost.rows for cost in ahead.costs] == [250, 1000]  # 4000 rows would take 3 × 1.6 s
    assert ahead.seconds.low < 0.01 + 1e-7 * 50_000**2 < ahead.seconds.high
    assert ahead.bytes is None
    assert ahead.law.predict(50_000, 3) == ahead.seconds


def test_a_forecast_reports_what_the_learner_refuses_at_full_size():
    def fit(hyper, key, examples, rows):
        if len(rows.ids) > 1000:
            raise UserError("a kernel matrix of so many rows does not fit")
        return examples["inputs"].sum()

    learner = Learner(fit, lambda params, inputs: inputs[:, 0] + params)
    ahead = growth.forecast(learner, {}, examples(3000, 2), np.arange(3000), sizes=[100, 200])
    assert (ahead.bytes, ahead.refused) == (None, "a kernel matrix of so many rows does not fit")
    assert 980 <= growth.most_accepted(learner, {}, examples(10, 2), 3000) <= 1000
    assert growth.most_accepted(learner, {}, examples(10, 2), 900) == 900


def test_small_samples_of_a_forecast_have_every_class():
    seen = []

    def fit(hyper, key, examples, rows):
        seen.append(set(np.asarray(examples["targets"]).tolist()))
        return 0

    targets = np.zeros(2000, np.int32)
    targets[[5, 900]] = 1, 2
    learner = Learner(fit, lambda params, inputs: np.zeros(len(np.asarray(inputs))))
    growth.forecast(learner, {}, {**examples(2000, 2), "targets": targets}, np.arange(2000), sizes=[10])
    assert seen[0] == {0, 1, 2}
