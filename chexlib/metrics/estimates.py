"""An estimate with its interval, and the interval of a plain proportion."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from statistics import NormalDist


class UndefinedWarning(UserWarning):
    """A figure has no value on these films, such as the PPV of a label that no film has."""


@dataclass(frozen=True)
class Estimate:
    """A figure, the counts behind it and its interval.

    Attributes
    ----------
    k, n : int
        Films counted and films they are counted among, before any weighting.
    estimate, low, high : float
        The figure and the ends of its interval; NaN where the figure is undefined.
    method : str
        How the interval was made.

    Examples
    --------
    >>> print(wilson(43, 50))
    0.86 (0.74 to 0.93)
    >>> f"{wilson(43, 50):.3f}"
    '0.860 (0.738 to 0.930)'
    """

    k: int
    n: int
    estimate: float
    low: float
    high: float
    method: str

    def __format__(self, spec: str) -> str:
        low, estimate, high = (
            format(value, spec or ".2f") for value in (self.low, self.estimate, self.high)
        )
        return f"{estimate} ({low} to {high})"

    def __str__(self) -> str:
        return format(self, "")


def normal_quantile(level: float) -> float:
    """Return z with ``level`` of a standard normal between -z and z, 1.96 for 0.95.

    Raises
    ------
    ValueError
        If ``level`` is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ValueError(f"Expected a confidence level between 0 and 1, got {level}. Use 0.95.")
    return NormalDist().inv_cdf((1 + level) / 2)


def undefined(name: str, reason: str) -> Estimate:
    """Warn that a figure is undefined and return it as NaN."""
    warnings.warn(f"{name} is undefined: {reason}.", UndefinedWarning, stacklevel=3)
    return Estimate(0, 0, math.nan, math.nan, math.nan, "undefined")


def wilson(k: int, n: int, *, level: float = 0.95) -> Estimate:
    """Return the proportion k / n with its Wilson score interval.

    For independent films: one a patient. Unlike the textbook interval it stays inside [0, 1] and
    has a width at k = 0 and k = n.

    Parameters
    ----------
    k, n : int
        Successes and trials, 0 <= k <= n.
    level : float
        Confidence, between 0 and 1.

    Returns
    -------
    Estimate
        NaN, with an :class:`UndefinedWarning`, where n is 0.

    Raises
    ------
    ValueError
        If the counts are not whole numbers with 0 <= k <= n, or level is not in (0, 1).

    References
    ----------
    Wilson, JASA 22 (1927) 209-212.
    """
    normal_quantile(level)  # refuses a level outside (0, 1)
    whole = all(math.isfinite(x) and x == int(x) for x in (k, n))
    if not whole or not 0 <= k <= n:
        raise ValueError(f"Expected whole numbers with 0 <= k <= n, got k={k} and n={n}.")
    k, n = int(k), int(n)
    if n == 0:
        return undefined("proportion", "it has no trials")
    low, high = wilson_interval(k / n, n, level=level)
    return Estimate(k, n, k / n, low, high, "Wilson")


def wilson_interval(share: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Return the ends of the Wilson score interval of a share of n trials, by statsmodels.

    Examples
    --------
    >>> wilson_interval(0.0, 10)
    (0.0, 0.277...)
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(share * n, n, alpha=1 - level, method="wilson")
    # At 0 and 1 an end of the interval is the share itself; rounding would put it beside.
    return (float(low) if share > 0 else 0.0), (float(high) if share < 1 else 1.0)
