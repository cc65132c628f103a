"""What a film or its name says is text, wherever it goes: a spreadsheet, a terminal, an error."""

import itertools
import subprocess
import sys
import unicodedata
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from chexlib.data import load_labels, match_labels, read_labels, read_predictions
from chexlib.files import inert, legible, original, write_csv
from chexlib.findings import FINDINGS, normalise
from chexlib.inference import read_thresholds
from chexlib.models import CheXNet, save_checkpoint
from chexlib.training.run import labels_table

ACTING = ("=", "+", "-", "@", "\t", "\r", "\n", " ", "\uff1d")
NAMES = ["=1+1.png", "+1.png", "-1.png", "@sum.png", "\t=1.png", "'=1.png", "''.png", "a=1.png"]


def test_every_text_comes_back_and_none_is_computed():
    for letters in itertools.product(*[["", "'", *ACTING, "a"]] * 4):
        text = "".join(letters)
        assert original(inert(text)) == text
        assert not inert(text).startswith(ACTING)
        if text.startswith(("a", "'a")):
            assert inert(text) == text


def test_predictions_and_labels_of_acting_names(tmp_path):
    names = [*NAMES, "plain.png"]
    p = np.random.default_rng(0).random((len(names), 14)).round(4)
    frame = pd.DataFrame(p, columns=list(FINDINGS))
    frame.insert(0, "Image Index", names)
    write_csv(tmp_path / "predictions.csv", frame)
    films = load_labels().head(len(names)).assign(image=names)
    write_csv(
        tmp_path / "labels.csv",
        labels_table(SimpleNamespace(films=films, findings=FINDINGS), p > 0.9),
    )
    found, labels = (
        read_predictions(tmp_path / "predictions.csv"),
        read_labels(tmp_path / "labels.csv")[0],
    )
    assert found["image"].tolist() == labels["image"].tolist() == names
    np.testing.assert_array_equal(found[list(FINDINGS)], p)
    assert len(match_labels(found, labels)) == len(names)
    for name in ("predictions.csv", "labels.csv"):
        cells = pd.read_csv(tmp_path / name).iloc[:, 0]
        assert not cells.str.startswith(ACTING).any()
    # Other columns are as they were; a file by another program has no marks.
    write_csv(tmp_path / "numbers.csv", pd.DataFrame({"a": [-1.5, None], "b": [True, False]}))
    assert (tmp_path / "numbers.csv").read_text() == "a,b\n-1.5,True\n,False\n"
    frame.head(1).to_csv(tmp_path / "predictions.csv", index=False)
    assert read_predictions(tmp_path / "predictions.csv")["image"][0] == "=1+1.png"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(
        CheXNet(growth_rate=1), path, metadata={"recipe": {"size": 32, "cache_size": 32}}
    )
    return path


def chexlib(*words, cwd):
    command = [sys.executable, "-m", "chexlib", *map(str, words)]
    return subprocess.run(command, check=False, capture_output=True, cwd=cwd)


def acts(output):
    """Return the letters of an output that a terminal would obey, but for ends of lines."""
    kinds = {"Cc", "Cf"}
    return {c for c in output.decode() if c not in "\r\n" and unicodedata.category(c) in kinds}


@pytest.mark.skipif(sys.platform == "win32", reason="names that a file cannot have there")
def test_the_command_writes_and_prints_names_that_act(weights, tmp_path):
    evil = "\x1b]0;title\x07\x1b[2J\u202egnp.png"
    films = tmp_path / "films"
    films.mkdir()
    whole = cv2.imencode(".png", np.arange(1024, dtype=np.uint8).reshape(32, 32))[1].tobytes()
    for name in ("=HYPERLINK(1).png", evil):
        (films / name).write_bytes(whole)
    for name in ("@bad.png", "-\x1b[31mbad.png"):
        (films / name).write_text("no film")
    done = chexlib("predict", films, "--checkpoint", weights, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = set(read_predictions(tmp_path / "predictions.csv")["image"])
    assert found == {"=HYPERLINK(1).png", legible(evil)}
    for name in ("predictions.csv", "predictions-rejected.csv"):
        cells = pd.read_csv(tmp_path / name).iloc[:, 0]
        assert len(cells) == 2
        assert not cells.str.startswith(ACTING).any()
    for words in (
        ("predict", films / evil, "--checkpoint", weights),
        ("predict", films / evil, "--checkpoint", weights, "--out", f"{evil}.csv"),
        ("explain", films / evil, "--checkpoint", weights, "--finding", "Mass", "--size", "32"),
        ("predict", films / "-\x1b[31mbad.png", "--checkpoint", weights),
        ("evaluate", films / "-\x1b[31mbad.png"),
    ):
        said = chexlib(*words, cwd=tmp_path)
        assert not acts(said.stdout + said.stderr), words
        assert b"\\x1b" in said.stdout + said.stderr, words


def test_long_cells_are_not_repeated_whole(tmp_path):
    long = "x" * 800_000
    path = tmp_path / "long.csv"
    readers = {
        f"Image Index,{long[:100_000]}\n1,2\n": read_predictions,
        ",".join(["Image Index", *("y" * 8 for _ in range(90_000))]) + "\n": read_predictions,
        f"{long}\n1\n": load_labels,
        f"{long},finding\n1,2\n": read_thresholds,
    }
    for text, read in readers.items():
        path.write_text(text)
        with pytest.raises(ValueError, match="Expected") as refused:
            read(path)
        assert len(str(refused.value)) < 1500
    with pytest.raises(ValueError, match="800,002 characters"):
        normalise(long)
    path.write_text("Image Index," + ",".join(FINDINGS) + "\n" + "a" * 100_000 + ",2" * 14 + "\n")
    said = chexlib("evaluate", path, cwd=tmp_path)
    assert said.returncode == 1
    assert len(said.stderr) < 4000
