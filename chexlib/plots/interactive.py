"""Figures that the reader turns over: Plotly, drawn in the page without a kernel behind it.

What is compared when a notebook is checked is the figure's JSON, so numbers are rounded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from chexlib.plots import GREY, INK, MARKERS, PALETTE, PANEL

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["lines_with_choice"]

SYMBOLS = dict(
    zip(MARKERS, ("circle", "square", "diamond", "triangle-up", "triangle-down"), strict=False)
)
DASHES = ("solid", "dash", "dot", "dashdot")


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
    import plotly.graph_objects as go  # part of the extra `book`

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
            figure.add_scatter(
                x=[str(place) for place in part[x]],
                y=estimate.round(decimals),
                error_y={
                    "type": "data",
                    "array": (high - estimate).round(decimals),
                    "arrayminus": (estimate - low).round(decimals),
                    "thickness": 1.5,
                    "width": 4,
                },
                customdata=np.column_stack([low, high]).round(decimals),
                hovertemplate=hover.replace("NAME", str(name)) + "<extra></extra>",
                name=str(name),
                mode="lines+markers",
                line={"color": PALETTE[number], "dash": DASHES[number]},
                marker={"symbol": SYMBOLS[MARKERS[number]], "size": 9},
                visible=choice == first,
            )
    buttons = [
        {
            "label": str(choice).replace("_", " "),
            "method": "update",
            "args": [{"visible": [other == choice for other in choices for _ in names]}],
        }
        for choice in choices
    ]
    figure.update_layout(
        height=430,
        paper_bgcolor=PANEL,
        plot_bgcolor=PANEL,
        font={"color": INK, "size": 13},
        margin={"l": 55, "r": 15, "t": 60, "b": 55},
        legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        xaxis={"title": {"text": x_title}, "type": "category", "linecolor": GREY},
        yaxis={"title": {"text": y_title}, "rangemode": "tozero", "gridcolor": "#e3e1db"},
        updatemenus=[
            {
                "buttons": buttons,
                "active": choices.index(first),
                "x": 0,
                "xanchor": "left",
                "y": 1.02,
                "yanchor": "bottom",
                "bgcolor": PANEL,
                "bordercolor": GREY,
            }
        ],
    )
    return figure
