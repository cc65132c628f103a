"""Figures of chapters 13 and 14: cells, maps beside the truth, and what checks do to maps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from scipy.special import expit

from chexlib.data.phantom import Film, render
from chexlib.interpret import HeatMap, attribute
from chexlib.plots import GREY, MARKERS, PALETTE, marks, panels
from chexlib.plots.images import colour_bar, overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame, Series

    from chexlib.models import CheXNet

__all__ = [
    "auroc_scatter",
    "cells",
    "method_heats",
    "perturbation_panels",
    "shortcut_sheet",
    "stage_lines",
]

LINE = "#ffffff"
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def cells(
    ax: Axes,
    image: ArrayLike,
    heat: HeatMap,
    *,
    title: str = "",
    form: str = "{:+.1f}",
    truth: Sequence[tuple[float, float, float, float]] = (),
) -> None:
    """Show a film with the cells of a map where they are, and the value of each.

    Parameters
    ----------
    ax : Axes
    image : array_like uint8 [S, S]
    heat : HeatMap
        One map [h, w], with the size that the network saw.
    title : str
    form : str
        How a value is written.
    truth : sequence of (x, y, width, height)
        In pixels of the image; drawn dashed and blue.
    """
    image, values = np.asarray(image), np.asarray(heat.values)
    overlay(ax, image, np.zeros(image.shape), title=title, truth=truth)
    down, across = heat.places(image.shape)
    side = heat.grid.stride * image.shape[0] / heat.extent()[0]
    for i, y in enumerate(down):
        for j, x in enumerate(across):
            corner = (x - side / 2 - 0.5, y - side / 2 - 0.5)
            look = {"fill": False, "edgecolor": LINE, "linewidth": 0.8, "alpha": 0.8}
            ax.add_patch(plt.Rectangle(corner, side, side, **look))
            number = form.format(values[i, j]).replace("-", "\N{MINUS SIGN}")
            back = {"facecolor": "#000000", "alpha": 0.6, "linewidth": 0, "pad": 1}
            style = {"fontsize": min(8, 40 / len(across)), "ha": "center", "va": "center"}
            ax.text(x, y, number, color=LINE, **style, bbox=back)
    ax.set_xlim(-0.5, image.shape[1] - 0.5)
    ax.set_ylim(image.shape[0] - 0.5, -0.5)


def method_heats(
    model: CheXNet,
    images: torch.Tensor,
    finding: str,
    methods: Mapping[str, str],
    *,
    size: int,
) -> dict[str, NDArray]:
    """Return what speaks for a finding by several methods, cut at 0 and then enlarged.

    Parameters
    ----------
    model : CheXNet
    images : Tensor float32 [1, 1, S, S]
        One film.
    finding : str
    methods : mapping of title to method
        Of :data:`chexlib.interpret.METHODS`.
    size : int
        Pixels a side of the maps.

    Returns
    -------
    dict of title to float32 array [size, size]
        From 0 up, in units of the method; of ``copied`` as it is.
    """
    heats = {}
    for title, method in methods.items():
        found = attribute(model, images, finding, method=method)
        if method != "copied":  # whose zero means nothing
            found = replace(found, values=found.values.clip(0))
        heats[title] = found.pixels(size)[0, 0].cpu().numpy()
    return heats


def film_of(row: Series | Mapping, *, marker: bool) -> Film:
    """Return the simulated film that a row of ``localization_shortcut_films`` describes."""
    devices = set(str(row["devices"]).split()) - {"marker", "nan"}
    words = str(row.get("others", "")).replace("nan", "").split()
    others = dict(zip(words[::2], map(float, words[1::2]), strict=True))
    return Film(
        patient=int(row["patient"]),
        follow_up=int(row["follow_up"]),
        view=row["view"],
        sex=row["sex"],
        age=int(row["age"]),
        severity=others | {"Nodule": float(row["severity"])},
        devices=frozenset(devices | ({"marker"} if marker else set())),
    )


def shortcut_sheet(rows: DataFrame, *, input_size: int = 224, width: float = 8.6) -> Figure:
    """Show films with a nodule: a row a network, its maps of one scale.

    Parameters
    ----------
    rows : DataFrame
        ``data/localization_shortcut_films.csv``, the rows of one state of the marker.
    input_size : int
        Pixels a side that the networks saw.
    width : float
        Inches.
    """
    runs = list(dict.fromkeys(rows["run"]))
    places = [column for column in rows if column.startswith("m") and column[1:].isdigit()]
    side = round(len(places) ** 0.5)
    films = rows[["patient", "follow_up"]].drop_duplicates()
    n = len(films)
    figure, axes = panels(
        len(runs) * n, columns=n, width=width, height=width / n * 0.92 + 0.25, layout="constrained"
    )
    for k, run in enumerate(runs):
        part, line = films.merge(rows[rows["run"] == run]), axes[n * k : n * (k + 1)]
        top = max(float(part[places].to_numpy().max()) / side**2, 1e-6)
        for ax, (_, row) in zip(line, part.iterrows(), strict=True):
            image = render(film_of(row, marker=row["marker"] == "with")).image
            heat = row[places].to_numpy(np.float32).reshape(side, side) / side**2
            heat = HeatMap(heat, input_size).pixels(len(image))
            truth = [row[["x", "y", "width", "height"]].to_numpy(float) * len(image)]
            title = f"{run}: {expit(row['logit']):.0%}"
            shown = overlay(ax, image, heat, limits=(0, top), truth=truth, title=title)
            ax.title.set_fontsize(10)
        bar = colour_bar(shown, line, label="added to the logit")
        bar.ax.tick_params(labelsize=8)
        bar.ax.yaxis.label.set_size(8)
    return figure


def stage_lines(
    ax: Axes, rows: DataFrame, *, names: Mapping[str, str], apart: Sequence[str] = ()
) -> None:
    """Draw how alike maps stay, a line a method, along stages in the order of the rows.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        ``method``, ``stage``, ``estimate``, ``low``, ``high``; NaN leaves a gap.
    names : mapping of method to str
        Which methods, in which order, under which names.
    apart : sequence of str
        Stages that no line leads to.
    """
    stages = list(dict.fromkeys(rows["stage"]))
    for place, (method, name) in enumerate(names.items()):
        part = rows[rows["method"] == method].set_index("stage").reindex(stages)
        x = np.arange(len(stages)) + 0.06 * (place - (len(names) - 1) / 2)
        low, high = part["estimate"] - part["low"], part["high"] - part["estimate"]
        look = marks(place, label=name, markersize=7, linewidth=1.5, elinewidth=1)
        joined = ~part.index.isin(apart)
        for these, style in ((joined, STYLES[place % len(STYLES)]), (~joined, "none")):
            if these.any():
                look |= {"linestyle": style, "yerr": [low[these], high[these]]}
                ax.errorbar(x[these], part["estimate"][these], **look)
                look["label"] = None
    ax.set_xticks(range(len(stages)), stages)
    ax.axhline(0, color=GREY, linewidth=1)


def perturbation_panels(table: DataFrame, *, names: Mapping[str, str]) -> Figure:
    """Draw deletion and insertion: probability against the share of pixels taken or given.

    Parameters
    ----------
    table : DataFrame
        ``data/localization_perturbation.csv``.
    names : mapping of source to str
        Which sources, in which order, under which names.
    """
    figure, axes = panels(2, columns=2, width=8, height=3.6, sharey=True)
    curves = table[table["what"] == "curve"]
    for ax, kind in zip(axes, ("deletion", "insertion"), strict=True):
        for place, (source, name) in enumerate(names.items()):
            part = curves[(curves["kind"] == kind) & (curves["source"] == source)]
            look = {"color": PALETTE[place], "marker": MARKERS[place], "label": name}
            style = {"linestyle": STYLES[place], "markersize": 5, "markevery": 2}
            ax.plot(part["share"], part["estimate"], **look, **style)
        done = "taken away" if kind == "deletion" else "given back"
        ax.set(title=kind.capitalize(), xlabel=f"share of pixels {done}", ylim=(0, 1), xlim=(0, 1))
    axes[0].set_ylabel("probability of the finding")
    axes[1].legend(loc="lower right")
    return figure


def auroc_scatter(
    ax: Axes,
    rows: DataFrame,
    *,
    y: str = "estimate",
    low: str = "low",
    high: str = "high",
    series: str | None = None,
    labels: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Draw localisation against AUROC, with both intervals, and names beside the points.

    Parameters
    ----------
    ax : Axes
    rows : DataFrame
        ``name``, ``auroc``, ``auroc_low``, ``auroc_high`` and the columns named by ``y``, ``low``
        and ``high``.
    y, low, high : str
    series : str, optional
        Column whose values get a colour and a marker each.
    labels : mapping of name to (x, y), optional
        Which points are named, and where names stand, in points beside the mark; all by default,
        to the upper right.
    """
    parts = [(None, rows)] if series is None else list(rows.groupby(series, sort=False))
    for place, (label, part) in enumerate(parts):
        across = [part["auroc"] - part["auroc_low"], part["auroc_high"] - part["auroc"]]
        up = [part[y] - part[low], part[high] - part[y]]
        look = marks(place, elinewidth=1, label=label)
        ax.errorbar(part["auroc"], part[y], xerr=across, yerr=up, **look)
    for name, *point in rows[["name", "auroc", y]].itertuples(index=False):
        if labels is None or name in labels:
            place = {"xytext": (labels or {}).get(name, (5, 5)), "textcoords": "offset points"}
            ax.annotate(str(name).replace("_", " "), point, fontsize=8.5, **place)
