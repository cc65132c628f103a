"""A run that is stopped anywhere goes on to the same bits: by exceptions, and by SIGKILL."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from lightning_fabric.plugins import MixedPrecision
from small import ACCUMULATED, ONE_CYCLE, PLATEAU, datasets, recipe

from chexlib.models import load_checkpoint
from chexlib.training import fit, loop, open_run, run
from chexlib.training.loop import Training


class Stopped(BaseException):
    """No error that anything would handle."""


def outcome(folder):
    """Return what a run must end with: the bytes of its files, and its history but for seconds."""
    history = pd.read_csv(folder / "history.csv").drop(columns="seconds")
    names = ("best.safetensors", "predictions.csv", "thresholds.csv", "metrics.json", "config.json")
    return history.to_csv(), {name: (folder / name).read_bytes() for name in names}


def same(folder, expected):
    history, files = outcome(folder)
    assert history == expected[0]
    assert [name for name in files if files[name] != expected[1][name]] == []
    assert not list(folder.glob(".*.draft-*"))  # what a stop left half written is gone


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Uninterrupted runs, by schedule."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    for asked in (ONE_CYCLE, PLATEAU, ACCUMULATED):
        folder = tmp_path_factory.mktemp("whole")
        fit(asked, folder, data=datasets(), checkpoint_every=100)
        found[asked.schedule] = outcome(folder)
    torch.set_num_threads(before)
    return found


def attempts(asked, folder, every, monkeypatch, arm):
    """Begin again until the run ends; ``arm(patch)`` sets a trap before each attempt."""
    for count in range(60):
        with monkeypatch.context() as patch:
            arm(patch)
            try:
                fit(asked, folder, data=datasets(), checkpoint_every=every)
            except Stopped:
                continue
            return count
    raise AssertionError("it does not get on")


@pytest.mark.parametrize("asked", [ONE_CYCLE, PLATEAU], ids=lambda r: r.schedule)
def test_stopped_after_every_single_step(asked, whole, tmp_path, monkeypatch):
    arm = at_call(loop, "write_point", 1, after=True)
    stops = attempts(asked, tmp_path, 1, monkeypatch, arm)
    epochs = len(pd.read_csv(tmp_path / "history.csv"))
    assert stops == 6 * epochs
    same(tmp_path, whole[asked.schedule])


def test_the_scale_of_half_precision_goes_on(tmp_path, monkeypatch):
    def on_a_cpu(asked, folder, **_):
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=3)
        half = MixedPrecision("16-mixed", "cpu", scaler=scaler)
        log = TensorBoardLogger(folder, name="", version="tensorboard")
        return Fabric(accelerator="cpu", devices=1, plugins=[half], loggers=log)

    monkeypatch.setattr(loop, "make_fabric", on_a_cpu)
    asked = recipe(epochs=1)
    fit(asked, tmp_path / "whole", data=datasets())
    arm = at_call(loop, "write_point", 1, after=True)
    assert attempts(asked, tmp_path / "stopped", 1, monkeypatch, arm) == 6
    same(tmp_path / "stopped", outcome(tmp_path / "whole"))
    kept = torch.load(tmp_path / "whole" / "last.ckpt", weights_only=True)["scaler"]
    assert kept["scale"] != 2.0**40


def at_call(owner, name, number, *, after=False):
    """Return a trap: the given call of a function raises, before or after it does its work."""

    def arm(patch):
        made = getattr(owner, name)
        calls = []

        def trap(*arguments, **options):
            calls.append(1)
            if len(calls) == number and not after:
                raise Stopped
            result = made(*arguments, **options)
            if len(calls) == number:
                raise Stopped
            return result

        patch.setattr(owner, name, trap)

    return arm


def traps():
    """Return traps at every kind of moment, in the order in which a run meets them."""
    yield at_call(run, "data_hash", 1)  # a folder, and nothing in it
    yield at_call(Training, "train_step", 1)
    yield at_call(Training, "train_step", 4)  # in the first epoch, nothing kept
    yield at_call(run, "_save", 1)  # a draft, and no checkpoint
    yield at_call(run, "_save", 1, after=True)
    yield at_call(loop, "write_point", 1, after=True)  # step 4
    yield at_call(Training, "train_step", 2)  # the last of the epoch
    yield at_call(Training, "validation_step", 1)
    yield at_call(Training, "validate", 1, after=True)
    yield at_call(Training, "end_epoch", 1, after=True)
    yield at_call(loop, "save_checkpoint", 1)  # the best, not written
    yield at_call(loop, "save_checkpoint", 1, after=True)  # written, and not known of
    yield at_call(loop, "write_csv", 1, after=True)  # the same of the history
    yield at_call(loop, "write_point", 1, after=True)  # the epoch
    yield at_call(Training, "train_step", 1)  # the second epoch
    yield at_call(loop, "write_point", 2, after=True)


@pytest.mark.parametrize("asked", [ONE_CYCLE, PLATEAU], ids=lambda r: r.schedule)
def test_stopped_at_every_kind_of_moment(asked, whole, tmp_path, monkeypatch):
    left = list(traps())
    set_traps = len(left)
    # Then in judging, once training is over.
    left += [at_call(loop, "judge", 1), at_call(loop, "judge", 1)]
    left += [at_call(loop, "open_run", 1)]

    def arm(patch):
        if left:
            left.pop(0)(patch)

    stops = attempts(asked, tmp_path, 4, monkeypatch, arm)
    assert stops == set_traps + 3
    same(tmp_path, whole[asked.schedule])


def test_killed_twenty_times(whole, tmp_path):
    program = [sys.executable, str(Path(__file__).with_name("kill_it.py")), str(tmp_path), "3"]
    ended = subprocess.run(program, check=False, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr
    kills = json.loads(ended.stdout)
    places = [place for found in kills.values() for place in found]
    assert len(places) == 20
    assert {"step", "writing", "validation"} <= set(places)
    assert {name.split()[0] for name in kills} >= {"one-cycle", "plateau"}
    for name in kills:
        same(tmp_path / name, whole[name.split()[0]])


def test_early_stopping_stays_reached(whole, tmp_path, monkeypatch):
    assert whole["plateau"][0].count("\n") - 1 < PLATEAU.epochs
    trained = []
    step = Training.train_step

    def count(self, *batch):
        trained.append(1)
        return step(self, *batch)

    with monkeypatch.context() as patch:
        at_call(loop, "judge", 1)(patch)
        with pytest.raises(Stopped):
            fit(PLATEAU, tmp_path, data=datasets())
    monkeypatch.setattr(Training, "train_step", count)
    fit(PLATEAU, tmp_path, data=datasets())
    assert not trained
    same(tmp_path, whole["plateau"])


def test_a_finished_run_is_opened(whole, tmp_path, monkeypatch):
    fit(recipe(epochs=1), tmp_path, data=datasets())
    monkeypatch.setattr(loop, "begin_run", None)
    found = fit(recipe(epochs=1).on_given_data(), tmp_path)  # not even the data is asked for
    assert found.folder == tmp_path
    assert found.metrics["films"] == 30
    assert list(found.history["epoch"]) == [0]
    assert len(found.predictions) == 30
    assert open_run(tmp_path).recipe == recipe(epochs=1).on_given_data()
    # A resume point is a checkpoint like any other, order of the findings included.
    images = torch.rand(2, 1, 32, 32)
    last = load_checkpoint(tmp_path / "last.ckpt")
    torch.testing.assert_close(last(images), found.model()(images), rtol=0, atol=0)
    assert not last.provenance["notes"]


def test_what_does_not_belong_together_is_refused(tmp_path, monkeypatch):
    data = datasets()
    with pytest.raises(FileNotFoundError, match=r"Expected a finished run in .*config\.json"):
        open_run(tmp_path)
    at_call(Training, "train_step", 1)(monkeypatch)
    with pytest.raises(Stopped):
        fit(recipe(), tmp_path, data=data)
    with pytest.raises(FileNotFoundError, match=r"metrics\.json, best\.safetensors"):
        open_run(tmp_path)
    assert (
        repr(open_run(tmp_path, finished=False)) == "Run(phantom-cpu on given data, not finished)"
    )
    with pytest.raises(ValueError, match="seed: 0 there, 1 asked"):
        fit(recipe(seed=1), tmp_path, data=data)
    data["val"].labels[0] ^= True
    with pytest.raises(ValueError, match="Expected the films that the run in"):
        fit(recipe(), tmp_path, data=data)
    with pytest.raises(ValueError, match="at least a batch of 64 training films, got 50"):
        fit(recipe(batch_size=64), tmp_path / "other", data=data)
    with pytest.raises(ValueError, match="Expected a GPU"):
        fit(recipe(), tmp_path / "other", data=datasets(), accelerator="gpu")
    for options in ({"devices": 0}, {"devices": "many"}, {"num_nodes": 0, "devices": 1}):
        with pytest.raises(ValueError, match="Expected devices as"):
            fit(recipe(), tmp_path / "other", data=datasets(), accelerator="cpu", **options)


def test_another_number_of_threads_is_said(tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        at_call(Training, "train_step", 1)(patch)
        with pytest.raises(Stopped):
            fit(recipe(epochs=1), tmp_path, data=datasets())
    at_call(Training, "train_step", 1)(monkeypatch)
    torch.set_num_threads(2)
    with pytest.raises(Stopped):
        fit(recipe(epochs=1), tmp_path, data=datasets())
    assert "began with 1 threads and goes on with 2" in caplog.text
