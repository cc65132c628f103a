"""Where the cells of a feature map are in the image, and maps at the size of images.

A feature map of stride s is made by layers that halve the image: a convolution of 7 pixels, a
maximum of 3, means of 2. Of an even number of pixels the first two take positions 0, 2, 4, … as
centres, half a pixel before the middle of each pair; the means take the middle. So the centre of
what cell j sees is at ``s * j + s / 2 - 1.5`` pixels from the edge: 14.5, 46.5, 78.5, … for s = 32.
And a map need not reach the far edge: of 112 px, 3 cells cover 96 and the rest is dropped.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

__all__ = ["STRIDE", "cell_centres", "interpolation_matrix", "upsample"]

STRIDE = 32
_SHIFT = -1.5

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def cell_centres(cells: int, *, stride: int = STRIDE) -> np.ndarray:
    """Return the centre of what each cell of a DenseNet's feature map sees.

    Parameters
    ----------
    cells : int
        Along one side of the map.
    stride : int
        Pixels from cell to cell: 32 for the last map, 16 before dense block 4.

    Returns
    -------
    float64 [cells]
        Pixels from the edge of the network's input; pixel 0 is from 0 to 1.

    Examples
    --------
    >>> cell_centres(3)
    array([14.5, 46.5, 78.5])
    """
    return stride * np.arange(cells) + stride / 2 + _SHIFT


def interpolation_matrix(centres: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the weights of linear interpolation: values at positions are ``weights @ values``.

    Parameters
    ----------
    centres : float [n]
        Where values are known, rising, equally spaced.
    positions : float [m]
        Where they are wanted. Before the first and after the last centre, its value goes on.

    Returns
    -------
    float32 [m, n]
        Rows sum to 1.

    Examples
    --------
    >>> interpolation_matrix(np.array([1.0, 3.0]), np.array([0.0, 1.5, 9.0]))
    array([[1.  , 0.  ],
           [0.75, 0.25],
           [0.  , 1.  ]], dtype=float32)
    """
    n = len(centres)
    weights = np.zeros((len(positions), n), np.float32)
    spacing = centres[1] - centres[0] if n > 1 else 1.0
    place = np.clip((positions - centres[0]) / spacing, 0, n - 1)
    left = np.minimum(place.astype(int), max(n - 2, 0))
    row = np.arange(len(positions))
    weights[row, left] = 1 - (place - left)
    if n > 1:
        weights[row, left + 1] = place - left
    return weights


def upsample(
    maps: Array,
    size: int | tuple[int, int],
    *,
    input_size: int | tuple[int, int] | None = None,
    stride: int = STRIDE,
) -> Array:
    """Interpolate maps to the size of an image, bilinearly.

    Parameters
    ----------
    maps : Tensor or ndarray [..., h, w]
    size : int or (height, width)
        Pixels wanted; those of the film, in whatever resolution it is shown.
    input_size : int or (height, width), optional
        Pixels that the network saw. With it, cells are where :func:`cell_centres` says. By default
        the map is taken to cover the image evenly, cell i from ``i / h`` to ``(i + 1) / h`` of it:
        right for maps in pixels, and what PyTorch does (``align_corners=False``).
    stride : int
        Pixels of the network's input from cell to cell.

    Returns
    -------
    Tensor or ndarray float32 [..., height, width]
        Of the kind that was given, on its device.

    Raises
    ------
    ValueError
        If a size is below 1, or the map does not fit into the input.

    Examples
    --------
    The peak of a cell is where the cell is, for a film shown at four times the size too:

    >>> maps = np.zeros((7, 7)); maps[2, 5] = 1
    >>> large = upsample(maps, 896, input_size=224)
    >>> rows, columns = np.nonzero(large == large.max())
    >>> float(rows.mean() + 0.5) / 4, float(columns.mean() + 0.5) / 4, cell_centres(7)[[2, 5]]
    (78.5, 174.5, array([ 78.5, 174.5]))
    """
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    inputs = (input_size, input_size) if isinstance(input_size, int) else input_size
    if min(sizes) < 1 or maps.ndim < 2 or 0 in maps.shape[-2:]:
        raise ValueError(
            f"Expected maps [..., h, w] and a size from 1 up, got {list(maps.shape)} and {size}."
        )
    matrices = []
    for axis in (0, 1):
        cells, wanted = maps.shape[axis - 2], sizes[axis]
        if inputs is None:
            centres, extent = np.arange(cells) + 0.5, cells
        else:
            centres, extent = cell_centres(cells, stride=stride), inputs[axis]
            if not (cells - 1) * stride < extent:
                raise ValueError(
                    f"Expected an input of more than {(cells - 1) * stride} px for {cells} cells "
                    f"of {stride} px, got {extent}. Give the size that the network saw."
                )
        positions = (np.arange(wanted) + 0.5) * extent / wanted
        matrices.append(interpolation_matrix(centres, positions))
    if isinstance(maps, torch.Tensor):
        down, across = (torch.from_numpy(m).to(maps.device) for m in matrices)
        return down @ maps.float() @ across.T
    return matrices[0] @ np.asarray(maps, np.float32) @ matrices[1].T
