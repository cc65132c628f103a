"""ROC and precision-recall curves, and the areas under them.

Everything starts from one table (:func:`counts_by_threshold`): for each distinct score, the 2x2
table of calling every film positive that scores at least as much. Tied scores move together, as
they must: no threshold can part them.

Every function takes one finding, ``[N]``, or several, ``[N, F]``, and weights. A weight may be a
count: a row of a table of scores that stands for many films. A label may be NaN where nobody knows
it: the film is then left out of that finding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from chexlib.metrics.inputs import Films, check_films, check_share, warn_one_class


@dataclass(frozen=True)
class CountsByThreshold:
    """The 2x2 table at every threshold that makes a difference, from high to low.

    Attributes
    ----------
    threshold : ndarray [K + 1]
        ``inf`` (no film is called positive), then the K distinct scores, falling. A film is called
        positive if its score is at least the threshold.
    tp, fp : ndarray [K + 1]
        Weight of true and false positives at each.
    positives, negatives : float
        Weight of all films with and without the finding.
    """

    threshold: NDArray[np.float64]
    tp: NDArray[np.float64]
    fp: NDArray[np.float64]
    positives: float
    negatives: float

    @property
    def fn(self) -> NDArray[np.float64]:
        """False negatives."""
        return self.positives - self.tp

    @property
    def tn(self) -> NDArray[np.float64]:
        """True negatives."""
        return self.negatives - self.fp

    @property
    def sensitivity(self) -> NDArray[np.float64]:
        """Share of positives found; NaN without positives."""
        return _divide(self.tp, self.positives)

    @property
    def specificity(self) -> NDArray[np.float64]:
        """Share of negatives left alone; NaN without negatives."""
        return _divide(self.tn, self.negatives)

    @property
    def precision(self) -> NDArray[np.float64]:
        """Share of called films that are positive; NaN where none is called."""
        return _divide(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> NDArray[np.float64]:
        """Harmonic mean of precision and sensitivity: 2 tp / (2 tp + fp + fn)."""
        return _divide(2 * self.tp, self.tp + self.fp + self.positives)


@dataclass(frozen=True)
class RocCurve:
    """A ROC curve from (0, 0) to (1, 1): ``threshold`` [K + 1], falling from ``inf``."""

    false_positive_rate: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    threshold: NDArray[np.float64]

    @property
    def auroc(self) -> float:
        """Area by the trapezoidal rule."""
        return float(np.trapezoid(self.sensitivity, self.false_positive_rate))

    def at_false_positive_rate(self, rate: ArrayLike) -> NDArray[np.float64]:
        """Return the sensitivity at given false-positive rates, between points by straight lines.

        Where the curve rises vertically at a rate, the upper end counts.

        Examples
        --------
        >>> roc([0, 1, 0, 1], [1, 2, 3, 4]).at_false_positive_rate([0, 0.25, 0.5])
        array([0.5, 0.5, 1. ])
        """
        rate = np.asarray(rate, dtype=float)
        x, y = self.false_positive_rate, self.sensitivity
        left = np.clip(np.searchsorted(x, rate, side="right") - 1, 0, len(x) - 1)
        right = np.minimum(left + 1, len(x) - 1)
        step = np.where(x[right] > x[left], x[right] - x[left], 1.0)
        return y[left] + (y[right] - y[left]) * (rate - x[left]) / step


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """Precision and recall at each of the K distinct scores, ``threshold`` falling.

    There is no invented point at recall 0: precision is not defined where no film is called.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    threshold: NDArray[np.float64]

    @property
    def average_precision(self) -> float:
        """Sum of precision times the step in recall, without interpolation."""
        return float((np.diff(self.recall, prepend=0.0) * self.precision).sum())


def counts_by_threshold(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> CountsByThreshold | list[CountsByThreshold]:
    """Return the 2x2 table at every distinct score.

    Parameters
    ----------
    labels : array_like [N] or [N, F]
        bool, or numbers that are 0 or 1; NaN where nobody knows.
    scores : array_like [N] or [N, F]
        Any finite numbers, larger where the finding is likelier.
    sample_weight : array_like [N], optional
        Finite, at least 0. Films of weight 0 are left out.

    Returns
    -------
    CountsByThreshold, or a list of F

    Raises
    ------
    ValueError
        See :func:`chexlib.metrics.inputs.check_films`.

    Examples
    --------
    >>> counts = counts_by_threshold([1, 0, 1, 0], [0.9, 0.7, 0.7, 0.1])
    >>> counts.threshold, counts.tp, counts.fp
    (array([inf, 0.9, 0.7, 0.1]), array([0., 1., 2., 2.]), array([0., 0., 1., 2.]))
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    found = all_counts(films)
    return found[0] if films.single else found


def roc(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> RocCurve | list[RocCurve]:
    """Return the ROC curve: sensitivity against false-positive rate, all points kept.

    Parameters and errors are those of :func:`counts_by_threshold`. With one class only, the rate
    that has no films is NaN, with a :class:`~chexlib.metrics.OneClassWarning`.

    Examples
    --------
    >>> curve = roc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> curve.sensitivity, curve.auroc
    (array([0. , 0.5, 0.5, 1. , 1. ]), 0.75)
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    curves = [_roc(counts) for counts in all_counts(films)]
    warn_one_class("roc", films, np.isnan([curve.auroc for curve in curves]))
    return curves[0] if films.single else curves


def precision_recall(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> PrecisionRecallCurve | list[PrecisionRecallCurve]:
    """Return the precision-recall curve, a point for each distinct score.

    Parameters and errors are those of :func:`counts_by_threshold`. Without positives, recall is
    NaN, with a :class:`~chexlib.metrics.OneClassWarning`.
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    curves = [_precision_recall(counts) for counts in all_counts(films)]
    undefined = np.isnan([curve.average_precision for curve in curves])
    warn_one_class("precision_recall", films, undefined)
    return curves[0] if films.single else curves


def auroc(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Return the area under the ROC curve.

    It is the chance that a film with the finding scores above a film without it, ties counting a
    half, and so does not depend on prevalence.

    Parameters
    ----------
    labels : array_like [N] or [N, F]
        bool, or numbers that are 0 or 1; NaN where nobody knows.
    scores : array_like [N] or [N, F]
        Any finite numbers, larger where the finding is likelier.
    sample_weight : array_like [N], optional
        Finite, at least 0.

    Returns
    -------
    float or ndarray [F]
        In [0, 1]; NaN where a finding is on no film or on all, with a
        :class:`~chexlib.metrics.OneClassWarning`.

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    values = np.array([_roc(counts).auroc for counts in all_counts(films)])
    warn_one_class("auroc", films, np.isnan(values))
    return films.squeeze(values)


def average_precision(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Return average precision: the mean precision over the positives, each at its own score.

    A useless score has the prevalence for its average precision, so figures at two prevalences
    cannot be compared.

    Parameters are those of :func:`auroc`.

    Returns
    -------
    float or ndarray [F]
        In [0, 1]; NaN without positives, with a :class:`~chexlib.metrics.OneClassWarning`.

    Examples
    --------
    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    values = np.array([_precision_recall(c).average_precision for c in all_counts(films)])
    warn_one_class("average_precision", films, np.isnan(values))
    return films.squeeze(values)


def auroc_standard_error(
    auroc: ArrayLike, *, n_positive: ArrayLike, n_negative: ArrayLike
) -> np.ndarray | float:
    r"""Return the standard error that an assumed AUROC has, by Hanley and McNeil's formula.

    With :math:`Q_1 = A / (2 - A)` and :math:`Q_2 = 2 A^2 / (1 + A)`,

    .. math:: SE^2 = \frac{A (1 - A) + (n_+ - 1)(Q_1 - A^2) + (n_- - 1)(Q_2 - A^2)}{n_+ n_-}.

    It holds exactly for exponentially distributed scores and is close for others. It takes every
    film as a new patient: where patients have several films it is too small
    (:func:`chexlib.metrics.delong` with patients is not).

    Parameters
    ----------
    auroc : array_like
        Assumed AUROC, strictly between 0 and 1.
    n_positive, n_negative : array_like
        Films with and without the finding, at least 1; all three broadcast.

    Returns
    -------
    float or ndarray
        Standard error, in the unit of the AUROC.

    Raises
    ------
    ValueError
        If an AUROC is not between 0 and 1 or a count is below 1.

    References
    ----------
    Hanley and McNeil, Radiology 143 (1982), 29-36, equations 1 and 2.

    Examples
    --------
    Ten times the positives, a third of the error:

    >>> errors = auroc_standard_error(0.9, n_positive=[50, 500], n_negative=50_000)
    >>> [f"{error:.4f}" for error in errors]
    ['0.0292', '0.0092']
    """
    a, pos, neg = (np.asarray(values, dtype=float) for values in (auroc, n_positive, n_negative))
    check_share("an AUROC", a, strict=True)
    if not ((pos >= 1).all() and (neg >= 1).all()):
        raise ValueError(f"Expected counts of at least 1, got {n_positive} and {n_negative}.")
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    variance = (a * (1 - a) + (pos - 1) * (q1 - a**2) + (neg - 1) * (q2 - a**2)) / (pos * neg)
    error = np.sqrt(variance)
    return float(error) if error.ndim == 0 else error


def all_counts(films: Films) -> list[CountsByThreshold]:
    """Return the 2x2 tables of each finding, of the films whose label is known."""
    columns = zip(films.labels.T, films.scores.T, films.known.T, strict=True)
    return [_counts(y[known], s[known], films.mass[known]) for y, s, known in columns]


def _counts(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], weight: NDArray[np.float64]
) -> CountsByThreshold:
    if not len(labels):  # no label is known: curves of two points, without a value
        return CountsByThreshold(np.full(2, np.inf), np.zeros(2), np.zeros(2), 0.0, 0.0)
    order = np.argsort(-scores, kind="stable")
    labels, scores, weight = labels[order], scores[order], weight[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # the last film of each distinct score
    tp, fp = (np.concatenate([[0.0], np.cumsum(kind * weight)[last]]) for kind in (labels, ~labels))
    return CountsByThreshold(
        threshold=np.concatenate([[np.inf], scores[last]]),
        tp=tp,
        fp=fp,
        positives=float(tp[-1]),
        negatives=float(fp[-1]),
    )


def _roc(c: CountsByThreshold) -> RocCurve:
    return RocCurve(_divide(c.fp, c.negatives), c.sensitivity, c.threshold)


def _precision_recall(c: CountsByThreshold) -> PrecisionRecallCurve:
    return PrecisionRecallCurve(c.precision[1:], c.sensitivity[1:], c.threshold[1:])


def _divide(above: ArrayLike, below: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above, dtype=float) / np.asarray(below, dtype=float)
