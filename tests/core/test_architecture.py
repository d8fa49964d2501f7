"""Imports point one way, `import mllab` is light, and the repository holds what it should."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What each module or package may import from mllab beside itself.
ALLOWED = {
    "types": set(),
    "errors": set(),
    "hosts": {"errors"},
    "beam": {"types", "errors", "checks", "models", "special_tokens"},
    "checks": {"types", "errors"},
    "rows": {"types", "errors", "checks"},
    "losses": {"types", "errors", "checks"},
    "augmentation": {"types", "errors"},
    "metrics": {"types", "errors", "checks", "losses"},
    "tasks": {"types", "errors", "losses", "metrics"},
    "flops": set(),
    "folders": {"errors"},
    "devices": {"errors", "folders", "memory"},
    "memory": {"errors"},
    "averaging": {"types"},
    "optimizers": {"types", "errors", "checks", "averaging"},
    "row_blocks": {"types"},
    "models": {"types", "errors", "checks", "row_blocks", "special_tokens"},
    "checkpoints": {"types", "errors", "hosts"},
    "weights": {"types", "errors", "folders", "models", "data"},
    "training": {"types", "errors", "checks", "hosts", "rows", "losses", "models", "checkpoints"},
    "sweep": {"types", "errors", "checks", "hosts", "memory", "rows", "devices", "training"},
    "validation": {"types", "errors", "checks", "memory", "rows", "metrics", "training", "sweep"},
    "selection": {"types", "errors", "checks", "rows", "metrics", "validation"},
    "schemes": {"errors", "checks", "rows", "validation"},
    "criteria": {"types", "errors", "tasks", "validation"},
    "conformal": {"errors", "checks"},
    "forecasting": {"errors", "checks"},
    "explanation": {"types", "errors", "checks", "row_blocks", "metrics", "models", "validation"},
    "table_models": {
        "types", "errors", "rows", "row_blocks", "conformal", "models", "tasks", "validation", "learners", "data",
        "weights",
    },
    "text_models": {"types", "errors", "models", "data", "weights"},
    "translation_models": {
        "types", "errors", "checks", "devices", "rows", "special_tokens", "beam", "sweep", "models", "data", "weights",
    },
    "music_models": {"types", "errors", "models", "weights"},
    "portable": {"types", "errors", "models", "data", "weights", "table_models", "text_models"},
    "nested": {"types", "errors", "checks", "metrics", "validation"},
    "learners": {
        "types", "errors", "checks", "memory", "rows", "losses", "devices", "optimizers", "models", "training", "sweep",
        "validation",
    },
    "model_search": {"types", "errors", "memory", "growth", "nested", "power_law", "validation"},
    "pool": {"errors", "learners", "model_search", "models", "nested", "tasks", "validation"},
    "group_leakage": {"types", "errors", "learners", "metrics", "models", "validation"},
    "race_rows": {"types", "errors", "checks", "rows", "validation"},
    "race_checks": {
        "types", "errors", "checks", "memory", "rows", "tasks", "optimizers", "models", "race_rows",
    },
    "race_refit": {"types", "rows", "averaging", "training", "sweep", "race_rows"},
    "racing": {
        "types", "errors", "checks", "memory", "rows", "metrics", "tasks", "devices", "averaging", "optimizers",
        "models", "training", "sweep", "report", "validation", "race_rows", "race_checks", "race_refit",
    },
    "control": {"types", "errors", "checks", "rows", "optimizers", "models", "training"},
    "control_models": {"types", "errors", "models", "weights", "control"},
    "clustering": {"memory", "metrics", "models", "sweep"},
    "special_tokens": set(),
    "semi_supervised": {"types", "checks", "memory", "metrics", "models", "sweep", "selection", "data"},
    "capacity": {"types", "errors", "checks", "rows", "metrics", "validation"},
    "power_law": {"errors", "checks", "metrics"},
    "growth": {"types", "errors", "checks", "memory", "rows", "metrics", "validation", "power_law"},
    "paths": {"types", "checks", "averaging"},
    "race_results": {"types", "rows", "metrics", "models", "race_rows", "racing"},
    "data": {"special_tokens", "types", "errors", "folders", "memory", "devices", "tasks", "models"},
    "report": {"errors"},
}  # fmt: skip


def imported(path):
    """Yield the modules and packages of mllab that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module] if node.module != "mllab" else [f"mllab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("mllab."))
        if any(name.split(".")[0] == "experiments" for name in names):
            yield "experiments"


@pytest.mark.parametrize("path", sorted((ROOT / "mllab").rglob("*.py")), ids=lambda path: path.stem)
def test_imports_point_one_way(path):
    room = path.relative_to(ROOT / "mllab").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    assert set(imported(path)) - {room} <= ALLOWED[room]


def test_only_experiments_read_flags():
    for path in (ROOT / "mllab").rglob("*.py"):
        assert "absl" not in path.read_text(), path


def test_import_mllab_loads_neither_orbax_nor_nnx_nor_what_the_experiments_need():
    heavy = ("orbax", "flax.nnx", "pandas", "pyarrow", "matplotlib", "sklearn", "tensorboard", "jinja2", "safetensors")
    code = f"import sys, mllab, mllab.data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_top_level_holds_what_it_should():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    top = {name.split("/")[0] for name in listed.stdout.splitlines()}
    expected = {"pyproject.toml", "README.md", "BUILD_NOTES.md", "mllab", "experiments", "tests"}
    assert {name for name in top if not name.startswith(".")} <= expected


def test_no_pickle_no_eval():
    for folder in ("mllab", "experiments"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    assert node.func.id not in {"eval", "exec", "__import__"}, path
                assert not (isinstance(node, ast.Import) and any(a.name == "pickle" for a in node.names)), path
