"""Features of a net: probes against scikit-learn, draws against counting, and the experiment end to end."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from experiments import features, frame, net_features, probes
from experiments.net_features import PIXELS, TRAINED, UNTRAINED
from experiments.probes import LINEAR, NEIGHBORS, SETTINGS
from mllab import weights
from mllab.data import catalog
from mllab.metrics import Interval
from mllab.models import convnet
from mllab.models import table as models
from mllab.tasks import Baseline
from support.figures import drawn
from support.mistakes import refused_in_one_line
from support.workdirs import records_of

DIGITS = catalog.load("digits")
FRACTIONS = (0.1, 1.0)
SMALL = {"channels": (4,), "hidden": (16,)}


def publish(path, key, *, model="convnet", shape=(8, 8, 1), dataset="digits", **options):
    """A net as `init` draws it, published as if it had been trained."""
    plan = models.plan(model, shape, 10, **options)
    params, extra = models.build(plan).init(jax.random.key(key))
    about = {"plan": plan, "dataset": dataset, "classes": list(DIGITS.classes)}
    path.write_bytes(weights.encode(params, about, extra))
    return path


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the digits, with a net equal to the first seed's untrained one; its folder and measurement."""
    folder = tmp_path_factory.mktemp("features")
    net = publish(folder / "net.safetensors", 0, **SMALL)
    return folder / "w", features.run(workdir=str(folder / "w"), params=str(net), fractions=FRACTIONS, seeds=3)


def cell_of(measured, representation, probe, fraction):
    place = (representation, probe, fraction)
    (cell,) = (cell for cell in measured.cells if (cell.representation, cell.probe, cell.fraction) == place)
    return cell


@pytest.mark.slow
def test_cells_agree_with_the_records(ran):
    path, measured = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert json.loads((path / "environment.json").read_text())["data"].keys() >= {"net.safetensors"}
    summary = json.loads((path / "summary.json").read_text())
    assert len(summary["cells"]) == 3 * 2 * len(FRACTIONS)
    for cell in summary["cells"]:
        place = {name: cell[name] for name in ("representation", "probe", "fraction")}
        records = [record for record in records_of(path) if place.items() <= record.items()]
        tested = [record for record in records if "test_accuracy" in record]
        whole = cell["fraction"] == 1 and cell["representation"] != UNTRAINED
        assert [record["seed"] for record in tested] == ([0] if whole else [0, 1, 2])
        assert cell["test_by_draw"] == [record["test_accuracy"] for record in tested]
        np.testing.assert_allclose(cell["test"][0], np.mean(cell["test_by_draw"]))
        assert (cell["test"][1] is None) == whole  # one draw has no interval
        for record in tested:  # the tested setting is the best on validation rows, of equal ones the first
            rivals = [other["validation_accuracy"] for other in records if other["seed"] == record["seed"]]
            own = [other for other in records if other["seed"] == record["seed"]].index(record)
            assert own == int(np.argmax(rivals))
        assert cell["short"] == 0
    assert summary["net"]["features"] == 16
    assert measured.net.at_home


@pytest.mark.slow
@pytest.mark.parametrize("representation", [PIXELS, UNTRAINED])
@pytest.mark.parametrize("probe", [LINEAR, NEIGHBORS])
def test_a_probe_agrees_with_scikit_learn(ran, representation, probe):
    path, measured = ran
    seed, fraction = 1, 0.1
    inputs = DIGITS.inputs.reshape(len(DIGITS.inputs), -1)
    if representation == UNTRAINED:
        layers = convnet.convnet(10, **SMALL)
        params, extra = convnet.init(jax.random.key(seed), layers, (8, 8, 1))
        inputs = np.asarray(convnet.features(params, DIGITS.inputs, extra))
    train = probes.draw(DIGITS, fraction, seed)
    mean, deviation = inputs[train].mean(axis=0), np.sqrt(inputs[train].var(axis=0).mean())
    inputs, targets = (inputs - mean) / deviation, DIGITS.targets
    rows = DIGITS.split

    def peer(setting):
        if probe == NEIGHBORS:
            return KNeighborsClassifier(setting, algorithm="brute")
        return LogisticRegression(C=1 / setting, tol=1e-6, max_iter=5000)

    setting, place = (
        SETTINGS[probe],
        {"representation": representation, "probe": probe, "fraction": fraction, "seed": seed},
    )
    records = {record[setting.name]: record for record in records_of(path) if place.items() <= record.items()}
    assert list(records) == list(setting.grid)
    for value, record in records.items():
        fitted = peer(value).fit(inputs[train], targets[train])
        expected = fitted.score(inputs[rows.validation], targets[rows.validation])
        assert abs(record["validation_accuracy"] - expected) < 1.5 / len(rows.validation)
        if "test_accuracy" in record:
            expected = fitted.score(inputs[rows.test], targets[rows.test])
            assert abs(record["test_accuracy"] - expected) < 1.5 / len(rows.test)
            assert cell_of(measured, representation, probe, fraction).chosen[seed] == value


@pytest.mark.slow
def test_a_net_that_was_never_trained_equals_the_control(ran):
    _, measured = ran
    for probe in SETTINGS:
        for fraction in FRACTIONS:
            trained, untrained = (cell_of(measured, of, probe, fraction).test_by_draw for of in (TRAINED, UNTRAINED))
            assert trained[0] == untrained[0]
            if fraction < 1:
                assert trained[1:] != untrained[1:]  # another seed, another net


@pytest.mark.slow
def test_the_lead_over_pixels_is_paired_by_draw(ran):
    _, measured = ran
    for cell in measured.cells:
        pixels = cell_of(measured, PIXELS, cell.probe, cell.fraction)
        there = np.broadcast_to(pixels.test_by_draw, len(cell.test_by_draw))
        assert cell.ahead.mean == pytest.approx(100 * np.mean(np.subtract(cell.test_by_draw, there)))


@pytest.mark.slow
@pytest.mark.parametrize("probe", [LINEAR, NEIGHBORS])
def test_test_labels_have_no_influence_on_the_choice(probe):
    wrong = DIGITS.targets.copy()
    wrong[DIGITS.split.test] = (wrong[DIGITS.split.test] + 1) % 10
    inputs, train = DIGITS.inputs.reshape(len(DIGITS.inputs), -1), probes.draw(DIGITS, 0.1, 0)
    seen, blind = (
        probes.tune(probe, inputs, dataclasses.replace(DIGITS, targets=targets), train)
        for targets in (DIGITS.targets, wrong)
    )
    assert (seen.validation, seen.chosen) == (blind.validation, blind.chosen)
    assert blind.test < seen.test


@pytest.mark.slow
def test_k_is_at_most_the_number_of_training_rows():
    inputs = DIGITS.inputs.reshape(len(DIGITS.inputs), -1)
    outcome = probes.tune(NEIGHBORS, inputs, DIGITS, probes.draw(DIGITS, 0.01, 0))  # 11 rows
    assert list(outcome.validation) == [1, 3, 5, 10]


@pytest.mark.slow
def test_an_optimum_that_is_not_reached_is_recorded(monkeypatch):
    monkeypatch.setattr(probes, "TOLERANCE", 0.0)
    inputs = DIGITS.inputs.reshape(len(DIGITS.inputs), -1)[:, :2]
    outcomes = [probes.tune(LINEAR, inputs, DIGITS, probes.draw(DIGITS, 0.01, seed)) for seed in (0, 1)]
    assert not any(outcome.converged for outcome in outcomes)
    assert probes.Cell.of(PIXELS, LINEAR, 0.01, outcomes, outcomes).short == 2


@given(fraction=st.floats(0.005, 1), seed=st.integers(0, 99))
def test_draws_are_stratified_and_nested(fraction, seed):
    rows = probes.draw(DIGITS, fraction, seed)
    assert set(rows) <= set(DIGITS.split.train)
    assert len(set(rows)) == len(rows)
    whole, drawn = (np.bincount(DIGITS.targets[ids], minlength=10) for ids in (DIGITS.split.train, rows))
    assert (drawn >= 1).all()
    assert (np.abs(drawn - whole * fraction) < 1).all() or (drawn == 1).any()
    assert set(rows) <= set(probes.draw(DIGITS, min(1.0, 2 * fraction), seed))


def test_another_seed_draws_other_rows_and_the_whole_is_the_whole():
    few = [set(probes.draw(DIGITS, 0.1, seed)) for seed in (0, 1)]
    assert few[0] != few[1]
    assert set(probes.draw(DIGITS, 1.0, 3)) == set(DIGITS.split.train)


def test_inputs_are_standardised_by_the_training_rows_alone():
    draw = np.random.default_rng(0)
    inputs = draw.normal(3, [0, 1, 5], (60, 3)).astype(np.float32)
    train, others = np.arange(20), np.arange(20, 60)
    scaled = probes.standardise(inputs, train)
    np.testing.assert_allclose(scaled[train].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.mean(np.square(scaled[train])), 1, rtol=1e-5)
    inputs[others] *= 7
    again = probes.standardise(inputs, train)
    np.testing.assert_array_equal(scaled[train], again[train])
    assert not np.allclose(scaled[others], again[others])
    np.testing.assert_array_equal(probes.standardise(np.ones_like(inputs), train), 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fractions": ()}, "--fractions=: empty"),
        ({"fractions": (0.0, 0.5)}, "--fractions=0,0.5: empty, or a number out of range"),
        ({"fractions": (1.5,)}, "up to 1"),
        ({"fractions": (float("nan"),)}, "up to 1"),
        ({"fractions": (0.5, 0.5)}, "each once"),
        ({"fractions": "all"}, "--fractions=all: give LOW:HIGH:COUNT"),
        ({"params": "absent.safetensors"}, "no file absent.safetensors"),
        ({"dataset": "digit"}, "did you mean 'digits'"),
        ({"dataset": "line"}, "line has no images with classes"),
        ({"dataset": "own.csv"}, "own.csv has no images with classes"),
        ({"net": {"model": "mlp"}}, "is of the model mlp, which has no features"),
        ({"net": {"shape": (12, 12, 1)}}, "takes images of 12 × 12 × 1, and those of digits are 8 × 8 × 1"),
        ({"net": {"dataset": None}}, "does not record what it was trained on"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_leaves_nothing(tmp_path, settings, message):
    net = publish(tmp_path / "net.safetensors", 0, **settings.get("net", {}))
    settings = {"params": str(net)} | {name: value for name, value in settings.items() if name != "net"}
    with refused_in_one_line(re.escape(message)):
        features.run(workdir=str(tmp_path / "w"), **settings)
    assert not (tmp_path / "w").exists()


def test_the_program_ends_a_mistake_without_a_traceback(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        features.main(["features", "--fractions=all", f"--workdir={tmp_path / 'w'}"])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "error: --fractions=all: give LOW:HIGH:COUNT, such as 0.01:100:5, or numbers above 0 and up to 1"
    )
    assert error.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.slow
def test_a_users_own_images_are_resized_to_fit_the_net(tmp_path):
    draw = np.random.default_rng(0)
    own = tmp_path / "own.npz"
    np.savez(own, images=draw.integers(0, 255, (60, 12, 12), np.uint8), labels=np.arange(60) % 3)
    path = publish(tmp_path / "net.safetensors", 0, **SMALL)
    measured = features.run(workdir=str(tmp_path / "w"), params=str(path), dataset=str(own), fractions=(1.0,), seeds=1)
    assert measured.dataset.shape == (8, 8, 1)
    assert not measured.net.at_home
    assert measured.net.accuracy is None


# ── The report ──────────────────────────────────────────────────────────────────────────────────────────────────────


def measured_of(fractions=(0.01, 1.0), seeds=3, at_home=True, short=0, trained=(0.95, 0.97)):
    """A measurement with made-up scores: pixels have 80% and 90%, the net's features 95% and 97%."""
    means = {PIXELS: (0.8, 0.9), TRAINED: trained, UNTRAINED: (0.7, 0.85)}

    def interval(middle, half):
        return Interval(middle, middle - half, middle + half, draws)

    cells = []
    for representation, mean in means.items():
        for fraction, value, pixels in zip(fractions, mean, means[PIXELS], strict=False):
            half = 0.01 if seeds > 1 and fraction < 1 else float("nan")
            draws = seeds if fraction < 1 else 1
            for probe in SETTINGS:
                ahead = interval(100 * (value - pixels), 100 * half)
                cells.append(
                    probes.Cell(
                        representation,
                        probe,
                        fraction,
                        interval(value, half),
                        [value] * draws,
                        ahead,
                        [1.0] * draws,
                        short,
                    )
                )
    return features.Measurement(
        dataset=frame.DatasetFacts(
            "<b>own</b>", "classification", "class", {"train": 1000, "validation": 200, "test": 200}, ("a", "b"), (),
            (8, 8, 1), "", "", (),
        ),
        baseline=Baseline("the most frequent class", {"accuracy": 0.5}),
        net=net_features.Net(
            "net.safetensors", "convnet: Dense(10)", "own" if at_home else "mnist", at_home, 16,
            0.96 if at_home else None,
        ),
        split_seed=4, seeds=list(range(seeds)), settings=SETTINGS, cells=cells,
        fractions=[probes.Fraction(each, round(1000 * each)) for each in fractions],
    )  # fmt: skip


def words_of(measured):
    """All texts of a report."""
    report = features.report(None, features.Settings(), measured)
    texts = [report.title, report.question, report.answer, *report.facts["net"], *report.table.lines()]
    for section in report.sections:
        for block in section.blocks:
            texts += getattr(block, "items", []) or (block.lines() if hasattr(block, "lines") else [block.caption])
    return " ".join(" ".join(texts).split())


@pytest.mark.parametrize(
    ("how", "present", "absent"),
    [
        (
            {},
            [
                "with 10 training rows, the test accuracy with the net's features less that with pixels is +15.0 ± 1.0 "
                "points by a linear probe and +15.0 ± 1.0 points by nearest neighbours; with 1,000, +7.0 points (1 "
                "draw) and +7.0 points (1 draw)",
                "An untrained net's: −10.0 ± 1.0 and −10.0 ± 1.0; with 1,000, −5.0 (1 draw)",
                "Predicting the most frequent class: 50.00%.", "most frequent class — 50.00% 50.00%",
                "with the labels of all its training rows", "its features at 1% rest on more", "--split_seed, here 4",
                "95.0 ± 1.0%", "97.00%", "<b>own", "96.00%", "10 rows (1%)", "1,000 rows (100%)",
            ],
            ["stopped short", "clear", "lead"],
        ),
        ({"at_home": False}, ["it has seen no label of this one"], ["with the labels of all", "the net itself"]),
        ({"seeds": 1}, ["1 draw: no interval, no comparison", "+15.0 points (1 draw)"], ["±", "1 draws"]),
        ({"fractions": (1.0,)}, ["less that with pixels is +15.0 points (1 draw) by a"], ["rest on more"]),
        ({"trained": (0.805, 0.97)}, ["+0.5 ± 1.0 points (not clear) by a linear probe"], []),
        (
            {"trained": (0.5, 0.97)},
            ["Not clearly better than that: linear probe, trained net, 1%; nearest neighbours, trained net, 1%."], [],
        ),
        ({"short": 2}, ["24 of the chosen linear probes stopped short of the optimum."], []),
    ],
)  # fmt: skip
def test_the_report_in_words(how, present, absent):
    words = words_of(measured_of(**how))
    assert [text for text in present if text not in words] == []
    assert [text for text in absent if text in words] == []


def test_the_figure_has_a_line_for_each_representation_and_probe_and_a_log_axis(tmp_path):
    report = features.report(None, features.Settings(), measured_of())
    (drawing,) = report.sections[0].blocks
    texts = " ".join(drawn(drawing.figure, tmp_path / "figure.svg")[0])
    for label in ("pixels, linear", "trained, kNN", "untrained, kNN", "the net itself", "training rows, log scale"):
        assert label in texts
    assert "95.0 ± 1.0% on the net's features, 80.0 ± 1.0% on pixels" in texts
    (axes,) = drawing.figure.axes
    assert axes.get_xscale() == "log"
    styles = re.findall(
        r'<path d="M [^"]*L [^"]*"[^>]*style="([^"]*stroke-width: 1.6[^"]*)"', (tmp_path / "figure.svg").read_text()
    )
    assert len(set(styles)) == 7  # distinguishable by colour and dash, without markers
