"""The bootstrap by patient: resample patients with all their films, many times, at once.

Films of one patient repeat one another, so an interval that treats films as independent is too
narrow (Field and Welsh, JRSS B 69 (2007) 369-390). Every figure here is a function of counts, and
counts add up over patients; a resample is then a weighting of patients' counts, and all resamples
are one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.estimates import normal_quantile
from chexlib.metrics.inputs import check_patients

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "RESAMPLES",
    "interval_by_patient",
    "patient_counts",
    "percentile_ends",
    "resampled_counts",
]

RESAMPLES = 2000
_CHUNK = 4_000_000  # draws held at once: 32 MB


def patient_counts(patient: ArrayLike, columns: ArrayLike) -> NDArray[np.float64]:
    """Add up the columns of a patient's films.

    Parameters
    ----------
    patient : array_like [N]
        The patient of each film, any type that sorts.
    columns : array_like [N, C]
        What each film adds to each of C counts.

    Returns
    -------
    ndarray [P, C]
        One row a patient.

    Raises
    ------
    ValueError
        If the lengths differ or a patient is missing.

    Examples
    --------
    >>> patient_counts([7, 7, 9], [[1, 0], [1, 1], [0, 1]])
    array([[2., 1.],
           [0., 1.]])
    """
    columns = np.asarray(columns, dtype=float)
    if columns.ndim != 2:
        raise ValueError(f"Expected counts of shape [N, C], got shape {columns.shape}.")
    code = check_patients(patient, len(columns))
    return np.stack([np.bincount(code, column) for column in columns.T], axis=1)


def resampled_counts(
    counts: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Resample patients with replacement and return the total counts of each resample.

    Patients with equal counts are interchangeable, so it is enough to know how often each distinct
    row of counts was drawn. Draws are whole numbers throughout: the same seed gives the same
    resamples on any processor.

    Parameters
    ----------
    counts : ndarray [P, C]
        One row a patient, from :func:`patient_counts`.
    resamples : int
        How many, B.
    seed : int

    Returns
    -------
    ndarray [B, C]
    """
    if resamples < 1:
        raise ValueError(f"Expected at least one resample, got {resamples}. Use {RESAMPLES}.")
    rows, code = np.unique(counts, axis=0, return_inverse=True)
    code = code.reshape(-1).astype(np.int32)
    rng = np.random.default_rng(seed)
    drawn = np.empty((resamples, len(rows)))
    step = max(1, _CHUNK // len(counts))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        picks = code[rng.integers(len(counts), size=(size, len(counts)), dtype=np.int32)]
        picks += len(rows) * np.arange(size, dtype=np.int32)[:, None]
        tally = np.bincount(picks.ravel(), minlength=size * len(rows))
        drawn[start : start + size] = tally.reshape(size, len(rows))
    return drawn @ rows


def interval_by_patient(
    counts: NDArray[np.float64],
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic of counts, patients resampled.

    See :func:`percentile_ends`.

    Parameters
    ----------
    counts : ndarray [P, C]
        One row a patient.
    statistic : callable
        From counts ``[B, C]`` to values ``[B]``; NaN where undefined, which is left out.
    level, resamples, seed
        Confidence, number of resamples, and where the draws start.

    Returns
    -------
    low, high : float
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(resampled_counts(counts, resamples=resamples, seed=seed))
    low, high = percentile_ends(values[:, None], level=level)[:, 0]
    return float(low), float(high)


def percentile_ends(values: NDArray[np.float64], *, level: float = 0.95) -> NDArray[np.float64]:
    r"""Return the ends of percentile intervals, all columns at once.

    Of B values the ends are those of rank r + 1 from either side, with
    :math:`r = \lceil (B + 1) \alpha / 2 \rceil - 1` and :math:`\alpha` = 1 - level. So 0 lies
    outside exactly where :math:`2 k / (B + 1) < \alpha`, k being the values on the far side of 0:
    the interval and the p-value of :meth:`Bootstrap.p_value` cannot contradict one another.

    Parameters
    ----------
    values : ndarray [B, K]
        NaN where a resample has no value, which is left out.
    level : float

    Returns
    -------
    ndarray [2, K]
        Two of the values themselves, without interpolation; NaN where no value is defined.
    """
    normal_quantile(level)  # refuses a level that is none
    ends = np.full((2, values.shape[1]), np.nan)
    for k, column in enumerate(values.T):
        given = np.sort(column[~np.isnan(column)])
        if len(given):
            rank = int(np.ceil((len(given) + 1) * (1 - level) / 2 - 1e-9)) - 1
            ends[:, k] = given[rank], given[-1 - rank]
    return ends
