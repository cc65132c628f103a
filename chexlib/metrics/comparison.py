"""AUROCs that vary together, and paired comparisons on the same films.

Pairing is what makes a comparison sharp: films that are hard for one are hard for the other, and
the difference varies less than either figure. Two figures whose intervals overlap may well differ.

DeLong's covariance: the AUROC is a mean over pairs of films, so each film has a *placement*, the
share of films of the other class that it is ranked rightly against, ties counting a half. AUROCs on
the same films vary together as their placements do. That gives intervals and paired tests in closed
form, without a draw: for two scores with the same labels, for two label sets with the same score,
for the mean of fourteen findings. Placements come from sorting once, O(N log N) (Sun and Xu 2014),
not from comparing all pairs.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from chexlib.metrics.inputs import UndefinedWarning, check_films, check_share, warn_one_class
from chexlib.metrics.ranking import auroc, auroc_standard_error
from chexlib.metrics.resampling import (
    RESAMPLES,
    Bootstrap,
    Estimate,
    Resamples,
    draws_of,
    normal_quantile,
    resampled,
)


@dataclass(frozen=True)
class Contrast:
    """A linear combination of AUROCs, such as a difference, with its interval.

    ``p_value`` is two-sided, of the hypothesis that it is 0.
    """

    estimate: float
    standard_error: float
    low: float
    high: float
    p_value: float
    method: str


@dataclass(frozen=True, eq=False)
class Aurocs:
    """AUROCs on the same films and how they vary together.

    Attributes
    ----------
    auroc : ndarray [F]
        NaN where a finding is on no film or on all.
    covariance : ndarray [F, F]
        NaN where it cannot be estimated.
    n_films : int
    n_positive : ndarray [F] of int
    n_patients : ndarray [2, F] of int
        Patients (films, where they count as independent) with a positive film, and with a negative.
    method : str
    """

    auroc: NDArray[np.float64]
    covariance: NDArray[np.float64]
    n_films: int
    n_positive: NDArray[np.int_]
    n_patients: NDArray[np.int_]
    method: str

    @property
    def standard_error(self) -> NDArray[np.float64]:
        """Standard error of each AUROC."""
        return np.sqrt(np.diag(self.covariance))

    def estimates(self, *, level: float = 0.95) -> list[Estimate]:
        """Return each AUROC with its interval; k positive films of n.

        Parameters
        ----------
        level : float
            Confidence.

        Notes
        -----
        The interval is symmetric on the logit scale: so it stays between 0 and 1 and holds its
        confidence better near 1 than DeLong's as most software prints it.

        An AUROC of exactly 0 or 1 has an estimated variance of 0, which says nothing. Its interval
        is Newcombe's: all AUROCs from which it is no further than z standard errors, by Hanley and
        McNeil's formula at that AUROC, patients taken for films, half of each kind.

        References
        ----------
        Newcombe, Statistics in Medicine 25 (2006) 559-573, method 5.
        """
        z = normal_quantile(level)
        found = []
        columns = (self.auroc, self.standard_error, self.n_positive, self.n_patients.T)
        for a, se, k, patients in zip(*columns, strict=True):
            low = high = math.nan
            method = self.method
            if a in (0, 1):
                end = _newcombe(*patients, z)
                low, high = (end, 1.0) if a else (0.0, 1 - end)
                method = f"Newcombe, {patients[0]} and {patients[1]} as trials"
            elif se > 0:
                half = z * se / (a * (1 - a))
                low, high = (float(expit(logit(a) + end)) for end in (-half, half))
            found.append(Estimate(int(k), self.n_films, float(a), low, high, method))
        return found

    def contrast(self, coefficients: ArrayLike, *, level: float = 0.95) -> Contrast:
        """Return a linear combination: ``[1, -1]`` is the difference of the first two.

        Parameters
        ----------
        coefficients : array_like [F]
        level : float
            Confidence.

        Returns
        -------
        Contrast
            One score less itself is 0, surely, and has p = 1. Of AUROCs of 0 or 1 alone no variance
            can be estimated: interval and p are NaN, with an
            :class:`~chexlib.metrics.UndefinedWarning`.
        """
        c = np.asarray(coefficients, dtype=float)
        if c.shape != self.auroc.shape:
            raise ValueError(f"Expected {len(self.auroc)} coefficients, got shape {c.shape}.")
        used = c != 0
        c = c[used]
        estimate = float(c @ self.auroc[used])
        variance = float(c @ self.covariance[np.ix_(used, used)] @ c)
        # Below what rounding leaves, two AUROCs are one and the same.
        se = math.sqrt(variance) if not variance < 1e-18 else 0.0
        if se == 0 and (estimate != 0 or not (np.diag(self.covariance)[used] > 0).all()):
            warnings.warn(
                "The interval is undefined: AUROCs of 0 or 1 show no variance.",
                UndefinedWarning,
                stacklevel=2,
            )
            se = math.nan
        half = normal_quantile(level) * se
        p = 2 * NormalDist().cdf(-abs(estimate) / se) if se else 1.0
        return Contrast(estimate, se, estimate - half, estimate + half, p, self.method)


@dataclass(frozen=True)
class Comparison:
    """Two figures on the same films, and their difference with its interval.

    Attributes
    ----------
    first, second : float
        The figures.
    difference : float
        ``first - second``.
    low, high : float
        Ends of the interval of the difference; NaN where it has no width.
    p_value : float
        Two-sided, of no difference, from the same distribution: below 1 - level exactly where the
        interval leaves out 0.
    method : str
    """

    first: float
    second: float
    difference: float
    low: float
    high: float
    p_value: float
    method: str

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def delong(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    patient: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> Aurocs:
    r"""Return AUROCs with their covariance matrix.

    Parameters
    ----------
    labels, scores : array_like [N] or [N, F]
        One of them may have one column for F of the other: F scores of one finding, or F label
        sets for one score. See :func:`chexlib.metrics.inputs.check_films`.
    patient : array_like [N], optional
        The patient of each film. Placements are summed within patients, so that films of one
        patient may depend on one another in any way (Obuchowski 1997). Left out, films count as
        independent (DeLong 1988).
    sample_weight : array_like [N], optional
        Sampling weights, such as the inverse of the fraction sampled. Only their ratios matter.
        Weights are not counts of films: repeat the rows (``np.repeat``) for those.

    Returns
    -------
    Aurocs

    Notes
    -----
    With :math:`V_i` the placement of film i, m positives, n negatives, and sums over the films of
    a patient c, :math:`A_c = \sum_{i+} (V_i - \theta) / m` and
    :math:`B_c = \sum_{i-} (V_i - \theta) / n`,

    .. math:: \mathrm{Var}(\hat\theta) = \tfrac{I_+}{I_+ - 1} \sum_c A_c^2
        + \tfrac{I_-}{I_- - 1} \sum_c B_c^2 + 2 \tfrac{I}{I - 1} \sum_c A_c B_c ,

    with :math:`I_+`, :math:`I_-` and :math:`I` patients that have a positive, a negative, any film.
    With one film a patient this is DeLong's.

    References
    ----------
    DeLong, DeLong and Clarke-Pearson, Biometrics 44 (1988) 837-845; Obuchowski, Biometrics 53
    (1997) 567-578; Sun and Xu, IEEE Signal Processing Letters 21 (2014) 1389-1393.

    Examples
    --------
    >>> found = delong([0, 0, 1, 1, 0, 1], [0.1, 0.4, 0.35, 0.8, 0.2, 0.7])
    >>> round(float(found.auroc[0]), 3), round(float(found.standard_error[0]), 3)
    (0.889, 0.157)
    >>> print(found.estimates()[0])
    0.89 (0.26 to 0.99)
    """
    films = check_films(labels, scores, sample_weight=sample_weight)
    n_films, n_findings = films.labels.shape
    code = films.patients(patient)
    method = f"DeLong{', films as independent' if patient is None else ' by patient (Obuchowski)'}"
    weight, n_clusters = films.mass, int(code.max()) + 1

    theta = np.full(n_findings, np.nan)
    sums = np.full((2, n_clusters, n_findings), np.nan)  # A and B of the docstring
    n_patients = np.zeros((2, n_findings), dtype=int)
    for k in range(n_findings):
        y, s = films.labels[:, k], films.scores[:, k]
        if y.all() or not y.any():
            continue
        below = _share_below(s[y], s[~y], weight[~y])
        above = 1 - _share_below(s[~y], s[y], weight[y])
        theta[k] = np.average(below, weights=weight[y])
        for side, (kind, placement) in enumerate(((y, below), (~y, above))):
            part = weight[kind] / weight[kind].sum() * (placement - theta[k])
            sums[side, :, k] = np.bincount(code[kind], part, minlength=n_clusters)
            n_patients[side, k] = len(np.unique(code[kind]))
    warn_one_class("auroc", films, np.isnan(theta))

    n = np.where(n_patients > 1, n_patients, np.nan)  # one patient alone has no variance
    a, b = sums * np.sqrt(n / (n - 1))[:, None]
    cross = n_clusters / max(n_clusters - 1, 1) * (sums[0].T @ sums[1])
    covariance = a.T @ a + b.T @ b + cross + cross.T
    return Aurocs(theta, covariance, n_films, films.labels.sum(axis=0), n_patients, method)


def compare_scores(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, **options: object
) -> Comparison:
    """Compare two scores of one finding on the same films and labels.

    Parameters
    ----------
    labels : array_like [N]
        bool, or numbers that are 0 or 1.
    first, second : array_like [N]
        Scores; they need not share a scale.
    **options
        ``patient``, ``metric``, ``sample_weight``, ``level``, ``resamples`` and ``seed``: see
        :func:`compare_labels`.

    Examples
    --------
    >>> labels = [0, 0, 0, 1, 1, 1]
    >>> found = compare_scores(labels, [1, 2, 4, 3, 5, 6], [1, 4, 5, 2, 6, 3])
    >>> round(found.first, 2), round(found.second, 2), round(found.difference, 2)
    (0.89, 0.56, 0.33)
    """
    return _compare((labels, labels), (first, second), **options)


def compare_labels(
    first: ArrayLike, second: ArrayLike, scores: ArrayLike, **options: object
) -> Comparison:
    """Compare how well one score agrees with two label sets of the same films.

    A higher figure against one label set does not say that the score is better than the other set;
    for that see :func:`compare_with_reader`.

    Parameters
    ----------
    first, second : array_like [N]
        Labels, such as those of radiologists and those mined from reports.
    scores : array_like [N]
    patient : array_like [N], optional
        The patient of each film; left out, films count as independent.
    metric : callable
        By default :func:`~chexlib.metrics.auroc`, whose interval is DeLong's (by patient:
        Obuchowski's). Any other ``metric(labels, scores, sample_weight=…)`` is resampled.
    sample_weight : array_like [N], optional
        Sampling weights.
    level, resamples, seed
        Confidence; resamples and seed where the metric is resampled.

    Returns
    -------
    Comparison
    """
    return _compare((first, second), (scores, scores), **options)


def compare_with_reader(
    labels: ArrayLike,
    scores: ArrayLike,
    reader: ArrayLike,
    *,
    patient: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare the sensitivity of a score with a reader's, at the reader's false-positive rate.

    A reader who says yes or no is one point under or above the score's ROC curve. The threshold is
    set so that score and reader raise as many false alarms; between two points of the curve a
    straight line is drawn. Both figures are resampled together, the reader's rate included.

    Parameters
    ----------
    labels : array_like [N]
        The reference, such as radiologists' adjudicated labels.
    scores : array_like [N]
    reader : array_like [N]
        bool, or 0 and 1: a radiologist's reads, or another label set treated as a reader.
    patient, sample_weight, level, resamples, seed
        As in :func:`compare_labels`.

    Returns
    -------
    Comparison
        ``first`` is the score's sensitivity and ``second`` the reader's. A difference above 0 says
        that the score's ROC curve passes above the reader.

    Notes
    -----
    Where the curve rises vertically at the reader's rate, the score is given the upper end: the
    best threshold that raises no more false alarms. That favours the score by at most the step,
    the positives that lie between two negatives, which matters in small sets only.

    Raises
    ------
    ValueError
        If the reference is of one class: no sensitivity or false-positive rate exists.

    Examples
    --------
    >>> labels = [0, 0, 0, 0, 1, 1, 1, 1]
    >>> reader = [0, 0, 0, 1, 0, 0, 1, 1]
    >>> found = compare_with_reader(labels, [1, 2, 3, 5, 4, 6, 7, 8], reader, resamples=200)
    >>> found.first, found.second, found.difference
    (1.0, 0.5, 0.5)
    """
    found = sensitivity_at_reader(
        labels, scores, reader, patient, sample_weight=sample_weight, resamples=resamples, seed=seed
    )
    return _from_bootstrap(found[0], found[1], level=level)


def sensitivity_at_reader(
    labels: ArrayLike,
    scores: ArrayLike,
    reader: ArrayLike,
    patient: ArrayLike | Resamples | None,
    *,
    sample_weight: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Return the score's sensitivity at a reader's false-positive rate, and the reader's, ``[2]``.

    What :func:`compare_with_reader` compares, with its resamples.
    """
    films = check_films(
        labels, scores, sample_weight=sample_weight, one_finding=True, both_classes=True
    )
    order = np.argsort(-films.scores[:, 0], kind="stable")
    y, score = films.labels[order, 0], films.scores[order, 0]
    read = check_films(reader, scores, sample_weight=sample_weight).labels[order, 0]
    draws = draws_of(films.kept, patient, resamples=resamples, seed=seed).select(order)
    ends = np.append(np.diff(score) != 0, True)  # tied scores move together
    mass = films.mass[order]

    def sensitivities(weight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return both, ``[2, B]``, for weights of films ``[N, B]``."""
        tp, fp = (np.cumsum(weight * kind[:, None], axis=0)[ends] for kind in (y, ~y))
        tp, fp = (np.vstack([np.zeros(x.shape[1]), x]) for x in (tp, fp))
        alarms, found = (read & ~y) @ weight, (read & y) @ weight
        left = (fp <= alarms + 1e-9 * fp[-1]).sum(axis=0) - 1  # where it rises, the upper end
        right, each = np.minimum(left + 1, len(fp) - 1), np.arange(len(left))
        step = fp[right, each] - fp[left, each]
        part = np.divide(alarms - fp[left, each], step, out=np.zeros_like(step), where=step > 0)
        own = tp[left, each] + part * (tp[right, each] - tp[left, each])
        with np.errstate(invalid="ignore"):  # a resample of few patients may lack a kind
            return np.where(fp[-1] > 0, np.stack([own, found]) / tp[-1], np.nan)

    size = max(1, 4_000_000 // len(y))  # resamples held at once
    parts = [
        sensitivities(draws.drawn[draws.code, b : b + size] * mass[:, None])
        for b in range(0, len(draws), size)
    ]
    return Bootstrap(sensitivities(mass[:, None])[:, 0], np.hstack(parts).T, draws)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Return p-values adjusted for how many there are, by Holm's step-down method.

    Under 0.05 after adjustment, the chance of a single false claim among all of them is at most
    5%, whatever their dependence. NaN stays NaN and is not counted. For p-values that come from
    separate sources; differences on the same resamples have a sharper way,
    :meth:`chexlib.metrics.Bootstrap.p_adjusted`.

    References
    ----------
    Holm, Scandinavian Journal of Statistics 6 (1979) 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    from statsmodels.stats.multitest import multipletests

    adjusted = np.array(p_values, dtype=float)
    given = ~np.isnan(adjusted)
    if given.any():
        p = check_share("p-values", adjusted[given])
        adjusted[given] = multipletests(p, method="holm")[1]
    return adjusted


def _compare(
    labels: tuple[ArrayLike, ArrayLike],
    scores: tuple[ArrayLike, ArrayLike],
    *,
    patient: ArrayLike | None = None,
    metric: Callable[..., ArrayLike] = auroc,
    sample_weight: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    pair = [
        check_films(y, s, sample_weight=sample_weight) for y, s in zip(labels, scores, strict=True)
    ]
    if not (pair[0].single and pair[1].single and len(pair[0].labels) == len(pair[1].labels)):
        raise ValueError(
            "Expected one finding on the same films, got shapes "
            f"{pair[0].labels.shape} and {pair[1].labels.shape}."
        )
    if metric is auroc:
        found = delong(
            np.hstack([films.labels for films in pair]),
            np.hstack([films.scores for films in pair]),
            patient=None if patient is None else pair[0].patients(patient),
            sample_weight=pair[0].weight,
        )
        gap = found.contrast([1, -1], level=level)
        first, second = (float(value) for value in found.auroc)
        return Comparison(first, second, gap.estimate, gap.low, gap.high, gap.p_value, found.method)
    draws = draws_of(pair[0].kept, patient, resamples=resamples, seed=seed)
    first, second = (
        resampled(metric, films.labels[:, 0], films.scores[:, 0], draws, sample_weight=films.weight)
        for films in pair
    )
    return _from_bootstrap(first, second, level=level)


def _from_bootstrap(first: Bootstrap, second: Bootstrap, *, level: float) -> Comparison:
    gap = first - second
    figures = (first.estimate, second.estimate, gap.estimate)
    figures += (*gap.interval(level=level), gap.p_value())
    return Comparison(*(float(x) for x in figures), gap.draws.method)


def _share_below(
    scores: NDArray[np.float64], others: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share of the others' weight that each score is above, ties counting a half."""
    order = np.argsort(others, kind="stable")
    others = others[order]
    total = np.concatenate([[0.0], np.cumsum(weight[order])])
    ends = [total[np.searchsorted(others, scores, side=side)] for side in ("left", "right")]
    return (ends[0] + ends[1]) / (2 * total[-1])


def _newcombe(n_positive: int, n_negative: int, z: float) -> float:
    """Return the lower end of the interval of an AUROC of 1: (1 - A) / SE(A) is z there."""
    half = (n_positive + n_negative) / 2
    scale = math.sqrt(half**2 / (n_positive * n_negative))

    def beyond(a: float) -> float:
        return 1 - a - z * scale * auroc_standard_error(a, n_positive=half, n_negative=half)

    return float(brentq(beyond, 1e-12, 1 - 1e-12))
