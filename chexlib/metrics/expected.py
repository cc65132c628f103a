"""What a score would do if its probabilities were exactly right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.inputs import check_films

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["expected_films"]


def expected_films(
    probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Split each film into its share with the finding and its share without.

    A film of probability 0.2 becomes a fifth of a film with the finding and four fifths of one
    without. Every metric that takes weights then gives the figure of a perfectly calibrated score,
    without drawing labels at random.

    Parameters
    ----------
    probabilities : array_like [N]
        In [0, 1].
    sample_weight : array_like [N], optional
        Of the films, such as how many a row of a table stands for.

    Returns
    -------
    labels, probabilities, sample_weight : ndarray [2 N]
        Of the N films of a weight above 0.

    Raises
    ------
    ValueError
        If a probability is outside [0, 1], or shapes do not fit.

    Examples
    --------
    Films above half of the best F1 are called, the others not (Lipton et al., ECML 2014):

    >>> from chexlib.metrics import choose, counts_by_threshold, max_f1
    >>> labels, p, weight = expected_films([0.1, 0.3, 0.5, 0.9])
    >>> threshold = choose(labels, p, max_f1, sample_weight=weight)
    >>> best = np.nanmax(counts_by_threshold(labels, p, sample_weight=weight).f1)
    >>> threshold, round(float(best) / 2, 2)
    (0.5, 0.37)
    """
    p = np.asarray(probabilities, dtype=float)
    films = check_films(np.zeros(p.shape), p, sample_weight=sample_weight, probabilities=True)
    if not films.single:
        raise ValueError("Expected one finding, got several. Call this once for each column.")
    p = films.scores[:, 0]
    weight = np.ones(len(p)) if films.weight is None else films.weight
    labels = np.repeat([True, False], len(p))
    return labels, np.tile(p, 2), np.concatenate([weight * p, weight * (1 - p)])
