"""K-means against scikit-learn and Lloyd's algorithm in NumPy, with ties, duplicates, weights and distant points."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from mllab import devices, learners, sweep, validation
from mllab.errors import UserError
from mllab.models import kmeans
from mllab.models.kmeans import lloyd
from mllab.types import Rows

KEY = jax.random.key(0)


def blobs(seed, rows=90, features=3, count=4, apart=4.0):
    rng = np.random.default_rng(seed)
    points = (
        rng.standard_normal((rows, features)) + apart * rng.standard_normal((count, features))[np.arange(rows) % count]
    )
    return points.astype(np.float32), rng


def squares(points, centres):
    return ((np.asarray(points, float)[:, None] - np.asarray(centres, float)[None]) ** 2).sum(2)


def inertia(points, centres, weight=None):
    return float(np.sum(squares(points, centres).min(1) * (1 if weight is None else weight)))


def lloyds_step(points, centres, weight):
    """One step in float64; the first empty cluster moves to the farthest point."""
    distances = squares(points, centres)
    labels, new = distances.argmin(1), np.array(centres, float)
    empty = []
    for k in range(len(centres)):
        member = labels == k
        if weight[member].sum() > 0:
            new[k] = np.average(points[member], axis=0, weights=weight[member])
        else:
            empty.append(k)
    nearest = np.where(weight > 0, distances.min(1), 0)
    if empty and nearest.max() > 0:
        new[empty[0]] = points[nearest.argmax()]
    return new, labels


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.sampled_from([1, 7]), lost=st.booleans(), absent=st.booleans())
def test_a_step_matches_lloyds_algorithm_in_numpy(seed, count, lost, absent):
    points, rng = blobs(seed)
    weight = (rng.random(90) * (rng.random(90) > 0.3 * absent)).astype(np.float32)
    centres = points[rng.choice(90, 7, replace=False)][:count]
    if lost and count > 1:
        centres[rng.integers(1, count)] += 1e3  # no point is near
    moved, labels, value = kmeans.step(points, centres, weight)
    expected, expected_labels = lloyds_step(points, centres, weight)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value, inertia(points, centres, weight), rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1, 3, 1000]),  # 1: nearly every point has a duplicate
    start=st.sampled_from(["points", "one point", "far away"]),
)
def test_inertia_never_increases(seed, spread, start):
    rng = np.random.default_rng(seed)
    points = rng.integers(-spread, spread + 1, (60, 2)).astype(np.float32)
    centres = {
        "points": points[:6],
        "one point": np.repeat(points[:1], 6, axis=0),
        "far away": points[:6] + 100 * spread,
    }
    now = jnp.asarray(centres[start])
    values = []
    for _ in range(12):
        now, _, value = kmeans.step(points, now)
        values.append(float(value))
    assert all(after <= before * (1 + 1e-5) + 1e-4 for before, after in pairwise(values))


@pytest.mark.parametrize("tolerance", [0.0, 1e-4, 0.05])
@pytest.mark.parametrize("offset", [0.0, 1e4])
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_a_fit_matches_scikit_learn_from_the_same_start(seed, tolerance, offset):
    points, rng = blobs(seed)
    points = (points + np.float32(offset)).astype(np.float32)
    start = points[rng.choice(90, 5, replace=False)]
    params = kmeans.fit(KEY, points, 5, start=start, tolerance=tolerance, steps=60)
    peer = KMeans(5, init=start.astype(float), n_init=1, tol=tolerance, max_iter=60).fit(points.astype(float))
    # For a point almost equally near to two centres, rounding may lead to another local minimum.
    if (np.asarray(params.labels) == peer.labels_).all():
        np.testing.assert_allclose(params.centres, peer.cluster_centers_, rtol=1e-6, atol=1e-4)
        np.testing.assert_allclose(params.inertia, peer.inertia_, rtol=1e-4 if offset else 1e-5)
        assert abs(int(params.steps[0]) - peer.n_iter_) <= 1
    else:
        assert offset
    np.testing.assert_allclose(params.inertia, inertia(points, params.centres), rtol=1e-5)


@pytest.fixture(scope="module")
def digits():
    return load_digits().data.astype(np.float32)


@pytest.mark.slow
def test_restarts_equal_single_fits_and_the_best_matches_scikit_learn(digits):
    keys = jax.random.split(KEY, 6)
    starts = jnp.stack([kmeans.plus_plus(key, digits, 10) for key in keys])
    params = kmeans.fit(KEY, digits, 10, restarts=6)
    peers = [KMeans(10, init=start, n_init=1).fit(digits).inertia_ for start in np.asarray(starts)]
    np.testing.assert_allclose(params.inertias, peers, rtol=5e-3)  # integer pixels: there are ties
    assert np.mean(np.isclose(params.inertias, peers, rtol=1e-5)) >= 0.5
    assert params.inertia == params.inertias.min()
    from_starts = kmeans.fit(KEY, digits, 10, start=starts)
    np.testing.assert_allclose(from_starts.inertias, params.inertias, rtol=5e-3)
    np.testing.assert_allclose(params.inertia, inertia(digits, params.centres), rtol=1e-6)


@pytest.mark.slow
def test_starts_are_drawn_in_proportion_to_squared_distance_and_weight():
    points = np.float32([[0, 0], [1, 0], [0, 3], [9, 9]])
    weight = np.float32([2, 1, 1, 0])
    draws = np.asarray(jax.vmap(lambda key: kmeans.plus_plus(key, points, 1, weight))(jax.random.split(KEY, 4000)))[
        :, 0
    ]
    shares = [(draws == point).all(1).mean() for point in points]
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25, 0], atol=0.03)

    first = points[0]
    pairs = np.asarray(jax.vmap(lambda key: kmeans.plus_plus(key, points, 2, weight))(jax.random.split(KEY, 4000)))
    after = pairs[(pairs[:, 0] == first).all(1), 1]
    # Two candidates, drawn with masses 1 and 9 (times weight): the third point is kept if it is one of them.
    np.testing.assert_allclose((after == points[2]).all(1).mean(), 1 - 0.1**2, atol=0.02)
    assert not (pairs == points[3]).all(2).any()


@pytest.mark.slow
def test_starts_are_as_good_as_scikit_learns(digits):
    ours = [inertia(digits, kmeans.plus_plus(key, digits, 10)) for key in jax.random.split(KEY, 12)]
    theirs = [KMeans(10, n_init=1, max_iter=1, tol=1e9, random_state=seed).fit(digits) for seed in range(12)]
    # scikit-learn's are measured after one step; a uniform start would be far worse even so.
    one_step = [
        float(kmeans.step(digits, kmeans.step(digits, kmeans.plus_plus(key, digits, 10))[0])[2])
        for key in jax.random.split(KEY, 12)
    ]
    assert np.mean(one_step) < 1.03 * np.mean([each.inertia_ for each in theirs])
    assert np.mean(ours) < 1.6 * np.mean([each.inertia_ for each in theirs])


@pytest.mark.slow
def test_every_k_of_a_sweep_equals_a_fit_and_inertia_falls_with_k(digits):
    points = digits[:500]
    swept = kmeans.sweep(KEY, points, [1, 4, 9], restarts=3)
    assert swept.centres.shape == (3, 9, 64)
    for place, k in enumerate([1, 4, 9]):
        alone = kmeans.fit(KEY, points, k, restarts=3, most=9)
        np.testing.assert_allclose(swept.inertias[place], alone.inertias, rtol=1e-3)
        np.testing.assert_array_equal(swept.centres[place, k:], 0)
        assert len(np.unique(swept.labels[place])) == k
        np.testing.assert_allclose(swept.inertia[place], inertia(points, swept.centres[place, :k]), rtol=1e-5)
    np.testing.assert_allclose(swept.inertia[0], points.var(0).sum() * 500, rtol=1e-5)
    assert (np.diff(swept.inertia) < 0).all()
    labels, distances = kmeans.assign(swept, points)
    np.testing.assert_array_equal(labels, swept.labels)
    np.testing.assert_allclose(distances.sum(1), swept.inertia, rtol=1e-5)
    one = jax.tree.map(lambda array: array[1], swept)
    np.testing.assert_array_equal(kmeans.assign(one, points)[0], swept.labels[1])


@pytest.mark.slow
def test_weights_act_as_copies_and_points_of_weight_0_are_ignored():
    points, rng = blobs(3)
    times = rng.integers(0, 4, 90)
    start = points[times > 0][:5]
    weighted = kmeans.fit(KEY, points, 5, start=start, weight=times)
    copied = kmeans.fit(KEY, np.repeat(points, times, axis=0), 5, start=start)
    np.testing.assert_allclose(weighted.centres, copied.centres, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weighted.inertia, copied.inertia, rtol=1e-5)
    np.testing.assert_array_equal(np.repeat(weighted.labels, times), copied.labels)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), exponent=st.integers(-12, 12), shift=st.integers(-500, 500))
def test_results_follow_permutation_scaling_and_translation_of_the_points(seed, exponent, shift):
    points, rng = blobs(seed, apart=20.0)
    points = np.round(points * 64) / 64  # shifted exactly
    order, start = rng.permutation(90), points[:4]
    plain = kmeans.fit(KEY, points, 4, start=start)
    permuted = kmeans.fit(KEY, points[order], 4, start=start)
    np.testing.assert_array_equal(permuted.labels, np.asarray(plain.labels)[order])
    scale = 2.0**exponent
    scaled = kmeans.fit(KEY, points * scale, 4, start=start * scale)
    np.testing.assert_array_equal(scaled.labels, plain.labels)
    np.testing.assert_allclose(scaled.inertia, plain.inertia * scale**2, rtol=1e-5)
    moved = kmeans.fit(KEY, points + shift, 4, start=start + shift)
    np.testing.assert_array_equal(moved.labels, plain.labels)
    np.testing.assert_allclose(moved.centres, plain.centres + shift, atol=1e-3)


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.slow
def test_points_may_be_split_over_devices(digits, count):
    points = digits[:501]
    over = partial(sweep.over_points, mesh=devices.mesh(count), out_axes=kmeans.POINT_AXES)
    alone, split = (
        kmeans.fit(KEY, points, 6, restarts=3),
        over(partial(kmeans.fit, count=6, restarts=3))(points, key=KEY),
    )
    assert split.labels.shape == (501,)
    np.testing.assert_allclose(split.inertias, alone.inertias, rtol=1e-2)
    np.testing.assert_allclose(split.inertia, inertia(points, split.centres), rtol=1e-5)
    lost = np.concatenate([points[:5], points[:1] + 1e3])
    alone = kmeans.fit(KEY, points, 6, start=lost, steps=1)
    split = over(partial(kmeans.fit, count=6, steps=1))(points, key=KEY, start=lost)
    np.testing.assert_allclose(split.centres, alone.centres, atol=1e-3)


@pytest.mark.slow
def test_a_sweep_over_devices_has_weights_and_labels_of_all_points(digits):
    points, weight = digits[:203], np.arange(203) % 3
    over = sweep.over_points(partial(kmeans.sweep, counts=[2, 5], restarts=2), devices.mesh(4), kmeans.SWEEP_POINT_AXES)
    alone, split = kmeans.sweep(KEY, points, [2, 5], restarts=2, weight=weight), over(points, weight, key=KEY)
    assert split.labels.shape == (2, 203)
    np.testing.assert_allclose(split.inertias, alone.inertias, rtol=1e-2)
    np.testing.assert_array_equal(split.labels, kmeans.assign(split, points)[0])


@pytest.mark.slow
@pytest.mark.parametrize("block_rows", [17, 203, 1000])
def test_the_size_of_blocks_does_not_matter(block_rows):
    points, _ = blobs(5, rows=203)
    blocks = lloyd.in_blocks(points, jnp.ones(203), points[0], 12, block_rows)
    assert blocks.rows.shape == ((12, 17, 3) if block_rows == 17 else (1, 203, 3))
    whole, blocked = (kmeans.fit(KEY, points, 4, restarts=3, block_rows=rows) for rows in (None, block_rows))
    np.testing.assert_array_equal(blocked.labels, whole.labels)
    np.testing.assert_allclose(blocked.inertias, whole.inertias, rtol=1e-5)


@pytest.mark.parametrize(("rows", "features", "count", "restarts"), [(60_000, 784, 10, 10), (200_000, 2, 300, 5)])
@pytest.mark.slow
def test_memory_stays_in_the_budget(rows, features, count, restarts):
    points, weight = jax.ShapeDtypeStruct((rows, features), jnp.float32), jax.ShapeDtypeStruct((rows,), jnp.float32)
    fit = jax.jit(lambda points, weight: kmeans.fit(KEY, points, count, restarts=restarts, steps=10, weight=weight))
    used = fit.lower(points, weight).compile().memory_analysis().temp_size_in_bytes
    copies = 4 * rows * (2 * features + 10 * restarts)
    assert used < lloyd.BLOCK_BYTES + copies


@pytest.mark.slow
def test_64_bits_are_kept():
    points, _ = blobs(7)
    with jax.enable_x64(True):
        points = points.astype(np.float64) + 1e6
        params = kmeans.fit(jax.random.key(0), points, 4, restarts=3)
        moved, _, value = kmeans.step(points, params.centres)
    assert params.centres.dtype == moved.dtype == np.float64
    np.testing.assert_allclose(params.inertia, inertia(points, params.centres), rtol=1e-12)
    np.testing.assert_allclose(value, params.inertia, rtol=1e-12)


@pytest.mark.slow
def test_a_replay_gives_the_same_bits(digits):
    first, again = (kmeans.fit(KEY, digits[:300], 5, restarts=3) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)


@pytest.mark.slow
@pytest.mark.parametrize("points", [np.ones((20, 2)), np.repeat(np.float32([[1, 2], [3.1, 4], [0.3, 7]]), 9, axis=0)])
def test_inertia_is_0_with_more_clusters_than_distinct_points(points):
    params = kmeans.fit(KEY, points, 6, restarts=4)
    np.testing.assert_allclose(params.inertias, 0, atol=1e-9)
    assert (np.asarray(params.steps) < 20).all()
    assert len(np.unique(params.labels)) == len(np.unique(points, axis=0))


@pytest.mark.slow
def test_constant_columns_and_one_cluster_per_point():
    points = np.float32([[0, 5, 1], [1, 5, 0], [4, 5, 4], [9, 5, 9]])
    params = kmeans.fit(KEY, points, 4, restarts=2)
    np.testing.assert_allclose(params.inertia, 0, atol=1e-9)
    assert sorted(params.labels.tolist()) == [0, 1, 2, 3]


@pytest.mark.slow
def test_it_lowers_to_every_platform_with_k_and_weights_traced():
    def run(key, points, k, weight):
        params = kmeans.fit(key, points, k, restarts=3, weight=weight, most=5)
        return params, kmeans.assign(params, points), kmeans.step(points, params.centres, weight)

    points, weight = jax.ShapeDtypeStruct((500, 3), jnp.float32), jax.ShapeDtypeStruct((500,), jnp.float32)
    exported = jax.export.export(jax.jit(run), platforms=("cpu", "cuda", "tpu"))
    assert exported(KEY, points, jax.ShapeDtypeStruct((), jnp.int32), weight).platforms == ("cpu", "cuda", "tpu")


@pytest.mark.slow
def test_a_grid_equals_single_fits_of_every_k_on_every_fold():
    points, _ = blobs(1, rows=121)
    examples = {"inputs": points.reshape(121, 3, 1), "targets": points[:, 0]}
    folds = validation.folds(np.arange(121), 4, seed=0)
    ks = jnp.array([1, 2, 4])
    learner = learners.kmeans(most=4, restarts=3)

    def values(outputs, targets):
        return outputs

    shared = validation.cross_validate(learner, {"k": ks}, KEY, examples, folds, values)
    alone = validation.cross_validate(learner._replace(grid=None), {"k": ks}, KEY, examples, folds, values)
    np.testing.assert_allclose(shared, alone, rtol=1e-3)
    for fold in range(4):
        train, held = (part.ids[fold][part.weight[fold] > 0] for part in folds)
        for place, k in enumerate(ks):
            peer = KMeans(int(k), n_init=5, random_state=0).fit(points[train])
            expected = -squares(points[held], peer.cluster_centers_).min(1).mean()
            np.testing.assert_allclose(shared[place, fold], expected, rtol=0.02)


X = np.arange(12.0).reshape(6, 2)
HOLE = np.where(np.arange(12).reshape(6, 2) == 7, np.nan, X)
MISTAKES = {
    "more clusters than points": (lambda: kmeans.fit(KEY, X, 7), "k = 7: expected 1 to 6, the number of points$"),
    "than points with weight": (lambda: kmeans.fit(KEY, X, 2, weight=np.eye(6)[0]), "k = 2: expected 1 to 1, .*weight"),
    "no cluster": (lambda: kmeans.sweep(KEY, X, [2, 0]), "k = 0: expected 1 to 6"),
    "half a cluster": (lambda: kmeans.fit(KEY, X, 2.5), r"k = \[2.5\]: expected whole numbers"),
    "no k": (lambda: kmeans.sweep(KEY, X, jnp.zeros(0, int)), r"k = \[\]: expected whole numbers"),
    "beyond most": (lambda: kmeans.fit(KEY, X, 4, most=3), "k = 4 is greater than most = 3"),
    "traced without most": (lambda: jax.jit(lambda k: kmeans.fit(KEY, X, k).inertia)(2), "give most"),
    "NaN": (lambda: kmeans.fit(KEY, HOLE, 2), "points: row 3, column 1 is nan"),
    "NaN to assign": (lambda: kmeans.assign(kmeans.fit(KEY, X, 2), HOLE), "row 3, column 1 is nan"),
    "columns": (lambda: kmeans.assign(kmeans.fit(KEY, X, 2), X[:, :1]), r"points: shape \[6, 1\], expected \[M, 2\]"),
    "no table": (lambda: kmeans.fit(KEY, X[0], 2), r"points: shape \[2\], expected \[N, D\]"),
    "no column": (lambda: kmeans.plus_plus(KEY, X[:, :0], 2), r"points: shape \[6, 0\]"),
    "weights": (lambda: kmeans.fit(KEY, X, 2, weight=np.ones(5)), r"weight: shape \[5\], expected \[6\]"),
    "negative weight": (lambda: kmeans.step(X, X[:2], np.arange(6) - 1.0), "weight: row 0 is -1.0"),
    "start": (lambda: kmeans.fit(KEY, X, 2, start=X[:2, :1]), r"start: shape \[2, 1\], expected \[2, 2\]"),
    "a start that is none": (lambda: kmeans.fit(KEY, X, 6, start=HOLE), "start: row 3, column 1 is nan"),
    "too small a start": (lambda: kmeans.fit(KEY, X, 3, start=X[:2]), "k = 3 is greater than most = 2"),
    "centres": (lambda: kmeans.step(X, X[0]), r"centres: shape \[2\], expected \[K, 2\]"),
    "restarts": (lambda: kmeans.fit(KEY, X, 2, restarts=0), "restarts = 0"),
    "learner": (lambda: learners.kmeans(most=0), "most = 0"),
    "a fold too small": (
        lambda: learners.kmeans(most=5).fit({"k": 5}, KEY, {"inputs": X}, Rows(np.arange(4), np.ones(4))),
        "k = 5: expected 1 to 4, the number of points",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
