"""How good are ChestX-ray14's text-mined labels? Three kinds of evidence, one table of figures.

Google's adjudication and RSNA's radiologists read some of the films again; films of one patient
speak about one another. Each function returns rows of the same columns (:data:`COLUMNS`), so the
three can be stacked, stored (``data/label_quality.csv``) and laid out for reading
(:func:`chexlib.text.layout`).

A mapping says which NIH labels are held against which read. None is official: NIH's 14 words and
the readers' words differ, so mappings are stated here and varied in the figures.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.findings import FINDINGS, INFO
from chexlib.metrics import (
    Estimate,
    assess,
    expected_persistence,
    film_pairs,
    persistence,
    share,
    shuffled_persistence,
    simulate_chronic,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS = (
    *("evidence", "finding", "label", "reference", "subset", "statistic"),
    *("k", "n", "estimate", "low", "high", "method"),
)

ANY_FINDING = "any of the 14"
OPACITY = "Consolidation|Infiltration|Pneumonia"
OPACITY_WIDE = "Atelectasis|Consolidation|Edema|Infiltration|Pneumonia"
_OPACITIES = (OPACITY, "Consolidation", "Infiltration", "Pneumonia", OPACITY_WIDE)

GOOGLE_READS = {
    "Pneumothorax": ("pneumothorax", ("Pneumothorax",)),
    "Nodule or mass": ("nodule_or_mass", ("Mass|Nodule", "Mass", "Nodule")),
    "Airspace opacity": ("airspace_opacity", _OPACITIES),
}
"""Google's reads that NIH has labels for: (column of the adjudicated table, mappings tried)."""

RSNA_STRATA = (OPACITY, "No Finding", "the rest")
"""What RSNA's sampling of the NIH films depended on, by NIH label."""

WORST_MATCH = 50.0
"""Mean squared difference of two 8-bit images above which they are not taken for one film."""


def label_columns(labels: pd.DataFrame, name: str) -> np.ndarray:
    """Return whether each film has a label, or one of several joined by ``|``.

    Parameters
    ----------
    labels : DataFrame
        From :func:`chexlib.data.load_labels`.
    name : str
        Such as ``"Mass|Nodule"``, ``"No Finding"`` or :data:`ANY_FINDING`.

    Returns
    -------
    ndarray [N] of bool

    Raises
    ------
    ValueError
        For a name that is no finding.

    Examples
    --------
    >>> films = pd.DataFrame({"Mass": [True, False], "Nodule": False, "no_finding": [False, True]})
    >>> label_columns(films, "Mass|Nodule"), label_columns(films, "No Finding")
    (array([ True, False]), array([False,  True]))
    """
    if name in ("No Finding", ANY_FINDING):
        return labels["no_finding"].to_numpy() == (name == "No Finding")
    names = name.split("|")
    unknown = [one for one in names if one not in FINDINGS]
    if unknown:
        raise ValueError(f"Expected findings joined by '|', got {name!r} with {unknown[0]!r}.")
    return labels[names].to_numpy().any(axis=1)


def google_evidence(labels: pd.DataFrame, adjudicated: pd.DataFrame) -> pd.DataFrame:
    """Hold NIH's labels against Google's adjudicated reads.

    Parameters
    ----------
    labels, adjudicated : DataFrame
        From :func:`chexlib.data.load_labels` and :func:`chexlib.data.load_adjudicated`.

    Returns
    -------
    DataFrame
        For Google's validation set, its test set and both: PPV, sensitivity, specificity and kappa
        of each mapping; ``share`` of the films labelled No Finding that have each read (fracture,
        which NIH has no label for, among them); ``prevalence`` of each read.
    """
    films = adjudicated.merge(labels.drop(columns="patient"), on="image", validate="one_to_one")
    if len(films) != len(adjudicated):
        raise ValueError(
            f"Expected each of {len(adjudicated)} adjudicated films in the label table, got "
            f"{len(films)}."
        )
    rows = []
    judge = "Google adjudication"
    for subset in ("google_val", "google_test", "google_all"):
        part = films if subset == "google_all" else films[films["subset"] == subset[7:]]
        patient = part["patient"].to_numpy()
        reads = {name: part[column].to_numpy() for name, (column, _) in GOOGLE_READS.items()}
        for name, read in reads.items():
            for label in GOOGLE_READS[name][1]:
                found = assess(label_columns(part, label), read, patient=patient)
                rows += _rows(("google", name, label, judge, subset), found)
        reads["Any of the three"] = np.logical_or.reduce(list(reads.values()))
        reads["Fracture"] = part["fracture"].to_numpy()
        empty = label_columns(part, "No Finding")
        for name, read in reads.items():
            hidden = share(read[empty], patient=patient[empty])
            rows += _rows(("google", name, "No Finding", judge, subset), {"share": hidden})
            common = share(read, patient=patient)
            rows += _rows(("google", name, "all films", judge, subset), {"prevalence": common})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def rsna_stratum(labels: pd.DataFrame) -> np.ndarray:
    """Return which of :data:`RSNA_STRATA` each film is in, as positions 0, 1, 2."""
    opacity, empty = label_columns(labels, OPACITY), label_columns(labels, "No Finding")
    return np.select([opacity, empty], [0, 1], default=2)


def rsna_films(labels: pd.DataFrame, rsna: pd.DataFrame) -> pd.DataFrame:
    """Return RSNA's films with NIH's labels and the inverse of the fraction sampled.

    Left out are NIH films that two RSNA films were matched with, and pairs whose images differ by
    a mean squared error above 50 of 255 grey levels.

    Parameters
    ----------
    labels, rsna : DataFrame
        From :func:`chexlib.data.load_labels` and :func:`chexlib.data.load_rsna`, with matching.

    Returns
    -------
    DataFrame
        Columns of both, and ``weight``: NIH films of the stratum for each RSNA film of it.

    Raises
    ------
    FileNotFoundError
        If ``rsna`` has no ``image``: the matching file was not there.
    """
    if "image" not in rsna:
        raise FileNotFoundError(
            "Expected RSNA films with their NIH image, got none: the matching file is missing. "
            "Run `chexlib fetch rsna`, or set CHEXLIB_DATA to the folder that has rsna/."
        )
    sound = ~rsna["image"].duplicated(keep=False) & (rsna["pixel_mse"] <= WORST_MATCH)
    films = rsna.loc[sound, ["image", "target", "rsna_class"]].merge(
        labels, on="image", validate="one_to_one"
    )
    population = np.bincount(rsna_stratum(labels), minlength=3)
    stratum = rsna_stratum(films)
    sampled = np.bincount(stratum, minlength=3)
    return films.assign(weight=(population / np.maximum(sampled, 1))[stratum])


def rsna_evidence(labels: pd.DataFrame, rsna: pd.DataFrame) -> pd.DataFrame:
    """Hold NIH's labels against RSNA's radiologists.

    Parameters
    ----------
    labels, rsna : DataFrame
        From :func:`chexlib.data.load_labels` and :func:`chexlib.data.load_rsna`, with matching.

    Returns
    -------
    DataFrame
        Against "Lung Opacity" (an opacity suspicious for pneumonia): PPV, sensitivity, specificity
        and kappa of each mapping and ``prevalence``; for each NIH label, No Finding included, the
        ``share`` of its films in each RSNA class. Names ending in ``_weighted`` weigh films by the
        inverse of the fraction sampled, which assumes random sampling within a stratum.

    Raises
    ------
    FileNotFoundError
        If ``rsna`` comes without matching.
    """
    films = rsna_films(labels, rsna)
    patient, weight = films["patient"].to_numpy(), films["weight"].to_numpy()
    opacity = films["target"].to_numpy()
    rows = []
    judge = "RSNA radiologists"
    for suffix, weights in (("", None), ("_weighted", weight)):
        for label in (*_OPACITIES, ANY_FINDING):
            found = assess(
                label_columns(films, label), opacity, patient=patient, sample_weight=weights
            )
            rows += _rows(("rsna", "Lung opacity", label, judge, "rsna"), found, suffix)
        common = share(opacity, patient=patient, sample_weight=weights)
        rows += _rows(
            ("rsna", "Lung opacity", "all films", judge, "rsna"), {"prevalence": common}, suffix
        )
        for label, one in itertools.product(
            (*FINDINGS, OPACITY, "No Finding"), films["rsna_class"].cat.categories
        ):
            has = label_columns(films, label)
            found = share(
                (films["rsna_class"] == one).to_numpy()[has],
                patient=patient[has],
                sample_weight=None if weights is None else weights[has],
            )
            rows += _rows(
                ("rsna", label, label, f"{judge}: {one}", "rsna"), {"share": found}, suffix
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def persistence_evidence(labels: pd.DataFrame) -> pd.DataFrame:
    """Hold NIH's labels against those of the same patient's next film.

    Parameters
    ----------
    labels : DataFrame
        From :func:`chexlib.data.load_labels`.

    Returns
    -------
    DataFrame
        For each finding ``persistence``, where ``reference`` says which pairs (all, by years
        between the films, by views, by films between); ``persistence_shuffled``, with the films of
        a patient in random order; and ``prevalence``. Last, ``persistence_simulated``: a chronic
        condition of the patients who were ever labelled Fibrosis, with labels of known recall and
        specificity, and ``persistence_expected``, its closed form.
    """
    pairs = film_pairs(labels)
    kinds = {
        "next film": pairs,
        "next film, same age": pairs[pairs["years"] == 0],
        "next film, one year older": pairs[pairs["years"] == 1],
        "next film, two or more years older": pairs[pairs["years"] >= 2],
        **{f"next film, {views}": part for views, part in pairs.groupby("views")},
        **{f"film {step} later": film_pairs(labels, step=step) for step in (2, 3, 5, 10)},
    }
    positive = labels[list(FINDINGS)].to_numpy()
    patient = labels["patient"].to_numpy()
    shuffled = shuffled_persistence(positive, labels)
    rows = []
    for name, has, chance in zip(FINDINGS, positive.T, shuffled.itertuples(), strict=True):
        for kind, part in kinds.items():
            found = {"persistence": persistence(has, part)}
            rows += _rows(("persistence", name, name, kind, "all"), found)
        common = {"prevalence": share(has, patient=patient)}
        rows += _rows(("persistence", name, name, "all films", "all"), common)
        rows.append(
            (
                *("persistence", name, name, "next film", "all", "persistence_shuffled"),
                *(pd.NA, pd.NA, chance.estimate, chance.low, chance.high),
                "closed form; range of 200 shuffles within patients",
            )
        )
    rows += _simulated(labels, pairs)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"k": "Int64", "n": "Int64"})


def _simulated(labels: pd.DataFrame, pairs: pd.DataFrame) -> list[tuple]:
    patient = labels["patient"].to_numpy()
    affected = np.unique(patient[labels["Fibrosis"].to_numpy()])
    prevalence = np.isin(pairs["patient"], affected).mean()
    rows = []
    for recall, specificity in ((1.0, 1.0), (0.5, 1.0), (0.3, 1.0), (0.5, 0.99), (0.3, 0.99)):
        rates = {"recall": recall, "specificity": specificity}
        label = f"recall {recall}, specificity {specificity}"
        found = persistence(simulate_chronic(patient, affected, **rates, seed=1), pairs)
        names = ("persistence", "Simulated chronic condition", label, "next film", "all")
        rows += _rows(names, {"persistence_simulated": found})
        exact = expected_persistence(**rates, prevalence=prevalence)
        rows.append(
            (*names, "persistence_expected", pd.NA, pd.NA, exact, exact, exact, "closed form")
        )
    return rows


def _rows(where: tuple[str, ...], found: Mapping[str, Estimate], suffix: str = "") -> list[tuple]:
    return [
        (
            *(*where, name + suffix, one.k, one.n, one.estimate, one.low, one.high),
            one.method + (", weighted by inverse sampling fraction" if suffix else ""),
        )
        for name, one in found.items()
    ]


def pick(rows: pd.DataFrame, **where: str) -> Estimate:
    """Return the one figure that ``where`` names.

    Parameters
    ----------
    rows : DataFrame
        Rows of :data:`COLUMNS`.
    **where
        Values of columns, such as ``finding="Pneumothorax", statistic="ppv"``.

    Raises
    ------
    ValueError
        If no row or several fit.
    """
    fits = np.logical_and.reduce([rows[name] == value for name, value in where.items()])
    if fits.sum() != 1:
        raise ValueError(f"Expected one row with {where}, got {fits.sum()}. Name more columns.")
    row = rows[fits].iloc[0]
    k, n = (0 if pd.isna(count) else int(count) for count in (row["k"], row["n"]))
    return Estimate(k, n, row["estimate"], row["low"], row["high"], row["method"])


def known_quality(rows: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of each finding's label, and who it is known from.

    Parameters
    ----------
    rows : DataFrame
        All rows of ``data/label_quality.csv``.

    Returns
    -------
    DataFrame, one line a finding
        Its course; the share of its films that the majority of five readers confirms, and
        ChestX-Det's readers; the share of its films in Google's test set that have the read of
        :data:`GOOGLE_READS` (a dash where readers did not look for it); the share that RSNA's
        radiologists call normal, weighted; the share of next films that have it too.
    """
    out = []
    for name in FINDINGS:
        seen = {"finding": name, "label": name}
        normal = {"reference": "RSNA radiologists: Normal", "statistic": "share_weighted"}
        again = {"reference": "next film", "statistic": "persistence"}
        read = next((one for one, (_, tried) in GOOGLE_READS.items() if name in tried), None)
        held = {"finding": read, "label": name, "subset": "google_test", "statistic": "ppv"}
        confirmed = {}
        for evidence, reader in (("five_readers", "five readers"), ("chestx_det", "ChestX-Det")):
            own = rows[(rows["evidence"] == evidence) & (rows["finding"] == name)]
            found = "–" if own.empty else _unbroken(pick(own, statistic="ppv"))
            confirmed[f"{reader} confirm"] = found
        out.append(
            {
                "finding": INFO[name].english,
                "course": "chronic" if INFO[name].chronic else "acute",
                **confirmed,
                "Google confirms": "–" if read is None else _unbroken(pick(rows, **held)),
                "RSNA calls normal": _unbroken(pick(rows, **seen, **normal)),
                "next film agrees": _unbroken(pick(rows, **seen, **again)),
            }
        )
    return pd.DataFrame(out).set_index("finding")


def _unbroken(found: Estimate) -> str:
    return f"{found}".replace(" to ", "–").replace(" ", "\N{NO-BREAK SPACE}")
