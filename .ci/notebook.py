"""Write experiments/colab.ipynb from its source, experiments/notebooks/colab.py: `python .ci/notebook.py`.

With `--check` nothing is written; the exit code is 1 where the notebook differs from its source.
"""

import sys
from pathlib import Path

import jupytext
import nbformat

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "experiments" / "notebooks" / "colab.py"
NOTEBOOK = ROOT / "experiments" / "colab.ipynb"
METADATA = {
    "colab": {"provenance": []},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def made() -> str:
    """Return the notebook as JSON, without outputs; the same source gives the same text."""
    notebook = jupytext.read(SOURCE, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def main(words: list[str]) -> int:
    """Write the notebook, or compare it; return the exit code."""
    if words == ["--check"]:
        if NOTEBOOK.exists() and NOTEBOOK.read_text(encoding="utf-8") == made():
            return 0
        print(f"{NOTEBOOK.relative_to(ROOT)} differs from its source: python .ci/notebook.py", file=sys.stderr)
        return 1
    NOTEBOOK.write_text(made(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
