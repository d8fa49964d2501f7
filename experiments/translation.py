r"""Train models that translate, with attention and without, and look at what they read for each word they write.

  python -m experiments.translation
  python -m experiments.translation --dataset=multi30k --models=gru,transformer --source=de --target=en
  python -m experiments.translation --dataset=mine.en,mine.de --tokens=words --seeds=3

The default needs no data: it reads dates as people write them in eight languages and writes them in ISO form, and is
tested on styles that were held out of training. The model `gru` is that of Bahdanau, Cho and Bengio (2015): a GRU reads
the source in both directions; for each word that another GRU writes, an alignment model weighs what was read. The loss

    $$ L = -\frac{1}{M} \sum_i \log P(y_i \mid y_1, \dots, y_{i-1}, x) $$

is in nats per target token; its exponential is the perplexity. The validation part chooses the learning rate, the model
and the params of each seed; the test part is translated once, by beam search, and scored by BLEU or by exact matches.
`experiments.translate` loads what is published and translates sentences.
"""

from dataclasses import dataclass

from experiments import frame
from experiments import translation_measurement as measurement
from experiments.translation_results import Measurement, answer, facts, result_table, sections
from mllab import optimizers, translation_models
from mllab.data import pairs, vocabulary
from mllab.report.report import Report
from mllab.report.table import legible


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices, frame.BeamSearch, frame.Steps):
    """The parallel text, the models, how they are trained, and how they translate."""

    dataset: str = frame.path(
        "dates", names=pairs.PAIRS, help=f"Parallel text: {', '.join(pairs.PAIRS)}, or your own files: FILE.tsv with "
        "SOURCE, a tab and TARGET in each line, or SOURCE_FILE,TARGET_FILE with paired lines.",
    )  # fmt: skip
    source: str | None = frame.text(None, help="Language to translate from. Default: de of multi30k, fr of tatoeba.")
    target: str | None = frame.text(None, help="Language to translate to. Default: en.")
    data_dir: str | None = frame.Data.with_default("data_dir", None)
    split_seed: int = frame.Data.with_default(
        "split_seed", 0, help="Seed of the 90/5/5 split by target sentence, where a data set brings none of its own."
    )
    tokens: str | None = frame.choice(
        vocabulary.KINDS, None, help="Tokens. Default: characters of dates, subwords of all else.", kind="kind of token"
    )
    vocabulary: int = frame.whole(
        8000, help="Subwords, of both languages together.", low=300, high=vocabulary.MAX_WORDS
    )
    minimum: int = frame.whole(
        2, help="Least count of a character or a word, or of a pair of symbols to be merged.", low=1
    )
    lowercase: bool = frame.switch(help="Translate to and from lower case.")
    longest: int = frame.whole(60, help="Most tokens of a side of a pair, to train on it.", low=2, high=10_000)
    crops: int = frame.whole(
        2, help="Lengths that batches are cut to: with more, steps waste less on padding and compiling takes longer.",
        low=1, high=16,
    )  # fmt: skip
    models: tuple[str, ...] = frame.choices(
        translation_models.MODELS, ("gru", "gru_without_attention"), help="Models to compare.", kind="model"
    )
    hidden: int = frame.whole(128, help="Units of a GRU.", low=1, high=100_000)
    embedding: int = frame.whole(64, help="Features of a token, of a GRU.", low=1, high=100_000)
    width: int = frame.whole(128, help="Features of a token, of the Transformer.", low=1, high=100_000)
    layers: int = frame.whole(2, help="Layers of its encoder and of its decoder.", low=1, high=100)
    heads: int = frame.whole(4, help="Heads of each layer.", low=1, high=1_000)
    feedforward: int = frame.whole(512, help="Units of its feed-forward nets.", low=1, high=1_000_000)
    tied: bool = frame.switch(help="Use the target's embedding as output weights, too.")
    dropout: float = frame.number(0.0, help="Probability of dropping a feature in training.", low=0, high=0.95)
    label_smoothing: float = frame.number(
        0.0, help="Share of a label that is spread over the vocabulary in training.", low=0, high=0.9
    )
    optimizer: str = frame.choice(optimizers.OPTIMIZERS, "adam", help="Optimizer.", kind="optimizer")
    learning_rates: tuple[float, ...] = frame.LearningRates.with_default(
        "learning_rates", (0.005,), help="Learning rates to choose among: LOW:HIGH:COUNT on a log scale, or A,B,C."
    )
    schedule: str = frame.Training.with_default("schedule", "one_cycle")
    clip_norm: float | None = frame.Training.with_default("clip_norm", 1.0)
    weight_decay: float | None = frame.Training.with_default("weight_decay", None)
    average: float | None = frame.Training.with_default("average", None)
    batch_size: int = frame.whole(64, help="Pairs in a batch.", low=1, high=1_000_000)
    shared_batches: bool = frame.switch(
        help="All seeds read the same batches, and a GPU trains them side by side; they differ by initial params and "
        "dropout."
    )
    epochs: int = frame.whole(1, help="Passes over the training part.", low=1, high=1_000_000)
    segments: int = frame.whole(20, help="Scores of the validation part over the training.", low=1, high=100_000)
    patience: int | None = frame.whole(None, help="Stop after this many scores without a better one.", low=1)
    seeds: int = frame.Seeds.with_default("seeds", 2)
    checkpoint_seconds: float = frame.Training.with_default("checkpoint_seconds", 10.0)

    def arguments(self, model: str, joint: bool) -> dict[str, object]:
        """Return the arguments of a model that its params depend on; `joint`: source and target share a vocabulary."""
        if model == "transformer":
            sizes = {"width": self.width, "layers": self.layers, "heads": self.heads, "feedforward": self.feedforward}
            return {**sizes, "tied": self.tied, "joint": joint}
        return {"hidden": self.hidden, "embedding": self.embedding, "tied": self.tied}


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Train every model, choose on the validation part, translate the test part once, and publish each seed."""
    text = measurement.load(run, settings)
    trained = measurement.train_all(run, settings, text)
    return measurement.translate_all(run, settings, text, trained)


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the quality of translations, alignments, quality against length, and learning curves."""
    del run
    name = legible(measured.dataset)
    return Report(
        f"Translation of {name}",
        f"How well do models translate {name}, what do they read for each word, and what does attention do?",
        answer(measured),
        result_table(measured),
        sections(measured),
        facts(measured, settings.flagfile().splitlines()),
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
