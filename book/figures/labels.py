"""Figures of chapters 1, 3 and 7: whose films they are, what labels are worth, and corrections."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.ticker import NullFormatter, PercentFormatter
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from chexlib.plots import GREY, HATCHES, MARKERS, PALETTE, PANEL, marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from pandas import DataFrame, Series

    from chexlib.metrics import Estimate

__all__ = [
    "age_reversals",
    "cluster_order",
    "dumbbells",
    "labellers",
    "lorenz",
    "ppv_curve",
    "shares",
    "square",
    "squares",
    "top_share",
]


def squares(ax: Axes, shares: Mapping[str, float] | Series, *, title: str | None = None) -> None:
    """Draw shares as a hundred marks, ten a row: one mark, one film in a hundred.

    Parameters
    ----------
    ax : Axes
    shares : mapping or Series, name to share
        Sum to one; drawn in this order from the top left. Each name gets a marker of its own, and a
        colour, but for the last, which is grey. Marks are rounded so that they stay a hundred.
    title : str, optional

    Raises
    ------
    ValueError
        If the shares do not sum to one.
    """
    shares = dict(shares)
    exact = 100 * np.array(list(shares.values()), dtype=float)
    if not np.isclose(exact.sum(), 100):
        raise ValueError(f"Expected shares that sum to 1, got {exact.sum() / 100:.3f}.")
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: 100 - counts.sum()]] += 1
    kinds = np.repeat(np.arange(len(counts)), counts)
    for kind, (name, count) in enumerate(zip(shares, counts, strict=True)):
        place = np.flatnonzero(kinds == kind)
        colour = PALETTE[kind % len(PALETTE)] if kind < len(counts) - 1 else "#c9c6bd"
        look = {"s": 110, "marker": MARKERS[kind % len(MARKERS)], "color": colour}
        ax.scatter(place % 10, place // 10, label=f"{count} {name}", **look)
    ax.set(xlim=(-0.7, 9.7), ylim=(9.7, -0.7), aspect="equal")
    ax.set_axis_off()
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=1.1)
    if title:
        ax.set_title(title)


def shares(ax: Axes, table: DataFrame) -> None:
    """Draw each row of a table of shares as one bar, in parts that differ in colour and hatching.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        One line a bar, one column a part; shares in [0, 1]. Parts of at least 0.08 carry their
        number.
    """
    left = np.zeros(len(table))
    for part, column in enumerate(table.columns):
        width = table[column].to_numpy(dtype=float)
        colour, hatch = PALETTE[part % len(PALETTE)], HATCHES[part % len(HATCHES)]
        # As SVG a hatch is as clear as its ground: in the ground's own colour it would be lost.
        look = {"facecolor": to_rgba(colour, 0.55), "edgecolor": PANEL, "linewidth": 0.6}
        bars = ax.barh(range(len(table)), width, left=left, hatch=hatch, label=column, **look)
        written = [f"{value:.0%}" if value >= 0.08 else "" for value in width]
        back = {"facecolor": PANEL, "edgecolor": "none", "pad": 1.2}
        ax.bar_label(bars, written, label_type="center", fontsize=9, bbox=back)
        left += width
    ax.set_yticks(range(len(table)), [str(name).replace("_", " ") for name in table.index])
    ax.set(xlim=(0, max(1.0, left.max())), ylim=(len(table) - 0.4, -0.6))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.grid(visible=False, axis="y")


def ppv_curve(
    ax: Axes,
    likelihood_ratio: Estimate,
    *,
    label: str,
    series: int = 0,
    prevalence: tuple[float, float] = (0.002, 0.4),
) -> None:
    """Draw the PPV that a likelihood ratio gives at every prevalence (Bayes).

    Parameters
    ----------
    ax : Axes
        Its x axis becomes logarithmic.
    likelihood_ratio : Estimate
        Such as from :func:`chexlib.metrics.likelihood_ratio`. The band is its interval.
    label : str
        Legend entry.
    series : int
        Which curve this is: sets colour and line style.
    prevalence : tuple of float
        Ends of the x axis.
    """
    colour = PALETTE[series % len(PALETTE)]
    grid = np.geomspace(*prevalence, 200)
    low, middle, high = (
        1 / (1 + (1 - grid) / grid / getattr(likelihood_ratio, end))
        for end in ("low", "estimate", "high")
    )
    ax.plot(grid, middle, ("-", "--", "-.", ":")[series % 4], color=colour, label=label)
    ax.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    ax.set(xscale="log", xlim=prevalence, ylim=(0, 1), xlabel="prevalence", ylabel="PPV")
    ax.set_xticks([0.002, 0.01, 0.05, 0.2])
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1))


def labellers(ax: Axes, kinds: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Draw labellers in the ROC plane: above the diagonal they say something, below the reverse.

    Parameters
    ----------
    ax : Axes
    kinds : mapping of name to (sensitivity [n], specificity [n])
        One mark a finding; each kind has a colour and a marker of its own, at most seven.

    Raises
    ------
    ValueError
        If a rate is not between 0 and 1.
    """
    ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2)
    most = 0.0
    for place, (name, rates) in enumerate(kinds.items()):
        sensitivity, specificity = (np.asarray(rate, dtype=float) for rate in rates)
        for rate in (sensitivity, specificity):
            if not ((rate >= 0) & (rate <= 1)).all():
                raise ValueError(f"Expected rates from 0 to 1 of {name!r}, got {rate.tolist()}.")
        ax.plot(1 - specificity, sensitivity, label=name, **marks(place))
        most = max(most, float((1 - specificity).max()))
    right = min(1.0, most + 0.03)
    ax.set(xlim=(-0.01, right), ylim=(-0.02, 1.02))
    ax.set(xlabel="false-positive rate of the label", ylabel="sensitivity of the label")


def dumbbells(ax: Axes, values: DataFrame) -> None:
    """Draw several figures of each line, joined: how far apart they lie, and on which side.

    Parameters
    ----------
    ax : Axes
    values : DataFrame
        A line each, a column for each mark; the first line is on top. At most seven columns.
    """
    position = np.arange(len(values))
    numbers = values.to_numpy(dtype=float)
    low, high = np.nanmin(numbers, axis=1), np.nanmax(numbers, axis=1)
    ax.hlines(position, low, high, color="#cfccc4", linewidth=3)
    for place, name in enumerate(values.columns):
        ax.plot(numbers[:, place], position, label=name, **marks(place))
    ax.set_yticks(position, [str(name).replace("_", " ") for name in values.index])
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def lorenz(counts: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return the Lorenz curve of films over patients, those with the most films first.

    Parameters
    ----------
    counts : array_like [n]
        Films of each patient, with a sum above 0.

    Returns
    -------
    patients, films : ndarray [n + 1]
        Cumulative shares, both from 0 to 1; the diagonal would be equality.

    Examples
    --------
    >>> lorenz([1, 6, 1])[1]
    array([0.   , 0.75 , 0.875, 1.   ])
    """
    counts = np.sort(np.asarray(counts, dtype=float))[::-1]
    if not len(counts) or counts[-1] < 0 or counts.sum() <= 0:
        raise ValueError(f"Expected counts of 0 or more with a sum above 0, got {counts}.")
    return np.linspace(0, 1, len(counts) + 1), np.append(0, counts.cumsum() / counts.sum())


def top_share(counts: ArrayLike, fraction: float) -> float:
    """Return the share of films that belongs to the ``fraction`` of patients with the most.

    Examples
    --------
    >>> top_share([1, 6, 1], 1 / 3)
    0.75
    """
    return float(np.interp(fraction, *lorenz(counts)))


def age_reversals(labels: DataFrame, order: ArrayLike) -> int:
    """Return how many films show their patient younger than the film before.

    In the true order of time there is none.

    Parameters
    ----------
    labels : DataFrame
        Columns ``patient`` and ``age``.
    order : array_like [n]
        Number of each film; films of a patient are put in ascending order of it.

    Examples
    --------
    >>> import pandas as pd
    >>> films = pd.DataFrame({"patient": [1, 1, 2], "age": [61, 60, 50]})
    >>> age_reversals(films, [0, 1, 0]), age_reversals(films, [1, 0, 0])
    (1, 0)
    """
    rank = np.lexsort((np.asarray(order), labels["patient"]))
    patient, age = labels["patient"].to_numpy()[rank], labels["age"].to_numpy()[rank]
    return int(((np.diff(patient) == 0) & (np.diff(age) < 0)).sum())


def square(pairs: DataFrame, value: str) -> DataFrame:
    """Return one column of :func:`chexlib.data.prevalence.odds_ratios` as a symmetric matrix.

    Its diagonal is NaN.
    """
    names = list(dict.fromkeys([*pairs["first"], *pairs["second"]]))
    half = pairs.pivot(index="first", columns="second", values=value)
    half = half.reindex(names, columns=names)
    return half.combine_first(half.T).loc[names, names].rename_axis(index=None, columns=None)


def cluster_order(ratios: DataFrame) -> list[str]:
    """Return names so ordered that those that go together stand together.

    Average linkage, with the distance of two findings falling with their odds ratio.

    Parameters
    ----------
    ratios : DataFrame
        Symmetric odds ratios above 0, from :func:`square`; the diagonal is not looked at.

    Examples
    --------
    >>> import pandas as pd
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
