"""Benchmarks side by side with peers, on the same machine in the same run."""
