"""Walking forward: origins, naive forecasts by loops, regressions against scikit-learn, and no look into the future."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from mllab import forecasting
from mllab.errors import UserError
from mllab.forecasting import NAIVE, TRANSFORMS, Setting

DRAW = np.random.default_rng(0)
WALKED = DRAW.normal(size=120).cumsum() + 60


def test_origins_of_both_parts_follow_each_other_and_leave_their_values_inside():
    walk = forecasting.walk(100, 5, share=0.2, blocks=3)
    assert [block.end for block in walk.validation] == [60, 66, 71]
    for part, first, last in (("validation", 60, 79), ("test", 80, 99)):
        origins = walk.origins(part)
        np.testing.assert_array_equal(origins, np.arange(first - 1, last - 4))
        forecast = origins[:, None] + np.arange(1, 6)
        assert (forecast.min(), forecast.max()) == (first, last)
        for block in walk.parts[part]:
            assert block.end == block.origins[0] + 1
    assert walk.test_start == 80
    assert walk.final[-1].origins[-1] == 99
    np.testing.assert_array_equal(forecasting.truth(np.arange(100), np.array([3, 9]), 2), [[4, 5], [10, 11]])


@pytest.mark.parametrize(
    ("count", "horizon", "share", "words"),
    [(50, 5, 0.2, "a test part of 10"), (50, 0, 0.2, "horizon = 0"), (50, 2, 0.6, "share = 0.6"), (9, 1, 0.1, "part")],
)
def test_parts_too_short_for_the_horizon_are_refused(count, horizon, share, words):
    with pytest.raises(UserError, match=words):
        forecasting.walk(count, horizon, share=share)


def test_naive_forecasts_are_those_of_loops():
    origins, horizon, period = np.array([8, 20, 119]), 7, 3
    for name in NAIVE:
        found = forecasting.naive(name, WALKED, origins, horizon, period)
        for row, t in enumerate(origins):
            for h in range(1, horizon + 1):
                same = t + h
                while same > t:
                    same -= period
                expected = {
                    "last value": WALKED[t],
                    "mean": np.mean(WALKED[: t + 1]),
                    "seasonal": WALKED[same],
                    "drift": np.interp(t + h, [0, t], [WALKED[0], WALKED[t]]) + h * (WALKED[t] - WALKED[0]) / t,
                }
                assert found[row, h - 1] == pytest.approx(expected[name]), name
    with pytest.raises(UserError, match="fewer than a season"):
        forecasting.naive("seasonal", WALKED, np.array([3]), 2, 12)
    with pytest.raises(UserError, match="did you mean 'drift'"):
        forecasting.naive("drifd", WALKED, np.array([3]), 2, 1)


def test_mase_of_the_seasonal_naive_forecast_is_one_inside_the_values():
    errors = np.abs(WALKED[12:] - WALKED[:-12])
    assert forecasting.mase_scale(WALKED, 12) == pytest.approx(errors.mean())
    assert np.isnan(forecasting.mase_scale(np.tile([1.0, 2.0], 9), 2))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_targets_lead_back_to_the_values(name):
    transform = forecasting.transform_of(name, WALKED, "x")
    targets = transform.targets(WALKED, 4)
    origins = np.array([5, 60, 115])
    np.testing.assert_allclose(
        transform.forecasts(WALKED, origins, targets[origins]), forecasting.truth(WALKED, origins, 4)
    )
    assert np.isnan(targets[-1]).all()
    levels = np.log(WALKED) if "log" in name else WALKED
    expected = np.diff(levels) if "difference" in name else levels[1:]
    np.testing.assert_allclose(transform.inputs(WALKED)[1:], expected)
    with pytest.raises(UserError, match="value 2 of x is 0, which has no logarithm"):
        forecasting.transform_of("log", np.array([1.0, 0.0]), "x")


@pytest.mark.parametrize("name", ["none", "log_difference"])
def test_regressions_are_those_of_scikit_learn(name):
    transform, horizon, end, lags = TRANSFORMS[name], 3, 90, 4
    inputs, targets = transform.inputs(WALKED), transform.targets(WALKED, horizon)
    waves, first = forecasting.season_waves(120, 12, 2), transform.first
    (fit,) = forecasting.fit_regressions(inputs, waves, targets, first, end, [Setting(lags, 0.01)])
    rows = [t for t in range(120) if t - lags + 1 >= first and t + horizon < end]
    x = np.array([[*(inputs[t - i] for i in range(lags)), *waves[t]] for t in rows])
    penalty = 0.01 * np.trace(np.cov(x.T, ddof=0)) / x.shape[1] * len(x)
    peer = Ridge(alpha=penalty).fit(x, targets[rows])
    np.testing.assert_allclose(fit.weights.T, peer.coef_, rtol=1e-7)
    origins = np.array([89, 100])
    design = np.array([[*(inputs[t - i] for i in range(lags)), *waves[t]] for t in origins])
    np.testing.assert_allclose(fit.outputs(inputs, waves, origins), peer.predict(design), rtol=1e-7)


def test_lags_and_penalties_stay_within_the_rows():
    settings = forecasting.settings_of(60, 12)
    assert {each.lags for each in settings} == {1, 2, 3, 4, 6, 8, 12, 13}
    assert forecasting.settings_of(3, 1)[0].lags == 1


def test_waves_are_periodic_and_independent():
    waves = forecasting.season_waves(48, 12, 99)
    assert waves.shape == (48, 11)
    np.testing.assert_allclose(waves[12:], waves[:-12], atol=1e-12)
    assert np.linalg.matrix_rank(np.column_stack([np.ones(48), waves])) == 12
    assert forecasting.season_waves(5, 1, 3).shape == forecasting.season_waves(5, 7, 0).shape == (5, 0)


def test_half_widths_hold_their_share_of_exchangeable_errors():
    errors = DRAW.normal(size=(400, 99, 2))
    new = DRAW.normal(size=(400, 2))
    widths = np.stack([forecasting.half_widths(each, 0.9) for each in errors])
    assert np.mean(np.abs(new) <= widths) == pytest.approx(0.9, abs=0.03)
    assert forecasting.half_widths(np.array([[3.0], [-1.0], [2.0], [-5.0]]), 0.6) == 3  # the third of four
    assert np.isinf(forecasting.half_widths(np.ones((5, 1)), 0.9)).all()
