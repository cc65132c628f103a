"""What readers see behind NIH's labels: claims of the tables, and rows counted from the files."""

import json

import numpy as np
import pandas as pd
import pytest

from chexlib.data import data_home, load_labels, table
from chexlib.findings import FINDINGS

fetched = pytest.mark.real_data(
    *("google_readers/all_findings_individual_readers.csv", "chestx_det/ChestX_Det_train.json"),
    "reference_predictions/preds.csv",
)


def test_one_reader_of_five_agrees_with_the_label_emphysema_and_with_no_other_label_so_alone():
    kappas = table("label_by_reader").pivot(index="finding", columns="reader", values="estimate")
    best, second = np.sort(kappas.to_numpy(), axis=1)[:, :-3:-1].T
    apart = pd.Series(best - second, kappas.index)
    assert kappas.loc["Emphysema"].idxmax() == "B"
    assert apart["Emphysema"] > 0.4
    assert apart.drop("Emphysema").max() < 0.2


def test_chestx_det_says_nothing_of_no_finding():
    seen = table("seen_by_label")
    drawn = seen[seen["evidence"] == "chestx_det"]
    assert set(drawn["label"]) == {*FINDINGS, "all films"}
    assert set(seen.loc[seen["evidence"] == "five_readers", "label"]) >= {"No Finding"}
    assert (drawn.groupby("label")["n"].nunique() == 1).all()


def test_what_goes_with_emphysema():
    figures = table("emphysema").set_index(["measure", "films", "seen", "who"])
    shares = figures.loc["share"]
    for where in (("majority of five", "Pneumothorax"), ("ChestX-Det", "Fracture")):
        labelled, every = (shares.loc[(*where, who)] for who in ("NIH's label", "all films"))
        assert labelled["low"] > every["high"]
    areas = figures.loc["auroc"]
    for films, who in (("five readers", "any other reader"), ("ChestX-Det", "ChestX-Det")):
        others, own = (areas.loc[(films, "Emphysema", name)] for name in (who, "NIH's label"))
        assert others["high"] < own["low"]


def test_the_label_emphysema_is_of_older_patients_filmed_seldom_and_of_others_filmed_often():
    labels = load_labels()
    films = labels.groupby("patient")["image"].transform("size")
    age, air = (labels.loc[films <= 3, "age"], labels.loc[films >= 20, "Pneumothorax"])
    has = labels["Emphysema"]
    assert age[has].mean() > age.mean() + 10
    assert abs(labels.loc[(films >= 20) & has, "age"].mean() - labels["age"].mean()) < 3
    assert air[has].mean() > 3 * air.mean()


@fetched
def test_reads_counted_by_hand():
    from sklearn.metrics import cohen_kappa_score

    folder = data_home()
    reads = pd.read_csv(folder / "google_readers" / "all_findings_individual_readers.csv")
    label = load_labels().set_index("image")["Emphysema"]
    second = sorted(reads["Reader ID"].unique())[1]
    own = reads[reads["Reader ID"] == second]
    called, labelled = own["Emphysema"] == "YES", label[own["Image ID"]].to_numpy()
    row = table("label_by_reader").set_index(["finding", "reader"]).loc[("Emphysema", "B")]
    counts = called.sum(), labelled.sum(), (called & labelled).sum(), len(own)
    assert tuple(row[["n_called", "n_labelled", "n_both", "n"]]) == counts
    assert row["estimate"] == pytest.approx(cohen_kappa_score(called, labelled))

    names, broken = {}, {}
    for part in ("train", "test"):
        nih, renamed, last = (
            json.loads((folder / "chestx_det" / f"{name}.json").read_text())
            for name in (f"det10_{part}", f"det10_{part}_renamed", f"ChestX_Det_{part}")
        )
        names |= {b["file_name"]: a["file_name"] for a, b in zip(nih, renamed, strict=True)}
        broken |= {film["file_name"]: "Fracture" in film["syms"] for film in last}
    films = pd.Series({names[film]: has for film, has in broken.items() if film in names})
    labelled = films[label[films.index]]
    row = table("seen_by_label").set_index(["evidence", "label", "seen"])
    row = row.loc[("chestx_det", "Emphysema", "Fracture")]
    assert (row["k"], row["n"]) == (labelled.sum(), len(labelled))


@fetched
def test_the_score_for_emphysema_by_scikit_learn():
    from sklearn.metrics import roc_auc_score

    scores = pd.read_csv(data_home() / "reference_predictions" / "preds.csv")
    scores = scores.set_index("Image Index")["prob_Emphysema"]
    reads = pd.read_csv(data_home() / "google_readers" / "all_findings_individual_readers.csv")
    reads = reads[reads["Image ID"].isin(scores.index)]
    calls = reads.pivot(index="Image ID", columns="Reader ID", values="Emphysema") == "YES"
    second = calls.columns[1]
    areas = table("emphysema").query("measure == 'auroc'").set_index(["films", "who"])["estimate"]
    score = scores[calls.index]
    assert areas["five readers", "reader B"] == pytest.approx(roc_auc_score(calls[second], score))
    others = calls.drop(columns=second).any(axis=1)
    assert areas["five readers", "any other reader"] == pytest.approx(roc_auc_score(others, score))
