"""Figures of chapter 2: what each rule of a text miner buys, and what it makes of a phrase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from chexlib.data.reports import SECTIONS
from chexlib.plots import BLUE, GREY, marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["PHRASES", "phrase_reports", "rule_path", "rules_by_phrase"]

PHRASES = (
    ("findings", "There is no pneumothorax."),
    ("findings", "Small effusion on the left."),
    ("findings", "Both lungs are clear of consolidation."),
    ("impression", "Dense left lower lobe, concerning for pneumonia."),
    ("indication", "Fever and cough, rule out pneumonia."),
    ("findings", "Patient with a history of emphysema."),
    ("impression", "The pneumothorax has resolved."),
    ("findings", "No change of the large hiatal hernia."),
    ("impression", "Atelectasis cannot be excluded."),
    ("findings", "The heart is much too wide."),
)
"""Phrases made up for this book: the section that they stand in, and their words."""


def phrase_reports() -> DataFrame:
    """Return a report for each of the made-up phrases, in the form of ``load_reports``."""
    rows = [dict.fromkeys(SECTIONS, "") | {section: text} for section, text in PHRASES]
    return pd.DataFrame(rows).assign(report=range(len(PHRASES)))


def rules_by_phrase(ax: Axes, kept: DataFrame) -> None:
    """Draw which rules give each phrase a label: a disc where one does, a small dot where none.

    Parameters
    ----------
    ax : Axes
    kept : DataFrame of bool
        A row a phrase, a column a rule.
    """
    for row, (phrase, label) in enumerate(kept.iterrows()):
        for column, yes in enumerate(label):
            size, colour = (11, BLUE) if yes else (3, GREY)
            ax.plot(column, -row, "o", markersize=size, color=colour)
        ax.text(-0.6, -row, phrase, ha="right", va="center", fontsize=10)
    ax.set(xlim=(-0.5, kept.shape[1] - 0.5), xticks=range(kept.shape[1]), yticks=[])
    ax.set_xticklabels(kept.columns, rotation=20)
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)


def rule_path(ax: Axes, rows: DataFrame, *, rules: Mapping[str, str]) -> None:
    """Draw precision against recall, one mark a rule, with intervals, joined in their order.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Of one finding: ``rule``, ``recall`` and ``precision`` with the ends of their intervals.
    rules : mapping of rule to its legend entry
        In the order of the path, at most seven; rows of other rules are left out.

    Raises
    ------
    KeyError
        If a rule has no row.
    """
    rows = rows.set_index("rule").loc[list(rules)]
    ax.plot(rows["recall"], rows["precision"], "-", color=GREY, linewidth=1)
    for place, (rule, label) in enumerate(rules.items()):
        row = rows.loc[rule]
        y, x = (
            (row[name], [[row[name] - row[f"{name}_low"]], [row[f"{name}_high"] - row[name]]])
            for name in ("precision", "recall")
        )
        ends = {"xerr": x[1], "yerr": y[1], "elinewidth": 1}
        ax.errorbar(x[0], y[0], label=label, **ends, **marks(place))
    ax.set(xlim=(0, 1.03), ylim=(-0.02, 1.05))
