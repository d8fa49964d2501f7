"""Predictions for the rows of a new table: the computation, the file of predictions, and the report."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from experiments import answers, frame
from mllab import table_models
from mllab.data import names
from mllab.data.readers import table as tables
from mllab.data.readers.csv_parquet import Table as File
from mllab.data.schema import Unread
from mllab.errors import UserError, shortened
from mllab.folders import expand
from mllab.report import atomic, table
from mllab.report.report import Report
from mllab.report.table import Table, legible
from mllab.table_models import TableModel

ENDINGS = (".csv", ".parquet")
MAX_SHOWN = 10  # rows on the terminal
MAX_UNREAD = 3  # rows named on the terminal
DIGITS = 9  # significant digits in a CSV file


@dataclass(frozen=True)
class TablePrediction:
    """The predictions for the rows of a file, in its order."""

    model: str
    dataset: str
    input: str
    output: str | None
    target: str
    coverage: float | None  # of the intervals; None where there are none
    unread: Sequence[Unread]  # rows that could not be read
    notes: Sequence[str]
    columns: dict[str, Sequence[object]] = frame.unsaved()  # of the file of predictions; None in unread rows


def predict(
    run: frame.Context, params: str | None, input_file: str, output: str | None, coverage: float
) -> TablePrediction:
    """Predict the rows of a file, and write the predictions.

    Args:
        run: the run.
        params: file of a model of a table.
        input_file: table to predict.
        output: file to write, .csv or .parquet; none is written where None.
        coverage: of prediction intervals.

    Raises:
        UserError: the model, the table or the output cannot be used.
    """
    if params is None:
        raise UserError("--input needs --params: give the params of a model of a table")
    check_output(output, params, input_file)
    model = table_models.load_table_model(params)
    with run.timed("reading"):
        file = tables.read(expand(input_file), text=[each.name for each in model.schema.categorical])
        rows = model.schema.read(file)
    with run.timed("prediction"):
        try:
            predicted = _predictions(model, rows.columns, coverage)
        except UserError as error:
            raise UserError(f"{params}: {error}") from None
    columns = _columns(file, predicted, rows.rows, rows.unread)
    if output is not None:
        write(expand(output), columns)
    dataset = model.about.get("dataset")
    return TablePrediction(
        model=names.printable(str(model.about.get("model") or model.plan["learner"])),
        dataset=names.printable(dataset) if isinstance(dataset, str) else "unnamed data",
        input=names.printable(input_file),
        output=output,
        target=model.schema.target.name,
        coverage=coverage if "low" in predicted else None,
        unread=rows.unread,
        notes=(*file.notes, *rows.notes),
        columns=columns,
    )


def check_output(output: str | None, *inputs: str) -> None:
    """Raise UserError unless predictions can be written to a file that is none of the inputs."""
    if output is None:
        return
    path = expand(output)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"--output={shortened(output)}: the name must end in {' or '.join(ENDINGS)}")
    if path.is_dir():
        raise UserError(f"--output={shortened(output)}: it is a folder, expected the name of a file")
    if any(path.exists() and expand(each).exists() and path.samefile(expand(each)) for each in inputs):
        raise UserError(f"--output={shortened(output)} would replace an input: give another name")


def write(path: Path, columns: dict[str, Sequence[object]]) -> None:
    """Write columns of one length as CSV or Parquet, as the name says; the file is whole or absent."""
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), sink)
        atomic.write_bytes(path, sink.getvalue().to_pybytes())
        return
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(f"{each:.{DIGITS}g}" if isinstance(each, float) else each for each in row)
    atomic.write_bytes(path, stream.getvalue().encode())


def report(found: TablePrediction) -> Report:
    """Report the first rows, and which rows could not be read."""
    shown = list(zip(*(values[:MAX_SHOWN] for values in found.columns.values()), strict=True))
    total = len(found.columns["row"])
    heads = [legible(name) for name in found.columns]
    lines = [[_cell(name, value) for name, value in zip(found.columns, row, strict=True)] for row in shown]
    caption = f"model: {found.model}, trained on {found.dataset}"
    if total > len(shown):
        caption += f"; the first {len(shown)} of {total:,} rows"
    if found.coverage is not None:
        caption += f"; low and high: an interval that holds the truth with a probability of about {found.coverage:.0%}"
    count = total - len(found.unread)
    answer = f"Predicted {legible(found.target)} for {count:,} of {answers.counted(total, 'row')} of {found.input}"
    answer += f" (written to {names.printable(found.output)})." if found.output else "; --output=FILE writes them all."
    if found.unread:
        named = "; ".join(f"row {each.row}, column {shortened(each.column)!r}: {each.why}" for each in found.unread[:3])
        more = f"; and {len(found.unread) - MAX_UNREAD} more" if len(found.unread) > MAX_UNREAD else ""
        answer += f" {answers.counted(len(found.unread), 'row')} could not be read: {named}{more}."
    return Report(
        title="Predictions",
        question=f"What is {found.target} in each row?",
        answer=answer,
        table=Table(heads, lines, caption=caption),
        remarks=[note[:1].upper() + note[1:] + "." for note in found.notes],
    )


def _predictions(model: TableModel, columns: object, coverage: float) -> dict[str, np.ndarray]:
    """Return the columns of predictions for the rows that were read, [M] each."""
    if model.classes:
        outputs = model.predict(columns)  # type: ignore[arg-type]
        probabilities = np.asarray(jax.nn.softmax(outputs, axis=-1), np.float64)
        chosen = np.array(model.classes, object)[outputs.argmax(axis=-1)]
        by_class = zip(model.classes, probabilities.T, strict=True)
        return {"prediction": chosen, **{f"probability of {name}": shares for name, shares in by_class}}
    made = {"prediction": model.values(columns)}  # type: ignore[arg-type]
    if model.folds is not None:
        made["low"], made["high"] = model.interval(columns, coverage)  # type: ignore[arg-type]
    return made


def _columns(
    file: File, predicted: dict[str, np.ndarray], read: np.ndarray, unread: Sequence[Unread]
) -> dict[str, Sequence[object]]:
    """Return the columns of the file of predictions, one entry for each row of the table."""
    made: dict[str, Sequence[object]] = {"row": file.rows.tolist()}
    for name, values in predicted.items():
        column = np.full(len(file.rows), None, object)
        column[read] = values
        made[name] = column.tolist()
    reasons = {each.row: f"column {each.column!r}: {each.why}" for each in unread}
    return made | {"reason": [reasons.get(row) for row in file.rows.tolist()]}


def _cell(name: str, value: object) -> object:
    if isinstance(value, float):
        return table.share(value) if name.startswith("probability of ") else table.significant(value, 5)
    return legible(value) if isinstance(value, str) else value
