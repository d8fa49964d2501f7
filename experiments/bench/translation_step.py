r"""A training step of the attending translation model beside PyTorch: forward, backward and Adam, float32.

  python -m experiments.bench.translation_step

64 pairs of sentences of 20 words each; 256 hidden units, features of a word and maxout units; 8,000 words a language.
PyTorch runs the model as its tutorial writes it, with everything inside the loop over words, and at its best, with all
that does not depend on the decoder's state computed outside; see `translation_step_torch`. Both use a thread a core.
Compilation is not timed. mllab's step is one program on one device, which uses all cores.
"""

from collections.abc import Iterator

import numpy as np

from experiments.bench import harness
from experiments.bench.harness import Arrays, Samples, Solver
from mllab.report.table import Table
from mllab.special_tokens import END, FIRST_WORD

BATCH, WORDS, VOCABULARY, HIDDEN, EMBEDDING = 64, 20, 8000, 256, 256
LEARNING_RATE = 1e-3
TARGETS = {"tutorial": 1.8, "hoisted": 1.5}  # least ratio of PyTorch's seconds to mllab's
CALLS = 15
TOLERANCE = 0.02  # relative, of the first loss: near log V whatever the initial weights


def problems(settings: harness.Settings) -> Iterator[tuple[str, Arrays]]:
    """Yield the one problem."""
    del settings
    yield f"batch {BATCH}, {WORDS} + {WORDS} words of {VOCABULARY}, {HIDDEN} units", problem()


def problem(
    batch: int = BATCH,
    words: int = WORDS,
    vocabulary: int = VOCABULARY,
    hidden: int = HIDDEN,
    embedding: int = EMBEDDING,
) -> Arrays:
    """Return random sentences without padding, and the sizes of the model."""
    rng = np.random.default_rng(0)
    sentences = rng.integers(FIRST_WORD, vocabulary, (2, batch, words))
    sentences[..., -1] = END
    sizes = {"vocabulary": vocabulary, "hidden": hidden, "embedding": embedding}
    return {"source": sentences[0], "target": sentences[1]} | {name: np.asarray(size) for name, size in sizes.items()}


def mllab(problem: Arrays) -> Solver:
    """Return a step of mllab's fast form."""
    import jax
    import optax

    from mllab.models import seq2seq

    sizes = _sizes(problem)
    words = sizes["vocabulary"]
    model = seq2seq.model(words, words, hidden=sizes["hidden"], embedding=sizes["embedding"])
    pairs = {name: problem[name].astype(np.int32) for name in ("source", "target")}
    optimizer = optax.adam(LEARNING_RATE)

    def loss(params, pairs):
        return -model.apply(params, None, pairs, None)[0].log_probability.mean()

    def step(state, pairs):
        params, moments = state
        value, gradients = jax.value_and_grad(loss)(params, pairs)
        updates, moments = optimizer.update(gradients, moments, params)
        return (optax.apply_updates(params, updates), moments), value

    compiled = jax.jit(step, donate_argnums=0)
    params, _ = jax.jit(model.init)(jax.random.key(0))
    state = [(params, optimizer.init(params))]
    first = float(jax.jit(loss)(params, pairs))

    def solve():
        state[0], value = compiled(state[0], pairs)
        return jax.block_until_ready((state[0], value))[1]

    return Solver(solve, lambda value: {"first": first, "last": float(value)}, calls=CALLS)


def torch(name: str, problem: Arrays) -> Solver:
    """Return a step of one of PyTorch's forms, with a thread a core, or on a CUDA GPU."""
    import torch as pytorch

    from experiments.bench import torch_start, translation_step_torch
    from mllab import devices

    device = torch_start.start(devices.cores())
    source, target = (pytorch.from_numpy(problem[each]).to(device) for each in ("source", "target"))
    step = translation_step_torch.step(name, source, target, learning_rate=LEARNING_RATE, **_sizes(problem))
    first: list[float] = []

    def warm_up():
        first.append(step().item())

    return Solver(lambda: step().item(), lambda loss: {"first": first[0], "last": loss}, warm_up, calls=CALLS)


def tutorial(problem: Arrays) -> Solver:
    """Return PyTorch as its tutorial writes it."""
    return torch("tutorial", problem)


def hoisted(problem: Arrays) -> Solver:
    """Return PyTorch at its best."""
    return torch("hoisted", problem)


def _sizes(problem: Arrays) -> dict[str, int]:
    return {name: int(problem[name]) for name in ("vocabulary", "hidden", "embedding")}


SOLVERS = {"mllab": mllab, "tutorial": tutorial, "hoisted": hoisted}


def table(name: str, samples: Samples) -> Table:
    """Return the table of all programs."""
    first = {solver: each[0].report["first"] for solver, each in samples.items()}
    return harness.comparison(
        name,
        samples,
        TARGETS,
        {
            "sentences/s": lambda solver: f"{BATCH / harness.figure(samples[solver], 'seconds'):.0f}",
            "first loss": lambda solver: f"{first[solver]:.3f}",
        },
        lambda solver: abs(first[solver] - first["mllab"]) <= TOLERANCE * first["mllab"],
    )


main, run = harness.solver_program("translation_step", harness.Settings, problems, SOLVERS, table)

if __name__ == "__main__":
    harness.start(main, **harness.solving(SOLVERS))
