"""The schema of a table: kinds and categories of its columns, learned once and applied to any file.

- `forms`: texts as numbers and dates; `columns`: one column; `target`: the target; `schema`: all of them;
  `inference`: the kinds, from the rows of a file that are not test rows.
"""

from mllab.data.schema.columns import ColumnSchema
from mllab.data.schema.schema import NewRows, Schema, Unread
from mllab.data.schema.target import NO_TARGET, TargetSchema

__all__ = ["NO_TARGET", "ColumnSchema", "NewRows", "Schema", "TargetSchema", "Unread"]
