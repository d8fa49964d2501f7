"""Nearest neighbours against integer arithmetic and scikit-learn, with ties, duplicates and distant points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from mllab import learners, metrics, validation
from mllab.errors import UserError
from mllab.models import neighbors
from mllab.types import Rows

KEY = jax.random.key(0)


def exact(train, queries, count, weight):
    """Return squared distances and ids for integer points, by a stable sort of 64-bit integers."""
    squares = ((queries[:, None].astype(np.int64) - train[None].astype(np.int64)) ** 2).sum(2)
    squares[:, weight == 0] = np.iinfo(np.int64).max
    ids = np.argsort(squares, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(squares, ids, 1), ids


@pytest.mark.parametrize(("rows", "features", "count"), [(40, 3, 5), (700, 2, 1), (700, 2, 9), (3000, 5, 20)])
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1, 2, 30]),  # 1 and 2: nearly all rows are duplicates
    offset=st.sampled_from([0, 1000, 2**22]),
    outlier=st.sampled_from([0, 2**22]),
    absent=st.sampled_from([0.0, 0.5]),
)
def test_neighbors_match_exact_integer_arithmetic(rows, features, count, seed, spread, offset, outlier, absent):
    rng = np.random.default_rng(seed)
    train = rng.integers(-spread, spread + 1, (rows, features)) + offset
    queries = rng.integers(-spread, spread + 1, (7, features)) + offset
    queries[0] = train[rng.integers(rows)]  # before one is moved: float32 cannot tell distances of 2**22 apart
    train[rng.integers(rows)] += outlier
    weight = np.maximum(rng.random(rows) > absent, np.arange(rows) < count).astype(np.float32)
    near = neighbors.nearest(train.astype(np.float32), queries.astype(np.float32), count, weight)
    squares, ids = exact(train, queries, count, weight)
    np.testing.assert_array_equal(near.ids, ids)
    np.testing.assert_allclose(near.distances, np.sqrt(squares), rtol=1e-6)


@pytest.mark.parametrize(
    ("rows", "queries", "features", "count"), [(50, 20, 4, 50), (900, 60, 30, 1), (900, 60, 30, 40)]
)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_neighbors_match_scikit_learn(rows, queries, features, count, offset):
    rng = np.random.default_rng(rows)
    train = rng.standard_normal((rows, features)).astype(np.float32) + np.float32(offset)
    points = rng.standard_normal((queries, features)).astype(np.float32) + np.float32(offset)
    near = neighbors.nearest(train, points, count)
    distances, ids = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(train.astype(float)).kneighbors(points)
    np.testing.assert_allclose(near.distances, distances, rtol=2e-6)
    np.testing.assert_array_equal(near.ids, ids)


def test_duplicates_are_ordered_by_id():
    rng = np.random.default_rng(1)
    train = np.tile(rng.standard_normal((211, 37)), (5, 1))
    near = neighbors.nearest(train, rng.standard_normal((50, 37)), 15)
    ids = np.asarray(near.ids).reshape(50, 3, 5)
    np.testing.assert_array_equal(ids, ids[..., :1] + 211 * np.arange(5))
    np.testing.assert_array_equal(np.ptp(np.asarray(near.distances).reshape(50, 3, 5), axis=2), 0)


def test_different_rows_at_equal_distance_are_ordered_by_id():
    places, far = np.float32([0.1, 0.2, 0.3]), np.random.default_rng(2).standard_normal((40, 2)).astype(np.float32) + 3
    sides = [(a * x, b * y) for x in places for y in places if x <= y for a in (-1, 1) for b in (-1, 1)]
    order = np.random.default_rng(3).permutation(len(sides))
    train = np.concatenate([np.float32(sides)[order], far])
    near = neighbors.nearest(train, np.zeros((1, 2), np.float32), len(sides))
    squares = (train[: len(sides)].astype(float) ** 2).sum(1)
    np.testing.assert_array_equal(near.ids[0], np.argsort(squares, kind="stable"))


def test_the_size_of_blocks_does_not_matter():
    rng = np.random.default_rng(0)
    train, queries = rng.standard_normal((333, 6)), rng.standard_normal((47, 6))
    whole = neighbors.nearest(train, queries, 4)
    in_blocks = neighbors.nearest(train, queries, 4, block_bytes=333 * 4 * 4 * 5, cache_bytes=1)
    for one, other in zip(whole, in_blocks, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), exponent=st.integers(-20, 20), shift=st.integers(-500, 500))
def test_results_follow_permutation_scaling_and_translation_of_the_points(seed, exponent, shift):
    rng = np.random.default_rng(seed)
    train = rng.permutation(np.arange(900, dtype=np.float32).reshape(300, 3))  # no two alike
    queries = rng.integers(0, 900, (5, 3)).astype(np.float32) + np.float32(0.25)
    order = rng.permutation(300)
    plain = neighbors.nearest(train, queries, 6)
    permuted = neighbors.nearest(train[order], queries, 6)
    np.testing.assert_array_equal(permuted.distances, plain.distances)
    scaled = neighbors.nearest(train * 2.0**exponent, queries * 2.0**exponent, 6)
    np.testing.assert_array_equal(scaled.ids, plain.ids)
    np.testing.assert_array_equal(scaled.distances, plain.distances * 2.0**exponent)
    moved = neighbors.nearest(train + shift, queries + shift, 6)
    np.testing.assert_array_equal(moved.ids, plain.ids)
    np.testing.assert_array_equal(moved.distances, plain.distances)


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "queries", "features", "count"), [(60_000, 10_000, 784, 5), (5_000, 40_000, 50, 100)])
def test_memory_stays_in_the_budget(rows, queries, features, count):
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((rows, features), (queries, features), (rows,))]
    nearest = jax.jit(lambda train, queries, weight: neighbors.nearest(train, queries, count, weight))
    used = nearest.lower(*shapes).compile().memory_analysis().temp_size_in_bytes
    copies = 4 * (rows * features + queries * features)
    results = 8 * queries * (count + neighbors.SPARE)
    assert used < neighbors.BLOCK_BYTES + copies + results
    assert used < 4 * rows * queries / 2  # half of the matrix of all distances


def test_neighbours_beyond_the_rows_are_infinitely_far_and_do_not_vote():
    train = np.arange(200.0).reshape(100, 2)
    weight = (np.arange(100) % 50 == 7).astype(np.float32)
    near = jax.jit(neighbors.nearest, static_argnums=2)(train, train[:3], 4, weight)
    np.testing.assert_array_equal(near.ids[:, :2], [[7, 57]] * 3)
    np.testing.assert_array_equal(np.isinf(near.distances), [[False, False, True, True]] * 3)

    @jax.jit
    def probabilities(weight, k):
        return jnp.exp(neighbors.apply(neighbors.fit(train, jnp.arange(100) // 50, k, weight), train[:1], 3, 4))

    np.testing.assert_allclose(probabilities(weight, 4), [[(1 + 1 / 3) / 3, (1 + 1 / 3) / 3, 1 / 9]], rtol=1e-6)
    np.testing.assert_allclose(probabilities(weight, 1), [[(1 + 1 / 3) / 2, 1 / 6, 1 / 6]], rtol=1e-6)


@pytest.fixture(scope="module")
def digits():
    inputs, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return inputs[order].astype(np.float32), labels[order].astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize("k", [1, 2, 3, 8, 30])
def test_votes_and_their_ties_match_scikit_learn(digits, k):
    inputs, labels = digits
    train, queries = inputs[:900], inputs[900:]
    distances, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(train).kneighbors(queries)
    clear = distances[:, k] > distances[:, k - 1] * (
        1 + 1e-6
    )  # integer pixels: among equal rows the choice is arbitrary
    assert clear.mean() > 0.9
    peer = KNeighborsClassifier(k, algorithm="brute").fit(train, labels[:900])
    params = neighbors.fit(train, labels[:900], k)
    outputs = np.asarray(neighbors.apply(params, queries, 10, 30))
    np.testing.assert_array_equal(outputs.argmax(1)[clear], peer.predict(queries)[clear])
    expected = (k * peer.predict_proba(queries) + 1 / 10) / (k + 1)
    np.testing.assert_allclose(np.exp(outputs)[clear], expected[clear], rtol=1e-5)


@pytest.mark.slow
def test_a_grid_equals_single_fits_of_every_k_on_every_fold(digits):
    inputs, labels = digits
    examples = {"inputs": inputs[:203].reshape(-1, 8, 8, 1), "targets": labels[:203]}
    folds = validation.folds(np.arange(203), 4, seed=0)
    ks = jnp.array([1, 4, 15])
    learner = learners.nearest_neighbors(10, most=15)

    def accuracy(outputs, targets):
        return metrics.classification(outputs, targets)["accuracy"]

    shared = validation.cross_validate(learner, {"k": ks}, KEY, examples, folds, accuracy)
    alone = validation.cross_validate(learner._replace(grid=None), {"k": ks}, KEY, examples, folds, accuracy)
    np.testing.assert_array_equal(shared, alone)
    for fold in range(4):
        train, held = (part.ids[fold][part.weight[fold] > 0] for part in folds)
        for position, k in enumerate(ks):
            peer = KNeighborsClassifier(int(k), algorithm="brute").fit(inputs[train], labels[train])
            np.testing.assert_allclose(shared[position, fold], peer.score(inputs[held], labels[held]), atol=0.021)


def test_nearest_lowers_to_every_platform():
    train, weight = jax.ShapeDtypeStruct((500, 3), jnp.float32), jax.ShapeDtypeStruct((500,), jnp.float32)
    exported = jax.export.export(jax.jit(neighbors.nearest, static_argnums=2), platforms=("cpu", "cuda", "tpu"))
    assert exported(train, train, 4, weight).platforms == ("cpu", "cuda", "tpu")


X, Y = np.ones((6, 2)), np.zeros(6, int)
MISTAKES = {
    "more neighbours than rows": (
        lambda: neighbors.nearest(X, X, 7),
        "count = 7: expected 1 to 6, the number of training",
    ),
    "than rows with weight": (lambda: neighbors.nearest(X, X, 3, np.eye(6)[0]), "count = 3: expected 1 to 1, .*weight"),
    "no neighbour": (lambda: neighbors.nearest(X, X, 0), "count = 0: expected 1 to 6"),
    "features": (lambda: neighbors.nearest(X, X[:, :1], 1), r"queries: shape \[6, 1\], expected \[M, 2\]"),
    "weight": (lambda: neighbors.nearest(X, X, 1, np.ones(5)), r"weight: shape \[5\]"),
    "a missing number": (
        lambda: neighbors.nearest(X, np.where(np.arange(12).reshape(6, 2) == 9, np.nan, X), 1),
        "queries: row 4, column 1 is nan",
    ),
    "an infinite one": (
        lambda: neighbors.fit(np.where(np.arange(12).reshape(6, 2) == 4, -np.inf, X), Y, 1),
        "training rows: row 2, column 0 is -inf",
    ),
    "labels that are values": (lambda: neighbors.fit(X, Y * 0.5, 1), r"labels: float64\[6\], expected 6 integers"),
    "k of 0": (lambda: neighbors.fit(X, Y, 0), "k = 0: expected 1 to 6"),
    "k beyond the rows": (lambda: neighbors.fit(X, Y, 7), "k = 7: expected 1 to 6"),
    "k beyond most": (lambda: neighbors.apply(neighbors.fit(X, Y, 5), X, 2, 4), "k = 5 is greater than most = 4"),
    "learner": (lambda: learners.nearest_neighbors(2, most=0), "most = 0"),
    "classes": (
        lambda: neighbors.apply(neighbors.fit(np.eye(3), np.array([0, 2, 1]), 1), np.eye(3), 2, 1),
        "labels: row 1 has label 2, expected 0 to 1",
    ),
    "a fold too small": (
        lambda: learners.nearest_neighbors(2, most=5).fit(
            {"k": 5}, KEY, {"inputs": X, "targets": Y}, Rows(np.arange(4), np.ones(4))
        ),
        "k = 5: expected 1 to 4",
    ),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(call, message):
    with pytest.raises(UserError, match=message):
        call()
