"""Figures of chapter 11: readers as points beside the network, and what a trial would need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chexlib.findings import INFO
from chexlib.plots import BLUE, GREY, log_ticks, marks, panels
from figures.readers import reader_marks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["power_lines", "reader_points"]


def reader_points(curves: DataFrame, points: DataFrame) -> Figure:
    """Draw a panel a finding: five readers, and the network's curve for each of them left out.

    Parameters
    ----------
    curves : DataFrame
        The table ``reader_curves``: ``finding reader false_positive_rate sensitivity``.
    points : DataFrame
        A row a reader and finding: ``finding rater false_positive_rate sensitivity``.

    Raises
    ------
    ValueError
        If a finding of the curves has no points.
    """
    findings = list(dict.fromkeys(curves["finding"]))
    missing = set(findings) - set(points["finding"])
    if missing:
        raise ValueError(f"Expected readers' points for each finding, got none for {min(missing)}.")
    figure, axes = panels(len(findings), columns=3, width=9, height=3.1, sharex=True, sharey=True)
    for ax, name in zip(axes, findings, strict=True):
        for _, part in curves[curves["finding"] == name].groupby("reader"):
            ax.plot(part["false_positive_rate"], part["sensitivity"], color=BLUE, lw=1, alpha=0.6)
        ax.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1)
        own = points[(points["finding"] == name) & points["rater"].str.startswith("reader ")]
        for row in own.itertuples():
            look = reader_marks(row.rater.removeprefix("reader "))
            ax.plot(row.false_positive_rate, row.sensitivity, **look)
        ax.set(title=INFO[name].english, xlim=(-0.02, 1), ylim=(0, 1.03))
    axes[-1].legend(loc="lower right", fontsize=8.5)
    figure.supxlabel("false-positive rate", fontsize=11)
    figure.supylabel("sensitivity", fontsize=11)
    return figure


def power_lines(ax: Axes, trial: DataFrame) -> None:
    """Draw the chance to show "as good" against positive films, a line a number of readers.

    Parameters
    ----------
    ax : Axes
    trial : DataFrame
        Rows of one finding and margin of the table ``reader_trial``.
    """
    for k, (n, part) in enumerate(trial.groupby("n_readers")):
        look = marks(k, linestyle="-", linewidth=1.5, markersize=6, label=f"{n} readers")
        ax.plot(part["n_positive"], part["power"], **look)
    log_ticks(ax, sorted(set(trial["n_positive"])))
    ax.axhline(0.8, color=GREY, linestyle=":", linewidth=1.2)
    ax.set(ylim=(0, 1.02), xlabel="films that show the finding")
    ax.set_ylabel("chance to show it")
    ax.legend(loc="upper left")
