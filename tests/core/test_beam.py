"""Beam search against brute force, greedy search and itself: exactness, ends, cuts, neighbours, early stop."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab import beam
from mllab.models.ops import ranking
from mllab.special_tokens import BEGIN, END, PADDING, UNKNOWN
from support.mistakes import refused_in_one_line

V, T, B, S = 6, 3, 2, 4  # END and three words: 1 + 3 + 9 finished sequences, 27 that are cut
ALL = 40
OPTIONS = {"width": 4, "length": 9, "n_best": 4}  # of three sentences


def logs_of(seed, length=T, batch=B, end=0.0):
    """Return log P of a token by position, by the token two before and by the token before, [B, T, V, V, V]."""
    logits = 2 * np.random.default_rng(seed).normal(size=(batch, length, V, V, V))
    logits[..., END] += end
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return logs.astype(np.float32)


@functools.partial(jax.jit, static_argnames=("width", "length", "n_best", "early_stop"))
def searched(logs, penalty=1.0, *, width, length=T, n_best=1, early_stop=True):
    """Search where the cache is the token before the last one; attention is a code of all that a step sees."""
    batch = len(logs)
    tables = beam.repeat(logs, width)

    def step(cache, tokens, position):
        row = jnp.arange(batch * width)
        attention = jnp.stack([cache, tokens, jnp.full_like(tokens, position), row // width], 1)
        return tables[row, position, cache, tokens], tokens, attention.astype(jnp.float32)

    cache = jnp.zeros(batch * width, jnp.int32)
    return beam.search(
        step, cache, batch=batch, width=width, length=length, penalty=penalty, n_best=n_best, early_stop=early_stop
    )


def brute_force(logs, penalty):
    """Return (tokens, score, log P) of all sequences of one sentence's logs [T, V, V, V], in their order."""
    words, ended, cut = range(UNKNOWN, V), [], []
    for count in range(len(logs) + 1):
        for body in itertools.product(words, repeat=count):
            tokens = [*body, END][: len(logs)]
            history = [0, BEGIN, *tokens]
            steps = enumerate(zip(history, history[1:], history[2:], strict=False))
            total = sum(float(logs[place][key]) for place, key in steps)
            (ended if tokens[-1] == END else cut).append((tokens, total / len(tokens) ** penalty))
    return [each for part in (ended, cut) for each in sorted(part, key=lambda pair: -pair[1])]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), penalty=st.sampled_from([0.0, 0.6, 1.0, 2.0]), end=st.sampled_from([-3.0, 3.0]))
def test_a_beam_as_wide_as_all_sequences_ranks_them_as_brute_force_does(seed, penalty, end):
    logs = logs_of(seed, end=end)
    found = searched(logs, penalty, width=ALL, n_best=ALL)
    for row in range(B):
        expected = brute_force(logs[row], penalty)
        assert len(expected) == ALL
        np.testing.assert_allclose(found.scores[row], [score for _, score in expected], rtol=1e-5, atol=1e-6)
        sequences = [
            tuple(np.asarray(found.tokens[row, place, : found.lengths[row, place]]).tolist()) for place in range(ALL)
        ]
        assert len(set(sequences)) == ALL
        assert sequences[0] == tuple(expected[0][0])
        assert set(sequences) == {tuple(tokens) for tokens, _ in expected}
        np.testing.assert_array_equal(found.finished[row], [sequence[-1] == END for sequence in sequences])
        assert (np.asarray(found.tokens)[row][np.arange(T) >= np.asarray(found.lengths)[row][:, None]] == PADDING).all()


def reference(logs, penalty, width, length, n_best):
    """Return (tokens, score) of the finished sequences of one sentence, by the description in `beam`, in lists."""
    live, ended = [(0.0, ())], []
    for count in range(1, length + 1):
        candidates = []
        for total, tokens in live:
            step = logs[(count - 1, *(0, BEGIN, *tokens)[-2:])]
            candidates += [(total + step[token], (*tokens, token)) for token in range(END, V)]
        candidates.sort(key=lambda pair: -pair[0])
        best = [pair for pair in candidates[:width] if pair[1][-1] == END]
        ended += [(tokens, total / count**penalty) for total, tokens in best][: width - len(ended)]
        live = [pair for pair in candidates if pair[1][-1] != END][:width]
        if len(ended) == width:
            break
    return sorted(ended, key=lambda pair: -pair[1])[:n_best]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), penalty=st.sampled_from([0.0, 0.5, 1.0]), end=st.sampled_from([-3.0, 0.0, 3.0]))
def test_it_is_the_search_that_is_described(seed, penalty, end):
    logs = logs_of(seed, 9, 3, end)
    found = searched(logs, penalty, **OPTIONS)
    for row in range(3):
        for place, (tokens, score) in enumerate(reference(logs[row], penalty, **OPTIONS)):
            np.testing.assert_allclose(found.scores[row, place], score, rtol=1e-5)
            assert tuple(found.tokens[row, place, : len(tokens)].tolist()) == tokens
            assert found.finished[row, place]


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), end=st.sampled_from([-4.0, 0.0, 3.0]))
def test_width_1_is_greedy(seed, end):
    logs = logs_of(seed, 7, end=end)
    found = searched(logs, width=1, length=7)
    for row in range(B):
        history, total = [0, BEGIN], 0.0
        while len(history) < 9 and history[-1] != END:
            step = np.where(
                np.isin(np.arange(V), (PADDING, BEGIN)), -np.inf, logs[row, len(history) - 2][*history[-2:]]
            )
            history.append(int(step.argmax()))
            total += step.max()
        count = len(history) - 2
        assert found.lengths[row, 0] == count
        np.testing.assert_array_equal(found.tokens[row, 0], history[2:] + [PADDING] * (7 - count))
        np.testing.assert_allclose(found.scores[row, 0], total / count, rtol=1e-5)
        assert bool(found.finished[row, 0]) == (history[-1] == END)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), penalty=st.sampled_from([0.0, 0.5, 1.0]), end=st.sampled_from([-3.0, 0.0, 3.0]))
def test_neighbours_and_the_early_stop_change_nothing_and_n_best_are_sorted_and_distinct(seed, penalty, end):
    logs = logs_of(seed, 9, 3, end)
    found = searched(logs, penalty, **OPTIONS)
    late = searched(logs, penalty, early_stop=False, **OPTIONS)
    jax.tree.map(np.testing.assert_array_equal, found, late)
    other = np.concatenate([logs[:1], logs_of(seed + 1, 9, 2, 1.0)])
    alone = searched(other, penalty, **OPTIONS)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[0], b[0]), found, alone)
    assert (np.diff(np.asarray(found.scores), axis=1)[np.diff(np.asarray(found.finished), axis=1) == 0] <= 0).all()
    for row in np.asarray(found.tokens):
        assert len({tuple(tokens) for tokens in row.tolist()}) == 4


def test_the_score_and_the_attention_are_those_along_the_tokens():
    logs = logs_of(5, 9, 3)
    found = searched(logs, **OPTIONS)
    for row, place in np.ndindex(3, 4):
        tokens, length = np.asarray(found.tokens[row, place]), int(found.lengths[row, place])
        history = [0, BEGIN, *tokens[:length].tolist()]
        total = sum(logs[row, at, history[at], history[at + 1], history[at + 2]] for at in range(length))
        np.testing.assert_allclose(found.scores[row, place], total / length, rtol=1e-5)
        expected = [[history[at], history[at + 1], at, row] for at in range(length)] + [[0] * 4] * (9 - length)
        np.testing.assert_array_equal(found.attention[row, place], expected)


def test_sequences_that_never_end_are_cut_and_say_so():
    logs = logs_of(1, 9, 3)
    logs[..., END] = -np.inf
    found = searched(logs, 0.5, **OPTIONS)
    assert not found.finished.any()
    assert (found.lengths == 9).all()
    assert (np.asarray(found.tokens) >= UNKNOWN).all()
    assert np.isfinite(found.scores).all()


def test_places_without_a_sequence_are_empty():
    logs = np.full((3, 9, V, V, V), -np.inf, np.float32)
    logs[..., END] = -1
    found = searched(logs, **OPTIONS)
    np.testing.assert_array_equal(found.lengths, [[1, 0, 0, 0]] * 3)
    np.testing.assert_array_equal(found.scores, [[-1, *[-np.inf] * 3]] * 3)
    np.testing.assert_array_equal(found.tokens[:, 0, :2], [[END, PADDING]] * 3)
    assert (np.asarray(found.tokens)[:, 1:] == PADDING).all()


@pytest.mark.parametrize(("size", "count"), [(3, 5), (700, 4), (1000, 1)])
def test_the_greatest_of_wide_rows_are_those_of_a_stable_sort(size, count):
    values = np.random.default_rng(0).integers(0, 50, (4, size)).astype(np.float32)
    found, ids = jax.jit(ranking.greatest, static_argnums=1)(values, count)
    least = min(size, count)
    order = np.argsort(-values, axis=1, kind="stable")[:, :least]
    np.testing.assert_array_equal(ids[:, :least], order)
    np.testing.assert_array_equal(found[:, :least], np.take_along_axis(values, order, 1))
    assert (found[:, least:] == -np.inf).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width = 0"),
        ({"width": 2, "n_best": 4}, "n_best = 4 of a beam of width 2"),
        ({"width": 2, "penalty": -1.0}, "penalty = -1.0"),
        ({"width": 2, "length": 0}, "length = 0"),
        ({"width": 3}, r"cache: a leaf of shape \[4\], expected 6 rows"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(options, message):
    with refused_in_one_line(message):
        beam.search(None, np.zeros(4), batch=2, **({"length": 2} | options))


def test_it_lowers_to_three_platforms():
    exported = jax.export.export(searched, platforms=("cpu", "cuda", "tpu"))(logs_of(0), width=2)
    assert exported.platforms == ("cpu", "cuda", "tpu")
