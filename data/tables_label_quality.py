"""Builders of the figures of chapter 2: `label_quality`, and `label_sampling` behind it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pandas as pd

from chexlib.data import data_home, load_adjudicated, load_labels, load_rsna, package_file
from chexlib.data.splits import official_split
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics.label_quality import (
    RSNA_STRATA,
    WORST_MATCH,
    google_evidence,
    label_columns,
    persistence_evidence,
    rsna_evidence,
    rsna_films,
    rsna_stratum,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LICENCE = "figures CC BY 4.0; inputs: NIH free use with attribution, Google and RSNA as published"
SOURCE = (
    "NIH ChestX-ray14 label table of 2020; Google adjudicated labels (Majkowska et al., 2020); "
    "RSNA pneumonia labels of 2018 (Shih et al., 2019), matched to NIH films by the "
    "torchxrayvision authors"
)


def label_quality() -> tuple[pd.DataFrame, dict[str, Any]]:
    """All figures on the quality of NIH's labels, unrounded: Google, RSNA, persistence."""
    labels = load_labels()
    rows = pd.concat(
        [
            google_evidence(labels, load_adjudicated()),
            rsna_evidence(labels, load_rsna()),
            persistence_evidence(labels),
        ],
        ignore_index=True,
    )
    provenance = {
        "source": SOURCE,
        "licence": LICENCE,
        "inputs": _inputs(),
        "note": "intervals are 95%; k and n count films (persistence: pairs) before weighting",
    }
    return rows.astype({"k": "Int64", "n": "Int64"}), provenance


def label_sampling() -> tuple[pd.DataFrame, dict[str, Any]]:
    """How Google's and RSNA's films were chosen, as far as NIH's labels and views show it."""
    labels = load_labels()
    part = official_split(labels)
    adjudicated = load_adjudicated().set_index("image")["subset"]
    subset_of = labels["image"].map(adjudicated.astype(str))
    rows = []
    for subset, split in (("google_test", "test"), ("google_val", "train_val")):
        population, chosen = labels[part == split], labels[subset_of == subset[7:]]
        groups = {name: lambda films, name=name: films[name] for name in FINDINGS}
        groups[NO_FINDING] = lambda films: films["no_finding"]
        groups["AP"] = lambda films: films["view"] == "AP"
        for group, holds in groups.items():
            counts = (holds(chosen).sum(), len(chosen), holds(population).sum(), len(population))
            rows.append((subset, f"official {split}", group, *counts))
        counts = (chosen["patient"].nunique(), len(chosen))
        counts += (population["patient"].nunique(), len(population))
        rows.append((subset, f"official {split}", "patients", *counts))
    rsna = load_rsna()
    films = rsna_films(labels, rsna)
    twice = rsna["image"].value_counts().gt(1).sum()
    for group, k in (
        ("kept", len(films)),
        ("left out: NIH films matched twice", twice),
        ("left out: images differ", (rsna["pixel_mse"] > WORST_MATCH).sum()),
    ):
        rows.append(("rsna", "all", group, k, len(rsna), pd.NA, pd.NA))
    for place, group in enumerate(RSNA_STRATA):
        for view, split in itertools.product(("PA", "AP"), ("train_val", "test")):
            held = (rsna_stratum(labels) == place) & (labels["view"] == view) & (part == split)
            k = films["image"].isin(labels.loc[held, "image"]).sum()
            counts = (k, len(films), held.sum(), len(labels))
            rows.append(("rsna", "all", f"{group}; {view}; official {split}", *counts))
    for name in OPACITIES:
        held = label_columns(labels, name) & (labels[list(FINDINGS)].sum(axis=1) == 1)
        k = films["image"].isin(labels.loc[held, "image"]).sum()
        counts = (k, len(films), held.sum(), len(labels))
        rows.append(("rsna", "all", f"{name} alone", *counts))
    columns = ["subset", "population", "group", "k", "n", "population_k", "population_n"]
    folder = data_home() / "official_split"
    provenance = {
        "source": SOURCE + "; NIH's official split",
        "licence": LICENCE,
        "inputs": [*_inputs(), folder / "train_val_list.txt", folder / "test_list.txt"],
        "note": "k of n chosen films and population_k of population_n films belong to the group",
    }
    whole = dict.fromkeys(columns[3:], "Int64")
    return pd.DataFrame(rows, columns=columns).astype(whole), provenance


OPACITIES = ("Consolidation", "Infiltration", "Pneumonia")


def _inputs() -> list[Path]:
    names = (
        *("Data_Entry_2017_v2020.csv.gz", "google2019_nih-chest-xray-labels.csv.gz"),
        *(
            "kaggle_stage_2_train_labels.csv.zip",
            "kaggle_stage_2_train_images_dicom_headers.csv.gz",
        ),
    )
    carried = [package_file("torchxrayvision", "data", name) for name in names]
    return [*carried, data_home() / "rsna" / "rsna_to_nih.csv"]


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict[str, Any]]]] = {
    "label_quality": label_quality,
    "label_sampling": label_sampling,
}
