"""Several proportions of the same films at once, with the intervals of ``assess``.

Wilson's interval where no patient has two of the films that a proportion is of; otherwise patients
are resampled, one draw for all proportions.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.bootstrap import percentile_ends
from chexlib.metrics.estimates import Estimate, UndefinedWarning, wilson, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from chexlib.metrics.resampling import Resamples

__all__ = ["proportions"]


def proportions(
    counted: NDArray[np.bool_],
    among: NDArray[np.bool_],
    draws: Resamples,
    *,
    names: list[str],
    who: str = "patient",
    weight: NDArray[np.float64] | None = None,
    level: float = 0.95,
) -> list[Estimate]:
    """Return R proportions with their intervals.

    Parameters
    ----------
    counted, among : ndarray [N, R] of bool
        Films counted, and films they are counted among.
    draws : Resamples
        Of the N films.
    names : list of str
        Of the proportions, for the warning where one has no films.
    who : str
        What was drawn.
    weight : ndarray [N], optional
        Sampling weights.
    level : float
        Confidence.

    Returns
    -------
    list of Estimate
        ``k`` of ``n`` are films before weighting. Where resampling cannot move a proportion (all or
        none of the films), the interval is Wilson's with patients as trials. NaN, with an
        :class:`~chexlib.metrics.estimates.UndefinedWarning`, where there are no films.
    """
    counted = counted & among
    k, n = counted.sum(axis=0), among.sum(axis=0)
    w = 1.0 if weight is None else weight[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        above, below = counted * w, among * w
        value = above.sum(axis=0) / below.sum(axis=0)
        above, below = np.split(draws.sums(np.hstack([above, below])), 2, axis=1)
        replicates = above / below
    low, high = percentile_ends(replicates, level=level)
    films = np.stack([np.bincount(draws.code, column) for column in among.T.astype(float)], axis=1)
    found = []
    for r, name in enumerate(names):
        if np.isnan(value[r]):
            warnings.warn(f"{name} is undefined: it has no films.", UndefinedWarning, stacklevel=3)
            found.append(Estimate(0, 0, np.nan, np.nan, np.nan, "undefined"))
        elif weight is None and films[:, r].max() <= 1:
            found.append(wilson(int(k[r]), int(n[r]), level=level))
        else:
            ends = (float(low[r]), float(high[r]))
            method = f"bootstrap by {who}, {len(draws)} resamples"
            if ends[0] == ends[1]:
                trials = int((films[:, r] > 0).sum())
                ends = wilson_interval(float(value[r]), trials, level=level)
                method = f"Wilson, {trials} {who}s as trials"
            found.append(Estimate(int(k[r]), int(n[r]), float(value[r]), *ends, method))
    return found
