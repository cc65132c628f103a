"""Probabilities: whether of films given 20%, 20% are positive, and how to mend and combine them.

Reliability in bins with intervals, calibration error, slope and intercept of calibration, the Brier
score and what it is made of. Each ``fit_…`` learns on one set of films and gives an object to be
called on the scores of another. None of them changes which of two films scores higher (isotonic may
tie them), so AUROC stays.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, logit

from chexlib.metrics.inputs import Films, UndefinedWarning, check_films, check_share, warn_one_class
from chexlib.metrics.resampling import RESAMPLES, Resamples, draws_of, proportions

_LOG_TEMPERATURE = 5.0  # temperatures are sought between exp(-5) and exp(5)
_ONE = {"probabilities": True, "one_finding": True}  # what most of this is of
_FIT = {**_ONE, "both_classes": True}
_SMALLEST = np.finfo(float).tiny  # a probability of exactly 0 or 1 has no logit


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


@dataclass(frozen=True)
class LogitScaling:
    """A straight line on the logit scale: ``logit q = slope * logit p + intercept``.

    For calibrated probabilities the slope is 1 and the intercept 0. A slope below 1 says that they
    are too extreme, an intercept below 0 that they are too high.
    """

    slope: float
    intercept: float = 0.0

    @property
    def temperature(self) -> float:
        """What logits are divided by: 1 / slope."""
        return 1 / self.slope

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return mended probabilities, in the shape they came."""
        p = check_share("probabilities", probabilities)
        return expit(self.slope * _logits(p) + self.intercept)


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
        As in :func:`chexlib.metrics.operating_point`.

    Returns
    -------
    DataFrame
        A row a bin that has films, rising: ``lower`` and ``upper`` (smallest and largest
        probability in it), ``n`` films, ``positive`` of them, ``predicted`` (mean probability),
        ``observed`` (share of positives), ``observed_low``, ``observed_high``.

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
    films, member = _binned(labels, probabilities, sample_weight, bins, strategy)
    y, p, weight = films.labels, films.scores[:, 0], films.mass
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed)
    inside = member[:, None] == np.arange(member.max() + 1)
    shares = proportions(
        *np.broadcast_arrays(y, inside), draws, name="share", weight=films.weight, level=level
    )
    mass = np.bincount(member, weight)
    named = {"estimate": "observed", "low": "observed_low", "high": "observed_high"}
    table = pd.DataFrame(shares).rename(columns={"k": "positive"} | named)
    table["lower"], table["upper"] = zip(*((p[x].min(), p[x].max()) for x in inside.T), strict=True)
    table["predicted"] = np.bincount(member, weight * p) / mass
    return table[["lower", "upper", "n", "positive", "predicted", *named.values()]]


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
    films, member = _binned(labels, probabilities, sample_weight, bins, strategy)
    gap = np.bincount(member, films.mass * (films.scores - films.labels)[:, 0])
    return float(np.abs(gap).sum() / films.mass.sum())


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
        :class:`~chexlib.metrics.OneClassWarning`; the slope is NaN where the probabilities
        part the classes or are all equal, with an
        :class:`~chexlib.metrics.UndefinedWarning`.

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
    films = check_films(labels, probabilities, sample_weight=sample_weight, **_ONE)
    y, x, weight = films.labels[:, 0], _logits(films.scores[:, 0]), films.mass
    if y.all() or not y.any():
        warn_one_class("The slope of calibration", films, np.array([True]))
        return np.full(2, np.nan)
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
    return np.array([_logistic(x, y, weight).slope, intercept])


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
    films, member = _binned(labels, probabilities, sample_weight, bins, strategy)
    y, p, weight = films.labels[:, 0], films.scores[:, 0], films.mass
    total = weight.sum()
    mass = np.bincount(member, weight)
    mean_p, mean_y = (np.bincount(member, weight * x) / mass for x in (p, y))
    mass = mass / total
    prevalence = float(mass @ mean_y)
    parts = {
        "brier": float(weight @ (p - y) ** 2 / total),
        "reliability": float(mass @ (mean_p - mean_y) ** 2),
        "resolution": float(mass @ (mean_y - prevalence) ** 2),
        "uncertainty": prevalence * (1 - prevalence),
    }
    within = parts["brier"] - parts["reliability"] + parts["resolution"] - parts["uncertainty"]
    return BrierParts(**parts, within=within)


def fit_platt(
    labels: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> LogitScaling:
    """Fit slope and intercept on the logit scale by logistic regression.

    Labels are softened to (n+ + 1) / (n+ + 2) and 1 / (n- + 2), as Platt did, so that the fit
    exists where classes are apart.

    Parameters
    ----------
    labels, probabilities : array_like [N]
        Both classes present.
    sample_weight : array_like [N], optional

    References
    ----------
    Platt, in Advances in Large Margin Classifiers (1999); as a way to judge calibration: Cox,
    Biometrika 45 (1958) 562-565.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.uniform(0.05, 0.95, 20000)
    >>> found = fit_platt(rng.random(20000) < p, p)
    >>> round(found.slope, 1), abs(round(found.intercept, 1))
    (1.0, 0.0)
    """
    films = check_films(labels, probabilities, sample_weight=sample_weight, **_FIT)
    y, x, weight = films.labels[:, 0], _logits(films.scores[:, 0]), films.mass
    positive, negative = weight @ y, weight @ ~y
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # A film of target t is a share t of a film with the finding, and 1 - t of one without.
    twice = np.repeat([True, False], len(y))
    return _logistic(np.tile(x, 2), twice, np.concatenate([weight * target, weight * (1 - target)]))


def fit_temperature(
    labels: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> LogitScaling:
    """Fit one temperature that logits are divided by, of least log loss.

    It mends over-confidence and leaves a wrong prevalence wrong; for that see
    :func:`shift_prevalence`.

    Parameters
    ----------
    labels, probabilities : array_like [N] or [N, F]
        Several findings share the temperature.
    sample_weight : array_like [N], optional

    Returns
    -------
    LogitScaling
        With an :class:`~chexlib.metrics.UndefinedWarning` where no temperature between
        1/148 and 148 is best: colder is always better where classes are apart, hotter where the
        score says nothing or the contrary.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    films = check_films(
        labels, probabilities, sample_weight=sample_weight, probabilities=True, both_classes=True
    )
    z, y, weight = _logits(films.scores), films.labels, films.mass

    def loss(log_temperature: float) -> float:
        scaled = z * np.exp(-log_temperature)
        return float((weight @ (np.logaddexp(0, scaled) - y * scaled)).sum() / weight.sum())

    bounds = (-_LOG_TEMPERATURE, _LOG_TEMPERATURE)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    if abs(found.x) > _LOG_TEMPERATURE - 1e-3:
        useless = "says nothing of these labels, or the contrary"
        warnings.warn(
            f"No temperature is best, the score {useless if found.x > 0 else 'parts the classes'}: "
            f"the fit stopped at {np.exp(found.x):.3g}. Use "
            "fit_platt, or more films.",
            UndefinedWarning,
            stacklevel=2,
        )
    return LogitScaling(float(np.exp(-found.x)))


def fit_isotonic(
    labels: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Callable[[ArrayLike], NDArray[np.float64]]:
    """Fit the best rising function, with scikit-learn.

    It follows any shape and so needs many positives: with few it learns their accidents.

    Parameters
    ----------
    labels, probabilities : array_like [N]
        Both classes present.
    sample_weight : array_like [N], optional

    Returns
    -------
    callable
        From probabilities to mended ones, in the shape they came.

    References
    ----------
    Zadrozny and Elkan, KDD 2002.
    """
    from sklearn.isotonic import IsotonicRegression

    films = check_films(labels, probabilities, sample_weight=sample_weight, **_FIT)
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(
        films.scores[:, 0], films.labels[:, 0].astype(float), sample_weight=films.weight
    )
    x, y = fitted.X_thresholds_, fitted.y_thresholds_
    return lambda probabilities: np.interp(check_share("probabilities", probabilities), x, y)


def shift_prevalence(
    probabilities: ArrayLike, *, trained: ArrayLike, used: ArrayLike
) -> NDArray[np.float64]:
    """Return what calibrated probabilities become where the finding is rarer or commoner.

    Odds are multiplied by the ratio of the prevalences' odds. This holds if films with the finding
    look alike in both places, and films without it too (prior shift).

    Parameters
    ----------
    probabilities : array_like [N] or [N, F]
    trained, used : float or array_like [F]
        Prevalence where probabilities were calibrated and where they are used, in (0, 1).

    References
    ----------
    Saerens, Latinne and Decaestecker, Neural Computation 14 (2002) 21-41, equation 2.4.

    Examples
    --------
    >>> shift_prevalence(0.5, trained=0.5, used=0.1).round(3)
    np.float64(0.1)
    """
    before = check_share("trained prevalence", trained, strict=True)
    after = check_share("used prevalence", used, strict=True)
    return _scale_odds(probabilities, after / (1 - after) * (1 - before) / before)


def undo_class_weights(
    probabilities: ArrayLike, *, positive: ArrayLike, negative: ArrayLike = 1.0
) -> NDArray[np.float64]:
    """Return what probabilities would be without weights on the classes in the training loss.

    A weighted loss multiplies the odds by positive / negative; this divides them by it.

    Parameters
    ----------
    probabilities : array_like [N] or [N, F]
    positive, negative : float or array_like [F]
        Weights of the classes in training, above 0, such as ``pos_weight`` and 1.

    Examples
    --------
    >>> undo_class_weights([0.5, 0.9], positive=9).round(3)
    array([0.1, 0.5])
    """
    positive, negative = (np.asarray(x, dtype=float) for x in (positive, negative))
    if not ((positive > 0) & (negative > 0)).all():
        raise ValueError(f"Expected weights above 0, got {positive} and {negative}.")
    return _scale_odds(probabilities, negative / positive)


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
    labels = np.zeros(np.shape(probabilities))
    films = check_films(labels, probabilities, sample_weight=sample_weight, **_ONE)
    p, weight = films.scores[:, 0], films.mass
    labels = np.repeat([True, False], len(p))
    return labels, np.tile(p, 2), np.concatenate([weight * p, weight * (1 - p)])


def any_of(probabilities: ArrayLike, *, how: str = "independent") -> NDArray[np.float64]:
    """Return the probability that a film has at least one of several findings.

    Parameters
    ----------
    probabilities : array_like [N, F]
        Of the findings, each in [0, 1].
    how : {"independent", "max"}
        ``"independent"``: 1 - prod(1 - p), right if findings were independent given the film.
        ``"max"``: the largest p, the least it can be. The truth lies between max(p) and
        min(1, sum(p)), since findings come together; neither is calibrated of itself.

    Returns
    -------
    ndarray [N]

    Raises
    ------
    ValueError
        If the shape is not [N, F], a value is not in [0, 1], or ``how`` is unknown.

    Examples
    --------
    >>> any_of([[0.5, 0.5], [0.0, 0.2]])
    array([0.75, 0.2 ])
    >>> any_of([[0.5, 0.5], [0.0, 0.2]], how="max")
    array([0.5, 0.2])
    """
    p = _several(probabilities, how)
    if how == "max":
        return p.max(axis=1)
    # 1 - prod(1 - p) would lose small probabilities: 1 - 1e-17 is 1.
    with np.errstate(divide="ignore"):
        return np.abs(np.expm1(np.log1p(-p).sum(axis=1)))


def no_finding(probabilities: ArrayLike, *, how: str = "independent") -> NDArray[np.float64]:
    """Return the probability that a film has none of the findings: 1 - :func:`any_of`.

    CheXNet has no output for "No Finding". NIH's label means that none of the 14 findings was found
    in the report, not that the film is normal.

    Examples
    --------
    >>> no_finding([[0.5, 0.5], [0.0, 0.2]])
    array([0.25, 0.8 ])
    """
    p = _several(probabilities, how)
    return 1 - p.max(axis=1) if how == "max" else np.prod(1 - p, axis=1)


def _several(probabilities: ArrayLike, how: str) -> NDArray[np.float64]:
    p = check_share("probabilities", probabilities)
    if p.ndim != 2 or not p.shape[1]:
        raise ValueError(f"Expected probabilities of shape [N, F], got shape {p.shape}.")
    if how not in ("independent", "max"):
        raise ValueError(f"Expected how to be 'independent' or 'max', got {how!r}.")
    return p


def _scale_odds(probabilities: ArrayLike, factor: NDArray) -> NDArray[np.float64]:
    p = check_share("probabilities", probabilities)
    return p * factor / (p * factor + (1 - p))


def _logits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return finite logits, also of probabilities that are exactly 0 or 1."""
    return logit(np.clip(p, _SMALLEST, 1 - np.finfo(float).epsneg))


def _logistic(
    x: NDArray[np.float64], y: NDArray[np.bool_], weight: NDArray[np.float64]
) -> LogitScaling:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8)
    fitted = model.fit(x[:, None], y, sample_weight=weight)
    return LogitScaling(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def _binned(
    labels: ArrayLike,
    probabilities: ArrayLike,
    sample_weight: ArrayLike | None,
    bins: int | None,
    strategy: str,
) -> tuple[Films, NDArray[np.int_]]:
    """Check one finding and return its films and each film's bin, of those that have films."""
    films = check_films(labels, probabilities, sample_weight=sample_weight, **_ONE)
    if bins is not None and not (isinstance(bins, Integral) and bins >= 1):
        raise ValueError(f"Expected a whole number of bins, at least one, got {bins!r}.")
    p = films.scores[:, 0]
    place = np.unique(p, return_inverse=True)[1]
    if bins is None:
        member = place
    elif strategy == "width":
        # A probability on an edge belongs to the bin below, as in Guo et al. (2017).
        member = np.searchsorted(np.arange(1, bins) / bins, p, side="left")
    elif strategy == "mass":
        # A distinct probability goes where the middle of its weight falls.
        mass = np.bincount(place, films.mass)
        middle = (np.cumsum(mass) - mass / 2) / mass.sum()
        member = np.minimum((middle * bins).astype(int), bins - 1)[place]
    else:
        raise ValueError(f"Expected strategy 'mass' or 'width', got {strategy!r}.")
    return films, np.unique(member, return_inverse=True)[1]
