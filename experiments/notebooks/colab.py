# %% [markdown]
# # mllab in a notebook
#
# Choose a TPU, a GPU or a CPU (*Runtime › Change runtime type* on Colab), then run all cells. Every cell can be run
# again: a run whose folder exists resumes, and one that has ended is shown again at once.

# %% [markdown]
# ## Install
#
# mllab is installed beside the jax of this runtime, which stays as it is. `SOURCE` is a folder, an uploaded archive
# (`git archive --format=zip -o mllab.zip HEAD` makes one) or the address of a git repository. `WANTED` is the device
# that the notebook needs: `tpu`, `gpu`, `cpu` or `any`.

# %%
import contextlib
import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

SOURCE = os.environ.get("MLLAB_SOURCE", "mllab.zip")
WANTED = os.environ.get("MLLAB_WANTED", "any")
TINY = bool(os.environ.get("MLLAB_TINY"))  # sizes of a test


def checkout(source):
    """Return the folder with the code: `source`, unpacked or cloned, or the one that this notebook is in."""
    here = Path.cwd()
    for folder in (Path(source), here, *here.parents):
        if (folder / "mllab").is_dir() and (folder / "experiments").is_dir():
            return folder.resolve()
    folder = here / "mllab-code"
    if Path(source).is_file():
        with zipfile.ZipFile(source) as archive:
            archive.extractall(folder)
    elif "://" in source and not folder.exists():
        subprocess.run(["git", "clone", "--quiet", "--depth=1", source, str(folder)], check=True)
    places = [each.parent for each in sorted(folder.glob("**/pyproject.toml"))]
    assert places, f"no code of mllab in {source}: upload mllab.zip to {here}, or change SOURCE"
    return places[0]


def versions():
    """Return the version of every installed package."""
    return {(package.name or "").lower(): package.version for package in metadata.distributions()}


def install(folder):
    """Install mllab and what it needs, and keep the versions of jax, jaxlib, libtpu, numpy and flax."""
    before = versions()
    kept = {name for name in before if name.startswith("jax") or name in ("libtpu", "numpy", "flax")}
    constraints = Path("constraints.txt").resolve()
    constraints.write_text("".join(f"{name}=={before[name]}\n" for name in sorted(kept)))
    command = [sys.executable, "-m", "pip", "install", "-q", "-c", str(constraints), "-e", f"{folder}[experiments]"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"pip could not install mllab beside jax {before.get('jax')}:\n{done.stderr[-1000:]}"
    after = versions()
    loaded = {
        name.lower()
        for module, names in metadata.packages_distributions().items()
        if module in sys.modules
        for name in names
    }
    replaced = sorted(name for name in loaded & before.keys() if after.get(name) != before[name])
    assert not replaced, f"pip replaced {', '.join(replaced)}: restart the session, then run all cells again"


CODE = checkout(SOURCE)
sys.path.insert(0, str(CODE))
if "mllab" not in versions():
    install(CODE)

import jax

from mllab import devices

with contextlib.suppress(RuntimeError):  # where JAX has started, as in a second run of this cell
    devices.use_cores()
devices.cache_compilations()
devices.available()
backend = jax.default_backend()
assert WANTED in ("any", backend), f"a {WANTED} was asked for, and jax finds only a {backend}: change the runtime type"
print(f"jax {jax.__version__} on {jax.device_count()} × {jax.devices()[0].device_kind} ({backend})")

# %% [markdown]
# Runs are kept on Google Drive if it is mounted (the folder icon at the left of Colab), so that they outlive the
# runtime.

# %%
DRIVE = Path("/content/drive/MyDrive")
RUNS = DRIVE / "mllab" if DRIVE.is_dir() else Path("runs")
print(f"runs are kept in {RUNS.resolve()}")

# %% [markdown]
# ## Which optimizer, at which learning rate?
#
# All learning rates and seeds of an optimizer are one compiled program. The report appears below the bars.

# %%
from experiments import optimizer_race

sizes = {"optimizers": ("sgd", "adam"), "learning_rates": (0.01, 0.1), "hidden": (8,), "seeds": 2, "epochs": 2}
raced = optimizer_race.run(workdir=RUNS / "race", **(sizes if TINY else {}))
raced.winner

# %% [markdown]
# ## A conv net on images
#
# What does it confuse, and which pixels does it look at?

# %%
from experiments import image_classifier

sizes = {"channels": (2, 2), "hidden": (4,), "seeds": 1, "epochs": 1}
classified = image_classifier.run(workdir=RUNS / "images", dataset="digits", **(sizes if TINY else {}))

# %% [markdown]
# ## A recurrent net on text
#
# A GRU learns to write, character by character.

# %%
from experiments import char_rnn

sizes = {"hidden": 8, "embedding": 4, "steps": 20, "seeds": 1, "sample_length": 40}
written = char_rnn.run(workdir=RUNS / "text", **(sizes if TINY else {}))

# %% [markdown]
# ## Translate dates
#
# A GRU with attention reads dates as people write them, in eight languages, and writes them in ISO form.

# %%
from experiments import translate, translation

sizes = {"hidden": 8, "embedding": 4, "seeds": 1, "segments": 1, "batch_size": 2000, "crops": 1, "beam": 1}
translated = translation.run(workdir=RUNS / "dates", models=("gru",), **(sizes if TINY else {}))

# %%
published = RUNS / "dates" / "params.safetensors"
read = translate.run(params=(published,), sentences=("May 3, 2021", "3. Mai 2021", "le 3 mai 2021"))

# %% [markdown]
# ## Look at params
#
# [treescope](https://treescope.readthedocs.io) shows the arrays of the conv net as pictures; without it they are
# listed.

# %%
from mllab import weights

params = weights.load_model(RUNS / "images" / "params.safetensors").params
try:
    import treescope
except ImportError:
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        print(jax.tree_util.keystr(path), leaf.shape, leaf.dtype)
else:
    with treescope.active_autovisualizer.set_scoped(treescope.ArrayAutovisualizer()):
        treescope.display(params)

# %% [markdown]
# ## The library itself
#
# Any pair of pure functions, `init(key) -> params` and `apply(params, inputs) -> outputs`, is a model.

# %%
import mllab
from mllab.data import load


def init(key):
    """Return the params of a linear classifier of 8×8 images."""
    return {"w": 0.1 * jax.random.normal(key, (64, 10))}


def apply(params, images):
    """Return the logits [B, 10] of images [B, 8, 8, 1]."""
    return images.reshape(-1, 64) @ params["w"]


digits = load("digits")
model = mllab.plain(init, apply)
race = mllab.race(model, digits.examples, digits.split, names=["adam", "lion"], learning_rates=[0.001, 0.01], epochs=10)
print(race.table())
