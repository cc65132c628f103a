"""Figures of thresholds, calibration and net benefit, in the style of :mod:`chexlib.plots`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chexlib.findings import INFO
from chexlib.plots import GREY, INK, MARKERS, PALETTE, forest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pandas import DataFrame, Series

__all__ = ["decision_panels", "expected_forest", "name_points", "reliability_panels"]

_TICKS = (0.001, 0.01, 0.1, 1)
_STYLES = ("-", "--", ":")


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
        ax.annotate(
            name.replace("_", " "), (x[name], y[name]), xytext=offset, textcoords="offset points"
        )


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
        forest(ax, findings, *figures, label=f"{view}, observed", series=series, n_series=2)
        height = [place + 0.5 * (series - 0.5) for place in range(len(part))]
        label = "expected" if series else None
        ax.plot(part["ppv_expected"], height, "x", color=INK, markersize=8, label=label)
    ax.legend()


def reliability_panels(rows: DataFrame, *, smallest: float = 5e-4) -> Figure:
    """Draw reliability diagrams on logarithmic axes, a panel a finding, a marker for each method.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``data/reliability.csv``: ``finding method predicted observed low high``.
    smallest : float
        Where the axes start; what lies below is drawn there, as an arrow pointing down.
    """
    import matplotlib.pyplot as plt

    groups = list(rows.groupby("finding", sort=False))
    figure, axes = plt.subplots(
        *(-(-len(groups) // 3), 3),
        figsize=(7.5, 2.55 * -(-len(groups) // 3)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, part) in zip(axes.flat, groups, strict=False):
        ax.plot([smallest, 1], [smallest, 1], color=GREY, linewidth=1.2)
        for k, (method, bins) in enumerate(part.groupby("method", sort=False)):
            shift = 1.06 ** (2 * k - 1)  # side by side, not one upon the other
            x = bins["predicted"].clip(lower=smallest) * shift
            y, low = (bins[column].clip(lower=smallest) for column in ("observed", "low"))
            ax.vlines(x, low, bins["high"].clip(lower=smallest), color=PALETTE[k], linewidth=1.4)
            style = {"linestyle": "none", "markersize": 5.5, "label": method}
            ax.plot(x, y, MARKERS[k], color=PALETTE[k], **style)
        ax.set(xscale="log", yscale="log", xlim=(smallest, 1), ylim=(smallest, 1))
        labels = [f"{100 * tick:g}%" for tick in _TICKS]
        ax.set_xticks(_TICKS, labels)
        ax.set_yticks(_TICKS, labels)
        ax.minorticks_off()
        ax.set_title(INFO[name].english, fontsize=10)
    axes.flat[0].legend(loc="upper left", handletextpad=0, borderpad=0)
    figure.supxlabel("probability given", fontsize=10)
    figure.supylabel("films with the label", fontsize=10)
    return figure


def decision_panels(rows: DataFrame, *, ticks: Sequence[float] = (0.01, 0.1, 0.5)) -> Figure:
    """Draw decision curves, a panel a finding: two versions of a score, all films, and none.

    Parameters
    ----------
    rows : DataFrame
        Rows of ``data/decision_curves.csv``: ``finding method threshold model low high all``. The
        band belongs to the last method.
    ticks : sequence of float
        Of the logarithmic axis of threshold probabilities.
    """
    import matplotlib.pyplot as plt

    groups = list(rows.groupby("finding", sort=False))
    figure, axes = plt.subplots(
        *(-(-len(groups) // 2), 2), figsize=(7.5, 2.4 * -(-len(groups) // 2)), squeeze=False
    )
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, part) in zip(axes.flat, groups, strict=False):
        methods = list(part.groupby("method", sort=False))
        _, last = methods[-1]
        band = (1000 * last["low"], 1000 * last["high"])
        ax.fill_between(last["threshold"], *band, color=PALETTE[len(methods) - 1], alpha=0.2, lw=0)
        for k, (method, curve) in enumerate(methods):
            style = {"color": PALETTE[k], "linestyle": _STYLES[k], "label": method}
            ax.plot(curve["threshold"], 1000 * curve["model"], **style)
        ax.plot(
            last["threshold"], 1000 * last["all"], color=INK, lw=1.2, ls="-.", label="act on all"
        )
        ax.axhline(0, color=GREY, linewidth=1.2)
        top = 1000 * last["high"].max()
        ax.set(xscale="log", ylim=(-0.2 * top, 1.1 * top))
        ax.set_xticks(ticks, [f"{100 * tick:g}%" for tick in ticks])
        ax.minorticks_off()
        ax.set_title(INFO[name].english, fontsize=10)
    axes.flat[len(groups) - 1].legend(loc="upper right")
    figure.supxlabel("probability at which one would act", fontsize=10)
    figure.supylabel("net benefit: films found per 1,000", fontsize=10)
    return figure
