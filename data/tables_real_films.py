"""Tables of chapter 6 on real films: a network of simulated films beside one of real ones.

The 621 films, one a patient, were chosen by their author to hold every finding. An AUROC on them is
not comparable with a published one; the two networks are compared with each other, film by film.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from builders import (
    BOXES,
    CHESTX_DET,
    FIVE,
    LABELS,
    Built,
    builds,
    by_finding,
    drawn_by_chestx_det,
    fetched,
    majority_of_five,
)
from reference_films import model_scores

from chexlib.data import load_boxes, load_chestx_det, load_labels, match_labels
from chexlib.data.phantom import VERSION
from chexlib.data.radiographs import read_radiograph
from chexlib.findings import FINDINGS
from chexlib.inference import Preparation
from chexlib.interpret import (
    CONTROLS,
    case_maps,
    controls,
    find_cases,
    localization_table,
    score_cases,
)
from chexlib.metrics import Resamples, auroc, resampled
from chexlib.models import load_checkpoint, phantom_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

FILMS = fetched("nih_sample", "images_256")
PREDICTIONS = fetched("reference_predictions", "preds.csv")
RESAMPLES = 2000
HIGHEST = 0.1  # share of the films that a score calls high


@cache
def _asked() -> tuple:
    """Return the book's network, the batches that it is given, and the films' names."""
    paths = sorted(FILMS.glob("*.png"))
    if not paths:
        raise FileNotFoundError(
            f"Expected films of 256 px in {FILMS}, found none. They are `starter_images` of "
            "jrzech/reproduce-chexnet, reduced by area averaging."
        )
    model = load_checkpoint(phantom_checkpoint())
    way = Preparation.of(model)
    films = np.stack([way.shrunk(read_radiograph(path)) for path in paths])
    return model, way.batcher(films), [path.name for path in paths]


@cache
def of_the_book() -> pd.DataFrame:
    """Return the logits of the network that comes with the book, a row a film."""
    model, batcher, images = _asked()
    logits = Preparation.of(model).logits(model, batcher, np.arange(len(images))).numpy()
    return pd.DataFrame(logits, index=images, columns=list(FINDINGS))


@builds("real_films")
def real_films() -> Built:
    """AUROC of both networks on the same films, and by how much they differ."""
    book = of_the_book()
    reproduction = model_scores().loc[book.index]
    films = match_labels(pd.DataFrame({"image": book.index}), load_labels())
    labels = films[list(FINDINGS)].to_numpy()
    draws = Resamples(films["patient"], resamples=RESAMPLES, seed=0)
    found = {
        name: resampled(auroc, labels, scores.to_numpy(), draws)
        for name, scores in {"book": book, "reproduction": reproduction}.items()
    }
    found["difference"] = found["reproduction"] - found["book"]
    tables = []
    for name, figures in found.items():
        table = by_finding(figures, "mean")
        table.insert(0, "network", name)
        table["n_positive"] = [*labels.sum(axis=0), labels.any(axis=1).sum()]
        tables.append(table)
    note = (
        f"{len(films)} films, one a patient, chosen to hold every finding; estimate: AUROC by "
        f"NIH's labels; intervals of 95%, bootstrap by patient, {RESAMPLES} resamples; difference: "
        "reproduction less book; n_positive of the mean: films with any finding"
    )
    return pd.concat(tables, ignore_index=True), _provenance(note, LABELS, PREDICTIONS)


@builds("real_films_judged")
def real_films_judged() -> Built:
    """Count, where others judged some of these films, how many of their findings score high."""
    book = of_the_book()
    scores = {"book": book, "reproduction": model_scores().loc[book.index]}
    high = {name: one > one.quantile(1 - HIGHEST) for name, one in scores.items()}
    drawn = load_chestx_det().set_index("image")
    asked = [name for name in FINDINGS if name in drawn]  # ten of the fourteen
    judges = {
        "majority of five readers": majority_of_five(),
        "ChestX-Det": drawn[asked].astype(bool),
        "NIH's label": match_labels(pd.DataFrame({"image": book.index}), load_labels()).set_index(
            "image"
        )[list(FINDINGS)],
    }
    rows = []
    for judge, every in judges.items():
        there = every[every.index.isin(book.index)]
        for network, called in high.items():
            found = called.loc[there.index, list(there)] & there.astype(bool)
            counts = len(there), int(there.to_numpy().sum()), int(found.to_numpy().sum())
            rows.append((judge, network, *counts))
    columns = ["judge", "network", "n_films", "n_findings", "n_high"]
    note = (
        f"of {len(book)} films, those that a judge saw; n_findings: pairs of a film and a finding "
        f"that the judge says is there; n_high: of these, pairs whose score is in the highest "
        f"{HIGHEST:.0%} of that finding's scores on all {len(book)} films"
    )
    inputs = LABELS, PREDICTIONS, FIVE, *CHESTX_DET
    return pd.DataFrame(rows, columns=columns), _provenance(note, *inputs)


@builds("real_films_maps")
def real_films_maps() -> Built:
    """Score the maps of the book's network on these films' boxes, beside five controls."""
    model, batcher, images = _asked()
    tables, chestx_det = [], drawn_by_chestx_det().drop(columns="outline")
    for judge, boxes in {"NIH": load_boxes(), "ChestX-Det": chestx_det}.items():
        patient = boxes["image"].str[:8].astype(int)  # the first part of NIH's file names
        mine = boxes["image"].isin(images)
        here = boxes[mine]
        several = here.groupby("finding")["image"].transform("nunique") > 1  # for "other film"
        elsewhere = boxes[~patient.isin(patient[mine])]
        cases, others = (
            find_cases(part, of, [int(name[:8]) for name in of])
            for part, of in (
                (here[several], images),
                (elsewhere, sorted(elsewhere["image"].unique())),
            )
        )
        given = model, batcher, cases["film"], cases["finding"]
        maps = {name: case_maps(*given, method=name) for name in ("cam", "layercam")}
        of_layer = controls(maps["layercam"], cases, names=("other film",))["other film"]
        maps |= {"layercam, other film": of_layer}
        maps |= controls(maps["cam"], cases, names=CONTROLS, prior=others)
        scores = {name: score_cases(heat, cases).assign(judge=judge) for name, heat in maps.items()}
        tables.append(localization_table(scores, by="judge"))
    frame = pd.concat(tables, ignore_index=True)
    frame = frame[~frame["group"].str.startswith("mean of")].rename(columns={"group": "judge"})
    note = (
        f"real films of {len(images)} that NIH's radiologist or ChestX-Det's three drew boxes on; "
        "findings on two films or more, all cases alike; position: the mean box of the finding on "
        "films of other patients by the same radiologists; intervals of 95% by patient; gain: the "
        "class activation map less the other"
    )
    kept = frame["metric"].isin(("overlap", "hit", "IoU > 0.1"))
    return frame[kept].drop(columns="p_adjusted").round(4), _provenance(note, BOXES, *CHESTX_DET)


def _provenance(note: str, *inputs: Path) -> dict:
    """Return the films, the network, and of the other sources those that a table reads."""
    others = {
        PREDICTIONS: "predictions of jrzech/reproduce-chexnet (retrained 2022; BSD-3-Clause)",
        FIVE: "Google's readers (Nabulsi et al., 2021)",
        CHESTX_DET[0]: "ChestX-Det (Apache-2.0)",
    }
    read = [source for path, source in others.items() if path in inputs]
    films = "NIH ChestX-ray14 (Wang et al., 2017), films and what was labelled or drawn on them"
    return {
        "source": "; ".join([films, "the book's network", *read]),
        "licence": "figures CC BY 4.0; films and labels of NIH, free use with attribution",
        "inputs": [FILMS, phantom_checkpoint(), *inputs],
        "note": f"phantom {VERSION}; {note}",
    }
