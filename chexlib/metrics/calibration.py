"""Calibration: of films given 20%, are 20% positive.

Reliability in bins with intervals, calibration error, slope and intercept of calibration, the Brier
score and what it is made of. How to mend probabilities is in :mod:`chexlib.metrics.recalibration`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from chexlib.metrics.bootstrap import RESAMPLES
from chexlib.metrics.estimates import UndefinedWarning
from chexlib.metrics.inputs import check_films, warn_one_class
from chexlib.metrics.ratios import proportions
from chexlib.metrics.recalibration import logits
from chexlib.metrics.resampling import draws_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from chexlib.metrics.inputs import Films
    from chexlib.metrics.resampling import Resamples

__all__ = [
    "BrierParts",
    "brier",
    "brier_parts",
    "calibration_error",
    "calibration_slope",
    "reliability",
]


@dataclass(frozen=True)
class BrierParts:
    """The Brier score and what it is made of.

    ``brier = reliability - resolution + uncertainty + within``.

    Attributes
    ----------
    brier : float
        Mean squared error of the probabilities.
    reliability : float
        Mean squared distance of bins' mean probability from their share of positives: 0 is best.
    resolution : float
        How far bins' shares of positives lie from the prevalence: more is better.
    uncertainty : float
        prevalence (1 - prevalence), what the prevalence alone scores.
    within : float
        What binning hides: variance of probabilities within bins less twice their covariance with
        the labels (Stephenson et al. 2008). 0 where each distinct probability is a bin.
    """

    brier: float
    reliability: float
    resolution: float
    uncertainty: float
    within: float


def reliability(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    bins: int = 10,
    strategy: str = "mass",
    patient: ArrayLike | Resamples | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the reliability curve: the share of positives among films of like probability.

    Parameters
    ----------
    labels, probabilities : array_like [N]
    bins : int
        How many, at least 1. Equal probabilities stay together, so there may be fewer.
    strategy : {"mass", "width"}
        Bins of about equally many films, or of equal width. Probabilities of a rare finding crowd
        near 0, where equal widths put nearly all films into one bin.
    patient, sample_weight, level, resamples, seed
        As in :func:`chexlib.metrics.operating.operating_point`.

    Returns
    -------
    DataFrame
        A row a bin that has films, rising: ``lower`` and ``upper`` (smallest and largest
        probability in it), ``n`` films, ``positive`` of them, ``predicted`` (mean probability),
        ``observed`` (share of positives), ``low``, ``high``.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1], or bins or strategy are unknown.

    Examples
    --------
    >>> reliability([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], bins=2)[["n", "predicted", "observed"]]
       n  predicted  observed
    0  2       0.15       0.0
    1  2       0.75       1.0
    """
    films, weight, member = _binned(labels, probabilities, sample_weight, bins, strategy)
    y, p = films.labels[:, 0], films.scores[:, 0]
    draws, who = draws_of(films, patient, resamples=resamples, seed=seed)
    used = np.unique(member)  # a bin may be empty
    inside = member[:, None] == used
    shares = proportions(
        np.broadcast_to(y[:, None], inside.shape),
        inside,
        draws,
        names=[f"share of bin {k + 1}" for k in used],
        who=who,
        weight=films.weight,
        level=level,
    )
    order = np.argsort(p, kind="stable")
    first = [order[inside[order, k]][[0, -1]] for k in range(len(used))]
    mass = np.bincount(member, weight)
    return pd.DataFrame(
        {
            "lower": [p[ends[0]] for ends in first],
            "upper": [p[ends[1]] for ends in first],
            "n": [found.n for found in shares],
            "positive": [found.k for found in shares],
            "predicted": (np.bincount(member, weight * p)[used] / mass[used]),
            "observed": [found.estimate for found in shares],
            "low": [found.low for found in shares],
            "high": [found.high for found in shares],
        }
    )


def calibration_error(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    bins: int = 15,
    strategy: str = "mass",
    sample_weight: ArrayLike | None = None,
) -> float:
    """Return the expected calibration error (ECE).

    The distance between mean probability and share of positives, averaged over films.

    Parameters
    ----------
    labels, probabilities : array_like [N]
    bins, strategy
        As in :func:`reliability`. With ``"width"`` this is the ECE of Guo et al. (ICML 2017), with
        ``"mass"`` that of Nguyen and O'Connor (EMNLP 2015).
    sample_weight : array_like [N], optional
        Sampling weights or counts; bins of equal mass then hold equal weight.

    Returns
    -------
    float
        In [0, 1]. Chance alone keeps it above 0 even for perfect probabilities, the more so the
        more bins and the fewer films, so figures of different numbers of films do not compare.

    Examples
    --------
    >>> round(calibration_error([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9], bins=2), 3)
    0.2
    """
    films, weight, member = _binned(labels, probabilities, sample_weight, bins, strategy)
    y, p = films.labels[:, 0], films.scores[:, 0]
    gap = np.bincount(member, weight * (p - y))
    return float(np.abs(gap).sum() / weight.sum())


def calibration_slope(
    labels: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return slope and intercept of calibration, by logistic regression on the logit.

    :func:`~chexlib.metrics.resampling.resampled` takes this as a metric and gives both intervals.

    Parameters
    ----------
    labels, probabilities : array_like [N]
    sample_weight : array_like [N], optional

    Returns
    -------
    ndarray [2]
        The slope: 1 is right, below 1 says that probabilities are too extreme. The intercept, what
        all logits lack if their slope is left at 1: 0 is right, below 0 says that probabilities are
        too high. Both NaN where films are of one class, with a
        :class:`~chexlib.metrics.inputs.OneClassWarning`; the slope is NaN where the probabilities
        part the classes or are all equal, with an
        :class:`~chexlib.metrics.estimates.UndefinedWarning`.

    References
    ----------
    Cox, Biometrika 45 (1958) 562-565; Van Calster et al., Journal of Clinical Epidemiology 74
    (2016) 167-176 ("weak calibration").

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.05, 0.95, 20000)
    >>> slope, intercept = calibration_slope(rng.random(20000) < p, p)
    >>> round(slope, 1), abs(round(intercept, 1))
    (np.float64(1.0), np.float64(0.0))
    """
    from sklearn.linear_model import LogisticRegression

    films = _one_finding(labels, probabilities, sample_weight)
    y, x = films.labels[:, 0], logits(films.scores[:, 0])
    one_class = np.array([y.all() or not y.any()])
    if one_class.any():
        warn_one_class("The slope of calibration", films, one_class)
        return np.full(2, np.nan)
    weight = np.ones(len(y)) if films.weight is None else films.weight
    share = np.average(y, weights=weight)
    centre = np.log(share / (1 - share))

    def excess(intercept: float) -> float:
        """By how much the films expected exceed those found."""
        return float((weight * (expit(x + intercept) - y)).sum())

    # If every logit were the highest or the lowest, the intercept would lie at one of the ends.
    intercept = brentq(excess, centre - x.max() - 1, centre - x.min() + 1)
    if x[y].min() >= x[~y].max() or x[y].max() <= x[~y].min():
        warnings.warn(
            "The slope of calibration is undefined: the probabilities part the classes, or are all "
            "equal. Use more films.",
            UndefinedWarning,
            stacklevel=2,
        )
        return np.array([np.nan, intercept])
    fitted = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(
        x[:, None], y, sample_weight=weight
    )
    return np.array([fitted.coef_[0, 0], intercept])


def brier(
    labels: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Return the Brier score, the mean squared error of probabilities.

    Parameters
    ----------
    labels, probabilities : array_like [N] or [N, F]
    sample_weight : array_like [N], optional

    Returns
    -------
    float or ndarray [F]
        In [0, 1], lower is better. For a rare finding it is small whatever the model: compare it
        with prevalence (1 - prevalence), the score of giving every film the prevalence.

    References
    ----------
    Brier, Monthly Weather Review 78 (1950) 1-3.

    Examples
    --------
    >>> round(brier([0, 1], [0.1, 0.8]), 3)
    0.025
    """
    films = check_films(labels, probabilities, sample_weight=sample_weight, probabilities=True)
    errors = (films.scores - films.labels) ** 2
    return films.squeeze(np.average(errors, axis=0, weights=films.weight))


def brier_parts(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    bins: int | None = None,
    strategy: str = "mass",
    sample_weight: ArrayLike | None = None,
) -> BrierParts:
    """Return the Brier score as reliability, resolution and uncertainty.

    Parameters
    ----------
    labels, probabilities : array_like [N]
    bins : int, optional
        By default each distinct probability is a bin, as in Murphy's identity; with continuous
        probabilities that says nothing, so choose a number.
    strategy, sample_weight
        As in :func:`reliability`.

    Returns
    -------
    BrierParts

    References
    ----------
    Murphy, Journal of Applied Meteorology 12 (1973) 595-600; Stephenson, Coelho and Jolliffe,
    Weather and Forecasting 23 (2008) 752-757, for what is within bins.

    Examples
    --------
    >>> parts = brier_parts([0, 0, 0, 1, 1, 0, 1, 1], [0.25] * 4 + [0.75] * 4)
    >>> parts.reliability, parts.resolution, parts.uncertainty
    (0.0, 0.0625, 0.25)
    """
    films, weight, member = _binned(labels, probabilities, sample_weight, bins, strategy)
    y, p = films.labels[:, 0], films.scores[:, 0]
    total = weight.sum()
    mass = np.bincount(member, weight)
    kept = mass > 0
    mean_p, mean_y = (
        np.bincount(member, weight * x)[kept] / mass[kept] for x in (p, y.astype(float))
    )
    mass = mass[kept] / total
    prevalence = float(mass @ mean_y)
    parts = {
        "brier": float(weight @ (p - y) ** 2 / total),
        "reliability": float(mass @ (mean_p - mean_y) ** 2),
        "resolution": float(mass @ (mean_y - prevalence) ** 2),
        "uncertainty": prevalence * (1 - prevalence),
    }
    within = parts["brier"] - parts["reliability"] + parts["resolution"] - parts["uncertainty"]
    return BrierParts(**parts, within=within)


def _one_finding(
    labels: ArrayLike, probabilities: ArrayLike, sample_weight: ArrayLike | None
) -> Films:
    films = check_films(labels, probabilities, sample_weight=sample_weight, probabilities=True)
    if not films.single:
        raise ValueError("Expected one finding, got several. Call this once for each column.")
    return films


def _binned(
    labels: ArrayLike,
    probabilities: ArrayLike,
    sample_weight: ArrayLike | None,
    bins: int | None,
    strategy: str,
) -> tuple[Films, NDArray[np.float64], NDArray[np.int_]]:
    """Check one finding and return its films, their weights and each film's bin."""
    films = _one_finding(labels, probabilities, sample_weight)
    if bins is not None and not (isinstance(bins, Integral) and bins >= 1):
        raise ValueError(f"Expected a whole number of bins, at least one, got {bins!r}.")
    p = films.scores[:, 0]
    weight = np.ones(len(p)) if films.weight is None else films.weight
    place = np.unique(p, return_inverse=True)[1]
    if bins is None:
        member = place
    elif strategy == "width":
        # A probability on an edge belongs to the bin below, as in Guo et al. (2017).
        member = np.searchsorted(np.arange(1, bins) / bins, p, side="left")
    elif strategy == "mass":
        # A distinct probability goes where the middle of its weight falls.
        mass = np.bincount(place, weight)
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        member = np.minimum((middle * bins).astype(int), bins - 1)[place]
    else:
        raise ValueError(f"Expected strategy 'mass' or 'width', got {strategy!r}.")
    return films, weight, member
