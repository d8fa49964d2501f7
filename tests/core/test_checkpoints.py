"""Checkpoints: complete or absent; damaged ones are skipped, foreign ones refused; resuming gives the same bits."""

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import shutil
import signal
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint
import pytest

from mllab import devices, sweep, training
from mllab.checkpoints import Checkpoints
from mllab.errors import UserError
from support import problems


def tree(seed: int = 0) -> dict:
    key = jax.random.key(seed)
    return {
        "key": jax.random.split(key, 3),
        "w": jax.random.normal(key, (4, 5)),
        "half": jnp.ones(3, jnp.bfloat16),
        "step": jnp.int32(7),
        "host": np.array([1.5, np.nan, np.inf]),
        "none": None,
    }


def test_a_saved_tree_is_restored_to_the_bit(tmp_path):
    saved = Checkpoints(tmp_path / "c", inputs={"rate": np.float32(0.1)})
    saved.save(3, tree(1))
    again = Checkpoints(tmp_path / "c", inputs={"rate": np.float32(0.1)}).restore(tree(0), pytest.fail)
    assert problems.equal(again, tree(1))
    assert isinstance(again["host"], np.ndarray)
    again["host"][0] = 2  # host arrays must be writable


def test_arrays_are_restored_with_their_sharding(tmp_path):
    spread = jax.sharding.NamedSharding(devices.mesh(4), jax.sharding.PartitionSpec("lanes"))
    value = {"a": jax.device_put(jnp.arange(8.0), spread)}
    Checkpoints(tmp_path, inputs=0).save(1, value)
    again = Checkpoints(tmp_path, inputs=0).restore(jax.tree.map(jnp.zeros_like, value), pytest.fail)
    assert again["a"].sharding.is_equivalent_to(spread, 1)
    np.testing.assert_array_equal(again["a"], value["a"])


def test_an_absent_checkpoint_gives_the_template(tmp_path):
    template = tree()
    assert Checkpoints(tmp_path / "absent", inputs=0).restore(template, pytest.fail) is template


def test_only_the_newest_two_are_kept(tmp_path):
    saved = Checkpoints(tmp_path, inputs=0)
    for step in (1, 2, 10):
        saved.save(step, tree(step))
    assert saved.steps() == [2, 10]


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete", "seal", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_with_a_notice(tmp_path, damage):
    """Each file of the newest checkpoint is damaged in turn."""
    original = tmp_path / "original"
    saved = Checkpoints(original, inputs=0)
    saved.save(1, tree(1))
    saved.save(2, tree(2))
    count = len(files(original / "2"))
    for position in range(count):
        copy = tmp_path / f"{damage}{position}"
        shutil.copytree(original, copy)
        victim = files(copy / "2")[position]
        content = victim.read_bytes()
        if damage == "truncate":
            victim.write_bytes(content[: len(content) // 2])
            if not content:
                continue
        elif damage == "flip":
            if not content:
                continue
            victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        elif damage == "delete":
            victim.unlink()
        elif damage == "seal":
            (copy / "2" / "seal.json").write_text("{}")
        else:
            shutil.rmtree(copy / "2")
            (copy / "2").mkdir()
        messages = []
        assert problems.equal(Checkpoints(copy, inputs=0).restore(tree(0), messages.append), tree(1))
        assert len(messages) == 1
        assert "damaged" in messages[0]


def test_with_all_checkpoints_damaged_it_starts_over(tmp_path):
    saved = Checkpoints(tmp_path, inputs=0)
    for step in (1, 2):
        saved.save(step, tree(step))
        (tmp_path / str(step) / "seal.json").unlink()
    messages, template = [], tree()
    assert saved.restore(template, messages.append) is template
    assert len(messages) == 2
    assert "trying the one before" in messages[0]
    assert "starting over" in messages[1]


def test_damaged_checkpoints_are_replaced_after_starting_over(tmp_path):
    saved = Checkpoints(tmp_path, inputs=0)
    for step in (9, 10):
        saved.save(step, tree(step))
        (tmp_path / str(step) / "seal.json").unlink()
    saved.restore(tree(), lambda text: None)
    for step in (1, 2):
        saved.save(step, tree(step))
    assert saved.steps() == [1, 2]
    assert problems.equal(saved.restore(tree(), pytest.fail), tree(2))


def test_checkpoints_of_another_drive_or_other_code_are_refused(tmp_path):
    Checkpoints(tmp_path, inputs={"rate": np.float32(0.1)}).save(1, tree())
    with pytest.raises(UserError, match="other settings"):
        Checkpoints(tmp_path, inputs={"rate": np.float32(0.2)}).restore(tree(), pytest.fail)
    with pytest.raises(UserError, match="other code"):
        Checkpoints(tmp_path, inputs={"rate": np.float32(0.1)}).restore({"a": jnp.ones(3)}, pytest.fail)


def test_a_partial_checkpoint_of_a_killed_process_is_ignored(tmp_path):
    saved = Checkpoints(tmp_path, inputs=0)
    saved.save(1, tree(1))
    shutil.copytree(tmp_path / "1", tmp_path / "2.partial")
    assert saved.steps() == [1]
    saved.save(2, tree(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_full_disk_is_a_one_line_error_and_keeps_earlier_checkpoints(tmp_path):
    """A limit on the file size stands in for a full disk."""
    saved = Checkpoints(tmp_path, inputs=0)
    saved.save(1, tree(1))
    large = {**tree(2), "w": np.random.default_rng(0).normal(size=(400, 500))}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            saved.save(2, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert str(caught.value) == f"cannot write checkpoint {tmp_path / '2'}: File too large"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]
    assert problems.equal(saved.restore(tree(0), pytest.fail), tree(1))


@pytest.mark.slow
def test_writes_that_fail_late_report_nothing(tmp_path, monkeypatch, caplog, capsys):
    """A save that leaves a thread and a task behind, which fail after it, as Orbax does where the machine is busy."""

    def save(self, path, leaves):
        async def write():
            raise OSError("of a task")

        def write_late():
            time.sleep(0.2)
            (Path(path) / "late").parent.mkdir(exist_ok=True)
            (Path(path) / "late").write_text("")
            logging.getLogger("orbax").error("of a thread", exc_info=OSError("of a thread"))

        loop = asyncio.new_event_loop()
        task = loop.create_task(write())
        loop.run_until_complete(asyncio.wait([task]))
        loop.close()
        threading.Thread(target=write_late).start()
        raise OSError(errno.ENOSPC, "", str(path), task)

    monkeypatch.setattr(orbax.checkpoint.Checkpointer, "save", save)
    with pytest.raises(UserError, match=r"cannot write checkpoint .*: No space left on device") as caught:
        Checkpoints(tmp_path, inputs=0).save(1, tree())
    time.sleep(0.4)
    del caught
    gc.collect()
    assert not caplog.records
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_a_one_line_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file, not a folder")
    with pytest.raises(UserError, match="cannot write checkpoint"):
        Checkpoints(blocked / "c", inputs=0).save(1, tree())


class Stop(Exception):
    """Simulates a kill between two segments."""


def test_a_drive_with_other_data_settings_or_segments_is_refused(tmp_path):
    schedule, held_out = problems.rows(epochs=4)
    lanes = sweep.grid({"learning_rate": [0.01]}, [0])
    many = sweep.lanes(problems.run(), lanes.schedule)

    def go(seed=0, segment=5, fingerprint=""):
        training.drive(
            many, lanes.hyper, lanes.key, problems.examples(seed=seed), schedule, held_out=held_out, segment=segment,
            fingerprint=fingerprint, workdir=tmp_path, checkpoint_seconds=0,
        )  # fmt: skip

    go()
    go()
    for other in ({"seed": 1}, {"segment": 4}, {"fingerprint": "weight_decay = 10"}):
        with pytest.raises(UserError, match="other settings, data or rows"):
            go(**other)


@pytest.mark.parametrize(
    ("count", "patience"),
    [(3, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1, None), (3, None), (1, 2)))],
)
def test_a_resumed_drive_ends_with_the_same_bits_and_replays_all_events(tmp_path, count, patience):
    lanes, (schedule, held_out) = (
        sweep.grid({"learning_rate": [0.01, 0.1, 1e30, 0.03, 0.3]}, [0]),
        problems.rows(epochs=8),
    )
    many = sweep.lanes(problems.run(), lanes.schedule, mesh=devices.mesh(count))

    def go(workdir, stop_after=None):
        seen = []

        def observe(event):
            seen.append(event)
            if stop_after is not None and event.number == stop_after:
                raise Stop

        result = None
        with contextlib.suppress(Stop):
            result = training.drive(
                many, lanes.hyper, lanes.key, problems.examples(), schedule, held_out=held_out, segment=5,
                observers=[observe], workdir=workdir, name="adam", checkpoint_seconds=0, patience=patience,
            )  # fmt: skip
        return result, seen

    straight, events = go(None)
    for stop in (0, 3, 6):
        workdir = tmp_path / str(stop)
        go(workdir, stop)
        resumed, again = go(workdir)
        assert problems.equal(
            resumed._replace(history=resumed.history._replace(seconds=0)),
            straight._replace(history=straight.history._replace(seconds=0)),
        )
        assert [event.restored for event in again] == [number < stop for number in range(len(events))]
        for a, b in zip(events, again, strict=True):
            assert problems.equal(a._replace(seconds=0, restored=0), b._replace(seconds=0, restored=0))
