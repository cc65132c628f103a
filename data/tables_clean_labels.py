"""Tables of chapter 10: one model judged by text labels and by radiologists, on the same films.

Paired statistics need each film's score, labels and patient, so they are computed here and shipped
as figures. Intervals are of 95% and by patient.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from builders import CHESTX_DET, FIVE, Built, builds, named, quoted
from numpy.typing import ArrayLike, NDArray
from reference_films import (
    FEWEST,
    UNIONS,
    Judged,
    google_films,
    judged,
    judged_by_finding,
    provenance,
    rsna_read_films,
    shared_films,
)

from chexlib.data import load_labels, load_rsna
from chexlib.metrics import (
    Resamples,
    auroc,
    compare_labels,
    compare_with_reader,
    delong,
    holm,
    resampled,
    roc,
)
from figures.label_quality import ANY_FINDING

RESAMPLES = 2000
OF_EXAMS = 10_000  # so that Holm's factor of four leaves p < 0.001 within reach
WHO = ("five_readers", "chestx_det")
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
PAIRED = (
    "estimate: first less second; auroc: first is the model's against the radiologists, second "
    "against the text labels of the same films; sensitivity: first is the model's, second the "
    "text label's, both judged by the radiologists, at the label's false-positive rate; "
    "intervals of 95% by patient; n_... count before weighting; p and interval from one "
    "distribution; p_adjusted: adjusted for the"
)
ERRORS = (
    "estimate: AUROC of the score for the text label, among the films named; expected: 0.5 + "
    "(PPV + NPV - 1) (AUROC against radiologists - 0.5), of a label whose errors do not depend "
    "on the score; excess: seen less expected; intervals of 95% by patient; n_labelled: with "
    "the label"
)


@builds("clean_films")
def clean_films() -> Built:
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


@builds("clean_labels")
def clean_labels() -> Built:
    """Paired comparisons: text labels against radiologists, and the model against text labels."""
    note = f"{PAIRED} four main comparisons of a kind"
    return _compared(judged(), ["comparison"]), provenance(note)


@builds("clean_readers")
def clean_readers() -> Built:
    """Repeat the comparisons by NIH's own findings: five readers, and ChestX-Det's."""
    by_finding = list(judged_by_finding())
    table = _compared(by_finding, ["comparison", "reference"])
    main = {who: [one for one in by_finding if one.main and one.reference == who] for who in WHO}
    means = [_mean(main[who]) for who in WHO]
    others = [one for one in main["chestx_det"] if one.finding != "Emphysema"]
    means.append(_mean(others) | {"finding": "mean without Emphysema"})
    note = (
        f"{PAIRED} main comparisons of a kind and a reference; findings with at least {FEWEST} "
        "films that the readers call positive; mean: of the main findings of a reference; films "
        "with a label: with any of NIH's 14"
    )
    return pd.concat([table, pd.DataFrame(means)], ignore_index=True), _read_again(note)


def _read_again(note: str) -> dict[str, Any]:
    """Return the provenance of tables that take the five readers and ChestX-Det in."""
    about = provenance(note)
    about["inputs"] += [FIVE, *CHESTX_DET]
    about["source"] += (
        "; single reads of five radiologists (Nabulsi et al., 2021; Google); ChestX-Det "
        "(Apache-2.0), joined by the names in ChestX-Det10's first upload"
    )
    return about


def _mean(parts: list[Judged]) -> dict[str, Any]:
    """Return the row of the mean AUROC of findings that were judged on the same films."""
    first, n = parts[0], len(parts)
    labels = np.stack([*(one.truth for one in parts), *(one.text() for one in parts)], axis=1)
    scores = np.stack([one.score for one in parts] * 2, axis=1)
    found = delong(labels, scores, patient=first.patient)
    by_readers = np.repeat([1 / n, 0], n)
    sides = [found.contrast(one) for one in (by_readers, by_readers[::-1])]
    gap = found.contrast(by_readers - by_readers[::-1])
    values = zip(("first", "second"), sides, strict=True)
    row = {"comparison": "auroc", **first.where, "finding": "mean", "main": False}
    row |= {"n_images": len(labels), "n_patients": len(np.unique(first.patient))}
    for name, one in values:
        row |= named(name, one.estimate, one.low, one.high)
    row |= {"estimate": gap.estimate, "low": gap.low, "high": gap.high}
    return row | {"p": gap.p_value, "method": gap.method}


def _compared(every: Iterable[Judged], family: list[str]) -> pd.DataFrame:
    rows = []
    for films in every:
        options = {"patient": films.patient, "sample_weight": films.weight}
        text, truth, score = films.text(), films.truth, films.score
        gap = compare_labels(truth, text, score, **options)
        each = delong(np.stack([truth, text], axis=1), score, **options).estimates()
        rows.append(_row("auroc", films, films.mapping, gap, [(e.low, e.high) for e in each]))
        mappings = (films.mapping, *OTHER_MAPPINGS.get(films.finding, ()))
        if films.subset.endswith("_labelled"):
            mappings = ()  # these films say what leaving the others out does to an AUROC
        for label in mappings:
            reader = films.text(label)
            found = compare_with_reader(truth, score, reader, resamples=OF_EXAMS, **options)
            rows.append(_row("sensitivity", films, label, found, [(np.nan, np.nan)] * 2))
    table = pd.DataFrame(rows)
    for _, part in table[table["main"]].groupby(family):
        table.loc[part.index, "p_adjusted"] = holm(part["p"])
    return table


@builds("clean_errors")
def clean_errors() -> Built:
    """AUROC of the score for the text label, among films that radiologists call alike."""
    return _errors(judged()), provenance(ERRORS)


@builds("clean_reader_errors")
def clean_reader_errors() -> Built:
    """Repeat it by NIH's own findings: five readers, and ChestX-Det's."""
    return _errors(one for one in judged_by_finding() if one.main), _read_again(ERRORS)


def _errors(every: Iterable[Judged]) -> pd.DataFrame:
    rows = []
    for films in every:
        text, truth, patient = films.text(), films.truth, films.patient
        among = {}
        for name, kind in (("no", ~truth), ("yes", truth)):
            weight = None if films.weight is None else films.weight[kind]
            options = {"patient": patient[kind], "sample_weight": weight}
            one = delong(text[kind], films.score[kind], **options).estimates()[0]
            figures = one.estimate, one.low, one.high, one.method
            among[f"radiologists say {name}"] = kind, *figures
        draws = Resamples(patient, resamples=RESAMPLES, seed=0)
        both, every = np.stack([truth, text], axis=1), np.ones(len(text), dtype=bool)
        found = resampled(_auroc_and_expected, both, films.score, draws, sample_weight=films.weight)
        names = ("seen", "expected if errors were random", "excess")
        for name, *figures in zip(names, found.estimate, *found.interval(), strict=True):
            among[name] = every, *figures, f"bootstrap by patient, {RESAMPLES} resamples"
        for name, (kind, *figures) in among.items():
            n = kind.sum(), len(np.unique(patient[kind]))
            n += text[kind].sum(), len(np.unique(patient[kind & text]))
            rows.append((*films.where.values(), films.main, name, *n, *figures))
    columns = [*films.where, "main", "films", "n_images", "n_patients", "n_labelled"]
    columns += ["n_labelled_patients", "estimate", "low", "high", "method"]
    return pd.DataFrame(rows, columns=columns)


@builds("clean_panel")
def clean_panel() -> Built:
    """Compute what errors at random would give, had the radiologists missed a share."""
    tables = []
    for films in judged():
        if not films.main:
            continue
        draws = Resamples(films.patient, resamples=RESAMPLES, seed=0)
        both = np.stack([films.truth, films.text()], axis=1)
        found = resampled(_excess_and_seen, both, films.score, draws, sample_weight=films.weight)
        columns = {"panel_sensitivity": PANEL, "seen": found.estimate[-1]}
        columns["expected"] = found.estimate[-1] - found.estimate[:-1]
        columns |= named("excess", *(part[:-1] for part in (found.estimate, *found.interval())))
        table = pd.DataFrame(films.where | columns)
        share = films.weighted @ films.truth / films.weighted.sum()
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


@builds("clean_curves")
def clean_curves() -> Built:
    """ROC curves against radiologists and against text labels, with bands."""
    tables = []
    for films in judged():
        if not films.main:
            continue
        draws = Resamples(films.patient, resamples=1000, seed=0)
        for source, label in (("radiologists", films.truth), ("text labels", films.text())):
            found = resampled(_sensitivities, label, films.score, draws, sample_weight=films.weight)
            low, high = found.interval(fixed=True)  # both ends of a curve are known
            columns = {"x": GRID, "estimate": found.estimate, "low": low, "high": high}
            tables.append(pd.DataFrame(films.where | {"judge": source} | columns).round(5))
    note = (
        "x: false-positive rate; estimate: sensitivity; bands of 95%, point by point; bootstrap by "
        "patient, 1000 resamples"
    )
    return pd.concat(tables, ignore_index=True), provenance(note)


@builds("published_f1")
def published_f1() -> Built:
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
    columns = ["reader", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=columns), quoted(
        "Rajpurkar et al., arXiv:1711.05225v3 (rajpurkar2017 in book/references.bib)",
        note="estimate: F1; pneumonia, 420 films; each reader scored against every other in turn",
    )


def _row(kind: str, films: Judged, label: str, found: Any, ends: list) -> dict[str, Any]:
    return {
        "comparison": kind,
        **films.where,
        "label": label,
        "main": films.main and label == films.mapping,
        **films.counts(films.text(label)),
        **named("first", found.first, *ends[0]),
        **named("second", found.second, *ends[1]),
        **{"estimate": found.difference, "low": found.low, "high": found.high},
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
