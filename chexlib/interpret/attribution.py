r"""Every method behind one call: class activation maps, and Captum's for comparison.

=========================  ================================================  ===========
method                     map                                               resolution
=========================  ================================================  ===========
``cam``                    what a position adds to the logit                 H/32, W/32
``gradcam``                the same, negative values cut, divided by hw      H/32, W/32
``layercam``, ``fine``     :mod:`chexlib.interpret.fine`                     H/16, W/16
``integrated_gradients``   what a pixel adds, from a blank film on           H, W
``smoothgrad``             size of the gradient, mean over noisy copies      H, W
``occlusion``              what the logit loses when a square is blank       H, W
``copied``                 the bug, :mod:`chexlib.interpret.copied_bug`      H/32, W/32
=========================  ================================================  ===========

Methods that look at pixels see the grey film in [0, 1], in one channel.

Grad-CAM++ is left out. Captum has none; the package that keeps one needs a second OpenCV; and it is
"practically equivalent to Grad-CAM with positive gradients" (Lerma and Lucas, arXiv:2205.10838). Of
this architecture that is the CAM computed with the positive weights of the head alone.

References
----------
Selvaraju et al., Grad-CAM, ICCV 2017. Sundararajan et al., Axiomatic attribution for deep networks,
ICML 2017. Smilkov et al., SmoothGrad, arXiv:1706.03825. Zeiler and Fergus, Visualizing and
understanding convolutional networks, ECCV 2014 (occlusion). Kokhlikyan et al., Captum,
arXiv:2009.07896.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from chexlib.interpret.cam import class_activation_maps, maps_of
from chexlib.interpret.captum_methods import (
    grad_cam,
    integrated_gradients,
    occlusion,
    smooth_grad,
)
from chexlib.interpret.copied_bug import copied_heat_maps
from chexlib.interpret.fine import FINE_STRIDE, fine_maps, layer_maps
from chexlib.interpret.geometry import STRIDE, cell_centres, upsample
from chexlib.interpret.inside import rows_of
from chexlib.interpret.localization import Heat
from chexlib.models.chexnet import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from chexlib.data.batches import Batcher
    from chexlib.models.chexnet import CheXNet

__all__ = ["METHODS", "attribute", "case_maps", "cell_places", "heat_of", "to_pixels"]

METHODS: dict[str, Callable[..., torch.Tensor]] = {
    "cam": lambda model, images, rows: class_activation_maps(model, images)[:, rows],
    "gradcam": grad_cam,
    "layercam": layer_maps,
    "fine": fine_maps,
    "integrated_gradients": integrated_gradients,
    "smoothgrad": smooth_grad,
    "occlusion": occlusion,
    "copied": lambda model, images, rows: copied_heat_maps(model, images)[:, rows],
}
_STRIDES = dict.fromkeys(("cam", "gradcam", "copied"), STRIDE) | dict.fromkeys(
    ("layercam", "fine"), FINE_STRIDE
)


def attribute(
    model: CheXNet,
    images: torch.Tensor,
    findings: str | int | Sequence[str | int] | None = None,
    *,
    method: str = "cam",
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> torch.Tensor:
    """Return heat maps of images for findings, by any method.

    Parameters
    ----------
    model : CheXNet, or another network
        Used as for testing, whatever mode it is in. Which others, see
        :func:`chexlib.interpret.class_activation_maps`; ``layercam``, ``fine`` and ``copied`` take
        DenseNets only. Methods of pixels say what a pixel does to whatever the network returns:
        logits, of a CheXNet.
    images : Tensor float32 [B, 1 or 3, H, W]
        Grey films as :class:`chexlib.data.Batcher` gives them.
    findings : str, int, or sequence of these, optional
        F of them, by name where the network names its outputs, or by position; all by default. All
        but ``cam`` and ``copied`` cost F times as much.
    method : str
        One of :data:`METHODS`; see :mod:`chexlib.interpret.attribution`.
    batch_size : int
        Images in the network at once, whatever B is and however many copies a method makes of each.
    progress : callable, optional
        Called with the numbers of images done and of all.
    **options
        Of the method: ``steps`` and ``baseline`` (integrated gradients), ``samples``, ``noise`` and
        ``seed`` (SmoothGrad), ``window``, ``stride`` and ``baseline`` (occlusion), ``how`` (fine).

    Returns
    -------
    Tensor float32 [B, F, h, w]
        In the resolution of the method; :func:`to_pixels` enlarges it.

    Raises
    ------
    ValueError
        If a name is unknown, an option is of another method or out of range, there is no image, or
        the network has no such maps.

    Examples
    --------
    >>> from chexlib.models import CheXNet
    >>> model, images = CheXNet(growth_rate=12), torch.zeros(1, 1, 64, 64)
    >>> attribute(model, images, "Mass", method="gradcam").shape
    torch.Size([1, 1, 2, 2])
    """
    function = _method(method)
    rows = rows_of(findings, model)
    if images.ndim != 4 or not len(images) or batch_size < 1:
        raise ValueError(
            f"Expected images [B, 1 or 3, H, W] and a batch size from 1 up, got "
            f"{list(images.shape)} and {batch_size}."
        )
    if method in ("integrated_gradients", "smoothgrad", "occlusion"):
        options["batch_size"] = batch_size
    done = []
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            try:
                done.append(function(model, part, rows, **options).detach().float())
            except TypeError as error:
                if "unexpected keyword" not in str(error):
                    raise
                raise ValueError(
                    f"Expected options of {method}, got {sorted(options)} ({error})."
                ) from None
            if progress:
                progress(start + len(part), len(images))
    return torch.cat(done)


def to_pixels(
    maps: torch.Tensor | NDArray,
    size: int | tuple[int, int],
    *,
    method: str = "cam",
    input_size: int | tuple[int, int],
) -> torch.Tensor | NDArray:
    """Enlarge maps of a method to the size of an image, each cell to its place.

    Parameters
    ----------
    maps : Tensor or ndarray [..., h, w]
        Of :func:`attribute`.
    size : int or (height, width)
        Pixels wanted.
    method : str
        That made them.
    input_size : int or (height, width)
        Of the images that the network saw.
    """
    _method(method)
    if method in _STRIDES:
        return upsample(maps, size, input_size=input_size, stride=_STRIDES[method])
    return upsample(maps, size)


def heat_of(maps: NDArray[np.float32], *, method: str = "cam", input_size: int) -> Heat:
    """Return maps of cases with the places of their cells, for scoring.

    Parameters
    ----------
    maps : float32 array [M, h, w]
        Of :func:`case_maps`.
    method : str
        That made them.
    input_size : int
        Pixels a side that the network saw.
    """
    _method(method)
    if method in _STRIDES:
        return Heat(maps, input_size, _STRIDES[method])
    return Heat(maps)


def cell_places(
    cell: Sequence[int],
    cells: Sequence[int],
    size: Sequence[int],
    *,
    method: str = "cam",
    input_size: int,
) -> tuple[float, ...]:
    """Return where the middle of a cell is in an image.

    Parameters
    ----------
    cell : (row, column)
    cells : (h, w)
        How many the map has.
    size : (height, width)
        Of the image, in pixels.
    method : str
        That made the map.
    input_size : int
        Pixels a side that the network saw.

    Returns
    -------
    (y, x) : float
        Pixels from the upper left corner of the image.

    Examples
    --------
    >>> cell_places((0, 6), (7, 7), (2048, 1024), method="cam", input_size=224)
    (132.57142857142858, 944.0)
    """
    places = []
    for i, n, pixels in zip(cell, cells, size, strict=True):
        if method in _STRIDES:
            share = cell_centres(n, stride=_STRIDES[method])[i] / input_size
        else:
            share = (i + 0.5) / n
        places.append(float(share * pixels))
    return tuple(places)


def case_maps(
    model: CheXNet,
    batcher: Batcher,
    rows: ArrayLike,
    findings: Sequence[str | int],
    *,
    method: str = "cam",
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> NDArray[np.float32]:
    """Return one map for each of many pairs of a film and a finding.

    Parameters
    ----------
    model : CheXNet
    batcher : Batcher
        Without augmentation; it sets the size of the films.
    rows : array_like of int [M]
        The film of each pair, in the batcher.
    findings : sequence of str or int [M]
        The finding of each pair, by name or position.
    method, batch_size, **options
        As for :func:`attribute`.
    progress : callable, optional
        Called with the numbers of pairs (of ``cam``: films) done and of all.

    Returns
    -------
    ndarray float32 [M, h, w]
        For :func:`heat_of`.

    Raises
    ------
    ValueError
        As :func:`attribute`, or if there are not as many findings as rows.
    """
    rows = np.asarray(rows)
    if len(rows) != len(findings) or not len(rows):
        raise ValueError(
            f"Expected a finding for each film, got {len(findings)} for {len(rows)} films."
        )
    _method(method)
    column = np.array(rows_of(findings, model))
    if method == "cam":
        films, place = np.unique(rows, return_inverse=True)
        maps, _ = maps_of(model, batcher, films, batch_size=batch_size, progress=progress)
        return maps[place, column]
    plain, maps, done = batcher.without_augmentation(), None, 0
    for finding in np.unique(column):
        mine = np.flatnonzero(column == finding)
        for part in np.split(mine, range(batch_size, len(mine), batch_size)):
            given = {"method": method, "batch_size": batch_size, **options}
            found = attribute(model, plain(rows[part]), int(finding), **given)
            if maps is None:
                maps = np.empty((len(rows), *found.shape[2:]), np.float32)
            maps[part] = found[:, 0].cpu().numpy()
            done += len(part)
            if progress:
                progress(done, len(rows))
    return maps


def _method(name: str) -> Callable[..., torch.Tensor]:
    if name not in METHODS:
        raise ValueError(f"Expected a method among {sorted(METHODS)}, got {name!r}.")
    return METHODS[name]
