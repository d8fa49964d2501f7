r"""Small problems that show what a recurrent network can remember and compute, drawn without end from a key.

Each problem is a pure function `make(uniforms, length, longest) -> Sequence` of random numbers, which `draw` takes from
a key. The length may be traced: arrays have as many steps as a sequence of `longest` has, and the steps after the
sequence's end are padding. So sequences of several lengths, and runs that differ in length, share one program.

The *error* of a problem is the mean squared error of its values or the share of its symbols that are wrong, over the
scored steps of a sequence; `baseline` is that of the best prediction that ignores the inputs.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mllab.errors import UserError
from mllab.types import Array, Key

SYMBOLS = 8  # of the copy memory problem, as in its source
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1
SLOWEST, FASTEST = 0.05, 0.15  # cycles a step of the sine


class Sequence(NamedTuple):
    """One sequence of T steps; arrays have a leading batch axis where several are drawn."""

    inputs: Array  # [T, D]
    targets: Array  # [T] float values or int classes
    weights: Array  # [T] of the loss of each step; 0 in padding
    scored: Array  # [T] of the error of each step: 1 at the steps that the problem is about
    steps: Array  # [] number of steps before the padding


class Problem(NamedTuple):
    """A problem of sequences of any length."""

    make: Callable[[Array, Array | int, int], Sequence]  # (uniforms, length, longest) -> one sequence
    draws: Callable[[int], int]  # longest -> how many numbers uniform in [0, 1) `make` takes
    total: Callable[[int], int]  # length -> steps T
    features: int  # D of the inputs
    outputs: int  # 1 for a value, otherwise the number of classes
    least: int  # shortest length for which it is defined
    baseline: float  # error of the best constant prediction
    baseline_name: str
    length_name: str  # what the length counts
    input_label: str  # what the D inputs are
    help: str
    goal: float = 0.01  # a run has solved the problem with an error of at most this on held-out sequences
    varied: bool = False  # lengths of the sequences are uniform from `least` to the length; otherwise all have it
    longer: bool = False  # held-out test sequences are longer than those of the training, up to twice the length
    feedback: bool = False  # scored steps are predicted from the model's own outputs

    @property
    def is_value(self) -> bool:
        """Whether the outputs are values rather than classes."""
        return self.outputs == 1


def adding(uniforms: Array, length: Array | int, longest: int) -> Sequence:
    r"""Return the adding problem: the sum of two marked numbers of a sequence, asked for at its last step.

    Inputs are numbers uniform in [0, 1] and a mark, which is 1 at one step of the first half and at one of the second.
    Predicting 1 has the mean squared error $\mathrm{Var}(u_1 + u_2) = 1/6$.

    Source: Hochreiter and Schmidhuber 1997, section 5.4, in the form of Arjovsky et al. 2016 (arXiv:1511.06464).
    """
    step = jnp.arange(longest)
    length = jnp.asarray(length)
    numbers, share = uniforms[:longest] * (step < length), uniforms[longest:]
    half = length // 2
    sizes = jnp.stack([half, length - half])
    places = jnp.stack([jnp.zeros_like(half), half]) + _whole(share, sizes)
    marks = (step[:, None] == places[None]).any(axis=1).astype(numbers.dtype)
    last = (step == length - 1).astype(numbers.dtype)
    total = jnp.sum(numbers * marks)
    return Sequence(jnp.stack([numbers, marks], axis=1), total * last, last, last, length)


def copy_memory(symbols: int) -> Callable[[Array, Array | int, int], Sequence]:
    r"""Return the copy memory problem: symbols to remember over a delay, then to repeat in order.

    A sequence has n `symbols` out of 8, length - 1 blanks, a delimiter, and n blanks, one-hot; targets are length + n
    blanks and then the symbols. Predicting blanks, and then each symbol alike, has the mean cross entropy

        $$ n \log 8 / (\mathrm{length} + 2 n), $$

    $10 \log 8 / (T + 20)$ for the ten symbols of the source. The error is over the n symbols.

    Source: Arjovsky et al. 2016 (arXiv:1511.06464), section 5.1; after Hochreiter and Schmidhuber 1997.
    """

    def make(uniforms: Array, length: Array | int, longest: int) -> Sequence:
        step = jnp.arange(longest + 2 * symbols)
        length = jnp.asarray(length)
        drawn = _whole(uniforms, SYMBOLS)
        first = length + symbols  # step of the first repeated symbol
        tokens = jnp.where(step < symbols, drawn[jnp.minimum(step, symbols - 1)], BLANK)
        tokens = jnp.where(step == first - 1, DELIMITER, tokens)
        asked = (step >= first) & (step < first + symbols)
        targets = jnp.where(asked, drawn[jnp.clip(step - first, 0, symbols - 1)], BLANK)
        weights = (step < first + symbols).astype(jnp.float32)
        inputs = jax.nn.one_hot(tokens, SYMBOLS + 2) * weights[:, None]
        return Sequence(inputs, targets, weights, asked.astype(weights.dtype), first + symbols)

    return make


def addition(uniforms: Array, length: Array | int, longest: int) -> Sequence:
    """Return binary addition: two numbers of `length` bits, the least significant bits first; their sum, bit by bit.

    A last step without inputs asks for the last carry. All bits of the sum are scored.

    Source: a classic exercise of recurrent networks (for instance Trask 2015, "Anyone can learn to code an LSTM-RNN in
    Python"); to test on numbers longer than those of the training: Kaiser and Sutskever 2016 (arXiv:1511.08228).
    """
    step = jnp.arange(longest + 1)
    length = jnp.asarray(length)
    bits = jnp.pad(uniforms.reshape(longest, 2) < 0.5, ((0, 1), (0, 0))) & (step < length)[:, None]

    def add(carry: Array, pair: Array) -> tuple[Array, Array]:
        ones = carry + pair.astype(jnp.int32).sum()
        return ones // 2, ones % 2

    _, targets = jax.lax.scan(add, jnp.zeros((), jnp.int32), bits)
    weights = (step <= length).astype(jnp.float32)
    return Sequence(bits.astype(jnp.float32), targets, weights, weights, length + 1)


def sine(uniforms: Array, length: Array | int, longest: int) -> Sequence:
    r"""Return a sine of random frequency and phase to be continued: `length` steps are seen, as many are predicted.

    The inputs are $\sin(2 \pi f t + \phi)$, with f from 0.05 to 0.15 cycles a step, and the target of a step is the
    next value. In training every step reads the true value; scored are the steps after the first `length`, in which
    the model reads its own prediction of the step before. Predicting 0 has the mean squared error 1/2.
    """
    steps = 2 * longest
    step = jnp.arange(steps)
    length = jnp.asarray(length)
    frequency, phase = SLOWEST + (FASTEST - SLOWEST) * uniforms[0], 2 * math.pi * uniforms[1]
    values = jnp.sin(2 * math.pi * frequency * jnp.arange(steps + 1) + phase)
    weights = (step < 2 * length).astype(values.dtype)
    scored = weights * (step >= length)
    return Sequence((values[:-1] * weights)[:, None], values[1:] * weights, weights, scored, 2 * length)


def parity(uniforms: Array, length: Array | int, longest: int) -> Sequence:
    """Return parity: whether the number of ones among `length` bits is odd, asked for at the last of them.

    The smallest problem that needs a state which every 1 flips (Minsky and Papert 1969 for perceptrons; for recurrent
    networks: Sarrof et al. 2024, arXiv:2405.17394).
    """
    step = jnp.arange(longest)
    length = jnp.asarray(length)
    bits = (uniforms < 0.5) & (step < length)
    last = (step == length - 1).astype(jnp.float32)
    odd = bits.astype(jnp.int32).sum() % 2
    return Sequence(bits.astype(jnp.float32)[:, None], odd * (step == length - 1), last, last, length)


def problems(symbols: int = 10) -> Mapping[str, Problem]:
    """Return the problems by name; `symbols` are those to copy.

    Raises:
        UserError: no symbol to copy.
    """
    if symbols < 1:
        raise UserError(f"symbols = {symbols}: give one or more to copy")
    return {
        "adding": Problem(
            adding, draws=lambda longest: longest + 2, total=lambda length: length, features=2, outputs=1, least=2,
            baseline=1 / 6, baseline_name="always 1", length_name="numbers", input_label="numbers; marks",
            help="the sum of two marked numbers among many",
        ),
        "copy": Problem(
            copy_memory(symbols), draws=lambda longest: symbols, total=lambda length: length + 2 * symbols,
            features=SYMBOLS + 2, outputs=SYMBOLS + 1, least=1, baseline=1 - 1 / SYMBOLS,
            baseline_name="any one symbol", length_name="steps of delay",
            input_label="one row a symbol, then the blank and the delimiter",
            help=f"{symbols} symbols repeated after a delay",
        ),
        "addition": Problem(
            addition, draws=lambda longest: 2 * longest, total=lambda length: length + 1, features=2, outputs=2,
            least=1, baseline=0.5, baseline_name="any one bit", length_name="bits", input_label="bits of both numbers",
            help="the sum of two binary numbers, bit by bit", longer=True,
        ),
        "sine": Problem(
            sine, draws=lambda longest: 2, total=lambda length: 2 * length, features=1, outputs=1, least=2,
            baseline=0.5, baseline_name="always 0", length_name="values seen",
            input_label="values; in the second half the outputs",
            help="a sine continued from the model's own outputs", feedback=True,
        ),
        "parity": Problem(
            parity, draws=lambda longest: longest, total=lambda length: length, features=1, outputs=2, least=1,
            baseline=0.5, baseline_name="any one answer", length_name="bits", input_label="bits",
            help="whether the number of ones is odd", varied=True, longer=True,
        ),
    }  # fmt: skip


NAMES = tuple(problems())


def draw(problem: Problem, key: Key, length: Array | int, longest: int, beyond: bool = False) -> Sequence:
    """Return one sequence of a problem at a length.

    Args:
        problem: one of `problems`.
        key: of this sequence.
        length: of the training's sequences; the longest of them where a problem varies its lengths.
        longest: static size of the arrays: the length of the longest sequence that fits in them.
        beyond: draw a test sequence, where the problem's are longer: of up to twice the length.
    """
    # One draw: XLA's CPU backend compiles each of them separately, and slowly.
    uniforms = jax.random.uniform(key, (1 + problem.draws(longest),))
    high = jnp.asarray(length) * (2 if beyond and problem.longer else 1)
    low = jnp.asarray(length) + 1 if beyond and problem.longer else jnp.full_like(high, problem.least)
    drawn = low + _whole(uniforms[0], high + 1 - low) if problem.varied else high
    return problem.make(uniforms[1:], drawn, longest)


def _whole(uniforms: Array, count: Array | int) -> Array:
    """Return whole numbers from 0 to `count` - 1 of numbers uniform in [0, 1)."""
    return jnp.minimum((uniforms * count).astype(jnp.int32), jnp.asarray(count) - 1)
