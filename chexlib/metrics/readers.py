r"""Readers scored against one another, where nobody knows the truth.

F1 between two yes/no readers is symmetric: 2 (both yes) / (yes of one + yes of the other). Averaged
over every other reader it says how well a reader agrees with the rest, not how often he is right.

The model behind the simulation is the plainest there is. A film shows x, standard normal. Reader i
has the impression :math:`\lambda_i x + \sqrt{1 - \lambda_i^2}\, e_i`, with noise of his own, and
says yes to the share :math:`r_i` of films on which it is strongest. :math:`\lambda` is his skill,
r his call rate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import ndtri, owens_t

from chexlib.metrics.inputs import check_share


def f1_between(reads: ArrayLike) -> NDArray[np.float64]:
    """Return F1 between each two readers of the same films.

    Parameters
    ----------
    reads : array_like [..., N, R]
        bool, or 0 and 1: whether each of R readers says yes to each of N films.

    Returns
    -------
    ndarray [..., R, R]
        Symmetric; NaN between two readers of whom none says yes to any film.

    Raises
    ------
    ValueError
        If a read is not 0 or 1, or there is no axis of films and readers.

    Examples
    --------
    >>> f1_between([[1, 1], [1, 0], [0, 0]])
    array([[1.        , 0.66666667],
           [0.66666667, 1.        ]])
    """
    reads = np.asarray(reads)
    if reads.ndim < 2 or not ((reads == 0) | (reads == 1)).all():
        raise ValueError(f"Expected reads of 0 and 1, [..., N, R], got shape {reads.shape}.")
    reads = reads.astype(float)
    both = np.swapaxes(reads, -1, -2) @ reads
    yes = reads.sum(axis=-2)
    with np.errstate(invalid="ignore"):
        return 2 * both / (yes[..., :, None] + yes[..., None, :])


def against_others(f1: ArrayLike, others: slice | ArrayLike = slice(None)) -> NDArray[np.float64]:
    """Return each reader's mean F1 against every other reader in turn.

    Parameters
    ----------
    f1 : array_like [..., R, R]
        From :func:`f1_between` or :func:`expected_f1`.
    others : slice or array_like
        Which readers to score against, by default all; a reader is never scored against himself.

    Returns
    -------
    ndarray [..., R]

    Examples
    --------
    >>> against_others([[1, 0.5, 0.3], [0.5, 1, 0.4], [0.3, 0.4, 1]])
    array([0.4 , 0.45, 0.35])
    """
    f1 = np.asarray(f1, dtype=float)
    other = ~np.eye(f1.shape[-1], dtype=bool)[:, others]
    return np.where(other, f1[..., others], 0.0).sum(axis=-1) / other.sum(axis=-1)


def expected_f1(call_rate: ArrayLike, skill: ArrayLike) -> NDArray[np.float64]:
    """Return F1 between each two readers of the model, on very many films.

    Parameters
    ----------
    call_rate : array_like [R]
        Share of films each reader says yes to, between 0 and 1.
    skill : float or array_like [R]
        Correlation of a reader's impression with what the film shows, from 0 to below 1.

    Returns
    -------
    ndarray [R, R]
        The diagonal is F1 with a second reader of the same rate and skill.

    Raises
    ------
    ValueError
        If a rate or a skill is out of range.

    Notes
    -----
    Two impressions are bivariate normal, and their correlation is the product of the skills. The
    share of films on which both lie above their cuts is Owen's, by his function T (Ann Math Statist
    27 (1956) 1075-1090): it holds however near the correlation is to 1.

    Examples
    --------
    Readers without skill agree by chance, at F1 equal to their common call rate:

    >>> expected_f1([0.2, 0.2], 0.0).round(3)
    array([[0.2, 0.2],
           [0.2, 0.2]])
    """
    rate, skill = _check(call_rate, skill)
    cut = ndtri(rate)
    cut = np.where(cut == 0, 1e-300, cut)  # two rates of 1/2 would be 0 / 0
    alike = np.multiply.outer(skill, skill)
    slope = (cut / cut[:, None] - alike) / np.sqrt(1 - alike**2)
    one = owens_t(cut[:, None], slope)
    apart = np.not_equal.outer(cut < 0, cut < 0)
    total = np.add.outer(rate, rate)
    return (total - 2 * (one + one.T) - apart) / total


def equal_skill(mean_f1: float, call_rate: ArrayLike) -> float:
    """Return the skill at which equally skilled readers agree at a mean F1 with one another.

    Parameters
    ----------
    mean_f1 : float
        Mean over readers of :func:`against_others`.
    call_rate : array_like [R]
        Of at least two readers.

    Raises
    ------
    ValueError
        If no skill gives this F1: differing rates cap how well readers can agree.

    Examples
    --------
    >>> round(equal_skill(0.387, [0.2, 0.2, 0.2, 0.2]), 2)
    0.64
    """

    def gap(skill: float) -> float:
        return float(against_others(expected_f1(call_rate, skill)).mean()) - mean_f1

    if np.size(call_rate) < 2:
        raise ValueError(f"Expected at least two readers, got call rates {call_rate}.")
    low, high = gap(0.0), gap(0.995)
    if not low <= 0 <= high:
        raise ValueError(
            f"Expected a mean F1 between {low + mean_f1:.3f} and {high + mean_f1:.3f} for readers "
            f"of call rates {call_rate}, got {mean_f1}."
        )
    return float(brentq(gap, 0.0, 0.995))


def simulate_reads(
    n_films: int, call_rate: ArrayLike, skill: ArrayLike, *, repeats: int, seed: int
) -> NDArray[np.bool_]:
    """Draw reads of the model: simulated, and to be called so wherever they are shown.

    Parameters
    ----------
    n_films, repeats : int
        Films in a study, and studies.
    call_rate, skill
        As in :func:`expected_f1`.
    seed : int

    Returns
    -------
    ndarray [repeats, n_films, R] of bool
    """
    rate, skill = _check(call_rate, skill)
    if n_films < 1 or repeats < 1:
        raise ValueError(f"Expected at least one film and study, got {n_films} and {repeats}.")
    rng = np.random.default_rng(seed)
    shown = rng.standard_normal((repeats, n_films, 1))
    noise = rng.standard_normal((repeats, n_films, len(rate)))
    return skill * shown + np.sqrt(1 - skill**2) * noise > -ndtri(rate)


def _check(
    call_rate: ArrayLike, skill: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    rate = np.atleast_1d(check_share("call rates", call_rate, strict=True))
    if rate.ndim != 1:
        raise ValueError(f"Expected call rates [R], got shape {rate.shape}.")
    skill = np.asarray(skill, dtype=float)
    if skill.shape not in ((), rate.shape) or not ((skill >= 0) & (skill < 1)).all():
        raise ValueError(f"Expected one skill or {len(rate)}, from 0 to below 1, got {skill}.")
    return rate, np.broadcast_to(skill, rate.shape)
