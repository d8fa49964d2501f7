"""A profile of a training: which segment is traced, which is timed, what is written and shown."""

import contextlib
import json
from contextlib import ExitStack
from dataclasses import dataclass

import jax
import numpy as np
import optax
import pytest

from experiments import frame
from experiments.frame import profile
from mllab import racing, training
from mllab.models import linear
from mllab.report import console
from support import problems
from support.mistakes import refused_in_one_line

PEAK = 1e9


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A profile, and the lines that it shows."""
    monkeypatch.setattr(profile, "peak_rate", lambda devices, dtype: PEAK * len(devices))
    lines = []
    return profile.Profile(tmp_path / profile.FOLDER, lines.append, "float32", 2), lines


def drive(observer, segment):
    """Train a linear model for 20 steps; return the segments."""
    run = racing.problem(linear.model((6,), 3), "classification")(lambda hyper: optax.sgd(hyper["learning_rate"]))
    schedule, held_out = problems.rows()
    segments = []
    training.drive(
        run, {"learning_rate": 0.1}, jax.random.key(0), problems.examples(60),
        jax.tree.map(lambda leaf: leaf[0], schedule), held_out=held_out, segment=segment,
        observers=[profile.Profiled(segments.append, observer)],
    )  # fmt: skip
    return segments


def test_the_second_segment_is_traced_and_the_third_one_timed(made, tmp_path):
    observer, lines = made
    segments = drive(observer, 5)
    observer.close()
    measured = json.loads((tmp_path / profile.FOLDER / "profile.json").read_text())
    seconds = segments[2].seconds
    batch = problems.rows()[0].ids.shape[-1]
    assert measured["step_flops"] >= 2 * 2 * batch * 6 * 3  # outputs, and the gradient of the weights
    assert measured["steps_per_second"] == 5 / seconds
    assert measured["share_of_peak"] == measured["flops_per_second"] / (2 * PEAK)
    assert measured["flops_per_second"] > 5 * measured["step_flops"] / seconds  # and a score
    assert not measured["is_traced"]
    (line,) = lines
    assert f"{measured['share_of_peak']:.1%} of the peak; device memory not reported; trace for TensorBoard" in line
    assert [*tmp_path.rglob("*.xplane.pb")]
    drive(observer, 5)  # a second drive is not profiled
    assert len(lines) == 1
    rate = measured | {"is_traced": True, "peak_memory_bytes": 3 * 2**20}
    assert "(while traced); device memory 3 MiB at most" in profile.line(rate, tmp_path)


def test_a_training_of_one_segment_has_no_profile_and_says_so(made, tmp_path):
    observer, lines = made
    drive(observer, 1000)
    observer.close()
    assert lines == ["no profile: a training of two segments or more is needed, not one that is resumed at its end"]
    assert not [*tmp_path.iterdir()]


def test_the_peak_is_that_of_all_devices_at_once(monkeypatch):
    monkeypatch.setattr(profile, "SIZE", 64)
    rate = profile.peak_rate(jax.devices()[:2], np.float32)
    assert 1e6 < rate < 1e14
    assert profile.memory_bytes(jax.devices()[:1]) is None


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Steps):
    """What an experiment that trains by gradients has."""


def test_a_run_profiles_its_first_drive_where_asked_to(made, tmp_path, capsys):
    def context(**chosen):
        settings = Settings.make({"workdir": str(tmp_path / "w"), **chosen})
        return frame.Context("toy", settings, console.Progress(), stack)

    with ExitStack() as stack:
        assert context().profiled(print) is print
        asked = context(profile="steps")
        one, other = asked.profiled(print), asked.profiled(print)
        assert one.begin == other.begin
    assert "no profile" in capsys.readouterr().err
    with contextlib.suppress(KeyError), ExitStack() as stack:
        context(profile="steps").profiled(print)
        raise KeyError
    assert not capsys.readouterr().err
    with refused_in_one_line("--?profile"):
        Settings.make({"profile": "step"})
