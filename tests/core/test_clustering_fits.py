"""Clusters for several seeds and k: their scores, intervals and devices; see also experiments/test_clustering.py."""

import numpy as np
import pytest

from mllab import clustering, devices
from mllab.clustering import Clusters
from mllab.data import catalog

BLOBS = catalog.load("blobs")
POINTS = {part: BLOBS.inputs[ids] for part, ids in vars(BLOBS.split).items()}
CLASSES = BLOBS.targets[BLOBS.split.test]


def test_rows_in_a_single_cluster_have_a_silhouette_of_0():
    assert clustering.silhouette(POINTS["validation"], np.zeros(len(POINTS["validation"]), int)) == 0


@pytest.mark.slow
def test_spread_over_devices_the_clusters_are_the_same():
    alone, spread = (list(clustering.fit(POINTS, CLASSES, [3, 4], [0], 1, mesh))[1] for mesh in (None, devices.mesh(2)))
    assert spread.inertia == pytest.approx(alone.inertia, rel=1e-4)


@pytest.mark.slow
def test_without_classes_there_is_no_agreement():
    (one,) = clustering.fit(POINTS, None, [2], [0], 1)
    assert list(one.scores) == ["training", "validation", "silhouette"]
    fit = clustering.over_seeds([one], 2)
    assert (fit.silhouette.mean, fit.purity) == (one.scores["silhouette"], None)


def test_intervals_are_over_the_seeds_of_one_k():
    scores = [{"training": 1.0 + seed, "validation": 2.0, "silhouette": 0.5 * seed} for seed in range(3)]
    clusters = [Clusters(seed, k, 0.0, [], scores[seed], np.zeros((k, 2)), {}) for seed in range(3) for k in (2, 3)]
    fit = clustering.over_seeds(clusters, 3)
    assert (fit.k, fit.distance["training"].mean, fit.distance["validation"].mean) == (3, 2.0, 2.0)
    assert (fit.silhouette.mean, fit.silhouette.seeds) == (0.5, 3)
