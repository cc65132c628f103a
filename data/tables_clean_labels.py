"""Tables of chapter 8: one model judged by text labels and by radiologists, on the same films.

Paired statistics need each film's score, labels and patient, so they are computed here and shipped
as figures. Intervals are of 95% and by patient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import tables_clean_subgroups
from judged_films import Judged, judged, provenance
from reference_films import UNIONS, google_films, rsna_read_films, shared_films

from chexlib.data import load_labels, load_rsna
from chexlib.metrics.comparison import compare_labels, compare_with_reader, holm
from chexlib.metrics.curves import auroc, roc
from chexlib.metrics.delong import delong
from chexlib.metrics.label_quality import ANY_FINDING
from chexlib.metrics.resampling import Resamples, resampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2000
OF_EXAMS = 10_000  # so that Holm's factor of four leaves p < 0.001 within reach
GRID = np.linspace(0, 1, 51)
PANEL = np.arange(100, 34, -1) / 100
OTHER_MAPPINGS = {
    "Nodule or mass": ("Mass", "Nodule", ANY_FINDING),
    "Airspace opacity": (
        *("Consolidation", "Infiltration", "Pneumonia"),
        *(UNIONS["Airspace opacity (wide)"], ANY_FINDING),
    ),
}
OTHER_MAPPINGS["Lung opacity"] = OTHER_MAPPINGS["Airspace opacity"]
"""Other NIH labels that a finding's score is held against: no choice of words should decide."""


def clean_films() -> tuple[pd.DataFrame, dict[str, Any]]:
    """How many films and patients each step leaves."""
    films, google, rsna = shared_films(), google_films(), rsna_read_films()
    labels, reads = load_labels(), load_rsna()
    reads = reads.assign(twice=reads["image"].duplicated(keep=False)).merge(
        films[["image", "patient"]], on="image"
    )
    among = google[google["patient"].isin(rsna["patient"])]
    steps = {
        "scored by the model": films,
        "of these patients, in NIH's table": labels[labels["patient"].isin(films["patient"])],
        "in NIH's official test set": films[films["official"]],
        "read by Google's radiologists": google,
        "of these, Google's validation set": google[google["subset"] == "val"],
        "of these, Google's test set": google[google["subset"] == "test"],
        "matched with an RSNA film": reads,
        "left out: matched twice": reads[reads["twice"]],
        "left out: pixel error above 50": reads[~reads["twice"] & (reads["pixel_mse"] > 50)],
        "read by RSNA's radiologists": rsna,
        "read by both": google[google["image"].isin(rsna["image"])],
        "Google's, of patients who are among RSNA's": among,
        "Google's with airspace opacity": google[google["airspace_opacity"]],
        "of these, of patients who are among RSNA's": among[among["airspace_opacity"]],
        "RSNA's, without Google's patients": rsna[~rsna["patient"].isin(google["patient"])],
    }
    rows = [(name, len(part), part["patient"].nunique()) for name, part in steps.items()]
    columns = ["films", "n_images", "n_patients"]
    return pd.DataFrame(rows, columns=columns), provenance("rows matched twice are counted twice")


def clean_labels() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Paired comparisons: text labels against radiologists, and the model against text labels."""
    rows = []
    for films in judged():
        rows.append(_auroc_row(films))
        mappings = (films.mapping, *OTHER_MAPPINGS.get(films.finding, ()))
        rows += [_reader_row(films, label) for label in mappings]
    table = pd.DataFrame(rows)
    for _, family in table[table["main"]].groupby("comparison"):
        table.loc[family.index, "p_adjusted"] = holm(family["p"])
    note = (
        "auroc: first is the model's against the radiologists, second against the text labels of "
        "the same films; sensitivity: first is the model's, second the text label's, both judged "
        "by the radiologists, at the label's false-positive rate; intervals of 95% by patient; "
        "n_... count before weighting; p and interval from one distribution; p_adjusted: "
        "adjusted for the four main comparisons of a kind"
    )
    return table, provenance(note)


def clean_errors() -> tuple[pd.DataFrame, dict[str, Any]]:
    """AUROC of the score for the text label, among films that radiologists call alike."""
    rows = []
    for films in judged():
        text, patient = films.text(), films.patient
        where = films.where | {"main": films.main}

        def counts(kind: NDArray, text: NDArray = text, patient: NDArray = patient) -> dict:
            return {
                "n_images": kind.sum(),
                "n_patients": len(np.unique(patient[kind])),
                "n_labelled": text[kind].sum(),
                "n_labelled_patients": len(np.unique(patient[kind & text])),
            }

        for name, kind in (("no", ~films.truth), ("yes", films.truth)):
            weight = None if films.weight is None else films.weight[kind]
            y, s = text[kind], films.score[kind]
            one = delong(y, s, patient=patient[kind], sample_weight=weight).estimates()[0]
            figures = {"auroc": one.estimate, "low": one.low, "high": one.high}
            among = {"films": f"radiologists say {name}"} | counts(kind)
            rows.append(where | among | figures | {"method": one.method})
        draws = Resamples(patient, resamples=RESAMPLES, seed=0)
        both = np.stack([films.truth, text], axis=1)
        found = resampled(_auroc_and_expected, both, films.score, draws, sample_weight=films.weight)
        for k, name in enumerate(("seen", "expected if errors were random", "excess")):
            low, high = (ends[k] for ends in found.interval())
            figures = {"auroc": found.estimate[k], "low": low, "high": high}
            among = {"films": name} | counts(np.ones(len(text), dtype=bool))
            method = {"method": f"bootstrap by patient, {RESAMPLES} resamples"}
            rows.append(where | among | figures | method)
    note = (
        "AUROC of the score for the text label, among the films named; expected: 0.5 + (PPV + NPV "
        "- 1) (AUROC against radiologists - 0.5), of a label whose errors do not depend on the "
        "score; excess: seen less expected; intervals of 95% by patient; n_labelled: with the label"
    )
    return pd.DataFrame(rows), provenance(note)


def clean_panel() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Compute what errors at random would give, had the radiologists missed a share."""
    tables = []
    for films in judged():
        if not films.main:
            continue
        draws = Resamples(films.patient, resamples=RESAMPLES, seed=0)
        both = np.stack([films.truth, films.text()], axis=1)
        found = resampled(_excess_and_seen, both, films.score, draws, sample_weight=films.weight)
        low, high = found.interval()
        ends = {"excess": found.estimate, "low": low, "high": high}
        columns = {
            "panel_sensitivity": PANEL,
            "seen": found.estimate[-1],
            "expected": found.estimate[-1] - found.estimate[:-1],
            **{name: values[:-1] for name, values in ends.items()},
        }
        table = pd.DataFrame(films.where | columns)
        weight = np.ones(len(films.truth)) if films.weight is None else films.weight
        share = weight @ films.truth / weight.sum()
        tables.append(table[share < PANEL])  # fewer missed than there are
    note = (
        "AUROC of the score for the text label among films that radiologists call negative; "
        "expected: if the label's errors depend on the truth alone, and the radiologists call no "
        "film wrongly positive and miss a share of the positive ones, whichever; excess: seen less "
        f"expected; intervals of 95%, bootstrap by patient, {RESAMPLES} resamples"
    )
    return pd.concat(tables, ignore_index=True), provenance(note)


def among_negatives(
    panel_sensitivity: ArrayLike,
    *,
    area: float,
    positive: float,
    label_sensitivity: float,
    label_share: float,
) -> NDArray[np.float64]:
    """Return the AUROC for a label, among films a panel calls negative, of errors at random.

    The panel calls no film wrongly positive and misses a share of the positive films, whichever.
    The label's errors depend on the truth alone. Then it is that of the truth among these films,
    shrunk as Menon et al. (2015) say.

    Parameters
    ----------
    panel_sensitivity : array_like
        Above 0 to 1.
    area : float
        AUROC of the score against the panel.
    positive : float
        Share of films that the panel calls positive.
    label_sensitivity, label_share : float
        Share with the label, of films that the panel calls positive and negative.

    Returns
    -------
    ndarray
        0.5 to 1. Where more films were missed than there are, one half: none is truly negative.
    """
    sensitivity = np.asarray(panel_sensitivity, dtype=float)
    missed = np.minimum(positive * (1 - sensitivity) / sensitivity / (1 - positive), 1)
    # Missed films score like found ones, so that against the truth the score does better.
    with np.errstate(divide="ignore", invalid="ignore"):
        truth = np.where(missed < 1, np.minimum((area - missed / 2) / (1 - missed), 1), 0.5)
    labelled = np.minimum(missed * label_sensitivity / label_share, 1)
    unlabelled = np.minimum(missed * (1 - label_sensitivity) / (1 - label_share), 1)
    return 0.5 + (labelled - unlabelled) * (truth - 0.5)


def _excess_and_seen(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return what is seen beyond what is expected, for each panel, and what is seen."""
    truth, text = np.asarray(labels).T
    weight = np.ones(len(truth)) if sample_weight is None else np.asarray(sample_weight, float)
    expected = among_negatives(
        PANEL,
        area=auroc(truth, scores, sample_weight=weight),
        positive=weight @ truth / weight.sum(),
        label_sensitivity=weight @ (truth & text) / (weight @ truth),
        label_share=weight @ (text & ~truth) / (weight @ ~truth),
    )
    no = ~truth
    seen = auroc(text[no], np.asarray(scores)[no], sample_weight=weight[no])
    return np.append(seen - expected, seen)


def clean_curves() -> tuple[pd.DataFrame, dict[str, Any]]:
    """ROC curves against radiologists and against text labels, with bands."""
    tables = []
    for films in judged():
        if not films.main:
            continue
        draws = Resamples(films.patient, resamples=1000, seed=0)
        for source, label in (("radiologists", films.truth), ("text labels", films.text())):
            found = resampled(_sensitivities, label, films.score, draws, sample_weight=films.weight)
            low, high = found.interval(fixed=True)  # both ends of a curve are known
            columns = {"x": GRID, "y": found.estimate, "low": low, "high": high}
            tables.append(pd.DataFrame(films.where | {"judge": source} | columns).round(5))
    note = (
        "x: false-positive rate; y: sensitivity; bands of 95%, point by point; bootstrap by "
        "patient, 1000 resamples"
    )
    return pd.concat(tables, ignore_index=True), provenance(note)


def published_f1() -> tuple[pd.DataFrame, dict[str, Any]]:
    """F1 of four radiologists and of CheXNet on 420 films, as published."""
    rows = [
        ("Radiologist 1", 0.383, 0.309, 0.453),
        ("Radiologist 2", 0.356, 0.282, 0.428),
        ("Radiologist 3", 0.365, 0.291, 0.435),
        ("Radiologist 4", 0.442, 0.390, 0.492),
        ("Radiologists' average", 0.387, 0.330, 0.442),
        ("CheXNet", 0.435, 0.387, 0.481),
        ("Difference", 0.051, 0.005, 0.084),
    ]
    return pd.DataFrame(rows, columns=["reader", "f1", "low", "high"]), {
        "source": "Rajpurkar et al., arXiv:1711.05225v3 (rajpurkar2017 in book/references.bib)",
        "licence": "figures quoted",
        "inputs": [],
        "note": "pneumonia, 420 films; each reader scored against every other in turn",
    }


def _auroc_row(films: Judged) -> dict[str, Any]:
    text = films.text()
    options = {"patient": films.patient, "sample_weight": films.weight}
    gap = compare_labels(films.truth, text, films.score, **options)
    one, other = delong(np.stack([films.truth, text], axis=1), films.score, **options).estimates()
    return {
        "comparison": "auroc",
        **films.where,
        **{"label": films.mapping, "main": films.main},
        **films.counts(text),
        **{"first": gap.first, "first_low": one.low, "first_high": one.high},
        **{"second": gap.second, "second_low": other.low, "second_high": other.high},
        **{"difference": gap.difference, "low": gap.low, "high": gap.high},
        **{"p": gap.p_value, "method": gap.method},
    }


def _reader_row(films: Judged, label: str) -> dict[str, Any]:
    text = films.text(label)
    found = compare_with_reader(
        films.truth,
        films.score,
        text,
        patient=films.patient,
        sample_weight=films.weight,
        resamples=OF_EXAMS,
    )
    return {
        "comparison": "sensitivity",
        **films.where,
        **{"label": label, "main": films.main and label == films.mapping},
        **films.counts(text),
        **{"first": found.first, "second": found.second},
        **{"difference": found.difference, "low": found.low, "high": found.high},
        **{"p": found.p_value, "method": found.method},
    }


def _auroc_and_expected(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return AUROC for the text label, what random errors would leave of it, and the excess."""
    truth, text = np.asarray(labels).T
    weight = np.ones(len(truth)) if sample_weight is None else np.asarray(sample_weight, float)
    ppv = weight @ (truth & text) / (weight @ text)
    npv = weight @ ~(truth | text) / (weight @ ~text)
    against = [auroc(y, scores, sample_weight=weight) for y in (truth, text)]
    expected = 0.5 + (ppv + npv - 1) * (against[0] - 0.5)
    return np.array([against[1], expected, against[1] - expected])


def _sensitivities(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> NDArray[np.float64]:
    return roc(labels, scores, sample_weight=sample_weight).at_false_positive_rate(GRID)


TABLES: dict[str, Callable[[], tuple[pd.DataFrame, dict[str, Any]]]] = {
    "clean_films": clean_films,
    "clean_labels": clean_labels,
    "clean_errors": clean_errors,
    "clean_panel": clean_panel,
    "clean_curves": clean_curves,
    "published_f1": published_f1,
} | tables_clean_subgroups.TABLES
