"""Flags of every experiment: each is read, only what is read is accepted, and no size is too large to be refused."""

import ast
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import experiments
from experiments import frame, recorded_run
from experiments.frame import settings, shared_flags
from experiments.frame.datasets import DatasetSetting
from mllab.data import catalog
from mllab.data.dataset import Dataset, Split
from mllab.errors import UserError
from mllab.report import console
from support.mistakes import refused_in_one_line

ROOT = Path(__file__).parents[2]
FOLDER = Path(experiments.__path__[0])
EXPERIMENTS = {
    name: module
    for _, name, package in pkgutil.iter_modules(experiments.__path__)
    if not package and hasattr(module := importlib.import_module(f"experiments.{name}"), "Settings")
}
REQUIRED = {"pictures": ("a.png",), "workdirs": ("runs/a", "runs/b")}  # settings without a default
ADDRESS_SPACE = 8 * 2**30  # bytes of the process that runs hostile flags


def made_of(cls, **overrides):
    return cls.make({name: value for name, value in REQUIRED.items() if name in cls.table()} | overrides)


def test_all_experiments_are_here():
    assert len(EXPERIMENTS) == 24
    tables = {name: module.Settings.table() for name, module in EXPERIMENTS.items()}
    assert {
        name: "devices" in table for name, table in tables.items() if "workdir" in table
    } == recorded_run.EXPERIMENTS


# ── Sizes ───────────────────────────────────────────────────────────────────────────────────────────────────────────

DIGITS = "9" * 5000  # more than Python's int() takes
NUMBERS = ("1000000000", "1" + 20 * "0", DIGITS)
LISTS = (*NUMBERS, "1:1000000000", "1:10000000000", f"1:{DIGITS}", "1:2:1000000000", f"1:2:{DIGITS}", f"{DIGITS}x1")
# Values that stand for no size: seeds, a limit that is not reached, and values of rates.
LEGITIMATE = {
    **dict.fromkeys(("split_seed", "noise_seed", "first_seed", "rows", "patience"), NUMBERS[:1]),
    **dict.fromkeys(("learning_rates", "c", "gamma"), NUMBERS[:2]),
}
SMALLEST = {"image_classifier": ["--dataset=digits"]}  # of the data sets that need no download; else the default
LARGE = [  # accepted one by one, but more than the memory holds
    ("optimizer_race", ["--hidden=10000000"], "the params and optimizer states of 96 lanes"),
    ("optimizer_race", ["--model=convnet", "--channels=1000000000"], "the params and optimizer states of 96 lanes"),
    ("optimizer_race", ["--learning_rates=1e-4:1:100000"], "the params and optimizer states of 1,200,000 lanes"),
    ("optimizer_race", ["--epochs=1000000"], "the minibatches of 1,000,000 epochs"),
    ("optimizer_race", ["--seeds=10000", "--hidden=9,9,9,999"], "the params and optimizer states of 320,000 lanes"),
    ("image_classifier", ["--dataset=digits", "--hidden=1000000000"], "the params and optimizer states of 1 lanes"),
    ("image_classifier", ["--dataset=digits", "--channels=3000000", "--hidden=1"], "the largest arrays of a forward"),
    ("image_classifier", ["--dataset=digits", "--epochs=1000000", "--seeds=10"], "the minibatches of 1,000,000 epochs"),
    ("nearest_neighbors", ["--folds=1400", "--rounds=1000"], "the row ids and weights of 1,400,000 folds"),
    ("nearest_neighbors", ["--loops=10000000"], "the points and distances of --loops=10000000"),
    ("kernel_svm", ["--c=1:2:100000"], "two kernel matrices of 480 rows"),
    ("clustering", ["--restarts=10000", "--dataset=digits", "--clusters=2:300"], "the centres and labels of 10,000"),
    ("semi_supervised", ["--restarts=10000", "--most_components=300"], "the labels and fits of"),
    ("semi_supervised", ["--draws=10000", "--labels=3:300"], "the labels and fits of"),
    ("sequence_toys", ["--hidden=100000", "--seeds=10000"], "the params and optimizer states of 60,000 lanes"),
    ("sequence_toys", ["--lengths=2,100000", "--batch_size=1000000"], "the states of a batch"),
    ("sequence_toys", ["--steps=100000000"], "the numbers of 9,600,000,000 sequences"),
    (
        "reinforcement", ["--seeds=10000", "--agents=dqn", "--hidden=5000,5000", "--learning_rates=0.01"],
        "the states of 10,000 runs",
    ),
    ("translation", ["--hidden=50000"], "the params and optimizer states of 2 lanes"),
    ("sequence_toys", ["--hidden=3000", "--distance=100000", "--seeds=1", "--cells=mingru"], "the Jacobians of 3,000"),
]  # fmt: skip


def values_of(setting):
    """Return hostile texts for a setting: of whole numbers and of lists of numbers."""
    for text in ("2", "2x2"):
        try:
            value = setting.read(text)
        except ValueError:
            continue
        if type(value) is int:
            return NUMBERS
        if isinstance(value, tuple) and all(type(each) in (int, float) for each in value):
            return LISTS
    return ()


def outcomes(runs, folder):
    """Return exit code, standard error and the files left of each (experiment, words), in one limited process."""
    code = f"""
import contextlib, importlib, io, json, os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({ADDRESS_SPACE}, {ADDRESS_SPACE}))
from mllab import devices
devices.use_cores = lambda count=None: None  # it sets the devices of a process, before its first run
for name, words in json.load(sys.stdin):
    errors, code = io.StringIO(), 0
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            importlib.import_module(f"experiments.{{name}}").main(["", *words])
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)[:500]
    print(json.dumps([code, errors.getvalue(), os.listdir()]), flush=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(runs), cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (done.stderr, done.stdout)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_no_size_is_too_large_to_be_refused_in_one_line(tmp_path):
    pytest.importorskip("resource")
    runs, expected = [(name, words) for name, words, _ in LARGE], [message for _, _, message in LARGE]
    refused = []
    for experiment, module in EXPERIMENTS.items():
        for name, setting in module.Settings.table().items():
            for text in values_of(setting):
                try:
                    made_of(module.Settings, **{name: text})
                except UserError as error:
                    refused.append((f"--{name}=", str(error)))
                else:
                    if text not in LEGITIMATE.get(name, ()):  # the run must refuse it
                        runs.append((experiment, [f"--{name}={text}", *SMALLEST.get(experiment, [])]))
                        expected.append("")
    assert len(refused) > 150
    for start, message in refused:
        assert message.startswith(start)
        assert len(message) < 400
    for (experiment, words), message, (code, errors, left) in zip(
        runs, expected, outcomes(runs, tmp_path), strict=True
    ):
        lines = [line for line in errors.splitlines() if not line.endswith(": compiling")]
        assert (code, len(lines), left) == (1, 1, []), (experiment, words, code, errors[-2000:], left)
        assert lines[0].startswith("error: "), (experiment, words, lines)
        assert message in lines[0], (experiment, words, lines)


# ── What is read ────────────────────────────────────────────────────────────────────────────────────────────────────


def modules_of(name):
    """Return the syntax trees of an experiment's module and of those beside it that it imports, by name."""
    trees, left = {}, [name]
    while left:
        name = left.pop()
        if name in trees:
            continue
        trees[name] = ast.parse((FOLDER / f"{name}.py").read_text())
        for node in ast.walk(trees[name]):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("experiments"):
                names = [node.module.removeprefix("experiments."), *(alias.name for alias in node.names)]
                left += [each for each in names if (FOLDER / f"{each}.py").is_file()]
    return trees


def texts_in(tree):
    """Return the texts that code holds."""
    return {each.value for each in ast.walk(tree) if isinstance(each, ast.Constant) and isinstance(each.value, str)}


def read_by(tree, owners):
    """Return the attributes that code reads of variables with these names, and the names in its calls of getattr."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in owners:
            names.add(node.attr)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "settings.values":
            names |= texts_in(node)
        if isinstance(node, ast.FunctionDef) and "getattr(self" in ast.unparse(node):
            names |= texts_in(node)
            names |= {f"fields of {each}" for each in re.findall(r"fields\((\w+)\)", ast.unparse(node))}
    return names


def read_settings(trees):
    """Return the names of settings that an experiment's modules read, directly or by a method that they call."""
    program = ast.parse((FOLDER / "frame" / "program.py").read_text())
    shared = ast.parse((FOLDER / "frame" / "shared_flags.py").read_text())
    classes = {}
    for tree in (*trees.values(), shared):
        classes |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    groups = [node for name, node in classes.items() if name == "Settings" or node in shared.body]
    methods = {each.name: each for node in groups for each in node.body if isinstance(each, ast.FunctionDef)}
    context = next(node for node in program.body if isinstance(node, ast.ClassDef) and node.name == "Context")
    steps = {each.name: each for each in context.body if isinstance(each, ast.FunctionDef)}

    names = {"workdir", "profile"}  # by every context
    for node in program.body:  # by `main`, of every experiment that has them
        if isinstance(node, ast.FunctionDef) and node.name in ("_join", "_own_devices"):
            names |= read_by(node, {"chosen"})
    for tree in trees.values():
        outside = ast.Module([node for node in tree.body if getattr(node, "name", "") != "Settings"], [])
        names |= read_by(outside, {"settings"})
        for step in read_by(outside, {"run"}) & steps.keys():
            names |= texts_in(steps[step]) | read_by(steps[step], {"chosen"})
    while new := {name for each in names & methods.keys() for name in read_by(methods[each], {"self"})} - names:
        names |= new
    for name in [each.removeprefix("fields of ") for each in names if each.startswith("fields of ")]:
        fields = {each.target.id for each in classes[name].body if isinstance(each, ast.AnnAssign)}
        used = set().union(*(read_by(tree, {"recipe"}) for tree in trees.values()))
        names |= fields & (used | read_by(classes[name], {"self"}))
        for method in classes[name].body:  # a method of it that lists the names of its fields
            if isinstance(method, ast.FunctionDef) and method.name in used:
                names |= fields & texts_in(method)
    return names


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_setting_is_read(name):
    unread = EXPERIMENTS[name].Settings.table().keys() - read_settings(modules_of(name))
    assert not unread


def test_a_setting_that_is_not_read_is_noticed():
    trees = modules_of("kernel_svm")
    text = ast.unparse(trees["kernel_svm"]).replace("settings.coef0", "1.0")
    assert "coef0" not in read_settings(trees | {"kernel_svm": ast.parse(text)})
    text = ast.unparse(trees["kernel_svm"])  # of a group: --rows is read by its method `draw`, and in a message
    assert "rows" in read_settings(trees | {"kernel_svm": ast.parse(text.replace("settings.rows", "2"))})
    text = text.replace("settings.rows", "2").replace("settings.draw(", "draw(")
    assert "rows" not in read_settings(trees | {"kernel_svm": ast.parse(text)})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_flag_that_is_not_read_is_neither_listed_nor_accepted(name, tmp_path):
    cls = EXPERIMENTS[name].Settings
    foreign = shared_flags.SHARED.keys() - cls.table().keys()
    listed = set(re.findall(r"^  --(?:\[no\])?(\w+)$", settings.help_text(cls, name, ""), re.MULTILINE))
    assert listed == {*cls.table(), "flagfile"}
    for flag in foreign:
        with refused_in_one_line(f"unknown flag '--{flag}'"):
            settings.parse(cls, [f"--{flag}=3"], shared_flags.SHARED)
    with refused_in_one_line("unknown flag '--undefok'"):
        settings.parse(cls, ["--undefok=mystery", "--mystery=3"], shared_flags.SHARED)
    # flags.cfg of an earlier version holds all shared flags.
    path = tmp_path / "flags.cfg"
    defaults = {flag: shared_flags.SHARED[flag] for flag in sorted(foreign) if shared_flags.SHARED[flag][1]}
    lines = [f"--{flag}={setting.show(default)}" for flag, (setting, default) in defaults.items()]
    path.write_text("\n".join(lines) + "\n")
    assert settings.parse(cls, [f"--flagfile={path}"], shared_flags.SHARED) == ({}, [])
    made = made_of(cls)
    assert made.differences(made.flagfile() + path.read_text(), shared_flags.SHARED) == []
    if "restarts" in foreign:
        path.write_text("--restarts=11\n")
        with refused_in_one_line(r"--restarts=11 in .*: this experiment does not read it"):
            settings.parse(cls, [f"--flagfile={path}"], shared_flags.SHARED)
        assert made.differences(made.flagfile() + path.read_text(), shared_flags.SHARED) == [
            "--restarts (this experiment does not read it)"
        ]


# ── Data sets ───────────────────────────────────────────────────────────────────────────────────────────────────────

WITH_DATA = [
    name for name, each in EXPERIMENTS.items() if isinstance(each.Settings.table().get("dataset"), DatasetSetting)
]


def dataset_like(entry):
    """Return a small data set of the kind of a set of the catalog."""
    shape = {"images": (6, 4, 4, 1), "points": (6, 2)}.get(entry.holds, (6, 3))
    classes = ("a", "b") if entry.task == "classification" else ()
    ids = np.arange(6, dtype=np.int32)
    targets = (ids % 2).astype(np.int32 if classes else np.float32)
    split = Split(ids[:2], ids[2:4], ids[4:])
    return Dataset("x", entry.task, np.ones(shape, np.float32), targets, split, classes=classes, target="y")


@pytest.mark.parametrize("name", WITH_DATA)
def test_help_lists_exactly_the_data_sets_that_are_accepted(name, monkeypatch):
    cls = EXPERIMENTS[name].Settings
    monkeypatch.setattr(catalog, "load", lambda each, **options: dataset_like(catalog.CATALOG[each]))
    listed = catalog.CATALOG.keys() & set(re.findall(r"\w+", cls.table()["dataset"].help))
    assert len(listed) >= 3
    with ExitStack() as stack:
        run = frame.Context(name, cls(), console.Progress(), stack)
        for each in catalog.CATALOG:
            if each in listed:
                assert run.load(dataset=each).name == "x"
            else:
                with refused_in_one_line(f"{each} (has no images|is a quantity)"):
                    run.load(dataset=each)
        if "target" not in cls.table():
            with refused_in_one_line(r"homes\.csv has no images"):
                run.load(dataset="homes.csv")


def test_the_catalog_says_what_its_sets_hold(data_dir):
    for name in catalog.CATALOG.keys() - {"newsgroups20", "fashion_mnist"}:  # slow; with the loader of mnist
        data, entry = catalog.load(name, data_dir=data_dir, download=False), catalog.CATALOG[name]
        assert data.task == entry.task
        assert (data.inputs.ndim == 4) == (entry.holds == "images")
        assert (data.inputs.shape[1:] == (2,)) == (entry.holds == "points")
