"""Figures of chapter 4: how many readers call a finding, and how often each of them does."""

from __future__ import annotations

from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgba

from chexlib.plots import HATCHES, INK, log_ticks, marks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["call_rates", "votes"]

_SHADES = ("#d8e6f2", "#a9cbe6", "#e9b48f", "#dd8450", "#b34700")  # 1, 2 | 3, 4, 5 votes


def votes(ax: Axes, table: DataFrame, names: Sequence[str]) -> None:
    """Draw on how many films one reader, two, three … call each finding: a bar a finding.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        ``finding``, ``votes`` and ``n``, such as ``data/reader_votes.csv``. Films without a vote
        are not drawn; from three votes of five on the bar is darker and hatched.
    names : sequence of str
        Findings, from the top.
    """
    wide = table.pivot(index="finding", columns="votes", values="n").loc[list(names)]
    left = np.zeros(len(wide))
    for count in range(1, 6):
        width = wide[count].to_numpy(dtype=float)
        label = f"{count} of 5" if count < 5 else "all 5"
        hatch = HATCHES[1] if count > 2 else ""
        look = {"facecolor": _SHADES[count - 1], "edgecolor": to_rgba(INK, 0.35), "linewidth": 0.5}
        ax.barh(range(len(wide)), width, left=left, hatch=hatch, label=label, **look)
        left += width
    for row, name in enumerate(wide.index):
        majority = int(wide.loc[name, [3, 4, 5]].sum())
        ax.text(left[row] + 5, row, f"{majority} of {int(left[row])}", va="center", fontsize=9)
    ax.set_yticks(range(len(wide)), [name.replace("_", " ") for name in wide.index])
    ax.set(ylim=(len(wide) - 0.5, -0.5), xlim=(0, 1.14 * left.max()))
    ax.grid(visible=False, axis="y")


def reader_marks(reader: str, **more: Any) -> dict[str, Any]:
    """Return how a reader, a letter from A, looks in every chapter; the first look is a score's."""
    return marks(ascii_uppercase.index(reader) + 1, label=f"reader {reader}", **more)


def call_rates(ax: Axes, table: DataFrame, names: Sequence[str]) -> None:
    """Draw the share of films that each reader calls: a line a finding, a mark a reader.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        ``finding``, ``reader`` and ``estimate``, such as ``data/reader_rates.csv``.
    names : sequence of str
        Findings, from the top.
    """
    wide = table.pivot(index="finding", columns="reader", values="estimate").loc[list(names)]
    ax.hlines(range(len(wide)), wide.min(axis=1), wide.max(axis=1), color="#c9c6bd", linewidth=2)
    for reader in wide:
        ax.plot(wide[reader], range(len(wide)), **reader_marks(reader, markersize=7))
    log_ticks(ax, [0.001, 0.01, 0.05, 0.1, 0.2, 0.5, 1], percent=True)
    ax.set_yticks(range(len(wide)), [name.replace("_", " ") for name in wide.index])
    ax.set_ylim(len(wide) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
