"""The benchmarks of conv nets: their own arithmetic, and that PyTorch is given the very net that mllab trains.

What needs PyTorch is tested where it is installed.
"""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import convnet, convnet_once, convnet_prepare, images, timing
from experiments.bench.timing import Sample
from mllab import losses
from mllab.data import catalog
from mllab.errors import UserError

CHANNELS, SEEDS, TIMED, BATCH = (2, 4), range(2), 3, 32
RATES = [0.001, 0.01]


def prepared_file(folder, seeds):
    path = folder / f"{len(seeds)}.npz"
    data = catalog.load("digits")
    convnet_prepare.write(path, data, channels=CHANNELS, seeds=seeds, timed_steps=TIMED, batch_size=BATCH)
    return path


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepared_file(tmp_path_factory.mktemp("bench"), SEEDS)


@pytest.fixture(scope="module")
def measured(prepared):
    return convnet_once.measure(prepared, RATES, "float32")


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


def test_every_lane_begins_with_its_seeds_weights_and_minibatch(prepared, measured):
    """Biases are 0 at the start: what they do is seen in later losses, beside PyTorch."""
    with np.load(prepared) as data:
        for lane, (seed, _) in enumerate((seed, rate) for seed in SEEDS for rate in RATES):
            batch = data["orders"][seed, 0]
            expected = cross_entropy(logits(data, seed, data["images"][batch]), data["labels"][batch])
            np.testing.assert_allclose(measured["losses"][lane][0], expected, rtol=1e-5)
    first, last = np.array(measured["losses"])[:, [0, -1]].T
    assert first.shape == (4,)
    assert (first[::2] == first[1::2]).all()  # a seed's rates begin alike
    assert (last[::2] != last[1::2]).all()


def test_an_epoch_of_minibatches_sees_no_image_twice(tmp_path):
    data = catalog.load("digits")
    train = len(data.split.train)
    path = tmp_path / "data.npz"
    convnet_prepare.write(path, data, channels=CHANNELS, seeds=[0], timed_steps=train // BATCH, batch_size=BATCH)
    with np.load(path) as file:
        assert file["images"].shape[0] == file["labels"].shape[0] == train
        epochs = np.split(file["orders"][0], 2)
    for epoch in epochs:
        assert len(np.unique(epoch)) == epoch.size == train // BATCH * BATCH
    assert (epochs[0] != epochs[1]).any()
    with pytest.raises(UserError, match="batch_size = 2000 is larger"):
        convnet_prepare.write(path, data, channels=CHANNELS, seeds=[0], timed_steps=1, batch_size=2000)


@pytest.mark.parametrize(("seeds", "lanes"), [(SEEDS, 4), (range(4), 8)])  # the batch split, and the lanes spread
def test_only_the_second_half_is_timed_and_it_compiles_nothing(tmp_path, monkeypatch, caplog, seeds, lanes):
    ticks = iter(range(4))

    def tick():
        """A second passes between any two looks at the clock; the second look ends the compiling."""
        now = next(ticks)
        if now == 1:
            caplog.clear()
        return now

    monkeypatch.setattr(convnet_once, "time", types.SimpleNamespace(perf_counter=tick))
    with jax.log_compiles():
        report = convnet_once.measure(prepared_file(tmp_path, seeds), RATES, "float32")
    assert not [record.message for record in caplog.records if "Finished XLA compilation" in record.message]
    assert report["compile_seconds"] == 1
    assert report["images_per_second"] == lanes * TIMED * BATCH
    assert np.shape(report["losses"]) == (lanes, 2 * TIMED)


@pytest.mark.parametrize("form", ["plain", "best"])
def test_the_weights_make_the_same_net_in_pytorch(prepared, form):
    torch = pytest.importorskip("torch")
    from experiments.bench import torch_convnet

    draw = np.random.default_rng(0)
    with np.load(prepared) as file:
        data = dict(file)
    for depth in range(4):  # biases that tell
        data[f"b{depth}"] = draw.normal(size=data[f"b{depth}"].shape).astype(np.float32)
    x = draw.normal(size=(5, 8, 8, 1)).astype(np.float32)
    for seed in SEEDS:
        theirs = torch_convnet.build(data, seed, form)(torch.from_numpy(x).permute(0, 3, 1, 2))
        np.testing.assert_allclose(theirs.detach().numpy(), logits(data, seed, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("form", "precision", "tolerance"), [("plain", "float32", 1e-4), ("best", "float32", 1e-4), ("best", "bf16", 3e-2)]
)
def test_pytorch_trains_the_same_runs(prepared, measured, tmp_path, form, precision, tolerance):
    pytest.importorskip("torch")
    options = {"data": prepared, "learning_rates": RATES, "form": form, "precision": precision}
    report = timing.program(tmp_path / "report.json", "bench.torch_convnet", **options)().report
    np.testing.assert_allclose(report["losses"], measured["losses"], atol=tolerance)
    assert report["images_per_second"] > 0
    assert report["compile_seconds"] is None
    if precision == "bf16":
        ours = convnet_once.measure(prepared, RATES, precision)["losses"]
        np.testing.assert_allclose(report["losses"], ours, atol=tolerance)
        assert ours != measured["losses"]


def test_pytorch_computes_where_jax_does_or_not_at_all(monkeypatch):
    torch = pytest.importorskip("torch")
    from experiments.bench import torch_convnet

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [torch_convnet.device_of(platform).type for platform in ("cpu", "gpu")] == ["cpu", "cuda"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert torch_convnet.device_of("cpu").type == "cpu"
    with pytest.raises(SystemExit, match="JAX computes on the gpu here"):
        torch_convnet.device_of("gpu")


def test_operations_are_those_counted_by_hand_and_by_xla():
    """Multiplications and additions of 28 x 28 places by 9 x 1 weights for each of 16 channels, and so on."""
    first, second, dense = 2 * 784 * 9 * 16, 2 * 196 * 9 * 16 * 32, 2 * (7 * 7 * 32 * 128 + 128 * 10)
    built = convnet_prepare.net((16, 32), (28, 28, 1), 10)
    params, extra = built.init(jax.random.key(0))
    weights = [leaf.shape for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
    assert convnet.operations((28, 28, 1), weights) == 2 * first + 3 * (second + dense)

    def loss(params, x, y):
        return losses.cross_entropy(built.apply(params, extra, x, None)[0], y).sum()

    x, y = jnp.ones((4, 28, 28, 1)), jnp.zeros(4, jnp.int32)
    counted = jax.jit(jax.grad(loss)).lower(params, x, y).compile().cost_analysis()["flops"] / len(x)

    def inside(size):
        """What of the windows is not beyond the border: XLA leaves the rest out."""
        return ((3 * size - 2) / (3 * size)) ** 2

    counted_by_hand = 2 * first * inside(28) + 3 * (second * inside(14) + dense)
    assert counted_by_hand <= counted <= 1.03 * counted_by_hand  # it counts pooling, biases and activations too


def samples(*reports):
    return [Sample(9.0, report) for report in reports]


def rated(*rates, compiled=None):
    return samples(*({"images_per_second": rate, "compile_seconds": compiled} for rate in rates))


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
    columns, rows = convnet.speeds(measured, lanes)
    table = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert list(table) == ["mllab", *(peer.label for peer in convnet.PEERS.values())]  # the ceiling is no competitor
    ours = table["mllab"]
    assert (ours["images/s"], ours["least – greatest"], ours["compile s"]) == ("1000", "1 – 5000", "2.50")
    for name, met in verdicts.items():
        row = table[convnet.PEERS[name].label]
        assert (row["mllab's ×"], row["met"]) == (f"{1000 / measured[name][0].report['images_per_second']:.2f}", met)
        assert (row["compile s"] is None) == (name != "compiled")


def test_losses_are_compared_lane_by_lane_before_rounding_has_grown():
    ours = np.stack([np.linspace(2.0, 1.0, 40), np.linspace(3.0, 2.0, 40)])
    near, far = ours + 1e-3 / 2, ours.copy()
    near[:, convnet.CHECKED + 1 :] += 1
    far[:, convnet.CHECKED] += [1e-3, -3e-3]  # their mean is close
    measured = {
        name: samples({"losses": each.tolist()}) for name, each in (("mllab", ours), ("plain", near), ("best", far))
    }
    columns, rows = convnet.agreement(measured, 1e-3)
    assert columns[1:3] == ["first step", f"after {convnet.CHECKED} steps"]
    assert rows[0][1:] == ["2.5000", f"{ours[:, convnet.CHECKED].mean():.4f}", None, None, None]
    assert [row[-3:] for row in rows[1:]] == [["5.0e-04", 1e-3, "yes"], ["3.0e-03", 1e-3, "no"]]


def test_the_floor_is_the_work_at_the_machines_rate():
    measured = {"mllab": rated(4.0), "ceiling": samples(*({"flops_per_second": rate} for rate in (8e9, 1e9, 9e9)))}
    columns, (row,) = convnet.floor(measured, 10**9)
    assert dict(zip(columns, row, strict=True)) == {
        "MFLOP an image": "1000.0", "GFLOP/s": "8", "images/s at that": "8", "mllab's images/s": "4", "× floor": "2.00",
    }  # fmt: skip


@pytest.mark.parametrize(("lanes", "found"), [(1, ["plain", "best"]), (8, ["plain", "best"])])
def test_a_peer_that_does_not_work_here_is_left_out(monkeypatch, tmp_path, capsys, lanes, found):
    tried = []

    def program(path, module, **options):
        def measure():
            tried.append((options["form"], options["steps"]))
            if options["form"] == "compiled":
                raise RuntimeError("python ended with 1:\nno compiler\n")

        return measure

    monkeypatch.setattr(timing, "program", program)
    assert list(convnet.peers(tmp_path, {"data": "convnet.npz"}, lanes)) == found
    assert tried == [(form, 2) for form in ([*convnet.PEERS] if lanes == 1 else found)]
    assert ("under torch.compile: no compiler" in capsys.readouterr().err) == (lanes == 1)


def test_pytorch_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setattr(timing, "find_spec", lambda package: None)
    tiny = {"repeats": 1, "rates": RATES, "seeds": 1, "batch_size": BATCH, "timed_steps": 1}
    with pytest.raises(UserError, match="torch is not installed"):
        convnet.run(dataset="digits", data_dir=None, precision="float32", **tiny)


def test_every_start_is_a_process_with_the_cache_that_it_should_have(monkeypatch, tmp_path, capsys):
    """Accuracies and times are means over seeds; MNIST's are just met, Fashion-MNIST's just missed."""
    started = []

    def process(words, cache):
        flags = dict(word.removeprefix("--").split("=") for word in words[3:])
        warm = cache.exists()
        cache.mkdir(exist_ok=True)
        (cache / flags["dataset"]).touch()
        started.append((words[2], flags["dataset"], flags["first_seed"], warm))
        assert (flags["model"], flags["seeds"]) == ("convnet", "1")
        assert flags["data_dir"] == str(tmp_path)
        seed, mnist = int(flags["first_seed"]), flags["dataset"] == "mnist"
        accuracy = (0.991, 0.989)[seed] if mnist else (0.911, 0.9088)[seed]
        workdir = images.Path(flags["workdir"])
        assert not workdir.exists()
        workdir.mkdir()
        summary = {"test_by_seed": {"accuracy": [accuracy]}, "seconds": {"data": 1.0 + seed, "total": None}}
        (workdir / "summary.json").write_text(json.dumps(summary))
        return (40.0 if mnist else 59.0) + 2 * seed + 8 * (not mnist and not warm)

    monkeypatch.setattr(timing, "process", process)
    images.run(seeds=2, data_dir=str(tmp_path))
    turn = [(dataset, warm) for dataset in ("mnist", "fashion_mnist") for warm in (False, True)]
    assert started == [("experiments.image_classifier", dataset, seed, warm) for seed in "01" for dataset, warm in turn]
    lines = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    scores = {row[0]: row[1:] for row in cells[2:6]}
    assert [row[2:4] + row[4:5] + row[6:] for row in scores.values()] == [
        ["99", "yes", "41.0", "45", "yes"],
        ["99", "yes", "41.0", "45", "yes"],
        ["91", "no", "68.0", "60", "no"],
        ["91", "no", "60.0", "60", "yes"],
    ]
    assert cells[-4:] == [[name, "1.5", "—"] for name in scores]


@pytest.mark.slow
@pytest.mark.parametrize("rates", [[0.001], [0.001, 0.01]])
def test_the_conv_net_is_measured_end_to_end(capsys, rates):
    pytest.importorskip("torch")
    tiny = {"repeats": 1, "rates": rates, "seeds": 1, "batch_size": 32, "timed_steps": 8}
    convnet.run(dataset="digits", data_dir=None, precision="float32", **tiny)
    shown = capsys.readouterr().out
    for expected in ("after 10 steps", "channels-last, fused Adam", "images/s", "GFLOP/s"):
        assert expected in shown
    agreed = shown.split("\n\n")[0].splitlines()[3:]
    assert agreed
    assert all(line.endswith("yes") for line in agreed)
