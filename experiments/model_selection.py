r"""Which model, with which settings? A pool of models, tuned and compared by nested cross-validation, tested once.

  python -m experiments.model_selection --dataset=table.csv --target=column
  python -m experiments.model_selection --dataset=table.csv --target=column --test=other.csv --budget=120
  python -m experiments.model_selection --dataset=visits.csv --target=outcome --group=patient --time=date

Every model is tuned by inner folds and scored by outer folds; imputation, scaling and categories are fitted to the
training rows of each fold alone. The reported figure comes from test rows that played no part in any choice.
"""

from dataclasses import dataclass, replace

import jax

from experiments import answers, frame, selection_answer, selection_results
from experiments.selection_problem import Problem, problem
from experiments.selection_results import Fitted, Measurement
from experiments.selection_winner import look_into, save
from experiments.winner_sections import sections
from mllab import criteria, metrics, pool
from mllab.group_leakage import flattered
from mllab.metrics import Lead
from mllab.model_search import Budget, Found, search
from mllab.report.report import Bullets, Report, Section

CAVEATS = (
    "Choosing the best of several models is itself a choice: its held-out score is slightly optimistic, that of the "
    "test rows is not.",
    "Folds share most of their training rows: the interval over folds is widened for that (Nadeau and Bengio 2003). "
    "Intervals are not corrected for the number of comparisons.",
    "Inner folds train on fewer rows than outer ones, so the optimism may be negative where more rows help.",
)


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Separation, frame.Devices):
    """What can be set."""

    dataset: str = frame.dataset("digits")
    models: tuple[str, ...] | None = frame.choices(
        pool.POOL, None, help="Models to choose from, separated by commas. Default: all that suit the task.",
        kind="model",
    )  # fmt: skip
    score: str | None = frame.choice(
        criteria.CRITERIA, None, help="Criterion to choose by. Default: accuracy, or rmse in regression.",
        kind="criterion",
    )  # fmt: skip
    folds: int = frame.whole(5, help="Outer folds, which score.", low=2, high=1000)
    inner_folds: int = frame.whole(3, help="Inner folds, which choose the settings.", low=2, high=1000)
    folds_file: str | None = frame.path(
        None, help="File of published splits: a line of held-out row ids, from 0, for each. They score; no test rows."
    )
    budget: float = frame.number(
        600.0, help="Seconds to spend; models that do not fit into them are left out. 0: no limit.", low=0
    )


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Search the pool, fit what was found, test it, and look into the winner."""
    budget, key = Budget(settings.budget or None), jax.random.key(settings.split_seed)
    with run.timed("data"):
        posed = problem(run, settings)
    names = [] if settings.models is None or len(settings.models) == len(pool.POOL) else [*settings.models, "constant"]
    asked = pool.Problem(posed.data.task, posed.classes, posed.layout, posed.fewest_rows, run.mesh())
    candidates = pool.candidates_of(names, asked)
    score = posed.criterion.score(posed.inverse)
    done: dict[str, int] = {}

    def observe(name: str, parts: int, total: int) -> None:
        if parts == 0:
            run.progress.task(candidates[name].label, total=total)
        run.progress.advance(parts - done.get(name, 0))
        done[name] = parts

    with run.timed("search"):
        found = search(candidates, key, posed.examples, posed.plan, score, budget=budget, observe=observe)
    standing = selection_results.standing(posed, found)
    fitted: dict[str, Fitted] = {}
    with run.timed("final fits"):
        for name in standing.names:  # the winner first; the others as far as the budget goes
            result = found[name].nested
            if result is not None and (name == standing.best or budget.left > 0):
                run.progress.task(f"fitting {candidates[name].label}", total=1)
                fitted[name] = selection_results.fit(posed, result, key)
                run.progress.advance(1)
    models = [selection_results.model(posed, name, each, fitted.get(name)) for name, each in found.items()]
    run.record([{"model": each.name, "held_out": each.by_fold, "seconds": each.search_seconds} for each in models])
    with run.timed("groups"):
        run.progress.task("groups", total=1)
        groups = []
        if posed.scheme.groups is None and posed.scheme.times is None:
            rows = posed.examples
            groups = flattered(rows["inputs"], rows["targets"], posed.layout, score, key,
                               classes=posed.classes or None, seed=settings.split_seed)  # fmt: skip
        run.progress.advance(1)
    with run.timed("look into the winner"):
        run.progress.task("look into the winner", total=1)
        best = found[standing.best]
        assert best.nested
        looked = look_into(posed, best.nested, fitted[standing.best], best.label, settings.split_seed)
        run.progress.advance(1)
    measured = replace(_measurement(settings, posed, found, fitted, standing, models, groups), look=looked)
    with run.timed("params"):
        unsaved = save(run, posed, best.nested, fitted[standing.best], measured.won, key)
    return replace(measured, warnings=[*measured.warnings, *[unsaved] * bool(unsaved)])


def _measurement(
    settings: Settings, posed: Problem, found: dict[str, Found], fitted: dict[str, Fitted], standing: metrics.Ranking,
    models: list, groups: list,
) -> Measurement:  # fmt: skip
    first, *others = standing.names
    ahead = on_test = test = None
    if others:
        by = selection_results.lead(posed, found, first, others[0])
        ahead = Lead(others[0], by)
        if len(posed.test) and {first, others[0]} <= fitted.keys():
            pair = [selection_results.by_row(posed, fitted[name].outputs, posed.test) for name in (first, others[0])]
            on_test = selection_results.difference_on_test(posed, *pair)
            test = metrics.mcnemar(*pair) if posed.criterion.name == "accuracy" else None
    beats = None
    if first != "constant" and found["constant"].nested:
        beats = selection_results.lead(posed, found, first, "constant").sign > 0
    curves = {name: each.nested for name, each in found.items() if each.nested and not _is_derived(name)}
    scores = {name: selection_results.expected_scores(posed, result) for name, result in curves.items()}
    return Measurement(
        dataset=frame.DatasetFacts.of(posed.data, {"choosing": len(posed.choosing), "test": len(posed.test)}),
        criterion=posed.criterion.name,
        folds=_described(settings, posed),
        models=models,
        winner=first,
        tied=standing.tied,
        ahead=ahead,
        on_test=on_test,
        mcnemar=test,
        beats_constant=beats,
        warnings=[*posed.data.warnings],
        flattered={posed.column_names[each.column]: each for each in groups},
        budget=settings.budget or None,
        search={name: {"tried": [*range(1, len(each) + 1)], "score": each} for name, each in scores.items()},
        standing=standing,
    )


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report which model is best, what tuning buys, and what the winner does."""
    rows, data = measured.dataset.rows, measured.dataset
    lines = selection_answer.remarks(measured)
    inner = f"{settings.inner_folds} inner folds of the training rows of each"
    return Report(
        f"Model selection on {data.name}",
        f"Which model, with which settings, predicts {data.target} of {data.name} best?",
        selection_answer.answer(measured),
        selection_answer.result_table(measured),
        [
            Section("Before you trust it", [Bullets(lines)]),
            selection_answer.comparison_section(measured, ()),
            selection_answer.budget_section(measured),
            *(sections(measured.look) if measured.look else []),
            selection_answer.costs_section(measured.models),
            Section("How to read it", [Bullets(CAVEATS)]),
        ],
        {
            "data set": data.described(),
            "rows": f"{rows['choosing']:,} to choose by, {rows['test']:,} held-out test rows",
            "folds": f"{measured.folds}; settings chosen by {inner}, seed {settings.split_seed}",
            "criterion": criteria.CRITERIA[measured.criterion].label,
            "budget": f"{settings.budget:g} s" if settings.budget else "",
            "models": answers.joined(model.label for model in measured.models),
        },
        remarks=lines,
    )


def _described(settings: Settings, posed: Problem) -> str:
    if settings.folds_file:
        return f"{len(posed.plan.parts)} published splits"
    return posed.scheme.described(settings.folds)


def _is_derived(name: str) -> bool:
    return bool(pool.POOL[name].base) if name in pool.POOL else False


main, run = frame.program(Settings, measure, report, all_cores=True)

if __name__ == "__main__":
    main()
