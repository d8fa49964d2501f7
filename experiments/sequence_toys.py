r"""Show on small problems what recurrent cells can remember and compute, and what happens to their gradients.

  python -m experiments.sequence_toys
  python -m experiments.sequence_toys --problems=adding,copy --lengths=20,50,100 --steps=5000 --symbols=10
  python -m experiments.sequence_toys --problems=parity --cells=gru,mingru --layers=2 --seeds=5

Problems: the sum of two marked numbers among many (adding), symbols repeated after a delay (copy), the sum of two
binary numbers (addition), a sine continued from the model's own outputs (sine), and whether the number of ones is odd
(parity). Every sequence is drawn from its number and trained on once; the learning rate of each length is chosen on
validation sequences, and test sequences are scored once. Addition and parity are tested on longer sequences.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments import frame, toy_drawings, toy_examples, toy_gradients
from experiments import toy_training as training
from experiments.frame import observers
from experiments.toy_results import Measurement, ProblemScores, answer, result_table
from mllab import optimizers, sweep
from mllab.data.sets import toy_sequences
from mllab.data.sets.toy_sequences import Problem
from mllab.errors import UserError
from mllab.models.recurrent import CELLS
from mllab.report.report import Report

SEGMENTS = 20  # scores of the validation sequences over the training
CLIPPING_STEPS = 300


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices, frame.Steps):
    """The problems, the cells, and how they are trained."""

    problems: tuple[str, ...] = frame.choices(
        toy_sequences.NAMES, ("adding", "copy", "parity"), help="Problems to solve.", kind="problem"
    )
    cells: tuple[str, ...] = frame.choices(CELLS, help="Cells to compare.", kind="cell")
    lengths: tuple[int, ...] = frame.wholes(
        (4, 8, 16), help="Lengths: numbers to add among, steps of delay, bits, values of the sine that are seen.",
        high=100_000, most=100,
    )  # fmt: skip
    symbols: int = frame.whole(3, help="Symbols to copy; 10 in the literature.", low=1, high=1000)
    hidden: int = frame.whole(32, help="Units of each layer.", low=1, high=100_000)
    layers: int = frame.whole(1, help="Layers of cells.", low=1, high=100)
    optimizer: str = frame.choice(optimizers.OPTIMIZERS, "adam", help="Optimizer.", kind="optimizer")
    learning_rates: tuple[float, ...] = frame.LearningRates.with_default(
        "learning_rates", (0.01, 0.03), help="Learning rates to choose among, for each length: LOW:HIGH:COUNT on a log "
        "scale, or A,B,C.",
    )  # fmt: skip
    schedule: str = frame.Training.with_default("schedule", "one_cycle")
    clip_norm: float = frame.number(1.0, help="Global norm to clip gradients to.", low=1e-9, high=1e9)
    batch_size: int = frame.whole(32, help="Sequences in a minibatch.", low=1, high=1_000_000)
    steps: int = frame.whole(600, help="Training steps.", low=1, high=100_000_000)
    held_out: int = frame.whole(256, help="Validation sequences, and test sequences.", low=1, high=10_000_000)
    radii: tuple[float, ...] = frame.grid(
        "0.5,0.9,1,1.2,1.5", help="Spectral radii of tanh cells whose gradients are measured.", high=1000
    )
    distance: int = frame.whole(40, help="Steps that gradients are followed back.", low=2, high=100_000)
    checkpoint_seconds: float = frame.Training.with_default("checkpoint_seconds", 10.0)

    def arguments(self, cell: str) -> dict[str, Any]:
        """Return the arguments of the model that its params depend on."""
        return {"cell": cell, "hidden": self.hidden, "layers": self.layers}


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Train every cell on every problem, score the test sequences once, and measure gradients."""
    problems = {name: toy_sequences.problems(settings.symbols)[name] for name in settings.problems}
    lanes = settings.seeds * len(settings.lengths) * len(settings.learning_rates)
    check(settings, problems, lanes)
    streams = training.lay_out(settings.seeds, settings.steps, settings.batch_size, settings.held_out)
    mesh = run.mesh(lanes, all_hosts=True)
    drive = {
        "mesh": mesh, "workdir": run.path, "precision": settings.precision,
        "checkpoint_seconds": settings.checkpoint_seconds,
    }  # fmt: skip
    trained: dict[str, list[training.Trained]] = {name: [] for name in problems}
    with observers.timed_race(run):
        for name, problem in problems.items():
            for cell in settings.cells:
                trained[name].append(train_cell(run, settings, name, problem, cell, streams, drive))
        clipping = train_clipped(run, settings, drive)
    with run.timed("gradients"):
        gradients = measure_gradients(settings, problems, trained, clipping)
    with run.timed("examples"):
        results = [ProblemScores.of(name, problems[name], each, settings.lengths) for name, each in trained.items()]
        drawn = [toy_examples.example(problems[each.name], each, trained[each.name]) for each in results]
        examples = [each for each in drawn if each is not None]
        ones = toy_examples.of_ones(trained.get("parity", []), 2 * max(settings.lengths))
    return Measurement(settings.lengths, settings.seeds, settings.steps, results, gradients, examples, ones)


def check(settings: Settings, problems: dict[str, Problem], lanes: int) -> None:
    """Raise UserError for lengths that a problem does not have, and sizes that do not fit in memory."""
    if "copy" not in problems:
        settings.refuse_unread(["symbols"], "of the problem copy; add it to --problems, or leave them out")
    for name, problem in problems.items():
        if min(settings.lengths) < problem.least:
            raise UserError(f"--lengths={min(settings.lengths)}: {name} needs {problem.least} or more")
        for cell in settings.cells:
            training.check_memory(
                problem, settings.arguments(cell), lanes, settings.batch_size, settings.held_out, max(settings.lengths)
            )
    toy_gradients.check(settings.distance, settings.hidden)


def train_cell(
    run: frame.Context, settings: Settings, name: str, problem: Problem, cell: str, streams: training.Streams,
    drive: dict[str, Any],
) -> training.Trained:  # fmt: skip
    """Train one cell on one problem, with progress and records."""

    def observe(grid: sweep.Grid) -> list:
        def solved(held: dict[str, np.ndarray]) -> np.ndarray:
            return np.array([np.mean(held["error"] <= problem.goal)])

        title = f"{name}, {cell}: share of lanes solved"
        return [observers.observer(run, f"{name} {cell}", grid, settings.steps, solved, title, "task")]

    return training.train(
        name, problem, streams, settings.arguments(cell), rates=settings.learning_rates, lengths=settings.lengths,
        seeds=settings.seeds, steps=settings.steps, segments=SEGMENTS, optimizer=settings.optimizer,
        settings={"schedule": settings.schedule, "clip_norm": settings.clip_norm}, observe=observe, **drive,
    )  # fmt: skip


def train_clipped(run: frame.Context, settings: Settings, drive: dict[str, Any]) -> toy_gradients.Clipping:
    """Train with and without clipping, with progress and records."""

    def observe(grid: sweep.Grid) -> list:
        title = "with and without clipping, −nats"
        return [observers.observer(run, "clipping", grid, CLIPPING_STEPS, lambda held: -held["loss"], title, "task")]

    problem = toy_sequences.problems(settings.symbols)["copy"]
    sizes = (settings.hidden, settings.clip_norm, settings.seeds, CLIPPING_STEPS, settings.batch_size)
    return toy_gradients.clipping(problem, *sizes, observe=observe, **drive)


def measure_gradients(
    settings: Settings, problems: dict[str, Problem], trained: dict[str, list[training.Trained]],
    clipping: toy_gradients.Clipping,
) -> toy_gradients.Gradients:  # fmt: skip
    """Measure gradient norms on sequences of the first problem."""
    name, problem = next(iter(problems.items()))
    sizes = (settings.hidden, settings.radii, problem, settings.distance, settings.seeds)
    cells = [
        toy_gradients.of_cell(one, problem, settings.arguments(one.cell), settings.distance) for one in trained[name]
    ]
    return toy_gradients.Gradients(
        name, settings.distance, toy_gradients.by_radius(*sizes), [start for start, _ in cells],
        [after for _, after in cells if after is not None], clipping,
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report what each cell solves, learning curves, gradients over time, and examples."""
    del run
    return Report(
        "Recurrent cells on small problems",
        "Which recurrent cell solves which problem at which length, and how do its gradients reach back?",
        answer(measured),
        result_table(measured),
        toy_drawings.sections(measured),
        toy_drawings.facts(measured, settings.batch_size, settings.held_out, settings.flagfile().splitlines()),
        remarks=toy_drawings.remarks(measured.problems),
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
