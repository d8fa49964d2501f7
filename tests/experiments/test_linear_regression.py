"""The linear-regression experiment against NumPy's own descent, polyfit and the parabola's curvature."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import linear_regression as experiment
from experiments.workdir import Workdir
from mllab.errors import UserError
from mllab.models import linear
from mllab.optimizers import OPTIMIZERS
from mllab.report import regression as report

ROOT = Path(__file__).parents[2]
STEPS = 500


@pytest.fixture(scope="module", params=list(experiment.PROBLEMS))
def walked(request):
    """A problem, and the path of every optimizer at its default rate."""
    problem = experiment.PROBLEMS[request.param](0)
    return problem, experiment.trajectories(problem.x, problem.y, problem.rates, steps=STEPS)


def two_sums(x, y, a, b):
    residual = a * x + b - y
    return np.array([2 / len(x) * np.sum(residual * x), 2 / len(x) * np.sum(residual)])


def descend(x, y, rate, steps, momentum, nesterov=False):
    """Return (a, b) before each step, and the gradients there, [steps + 1, 2] each."""
    at, trace, path, gradients = np.array(experiment.START), np.zeros(2), [], []
    for _ in range(steps + 1):
        gradient = two_sums(x, y, *at)
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
        problem = experiment.line(1)
        path = experiment.trajectories(problem.x, problem.y, {optimizer: 0.003}, steps=40)[optimizer]
        want, gradients = descend(problem.x, problem.y, 0.003, 40, **how)
        np.testing.assert_allclose(np.stack([path.a, path.b], axis=1), want, rtol=1e-10)
        np.testing.assert_allclose(np.stack([path.gradient_a, path.gradient_b], axis=1), gradients, rtol=1e-7)
        loss = [np.mean((a * problem.x + b - problem.y) ** 2) for a, b in want]
        np.testing.assert_allclose(path.loss, loss, rtol=1e-9)


def test_default_rates_are_for_every_optimizer_and_none_diverges(walked):
    problem, paths = walked
    assert set(problem.rates) == set(OPTIMIZERS)
    for name, path in paths.items():
        assert np.isfinite(np.stack(path)).all(), name
        assert path.loss[-1] < problem.y.var(), name


def test_velocity_is_the_change_that_the_next_step_shows(walked):
    _, paths = walked
    for name, path in paths.items():
        np.testing.assert_allclose(path.velocity_a[:-1], np.diff(path.a), atol=1e-5, err_msg=name)
        np.testing.assert_allclose(path.velocity_b[:-1], np.diff(path.b), atol=2e-5, err_msg=name)
        assert (path.a[0], path.b[0]) == pytest.approx(experiment.START, rel=1e-6)


def test_lbfgs_alone_reaches_the_houses_minimum_in_raw_units():
    problem = experiment.houses(0)
    paths = experiment.trajectories(problem.x, problem.y, problem.rates, steps=STEPS)
    slope, intercept = np.polyfit(problem.x, problem.y, 1)
    distance = {name: np.hypot(path.a[-1] - slope, path.b[-1] - intercept) for name, path in paths.items()}
    assert [name for name, far in distance.items() if far < 0.1] == ["lbfgs"]


@pytest.mark.parametrize("name", experiment.PROBLEMS)
@pytest.mark.parametrize("method", linear.METHODS)
def test_closed_forms_are_polyfit(name, method):
    problem = experiment.PROBLEMS[name](0)
    fit = linear.fit(problem.x[:, None], problem.y, method=method)
    np.testing.assert_allclose([fit.w[0, 0], fit.b[0]], np.polyfit(problem.x, problem.y, 1), rtol=1e-5)


@pytest.mark.parametrize("name", experiment.PROBLEMS)
def test_gradient_descent_is_stable_up_to_the_rate_that_the_curvature_allows(name):
    problem = experiment.PROBLEMS[name](0)
    _, largest = experiment.hessian_eigenvalues(problem.x)
    for share, stable in ((0.98, True), (1.02, False)):
        path, _ = descend(problem.x, problem.y, share * 2 / largest, 2000, momentum=0.0)
        assert (np.abs(path[-1]) < np.abs(path[0]) + 1).all() == stable


def test_loss_grid_is_the_mean_squared_error_at_each_pair():
    problem = experiment.houses(0)
    a, b = np.array([0.1, 8.0]), np.array([60.0, 71.0, 75.0])
    grid = experiment.loss_grid(problem, a, b)
    want = [[np.mean([(s * x + i - y) ** 2 for x, y in zip(problem.x, problem.y, strict=True)]) for s in a] for i in b]
    np.testing.assert_allclose(grid, want)


def test_every_optimizer_is_in_one_family_of_figures():
    assert sorted(name for members in report.FAMILIES.values() for name in members) == sorted(OPTIMIZERS)


def path_of(loss, a=2.0):
    """A path at one place whose loss goes as told."""
    loss = np.array(loss)
    place = np.full(len(loss), a)
    return experiment.Trajectory(place, place, loss, *[np.zeros(len(loss))] * 4)


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
def test_verdict(loss, steps, nonfinite, failed):
    verdict = experiment.verdict(path_of(loss), {"a": 2.0, "b": 5.0, "loss": 1.0}, variance=5.0)
    assert (verdict["steps"], verdict["nonfinite_step"], verdict["failed"]) == (steps, nonfinite, failed)
    assert verdict["distance"] == pytest.approx(3.0)


def test_frame_holds_start_and_minimum_and_cuts_what_flies_off():
    summary = {"start": (8.0, 75.0), "closed_form": [{"a": 2.0, "b": 25.0}]}
    wild = {"a": np.array([8.0, -1e9, np.inf]), "b": np.array([75.0, 60.0, np.nan])}
    a, b = report.frame({"sgd": wild}, summary)
    assert a[0] < 2 - 2 * 6 < 8 < a[-1] < 12
    assert 15 < b[0] < 25
    assert 75 < b[-1] < 85


def test_a_run_writes_its_workdir_and_repeats_it(tmp_path, capsys):
    workdir = Workdir(tmp_path / "run", "linear_regression", "--dataset=line\n")
    settings = {"optimizers": ["sgd", "lbfgs"], "rates": {"sgd": 1.0}, "steps": 60}
    summary = experiment.run(workdir, **settings)
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
    records = [json.loads(line) for line in (workdir.path / "metrics.jsonl").read_text().splitlines()]
    assert len(records) == 2 * 61
    assert records[60]["optimizer"] == "sgd"
    assert records[60]["loss"] is None  # it is not finite
    assert summary["winner"] == "lbfgs"
    assert summary["optimizers"][0]["nonfinite_step"] is not None
    assert "non-finite from step" in capsys.readouterr().out
    page = (workdir.path / "report.html").read_text()
    assert page.count("<svg") == 4
    assert "non-finite from step" in page
    experiment.run(workdir, **settings)
    assert written == {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


MISTAKES = {
    "data set": ({"dataset": "lime"}, "unknown dataset 'lime': did you mean 'line'"),
    "optimizer": ({"optimizers": ["adm"]}, "unknown optimizer 'adm': did you mean 'adam'"),
    "twice": ({"optimizers": ["adam", "adam"]}, "name each once"),
    "other rate": ({"optimizers": ["adam"], "rates": {"sgd": 0.1}}, "--rates=sgd=0.1: sgd does not run"),
    "unknown rate": ({"rates": {"sdg": 0.1}}, "did you mean 'sgd'"),
    "negative": ({"rates": {"sgd": -1.0}}, "--rates=sgd=-1: a learning rate is a positive number"),
    "not a number": ({"rates": {"sgd": float("nan")}}, "--rates=sgd=nan: a learning rate is a positive"),
}


@pytest.mark.parametrize(("settings", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_before_anything_is_written(settings, message, tmp_path):
    with pytest.raises(UserError, match=message):
        experiment.run(Workdir(tmp_path / "run", "linear_regression", ""), **settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["adam", "adam=", "adam=fast"])
def test_a_rate_is_name_and_number(text):
    assert experiment.parse_rates(["adam=0.5", "sgd=1e-3"]) == {"adam": 0.5, "sgd": 1e-3}
    with pytest.raises(UserError, match=f"--rates={text}: give NAME=RATE"):
        experiment.parse_rates([text])


def program(*flags):
    command = [sys.executable, "-m", "experiments.linear_regression", *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_program_repeats_from_its_flagfile(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    done = program("--dataset=houses", "--optimizers=sgd,adam", "--rates=adam=0.5", "--steps=4", f"--workdir={first}")
    assert done.returncode == 0, done.stderr
    again = program(f"--flagfile={first / 'flags.cfg'}", f"--workdir={second}")
    assert again.returncode == 0, again.stderr
    for name in ("flags.cfg", "metrics.jsonl", "summary.json", "params.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
