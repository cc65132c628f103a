"""Heat maps over radiographs: strong is opaque, weak is clear, and a bar says what colour means.

The colour map is ``plasma``: even steps of the map are even steps to the eye, in grey and for
colour-blind readers too, and no step of it is grey like the film. Rainbows such as jet draw edges
where the map has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import Normal, Stroke

from chexlib.findings import INFO
from chexlib.plots.films import film

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import ArrayLike, NDArray

    from chexlib.interpret.film import Explanation

__all__ = ["COLOURS", "colour_bar", "explanation", "heat_maps", "overlay", "overlay_picture"]

COLOURS = "plasma"
ALPHA = 0.65
BOX, TRUE_BOX = "#ffffff", "#56b4e9"
_SIDE = 512  # pixels of a film in a figure: as many as a page shows


def _limits(heat: NDArray, limits: tuple[float, float] | None) -> tuple[float, float]:
    low, high = (float(heat.min()), float(heat.max())) if limits is None else limits
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"Expected limits with low <= high, both finite, got {low} and {high}.")
    return low, high if high > low else low + 1  # a constant map is clear everywhere


def _layer(heat: NDArray, limits: tuple[float, float], alpha: float) -> NDArray[np.float64]:
    """Return red, green, blue and opacity, in [0, 1]."""
    strength = np.clip((heat - limits[0]) / (limits[1] - limits[0]), 0, 1)
    layer = mpl.colormaps[COLOURS](strength)
    layer[..., 3] = alpha * strength
    return layer


def overlay(
    ax: Axes,
    image: ArrayLike,
    heat: ArrayLike,
    *,
    limits: tuple[float, float] | None = None,
    alpha: float = ALPHA,
    title: str = "",
    boxes: Sequence[tuple[float, float, float, float]] = (),
    truth: Sequence[tuple[float, float, float, float]] = (),
) -> AxesImage:
    """Show a radiograph with a heat map on it.

    Parameters
    ----------
    ax : Axes
    image : array_like uint8 [H, W]
    heat : array_like [H, W]
        Enlarged to the image: :func:`chexlib.interpret.to_pixels`.
    limits : (float, float), optional
        Values that are clear and that are strongest; what is beyond is cut. By default the map's
        own range, which makes every map look sure of something: give limits to compare maps.
    alpha : float
        Opacity of the strongest.
    title : str
    boxes, truth : sequence of (x, y, width, height)
        In pixels of the image; drawn solid and white, and dashed and blue.

    Returns
    -------
    AxesImage
        For :func:`colour_bar`.

    Raises
    ------
    ValueError
        If the shapes differ or the limits are none.
    """
    image, heat = np.asarray(image), np.asarray(heat, float)
    if image.shape != heat.shape or image.ndim != 2:
        raise ValueError(
            f"Expected an image and a map of one shape [H, W], got {image.shape} and {heat.shape}. "
            "Enlarge the map: chexlib.interpret.to_pixels."
        )
    limits = _limits(heat, limits)
    film(ax, image, title=title)
    ax.imshow(_layer(heat, limits, alpha), interpolation="bilinear")
    for these, colour, style in ((boxes, BOX, "-"), (truth, TRUE_BOX, "--")):
        for x, y, width, height in these:
            corner = (x - 0.5, y - 0.5)
            look = {"fill": False, "edgecolor": colour, "linestyle": style, "linewidth": 1.4}
            dark = [Stroke(linewidth=3, foreground="#000000", alpha=0.6), Normal()]
            box = plt.Rectangle(corner, width, height, path_effects=dark, **look)
            ax.add_patch(box)
    # What the bar is of: the layer itself has colours, no values.
    shown = ax.imshow(heat, cmap=_on_grey(alpha), vmin=limits[0], vmax=limits[1])
    shown.set_visible(False)
    return shown


def _on_grey(alpha: float) -> ListedColormap:
    """Return the colours that an overlay has on mid grey."""
    layer = _layer(np.linspace(0, 1, 256), (0, 1), alpha)
    opacity = layer[:, 3:]
    return ListedColormap((1 - opacity) * 0.5 + opacity * layer[:, :3], name=f"{COLOURS} on grey")


def colour_bar(shown: AxesImage, ax: Axes | Sequence[Axes], *, label: str) -> Colorbar:
    """Draw the bar of an overlay, in the colours that it has on mid grey.

    Parameters
    ----------
    shown : AxesImage
        From :func:`overlay`.
    ax : Axes or several
        Beside which it stands.
    label : str
        What the values are, with their unit.
    """
    figure = (ax if hasattr(ax, "figure") else np.ravel(ax)[0]).figure
    bar = figure.colorbar(shown, ax=ax, label=label, shrink=0.85, pad=0.02)
    bar.ax.set_label("colour bar")
    bar.outline.set_visible(False)
    return bar


def heat_maps(
    image: ArrayLike,
    maps: Mapping[str, ArrayLike],
    *,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
    columns: int = 4,
    width: float = 8.6,
    boxes: Mapping[str, Sequence[tuple[float, float, float, float]]] | None = None,
    truth: Sequence[tuple[float, float, float, float]] = (),
) -> Figure:
    """Show one film with several maps, side by side.

    Parameters
    ----------
    image : array_like uint8 [H, W]
    maps : mapping of title to array [H, W]
    limits : (float, float), optional
        Of all maps; by default each map has its own, and there is no bar.
    label : str, optional
        Of the bar, which is drawn where limits are given.
    columns : int
    width : float
        Inches.
    boxes : mapping of title to boxes, optional
    truth : sequence of (x, y, width, height)
        Drawn on all.
    """
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * (width / columns + 0.25)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(maps) :]:
        ax.remove()
    for ax, (title, heat) in zip(axes.flat, maps.items(), strict=False):
        found = (boxes or {}).get(title, ())
        shown = overlay(ax, image, heat, limits=limits, title=title, boxes=found, truth=truth)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    if limits is not None:
        colour_bar(shown, list(axes.flat[: len(maps)]), label=label or "value of the map")
    return figure


def overlay_picture(
    image: NDArray[np.uint8],
    heat: NDArray,
    *,
    limits: tuple[float, float] | None = None,
    alpha: float = ALPHA,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    text: str = "",
) -> NDArray[np.uint8]:
    """Return a radiograph with a heat map on it, pixel for pixel.

    Parameters
    ----------
    image : uint8 array [H, W]
    heat : array [H, W]
    limits, alpha
        As for :func:`overlay`.
    boxes : sequence of (x, y, width, height)
        Drawn white.
    text : str
        ASCII, written in the lower left corner, on black.

    Returns
    -------
    uint8 array [H, W, 3]
        Red, green, blue.
    """
    import cv2

    heat = np.asarray(heat, float)
    if image.shape != heat.shape:
        raise ValueError(
            f"Expected an image and a map of one shape, got {image.shape} and {heat.shape}."
        )
    layer = _layer(heat, _limits(heat, limits), alpha)
    opacity = layer[..., 3:]
    mixed = (1 - opacity) * image[..., None].astype(float) + 255 * opacity * layer[..., :3]
    picture = np.ascontiguousarray(np.round(mixed).astype(np.uint8))
    thick = max(1, round(min(image.shape) / 400))
    for x, y, width, height in boxes:
        first = (round(x), round(y))
        last = (round(x + width) - 1, round(y + height) - 1)
        cv2.rectangle(picture, first, last, (255, 255, 255), thick)
    if text:
        _write(picture, text)
    return picture


def _write(picture: NDArray[np.uint8], text: str) -> None:
    """Write a line as wide as half of the picture at most, at the lower left."""
    import cv2

    font = cv2.FONT_HERSHEY_SIMPLEX
    height, width = picture.shape[:2]
    (wide, _), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(0.5 * width / wide, height / 1000)
    thick = max(1, round(2 * scale))
    (wide, high), below = cv2.getTextSize(text, font, scale, thick)
    picture[height - high - 2 * below - 2 :, : wide + 2 * below] = 0
    place = (below, height - below - 1)
    cv2.putText(picture, text, place, font, scale, (255, 255, 255), thick, cv2.LINE_AA)


def explanation(
    pixels: NDArray[np.uint8], explained: Explanation, *, prevalence: float | None = None
) -> Figure:
    """Show a film beside its first finding's map, with probability, boxes and bar.

    The bar begins at 0: what does not speak for the finding is clear, and a map that nowhere does
    shows the film alone.

    Parameters
    ----------
    pixels : uint8 array [H, W]
        The film.
    explained : Explanation
        Of :func:`chexlib.interpret.explain_film`; its first finding is shown.
    prevalence : float, optional
        Named beside the probability, so that 0.01 is read against 0.002 or 0.2.
    """
    import cv2

    name = explained.findings[0]
    share = min(1.0, _SIDE / max(pixels.shape))
    shape = tuple(max(1, round(side * share)) for side in pixels.shape)
    small = cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_AREA)
    heat = cv2.resize(explained.heat[0], shape[::-1], interpolation=cv2.INTER_AREA)
    figure, axes = plt.subplots(
        1, 2, figsize=(8.6, 4.2 * max(1.0, shape[0] / shape[1])), layout="constrained"
    )
    film(axes[0], small, title="the film")
    said = f"{INFO[name].english}: probability {explained.probabilities[name]:.3f}"
    if prevalence is not None:
        said += f" (prevalence {prevalence:.3f})"
    if explained.preparation.ten_crop:
        said += " (ten crops)"
    boxes = explained.boxes[name] * share
    limits = (0.0, max(float(explained.heat[0].max()), 0.0))
    shown = overlay(axes[1], small, heat, boxes=boxes, title=said, limits=limits)
    unit = "added to the logit" if explained.method == "cam" else "value of the map"
    colour_bar(shown, axes[1], label=f"{explained.method}: {unit}")
    figure.suptitle("Not for clinical use", fontsize=9, x=0.01, ha="left")
    return figure
