"""What figures need inside a notebook: to be small."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["keep_figures_small", "palette_png", "photograph"]


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


def photograph(png: bytes) -> bytes:
    """Return a picture as JPEG: a figure made of radiographs is a fifth as large, and as sharp.

    Parameters
    ----------
    png : bytes
        An opaque picture.
    """
    from PIL import Image

    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.save(out, "jpeg", quality=82, subsampling=0, optimize=True)
    return out.getvalue()


def keep_figures_small() -> None:
    """Store the figures of this notebook with a palette, and films as JPEG.

    Outside a notebook it does nothing.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    import matplotlib.pyplot as plt
    from IPython.core.pylabtools import print_figure
    from matplotlib.figure import Figure

    plt.switch_backend(plt.get_backend())  # otherwise the first figure would install its own

    def films(figure: Figure) -> bool:
        """Whether it shows radiographs: :func:`chexlib.plots.film` marks them."""
        return any(ax.get_label() == "film" for ax in figure.axes)

    def as_png(figure: Figure) -> bytes | None:
        png = None if films(figure) else print_figure(figure, fmt="png", bbox_inches="tight")
        return palette_png(png) if png else None

    def as_jpeg(figure: Figure) -> bytes | None:
        png = print_figure(figure, fmt="png", bbox_inches="tight") if films(figure) else None
        return photograph(png) if png else None

    shell.display_formatter.formatters["image/png"].for_type(Figure, as_png)
    shell.display_formatter.formatters["image/jpeg"].for_type(Figure, as_jpeg)
