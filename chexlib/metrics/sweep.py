"""What many thresholds do on one set of films, all at once, with intervals by patient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.metrics.bootstrap import RESAMPLES
from chexlib.metrics.estimates import wilson_interval
from chexlib.metrics.inputs import check_films
from chexlib.metrics.resampling import Bootstrap, Resamples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["per_films", "threshold_sweep"]


def threshold_sweep(
    labels: ArrayLike,
    scores: ArrayLike,
    thresholds: ArrayLike,
    *,
    patient: ArrayLike | None = None,
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
    thresholds : array_like [T]
        A film is called positive if its score is at least the threshold.
    patient : array_like [N], optional
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
        If labels or scores are of several findings, or lengths differ.

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
    y, s = films.labels[:, 0], films.scores[:, 0]
    cut = np.asarray(thresholds, dtype=float)
    weight = np.ones(len(y)) if films.weight is None else films.weight
    called = s[:, None] >= cut
    columns = np.hstack([called & y[:, None], called & ~y[:, None], y[:, None], ~y[:, None]])
    columns = columns * weight[:, None]
    draws = Resamples(
        np.arange(len(y)) if patient is None else patient, resamples=resamples, seed=seed
    )
    if len(draws.code) != len(y):
        raise ValueError(f"Expected a patient for each of {len(y)} films, got {len(draws.code)}.")
    whole, drawn = columns.sum(axis=0)[None], draws.sums(columns)
    tp, fp, positives, negatives = _parts(whole, len(cut))
    cells = (tp[0], fp[0], (positives - tp)[0], (negatives - fp)[0])
    table = {"threshold": cut} | dict(zip(("tp", "fp", "fn", "tn"), cells, strict=True))
    values, replicates = _figures(whole, len(cut)), _figures(drawn, len(cut))
    for name, value in values.items():
        low, high = Bootstrap(value[0], replicates[name], draws).interval(level=level)
        for k in np.flatnonzero(low == high) if name != "f1" else ():
            # Resampling cannot move all or none of the films: Wilson's, with patients as trials.
            among = {"sensitivity": y, "specificity": ~y, "ppv": called[:, k]}[name]
            trials = len(np.unique(draws.code[among]))
            if trials:
                low[k], high[k] = wilson_interval(value[0, k], trials, level=level)
        undefined = np.isnan(value[0])  # a resample may have what the films lack; it is no interval
        table[name] = value[0]
        table[f"{name}_low"] = np.where(undefined, np.nan, low)
        table[f"{name}_high"] = np.where(undefined, np.nan, high)
    return pd.DataFrame(table)


def _parts(sums: NDArray[np.float64], t: int) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    return sums[:, :t], sums[:, t : 2 * t], sums[:, -2:-1], sums[:, -1:]


def _figures(sums: NDArray[np.float64], t: int) -> dict[str, NDArray[np.float64]]:
    tp, fp, positives, negatives = _parts(sums, t)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "sensitivity": tp / positives,
            "specificity": 1 - fp / negatives,
            "ppv": tp / (tp + fp),
            "f1": 2 * tp / (tp + fp + positives),
        }


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
        ``found``, ``missed`` and ``false alarms`` among so many films, and ``alarms per film
        found``: all calls divided by the true ones, infinite where all are false, NaN where there
        are none.

    Examples
    --------
    >>> per_films(pd.DataFrame({"tp": [8], "fp": [32], "fn": [2], "tn": [158]}))
       found  missed  false alarms  alarms per film found
    0   40.0    10.0         160.0                    5.0
    """
    cells = points[["tp", "fn", "fp", "tn"]].astype(float)
    scaled = cells.div(cells.sum(axis=1), axis=0)[["tp", "fn", "fp"]] * films
    scaled = scaled.set_axis(["found", "missed", "false alarms"], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        effort = (cells["tp"] + cells["fp"]).to_numpy() / cells["tp"].to_numpy()
    return scaled.assign(**{"alarms per film found": effort})
