"""Figures: the house style, and the kinds of figure that a chapter asks for by name.

``from chexlib import plots`` has the style and what all chapters share, from
:mod:`chexlib.plots.house`. Figures of one subject stand in modules of their own: ``films``,
``curves``, ``thresholds``, ``readers``, and for Plotly ``interactive`` and ``explorer``.
"""

from chexlib.plots.house import (
    BLUE,
    GREY,
    INK,
    MARKERS,
    ORANGE,
    PALETTE,
    PANEL,
    colours,
    forest,
    forest_table,
    lines,
    log_ticks,
    ppv_curve,
    shares,
    squares,
    use_style,
)

__all__ = [
    "BLUE",
    "GREY",
    "INK",
    "MARKERS",
    "ORANGE",
    "PALETTE",
    "PANEL",
    "colours",
    "forest",
    "forest_table",
    "lines",
    "log_ticks",
    "ppv_curve",
    "shares",
    "squares",
    "use_style",
]
