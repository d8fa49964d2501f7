"""Recurrent networks: cells, sequences of them, and models made of both."""

from mllab.models.recurrent.cells import CELLS, GRU, LSTM, RNN, Cell, LSTMCarry, MinGRU
from mllab.models.recurrent.unroll import FORMS, bidirectional, stack, unroll

__all__ = ["CELLS", "FORMS", "GRU", "LSTM", "RNN", "Cell", "LSTMCarry", "MinGRU", "bidirectional", "stack", "unroll"]
