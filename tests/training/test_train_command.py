"""`chexlib train`: what it says, where it puts things, and how it fails."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from chexlib.cli import app
from chexlib.training import RECIPES, open_run

# A run of seconds on real phantoms.
SMALL = {
    "cache_size": 32,
    "size": 32,
    "growth_rate": 1,
    "batch_size": 8,
    "data_options": {"n_patients": 8},
    "channels_last": False,
}
SETS = [part for name, value in SMALL.items() for part in ("--set", f"{name}={json.dumps(value)}")]
WIDE = {"COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"}


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A cache folder, in which the phantom's films are kept."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def call(films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEXLIB_CACHE", films)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], env=WIDE)


def test_it_trains_says_how_good_and_repeats_itself(call, tmp_path):
    result = call("train", "--epochs", 1, *SETS)
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("phantom-cpu-")
    for words in (
        "phantom-cpu  A narrow DenseNet-121",
        f"epochs = 1, not {RECIPES['phantom-cpu'].epochs}",
        "device  CPU",
        f"folder  runs/{folder.name}",
        "films of 8 patients",
        "ready mean AUROC 0.",
        "against the truth",
        f"chexlib predict FILM --checkpoint runs/{folder.name}",
        "Not for clinical use.",
    ):
        assert words in result.stdout
    run = open_run(folder)
    assert (run.recipe.epochs, run.recipe.size) == (1, 32)
    weights = (folder / "best.safetensors").stat()

    again = call("train", "--epochs", 1, *SETS)
    assert again.exit_code == 0
    assert "ready mean AUROC" in again.stdout
    assert (folder / "best.safetensors").stat().st_mtime_ns == weights.st_mtime_ns

    other = call("train", "--epochs", 2, *SETS, "--out", folder)
    assert other.exit_code == 1
    assert "epochs: 1 there, 2 asked" in other.stderr

    report = call(
        "evaluate", folder / "predictions.csv", "--labels", folder / "labels.csv", "--out", "told",
        "--resamples", 100,
    )  # fmt: skip
    assert report.exit_code == 0, report.output
    ranking = pd.read_csv(tmp_path / "told" / "ranking.csv").set_index("finding")
    for name, known in run.metrics["truth"]["auroc"].items():
        if 0 < known["positives"] < run.metrics["films"]:
            assert ranking.loc[name, "auroc"] == pytest.approx(known["estimate"], abs=1e-3)


def test_two_processes_by_torchrun_and_by_devices(films, tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ways = {"torchrun": (torchrun, []), "devices": ([], ["--devices", "2", "--accelerator", "cpu"])}
    for name, (before, after) in ways.items():
        words = ["-m", "chexlib", "train", "--epochs", "1", *SETS, "--out", str(tmp_path / name)]
        ended = subprocess.run(
            [sys.executable, *before, *words, *after],
            check=False,
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "CHEXLIB_CACHE": films, "COLUMNS": "200"},
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        assert ended.stdout.count("ready mean AUROC") == 1
        for words in ("Traceback", "deprecated", "All distributed processes", "GPU available"):
            assert words not in ended.stderr
    one, two = (open_run(tmp_path / name) for name in ways)
    assert len(one.history) == 1
    differ = one.predictions.iloc[:, 1:] - two.predictions.iloc[:, 1:]
    assert differ.abs().max().max() < 1e-5  # the same two halves, whoever started them


def test_it_lists_the_recipes(call):
    result = call("train", "--list")
    assert result.exit_code == 0
    for name, recipe in RECIPES.items():
        assert name in result.stdout
        assert recipe.about[:40] in result.stdout
    assert "learning_rate" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "chexnet"], "a recipe among chexnet-paper, zoogzog, phantom-cpu"),
        (["--set", "epoch=3"], "NAME=VALUE with a name among"),
        (["--set", "epochs"], "NAME=VALUE"),
        (["--dataset", "mnist"], "dataset among"),
        (["--epochs", "0"], "epochs as a whole number from 1 up"),
        (["--set", "batch_size=512", *SETS], "at least a batch"),
        (["--accelerator", "tpu", *SETS], "the accelerator"),
        (["--devices", "none", *SETS], "devices as"),
        (["--devices", "1000000", *SETS], "as this machine has"),
        (["--dataset", "given", *SETS], "the data set"),
        (["--set", "loss_options.gamma=1", *SETS], "options of the loss"),
        ([*SETS, "--set", "data_options.noise=5"], "options of the phantom"),
        (["--recipe", "chexnet-paper"], "an image cache in"),
    ],
)
def test_it_fails_in_one_line(call, words, message):
    if "batch_size=512" in words:
        words = [*words[2:], *words[:2]]
    result = call("train", *words)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert message in result.stderr.strip().splitlines()[-1]
    assert result.stderr.strip().splitlines()[-1].startswith("Error: Expected")
