"""The bootstrap by patient: resample patients with all their films, many times, at once.

Films of one patient repeat one another, so an interval that treats films as independent is too
narrow (Field and Welsh, JRSS B 69 (2007) 369-390). Every figure here is a function of counts, and
counts add up over patients; a resample is then a weighting of patients' counts, and all resamples
are one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

__all__ = ["RESAMPLES", "interval_by_patient", "patient_counts", "resampled_counts"]

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
        If the lengths differ or a patient is missing (NaN).

    Examples
    --------
    >>> patient_counts([7, 7, 9], [[1, 0], [1, 1], [0, 1]])
    array([[2., 1.],
           [0., 1.]])
    """
    patient, columns = np.asarray(patient), np.asarray(columns, dtype=float)
    if patient.ndim != 1 or columns.ndim != 2 or len(patient) != len(columns):
        raise ValueError(
            "Expected one patient for each film, got patients of shape "
            f"{patient.shape} for counts of shape {columns.shape}."
        )
    if patient.dtype.kind == "f" and np.isnan(patient).any():
        raise ValueError("Expected a patient for each film, got NaN. Drop or name those films.")
    distinct, code = np.unique(patient, return_inverse=True)
    return np.stack(
        [np.bincount(code, column, minlength=len(distinct)) for column in columns.T], axis=1
    )


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
        Two of the resampled values themselves, without interpolation; NaN if none is defined.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(resampled_counts(counts, resamples=resamples, seed=seed))
    values = values[~np.isnan(values)]
    if not len(values):
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
