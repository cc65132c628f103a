"""How well a yes/no label agrees with a reference: PPV, sensitivity, specificity, kappa, ratio.

Intervals know what a patient is. Where no patient has two of the films that a figure is counted
among, films are independent and the interval is Wilson's (for kappa, the large-sample one).
Otherwise patients are resampled (:mod:`chexlib.metrics.resampling`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chexlib.metrics.inputs import as_bool, check_patients, check_share, check_weight
from chexlib.metrics.resampling import (
    RESAMPLES,
    Estimate,
    Resamples,
    draws_of,
    normal_quantile,
    percentile_ends,
    proportions,
    undefined,
)

TP, FP, FN, TN = range(4)
# Of a proportion: the cell that counts, the other of its denominator, and why there may be none.
_PROPORTIONS = {
    "ppv": (TP, FP, "no film has the label"),
    "npv": (TN, FN, "every film has the label"),
    "sensitivity": (TP, FN, "no film is positive in the reference"),
    "specificity": (TN, FP, "every film is positive in the reference"),
}
STATISTICS = (*_PROPORTIONS, "kappa")
"""What :func:`assess` computes unless told otherwise."""


@dataclass(frozen=True)
class TwoByTwo:
    """Films by label and reference: ``tp`` both, ``fp`` label only, ``fn`` reference only, ``tn``.

    Whole numbers, or sums of weights where films are weighted.
    """

    tp: float
    fp: float
    fn: float
    tn: float

    @property
    def n(self) -> float:
        """All films."""
        return self.tp + self.fp + self.fn + self.tn


def two_by_two(
    label: ArrayLike, reference: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> TwoByTwo:
    """Count films by label and reference.

    Parameters
    ----------
    label, reference : array_like [N]
        bool, or numbers that are 0 or 1.
    sample_weight : array_like [N], optional
        Non-negative weight of each film.

    Raises
    ------
    ValueError
        If lengths differ, a value is not 0 or 1, or a weight is negative or missing.

    Examples
    --------
    >>> two_by_two([1, 1, 0, 0], [1, 0, 0, 0])
    TwoByTwo(tp=1, fp=1, fn=0, tn=2)
    """
    cells = _film_cells(label, reference)
    if sample_weight is None:
        return TwoByTwo(*(int(count) for count in cells.sum(axis=0)))
    return TwoByTwo(*(float(total) for total in check_weight(sample_weight, len(cells)) @ cells))


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
        :class:`~chexlib.metrics.UndefinedWarning`. Kappa of a constant label or reference
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
    normal_quantile(level)  # refuses a level outside (0, 1)
    cells = _film_cells(label, reference)
    patient = None if patient is None else check_patients(patient, len(cells))
    weight, kept = None, np.ones(len(cells), dtype=bool)
    if sample_weight is not None:
        weight = check_weight(sample_weight, len(cells))
        kept = weight > 0

    def of(films: NDArray[np.bool_]) -> tuple[NDArray, Resamples, NDArray | None]:
        draws = draws_of(films, patient, resamples=resamples, seed=seed)
        return cells[films], draws, None if weight is None else weight[films]

    found = {}
    for name in statistics:
        if name not in _PROPORTIONS:
            found[name] = _of_all_cells(name, *of(kept), level=level)
            continue
        counted, other, why = _PROPORTIONS[name]
        films = kept & (cells[:, counted] | cells[:, other])
        if not films.any():
            found[name] = undefined(name, why)
            continue
        some, draws, own = of(films)
        among, counted = np.ones((len(some), 1), dtype=bool), some[:, [counted]]
        (found[name],) = proportions(counted, among, draws, name=name, weight=own, level=level)
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
    Fleiss, Cohen and Everitt, Psychological Bulletin 72 (1969) 323-327, by statsmodels.
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
    sens, spec, share = (
        check_share(name, value)
        for name, value in (
            ("sensitivity", sensitivity),
            ("specificity", specificity),
            ("prevalence", prevalence),
        )
    )
    true, false = sens * share, (1 - spec) * (1 - share)
    with np.errstate(invalid="ignore"):
        return true / (true + false)


def _film_cells(label: ArrayLike, reference: ArrayLike) -> NDArray[np.bool_]:
    """Return bool ``[N, 4]``: which of tp, fp, fn, tn each film is."""
    both = []
    for name, values in (("label", np.asarray(label)), ("reference", np.asarray(reference))):
        if values.ndim != 1:
            raise ValueError(f"Expected {name} of shape [N], got shape {values.shape}.")
        do = "Choose a threshold or drop missing reads first."
        both.append(as_bool(name, values, do))
    a, b = both
    if len(a) != len(b):
        raise ValueError(f"Expected as many labels as reference reads, got {len(a)} and {len(b)}.")
    if not len(a):
        raise ValueError("Expected at least one film, got none.")
    return np.stack([a & b, a & ~b, ~a & b, ~a & ~b], axis=1)


def _of_all_cells(
    name: str,
    cells: NDArray[np.bool_],
    draws: Resamples,
    weight: NDArray[np.float64] | None,
    *,
    level: float,
) -> Estimate:
    """Return kappa or the likelihood ratio, which all four cells go into."""

    def statistic(tp: NDArray, fp: NDArray, fn: NDArray, tn: NDArray) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            if name == "likelihood_ratio":
                return tp / (tp + fn) / (fp / (fp + tn))
            value = 2 * (tp * tn - fp * fn) / ((tp + fp) * (fp + tn) + (tp + fn) * (fn + tn))
        # One cell alone: both are constant, alike or opposed, and there is nothing to agree on.
        return np.where((np.stack([tp, fp, fn, tn]) > 0).sum(axis=0) > 1, value, np.nan)

    columns = cells * (1.0 if weight is None else weight[:, None])
    value = float(statistic(*columns.sum(axis=0)))
    films = cells.sum(axis=0)
    tp, fp, fn, tn = (int(count) for count in films)
    if math.isnan(value):
        why = "label and reference are both constant"
        if name == "likelihood_ratio":
            why = "the reference is constant, or no film has the label"
        return undefined(name, why)
    low, high, method = math.nan, math.nan, draws.method
    if name == "kappa" and not ((tp + fp) and (fn + tn) and (tp + fn) and (fp + tn)):
        method = "no interval: label or reference is constant"
    elif name == "kappa" and weight is None and np.bincount(draws.code).max() == 1:
        from statsmodels.stats.inter_rater import cohens_kappa

        half = normal_quantile(level) * cohens_kappa([[tp, fp], [fn, tn]]).std_kappa
        low, high, method = max(value - half, -1.0), min(value + half, 1.0), "large-sample"
    else:
        values = statistic(*draws.sums(columns).T)
        low, high = (float(end) for end in percentile_ends(values[:, None], level=level)[:, 0])
        if low == high and name == "likelihood_ratio":
            low, high = math.nan, math.nan
            method = "no interval: 0 or without bound in every resample"
    return Estimate(tp + tn, len(cells), value, low, high, method)
