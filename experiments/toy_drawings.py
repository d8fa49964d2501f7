"""The page's sections on toy problems: what is solved, learning curves, gradients, parity, and examples."""

from collections.abc import Sequence

import numpy as np

from experiments import answers
from experiments.toy_gradients import DELAY, RADIUS, RATE, SEQUENCES, Norms
from experiments.toy_results import Example, Measurement, ProblemScores, table_by_length
from mllab.metrics import interval
from mllab.report import draw, style
from mllab.report.report import Bullets, Drawing, Section
from mllab.report.style import COLOURS, DASHED, SOLID, Style
from mllab.report.table import Table, short

WHY = (
    "The gates of minGRU read the input alone: a step moves each unit towards a candidate by a share between 0 and 1, "
    "and cannot flip it. On ones alone its state approaches a limit, and every answer read from it does, while the "
    "parity changes with each one; more units or layers do not help. It can learn short lengths by heart, which is why "
    "parity is tested on longer sequences. The gates of tanh, LSTM and GRU read the state, so one more 1 can turn it "
    "over. Sources: Sarrof, Veitsman and Hahn 2024 (arXiv:2405.17394), Grazzi et al. 2025 (arXiv:2411.12537); what "
    "linear recurrences of any sign cannot track: Merrill, Petty and Sabharwal 2024 (arXiv:2404.08819)."
)

GRADIENTS = (
    "The gradient of a loss at step T by the state at step t passes a product of T − t Jacobians, which shrinks or "
    "grows about geometrically with the distance: for a tanh cell each is diag(1 − h²) W. Below a spectral radius of 1 "
    "of an orthogonal W it must vanish. Above, it may explode; then a single step can throw the params far away, and "
    "scaling the gradient down to a norm keeps its direction and bounds the step (Pascanu, Mikolov and Bengio 2013)."
)


def sections(measured: Measurement) -> list[Section]:
    """Return the sections of the page."""
    blocks: list[str | Table] = []
    for problem in measured.problems:
        blocks += [problem.name, table_by_length(problem, measured.seeds)]
    lost = [
        f"{problem.name}, {each.cell}, length {each.length:,}: {each.nonfinite} of "
        f"{answers.counted(each.lanes, 'lane')} went non-finite"
        for problem in measured.problems
        for each in problem.scores
        if each.nonfinite
    ]
    criteria = Bullets([problem.criterion for problem in measured.problems])
    return [
        Section("What is solved", ["What counts as solved by one seed:", criteria, solved_map(measured)]),
        Section("Learning", [learning_curves(measured)]),
        Section("Parity, and why minGRU fails", parity(measured)),
        Section("Gradients over time", gradients(measured)),
        Section("Examples", [example(each) for each in measured.examples]),
        Section("By length", blocks),
        Section("Diverged lanes", [Bullets(lost)] if lost else []),
    ]


def solved_map(measured: Measurement) -> Drawing:
    """Draw in how many seeds each cell solves each length."""
    blocks = [
        draw.Shares(
            f"{problem.name}: {problem.length_name}",
            list(problem.parameters),
            np.array([[each.solved for each in problem.of_cell(cell)] for cell in problem.parameters]),
            measured.seeds,
        )
        for problem in measured.problems
    ]
    figure = draw.successes(
        blocks, [f"{length:,}" for length in measured.lengths], title="Which cell solves which length",
        x_label="length", notes=[f"Of {answers.counted(measured.seeds, 'seed')}; dark: all of them solve it."],
    )  # fmt: skip
    return Drawing("solved", figure, "For each problem, cell and length, the number of seeds that solve it")


def learning_curves(measured: Measurement) -> Drawing:
    """Draw the validation error of each cell at the greatest length, a panel for each problem."""
    panels = [
        draw.Panel(
            f"{problem.name}: " + ("mean squared error" if problem.is_value else "share of wrong symbols"),
            [
                draw.Series.of_intervals(
                    cell, problem.of_cell(cell)[-1].step, problem.of_cell(cell)[-1].curve, limits=(0, np.inf),
                    style=style.CELLS[cell],
                )
                for cell in problem.parameters
            ],
        )
        for problem in measured.problems
    ]  # fmt: skip
    figure = draw.panels(
        panels, title=f"Validation error at length {measured.lengths[-1]:,}", over=f"{measured.seeds} seeds",
        note="At each cell's rate with the least error.",
    )  # fmt: skip
    return Drawing("learning", figure, "Validation error against the step, a panel for each problem")


def parity(measured: Measurement) -> list[str | Drawing]:
    """Return why minGRU fails, and the answers to 1, 2, 3, ... ones."""
    if not measured.ones:
        return []
    series = []
    for each in measured.ones:
        ones = np.arange(1.0, len(each.odd) + 1)
        series.append(
            draw.Series(each.cell, ones, np.where(ones % 2 == 1, each.odd, 1 - each.odd), style=style.CELLS[each.cell])
        )
    figure = draw.curves(
        series, title="Is the number of ones odd?", x_label="ones read, and nothing else",
        y_label="probability of the right answer", integer_x=True, markers=False,
        note=f"Trained on up to {measured.lengths[-1]:,} bits; of each cell, the seed with the least validation error.",
    )  # fmt: skip
    return [WHY, Drawing("ones", figure, "Probability of the right answer after 1, 2, 3, ... ones, a curve a cell")]


def gradients(measured: Measurement) -> list[str | Drawing]:
    """Return the norms by distance, and losses with and without clipping."""
    every = measured.gradients
    over = f"{measured.seeds} seeds and {SEQUENCES} sequences" if measured.seeds > 1 else f"{SEQUENCES} sequences"
    note = (
        "Root mean square of the singular values of ∂h_T/∂h_t, geometric means over "
        f"{over} of {every.problem}; log scale."
    )
    colours = [Style(COLOURS[place % len(COLOURS)], SOLID, "") for place in range(len(every.by_radius))]
    first, last = every.by_radius[0], every.by_radius[-1]
    radii = draw.curves(
        _series(every.by_radius, colours), title=f"tanh cells at initialisation: over {every.distance - 1} steps a "
        f"gradient changes by a factor of {short(first.change, 2)} at {first.name} and {short(last.change, 2)} at "
        f"{last.name}", x_label="distance in time (steps)", y_label="size of the Jacobian", log_y=True, integer_x=True,
        whole=True, markers=False, note=note,
    )  # fmt: skip
    panels = [
        draw.Panel("at initialisation", _series(every.at_start), log_y=True, whole=True),
        draw.Panel(f"after training on {every.problem}", _series(every.trained), log_y=True, whole=True),
    ]
    cells = draw.panels(
        [panel for panel in panels if panel.series], title="How a gradient shrinks or grows on its way back, by cell",
        x_label="distance in time (steps)", note=f"{note} Of an LSTM: by cell and state.",
    )  # fmt: skip
    return [
        GRADIENTS,
        Drawing("radii", radii, "Size of the Jacobian against distance in time, a curve for each spectral radius"),
        Drawing("gradients", cells, "Size of the Jacobian against distance in time, before and after training"),
        clipped(measured),
    ]


def clipped(measured: Measurement) -> Drawing:
    """Draw training losses with and without clipping."""
    clipping = measured.gradients.clipping
    bands = {
        f"clipped to {short(clipping.clip_norm)}": (clipping.clipped, Style(COLOURS[0], SOLID, "o")),
        "not clipped": (clipping.unclipped, Style(COLOURS[1], DASHED, "s")),
    }
    series = [
        draw.Series.of_intervals(name, clipping.step, [interval(row) for row in losses], limits=(0, np.inf), style=look)
        for name, (losses, look) in bands.items()
    ]
    ends = [short(clipping.final[name]) for name in ("clipped", "unclipped")]
    figure = draw.curves(
        series, x_label="step", y_label="loss (nats a symbol)", integer_x=True, over=f"{measured.seeds} seeds",
        title=f"Clipped to {short(clipping.clip_norm)}, the training loss ends at {ends[0]}; not clipped, at {ends[1]}",
        note=f"tanh cell, copy memory with a delay of {DELAY}, SGD at rate {RATE:g}, from a spectral radius of "
        f"{RADIUS:g}.",
    )  # fmt: skip
    return Drawing("clipping", figure, "Training loss against the step, with and without gradient clipping")


def _series(norms: Sequence[Norms], looks: Sequence[Style] | None = None) -> list[draw.Series]:
    return [
        draw.Series(
            each.name, np.arange(len(each.by_distance), dtype=float),
            np.where(each.by_distance > 0, each.by_distance, np.nan),
            style=looks[place] if looks else style.CELLS[each.name],
        )
        for place, each in enumerate(norms)
    ]  # fmt: skip


def example(one: Example) -> Drawing:
    """Draw a held-out sequence, what the cell makes of it, and its states."""
    title = f"{one.problem}: {one.cell} reads a held-out sequence"
    labels = {"parity": "probability of odd", "addition": "probability of a 1", "copy": "symbol; 8 is a blank"}
    figure = draw.states(
        one.trace, title=title, y_label=labels.get(one.problem, "value"),
        notes=[f"Trained at length {one.length:,}. Inputs: white 0, red 1, blue −1."],
    )  # fmt: skip
    alt = f"Inputs, output beside its target, and hidden states of {one.cell} on a sequence of {one.problem}"
    return Drawing(f"example_{one.problem}", figure, alt)


def facts(measured: Measurement, batch_size: int, held_out: int, flags: Sequence[str]) -> dict[str, str | list[str]]:
    """Return how the cells were trained."""
    return {
        "problems": [f"{each.name}: {each.help}" for each in measured.problems],
        "training": f"{answers.counted(measured.steps, 'step')} of {batch_size:,} sequences, none of them twice",
        "choice": f"rates by the mean validation error over {held_out:,} sequences, for each length; as many others "
        "are the test",
        "flags": [line for line in flags if line.isprintable()],
    }


def remarks(problems: Sequence[ProblemScores]) -> list[str]:
    """Return lines for the terminal: what solved means, and diverged lanes."""
    lost = sum(each.nonfinite for problem in problems for each in problem.scores)
    total = sum(each.lanes for problem in problems for each in problem.scores)
    lines = [f"solved: {problem.criterion}" for problem in problems]
    return [*lines, f"{lost} of {answers.counted(total, 'lane')} went non-finite"] if lost else lines
