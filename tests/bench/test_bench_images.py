"""Benchmarks of conv nets and of the image classifier: PyTorch gets mllab's net, and tables judge by medians or means.

The PyTorch peer is tested where PyTorch is installed.
"""

import json
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import convnet, convnet_mllab, harness, images
from experiments.bench.harness import Sample
from mllab import losses
from mllab.data import catalog
from mllab.errors import UserError

CHANNELS, SEEDS, TIMED, BATCH = (2, 4), 2, 3, 32
RATES = [0.001, 0.01]


def write(path, **changes):
    problem = {"dataset": "digits", "channels": CHANNELS, "seeds": SEEDS, "timed_steps": TIMED, "batch_size": BATCH}
    return convnet_mllab.write(path, **(problem | changes))


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "convnet.npz"
    weights = [[3, 3, 1, 2], [3, 3, 2, 4], [2 * 2 * 4, 128], [128, 10]]
    assert write(path) == {"shape": [8, 8, 1], "weights": weights}
    return path


@pytest.fixture(scope="module")
def trained(problem):
    return convnet_mllab.train(problem, RATES, "float32")


def logits(data, seed, x):
    """The net in NumPy: each place's window times the weights, the greatest of four, ReLU; then two dense layers."""
    w, b = ([data[f"{name}{depth}"][seed].astype(np.float64) for depth in range(4)] for name in "wb")
    for depth in (0, 1):
        padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # [B, h, w, C, 3, 3]
        y = np.einsum("bijcuv,uvco->bijo", windows, w[depth]) + b[depth]
        x = np.maximum(0, np.max([y[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0))
    hidden = np.maximum(0, x.reshape(len(x), -1) @ w[2] + b[2])
    return hidden @ w[3] + b[3]


def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return (np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]).mean()


@pytest.mark.slow
def test_every_lane_starts_from_the_weights_and_minibatch_of_its_seed(problem, trained):
    """Biases are 0 at the start: later losses, beside PyTorch, depend on them."""
    with np.load(problem) as data:
        for lane, seed in enumerate(np.repeat(range(SEEDS), len(RATES))):
            batch = data["orders"][seed, 0]
            expected = cross_entropy(logits(data, seed, data["images"][batch]), data["labels"][batch])
            np.testing.assert_allclose(trained["losses"][lane][0], expected, rtol=1e-5)
    first, last = np.array(trained["losses"])[:, [0, -1]].T
    assert first.shape == (4,)
    assert (first[::2] == first[1::2]).all()  # the rates of a seed start alike
    assert (last[::2] != last[1::2]).all()


def test_an_epoch_of_minibatches_has_no_image_twice(tmp_path):
    train = len(catalog.load("digits").split.train)
    path = tmp_path / "convnet.npz"
    write(path, seeds=1, timed_steps=train // BATCH)
    with np.load(path) as file:
        assert file["images"].shape[0] == file["labels"].shape[0] == train
        epochs = np.split(file["orders"][0], 2)
    for epoch in epochs:
        assert len(np.unique(epoch)) == epoch.size == train // BATCH * BATCH
    assert (epochs[0] != epochs[1]).any()
    with pytest.raises(UserError, match="batch_size = 2000 is larger"):
        write(path, batch_size=2000)


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "lanes"), [(2, 4), (4, 8)])  # the batch spread over devices, and the lanes
def test_only_the_second_half_is_timed_and_it_compiles_nothing(tmp_path, monkeypatch, caplog, seeds, lanes):
    path = tmp_path / "convnet.npz"
    write(path, seeds=seeds)
    ticks = iter(range(4))

    def tick():
        """Return a time one second later at each call; the second call ends the compilation."""
        now = next(ticks)
        if now == 1:
            caplog.clear()
        return now

    monkeypatch.setattr(convnet_mllab, "time", types.SimpleNamespace(perf_counter=tick))
    with jax.log_compiles():
        report = convnet_mllab.train(path, RATES, "float32")
    assert not [record.message for record in caplog.records if "Finished XLA compilation" in record.message]
    assert report["compile_seconds"] == 1
    assert report["images_per_second"] == lanes * TIMED * BATCH
    assert np.shape(report["losses"]) == (lanes, 2 * TIMED)


@pytest.mark.parametrize("form", ["plain", "best"])
def test_the_weights_make_the_same_net_in_pytorch(problem, form):
    torch = pytest.importorskip("torch")
    from experiments.bench import convnet_torch

    rng = np.random.default_rng(0)
    with np.load(problem) as file:
        data = dict(file)
    for depth in range(4):  # biases other than 0
        data[f"b{depth}"] = rng.normal(size=data[f"b{depth}"].shape).astype(np.float32)
    x = rng.normal(size=(5, 8, 8, 1)).astype(np.float32)
    for seed in range(SEEDS):
        theirs = convnet_torch.build(data, seed, form)(torch.from_numpy(x).permute(0, 3, 1, 2))
        np.testing.assert_allclose(theirs.detach().numpy(), logits(data, seed, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("form", "precision", "tolerance"), [("plain", "float32", 1e-4), ("best", "float32", 1e-4), ("best", "bf16", 3e-2)]
)
def test_pytorch_trains_the_same_runs(problem, trained, tmp_path, form, precision, tolerance):
    pytest.importorskip("torch")
    words = harness.command("bench.convnet_torch", data=problem, learning_rates=RATES, form=form, precision=precision)
    report = harness.program(tmp_path / "report.json", words)().report
    np.testing.assert_allclose(report["losses"], trained["losses"], atol=tolerance)
    assert report["images_per_second"] > 0
    assert report["compile_seconds"] is None
    if precision == "bf16":
        ours = convnet_mllab.train(problem, RATES, precision)["losses"]
        np.testing.assert_allclose(report["losses"], ours, atol=tolerance)
        assert ours != trained["losses"]


def test_pytorch_computes_where_jax_does_or_refuses(monkeypatch):
    torch = pytest.importorskip("torch")
    from experiments.bench import convnet_torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [convnet_torch.device_of(platform).type for platform in ("cpu", "gpu")] == ["cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert convnet_torch.device_of("cpu").type == "cpu"
    with pytest.raises(SystemExit, match="JAX computes on the gpu here"):
        convnet_torch.device_of("gpu")


@pytest.mark.slow
def test_operations_are_those_counted_by_hand_and_by_xla():
    """Multiplications and additions of 28 x 28 places by 9 x 1 weights for each of 16 channels, and so on."""
    first, second, dense = 2 * 784 * 9 * 16, 2 * 196 * 9 * 16 * 32, 2 * (7 * 7 * 32 * 128 + 128 * 10)
    model = convnet_mllab.net((16, 32), (28, 28, 1), 10)
    params, extra = model.init(jax.random.key(0))
    weights = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert convnet.operations((28, 28, 1), weights) == 2 * first + 3 * (second + dense)

    def loss(params, x, y):
        return losses.cross_entropy(model.apply(params, extra, x, None)[0], y).sum()

    x, y = jnp.ones((4, 28, 28, 1)), jnp.zeros(4, jnp.int32)
    counted = jax.jit(jax.grad(loss)).lower(params, x, y).compile().cost_analysis()["flops"] / len(x)

    def inside(size):
        """Return the share of the windows within the border: XLA leaves out the rest."""
        return ((3 * size - 2) / (3 * size)) ** 2

    counted_by_hand = 2 * first * inside(28) + 3 * (second * inside(14) + dense)
    assert counted_by_hand <= counted <= 1.03 * counted_by_hand  # it counts pooling, biases and activations too


def samples(*reports):
    return [Sample(9.0, report) for report in reports]


def rated(*rates, compiled=None):
    return samples(*({"images_per_second": rate, "compile_seconds": compiled} for rate in rates))


def by_label(table):
    """The rows by their first cell, each a dict by column."""
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


@pytest.mark.parametrize(
    ("lanes", "best", "verdicts"),
    [
        (1, 1000.0, {"plain": None, "best": "yes", "compiled": None}),
        (1, 1001.0, {"plain": None, "best": "no", "compiled": None}),
        (8, 952.0, {"plain": "yes", "best": "yes", "compiled": None}),
        (8, 953.0, {"plain": "yes", "best": "no", "compiled": None}),
    ],
)
def test_rates_are_judged_by_their_medians(lanes, best, verdicts):
    measured = {
        "mllab": rated(1000.0, 5000.0, 1.0, compiled=2.5),
        "plain": rated(769.0),
        "best": rated(best),
        "compiled": rated(1e6, compiled=30.0),
        "ceiling": samples({"flops_per_second": 1.0}),
    }
    table = by_label(convnet.speeds(measured, lanes))
    assert list(table) == ["mllab", *(peer.label for peer in convnet.PEERS.values())]  # the ceiling is no competitor
    ours = table["mllab"]
    assert (ours["images/s"], ours["least – greatest"], ours["compile s"]) == ("1000", "1 – 5000", "2.50")
    for name, met in verdicts.items():
        row = table[convnet.PEERS[name].label]
        assert (row["mllab's ×"], row["met"]) == (f"{1000 / measured[name][0].report['images_per_second']:.2f}", met)
        assert (row["compile s"] is None) == (name != "compiled")


def test_losses_are_compared_lane_by_lane_before_rounding_errors_have_grown():
    step = convnet.CHECKED_STEP
    ours = np.stack([np.linspace(2.0, 1.0, 40), np.linspace(3.0, 2.0, 40)])
    near, far = ours + 1e-3 / 2, ours.copy()
    near[:, step + 1 :] += 1
    far[:, step] += [1e-3, -3e-3]  # their mean is close
    measured = {
        name: samples({"losses": each.tolist()}) for name, each in (("mllab", ours), ("plain", near), ("best", far))
    }
    table = convnet.agreement(measured, 1e-3)
    assert table.columns[1:3] == ["first step", f"after {step} steps"]
    assert table.rows[0][1:] == ["2.5000", f"{ours[:, step].mean():.4f}", None, None, None]
    assert [row[-3:] for row in table.rows[1:]] == [["5.0e-04", 1e-3, "yes"], ["3.0e-03", 1e-3, "no"]]


def test_the_floor_is_the_work_at_the_rate_of_the_machine():
    measured = {"mllab": rated(4.0), "ceiling": samples(*({"flops_per_second": rate} for rate in (8e9, 1e9, 9e9)))}
    assert by_label(convnet.floor(measured, 10**9))["1000.0"] == {
        "MFLOP an image": "1000.0", "GFLOP/s": "8", "images/s at that": "8", "mllab's images/s": "4", "× floor": "2.00",
    }  # fmt: skip


@pytest.mark.parametrize("lanes", [1, 8])
def test_a_peer_that_fails_in_a_trial_is_left_out(monkeypatch, tmp_path, capsys, lanes):
    tried = []

    def program(path, words):
        def measure():
            flags = dict(word.removeprefix("--").split("=") for word in words[3:])
            tried.append((flags["form"], flags["steps"]))
            if flags["form"] == "compiled":
                raise RuntimeError("python ended with 1:\nno compiler\n")

        return measure

    monkeypatch.setattr(harness, "program", program)
    assert list(convnet.peers(tmp_path, {"data": "convnet.npz"}, lanes)) == ["plain", "best"]
    forms = [*convnet.PEERS] if lanes == 1 else ["plain", "best"]
    assert tried == [(form, "2") for form in forms]
    assert ("under torch.compile: no compiler" in capsys.readouterr().err) == (lanes == 1)


def test_a_missing_pytorch_ends_with_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(SystemExit) as ended:
        convnet.main(["convnet", "--dataset=digits", "--repeats=1"])
    (line,) = capsys.readouterr().err.splitlines()
    assert (ended.value.code, "torch is not installed" in line) == (1, True)


def test_every_start_is_a_process_with_an_empty_or_a_full_cache(monkeypatch, tmp_path):
    """Accuracies and times are means over seeds; MNIST just meets its targets, Fashion-MNIST just misses them."""
    started = []

    def process(words, cache):
        flags = dict(word.removeprefix("--").split("=") for word in words[3:])
        warm = cache.exists()
        cache.mkdir(exist_ok=True)
        started.append((words[2], flags["dataset"], flags["first_seed"], warm))
        assert (flags["model"], flags["seeds"]) == ("convnet", "1")
        assert flags["data_dir"] == str(tmp_path)
        seed, mnist = int(flags["first_seed"]), flags["dataset"] == "mnist"
        accuracy = (0.991, 0.989)[seed] if mnist else (0.911, 0.9088)[seed]
        workdir = Path(flags["workdir"])
        workdir.mkdir()  # not there yet
        summary = {"test_by_seed": {"accuracy": [accuracy]}, "seconds": {"data": 1.0 + seed, "total": None}}
        (workdir / "summary.json").write_text(json.dumps(summary))
        return (40.0 if mnist else 59.0) + 2 * seed + 8 * (not mnist and not warm)

    monkeypatch.setattr(harness, "process", process)
    measured = images.run(seeds=2, data_dir=str(tmp_path))
    turn = [(dataset, warm) for dataset in ("mnist", "fashion_mnist") for warm in (False, True)]
    assert started == [("experiments.image_classifier", dataset, seed, warm) for seed in "01" for dataset, warm in turn]
    scores = images.scores(measured)
    assert [[row[1], *row[3:6], *row[7:]] for row in scores.rows] == [
        [2, 99.0, "yes", "41.0", 45.0, "yes"],
        [2, 99.0, "yes", "41.0", 45.0, "yes"],
        [2, 91.0, "no", "68.0", 60.0, "no"],
        [2, 91.0, "no", "60.0", 60.0, "yes"],
    ]
    assert [row[2].split(" ")[0] for row in scores.rows[::2]] == ["99.0", "91.0"]
    parts = images.parts(measured)
    assert [" ".join(line.split()) for line in parts.lines()[-4:]] == [f"{row[0]} 1.5 —" for row in scores.rows]


@pytest.mark.slow
@pytest.mark.parametrize("rates", [[0.001], [0.001, 0.01]])
def test_the_conv_net_is_measured_end_to_end(capsys, rates):
    pytest.importorskip("torch")
    convnet.run(dataset="digits", learning_rates=rates, repeats=1, batch_size=32, timed_steps=8)
    printed = capsys.readouterr().out
    for expected in ("after 10 steps", "channels-last, fused Adam", "images/s", "GFLOP/s"):
        assert expected in printed
    agreed = printed.split("\n\n")[0].splitlines()[3:]
    assert agreed
    assert all(line.endswith("yes") for line in agreed)
