"""What every benchmark shares: programs run as processes of their own, in turn, and their medians.

NumPy's, PyTorch's and JAX's thread pools slow each other several-fold inside one process, so nothing is ever timed
beside anything else: each measurement is a process, started when the one before has ended.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from absl import flags

from mllab import devices
from mllab.errors import UserError

REPOSITORY = Path(__file__).parents[2]

REPEATS = flags.DEFINE_integer("repeats", 5, "Times that each is measured.", lower_bound=1)
REPORT = flags.DEFINE_string("report", None, "JSON file to write. Default: printed.")


class Sample(NamedTuple):
    """One measurement."""

    seconds: float  # wall time
    report: dict[str, Any]  # what the program wrote of itself


def require(package: str, mend: str) -> None:
    """Refuse to begin without a peer's package.

    Raises:
        UserError: it is not installed; `mend` says what else would help.
    """
    if find_spec(package) is None:
        raise UserError(f"{package} is not installed: pip install 'mllab[bench]'{mend}")


def command(module: str, **flags: Any) -> list[str]:
    """Return `python -m experiments.<module> --name=value ...`; lists are joined by commas."""
    joined = {name: ",".join(map(str, v)) if isinstance(v, list | tuple) else v for name, v in flags.items()}
    return [sys.executable, "-m", f"experiments.{module}", *(f"--{name}={value}" for name, value in joined.items())]


def process(*commands: Sequence[str], cache: Path | None = None) -> float:
    """Run commands side by side, each as a process; return the wall seconds until the last has ended.

    Args:
        commands: see `command`.
        cache: the folder of JAX's persistent compilation cache, where it should not be the user's own.

    Raises:
        RuntimeError: one of them failed; with the end of what it said.
    """
    environment = os.environ | ({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            each, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        for each in commands
    ]
    said = [each.communicate()[1] for each in running]
    seconds = time.perf_counter() - began
    for words, program, error in zip(commands, running, said, strict=True):
        if program.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {program.returncode}:\n{error[-2000:]}")
    return seconds


def read(path: Path) -> dict[str, Any]:
    """Return what a program wrote of itself."""
    return json.loads(path.read_text())


def write(report: dict[str, Any], path: str | None) -> None:
    """Write what a program found of itself, or print it where it was given no path."""
    text = json.dumps(report)
    if path:
        Path(path).write_text(text)
    else:
        print(text)


def program(path: Path, module: str, **flags: Any) -> Callable[[], Sample]:
    """Return the measurement of a program that writes a JSON report to `--report=path`."""
    return lambda: Sample(process(command(module, report=path, **flags)), read(path))


def best_threads(path: Path, module: str, **flags: Any) -> int:
    """Return with how many threads, one or one a core, a PyTorch program trains faster: the best of two tries each."""
    tries = {str(threads): program(path, module, threads=threads, **flags) for threads in sorted({1, devices.cores()})}
    print(f"threads for {module}:", file=sys.stderr)
    samples = in_turn(tries, 2)
    return int(min(samples, key=lambda threads: min(sample.report["seconds"] for sample in samples[threads])))


def in_turn(peers: Mapping[str, Callable[[], Sample]], repeats: int) -> dict[str, list[Sample]]:
    """Measure all peers once, then all again, `repeats` times: what slows the machine for a while slows all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in peers}
    for turn in range(repeats):
        for name, measure in peers.items():
            samples[name].append(measure())
            print(f"{turn + 1}/{repeats}  {name}: {samples[name][-1].seconds:.2f} s", file=sys.stderr, flush=True)
    return samples


def seconds(samples: Sequence[Sample]) -> float:
    """Return the median wall time."""
    return median(sample.seconds for sample in samples)


def figure(samples: Sequence[Sample], name: str) -> float:
    """Return the median of a figure that the programs reported of themselves."""
    return median(sample.report[name] for sample in samples)


def spread(values: Sequence[float]) -> str:
    """Return `least – greatest`."""
    return f"{min(values):.3g} – {max(values):.3g}"


def verdict(*met: bool) -> str:
    """Return whether all of the targets are met."""
    return "yes" if all(met) else "no"
