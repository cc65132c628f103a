"""What many thresholds do on one set of films, all at once, with intervals by patient."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.metrics.bootstrap import RESAMPLES
from chexlib.metrics.estimates import UndefinedWarning
from chexlib.metrics.inputs import check_films
from chexlib.metrics.ratios import proportions
from chexlib.metrics.resampling import draws_of
from chexlib.metrics.thresholds import check_thresholds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from chexlib.metrics.resampling import Resamples

__all__ = ["per_films", "threshold_sweep"]


def threshold_sweep(
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the 2x2 table and its figures at each of many thresholds.

    One draw of patients serves all thresholds, so a row costs next to nothing; for one threshold
    with every detail there is :func:`chexlib.metrics.operating_point`.

    Parameters
    ----------
    labels, scores : array_like [N]
    thresholds : float or array_like [T]
        A film is called positive if its score is at least the threshold.
    patient : array_like [N] or Resamples, optional
        Resampled for the intervals; left out, films are.
    sample_weight : array_like [N], optional
        Sampling weights.
    level, resamples, seed
        Of the intervals.

    Returns
    -------
    DataFrame [T]
        ``threshold tp fp fn tn`` and, for each of sensitivity, specificity, ppv and f1, its value,
        ``…_low`` and ``…_high``; NaN where undefined, such as the ppv where no film is called.
        Where resampling cannot move a proportion (all or none of the films), the interval is
        Wilson's with patients as trials, as in :func:`chexlib.metrics.agreement.assess`.

    Raises
    ------
    ValueError
        If labels or scores are of several findings, lengths differ, or a threshold is none.

    Examples
    --------
    >>> found = threshold_sweep([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.9], [0.3, 0.5])
    >>> found[["threshold", "tp", "fp", "fn", "tn", "sensitivity"]].round(2)
       threshold   tp   fp   fn   tn  sensitivity
    0        0.3  3.0  1.0  0.0  2.0         1.00
    1        0.5  2.0  0.0  1.0  3.0         0.67
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    if not films.single:
        raise ValueError("Expected one finding, got several. Call this once for each column.")
    draws, who = draws_of(films, patient, resamples=resamples, seed=seed)
    cut = check_thresholds(thresholds, films.scores)
    if np.isnan(cut).any():
        raise ValueError("Expected thresholds, got NaN: none could be chosen for this finding.")
    y, call = films.labels, films.scores >= cut
    weight = np.ones(len(y)) if films.weight is None else films.weight
    tp, fp = (weight @ cells for cells in (call & y, call & ~y))
    table = {"threshold": cut, "tp": tp, "fp": fp, "fn": weight @ y - tp, "tn": weight @ ~y - fp}
    # F1 = 2 J / (1 + J) rises with J = tp / (tp + fp + fn), a proportion, and so has its interval.
    among = {"sensitivity": y, "specificity": ~y, "ppv": call, "f1": call | y}
    for name, whom in among.items():
        counted = ~call & ~y if name == "specificity" else call & y
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UndefinedWarning)  # NaN in the table says it
            found = proportions(
                *(counted, np.broadcast_to(whom, call.shape), draws),
                names=[name] * len(cut),
                who=who,
                weight=films.weight,
                level=level,
            )
        for end, attribute in (("", "estimate"), ("_low", "low"), ("_high", "high")):
            value = np.array([getattr(one, attribute) for one in found])
            table[name + end] = 2 * value / (1 + value) if name == "f1" else value
    return pd.DataFrame(table)


def per_films(points: pd.DataFrame, *, films: float = 1000) -> pd.DataFrame:
    """Return operating points as numbers of films, the way a day's work is counted.

    Parameters
    ----------
    points : DataFrame
        With columns ``tp fp fn tn``, as from :func:`threshold_sweep` or
        :func:`chexlib.metrics.operating_points`.
    films : float
        How many.

    Returns
    -------
    DataFrame, same index
        ``found``, ``missed`` and ``false alarms`` among so many films, and ``calls per hit``:
        all calls divided by the true ones, infinite where all are false, NaN where there are none.

    Examples
    --------
    >>> per_films(pd.DataFrame({"tp": [8], "fp": [32], "fn": [2], "tn": [158]}))
       found  missed  false alarms  calls per hit
    0   40.0    10.0         160.0            5.0
    """
    cells = points[["tp", "fn", "fp", "tn"]].astype(float)
    scaled = cells.div(cells.sum(axis=1), axis=0)[["tp", "fn", "fp"]] * films
    scaled = scaled.set_axis(["found", "missed", "false alarms"], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effort = (cells["tp"] + cells["fp"]).to_numpy() / cells["tp"].to_numpy()
    return scaled.assign(**{"calls per hit": effort})
