"""The bench of sequence lengths: exponents, and that segments need less memory."""

import numpy as np
import pytest

from experiments.bench import sequence_length


def test_exponents_are_those_of_power_laws():
    lengths = [8, 16, 32, 64]
    assert sequence_length.exponent(lengths, 3 * np.array(lengths, float) ** 0.5) == pytest.approx(0.5)


def test_segments_divide_the_length():
    assert [sequence_length.near_root(length) for length in (1, 64, 8192, 90)] == [1, 8, 64, 9]


@pytest.mark.slow
def test_segments_need_less_memory(monkeypatch):
    forms = {name: form for name, form in sequence_length.FORMS.items() if form.cell == "gru"}
    monkeypatch.setattr(sequence_length, "FORMS", forms)
    settings = sequence_length.Settings(repeats=1, shortest=512, doublings=1, hidden=8)
    lengths, figures = sequence_length.measure(None, settings)
    assert lengths == [512, 1024]
    assert figures["GRU in segments"].megabytes[-1] < 0.1 * figures["GRU"].megabytes[-1]
