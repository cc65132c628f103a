"""The films that the reference model scored, with every label set there is for them.

Each label source on each of its subsets is one :class:`Films`; each finding on each set of films
that radiologists read for it, beside NIH's text label, one :class:`Judged`.

The model is a public reproduction of CheXNet (jrzech/reproduce-chexnet); the films are the 22,433
of its test set, whole patients drawn at random, on which two other public reproductions tested too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from builders import GOOGLE, LABELS, RSNA, fetched, votes_of_five
from numpy.typing import NDArray

from chexlib.data import (
    load_adjudicated,
    load_chestx_det,
    load_labels,
    load_rsna,
    read_predictions,
)
from chexlib.data.splits import official_split, patient_split
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.metrics import any_of, no_finding
from figures.label_quality import OPACITY, OPACITY_WIDE, label_columns, rsna_films

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

READ_BY_GOOGLE = ("Pneumothorax", "Nodule or mass", "Airspace opacity", "Airspace opacity (wide)")
READ_BY_RSNA = ("Lung opacity", "Lung opacity (wide)")
SHARED = (*FINDINGS, NO_FINDING, *READ_BY_GOOGLE[1:])
RAW, WEIGHTED = "none", "inverse sampling fraction"
READ_BY = {
    ("google_all", RAW): "Google, all films",
    ("google_test", RAW): "Google, test set",
    ("rsna", RAW): "RSNA, as sampled",
    ("rsna", WEIGHTED): "RSNA, weighted",
    ("rsna_outside", WEIGHTED): "RSNA, without Google's patients",
    ("google_labelled", RAW): "Google, films with a label",
    ("five_readers", RAW): "five readers, three votes",
    ("five_readers_two", RAW): "five readers, two votes",
    ("five_readers_labelled", RAW): "five readers, films with a label",
    ("chestx_det", RAW): "ChestX-Det",
}
"""Whose reads of which films, and whether weighted, in words."""
MAIN = {("google_all", RAW), ("rsna", WEIGHTED), ("five_readers", RAW), ("chestx_det", RAW)}
"""The main analysis of each reference: all films read, weighted if sampled by label."""
FEWEST = 20  # films on which readers see a finding, for an AUROC of it
_GOOGLE_READ = {"Pneumothorax": "pneumothorax", "Nodule or mass": "nodule_or_mass"}


def provenance(note: str, **more: str) -> dict[str, Any]:
    """Return what every table of figures on these films says of where it comes from."""
    files = (
        fetched("reference_predictions", "preds.csv"),
        fetched("official_split", "test_list.txt"),
        fetched("rsna", "rsna_to_nih.csv"),
    )
    inputs = [*files, LABELS, GOOGLE, RSNA]
    return {"source": SOURCE, "licence": LICENCE, "inputs": inputs, "note": note, **more}


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
    labels = load_labels()
    films = labels[labels["image"].isin(model_scores().index)].reset_index(drop=True)
    films["official"] = (official_split(films) == "test").to_numpy()
    films["half"] = patient_split(films, fractions={"choose": 0.5, "report": 0.5}, seed=0)
    return films


@cache
def model_scores() -> pd.DataFrame:
    """Return the model's probabilities: index image, 14 columns."""
    path = fetched("reference_predictions", "preds.csv")
    if not path.is_file():
        raise FileNotFoundError(
            f"Expected the reference model's predictions at {path}, found none. Run `chexlib fetch "
            "predictions`, or set CHEXLIB_DATA to the folder that has reference_predictions/."
        )
    return read_predictions(path).set_index("image")[list(FINDINGS)]


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
        found += [_films(read, READ_BY_GOOGLE, source, subset) for source in ("nih_text", "google")]
    read = rsna_read_films()
    return found + [_films(read, READ_BY_RSNA, source, "rsna") for source in ("nih_text", "rsna")]


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


@dataclass(frozen=True, eq=False)
class Judged:
    """Films that radiologists read for one finding, with the model's score of it.

    ``truth`` is what the radiologists say; ``finding`` names the score (1 - prod(1 - p) of its
    parts); ``frame`` has NIH's labels.
    """

    finding: str
    reference: str
    subset: str
    weighting: str
    frame: pd.DataFrame
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]

    @property
    def main(self) -> bool:
        """Whether this is a main analysis (:data:`MAIN`), by the narrow mapping."""
        return (self.subset, self.weighting) in MAIN and "wide" not in self.finding

    @property
    def mapping(self) -> str:
        """NIH's labels that stand for the finding, joined by ``|``."""
        return UNIONS.get(self.finding, self.finding)

    @property
    def patient(self) -> NDArray:
        """Patient of each film."""
        return self.frame["patient"].to_numpy()

    @property
    def weight(self) -> NDArray[np.float64] | None:
        """Sampling weights, or None."""
        return self.frame["weight"].to_numpy() if self.weighting == WEIGHTED else None

    @property
    def where(self) -> dict[str, str]:
        """What a row says of where it comes from."""
        names = ("finding", "reference", "subset", "weighting")
        read_by = READ_BY[self.subset, self.weighting]
        return {name: getattr(self, name) for name in names} | {"read_by": read_by}

    @property
    def weighted(self) -> NDArray[np.float64]:
        """Sampling weights, 1 where the films were not sampled."""
        return np.ones(len(self.truth)) if self.weight is None else self.weight

    def text(self, label: str | None = None) -> NDArray[np.bool_]:
        """Return NIH's label by a mapping, by default the finding's own."""
        return label_columns(self.frame, label or self.mapping)

    def counts(self, text: NDArray[np.bool_]) -> dict[str, Any]:
        """Return how many films and patients stand behind a row, and the text label's false alarms.

        Films are counted unweighted; the false-positive rate is weighted.
        """
        weight = self.weighted
        return {
            "n_images": len(text),
            "n_patients": len(np.unique(self.patient)),
            "n_positive": self.truth.sum(),
            "n_positive_patients": len(np.unique(self.patient[self.truth])),
            "n_labelled": text.sum(),
            "n_both": (self.truth & text).sum(),
            "false_positive_rate": weight @ (text & ~self.truth) / (weight @ ~self.truth),
        }


def judged() -> Iterator[Judged]:
    """Yield every finding on every set of films that radiologists read for it."""
    for subset in ("google_all", "google_test"):
        films = google_films(subset)
        for name in READ_BY_GOOGLE:
            truth, scores = google_label(name, films), score(name, films["image"])
            yield Judged(name, "google", subset, RAW, films, truth, scores)
    films = rsna_read_films()
    for weighting in (RAW, WEIGHTED):
        for name in READ_BY_RSNA:
            truth, scores = films["target"].to_numpy(), score(name, films["image"])
            yield Judged(name, "rsna", "rsna", weighting, films, truth, scores)
    # Google's patients are mostly among RSNA's: what both say is said twice only by the others.
    films = rsna_read_films(without=google_films()["patient"])
    truth, scores = films["target"].to_numpy(), score(READ_BY_RSNA[0], films["image"])
    yield Judged(READ_BY_RSNA[0], "rsna", "rsna_outside", WEIGHTED, films, truth, scores)


def judged_by_finding() -> Iterator[Judged]:
    """Yield what five readers and ChestX-Det's say of NIH's findings, by NIH's own names.

    With each finding of at least :data:`FEWEST` positive films: the majority of the five, two votes
    of five, and ChestX-Det's readers. Then films with one of the 14 labels only, since ChestX-Det
    has no others: of the five readers, and of Google's.
    """
    votes = shared_films().merge(votes_of_five().add_prefix("votes_"), on="image")
    drawn = load_chestx_det().drop(columns="patient").rename(columns="drawn_{}".format)
    drawn = shared_films().merge(drawn, left_on="image", right_on="drawn_image")
    found = []
    for name in FINDINGS:
        score_of = score(name, votes["image"])
        for subset, enough in (("five_readers", 3), ("five_readers_two", 2)):
            truth = (votes[f"votes_{name}"] >= enough).to_numpy()
            found.append(Judged(name, "five_readers", subset, RAW, votes, truth, score_of))
        if f"drawn_{name}" in drawn:
            truth, scores = drawn[f"drawn_{name}"].to_numpy(), score(name, drawn["image"])
            found.append(Judged(name, "chestx_det", "chestx_det", RAW, drawn, truth, scores))
    google = (one for one in judged() if one.reference == "google")
    for one in [*found, *google]:
        if one.main and one.reference != "chestx_det":
            has = ~one.frame["no_finding"].to_numpy()
            subset = one.subset.removesuffix("_all") + "_labelled"
            part = one.frame[has].reset_index(drop=True), one.truth[has], one.score[has]
            parts = dict(zip(("frame", "truth", "score"), part, strict=True))
            found.append(replace(one, subset=subset, **parts))
    yield from (one for one in found if one.truth.sum() >= FEWEST)
