"""What the README shows runs: its Python as it stands, its commands with tiny settings."""

import contextlib
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import answers, char_rnn, image_classifier, model_selection, optimizer_race, reinforcement, translation
from mllab.metrics import Ranking
from mllab.tasks import CLASSIFICATION, Baseline

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [
    line
    for language, code in BLOCKS[1:]
    if language == "sh"
    for line in code.splitlines()
    if line.startswith("python -m experiments.")
]
TINY = {
    "experiments.model_selection": ["--models=knn", "--folds=2", "--inner_folds=2"],
    "experiments.capacity": ["--samples=2", "--most_rows=100", "--axes=l2"],
    "experiments.growth": ["--models=constant,knn", "--rows=100,200", "--job_rows=1000", "--max_seconds=5"],
    "experiments.optimizer_race": ["--epochs=1", "--learning_rates=0.01,0.1", "--seeds=2"],
    "experiments.image_classifier": ["--epochs=1", "--channels=2,2", "--hidden=4"],
    "experiments.features": ["--fractions=0.002", "--seeds=1"],
    "experiments.nearest_neighbors": ["--rows=200", "--k=1,3", "--loops=0"],
    "experiments.clustering": ["--clusters=3", "--restarts=1", "--seeds=1"],
    "experiments.kernel_svm": ["--rows=60", "--c=1", "--gamma=1", "--folds=2"],
    "experiments.semi_supervised": ["--labels=6", "--draws=1", "--covariances=spherical", "--restarts=1"],
    "experiments.predict": [],
    "experiments.sample": ["--length=5"],
    "experiments.export": [],
    "experiments.char_rnn": ["--steps=2", "--hidden=4", "--embedding=4", "--seeds=1", "--sample_length=5"],
    "experiments.sequence_toys": ["--problems=parity", "--cells=gru", "--lengths=2", "--steps=4", "--seeds=1"],
    "experiments.music": ["--epochs=1", "--hidden=4", "--units=4", "--seeds=1", "--frames=12"],
    "experiments.time_series": ["--cells=tanh", "--steps=3", "--hidden=3", "--seeds=1", "--window=8"],
    "experiments.reinforcement": [
        "--agents=q_learning",
        "--interactions=64",
        "--seeds=2",
        "--learning_rates=0.01",
        "--episodes=2",
        "--validation_episodes=2",
    ],
    "experiments.play": ["--episodes=1"],
    "experiments.compare": [],
    "experiments.verify": [],
    "experiments.translation": [
        "--models=gru",
        "--hidden=4",
        "--embedding=4",
        "--seeds=1",
        "--batch_size=8000",
        "--segments=1",
        "--crops=1",
        "--beam=1",
    ],
    "experiments.translate": ["--beam=1"],
    "experiments.linear_regression": ["--steps=20", "--optimizers=sgd,adam"],
}

WITHOUT_WORKDIR = ("predict", "export", "sample", "translate", "verify", "play")


def test_the_first_block_is_two_commands_that_install_and_run():
    language, code = BLOCKS[0]
    run, test = code.splitlines()
    assert language == "sh"
    assert run.endswith("-m experiments.optimizer_race")
    assert "-m pytest" in test
    assert all("pip install" in line for line in (run, test))


def test_its_example_output_has_the_words_of_the_program():
    (shown,) = (code for language, code in BLOCKS if language == "text" and "optimizer" in code)
    shown = " ".join(shown.split())
    standing = Ranking(["adam", "rmsprop", "sgd", "momentum"], ["sgd", "momentum", "rmsprop", "adam"], 3)
    tie = answers.tie(standing.tied, "…", "mean validation accuracy", "seeds")
    caption = f"{answers.marks(standing, 'mean validation accuracy')}; {answers.over(3, 'seed', ', one split')}; …"
    baseline = Baseline(CLASSIFICATION.constant_name, {})
    for words in (tie, caption, f" {answers.constant_row(baseline)} ", f"predicting {baseline.name}: "):
        assert words in shown, words


QUICK = (5,)  # blocks for the fast tests


@pytest.mark.parametrize(
    "code",
    [pytest.param(code, id=str(n), marks=[] if n in QUICK else [pytest.mark.slow]) for n, code in enumerate(PYTHON)],
)
def test_its_python_runs(code, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    accuracy = float(capsys.readouterr().out.split()[-1])
    assert accuracy > 0.8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the commands speak of."""
    folder, draw = tmp_path_factory.mktemp("readme"), np.random.default_rng(0)
    rows = "".join(f"{x:.3f},{2 * x:.3f}\n" for x in draw.normal(size=100))
    (folder / "homes.csv").write_text("size,price\n" + rows)
    (folder / "new.csv").write_text("size\n1.5\n")
    for name, first in (("visits", 0), ("later", 60)):
        visits = "".join(
            f"{first + i // 5},2024-{1 + i // 10:02d}-{1 + i % 28:02d},{x:.3f},{'ill' if x > 0 else 'well'}\n"
            for i, x in enumerate(draw.normal(size=100))
        )
        (folder / f"{name}.csv").write_text("patient,date,x,outcome\n" + visits)
    with contextlib.closing(sqlite3.connect(folder / "shop.db")) as shop, shop:
        shop.execute("create table sales (price real, returned text)")
        sales = [(float(x), "yes" if x > 0 else "no") for x in draw.normal(size=80)]
        shop.executemany("insert into sales values (?, ?)", sales)
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(60):
            pixels = draw.integers(0, 255, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / label / f"{number}.png")
    Image.fromarray(draw.integers(0, 255, (20, 20), np.uint8)).save(folder / "drawing.png")
    image_classifier.run(workdir=str(folder / "runs" / "photos"), dataset="digits", model="softmax", epochs=1)
    tiny = {"models": ("knn",), "folds": 2, "inner_folds": 2, "dataset": str(folder / "homes.csv"), "target": "price"}
    model_selection.run(workdir=str(folder / "runs" / "homes"), **tiny)
    optimizer_race.run(workdir=str(folder / "runs" / "race"), learning_rates=(0.01, 0.1), seeds=1, epochs=1)
    others = {"learning_rates": (0.02, 0.2), "seeds": 1, "epochs": 1}  # the same programs
    optimizer_race.run(workdir=str(folder / "runs" / "convnet"), **others)
    sizes = {"hidden": 4, "embedding": 4, "steps": 2, "seeds": 1, "sample_length": 5}
    char_rnn.run(workdir=str(folder / "runs" / "text"), **sizes)
    sizes = {"interactions": 64, "seeds": 1, "learning_rates": (0.01,), "episodes": 2, "validation_episodes": 2}
    reinforcement.run(workdir=str(folder / "runs" / "agents"), agents=("ppo",), **sizes)
    (folder / "own.tsv").write_text("".join(f"ein Hund {n}\ta dog {n}\n" for n in range(40)))
    sizes = {"hidden": 4, "embedding": 4, "epochs": 1, "seeds": 1, "beam": 1, "models": ("gru",), "tokens": "words"}
    translation.run(workdir=str(folder / "runs" / "translation"), dataset=str(folder / "own.tsv"), **sizes)
    (folder / "mllab").symlink_to(ROOT / "mllab")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_its_commands_run(command, folder, tmp_path, data_dir):
    program, words = shlex.split(command)[2], shlex.split(command)[1:]
    shows = program.removeprefix("experiments.") in (
        "predict",
        "export",
        "sample",
        "translate",
        "verify",
        "play",
    )  # no workdir
    flags = TINY[program] if shows else [*TINY[program], f"--workdir={tmp_path / 'w'}"]
    if program.removeprefix("experiments.") in (
        "optimizer_race",
        "image_classifier",
        "features",
        "clustering",
        "char_rnn",
        "music",
        "translation",
    ):
        flags.append(f"--data_dir={data_dir}")
    done = subprocess.run(
        [sys.executable, *words, *flags],
        cwd=folder, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert shows or (tmp_path / "w" / "report.html").is_file()


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
