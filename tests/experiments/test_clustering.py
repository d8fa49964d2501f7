"""Clusters end to end: records against scikit-learn and counting, k chosen without labels, pictures by their pixels."""

import dataclasses
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as peer
from sklearn.cluster import KMeans

from experiments import clustering as experiment
from experiments import colours
from experiments.workdir import Workdir
from mllab import devices
from mllab.data import catalog
from mllab.errors import UserError

ROOT = Path(__file__).parents[2]
BLOBS = catalog.load("blobs")
SEEDS = (0, 1, 2)
QUICK = {"restarts": 1, "device_count": 1}


def rows_of(part, data=BLOBS):
    return data.inputs[getattr(data.split, part)].reshape(-1, int(np.prod(data.inputs.shape[1:])))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A whole run on the blobs; its folder and summary."""
    workdir = Workdir(tmp_path_factory.mktemp("clustering") / "w", "clustering", "")
    return workdir.path, experiment.run(workdir, clusters=[2, 3, 4, 5], seeds=SEEDS, restarts=4, device_count=1)


def records(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_writes_its_whole_workdir_and_summary_and_records_agree(ran):
    path, summary = ran
    assert sorted(each.name for each in path.iterdir() if each.name != ".lock") == [
        "environment.json", "figures", "flags.cfg", "metrics.jsonl", "report.html", "summary.json",
    ]  # fmt: skip
    assert sorted(each.name for each in (path / "figures").iterdir()) == ["choice.svg", "classes.svg", "plane.svg"]
    written = json.loads((path / "summary.json").read_text())
    told = records(path)
    assert [(record["seed"], record["k"]) for record in told] == [(seed, k) for seed in SEEDS for k in (2, 3, 4, 5)]
    for fit in written["fits"]:
        mine = [record for record in told if record["k"] == fit["k"]]
        for score in ("silhouette", "v_measure", "adjusted_rand", "purity"):
            np.testing.assert_allclose(fit[score][0], np.mean([record[score] for record in mine]))
        np.testing.assert_allclose(fit["distance"]["training"][0], np.mean([record["training"] for record in mine]))
    best = max(written["fits"], key=lambda fit: fit["silhouette"][0])
    assert written["chosen"] == best["k"] == 4  # as many as were drawn
    assert sum(cluster["size"] for cluster in written["clusters"]) == len(BLOBS.split.test)
    assert summary["chosen"] == 4


@pytest.mark.parametrize("k", [3, 4])
def test_scores_are_those_of_scikit_learn(ran, k):
    path, _ = ran
    record = next(record for record in records(path) if (record["seed"], record["k"]) == (0, k))
    centres = KMeans(k, n_init=20, random_state=0).fit(rows_of("train"))  # both find the least inertia
    assert record["inertia"] == pytest.approx(centres.inertia_, rel=1e-3)
    labels, truth = centres.predict(rows_of("test")), BLOBS.targets[BLOBS.split.test]
    assert record["v_measure"] == pytest.approx(peer.v_measure_score(truth, labels), abs=0.02)
    assert record["adjusted_rand"] == pytest.approx(peer.adjusted_rand_score(truth, labels), abs=0.02)
    counts = peer.cluster.contingency_matrix(truth, labels)
    assert record["purity"] == pytest.approx(counts.max(axis=0).sum() / len(labels), abs=0.02)
    validation = rows_of("validation")
    silhouette = peer.silhouette_score(validation, centres.predict(validation))
    assert record["silhouette"] == pytest.approx(silhouette, abs=0.01)
    distances = centres.transform(validation).min(axis=1) ** 2
    assert record["validation"] == pytest.approx(distances.mean(), rel=0.01)


def test_what_is_shown_is_counted_from_the_labels():
    labels = {"test": np.repeat([0, 1, 2, 3], [10, 50, 20, 40]), "train": np.arange(360) % 4}
    found = experiment.Found(0, 4, 0.0, [], np.arange(8.0).reshape(4, 2), labels, {})
    shown = experiment.largest_first(found)
    for part in labels:  # a row is in the same cluster as before, whatever its number now
        np.testing.assert_array_equal(shown.centres[shown.labels[part]], found.centres[labels[part]])
    truth = BLOBS.targets[BLOBS.split.test]
    told = experiment.described(BLOBS, shown)
    assert [cluster["size"] for cluster in told] == [50, 40, 20, 10]
    for cluster, each in enumerate(told):
        shares = [np.mean(truth[shown.labels["test"] == cluster] == label) for label in range(4)]
        assert each["holds"] == {"class": str(np.argmax(shares)), "share": max(shares)}


def test_labels_have_no_say_in_what_is_chosen():
    wrong = dataclasses.replace(BLOBS, targets=np.random.default_rng(0).integers(0, 4, 600).astype(np.int32))
    told = [experiment.summarise(data, experiment.find(data, [3, 4], [0], 1), 0, 1) for data in (BLOBS, wrong)]
    (sound, found), (blind, other) = told
    assert sound["chosen"] == blind["chosen"]
    np.testing.assert_array_equal(found.centres, other.centres)  # the same bits, too
    assert blind["fits"][1]["v_measure"][0] < 0.2 < sound["fits"][1]["v_measure"][0]


def test_rows_that_all_fall_into_one_cluster_are_not_told_apart():
    labels = {"validation": np.zeros(len(BLOBS.split.validation), int), "test": np.zeros(len(BLOBS.split.test), int)}
    scores = experiment.scored(BLOBS, rows_of("validation"), labels)
    assert (scores["silhouette"], scores["v_measure"], scores["purity"]) == (0, 0, 0.25)


def test_rows_without_classes_are_clustered_too(tmp_path):
    summary = experiment.run(Workdir(tmp_path, "clustering", ""), dataset="line", clusters=[2], seeds=[0], **QUICK)
    assert "v_measure" not in summary["fits"][0]
    assert [cluster["holds"] for cluster in summary["clusters"]] == [None, None]
    assert not (tmp_path / "figures" / "classes.svg").exists()
    assert "V-measure" not in (tmp_path / "report.html").read_text()


def test_images_show_their_centres(tmp_path):
    experiment.run(Workdir(tmp_path, "clustering", ""), dataset="digits", clusters=[10], seeds=[0], **QUICK)
    assert (tmp_path / "figures" / "centres.svg").read_text().count("<image") == 10


def test_news_stories_fall_into_topics_with_their_words(tmp_path, data_dir):
    if not (data_dir / "newsgroups20").is_dir():
        pytest.skip(f"no real data set at {data_dir / 'newsgroups20'}")
    summary = experiment.run(
        Workdir(tmp_path, "clustering", ""), dataset="newsgroups20", data_dir=str(data_dir), seeds=[0], **QUICK
    )
    assert summary["dataset"]["rows"] == {"train": 9428, "validation": 1886, "test": 7532}
    assert summary["given"]
    assert summary["chosen"] == 20
    assert summary["fits"][0]["v_measure"][0] > 0.25  # by chance it is 0.02
    of_space = [cluster for cluster in summary["clusters"] if "orbit" in cluster["terms"]]
    assert [cluster["holds"]["class"] for cluster in of_space] == ["sci.space"]
    assert "nasa" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("2:5", [2, 3, 4, 5]), ("7", [7]), ("8,2,4", [2, 4, 8]), ("3:3", [3])],
)
def test_numbers_of_clusters(text, numbers):
    assert experiment.parse_clusters(text) == numbers


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "give LOW:HIGH"), ("a", "give LOW:HIGH"), ("2:3:4", "give LOW:HIGH"), ("1:4", "2 clusters or more"),
        ("5:2", "LOW must not exceed HIGH"), ("2,2", "each number once"), ("-3", "give LOW:HIGH"), ("2.5", "give LOW"),
    ],
)  # fmt: skip
def test_other_numbers_of_clusters_are_refused(text, says):
    with pytest.raises(UserError, match=says):
        experiment.parse_clusters(text)


# ── Colours ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def three_colours(path, size=(12, 20)):
    """The path of a picture of three colours with little noise."""
    draw = np.random.default_rng(0)
    base = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])[draw.integers(0, 3, size)]
    Image.fromarray((base + draw.integers(-3, 4, base.shape)).astype(np.uint8)).save(path)
    return path


def test_a_picture_is_reduced_to_the_colours_that_it_has(tmp_path):
    path = three_colours(tmp_path / "flag.png")
    workdir = Workdir(tmp_path / "w", "clustering", "")
    summary = colours.run(workdir, str(path), [2, 3], seeds=[1], **QUICK)
    original = np.asarray(Image.open(path), float)
    for fit in summary["fits"]:
        reduced = np.asarray(Image.open(workdir.path / fit["file"]).convert("RGB"), float)
        assert reduced.shape == original.shape
        assert len(np.unique(reduced.reshape(-1, 3), axis=0)) == fit["k"]
        error = np.sqrt(np.mean((reduced - original) ** 2))
        assert fit["error"][0] == pytest.approx(error, abs=0.2)  # the file's colours are whole numbers
    assert summary["fits"][1]["error"][0] < 3 < 30 < summary["fits"][0]["error"][0]
    assert [record["k"] for record in records(workdir.path)] == [2, 3]
    assert (workdir.path / "report.html").is_file()


def test_more_colours_than_a_palette_holds_are_kept():
    labels = np.arange(300).reshape(15, 20)
    many = colours.Quantised(0, 300, np.random.default_rng(0).random((300, 3)), labels, 0.0)
    shown = np.asarray(Image.open(io.BytesIO(colours.encoded(many))).convert("RGB"))
    np.testing.assert_array_equal(shown, np.round(255 * many.colours[labels]))


def test_the_picture_that_scikit_learn_carries_is_read_as_it_reads_it():
    from sklearn.datasets import load_sample_image

    pixels = colours.read(colours.locate("china"))
    np.testing.assert_allclose(255 * pixels, load_sample_image("china.jpg"), atol=1e-4)


def test_grey_pictures_and_few_colours(tmp_path):
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "grey.png")
    assert colours.read(tmp_path / "grey.png").shape == (8, 8, 3)
    with pytest.raises(UserError, match=r"65 colours of the 64 that .*grey.png has"):
        colours.run(Workdir(tmp_path / "w", "clustering", ""), str(tmp_path / "grey.png"), [2, 65])
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (lambda w: experiment.run(w, dataset="blbs"), "did you mean 'blobs'"),
        (lambda w: experiment.run(w, clusters=[2, 121]), "--clusters: 121 clusters of 120 rows: give fewer"),
        (lambda w: colours.run(w, "chna"), "did you mean 'china'"),
        (lambda w: colours.run(w, "absent/photo.jpg"), "--image=absent/photo.jpg: no such file"),
        (lambda w: colours.run(w, __file__), "is not a readable image"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line_and_leaves_nothing(tmp_path, run, says):
    with pytest.raises(UserError) as caught:
        run(Workdir(tmp_path / "w", "clustering", ""))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "w").exists()


def test_the_program_ends_a_mistake_without_a_traceback(tmp_path):
    flags = ["--image=china", "--dataset=blobs", f"--workdir={tmp_path / 'w'}"]
    command = [sys.executable, "-m", "experiments.clustering", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "error: --image=china --dataset=blobs: give one of them"
    assert not (tmp_path / "w").exists()


def test_spread_over_devices_the_clusters_are_the_same():
    alone, spread = (experiment.find(BLOBS, [3, 4], [0], 1, mesh)[1] for mesh in (None, devices.mesh(2)))
    assert spread.inertia == pytest.approx(alone.inertia, rel=1e-4)
