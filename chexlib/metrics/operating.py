"""What a threshold does on a set of films: the 2x2 table and all that follows from it.

The threshold should come from other patients (:func:`chexlib.metrics.thresholds.choose`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.metrics.agreement import TwoByTwo, two_by_two
from chexlib.metrics.bootstrap import RESAMPLES
from chexlib.metrics.estimates import Estimate
from chexlib.metrics.inputs import check_films
from chexlib.metrics.ratios import proportions
from chexlib.metrics.resampling import draws_of
from chexlib.metrics.thresholds import check_share, check_thresholds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from chexlib.metrics.inputs import Films
    from chexlib.metrics.resampling import Resamples

__all__ = ["OperatingPoint", "operating_point", "operating_points"]

_PROPORTIONS = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True)
class OperatingPoint:
    """What a threshold does on a set of films.

    Attributes
    ----------
    threshold : float
    table : TwoByTwo
        Films (or weight) by call and label.
    sensitivity, specificity, ppv, npv, f1 : Estimate
        With intervals; NaN where undefined, such as the ppv where no film is called.
    """

    threshold: float
    table: TwoByTwo
    sensitivity: Estimate
    specificity: Estimate
    ppv: Estimate
    npv: Estimate
    f1: Estimate

    @property
    def prevalence(self) -> float:
        """Share of films with the finding."""
        return (self.table.tp + self.table.fn) / self.table.n

    @property
    def called(self) -> float:
        """Share of films called positive."""
        return (self.table.tp + self.table.fp) / self.table.n

    def per(self, films: float = 1000) -> TwoByTwo:
        """Return the 2x2 table scaled to so many films."""
        t, scale = self.table, films / self.table.n
        return TwoByTwo(t.tp * scale, t.fp * scale, t.fn * scale, t.tn * scale)

    def at_prevalence(self, prevalence: float, *, films: float = 1000) -> TwoByTwo:
        """Return the 2x2 table of so many films elsewhere, sensitivity and specificity kept."""
        check_share("prevalence", prevalence)
        positive, negative = prevalence * films, (1 - prevalence) * films
        tp = self.sensitivity.estimate * positive
        tn = self.specificity.estimate * negative
        return TwoByTwo(tp, negative - tn, positive - tp, tn)


def operating_point(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    *,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> OperatingPoint:
    """Return what a threshold does on these films, with intervals.

    Parameters
    ----------
    labels, scores : array_like [N]
    threshold : float
        A film is called positive if its score is at least this; ``inf`` calls none.
    patient : array_like [N] or Resamples, optional
        Whom to resample; left out, films count as independent. Intervals are Wilson's where no
        patient has two films that matter, else from resampling.
    sample_weight : array_like [N], optional
        Sampling weights. For a table of counts, make films of it with
        :func:`chexlib.metrics.inputs.from_counts`.
    level, resamples, seed
        Confidence; number of resamples and where draws start.

    Returns
    -------
    OperatingPoint

    Examples
    --------
    >>> point = operating_point([0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.9], 0.3)
    >>> point.table
    TwoByTwo(tp=3, fp=1, fn=0, tn=2)
    >>> print(point.sensitivity)
    1.00 (0.44 to 1.00)
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    if not films.single:
        raise ValueError("Expected one finding, got several. Use operating_points.")
    if np.ndim(threshold):
        raise ValueError(f"Expected one threshold, got shape {np.shape(threshold)}.")
    (threshold,) = check_thresholds(threshold, films.scores)
    if math.isnan(threshold):
        raise ValueError("Expected a threshold, got NaN: none could be chosen for this finding.")
    draws, who = draws_of(films, patient, resamples=resamples, seed=seed)
    return _point(films, 0, float(threshold), draws, who=who, level=level)


def operating_points(
    labels: pd.DataFrame,
    scores: pd.DataFrame,
    thresholds: ArrayLike,
    *,
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return operating points of several findings as a table, a row a finding.

    Parameters
    ----------
    labels, scores : DataFrame [N, F]
        With the findings' names as columns, in one order.
    thresholds : array_like [F]
        From :func:`choose`, on other films. NaN gives a row without figures.
    patient, sample_weight, level, resamples, seed
        As in :func:`operating_point`; one draw of patients serves all findings.

    Returns
    -------
    DataFrame
        ``finding threshold tp fp fn tn prevalence called`` and, for each of sensitivity,
        specificity, ppv, npv and f1, its value, ``…_low`` and ``…_high``.
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    draws, who = draws_of(films, patient, resamples=resamples, seed=seed)
    thresholds = check_thresholds(thresholds, films.scores)
    if thresholds.shape != (len(films.names),):
        raise ValueError(
            f"Expected a threshold for each of {len(films.names)} findings, got shape "
            f"{thresholds.shape}."
        )
    rows = []
    for k, (name, threshold) in enumerate(zip(films.names, thresholds, strict=True)):
        row = {"finding": name, "threshold": threshold}
        if not math.isnan(threshold):
            point = _point(films, k, float(threshold), draws, who=who, level=level)
            row |= dict(zip(("tp", "fp", "fn", "tn"), _cells(point.table), strict=True))
            row |= {"prevalence": point.prevalence, "called": point.called}
            for figure in (*_PROPORTIONS, "f1"):
                value = getattr(point, figure)
                row |= {figure: value.estimate}
                row |= {f"{figure}_low": value.low, f"{figure}_high": value.high}
        rows.append(row)
    return pd.DataFrame(rows)


def _cells(table: TwoByTwo) -> tuple[float, float, float, float]:
    return table.tp, table.fp, table.fn, table.tn


def _point(
    films: Films, k: int, threshold: float, draws: Resamples, *, who: str, level: float
) -> OperatingPoint:
    y, call = films.labels[:, k], films.scores[:, k] >= threshold
    # F1 = 2 J / (1 + J) rises with J = tp / (tp + fp + fn), a proportion, and so has its interval.
    counted = np.stack([call & y, ~call & ~y, call & y, ~call & ~y, call & y], axis=1)
    among = np.stack([y, ~y, call, ~call, call | y], axis=1)
    *figures, j = proportions(
        counted,
        among,
        draws,
        names=[*_PROPORTIONS, "f1"],
        who=who,
        weight=films.weight,
        level=level,
    )
    f1 = Estimate(j.k, j.n, *(2 * x / (1 + x) for x in (j.estimate, j.low, j.high)), j.method)
    table = two_by_two(call, y, sample_weight=films.weight)
    return OperatingPoint(threshold, table, *figures, f1)
