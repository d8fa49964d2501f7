"""Data sets by name, and the user's own tables: `load`."""

from mllab.data.catalog import load
from mllab.data.dataset import Dataset, Split

__all__ = ["Dataset", "Split", "load"]
