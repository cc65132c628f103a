"""One film, explained: probabilities, maps at the film's size, and boxes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from chexlib.data.batches import Batcher
from chexlib.data.cache.workers import resized
from chexlib.findings import FINDINGS
from chexlib.interpret.attribution import attribute, cell_places, to_pixels
from chexlib.interpret.boxes import heat_boxes, to_levels
from chexlib.interpret.inside import rows_of
from chexlib.interpret.maps import positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from chexlib.models.chexnet import CheXNet

__all__ = ["Explanation", "explain_film", "trained_size"]

_BOX_SIDE = 512  # boxes are drawn on a map of this size: a film of 9 megapixels has no finer ones


def trained_size(model: CheXNet, *, default: int = 224) -> int:
    """Return the pixels a side that a checkpoint of this project says it was trained on.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> trained_size(CheXNet(growth_rate=12))
    224
    """
    try:
        recipe = json.loads(model.provenance["metadata"]["recipe"])
        return int(recipe["size"])
    except (KeyError, TypeError, ValueError):
        return default  # a file of somebody else's, which does not say: as in CheXNet


@dataclass(frozen=True)
class Explanation:
    """What a network makes of a film, and where.

    Attributes
    ----------
    findings : tuple of str
        F of them.
    probabilities, logits : dict of str to float
        Of all 14 findings.
    maps : float32 array [F, h, w]
        As the method gives them.
    heat : float32 array [F, H, W]
        At the size of the film.
    boxes : dict of str to float64 array [K, 4]
        x, y, width, height in pixels of the film, the hottest first; of what speaks for the
        finding, so that there is none where nothing does.
    peaks : dict of str to (float, float)
        x and y of the hottest place, in pixels of the film.
    method, cut : str or int
    size : int
        Pixels a side that the network saw.
    """

    findings: tuple[str, ...]
    probabilities: dict[str, float]
    logits: dict[str, float]
    maps: NDArray[np.float32]
    heat: NDArray[np.float32]
    boxes: dict[str, NDArray[np.float64]]
    peaks: dict[str, tuple[float, float]]
    method: str
    cut: str | int
    size: int


def explain_film(
    model: CheXNet,
    pixels: NDArray[np.uint8],
    findings: str | Sequence[str] | int = 3,
    *,
    method: str = "cam",
    size: int | None = None,
    cut: str | int = 180,
    **options: object,
) -> Explanation:
    """Explain a film of any size.

    The film is shrunk to a square as training films are, and the map is enlarged to the film.

    Parameters
    ----------
    model : CheXNet
    pixels : uint8 array [H, W]
        As :func:`chexlib.data.read_radiograph` gives them.
    findings : str, sequence of str, or int
        Which; or so many that the network finds most probable.
    method, **options
        As for :func:`chexlib.interpret.attribute`.
    size : int, optional
        Pixels a side for the network, at least 32. By default those it was trained on, as far as
        its checkpoint says, or 224.
    cut : {"wang", 60, 180, "otsu"} or int
        As for :func:`chexlib.interpret.heat_boxes`, of the map without its negative values. A box
        is drawn around what is hottest, however small the probability is.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        If the film is not uint8 [H, W], or an option does not fit.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise ValueError(
            f"Expected a film as uint8 [H, W], got {pixels.dtype} {list(pixels.shape)}. "
            "Read it with chexlib.data.read_radiograph."
        )
    size = trained_size(model) if size is None else size
    if size < 32:
        raise ValueError(f"Expected a size from 32 px up, got {size}.")
    device = next(model.parameters()).device
    images = Batcher(resized(pixels, size)[None], device=device)([0])
    probable = model.predict_proba(images)[0].double()
    logits = torch.logit(probable)
    if isinstance(findings, int):
        if not 1 <= findings <= len(FINDINGS):
            raise ValueError(f"Expected 1 to {len(FINDINGS)} findings, got {findings}.")
        rows = probable.argsort(descending=True)[:findings].tolist()
    else:
        rows = rows_of(findings)
    names = tuple(FINDINGS[row] for row in rows)
    maps = attribute(model, images, names, method=method, **options)[0].cpu().numpy()
    place = {"method": method, "input_size": size}
    heat = to_pixels(maps, pixels.shape, **place)
    side = np.minimum(pixels.shape, _BOX_SIDE)
    drawn = to_levels(positive(to_pixels(maps, tuple(side.tolist()), **place)))
    scale = (np.array(pixels.shape) / side)[::-1]
    boxes = {
        name: heat_boxes(one, cut=cut) * np.tile(scale, 2)
        for name, one in zip(names, drawn, strict=True)
    }
    peaks = {}
    for name, one in zip(names, maps, strict=True):
        # Between cells a map is interpolated: it is hottest in the middle of a cell.
        cell = np.unravel_index(one.argmax(), one.shape)
        y, x = cell_places(cell, one.shape, pixels.shape, **place)
        peaks[name] = (x, y)
    return Explanation(
        names,
        dict(zip(FINDINGS, probable.tolist(), strict=True)),
        dict(zip(FINDINGS, logits.tolist(), strict=True)),
        maps,
        heat,
        boxes,
        peaks,
        method,
        cut,
        size,
    )
