"""Where to draw the line: rules, and the threshold that a rule chooses on a set of films.

What the threshold then does is reported on other patients (:mod:`chexlib.metrics.operating`): on
the films it was chosen on, it looks better than it is. A film is called positive if its score is at
least the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from chexlib.metrics.curves import CountsByThreshold, counts_by_threshold
from chexlib.metrics.inputs import check_films, warn_one_class

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Rule",
    "at_sensitivity",
    "at_specificity",
    "check_thresholds",
    "choose",
    "max_f1",
    "min_cost",
    "youden",
]

Rule = Callable[[CountsByThreshold], "NDArray[np.float64]"]
"""What a threshold is worth: from the 2x2 tables at all thresholds to one number for each."""


def youden(counts: CountsByThreshold) -> NDArray[np.float64]:
    """Rule: sensitivity + specificity - 1 (Youden, Cancer 3 (1950) 32-35).

    It weighs a missed positive against a false alarm by the odds against the finding, whatever
    either costs. For a calibrated score the best threshold is the prevalence.
    """
    return counts.sensitivity + counts.specificity - 1


def max_f1(counts: CountsByThreshold) -> NDArray[np.float64]:
    """Rule: F1, the harmonic mean of precision and sensitivity.

    For a calibrated score the best threshold is half the best F1 (Lipton et al., ECML 2014).
    """
    return counts.f1


def at_sensitivity(value: float) -> Rule:
    """Make the rule: the highest specificity with a sensitivity of at least ``value``."""
    check_share("sensitivity", value)
    return lambda counts: np.where(counts.sensitivity >= value - 1e-12, counts.specificity, -np.inf)


def at_specificity(value: float) -> Rule:
    """Make the rule: the highest sensitivity with a specificity of at least ``value``."""
    check_share("specificity", value)
    return lambda counts: np.where(counts.specificity >= value - 1e-12, counts.sensitivity, -np.inf)


def min_cost(*, miss: float, false_alarm: float, prevalence: float | None = None) -> Rule:
    """Make the rule: the lowest expected cost of a film.

    For a calibrated score the best threshold is ``false_alarm / (false_alarm + miss)``. The
    threshold of highest net benefit at a threshold probability p is that of ``miss = 1 - p`` and
    ``false_alarm = p``.

    Parameters
    ----------
    miss, false_alarm : float
        Cost of a false negative and of a false positive, in one unit; at least 0, not both 0.
    prevalence : float, optional
        Of the place of use, in [0, 1]; by default that of the films.
    """
    if not (0 <= miss < math.inf and 0 <= false_alarm < math.inf and miss + false_alarm > 0):
        raise ValueError(f"Expected finite costs of at least 0, got {miss} and {false_alarm}.")
    if prevalence is not None:
        check_share("prevalence", prevalence)

    def rule(counts: CountsByThreshold) -> NDArray[np.float64]:
        share = counts.positives / (counts.positives + counts.negatives)
        share = share if prevalence is None else prevalence
        missed, alarmed = share * (1 - counts.sensitivity), (1 - share) * (1 - counts.specificity)
        return -(miss * missed + false_alarm * alarmed) / (miss + false_alarm)

    return rule


def choose(
    labels: ArrayLike,
    scores: ArrayLike,
    rule: Rule,
    *,
    sample_weight: ArrayLike | None = None,
) -> float | NDArray[np.float64]:
    """Return the threshold that a rule chooses on these films.

    Parameters
    ----------
    labels, scores : array_like [N] or [N, F]
        See :func:`chexlib.metrics.inputs.check_films`.
    rule : callable
        :func:`youden`, :func:`max_f1`, or one made by :func:`at_sensitivity`,
        :func:`at_specificity` or :func:`min_cost`.
    sample_weight : array_like [N], optional
        Sampling weights, or counts of films that a row stands for.

    Returns
    -------
    float or ndarray [F]
        One of the scores; ``inf`` where it is best to call no film positive; the highest where
        several do equally well. NaN where a finding is on no film or on all, with a
        :class:`~chexlib.metrics.inputs.OneClassWarning`.

    Examples
    --------
    >>> labels, scores = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.6, 0.9]
    >>> choose(labels, scores, youden), choose(labels, scores, at_sensitivity(1))
    (0.6, 0.3)
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    every = counts_by_threshold(films.labels, films.scores, sample_weight=films.weight)
    chosen = np.full(len(every), np.nan)
    for k, counts in enumerate(every):
        if counts.positives and counts.negatives:
            worth = rule(counts)
            # Rounding must not decide among equals: the first that is as good as the best.
            chosen[k] = counts.threshold[np.argmax(worth >= worth.max() - 1e-12)]
    warn_one_class("threshold", films, np.isnan(chosen))
    return films.squeeze(chosen)


def check_share(name: str, value: float) -> None:
    """Refuse what is not between 0 and 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"Expected a {name} between 0 and 1, got {value}.")


def check_thresholds(thresholds: ArrayLike, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return thresholds as float ``[T]``, one number as ``[1]``; refuse what can be none.

    NaN stays: no threshold could be chosen. Above 1 there is nothing to call among probabilities; a
    percentage was meant, or ``inf``, which calls no film.
    """
    found = np.atleast_1d(np.asarray(thresholds))
    if found.ndim != 1 or found.dtype.kind not in "biuf":
        raise ValueError(f"Expected thresholds to be numbers, [T], got {thresholds!r}.")
    found = found.astype(float)
    above = np.isfinite(found) & (found > 1)
    if above.any() and scores.min() >= 0 and scores.max() <= 1:
        raise ValueError(
            f"Expected thresholds of at most 1 for scores between 0 and 1, got {found[above][0]}. "
            "Divide percentages by 100; inf calls no film."
        )
    return found
