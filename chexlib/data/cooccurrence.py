"""Which findings go together: odds ratios of pairs, with intervals by patient."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform
from scipy.stats import norm

from chexlib.data.summary import check_columns, clustered_error
from chexlib.findings import FINDINGS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cluster_order", "odds_ratios", "square"]


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
        ``n_expected`` (were they independent), ``odds_ratio``, ``low``, ``high``. Where one
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
    >>> odds_ratios(frame, ["Mass", "Nodule"])[["n_both", "n_expected", "odds_ratio"]]
       n_both  n_expected  odds_ratio
    0       3         2.0         9.0
    """
    columns = list(columns)
    check_columns(labels, columns)
    positive = labels[columns].to_numpy(dtype=bool)
    z = norm.ppf(0.5 + level / 2)
    rows = []
    for i, j in itertools.combinations(range(len(columns)), 2):
        first, second = positive[:, i], positive[:, j]
        cell = 2 * first + second  # 0: neither, 1: second alone, 2: first alone, 3: both
        neither, alone_2, alone_1, both = counts = np.bincount(cell, minlength=4)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.divide(both * neither, alone_1 * alone_2)
            # The influence of a film of each cell on the logarithm of the ratio.
            adds = np.array([1, -1, -1, 1]) / np.where(counts.all(), counts, np.nan)
        error = clustered_error(adds[cell][:, None], labels["patient"])[0]
        rows.append(
            {
                "first": columns[i],
                "second": columns[j],
                "n_both": int(both),
                "n_expected": first.mean() * second.sum(),
                "odds_ratio": ratio,
                "low": ratio * np.exp(-z * error),
                "high": ratio * np.exp(z * error),
            }
        )
    return pd.DataFrame(rows)


def square(pairs: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return one column of :func:`odds_ratios` as a symmetric matrix, NaN on the diagonal."""
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    matrix = pd.DataFrame(np.nan, index=names, columns=names)
    for first, second, number in pairs[["first", "second", value]].itertuples(index=False):
        matrix.loc[first, second] = matrix.loc[second, first] = number
    return matrix


def cluster_order(ratios: pd.DataFrame) -> list[str]:
    """Return names so ordered that those that go together stand together.

    Average linkage, with the distance of two findings falling with their odds ratio.

    Parameters
    ----------
    ratios : DataFrame
        Symmetric odds ratios above 0, from :func:`square`; the diagonal is not looked at.

    Examples
    --------
    >>> names = list("abcd")
    >>> ratios = pd.DataFrame(1.0, index=names, columns=names)
    >>> for one, other in ("ac", "bd"):
    ...     ratios.loc[one, other] = ratios.loc[other, one] = 9.0
    >>> order = cluster_order(ratios)
    >>> {"".join(sorted(order[:2])), "".join(sorted(order[2:]))} == {"ac", "bd"}
    True
    """
    log = np.log(ratios.to_numpy())
    distance = np.nanmax(np.where(np.eye(len(log), dtype=bool), -np.inf, log)) - log
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance), method="average", optimal_ordering=True)
    return [ratios.index[leaf] for leaf in leaves_list(tree)]
