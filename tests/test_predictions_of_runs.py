"""What finished runs said of the test films is kept, small, and of the phantom as it is."""

import json
from types import SimpleNamespace

import keep_predictions
import numpy as np
import pandas as pd
import pytest
import train_runs
from scipy.special import expit

from chexlib.data.phantom import VERSION
from chexlib.findings import FINDINGS


@pytest.mark.parametrize("training", keep_predictions.KEPT)
def test_every_training_is_kept_with_all_its_runs(training):
    assert keep_predictions.path_of(training).stat().st_size < 700_000
    for run in train_runs.runs_of(training):
        found = keep_predictions.kept(run)
        assert found.scores.shape == (4431, 14)
        assert ((found.scores > 0) & (found.scores < 1)).all()
        assert found.about["values"] == json.loads(json.dumps(train_runs.runs()[run]))
        epochs = [row["epoch"] for row in found.about["history"]]
        assert epochs == list(range(found.about["values"]["epochs"]))


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Other folders for runs and predictions, and a run in the first."""
    monkeypatch.setattr(train_runs, "folder_of", lambda name: tmp_path / "runs" / name)
    monkeypatch.setattr(keep_predictions, "FOLDER", tmp_path / "predictions")
    keep_predictions.kept.cache_clear()
    run = tmp_path / "runs" / "weighted-0"
    run.mkdir(parents=True)
    logits = np.random.default_rng(0).normal(-2, 3, (20, 14))
    logits[0, :2] = -800, 800  # probabilities of 0 and 1
    frame = pd.DataFrame(expit(logits), columns=list(FINDINGS))
    images = [f"{i}.png" for i in range(20)]
    frame.insert(0, "Image Index", images)
    films = SimpleNamespace(films=pd.DataFrame({"image": images}))
    monkeypatch.setattr(keep_predictions, "tested_films", lambda: films)
    frame.to_csv(run / "predictions.csv", index=False)
    (run / "environment.json").write_text('{"torch": "2", "processor": "one"}')
    pd.DataFrame({"epoch": [0, 1], "seconds": [60.0, 90.0]}).to_csv(
        run / "history.csv", index=False
    )
    yield run
    keep_predictions.kept.cache_clear()


def test_probabilities_come_back_to_three_digits(place):
    (place / "metrics.json").write_text("{}")
    keep_predictions.keep("weighted")
    found = keep_predictions.kept("weighted-0")
    said = pd.read_csv(place / "predictions.csv")[list(FINDINGS)].to_numpy()
    np.testing.assert_allclose(found.scores, said, atol=1e-3)
    assert found.about["minutes"] == 2.5
    assert found.about["history"] == [{"epoch": 0}, {"epoch": 1}]


def test_predictions_of_other_films_are_not_kept(place):
    (place / "metrics.json").write_text("{}")
    path = place / "predictions.csv"
    pd.read_csv(path).iloc[::-1].to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"test films, in order.*train_runs\.py weighted-0"):
        keep_predictions.keep("weighted")
    assert not keep_predictions.path_of("weighted").exists()


def test_a_run_that_is_not_finished_is_not_kept(place, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["keep_predictions.py", "weighted"])
    assert keep_predictions.main() == 1
    assert "python data/train_runs.py weighted-0" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"train_runs\.py weighted-0 && python data/keep"):
        keep_predictions.kept("weighted-0")


def test_predictions_of_another_phantom_are_refused(place, monkeypatch):
    (place / "metrics.json").write_text("{}")
    keep_predictions.keep("weighted")
    monkeypatch.setattr(keep_predictions, "VERSION", "another")
    with pytest.raises(ValueError, match=f"phantom another in .* got {VERSION}"):
        keep_predictions.kept("weighted-0")


def test_a_kept_run_stays_without_its_folder_unless_its_values_changed(place, monkeypatch):
    (place / "metrics.json").write_text("{}")
    keep_predictions.keep("weighted")
    before = keep_predictions.kept("weighted-0").scores
    (place / "metrics.json").unlink()
    keep_predictions.keep("weighted")
    keep_predictions.kept.cache_clear()
    np.testing.assert_array_equal(keep_predictions.kept("weighted-0").scores, before)
    monkeypatch.setitem(train_runs.VARIANTS, "weighted", (1, {"epochs": 9}))
    with pytest.raises(FileNotFoundError, match=r"train_runs\.py weighted-0"):
        keep_predictions.keep("weighted")
