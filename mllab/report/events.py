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


def write(
    folder: str | Path, tags: Mapping[str, tuple[ArrayLike, ArrayLike]], wall_times: Mapping[int, float] | None = None
) -> Path:
    """Write the scalars of one lane, and replace what the folder held of it, so that a resumed run doubles no point.

    Args:
        folder: the lane's; its name is what TensorBoard shows.
        tags: by tag, steps [P] and values [P]; NaN is allowed.
        wall_times: seconds since the epoch at each step. All 0 where absent, so that the same run gives the same bytes.

    Returns:
        The path of the file.
    """
    by_step: dict[int, list[Summary.Value]] = {}
    for tag, (steps, values) in tags.items():
        if np.shape(steps) != np.shape(values):
            raise ValueError(f"tag {tag!r}: {np.shape(steps)} steps for {np.shape(values)} values")
        with np.errstate(over="ignore"):  # a diverged loss may pass float32: it is shown as infinite
            numbers = np.asarray(values).astype(np.float32)
        for step, value in zip(np.asarray(steps).tolist(), numbers.tolist(), strict=True):
            by_step.setdefault(int(step), []).append(Summary.Value(tag=tag, simple_value=value))
    times = wall_times or {}
    content = io.BytesIO()
    records = RecordWriter(content)
    records.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
    for step in sorted(by_step):
        summary = Summary(value=by_step[step])
        records.write(Event(wall_time=times.get(step, 0.0), step=step, summary=summary).SerializeToString())
    return write_bytes(Path(folder) / FILE_NAME, content.getvalue())
