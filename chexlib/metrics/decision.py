"""Decision curves: whether acting on the score beats acting on every film, or on none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.metrics.bootstrap import RESAMPLES
from chexlib.metrics.inputs import check_films
from chexlib.metrics.resampling import Bootstrap, draws_of
from chexlib.metrics.thresholds import check_thresholds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["decision_curve", "net_benefit"]


def net_benefit(
    sensitivity: ArrayLike, specificity: ArrayLike, *, prevalence: ArrayLike, threshold: ArrayLike
) -> NDArray[np.float64]:
    r"""Return the net benefit of a film: true positives less false ones at their exchange rate.

    .. math:: NB = \pi\,\mathrm{sens} - (1 - \pi)(1 - \mathrm{spec}) \frac{p}{1 - p}

    Who acts at a probability p says that one film found is worth (1 - p) / p false alarms.

    Parameters
    ----------
    sensitivity, specificity, prevalence : array_like
        In [0, 1]; all broadcast.
    threshold : array_like
        Threshold probability p, in (0, 1).

    Returns
    -------
    ndarray
        In films found for each film read; at most the prevalence.

    Raises
    ------
    ValueError
        If a rate lies outside [0, 1], or a threshold probability outside (0, 1).

    References
    ----------
    Vickers and Elkin, Medical Decision Making 26 (2006) 565-574.

    Examples
    --------
    >>> round(float(net_benefit(0.9, 0.8, prevalence=0.1, threshold=0.1)), 3)
    0.07
    """
    sens, spec, share, p = (
        np.asarray(x, dtype=float) for x in (sensitivity, specificity, prevalence, threshold)
    )
    for name, rate in (("sensitivity", sens), ("specificity", spec), ("prevalence", share)):
        if ((rate < 0) | (rate > 1)).any():
            raise ValueError(f"Expected {name} between 0 and 1, got {rate}.")
    if not ((p > 0) & (p < 1)).all():
        raise ValueError(f"Expected threshold probabilities strictly between 0 and 1, got {p}.")
    return share * sens - (1 - share) * (1 - spec) * p / (1 - p)


def decision_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    *,
    prevalence: float | None = None,
    patient: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the net benefit of acting on the score, on every film, and on none.

    At each threshold probability p a film is acted on if its probability is at least p, so the
    curve asks for calibrated probabilities.

    Parameters
    ----------
    labels, probabilities : array_like [N]
    thresholds : float or array_like [T]
        In (0, 1).
    prevalence : float, optional
        Of the place of use; by default that of the films.
    patient : array_like [N], optional
        Resampled for the intervals; left out, films are.
    sample_weight : array_like [N], optional
        Sampling weights. For counts, repeat the rows or ignore the intervals.
    level, resamples, seed
        Of the intervals.

    Returns
    -------
    DataFrame [T]
        ``threshold model low high gain gain_low gain_high all``: net benefit of the model, its
        interval, the gain over the better of acting on all films and on none (paired) with its
        interval, and the net benefit of acting on all. Acting on none has 0.

    Raises
    ------
    ValueError
        If films are of one class, or as :func:`net_benefit`.
    """
    films = check_films(labels, probabilities, sample_weight=sample_weight, probabilities=True)
    if not films.single:
        raise ValueError("Expected one finding, got several.")
    y, p = films.labels[:, 0], films.scores[:, 0]
    if not y.any() or y.all():
        raise ValueError("Expected films of both classes, got one. No net benefit can be told.")
    cut = check_thresholds(thresholds, p)
    weight = np.ones(len(y)) if films.weight is None else films.weight
    # Columns: weight called at each threshold among positives, among negatives, and all of each.
    called = p[:, None] >= cut
    columns = np.hstack([called & y[:, None], called & ~y[:, None], y[:, None], ~y[:, None]])
    columns = columns * weight[:, None]
    draws, _who = draws_of(films, patient, resamples=resamples, seed=seed)

    def benefits(sums: NDArray[np.float64]) -> tuple[NDArray, NDArray]:
        t = len(cut)
        with np.errstate(divide="ignore", invalid="ignore"):
            # Rounding of weighted sums must not lead out of [0, 1].
            sens = np.minimum(sums[:, :t] / sums[:, -2:-1], 1)
            spec = np.maximum(1 - sums[:, t : 2 * t] / sums[:, -1:], 0)
            share = sums[:, -2:-1] / sums[:, -2:].sum(axis=1, keepdims=True)
        share = share if prevalence is None else prevalence
        model = net_benefit(sens, spec, prevalence=share, threshold=cut)
        return model, net_benefit(1.0, 0.0, prevalence=share, threshold=cut) + 0 * model

    (model, every), (models, everys) = (
        benefits(columns.sum(axis=0)[None]),
        benefits(draws.sums(columns)),
    )
    # Where no film is called the benefit is 0, and where all are it is that of acting on all.
    low, high = Bootstrap(model[0], models, draws).interval(level=level, fixed=True)
    gain = Bootstrap(model[0], models - np.maximum(everys, 0), draws)
    gain_low, gain_high = gain.interval(level=level, fixed=True)
    return pd.DataFrame(
        {
            "threshold": cut,
            "model": model[0],
            "low": low,
            "high": high,
            "gain": model[0] - np.maximum(every[0], 0),
            "gain_low": gain_low,
            "gain_high": gain_high,
            "all": every[0],
        }
    )
