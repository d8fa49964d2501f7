"""The benchmarks' own arithmetic, and that peers are given what mllab trains with.

The PyTorch peers are tested where PyTorch is installed.
"""

import json
import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiments.bench.timing import Sample

from experiments.bench import lanes, model, prepare, race, startup, sweep_once, timing
from mllab import losses, racing
from mllab.data import catalog
from mllab.errors import UserError

SIZES, SEEDS, EPOCHS, BATCH = (64, 8, 10), range(2), 2, 64
RATES = [0.001, 0.01]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "race.npz"
    prepare.prepare(path, SIZES, SEEDS, EPOCHS, BATCH)
    return path


@pytest.fixture(scope="module")
def raced():
    data = catalog.load("digits")
    examples = {"inputs": data.inputs.reshape(len(data.inputs), -1), "targets": data.targets}
    return racing.race(
        model.build(SIZES), examples, data.split, learning_rates=RATES, seeds=SEEDS, epochs=EPOCHS, batch_size=BATCH
    )


def descended(data, seed, rate):
    """Validation loss after each epoch of gradient descent on a two-layer ReLU net, in NumPy."""
    w0, b0, w1, b1 = (data[name][seed].astype(np.float64) for name in ("w0", "b0", "w1", "b1"))

    def outputs(x):
        h = x @ w0 + b0
        logits = np.maximum(h, 0) @ w1 + b1
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        return h, p / p.sum(axis=1, keepdims=True)

    seen = []
    for epoch in data["orders"][seed]:
        for batch in np.split(epoch, range(int(data["batch_size"]), len(epoch), int(data["batch_size"]))):
            x, y = data["train_x"][batch], data["train_y"][batch]
            h, p = outputs(x)
            p[np.arange(len(y)), y] -= 1
            dlogits = p / len(y)
            dh = (dlogits @ w1.T) * (h > 0)
            w1 -= rate * np.maximum(h, 0).T @ dlogits
            b1 -= rate * dlogits.sum(axis=0)
            w0 -= rate * x.T @ dh
            b0 -= rate * dh.sum(axis=0)
        p = outputs(data["validation_x"])[1]
        seen.append(-np.log(p[np.arange(len(p)), data["validation_y"]]).mean())
    return seen


def test_peers_start_from_mllabs_weights_and_see_its_batches(prepared, raced):
    """A NumPy loop over the prepared file follows mllab's own runs."""
    with np.load(prepared) as data:
        for position, rate in enumerate(RATES):
            for seed in SEEDS:
                ours = raced.entries[0].loss[:, position, seed]
                np.testing.assert_allclose(descended(data, seed, rate), ours, rtol=1e-4)


@pytest.mark.parametrize("peer", ["torch_loop", "torch_func"])
def test_pytorch_trains_the_same_runs(prepared, raced, tmp_path, peer):
    pytest.importorskip("torch")
    sample = timing.program(tmp_path / "report.json", f"bench.{peer}", data=prepared, learning_rates=RATES)()
    runs = {(run["optimizer"], run["learning_rate"], run["seed"]): run for run in sample.report["runs"]}
    for entry in raced.entries:
        # PyTorch's RMSProp has its epsilon outside the root.
        tolerance = 0.05 if (peer, entry.optimizer) == ("torch_loop", "rmsprop") else 1e-3
        for position, rate in enumerate(RATES):
            for seed in SEEDS:
                theirs = runs[entry.optimizer, rate, seed]["validation_loss"]
                np.testing.assert_allclose(theirs, entry.loss[:, position, seed], rtol=tolerance)
    scored = race.scores(sample.report, RATES, len(SEEDS))
    assert list(scored) == list(racing.CLASSIC)
    for entry in raced.entries[:2]:
        np.testing.assert_allclose(scored[entry.optimizer], entry.score, atol=1e-6)


def test_parts_of_the_pytorch_loop_make_up_the_whole(prepared, tmp_path):
    pytest.importorskip("torch")
    given = {"data": prepared, "learning_rates": [0.1], "epochs": 1}
    whole, *parts = (
        timing.program(tmp_path / "report.json", "bench.torch_loop", **given, **split)().report["runs"]
        for split in ({}, {"part": 0, "parts": 2}, {"part": 1, "parts": 2})
    )

    def found(runs):
        return {(run["optimizer"], run["seed"]): run["validation_loss"] for run in runs}

    assert len(parts[0]) == len(parts[1]) == len(whole) / 2
    assert found(parts[0]) | found(parts[1]) == found(whole)


@pytest.mark.parametrize(
    ("solver", "rate", "learns"), [("adam", 0.01, True), ("momentum", 0.1, True), ("sgd", 1e30, None)]
)
def test_scikit_learn_learns_or_says_that_it_overflowed(prepared, solver, rate, learns):
    pytest.importorskip("sklearn")
    from experiments.bench import sklearn_mlp

    with np.load(prepared) as file:
        data = dict(file)
    (accuracy,) = sklearn_mlp.fit(data, solver, rate, seed=0, epochs=10)["validation_accuracy"]
    assert (accuracy is not None and accuracy > 0.8) if learns else accuracy is None


@pytest.mark.parametrize("sizes", [(64, 10), (64, 32, 10), (64, 128, 128, 10)])
def test_operations_are_what_xla_counts(sizes):
    rows, built = 256, model.build(sizes)
    params, _ = built.init(jax.random.key(0))
    x, y = jnp.ones((rows, sizes[0])), jnp.zeros(rows, jnp.int32)

    def loss(params, x, y):
        return losses.cross_entropy(built.apply(params, None, x, None)[0], y).sum()

    trained, scored = (
        jax.jit(f).lower(params, x, y).compile().cost_analysis()["flops"] for f in (jax.grad(loss), loss)
    )
    # XLA counts biases, activations and the loss too: some operations an activation, against 2 D_in of its product.
    for counted, mine in (
        (trained, race.operations(sizes, rows, 0)),
        (scored, race.operations(sizes, 0, rows)),
    ):
        assert mine <= counted <= mine + 25 * rows * sum(high for _, high in pairwise(sizes))


def curve(optimizer, rate, seed, losses, accuracies):
    return {
        "optimizer": optimizer,
        "learning_rate": rate,
        "seed": seed,
        "validation_loss": losses,
        "validation_accuracy": accuracies,
    }


def test_a_score_is_the_accuracy_at_the_least_validation_loss():
    runs = [
        curve("adam", 0.1, 0, [0.5, 0.2, 0.3], [0.7, 0.8, 0.9]),
        curve("adam", 0.1, 1, [0.5, 0.4, 0.1], [0.7, 0.8, 0.6]),
        curve("adam", 1.0, 0, [0.5, None, None], [0.9, 0.1, 0.1]),
        curve("adam", 1.0, 1, [0.1, 0.2, 0.3], [1.0, 0.1, 0.1]),
    ]
    score = race.scores({"runs": runs}, [0.1, 1.0], 2)["adam"]
    np.testing.assert_array_equal(score, [[0.8, 0.6], [np.nan, 1.0]])
    assert race.best(score) == 0  # the other rate lost a seed


def test_the_table_of_accuracies_judges_pytorch_alone():
    ours = {"sgd": np.array([[0.5, 0.5], [0.9, 0.9]]), "rmsprop": np.array([[0.9, 0.9], [0.5, 0.5]])}
    loop = {"sgd": np.array([[0.5, 0.5], [0.905, 0.905]]), "rmsprop": np.array([[0.88, 0.88], [0.5, 0.5]])}
    sklearn = {"sgd": np.array([[0.1, 0.1], [0.2, 0.2]])}
    columns, rows = race.accuracies({"mllab second": ours, "torch_loop": loop, "sklearn": sklearn}, [0.01, 0.1])
    assert columns[1:4] == ["mllab", "torch_loop", "sklearn"]
    assert [row[-3:] for row in rows] == [["0.50", 1.0, "yes"], ["2.00", 1.0, "no"]]
    assert "(0.1)" in rows[0][1]
    assert rows[1][3] is None


def samples(*each):
    return [Sample(seconds, report) for seconds, report in each]


@pytest.mark.parametrize(("loop", "met"), [(39.9, "no"), (43.9, "no"), (44.1, "yes")])
def test_ratios_are_of_medians_and_both_targets_must_be_met(loop, met):
    measured = {
        "mllab first": samples((10.0, {}), (100.0, {}), (1.0, {})),
        "mllab second": samples((8.0, {}), (8.0, {}), (9.0, {})),
        "torch_loop": samples(*[(loop, {"threads": 1})] * 3),
        "sklearn": samples((20.0, {}), (20.0, {}), (20.0, {})),
        "ceiling": samples((5.0, {})),
    }
    columns, rows = race.times(measured, {"mllab first": 96, "mllab second": 96, "torch_loop": 96, "sklearn": 48})
    table = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert len(rows) == 4  # the ceiling is no competitor
    torch = table["PyTorch, a loop over runs (1 thread)"]
    assert torch["× first start"] == f"{loop / 10:.2f}"
    assert torch["× second start"] == f"{loop / 8:.2f}"
    assert torch["met"] == met
    learn = table[race.PEERS["sklearn"].label]
    assert (learn["× first start"], learn["met"]) == ("4.00", None)  # a run's price: half as many runs


@pytest.mark.parametrize(("seconds", "met"), [(1.5, "yes"), (1.7, "no")])
def test_the_floor_is_the_work_at_the_machines_rate(seconds, met):
    measured = {
        "mllab second": samples(*[(9.0, {"seconds": {"training": seconds}})] * 3),
        "ceiling": samples((1.0, {"flops_per_second": 2e9}), (1.0, {"flops_per_second": 1e9})),
    }
    columns, (row,) = race.floor(measured, 1.5e9)  # a second, at the median rate
    assert (row[columns.index("floor s")], row[-1]) == ("1.00", met)


def test_a_lane_and_a_pytorch_run_are_weighed_by_their_running_phases():
    measured = {}
    for name in lanes.MODELS:
        for count, running in ((100, 1.0), (1000, 11.0)):
            report = {"running_seconds": running, "compile_seconds": 3.0, "peak_bytes": 2**30}
            measured[f"{name}, {count} lanes"] = samples((99.0, report))
        runs = [{"seconds": seconds} for seconds in (9.0, 0.6, 0.5, 0.7, 0.6)]  # the first one warms up
        measured[f"{name}, torch"] = samples((99.0, {"runs": runs, "threads": 1}))
    _, costs = lanes.lane_costs(measured)
    assert [row[-3:] for row in costs[:2]] == [[None] * 3, ["1.10", 1.2, "yes"]]
    assert costs[0][-4] == "1024"  # MiB
    _, prices = lanes.prices(measured)
    assert [row[-3:] for row in prices] == [["18.3", 10, "no"], ["18.3", 20, "yes"], ["18.3", 100, "yes"]]


def test_the_running_phase_of_a_sweep_compiles_nothing(monkeypatch, caplog):
    drive, compiled = sweep_once.training.drive, []

    def counting(*arguments, **options):
        caplog.clear()
        with jax.log_compiles():
            result = drive(*arguments, **options)
        compiled.append(sum("Finished XLA compilation" in record.message for record in caplog.records))
        return result

    monkeypatch.setattr(sweep_once.training, "drive", counting)
    report = sweep_once.measure((64, 10), lanes=20, epochs=2, batch_size=BATCH)
    assert compiled[0] > 0
    assert compiled[1] == 0
    assert report["peak_bytes"] > 2**20


def test_a_second_start_compiles_nothing(tmp_path):
    tiny = {"optimizers": "sgd", "learning_rates": "0.1", "seeds": 2, "epochs": 1, "hidden": "8"}
    first, second = (startup.counted(tmp_path, start, **tiny).report for start in ("first", "second"))
    assert first["compiled"] > 0
    assert second["compiled"] == 0
    assert second["from_cache"] == first["compiled"] + first["from_cache"]


def test_programs_are_measured_in_turn():
    seen = []

    def peer(name):
        return lambda: seen.append(name) or Sample(float(len(seen)), {})

    measured = timing.in_turn({"a": peer("a"), "b": peer("b")}, 3)
    assert seen == ["a", "b"] * 3
    assert timing.seconds(measured["b"]) == 4.0


def test_processes_run_side_by_side_and_a_failure_is_told():
    sleep = [sys.executable, "-c", "import time; time.sleep(1)"]
    assert 1 <= timing.process(sleep, sleep) < 1.9
    with pytest.raises(RuntimeError, match=r"ended with 1:[\s\S]*no such lane"):
        timing.process([sys.executable, "-c", "raise SystemExit('no such lane')"])


def test_more_threads_are_used_where_they_help(monkeypatch, tmp_path):
    took = {1: [3.0, 1.0], 8: [2.0, 2.0]}

    def program(path, module, *, threads):
        return lambda: Sample(0.0, {"seconds": took[threads].pop()})

    monkeypatch.setattr(timing, "program", program)
    monkeypatch.setattr(timing.devices, "cores", lambda: 8)
    assert timing.best_threads(tmp_path, "bench.torch_loop") == 1  # by its better try


def test_unknown_and_missing_peers_are_refused_in_one_line(monkeypatch):
    tiny = {"repeats": 1, "rates": RATES, "seeds": 1, "epochs": 1, "batch_size": BATCH}
    with pytest.raises(UserError, match="did you mean 'torch_loop'"):
        race.run(peers=["torchloop"], **tiny)
    monkeypatch.setattr(timing, "find_spec", lambda package: None)
    with pytest.raises(UserError, match=r"torch is not installed.*--peers"):
        race.run(peers=["torch_func"], **tiny)


def test_a_report_is_written_or_printed(tmp_path, capsys):
    timing.write({"seconds": 1.5}, None)
    assert json.loads(capsys.readouterr().out) == {"seconds": 1.5}
    timing.write({"seconds": 2.5}, str(tmp_path / "report.json"))
    assert timing.read(tmp_path / "report.json") == {"seconds": 2.5}
    words = timing.command("bench.ceiling", report="a.json", sizes=(64, 10))
    assert words[1:] == ["-m", "experiments.bench.ceiling", "--report=a.json", "--sizes=64,10"]


@pytest.mark.slow
def test_the_race_is_measured_end_to_end(capsys):
    pytest.importorskip("sklearn")
    race.run(peers=["sklearn"], repeats=1, rates=[0.01, 0.1], seeds=2, epochs=1, batch_size=32)
    shown = capsys.readouterr().out
    for expected in ("validation accuracy", "mllab, second start", "scikit-learn", "GFLOP/s"):
        assert expected in shown
