"""ROC and precision-recall curves, and the areas under them.

Everything starts from one table (:func:`counts_by_threshold`): for each distinct score, the 2x2
table of calling every film positive that scores at least as much. Tied scores move together, as
they must: no threshold can part them.

Every function takes one finding, ``[N]``, or several, ``[N, F]``, and weights. A weight may be a
count: a row of a table of scores that stands for many films.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.inputs import Films, check_films, warn_one_class

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "CountsByThreshold",
    "PrecisionRecallCurve",
    "RocCurve",
    "auroc",
    "average_precision",
    "counts_by_threshold",
    "precision_recall",
    "roc",
]


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
        bool, or numbers that are 0 or 1.
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
    films = check_films(labels, scores, sample_weight=sample_weight)
    found = _all_counts(films)
    return found[0] if films.single else found


def roc(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> RocCurve | list[RocCurve]:
    """Return the ROC curve: sensitivity against false-positive rate, all points kept.

    Parameters and errors are those of :func:`counts_by_threshold`. With one class only, the rate
    that has no films is NaN, with a :class:`~chexlib.metrics.inputs.OneClassWarning`.

    Examples
    --------
    >>> curve = roc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> curve.sensitivity, curve.auroc
    (array([0. , 0.5, 0.5, 1. , 1. ]), 0.75)
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    found = _all_counts(films)
    warn_one_class("roc", films, np.array([not (c.positives and c.negatives) for c in found]))
    curves = [RocCurve(_divide(c.fp, c.negatives), c.sensitivity, c.threshold) for c in found]
    return curves[0] if films.single else curves


def precision_recall(
    labels: ArrayLike, scores: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> PrecisionRecallCurve | list[PrecisionRecallCurve]:
    """Return the precision-recall curve, a point for each distinct score.

    Parameters and errors are those of :func:`counts_by_threshold`. Without positives, recall is
    NaN, with a :class:`~chexlib.metrics.inputs.OneClassWarning`.
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    found = _all_counts(films)
    warn_one_class("precision_recall", films, np.array([not c.positives for c in found]))
    curves = [
        PrecisionRecallCurve(c.precision[1:], c.sensitivity[1:], c.threshold[1:]) for c in found
    ]
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
        bool, or numbers that are 0 or 1.
    scores : array_like [N] or [N, F]
        Any finite numbers, larger where the finding is likelier.
    sample_weight : array_like [N], optional
        Finite, at least 0.

    Returns
    -------
    float or ndarray [F]
        In [0, 1]; NaN where a finding is on no film or on all, with a
        :class:`~chexlib.metrics.inputs.OneClassWarning`.

    Examples
    --------
    >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    values = np.array([_auroc(c) for c in _all_counts(films)])
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
        In [0, 1]; NaN without positives, with a :class:`~chexlib.metrics.inputs.OneClassWarning`.

    Examples
    --------
    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    values = np.array([_average_precision(c) for c in _all_counts(films)])
    warn_one_class("average_precision", films, np.isnan(values))
    return films.squeeze(values)


def _all_counts(films: Films) -> list[CountsByThreshold]:
    columns = range(films.labels.shape[1])
    return [_counts(films.labels[:, k], films.scores[:, k], films.weight) for k in columns]


def _counts(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], weight: NDArray[np.float64] | None
) -> CountsByThreshold:
    order = np.argsort(-scores, kind="stable")
    labels, scores = labels[order], scores[order]
    last = np.flatnonzero(np.diff(scores, append=-np.inf))  # the last film of each distinct score
    weight = np.ones(len(labels)) if weight is None else weight[order]
    tp, fp = np.cumsum(labels * weight), np.cumsum(~labels * weight)
    return CountsByThreshold(
        threshold=np.concatenate([[np.inf], scores[last]]),
        tp=np.concatenate([[0.0], tp[last]]),
        fp=np.concatenate([[0.0], fp[last]]),
        positives=float(tp[-1]),
        negatives=float(fp[-1]),
    )


def _auroc(counts: CountsByThreshold) -> float:
    if not counts.positives or not counts.negatives:
        return np.nan
    area = np.trapezoid(counts.tp, counts.fp)
    return float(area / counts.positives / counts.negatives)


def _average_precision(counts: CountsByThreshold) -> float:
    if not counts.positives:
        return np.nan
    return float((np.diff(counts.tp) * counts.precision[1:]).sum() / counts.positives)


def _divide(above: ArrayLike, below: ArrayLike) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above, dtype=float) / np.asarray(below, dtype=float)
