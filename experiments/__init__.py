"""Experiments: one absl program a file; `main` reads the flags, `run` takes plain values."""

from experiments import process

if process.runs_as_module("experiments"):  # before the imports of the experiment, which take a second or two
    process.begin()
