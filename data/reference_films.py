"""The films that the reference model scored, with every label set there is for them.

The model is a public reproduction of CheXNet (jrzech/reproduce-chexnet); the films are the 22,433
of its test set, whole patients drawn at random, on which two other public reproductions tested too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data import data_home, load_adjudicated, load_labels, load_rsna, package_file
from chexlib.data.predictions import read_predictions
from chexlib.data.splits import official_split, patient_split
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics.label_quality import OPACITY, OPACITY_WIDE, label_columns, rsna_films
from chexlib.metrics.unions import any_of, no_finding

if TYPE_CHECKING:
    from pathlib import Path

LICENCE = (
    "figures CC BY 4.0; inputs: predictions BSD-3-Clause, NIH free use with attribution, Google "
    "and RSNA as published"
)
SOURCE = (
    "predictions of jrzech/reproduce-chexnet (retrained 2022); NIH ChestX-ray14 label table of "
    "2020 and official split lists; Google adjudicated labels (Majkowska et al., 2020); RSNA "
    "pneumonia labels of 2018 (Shih et al., 2019), matched to NIH films by the torchxrayvision "
    "authors"
)

UNIONS = {
    "Nodule or mass": "Mass|Nodule",
    "Airspace opacity": OPACITY,
    "Airspace opacity (wide)": OPACITY_WIDE,
    "Lung opacity": OPACITY,
    "Lung opacity (wide)": OPACITY_WIDE,
}
"""Findings that are unions of NIH labels. The mappings are this project's, not the readers'."""

SHARED = (*FINDINGS, NO_FINDING, "Nodule or mass", "Airspace opacity", "Airspace opacity (wide)")
GOOGLE = ("Pneumothorax", "Nodule or mass", "Airspace opacity", "Airspace opacity (wide)")
RSNA = ("Lung opacity", "Lung opacity (wide)")
_GOOGLE_READ = {"Pneumothorax": "pneumothorax", "Nodule or mass": "nodule_or_mass"}


def predictions_file() -> Path:
    """Return where the reference model's predictions are."""
    return data_home() / "reference_predictions" / "preds.csv"


def inputs() -> list[Path]:
    """Return the files that every table here is computed from."""
    return [
        predictions_file(),
        data_home() / "official_split" / "test_list.txt",
        data_home() / "rsna" / "rsna_to_nih.csv",
        package_file("torchxrayvision", "data", "Data_Entry_2017_v2020.csv.gz"),
        package_file("torchxrayvision", "data", "google2019_nih-chest-xray-labels.csv.gz"),
        package_file("torchxrayvision", "data", "kaggle_stage_2_train_labels.csv.zip"),
    ]


@dataclass(frozen=True)
class Films:
    """Films of one subset, with one label source and the model's scores.

    Attributes
    ----------
    frame : DataFrame [N]
        ``image patient age sex view half``.
    labels, scores : DataFrame [N, F]
        Columns are names of findings and unions.
    source, subset : str
    """

    frame: pd.DataFrame
    labels: pd.DataFrame
    scores: pd.DataFrame
    source: str
    subset: str

    @property
    def patient(self) -> np.ndarray:
        """Patient of each film."""
        return self.frame["patient"].to_numpy()


@cache
def shared_films() -> pd.DataFrame:
    """Return NIH's rows of the 22,433 films, with ``official`` and ``half``.

    ``official`` says whether the film is in NIH's official test set. ``half`` is ``choose`` or
    ``report``: patients split in two once, alike in their findings, for choosing a threshold and
    for reporting what it does.
    """
    path = predictions_file()
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the reference model's predictions at {path}, found none. Run `chexlib fetch "
            "predictions`, or set CHEXLIB_DATA to the folder that has reference_predictions/."
        )
    labels = load_labels()
    films = labels[labels["image"].isin(model_scores().index)].reset_index(drop=True)
    films["official"] = (official_split(films) == "test").to_numpy()
    films["half"] = patient_split(films, fractions={"choose": 0.5, "report": 0.5}, seed=0)
    return films


@cache
def model_scores() -> pd.DataFrame:
    """Return the model's probabilities: index image, 14 columns."""
    return read_predictions(predictions_file()).set_index("image")[list(FINDINGS)]


def score(name: str, images: pd.Series) -> np.ndarray:
    """Return the model's score of a finding, of a union, or of No Finding for some films."""
    p = model_scores().loc[images]
    if name in FINDINGS:
        return p[name].to_numpy()
    return no_finding(p) if name == NO_FINDING else any_of(p[UNIONS[name].split("|")])


def text_label(name: str, films: pd.DataFrame) -> np.ndarray:
    """Return whether NIH's text mining gives the films a finding or one of a union."""
    return label_columns(films, UNIONS.get(name, name))


def google_films(subset: str = "google_all") -> pd.DataFrame:
    """Return the films that Google's radiologists read, all or those of its test set."""
    reads = load_adjudicated().drop(columns="patient")
    films = shared_films().merge(reads, on="image", validate="one_to_one")
    return films if subset == "google_all" else films[films["subset"] == "test"]


def google_label(name: str, films: pd.DataFrame) -> np.ndarray:
    """Return whether Google's radiologists saw a finding."""
    return films[_GOOGLE_READ.get(name, "airspace_opacity")].to_numpy()


def rsna_read_films(*, without: pd.Series | tuple = ()) -> pd.DataFrame:
    """Return the films that RSNA's radiologists read, soundly matched, without some patients.

    ``weight`` is the inverse of the fraction of these patients' films in the shared test set that
    RSNA read, by what RSNA's sampling depended on.
    """
    films = shared_films()
    return rsna_films(films[~films["patient"].isin(without)], load_rsna())


@cache
def every_subset() -> list[Films]:
    """Return each label source on each of its subsets."""
    films = shared_films()
    found = [
        _films(films, SHARED, "nih_text", "shared_test"),
        _films(films[films["official"]], SHARED, "nih_text", "official_in_shared"),
        _films(films[~films["official"]], SHARED, "nih_text", "rest_of_shared"),
    ]
    for subset in ("google_all", "google_test"):
        read = google_films(subset)
        found += [_films(read, GOOGLE, source, subset) for source in ("nih_text", "google")]
    read = rsna_read_films()
    return found + [_films(read, RSNA, source, "rsna") for source in ("nih_text", "rsna")]


def _films(films: pd.DataFrame, names: tuple[str, ...], source: str, subset: str) -> Films:
    label = {
        "nih_text": text_label,
        "google": google_label,
        "rsna": lambda _, films: films["target"].to_numpy(),
    }[source]
    return Films(
        frame=films[["image", "patient", "age", "sex", "view", "half"]].reset_index(drop=True),
        labels=pd.DataFrame({name: label(name, films) for name in names}),
        scores=pd.DataFrame({name: score(name, films["image"]) for name in names}),
        source=source,
        subset=subset,
    )
