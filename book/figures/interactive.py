"""Figures that the reader turns over: Plotly, drawn in the page without a kernel behind it.

What is compared when a notebook is checked is the figure's JSON, so numbers are rounded here.

In the explorer of thresholds each finding is six traces that hold every threshold of the grid; the
slider selects one of their points, the menu chooses whose traces are seen. The two know nothing of
each other, so nothing has to be stored for each pair of finding and threshold but the point itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from chexlib.metrics import precision_recall, roc
from chexlib.plots import BLUE, GREY, INK, MARKERS, ORANGE, PALETTE, PANEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

__all__ = ["lines_with_choice", "threshold_explorer"]

SYMBOLS = dict(
    zip(MARKERS, ("circle", "square", "diamond", "triangle-up", "triangle-down"), strict=False)
)
DASHES = ("solid", "dash", "dot", "dashdot")
_LOOK = {"paper_bgcolor": PANEL, "plot_bgcolor": PANEL, "font": {"color": INK, "size": 13}}


def lines_with_choice(
    frame: pd.DataFrame,
    *,
    choose: str,
    x: str,
    lines: str,
    values: tuple[str, str, str],
    x_title: str,
    y_title: str,
    first: str | None = None,
    decimals: int = 2,
) -> go.Figure:
    """Draw lines with intervals, and a menu that chooses which part of the table they show.

    Parameters
    ----------
    frame : DataFrame
        Long: a row for each choice, line and place on the x axis.
    choose, x, lines : str
        Columns: what the menu chooses, the x axis (in order of appearance), one line for each.
    values : tuple of 3 str
        Columns of the estimate and the ends of its interval.
    x_title, y_title : str
        Titles of the axes.
    first : str, optional
        What is shown before the reader chooses; by default the first in the table.
    decimals : int
        To which the numbers are rounded.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ValueError
        If ``first`` is not among the choices, or there are more lines than marker shapes.
    """
    choices, names = list(frame[choose].unique()), list(frame[lines].unique())
    first = choices[0] if first is None else first
    if first not in choices or len(names) > len(DASHES):
        raise ValueError(
            f"Expected `first` among {choices} and at most {len(DASHES)} lines, got {first!r} and "
            f"{len(names)}."
        )
    places = f":.{decimals}f}}"
    hover = f"NAME, %{{x}}: %{{y{places} (%{{customdata[0]{places} to %{{customdata[1]{places})"
    figure = go.Figure(layout_template="none")
    for choice in choices:
        for number, name in enumerate(names):
            part = frame[(frame[choose] == choice) & (frame[lines] == name)]
            estimate, low, high = (part[column].to_numpy() for column in values)
            ends = {"array": high - estimate, "arrayminus": estimate - low}
            ends = {side: value.round(decimals) for side, value in ends.items()}
            figure.add_scatter(
                x=[str(place) for place in part[x]],
                y=estimate.round(decimals),
                error_y={"type": "data", "thickness": 1.5, "width": 4} | ends,
                customdata=np.column_stack([low, high]).round(decimals),
                hovertemplate=hover.replace("NAME", str(name)) + "<extra></extra>",
                name=str(name),
                mode="lines+markers",
                line={"color": PALETTE[number], "dash": DASHES[number]},
                marker={"symbol": SYMBOLS[MARKERS[number]], "size": 9},
                visible=choice == first,
            )
    figure.update_layout(
        height=430,
        **_LOOK,
        margin={"l": 55, "r": 15, "t": 60, "b": 55},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        xaxis={"title": {"text": x_title}, "type": "category", "linecolor": GREY},
        yaxis={"title": {"text": y_title}, "rangemode": "tozero", "gridcolor": "#e3e1db"},
        updatemenus=[_menu(choices, len(names), first, name=choose, method="update", y=1.02)],
    )
    return figure


def _menu(names: Sequence[str], each: int, first: str, *, name: str, method: str, y: float) -> dict:
    """Return a menu that shows the traces of one name, each as many as the next."""
    seen = {name: [other == name for other in names for _ in range(each)] for name in names}
    return {
        "name": name.replace("_", " "),
        "buttons": [
            {"label": str(name).replace("_", " "), "method": method, "args": [{"visible": traces}]}
            for name, traces in seen.items()
        ],
        "active": list(names).index(first),
        **{"x": 0, "xanchor": "left", "y": y, "yanchor": "bottom"},
        **{"bgcolor": PANEL, "bordercolor": GREY},
    }


_CELLS = ((25, 75, "found"), (75, 75, "false alarms"), (25, 25, "missed"), (75, 25, "left alone"))
_TINTS = ("#cfe3f1", "#f7dcc8", "#f7dcc8", "#cfe3f1")
_FIGURES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "Precision"}
_HEIGHTS = (86, 52, 19)


def threshold_explorer(
    grid: pd.DataFrame, scores: pd.DataFrame, *, first: str | None = None, start: float = 0.5
) -> go.Figure:
    """Draw ROC point, precision-recall point and 2x2 table, with a slider for the threshold.

    Parameters
    ----------
    grid : DataFrame
        Rows of ``data/threshold_grid.csv``: for each finding the same thresholds, rising, with
        ``prevalence tp fp`` and the figures of :func:`chexlib.metrics.thresholds.threshold_sweep`.
    scores : DataFrame
        Rows of ``data/score_tables.csv.gz`` of the same films: ``finding score n_positive
        n_negative``.
    first : str, optional
        The finding shown at first; by default the first of ``grid``.
    start : float
        The threshold shown at first, one of the grid.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ValueError
        If findings differ in their thresholds, or ``first`` or ``start`` is not in the grid.
    """
    names = list(grid["finding"].unique())
    thresholds = grid.loc[grid["finding"] == names[0], "threshold"].tolist()
    first = names[0] if first is None else first
    if len(grid) != len(names) * len(thresholds) or first not in names or start not in thresholds:
        raise ValueError(
            f"Expected the same thresholds for each finding, one of them {start}, and {first!r} "
            f"among the findings; got {len(grid)} rows, thresholds {thresholds} of {names}."
        )
    figure, at = go.Figure(layout_template=_template()), thresholds.index(start)
    second, third = {"xaxis": "x2", "yaxis": "y2"}, {"xaxis": "x3", "yaxis": "y3"}
    for name in names:
        traces = _traces(grid[grid["finding"] == name], scores[scores["finding"] == name], at)
        for trace, axes in zip(traces, ({}, second, {}, second, third, third), strict=True):
            figure.add_scatter(**trace, **axes, visible=name == first, showlegend=False)
    each = len(figure.data) // len(names)
    # A list shorter than the traces is gone through again for the next finding.
    steps = [
        {
            "label": f"{threshold:g}",
            "method": "restyle",
            "args": [{"selectedpoints": _selection(k, len(thresholds))}],
        }
        for k, threshold in enumerate(thresholds)
    ]
    menu = _menu(names, each, first, name="finding", method="restyle", y=1.04)
    figure.update_layout(**_layout(steps, at), updatemenus=[menu])
    return figure


def _traces(rows: pd.DataFrame, scores: pd.DataFrame, at: int) -> list[dict]:
    """Return what differs between findings; ``_template`` has what is common to them."""
    n, curves = len(rows), _curves(scores)
    sensitivity, ppv = (_small(rows[name], 3) for name in ("sensitivity", "ppv"))
    threshold = {"customdata": _small(rows["threshold"], 4)}
    lines = [_interval(row, name) for name in _FIGURES for _, row in rows.iterrows()]
    cells = _small(np.concatenate(_per_thousand(rows)), 1)
    traces = [
        {"x": curves[0], "y": curves[1]},
        {"x": curves[2], "y": curves[3]},
        {"x": _small(1 - rows["specificity"], 3), "y": sensitivity} | threshold,
        {"x": sensitivity, "y": ppv} | threshold,
        _placed([(x, y + 6) for x, y, _ in _CELLS], n) | {"customdata": cells},
        _placed([(105, y - 8) for y in _HEIGHTS], n) | {"text": lines, "meta": list(_FIGURES)},
    ]
    return [
        trace | ({} if chosen is None else {"selectedpoints": chosen})
        for trace, chosen in zip(traces, _selection(at, n), strict=True)
    ]


def _template() -> dict:
    """Return how each of the six traces looks; Plotly goes through them in turn."""
    curve = {"mode": "lines", "hoverinfo": "skip", "line": {"color": GREY}}
    edge = {"color": INK, "width": 1}
    point = {
        "mode": "markers",
        "marker": {"size": 15, "color": ORANGE, "symbol": "diamond", "line": edge},
        "cliponaxis": False,
        "hovertemplate": "threshold %{customdata:.2~r}<br>%{x:.2f}, %{y:.2f}<extra></extra>",
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 0}},
    }
    words = {
        "mode": "text",
        "hoverinfo": "skip",
        "selected": {"textfont": {"color": INK}},
        "unselected": {"textfont": {"color": "rgba(0,0,0,0)"}},
    }
    bold = {"texttemplate": "%{customdata:.1f}", "textfont": {"size": 17, "weight": "bold"}}
    kinds = (curve, curve, point, point, words | bold, words | {"textposition": "middle right"})
    return {"data": {"scatter": [kind | {"type": "scatter"} for kind in kinds]}}


def _placed(places: list[tuple[int, int]], n: int) -> dict:
    """Return x and y of texts, each place n times over: one for every threshold."""
    x, y = np.repeat(np.array(places, dtype=np.uint8), n, axis=0).T
    return {"x": x.copy(), "y": y.copy()}


def _selection(k: int, n: int) -> list[list[int] | None]:
    """Return what is selected of the curves, the two points, the four cells, the three figures."""
    return [None, None, [k], [k], *([k + n * part for part in range(m)] for m in (4, 3))]


def _curves(scores: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    counts = scores.groupby("score", as_index=False)[["n_positive", "n_negative"]].sum()
    films = np.repeat([True, False], len(counts)), np.tile(counts["score"], 2)
    weight = np.concatenate([counts["n_positive"], counts["n_negative"]])
    ends, both = roc(*films, sample_weight=weight), precision_recall(*films, sample_weight=weight)
    enough = both.recall >= 0.02  # above it, two or three films decide
    return (
        *_thin(ends.false_positive_rate, ends.sensitivity),
        *_thin(both.recall[enough], both.precision[enough]),
    )


def _thin(x: NDArray, y: NDArray, *, points: int = 60) -> tuple[NDArray, NDArray]:
    """Keep points at about equal distances along a curve, both ends included."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)).clip(0, len(x) - 1))
    return _small(x[kept], 3), _small(y[kept], 3)


def _per_thousand(rows: pd.DataFrame) -> list[pd.Series]:
    """Return the cells of the 2x2 table of 1,000 films, in the order of ``_CELLS``."""
    prevalence = rows["prevalence"]
    found, alarms = rows["sensitivity"] * prevalence, (1 - rows["specificity"]) * (1 - prevalence)
    cells = (found, alarms, prevalence - found, 1 - prevalence - alarms)
    return [1000 * cell for cell in cells]


def _interval(row: pd.Series, name: str) -> str:
    if np.isnan(row[name]):
        return "no film<br>is called"
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.2f}<br>({low:.2f} to {high:.2f})"


def _small(values: ArrayLike, decimals: int) -> NDArray[np.float32]:
    """Round; an array is stored more compactly than a list, in single precision even more."""
    return np.round(np.asarray(values, dtype=float), decimals).astype(np.float32)


def _layout(steps: list[dict], at: int) -> dict:
    def axis(title: str, anchor: str, low: float, high: float) -> dict:
        return {
            "title": {"text": title, "standoff": 6, "font": {"size": 13}},
            "range": [-0.03, 1.03],
            "domain": [low, high],
            "anchor": anchor,
            "tickvals": [0, 0.5, 1],
            "gridcolor": "#e3e1db",
            "linecolor": GREY,
            "zeroline": False,
            "fixedrange": True,
        }

    hidden = {"visible": False, "fixedrange": True}
    squares = [
        {
            **{"type": "rect", "xref": "x3", "yref": "y3", "layer": "below", "fillcolor": tint},
            **{"x0": x - 24, "x1": x + 24, "y0": y - 24, "y1": y + 24},
            "line": {"color": BLUE if tint == _TINTS[0] else ORANGE, "width": 1},
        }
        for (x, y, _), tint in zip(_CELLS, _TINTS, strict=True)
    ]
    at_table = {"xref": "x3", "yref": "y3", "showarrow": False}
    heads = [("with the label", 25, 106), ("without it", 75, 106)]
    heads += [(word, x, y - 10) for x, y, word in _CELLS]
    texts = [{"text": text, "x": x, "y": y} | at_table for text, x, y in heads]
    texts += [
        {"text": f"<b>{word}</b>", "x": 105, "y": y + 7, "xanchor": "left"} | at_table
        for word, y in zip(_FIGURES.values(), _HEIGHTS, strict=True)
    ]
    return {
        "height": 620,
        **_LOOK,
        "margin": {"l": 50, "r": 12, "t": 62, "b": 20},
        "dragmode": False,
        "hovermode": "closest",
        "modebar": {"remove": ["zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale"]},
        "xaxis": axis("false-positive rate", "y", 0, 0.43),
        "yaxis": axis("sensitivity", "x", 0.60, 1),
        "xaxis2": axis("recall", "y2", 0.57, 1),
        "yaxis2": axis("precision", "x2", 0.60, 1),
        "xaxis3": hidden | {"range": [0, 155], "domain": [0, 1], "anchor": "y3"},
        "yaxis3": hidden | {"range": [0, 110], "domain": [0, 0.44], "anchor": "x3"},
        "shapes": squares,
        "annotations": texts,
        "sliders": [
            {
                "steps": steps,
                "active": at,
                "currentvalue": {"prefix": "threshold ", "font": {"size": 15, "color": INK}},
                **{"x": 0, "len": 1, "y": 0, "pad": {"t": 8, "b": 8}},
                **{"ticklen": 0, "minorticklen": 0, "activebgcolor": ORANGE, "bordercolor": GREY},
                "font": {"color": "rgba(0,0,0,0)", "size": 1},
            }
        ],
    }
