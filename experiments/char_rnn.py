r"""Train a character-level language model of recurrent cells, or a Transformer, on a text, and let it write.

  python -m experiments.char_rnn
  python -m experiments.char_rnn --text=tinyshakespeare --cells=lstm,gru --hidden=256 --steps=3000 --prime="ROMEO:"
  python -m experiments.char_rnn --text=tinyshakespeare --cells=gru,transformer --layers=2 --learning_rates=0.001,0.003
  python -m experiments.char_rnn --text=novel.txt --learning_rates=0.001:0.01:3 --seeds=3 --dropout=0.1

A model reads a text character by character and predicts the next one. Its loss is

    $$ L = -\frac{1}{M} \sum_i \log P(c_{i+1} \mid c_1, \dots, c_i) $$

in nats per character; divided by log 2 it is bits per character. The last 10% of the text are read once, at the end; a
share before them chooses the learning rate, the cell and the params of each seed; the rest trains. Recurrent cells
carry what they have read from window to window; a Transformer (GPT as nanoGPT writes it) sees one window at a time.
`experiments.sample` loads the published model and writes on.
"""

import math
from dataclasses import dataclass

import jax
import numpy as np

from experiments import char_cells as tracking
from experiments import char_models as models
from experiments import char_parts as parts
from experiments import char_training as training
from experiments import frame
from experiments.char_results import CellScores, Measurement, Sample, Writing, answer, facts, result_table, sections
from experiments.frame import observers
from experiments.rate_choice import least
from mllab import optimizers, sweep, text_models
from mllab.data import texts
from mllab.data.readers import characters
from mllab.report.report import Report
from mllab.report.table import legible, printable
from mllab.training import Notice, Segment

SEGMENTS = 20  # scores of the validation part over the training
SHOWN = 1200  # characters of the test part that are coloured
PRIME = 32  # characters of the test part to write on from by default
LIVE = 120  # characters that are written after each score
SAMPLES = 5  # of them that the page shows


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices, frame.Steps, frame.Sampling):
    """The text, the cells, how they are trained, and how they write."""

    text: str = frame.path(
        "python_reference", names=texts.TEXTS, help=f"Text: {', '.join(texts.TEXTS)}, or the path of a UTF-8 file."
    )
    data_dir: str | None = frame.Data.with_default("data_dir", None)
    cells: tuple[str, ...] = frame.choices(text_models.CELLS, ("gru",), help="Models to compare.", kind="cell")
    hidden: int = frame.whole(128, help="Units of each layer; a Transformer's width.", low=1, high=100_000)
    layers: int = frame.whole(1, help="Layers.", low=1, high=100)
    heads: int = frame.whole(4, help="Attention heads of a Transformer; a divisor of --hidden.", low=1, high=1000)
    embedding: int = frame.whole(64, help="Features of a character, of recurrent cells.", low=1, high=100_000)
    tied: bool = frame.switch(
        help="Use the embedding as output weights, too, of recurrent cells; its features are then --hidden."
    )
    layer_norm: bool = frame.switch(help="Normalise what each layer of recurrent cells yields.")
    dropout: float = frame.number(
        0.0, help="Probability of dropping a feature: of cells of the embedding, between layers and before the output, "
        "alike for all characters of a window; of a Transformer see models.transformer.language.", low=0, high=0.95,
    )  # fmt: skip
    recurrent_dropout: float = frame.number(
        0.0, help="Probability of dropping a recurrent weight, in cells that have such.", low=0, high=0.95
    )
    recurrent_init: str = frame.choice(
        models.INITS, models.INITS[0], help="Initial recurrent weights of each gate, in cells that have such: a random "
        "orthogonal matrix, or normal entries of variance 1/H.", kind="initialisation",
    )  # fmt: skip
    forget_bias: float = frame.number(
        1.0, help="Initial bias in favour of keeping the state: of an LSTM's forget gate, a GRU's or minGRU's update "
        "gate.", low=-100, high=100,
    )  # fmt: skip
    optimizer: str = frame.choice(optimizers.OPTIMIZERS, "adam", help="Optimizer.", kind="optimizer")
    learning_rates: tuple[float, ...] = frame.LearningRates.with_default(
        "learning_rates", (0.01,), help="Learning rates to choose among: LOW:HIGH:COUNT on a log scale, or A,B,C."
    )
    schedule: str = frame.Training.with_default("schedule", "one_cycle")
    clip_norm: float | None = frame.Training.with_default(
        "clip_norm", 1.0, help="Global norm to clip gradients to; they explode without."
    )
    weight_decay: float | None = frame.Training.with_default("weight_decay", None)
    average: float | None = frame.Training.with_default("average", None)
    batch_size: int = frame.whole(32, help="Places of the text that are read side by side.", low=1, high=1_000_000)
    window: int = frame.whole(
        64, help="Characters that gradients flow back over; a Transformer sees.", low=1, high=1_000_000
    )
    validation_share: float = frame.number(
        0.09, help="Share of the text that chooses; the last 10% report, the rest trains.", low=1e-6, high=0.8
    )
    steps: int = frame.whole(500, help="Windows that each place is trained on.", low=1, high=100_000_000)
    seeds: int = frame.Seeds.with_default("seeds", 2)
    checkpoint_seconds: float = frame.Training.with_default("checkpoint_seconds", 10.0)
    prime: str | None = frame.text(
        None, help="Text to write on from; \\n is a line break. Default: the first 32 characters of the test part."
    )
    sample_length: int = frame.whole(500, help="Characters to write.", low=1, high=100_000)

    def prime_text(self) -> str:
        """Return the prime with its line breaks; empty for the default."""
        return (self.prime or "").replace("\\n", "\n")


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Train every cell, choose on the validation part, score the test part once, publish the best model, and write."""
    models.check(settings)
    with run.timed("data"):
        text = texts.load(settings.text, data_dir=settings.data_dir)
        streams = parts.lay_out(text, settings.batch_size, settings.window, settings.validation_share)
        run.read({text.name: text.sha256})
        run.sources += [line for line in (text.citation, text.licence and f"licence: {text.licence}") if line]
    train, validation, test = parts.split(text.ids, settings.validation_share)
    prime = test[:PRIME]
    if settings.prime_text():
        prime = characters.encode(settings.prime_text(), text.vocabulary, "--prime")
    trained = []
    with observers.timed_race(run):
        for cell in settings.cells:
            trained.append(train_cell(run, settings, streams, text, cell, prime))
    scores = [CellScores.of(one, settings.learning_rates) for one in trained]
    best = least(trained)
    constants = parts.baselines(train, test, len(text.vocabulary))
    writing = None
    if best is not None:
        with run.timed("writing"):
            writing = publish_and_write(run, settings, text, best, validation, test, prime)
    return Measurement(
        text=text.name, characters=len(text.ids), vocabulary=len(text.vocabulary), parts=streams.counts,
        seeds=settings.seeds, steps=settings.steps, passes=settings.steps / len(streams.rows["train"].ids),
        baselines=constants, cells=scores, best=None if best is None else best.cell, writing=writing,
    )  # fmt: skip


def train_cell(
    run: frame.Context, settings: Settings, streams: parts.Streams, text: characters.Characters, cell: str,
    prime: np.ndarray,
) -> training.Trained:  # fmt: skip
    """Train one cell with every learning rate and seed, with progress, records, and samples after ids [P]."""

    def observe(grid: sweep.Grid) -> list:
        title = f"{cell} on {legible(text.name)}, −nats"
        observer = observers.observer(run, cell, grid, settings.steps, lambda held: -held["loss"], title, "cell")
        return [observer, show]

    def show(event: Segment | Notice) -> None:
        """Show what the first lane writes, four times in a training."""
        if isinstance(event, Segment) and not event.restored and (event.number + 1) % (SEGMENTS // 4) == 0:
            written = characters.decoded(event.held_out["sample"][0], text.vocabulary)
            run.progress.say(f"step {event.step:,} writes: {printable(' '.join(written.split()))}")

    return training.train(
        streams, text.vocabulary, models.arguments(settings, cell),
        regularisation=models.regularisation(settings, cell), rates=settings.learning_rates, seeds=settings.seeds,
        steps=settings.steps, segments=SEGMENTS, window=settings.window,
        optimizer=settings.optimizer, precision=settings.precision,
        settings={
            "schedule": settings.schedule, "clip_norm": settings.clip_norm,
            "weight_decay": settings.weight_decay, "average": settings.average,
        },
        writing=training.Writing(prime, LIVE, settings.filters()),
        mesh=run.mesh(all_hosts=True), observe=observe, workdir=run.path,
        checkpoint_seconds=settings.checkpoint_seconds,
    )  # fmt: skip


def publish_and_write(
    run: frame.Context, settings: Settings, text: characters.Characters, best: training.Trained,
    validation: np.ndarray, test: np.ndarray, prime: np.ndarray,
) -> Writing:  # fmt: skip
    """Publish the best seed of a cell; let it write, and read the beginnings of two parts, ids [M] each."""
    params, model = best.params(best.seed), text_models.make(text.vocabulary, best.arguments)
    header = {"dataset": text.name, "licence": text.licence, "citation": text.citation, "seed": best.seed}
    header |= {"test_nats": float(best.test[best.best or 0].mean()), "flags": settings.result_flags()}
    run.write("params.safetensors", text_models.encode(params, text.vocabulary, best.arguments, header))
    begin = characters.decoded(prime, text.vocabulary)
    written, greedy = (
        text_models.write_on(
            model, params, text.vocabulary, jax.random.key(0), begin, length=settings.sample_length, **filters
        )
        for filters in (settings.filters(), {"temperature": 0.0})
    )
    read, history, lane = test[: SHOWN + 1], best.result.history, best.lane(best.seed)
    losses, tokens = (history.held_out[name][:, lane] for name in ("loss", "sample"))
    samples = [
        Sample(
            int(history.step[place]), losses[place] / math.log(2), characters.decoded(tokens[place], text.vocabulary)
        )
        for place in np.unique(np.linspace(0, len(losses) - 1, SAMPLES).round().astype(int))
    ]
    return Writing(
        begin, settings.temperature, written, greedy, characters.decoded(read[1:], text.vocabulary),
        training.surprise(model, params, read), tracking.find(params, validation, text.vocabulary), samples,
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report losses in nats and bits, learning curves, what the model writes, and what surprises it."""
    del run
    name = legible(measured.text)
    return Report(
        f"Character-level language model on {name}",
        f"How well do the models predict the next character of {name}, and what do they write?",
        answer(measured),
        result_table(measured),
        sections(measured),
        facts(measured, settings.batch_size, settings.window, settings.flagfile().splitlines()),
        remarks=[] if measured.writing is None else measured.writing.remarks(),
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
