"""TensorBoard: one folder a lane, shared tag names, so that the curves of many lanes overlay."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from mllab.report.atomic import write_bytes

FILE_NAME = "events.out.tfevents.0.mllab"  # TensorBoard looks for "tfevents"; one name, so that a lane has one file


def write(folder: str | Path, tags: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Path:
    """Write the scalars of a lane, by tag its steps [P] and values [P], and replace what its folder held of them.

    NaN is allowed. Wall times are 0, so that the same run gives the same bytes. Returns the file's path.
    """
    by_step: dict[int, list[Summary.Value]] = {}
    for tag, (steps, values) in tags.items():
        if np.shape(steps) != np.shape(values):
            raise ValueError(f"tag {tag!r}: {np.shape(steps)} steps for {np.shape(values)} values")
        with np.errstate(over="ignore"):  # a diverged loss may pass float32: it is shown as infinite
            numbers = np.asarray(values).astype(np.float32)
        for step, value in zip(np.asarray(steps).tolist(), numbers.tolist(), strict=True):
            by_step.setdefault(int(step), []).append(Summary.Value(tag=tag, simple_value=value))
    content = io.BytesIO()
    records = RecordWriter(content)
    records.write(Event(file_version="brain.Event:2").SerializeToString())
    for step, scalars in sorted(by_step.items()):
        records.write(Event(step=step, summary=Summary(value=scalars)).SerializeToString())
    return write_bytes(Path(folder) / FILE_NAME, content.getvalue())
