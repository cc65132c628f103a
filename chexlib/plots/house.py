"""The house style of every figure, and the few kinds of figure that chapters share.

Figures are drawn on a light panel of their own, so that one picture is legible on a light page, on
a dark page and in print. Colours come from :mod:`chexlib.findings` or the palette here, which is
safe for colour-blind readers (Okabe and Ito 2008); what colour says, a marker, a line style or a
label says again. Text inside figures is English, since a reader's machine may lack other fonts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.ticker import NullFormatter, PercentFormatter

from chexlib.findings import INFO, normalise
from chexlib.plots.notebook import keep_figures_small

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from pandas import DataFrame, Series

    from chexlib.metrics.estimates import Estimate

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "ORANGE",
    "PALETTE",
    "PANEL",
    "colours",
    "forest",
    "forest_table",
    "lines",
    "log_ticks",
    "ppv_curve",
    "shares",
    "squares",
    "use_style",
]

PANEL = "#fbfaf7"
INK = "#2b2b2b"
GREY = "#8a8a8a"
BLUE, ORANGE = "#0072b2", "#d55e00"
PALETTE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "---")


def use_style() -> None:
    """Set the house style for every figure drawn after; call it once, at the top of a notebook."""
    import seaborn as sns

    sns.set_theme(
        context="notebook",
        style="whitegrid",
        palette=PALETTE,
        rc={
            "figure.facecolor": PANEL,
            "axes.facecolor": PANEL,
            "savefig.facecolor": PANEL,
            "figure.dpi": 96,
            "savefig.dpi": 96,
            "figure.figsize": (7.5, 4.2),
            "figure.constrained_layout.use": True,
            "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.edgecolor": GREY,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "grid.color": "#e3e1db",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2,
        },
    )
    keep_figures_small()


def colours(names: Sequence[str]) -> list[str]:
    """Return the colour of each finding, in any known spelling.

    Examples
    --------
    >>> colours(["Atelectasis", "pleural thickening"])
    ['#0072b2', '#2b2b2b']
    """
    return [INFO[normalise(name)].colour for name in names]


def forest(
    ax: Axes,
    names: Sequence[str],
    estimate: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    *,
    label: str | None = None,
    series: int = 0,
    n_series: int = 1,
    colour: str | None = None,
) -> None:
    """Draw estimates with their intervals, one name a line, the first on top.

    Several series side by side are drawn by several calls with ``series`` 0, 1, …, each of which
    gets a colour and a marker of its own.

    Parameters
    ----------
    ax : Axes
    names : sequence of str, length n
        Labels of the lines; a finding's name is shown with a space for the underscore.
    estimate, low, high : array_like [n]
        Estimate and ends of its interval, in the unit of the x axis; NaN leaves a gap.
    label : str, optional
        Legend entry of this series.
    series, n_series : int
        Which of how many series this is.
    colour : str, optional
        Instead of the series' own.

    Raises
    ------
    ValueError
        If lengths differ or an estimate lies outside its interval.
    """
    estimate, low, high = (np.asarray(values, dtype=float) for values in (estimate, low, high))
    if not len(names) == len(estimate) == len(low) == len(high):
        raise ValueError(
            f"Expected as many names as estimates and ends, got {len(names)}, {len(estimate)}, "
            f"{len(low)} and {len(high)}."
        )
    if ((estimate < low) | (estimate > high)).any():
        raise ValueError("Expected low <= estimate <= high on each line, got one outside.")
    offset = 0.0 if n_series == 1 else 0.5 * (series / (n_series - 1) - 0.5)
    colour = colour or PALETTE[series % len(PALETTE)]
    position = np.arange(len(names)) + offset
    ax.hlines(position, low, high, color=colour, linewidth=2)
    ax.plot(
        estimate,
        position,
        MARKERS[series % len(MARKERS)],
        color=colour,
        markeredgecolor=PANEL,
        markersize=8,
        label=label,
        linestyle="none",
    )
    ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def forest_table(ax: Axes, rows: DataFrame, *, names: str, series: str | None = None) -> None:
    """Draw rows of a table of figures as a forest, a series for each value of a column.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Columns ``estimate``, ``low``, ``high``; every series has the same names in order.
    names, series : str
        Columns that name the lines and, if several stand side by side, the series.
    """
    parts = [(None, rows)] if series is None else list(rows.groupby(series, sort=False))
    for place, (label, part) in enumerate(parts):
        ends = (part["estimate"], part["low"], part["high"])
        place_of = {"label": label, "series": place, "n_series": len(parts)}
        forest(ax, list(part[names]), *ends, **place_of)


def log_ticks(ax: Axes, ticks: Sequence[float], *, percent: bool = False) -> None:
    """Make the x axis logarithmic, with these ticks and no others, in plain numbers.

    Parameters
    ----------
    ax : Axes
    ticks : sequence of float
        Above 0, in the unit of the axis.
    percent : bool
        Whether values are shares, to be labelled in percent.
    """
    labels = [f"{100 * tick:.10g}%" if percent else f"{tick:,.10g}" for tick in ticks]
    ax.set_xscale("log")
    ax.set_xticks(ticks, labels)
    ax.minorticks_off()


def lines(ax: Axes, rows: DataFrame, *, x: str, names: str) -> None:
    """Draw figures with their intervals along a quantity, a line for each name.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Columns ``x`` and ``names`` of this call, ``estimate``, ``low`` and ``high``. Each
        name gets a colour and a marker of its own, and is moved a little so that intervals do not
        cover one another.
    x, names : str
        Column of the x axis and column that names the lines, at most seven.
    """
    parts = list(rows.groupby(names, sort=False))
    room = (rows[x].max() - rows[x].min()) / 150
    for place, (name, part) in enumerate(parts):
        middle = part["estimate"]
        ax.errorbar(
            part[x] + room * (place - (len(parts) - 1) / 2),
            middle,
            yerr=[middle - part["low"], part["high"] - middle],
            color=PALETTE[place % len(PALETTE)],
            marker=MARKERS[place % len(MARKERS)],
            markeredgecolor=PANEL,
            markersize=7,
            linewidth=1.5,
            elinewidth=1,
            label=str(name).replace("_", " "),
        )


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
    marks = np.floor(exact).astype(int)
    marks[np.argsort(marks - exact, kind="stable")[: 100 - marks.sum()]] += 1
    kinds = np.repeat(np.arange(len(marks)), marks)
    for kind, (name, count) in enumerate(zip(shares, marks, strict=True)):
        place = np.flatnonzero(kinds == kind)
        ax.scatter(
            place % 10,
            place // 10,
            s=110,
            marker=MARKERS[kind % len(MARKERS)],
            color=PALETTE[kind % len(PALETTE)] if kind < len(marks) - 1 else "#c9c6bd",
            label=f"{count} {name}",
        )
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
        colour = PALETTE[part % len(PALETTE)]
        ax.barh(
            np.arange(len(table)),
            width,
            left=left,
            facecolor=to_rgba(colour, 0.45),
            edgecolor=colour,
            linewidth=0.6,
            hatch=HATCHES[part % len(HATCHES)],
            label=column,
        )
        for row, value in enumerate(width):
            if value >= 0.08:
                ax.text(
                    *(left[row] + value / 2, row, f"{value:.0%}"),
                    ha="center",
                    va="center",
                    fontsize=9,
                    bbox={"facecolor": PANEL, "edgecolor": "none", "pad": 1.2},
                )
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
