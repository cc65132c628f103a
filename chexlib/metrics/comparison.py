"""Paired comparisons on the same films: of two scores, of two label sets, of a score and a reader.

Pairing is what makes a comparison sharp: films that are hard for one are hard for the other, and
the difference varies less than either figure. Two figures whose intervals overlap may well differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.bootstrap import RESAMPLES
from chexlib.metrics.curves import auroc, roc
from chexlib.metrics.delong import delong
from chexlib.metrics.inputs import check_films
from chexlib.metrics.resampling import Bootstrap, draws_of, resampled

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from chexlib.metrics.inputs import Films
    from chexlib.metrics.resampling import Resamples

__all__ = ["Comparison", "compare_labels", "compare_scores", "compare_with_reader", "holm"]

_CHUNK = 64


@dataclass(frozen=True)
class Comparison:
    """Two figures on the same films, and their difference with its interval.

    Attributes
    ----------
    first, second : float
        The figures.
    difference : float
        ``first - second``.
    low, high : float
        Ends of the interval of the difference; NaN where it has no width.
    p_value : float
        Two-sided, of no difference, from the same distribution: below 1 - level exactly where the
        interval leaves out 0.
    method : str
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    method: str

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def compare_scores(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, **options: object
) -> Comparison:
    """Compare two scores of one finding on the same films and labels.

    Parameters
    ----------
    labels : array_like [N]
        bool, or numbers that are 0 or 1.
    first, second : array_like [N]
        Scores; they need not share a scale.
    **options
        ``patient``, ``metric``, ``sample_weight``, ``level``, ``resamples`` and ``seed``: see
        :func:`compare_labels`.

    Examples
    --------
    >>> labels = [0, 0, 0, 1, 1, 1]
    >>> found = compare_scores(labels, [1, 2, 4, 3, 5, 6], [1, 4, 5, 2, 6, 3])
    >>> round(found.first, 2), round(found.second, 2), round(found.difference, 2)
    (0.89, 0.56, 0.33)
    """
    return _compare((labels, labels), (first, second), **options)


def compare_labels(
    first: ArrayLike, second: ArrayLike, scores: ArrayLike, **options: object
) -> Comparison:
    """Compare how well one score agrees with two label sets of the same films.

    A higher figure against one label set does not say that the score is better than the other set;
    for that see :func:`compare_with_reader`.

    Parameters
    ----------
    first, second : array_like [N]
        Labels, such as those of radiologists and those mined from reports.
    scores : array_like [N]
    patient : array_like [N], optional
        The patient of each film; left out, films count as independent.
    metric : callable
        By default :func:`~chexlib.metrics.auroc`, whose interval is DeLong's (by patient:
        Obuchowski's). Any other ``metric(labels, scores, sample_weight=…)`` is resampled.
    sample_weight : array_like [N], optional
        Sampling weights.
    level, resamples, seed
        Confidence; resamples and seed where the metric is resampled.

    Returns
    -------
    Comparison
    """
    return _compare((first, second), (scores, scores), **options)


def compare_with_reader(
    labels: ArrayLike,
    scores: ArrayLike,
    reader: ArrayLike,
    *,
    patient: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the sensitivity of a score with a reader's, at the reader's false-positive rate.

    A reader who says yes or no is one point under or above the score's ROC curve. The threshold is
    set so that score and reader raise as many false alarms; between two points of the curve a
    straight line is drawn. Both figures are resampled together, the reader's rate included.

    Parameters
    ----------
    labels : array_like [N]
        The reference, such as radiologists' adjudicated labels.
    scores : array_like [N]
    reader : array_like [N]
        bool, or 0 and 1: a radiologist's reads, or another label set treated as a reader.
    patient, sample_weight, level, resamples, seed
        As in :func:`compare_labels`.

    Returns
    -------
    Comparison
        ``first`` is the score's sensitivity and ``second`` the reader's. A difference above 0 says
        that the score's ROC curve passes above the reader.

    Notes
    -----
    Where the curve rises vertically at the reader's rate, the score is given the upper end: the
    best threshold that raises no more false alarms. That favours the score by at most the step,
    the positives that lie between two negatives, which matters in small sets only.

    Raises
    ------
    ValueError
        If the reference is of one class: no sensitivity or false-positive rate exists.

    Examples
    --------
    >>> labels = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> reader = [0, 0, 0, 1, 0, 0, 1, 1]
    >>> found = compare_with_reader(labels, [1, 2, 3, 5, 4, 6, 7, 8], reader, resamples=200)
    >>> found.first, found.second, found.difference
    (1.0, 0.5, 0.5)
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    read = check_films(reader, scores, sample_weight=sample_weight).labels[:, 0]
    y = films.labels[:, 0]
    if films.labels.shape[1] > 1 or not y.any() or y.all():
        raise ValueError("Expected one reference with films of both classes, got another.")
    weight = np.ones(len(y)) if films.weight is None else films.weight
    draws, who = draws_of(films, patient, resamples=resamples, seed=seed)

    positive, negative = weight @ y, weight @ ~y
    rate = (weight @ (read & ~y)) / negative
    first = roc(y, films.scores[:, 0], sample_weight=films.weight).at_false_positive_rate(rate)
    second = (weight @ (read & y)) / positive
    values = _sensitivity_gap(films, read, draws, weight)
    gap = Bootstrap(np.asarray(first - second), values, draws)
    return _from_bootstrap(float(first), float(second), gap, level=level, who=who)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for how many there are, by Holm's step-down method.

    Under 0.05 after adjustment, the chance of a single false claim among all of them is at most
    5%, whatever their dependence. NaN stays NaN and is not counted. For p-values that come from
    separate sources; differences on the same resamples have a sharper way,
    :meth:`chexlib.metrics.Bootstrap.p_adjusted`.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    p = np.asarray(p_values, dtype=float)
    given = np.flatnonzero(~np.isnan(p))
    if ((p[given] < 0) | (p[given] > 1)).any():
        raise ValueError("Expected p-values between 0 and 1, got one outside.")
    order = given[np.argsort(p[given], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def _compare(
    labels: tuple[ArrayLike, ArrayLike],
    scores: tuple[ArrayLike, ArrayLike],
    *,
    patient: ArrayLike | None = None,
    metric: Callable[..., ArrayLike] = auroc,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    pair = [
        check_films(y, s, sample_weight=sample_weight) for y, s in zip(labels, scores, strict=True)
    ]
    if not (pair[0].single and pair[1].single and len(pair[0].labels) == len(pair[1].labels)):
        raise ValueError(
            "Expected one finding on the same films, got shapes "
            f"{pair[0].labels.shape} and {pair[1].labels.shape}."
        )
    if metric is auroc:
        found = delong(
            np.hstack([films.labels for films in pair]),
            np.hstack([films.scores for films in pair]),
            patient=None if patient is None else pair[0].patients(patient),
            sample_weight=pair[0].weight,
        )
        gap = found.contrast([1, -1], level=level)
        first, second = (float(value) for value in found.auroc)
        return Comparison(first, second, gap.estimate, gap.low, gap.high, gap.p_value, found.method)
    draws, who = draws_of(pair[0], patient, resamples=resamples, seed=seed)
    first, second = (
        resampled(metric, films.labels[:, 0], films.scores[:, 0], draws, sample_weight=films.weight)
        for films in pair
    )
    return _from_bootstrap(
        float(first.estimate), float(second.estimate), first - second, level=level, who=who
    )


def _from_bootstrap(
    first: float, second: float, gap: Bootstrap, *, level: float, who: str
) -> Comparison:
    low, high = (float(end) for end in gap.interval(level=level))
    method = f"bootstrap by {who}, {len(gap.draws)} resamples"
    return Comparison(first, second, float(gap.estimate), low, high, float(gap.p_value()), method)


def _sensitivity_gap(
    films: Films, read: NDArray[np.bool_], draws: Resamples, weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the score's sensitivity less the reader's in each resample, ``[B]``."""
    order = np.argsort(-films.scores[:, 0], kind="stable")
    scores, y = films.scores[order, 0], films.labels[order, 0]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))
    weight, code, read = weight[order], draws.code[order], read[order]
    gaps = np.full(len(draws), np.nan)
    for start in range(0, len(draws), _CHUNK):
        drawn = draws.drawn[code, start : start + _CHUNK] * weight[:, None]
        tp, fp = (np.cumsum(drawn * kind[:, None], axis=0) for kind in (y, ~y))
        reader_tp, reader_fp = (drawn[read & kind].sum(axis=0) for kind in (y, ~y))
        for b in range(drawn.shape[1]):
            if not tp[-1, b] or not fp[-1, b]:
                continue
            x = np.concatenate([[0.0], fp[last, b]])
            sensitivity = np.concatenate([[0.0], tp[last, b]])
            left = np.searchsorted(x, reader_fp[b], side="right") - 1
            found = sensitivity[left]
            if left + 1 < len(x):
                share = (reader_fp[b] - x[left]) / (x[left + 1] - x[left])
                found += share * (sensitivity[left + 1] - found)
            gaps[start + b] = (found - reader_tp[b]) / tp[-1, b]
    return gaps
