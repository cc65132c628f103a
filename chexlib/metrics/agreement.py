"""How well a yes/no label agrees with a reference: PPV, sensitivity, specificity, kappa, ratio.

Intervals know what a patient is. Where no patient has two of the films that a figure is counted
among, films are independent and the interval is Wilson's (for kappa, the large-sample one).
Otherwise patients are resampled (:mod:`chexlib.metrics.bootstrap`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.bootstrap import RESAMPLES, interval_by_patient, patient_counts
from chexlib.metrics.counts import FN, FP, TN, TP, TwoByTwo, film_cells, two_by_two
from chexlib.metrics.estimates import (
    Estimate,
    normal_quantile,
    undefined,
    wilson,
    wilson_interval,
)
from chexlib.metrics.inputs import check_patients, check_weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "STATISTICS",
    "TwoByTwo",
    "assess",
    "kappa",
    "likelihood_ratio",
    "npv",
    "ppv",
    "ppv_at_prevalence",
    "sensitivity",
    "share",
    "specificity",
    "two_by_two",
]

# Name of a proportion: (the cell that counts, the other cell of its denominator).
_PROPORTIONS = {
    "ppv": (TP, FP),
    "npv": (TN, FN),
    "sensitivity": (TP, FN),
    "specificity": (TN, FP),
}
STATISTICS = (*_PROPORTIONS, "kappa")
"""What :func:`assess` computes unless told otherwise."""


def assess(
    label: ArrayLike,
    reference: ArrayLike,
    *,
    patient: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    statistics: Sequence[str] = STATISTICS,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Compare a label with a reference: several figures, each with its interval.

    Parameters
    ----------
    label, reference : array_like [N]
        bool, or numbers that are 0 or 1.
    patient : array_like [N], optional
        The patient of each film. Left out, films count as independent.
    sample_weight : array_like [N], optional
        Non-negative weight of each film, such as the inverse of the fraction sampled (Horvitz and
        Thompson, JASA 47 (1952) 663-685). Intervals then come from resampling, weights held fixed.
        Films of weight 0 are left out.
    statistics : sequence of str
        Among :data:`STATISTICS`. Cohen's kappa is agreement beyond chance: (p_o - p_e) / (1 - p_e).
        Also ``"likelihood_ratio"``, sensitivity / (1 - specificity), always by resampling.
    level : float
        Confidence of the intervals.
    resamples, seed : int
        Of the bootstrap by patient.

    Returns
    -------
    dict of str to Estimate
        ``k`` of ``n`` are films before weighting; for kappa and the likelihood ratio, films that
        agree of all films. Where resampling cannot move a proportion (all or none of the films),
        the interval is Wilson's with patients counted instead of films; a likelihood ratio that it
        cannot move has no interval. Undefined figures are NaN, with an
        :class:`~chexlib.metrics.estimates.UndefinedWarning`. Kappa of a constant label or reference
        is 0 whatever the films; it has no interval, and ``method`` says why.

    Raises
    ------
    ValueError
        If lengths differ, a value is not 0 or 1, a weight is negative, or a name is unknown.

    Examples
    --------
    >>> found = assess([1, 1, 0, 0, 1], [1, 0, 0, 0, 1], patient=[1, 1, 2, 3, 4])
    >>> found["ppv"].k, found["ppv"].n, found["ppv"].method
    (2, 3, 'bootstrap by patient, 2000 resamples')
    """
    known = (*STATISTICS, "likelihood_ratio")
    unknown = set(statistics) - set(known)
    if unknown:
        raise ValueError(f"Expected statistics among {known}, got {sorted(unknown)}.")
    normal_quantile(level)
    cells = film_cells(label, reference)
    who = "film" if patient is None else "patient"
    patient = np.arange(len(cells)) if patient is None else check_patients(patient, len(cells))
    weighted = sample_weight is not None
    weight = check_weight(sample_weight, len(cells)) if weighted else np.ones(len(cells))
    kept = weight > 0
    cells, patient, weight = (
        cells[kept],
        np.unique(patient[kept], return_inverse=True)[1],
        weight[kept],
    )
    films = cells.sum(axis=0)
    by_patient = patient_counts(patient, cells)
    counts = patient_counts(patient, cells * weight[:, None]) if weighted else by_patient
    totals = counts.sum(axis=0)

    found = {}
    for name in statistics:
        cut = list(_PROPORTIONS.get(name, (TP, FP, FN, TN)))
        k = int(films[cut[0]] if name in _PROPORTIONS else films[TP] + films[TN])
        n = int(films[cut].sum())
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(_statistic(name, totals[None])[0])
        if math.isnan(value):
            found[name] = undefined(name, _why(name))
            continue
        if name == "kappa" and _constant(films):
            why = "no interval: label or reference is constant"
            found[name] = Estimate(k, n, value, math.nan, math.nan, why)
            continue
        concerned = by_patient[:, cut].sum(axis=1)
        alone = concerned.max() <= 1  # no patient has two of these films
        if alone and not weighted and name != "likelihood_ratio":
            found[name] = (
                wilson(k, n, level=level)
                if name != "kappa"
                else Estimate(k, n, value, *_kappa_interval(totals, level), "large-sample")
            )
            continue
        low, high = interval_by_patient(
            counts[concerned > 0],
            lambda resampled, name=name: _statistic(name, resampled),
            level=level,
            resamples=resamples,
            seed=seed,
        )
        method = f"bootstrap by {who}, {resamples} resamples"
        if low == high and name in _PROPORTIONS:
            patients = int((concerned > 0).sum())
            low, high = wilson_interval(value, patients, level=level)
            method = f"Wilson, {patients} {who}s as trials"
        elif low == high and name == "likelihood_ratio":
            low = high = math.nan
            method = "no interval: 0 or without bound in every resample"
        found[name] = Estimate(k, n, value, low, high, method)
    return found


def ppv(label: ArrayLike, reference: ArrayLike, **options: object) -> Estimate:
    """Return the positive predictive value: of films with the label, the share that are true.

    Options are those of :func:`assess`.

    Examples
    --------
    >>> ppv([1, 1, 0, 0], [1, 0, 0, 0]).estimate
    0.5
    """
    return assess(label, reference, statistics=["ppv"], **options)["ppv"]


def npv(label: ArrayLike, reference: ArrayLike, **options: object) -> Estimate:
    """Return the negative predictive value: of films without the label, the share rightly so.

    Options are those of :func:`assess`.
    """
    return assess(label, reference, statistics=["npv"], **options)["npv"]


def sensitivity(label: ArrayLike, reference: ArrayLike, **options: object) -> Estimate:
    """Return the sensitivity (recall): of films that are true, the share with the label.

    Options are those of :func:`assess`.
    """
    return assess(label, reference, statistics=["sensitivity"], **options)["sensitivity"]


def specificity(label: ArrayLike, reference: ArrayLike, **options: object) -> Estimate:
    """Return the specificity: of films that are not true, the share without the label.

    Options are those of :func:`assess`.
    """
    return assess(label, reference, statistics=["specificity"], **options)["specificity"]


def kappa(label: ArrayLike, reference: ArrayLike, **options: object) -> Estimate:
    """Return Cohen's kappa: agreement beyond chance, 0 at chance and 1 if perfect.

    Options are those of :func:`assess`. NaN where both are constant, without an interval where one
    is. Kappa falls with rarity at the same sensitivity and specificity (Byrt et al., J Clin
    Epidemiol 46 (1993) 423-429).

    References
    ----------
    Cohen, Educational and Psychological Measurement 20 (1960) 37-46; large-sample variance:
    Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969) 323-327.
    """
    return assess(label, reference, statistics=["kappa"], **options)["kappa"]


def likelihood_ratio(label: ArrayLike, reference: ArrayLike, **options: object) -> Estimate:
    """Return by how much the label multiplies the odds: sensitivity / (1 - specificity).

    Options are those of :func:`assess`. At a prevalence p the odds of a labelled film are the ratio
    times p / (1 - p); so the ends of its interval give those of the PPV at any prevalence, with
    sensitivity and specificity resampled together (Deeks and Altman, BMJ 329 (2004) 168-169).

    Examples
    --------
    >>> likelihood_ratio([1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]).estimate
    4.0
    """
    found = assess(label, reference, statistics=["likelihood_ratio"], **options)
    return found["likelihood_ratio"]


def share(positive: ArrayLike, **options: object) -> Estimate:
    """Return the share of films that are positive.

    Options are those of :func:`assess`.

    Examples
    --------
    >>> print(share([1, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    0.10 (0.02 to 0.40)
    """
    return ppv(np.ones(len(np.asarray(positive))), positive, **options)


def ppv_at_prevalence(
    sensitivity: ArrayLike, specificity: ArrayLike, prevalence: ArrayLike
) -> NDArray[np.float64]:
    """Return the PPV that a sensitivity and a specificity give at a prevalence (Bayes).

    Parameters
    ----------
    sensitivity, specificity, prevalence : array_like
        Each in [0, 1]; broadcast against one another.

    Returns
    -------
    ndarray
        NaN where no film would get the label.

    Raises
    ------
    ValueError
        If a value lies outside [0, 1].

    Examples
    --------
    >>> ppv_at_prevalence(0.6, 0.98, [0.5, 0.05]).round(2)
    array([0.97, 0.61])
    """
    values = [np.asarray(value, dtype=float) for value in (sensitivity, specificity, prevalence)]
    for name, value in zip(("sensitivity", "specificity", "prevalence"), values, strict=True):
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(f"Expected {name} between 0 and 1, got {value}.")
    true = values[0] * values[2]
    false = (1 - values[1]) * (1 - values[2])
    with np.errstate(invalid="ignore"):
        return true / (true + false)


def _statistic(name: str, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute a statistic from counts ``[B, 4]``: NaN where its denominator is 0."""
    if name in _PROPORTIONS:
        counted, other = _PROPORTIONS[name]
        return counts[:, counted] / (counts[:, counted] + counts[:, other])
    tp, fp, fn, tn = counts.T
    if name == "likelihood_ratio":
        return tp / (tp + fn) / (fp / (fp + tn))
    value = 2 * (tp * tn - fp * fn) / ((tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))
    # One cell alone: both are constant, alike or opposed, and there is nothing to agree on.
    return np.where((counts > 0).sum(axis=1) > 1, value, np.nan)


def _constant(films: NDArray[np.int_]) -> bool:
    tp, fp, fn, tn = films
    return not ((tp + fp) and (fn + tn) and (tp + fn) and (fp + tn))


def _kappa_interval(counts: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Fleiss, Cohen and Everitt's (1969) interval, equation 13, for independent films."""
    tp, fp, fn, tn = counts / counts.sum()
    rows, columns = (tp + fp, fn + tn), (tp + fn, fp + tn)
    chance = rows[0] * columns[0] + rows[1] * columns[1]
    value = ((tp + tn) - chance) / (1 - chance)
    kept = 1 - value
    variance = (
        tp * (1 - (rows[0] + columns[0]) * kept) ** 2
        + tn * (1 - (rows[1] + columns[1]) * kept) ** 2
        + kept**2 * (fp * (columns[0] + rows[1]) ** 2 + fn * (columns[1] + rows[0]) ** 2)
        - (value - chance * kept) ** 2
    )
    half = normal_quantile(level) * math.sqrt(max(variance, 0)) / (1 - chance)
    half /= math.sqrt(counts.sum())
    return max(value - half, -1.0), min(value + half, 1.0)


def _why(name: str) -> str:
    return {
        "ppv": "no film has the label",
        "npv": "every film has the label",
        "sensitivity": "no film is positive in the reference",
        "specificity": "every film is positive in the reference",
        "kappa": "label and reference are both constant",
        "likelihood_ratio": "the reference is constant, or no film has the label",
    }[name]
