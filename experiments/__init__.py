"""Experiments: one absl program a file; `main` reads the flags, `run` takes plain values."""
