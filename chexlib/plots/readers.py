"""Figures of chapter 8: a network's ROC curve, and a reader who is one point beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chexlib import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

__all__ = ["reader_panels"]


def reader_panels(curves: DataFrame, readers: DataFrame) -> Figure:
    """Draw a panel a finding: the network by two judges, and the text label as a reader.

    Parameters
    ----------
    curves : DataFrame
        ``data/clean_curves.csv``: rows of ``finding judge x y low high``, judges
        ``radiologists`` and ``text labels``.
    readers : DataFrame
        Indexed by finding: ``false_positive_rate``, and ``second``, the label's sensitivity.

    Raises
    ------
    ValueError
        If a finding of the curves has no reader.
    """
    import matplotlib.pyplot as plt

    findings = list(dict.fromkeys(curves["finding"]))
    missing = [name for name in findings if name not in readers.index]
    if missing:
        raise ValueError(f"Expected a reader for each finding, got none for {missing[0]!r}.")
    n_rows = -(-len(findings) // 2)
    figure, axes = plt.subplots(
        n_rows, 2, figsize=(7, 3.4 * n_rows), sharex=True, sharey=True, squeeze=False
    )
    for ax, name in zip(axes.flat, findings, strict=False):
        part = curves[curves["finding"] == name]
        clean, text = (part[part["judge"] == judge] for judge in ("radiologists", "text labels"))
        ends = clean["low"], clean["high"]
        ax.fill_between(clean["x"], *ends, color=plots.BLUE, alpha=0.18, linewidth=0)
        ax.plot(clean["x"], clean["y"], color=plots.BLUE, label="network, by radiologists")
        ax.plot(text["x"], text["y"], "--", color=plots.GREY, label="network, by text labels")
        ax.plot(
            *readers.loc[name, ["false_positive_rate", "second"]],
            "s",
            color=plots.ORANGE,
            label="text label, by radiologists",
        )
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    for ax in axes.flat[len(findings) :]:
        ax.set_axis_off()
    axes.flat[len(findings) - 1].legend(loc="lower right", fontsize=8.5)
    figure.supxlabel("false-positive rate", fontsize=11)
    figure.supylabel("sensitivity", fontsize=11)
    return figure
