"""Figures: the house style and its charts here, radiographs in :mod:`chexlib.plots.images`.

Figures that one chapter of the book alone needs are beside its notebooks, in ``book/figures``.
"""

from chexlib.plots.style import (
    BLUE,
    GREY,
    HATCHES,
    INK,
    MARKERS,
    ORANGE,
    PALETTE,
    PANEL,
    forest,
    forest_table,
    lines,
    log_ticks,
    marks,
    panels,
    use_style,
)
