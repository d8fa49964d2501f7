"""The first ids of every vocabulary of sentences; words follow from `FIRST_WORD` on."""

PADDING, BEGIN, END, UNKNOWN = 0, 1, 2, 3
FIRST_WORD = 4
