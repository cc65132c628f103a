"""What is in a label table: prevalence, its ratios, odds ratios of pairs, by patient.

Counts are exact; an interval says how far a figure could have come out otherwise with other
patients of the same hospital. Films of a patient resemble one another, so every interval here takes
the *patient* as the unit: each figure is a ratio of sums over patients, and its variance is the
linearised (Taylor) one of survey sampling, which needs no resampling and no seed.

Reference: Cochran, Sampling Techniques, 3rd edition, Wiley 1977, chapters 6 and 9A.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike


def clustered_error(influence: np.ndarray, cluster: ArrayLike) -> np.ndarray:
    """Return the standard error of an estimate from each film's influence on it.

    Influences are summed within a cluster; the spread of the sums over K clusters, times
    K / (K - 1), is the variance.

    Parameters
    ----------
    influence : ndarray [n, k]
        Linearised contribution of each film to each of k estimates; each column sums to zero.
    cluster : array_like [n]
        Patient of each film.

    Returns
    -------
    ndarray [k]
        NaN with a single cluster.
    """
    codes, clusters = pd.factorize(np.asarray(cluster))
    if len(clusters) < 2:
        return np.full(influence.shape[1], np.nan)
    sums = np.column_stack(
        [np.bincount(codes, weights=column, minlength=len(clusters)) for column in influence.T]
    )
    return np.sqrt(len(clusters) / (len(clusters) - 1) * (sums**2).sum(axis=0))


def clustered_mean(values: ArrayLike, cluster: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return means over films and their standard errors with the cluster as the unit.

    Parameters
    ----------
    values : array_like [n, k]
        A column for each quantity.
    cluster : array_like [n]
        Patient of each film.

    Returns
    -------
    mean, standard_error : ndarray [k]
        The error is NaN with a single cluster.

    Raises
    ------
    ValueError
        If shapes do not fit or there is no row.

    Examples
    --------
    Two patients of two films each: the films of a patient agree, so they count once.

    >>> clustered_mean([[1], [1], [0], [0]], ["a", "a", "b", "b"])
    (array([0.5]), array([0.5]))
    """
    values = np.asarray(values, dtype=float)
    cluster = np.asarray(cluster)
    if values.ndim != 2 or len(values) != len(cluster) or not len(values):
        raise ValueError(
            f"Expected values [n, k] and clusters [n] with n above 0, got shapes {values.shape} "
            f"and {cluster.shape}."
        )
    mean = values.mean(axis=0)
    return mean, clustered_error((values - mean) / len(values), cluster)


def prevalence(
    labels: pd.DataFrame,
    columns: Sequence[str] = FINDINGS,
    *,
    by: str | Sequence[str] | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the share of films with each finding, with intervals by patient.

    The interval is Wilson's with the effective number of films, that is the number of films divided
    by the design effect (at least 1); where no film or every film is positive, that number is the
    number of patients.

    Parameters
    ----------
    labels : DataFrame
        Column ``patient`` and the bool ``columns``.
    columns : sequence of str
        What to count: findings, or any other bool column.
    by : str or sequence of str, optional
        Columns whose groups are counted apart; groups without films are left out.
    level : float
        Of confidence, between 0 and 1.

    Returns
    -------
    DataFrame
        A row for each group and finding: the columns of ``by``, ``finding``, ``n_images``,
        ``n_patients``, ``n_positive``, ``n_positive_patients`` (counts), ``estimate``, ``low``,
        ``high`` (0 to 1), and ``design_effect`` (variance relative to that of as many independent
        films; NaN where no film or every film is positive).

    Raises
    ------
    ValueError
        If a column is missing or there is no film.

    Examples
    --------
    >>> from chexlib.data import load_labels
    >>> hernia = prevalence(load_labels(), ["Hernia"]).iloc[0]
    >>> int(hernia["n_positive"]), int(hernia["n_positive_patients"])
    (227, 134)
    >>> f"{hernia['estimate']:.2%} ({hernia['low']:.2%} to {hernia['high']:.2%})"
    '0.20% (0.16% to 0.26%)'
    """
    columns = list(columns)
    keys = [by] if isinstance(by, str) else list(by or [])
    _check_columns(labels, [*columns, *keys])
    if not keys:
        return _prevalence(labels, columns, level)
    groups = labels.groupby(keys, observed=True)
    parts = {group: _prevalence(films, columns, level) for group, films in groups}
    return pd.concat(parts, names=keys).reset_index(keys).reset_index(drop=True)


def prevalence_ratio(
    labels: pd.DataFrame,
    columns: Sequence[str] = FINDINGS,
    *,
    where: ArrayLike,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return how many times more often a finding is met on some films than on the others.

    A patient may have films on both sides; the interval takes that into account.

    Parameters
    ----------
    labels : DataFrame
        Column ``patient`` and the bool ``columns``.
    columns : sequence of str
        Findings, or any other bool column.
    where : array_like of bool [n]
        The films of the numerator, such as ``labels["view"] == "AP"``.
    level : float
        Of confidence, between 0 and 1.

    Returns
    -------
    DataFrame
        A row for each finding: ``finding``, ``inside`` and ``outside`` (prevalence, 0 to 1),
        ``n_inside`` and ``n_outside`` (positive films), ``estimate`` (the ratio), ``low``,
        ``high`` (symmetric in the logarithm; NaN where a side has no positive film).

    Raises
    ------
    ValueError
        If a column is missing or all films are on one side.
    """
    columns = list(columns)
    _check_columns(labels, columns)
    where = np.asarray(where, dtype=bool)
    if len(where) != len(labels) or where.all() or not where.any():
        raise ValueError(
            f"Expected films on both sides of `where`, got {int(where.sum())} of {len(labels)} "
            f"inside (length {len(where)})."
        )
    positive = labels[columns].to_numpy(dtype=float)
    inside, outside = positive[where].mean(axis=0), positive[~where].mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = inside / outside
        # The influence of a film on the logarithm of the ratio.
        influence = np.where(
            where[:, None],
            (positive / inside - 1) / where.sum(),
            -(positive / outside - 1) / (~where).sum(),
        )
        low, high = _ends(ratio, influence, labels["patient"], level)
    return pd.DataFrame(
        {
            "finding": columns,
            "inside": inside,
            "outside": outside,
            "n_inside": positive[where].sum(axis=0).astype(int),
            "n_outside": positive[~where].sum(axis=0).astype(int),
            "estimate": ratio,
            "low": low,
            "high": high,
        }
    )


def odds_ratios(
    labels: pd.DataFrame, columns: Sequence[str] = FINDINGS, *, level: float = 0.95
) -> pd.DataFrame:
    """Return, for each pair of findings, how strongly one goes with the other on the same film.

    The odds ratio compares the odds of the second finding on films with the first to those on films
    without it: 1 is no association. Unlike a count it does not grow with how common both are.

    Parameters
    ----------
    labels : DataFrame
        Column ``patient`` and the bool ``columns``.
    columns : sequence of str
        Two or more findings.
    level : float
        Of confidence, between 0 and 1.

    Returns
    -------
    DataFrame
        A row for each pair in the order of ``columns``: ``first``, ``second``, ``n_both``,
        ``n_expected`` (were they independent), ``estimate``, ``low``, ``high``. Where one
        of the four cells is empty the ratio is 0, infinite or NaN and the interval NaN.

    Raises
    ------
    ValueError
        If a column is missing.

    Examples
    --------
    >>> frame = pd.DataFrame({
    ...     "patient": range(8),
    ...     "Mass": [True, True, True, False, True, False, False, False],
    ...     "Nodule": [True, True, True, True, False, False, False, False],
    ... })
    >>> odds_ratios(frame, ["Mass", "Nodule"])[["n_both", "n_expected", "estimate"]]
       n_both  n_expected  estimate
    0       3         2.0       9.0
    """
    columns = list(columns)
    _check_columns(labels, columns)
    positive = labels[columns].to_numpy(dtype=bool)
    rows = []
    for i, j in itertools.combinations(range(len(columns)), 2):
        first, second = positive[:, i], positive[:, j]
        cell = 2 * first + second  # 0: neither, 1: second alone, 2: first alone, 3: both
        neither, alone_2, alone_1, both = counts = np.bincount(cell, minlength=4)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(both * neither, alone_1 * alone_2)
            # The influence of a film of each cell on the logarithm of the ratio.
            adds = np.array([1, -1, -1, 1]) / np.where(counts.all(), counts, np.nan)
            low, high = _ends(ratio, adds[cell][:, None], labels["patient"], level)
        expected = first.mean() * second.sum()
        rows.append((columns[i], columns[j], both, expected, ratio, *low, *high))
    names = ["first", "second", "n_both", "n_expected", "estimate", "low", "high"]
    return pd.DataFrame(rows, columns=names)


def _ends(
    ratio: ArrayLike, influence: np.ndarray, cluster: ArrayLike, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return an interval that is symmetric in the logarithm, from influences on that."""
    half = norm.ppf(0.5 + level / 2) * clustered_error(influence, cluster)
    return ratio * np.exp(-half), ratio * np.exp(half)


def _prevalence(films: pd.DataFrame, columns: list[str], level: float) -> pd.DataFrame:
    positive = films[columns].to_numpy(dtype=bool)
    share, error = clustered_mean(positive, films["patient"])
    n_patients = films["patient"].nunique()
    with np.errstate(divide="ignore", invalid="ignore"):
        design_effect = error**2 / (share * (1 - share) / len(films))
    effective = len(films) / np.fmax(design_effect, 1)
    effective = np.where((share == 0) | (share == 1), n_patients, effective)
    low, high = proportion_confint(share * effective, effective, alpha=1 - level, method="wilson")
    return pd.DataFrame(
        {
            "finding": columns,
            "n_images": len(films),
            "n_patients": n_patients,
            "n_positive": positive.sum(axis=0),
            "n_positive_patients": [films["patient"][chosen].nunique() for chosen in positive.T],
            "estimate": share,
            # Rounding must not push an end past the estimate or out of [0, 1].
            "low": np.clip(low, 0, share),
            "high": np.clip(high, share, 1),
            "design_effect": design_effect,
        }
    )


def _check_columns(labels: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise if the table is empty or lacks ``patient`` or one of the columns."""
    missing = [name for name in ("patient", *columns) if name not in labels]
    if missing or not len(labels):
        raise ValueError(
            f"Expected a table of at least one film with columns patient, {', '.join(columns)}; "
            f"got {len(labels)} rows" + (f" without {', '.join(missing)}." if missing else ".")
        )
