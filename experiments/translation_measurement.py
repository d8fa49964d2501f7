"""The measurement of `experiments.translation`: its text, its models, and what they translate."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from experiments import frame
from experiments import translation_quality as qualities
from experiments import translation_training as training
from experiments.frame import observers
from experiments.rate_choice import least
from experiments.translation_results import Example, Measurement, Scores, System
from mllab import sweep, translation_models
from mllab.data import pairs, vocabulary
from mllab.metrics import translation as bleu
from mllab.report.table import legible, printable
from mllab.training import Notice, Segment
from mllab.translation_models import Translation

if TYPE_CHECKING:
    from experiments.translation import Settings

SIZES = ("hidden", "embedding", "width", "layers", "heads", "feedforward")  # that some models read
SHOWN = 2  # validation sentences that are translated after each score
EXAMPLES = 6  # test sentences on the page
MOST_SHOWN = 32  # tokens of such a sentence


class Text(NamedTuple):
    """Parallel text and its tokens."""

    pairs: pairs.Pairs
    tokens: str
    sentences: training.Sentences

    @property
    def is_dates(self) -> bool:
        """Whether translations are judged by exact matches alone."""
        return self.pairs.name == "dates"


def load(run: frame.Context, settings: "Settings") -> Text:
    """Return the parallel text as ids of tokens.

    Raises:
        UserError: data that cannot be loaded, or a package of the extra `translation` that is missing.
    """
    frame.check_clip_norm(settings.clip_norm)
    check_sizes(settings)
    with run.timed("data"):
        text = pairs.load(
            settings.dataset, source=settings.source, target=settings.target, data_dir=settings.data_dir,
            split_seed=settings.split_seed,
        )  # fmt: skip
        if text.name != "dates":
            bleu.require()
        run.read(text.sha256 or {})
        run.sources += [line for line in (text.citation, text.licence and f"licence: {text.licence}") if line]
        tokens, options = settings.tokens or text.tokens, {"lowercase": settings.lowercase}
        source, target = ([pair[side] for pair in text.parts["train"]] for side in (0, 1))
        if tokens != "subwords":
            settings.refuse_unread(["vocabulary"], f"the most subwords, and tokens are {tokens}; leave it out")
        if tokens == "subwords":
            joint = vocabulary.subwords([*source, *target], settings.vocabulary, minimum=settings.minimum, **options)
            known = (joint, joint)
        else:
            make = {"characters": vocabulary.characters, "words": vocabulary.words}[tokens]
            known = (
                make(source, minimum=settings.minimum, **options),
                make(target, minimum=settings.minimum, **options),
            )
        return Text(text, tokens, training.lay_out(text, *known, settings.longest, settings.crops))


def check_sizes(settings: "Settings") -> None:
    """Raise UserError for a size that is set and that no model of the race reads."""
    models = ",".join(settings.models)
    read = {name for model in settings.models for name in settings.arguments(model, joint=False)}
    settings.refuse_unread(
        [name for name in SIZES if name not in read],
        f"no model of --models={models} reads it; leave it out, or add one that does",
    )


def train_all(run: frame.Context, settings: "Settings", text: Text) -> list[training.Trained]:
    """Train every model with every learning rate and seed, with progress, records and sample translations."""
    with observers.timed_race(run):
        return [_train(run, settings, text, name) for name in settings.models]


def _train(run: frame.Context, settings: "Settings", text: Text, name: str) -> training.Trained:
    sentences = text.sentences
    target, shown = sentences.target, sentences.rows["validation"][:SHOWN].tolist()

    def observe(grid: sweep.Grid, steps: int) -> list:
        title = f"{name} on {legible(text.pairs.name)}, −perplexity"
        observer = observers.observer(
            run, name, grid, steps, lambda held: -training.perplexity(held["loss"]), title, "model"
        )
        return [observer, show]

    def show(event: Segment | Notice) -> None:
        """Show what the first lane translates the first sentence to, four times in a training."""
        if (
            isinstance(event, Segment)
            and not event.restored
            and (event.number + 1) % max(1, settings.segments // 4) == 0
        ):
            written = target.join(target.named(event.held_out["sample"][0, 0].tolist()))
            run.progress.say(f"step {event.step:,}: {printable(written)}")

    return training.train(
        sentences, name, settings.arguments(name, text.tokens == "subwords"), dropout=settings.dropout,
        smoothing=settings.label_smoothing, rates=settings.learning_rates, seeds=settings.seeds, epochs=settings.epochs,
        batch_size=settings.batch_size, shared_batches=settings.shared_batches, segments=settings.segments,
        optimizer=settings.optimizer, precision=settings.precision,
        settings={
            "schedule": settings.schedule, "clip_norm": settings.clip_norm, "weight_decay": settings.weight_decay,
            "average": settings.average,
        },
        shown=shown, mesh=run.mesh(all_hosts=True), observe=observe, patience=settings.patience, workdir=run.path,
        checkpoint_seconds=settings.checkpoint_seconds,
    )  # fmt: skip


def translate_all(
    run: frame.Context, settings: "Settings", text: Text, trained: list[training.Trained]
) -> Measurement:  # fmt: skip
    """Translate the test part by the baselines, the chosen seed of each model and the vote of its seeds; publish."""
    sentences = text.sentences
    test, groups = sentences.pairs["test"], text.pairs.groups
    unit = "characters" if text.tokens == "characters" else "words"
    lengths = np.array([len(source) if unit == "characters" else len(source.split()) for source, _ in test])
    translator = qualities.Translator(sentences, settings.beam, settings.penalty, settings.replace_unknown, run.mesh())
    systems: list[System] = []

    def add(name: str, model: str, votes: int, hypotheses: list[str]) -> None:
        quality = qualities.quality(hypotheses, test, groups, not text.is_dates)
        first = next((each.quality.statistics for each in systems if each.model), None)
        lead = bleu.difference(quality.statistics, first) if first and quality.statistics else None
        systems.append(System(name, model, votes, quality, qualities.by_length(quality, lengths), lead))

    finite = [each for each in trained if each.best is not None]
    best = least(trained)
    chosen: list[Translation] = []
    with run.timed("translating"):
        for name, hypotheses in qualities.baselines(sentences.pairs, text.is_dates).items():
            add(name, "", 0, hypotheses)
        for each in finite:
            members = [(each.model, each.params(seed)) for seed in range(settings.seeds)]
            for seed, (_, params) in enumerate(members):
                publish(run, settings, text, each, seed, params, best=each is best and seed == each.seed)
            translations = translator.translate([members[each.seed]])
            add(each.name, each.name, 1, translator.texts(translations))
            if each is best:
                chosen = translations
            if settings.seeds > 1:
                votes = translator.translate(members)
                add(f"{each.name}, {settings.seeds} seeds vote", each.name, settings.seeds, translator.texts(votes))
    return Measurement(
        dataset=text.pairs.name, languages=(text.pairs.source, text.pairs.target),
        counts={part: len(each) for part, each in sentences.pairs.items()}, left_out=sentences.left_out,
        skipped=text.pairs.skipped, tokens=text.tokens, vocabularies=(len(sentences.source), len(sentences.target)),
        seeds=settings.seeds, epochs=settings.epochs, beam=settings.beam, unit=unit,
        scores=[Scores.of(each, settings.learning_rates) for each in trained], systems=systems,
        published=None if best is None else best.name, examples=examples(text, chosen) if chosen else [],
        during=[] if best is None else during(text, best),
    )  # fmt: skip


def publish(
    run: frame.Context, settings: "Settings", text: Text, each: training.Trained, seed: int, params: object, *,
    best: bool,
) -> None:  # fmt: skip
    """Write the params of a seed, those of the best one as params.safetensors, too."""
    place = each.best or 0
    header = {
        "dataset": text.pairs.name, "languages": [text.pairs.source, text.pairs.target], "seed": seed,
        "licence": text.pairs.licence, "citation": text.pairs.citation,
        "test_nats": float(each.test[place, seed]), "flags": settings.result_flags(),
    }  # fmt: skip
    content = translation_models.encode(
        params, each.name, each.arguments, text.sentences.source, text.sentences.target, header
    )
    run.write(f"{each.name}_{seed}.safetensors", content)
    if best:
        run.write("params.safetensors", content)


def examples(text: Text, translations: list[Translation]) -> list[Example]:
    """Return translations of sentences from all over the test part, the longest left out."""
    sentences = text.sentences
    short = [row for row, ids in enumerate(sentences.test_sources) if len(ids) <= MOST_SHOWN]
    made = []
    for row in np.unique(np.linspace(0, len(short) - 1, EXAMPLES).astype(int)) if short else ():
        source, reference = sentences.pairs["test"][short[row]]
        each = translations[short[row]]
        source_tokens = sentences.source.tokens(source)
        tokens = translation_models.tokens(each, sentences.target)
        weights = each.attention[: len(tokens), : len(source_tokens) + 1]
        marked = [*source_tokens, "⏎"]  # END, which is read, too
        made.append(Example(source, reference, sentences.target.join(tokens), marked, tokens, weights))
    return made


def during(text: Text, best: training.Trained) -> list[str]:
    """Return what a sentence of the validation part was translated to during the training of the best seed."""
    history, lane, target = best.result.history, best.lane(best.seed), text.sentences.target
    done = np.flatnonzero(best.scored)
    lines = [f"A sentence of the validation part, during training: {text.sentences.pairs['validation'][0][0]}"]
    for place in np.unique(np.linspace(done[0], done[-1], 5).round().astype(int)):
        words = target.named(history.held_out["sample"][place, lane, 0].tolist())
        perplexity = float(training.perplexity(history.held_out["loss"][place, lane]))
        lines.append(f"step {history.step[place]:,}, perplexity {perplexity:.3g}: {printable(target.join(words))}")
    return lines
