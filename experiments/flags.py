"""The flags that several experiments share: defined once, and they mean the same everywhere."""

import math
from collections.abc import Sequence
from typing import Any

from absl import flags

from mllab.errors import UserError
from mllab.models.mlp import ACTIVATIONS
from mllab.optimizers import SCHEDULES

DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "What to learn: digits, mnist, fashion_mnist, california_housing, newsgroups20, line, points in the plane "
    "(circles, moons, xor, blobs, stretched), or the path of your own .csv or .parquet table (with --target), "
    "folder of images (one subfolder a class), .npz file of images and labels, or folder of IDX files.",
)
TARGET = flags.DEFINE_string("target", None, "Column of your own table that is to be predicted.")
TASK = flags.DEFINE_enum(
    "task", None, ["classification", "regression"], "What the target is. Default: inferred from its values."
)
MODEL = flags.DEFINE_string("model", None, "The model: linear (regression), softmax, mlp, convnet, lenet or residual.")
HIDDEN = flags.DEFINE_list("hidden", None, "Units of each hidden layer: of mlp (128,128), of convnet (128).")
ACTIVATION = flags.DEFINE_enum("activation", None, list(ACTIVATIONS), "Activation of mlp's hidden layers (relu).")
CHANNELS = flags.DEFINE_list("channels", None, "Channels of each stage: of convnet (16,32), of residual (16,32,64).")
DROPOUT = flags.DEFINE_float(
    "dropout",
    None,
    "Probability that a hidden unit of convnet is dropped in training.",
    lower_bound=0,
    upper_bound=0.95,
)
OPTIMIZERS = flags.DEFINE_list(
    "optimizers", ["sgd", "momentum", "rmsprop", "adam"], "Optimizers by name, separated by commas; or 'all'."
)
LEARNING_RATES = flags.DEFINE_string(
    "learning_rates",
    "1e-4:1:8",
    "Learning rates: LOW:HIGH:COUNT, evenly spaced on a log scale, or numbers separated by commas.",
)
SCHEDULE = flags.DEFINE_enum(
    "schedule", "constant", list(SCHEDULES), "How the learning rate goes from step to step; it peaks at the rate."
)
CLIP_NORM = flags.DEFINE_float("clip_norm", None, "Clip gradients to this global norm. Default: never.", lower_bound=0)
WEIGHT_DECAY = flags.DEFINE_float("weight_decay", None, "Weight decay. Default: the optimizer's own.", lower_bound=0)
AVERAGE = flags.DEFINE_float(
    "average", None, "Score a moving average of the params with this decay, such as 0.999. Default: none."
)
BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Rows a step.", lower_bound=1)
EPOCHS = flags.DEFINE_integer("epochs", 20, "Passes over the training rows.", lower_bound=1)
SEEDS = flags.DEFINE_integer("seeds", 3, "How many seeds: 0, 1, ... Intervals want at least 3.", lower_bound=1)
ROWS = flags.DEFINE_integer(
    "rows",
    None,
    "Rows to learn from, at most; of more, so many are drawn, by class. Default: all but the test rows; of "
    "kernel_svm 2,000, since a kernel matrix grows with the square of their number.",
    lower_bound=2,
)
FOLDS = flags.DEFINE_integer(
    "folds", 5, "Folds of the rows that settings are chosen on; each row is held out once.", lower_bound=2
)
ROUNDS = flags.DEFINE_integer("rounds", 1, "How often those rows are dealt into folds anew.", lower_bound=1)
RESTARTS = flags.DEFINE_integer("restarts", 10, "Starts from which a model is fitted; the best stays.", lower_bound=1)
SPLIT_SEED = flags.DEFINE_integer(
    "split_seed", 0, "Seed of the 60/20/20 split, where a data set brings none of its own.", lower_bound=0
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder to write to; the same one again resumes. Default: runs/EXPERIMENT/<UTC time>."
)
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder to look for data sets in first. Default: $MLLAB_DATA, then the user's cache."
)
CHECKPOINT_SECONDS = flags.DEFINE_float("checkpoint_seconds", 10.0, "Seconds between checkpoints.", lower_bound=0)
PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "bf16"], "bf16 computes in bfloat16; params and sums stay in float32."
)
DEVICES = flags.DEFINE_integer(
    "devices", None, "Devices to spread the lanes over. Default: all; on a CPU, one a core.", lower_bound=1
)

# What says where a run happens and not what it computes: a workdir may be resumed with others.
ELSEWHERE = frozenset({"workdir", "data_dir", "devices", "mesh", "profile", "checkpoint_seconds"})


def numbers(text: str, flag: str) -> list[float]:
    """Return the numbers of `LOW:HIGH:COUNT` (evenly spaced on a log scale) or `A,B,C`.

    Raises:
        UserError: it is neither, or a number is not positive and finite.
    """
    try:
        if ":" in text:
            low, high, count = text.split(":")
            ends, many = [float(low), float(high)], int(count)
        else:
            ends, many = [float(part) for part in text.split(",")], 0
    except ValueError:
        raise UserError(
            f"--{flag}={text}: give LOW:HIGH:COUNT, such as 1e-4:1:9, or numbers, such as 0.1,0.01"
        ) from None
    for number in ends:
        if not (math.isfinite(number) and number > 0):
            raise UserError(f"--{flag}={text}: {number:g} is not a positive number")
    if ":" not in text:
        return ends
    if many < 1 or (many == 1 and ends[0] != ends[1]) or ends[0] > ends[1]:
        raise UserError(f"--{flag}={text}: LOW must not exceed HIGH, and COUNT must be 2 or more")
    step = math.log(ends[1] / ends[0]) / max(1, many - 1)
    return [*(ends[0] * math.exp(step * position) for position in range(many - 1)), ends[1]]


def whole_numbers(texts: Sequence[str], flag: str) -> tuple[int, ...]:
    """Return the positive whole numbers of a flag's list."""
    if not all(text.strip().isdecimal() and int(text) > 0 for text in texts):
        raise UserError(f"--{flag}={','.join(texts)}: give positive whole numbers, such as 128,128")
    return tuple(int(text) for text in texts)


def model_options() -> dict[str, Any]:
    """Return what the flags say of the model, as `mllab.models.table.plan` takes it; None where they say nothing."""
    sizes = {flag.name: flag.value and whole_numbers(flag.value, flag.name) for flag in (HIDDEN, CHANNELS)}
    return {**sizes, "activation": ACTIVATION.value, "dropout": DROPOUT.value}
