"""How uncertain an AUROC must be, from two counts alone: before there is a score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["auroc_standard_error"]


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
    if not ((a > 0) & (a < 1)).all():
        raise ValueError(f"Expected an AUROC strictly between 0 and 1, got {auroc}.")
    if not ((pos >= 1).all() and (neg >= 1).all()):
        raise ValueError(f"Expected counts of at least 1, got {n_positive} and {n_negative}.")
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    variance = (a * (1 - a) + (pos - 1) * (q1 - a**2) + (neg - 1) * (q2 - a**2)) / (pos * neg)
    error = np.sqrt(variance)
    return float(error) if error.ndim == 0 else error
