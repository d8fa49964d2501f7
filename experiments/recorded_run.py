"""A finished run as its workdir records it; what is damaged or no finished run is refused in one line."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from experiments.frame import workdir
from mllab.errors import UserError, shortened, unknown
from mllab.folders import expand

EXPERIMENTS: Mapping[str, bool] = {  # those that write a workdir, and whether they take --devices
    "capacity": False,
    "char_rnn": True,
    "clustering": True,
    "compare": False,
    "features": False,
    "growth": False,
    "image_classifier": True,
    "kernel_svm": False,
    "linear_regression": False,
    "model_selection": True,
    "music": True,
    "nearest_neighbors": False,
    "optimizer_race": True,
    "reinforcement": True,
    "semi_supervised": True,
    "sequence_toys": True,
    "time_series": True,
    "translation": True,
}
MAX_DEPTH = 50  # of nested lists and objects in a JSON file
MAX_RECORD_BYTES = 2**20  # of a line of metrics.jsonl


@dataclass(frozen=True)
class RecordedRun:
    """A finished run, checked."""

    path: Path
    experiment: str  # one of EXPERIMENTS
    summary: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def flags(self) -> Mapping[str, Any]:
        """The settings that results depend on, by name."""
        return self.summary["flags"]

    @property
    def figures(self) -> Mapping[str, Any]:
        """The summary without the flags."""
        return {name: value for name, value in self.summary.items() if name != "flags"}

    @property
    def seconds_by_part(self) -> dict[str, float]:
        """Wall times, `total` among them; empty where none are recorded."""
        parts = self.summary.get("seconds")
        items = parts.items() if isinstance(parts, dict) else ()
        return {name: float(value) for name, value in items if isinstance(value, int | float)}

    @property
    def seconds(self) -> float | None:
        """Total wall time; None where it is not recorded."""
        return self.seconds_by_part.get("total")

    @property
    def device_count(self) -> int | None:
        """Number of devices that it computed on; None where it is not recorded."""
        devices = self.environment.get("devices")
        count = devices.get("count") if isinstance(devices, dict) else None
        return count if isinstance(count, int) and not isinstance(count, bool) else None


def read(path: str | Path) -> RecordedRun:
    """Return the finished run in a workdir.

    Raises:
        UserError: no workdir, an unfinished run, an unknown experiment, or a damaged file.
    """
    folder = expand(path)
    if not (folder / "flags.cfg").is_file():
        _refuse_folder(folder)
    if not (folder / "summary.json").is_file():
        raise UserError(
            f"{folder} holds an unfinished run, without summary.json: repeat its command with --workdir={folder}, "
            "which resumes it"
        )
    _text(folder / "flags.cfg")
    summary, recorded = read_object(folder / "summary.json"), read_object(folder / "environment.json")
    experiment = summary.get("experiment")
    if not isinstance(experiment, str) or not isinstance(summary.get("flags"), dict):
        raise UserError(f"{folder / 'summary.json'} names no experiment and its flags: give the workdir of a run")
    if experiment not in EXPERIMENTS:
        raise UserError(f"{folder / 'summary.json'}: {unknown('experiment', experiment, EXPERIMENTS)}")
    return RecordedRun(folder, experiment, summary, recorded)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a workdir.

    Raises:
        UserError: no such file, or one that is damaged, too long or nested too deeply.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: give the workdir of a finished run")
    return _parsed(path, _text(path))


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of metrics.jsonl; none where there is no such file.

    Raises:
        UserError: a damaged line.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            where = f"{path} line {number}"
            if len(line) > MAX_RECORD_BYTES:
                raise UserError(f"{where} is damaged (too long): restore it")
            yield _parsed(where, line.decode("utf-8", errors="replace"))


def _text(path: Path) -> str:
    try:
        return workdir.read_text(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): restore it") from None


def _parsed(where: Path | str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UserError(f"{where} is damaged ({shortened(str(error))}): restore it") from None
    except RecursionError:
        raise UserError(f"{where} is damaged (nested too deeply): restore it") from None
    if not isinstance(value, dict):
        raise UserError(f"{where} is damaged (it holds no object): restore it")
    level, depth = [value], 0
    while level := [item for each in level for item in _items(each)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise UserError(f"{where} is damaged (nested too deeply): restore it")
    return value


def _items(value: Any) -> list[Any]:
    """Return the lists and objects directly inside one."""
    inside = value.values() if isinstance(value, dict) else value
    return [item for item in inside if isinstance(item, dict | list)]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _refuse_folder(folder: Path) -> NoReturn:
    """Raise UserError for a path that is no workdir."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the workdir of a finished run")
    runs = sorted(entry.name for entry in folder.iterdir() if (entry / "flags.cfg").is_file())
    inside = f": name the runs in it, such as {folder / runs[-1]}" if runs else ": name the folder of a finished run"
    raise UserError(f"{folder} is no workdir, without flags.cfg{inside}")
