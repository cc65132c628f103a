"""The tables of chapter 6 agree with themselves, and the run that it trains live learns."""

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tables_real_films
import tables_training
from builders import BUILDERS

from chexlib.data import load_labels, match_labels, table
from chexlib.findings import FINDINGS
from chexlib.metrics import auroc

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "book" / "06_training.ipynb"
OF_RUNS = [f"training_{n}" for n in ("runs", "differences", "seeds", "history", "calibration")]
# Mean AUROC of the live run: what other processors and other seeds reach, with room to spare.
BAND = (0.68, 0.82)


def test_weights_lift_probabilities_and_the_formula_takes_them_back():
    frame = table("training_calibration")
    kinds = frame.pivot(index="finding", columns="probabilities", values="estimate")
    assert (kinds["class weights"] > 0.05).all()
    assert (kinds["class weights, undone"].abs() < 0.02).all()
    errors = frame.groupby("probabilities")["calibration_error"].mean()
    assert errors["class weights, undone"] < errors["class weights"] / 5
    assert (frame["by_luck"] <= frame["calibration_error"] * 2.5).all()


def test_two_thermometers_in_one_network_disagree():
    # What the chapter says of validation by crops: equal training, opposite verdicts.
    history = table("training_history").set_index(["run", "epoch"])
    whole, crops = history.loc["paper-crop-0"], history.loc["paper-crop-both-0"]
    assert (whole.loc[[0, 1], "train_loss"] == crops.loc[[0, 1], "train_loss"]).all()
    assert whole["val_loss"].diff()[1] > 0 > crops["val_loss"].diff()[1]


def test_a_missing_run_is_named_with_the_command_that_trains_it(monkeypatch, tmp_path):
    monkeypatch.setattr(tables_training.train_runs, "folder_of", lambda name: tmp_path / name)
    for name in OF_RUNS:
        for cached in (tables_training.tested, tables_training.aurocs, tables_training._draws):
            cached.cache_clear()
        with pytest.raises(FileNotFoundError, match=r"python data/train_runs\.py "):
            BUILDERS[name]()


def test_runs_of_different_films_are_not_compared(monkeypatch):
    one = tables_training.Tested(np.eye(14, dtype=bool), np.eye(14), np.arange(14))
    other = one._replace(labels=~one.labels)
    monkeypatch.setattr(tables_training, "tested", lambda name: one if name == "true-0" else other)
    with pytest.raises(ValueError, match="tested on the films of true-0"):
        tables_training.aurocs("paper-0")


def _cells():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_live_run_reaches_what_the_chapter_shows():
    """Run the chapter's own cells, and compare with its committed output by tolerance."""
    sources = ["".join(cell["source"]) for cell in _cells()]
    scope = {}
    imports, films = sources[0], next(s for s in sources if s.startswith("patients = "))
    training = next(s for s in sources if "fit(" in s)
    with mpl.rc_context():  # the first cell sets the book's style
        for source in (imports, films, training):
            exec(source, scope)
    reached = scope["metrics"]["truth"]["mean_auroc"]["estimate"]
    assert BAND[0] <= reached <= BAND[1]
    assert scope["history"]["train_loss"].iloc[-1] < scope["history"]["train_loss"].iloc[0]


def test_what_the_live_run_printed_lies_in_the_same_band():
    cell = next(cell for cell in _cells() if "fit(" in "".join(cell["source"]))
    assert "nbval-ignore-output" in cell["metadata"]["tags"]
    text = "".join("".join(output.get("text", "")) for output in cell["outputs"])
    (printed,) = re.findall(r"mean AUROC (0\.\d+)", text)
    assert BAND[0] <= float(printed) <= BAND[1]


@pytest.mark.real_data("nih_sample/images_256", "reference_predictions/preds.csv")
def test_the_network_of_simulated_films_is_asked_about_the_films_of_the_table():
    """The book's rows again, from the films; another processor rounds otherwise."""
    shown = table("real_films").set_index(["network", "finding"])["estimate"]
    logits = tables_real_films.of_the_book()
    films = match_labels(pd.DataFrame({"image": logits.index}), load_labels())
    found = auroc(films[list(FINDINGS)].to_numpy(), logits.to_numpy())
    assert np.allclose(found, shown["book"].loc[list(FINDINGS)], atol=5e-3)
    assert shown["difference", "mean"] == pytest.approx(
        shown["reproduction", "mean"] - shown["book", "mean"], abs=1e-9
    )
