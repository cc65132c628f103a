"""A hospital's own films and labels, from `chexlib train --data` to what a run leaves."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from own import FINDINGS, SMALL, hospital
from safetensors.torch import load_file
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.data import own_data, read_labels
from chexlib.metrics import auroc
from chexlib.models import load_checkpoint, phantom_checkpoint
from chexlib.training import RECIPES, fit, open_run, predict
from chexlib.training.recipes import open_data

WIDE = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}
DATA = ("--data", "labels.csv", "--images", "films", *SMALL)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The hospital's folder, with a cache in it."""
    folder = tmp_path_factory.mktemp("hospital")
    hospital(folder)
    return folder


@pytest.fixture
def call(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CHEXLIB_CACHE", str(home / "cache"))
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=WIDE)


@pytest.fixture(scope="module")
def trained(home):
    """A run of two epochs on the hospital's films, and what the command said."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("CHEXLIB_CACHE", str(home / "cache"))
        words = ["train", *DATA, "--epochs", "2", "--out", "runs/deep/first"]
        result = CliRunner().invoke(app, words, env=WIDE)
    torch.set_num_threads(before)
    assert result.exit_code == 0, result.output
    return home / "runs/deep/first", result


def test_it_says_how_many_films_patients_and_positives(home, trained):
    folder, result = trained
    labels, _ = read_labels(home / "labels.csv")
    environment = json.loads((folder / "environment.json").read_text())["films"]
    assert sum(part["films"] for part in environment.values()) == len(labels)
    assert sum(part["patients"] for part in environment.values()) == 24
    for split, part in environment.items():
        words = f"{split:7} {part['films']} films of {part['patients']} patients"
        assert words in result.stdout
        assert part["name"] == "own"
    for name in FINDINGS:
        (line,) = re.findall(rf"  {re.escape(name)} .*", result.stdout)
        counts = np.array(re.findall(r"(\d+) of (\d+)", line), int).sum(0)
        assert counts.tolist() == [(labels[name] == 1).sum(), labels[name].notna().sum()]


def test_what_it_leaves_is_of_these_findings(call, home, trained):
    run = open_run(trained[0])
    assert run.model().findings == FINDINGS
    assert list(run.predictions.columns) == ["image", *FINDINGS]
    assert list(run.metrics["labels"]["auroc"]) == list(FINDINGS)
    assert "truth" not in run.metrics
    assert repr(run).startswith("Run(phantom-cpu on own data")
    thresholds = pd.read_csv(run.folder / "thresholds.csv")
    assert set(thresholds["finding"]) == set(FINDINGS)
    written, names = read_labels(run.folder / "labels.csv", findings=FINDINGS)
    assert names == FINDINGS
    given = read_labels(home / "labels.csv")[0].set_index("image").loc[written["image"]]
    for column in ("patient", "age", "sex", "site", *FINDINGS):
        np.testing.assert_array_equal(written[column], given[column])
    both = [name for name in FINDINGS if set(given[name].dropna()) == {0, 1}]
    for name in both:
        mean = run.metrics["labels"]["auroc"][name]
        assert mean["estimate"] == pytest.approx(auroc(written[name], run.predictions[name]))
        assert mean["positives"] == (given[name] == 1).sum()
    said = run.model().provenance["metadata"]
    for text in (said["recipe"], said["command"], json.dumps(run.recipe.to_dict())):
        assert str(home) not in text
        assert "simulated" not in text


def test_chexlib_evaluate_reads_it(call, home, trained):
    folder = trained[0]
    words = ["evaluate", folder / "predictions.csv", "--labels", folder / "labels.csv"]
    result = call(*words, "--out", home / "report", "--resamples", 100)
    assert result.exit_code == 0, result.output
    ranking = pd.read_csv(home / "report" / "ranking.csv").set_index("finding")
    for name, known in open_run(folder).metrics["labels"]["auroc"].items():
        assert ranking.loc[name, "auroc"] == pytest.approx(known["estimate"], abs=1e-3, nan_ok=True)


def test_the_recorded_command_makes_it_again(call, home, trained, caplog):
    said = load_checkpoint(trained[0]).provenance["metadata"]["command"]
    program, *words = shlex.split(said)
    assert program == "chexlib"
    result = call(*words, "--out", "runs/again")
    assert result.exit_code == 0, result.output
    assert "Few patients of train, val or test have: Effusion" in caplog.text
    first, again = (load_file(p / "best.safetensors") for p in (trained[0], home / "runs/again"))
    assert all(first[key].equal(again[key]) for key in first)
    assert open_run(home / "runs/again").recipe == open_run(trained[0]).recipe


def test_the_same_command_opens_it_and_other_labels_are_refused(call, home, trained):
    words = ["train", *DATA, "--epochs", 2, "--out", "runs/deep/first"]
    before = (trained[0] / "metrics.json").stat().st_mtime_ns
    assert call(*words).exit_code == 0
    assert (trained[0] / "metrics.json").stat().st_mtime_ns == before
    path = home / "labels.csv"
    text = path.read_text()
    other = pd.read_csv(path)
    other.loc[5, "Effusion"] = 1 - other.loc[5, "Effusion"]
    try:
        other.to_csv(path, index=False)
        result = call(*words)
    finally:
        path.write_text(text)
    assert result.exit_code == 1
    assert "Expected the films that the run in" in result.stderr
    assert (trained[0] / "metrics.json").stat().st_mtime_ns == before


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_it_goes_on_to_the_same_bits(home, trained):
    words = [sys.executable, "-m", "chexlib", "train", *DATA, "--epochs", "2", "--out",
             "runs/killed", "--checkpoint-every", "1"]  # fmt: skip
    where = {**os.environ, "CHEXLIB_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    once = subprocess.Popen(words, cwd=home, env=where, stdout=subprocess.DEVNULL)
    point, end = home / "runs/killed/last.ckpt", time.monotonic() + 300
    while not point.is_file() and once.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    once.send_signal(signal.SIGKILL)
    once.wait()
    assert point.is_file()
    assert not (home / "runs/killed/metrics.json").is_file()
    with (home / "log.txt").open("wb") as log:
        subprocess.run(words, cwd=home, env=where, check=True, stderr=log, timeout=600)
    names = ("best.safetensors", "predictions.csv", "thresholds.csv", "metrics.json", "labels.csv")
    for name in names:
        assert (home / "runs/killed" / name).read_bytes() == (trained[0] / name).read_bytes()
    # What a batch system keeps of it: a line an epoch, and nothing that draws.
    text = (home / "log.txt").read_text()
    assert "\r" not in text
    assert not set(text) & set("█▏▎▍▌▋▊▉|\x1b")
    epochs = re.findall(r"^epoch (\d)/2: .*$", text, re.MULTILINE)
    assert epochs[-1] == "2"
    line = next(line for line in text.splitlines() if line.startswith("epoch 2/2"))
    row = open_run(home / "runs/killed").history.iloc[-1]
    for words_, value in (
        ("train loss", row["train_loss"]),
        ("val loss", row["val_loss"]),
        ("val AUROC", row["val_auroc"]),
        ("learning rate", row["learning_rate"]),
        ("seconds", row["seconds"]),
    ):
        assert f"{words_} {value:.4g}" in line
    assert re.search(r" [\d.]+ films/s$", line)


def test_from_the_shipped_weights_frozen_with_another_head(call, home):
    words = ["train", "--data", "labels.csv", "--images", "films", "--from", phantom_checkpoint()]
    small = ["--set", "size=64", "--set", "cache_size=64", "--set", "batch_size=8"]
    result = call(*words, *small, "--freeze", "--fit", "pad", "--epochs", 1, "--out", "runs/tuned")
    assert result.exit_code == 0, result.output
    run, shipped = open_run(home / "runs/tuned"), load_checkpoint(phantom_checkpoint())
    assert (run.recipe.freeze, run.recipe.fit, run.recipe.growth_rate) == (True, "pad", None)
    body = {k: v for k, v in shipped.state_dict().items() if "classifier" not in k}
    state = run.model().state_dict()
    assert body
    assert all(state[key].equal(value) for key, value in body.items())
    head = shipped.classifier.weight[shipped.findings.index("Effusion")]
    moved = (run.model().classifier.weight[0] - head).abs().max()
    assert 0 < moved < 0.05  # the row that both have began where it was
    began = json.loads(run.model().provenance["metadata"]["began_with"])
    assert began["sha256"] == shipped.provenance["sha256"]
    films = open_data(run.recipe)["test"]
    scores = predict(run.model(), films)
    np.testing.assert_allclose(run.predictions[list(FINDINGS)], scores, rtol=1e-4, atol=1e-6)
    # And from that run in turn, with its own findings.
    again = call("train", *words[1:5], "--from", "runs/tuned", *small, "--epochs", 1)
    assert again.exit_code == 0, again.output


def test_findings_of_the_14_are_a_list_like_any_other(call, home):
    frame = pd.read_csv(home / "labels.csv")
    names = ["Effusion", "Mass"]
    frame["labels"] = np.where(frame["Effusion"] == 1, "Pleural effusion;Mass", "No Finding")
    frame[["path", "patient", "labels"]].to_csv(home / "names.csv", index=False)
    result = call(
        "train", "--data", "names.csv", "--images", "films", "--findings", "Effusion,Mass",
        "--separator", ";", *SMALL, "--epochs", 1, "--out", "runs/names",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert open_run(home / "runs/names").model().findings == tuple(names)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "labels.csv"], "both --data and --images"),
        (["--findings", "Mass"], "both --data and --images"),
        ([*DATA, "--findings", "Masses"], "Masses"),
        ([*DATA, "--fit", "stretch"], "fit among"),
        (["--fit", "pad"], "fit=squash of films that are squares"),
        ([*DATA, "--set", "data_options.site=a"], "options of own_data"),
        ([*DATA, "--uncertain", "maybe"], "uncertain of"),
        (["--data", "none.csv", "--images", "films", *SMALL], "a file of labels at none.csv"),
        (["--data", "labels.csv", "--images", "nowhere", *SMALL], "nowhere"),
        (["--dataset", "own", *SMALL], "options of own_data"),
        ([*DATA, "--freeze"], "freeze with weights to start from"),
        ([*DATA, "--from", "nothing.pt"], "found nothing there"),
        ([*DATA[:4], "--from", phantom_checkpoint(), "--arch", "resnet18"], "--arch densenet121"),
        ([*DATA[:4], "--arch", "vgg11", "--set", "growth_rate=null"], "architecture among"),
        ([*DATA, "--arch", "resnet18"], "growth rate"),
        ([*DATA, "--set", "loss=corrected-bce"], "sensitivity and specificity of the labels of"),
        (
            [*DATA, "--set", "loss=corrected-bce", "--set", "loss_options.sensitivity=[0.9,0.9]",
             "--set", "loss_options.specificity=[0.9,0.9]"],
            "options of the loss 'corrected-bce'",
        ),
    ],
)  # fmt: skip
def test_it_fails_in_one_line(call, words, message):
    result = call("train", *words, "--out", "runs/none")
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: Expected")
    assert message in last
    assert not Path("runs/none/config.json").exists()


def test_from_python(home, monkeypatch):
    monkeypatch.chdir(home)
    monkeypatch.setenv("CHEXLIB_CACHE", str(home / "cache"))
    asked = RECIPES["phantom-cpu"].with_values(
        [word for word in SMALL if word != "--set"],
        dataset="own",
        data_options={"labels": "labels.csv", "images": "films"},
        epochs=1,
    )
    run = fit(asked, home / "runs/python")
    assert run.recipe == asked
    other = own_data("labels.csv", "films", size=32, seed=5)
    assert other["test"].films["image"].tolist() != run.predictions["image"].tolist()
    assert fit(asked, home / "runs/given", data=other).recipe.dataset == "given"
