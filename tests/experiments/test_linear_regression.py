"""The linear-regression experiment against NumPy's own descent, polyfit and the parabola's curvature."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from experiments import descent_paths as descent
from experiments import linear_regression as experiment
from mllab import weights
from mllab.errors import UserError
from mllab.models import linear
from mllab.optimizers import OPTIMIZERS
from support.workdirs import records_of

STEPS = 500


@pytest.fixture(scope="module", params=list(descent.PROBLEMS))
def followed(request):
    """A problem, and the path of every optimizer at its default rate."""
    problem = descent.PROBLEMS[request.param](0)
    return problem, descent.follow_each(problem, problem.rates, steps=STEPS)


def descend(x, y, rate, steps, momentum, nesterov=False):
    """Return (a, b) before each step, and the gradients there, [steps + 1, 2] each."""
    at, trace, path, gradients = np.array(descent.START), np.zeros(2), [], []
    for _ in range(steps + 1):
        residual = at[0] * x + at[1] - y
        gradient = 2 / len(x) * np.array([np.sum(residual * x), np.sum(residual)])
        path.append(at)
        gradients.append(gradient)
        trace = momentum * trace + gradient
        at = at - rate * (gradient + momentum * trace if nesterov else trace)
    return np.array(path), np.array(gradients)


@pytest.mark.parametrize(
    ("optimizer", "how"),
    [
        ("sgd", {"momentum": 0.0}),
        ("momentum", {"momentum": 0.9}),
        ("nesterov", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_a_path_is_that_of_the_two_sums(optimizer, how):
    with jax.enable_x64(True):
        problem = descent.line(1)
        path = descent.follow_each(problem, {optimizer: 0.003}, steps=40)[optimizer]
        expected, gradients = descend(problem.x, problem.y, 0.003, 40, **how)
        np.testing.assert_allclose(np.stack([path.a, path.b], axis=1), expected, rtol=1e-10)
        np.testing.assert_allclose(np.stack([path.gradient_a, path.gradient_b], axis=1), gradients, rtol=1e-7)
        loss = [np.mean((a * problem.x + b - problem.y) ** 2) for a, b in expected]
        np.testing.assert_allclose(path.loss, loss, rtol=1e-9)


@pytest.mark.slow
def test_every_optimizer_has_default_rates_and_none_diverges_at_them(followed):
    problem, paths = followed
    assert set(problem.rates) == set(paths) == set(OPTIMIZERS)
    for name, path in paths.items():
        assert np.isfinite(np.stack(path)).all(), name
        assert path.loss[-1] < problem.y.var(), name


@pytest.mark.slow
def test_velocity_is_the_change_that_the_next_step_shows(followed):
    _, paths = followed
    for name, path in paths.items():
        np.testing.assert_allclose(path.velocity_a[:-1], np.diff(path.a), atol=1e-5, err_msg=name)
        np.testing.assert_allclose(path.velocity_b[:-1], np.diff(path.b), atol=2e-5, err_msg=name)
        assert (path.a[0], path.b[0]) == pytest.approx(descent.START, rel=1e-6)


@pytest.mark.slow
def test_lbfgs_alone_reaches_the_houses_minimum_in_raw_units():
    problem = descent.houses(0)
    paths = descent.follow_each(problem, problem.rates, steps=STEPS)
    slope, intercept = np.polyfit(problem.x, problem.y, 1)
    distance = {name: np.hypot(path.a[-1] - slope, path.b[-1] - intercept) for name, path in paths.items()}
    assert [name for name, far in distance.items() if far < 0.1] == ["lbfgs"]


@pytest.mark.parametrize("name", descent.PROBLEMS)
def test_closed_forms_are_polyfit(name):
    problem = descent.PROBLEMS[name](0)
    lines = {method: linear.fit(problem.x[:, None], problem.y, method=method) for method in linear.METHODS}
    expected = np.polyfit(problem.x, problem.y, 1)
    for fit in descent.closed_forms(lines, problem):
        np.testing.assert_allclose([fit.a, fit.b], expected, rtol=1e-5, err_msg=fit.method)
        np.testing.assert_allclose(fit.loss, np.mean((np.polyval(expected, problem.x) - problem.y) ** 2), rtol=1e-3)


@pytest.mark.parametrize("name", descent.PROBLEMS)
def test_gradient_descent_is_stable_up_to_the_rate_that_the_curvature_allows(name):
    problem = descent.PROBLEMS[name](0)
    _, largest = descent.hessian_eigenvalues(problem.x)
    for share, stable in ((0.98, True), (1.02, False)):
        path, _ = descend(problem.x, problem.y, share * 2 / largest, 2000, momentum=0.0)
        assert (np.abs(path[-1]) < np.abs(path[0]) + 1).all() == stable


def test_loss_grid_is_the_mean_squared_error_at_each_pair():
    problem = descent.houses(0)
    a, b = np.array([0.1, 8.0]), np.array([60.0, 71.0, 75.0])
    pairs = list(zip(problem.x, problem.y, strict=True))
    expected = [[np.mean([(slope * x + intercept - y) ** 2 for x, y in pairs]) for slope in a] for intercept in b]
    np.testing.assert_allclose(descent.loss_grid(problem, a, b), expected)


def test_every_optimizer_is_in_a_family_of_at_most_five_paths():
    families = [OPTIMIZERS[name].family for name in OPTIMIZERS]
    assert set(families) == set(experiment.FAMILIES)
    assert max(families.count(family) for family in set(families)) <= 5


# ── What a path is judged by ────────────────────────────────────────────────────────────────────────────────────────

LEAST = descent.Fit("qr", a=2.0, b=5.0, loss=1.0, distance=0.0)


def path_of(loss, a=2.0, b=2.0):
    """A path with these losses; by default it stays at one place."""
    loss = np.array(loss)
    a, b = (np.broadcast_to(np.array(side, float), loss.shape) for side in (a, b))
    return descent.Path(a, b, loss, *[np.zeros(len(loss))] * 4)


@pytest.mark.parametrize(
    ("loss", "steps", "nonfinite", "failed"),
    [
        ([9.0, 1.005, 1.0], 1, None, False),
        ([9.0, 1.005, 3.0, 1.0], 3, None, False),  # it must stay
        ([1.0, 1.0], 0, None, False),
        ([9.0, 1.0, 3.0], None, None, False),
        ([9.0, 8.0, 7.0], None, None, True),  # the variance is 5
        ([9.0, np.inf, np.nan], None, 1, False),
    ],
)
def test_result_of_a_path(loss, steps, nonfinite, failed):
    result = descent.result("sgd", 0.1, path_of(loss), LEAST, variance=5.0)
    assert (result.steps, result.nonfinite_step, result.failed) == (steps, nonfinite, failed)
    assert result.distance == pytest.approx(3.0)
    assert (result.diverged is None) == (nonfinite is None and not failed)


def test_soonest_first_leaves_out_those_that_stay_far():
    losses = {"sgd": [9.0, 9.0, 1.0], "adam": [9.0, 1.0, 1.0], "lion": [9.0, 9.0, 9.0]}
    results = [descent.result(name, 0.1, path_of(loss), LEAST, variance=5.0) for name, loss in losses.items()]
    assert [each.optimizer for each in descent.soonest_first(results)] == ["adam", "sgd"]
    assert descent.soonest(results) == ["adam"]
    as_soon = dataclasses.replace(results[0], optimizer="momentum", steps=results[1].steps)
    assert descent.soonest([as_soon, *results]) == ["momentum", "adam"]
    assert descent.soonest(results[2:]) == []


def test_the_window_holds_start_and_minimum_and_cuts_paths_that_leave():
    wild = path_of([1.0, 1.0, 1.0], a=[8.0, -1e9, np.inf], b=[75.0, 60.0, np.nan])
    a, b = descent.window([wild], (2.0, 25.0))
    assert a[0] < 2 - 2 * 6 < 8 < a[-1] < 12
    assert 15 < b[0] < 25
    assert 75 < b[-1] < 85


def test_quantities_leave_out_rounding_error_and_losses_that_explode():
    path = path_of([1.0, 2.0, 5000.0])._replace(gradient_a=np.array([-1.0, 1e-9, 1.0]))
    panels = descent.panels({"sgd": path}, descent.line(0).labels, LEAST)
    shown = {panel.y_label: panel.series[0].mean for panel in panels}
    np.testing.assert_array_equal(shown["mean squared error, log scale"], [1.0, 2.0, np.nan])
    np.testing.assert_array_equal(shown["gradient |∂L/∂a|, log scale"], [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(shown["slope a"], [2.0, 2.0, np.nan])
    np.testing.assert_array_equal(shown["distance to the closed form, log scale"], [3.0, 3.0, np.nan])


def test_lines_apart_from_the_closed_form_come_farthest_first():
    problem = descent.Problem(np.array([0.0, 1.0]), np.array([0.0, 1.0]), descent.line(0).labels, {})
    closed = descent.Fit("qr", 1.0, 0.0, 0.0, 0.0)
    slopes = {"near": 1.005, "far": 2.0, "farther": -2.0}
    results = [descent.result(name, 0.1, path_of([0.0], a=slope, b=0.0), closed, 1.0) for name, slope in slopes.items()]
    assert [each.optimizer for each in descent.farthest_first(results, closed, problem)] == ["farther", "far"]


# ── The experiment ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
def test_a_run_writes_its_workdir_and_repeats_it(tmp_path, capsys):
    settings = {"optimizers": ["sgd", "lbfgs"], "rates": {"sgd": 1.0}, "steps": 60, "workdir": str(tmp_path / "run")}
    measured = experiment.run(**settings)
    written = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {str(path.relative_to("run")) for path in written} == {
        ".lock",
        "flags.cfg",
        "environment.json",
        "metrics.jsonl",
        "summary.json",
        "report.html",
        "params.safetensors",
        "events/sgd/events.out.tfevents.0.mllab",
        "events/lbfgs/events.out.tfevents.0.mllab",
        *(f"figures/{name}_plain.svg" for name in ("contours", "surface", "steps")),
        "figures/line.svg",
    }
    records = records_of(tmp_path / "run")
    assert len(records) == 2 * 61
    assert records[60]["optimizer"] == "sgd"
    assert records[60]["loss"] is None  # it is not finite
    assert measured.winner == "lbfgs"
    assert measured.optimizers[0].nonfinite_step is not None
    params, _, header = weights.load(tmp_path / "run" / "params.safetensors", linear.init(None, 1))
    assert (float(params.w[0, 0]), float(params.b[0])) == (measured.closed_form[0].a, measured.closed_form[0].b)
    assert header == {"model": "linear 1-1", "dataset": "line", "features": ["x"]}
    shown = capsys.readouterr().out
    page = (tmp_path / "run" / "report.html").read_text()
    for text in ("non-finite from step", "* lbfgs", "lbfgs stays within 1% of its loss after"):
        assert text in shown
        assert text in page
    experiment.run(**settings)
    for path, content in written.items():
        if path.name not in ("summary.json", "report.html"):  # which hold wall times
            assert (tmp_path / path).read_bytes() == content, path


MISTAKES = {
    "data set": ({"dataset": "lime"}, "unknown dataset 'lime': did you mean 'line'"),
    "optimizer": ({"optimizers": ["adm"]}, "unknown optimizer 'adm': did you mean 'adam'"),
    "twice": ({"optimizers": ["adam", "adam"]}, "each once"),
    "other rate": ({"optimizers": ["adam"], "rates": {"sgd": 0.1}}, "--rates=sgd=0.1: sgd does not run"),
    "unknown rate": ({"rates": {"sdg": 0.1}}, "did you mean 'sgd'"),
    "negative": ({"rates": {"sgd": -1.0}}, "--rates=sgd=-1: a rate is a positive number"),
    "not a number": ({"rates": {"sgd": float("nan")}}, "--rates=sgd=nan: a rate is a positive number"),
    "no rate": ({"rates": "adam"}, "--rates=adam: give NAME=RATE"),
    "an empty rate": ({"rates": "adam="}, "--rates=adam=: give NAME=RATE"),
    "a word": ({"rates": "adam=fast"}, "--rates=adam=fast: give NAME=RATE"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_reported_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        experiment.run(workdir=str(tmp_path / "run"), **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_program_repeats_from_its_flagfile_and_from_one_of_an_earlier_version(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    words = ["--dataset=houses", "--optimizers=sgd,adam", "--rates=adam=0.5", "--steps=4", f"--workdir={first}"]
    experiment.main(["linear_regression", *words])
    experiment.main(["linear_regression", f"--flagfile={first / 'flags.cfg'}", f"--workdir={second}"])
    (tmp_path / "old.cfg").write_text(
        "--dataset=houses\n--noise_seed=0\n--optimizers=sgd,adam\n--rates=adam=0.5\n--steps=4\n"
    )
    experiment.main(["linear_regression", f"--flagfile={tmp_path / 'old.cfg'}", f"--workdir={third}"])
    for name in ("flags.cfg", "metrics.jsonl", "params.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes() == (third / name).read_bytes(), name
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (first, second, third)]
    for summary in summaries:
        assert summary.pop("seconds")["descent"] > 0
    assert summaries[0] == summaries[1] == summaries[2]
