r"""Train recurrent models of polyphonic music on piano rolls, and let them play on.

  python -m experiments.music
  python -m experiments.music --dataset=jsb_chorales --epochs=120 --seeds=3
  python -m experiments.music --dataset=jsb_chorales --outputs=autoregressive --cells=gru,lstm --midi=chorale.mid

A frame says which of 88 keys sound. A model reads frame by frame and gives the distribution of the next. Its loss is

    $$ L = -\frac{1}{M} \sum_t \log P(x_t \mid x_1, \dots, x_{t-1}) $$

in nats per frame, over the M frames that have one before them. There are two output models: keys that are independent
of each other given the past, and keys that depend on the lower ones of their frame. The validation part chooses the
learning rate, the cell and the params of each seed; the test part is read once, at the end. What the best model of each
output plays is in the page, as a sound and as a piano roll, and beside it as a MIDI file.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import frame
from experiments import music_training as training
from experiments.frame import observers
from experiments.music_results import Measurement, Sample, Scores, answer, facts, result_table, sections
from mllab import music_models, optimizers, sweep
from mllab.data import music
from mllab.errors import UserError
from mllab.models.recurrent import CELLS, polyphony
from mllab.report import midi
from mllab.report.atomic import write_bytes
from mllab.report.report import Report
from mllab.report.table import legible

SEGMENTS = 40  # scores of the validation part over the training


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices, frame.Steps):
    """The music, the models, how they are trained, and how they play."""

    dataset: str = frame.path(
        "progressions", names=music.MUSIC, help=f"Music: {', '.join(music.MUSIC)}, or the path of a .mat file of piano "
        "rolls (traindata, validdata, testdata)."
    )  # fmt: skip
    data_dir: str | None = frame.Data.with_default("data_dir", None)
    outputs: tuple[str, ...] = frame.choices(
        polyphony.OUTPUTS, ("autoregressive", "bernoulli"), help="Output models, each with a table of its own.",
        kind="output",
    )  # fmt: skip
    cells: tuple[str, ...] = frame.choices(CELLS, ("gru",), help="Cells to compare.", kind="cell")
    hidden: int = frame.whole(256, help="Units of each layer.", low=1, high=100_000)
    layers: int = frame.whole(1, help="Layers of cells.", low=1, high=100)
    units: int = frame.whole(256, help="Hidden units of the output model.", low=1, high=100_000)
    dropout: float = frame.number(
        0.35, help="Probability of dropping a feature that a layer or the output reads.", low=0, high=0.95
    )
    recurrent_dropout: float = frame.number(
        0.2, help="Probability of dropping a recurrent weight, in cells that have such.", low=0, high=0.95
    )
    transposed: float = frame.number(
        0.5, help="Probability of transposing a row in a training step, by -5 to +6 semitones.", low=0, high=1
    )
    optimizer: str = frame.choice(optimizers.OPTIMIZERS, "adam", help="Optimizer.", kind="optimizer")
    learning_rates: tuple[float, ...] = frame.LearningRates.with_default(
        "learning_rates", (0.005,), help="Learning rates to choose among: LOW:HIGH:COUNT on a log scale, or A,B,C."
    )
    schedule: str = frame.Training.with_default("schedule", "one_cycle")
    clip_norm: float | None = frame.Training.with_default(
        "clip_norm", 1.0, help="Global norm to clip gradients to; they explode without."
    )
    average: float | None = frame.Training.with_default("average", 0.995)
    batch_size: int = frame.whole(4, help="Rows in a batch, each as long as the longest piece.", low=1, high=1_000_000)
    epochs: int = frame.whole(60, help="Passes over the training part.", low=1, high=1_000_000)
    patience: int | None = frame.whole(
        None, help=f"Stop after this many of the {SEGMENTS} scores without a better one. Default: never.", low=1
    )
    seeds: int = frame.Seeds.with_default("seeds", 2)
    checkpoint_seconds: float = frame.Training.with_default("checkpoint_seconds", 10.0)
    primed: int = frame.whole(8, help="Frames of a test piece to play on from; 0 begins anew.", low=0, high=100_000)
    frames: int = frame.whole(32, help="Frames of the sampled piece, with its beginning.", low=1, high=10_000)
    temperature: float = frame.number(0.8, help="Temperature of the sampled piece; 0 is greedy.", low=0, high=100)
    frame_seconds: float = frame.number(0.6, help="Seconds that a frame sounds.", low=0.05, high=4)
    midi: str | None = frame.path(
        None, help="File to write the sampled piece of the first output model to, too.", affects_result=False
    )

    def arguments(self, output: str, cell: str) -> dict[str, object]:
        """Return the arguments of the model that its params depend on."""
        sizes = {"hidden": self.hidden, "layers": self.layers, "units": self.units}
        return {"output": output, "cell": cell, "keys": training.KEYS, **sizes}


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Train every model, choose on the validation part, score the test part once, publish the best ones, and play."""
    frame.check_clip_norm(settings.clip_norm)
    if settings.cells == ("mingru",):
        settings.refuse_unread(["recurrent_dropout"], "minGRU has no recurrent weights; leave it out, or add a cell")
    if settings.primed >= settings.frames:
        raise UserError(f"--primed={settings.primed} of --frames={settings.frames}: leave frames to sample")
    if settings.midi is not None:
        check_writable(settings.midi)
    with run.timed("data"):
        loaded = music.load(settings.dataset, data_dir=settings.data_dir)
        pieces = training.lay_out(loaded.parts)
        constants = training.baselines(loaded.parts)
        run.read({loaded.name: loaded.sha256})
        run.sources += [line for line in (loaded.citation, loaded.licence and f"licence: {loaded.licence}") if line]
    models = [(output, cell) for output in settings.outputs for cell in settings.cells]
    with observers.timed_race(run):
        trained = [train_model(run, settings, pieces, *model) for model in models]
    measured = Measurement(
        music=loaded.name, pieces={part: len(each) for part, each in loaded.parts.items()}, frames=pieces.predicted,
        voices=pieces.voices, seeds=settings.seeds, epochs=settings.epochs,
        transposed=settings.transposed, transpositions=pieces.transpositions,
        baselines={output: constants[output] for output in settings.outputs},
        scores=[Scores.of(each, settings.learning_rates) for each in trained], samples=[],
    )  # fmt: skip
    with run.timed("playing"):
        for output in settings.outputs:
            if best := measured.best(output):
                chosen = next(each for each in trained if each.named == (output, best.cell))
                measured.samples.append(publish_and_play(run, settings, loaded, chosen))
    return measured


def train_model(
    run: frame.Context, settings: Settings, pieces: training.Pieces, output: str, cell: str
) -> training.Trained:
    """Train one output model with one cell, with every learning rate and seed, with progress and records."""
    name = f"{output}_{cell}"

    def observe(grid: sweep.Grid, steps: int) -> list:
        return [observers.observer(run, name, grid, steps, lambda held: -held["loss"], f"{name}, −nats", "model")]

    dropout = {"dropout": settings.dropout}
    if CELLS[cell].gates is not None:
        dropout["recurrent_dropout"] = settings.recurrent_dropout
    lanes = settings.seeds * len(settings.learning_rates)
    chosen = {"schedule": settings.schedule, "clip_norm": settings.clip_norm, "average": settings.average}
    return training.train(
        pieces, settings.arguments(output, cell), regularisation=dropout, transposed=settings.transposed,
        rates=settings.learning_rates, seeds=settings.seeds, epochs=settings.epochs, batch_size=settings.batch_size,
        segments=SEGMENTS, patience=settings.patience, optimizer=settings.optimizer,
        precision=settings.precision, settings=chosen, mesh=run.mesh(lanes, all_hosts=True), observe=observe,
        workdir=run.path, checkpoint_seconds=settings.checkpoint_seconds,
    )  # fmt: skip


def publish_and_play(run: frame.Context, settings: Settings, loaded: music.Music, best: training.Trained) -> Sample:
    """Publish the best seed of a model; let it play on from a piece of the test part, and write that as MIDI."""
    output, params = best.named[0], best.params(best.seed)
    header = {"dataset": loaded.name, "licence": loaded.licence, "citation": loaded.citation, "seed": best.seed}
    header |= {"test_nats": float(best.test["loss"][best.best or 0].mean()), "flags": settings.result_flags()}
    run.write(f"{output}.safetensors", music_models.encode(params, best.arguments, header))
    original = max(loaded.parts["test"], key=len)
    prime = original[: settings.primed]
    drawn = polyphony.sample(
        params, jax.random.key(0), prime, length=settings.frames - len(prime), temperature=settings.temperature
    )
    roll = np.concatenate([prime, np.asarray(drawn[0]).astype(np.uint8)])
    content = midi.encode(roll, frame_seconds=settings.frame_seconds, lowest=loaded.lowest)
    run.write(f"{output}.mid", content)
    if settings.midi is not None and output == settings.outputs[0]:
        write_bytes(Path(settings.midi), content)
    return Sample(output, settings.temperature, len(prime), f"{output}.mid", loaded.lowest, roll, original)


def check_writable(path: str) -> None:
    """Raise UserError where a MIDI file cannot be written, before anything is trained."""
    folder = Path(path).absolute().parent
    if Path(path).is_dir():
        raise UserError(f"--midi={path} is a folder: name a file in it")
    if not folder.is_dir():
        raise UserError(f"--midi={path}: no folder {folder}; create it, or name another file")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"--midi={path}: {folder} is not writable; name another file")


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the losses of each output model, learning curves, and what it plays."""
    del run
    name = legible(measured.music)
    tables = [result_table(measured, output) for output in measured.outputs]
    return Report(
        f"Models of polyphonic music on {name}",
        f"How well do recurrent cells predict the next frame of {name}, and what do they play?",
        answer(measured),
        tables[0],
        sections(measured, settings.frame_seconds),
        facts(measured, settings.flagfile().splitlines()),
        tables=tables[1:],
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
