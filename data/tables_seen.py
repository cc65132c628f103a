"""Tables of chapter 3 on what readers see behind a label: all findings, and Emphysema closely.

Readers are the five of Nabulsi et al. (2021), A to E in the order of their published ids,
Google's adjudication, and ChestX-Det's three.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from builders import CHESTX_DET, FIVE, GOOGLE, LABELS, Built, builds, fetched, majority_of_five
from reference_films import model_scores

from chexlib.data import load_adjudicated, load_chestx_det, load_labels, load_readers
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import Estimate, assess, compare_labels, delong, share
from figures.label_quality import label_columns

NAMES = list(FINDINGS)
EMPHYSEMA = "Emphysema"
LABELLED = (*FINDINGS, NO_FINDING, "all films")


def _with_labels(reads: pd.DataFrame) -> pd.DataFrame:
    """Return NIH's rows of films that were read, the readers' columns after them as ``seen_…``."""
    reads = reads.set_index("image").add_prefix("seen_")
    return load_labels().merge(reads, left_on="image", right_index=True, validate="one_to_one")


def _majority() -> pd.DataFrame:
    return _with_labels(majority_of_five().reset_index())


def _drawn() -> pd.DataFrame:
    return _with_labels(load_chestx_det().drop(columns=["patient", "boxes", "polygons"]))


def _adjudicated() -> pd.DataFrame:
    return _with_labels(load_adjudicated().drop(columns=["patient", "subset"]))


@builds("seen_by_label")
def seen_by_label() -> Built:
    """Count what readers see on films with each of NIH's labels."""
    sources = {"five_readers": _majority, "chestx_det": _drawn, "google": _adjudicated}
    rows = []
    for source, read in sources.items():
        films = read()
        seen = films.filter(like="seen_").columns
        for label in LABELLED:
            has = films["patient"] > 0 if label == "all films" else label_columns(films, label)
            part = films[has]
            for column in seen if len(part) else ():
                found = share(part[column], patient=part["patient"])
                where = source, label, column.removeprefix("seen_"), part["patient"].nunique()
                rows.append((*where, *_figures(found)))
    columns = ["evidence", "label", "seen", "n_patients", "k", "n", "estimate", "low", "high"]
    note = (
        "k of n films with the label on which the readers see the finding; five_readers: three "
        "votes of five; intervals of 95% by patient"
    )
    return pd.DataFrame(rows, columns=[*columns, "method"]), _provenance(note)


@builds("label_by_reader")
def label_by_reader() -> Built:
    """NIH's label against each of the five readers, finding by finding."""
    reads = _with_labels_of_each()
    rows = []
    for name in FINDINGS:
        for letter, part in reads.groupby("letter"):
            label, read = part[name], part[f"seen_{name}"]
            found = assess(label, read, patient=part["patient"], statistics=["kappa"])["kappa"]
            counts = read.sum(), label.sum(), (label & read).sum(), len(part)
            figures = found.estimate, found.low, found.high, found.method
            rows.append((name, letter, *counts, *figures))
    columns = ["finding", "reader", "n_called", "n_labelled", "n_both", "n", "estimate"]
    note = (
        "kappa of NIH's label with a reader's calls on 810 PA films; readers in the order of their "
        "ids; intervals of 95% by patient"
    )
    return pd.DataFrame(rows, columns=[*columns, "low", "high", "method"]), _provenance(note)


def _with_labels_of_each() -> pd.DataFrame:
    reads = load_readers("all")
    letter = reads["reader"].astype("category").cat.rename_categories(list("ABCDE")).astype(str)
    reads = reads[["image", *NAMES]].add_prefix("seen_").assign(letter=letter)
    return load_labels().merge(reads, left_on="image", right_on="seen_image")


@builds("emphysema")
def emphysema() -> Built:
    """Ask what goes with the label Emphysema: readers' calls, and a network's score for it."""
    majority, drawn = _majority().set_index("image"), _drawn().set_index("image")
    wide = _with_labels_of_each().pivot(index="image", columns="letter", values=f"seen_{EMPHYSEMA}")
    wide = wide.loc[majority.index]
    who = {f"reader {letter}": wide[letter] for letter in wide}
    who |= {"NIH's label": majority[EMPHYSEMA], "all films": majority["patient"] > 0}
    three = {"NIH's label": drawn[EMPHYSEMA], "all films": drawn["patient"] > 0}
    rows = []
    for readers, films, sets in (("majority of five", majority, who), ("ChestX-Det", drawn, three)):
        for seen in ("Pneumothorax", "Fracture", EMPHYSEMA):
            for name, has in sets.items() if f"seen_{seen}" in films else ():
                found = share(films.loc[has, f"seen_{seen}"], patient=films.loc[has, "patient"])
                rows.append(("share", readers, seen, name, *_figures(found)))
    apart = wide.mul(majority[EMPHYSEMA], axis=0).sum().idxmax()  # who agrees with the label most
    calls = {(EMPHYSEMA, "NIH's label"): majority[EMPHYSEMA]}
    calls |= {(EMPHYSEMA, f"reader {apart}"): wide[apart]}
    calls |= {(EMPHYSEMA, "any other reader"): wide.drop(columns=apart).any(axis=1)}
    rows += _areas("five readers", calls, majority)
    marks = {(EMPHYSEMA, "NIH's label"): drawn[EMPHYSEMA]}
    for seen in drawn.filter(like="seen_"):
        marks[seen.removeprefix("seen_"), "ChestX-Det"] = drawn[seen]
    rows += _areas("ChestX-Det", marks, drawn)
    for view in ("PA", "AP"):
        some = {key: one[drawn["view"] == view] for key, one in marks.items() if EMPHYSEMA in key}
        rows += _areas(f"ChestX-Det, {view}", some, drawn[drawn["view"] == view])
    scored = drawn[drawn.index.isin(model_scores().index)]
    pair = compare_labels(
        scored["seen_Pneumothorax"],
        scored[f"seen_{EMPHYSEMA}"],
        model_scores().loc[scored.index, EMPHYSEMA],
        patient=scored["patient"],
    )
    row = "auroc difference", "ChestX-Det", "Pneumothorax less Emphysema", "ChestX-Det", pd.NA
    rows.append((*row, len(scored), pair.difference, pair.low, pair.high, pair.method))
    columns = ["measure", "films", "seen", "who", "k", "n", "estimate", "low", "high", "method"]
    note = (
        "share: of the films that `who` calls Emphysema, those on which the readers `films` see "
        "the finding; auroc: of the reproduction's score for Emphysema, against what `who` says "
        "of `seen`, k positive films of n; intervals of 95% by patient"
    )
    frame = pd.DataFrame(rows, columns=columns).astype({"k": "Int64"})
    return frame, _provenance(note, fetched("reference_predictions", "preds.csv"))


def _areas(name: str, truths: dict[tuple[str, str], pd.Series], films: pd.DataFrame) -> list[tuple]:
    """Return rows of the AUROC of the score for Emphysema against each set of labels."""
    films = films[films.index.isin(model_scores().index)]
    labels = np.stack([one[films.index].to_numpy(bool) for one in truths.values()], axis=1)
    score = model_scores().loc[films.index, EMPHYSEMA].to_numpy()
    found = delong(labels, score, patient=films["patient"].to_numpy()).estimates()
    keys = [("auroc", name, *key) for key in truths]
    return [(*key, *_figures(one)) for key, one in zip(keys, found, strict=True)]


def _figures(found: Estimate) -> tuple:
    return found.k, found.n, found.estimate, found.low, found.high, found.method


def _provenance(note: str, *more: Any) -> dict[str, Any]:
    return {
        "source": "NIH ChestX-ray14 label table of 2020; single reads of five radiologists "
        "(Nabulsi et al., 2021) and adjudicated labels (Majkowska et al., 2020), Google; "
        "ChestX-Det (Apache-2.0), joined by the names in ChestX-Det10's first upload",
        "licence": "figures CC BY 4.0; inputs: NIH free use with attribution, Google for research "
        "and education, ChestX-Det as published",
        "inputs": [LABELS, GOOGLE, FIVE, *CHESTX_DET, *more],
        "note": note,
    }
