"""Figures of chapter 10: maps beside the truth, and what happens to them under checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import matplotlib.pyplot as plt
import numpy as np

from chexlib import plots
from chexlib.data.phantom import Film, render
from chexlib.findings import INFO, normalise
from chexlib.interpret import heat_boxes, upsample
from chexlib.interpret.captum_methods import to_grey
from chexlib.plots.heatmaps import colour_bar, overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from pandas import DataFrame, Series

    from chexlib.interpret import BoxedFilms, Cases

__all__ = [
    "auroc_scatter",
    "case_sheet",
    "perturbation_panels",
    "shortcut_sheet",
    "stage_lines",
]

_SHOWN = 256  # pixels a side of a film in a sheet
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def case_sheet(
    films: BoxedFilms,
    cases: Cases,
    maps: NDArray[np.float32],
    *,
    titles: Sequence[str] | None = None,
    width: float = 8.6,
) -> Figure:
    """Show films with the map of a finding, the box drawn from it at 180 of 255, and the true ones.

    Parameters
    ----------
    films : BoxedFilms
    cases : Cases
        M of its cases.
    maps : float32 array [M, h, w]
        Class activation maps. Clear is 0 or less, strongest is a map's own maximum.
    titles : sequence of str, optional
        By default the findings.
    width : float
        Inches.

    Raises
    ------
    ValueError
        If there are not as many maps as cases.
    """
    if len(maps) != len(cases):
        raise ValueError(f"Expected a map for each of {len(cases)} cases, got {len(maps)}.")
    titles = titles or [INFO[normalise(name)].english for name in cases.finding]
    grey = to_grey(films.batcher(cases.film))[:, 0].numpy()
    figure, axes = plt.subplots(
        1, len(cases), figsize=(width, width / len(cases) + 0.3), squeeze=False
    )
    for ax, film, heat, truth, title in zip(
        axes.flat, grey, maps, cases.truth, titles, strict=True
    ):
        image = cv2.resize(film, (_SHOWN, _SHOWN), interpolation=cv2.INTER_LINEAR)
        large = upsample(heat, _SHOWN, input_size=films.batcher.size)
        limits = (0.0, max(float(large.max()), 1e-6))
        overlay(
            ax,
            np.round(255 * image.clip(0, 1)).astype(np.uint8),
            large,
            limits=limits,
            boxes=heat_boxes(large, cut=180),
            truth=truth * _SHOWN,
            title=title,
        )
        ax.title.set_fontsize(10)
    return figure


def film_of(row: Series | Mapping, *, marker: bool) -> Film:
    """Return the simulated film that a row of ``localization_shortcut_films`` describes."""
    devices = set(str(row["devices"]).split()) - {"marker", "nan"}
    return Film(
        patient=int(row["patient"]),
        follow_up=int(row["follow_up"]),
        view=row["view"],
        sex=row["sex"],
        age=int(row["age"]),
        severity={"Nodule": float(row["severity"])},
        devices=frozenset(devices | ({"marker"} if marker else set())),
    )


def shortcut_sheet(rows: DataFrame, *, input_size: int = 112, width: float = 8.6) -> Figure:
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
    cells = [column for column in rows if column.startswith("m") and column[1:].isdigit()]
    side = round(len(cells) ** 0.5)
    films = list(dict.fromkeys(zip(rows["patient"], rows["follow_up"], strict=True)))
    figure, axes = plt.subplots(
        len(runs),
        len(films),
        figsize=(width, len(runs) * (width / len(films) * 0.92 + 0.25)),
        squeeze=False,
        layout="constrained",
    )
    for line, run in zip(axes, runs, strict=True):
        part = rows[rows["run"] == run].set_index(["patient", "follow_up"])
        top = max(float(part[cells].to_numpy().max()) / side**2, 1e-6)
        for ax, key in zip(line, films, strict=True):
            row = part.loc[key]
            marker = row["marker"] == "with"
            film = render(film_of({**row, "patient": key[0], "follow_up": key[1]}, marker=marker))
            heat = upsample(
                row[cells].to_numpy(np.float32).reshape(side, side) / side**2,
                len(film.image),
                input_size=input_size,
            )
            truth = [row[["x", "y", "width", "height"]].to_numpy(float) * len(film.image)]
            chance = 1 / (1 + np.exp(-row["logit"]))
            title = f"{run}: {chance:.0%}"
            shown = overlay(ax, film.image, heat, limits=(0, top), truth=truth, title=title)
            ax.title.set_fontsize(10)
        colour_bar(shown, list(line), label="added to the logit")
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
        look = {"color": plots.PALETTE[place], "marker": plots.MARKERS[place], "label": name}
        look |= {"markeredgecolor": plots.PANEL, "markersize": 7, "linewidth": 1.5, "elinewidth": 1}
        joined = ~part.index.isin(apart)
        for these, style in ((joined, STYLES[place % len(STYLES)]), (~joined, "none")):
            if these.any():
                ends = [low[these], high[these]]
                ax.errorbar(x[these], part["estimate"][these], yerr=ends, linestyle=style, **look)
                look["label"] = None
    ax.set_xticks(range(len(stages)), stages)
    ax.axhline(0, color=plots.GREY, linewidth=1)


def perturbation_panels(table: DataFrame, *, names: Mapping[str, str]) -> Figure:
    """Draw deletion and insertion: probability against the share of pixels taken or given.

    Parameters
    ----------
    table : DataFrame
        ``data/localization_perturbation.csv``.
    names : mapping of source to str
        Which sources, in which order, under which names.
    """
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True)
    curves = table[table["what"] == "curve"]
    for ax, kind in zip(axes, ("deletion", "insertion"), strict=True):
        for place, (source, name) in enumerate(names.items()):
            part = curves[(curves["kind"] == kind) & (curves["source"] == source)]
            ax.plot(
                part["share"],
                part["estimate"],
                STYLES[place],
                color=plots.PALETTE[place],
                marker=plots.MARKERS[place],
                markersize=5,
                markevery=2,
                label=name,
            )
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
        ax.errorbar(
            part["auroc"],
            part[y],
            xerr=[part["auroc"] - part["auroc_low"], part["auroc_high"] - part["auroc"]],
            yerr=[part[y] - part[low], part[high] - part[y]],
            color=plots.PALETTE[place],
            marker=plots.MARKERS[place],
            markeredgecolor=plots.PANEL,
            markersize=8,
            linestyle="none",
            elinewidth=1,
            label=label,
        )
    for row in rows.itertuples():
        if labels is not None and row.name not in labels:
            continue
        ax.annotate(
            str(row.name).replace("_", " "),
            (row.auroc, getattr(row, y)),
            xytext=(labels or {}).get(row.name, (5, 5)),
            textcoords="offset points",
            fontsize=8.5,
        )
