"""Estimates with their intervals: Wilson's, or by resampling patients with all their films.

Films of one patient repeat one another, so an interval that treats films as independent is too
narrow (Field and Welsh, JRSS B 69 (2007) 369-390). A resample of patients is a weighting of films:
how often the film's patient was drawn. Every metric here takes weights, so no film is ever copied,
and what is a function of counts needs one matrix product for all resamples.

For AUROC and average precision one need not even sort again. Put the films of a finding in bins
that end at the scores of its positives: a resample changes how many films are in a bin, never their
order. The bins' counts for all resamples are one sparse matrix product, and positives are few.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from chexlib.metrics.inputs import (
    Films,
    OneClassWarning,
    UndefinedWarning,
    check_films,
    check_patients,
)
from chexlib.metrics.ranking import auroc, average_precision

RESAMPLES = 2000
_CHUNK = 32  # resamples held at once: 32 weights of each patient stay in a core's cache


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


class Resamples:
    """Patients drawn with replacement: as many as there are, B times.

    One object serves many metrics. Two bootstraps on the same resamples are paired, and can be
    subtracted. Draws are whole numbers, so a seed gives the same resamples on any processor.

    Parameters
    ----------
    patient : array_like [N]
        The patient of each film, numbers or text. ``np.arange(N)`` resamples films.
    resamples : int
        How many, B.
    seed : int

    Attributes
    ----------
    code : ndarray [N] of int
        The row of ``drawn`` that each film's patient has.
    drawn : ndarray [P, B] of uint16
        How often each of P patients was drawn. Drawn when first asked for.
    unit : str
        What the intervals made of it say was drawn: ``patient`` or ``film``.

    Examples
    --------
    >>> draws = Resamples([7, 7, 9, 12], resamples=3)
    >>> draws.drawn.sum(axis=0)
    array([3, 3, 3], dtype=uint64)
    """

    unit = "patient"

    def __init__(self, patient: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0) -> None:
        self.code = check_patients(patient)
        if resamples < 1:
            raise ValueError(f"Expected at least one resample, got {resamples}. Use {RESAMPLES}.")
        self._resamples, self._seed = resamples, seed

    @cached_property
    def drawn(self) -> NDArray[np.uint16]:
        n, rng = int(self.code.max()) + 1, np.random.default_rng(self._seed)
        drawn = np.empty((n, len(self)), dtype=np.uint16)
        for b in range(len(self)):
            drawn[:, b] = np.bincount(rng.integers(n, size=n), minlength=n)
        return drawn

    def __len__(self) -> int:
        """Return the number of resamples."""
        return self._resamples

    @property
    def method(self) -> str:
        """What an interval of these resamples is."""
        return f"bootstrap by {self.unit}, {len(self)} resamples"

    def select(self, films: ArrayLike) -> Resamples:
        """Return the same draws for some of the films, as bool ``[N]`` or positions."""
        chosen = copy(self)
        chosen.code, chosen.drawn = self.code[np.asarray(films)], self.drawn
        return chosen

    def weight(self, b: int) -> NDArray[np.uint16]:
        """Return how often each film ``[N]`` is in resample ``b``."""
        return self.drawn[self.code, b]

    def sums(self, columns: ArrayLike) -> NDArray[np.float64]:
        """Return the totals of columns ``[N, C]`` over the films of each resample, ``[B, C]``."""
        columns = np.asarray(columns, dtype=float)
        film, column = np.nonzero(columns)
        shape = (columns.shape[1], len(self.drawn))
        entries = (columns[film, column], (column, self.code[film]))
        by_patient = coo_array(entries, shape=shape).tocsr()
        totals = np.empty((len(self), columns.shape[1]))
        for start in range(0, len(self), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            totals[chunk] = (by_patient @ self.drawn[:, chunk].astype(float)).T
        return totals


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A metric, and its value in each of B resamples.

    Attributes
    ----------
    estimate : ndarray [] or [F]
        The metric on the films themselves.
    replicates : ndarray [B] or [B, F]
        The metric on each resample; NaN where a resample has no value.
    draws : Resamples
        What was drawn; bootstraps on the same draws are paired.
    """

    estimate: NDArray[np.float64]
    replicates: NDArray[np.float64]
    draws: Resamples

    def interval(self, *, level: float = 0.95, fixed: bool = False) -> tuple[NDArray, NDArray]:
        """Return the ends of the percentile interval, each of the shape of ``estimate``.

        Ends are resampled values themselves, without interpolation; resamples without a value are
        left out (a resample of a very rare finding may hold no positive).

        Parameters
        ----------
        level : float
            Confidence.
        fixed : bool
            What no resample moves, such as an AUROC of 1, has no width, and that says nothing of
            how sure it is: the ends are NaN, with an
            :class:`~chexlib.metrics.UndefinedWarning`. ``True`` says that such values
            are known, not estimated: the ends of a ROC curve, a thing less itself.
        """
        ends = percentile_ends(self._columns(), level=level)
        still = ends[0] == ends[1]
        if still.any() and not fixed:
            ends[:, still] = np.nan
            which = f" of {still.sum()} of {len(still)} figures" if len(still) > 1 else ""
            warnings.warn(
                f"The interval{which} is undefined: all resamples give one value, and so say "
                "nothing of how sure it is.",
                UndefinedWarning,
                stacklevel=2,
            )
        low, high = ends.reshape(2, *self.replicates.shape[1:])
        return low[()], high[()]

    def p_value(self) -> NDArray[np.float64]:
        """Return the two-sided p-value of "the true value is 0", for a difference.

        It inverts :meth:`interval`: p is below 0.05 exactly where the interval of 95% leaves out 0,
        and so for every level that B resamples can resolve. That is 2 k / (B + 1), k being the
        resamples on the far side of 0, or 1 if there is none: p is never below 2 / (B + 1). NaN
        where the interval has no width.

        References
        ----------
        Davison and Hinkley, Bootstrap Methods and their Application (1997), chapters 4 and 5.
        """
        values = self._columns()
        n = (~np.isnan(values)).sum(axis=0)
        far = np.minimum((values <= 0).sum(axis=0), (values >= 0).sum(axis=0))
        low, high = percentile_ends(values)
        p = np.where(low < high, np.minimum(2 * np.maximum(far, 1) / (n + 1), 1), np.nan)
        return p.reshape(self.replicates.shape[1:])[()]

    def p_adjusted(self) -> NDArray[np.float64]:
        """Return :meth:`p_value` of differences tested together, adjusted for their number.

        Below 0.05 after adjustment, the chance of one false claim among all of them is about 5%
        at most. Unlike Holm's method this knows how the differences vary together, and it is not
        bound by F times the smallest p that resamples can give.

        All intervals of 95% are stretched about their middles by one factor until 0 just touches;
        p is the share of resamples with any of the differences outside its stretched interval.
        Differences are taken one after another, from the clearest: those before are left out
        (step-down). Stretched unequally to the left and right, the intervals keep their skew. No p
        falls below that of the difference by itself. NaN where :meth:`p_value` is, not counted.

        References
        ----------
        Westfall and Young, Resampling-Based Multiple Testing (1993), section 2.6; Romano and Wolf,
        JASA 100 (2005) 94-108; for intervals of equal standing, Beran, JASA 83 (1988) 679-686.
        """
        alone = np.atleast_1d(self.p_value())
        adjusted, given = np.full(alone.shape, np.nan), np.flatnonzero(~np.isnan(alone))
        if len(given):
            values = self._columns()[:, given]
            low, high = percentile_ends(values)
            middle = np.nanmedian(values, axis=0)

            def stretch(at: NDArray | float) -> NDArray[np.float64]:
                """By what factor each interval reaches the values, ``[K]`` or ``[B, K]``."""
                side = np.where(at < middle, middle - low, high - middle)
                with np.errstate(divide="ignore", invalid="ignore"):
                    return np.nan_to_num(np.abs(at - middle) / side, nan=0.0, posinf=np.inf)

            reach, drawn = stretch(0.0), stretch(values)
            order = np.argsort(-reach, kind="stable")
            # The furthest of each difference and those after it, in every resample.
            furthest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
            p = ((furthest >= reach[order]).sum(axis=0) + 1) / (len(values) + 1)
            p[-1] = 0.0  # the last is tested alone
            p = np.maximum.accumulate(np.maximum(p, alone[given[order]]))
            adjusted[given[order]] = np.minimum(p, 1)
        return adjusted.reshape(self.replicates.shape[1:])[()]

    def _columns(self) -> NDArray[np.float64]:
        return self.replicates.reshape(len(self.replicates), -1)

    def __getitem__(self, findings: object) -> Bootstrap:
        """Return some of the findings: a position, a slice, a list."""
        at = findings if isinstance(findings, tuple) else (findings,)
        return replace(
            self,
            estimate=np.asarray(self.estimate[at]),
            replicates=self.replicates[(slice(None), *at)],
        )

    def mean(self) -> Bootstrap:
        """Return the mean over findings (those with a value) with its resamples."""
        if self.replicates.ndim == 1:
            return self
        defined = ~np.isnan(self.estimate)
        if not defined.any():
            return self[0]
        estimate = self.estimate[defined].mean()
        return replace(self, estimate=estimate, replicates=self.replicates[:, defined].mean(axis=1))

    def __sub__(self, other: Bootstrap) -> Bootstrap:
        """Return the paired difference; both must be made on the same draws."""
        if self.draws.drawn is not other.draws.drawn:
            raise ValueError(
                "Expected two bootstraps on the same draws, got others. Make one Resamples and "
                "pass it to both."
            )
        return replace(
            self,
            estimate=np.asarray(self.estimate - other.estimate),
            replicates=self.replicates - other.replicates,
        )


def resampled(
    metric: Callable[..., ArrayLike],
    labels: ArrayLike,
    scores: ArrayLike,
    draws: Resamples | ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
) -> Bootstrap:
    """Compute a metric on resamples of patients.

    Parameters
    ----------
    metric : callable
        ``metric(labels, scores, sample_weight=…)`` giving a number, or one for each finding.
        :func:`~chexlib.metrics.auroc` and :func:`~chexlib.metrics.average_precision` take a path
        that is about two hundred times faster than calling them.
    labels, scores : array_like [N] or [N, F]
        See :func:`chexlib.metrics.inputs.check_films`. Labels may be NaN, where the metric admits
        it: those two do.
    draws : Resamples, or array_like [N]
        What to resample; patients stand for ``Resamples(patient)``.
    sample_weight : array_like [N], optional
        Held fixed: a film counts by its weight times how often its patient was drawn.

    Returns
    -------
    Bootstrap
        For those two metrics, replicates are NaN where fewer than two patients have the finding, or
        fewer than two have films without it.

    References
    ----------
    Field and Welsh, JRSS B 69 (2007) 369-390: the cluster bootstrap.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.random(300) < 0.3
    >>> found = resampled(auroc, labels, labels + rng.normal(size=300), np.arange(300) // 3)
    >>> low, high = found.interval()
    >>> bool(low < found.estimate < high)
    True
    """
    films = check_films(labels, scores, sample_weight=sample_weight, unknown=True)
    draws = draws_of(films.kept, draws)
    if not films.kept.all():
        labels, scores = np.asarray(labels)[films.kept], np.asarray(scores)[films.kept]
    estimate = np.asarray(metric(labels, scores, sample_weight=films.weight), dtype=float)
    if metric in _BY_BINS:
        from_bins = _BY_BINS[metric]
        values = np.empty((len(draws), films.labels.shape[1]))
        columns = [_bins(films, k, draws) for k in range(values.shape[1])]
        for start in range(0, len(draws), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            drawn = draws.drawn[:, chunk].astype(float)
            for k, (negative, positive) in enumerate(columns):
                values[chunk, k] = from_bins(negative @ drawn, positive @ drawn)
        for k, kinds in enumerate(columns):
            # One patient alone cannot show how patients differ: an interval would be a fake.
            if min(len(np.unique(kind.indices)) for kind in kinds) < 2:
                values[:, k] = np.nan
        return Bootstrap(estimate, values[:, 0] if films.single else values, draws)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OneClassWarning)  # a resample may lack a rare finding
        values = [
            metric(labels, scores, sample_weight=draws.weight(b) * films.mass)
            for b in range(len(draws))
        ]
    return Bootstrap(estimate, np.asarray(values, dtype=float), draws)


def draws_of(
    kept: NDArray[np.bool_],
    patient: ArrayLike | Resamples | None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resamples:
    """Return the draws for those of N films that are kept: of patients, given for all N films.

    Where there are no patients, of films.
    """
    if isinstance(patient, Resamples):
        if len(patient.code) != len(kept):
            raise ValueError(
                f"Expected a patient for each of {len(kept)} films, got {len(patient.code)}."
            )
        return patient if kept.all() else patient.select(kept)
    code = np.arange(len(kept)) if patient is None else check_patients(patient, len(kept))
    draws = Resamples(code[kept], resamples=resamples, seed=seed)
    draws.unit = "film" if patient is None else "patient"
    return draws


def proportions(
    counted: NDArray[np.bool_],
    among: NDArray[np.bool_],
    draws: Resamples,
    *,
    name: str,
    weight: NDArray[np.float64] | None = None,
    level: float = 0.95,
) -> list[Estimate]:
    """Return R proportions with their intervals.

    Parameters
    ----------
    counted, among : ndarray [N, R] of bool
        Films counted, and films they are counted among.
    draws : Resamples
        Of the N films; one draw serves all proportions.
    name : str
        Of the proportions, for the warning where one has no films.
    weight : ndarray [N], optional
        Sampling weights.
    level : float
        Confidence.

    Returns
    -------
    list of Estimate
        ``k`` of ``n`` are films before weighting. The interval is Wilson's where no patient has two
        of the films that a proportion is of, else by resampling. Where resampling cannot move a
        proportion (all or none of the films), it is Wilson's with patients as trials. NaN, with an
        :class:`~chexlib.metrics.UndefinedWarning`, where there are no films.
    """
    counted = counted & among
    films = np.stack([np.bincount(draws.code, column) for column in among.T.astype(float)], axis=1)
    alone = films.max(axis=0) <= 1 if weight is None else np.zeros(films.shape[1], dtype=bool)
    w = 1.0 if weight is None else weight[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (counted * w).sum(axis=0) / (among * w).sum(axis=0)
        ends = np.full((2, len(value)), np.nan)
        if not alone.all():
            above, below = (draws.sums(x[:, ~alone] * w) for x in (counted, among))
            ends[:, ~alone] = percentile_ends(above / below, level=level)
    found = []
    for r, (k, n) in enumerate(zip(counted.sum(axis=0), among.sum(axis=0), strict=True)):
        low, high = (float(end) for end in ends[:, r])
        if np.isnan(value[r]):
            found.append(undefined(name, "it has no films"))
        elif alone[r]:
            found.append(wilson(int(k), int(n), level=level))
        else:
            method = draws.method
            if low == high:
                trials = int((films[:, r] > 0).sum())
                low, high = wilson_interval(float(value[r]), trials, level=level)
                method = f"Wilson, {trials} {draws.unit}s as trials"
            found.append(Estimate(int(k), int(n), float(value[r]), low, high, method))
    return found


def percentile_ends(values: NDArray[np.float64], *, level: float = 0.95) -> NDArray[np.float64]:
    r"""Return the ends of percentile intervals, all columns at once.

    Of B values the ends are those of rank r + 1 from either side, with
    :math:`r = \lceil (B + 1) \alpha / 2 \rceil - 1` and :math:`\alpha` = 1 - level. So 0 lies
    outside exactly where :math:`2 k / (B + 1) < \alpha`, k being the values on the far side of 0:
    the interval and the p-value of :meth:`Bootstrap.p_value` cannot contradict one another.

    Parameters
    ----------
    values : ndarray [B, K]
        NaN where a resample has no value, which is left out.
    level : float

    Returns
    -------
    ndarray [2, K]
        Two of the values themselves, without interpolation; NaN where no value is defined.
    """
    normal_quantile(level)  # refuses a level outside (0, 1)
    ends = np.full((2, values.shape[1]), np.nan)
    for k, column in enumerate(values.T):
        given = np.sort(column[~np.isnan(column)])
        if len(given):
            rank = int(np.ceil((len(given) + 1) * (1 - level) / 2 - 1e-9)) - 1
            ends[:, k] = given[rank], given[-1 - rank]
    return ends


def _bins(films: Films, k: int, draws: Resamples) -> tuple[coo_array, coo_array]:
    """Return weight by bin and patient: of negatives ``[2 L + 1, P]``, of positives ``[L, P]``.

    L are the distinct scores of positives, rising. Bin 2 l + 1 holds films tied with level l, bin
    2 l those between it and the level before.
    """
    y, s = films.labels[:, k], films.scores[:, k]
    n = films.known[:, k] & ~y
    level = np.unique(s[y])
    place = np.searchsorted(level, s, side="left") + np.searchsorted(level, s, side="right")
    shape = (2 * len(level) + 1, len(draws.drawn))

    def by_patient(rows: NDArray, row: NDArray, n_rows: int) -> coo_array:
        entries = (films.mass[rows], (row, draws.code[rows]))
        return coo_array(entries, shape=(n_rows, shape[1])).tocsr()

    return by_patient(n, place[n], shape[0]), by_patient(y, place[y] // 2, len(level))


def _auroc_from_bins(negative: NDArray, positive: NDArray) -> NDArray[np.float64]:
    below = np.cumsum(negative, axis=0)
    wins = ((below[0:-1:2] + 0.5 * negative[1::2]) * positive).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return wins / (positive.sum(axis=0) * below[-1])


def _average_precision_from_bins(negative: NDArray, positive: NDArray) -> NDArray[np.float64]:
    tp = np.cumsum(positive[::-1], axis=0)[::-1]
    fp = np.cumsum(negative[:0:-1], axis=0)[1::2][::-1]  # a level's own bin and all above it
    called = tp + fp
    precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (precision * positive).sum(axis=0) / positive.sum(axis=0)


_BY_BINS = {auroc: _auroc_from_bins, average_precision: _average_precision_from_bins}
