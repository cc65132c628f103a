"""The figure of chapter 12: scores of women's and men's films by who was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.plots import marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["by_training"]

SEXES = {"F": "women's films", "M": "men's films"}


def by_training(ax: Axes, rows: DataFrame) -> None:
    """Draw AUROC by the share of women in training: a line for women's films, one for men's.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Of one finding: ``women_percent``, ``sex``, ``estimate``, ``low`` and ``high``, such as
        rows of ``data/for_whom.csv``. Women's points stand a little to the left of men's, so that
        intervals do not hide one another.
    """
    for place, (sex, label) in enumerate(SEXES.items()):
        part = rows[rows["sex"] == sex].sort_values("women_percent")
        x = part["women_percent"] + (2 * place - 1)
        beyond = np.abs(part[["low", "high"]].to_numpy().T - part["estimate"].to_numpy())
        look = marks(place, label=label, linestyle="-", capsize=3)
        ax.errorbar(x, part["estimate"], yerr=beyond, **look)
    ax.set_xticks(sorted(rows["women_percent"].unique()))
    ax.grid(visible=False, axis="x")
