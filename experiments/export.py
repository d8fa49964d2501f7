r"""Export a published model as a program that predicts without mllab, on CPU, CUDA and TPU.

  python -m experiments.export --params=runs/photos/params.safetensors
  python -m experiments.export --params=FILE --platforms=cpu,cuda --output=model.jaxexport

The artifact holds the params. Beside it a .json file describes its inputs and outputs, the classes, the vocabulary, or
how a table's columns are encoded. It takes any number of rows, and of characters, and needs nothing but jax and
flatbuffers; jax of the version that exported it, or up to six months newer:

  import json, numpy as np
  from jax import export
  program = export.deserialize(bytearray(open("model.jaxexport", "rb").read()))
  about = json.load(open("model.jaxexport.json"))
  images = np.zeros((5, 28, 28, 1), np.float32)  # as about["inputs"] says
  print([about["classes"][place] for place in program.call(images).argmax(axis=-1)])

A recurrent language model takes tokens and a tuple of states, zeros at the beginning of a text, and returns logits and
the states for the next call; a Transformer takes the tokens of a window, and returns logits:

  logits, states = program.call(tokens, states)
  logits = program.call(tokens)

Models of images and rows, of tables (all learners that experiments.model_selection publishes) and of characters are
exported. Pictures are read and tables encoded by the caller, as the .json file says; `experiments.predict` does both.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments import frame
from mllab import portable
from mllab.data import names
from mllab.errors import UserError, shortened
from mllab.folders import expand
from mllab.report import atomic
from mllab.report.report import Report
from mllab.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """The model, and where it is to run."""

    params: str | None = frame.path(None, help="params.safetensors that an experiment published.")
    platforms: tuple[str, ...] = frame.choices(
        portable.PLATFORMS, help="Platforms to run on, cuda for NVIDIA GPUs; none needs to be present.", kind="platform"
    )
    output: str | None = frame.path(
        None, help="File of the artifact; its description has .json after that name. Default: beside the params, "
        "NAME.jaxexport."
    )  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """The files that were written."""

    output: str
    description: str
    size: int  # bytes of the artifact
    about: dict[str, Any] = frame.unsaved()


def measure(run: frame.Context, settings: Settings) -> Artifact:
    """Export the model and write the artifact and its description.

    Raises:
        UserError: params of something else, or an output that cannot be written.
    """
    if settings.params is None:
        raise UserError("params: name the file that an experiment published (--params=FILE)")
    params = expand(settings.params)
    output = expand(settings.output) if settings.output else params.with_suffix(".jaxexport")
    description = output.with_name(f"{output.name}.json")
    for path in (output, description):
        if path.is_dir():
            raise UserError(f"--output={shortened(str(path))}: it is a folder, expected the name of a file")
        if path.exists() and params.exists() and path.samefile(params):
            raise UserError(f"--output={shortened(str(path))} would replace the params: give another name")
    with run.timed("export"):
        made = portable.make(settings.params, settings.platforms)
    write({description: json.dumps(made.description, indent=1).encode() + b"\n", output: made.program})
    return Artifact(str(output), str(description), len(made.program), made.description)


def write(files: dict[Path, bytes]) -> None:
    """Write files whole; where one cannot be written, none that is new is left."""
    written = []
    try:
        for path, content in files.items():
            is_new = not path.exists()
            atomic.write_bytes(path, content)
            written += [path] * is_new
    except OSError:
        for path in written:
            path.unlink(missing_ok=True)
        raise


def report(run: frame.Context, settings: Settings, measured: Artifact) -> Report:
    """Report the inputs and outputs."""
    del run
    rows = []
    for place, key in (("input", "inputs"), ("output", "outputs")):
        for each in measured.about[key]:
            parts = each if isinstance(each, list) else [each]
            shapes = ", ".join(f"{part['dtype']}[{', '.join(map(str, part['shape']))}]" for part in parts)
            rows.append([place, "states" if isinstance(each, list) else each["name"], shapes, parts[0]["help"]])
    caption = f"model: {names.printable(measured.about['model'])}; {portable.ROWS}, {portable.STEPS}: any size"
    return Report(
        title="Export",
        question="What does the artifact take and return?",
        answer=f"Wrote {names.printable(measured.output)} ({measured.size / 1e6:.2f} MB) for "
        f"{', '.join(settings.platforms)}, and {names.printable(measured.description)}, which describes it.",
        table=Table(["", "name", "dtype and shape", "what it is"], rows, caption=caption),
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
