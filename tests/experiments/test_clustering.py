"""Clustering end to end: records against scikit-learn and by counting, k chosen without classes, quantized images."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as peer
from sklearn.cluster import KMeans

from experiments import cluster_results, color_quantization
from experiments import clustering as experiment
from mllab import clustering
from mllab.clustering import AGREEMENT, Clusters
from mllab.data import catalog
from mllab.errors import UserError
from mllab.metrics import Interval, Ranking, interval
from support.mistakes import refused_in_one_line
from support.workdirs import ROOT, records_of

BLOBS = catalog.load("blobs")
KS = (2, 3, 4, 5)
QUICK = {"restarts": 1, "seeds": 1, "devices": 1}


def rows_of(part, data=BLOBS):
    return data.inputs[getattr(data.split, part)].reshape(-1, int(np.prod(data.inputs.shape[1:])))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the blobs; its folder and measurement."""
    path = tmp_path_factory.mktemp("clustering") / "w"
    return path, experiment.run(workdir=str(path), clusters=KS, seeds=3, restarts=4, devices=1)


@pytest.mark.slow
def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, measured = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert sorted(each.name for each in (path / "figures").iterdir()) == ["choice.svg", "classes.svg", "plane.svg"]
    written = json.loads((path / "summary.json").read_text())
    lines = records_of(path)
    assert [(record["seed"], record["k"]) for record in lines] == [(seed, k) for seed in range(3) for k in KS]
    for fit in written["fits"]:
        of_k = [record for record in lines if record["k"] == fit["k"]]
        for score in ("silhouette", *AGREEMENT):
            np.testing.assert_allclose(fit[score][0], np.mean([record[score] for record in of_k]))
        for part in ("training", "validation"):
            np.testing.assert_allclose(fit["distance"][part][0], np.mean([record[part] for record in of_k]))
    best = max(written["fits"], key=lambda fit: fit["silhouette"][0])
    assert written["chosen"] == best["k"] == measured.chosen == 4  # the number of blobs
    assert sum(cluster["size"] for cluster in written["clusters"]) == len(BLOBS.split.test)
    least = min((record for record in lines if record["k"] == 4), key=lambda record: record["inertia"])
    assert written["shown_seed"] == least["seed"]


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 4])
def test_scores_are_those_of_scikit_learn(ran, k):
    path, _ = ran
    record = next(record for record in records_of(path) if (record["seed"], record["k"]) == (0, k))
    centres = KMeans(k, n_init=20, random_state=0).fit(rows_of("train"))  # both find the least inertia
    assert record["inertia"] == pytest.approx(centres.inertia_, rel=1e-3)
    labels, classes = centres.predict(rows_of("test")), BLOBS.targets[BLOBS.split.test]
    assert record["v_measure"] == pytest.approx(peer.v_measure_score(classes, labels), abs=0.02)
    assert record["adjusted_rand"] == pytest.approx(peer.adjusted_rand_score(classes, labels), abs=0.02)
    counts = peer.cluster.contingency_matrix(classes, labels)
    assert record["purity"] == pytest.approx(counts.max(axis=0).sum() / len(labels), abs=0.02)
    validation = rows_of("validation")
    silhouette = peer.silhouette_score(validation, centres.predict(validation))
    assert record["silhouette"] == pytest.approx(silhouette, abs=0.01)
    distances = centres.transform(validation).min(axis=1) ** 2
    assert record["validation"] == pytest.approx(distances.mean(), rel=0.01)


def test_clusters_are_described_by_their_test_rows_the_largest_first():
    labels = {"test": np.repeat([0, 1, 2, 3], [10, 50, 20, 40]), "train": np.arange(360) % 4}
    drawn = Clusters(0, 4, 0.0, [], {}, np.arange(8.0).reshape(4, 2), labels)
    shown = drawn.largest_first()
    for part in labels:  # a row is in the same cluster as before, with another number
        np.testing.assert_array_equal(shown.centres[shown.labels[part]], drawn.centres[labels[part]])
    classes = BLOBS.targets[BLOBS.split.test]
    clusters = cluster_results.describe(BLOBS, shown)
    assert [cluster.size for cluster in clusters] == [50, 40, 20, 10]
    for cluster, described in enumerate(clusters):
        rows = [np.sum((shown.labels["test"] == cluster) & (classes == label)) for label in range(4)]
        np.testing.assert_array_equal(described.counts, rows)
        assert described.holds == {"class": str(np.argmax(rows)), "share": max(rows) / sum(rows)}


def test_a_cluster_without_test_rows_has_no_class():
    labels = {"test": np.zeros(len(BLOBS.split.test), int), "train": np.zeros(360, int)}
    clusters = cluster_results.describe(BLOBS, Clusters(0, 2, 0.0, [], {}, np.zeros((2, 2)), labels))
    assert [(cluster.size, cluster.holds is None) for cluster in clusters] == [(120, False), (0, True)]


@pytest.mark.slow
def test_classes_play_no_part_in_the_choice(tmp_path, monkeypatch):
    wrong = dataclasses.replace(BLOBS, targets=np.random.default_rng(0).integers(0, 4, 600).astype(np.int32))
    measured = []
    for name, data in {"right": BLOBS, "wrong": wrong}.items():
        monkeypatch.setattr(catalog, "load", lambda *_, data=data, **__: data)
        measured.append(experiment.run(workdir=str(tmp_path / name), clusters=(3, 4), **QUICK))
    right, blind = measured
    assert right.chosen == blind.chosen
    assert [fit.silhouette.mean for fit in right.fits] == [fit.silhouette.mean for fit in blind.fits]
    np.testing.assert_array_equal(right.shown.centres, blind.shown.centres)  # the same bits, too
    assert blind.fits[1].v_measure.mean < 0.2 < right.fits[1].v_measure.mean


@pytest.mark.slow
def test_rows_without_classes_are_clustered_too(tmp_path, capsys):
    measured = experiment.run(workdir=str(tmp_path), dataset="line", clusters=(2,), **QUICK)
    assert (measured.fits[0].v_measure, measured.clusters[0].holds) == (None, None)
    assert not (tmp_path / "figures" / "classes.svg").exists()
    shown = capsys.readouterr().out
    for text in ((tmp_path / "report.html").read_text(), shown):
        assert "V-measure" not in text
        assert "most frequent" not in text
    assert "The mean silhouette of 2 clusters is" in shown
    assert "1 seed: no interval" in " ".join(shown.split())


@pytest.mark.slow
def test_a_table_without_a_target_is_clustered_by_all_of_its_columns(tmp_path, capsys):
    rows = "".join(f"{i % 3 * 9 + i % 7},{i % 5},{'abc'[i % 3]}\n" for i in range(60))
    (tmp_path / "table.csv").write_text(f"x,y,kind\n{rows}")
    measured = experiment.run(workdir=str(tmp_path / "w"), dataset=str(tmp_path / "table.csv"), clusters=(3,), **QUICK)
    facts, (fit,) = measured.dataset, measured.fits
    assert (facts.task, facts.target, facts.classes, fit.v_measure) == ("", "", (), None)
    assert facts.features == ("x", "y", "kind=a", "kind=b", "kind=c")
    assert "table.csv: no target, 5 columns" in (tmp_path / "w" / "report.html").read_text()
    assert "V-measure" not in capsys.readouterr().out


@pytest.mark.slow
def test_images_show_their_centres(tmp_path):
    experiment.run(workdir=str(tmp_path), dataset="digits", clusters=(10,), **QUICK)
    assert (tmp_path / "figures" / "centres.svg").read_text().count("<image") == 10


@pytest.mark.slow
def test_news_stories_form_topics_with_their_words(tmp_path, data_dir):
    if not (data_dir / "newsgroups20").is_dir():
        pytest.skip(f"no real data set at {data_dir / 'newsgroups20'}")
    measured = experiment.run(workdir=str(tmp_path), dataset="newsgroups20", data_dir=str(data_dir), **QUICK)
    assert measured.dataset.rows == {"train": 9428, "validation": 1886, "test": 7532}
    assert [fit.k for fit in measured.fits] == [measured.chosen] == [20]
    assert measured.fits[0].v_measure.mean > 0.25  # by chance it is 0.02
    of_space = [cluster for cluster in measured.clusters if "orbit" in cluster.terms]
    assert [cluster.holds["class"] for cluster in of_space] == ["sci.space"]
    assert "nasa" in (tmp_path / "report.html").read_text()


def reported(measured, **settings):
    """The report of a measurement, and the texts of its bullets."""
    report = experiment.report(None, experiment.Settings.make(settings), measured)
    (bullets,) = (section.blocks[0].items for section in report.sections if section.heading == "How to read it")
    return report, bullets


@pytest.mark.slow
def test_the_report_gives_the_choice_and_marks_it(ran):
    _, measured = ran
    fits = [
        dataclasses.replace(
            fit, silhouette=Interval(0.6, 0.59, 0.61, 3) if fit.k == 4 else Interval(0.4, 0.39, 0.41, 3)
        )
        for fit in measured.fits
    ]
    report, bullets = reported(dataclasses.replace(measured, fits=fits))
    expected = (
        "Of 2 to 5 clusters, 4 have the greatest mean silhouette: 0.600 ± 0.010 (3 seeds) on validation rows; random "
        "clusters of the same sizes: "
    )
    assert report.answer.startswith(expected)
    assert "Against the 4 classes" in report.answer
    assert "no better" not in report.answer
    assert "Tied" not in report.answer
    assert report.table.rows[-1][0] == "4 (random)"
    assert "V-measure" in report.answer
    assert [line.split()[1] for line in report.table.lines() if line.startswith("* ")] == ["4"]
    assert any("without the classes" in bullet for bullet in bullets)
    assert report.sections[0].heading == "How many clusters"
    assert report.sections[0].blocks


@pytest.mark.slow
@pytest.mark.parametrize(
    ("standing", "beats", "present", "absent", "marked"),
    [
        (Ranking([4, 3, 5, 2], [3, 4], 3), True, ["Tied with them, on the same seeds: 3 "], ["better"], {1, 2}),
        (Ranking([4, 3, 5, 2], [2, 3, 4, 5], 1), True, ["1 seed: no comparison."], ["Tied"], {2}),
        (Ranking([4, 3, 5, 2], [4], 3), False, ["with the classes is not clearly better than"], ["Tied"], {2}),
    ],
)  # fmt: skip
def test_the_answer_names_ties_and_chance(ran, standing, beats, present, absent, marked):
    report, _ = reported(dataclasses.replace(ran[1], standing=standing, beats_baseline=beats))
    assert [part for part in present if part not in report.answer] == []
    assert [part for part in absent if part in report.answer] == []
    assert report.table.marked == marked


def test_random_classes_do_not_beat_random_clusters():
    """Clusters that are the blobs agree with their classes far better than by chance, and with noise as by chance."""
    draw = np.random.default_rng(0)
    labels = {part: BLOBS.targets[getattr(BLOBS.split, part)] for part in ("train", "validation", "test")}
    clusters, points = Clusters(0, 4, 0.0, [], {}, np.zeros((4, 2)), labels), rows_of("validation")
    for truth, expected in ((labels["test"], True), (draw.permutation(labels["test"]), False)):
        chance = clustering.by_chance(clusters, points, truth)
        assert (peer.adjusted_rand_score(truth, labels["test"]) > chance.high) == expected
        assert abs(chance.scores["adjusted_rand"]) < 0.02
        assert chance.scores["silhouette"] < 0.05
    assert set(clustering.by_chance(clusters, points, None).scores) == {"silhouette"}


@pytest.mark.slow
def test_with_one_k_there_is_no_choice(ran):
    _, measured = ran
    standing = Ranking([4], [4], 1)
    one = dataclasses.replace(measured, fits=[measured.fits[2]], standing=standing)
    report, bullets = reported(one, clusters=(4,), seeds=1)
    assert "(1 seed)" in report.answer
    assert "comparison" not in report.answer + report.table.caption
    assert not any(line.startswith("* ") for line in report.table.lines())
    assert any("only one k" in bullet for bullet in bullets)
    assert not report.sections[0].blocks


@pytest.mark.parametrize(("text", "numbers"), [("2:5", (2, 3, 4, 5)), ("7", (7,)), ("8,2,4", (2, 4, 8)), ("3:3", (3,))])
def test_numbers_of_clusters(text, numbers):
    assert experiment.Settings.make({"clusters": text}).clusters == numbers


@pytest.mark.parametrize("text", ["", "a", "2:3:4", "1:4", "5:2", "2,2", "-3", "2.5"])
def test_other_numbers_of_clusters_are_refused(text):
    with pytest.raises(UserError, match=r"--clusters=.*give LOW:HIGH, such as 2:10, or whole numbers of 2 or more"):
        experiment.Settings.make({"clusters": text})


# ── Colours ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def three_colours(path, size=(12, 20)):
    """The path of an image of three colours with little noise."""
    draw = np.random.default_rng(0)
    base = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])[draw.integers(0, 3, size)]
    Image.fromarray((base + draw.integers(-3, 4, base.shape)).astype(np.uint8)).save(path)
    return path


@pytest.mark.slow
def test_an_image_is_reduced_to_the_colours_that_it_has(tmp_path, capsys):
    path, workdir = three_colours(tmp_path / "flag.png"), tmp_path / "w"
    measured = experiment.run(workdir=str(workdir), image=str(path), clusters=(2, 3), seeds=2, restarts=1, devices=1)
    original, lines = np.asarray(Image.open(path), float), records_of(workdir)
    for fit in measured.fits:
        reduced = np.asarray(Image.open(workdir / fit.file).convert("RGB"), float)
        assert reduced.shape == original.shape
        assert len(np.unique(reduced.reshape(-1, 3), axis=0)) == fit.k
        error = np.sqrt(np.mean((reduced - original) ** 2))
        least = min(record["error"] for record in lines if record["k"] == fit.k)
        assert least == pytest.approx(error, abs=0.2)  # the file's colours are whole numbers
    assert measured.fits[1].error.mean < 3 < 30 < measured.fits[0].error.mean
    assert [(record["seed"], record["k"]) for record in lines] == [(0, 2), (0, 3), (1, 2), (1, 3)]
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["image"]["colours"] == measured.image.colours == len(np.unique(original.reshape(-1, 3), axis=0))
    for fit, written in zip(measured.fits, summary["fits"], strict=True):
        np.testing.assert_allclose(written["error"][0], np.mean([r["error"] for r in lines if r["k"] == fit.k]))
    assert sorted(each.name for each in (workdir / "figures").iterdir()) == ["error.svg", "pictures.svg"]
    assert "± 95% interval over 2 seeds, each with its sample of pixels and its starts" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.slow
def test_one_number_of_colours_has_no_curve_and_one_seed_no_interval(tmp_path, capsys):
    path, workdir = three_colours(tmp_path / "flag.png"), tmp_path / "w"
    experiment.run(workdir=str(workdir), image=str(path), clusters=(2,), **QUICK)
    assert [each.name for each in (workdir / "figures").iterdir()] == ["pictures.svg"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 seed: no interval" in shown
    assert "(1 seed)" in shown
    assert shown.count("with 2 colours") == 1


def test_a_quantized_image_stands_above_its_colours_by_share():
    labels, colours = np.zeros((40, 60), int), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    labels[10:] = 1  # a quarter of it is red
    image = color_quantization.with_strip(colours, labels)
    np.testing.assert_array_equal(image[:40], colours[labels])
    np.testing.assert_array_equal(image[40], 1)
    np.testing.assert_array_equal(image[-1, :45], 0)  # the dark colour comes first
    np.testing.assert_array_equal(image[-1, 45:], np.tile(colours[0], (15, 1)))


@pytest.mark.parametrize("steps", [255, 65_535, 7], ids=["8 bits", "16 bits", "other values"])
def test_the_distinct_colours_are_those_of_numpy(steps):
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, min(steps, 9) + 1, (30, 40, 3)) * (steps // min(steps, 9)) / steps).astype(np.float32)
    colours, index, counts = color_quantization.distinct_colours(pixels)
    expected, expected_counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    np.testing.assert_array_equal(colours, expected)
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(colours[index].reshape(pixels.shape), pixels)


def test_large_images_are_drawn_by_a_part_of_their_pixels():
    labels = np.zeros((1000, 1500), np.uint8)
    fit = color_quantization.Fit(2, interval(np.ones(2)), "a.png", np.eye(2, 3), labels)
    image = color_quantization.Original("a", "a", *labels.shape, 3)
    measured = color_quantization.Measurement(image, 10, 9.0, [fit], np.zeros((500, 750, 3), np.float32))
    (drawing,) = color_quantization.drawings(measured, "a", 1)
    assert max(max(each.get_array().shape[:2]) for axes in drawing.figure.axes for each in axes.images) < 800


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_photograph_takes_little_memory(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 64, (1500, 4000, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png", compress_level=1)
    program = (
        "from experiments import clustering;"
        "fewest = {'clusters': (3,), 'restarts': 1, 'seeds': 1};"
        f"clustering.run(image={str(tmp_path / 'photo.png')!r}, workdir={str(tmp_path / 'w')!r}, **fewest);"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"  # ru_maxrss counts the parent's
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (
        int(done.stdout.splitlines()[-1]) < 1.3e6
    )  # kilobytes; 1.5 million of them are 72 MB as float32 in each of several arrays


def test_grey_images_have_as_many_colours_as_levels(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "grey.png")
    with pytest.raises(UserError, match=r"65 colours of the 64 that .*grey.png has"):
        experiment.run(workdir=str(tmp_path / "w"), image=str(tmp_path / "grey.png"), clusters=(2, 65))
    assert not (tmp_path / "w").exists()


# ── Mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dataset": "blbs"}, "did you mean 'blobs'"),
        ({"clusters": (2, 121)}, "--clusters: 121 clusters of 120 rows: give fewer"),
        ({"image": "chna"}, "did you mean 'china'"),
        ({"image": "absent/photo.jpg"}, "--image=absent/photo.jpg: no such file"),
        ({"image": __file__}, "is not a readable image"),
        ({"image": "china", "dataset": "blobs"}, "--image=china --dataset=blobs: give one of them"),
        ({"image": "china", "target": "a"}, "--target=a: of a table, and --image names an image"),
    ],
)
def test_a_mistake_is_refused_in_one_line_and_leaves_nothing(tmp_path, settings, message):
    with refused_in_one_line(re.escape(message)):
        experiment.run(workdir=str(tmp_path / "w"), **settings)
    assert not (tmp_path / "w").exists()
