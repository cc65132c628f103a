"""Patients and their films: who has how many, and in which order they were taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

__all__ = ["age_reversals", "lorenz", "top_share"]


def lorenz(counts: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the Lorenz curve of films over patients, those with the most films first.

    Parameters
    ----------
    counts : array_like [n]
        Films of each patient, with a sum above 0.

    Returns
    -------
    patients, films : ndarray [n + 1]
        Cumulative shares, both from 0 to 1; the diagonal would be equality.

    Examples
    --------
    >>> lorenz([1, 6, 1])[1]
    array([0.   , 0.75 , 0.875, 1.   ])
    """
    counts = np.sort(np.asarray(counts, dtype=float))[::-1]
    if not len(counts) or counts[-1] < 0 or counts.sum() <= 0:
        raise ValueError(f"Expected counts of 0 or more with a sum above 0, got {counts}.")
    return np.linspace(0, 1, len(counts) + 1), np.append(0, counts.cumsum() / counts.sum())


def top_share(counts: ArrayLike, fraction: float) -> float:
    """Return the share of films that belongs to the ``fraction`` of patients with the most.

    Examples
    --------
    >>> top_share([1, 6, 1], 1 / 3)
    0.75
    """
    return float(np.interp(fraction, *lorenz(counts)))


def age_reversals(labels: pd.DataFrame, order: ArrayLike) -> int:
    """Return how many films show their patient younger than the film before.

    In the true order of time there is none.

    Parameters
    ----------
    labels : DataFrame
        Columns ``patient`` and ``age``.
    order : array_like [n]
        Number of each film; films of a patient are put in ascending order of it.

    Examples
    --------
    >>> import pandas as pd
    >>> films = pd.DataFrame({"patient": [1, 1, 2], "age": [61, 60, 50]})
    >>> age_reversals(films, [0, 1, 0]), age_reversals(films, [1, 0, 0])
    (1, 0)
    """
    rank = np.lexsort((np.asarray(order), labels["patient"]))
    patient, age = labels["patient"].to_numpy()[rank], labels["age"].to_numpy()[rank]
    return int(((np.diff(patient) == 0) & (np.diff(age) < 0)).sum())
