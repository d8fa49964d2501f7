r"""Compare a net's features with raw pixels and with an untrained net's, by a linear probe and by nearest neighbours.

  python -m experiments.features
  python -m experiments.features --dataset=fashion_mnist --params=runs/image_classifier/TIME/params.safetensors

Features are the inputs of the net's last layer. Each representation of the images is probed with 1%, 10% and all of the
training rows, drawn by class. The linear probe is softmax regression at its optimum. Its penalty and the number of
neighbours are chosen on validation rows; test rows are scored once, with what was chosen.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import frame, net_features, probes
from experiments.features_answer import ITSELF, Measurement, answer, caption_of, caveats
from experiments.net_features import PIXELS, TRAINED, UNTRAINED
from experiments.predict import pretrained
from experiments.probes import LINEAR, SETTINGS
from mllab.report import style
from mllab.report.report import Bullets, Drawing, Report, Section
from mllab.report.table import listed, percent
from mllab.tasks import CLASSIFICATION

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
        baseline=CLASSIFICATION.baseline(data.targets, data.split.train, data.split.test),
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
        table=probes.accuracy_table(cells, fractions, measured.baseline, caption_of(measured)),
        sections=[
            Section("By number of training rows", [Drawing("accuracy_by_training_rows", figure, alt, caption)]),
            Section("How to read it", [Bullets(caveats(measured))]),
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


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
