"""Augmentations against enumerations of all their possible results; properties of draws, keys and images."""

from collections import Counter
from functools import cache, partial

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from mllab import augmentation, devices, losses, metrics, sweep, training
from mllab.augmentation import AUGMENTATIONS, augmented, compose, crop, cutout, flip, mixed, mixup, shift
from mllab.models.base import plain
from mllab.rows import blocks
from support import problems
from support.mistakes import refused_in_one_line

HEIGHT, WIDTH = 6, 7
PLATFORMS = ("cpu", "cuda", "tpu")
EVERY = {
    name: jax.jit(augment)
    for name, augment in {**AUGMENTATIONS, "all": compose(list(AUGMENTATIONS)), "none": compose([])}.items()
}


def pictures(count, height=HEIGHT, width=WIDTH, channels=2, seed=0):
    """Images [count, height, width, channels] with distinct non-zero pixels."""
    return np.random.default_rng(seed).uniform(0.5, 1.5, (count, height, width, channels)).astype(np.float32)


IMAGES = pictures(16)


# --- All possible results, by hand: draw -> picture ------------------------------------------------------------------


def windows(image, pixels, **padding):
    around = ((pixels, pixels), (pixels, pixels), (0, 0))
    padded = np.pad(image, around, **padding)
    height, width = image.shape[:2]
    span = range(2 * pixels + 1)
    return {(r, c): padded[r : r + height, c : c + width] for r in span for c in span}


def holes(image, size):
    results = {}
    for row, column in np.ndindex(image.shape[:2]):
        results[row, column] = holed = image.copy()
        for i, j in np.ndindex(image.shape[:2]):
            if 0 <= i - (row - size // 2) < size and 0 <= j - (column - size // 2) < size:
                holed[i, j] = 0
    return results


ORACLES = {
    "shift 1": (partial(shift, pixels=1), partial(windows, pixels=1)),
    "shift 2": (partial(shift, pixels=2), partial(windows, pixels=2)),
    "crop 1": (partial(crop, pixels=1), partial(windows, pixels=1, mode="reflect")),
    "crop 5, the maximum": (partial(crop, pixels=5), partial(windows, pixels=5, mode="reflect")),
    "flip": (flip, lambda image: {False: image, True: np.fliplr(image)}),
    "cutout 1": (partial(cutout, size=1), partial(holes, size=1)),
    "cutout 3": (partial(cutout, size=3), partial(holes, size=3)),
    "cutout 4": (partial(cutout, size=4), partial(holes, size=4)),
}


@pytest.mark.parametrize("name", ORACLES)
def test_results_are_distributed_as_the_enumeration(name):
    augment, by_hand = ORACLES[name]
    image = pictures(1)[0]
    expected = Counter(picture.tobytes() for picture in by_hand(image).values())
    assert len(expected) > 1
    images = np.broadcast_to(image, (60 * expected.total(), *image.shape))
    made = Counter(picture.tobytes() for picture in np.asarray(jax.jit(augment)(jax.random.key(1), images)))
    assert set(made) <= set(expected)
    pictures_seen = [made[picture] for picture in expected]
    assert scipy.stats.chisquare(pictures_seen, [60 * often for often in expected.values()]).pvalue > 1e-4


# --- Properties of all augmentations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_results_depend_on_the_key_alone(name):
    first, again, other = (np.asarray(EVERY[name](jax.random.key(seed), IMAGES)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.array_equal(first, other) == (name == "none")


@pytest.mark.parametrize("name", EVERY)
def test_images_are_independent(name):
    made = np.asarray(EVERY[name](jax.random.key(3), IMAGES))
    for changed in (0, 4, 15):
        others = IMAGES.copy()
        others[changed] = np.nan
        again = np.asarray(EVERY[name](jax.random.key(3), others))
        np.testing.assert_array_equal(np.delete(again, changed, axis=0), np.delete(made, changed, axis=0))
        assert np.isnan(again[changed]).any()


@pytest.mark.parametrize("name", EVERY)
def test_draws_within_a_batch_differ(name):
    made = np.asarray(EVERY[name](jax.random.key(0), np.broadcast_to(IMAGES[:1], IMAGES.shape)))
    assert (len(np.unique(made, axis=0)) > 1) == (name != "none")


@pytest.mark.parametrize("name", EVERY)
def test_bfloat16_is_kept_and_not_rounded(name):
    images = jnp.asarray(IMAGES, jnp.bfloat16)
    made = EVERY[name](jax.random.key(0), images)
    assert made.dtype == jnp.bfloat16
    wide = EVERY[name](jax.random.key(0), np.asarray(images, np.float32))
    np.testing.assert_array_equal(np.asarray(made, np.float32), wide)


@pytest.mark.slow
def test_lanes_steps_and_single_calls_agree():
    augment, keys = EVERY["all"], jax.random.split(jax.random.key(5), 3)
    alone = np.stack([augment(key, IMAGES) for key in keys])
    lanes = jax.jit(jax.vmap(augment, in_axes=(0, None)))(keys, IMAGES)
    _, steps = jax.jit(partial(jax.lax.scan, lambda images, key: (images, augment(key, images))))(IMAGES, keys)
    np.testing.assert_array_equal(lanes, alone)
    np.testing.assert_array_equal(steps, alone)


def test_augmenting_a_split_batch_needs_no_communication():
    spread = jax.sharding.NamedSharding(devices.mesh(8), jax.sharding.PartitionSpec("lanes"))
    images = jax.device_put(IMAGES, spread)
    compiled = jax.jit(EVERY["all"], out_shardings=spread).lower(jax.random.key(0), images).compile()
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in compiled.as_text()
    np.testing.assert_array_equal(compiled(jax.random.key(0), images), EVERY["all"](jax.random.key(0), IMAGES))


@jax.jit
def mixed_up(key, images):
    return mixup(key, images, jnp.arange(len(images)) % 3, 0.4, 3)


@pytest.mark.parametrize("function", [EVERY["all"], mixed_up], ids=["all", "mixup"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_lowers_to_every_platform(function, dtype):
    exported = jax.export.export(function, platforms=PLATFORMS)(jax.random.key(0), jnp.asarray(IMAGES, dtype))
    assert exported.platforms == PLATFORMS


@pytest.mark.slow
@hypothesis.given(st.integers(0, 2**31), st.sampled_from([(2, 9, 1), (8, 8, 3)]))
@hypothesis.settings(deadline=None, max_examples=30)
def test_shapes_and_pixel_values_are_preserved(seed, shape):
    images = pictures(16, *shape, seed=seed)
    made = np.asarray(EVERY["all"](jax.random.key(seed), images))
    assert made.shape == images.shape
    for before, after in zip(images, made, strict=True):
        assert {0.0, *before.ravel().tolist()}.issuperset(after.ravel().tolist())


@jax.jit
def together(key, images):
    return {
        "flipped twice": flip(key, flip(key, images)),
        "shifted by 0": shift(key, images, 0),
        "cropped by 0": crop(key, images, 0),
        "shifted": shift(key, images, 3),
        "cropped": crop(key, images, 3),
    }


@hypothesis.given(st.integers(0, 2**31))
@hypothesis.settings(deadline=None, max_examples=20)
def test_flip_is_an_involution_and_crop_is_a_filled_shift(seed):
    made = together(jax.random.key(seed), IMAGES)
    for name in ("flipped twice", "shifted by 0", "cropped by 0"):
        np.testing.assert_array_equal(made[name], IMAGES)
    # With the same key, a crop equals a shift wherever the shift is not filled.
    shifted, cropped = made["shifted"], made["cropped"]
    np.testing.assert_array_equal(np.where(shifted == 0, cropped, shifted), cropped)
    assert not np.array_equal(shifted, cropped)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "pixels", "padding", "hole"), [(8, 1, 1, 4), (28, 2, 3, 14), (32, 2, 4, 16)])
def test_sizes_scale_with_the_image(side, pixels, padding, hole):
    @jax.jit
    def pairs(key, images):
        by_name = [AUGMENTATIONS[name](key, images) for name in ("shift", "crop", "cutout")]
        return by_name, [shift(key, images, pixels), crop(key, images, padding), cutout(key, images, hole)]

    by_name, by_size = pairs(jax.random.key(0), pictures(4, side, side, 1))
    jax.tree.map(np.testing.assert_array_equal, by_name, by_size)


def test_compose_applies_in_order_with_independent_draws():
    image = pictures(1, 8, 8)[0]
    made = jax.jit(compose(["shift", "crop"]))(jax.random.key(0), np.broadcast_to(image, (1500, *image.shape)))
    shifted = windows(image, 1).values()  # at 8 pixels, both move by at most 1
    expected = {picture.tobytes() for each in shifted for picture in windows(each, 1, mode="reflect").values()}
    assert {picture.tobytes() for picture in np.asarray(made)} == expected


# --- Mixup -----------------------------------------------------------------------------------------------------------


@cache
def blending(dtype):
    """Mixup of images that are each a class, so that probabilities reveal weights and partners; alpha is traced."""
    return jax.jit(lambda key, images, alpha: mixup(key, images.astype(dtype), jnp.arange(len(images)), alpha, 100))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_mixup_blends_pairs_as_in_the_paper(alpha):
    images, weights = pictures(100), []
    for seed in range(5):
        blended, probabilities = map(np.asarray, blending("float32")(jax.random.key(seed), images, alpha))
        weight = np.diagonal(probabilities)
        others = np.where(np.eye(100, dtype=bool), 0, probabilities)
        # Unpaired images are their own partner, or have weight 1.
        paired, partner = others.any(axis=1), others.argmax(axis=1)
        assert len(set(partner[paired])) == paired.sum()
        for i in np.flatnonzero(paired):
            expected = weight[i] * images[i] + (1 - weight[i]) * images[partner[i]]
            np.testing.assert_allclose(blended[i], expected, rtol=1e-5)
        np.testing.assert_allclose(blended[~paired], images[~paired], rtol=1e-6)
        weights.extend(weight[paired])
    assert len(weights) > 450
    assert scipy.stats.kstest(weights, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-3


@pytest.mark.slow
@hypothesis.given(st.integers(0, 2**31), st.floats(0.05, 5), st.sampled_from(["float32", "bfloat16"]))
@hypothesis.settings(deadline=None, max_examples=20)
def test_mixup_is_convex(seed, alpha, dtype):
    images = pictures(100)
    blended, probabilities = blending(dtype)(jax.random.key(seed), images, alpha)
    assert blended.dtype == dtype
    assert np.all(np.asarray(probabilities) >= 0)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    made, slack = np.asarray(blended, np.float32), 1e-6 if dtype == "float32" else 0.01  # of rounding
    assert np.all(made >= images.min(axis=0) - slack)
    assert np.all(made <= images.max(axis=0) + slack)


@pytest.mark.slow
def test_mixup_of_a_split_batch_is_the_same():
    spread = jax.sharding.NamedSharding(devices.mesh(8), jax.sharding.PartitionSpec("lanes"))
    made = mixed_up(jax.random.key(0), jax.device_put(IMAGES, spread))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), made, mixed_up(jax.random.key(0), IMAGES))


# --- In an objective -------------------------------------------------------------------------------------------------


def echo(hyper, params, extra, examples, key):
    """An objective that returns its arguments."""
    return {"hyper": hyper, "params": params, "examples": examples, "key": key}, extra


def test_augmented_keeps_the_other_arrays_and_splits_the_key():
    images, seen = pictures(4), []

    def augment(key, images):
        seen.append(key)
        return images + 1

    examples = {"inputs": images, "targets": np.arange(4), "mask": np.ones(4)}
    received, extra = augmented(echo, augment)({"rate": 1}, "params", "extra", examples, jax.random.key(7))
    np.testing.assert_array_equal(received["examples"].pop("inputs"), images + 1)
    assert received["examples"].keys() == {"targets", "mask"}
    assert all(received["examples"][name] is examples[name] for name in ("targets", "mask"))
    assert (received["hyper"], received["params"], extra) == ({"rate": 1}, "params", "extra")
    keys = [jax.random.key_data(key).tolist() for key in (jax.random.key(7), seen[0], received["key"])]
    assert keys[0] != keys[1] != keys[2] != keys[0]
    assert examples["inputs"] is images


@pytest.mark.slow
def test_mixed_passes_probabilities_to_the_loss():
    examples = {"inputs": IMAGES, "targets": np.arange(16) % 3, "mask": np.ones(16)}
    received, _ = mixed(echo, 1.0, 3)({}, None, None, examples, jax.random.key(0))
    assert received["examples"]["inputs"].shape == examples["inputs"].shape
    assert received["examples"]["targets"].shape == (16, 3)
    assert received["examples"]["mask"] is examples["mask"]
    assert not np.isin(received["examples"]["targets"], (0, 1)).all()
    assert not np.array_equal(received["examples"]["inputs"], examples["inputs"])


def image_run(wrap):
    """A linear classifier of 4 × 4 images whose objective `wrap` augments."""
    model = plain(
        lambda key: {"w": 0.1 * jax.random.normal(key, (16, 3)), "b": jnp.zeros(3)},
        lambda params, images: images.reshape(len(images), 16) @ params["w"] + params["b"][None],
    )
    return training.supervised(
        model.init,
        wrap(training.objective(model, losses.smoothed(0.1))),
        lambda hyper: optax.adam(hyper["learning_rate"]),
        training.measure(model, metrics.classification),
    )


@pytest.mark.slow
def test_an_augmented_run_replays_and_a_lane_equals_the_run_alone():
    targets = np.arange(48, dtype=np.int32) % 3
    images = pictures(48, 4, 4, 1) * 0.3
    images[np.arange(48), targets] += 1.0  # the class is the bright row
    examples = {"inputs": images, "targets": targets}
    schedule, everything = blocks(np.tile(np.arange(48), 30), 16), blocks(np.arange(48), 48)
    run = image_run(lambda objective: augmented(mixed(objective, 0.2, 3), compose(["flip"])))
    grid = sweep.grid({"learning_rate": (0.01, 0.03)}, (0,))

    def trained(run, hyper, key):
        """Return the losses [S] and the accuracy of a run or its lanes; check that a replay has the same bits."""

        @jax.jit
        def whole(hyper, key):
            state, losses = run.advance(hyper, run.start(hyper, key), examples, schedule)
            return losses, run.score(hyper, state, examples, everything)["accuracy"]

        first = whole(hyper, key)
        assert problems.equal(first, whole(hyper, key))
        return first

    alone = jax.tree.map(lambda leaf: leaf[1], (grid.hyper, grid.key))
    losses, accuracy = trained(run, *alone)
    assert accuracy > 0.9
    lanes, _ = trained(sweep.lanes(run, grid.schedule), grid.hyper, grid.key)
    np.testing.assert_allclose(lanes[1], losses, rtol=1e-4)
    bare, _ = trained(image_run(lambda objective: objective), *alone)
    assert not np.allclose(bare, losses, rtol=1e-2)


# --- Errors ----------------------------------------------------------------------------------------------------------

MISTAKES = {
    "unknown": (lambda key: compose(["flipp"]), "unknown augmentation 'flipp': did you mean 'flip'"),
    "twice": (lambda key: compose(["flip", "shift", "flip"]), "flip, shift, flip: name each once"),
    "flat": (lambda key: flip(key, np.ones((3, 64))), r"\[B, H, W, C\], not inputs of shape \[3, 64\]"),
    "backwards": (lambda key: shift(key, pictures(2), -1), "shift by -1 pixels: give 0 or more"),
    "too far": (
        lambda key: crop(key, pictures(2), 6),
        "crop by 6 pixels: give 0 up to, not including, the sh",
    ),
    "no hole": (lambda key: cutout(key, pictures(2), 0), "give a size of 1 or more"),
    "no blend": (lambda key: mixup(key, pictures(2), np.arange(2), 0.0, 2), "alpha = 0.0: give a positive number"),
    "flat mixup": (lambda key: mixup(key, np.ones((3, 64)), np.arange(3), 0.2, 3), r"not inputs of shape \[3, 64\]"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_are_one_line(name):
    make, message = MISTAKES[name]
    with refused_in_one_line(message):
        make(jax.random.key(0))


def test_the_module_documents_every_augmentation():
    for name in AUGMENTATIONS:
        assert f"**{name}**" in augmentation.__doc__
