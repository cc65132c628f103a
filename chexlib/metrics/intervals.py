"""How uncertain an AUROC is: from two counts alone, and from scores of films grouped by patient.

Both are closed forms, so a figure is the same on every machine. The first
(:func:`auroc_standard_error`) takes films as independent; the second (:func:`clustered_auroc`) does
not, and needs the scores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["AurocInterval", "auroc_standard_error", "clustered_auroc"]


class AurocInterval(NamedTuple):
    """An AUROC, its standard error (NaN if it cannot be estimated) and the ends of its interval."""

    auroc: float
    standard_error: float
    low: float
    high: float


def auroc_standard_error(
    auroc: ArrayLike, *, n_positive: ArrayLike, n_negative: ArrayLike
) -> np.ndarray | float:
    r"""Return the standard error that an assumed AUROC has, by Hanley and McNeil's formula.

    With :math:`Q_1 = A / (2 - A)` and :math:`Q_2 = 2 A^2 / (1 + A)`,

    .. math:: SE^2 = \frac{A (1 - A) + (n_+ - 1)(Q_1 - A^2) + (n_- - 1)(Q_2 - A^2)}{n_+ n_-}.

    It holds exactly for exponentially distributed scores and is close for others. It takes every
    film as a new patient: where patients have several films it is too small
    (:func:`clustered_auroc` is not).

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
    if not ((a > 0) & (a < 1)).all():
        raise ValueError(f"Expected an AUROC strictly between 0 and 1, got {auroc}.")
    if not ((pos >= 1).all() and (neg >= 1).all()):
        raise ValueError(f"Expected counts of at least 1, got {n_positive} and {n_negative}.")
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    variance = (a * (1 - a) + (pos - 1) * (q1 - a**2) + (neg - 1) * (q2 - a**2)) / (pos * neg)
    error = np.sqrt(variance)
    return float(error) if error.ndim == 0 else error


def clustered_auroc(
    score: ArrayLike, positive: ArrayLike, *, cluster: ArrayLike, level: float = 0.95
) -> AurocInterval:
    """Return the AUROC of a score with an interval that counts patients, not films.

    Each film's placement (the share of films of the other class that it is ranked rightly against)
    is summed within its patient; the spread of these sums over patients gives the standard error.
    The interval is symmetric on the logit scale, so that it stays between 0 and 1.

    Parameters
    ----------
    score : array_like [n]
        Any number that is larger for films more likely to be positive; ties count a half. A yes/no
        property of the film serves as well.
    positive : array_like [n]
        Whether the film has the finding.
    cluster : array_like [n]
        Patient of each film. With a new one for each, the result is DeLong's.
    level : float
        Of confidence, between 0 and 1.

    Returns
    -------
    AurocInterval
        Ends are NaN where all is right, all is wrong, or there is a single patient.

    Raises
    ------
    ValueError
        If lengths differ, a score is not a number, or one class is missing.

    References
    ----------
    Obuchowski, Biometrics 53 (1997), 567-578, here with one common factor K / (K - 1) for the K
    patients; DeLong et al., Biometrics 44 (1988), 837-845.

    Examples
    --------
    >>> clustered_auroc([1, 2, 3, 4], [0, 1, 0, 1], cluster=[1, 2, 3, 4]).auroc
    0.75
    """
    score, positive = np.asarray(score, dtype=float), np.asarray(positive, dtype=bool)
    cluster = np.asarray(cluster)
    if not score.shape == positive.shape == cluster.shape or score.ndim != 1:
        raise ValueError(
            f"Expected three one-dimensional arrays of one length, got shapes {score.shape}, "
            f"{positive.shape} and {cluster.shape}."
        )
    if np.isnan(score).any():
        raise ValueError("Expected a number for each film, got NaN. Leave such films out first.")
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if not n_positive or not n_negative:
        raise ValueError(f"Expected both classes, got {n_positive} positive of {len(score)} films.")
    rank = rankdata(score)
    placement = np.empty(len(score))
    placement[positive] = (rank[positive] - rankdata(score[positive])) / n_negative
    placement[~positive] = 1 - (rank[~positive] - rankdata(score[~positive])) / n_positive
    auroc = float(placement[positive].mean())

    influence = (placement - auroc) / np.where(positive, n_positive, n_negative)
    patients, member = np.unique(cluster, return_inverse=True)
    sums = np.bincount(member, weights=influence)
    if len(patients) < 2 or not 0 < auroc < 1:
        return AurocInterval(auroc, np.nan, np.nan, np.nan)
    error = float(np.sqrt(len(patients) / (len(patients) - 1) * (sums**2).sum()))
    half = norm.ppf(0.5 + level / 2) * error / (auroc * (1 - auroc))
    low, high = expit(logit(auroc) + np.array([-half, half]))
    return AurocInterval(auroc, error, float(low), float(high))
