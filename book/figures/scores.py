"""Figures of chapters 8 to 10: curves, thresholds, calibration, net benefit, a reader's point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.findings import INFO
from chexlib.metrics.ranking import RocCurve
from chexlib.plots import BLUE, GREY, INK, MARKERS, ORANGE, PALETTE, forest, panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

    from chexlib.metrics.ranking import PrecisionRecallCurve

__all__ = [
    "band",
    "curve_panels",
    "decision_panels",
    "expected_forest",
    "name_points",
    "operating_panel",
    "reader_panels",
    "reliability_panels",
]

AXES = {"roc": ("false-positive rate", "sensitivity"), "pr": ("recall", "precision")}
STYLES = ("-", "--", ":")


def band(ax: Axes, rows: DataFrame, *, chance: float | None = None) -> None:
    """Draw one curve with its band, and the line that a useless score would draw.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Rows of one finding and one curve of the table ``curve_bands``.
    chance : float, optional
        Precision of a useless score: the prevalence. A ROC curve's is the diagonal.

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
    ax.fill_between(rows["x"], rows["low"], rows["high"], color=BLUE, alpha=0.25, lw=0)
    ax.plot(rows["x"], rows["estimate"], color=BLUE)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=AXES[kind][0], ylabel=AXES[kind][1])


def curve_panels(
    bands: DataFrame,
    *,
    curve: str,
    notes: Mapping[str, str],
    chance: Mapping[str, float] | None = None,
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

    Raises
    ------
    ValueError
        If there is no such curve in the table.
    """
    rows = bands[bands["curve"] == curve]
    if rows.empty:
        raise ValueError(f"Expected a curve of {sorted(set(bands['curve']))}, got {curve!r}.")
    figure, axes = _by_finding(rows, labels=AXES[curve], columns=3, width=3 * 2.3, height=2.15)
    for ax, name, part in axes:
        band(ax, part, chance=None if chance is None else chance[name])
        ax.set(xlabel="", ylabel="", xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        ax.set_title(f"{INFO[name].english}\n{notes[name]}", fontsize=9, loc="left")
    return figure


def _by_finding(
    rows: DataFrame, *, labels: tuple[str, str], shared: bool = True, **size: float
) -> tuple[Figure, list[tuple[Axes, str, DataFrame]]]:
    """Return a figure, and a panel, a name and the rows of each finding."""
    groups = list(rows.groupby("finding", sort=False))
    figure, axes = panels(len(groups), sharex=shared, sharey=shared, **size)
    for ax, (name, _) in zip(axes, groups, strict=True):
        ax.set_title(INFO[name].english, fontsize=10)
    figure.supxlabel(labels[0], fontsize=10)
    figure.supylabel(labels[1], fontsize=10)
    return figure, [(ax, *group) for ax, group in zip(axes, groups, strict=True)]


def name_points(
    ax: Axes,
    x: Series,
    y: Series,
    names: Sequence[str],
    *,
    offset: tuple[float, float] = (6, 5),
) -> None:
    """Write the names of some findings beside their points.

    Parameters
    ----------
    ax : Axes
    x, y : Series, index of findings
        Where the points are.
    names : sequence of str
    offset : tuple of float
        Of the text from the point, in typographic points.
    """
    for name in names:
        place = (x[name], y[name])
        ax.annotate(INFO[name].english, place, xytext=offset, textcoords="offset points")


def operating_panel(ax: Axes, curve: RocCurve | PrecisionRecallCurve, point: DataFrame) -> None:
    """Draw a curve, and one threshold on it with the ends of both its intervals.

    Parameters
    ----------
    ax : Axes
    curve : RocCurve or PrecisionRecallCurve
        As from :func:`chexlib.metrics.roc` or :func:`chexlib.metrics.precision_recall`.
    point : DataFrame
        One row of the table ``threshold_grid``.
    """
    kind = "roc" if isinstance(curve, RocCurve) else "pr"
    found = {
        name: point[[name, f"{name}_low", f"{name}_high"]].to_numpy().T
        for name in ("sensitivity", "specificity", "ppv")
    }
    if kind == "roc":
        drawn = curve.false_positive_rate, curve.sensitivity
        x, y = 1 - found["specificity"][[0, 2, 1]], found["sensitivity"]
    else:
        enough = curve.recall >= 0.02  # below it, two or three films decide
        drawn = curve.recall[enough], curve.precision[enough]
        x, y = found["sensitivity"], found["ppv"]
    ax.plot(*drawn, color=GREY)
    ends = [np.abs(one[1:] - one[0]) for one in (y, x)]
    ax.errorbar(x[0], y[0], *ends, fmt="D", color=ORANGE, markersize=5)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel=AXES[kind][0], ylabel=AXES[kind][1])


def expected_forest(ax: Axes, rows: DataFrame, findings: Sequence[str]) -> None:
    """Draw the precision in each view with its interval, and a cross for what was expected.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        Rows of ``data/prior_shift.csv``.
    findings : sequence of str
        Lines, the first on top.
    """
    for series, view in enumerate(("PA", "AP")):
        part = rows[rows["view"] == view].set_index("finding").loc[list(findings)]
        figures = part[["ppv", "ppv_low", "ppv_high"]].T.to_numpy()
        names = [INFO[name].english for name in findings]
        forest(ax, names, *figures, label=f"{view}, observed", series=series, n_series=2)
        height = [place + 0.5 * (series - 0.5) for place in range(len(part))]
        label = "expected" if series else None
        ax.plot(part["ppv_expected"], height, "x", color=INK, markersize=8, label=label)
    ax.legend()


def reliability_panels(rows: DataFrame, *, smallest: float = 5e-4) -> Figure:
    """Draw reliability diagrams on logarithmic axes, a panel a finding, a marker for each method.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``data/reliability.csv``: ``finding method predicted``, ``observed`` and its
        ends.
    smallest : float
        Where the axes start; what lies below is drawn there.
    """
    labels = ("probability given", "films with the label")
    figure, axes = _by_finding(rows, labels=labels, columns=3, width=7.5, height=2.55)
    for ax, _, part in axes:
        ax.plot([smallest, 1], [smallest, 1], color=GREY, linewidth=1.2)
        for k, (method, bins) in enumerate(part.groupby("method", sort=False)):
            shift = 1.06 ** (2 * k - 1)  # side by side, not one upon the other
            x = bins["predicted"].clip(lower=smallest) * shift
            y, low = (bins[column].clip(lower=smallest) for column in ("observed", "observed_low"))
            high = bins["observed_high"].clip(lower=smallest)
            ax.vlines(x, low, high, color=PALETTE[k], linewidth=1.4)
            style = {"linestyle": "none", "markersize": 5.5, "label": method}
            ax.plot(x, y, MARKERS[k], color=PALETTE[k], **style)
        ax.set(xscale="log", yscale="log", xlim=(smallest, 1), ylim=(smallest, 1))
        ax.set_xticks(*_percent((0.001, 0.01, 0.1, 1)))
        ax.set_yticks(*_percent((0.001, 0.01, 0.1, 1)))
        ax.minorticks_off()
    figure.axes[0].legend(loc="upper left", handletextpad=0, borderpad=0)
    return figure


def _percent(ticks: Sequence[float]) -> tuple[Sequence[float], list[str]]:
    return ticks, [f"{100 * tick:g}%" for tick in ticks]


def decision_panels(rows: DataFrame) -> Figure:
    """Draw decision curves, a panel a finding: two versions of a score, all films, and none.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``data/decision_curves.csv``: ``finding method threshold estimate low high all``.
        The band belongs to the last method.
    """
    labels = ("probability at which one would act", "net benefit: films found per 1,000")
    size = {"columns": 2, "width": 7.5, "height": 2.4}
    figure, axes = _by_finding(rows, labels=labels, shared=False, **size)
    for ax, _, part in axes:
        methods = list(part.groupby("method", sort=False))
        _, last = methods[-1]
        ends = (1000 * last["low"], 1000 * last["high"])
        ax.fill_between(last["threshold"], *ends, color=PALETTE[len(methods) - 1], alpha=0.2, lw=0)
        for k, (method, curve) in enumerate(methods):
            style = {"color": PALETTE[k], "linestyle": STYLES[k], "label": method}
            ax.plot(curve["threshold"], 1000 * curve["estimate"], **style)
        style = {"color": INK, "lw": 1.2, "ls": "-.", "label": "act on all"}
        ax.plot(last["threshold"], 1000 * last["all"], **style)
        ax.axhline(0, color=GREY, linewidth=1.2)
        top = 1000 * last["high"].max()
        ax.set(xscale="log", ylim=(-0.2 * top, 1.1 * top))
        ax.set_xticks(*_percent((0.01, 0.1, 0.5)))
        ax.minorticks_off()
    figure.axes[-1].legend(loc="upper right")
    return figure


def reader_panels(curves: DataFrame, readers: DataFrame) -> Figure:
    """Draw a panel a finding: the network by two judges, and the text label as a reader.

    Parameters
    ----------
    curves : DataFrame
        ``data/clean_curves.csv``: rows of ``finding judge x estimate low high``, judges
        ``radiologists`` and ``text labels``.
    readers : DataFrame
        Indexed by finding: ``false_positive_rate``, and ``second``, the label's sensitivity.

    Raises
    ------
    ValueError
        If a finding of the curves has no reader.
    """
    findings = list(dict.fromkeys(curves["finding"]))
    missing = [name for name in findings if name not in readers.index]
    if missing:
        raise ValueError(f"Expected a reader for each finding, got none for {missing[0]!r}.")
    size = {"columns": 2, "width": 7, "height": 3.4}
    figure, axes = panels(len(findings), sharex=True, sharey=True, **size)
    for ax, name in zip(axes, findings, strict=True):
        part = curves[curves["finding"] == name]
        clean, text = (part[part["judge"] == judge] for judge in ("radiologists", "text labels"))
        ax.fill_between(
            clean["x"], clean["low"], clean["high"], color=BLUE, alpha=0.18, linewidth=0
        )
        ax.plot(clean["x"], clean["estimate"], color=BLUE, label="network, by radiologists")
        ax.plot(text["x"], text["estimate"], "--", color=GREY, label="network, by text labels")
        point = readers.loc[name, ["false_positive_rate", "second"]]
        ax.plot(*point, "s", color=ORANGE, label="text label, by radiologists")
        ax.set(title=name, xlim=(0, 1), ylim=(0, 1.01), aspect="equal")
    axes[-1].legend(loc="lower right", fontsize=8.5)
    figure.supxlabel("false-positive rate", fontsize=11)
    figure.supylabel("sensitivity", fontsize=11)
    return figure
