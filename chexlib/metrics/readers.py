r"""Readers against one another: how far they agree, and what may be learnt where nobody knows.

Agreement is a function of a few sums over films (votes, votes of each two readers), so intervals by
patient come from the resampling engine, and no reader is taken for the truth. F1 between two yes/no
readers is symmetric: 2 (both yes) / (yes of one + yes of the other), also called positive
agreement. Averaged over every other reader it says how well a reader agrees with the rest, not how
often he is right.

Behind the simulation of readers is the plainest model there is. A film shows x, standard normal.
Reader i has the impression :math:`\lambda_i x + \sqrt{1 - \lambda_i^2}\, e_i`, with noise of his
own, and says yes to the share :math:`r_i` of films on which it is strongest. :math:`\lambda` is his
skill, r his call rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import comb, expit, ndtri, owens_t
from scipy.stats import t

from chexlib.metrics.comparison import sensitivity_at_reader
from chexlib.metrics.inputs import as_bool, check_share
from chexlib.metrics.resampling import (
    RESAMPLES,
    Bootstrap,
    Estimate,
    Resamples,
    draws_of,
    percentile_ends,
)


def reader_agreement(
    reads: ArrayLike,
    patient: ArrayLike | Resamples | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return how far readers of the same films agree on one finding.

    Parameters
    ----------
    reads : array_like [N, R]
        bool, or 0 and 1: whether each of R readers calls each of N films.
    patient : array_like [N] or Resamples, optional
        The patient of each film. Left out, films count as independent.
    level, resamples, seed
        Of the bootstrap by patient.

    Returns
    -------
    dict of str to Estimate
        ``pairwise_kappa``: Cohen's kappa, mean over pairs of readers, of whom each pair that is
        constant and alike is left out. ``fleiss_kappa``: agreement beyond the chance of readers who
        all call at one rate. ``positive_agreement``: given that one of two readers calls, how often
        the other does; ``negative_agreement`` likewise. ``k`` of ``n`` films had one vote from all.
        NaN where no reader calls anything, or for kappa where all call everything.

    Raises
    ------
    ValueError
        If a read is not 0 or 1, or there are fewer than two readers or no films.

    References
    ----------
    Fleiss, Psychological Bulletin 76 (1971) 378-382; Cicchetti and Feinstein, J Clin Epidemiol 43
    (1990) 551-558, for agreement on yes and no apart.

    Examples
    --------
    >>> found = reader_agreement([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]])
    >>> round(found["fleiss_kappa"].estimate, 2), round(found["positive_agreement"].estimate, 2)
    (0.66, 0.8)
    """
    reads = _check_reads(reads)
    n_readers, votes = reads.shape[1], reads.sum(axis=1)
    one, other = np.triu_indices(n_readers, 1)
    split = votes * (n_readers - votes)  # pairs of readers that disagree on a film
    columns = [np.ones(len(reads)), votes, split, *reads.T, *(reads[:, one] & reads[:, other]).T]

    def statistics(sums: NDArray) -> dict[str, NDArray]:
        n, yes, split = sums[:3]
        rate, both = sums[3 : 3 + n_readers] / n, sums[3 + n_readers :] / n
        either = rate[one] + rate[other]
        kappas = 1 - (either - 2 * both) / (either - 2 * rate[one] * rate[other])
        pairs, no = n_readers - 1, n * n_readers - yes
        return {
            "pairwise_kappa": np.nansum(kappas, axis=0) / (~np.isnan(kappas)).sum(axis=0),
            "fleiss_kappa": 1 - split * n * n_readers / (pairs * yes * no),
            "positive_agreement": 1 - split / (pairs * yes),
            "negative_agreement": 1 - split / (pairs * no),
        }

    draws = draws_of(np.ones(len(reads), bool), patient, resamples=resamples, seed=seed)
    return _of_sums(statistics, columns, draws, k=int((split == 0).sum()), level=level)


def panel_agreement(
    reads: ArrayLike,
    size: int,
    patient: ArrayLike | Resamples | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return what the majority of fewer readers is worth: every panel of ``size`` out of R.

    Panels are not drawn but counted: on a film with v votes the chance of a panel's majority is
    hypergeometric.

    Parameters
    ----------
    reads, patient, level, resamples, seed
        As in :func:`reader_agreement`.
    size : int
        Odd, from 1 to R.

    Returns
    -------
    dict of str to Estimate
        Over all panels: ``sensitivity`` and ``ppv`` of the panel's majority against the majority of
        all R (R odd), of whom the panel is a part; where R is more than ``size``, ``kappa`` and
        ``positive_agreement`` of the panel's majority with a reader outside it. ``k`` of ``n``
        films have the majority of all.

    Raises
    ------
    ValueError
        As in :func:`reader_agreement`, or for a size that is even or too large.

    Examples
    --------
    >>> found = panel_agreement([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], 1)
    >>> round(found["sensitivity"].estimate, 3), round(found["positive_agreement"].estimate, 3)
    (0.833, 0.667)
    """
    reads = _check_reads(reads)
    n_readers, votes = reads.shape[1], reads.sum(axis=1)
    if size % 2 == 0 or not 1 <= size <= n_readers:
        raise ValueError(
            f"Expected an odd size from 1 to {n_readers}, the number of readers, got {size}."
        )
    panel = _majority(size, n_readers, votes)
    columns = [np.ones(len(reads)), panel, votes > n_readers / 2, panel * (votes > n_readers / 2)]
    if size < n_readers:
        outside = votes / n_readers
        rest = _majority(size, n_readers - 1, np.maximum(votes - 1, 0))
        columns += [outside, outside * rest]

    def statistics(sums: NDArray) -> dict[str, NDArray]:
        n, panel, whole, both = sums[:4]
        found = {"sensitivity": both / whole, "ppv": both / panel}
        if size < n_readers:
            outside, agreed = sums[4:]
            either = panel + outside
            found["kappa"] = 1 - (either - 2 * agreed) / (either - 2 * panel * outside / n)
            found["positive_agreement"] = 2 * agreed / either
        return found

    draws = draws_of(np.ones(len(reads), bool), patient, resamples=resamples, seed=seed)
    return _of_sums(statistics, columns, draws, k=int(sum(columns[2])), level=level)


def krippendorff_alpha(
    counts: ArrayLike,
    patient: ArrayLike | Resamples | None = None,
    *,
    scale: str = "nominal",
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return Krippendorff's alpha, for films with different numbers of reads or of several values.

    By the package ``krippendorff``. With two values and as many reads on each film it is Fleiss'
    kappa but for a correction of order 1 / (reads in all).

    Parameters
    ----------
    counts : array_like [N, V] of int
        How many readers gave each film each of V values. A film with one read counts for nothing.
    patient, level, resamples, seed
        As in :func:`reader_agreement`.
    scale : {"nominal", "ordinal"}
        Whether values are merely different, or in the order of the columns.

    Returns
    -------
    Estimate
        1 is full agreement and 0 what chance gives. ``k`` of ``n`` films, those with two reads or
        more, had one value from all.

    References
    ----------
    Hayes and Krippendorff, Communication Methods and Measures 1 (2007) 77-89.

    Examples
    --------
    >>> round(krippendorff_alpha([[3, 0], [2, 1], [0, 2]], resamples=20).estimate, 3)
    0.533
    """
    counts = np.asarray(counts)
    if counts.ndim != 2 or counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ValueError(f"Expected whole counts [N, V] of at least 0, got {counts.shape}.")
    draws = draws_of(np.ones(len(counts), bool), patient, resamples=resamples, seed=seed)
    kinds, which = np.unique(counts, axis=0, return_inverse=True)

    def alpha(times: NDArray) -> float:
        drawn = np.repeat(kinds, times.astype(int), axis=0)
        if (drawn.sum(axis=0) > 0).sum() < 2 or (drawn.sum(axis=1) < 2).all():
            return math.nan  # one value only: nothing to agree on
        return float(krippendorff.alpha(value_counts=drawn, level_of_measurement=scale))

    columns = (which[:, None] == np.arange(len(kinds))).T
    several = counts.sum(axis=1) > 1
    agreed = several & (counts.max(axis=1) == counts.sum(axis=1))

    def statistics(sums: NDArray) -> dict[str, NDArray]:
        return {"alpha": np.array([alpha(times) for times in sums.T])}

    found = _of_sums(statistics, columns, draws, k=int(agreed.sum()), level=level)["alpha"]
    return replace(found, n=int(several.sum()))


class DawidSkene(NamedTuple):
    """What :func:`dawid_skene` finds; with weights ``[N, B]`` each has a first axis B.

    ``prevalence``, ``sensitivity`` and ``specificity`` ``[R]`` of each reader, and ``truth``
    ``[N]``, the probability that a film has the finding.
    """

    prevalence: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    specificity: NDArray[np.float64]
    truth: NDArray[np.float64]


def dawid_skene(
    reads: ArrayLike, *, weight: ArrayLike | None = None, steps: int = 5000
) -> DawidSkene:
    """Estimate the truth, and each reader's sensitivity and specificity, from their reads alone.

    A film has the finding or not, unseen. Given that, readers err independently, each at rates of
    his own that are the same on every film. The likelihood is maximised by EM, from the share of
    votes. What no reader can see on the film is no truth to this model: where they err together,
    it takes what they agree on for the truth, and everyone comes out better than he is.

    Parameters
    ----------
    reads : array_like [N, R]
        bool, or 0 and 1, of at least three readers: of two the model cannot be identified.
    weight : array_like [N] or [N, B], optional
        How often a film counts, such as in each of B resamples.
    steps : int
        Of EM at most; it stops where no probability moves by 1e-9.

    Returns
    -------
    DawidSkene

    Raises
    ------
    ValueError
        If a read is not 0 or 1, or there are fewer than three readers or no films.

    References
    ----------
    Dawid and Skene, Applied Statistics 28 (1979) 20-28, equations 2.3 to 2.5. By hand: no package
    that is kept up has it, and on the few patterns of votes it is three lines.

    Examples
    --------
    >>> reads = [[1, 1, 1]] * 4 + [[1, 1, 0]] + [[0, 0, 0]] * 5
    >>> dawid_skene(reads).sensitivity.round(2)
    array([1. , 1. , 0.8])
    """
    reads = _check_reads(reads, readers=3)
    weight = np.ones(len(reads)) if weight is None else np.asarray(weight, dtype=float)
    single = weight.ndim == 1
    weight = weight.reshape(len(reads), -1)
    seen, which = np.unique(reads, axis=0, return_inverse=True)  # [K, R]: patterns of votes
    counts = (which == np.arange(len(seen))[:, None]) @ weight  # [K, B]
    tiny, yes, no = 1e-12, seen.astype(float), 1.0 - seen
    truth = np.repeat(yes.mean(axis=1)[:, None], counts.shape[1], axis=1)
    for _ in range(steps):
        true, false = counts * truth, counts * (1 - truth)
        prevalence = np.clip(true.sum(axis=0) / counts.sum(axis=0), tiny, 1 - tiny)
        sensitivity = np.clip(yes.T @ true / (true.sum(axis=0) + tiny), tiny, 1 - tiny)
        specificity = np.clip(no.T @ false / (false.sum(axis=0) + tiny), tiny, 1 - tiny)
        odds = np.log(prevalence / (1 - prevalence))
        odds = odds + yes @ np.log(sensitivity / (1 - specificity))
        before, truth = truth, expit(odds + no @ np.log((1 - sensitivity) / specificity))
        if np.abs(truth - before).max() < 1e-9:
            break
    found = DawidSkene(prevalence, sensitivity.T, specificity.T, truth[which].T)
    return DawidSkene(*(value[0] for value in found)) if single else found


def _check_reads(reads: ArrayLike, readers: int = 2) -> NDArray[np.bool_]:
    """Return reads as bool ``[N, R]``."""
    reads = as_bool("reads", np.asarray(reads), "Leave films with a missing read out first.")
    if reads.ndim != 2 or not len(reads) or reads.shape[1] < readers:
        raise ValueError(
            f"Expected reads [N, R] of at least one film by {readers} readers or more, got shape "
            f"{reads.shape}."
        )
    return reads


def _majority(size: int, n_readers: int, votes: NDArray) -> NDArray[np.float64]:
    """Return the chance that most of ``size`` readers, of whom there are R, are among v votes."""
    ways = (
        comb(votes, j) * comb(n_readers - votes, size - j) for j in range(size // 2 + 1, size + 1)
    )
    return sum(ways) / comb(n_readers, size)


def _of_sums(
    statistics: Callable[[NDArray], dict[str, NDArray]],
    columns: Sequence[ArrayLike],
    draws: Resamples,
    *,
    k: int,
    level: float,
) -> dict[str, Estimate]:
    """Return statistics of sums over films ``[C, 1 + B]``, with intervals over the resamples."""
    columns = np.stack(columns, axis=1).astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistics(np.vstack([columns.sum(axis=0), draws.sums(columns)]).T)
    found = {}
    for name, value in values.items():
        (low,), (high,) = percentile_ends(value[1:, None], level=level)
        method, still = draws.method, not high - low > 1e-9 or math.isnan(value[0])
        if still:
            low, high, method = math.nan, math.nan, "no interval: resamples do not move it"
        found[name] = Estimate(k, len(columns), *map(float, (value[0], low, high)), method)
    return found


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


def majority_of_others(reads: ArrayLike, *, ties: bool = False) -> NDArray[np.float64]:
    """Return for each reader what more than half of the other readers say: a reference without him.

    Parameters
    ----------
    reads : array_like [N, R]
        1 and 0, or NaN where a reader did not read a film.
    ties : bool
        Whether half of the others is enough. Of four others, three are a majority and two a tie.

    Returns
    -------
    ndarray [N, R]
        1 and 0; NaN where the reader, or every other, did not read the film.

    Examples
    --------
    >>> majority_of_others([[1, 1, 0], [1, 0, 0]])
    array([[0., 0., 1.],
           [0., 0., 0.]])
    """
    reads = np.asarray(reads, dtype=float)
    if reads.ndim != 2 or not ((reads == 0) | (reads == 1) | np.isnan(reads)).all():
        raise ValueError(f"Expected reads of 0, 1 and NaN, [N, R], got shape {reads.shape}.")
    read = ~np.isnan(reads)
    yes = np.nansum(reads, axis=1, keepdims=True) - np.nan_to_num(reads)
    others = read.sum(axis=1, keepdims=True) - read
    called = (2 * yes >= others) if ties else (2 * yes > others)
    return np.where(read & (others > 0), called, np.nan)


def beside_readers(
    reads: ArrayLike, scores: ArrayLike, draws: Resamples, *, ties: bool = False
) -> Bootstrap:
    """Set a score beside each reader, with :func:`majority_of_others` as the reference.

    Parameters
    ----------
    reads : array_like [N, R]
        1 and 0, or NaN where a reader did not read a film.
    scores : array_like [N]
    draws : Resamples
        Of the patients of the N films.
    ties : bool
        As in :func:`majority_of_others`.

    Returns
    -------
    Bootstrap [R, 2]
        The score's sensitivity at the reader's false-positive rate, and the reader's: what
        :func:`~chexlib.metrics.compare_with_reader` compares. NaN where the others call no film or
        all.
    """
    reads = np.asarray(reads, dtype=float)
    scores, reference = np.asarray(scores), majority_of_others(reads, ties=ties)
    estimate = np.full((reads.shape[1], 2), np.nan)
    replicates = np.full((len(draws), *estimate.shape), np.nan)
    for r, truth in enumerate(reference.T):
        films = ~np.isnan(truth)
        if len(np.unique(truth[films])) == 2:
            some = truth[films], scores[films], reads[films, r]
            found = sensitivity_at_reader(*some, draws.select(films))
            estimate[r], replicates[:, r] = found.estimate, found.replicates
    return Bootstrap(estimate, replicates, draws)


def spread_over_readers(found: Bootstrap) -> tuple[float, float, float]:
    """Return how far readers lie apart, and how far a resample of patients moves them.

    Parameters
    ----------
    found : Bootstrap [R]
        A figure of each of at least two readers.

    Returns
    -------
    between, error, common : float
        The variance of the R figures, and over the resamples the mean variance of one and the mean
        covariance of two, or 0 where that is below: what :func:`over_readers` needs.
    """
    draws = found.replicates[~np.isnan(found.replicates).any(axis=1)]
    covariance, n = np.cov(draws.T), len(found.estimate)
    error = float(np.trace(covariance) / n)
    common = float((covariance.sum() - np.trace(covariance)) / (n * (n - 1)))
    return float(found.estimate.var(ddof=1)), error, max(common, 0.0)


def over_readers(found: Bootstrap, *, level: float = 0.95) -> Estimate:
    r"""Return the mean over readers, with an interval for other readers and other patients.

    Parameters
    ----------
    found : Bootstrap [R]
        A figure of each reader, such as a difference from a score, resampled by patient. Readers
        without one are left out.
    level : float
        Confidence.

    Returns
    -------
    Estimate
        ``k`` of ``n`` readers have a figure. Without an interval where fewer than two have, or
        all have 0, which says nothing of how sure it is.

    Notes
    -----
    The model of Obuchowski and Rockette for one test: reader i has
    :math:`D_i = \mu + R_i + e_i`, and the errors of two readers on the same patients have the
    covariance :math:`C`, here the mean of the resamples' covariances. With :math:`S^2` the variance
    of the :math:`D_i` (its expectation holds the readers' variance and what of the error is not
    common), the mean has the variance :math:`(S^2 + \max(R C, 0)) / R` and, by Hillis, a t
    distribution with :math:`(S^2 + \max(R C, 0))^2 / (S^4 / (R - 1))` degrees of freedom.

    References
    ----------
    Obuchowski and Rockette, Communications in Statistics B 24 (1995) 285-308; Hillis, Statistics in
    Medicine 26 (2007) 596-619 and 33 (2014) 330-360.
    """
    given = ~np.isnan(found.estimate)
    d, n = found.estimate[given], int(given.sum())
    method = f"readers and patients as samples (Obuchowski-Rockette, Hillis), {n} readers"
    low = high = math.nan
    if n > 1 and d.any():
        between, _, common = spread_over_readers(found[given])
        total = between + n * common
        freedom = (n - 1) * (total / between) ** 2 if between else math.inf
        half = t.ppf((1 + level) / 2, freedom) * math.sqrt(total / n)
        low, high = d.mean() - half, d.mean() + half
    mean = float(d.mean()) if n else math.nan
    return Estimate(n, len(given), mean, float(low), float(high), method)
