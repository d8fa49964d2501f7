"""Data sets: by name from the catalog, or read from your own tables and images.

- `catalog`: one row a data set, and `load`, which takes a name or the path of your own data. A new data set goes here.
- `dataset`: what `load` returns. `split`: stratified splits into training, validation and test rows.
- `readers`: file formats and users' own data. `sets`: the loaders of the catalog's data sets.
- `schema`: how a table's columns become inputs, for the file learned from and for new ones.
- `names`: names of columns, classes and files, made printable.
- `files`, `download`: published files, found or downloaded, and verified.
"""

from mllab.data.catalog import load
from mllab.data.dataset import Dataset, Split

__all__ = ["Dataset", "Split", "load"]
