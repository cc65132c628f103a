"""What figures need inside a notebook: to be small."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["keep_figures_small", "palette_png"]


def palette_png(png: bytes) -> bytes:
    """Return a PNG of at most 256 colours: about a third of the size, and no difference to see.

    Parameters
    ----------
    png : bytes
        An opaque picture; a chart has few colours, a photograph many.

    Returns
    -------
    bytes
        The smaller of the two.
    """
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    # The ground, the most frequent colour, is kept as it is: it has to match the page.
    ground = max(few.getcolors())[1]
    palette = few.getpalette()
    palette[3 * ground : 3 * ground + 3] = max(picture.getcolors(picture.width * picture.height))[1]
    few.putpalette(palette)
    out = io.BytesIO()
    few.save(out, "png", optimize=True)
    return min(out.getvalue(), png, key=len)


def keep_figures_small() -> None:
    """Store the figures of this notebook with a palette; outside a notebook, do nothing."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    import matplotlib.pyplot as plt
    from IPython.core.pylabtools import print_figure
    from matplotlib.figure import Figure

    plt.switch_backend(plt.get_backend())  # otherwise the first figure would install its own

    def render(figure: Figure) -> bytes | None:
        png = print_figure(figure, fmt="png", bbox_inches="tight")
        return palette_png(png) if png else None

    shell.display_formatter.formatters["image/png"].for_type(Figure, render)
