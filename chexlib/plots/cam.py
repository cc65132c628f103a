"""Heat maps of several films side by side, and the cells of a map with their values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from chexlib.interpret.attribution import attribute, to_pixels
from chexlib.interpret.geometry import STRIDE, cell_centres
from chexlib.interpret.maps import positive
from chexlib.plots.heatmaps import colour_bar, overlay

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

    from chexlib.models.chexnet import CheXNet

__all__ = ["Picture", "cells", "method_heats", "pictures"]

LINE = "#ffffff"


class Picture(NamedTuple):
    """A film with a map on it.

    Attributes
    ----------
    image : array_like uint8 [H, W]
    heat : array_like [H, W], optional
        Without it the film is shown alone.
    truth : sequence of (x, y, width, height)
        In pixels of the image; drawn dashed and blue.
    """

    image: ArrayLike
    heat: ArrayLike | None = None
    truth: Sequence[tuple[float, float, float, float]] = ()


def pictures(
    shown: Mapping[str, Picture],
    *,
    limits: tuple[float, float] | None = None,
    label: str | None = None,
    columns: int = 3,
    width: float = 8.6,
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
    width : float
        Inches.

    Raises
    ------
    ValueError
        If there is no picture.
    """
    if not shown:
        raise ValueError("Expected at least one picture, got none.")
    columns = min(columns, len(shown))
    rows = -(-len(shown) // columns)
    lines = 1 + max(title.count("\n") for title in shown)
    size = (width, rows * (width / columns + 0.16 * lines))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    layer = None
    for ax, (title, one) in zip(axes.flat, shown.items(), strict=False):
        if one.heat is None:
            overlay(ax, one.image, np.zeros(np.shape(one.image)), title=title, truth=one.truth)
        else:
            look = {"limits": limits, "title": title, "truth": one.truth}
            layer = overlay(ax, one.image, one.heat, **look)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    if limits is not None and layer is not None:
        bar = colour_bar(layer, list(axes.flat[: len(shown)]), label=label or "value of the map")
        bar.ax.tick_params(labelsize=8)
    return figure


def cells(
    ax: Axes,
    image: ArrayLike,
    values: ArrayLike,
    *,
    input_size: int,
    stride: int = STRIDE,
    title: str = "",
    form: str = "{:+.1f}",
    truth: Sequence[tuple[float, float, float, float]] = (),
) -> None:
    """Show a film with the cells of a map where they are, and the value of each.

    Parameters
    ----------
    ax : Axes
    image : array_like uint8 [S, S]
    values : array_like [h, w]
    input_size : int
        Pixels a side that the network saw.
    stride : int
        Pixels of the network's input from cell to cell.
    title : str
    form : str
        How a value is written.
    truth : sequence of (x, y, width, height)
        In pixels of the image; drawn dashed and blue.
    """
    image, values = np.asarray(image), np.asarray(values)
    scale = image.shape[0] / input_size
    overlay(ax, image, np.zeros(image.shape), title=title, truth=truth)
    down, across = (cell_centres(n, stride=stride) * scale for n in values.shape)
    side = stride * scale
    for i, y in enumerate(down):
        for j, x in enumerate(across):
            corner = (x - side / 2 - 0.5, y - side / 2 - 0.5)
            look = {"fill": False, "edgecolor": LINE, "linewidth": 0.8, "alpha": 0.8}
            ax.add_patch(plt.Rectangle(corner, side, side, **look))
            number = form.format(values[i, j]).replace("-", "\N{MINUS SIGN}")
            back = {"facecolor": "#000000", "alpha": 0.6, "linewidth": 0, "pad": 1.5}
            ax.text(x, y, number, color=LINE, fontsize=8, ha="center", va="center", bbox=back)
    ax.set_xlim(-0.5, image.shape[1] - 0.5)
    ax.set_ylim(image.shape[0] - 0.5, -0.5)


def method_heats(
    model: CheXNet,
    images: torch.Tensor,
    finding: str,
    methods: Mapping[str, str],
    *,
    size: int,
) -> dict[str, NDArray]:
    """Return what speaks for a finding by several methods, cut at 0 and then enlarged.

    Parameters
    ----------
    model : CheXNet
    images : Tensor float32 [1, 3, S, S]
        One film.
    finding : str
    methods : mapping of title to method
        Of :data:`chexlib.interpret.METHODS`.
    size : int
        Pixels a side of the maps.

    Returns
    -------
    dict of title to float32 array [size, size]
        From 0 up, in units of the method; of ``copied`` as it is.
    """
    heats = {}
    for title, method in methods.items():
        found = attribute(model, images, finding, method=method)[0, 0].cpu().numpy()
        place = {"method": method, "input_size": images.shape[-1]}
        if method != "copied":  # whose zero means nothing
            found = positive(found)
        heats[title] = to_pixels(found, size, **place)
    return heats
