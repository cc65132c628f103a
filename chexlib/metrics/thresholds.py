"""Where to draw the line, and what the line does: rules, operating points, decision curves.

A threshold is chosen on some patients and reported on others: on the films it was chosen on, it
looks better than it is. A film is called positive if its score is at least the threshold.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from chexlib.metrics.agreement import TwoByTwo
from chexlib.metrics.inputs import Films, UndefinedWarning, check_films, check_share, warn_one_class
from chexlib.metrics.ranking import CountsByThreshold, all_counts
from chexlib.metrics.resampling import (
    RESAMPLES,
    Bootstrap,
    Estimate,
    Resamples,
    draws_of,
    proportions,
)

Rule = Callable[[CountsByThreshold], "NDArray[np.float64]"]
"""What a threshold is worth: from the 2x2 tables at all thresholds to one number for each."""

# Which films a figure counts, and among which, of labels y and calls c. The "f1" here is
# J = tp / (tp + fp + fn), a proportion: F1 = 2 J / (1 + J) rises with it, and so has its interval.
_FIGURES = {
    "sensitivity": lambda y, c: (y & c, y),
    "specificity": lambda y, c: (~y & ~c, ~y),
    "ppv": lambda y, c: (y & c, c),
    "npv": lambda y, c: (~y & ~c, ~c),
    "f1": lambda y, c: (y & c, y | c),
}


def youden(counts: CountsByThreshold) -> NDArray[np.float64]:
    """Rule: sensitivity + specificity - 1 (Youden, Cancer 3 (1950) 32-35).

    It weighs a missed positive against a false alarm by the odds against the finding, whatever
    either costs. For a calibrated score the best threshold is the prevalence.
    """
    return counts.sensitivity + counts.specificity - 1


def max_f1(counts: CountsByThreshold) -> NDArray[np.float64]:
    """Rule: F1, the harmonic mean of precision and sensitivity.

    For a calibrated score the best threshold is half the best F1 (Lipton et al., ECML 2014).
    """
    return counts.f1


def at_sensitivity(value: float) -> Rule:
    """Make the rule: the highest specificity with a sensitivity of at least ``value``."""
    check_share("a sensitivity", value)
    return lambda counts: np.where(counts.sensitivity >= value - 1e-12, counts.specificity, -np.inf)


def at_specificity(value: float) -> Rule:
    """Make the rule: the highest sensitivity with a specificity of at least ``value``."""
    check_share("a specificity", value)
    return lambda counts: np.where(counts.specificity >= value - 1e-12, counts.sensitivity, -np.inf)


def min_cost(*, miss: float, false_alarm: float) -> Rule:
    """Make the rule: the lowest expected cost of a film.

    For a calibrated score the best threshold is ``false_alarm / (false_alarm + miss)``. The
    threshold of highest net benefit at a threshold probability p is that of ``miss = 1 - p`` and
    ``false_alarm = p``.

    Parameters
    ----------
    miss, false_alarm : float
        Cost of a false negative and of a false positive, in one unit; at least 0, not both 0.
    """
    if not (0 <= miss < math.inf and 0 <= false_alarm < math.inf and miss + false_alarm > 0):
        raise ValueError(f"Expected finite costs of at least 0, got {miss} and {false_alarm}.")
    share = miss / (miss + false_alarm)

    def rule(counts: CountsByThreshold) -> NDArray[np.float64]:
        cost = share * counts.fn + (1 - share) * counts.fp
        return -cost / (counts.positives + counts.negatives)

    return rule


RULES = {"youden": youden, "max_f1": max_f1, "sensitivity_0.90": at_sensitivity(0.9)}
"""How ``chexlib train`` and ``evaluate`` choose thresholds, by the names in their tables."""


def choose(
    labels: ArrayLike, scores: ArrayLike, rule: Rule, *, sample_weight: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Return the threshold that a rule chooses on these films.

    Parameters
    ----------
    labels, scores : array_like [N] or [N, F]
        See :func:`chexlib.metrics.inputs.check_films`. A film whose label is NaN is left out of
        that finding.
    rule : callable
        :func:`youden`, :func:`max_f1`, or one made by :func:`at_sensitivity`,
        :func:`at_specificity` or :func:`min_cost`.
    sample_weight : array_like [N], optional
        Sampling weights, or counts of films that a row stands for.

    Returns
    -------
    float or ndarray [F]
        One of the scores; ``inf`` where it is best to call no film positive; the highest where
        several do equally well. NaN where a finding is on no film or on all, with a
        :class:`~chexlib.metrics.OneClassWarning`.

    Examples
    --------
    >>> labels, scores = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.9]
    >>> choose(labels, scores, youden), choose(labels, scores, at_sensitivity(1))
    (0.6, 0.3)
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    every = all_counts(films)
    chosen = np.full(len(every), np.nan)
    for k, counts in enumerate(every):
        if counts.positives and counts.negatives:
            worth = rule(counts)
            # Rounding must not decide among equals: the first that is as good as the best.
            chosen[k] = counts.threshold[np.argmax(worth >= worth.max() - 1e-12)]
    warn_one_class("threshold", films, np.isnan(chosen))
    return films.squeeze(chosen)


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does on a set of films.

    Attributes
    ----------
    threshold : float
    table : TwoByTwo
        Films (or weight) by call and label.
    sensitivity, specificity, ppv, npv, f1 : Estimate
        With intervals; NaN where undefined, such as the ppv where no film is called.
    """

    threshold: float
    table: TwoByTwo
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    f1: Estimate


def operating_point(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    *,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> OperatingPoint:
    """Return what a threshold does on these films, with intervals.

    Parameters
    ----------
    labels, scores : array_like [N]
    threshold : float
        A film is called positive if its score is at least this; ``inf`` calls none.
    patient : array_like [N] or Resamples, optional
        Whom to resample; left out, films count as independent. Intervals are Wilson's where no
        patient has two films that matter, else from resampling.
    sample_weight : array_like [N], optional
        Sampling weights. For a table of counts, make films of it with
        :func:`chexlib.metrics.from_counts`.
    level, resamples, seed
        Confidence; number of resamples and where draws start.

    Returns
    -------
    OperatingPoint

    Examples
    --------
    >>> point = operating_point([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.9], 0.3)
    >>> point.table
    TwoByTwo(tp=3, fp=1, fn=0, tn=2)
    >>> print(point.sensitivity)
    1.00 (0.44 to 1.00)
    """
    films = check_films(labels, scores, sample_weight=sample_weight, one_finding=True)
    if np.ndim(threshold):
        raise ValueError(f"Expected one threshold, got shape {np.shape(threshold)}.")
    cut = check_thresholds(threshold, films.scores, chosen=True)
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed)
    cells, figures = _at(cut, films, draws, figures=_FIGURES, level=level)
    table = TwoByTwo(*(cell[0].item() for cell in cells.values()))
    return OperatingPoint(
        float(cut[0]), table, **{name: found[0] for name, found in figures.items()}
    )


def operating_points(
    labels: pd.DataFrame,
    scores: pd.DataFrame,
    thresholds: ArrayLike,
    *,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return operating points of several findings as a table, a row a finding.

    Parameters
    ----------
    labels, scores : DataFrame [N, F]
        With the findings' names as columns, in one order. A film whose label is NaN is left out of
        that finding.
    thresholds : array_like [F]
        From :func:`choose`, on other films. NaN gives a row without figures.
    patient, sample_weight, level, resamples, seed
        As in :func:`operating_point`; one draw of patients serves all findings.

    Returns
    -------
    DataFrame
        ``finding threshold tp fp fn tn prevalence called`` and, for each of sensitivity,
        specificity, ppv, npv and f1, its value, ``…_low`` and ``…_high``.
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed)
    thresholds = check_thresholds(thresholds, films.scores)
    if thresholds.shape != (len(films.names),):
        raise ValueError(
            f"Expected a threshold for each of {len(films.names)} findings, got shape "
            f"{thresholds.shape}."
        )
    chosen = ~np.isnan(thresholds)
    columns = {name: getattr(films, name)[:, chosen] for name in ("labels", "scores", "known")}
    given = films._replace(**columns)
    table = _table(thresholds[chosen], given, draws, figures=_FIGURES, level=level)
    n = table[["tp", "fp", "fn", "tn"]].sum(axis=1)
    table.insert(5, "prevalence", (table["tp"] + table["fn"]) / n)
    table.insert(6, "called", (table["tp"] + table["fp"]) / n)
    table = table.set_axis(np.flatnonzero(chosen)).reindex(range(len(chosen)))
    table.insert(0, "finding", films.names)
    return table.assign(threshold=thresholds)


def threshold_sweep(
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the 2x2 table and its figures at each of many thresholds.

    One draw of patients serves all thresholds, so a row costs next to nothing; for one threshold
    with every detail there is :func:`chexlib.metrics.operating_point`.

    Parameters
    ----------
    labels, scores : array_like [N]
    thresholds : float or array_like [T]
        A film is called positive if its score is at least the threshold.
    patient : array_like [N] or Resamples, optional
        Resampled for the intervals; left out, films are.
    sample_weight : array_like [N], optional
        Sampling weights.
    level, resamples, seed
        Of the intervals.

    Returns
    -------
    DataFrame [T]
        ``threshold tp fp fn tn`` and, for each of sensitivity, specificity, ppv and f1, its value,
        ``…_low`` and ``…_high``; NaN where undefined, such as the ppv where no film is called.
        Where resampling cannot move a proportion (all or none of the films), the interval is
        Wilson's with patients as trials, as in :func:`chexlib.metrics.agreement.assess`.

    Raises
    ------
    ValueError
        If labels or scores are of several findings, lengths differ, or a threshold is NaN.

    Examples
    --------
    >>> found = threshold_sweep([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.9], [0.3, 0.5])
    >>> found[["threshold", "tp", "fp", "fn", "tn", "sensitivity"]].round(2)
       threshold   tp   fp   fn   tn  sensitivity
    0        0.3  3.0  1.0  0.0  2.0         1.00
    1        0.5  2.0  0.0  1.0  3.0         0.67
    """
    films = check_films(labels, scores, sample_weight=sample_weight, one_finding=True)
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed)
    cut = check_thresholds(thresholds, films.scores, chosen=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedWarning)  # NaN in the table says it
        figures = ("sensitivity", "specificity", "ppv", "f1")
        table = _table(cut, films, draws, figures=figures, level=level)
    return table.astype(float)


def per_films(points: pd.DataFrame, *, films: float = 1000) -> pd.DataFrame:
    """Return operating points as numbers of films, the way a day's work is counted.

    Parameters
    ----------
    points : DataFrame
        With columns ``tp fp fn tn``, as from :func:`threshold_sweep` or
        :func:`chexlib.metrics.operating_points`.
    films : float
        How many.

    Returns
    -------
    DataFrame, same index
        ``found``, ``missed`` and ``false alarms`` among so many films, and ``calls per hit``:
        all calls divided by the true ones, infinite where all are false, NaN where there are none.

    Examples
    --------
    >>> per_films(pd.DataFrame({"tp": [8], "fp": [32], "fn": [2], "tn": [158]}))
       found  missed  false alarms  calls per hit
    0   40.0    10.0         160.0            5.0
    """
    cells = points[["tp", "fn", "fp", "tn"]].astype(float)
    scaled = cells.div(cells.sum(axis=1), axis=0)[["tp", "fn", "fp"]] * films
    scaled = scaled.set_axis(["found", "missed", "false alarms"], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effort = (cells["tp"] + cells["fp"]).to_numpy() / cells["tp"].to_numpy()
    return scaled.assign(**{"calls per hit": effort})


def net_benefit(
    sensitivity: ArrayLike, specificity: ArrayLike, *, prevalence: ArrayLike, threshold: ArrayLike
) -> NDArray[np.float64]:
    r"""Return the net benefit of a film: true positives less false ones at their exchange rate.

    .. math:: NB = \pi\,\mathrm{sens} - (1 - \pi)(1 - \mathrm{spec}) \frac{p}{1 - p}

    Who acts at a probability p says that one film found is worth (1 - p) / p false alarms.

    Parameters
    ----------
    sensitivity, specificity, prevalence : array_like
        In [0, 1]; all broadcast.
    threshold : array_like
        Threshold probability p, in (0, 1).

    Returns
    -------
    ndarray
        In films found for each film read; at most the prevalence.

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1], or a threshold probability outside (0, 1).

    References
    ----------
    Vickers and Elkin, Medical Decision Making 26 (2006) 565-574.

    Examples
    --------
    >>> round(float(net_benefit(0.9, 0.8, prevalence=0.1, threshold=0.1)), 3)
    0.07
    """
    sens, spec, share, p = (
        np.asarray(x, dtype=float) for x in (sensitivity, specificity, prevalence, threshold)
    )
    for name, rate in (("sensitivity", sens), ("specificity", spec), ("prevalence", share)):
        check_share(f"a {name}", np.nan_to_num(rate))  # undefined is not wrong
    check_share("threshold probabilities", p, strict=True)
    return share * sens - (1 - share) * (1 - spec) * p / (1 - p)


def decision_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    *,
    patient: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the net benefit of acting on the score, on every film, and on none.

    At each threshold probability p a film is acted on if its probability is at least p, so the
    curve asks for calibrated probabilities.

    Parameters
    ----------
    labels, probabilities : array_like [N]
    thresholds : float or array_like [T]
        In (0, 1).
    patient : array_like [N], optional
        Resampled for the intervals; left out, films are.
    sample_weight : array_like [N], optional
        Sampling weights. For counts, repeat the rows or ignore the intervals.
    level, resamples, seed
        Of the intervals.

    Returns
    -------
    DataFrame [T]
        ``threshold estimate low high gain gain_low gain_high all``: net benefit of the model, its
        interval, the gain over the better of acting on all films and on none (paired) with its
        interval, and the net benefit of acting on all. Acting on none has 0.

    Raises
    ------
    ValueError
        If films are of one class, or a threshold is not in (0, 1).
    """
    options = {"probabilities": True, "one_finding": True, "both_classes": True}
    films = check_films(labels, probabilities, sample_weight=sample_weight, **options)
    cut = check_share(
        "threshold probabilities", check_thresholds(thresholds, films.scores), strict=True
    )
    # Columns: weight called at each threshold among positives, among negatives, and all of each.
    y, called = films.labels, films.scores >= cut
    columns = np.hstack([called & y, called & ~y, y, ~y]) * films.mass[:, None]
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed)

    table = pd.DataFrame({"threshold": cut})
    # The films themselves first, then every resample.
    sums = np.vstack([columns.sum(axis=0), draws.sums(columns)])
    tp, fp, positive, negative = np.split(sums, [len(cut), 2 * len(cut), 2 * len(cut) + 1], axis=1)
    odds, n = cut / (1 - cut), positive + negative
    model, every = (tp - odds * fp) / n, (positive - odds * negative) / n
    gain = model - np.maximum(every, 0)
    for name, prefix, values in (("estimate", "", model), ("gain", "gain_", gain)):
        # Where no film is called the benefit is 0, and where all are it is that of acting on all.
        ends = Bootstrap(values[0], values[1:], draws).interval(level=level, fixed=True)
        table[[name, f"{prefix}low", f"{prefix}high"]] = np.column_stack([values[0], *ends])
    return table.assign(all=every[0])


def check_thresholds(
    thresholds: ArrayLike, scores: NDArray[np.float64], *, chosen: bool = False
) -> NDArray[np.float64]:
    """Return thresholds as float ``[T]``, one number as ``[1]``; refuse what cannot be one.

    NaN says that no threshold could be chosen; it stays, unless all must be ``chosen``. Above 1
    there is nothing to call among probabilities; a percentage was meant, or ``inf``, which calls no
    film.
    """
    found = np.atleast_1d(np.asarray(thresholds))
    if found.ndim != 1 or found.dtype.kind not in "biuf":
        raise ValueError(f"Expected thresholds to be numbers, [T], got {thresholds!r}.")
    found = found.astype(float)
    above = np.isfinite(found) & (found > 1)
    if above.any() and scores.min() >= 0 and scores.max() <= 1:
        raise ValueError(
            f"Expected thresholds of at most 1 for scores between 0 and 1, got {found[above][0]}. "
            "Divide percentages by 100; inf calls no film."
        )
    if chosen and np.isnan(found).any():
        raise ValueError("Expected a threshold, got NaN: none could be chosen for this finding.")
    return found


def _at(
    cut: NDArray[np.float64],
    films: Films,
    draws: Resamples,
    *,
    figures: Iterable[str],
    level: float,
) -> tuple[dict[str, NDArray], dict[str, list[Estimate]]]:
    """Return the four cells and the figures at thresholds: of one finding, or one a finding."""
    y, call = films.labels, films.scores >= cut
    no = films.known & ~y
    kinds = {"tp": call & y, "fp": call & no, "fn": ~call & y, "tn": ~call & no}
    # Without weights the cells stay whole numbers.
    weight = np.ones(len(y), dtype=int) if films.weight is None else films.weight
    cells = {name: weight @ kind for name, kind in kinds.items()}
    found = {}
    for name in figures:
        counted, among = np.broadcast_arrays(*_FIGURES[name](y, call))
        among = among & films.known
        found[name] = proportions(
            counted, among, draws, name=name, weight=films.weight, level=level
        )
    for k, j in enumerate(found["f1"]):
        estimate, low, high = (2 * x / (1 + x) for x in (j.estimate, j.low, j.high))
        found["f1"][k] = replace(j, estimate=estimate, low=low, high=high)
    return cells, found


def _table(cut: NDArray[np.float64], *what: object, **how: object) -> pd.DataFrame:
    """Return what :func:`_at` returns as a table, a row a threshold."""
    cells, figures = _at(cut, *what, **how)
    table = pd.DataFrame({"threshold": cut} | cells)
    for name, found in figures.items():
        columns = [name, f"{name}_low", f"{name}_high"]
        table[columns] = [(one.estimate, one.low, one.high) for one in found]
    return table
