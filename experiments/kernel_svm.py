r"""Support vector machines: linear, polynomial and RBF kernels tuned over C and gamma by cross-validation, tested once.

  python -m experiments.kernel_svm
  python -m experiments.kernel_svm --dataset=circles --c=0.01:1e4:7 --gamma=0.01:100:9
  python -m experiments.kernel_svm --dataset=fashion_mnist --rows=4000 --folds=3

C and gamma are chosen for each kernel by the mean accuracy over folds of the training and validation rows. Each kernel
is then fitted to all of those rows with its chosen setting, and evaluated on the held-out test rows. For data with two
columns the decision boundary, the margins and the support vectors are drawn.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import frame, kernel_tuning
from experiments.inspection import class_rows
from experiments.kernel_answer import Measurement, answer, result_table
from experiments.kernel_tuning import NAMES
from mllab import metrics, validation
from mllab.errors import UserError
from mllab.metrics import Lead
from mllab.models.svm import SCHEMES, kernels
from mllab.report import draw
from mllab.report.class_tables import class_table
from mllab.report.report import Block, Bullets, Drawing, Report, Section
from mllab.report.table import legible, listed, short
from mllab.tasks import CLASSIFICATION

FORMULAS = {
    "linear": "linear: x · z",
    "polynomial": "polynomial: (gamma x · z + {:g}) to the power {}",
    "rbf": "RBF: exp(−gamma ‖x − z‖²)",
}
DECISIONS = {
    "one_vs_one": "one binary problem for each pair of classes, which vote",
    "one_vs_rest": "one binary problem for each class against all others; the largest decision value wins",
}
CAVEATS = (
    "Of settings with equal accuracy the least C is chosen, then the least gamma.",
    "Columns of a table are standardised by the training rows of the split. Time grows with the square of --rows.",
)


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Table, frame.Rows, frame.Folds):
    """What can be set."""

    dataset: str = frame.dataset("moons", classes=2)
    rows: int = frame.Rows.with_default("rows", 2000)  # a kernel matrix grows with their square
    kernels: tuple[str, ...] = frame.choices(kernels.KERNELS, help="Kernels to compare.", kind="kernel")
    c: tuple[float, ...] = frame.grid("0.01:100:5", help="C, the cost of a point inside the margin.")
    gamma: tuple[float, ...] = frame.grid(
        "0.1:10:5", help="Gamma, in multiples of 1 / (columns × variance of the inputs), scikit-learn's 'scale'."
    )
    degree: int = frame.whole(3, help="Degree of the polynomial kernel.", low=1, high=1000)
    coef0: float = frame.number(1.0, help="Constant of the polynomial kernel, added before the power.", low=0)
    scheme: str = frame.choice(SCHEMES, "one_vs_one", help="How binary problems classify more than two classes.")


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Tune every kernel on folds, fit it to all rows, and test it once."""
    read = {name for kernel in settings.kernels for name in kernels.named(kernel).reads}
    settings.refuse_unread(
        [name for name in ("gamma", "degree", "coef0") if name not in read],
        f"no kernel of --kernels={','.join(settings.kernels)} reads it; leave it out, or add one that does",
    )
    with run.timed("data"):
        data = run.load()
        ids, test = settings.draw(data), data.split.test
        counts = np.bincount(data.targets[ids], minlength=len(data.classes))
        if counts.min() < 2:
            name = data.classes[counts.argmin()]
            raise UserError(f"--rows={settings.rows}: class {name!r} has {counts.min()}, folds need 2: give more rows")
        folds = settings.split(data.targets[ids])
        points = jnp.asarray(data.inputs.reshape(len(data.inputs), -1))
        scale = float(kernels.gamma_scale(points[ids]))
    examples = {"inputs": points[ids], "targets": jnp.asarray(data.targets[ids])}
    gamma, mesh, tuned = scale * np.asarray(settings.gamma), run.mesh(), []
    problem = len(data.classes), {"c": settings.c, "gamma": gamma}, examples, folds, (points[test], data.targets[test])
    kernel_tuning.check_memory(settings.kernels, settings.scheme, problem[0], problem[1], folds)
    options: dict[str, Any] = {"scheme": settings.scheme, "degree": settings.degree, "coef0": settings.coef0}
    for kernel in settings.kernels:
        run.progress.task(NAMES[kernel], total=1)
        with run.timed(NAMES[kernel]):
            tuned.append(kernel_tuning.tune(kernel, *problem, mesh, **options))
        run.progress.advance(best=tuned[-1].held_out.mean)
        run.record(tuned[-1].records())
    truth = data.targets[test]
    over_folds = lambda differences: validation.interval(differences, settings.folds)  # noqa: E731
    standing = metrics.ranking({entry.kernel: entry.choice.by_fold for entry in tuned}, over_folds)
    first, *others = (next(entry for entry in tuned if entry.kernel == name) for name in standing.names)
    ahead = None
    if others:
        difference = 100 * metrics.paired(first.choice.by_fold, others[0].choice.by_fold)
        ahead = Lead(others[0].kernel, over_folds(difference))
    confusion = metrics.confusion_matrix(truth, first.predicted, len(data.classes))
    plane = None
    if points.shape[1] == 2:
        over, drawn = draw.mesh(data.inputs[ids]), (data.inputs[ids], data.targets[ids])
        plane = over, [kernel_tuning.panel(entry, over, *drawn) for entry in tuned]
    return Measurement(
        dataset=frame.DatasetFacts.of(data, settings.counts(data, ids)),
        scale=scale,
        c=settings.c,
        gamma=gamma.tolist(),
        kernels=tuned,
        winner=first.kernel,
        tied=standing.tied,
        baseline=CLASSIFICATION.baseline(data.targets, ids, test),
        beats_baseline=CLASSIFICATION.beats_baseline(
            {"accuracy": (first.predicted == truth)[None]}, data.targets, ids, test
        ),
        ahead=ahead,
        per_class=class_rows(confusion, data.classes) if len(data.classes) > 2 else [],
        confusion=confusion,
        plane=plane,
        standing=standing,
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the kernels, the accuracy over C and gamma, the plane, the classes, and the solver."""
    data, rows, over, tuned = measured.dataset, measured.dataset.rows, settings.described(), measured.kernels
    won = next(entry for entry in tuned if entry.kernel == measured.winner)
    heat_map = kernel_tuning.heat_map(tuned, won, measured.c, measured.gamma, over)
    edges = [sentence for entry in tuned for sentence in entry.edges()]
    plane: list[Block | None] = []
    errors: list[Block | None] = []
    if measured.plane:
        x_label, y_label = map(legible, data.features)
        title = "Boundary, margins and support vectors of each kernel"
        figure = draw.boundaries(*measured.plane, data.classes, title=title, x_label=x_label, y_label=y_label)
        lines = kernel_tuning.FIELDS[settings.scheme] if len(data.classes) > 2 else kernel_tuning.BINARY_FIELD
        plane = [Drawing("plane", figure, title, f"Background: the predicted class. {lines}")]
    if measured.per_class:
        wrong = f"{rows['test'] - np.trace(measured.confusion):,} of {rows['test']:,} test rows misclassified"
        figure = draw.confusion(measured.confusion, data.classes, title=f"{NAMES[won.kernel]}: {wrong}")
        errors = [Drawing("confusion", figure, "Confusion matrix of the test rows"), class_table(measured.per_class)]
    return Report(
        f"Support vector machines: {', '.join(NAMES[kernel] for kernel in settings.kernels)} on {data.name}",
        f"Which kernel, at which C and gamma, classifies {data.name} best, and on how many support vectors?",
        answer(measured, over),
        result_table(measured, over),
        [
            Section("Boundary, margins and support vectors", plane),
            Section("C and gamma", [heat_map, Bullets(edges)]),
            Section("Class by class", errors),
            Section("How to read it", [Bullets([*settings.caveats(), *CAVEATS])]),
            Section("Accuracy of the solver", [kernel_tuning.solver_table(tuned)]),
        ],
        {
            "data set": data.described(),
            "rows": f"{rows['choosing']:,} to choose by and to fit to, {rows['test']:,} held-out test rows",
            "kernels": [FORMULAS[kernel].format(settings.coef0, settings.degree) for kernel in settings.kernels],
            "C": listed(map(short, measured.c)),
            "gamma": f"{listed(map(short, settings.gamma))} times {short(measured.scale)}, which is 1 / (columns × "
            "variance of the inputs)",
            "classes": DECISIONS[settings.scheme] if len(data.classes) > 2 else "two, one binary problem",
            "folds": f"{over}, stratified by class, seed {settings.split_seed}",
            "solver": kernel_tuning.SOLVER,
        },
        remarks=edges,
    )


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
