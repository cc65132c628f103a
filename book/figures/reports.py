"""Figure of chapter 2: what each rule of a text miner buys, and its price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chexlib.plots import GREY, marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["rule_path"]


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
