"""Loaders of the catalog's data sets, one module a set or a family of sets.

Each loader is a function `(files, split_seed) -> Dataset`: the paths of the set's files by name, and the seed of the
split.
"""
