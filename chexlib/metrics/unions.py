"""One score from several: "any of these findings", and "No Finding"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["any_of", "no_finding"]


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
        If the shape is not [N, F], a value is no probability, or ``how`` is unknown.

    Examples
    --------
    >>> any_of([[0.5, 0.5], [0.0, 0.2]])
    array([0.75, 0.2 ])
    >>> any_of([[0.5, 0.5], [0.0, 0.2]], how="max")
    array([0.5, 0.2])
    """
    p, how = _check(probabilities, how)
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
    p, how = _check(probabilities, how)
    return 1 - p.max(axis=1) if how == "max" else np.prod(1 - p, axis=1)


def _check(probabilities: ArrayLike, how: str) -> tuple[NDArray[np.float64], str]:
    p = np.asarray(probabilities, dtype=float)
    if p.ndim != 2 or not p.shape[1]:
        raise ValueError(f"Expected probabilities of shape [N, F], got shape {p.shape}.")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("Expected probabilities between 0 and 1, got one outside or NaN.")
    if how not in ("independent", "max"):
        raise ValueError(f"Expected how to be 'independent' or 'max', got {how!r}.")
    return p, how
