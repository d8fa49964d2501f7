r"""Let a published language model of characters write on from a prime text.

  python -m experiments.sample --params=runs/char_rnn/TIME/params.safetensors --prime="ROMEO:"
  python -m experiments.sample --params=FILE --prime="def " --length=500 --temperature=0.5 --top_p=0.9 --count=3

The same seed writes the same text. A temperature of 0 takes the most probable character at each step.
"""

from dataclasses import dataclass

import jax

from experiments import frame
from mllab import text_models
from mllab.errors import UserError, escaped
from mllab.report.report import Report
from mllab.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Sampling):
    """The model, and how it writes."""

    params: str | None = frame.path(None, help="params.safetensors that experiments.char_rnn published.")
    prime: str | None = frame.text(
        None, help="Text to write on from, of characters that the training text has; \\n is a line break. Default: a "
        "line break, or the first character of the vocabulary."
    )  # fmt: skip
    length: int = frame.whole(300, help="Characters to write.", low=1, high=100_000)
    count: int = frame.whole(1, help="Texts to write.", low=1, high=1000)
    seed: int = frame.whole(0, help="Seed of the draws.", low=0)


@dataclass(frozen=True)
class Written:
    """Texts that a model wrote."""

    text: str  # that it was trained on
    prime: str
    texts: list[str]


def measure(run: frame.Context, settings: Settings) -> Written:
    """Write each text.

    Raises:
        UserError: params of something else, or a prime with a character that the training text lacks.
    """
    if settings.params is None:
        raise UserError("params: name the file that experiments.char_rnn published (--params=FILE)")
    loaded = text_models.load(settings.params)
    prime = (settings.prime or "").replace("\\n", "\n")
    prime = prime or ("\n" if "\n" in loaded.vocabulary else loaded.vocabulary[0])
    with run.timed("writing"):
        texts = [
            text_models.write_on(
                loaded.model, loaded.params, loaded.vocabulary, key, prime, length=settings.length,
                **settings.filters(),
            )
            for key in jax.random.split(jax.random.key(settings.seed), settings.count)
        ]  # fmt: skip
    return Written(str(loaded.about.get("dataset") or "unnamed text"), prime, texts)


def report(run: frame.Context, settings: Settings, measured: Written) -> Report:
    """Show the texts, a line of each a row."""
    del run
    rows = [
        [f"{place + 1}" if number == 0 else "", escaped(line)]
        for place, text in enumerate(measured.texts)
        for number, line in enumerate((measured.prime + text).split("\n"))
    ]
    caption = f"trained on {escaped(measured.text)}; temperature {settings.temperature:g}, seed {settings.seed}"
    return Report("Samples", "What does the model write?", "", Table(["text", "written"], rows, caption=caption))


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
