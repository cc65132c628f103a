"""Figures of ROC and precision-recall curves, in the house style of :mod:`chexlib.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chexlib.findings import INFO
from chexlib.plots import BLUE, GREY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["AXES", "band", "panels"]

AXES = {
    "roc": ("false-positive rate", "sensitivity"),
    "pr": ("recall", "precision"),
}
"""Names of the axes of each kind of curve."""


def band(
    ax: Axes, rows: DataFrame, *, chance: float | None = None, colour: str = BLUE, label: str = ""
) -> None:
    """Draw one curve with its band, and the line that a useless score would draw.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Rows of one finding and one curve of the table ``curve_bands``.
    chance : float, optional
        Precision of a useless score: the prevalence. A ROC curve's is the diagonal.
    colour, label : str
        Of the curve.

    Raises
    ------
    ValueError
        If the rows are of several findings or of several curves.
    """
    kinds = rows[["finding", "curve"]].drop_duplicates()
    if len(kinds) != 1:
        raise ValueError(f"Expected rows of one finding and one curve, got {len(kinds)} of them.")
    kind = kinds["curve"].iloc[0]
    reference = [0, 1] if kind == "roc" else [chance, chance]
    if None not in reference:
        ax.plot([0, 1], reference, "--", color=GREY, linewidth=1.2)
    ax.fill_between(rows["x"], rows["low"], rows["high"], color=colour, alpha=0.25, lw=0)
    ax.plot(rows["x"], rows["y"], color=colour, label=label or None)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=AXES[kind][0], ylabel=AXES[kind][1])


def panels(
    bands: DataFrame,
    *,
    curve: str,
    notes: Mapping[str, str],
    chance: Mapping[str, float] | None = None,
    columns: int = 3,
) -> Figure:
    """Draw a panel for each finding, in the order of the table.

    Parameters
    ----------
    bands : DataFrame
        The table ``curve_bands``.
    curve : {"roc", "pr"}
    notes : mapping of finding to str
        A line of text under each title, such as the area with its interval.
    chance : mapping of finding to float, optional
        Prevalence, for precision-recall curves.
    columns : int
        Panels in a row.

    Raises
    ------
    ValueError
        If there is no such curve in the table.
    """
    import matplotlib.pyplot as plt

    rows = bands[bands["curve"] == curve]
    if rows.empty:
        raise ValueError(f"Expected a curve of {sorted(set(bands['curve']))}, got {curve!r}.")
    groups = list(rows.groupby("finding", sort=False))
    lines = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(2.3 * columns, 2.15 * lines), sharex=True, sharey=True
    )
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, part) in zip(axes.flat, groups, strict=False):
        band(ax, part, chance=None if chance is None else chance[name])
        ax.set(xlabel="", ylabel="", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        ax.set_title(f"{INFO[name].english}\n{notes[name]}", fontsize=9, loc="left")
    figure.supxlabel(AXES[curve][0], fontsize=10)
    figure.supylabel(AXES[curve][1], fontsize=10)
    return figure
