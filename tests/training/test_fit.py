"""What a call of fit says, shows, refuses and leaves behind."""

import json
import logging
import resource
import signal
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from small import datasets, recipe
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import ImageCache, open_dataset
from chexlib.models import load_checkpoint
from chexlib.training import RECIPES, Recipe, fit, loop, predict
from chexlib.training import run as run_module
from chexlib.training.devices import alone, quiet_fabric
from chexlib.training.loop import NonFiniteLossError, Training
from chexlib.training.recipes import data_options
from chexlib.training.run import data_hash


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    found = fit(recipe(), tmp_path_factory.mktemp("run"), data=datasets())
    torch.set_num_threads(before)
    return found


# ---- what it says and shows


def test_a_user_sees_nothing_that_was_not_asked_for(tmp_path):
    program = [sys.executable, str(Path(__file__).with_name("run_it.py")), str(tmp_path), "plain"]
    ended = subprocess.run(program, check=False, capture_output=True, text=True, timeout=600)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_warnings_that_mean_something_come_through():
    fabric = logging.getLogger("lightning_fabric")
    level, filters = fabric.level, warnings.filters.copy()
    log = logging.getLogger("lightning_fabric.anything")
    with warnings.catch_warnings(record=True) as caught, quiet_fabric():
        warnings.warn("too hot", UserWarning, stacklevel=1)
        warnings.warn("The `srun` command is available", UserWarning, stacklevel=1)
        assert log.isEnabledFor(logging.WARNING)
        assert not log.isEnabledFor(logging.INFO)
    assert [str(warning.message) for warning in caught] == ["too hot"]
    assert fabric.level == level
    assert warnings.filters == filters


def test_the_bar_says_how_far_how_fast_and_how_good(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "watched", lambda: True)
    fit(recipe(), tmp_path, data=datasets(), progress=True)
    shown = capsys.readouterr().err
    for words in ("epoch 1/2", "epoch 2/2", "validating", "films/s", "val loss", "AUROC 0."):
        assert words in shown.replace("film/s", "films/s")
    assert "96/96 films" in shown  # 2 epochs of 6 steps of 8
    assert "judging" in shown
    assert "51/51 films" in shown  # 21 to choose thresholds on, 30 to test on


# ---- numbers that are none


def names_of(rows):
    return [f"{1 + row // 2:08d}_{row % 2:03d}.png" for row in rows]


def test_a_loss_that_is_no_number_names_its_films(tmp_path, monkeypatch):
    seen = []
    step = Training.train_step

    def watched(self, *batch):
        seen.append(batch[2])
        if len(seen) == 9:  # the third step of the second epoch
            self.loss = lambda logits, labels: logits.mean() * torch.nan
        step(self, *batch)

    monkeypatch.setattr(Training, "train_step", watched)
    with pytest.raises(NonFiniteLossError) as caught:
        fit(recipe(), tmp_path, data=datasets(), checkpoint_every=1)
    message = str(caught.value)
    assert message.startswith("Expected finite loss, got nan in epoch 1, after step 2")
    for name in names_of(seen[-1]):
        assert name in message
    assert not set(names_of(seen[-2])) & set(message.replace(",", " ").split())
    assert message.endswith(f"The last checkpoint, {tmp_path / 'last.ckpt'}, is sound.")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert (len(kept["history"]), kept["step"]) == (1, 2)
    found = load_checkpoint(tmp_path / "last.ckpt")  # refuses what is not finite
    assert found.provenance["format"] == "chexlib resume point"
    monkeypatch.undo()
    fit(recipe(), tmp_path, data=datasets())  # and from there it goes on


@pytest.mark.parametrize("every", [1, 100])
def test_weights_that_are_no_numbers_are_not_written(tmp_path, monkeypatch, every):
    seen = []
    step = Training.train_step

    def watched(self, *batch):
        made = self.loss
        seen.append(batch[2])
        if len(seen) == 6:  # the loss is 0 more, its gradient is NaN; the last of the epoch
            nothing = 0 * sum(p.sum() for p in self.model.parameters())
            self.loss = lambda logits, labels: made(logits, labels) + nothing.sqrt()
        step(self, *batch)

    monkeypatch.setattr(Training, "train_step", watched)
    with pytest.raises(NonFiniteLossError, match="Expected finite weights, got others in") as error:
        fit(recipe(), tmp_path, data=datasets(), checkpoint_every=every)
    assert all(name in str(error.value) for name in names_of(seen[-1]))
    assert not (tmp_path / "best.safetensors").exists()
    assert (tmp_path / "last.ckpt").exists() == (every == 1)
    assert ("is sound" in str(error.value)) == (every == 1)
    if every == 1:
        load_checkpoint(tmp_path / "last.ckpt")


# ---- a full disk


@pytest.mark.parametrize("which", ["_save", "save_checkpoint"])
def test_a_full_disk_loses_nothing_and_is_said(run, tmp_path, monkeypatch, which):
    owner = run_module if which == "_save" else loop
    made, calls = getattr(owner, which), []
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(*arguments, **options):
        calls.append((tmp_path / "last.ckpt").read_bytes() if calls or which != "_save" else b"")
        if len(calls) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        return made(*arguments, **options)

    monkeypatch.setattr(owner, which, filling)
    try:
        with pytest.raises(OSError, match=r"found the disk full\. Free some space") as caught:
            fit(recipe(), tmp_path, data=datasets(), checkpoint_every=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "last.ckpt").read_bytes() == calls[-1]
    assert not list(tmp_path.glob(".*.draft-*"))
    monkeypatch.undo()
    again = fit(recipe(), tmp_path, data=datasets())
    weights = [(r.folder / "best.safetensors").read_bytes() for r in (again, run)]
    assert weights[0] == weights[1]


# ---- alone, and interrupted


def test_two_runs_in_one_folder_are_refused(tmp_path, monkeypatch):
    def inside(*_, **__):
        with pytest.raises(RuntimeError, match="for this run alone, found another process"):
            alone(tmp_path).__enter__()
        raise InterruptedError

    monkeypatch.setattr(loop, "begin_run", inside)
    with pytest.raises(InterruptedError):
        fit(recipe(), tmp_path, data=datasets())
    with alone(tmp_path):  # and it is free again
        pass


def test_an_interrupt_stays_one_and_the_next_is_heard(tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(recipe(), tmp_path, data=datasets())
    assert signal.getsignal(signal.SIGINT) is before


# ---- what it leaves behind


def test_the_folder_of_a_run(run):
    names = {path.name for path in run.folder.iterdir()} - {".lock"}
    assert names == {
        "best.safetensors",
        "config.json",
        "environment.json",
        "history.csv",
        "labels.csv",
        "last.ckpt",
        "metrics.json",
        "predictions.csv",
        "tensorboard",
        "thresholds.csv",
    }
    said = load_checkpoint(run.folder / "best.safetensors").provenance["metadata"]
    assert said["epoch"] == "1"


@pytest.mark.parametrize("name", ["phantom-cpu", "chexnet-paper"])
def test_a_run_on_ones_own_films_says_so(tmp_path, name):
    values = {f.name: getattr(recipe(epochs=1), f.name) for f in fields(Recipe)}
    asked = Recipe(**{**values, "name": name, "about": RECIPES[name].about})
    run = fit(asked, tmp_path, data=datasets())
    assert repr(run).startswith(f"Run({name} on given data, mean AUROC")
    assert run.recipe.dataset == "given"
    weights = load_checkpoint(tmp_path / "best.safetensors").provenance["metadata"]
    written = [weights[key] for key in ("recipe", "command", "data", "films")]
    written += [(tmp_path / f"{part}.json").read_text() for part in ("config", "environment")]
    for text in written:
        for false in ('"phantom"', "simulated", "Rajpurkar", "chexlib train"):
            assert false not in text.replace("chexlib.training", "")
    films = json.loads(weights["films"])
    assert films == json.loads((tmp_path / "environment.json").read_text())["films"]
    test = datasets()["test"]
    assert films["test"] == {
        "name": "made",
        "films": 30,
        "patients": 15,
        "pixels": 32,
        "columns": list(test.films.columns),
        "sha256": data_hash(test),
    }
    assert fit(run.recipe, tmp_path).folder == tmp_path  # opened, as what it is
    with pytest.raises(ValueError, match="dataset: 'given' there"):
        fit(asked, tmp_path)
    with pytest.raises(ValueError, match="Other films are opened by own_data, and given to fit"):
        fit(run.recipe, tmp_path / "other")


def test_films_that_the_recipe_names_are_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "cache"))
    asked = recipe(epochs=1, data_options={"n_patients": 8})
    data = {
        split: open_dataset("phantom", split, **data_options(asked))
        for split in ("train", "val", "test")
    }
    run = fit(asked, tmp_path / "run", data=data)
    assert run.recipe == asked
    said = load_checkpoint(run.folder / "best.safetensors").provenance["metadata"]
    assert said["command"].startswith("chexlib train --recipe phantom-cpu --set 'data_options=")
    labels = np.roll(data["train"].labels, 1, axis=0)
    data["train"] = replace(data["train"], labels=labels)  # the same films, and others' labels
    assert fit(asked, tmp_path / "rolled", data=data).recipe.dataset == "given"


def test_rates_of_nihs_labels_are_not_taken_for_ones_own(tmp_path):
    with pytest.raises(ValueError, match="sensitivity and specificity of the labels of the films"):
        fit(recipe(loss="corrected-bce"), tmp_path / "run", data=datasets())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        (
            {"weights": "imagenett", "growth_rate": None},
            {},
            "weights as imagenet, phantom, the folder of a run, a file, or null",
        ),
        ({"loss": "focal", "loss_options": {"gama": 1}}, {}, "options of the loss 'focal'"),
        ({"loss_options": {"gamma": 1}}, {}, "options of the loss 'bce'"),
        ({"loss": "focal", "loss_options": {"gamma": "much"}}, {}, "options of the loss"),
        ({"data_options": {"noise": 5}}, {}, "options of the phantom"),
        ({"data_options": {"noise": {"sort": "measured"}}}, {}, "options of the phantom"),
        ({"data_options": {"patients": 5}}, {}, "options of the phantom"),
        ({"data_options": {"shortcut": {"cue": "marker"}}}, {}, "a shortcut of finding"),
        ({"arch": "vgg11", "growth_rate": None}, {}, "architecture among"),
        ({"arch": "resnet18"}, {}, "growth"),
        ({}, {"devices": 1_000_000}, "devices as .* from 1 to .*, as this machine has"),
        ({}, {"devices": 3}, "that 3 processes can share, got 8"),
    ],
)
def test_options_are_checked_before_anything_runs(tmp_path, monkeypatch, values, options, says):
    monkeypatch.setattr(ImageCache, "build", None)  # no film is simulated
    monkeypatch.setenv("CHEXLIB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=f"Expected .*{says}"):
        fit(recipe(**values), tmp_path / "run", accelerator="cpu", **options)
    assert not list(tmp_path.iterdir())


def test_predictions_are_those_of_the_weights(run):
    test = datasets()["test"]
    scores = predict(run.model(), test, batch_size=7)
    assert run.predictions["image"].tolist() == test.films["image"].tolist()
    np.testing.assert_allclose(run.predictions.iloc[:, 1:], scores, rtol=1e-4, atol=1e-6)
    seen = []
    ten = predict(run.model(), test, ten_crop=True, step=seen.append)
    assert ten.shape == scores.shape
    assert sum(seen) == 30
    assert np.abs(ten - scores).max() > 1e-5


def test_chexlib_evaluate_reads_a_run(run, tmp_path):
    labels, predictions = run.folder / "labels.csv", run.folder / "predictions.csv"
    out = tmp_path / "report"
    arguments = [predictions, "--labels", labels, "--out", out, "--resamples", 100]
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    ranking = pd.read_csv(out / "ranking.csv").set_index("finding")
    for name, known in run.metrics["truth"]["auroc"].items():
        assert ranking.loc[name, "auroc"] == pytest.approx(known["estimate"], abs=1e-4)


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"Expected a new folder or that of a run, found labels"):
        fit(recipe(epochs=1), tmp_path, data=datasets())
    assert {p.name for p in tmp_path.iterdir()} == {"labels.csv", "notes.txt", ".lock"}
    assert (tmp_path / "labels.csv").read_text() == "mine"
    (tmp_path / "labels.csv").unlink()
    fit(recipe(epochs=1), tmp_path, data=datasets())
    assert (tmp_path / "notes.txt").read_text() == "mine"
