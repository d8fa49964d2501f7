"""Recurrent networks: cells, sequences of them, and language models.

`CELLS[name]` has `init` and `step`, `unroll` runs a cell along sequences, `stack` and `bidirectional` several;
`language.model` is the model of tokens.
"""

from mllab.models.recurrent.cells import CELLS, GRU, LSTM, RESET_FIRST_GRU, RNN, Cell, LSTMCarry, MinGRU, ResetFirstGRU
from mllab.models.recurrent.sequences import FORMS, bidirectional, stack, unroll

__all__ = [
    "CELLS",
    "FORMS",
    "GRU",
    "LSTM",
    "RESET_FIRST_GRU",
    "RNN",
    "Cell",
    "LSTMCarry",
    "MinGRU",
    "ResetFirstGRU",
    "bidirectional",
    "stack",
    "unroll",
]
