"""Figures of chapter 5: labellers as points of the ROC plane, and what a correction does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib import plots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike
    from pandas import DataFrame

__all__ = ["dumbbells", "labellers"]

MARKS = ("o", "s", "D", "^", "v", "P", "X")


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
    ax.plot([0, 1], [0, 1], "--", color=plots.GREY, linewidth=1.2)
    most = 0.0
    for place, (name, rates) in enumerate(kinds.items()):
        sensitivity, specificity = (np.asarray(rate, dtype=float) for rate in rates)
        for rate in (sensitivity, specificity):
            if not ((rate >= 0) & (rate <= 1)).all():
                raise ValueError(f"Expected rates from 0 to 1 of {name!r}, got {rate.tolist()}.")
        colour = plots.PALETTE[place % len(plots.PALETTE)]
        ax.plot(
            1 - specificity,
            sensitivity,
            MARKS[place % len(MARKS)],
            color=colour,
            markeredgecolor=plots.PANEL,
            markersize=8,
            label=name,
        )
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
        ax.plot(
            numbers[:, place],
            position,
            MARKS[place % len(MARKS)],
            color=plots.PALETTE[place % len(plots.PALETTE)],
            markeredgecolor=plots.PANEL,
            markersize=8,
            label=name,
        )
    ax.set_yticks(position, [str(name).replace("_", " ") for name in values.index])
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
