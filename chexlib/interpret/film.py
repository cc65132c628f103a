"""One film, explained: probabilities, maps at the film's size, and boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chexlib.findings import FINDINGS
from chexlib.inference import Preparation
from chexlib.interpret.attribution import attribute, cell_places, to_pixels
from chexlib.interpret.boxes import heat_boxes, to_levels
from chexlib.interpret.cam import maps_and_logits
from chexlib.interpret.inside import rows_of
from chexlib.interpret.maps import positive
from chexlib.models.chexnet import CheXNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Explanation", "explain_film"]

_BOX_SIDE = 512  # boxes are drawn on a map of this size: a film of 9 megapixels has no finer ones


@dataclass(frozen=True)
class Explanation:
    """What a network makes of a film, and where.

    Attributes
    ----------
    findings : tuple of str
        F of them.
    probabilities, logits : dict of str to float
        Of all 14 findings, as ``chexlib predict`` gives them; see :mod:`chexlib.inference` for what
        the logit of ten crops is.
    map_logits : dict of str to float
        Of all 14 findings: the network's logits of what the maps are of, the whole film in one
        view. Other ones than ``logits`` only where those are of ten crops.
    maps : float32 array [F, h, w]
        As the method gives them, of the whole film in one view.
    heat : float32 array [F, H, W]
        At the size of the film.
    boxes : dict of str to float64 array [K, 4]
        x, y, width, height in pixels of the film, the hottest first; of what speaks for the
        finding, so that there is none where nothing does.
    peaks : dict of str to (float, float)
        x and y of the hottest place, in pixels of the film.
    method, cut : str or int
    preparation : Preparation
        How the film came to the network.
    """

    findings: tuple[str, ...]
    probabilities: dict[str, float]
    logits: dict[str, float]
    map_logits: dict[str, float]
    maps: NDArray[np.float32]
    heat: NDArray[np.float32]
    boxes: dict[str, NDArray[np.float64]]
    peaks: dict[str, tuple[float, float]]
    method: str
    cut: str | int
    preparation: Preparation


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

    The film is brought to the network as in its training, and the map is enlarged to the film.

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
        Pixels a side for the network, as for :meth:`chexlib.inference.Preparation.of`. By default
        those it was trained on, as far as its checkpoint says, or 224.
    cut : {"wang", 60, 180, "otsu"} or int
        As for :func:`chexlib.interpret.heat_boxes`, of the map without its negative values. A box
        is drawn around what is hottest, however small the probability is.

    Returns
    -------
    Explanation

    Raises
    ------
    ValueError
        If the film is not uint8 [H, W], the network no CheXNet, or an option does not fit.
    """
    if not isinstance(model, CheXNet):
        raise ValueError(
            f"Expected a CheXNet, got {type(model).__name__}. load_checkpoint makes one of the "
            "weights that people have; for maps of any network: class_activation_maps."
        )
    preparation = Preparation.of(model, size=size)
    device = next(model.parameters()).device
    batcher = preparation.batcher(preparation.shrunk(pixels)[None], device=device)
    images = batcher([0])
    view = maps_and_logits(model, images)
    logits = view.logits
    if preparation.ten_crop:
        logits = preparation.logits(model, batcher, [0])
    logits, seen = logits[0].double(), view.logits[0].double()
    if isinstance(findings, int):
        if not 1 <= findings <= len(FINDINGS):
            raise ValueError(f"Expected 1 to {len(FINDINGS)} findings, got {findings}.")
        rows = logits.argsort(descending=True)[:findings].tolist()
    else:
        rows = rows_of(findings, model)
    names = tuple(FINDINGS[row] for row in rows)
    maps = view.maps[:, rows]
    if method != "cam" or options:
        maps = attribute(model, images, rows, method=method, **options)
    maps = maps[0].cpu().numpy()
    place = {"method": method, "input_size": preparation.size}
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
        dict(zip(FINDINGS, logits.sigmoid().tolist(), strict=True)),
        dict(zip(FINDINGS, logits.tolist(), strict=True)),
        dict(zip(FINDINGS, seen.tolist(), strict=True)),
        maps,
        heat,
        boxes,
        peaks,
        method,
        cut,
        preparation,
    )
