"""Radiographs in figures: alone, in a row, and a contact sheet of the phantom's signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from chexlib.findings import FINDINGS, INFO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = ["contact_sheet", "film", "films"]

OUTLINE = "#56b4e9"


def film(
    ax: Axes,
    image: ArrayLike,
    *,
    title: str = "",
    mask: ArrayLike | None = None,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    colour: str = OUTLINE,
) -> None:
    """Show a radiograph.

    Parameters
    ----------
    ax : Axes
    image : array_like [H, W]
        Grey values from 0 to 255; dense is bright.
    title : str
    mask : array_like of bool [H, W], optional
        Drawn as an outline.
    boxes : sequence of (x, y, width, height)
        In pixels of this image.
    colour : str
        Of outlines and boxes.
    """
    image = np.asarray(image)
    ax.set_label("film")
    ax.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="lanczos")
    ax.set_title(title, fontsize=8, pad=3)
    ax.set_axis_off()
    if mask is not None and np.any(mask):
        ax.contour(np.asarray(mask, float), levels=[0.5], colors=[colour], linewidths=1)
    for x, y, width, height in boxes:
        ax.add_patch(
            plt.Rectangle((x - 0.5, y - 0.5), width, height, fill=False, color=colour, lw=1)
        )


def films(
    images: Mapping[str, ArrayLike], *, columns: int = 4, width: float = 8.6, **options: object
) -> Figure:
    """Show radiographs with their titles.

    Parameters
    ----------
    images : mapping of title to array [H, W]
    columns : int
    width : float
        Inches.
    **options
        For :func:`film`, the same for all.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * (width / columns + 0.2)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(images) :]:
        ax.remove()
    for ax, (title, image) in zip(axes.flat, images.items(), strict=False):
        film(ax, image, title=title, **options)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure


def contact_sheet(
    *,
    findings: Sequence[str] = FINDINGS,
    severity: float = 0.75,
    view: str = "PA",
    first: int = 1,
    size: int = 256,
    columns: int = 4,
    width: float = 8.6,
) -> Figure:
    """Show simulated patients in pairs: healthy, and the same film with one finding, outlined.

    Parameters
    ----------
    findings : sequence of str
    severity : float
        Above 0 to 1.
    view : {"PA", "AP"}
    first : int
        Number of the first patient; each finding has its own.
    size : int
        Pixels a side of each film.
    columns : int
        Findings side by side.
    width : float
        Inches.
    """
    from chexlib.data.phantom import Film, render

    columns = min(columns, len(findings))
    rows = -(-len(findings) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width, rows * (width / columns / 2 + 0.22)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(findings) :]:
        ax.remove()
    for k, (ax, finding) in enumerate(zip(axes.flat, findings, strict=False)):
        person = {"patient": first + k, "view": view, "sex": "MF"[k % 2], "age": 35 + 3 * k}
        healthy = render(Film(**person), size=size)
        sick = render(Film(**person, severity={finding: severity}), size=size)
        both = np.hstack([healthy.image, sick.image])
        mask = np.hstack([np.zeros_like(sick.masks[finding]), sick.masks[finding]])
        film(ax, both, title=INFO[finding].english, mask=mask)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    return figure
