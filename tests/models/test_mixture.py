"""Gaussian mixtures against scikit-learn, SciPy's densities and EM in NumPy; degenerate cases; invariances."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.mixture import GaussianMixture

from mllab import learners
from mllab.errors import UserError
from mllab.models import mixture
from mllab.models.mixture import gaussians
from mllab.types import Rows

KEY = jax.random.key(0)
SKLEARN = {"full": "full", "tied": "tied", "diagonal": "diag", "spherical": "spherical"}
FLOOR = 1e-6


@pytest.fixture(params=[pytest.param(False, marks=pytest.mark.slow), True], ids=["float32", "float64"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


def clusters(n=120, features=3, count=3, seed=0):
    """Return standardised points [count * n, D] around `count` centres, and the centre of each."""
    rng = np.random.default_rng(seed)
    shapes = rng.standard_normal((count, features, features))
    centres = 3 * rng.standard_normal((count, features))
    points = np.concatenate([rng.standard_normal((n, features)) @ a + c for a, c in zip(shapes, centres, strict=True)])
    return (points - points.mean(0)) / points.std(0), np.repeat(np.arange(count), n).astype(np.int32)


def as_sklearn(params, **options):
    """Return scikit-learn's estimator with these params as its start."""
    covariances = np.asarray(mixture.covariances(params), float)
    precisions = np.linalg.inv(covariances)
    weights = np.exp(np.asarray(params.log_weights, float))
    initial = {
        "full": precisions,
        "tied": precisions[0],
        "diagonal": np.diagonal(precisions, axis1=1, axis2=2),
        "spherical": precisions[:, 0, 0],
    }
    return GaussianMixture(
        len(weights),
        covariance_type=SKLEARN[params.covariance],
        weights_init=weights / weights.sum(),
        means_init=np.asarray(params.means, float),
        precisions_init=initial[params.covariance],
        reg_covar=FLOOR,
        **options,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Best performing initialization did not converge")
@pytest.mark.parametrize(
    "covariance",
    [pytest.param(name, marks=[] if name == "full" else [pytest.mark.slow]) for name in mixture.COVARIANCES],
)
def test_em_follows_scikit_learn(covariance, x64):
    points, _ = clusters()
    start = mixture.init(KEY, points, 3, covariance)
    peer = as_sklearn(start, max_iter=15, tol=0).fit(points)
    fit = mixture.em(start, points, steps=15, tolerance=-np.inf)
    tolerance = 2e-4 if x64 else 2e-3  # mllab has the floor in the E step, too
    np.testing.assert_allclose(fit.params.means, peer.means_, atol=tolerance)
    np.testing.assert_allclose(np.exp(fit.params.log_weights), peer.weights_, atol=tolerance)
    np.testing.assert_allclose(mixture.score(fit.params, points), peer.score(points), atol=1e-6 if x64 else 1e-5)
    np.testing.assert_allclose(mixture.bic(fit.params, points), peer.bic(points), rtol=1e-5)
    np.testing.assert_allclose(mixture.aic(fit.params, points), peer.aic(points), rtol=1e-5)
    np.testing.assert_allclose(
        mixture.responsibilities(fit.params, points), peer.predict_proba(points), atol=10 * tolerance
    )
    assert fit.params.means.dtype == (jnp.float64 if x64 else jnp.float32)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", mixture.COVARIANCES)
def test_densities_match_scipy(covariance, x64):
    points, _ = clusters()
    params = mixture.fit(KEY, points, 4, covariance=covariance, restarts=2, steps=5).params
    matrices = np.asarray(mixture.covariances(params), float)
    means = np.asarray(params.means, float)
    expected = np.stack([multivariate_normal(m, c).logpdf(points) for m, c in zip(means, matrices, strict=True)], 1)
    tolerance = 1e-9 if x64 else 2e-4
    np.testing.assert_allclose(mixture.log_density(params, points), expected, rtol=tolerance, atol=tolerance)
    joint = expected + np.asarray(params.log_weights, float)
    np.testing.assert_allclose(mixture.score(params, points), logsumexp(joint, 1).mean(), rtol=tolerance)
    by_class = logsumexp(joint.reshape(-1, 2, 2), 2)
    expected = by_class - logsumexp(by_class, 1, keepdims=True)
    np.testing.assert_allclose(mixture.apply(params, points, 2), expected, rtol=tolerance, atol=50 * tolerance)
    np.testing.assert_array_equal(mixture.owners(params, 2), [0, 0, 1, 1])


def reference_step(params, points, labels, owner, weight, floor):
    """Return the likelihood before a step of EM with labels, and the weights, means and covariances after it."""
    means, matrices = np.asarray(params.means, float), np.asarray(mixture.covariances(params), float)
    variance = np.cov(points.T, aweights=weight, ddof=0).diagonal()
    joint = np.stack([multivariate_normal(m, c).logpdf(points) for m, c in zip(means, matrices, strict=True)], 1)
    blur = [floor * np.trace(np.diag(variance) @ np.linalg.inv(c)) / 2 for c in matrices]
    joint += np.asarray(params.log_weights, float) - np.array(blur)
    joint[(labels[:, None] >= 0) & (labels[:, None] != owner)] = -np.inf
    each = logsumexp(joint, 1)
    r = weight[:, None] * np.exp(joint - each[:, None])
    share = r.sum(0)
    means = r.T @ points / share[:, None]
    away = points[:, None] - means
    matrices = np.einsum("nk,nkd,nke->kde", r, away, away) / share[:, None, None] + floor * np.diag(variance)
    return np.average(each, weights=weight), share / share.sum(), means, matrices


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [False, True])
def test_labelled_points_belong_to_their_class_alone(weighted):
    points, classes = clusters()
    points = points * [1, 5, 0.1] + 7
    rng = np.random.default_rng(1)
    labels = np.where(rng.random(len(points)) < 0.3, classes, -1).astype(np.int32)
    weight = rng.integers(0, 3, len(points)).astype(float) if weighted else np.ones(len(points))
    owner = np.array([0, 0, 1, 1, 2, 2])
    with jax.enable_x64(True):
        options = {"labels": labels, "classes": 3, "weight": weight, "floor": 0.01}
        params = mixture.init(KEY, points, 6, labels=labels, classes=3, weight=weight)
        likelihoods = []
        for _ in range(6):
            before, *expected = reference_step(params, points, labels, owner, weight, 0.01)
            params, after = mixture.step(params, points, **options)
            actual = np.exp(params.log_weights), params.means, mixture.covariances(params)
            for one, other in zip(actual, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)
            assert not likelihoods or before == pytest.approx(likelihoods[-1], abs=1e-10)
            likelihoods.append(float(after))
        assert likelihoods == sorted(likelihoods)


@pytest.mark.slow
def test_with_all_labels_it_is_discriminant_analysis():
    points, labels = clusters()
    with jax.enable_x64(True):
        fit = mixture.fit(KEY, points, 3, labels=labels, restarts=2, floor=1e-12)
        assert fit.converged
        assert fit.steps == 2  # the first converges, the second gains nothing
        for c in range(3):
            members = points[labels == c]
            np.testing.assert_allclose(fit.params.means[c], members.mean(0), atol=1e-10)
            np.testing.assert_allclose(mixture.covariances(fit.params)[c], np.cov(members.T, ddof=0), atol=1e-8)
        peer = QuadraticDiscriminantAnalysis().fit(points, labels)
        outputs = mixture.apply(fit.params, points, 3)
        assert np.mean(np.argmax(outputs, 1) == peer.predict(points)) > 0.99  # it divides by N - 1


@pytest.mark.slow
@pytest.mark.parametrize("covariance", mixture.COVARIANCES)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(["clusters", "duplicates", "line", "far", "constant"]),
    labelled=st.floats(0, 1),
)
def test_likelihood_never_decreases_and_nothing_is_nan(covariance, seed, kind, labelled):
    rng = np.random.default_rng(seed)
    points, labels = clusters(n=20, seed=seed)
    if kind == "duplicates":
        points = points[rng.integers(0, 4, len(points))]
    elif kind == "line":
        points = points[:, :1] * np.ones(3)
    elif kind == "far":
        points = points + 1e4
    elif kind == "constant":
        points[:, 1] = 0.1
    labels = np.where(rng.random(len(points)) < labelled, labels, -1).astype(np.int32)
    key, weight = jax.random.key(seed), rng.integers(0, 3, len(points)) + 1.0
    for wide, slack in ((True, 1e-9), (False, 2e-4)):
        with jax.enable_x64(wide):
            fit = mixture.fit(
                key, points, 3, covariance=covariance, labels=labels, weight=weight, restarts=2, steps=30, tolerance=-1
            )
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit))
            assert np.isfinite(mixture.apply(fit.params, points, 3)).all()
        assert np.diff(fit.history).min() >= -slack * max(1, abs(float(fit.log_likelihood)))
        assert fit.log_likelihood == fit.history[-1]


DEGENERATE = {
    "all points alike": np.ones((9, 2)),
    "as many components as points": np.random.default_rng(0).standard_normal((4, 3)),
    "more columns than points": np.random.default_rng(0).standard_normal((20, 50)),
    "units far apart": np.random.default_rng(0).standard_normal((50, 3)) * [1e-9, 1, 1e9],
    "an outlier": np.append(np.random.default_rng(0).standard_normal((50, 3)), [[1e7, 0, 0]], 0),
    "narrow and far apart": np.repeat([[0.0, 0.0], [1e3, 0], [0, 1e3], [1e3, 1e3]], 9, 0)
    + 1e-3 * np.random.default_rng(0).standard_normal((36, 2)),
}


@pytest.mark.parametrize("points", DEGENERATE.values(), ids=DEGENERATE.keys())
@pytest.mark.parametrize("covariance", ["full", "tied", "diagonal"])  # spherical is diagonal with one number
@pytest.mark.slow
def test_degenerate_points_give_finite_results(points, covariance):
    fit = mixture.fit(KEY, points, 4, covariance=covariance, restarts=3, steps=20)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit))
    outputs = mixture.apply(fit.params, np.append(points, 1e15 * np.ones_like(points[:1]), 0), 2)
    assert np.isfinite(outputs).all()


@pytest.mark.slow
def test_a_class_without_points_and_labels_of_weight_0():
    points, labels = clusters()
    fit = mixture.fit(KEY, points, 4, labels=labels, restarts=2)
    assert np.isfinite(mixture.apply(fit.params, points, 4)).all()
    assert np.exp(fit.params.log_weights[3]) < 1e-6
    fit = mixture.fit(KEY, points, 3, labels=np.where(labels == 2, -1, labels), weight=labels < 1.5, restarts=2)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), exponent=st.integers(-20, 20), shift=st.integers(-1000, 1000))
def test_results_follow_permutation_scaling_and_translation_of_the_points(seed, exponent, shift):
    points, _ = clusters(n=30, seed=seed)
    points = np.round(points * 2**10) / 2**10
    rng = np.random.default_rng(seed)
    unit = 2.0 ** (exponent + np.arange(3))
    with jax.enable_x64(True):
        start = mixture.init(KEY, points, 3)
        means, cholesky = np.asarray(start.means), np.asarray(start.cholesky)
        moved = mixture.Mixture(start.log_weights, means * unit + shift, cholesky * unit[:, None], "full")
        plain = mixture.em(start, points, steps=10, tolerance=-np.inf)
        other = mixture.em(moved, rng.permutation(points) * unit + shift, steps=10, tolerance=-np.inf)
        np.testing.assert_allclose(
            other.params.means, np.asarray(plain.params.means) * unit + shift, rtol=1e-5, atol=1e-5 * unit[-1]
        )
        np.testing.assert_allclose(other.history + np.log(unit).sum(), plain.history, atol=1e-6)


@pytest.mark.slow
def test_the_size_of_blocks_does_not_matter():
    points, labels = clusters(n=400)
    with jax.enable_x64(True):
        start = mixture.init(KEY, points, 3)
        results = []
        for block_rows in (1, 7, 5000, None):
            fit = mixture.em(start, points, labels=np.where(labels > 1, -1, labels), steps=3, block_rows=block_rows)
            results.append((fit, mixture.log_density(fit.params, points, block_rows)))
        for other in results[1:]:
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), results[0], other)


@pytest.mark.slow
def test_memory_stays_in_the_budget():
    points, weight = jax.ShapeDtypeStruct((200_000, 16), jnp.float32), jax.ShapeDtypeStruct((200_000,), jnp.float32)
    start = jax.eval_shape(lambda: mixture.Mixture(jnp.zeros(32), jnp.zeros((32, 16)), jnp.zeros((32, 16, 16)), "full"))
    em = jax.jit(lambda start, points, weight: mixture.em(start, points, weight=weight, steps=10, tolerance=0.0))
    compiled = em.lower(start, points, weight).compile()
    copies = 3 * 4 * 200_000 * 17
    assert compiled.memory_analysis().temp_size_in_bytes < copies + 6 * gaussians.BLOCK_BYTES
    assert 6 * (copies + 6 * gaussians.BLOCK_BYTES) < 4 * 200_000 * 32 * 16  # z of all points at once


@pytest.mark.slow
def test_the_best_restart_is_kept_and_a_sweep_equals_its_fits():
    points, _ = clusters(count=4)
    with jax.enable_x64(True):
        options = {"covariance": "diagonal", "restarts": 6, "steps": 200, "tolerance": 1e-9}
        alone = [mixture.fit(KEY, points, 4, **options | {"restarts": 1}).log_likelihood]
        best = mixture.fit(KEY, points, 4, **options)
        assert best.log_likelihood >= alone[0] - 1e-9
        peer = GaussianMixture(4, covariance_type="diag", n_init=6, random_state=0, tol=1e-6, max_iter=200).fit(points)
        assert best.log_likelihood > peer.score(points) - 0.05
        swept = mixture.sweep(KEY, points, [1, 2, 4], **options)
        assert np.isneginf(swept.params.log_weights).sum(1).tolist() == [3, 2, 0]
        np.testing.assert_allclose(swept.log_likelihood[2], best.log_likelihood, rtol=1e-9)
        one = GaussianMixture(1, covariance_type="diag", reg_covar=FLOOR).fit(points)
        np.testing.assert_allclose(swept.params.means[0, 0], one.means_[0], atol=1e-9)
        bic = jax.vmap(mixture.bic, (0, None))(swept.params, points)
        np.testing.assert_allclose(bic[0], one.bic(points), rtol=1e-6)
        assert bic[2] < bic[0]


@pytest.mark.slow
def test_components_are_selected_by_scikit_learns_bic():
    points, _ = clusters(count=3)
    selection = mixture.select_components(KEY, points, range(1, 5), ("diagonal", "full"), steps=200)
    assert selection.components == [1, 2, 3, 4]
    assert list(selection.values) == ["diagonal", "full"]
    for covariance, values in selection.values.items():
        for count, value in zip(selection.components, values, strict=True):
            options = {"covariance_type": SKLEARN[covariance], "n_init": 5, "random_state": 0, "max_iter": 200}
            assert value == pytest.approx(GaussianMixture(count, **options).fit(points).bic(points), rel=1e-2)
    assert selection.chosen == mixture.Setting("full", 3)


@pytest.mark.slow
@pytest.mark.parametrize("covariance", mixture.COVARIANCES)
def test_fit_lowers_to_every_platform(covariance):
    points, labels = jax.ShapeDtypeStruct((60, 3), jnp.float32), jax.ShapeDtypeStruct((60,), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))

    @jax.jit
    def fitted(key, points, labels):
        fit = mixture.fit(key, points, 4, covariance=covariance, labels=labels, classes=2, restarts=2)
        return fit._replace(params=mixture.apply(fit.params, points, 2))

    exported = jax.export.export(fitted, platforms=("cpu", "cuda", "tpu"))(key, points, labels)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.slow
def test_vmap_over_lanes():
    points, classes = clusters(n=40)
    labels = jnp.stack([jnp.where(jnp.arange(120) % m == 0, classes, -1) for m in (3, 7)])

    def one(labels, points):
        return mixture.fit(KEY, points, 3, labels=labels, restarts=3, tolerance=-jnp.inf, steps=10).log_likelihood

    lanes = jax.jit(jax.vmap(one, (0, None)))(labels, jnp.asarray(points))
    np.testing.assert_allclose(lanes, [one(each, points) for each in labels], rtol=1e-4)


@pytest.mark.slow
def test_the_learner_fits_its_rows():
    points, labels = clusters()
    rows = Rows(np.append(np.arange(0, 360, 2), 0), np.append(np.ones(180), 0))
    learner = learners.mixture(3, covariance="full")
    params = learner.fit({"floor": 1e-6}, KEY, {"inputs": points.astype(np.float32), "targets": labels}, rows)
    peer = QuadraticDiscriminantAnalysis().fit(points[::2], labels[::2])
    np.testing.assert_allclose(params.means, peer.means_, atol=1e-5)
    agreed = np.argmax(learner.predict(params, points[1::2].astype(np.float32)), 1) == peer.predict(points[1::2])
    assert agreed.mean() > 0.98


X, Y = np.eye(6, 2), np.zeros(6, int)
MISTAKES = {
    "unknown covariance": ({"covariance": "ful"}, "unknown covariance 'ful': did you mean 'full'"),
    "more components than points": ({"count": 7}, "count = 7: expected 1 to 6, the number of points$"),
    "than points with weight": ({"weight": np.eye(6)[0]}, "count = 2: expected 1 to 1, .*weight"),
    "no component": ({"count": 0}, "count = 0"),
    "flat points": ({"points": Y * 0.5}, r"points: shape \[6\], expected \[N, D\]"),
    "NaN": ({"points": np.where(np.arange(12).reshape(6, 2) == 5, np.nan, 1)}, "points: row 2, column 1 is nan"),
    "weight": ({"weight": np.ones(5)}, r"weight: shape \[5\], expected \[6\]"),
    "negative weight": ({"weight": -np.ones(6)}, "weight: row 0 is -1.0"),
    "labels": ({"labels": Y[:5]}, r"labels: int64\[5\], expected 6 integers"),
    "labels that are values": ({"labels": Y * 0.5}, r"labels: float64\[6\]"),
    "a label too great": ({"labels": Y + 2}, "labels: row 0 has label 2, expected 0 to 1, or -1 for no label"),
    "a label below -1": ({"labels": Y - 2}, "labels: row 0 has label -2"),
    "classes": ({"labels": Y, "classes": 3}, "2 components for 3 classes: expected a multiple"),
    "floor": ({"floor": 0.0}, "floor = 0.0: expected a finite number above 0"),
    "restarts": ({"restarts": 0}, "restarts = 0: expected 1 or more"),
}


@pytest.mark.parametrize(("overrides", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_raise_one_line(overrides, message):
    arguments = {"points": X, "count": 2} | overrides
    with pytest.raises(UserError, match=message):
        mixture.fit(KEY, arguments.pop("points"), arguments.pop("count"), **arguments)


@pytest.mark.slow
def test_mistakes_in_other_functions():
    params = mixture.fit(KEY, X, 2, restarts=1).params
    with pytest.raises(UserError, match="counts is empty"):
        mixture.sweep(KEY, X, [])
    with pytest.raises(UserError, match=r"points: shape \[6, 3\], expected \[N, 2\]"):
        mixture.score(params, np.ones((6, 3)))
    with pytest.raises(UserError, match="2 components for 3 classes"):
        mixture.apply(params, X, 3)
