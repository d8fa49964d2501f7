"""Nested cross-validation: settings are chosen by inner folds, and the whole procedure is scored by outer folds.

    plan = plan_folds(scheme, choosing, outer=5, inner=3)
    result = nested([Variant(learners.ridge(), {"l2": [0.1, 1.0, 10.0]})], key, examples, plan, score)
    result.outer, result.inner, result.final  # scores [K], the chosen inner scores [K], the setting to use

All settings, on the inner folds of an outer fold and on that fold itself, are one call of `held_out_outputs`, and so
lanes of one program wherever the learner allows. It equals `cross_validate(tuned(learner, ...))`, with the difference
that a setting that several outer folds choose is not fitted again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from mllab import checks
from mllab.errors import UserError
from mllab.metrics import greatest
from mllab.types import Examples, Key, Outputs, Rows
from mllab.validation import Axes, Folds, Learner, Score, checked_axes, held_out_outputs, mean_scores


class Variant(NamedTuple):
    """A learner with the settings to choose from, one of several forms of a model: kernels, widths, transforms."""

    learner: Learner
    axes: Axes
    name: str = ""
    plan: Mapping[str, Any] | None = None  # of the learner, to save its params with; see `learners.storage`


class Setting(NamedTuple):
    """A setting of a variant."""

    variant: int
    place: tuple[int, ...]  # along the variant's axes


class Plan(NamedTuple):
    """The folds of a nested cross-validation, padded to one shape so that one program runs them all."""

    parts: tuple[Folds, ...]  # for each outer fold [I + 1, M]: its inner folds, then the outer fold itself
    per_round: float  # folds in a round of outer folds; see `validation.interval`

    @property
    def outer(self) -> list[np.ndarray]:
        """The held-out row ids of each outer fold."""
        return [_present(part.held_out, -1) for part in self.parts]

    @property
    def train(self) -> list[np.ndarray]:
        """The training row ids of each outer fold."""
        return [_present(part.train, -1) for part in self.parts]


def plan_folds(outer: Folds, inner: Callable[[np.ndarray], Folds]) -> Plan:
    """Return the plan of outer folds, with the inner folds of each one's training rows.

    Args:
        outer: K folds.
        inner: returns the inner folds of row ids [M].

    Raises:
        UserError: what `inner` raises.
    """
    parts = []
    for k in range(len(outer.train.ids)):
        try:
            within = inner(np.sort(_present(outer.train, k)))
        except UserError as error:
            raise UserError(f"the inner folds of outer fold {k + 1}: {error}") from None
        parts.append([[_present(rows, i) for i in range(len(rows.ids))] for rows in within])
        for side, rows in zip(parts[-1], outer, strict=True):
            side.append(_present(rows, k))
    widths = [max(len(ids) for part in parts for ids in part[side]) for side in (0, 1)]
    folds = (
        Folds(*(_padded_to(ids, width) for ids, width in zip(part, widths, strict=True))) for part in parts
    )  # fmt: skip
    return Plan(tuple(folds), outer.per_round)


def _present(rows: Rows, k: int) -> np.ndarray:
    return np.asarray(rows.ids[k])[np.asarray(rows.weight[k]) > 0]


def _padded_to(sets: Sequence[np.ndarray], width: int) -> Rows:
    ids = np.stack([np.concatenate([ids, np.full(width - len(ids), ids[0])]) for ids in sets])
    weight = np.stack([np.arange(width) < len(ids) for ids in sets])
    return Rows(ids.astype(np.int32), weight.astype(np.float32))


@dataclass(frozen=True)
class Nested:
    """The scores of a tuned model in a nested cross-validation; greater is better."""

    variants: tuple[Variant, ...]
    inner_scores: list[np.ndarray]  # of each variant, [*axes, K, I]
    outer_scores: list[np.ndarray]  # of each variant, [*axes, K]
    chosen: list[Setting]  # by the inner folds of each outer fold
    final: Setting  # by the outer folds: the one to use
    outputs: list[Outputs] = field(repr=False)  # of the chosen setting on each outer fold's held-out rows, [M, ...]
    per_round: float

    @property
    def outer(self) -> np.ndarray:
        """The scores of the whole procedure, selection included, on each outer fold, [K]."""
        return np.array([self.outer_scores[s.variant][(*s.place, k)] for k, s in enumerate(self.chosen)])

    @property
    def inner(self) -> np.ndarray:
        """The mean inner scores by which the setting of each outer fold was chosen, [K]; they are optimistic."""
        means = [scores.mean(axis=-1) for scores in self.inner_scores]
        return np.array([means[s.variant][(*s.place, k)] for k, s in enumerate(self.chosen)])

    def values(self, setting: Setting) -> dict[str, float]:
        """Return the hyperparameters of a setting by name."""
        axes = checked_axes(self.variants[setting.variant].axes)
        return {name: values[place].item() for (name, values), place in zip(axes.items(), setting.place, strict=True)}

    def all_scores(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the inner [S, K] and the outer scores [S, K] of all S settings of all variants."""
        inner = [scores.mean(axis=-1).reshape(-1, scores.shape[-2]) for scores in self.inner_scores]
        outer = [scores.reshape(-1, scores.shape[-1]) for scores in self.outer_scores]
        return np.concatenate(inner), np.concatenate(outer)


def nested(
    variants: Iterable[Variant],
    key: Key,
    examples: Examples,
    plan: Plan,
    score: Score,
    *,
    observe: Callable[[int, int], None] = lambda fold, variant: None,
) -> Nested:
    """Tune a model inside the training rows of each outer fold, and score it on the rows that the fold holds out.

    Args:
        variants: the learners and settings to choose from.
        key: shared by all settings and folds.
        examples: `{"inputs", "targets"}`.
        plan: see `plan_folds`.
        score: see `validation.Score`; greater is better. Of equal means the first setting is chosen.
        observe: called after each outer fold and variant with their indices; what it raises ends the search.

    Raises:
        UserError: no variants, or no setting with finite scores; see also `validation.cross_validate`.
    """
    variants = tuple(variants)
    if not variants:
        raise UserError("no learner to choose from: give one or more variants")
    checks.check_key(key)
    inner_scores: list[list[np.ndarray]] = [[] for _ in variants]
    outer_scores: list[list[np.ndarray]] = [[] for _ in variants]
    chosen, outputs = [], []
    for k, folds in enumerate(plan.parts):
        held_out = []  # outputs of each variant on the outer fold, [*axes, M', ...]
        for v, (learner, axes, *_) in enumerate(variants):
            of_folds = held_out_outputs(learner, axes, key, examples, folds, restrict=False)
            scores = mean_scores(of_folds, len(axes), examples, folds, score)
            inner_scores[v].append(scores[..., :-1])
            outer_scores[v].append(scores[..., -1])
            held_out.append(np.asarray(of_folds[(slice(None),) * len(axes) + (-1,)]))
            observe(k, v)
        chosen.append(_best([scores[-1].mean(axis=-1) for scores in inner_scores]))
        present = np.asarray(folds.held_out.weight[-1]) > 0
        outputs.append(held_out[chosen[-1].variant][chosen[-1].place][present])
    outer = [np.stack(scores, axis=-1) for scores in outer_scores]
    final = _best([scores.mean(axis=-1) for scores in outer])
    inner = [np.stack(scores, axis=-2) for scores in inner_scores]
    return Nested(variants, inner, outer, chosen, final, outputs, plan.per_round)


def with_chosen_settings(
    base: Nested,
    variants: Iterable[Variant],
    key: Key,
    examples: Examples,
    plan: Plan,
    score: Score,
    *,
    observe: Callable[[int, int], None] = lambda fold, variant: None,
) -> Nested:
    """Return the scores of learners with the settings that others chose, as an ensemble takes those of its single net.

    Outer scores of settings that no outer fold chose are NaN.

    Args:
        base: of the others, on the same plan.
        variants: as many as those of `base`, with the same axes.
        key: see `nested`, as for `examples`, `plan` and `score`.
        examples: `{"inputs", "targets"}`.
        plan: of `base`.
        score: of `base`.
        observe: called after each outer fold.
    """
    variants = tuple(variants)
    outer = [np.full_like(scores, np.nan) for scores in base.outer_scores]
    outputs = []
    for k, (folds, setting) in enumerate(zip(plan.parts, base.chosen, strict=True)):
        last = Folds(*(Rows(rows.ids[-1:], rows.weight[-1:]) for rows in folds))
        axes = {name: [value] for name, value in base.values(setting).items()}
        made = held_out_outputs(variants[setting.variant].learner, axes, key, examples, last, restrict=False)
        outer[setting.variant][(*setting.place, k)] = mean_scores(made, len(axes), examples, last, score).item()
        present = np.asarray(last.held_out.weight[0]) > 0
        outputs.append(np.asarray(made[(0,) * (len(axes) + 1)])[present])
        observe(k, 0)
    return Nested(variants, base.inner_scores, outer, base.chosen, base.final, outputs, base.per_round)


def _best(means: Sequence[np.ndarray]) -> Setting:
    """Return the setting with the greatest mean score of all variants, the first of equal ones."""
    flat = np.concatenate([np.where(np.isfinite(each), each, -np.inf).ravel() for each in means])
    if not np.isfinite(flat).any():
        raise UserError("every setting has scores that are not finite: give other settings")
    place, variant = greatest(np.where(np.isfinite(flat), flat, np.nan)), 0
    while place >= means[variant].size:
        place -= means[variant].size
        variant += 1
    return Setting(variant, tuple(int(i) for i in np.unravel_index(place, means[variant].shape)))
