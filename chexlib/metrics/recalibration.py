"""Mending probabilities: Platt, temperature, isotonic, and the shift of prevalence in closed form.

Each ``fit_…`` learns on one set of films and gives an object to be called on the scores of another.
None of them changes which of two films scores higher (isotonic may tie them), so AUROC stays.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, logit

from chexlib.metrics.estimates import UndefinedWarning
from chexlib.metrics.inputs import check_films

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from chexlib.metrics.inputs import Films

__all__ = [
    "Isotonic",
    "LogitScaling",
    "fit_isotonic",
    "fit_platt",
    "fit_temperature",
    "shift_prevalence",
    "undo_class_weights",
]

_LOG_TEMPERATURE = 5.0  # temperatures are sought between exp(-5) and exp(5)
_SMALLEST = np.finfo(float).tiny  # a probability of exactly 0 or 1 has no logit


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
        return expit(self.slope * logits(_probabilities(probabilities)) + self.intercept)


@dataclass(frozen=True, eq=False)
class Isotonic:
    """A rising step function through ``x`` and ``y``, straight between points, level outside."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    def __call__(self, probabilities: ArrayLike) -> NDArray[np.float64]:
        """Return mended probabilities, in the shape they came."""
        return np.interp(_probabilities(probabilities), self.x, self.y)


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
    films = _both_classes(labels, probabilities, sample_weight)
    weight = np.ones(len(films.labels)) if films.weight is None else films.weight
    y, x = films.labels[:, 0], logits(films.scores[:, 0])
    positive, negative = weight @ y, weight @ ~y
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    weight = weight / weight.sum()

    # Sums, not dot products: on few numbers, threads of a BLAS library cost more than they save.
    def loss(line: NDArray) -> tuple[float, NDArray]:
        z = line[0] * x + line[1]
        error = weight * (expit(z) - target)
        value = (weight * (np.logaddexp(0, z) - target * z)).sum()
        return value, np.array([(error * x).sum(), error.sum()])

    def curvature(line: NDArray) -> NDArray:
        q = expit(line[0] * x + line[1])
        h = weight * q * (1 - q)
        cross = (h * x).sum()
        return np.array([[(h * x**2).sum(), cross], [cross, h.sum()]])

    options = {"gtol": 1e-10, "maxiter": 200}
    found = minimize(
        loss, [1.0, 0.0], jac=True, hess=curvature, method="trust-exact", options=options
    )
    return LogitScaling(float(found.x[0]), float(found.x[1]))


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
        With an :class:`~chexlib.metrics.estimates.UndefinedWarning` where no temperature between
        1/148 and 148 is best: colder is always better where classes are apart, hotter where the
        score says nothing or the contrary.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    films = _both_classes(labels, probabilities, sample_weight, several=True)
    weight = np.ones(len(films.labels)) if films.weight is None else films.weight
    z, y = logits(films.scores), films.labels

    def loss(log_temperature: float) -> float:
        scaled = z * np.exp(-log_temperature)
        return float((weight @ (np.logaddexp(0, scaled) - y * scaled)).sum() / weight.sum())

    bounds = (-_LOG_TEMPERATURE, _LOG_TEMPERATURE)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    if abs(found.x) > _LOG_TEMPERATURE - 1e-3:
        why = (
            "the score says nothing of these labels, or the contrary"
            if found.x > 0
            else "the score parts the classes"
        )
        warnings.warn(
            f"No temperature is best, {why}: the fit stopped at {np.exp(found.x):.3g}. Use "
            "fit_platt, or more films.",
            UndefinedWarning,
            stacklevel=2,
        )
    return LogitScaling(float(np.exp(-found.x)))


def fit_isotonic(
    labels: ArrayLike, probabilities: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> Isotonic:
    """Fit the best rising function, with scikit-learn.

    It follows any shape and so needs many positives: with few it learns their accidents.

    Parameters
    ----------
    labels, probabilities : array_like [N]
        Both classes present.
    sample_weight : array_like [N], optional

    References
    ----------
    Zadrozny and Elkan, KDD 2002.
    """
    from sklearn.isotonic import IsotonicRegression

    films = _both_classes(labels, probabilities, sample_weight)
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(
        films.scores[:, 0], films.labels[:, 0].astype(float), sample_weight=films.weight
    )
    return Isotonic(fitted.X_thresholds_, fitted.y_thresholds_)


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
    before, after = (np.asarray(x, dtype=float) for x in (trained, used))
    for name, value in (("trained", before), ("used", after)):
        if not ((value > 0) & (value < 1)).all():
            raise ValueError(f"Expected {name} prevalence strictly between 0 and 1, got {value}.")
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


def _scale_odds(probabilities: ArrayLike, factor: NDArray) -> NDArray[np.float64]:
    p = _probabilities(probabilities)
    return p * factor / (p * factor + (1 - p))


def _probabilities(values: ArrayLike) -> NDArray[np.float64]:
    p = np.asarray(values, dtype=float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("Expected probabilities between 0 and 1, got one outside or NaN.")
    return p


def logits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return finite logits, also of probabilities that are exactly 0 or 1."""
    return logit(np.clip(p, _SMALLEST, 1 - np.finfo(float).epsneg))


def _both_classes(
    labels: ArrayLike,
    probabilities: ArrayLike,
    sample_weight: ArrayLike | None,
    *,
    several: bool = False,
) -> Films:
    films = check_films(labels, probabilities, sample_weight=sample_weight, probabilities=True)
    if not (films.single or several):
        raise ValueError("Expected one finding, got several. Fit each column by itself.")
    if not films.labels.any() or films.labels.all():
        raise ValueError("Expected films of both classes to fit on, got one.")
    return films
