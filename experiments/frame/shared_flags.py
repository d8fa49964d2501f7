"""Groups of settings that several experiments share; they mean the same in all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.frame import kinds, settings
from experiments.frame.datasets import dataset
from mllab import validation
from mllab.data.dataset import Dataset
from mllab.data.readers import table
from mllab.data.schema.target import TRANSFORMS
from mllab.data.split import sample
from mllab.errors import UserError, shortened
from mllab.models.base import PRECISIONS
from mllab.models.mlp import ACTIVATIONS
from mllab.models.table import models_help, option_help
from mllab.optimizers import OPTIMIZERS, SCHEDULES

MAX_LAYERS = 100  # compiling takes time for each


@dataclass(frozen=True, kw_only=True)
class Output(settings.Base):
    """Where a run is written."""

    workdir: str | None = kinds.path(
        None,
        help="Folder to write to; the same one again resumes. Default: runs/EXPERIMENT/<UTC time>.",
        affects_result=False,
    )


@dataclass(frozen=True, kw_only=True)
class Data(Output):
    """The data set, and its split into training, validation and test rows."""

    dataset: str | None = dataset(None)
    data_dir: str | None = kinds.path(
        None,
        help="Folder to look for data sets in first. Default: $MLLAB_DATA, then the user's cache.",
        affects_result=False,
    )
    split_seed: int = kinds.whole(
        0, help="Seed of the 60/20/20 split, where a data set brings none of its own.", low=0, high=2**32 - 1
    )


@dataclass(frozen=True, kw_only=True)
class Table(Data):
    """A table of the user's own."""

    target: str | None = kinds.text(None, help="Column of your own table to predict.")
    task: str | None = kinds.choice(
        ["classification", "regression"],
        None,
        help="Task of your own table. Default: inferred from the target's values.",
    )
    test: str | None = kinds.path(
        None,
        help="File with the columns of your own table, whose rows are the test rows. Default: a fifth of its rows.",
    )
    split_column: str | None = kinds.text(
        None, help="Column of your own table that names the part of each row: train, validation or test."
    )
    drop: tuple[str, ...] = kinds.texts(help="Columns of your own table to leave out, separated by commas.")
    query: str | None = kinds.text(
        None,
        help="SQL that reads: of a database (.db, .sqlite, .sqlite3, .duckdb), or of your own table, whose name in it "
        "is data.",
    )
    column_types: tuple[str, ...] = kinds.texts(
        help="Kinds of columns where the inferred ones are wrong, such as zip=category: number, category, boolean or "
        "date; separated by commas."
    )
    target_transform: str = kinds.choice(
        [*TRANSFORMS, "auto"],
        "none",
        help="Scale on which a quantity is learned: log, or auto: log where the target is positive and skewed. Scores "
        "are in its own unit.",
    )

    def refuse_table(self, reason: str) -> None:
        """Raise UserError for a setting of a table that was changed, in a run that reads none."""
        names = "target", "test", "split_column", "drop", "query", "column_types", "target_transform"
        self.refuse_unread(names, reason)

    def table_options(self, extra: Sequence[str] = ()) -> table.Options:
        """Return what is set for a table; `extra` names columns to return raw, which are not inputs then.

        Raises:
            UserError: a malformed entry of `column_types`.
        """
        return table.Options(
            task=self.task,
            test=self.test,
            split_column=self.split_column,
            drop=self.drop,
            query=self.query,
            column_types=_types(self.column_types),
            target_transform=self.target_transform,
            extra=tuple(extra),
        )


@dataclass(frozen=True, kw_only=True)
class Separation(Table):
    """Rows of a table that belong together, or follow each other."""

    group: str | None = kinds.text(None, help="Column whose rows of one value stay on one side of every fold.")
    time: str | None = kinds.text(None, help="Column of times: training rows are earlier than held-out rows.")
    gap: float = kinds.number(0.0, help="Time between training and held-out rows, in units of --time (days).", low=0)


def _types(entries: Sequence[str]) -> dict[str, str]:
    """Return kinds by the names of columns, from entries NAME=KIND."""
    kinds_by_name = {}
    for entry in entries:
        name, equals, kind = entry.rpartition("=")
        if not equals or not name.strip():
            raise UserError(f"--column_types: {shortened(entry)!r} is not COLUMN=KIND, such as zip=category")
        kinds_by_name[name.strip()] = kind.strip()
    return kinds_by_name


@dataclass(frozen=True, kw_only=True)
class Rows(Data):
    """How many of the training and validation rows to learn from."""

    rows: int | None = kinds.whole(
        None,
        help="Rows to learn from, at most; of more, a sample stratified by class is drawn. Default: all but the test "
        "rows.",
        low=2,
    )

    def draw(self, data: Dataset) -> np.ndarray:
        """Return the ids of the training and validation rows, ascending, or a sample of them stratified by class."""
        ids = np.union1d(data.split.train, data.split.validation)
        return sample(ids, data.targets, (self.rows or len(ids)) / len(ids), self.split_seed, data.classes)

    def counts(self, data: Dataset, ids: np.ndarray) -> dict[str, int]:
        """Return the numbers of rows for `DatasetFacts`: those drawn, those available to draw from, and test rows."""
        available = len(data.split.train) + len(data.split.validation)
        return {"choosing": len(ids), "available": available, "test": len(data.split.test)}


@dataclass(frozen=True, kw_only=True)
class Folds(Data):
    """Cross-validation."""

    folds: int = kinds.whole(5, help="Folds of cross-validation; each row is held out once.", low=2)
    rounds: int = kinds.whole(1, help="Rounds of cross-validation, each with new folds.", low=1, high=1000)

    def split(self, targets: np.ndarray) -> validation.Folds:
        """Return stratified folds of rows with these classes, [M], as ids 0 to M - 1."""
        return validation.folds(np.arange(len(targets)), self.folds, self.split_seed, targets, rounds=self.rounds)

    def caveats(self) -> list[str]:
        """Return how scores over folds are to be read."""
        return [
            f"Training and validation rows were split into {self.described()}, stratified by class, and settings "
            "chosen by the mean accuracy over the held-out folds. The test rows played no part in any choice and were "
            "evaluated once.",
            "The held-out accuracy of the chosen setting is optimistic, since it is the best of all; the test accuracy "
            "is not.",
            "Folds share most of their training rows: the interval over folds is widened for that (Nadeau and Bengio "
            "2003). The interval of the test accuracy is over the sampling of test rows (Wilson 1927).",
        ]

    def described(self) -> str:
        """Return the folds in words: "5 folds", or "5 folds × 2 rounds"."""
        return f"{self.folds} folds" + (f" × {self.rounds} rounds" if self.rounds > 1 else "")


@dataclass(frozen=True, kw_only=True)
class Restarts(settings.Base):
    """Starts of an iterative fit."""

    restarts: int = kinds.whole(10, help="Random starts of each fit; the best one is kept.", low=1, high=10_000)


@dataclass(frozen=True, kw_only=True)
class Seeds(settings.Base):
    """Repetitions."""

    seeds: int = kinds.whole(
        3,
        help="Number of seeds, 0, 1, ... An interval needs at least 2, and 3 or more to be of use.",
        low=1,
        high=10_000,
    )


@dataclass(frozen=True, kw_only=True)
class Devices(settings.Base):
    """Devices to compute on."""

    devices: int | None = kinds.whole(
        None,
        help="Devices to spread the runs over, of each process. Default: all; on a CPU, one a core.",
        low=1,
        high=4096,
        affects_result=False,
    )
    mesh: str | None = kinds.mesh(
        help="Devices for runs side by side, and for the rows of each batch, such as lanes:4,batch:2. Default: as the "
        "experiment chooses."
    )
    coordinator: str | None = kinds.text(
        None, help="host:port of the first of several processes that compute together, each started with the same "
        "flags. Needed where JAX does not find the cluster itself, as it does under Slurm and on Cloud TPU.",
        affects_result=False,
    )  # fmt: skip
    num_processes: int | None = kinds.whole(None, help="Number of processes.", low=1, high=4096, affects_result=False)
    process_id: int | None = kinds.whole(
        None, help="Number of this process, from 0; the first one writes the files.", low=0, high=4095,
        affects_result=False,
    )  # fmt: skip

    def mesh_sizes(self) -> tuple[int | None, int]:
        """Return how many devices are wanted in all (None: those there are), and how many of them along batches."""
        if self.mesh is None:
            return self.devices, 1
        sizes = kinds.read_mesh(self.mesh)
        lanes, batch = sizes.get("lanes"), sizes.get("batch", 1)
        count = self.devices if lanes is None else lanes * batch
        if self.devices is not None and self.devices != count:
            raise UserError(f"--devices={self.devices} and --mesh={self.mesh}: the mesh has {count} devices; leave one")
        return count, batch


@dataclass(frozen=True, kw_only=True)
class Network(settings.Base):
    """A model trained by gradients, and its sizes."""

    model: str | None = kinds.text(None, help=f"Model: {models_help()}.")
    hidden: tuple[int, ...] | None = kinds.wholes(
        None, help=f"Units of each hidden layer; by default of {option_help('hidden')}.", ordered=True, most=MAX_LAYERS
    )
    activation: str | None = kinds.choice(
        ACTIVATIONS, None, help=f"Activation of hidden layers; by default of {option_help('activation')}."
    )
    channels: tuple[int, ...] | None = kinds.wholes(
        None, help=f"Channels of each stage; by default of {option_help('channels')}.", ordered=True, most=MAX_LAYERS
    )
    dropout: float | None = kinds.number(
        None,
        help=f"Probability of dropping a hidden unit in training; by default of {option_help('dropout')}.",
        low=0,
        high=0.95,
    )

    def options(self) -> dict[str, object]:
        """Return the model's options by name; None where a flag leaves them open."""
        return {name: getattr(self, name) for name in ("hidden", "channels", "activation", "dropout")}


@dataclass(frozen=True, kw_only=True)
class Steps(settings.Base):
    """How the steps of a training by gradients are computed, and whether they are profiled."""

    precision: str = kinds.choice(
        PRECISIONS, "float32", help="Precision to compute in. Params, optimizer states and sums are float32 in each; "
        "tf32 rounds the inputs of matrix products, on GPU and TPU alone.",
    )  # fmt: skip

    profile: str | None = kinds.choice(
        ["steps"], None, help="Write a trace of one segment for TensorBoard and Perfetto to the workdir, and show the "
        "share of the machine's peak that steps reach. Default: no profile.",
        affects_result=False,
    )  # fmt: skip

    def matmul_precision(self, platform: str) -> str | None:
        """Return JAX's name of the precision of float32 matrix products on a platform; None for its default.

        By default GPUs compute them in TF32, and TPUs in bfloat16. A CPU has float32 alone.
        """
        return None if platform == "cpu" else {"float32": "float32", "tf32": "tensorfloat32"}.get(self.precision)


@dataclass(frozen=True, kw_only=True)
class Training(Seeds, Devices, Steps):
    """Training by minibatches."""

    batch_size: int | None = kinds.whole(32, help="Rows in a minibatch.", low=1)
    epochs: int | None = kinds.whole(20, help="Passes over the training rows.", low=1, high=1_000_000)
    schedule: str | None = kinds.choice(
        SCHEDULES, "constant", help="Schedule of the learning rate over the steps; it peaks at the learning rate."
    )
    clip_norm: float | None = kinds.number(None, help="Global norm to clip gradients to. Default: no clipping.", low=0)
    weight_decay: float | None = kinds.number(None, help="Weight decay. Default: the optimizer's own.", low=0)
    average: float | None = kinds.number(
        None, help="Decay of a moving average of the params to evaluate, such as 0.999. Default: no average."
    )
    checkpoint_seconds: float = kinds.number(10.0, help="Seconds between checkpoints.", low=0, affects_result=False)


def check_clip_norm(clip_norm: float | None) -> None:
    """Raise UserError for a norm of 0, with which no step would be taken."""
    if clip_norm == 0:
        raise UserError("--clip_norm=0: no step would be taken; give a positive norm")


@dataclass(frozen=True, kw_only=True)
class Optimizers(settings.Base):
    """Optimizers to compare."""

    optimizers: tuple[str, ...] = kinds.choices(
        OPTIMIZERS,
        ("sgd", "momentum", "rmsprop", "adam"),
        help="Optimizers to compare, separated by commas, or all.",
        kind="optimizer",
    )


@dataclass(frozen=True, kw_only=True)
class LearningRates(settings.Base):
    """Learning rates to compare."""

    learning_rates: tuple[float, ...] = kinds.grid(
        "1e-4:1:8", help="Learning rates of every optimizer: LOW:HIGH:COUNT, evenly spaced on a log scale, or A,B,C."
    )


@dataclass(frozen=True, kw_only=True)
class Sampling(settings.Base):
    """How a language model draws the next character."""

    temperature: float = kinds.number(0.7, help="Temperature; 0 is greedy.", low=0, high=100)
    top_k: int | None = kinds.whole(
        None, help="Draw from the most probable characters, this many.", low=1, high=100_000
    )
    top_p: float | None = kinds.number(
        None, help="Draw from the most probable characters up to this probability, above 0.", low=1e-6, high=1
    )

    def filters(self) -> dict[str, Any]:
        """Return the arguments of `sampling.sample`."""
        return {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}


@dataclass(frozen=True, kw_only=True)
class BeamSearch(settings.Base):
    """How a sentence is translated."""

    beam: int = kinds.whole(5, help="Width of the beam search; 1 is greedy.", low=1, high=1_000)
    penalty: float = kinds.number(
        1.0, help="Exponent of the length that the score of a translation is divided by.", low=0, high=10
    )
    replace_unknown: bool = kinds.switch(
        help="Replace an unknown word of a translation by the source word with the greatest weight."
    )


# The flags that all experiments had in earlier versions, with their defaults.
SHARED: settings.Known = {
    name: (setting, group.defaults()[name])
    for group in (Table, Rows, Folds, Restarts, Training, Network, Optimizers, LearningRates)
    for name, setting in group.table().items()
}
