"""The house style of every figure, and the few kinds of figure that chapters share.

Figures are drawn on a light panel of their own, so that one picture is legible on a light page, on
a dark page and in print. Colours come from :mod:`chexlib.findings` or the palette here, which is
safe for colour-blind readers (Okabe and Ito 2008); what colour says, a marker, a line style or a
label says again. Text inside figures is English, since a reader's machine may lack other fonts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.findings import INFO, normalise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["BLUE", "GREY", "INK", "ORANGE", "PALETTE", "PANEL", "colours", "forest", "use_style"]

PANEL = "#fbfaf7"
INK = "#2b2b2b"
GREY = "#8a8a8a"
BLUE, ORANGE = "#0072b2", "#d55e00"
PALETTE = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", INK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


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
