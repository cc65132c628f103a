"""The tables of chapter 6 agree with themselves, and the run that it trains live learns."""

import json
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import tables_real_films

from chexlib.data import load_labels, match_labels, table
from chexlib.findings import FINDINGS
from chexlib.interpret import CONTROLS
from chexlib.metrics import auroc

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "book" / "06_training.ipynb"
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
    # What the chapter says of validation by crops: equal training, and no verdict that differs.
    history = table("training_history").set_index(["run", "epoch"])
    whole, crops = history.loc["paper-crop-0"], history.loc["paper-crop-both-0"]
    assert (whole["train_loss"] == crops["train_loss"]).all()
    assert (whole["val_loss"] < crops["val_loss"]).all()
    for run in (whole, crops):
        assert (run["val_loss"].diff().dropna() < 0).all()


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


def test_what_others_judged_is_counted():
    """Few of these films were judged by others: a table of counts, and each part of a whole."""
    counts = table("real_films_judged").set_index(["judge", "network"])
    assert (counts["n_high"] <= counts["n_findings"]).all()
    films = counts["n_films"].unstack("network")
    assert (films["book"] == films["reproduction"]).all()
    assert counts.loc[("NIH's label", "book"), "n_films"] == 621
    mean = table("real_films").query("network == 'book' and finding != 'mean'")
    assert counts.loc[("NIH's label", "book"), "n_findings"] == mean["n_positive"].sum()


def test_maps_of_real_films_stand_beside_five_controls():
    frame = table("real_films_maps")
    wide = frame[frame["metric"] == "overlap"].set_index(["judge", "source"])
    for _, part in wide.groupby(level="judge"):
        assert set(part.index.unique("source")) == {
            *("cam", "layercam", "layercam, other film", *CONTROLS)
        }
    for judge, part in wide.groupby(level="judge"):
        own = part.loc[(judge, "cam"), "estimate"]
        gains = part["gain"].dropna()
        np.testing.assert_allclose(gains, own - part.loc[gains.index, "estimate"], atol=2e-4)
