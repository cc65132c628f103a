"""The house style of every figure, and the few kinds of figure that chapters share.

Figures are drawn on a light panel of their own. On the site, :mod:`chexlib.plots.formats` turns the
panel, the text and the controls into the colours of the page. Colours come from
:mod:`chexlib.findings` or the palette here, which is safe for colour-blind readers (Okabe and Ito
2008); what colour says, a marker, a line style or a label says again. Text inside figures is
English, since a reader's machine may lack other fonts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.plots import formats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from pandas import DataFrame

PANEL = "#fbfaf7"
INK = "#2b2b2b"
GREY = "#737373"  # 4.5:1 on the panel: it is a colour of text as well
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
    formats.register()


def panels(
    n: int, *, columns: int, width: float, height: float, **options: object
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels in rows, none of them empty.

    Parameters
    ----------
    n : int
        How many panels.
    columns : int
        Panels in a row, at most.
    width, height : float
        Inches: of the figure, and of a row.
    **options
        For :func:`matplotlib.pyplot.subplots`.
    """
    import matplotlib.pyplot as plt

    rows = -(-n // columns)
    size = (width, rows * height)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, **options)
    for ax in axes.flat[n:]:
        ax.remove()
    return figure, list(axes.flat[:n])


def marks(series: int, **options: object) -> dict[str, object]:
    """Return how a series' marks look, for matplotlib's ``plot`` and ``errorbar``.

    Parameters
    ----------
    series : int
        From 0; seven have a colour and a marker each.
    **options
        Added to them, or in their place.
    """
    return {
        "color": PALETTE[series % len(PALETTE)],
        "marker": MARKERS[series % len(MARKERS)],
        "markeredgecolor": PANEL,
        "markersize": 8,
        "linestyle": "none",
        **options,
    }


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
    # The series of a line stand closer together than lines do.
    offset = 0.0 if n_series == 1 else 0.72 * (series - 0.5 * (n_series - 1)) / n_series
    colour = colour or PALETTE[series % len(PALETTE)]
    position = np.arange(len(names)) + offset
    ax.hlines(position, low, high, color=colour, linewidth=2)
    ax.plot(estimate, position, label=label, **marks(series, color=colour))
    ax.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def forest_table(ax: Axes, rows: DataFrame, *, names: str, series: str | None = None) -> None:
    """Draw rows of a table of figures as a forest, a series for each value of a column.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Columns ``estimate``, ``low``, ``high``; of each series a row a line at most, and its place
        is empty where it has none.
    names, series : str
        Columns that name the lines, from top to bottom as they first appear, and, if several stand
        side by side, the series.

    Raises
    ------
    ValueError
        If a series has two rows of one line.
    """
    parts = [(None, rows)] if series is None else list(rows.groupby(series, sort=False))
    lines = list(dict.fromkeys(rows[names]))
    for place, (label, part) in enumerate(parts):
        placed = part.set_index(names).reindex(lines)
        ends = (placed["estimate"], placed["low"], placed["high"])
        place_of = {"label": label, "series": place, "n_series": len(parts)}
        forest(ax, lines, *ends, **place_of)


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
        ends = [middle - part["low"], part["high"] - middle]
        along = part[x] + room * (place - (len(parts) - 1) / 2)
        look = marks(place, linestyle="-", markersize=7, linewidth=1.5, elinewidth=1)
        ax.errorbar(along, middle, yerr=ends, label=str(name).replace("_", " "), **look)
