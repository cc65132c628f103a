"""The figures of the report, in the house style; drawn without a window or a notebook."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from chexlib.metrics import OneClassWarning, precision_recall, roc
from chexlib.plots import BLUE, GREY, INK, ORANGE, forest, use_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from chexlib.report.evaluation import Evaluation

__all__ = ["draw_calibration", "draw_curves", "draw_ranking", "draw_subgroups"]


def _in_style(draw: Callable[[Evaluation], Figure]) -> Callable[[Evaluation], Figure]:
    """Draw in the house style and leave the caller's settings as they were."""

    @wraps(draw)
    def drawn(found: Evaluation) -> Figure:
        with rc_context():
            use_style()
            return draw(found)

    return drawn


@_in_style
def draw_ranking(found: Evaluation) -> Figure:
    """Draw AUROC and average precision of each finding with their intervals."""
    figure = Figure(figsize=(9.5, 5.2))
    table = found.tables["ranking"]
    axes = figure.subplots(1, 2, sharey=True)
    for ax, name, title in zip(
        axes, ("auroc", "average_precision"), ("AUROC", "Average precision"), strict=True
    ):
        ends = (_around(table[name], table[f"{name}_{end}"]) for end in ("low", "high"))
        forest(ax, list(table["finding"]), table[name], *ends)
        ax.set(title=title, xlabel="with 95% interval by patient")
    axes[0].axvline(0.5, color=GREY, linestyle=":", linewidth=1)
    axes[1].plot(table["prevalence"], range(len(table)), "|", color=INK, markersize=12)
    axes[1].set_xlabel("with 95% interval by patient; tick: prevalence")
    return figure


@_in_style
def draw_curves(found: Evaluation) -> Figure:
    """Draw the ROC and precision-recall curves, a panel a finding."""
    figure = Figure(figsize=(9.5, 6.2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OneClassWarning)  # an empty panel says it
        curves = zip(
            roc(found.labels, found.scores),
            precision_recall(found.labels, found.scores),
            strict=True,
        )
    for (ax, name), (one, other) in zip(_panels(figure, found), curves, strict=True):
        ax.plot(*_thin(one.false_positive_rate, one.sensitivity), color=BLUE, linewidth=1.4)
        ax.plot(*_thin(other.recall, other.precision), "--", color=ORANGE, linewidth=1.2)
        ax.axhline(found.labels[name].mean(), color=GREY, linestyle=":", linewidth=1)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    figure.supxlabel("false-positive rate (solid), recall (dashed)", fontsize=10)
    figure.supylabel("sensitivity (solid), precision (dashed)", fontsize=10)
    return figure


@_in_style
def draw_calibration(found: Evaluation) -> Figure:
    """Draw the reliability curve of each finding on logarithmic axes."""
    figure = Figure(figsize=(9.5, 6.2))
    bins = found.tables["reliability"]
    least = max(bins.loc[bins["predicted"] > 0, "predicted"].min() / 2, 1e-5)
    for ax, name in _panels(figure, found):
        part = bins[bins["finding"] == name]
        x = part["predicted"].clip(lower=least)
        ax.plot([least, 1], [least, 1], color=GREY, linestyle=":", linewidth=1)
        low, high = part["low"].clip(lower=least), part["high"].clip(lower=least)
        ax.vlines(x, low, high, color=BLUE, linewidth=1.4)
        ax.plot(x, part["observed"].clip(lower=least), "o", color=BLUE, markersize=3.5)
        ax.set(xscale="log", yscale="log", xlim=(least, 1.2), ylim=(least, 1.2))
    figure.supxlabel("mean probability in the bin", fontsize=10)
    figure.supylabel("share of positive films", fontsize=10)
    return figure


@_in_style
def draw_subgroups(found: Evaluation) -> Figure:
    """Draw differences in AUROC by sex and by view."""
    figure = Figure(figsize=(9.5, 5.2))
    table = found.tables["subgroups"]
    axes = figure.subplots(1, 2, sharey=True)
    pairs = (("sex", "M", "Men less women"), ("view", "PA", "PA less AP"))
    for ax, (attribute, group, title) in zip(axes, pairs, strict=True):
        part = table[(table["attribute"] == attribute) & (table["group"] == group)]
        part = part.set_index("finding").reindex(found.labels.columns)
        ends = (_around(part["difference"], part[f"difference_{end}"]) for end in ("low", "high"))
        forest(ax, list(part.index), part["difference"], *ends)
        ax.axvline(0, color=GREY, linestyle=":", linewidth=1)
        ax.set(title=title, xlabel="difference in AUROC, 95% interval")
        ax.locator_params(axis="x", nbins=5)
    return figure


def _panels(figure: Figure, found: Evaluation) -> Iterator[tuple[Axes, str]]:
    names = list(found.labels.columns)
    axes = figure.subplots(3, -(-len(names) // 3), sharex=True, sharey=True)
    for ax, name in zip(axes.flat, names, strict=False):
        ax.set_title(name.replace("_", " "), fontsize=9)
        ax.tick_params(labelsize=8)
        yield ax, name


def _around(estimate: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Let an estimate without an interval be drawn as a point."""
    return np.where(np.isnan(end), estimate, end)


def _thin(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leave out points that no eye could tell from the one before."""
    moves = np.abs(np.diff(np.round(400 * np.stack([x, y])), axis=1)).any(axis=0)
    kept = np.concatenate([[True], moves]) | (np.arange(len(x)) == len(x) - 1)
    return x[kept], y[kept]
