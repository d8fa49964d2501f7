"""What trained cells make of single sequences: held-out examples, and ones alone."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import toy_training
from experiments.toy_results import Example, Ones, ProblemScores
from experiments.toy_training import Trained
from mllab.data.sets import toy_sequences
from mllab.data.sets.toy_sequences import Problem
from mllab.models.recurrent import readout
from mllab.report import draw


def best_seed(one: Trained) -> int:
    """Return the position of the seed with the least validation error at the greatest length."""
    return int(np.nanargmin(one.validation[one.best[-1] or 0, -1]))


def example(problem: Problem, scores: ProblemScores, trained: list[Trained]) -> Example | None:
    """Return a test sequence of a problem, and what the best cell at the greatest length makes of it."""
    best = scores.best()
    if best is None:
        return None
    one = next(each for each in trained if each.cell == best.cell)
    params = one.params(len(one.best) - 1, best_seed(one))
    key = jax.random.key(toy_training.SOURCE)
    drawn = toy_sequences.draw(problem, key, best.length, best.length * (1 + problem.longer), beyond=True)
    steps = int(drawn.steps)
    inputs = drawn.inputs[None, :steps]
    if problem.feedback:
        outputs = readout.continued(params, inputs, jnp.asarray(steps // 2))
        inputs = jnp.concatenate([inputs[:, : steps // 2], outputs[:, steps // 2 - 1 : -1]], axis=1)
    else:
        outputs = readout.outputs_of(params, inputs)
    output = outputs[0, :, 0] if problem.is_value else outputs[0].argmax(axis=-1)
    if problem.outputs == 2:
        output = jax.nn.softmax(outputs[0], axis=-1)[:, 1]
    target = np.where(np.asarray(drawn.weights[:steps]) > 0, np.asarray(drawn.targets[:steps], float), np.nan)
    states = np.asarray(readout.states_of(params, inputs)[0])
    return Example(
        scores.name,
        best.cell,
        best.length,
        draw.Trace(np.asarray(inputs[0]), problem.input_label, np.asarray(output), target, states),
    )


def of_ones(trained: list[Trained], steps: int) -> list[Ones]:
    """Return P(odd) of 1, 2, ..., `steps` ones, by each cell trained on parity, at the greatest length."""
    answers = []
    for one in trained:
        if one.best[-1] is not None:
            params = one.params(len(one.best) - 1, best_seed(one))
            logits = readout.outputs_of(params, jnp.ones((1, steps, 1)))
            answers.append(Ones(one.cell, np.asarray(jax.nn.softmax(logits, axis=-1)[0, :, 1])))
    return answers
