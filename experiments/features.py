r"""Compare a net's features with raw pixels and with an untrained net's, by a linear probe and by nearest neighbours.

  python -m experiments.features
  python -m experiments.features --dataset=fashion_mnist --params=runs/image_classifier/TIME/params.safetensors

Features are the inputs of the net's last layer. Each representation of the images is probed with 1%, 10% and all of the
training rows, drawn by class. The linear probe is softmax regression at its optimum. Its penalty and the number of
neighbours are chosen on validation rows; test rows are scored once, with what was chosen.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import frame, net_features, probes
from experiments.net_features import PIXELS, TRAINED, UNTRAINED
from experiments.predict import pretrained
from experiments.probes import LINEAR, SETTINGS
from mllab.report import style
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import fraction, listed, percent, points

ITSELF = "the net itself"
COLOURS = {PIXELS: style.BLUE, TRAINED: style.VERMILLION, UNTRAINED: style.GREEN}


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Data, frame.Seeds):
    """The net, the images, and how many of them to learn from."""

    dataset: str | None = frame.dataset(
        None, images=True, note="Of the net's size (28x28 by default) or resized. Default: what it was trained on."
    )
    params: str | None = frame.path(
        None,
        help="params.safetensors of a conv net that the image classifier published. Default: a small one of MNIST.",
    )
    fractions: tuple[float, ...] = frame.grid(
        "0.01,0.1,1", high=1.0, help="Fractions of the training rows to fit to, above 0 and up to 1."
    )


@dataclass(frozen=True)
class Measurement:
    """Test accuracy by representation, probe and fraction of the training rows."""

    dataset: frame.DatasetFacts
    net: net_features.Net
    split_seed: int
    seeds: list[int]
    fractions: list[probes.Fraction]
    settings: Mapping[str, probes.Setting]
    cells: list[probes.Cell]


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Probe each representation with each fraction of the training rows, over the seeds' draws."""
    path, seeds = Path(settings.params or pretrained()), range(settings.seeds)
    with run.timed("data"):
        net = net_features.load_net(path)
        data = net_features.load_images(run, settings.dataset, net, path)
        run.read({path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    outcomes: dict[tuple[str, str, float], list[probes.Outcome]] = {}
    for representation, inputs_of in net_features.representations(net, data.inputs).items():
        # All training rows are one draw, whatever the seed; but each seed has an untrained net of its own.
        draws = {each: seeds if each < 1 or representation == UNTRAINED else seeds[:1] for each in settings.fractions}
        run.progress.task(representation, len(SETTINGS) * sum(map(len, draws.values())))
        best = 0.0
        for seed in seeds:
            if seed == 0 or representation == UNTRAINED:
                inputs = inputs_of(seed)
            for share in (each for each, drawn in draws.items() if seed in drawn):
                train = probes.draw(data, share, seed)
                for probe, setting in SETTINGS.items():
                    with run.timed(f"{representation}, {probe}"):
                        outcome = probes.tune(probe, inputs, data, train)
                    outcomes.setdefault((representation, probe, share), []).append(outcome)
                    place = {"representation": representation, "probe": probe, "fraction": share, "seed": seed}
                    run.record(place | record for record in outcome.records(setting.name))
                    best = max(best, *outcome.validation.values())
                    run.progress.advance(best=best)
    return Measurement(
        dataset=frame.DatasetFacts.of(data),
        net=net_features.Net.of(net, path, data),
        split_seed=settings.split_seed,
        seeds=list(seeds),
        fractions=[probes.Fraction(each, len(probes.draw(data, each, 0))) for each in settings.fractions],
        settings=SETTINGS,
        cells=[probes.Cell.of(*key, each, outcomes[PIXELS, *key[1:]]) for key, each in outcomes.items()],
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report test accuracy by representation, probe and number of training rows."""
    del run, settings
    data, net, cells, fractions = measured.dataset, measured.net, measured.cells, measured.fractions
    alt = "Test accuracy against the number of training rows, one line for each representation and probe"
    caption = (
        "linear: softmax regression at its optimum; kNN: majority vote of the nearest neighbours; trained and "
        "untrained: inputs of the net's last layer, with the published params and with initial ones."
    )
    pairs, rows = probes.by_pair(cells), f"{fractions[0].rows:,} training rows"
    features, pixels = (percent(pairs[each, LINEAR][0].test) for each in (TRAINED, PIXELS))
    title = f"A linear probe of {rows}: {features} on the net's features, {pixels} on pixels"
    figure = probes.accuracy_figure(cells, fractions, COLOURS, title=title, level=(ITSELF, net.accuracy))
    return Report(
        title=f"Features of {net.model.partition(':')[0]} on {data.name}",
        question=f"By how much do the net's features improve on raw pixels of {data.name}, for a linear probe and for "
        "nearest neighbours, with few training rows and with many?",
        answer=answer(measured),
        table=probes.accuracy_table(cells, fractions, _caption(measured)),
        sections=[
            Section("By number of training rows", [Drawing("accuracy_by_training_rows", figure, alt, caption)]),
            Section("How to read it", [Bullets(_caveats(measured))]),
            Section("Chosen settings", [probes.setting_table(cells, fractions)]),
        ],
        facts={
            "data set": data.described(),
            "rows": "{train:,} to draw from, {validation:,} to choose, {test:,} to report".format(**data.rows),
            "net": [
                net.model,
                f"params: {net.params}",
                f"trained on {net.dataset or 'a data set that it does not name'}",
            ],
            "columns": f"{int(np.prod(data.shape)):,} pixels; {net.features:,} features",
            "linear probe": "softmax regression with an l2 penalty on the sum of the losses, at its optimum (L-BFGS)",
            "nearest neighbours": "brute force, Euclidean distance, one vote each; exact also with all training rows",
            "seeds": listed(measured.seeds),
        },
    )


def answer(measured: Measurement) -> str:
    """Return in a few sentences how far features lead pixels, with few training rows and with many."""
    few, many, pairs = measured.fractions[0], measured.fractions[-1], probes.by_pair(measured.cells)

    def leads(representation: str, form: str) -> str:
        few_rows, many_rows = (
            [points(pairs[representation, probe][end].ahead) for probe in SETTINGS] for end in (0, -1)
        )
        return form.format(*few_rows) + (f"; with {many.rows:,}, {' and '.join(many_rows)}" if many != few else "")

    text = (
        f"On {measured.dataset.name} with {few.rows:,} training rows, the net's features lead pixels by "
        f"{leads(TRAINED, '{} points of test accuracy with a linear probe and {} with nearest neighbours')}. An "
        f"untrained net's: {leads(UNTRAINED, '{} and {}')}."
    )
    return f"{text} {_labels_used(measured)}" if measured.net.at_home else text


def _labels_used(measured: Measurement) -> str:
    few = measured.fractions[0].fraction
    text = "The net was trained on this data set, with the labels of all its training rows"
    return f"{text}: its features at {fraction(few)} rest on more labels than the probes'." if few < 1 else f"{text}."


def _caption(measured: Measurement) -> str:
    draws, net = len(measured.seeds), measured.net
    parts = ["test accuracy", "one draw: no interval"]
    if draws > 1:
        parts[1] = f"± 95% interval over {draws} draws of the training rows, one split"
        if measured.fractions[-1].fraction == 1:
            parts.append("all rows are a single draw: no interval, except for the untrained nets, one per draw")
    if net.accuracy is not None:
        parts.append(f"{ITSELF}, trained on {measured.dataset.rows['train']:,} rows: {net.accuracy:.2%}")
    return "; ".join(parts)


def _caveats(measured: Measurement) -> list[str]:
    net, validation, few = measured.net, measured.dataset.rows["validation"], measured.fractions[0]
    unlike = ": with few training rows, better than these alone would allow" if validation > few.rows else ""
    short = sum(cell.short for cell in measured.cells)
    origin = [f"The net was trained on {net.dataset or 'another data set'}: it has seen no label of this one."]
    if net.at_home:
        origin = [
            _labels_used(measured),
            "A data set without test rows of its own is split by --split_seed, here "
            f"{measured.split_seed}: a net that was trained with another has seen test rows.",
        ]
    return [
        *origin,
        "The untrained nets, one per seed, are the control: what the architecture contributes with initial params.",
        f"l2 and k were chosen on {validation:,} validation rows{unlike}.",
        "Test rows were scored once, with what was chosen.",
        "Columns are centred and divided by one standard deviation in common, those of the training rows drawn. A "
        "deviation per column would stretch pixels that have ink in few rows: nearest neighbours on pixels would lose "
        "several points, and features would look better than they are.",
        "Draws of one seed are nested: a smaller one is part of a larger one.",
        *([f"{short} of the chosen linear probes stopped short of the optimum."] if short else []),
    ]


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
