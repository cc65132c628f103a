"""Builders of the figures of chapter 3: `label_quality`, and `label_sampling` behind it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
from builders import CHESTX_DET, FIVE, GOOGLE, LABELS, RSNA, Built, builds, carried, fetched
from tables_readers import VINBIGDATA, reader_evidence

from chexlib.data import load_adjudicated, load_labels, load_rsna
from chexlib.data.splits import official_split
from chexlib.findings import FINDINGS, NO_FINDING
from figures.label_quality import (
    RSNA_STRATA,
    WORST_MATCH,
    google_evidence,
    label_columns,
    persistence_evidence,
    rsna_evidence,
    rsna_films,
    rsna_stratum,
)

LICENCE = "figures CC BY 4.0; inputs: NIH free use with attribution, Google and RSNA as published"
SOURCE = (
    "NIH ChestX-ray14 label table of 2020; Google adjudicated labels (Majkowska et al., 2020); "
    "RSNA pneumonia labels of 2018 (Shih et al., 2019), matched to NIH films by the "
    "torchxrayvision authors"
)


@builds("label_quality")
def label_quality() -> Built:
    """All figures on the quality of labels, unrounded: of NIH's, and of readers themselves."""
    labels = load_labels()
    parts = [
        google_evidence(labels, load_adjudicated()),
        rsna_evidence(labels, load_rsna()),
        persistence_evidence(labels),
        reader_evidence(),
    ]
    rows = pd.concat(parts, ignore_index=True).astype({"k": "Int64", "n": "Int64"})
    note = "intervals are 95%; k and n count films (persistence: pairs) before weighting"
    read = "; five radiologists (Nabulsi et al., 2021); ChestX-Det (Lian et al., 2021); VinBigData"
    return rows, _provenance(SOURCE + read, [*_inputs(), FIVE, *CHESTX_DET, VINBIGDATA], note)


@builds("label_sampling")
def label_sampling() -> Built:
    """How Google's and RSNA's films were chosen, as far as NIH's labels and views show it."""
    labels = load_labels()
    part = official_split(labels)
    adjudicated = load_adjudicated().set_index("image")["subset"]
    subset_of = labels["image"].map(adjudicated.astype(str))
    flags = labels[list(FINDINGS)].assign(**{NO_FINDING: labels["no_finding"]})
    flags["AP"] = labels["view"] == "AP"
    rows = []
    for subset, split in (("google_test", "test"), ("google_val", "train_val")):
        where = subset, f"official {split}"
        population, chosen = part == split, subset_of == subset[7:]
        n = chosen.sum(), population.sum()
        for group, holds in flags.items():
            counts = (holds[chosen].sum(), n[0], holds[population].sum(), n[1])
            rows.append((*where, group, *counts))
        patients = [labels["patient"][films].nunique() for films in (chosen, population)]
        rows.append((*where, "patients", patients[0], n[0], patients[1], n[1]))
    rsna = load_rsna()
    films = rsna_films(labels, rsna)
    where, read = ("rsna", "all"), labels["image"].isin(films["image"])
    for group, k in (
        ("kept", len(films)),
        ("left out: NIH films matched twice", rsna["image"].value_counts().gt(1).sum()),
        ("left out: images differ", (rsna["pixel_mse"] > WORST_MATCH).sum()),
    ):
        rows.append((*where, group, k, len(rsna), pd.NA, pd.NA))
    groups = {}
    for place, group in enumerate(RSNA_STRATA):
        for view, split in product(("PA", "AP"), ("train_val", "test")):
            held = (rsna_stratum(labels) == place) & (labels["view"] == view) & (part == split)
            groups[f"{group}; {view}; official {split}"] = held
    alone = labels[list(FINDINGS)].sum(axis=1) == 1
    groups |= {f"{name} alone": label_columns(labels, name) & alone for name in OPACITIES}
    for group, held in groups.items():
        rows.append((*where, group, (held & read).sum(), len(films), held.sum(), len(labels)))
    columns = ["subset", "population", "group", "k", "n", "population_k", "population_n"]
    frame = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[3:], "Int64"))
    lists = [fetched("official_split", f"{name}_list.txt") for name in ("train_val", "test")]
    note = "k of n chosen films and population_k of population_n films belong to the group"
    return frame, _provenance(SOURCE + "; NIH's official split", [*_inputs(), *lists], note)


OPACITIES = ("Consolidation", "Infiltration", "Pneumonia")


def _inputs() -> list[Path]:
    headers = carried("kaggle_stage_2_train_images_dicom_headers.csv.gz")
    return [LABELS, GOOGLE, RSNA, headers, fetched("rsna", "rsna_to_nih.csv")]


def _provenance(source: str, inputs: list[Path], note: str) -> dict:
    return {"source": source, "licence": LICENCE, "inputs": inputs, "note": note}
