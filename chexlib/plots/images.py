"""Radiographs in figures: alone, in rows, with heat maps on them, and a sheet of simulated signs.

In a heat map strong is opaque, weak is clear, and a bar says what colour means. The colour map is
``plasma``: even steps of the map are even steps to the eye, in grey and for colour-blind readers
too, and no step of it is grey like the film. Rainbows such as jet draw edges where there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import Normal, Stroke

from chexlib.findings import FINDINGS, describe
from chexlib.plots.style import panels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from numpy.typing import ArrayLike, NDArray

    from chexlib.interpret import Explanation

    Boxes = Sequence[tuple[float, float, float, float]]

COLOURS = "plasma"
ALPHA = 0.65
BOX, TRUE_BOX = "#ffffff", "#56b4e9"
_SIDE = 512  # pixels of a film in a figure: as many as a page shows


def film(ax: Axes, image: ArrayLike, *, title: str = "", mask: ArrayLike | None = None) -> None:
    """Show a radiograph.

    Parameters
    ----------
    ax : Axes
    image : array_like [H, W]
        Grey values from 0 to 255; dense is bright.
    title : str
    mask : array_like of bool [H, W], optional
        Drawn as an outline.
    """
    image = np.asarray(image)
    ax.set_label("film")
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    ax.set_title(title, fontsize=8, pad=3)
    ax.set_axis_off()
    if mask is not None and np.any(mask):
        ax.contour(np.asarray(mask, float), levels=[0.5], colors=[TRUE_BOX], linewidths=1)


def _sheet(
    n: int, *, columns: int, width: float, gap: float, aspect: float = 1
) -> tuple[Figure, list[Axes]]:
    """Return panels close together, for images of an aspect with so many inches of title above."""
    columns = min(columns, n)
    figure, axes = panels(
        n, columns=columns, width=width, height=width / columns * aspect + gap, layout="constrained"
    )
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure, axes


def films(images: Mapping[str, ArrayLike], *, columns: int = 4, width: float = 8.6) -> Figure:
    """Show radiographs with their titles.

    Parameters
    ----------
    images : mapping of title to array [H, W]
    columns : int
    width : float
        Inches.
    """
    figure, axes = _sheet(len(images), columns=columns, width=width, gap=0.2)
    for ax, (title, image) in zip(axes, images.items(), strict=True):
        film(ax, image, title=title)
    return figure


def contact_sheet(
    *, findings: Sequence[str] = FINDINGS, size: int = 256, columns: int = 4, width: float = 8.6
) -> Figure:
    """Show simulated patients in pairs: healthy, and the same film with one finding, outlined.

    Each finding has a patient of its own and a severity of 0.75.

    Parameters
    ----------
    findings : sequence of str
    size : int
        Pixels a side of each film.
    columns : int
        Findings side by side.
    width : float
        Inches.
    """
    from chexlib.data.phantom import Film, render

    figure, axes = _sheet(len(findings), columns=columns, width=width, gap=0.22, aspect=0.5)
    for k, (ax, finding) in enumerate(zip(axes, findings, strict=True)):
        person = {"patient": 1 + k, "view": "PA", "sex": "MF"[k % 2], "age": 35 + 3 * k}
        healthy = render(Film(**person), size=size)
        sick = render(Film(**person, severity={finding: 0.75}), size=size)
        both = np.hstack([healthy.image, sick.image])
        mask = np.hstack([np.zeros_like(sick.masks[finding]), sick.masks[finding]])
        film(ax, both, title=describe(finding).english, mask=mask)
    return figure


def _checked(
    image: ArrayLike, heat: ArrayLike, limits: tuple[float, float] | None
) -> tuple[NDArray, NDArray[np.float64], tuple[float, float]]:
    image, heat = np.asarray(image), np.asarray(heat, float)
    if image.shape != heat.shape or image.ndim != 2:
        raise ValueError(
            f"Expected an image and a map of one shape [H, W], got {image.shape} and {heat.shape}. "
            "Enlarge the map: chexlib.interpret.HeatMap."
        )
    low, high = (float(heat.min()), float(heat.max())) if limits is None else limits
    if not (np.isfinite([low, high]).all() and low <= high):
        raise ValueError(f"Expected limits with low <= high, both finite, got {low} and {high}.")
    # A constant map is clear everywhere.
    return image, heat, (low, high if high > low else low + 1)


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
    title: str = "",
    boxes: Boxes = (),
    truth: Boxes = (),
) -> AxesImage:
    """Show a radiograph with a heat map on it.

    Parameters
    ----------
    ax : Axes
    image : array_like uint8 [H, W]
    heat : array_like [H, W]
        Enlarged to the image: :meth:`chexlib.interpret.HeatMap.pixels`.
    limits : (float, float), optional
        Values that are clear and that are strongest; what is beyond is cut. By default the map's
        own range, which makes every map look sure of something: give limits to compare maps.
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
        If the shapes differ, or limits are not finite or fall.
    """
    image, heat, limits = _checked(image, heat, limits)
    film(ax, image, title=title)
    ax.imshow(_layer(heat, limits, ALPHA), interpolation="bilinear")
    dark = [Stroke(linewidth=3, foreground="#000000", alpha=0.6), Normal()]
    for these, colour, style in ((boxes, BOX, "-"), (truth, TRUE_BOX, "--")):
        look = {"fill": False, "edgecolor": colour, "linestyle": style, "linewidth": 1.4}
        for x, y, width, height in these:
            corner = (x - 0.5, y - 0.5)
            ax.add_patch(plt.Rectangle(corner, width, height, path_effects=dark, **look))
    # What the bar is of: the layer itself has colours, no values. Here they are those on mid grey.
    ramp = _layer(np.linspace(0, 1, 256), (0, 1), ALPHA)
    opacity = ramp[:, 3:]
    on_grey = ListedColormap((1 - opacity) * 0.5 + opacity * ramp[:, :3], name="on grey")
    # Without interpolation, since an SVG mixes images that have one, whether they are seen or not.
    bounds = {"vmin": limits[0], "vmax": limits[1]}
    shown = ax.imshow(heat, cmap=on_grey, interpolation="none", **bounds)
    shown.set_visible(False)
    return shown


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
    bar = shown.figure.colorbar(shown, ax=ax, label=label, shrink=0.85, pad=0.02)
    bar.ax.set_label("colour bar")
    bar.outline.set_visible(False)
    return bar


class Picture(NamedTuple):
    """A film with a map on it.

    Attributes
    ----------
    image : array_like uint8 [H, W]
    heat : array_like [H, W], optional
        Without it the film is shown alone.
    truth, boxes : sequence of (x, y, width, height)
        In pixels of the image; drawn dashed and blue, and solid and white.
    """

    image: ArrayLike
    heat: ArrayLike | None = None
    truth: Boxes = ()
    boxes: Boxes = ()


def pictures(
    shown: Mapping[str, Picture],
    *,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
    columns: int = 3,
    width: float = 8.6,
    gap: float | None = None,
) -> Figure:
    """Show films with their maps, each its own.

    Parameters
    ----------
    shown : mapping of title to Picture
    limits : (float, float), optional
        Of all maps; by default each map has its own, and there is no bar.
    label : str, optional
        Of the bar, which is drawn where limits are given.
    columns : int
    width, gap : float
        Inches: of the figure, and of the titles above each row, by default as many as they need.

    Raises
    ------
    ValueError
        If there is no picture.
    """
    if not shown:
        raise ValueError("Expected at least one picture, got none.")
    gap = gap or 0.16 * (1 + max(title.count("\n") for title in shown))
    figure, axes = _sheet(len(shown), columns=columns, width=width, gap=gap)
    layer = None
    for ax, (title, one) in zip(axes, shown.items(), strict=True):
        boxes = {"title": title, "truth": one.truth, "boxes": one.boxes}
        if one.heat is None:
            overlay(ax, one.image, np.zeros(np.shape(one.image)), **boxes)
        else:
            layer = overlay(ax, one.image, one.heat, limits=limits, **boxes)
    if limits is not None and layer is not None:
        bar = colour_bar(layer, axes, label=label or "value of the map")
        bar.ax.tick_params(labelsize=8)
    return figure


def heat_maps(
    image: ArrayLike, maps: Mapping[str, ArrayLike], *, truth: Boxes = (), **options: object
) -> Figure:
    """Show one film with several maps, side by side.

    Parameters
    ----------
    image : array_like uint8 [H, W]
    maps : mapping of title to array [H, W]
    truth : sequence of (x, y, width, height)
        Drawn on all.
    **options
        For :func:`pictures`.
    """
    shown = {title: Picture(image, heat, truth) for title, heat in maps.items()}
    return pictures(shown, **{"gap": 0.25, **options})


def overlay_picture(
    image: NDArray[np.uint8],
    heat: NDArray,
    *,
    limits: tuple[float, float] | None = None,
    boxes: Boxes = (),
    text: str = "",
) -> NDArray[np.uint8]:
    """Return a radiograph with a heat map on it, pixel for pixel.

    Parameters
    ----------
    image : uint8 array [H, W]
    heat : array [H, W]
    limits
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

    image, heat, limits = _checked(image, heat, limits)
    layer = _layer(heat, limits, ALPHA)
    opacity = layer[..., 3:]
    mixed = (1 - opacity) * image[..., None].astype(float) + 255 * opacity * layer[..., :3]
    picture = np.ascontiguousarray(np.round(mixed).astype(np.uint8))
    thick = max(1, round(min(image.shape) / 400))
    for x, y, width, height in boxes:
        first = (round(x), round(y))
        last = (round(x + width) - 1, round(y + height) - 1)
        cv2.rectangle(picture, first, last, (255, 255, 255), thick)
    if text:  # as wide as half of the picture at most
        font = cv2.FONT_HERSHEY_SIMPLEX
        height, width = picture.shape[:2]
        (wide, _), _ = cv2.getTextSize(text, font, 1.0, 1)
        scale = min(0.5 * width / wide, height / 1000)
        thick = max(1, round(2 * scale))
        (wide, high), below = cv2.getTextSize(text, font, scale, thick)
        picture[height - high - 2 * below - 2 :, : wide + 2 * below] = 0
        place = (below, height - below - 1)
        cv2.putText(picture, text, place, font, scale, (255, 255, 255), thick, cv2.LINE_AA)
    return picture


def explanation(pixels: NDArray[np.uint8], explained: Explanation) -> Figure:
    """Show a film beside its first finding's map, with probability, boxes and bar.

    The bar begins at 0: what does not speak for the finding is clear, and a map that nowhere does
    shows the film alone.

    Parameters
    ----------
    pixels : uint8 array [H, W]
        The film.
    explained : Explanation
        Of :func:`chexlib.interpret.explain_film`; its first finding is shown.
    """
    import cv2

    name = explained.findings[0]
    share = min(1.0, _SIDE / max(pixels.shape))
    high, wide = (max(1, round(side * share)) for side in pixels.shape)
    small, heat = (
        cv2.resize(values, (wide, high), interpolation=cv2.INTER_AREA)
        for values in (pixels, explained.heat[0])
    )
    figure, axes = panels(
        2, columns=2, width=8.6, height=4.2 * max(1.0, high / wide), layout="constrained"
    )
    film(axes[0], small, title="the film")
    said = f"{describe(name).english}: probability {explained.probabilities[name]:.3f}"
    if explained.preparation.ten_crop:
        said += " (ten crops)"
    boxes = explained.boxes[name] * share
    limits = (0.0, max(float(explained.heat[0].max()), 0.0))
    shown = overlay(axes[1], small, heat, boxes=boxes, title=said, limits=limits)
    unit = "added to the logit" if explained.method == "cam" else "value of the map"
    colour_bar(shown, axes[1], label=f"{explained.method}: {unit}")
    figure.suptitle("Not for clinical use", fontsize=9, x=0.01, ha="left")
    return figure
