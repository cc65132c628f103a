"""In which format a figure leaves a notebook.

A notebook keeps PNG with a palette, and films as JPEG: small, and ignored where outputs are
compared. The site has SVG, which is sharp on every screen. :mod:`chexlib.sphinxext` asks for it by
setting ``CHEXLIB_FIGURES`` while it runs the notebooks.

A page links to its pictures, and a picture cannot see the page's colours; but the browser tells it
whether the page around it is light or dark. Each SVG carries the colours of both, and draws its own
ground in the colour of the page: it is legible where a browser does not tell.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What chexlib.plots.style draws with, and what a light page and a dark one show. Data keep theirs.
COLOURS = {
    "#fbfaf7": ("#ffffff", "#121212"),  # the ground
    "#2b2b2b": ("#2b2b2b", "#d7dce1"),  # text
    "#737373": ("#737373", "#9ea5ad"),  # controls
    "#e3e1db": ("#e3e1db", "#383838"),  # grid
    "#cfe3f1": ("#cfe3f1", "#1d3b52"),  # tints behind text
    "#f7dcc8": ("#f7dcc8", "#4d3223"),
}
FONTS = "system-ui,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"  # of the page


def register() -> None:
    """Make this notebook store its figures in these formats; do nothing outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    plt.switch_backend(plt.get_backend())  # otherwise the first figure would install its own
    site = os.environ.get("CHEXLIB_FIGURES") == "svg"
    kinds = {
        "image/png": partial(_bitmap, photographs=False),
        "image/jpeg": partial(_bitmap, photographs=True),
        "image/svg+xml": _drawing,
    }
    for kind, stored in kinds.items():
        wanted = site == (kind == "image/svg+xml")
        shell.display_formatter.formatters[kind].for_type(Figure, stored if wanted else _nothing)


def _nothing(_: Figure) -> None:
    """Store no picture of this kind."""


def _bitmap(figure: Figure, *, photographs: bool) -> bytes | None:
    # `chexlib.plots.images.film` marks the axes that show radiographs.
    if photographs != any(ax.get_label() == "film" for ax in figure.axes):
        return None
    from IPython.core.pylabtools import print_figure

    png = print_figure(figure, fmt="png", bbox_inches="tight")
    return _photograph(png) if photographs else palette_png(png)


def _drawing(figure: Figure) -> str:
    """Return a figure as SVG, its bitmaps with two pixels for one of the page."""
    import matplotlib as mpl
    from IPython.core.pylabtools import print_figure

    none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "chexlib"}):
        return print_figure(figure, fmt="svg", dpi=192, metadata=none)


def page_svg(svg: str) -> str:
    """Return a figure as a page shows it: in the page's font and colours, and lighter.

    Words are laid out in DejaVu Sans, which is as wide as any font of a page or wider.

    Parameters
    ----------
    svg : str
        As matplotlib writes it; any other drawing is returned as it is.
    """
    if "<style type=" not in svg or "prefers-color-scheme" in svg:
        return svg
    svg = re.sub(r"data:image/png;base64,([^\"]+)", _embedded, svg)
    svg = re.sub(r"<!--.*?-->|<!DOCTYPE[^>]*>", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    svg = re.sub(r' transform="rotate\(-0 [^"]*"| font-family: [^;"]*;|(?<=<g) id="[^"]*"', "", svg)
    svg = re.sub(r"(?<![\d.])([1-9]\d*\.\d)\d+", r"\1", svg)  # a tenth of a point is enough
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"\s*([A-Za-z])\s+", r"\1", path[0]), svg)
    return re.sub(r"<style.*?</style>", _style, svg, count=1, flags=re.DOTALL)


def _embedded(found: re.Match) -> str:
    """Return a film inside an SVG as WebP, half as large as a JPEG, and a matrix as exact PNG."""
    from PIL import Image

    png = base64.b64decode(found[1])
    picture = Image.open(io.BytesIO(png))
    if picture.mode == "RGBA" and picture.getextrema()[3][0] < 255:
        return found[0]
    picture = picture.convert("RGB")
    if picture.getcolors(64):
        return f"data:image/png;base64,{base64.b64encode(palette_png(png)).decode()}"
    out = io.BytesIO()
    picture.save(out, "webp", quality=50, method=6)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def _style(found: re.Match) -> str:
    """Add the page's font and the colours of both pages to matplotlib's style sheet."""
    drawn = found.string[found.end() :]

    def rules(page: int) -> str:
        return "".join(
            f'[style*="{what}: {colour}"]{{{what}:{pair[page]} !important}}'
            for colour, pair in COLOURS.items()
            for what in ("fill", "stroke")
            if pair[page] != colour and f"{what}: {colour}" in drawn
        )

    font = f"text{{font-family:{FONTS}}}"
    dark = f"@media (prefers-color-scheme:dark){{{rules(1)}}}"
    return found[0].replace("</style>", f"{font}{rules(0)}{dark}</style>")


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


def _photograph(png: bytes) -> bytes:
    """Return a picture as JPEG: a figure made of radiographs is a fifth as large, and as sharp."""
    from PIL import Image

    out = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.save(out, "jpeg", quality=82, subsampling=0, optimize=True)
    return out.getvalue()
