"""Heat maps that know where their cells lie; their scales, and boxes around what is hot.

A cell of a feature map is a place of the image: the centre of what the cell sees, which the strides
and margins of the layers before it say (:class:`Grid`). A DenseNet's convolution of 7 pixels and
maximum of 3 take positions 0, 2, 4, … as centres, half a pixel before the middle of each pair; its
means of 2 take the middle. So its cells are at 14.5, 46.5, 78.5, … pixels from the edge; those of a
ResNet at 0.5, 32.5, 64.5, …, and those of a ConvNeXt at 16, 48, 80, ….
And a map need not reach the far edge: of 112 px, 3 cells of a DenseNet cover 96 and the rest is
dropped.

References
----------
Araujo, Norris and Sim, Computing receptive fields of convolutional neural networks, Distill (2019):
the centres.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

CUTS = ("wang", 60, 180, "otsu")
"""Ways to cut a heat map: at 60 and at 180 of 255 (all boxes of both), one of them, Otsu's."""

LEVELS = 255
SCALES = ("map", "shared", "ratio")

Pair = int | tuple[int, int]
Array = TypeVar("Array", np.ndarray, torch.Tensor)


class Grid(NamedTuple):
    """Where the cells of a map lie, along either side of the image.

    Attributes
    ----------
    first : float
        Pixels from the edge of the network's input to the centre of what the first cell sees; pixel
        0 is from 0 to 1.
    stride : float
        Pixels from cell to cell.
    """

    first: float
    stride: float

    def behind(
        self, kernel: Pair, stride: Pair, padding: Pair | str, dilation: Pair = 1
    ) -> Grid | None:
        """Return the grid of what a layer of windows makes of a map on this one.

        None where that is another one down than across.

        Examples
        --------
        >>> Grid(0.5, 1).behind(7, 2, 3).behind(3, 2, 1).behind(2, 2, 0)
        Grid(first=2.5, stride=8.0)
        """
        span = np.multiply(dilation, np.subtract(kernel, 1))
        before = {"same": span // 2, "valid": 0}[padding] if isinstance(padding, str) else padding
        first = np.unique(self.first + self.stride * (span / 2 - before))
        steps = np.unique(self.stride * np.asarray(stride, float))
        return Grid(*map(float, (*first, *steps))) if len(first) == len(steps) == 1 else None


DENSENET = Grid(14.5, 32)
"""Where the cells of a DenseNet's last map lie."""


def cell_centres(cells: int, grid: Grid = DENSENET) -> NDArray[np.float64]:
    """Return the centre of what each cell along one side of a feature map sees.

    Parameters
    ----------
    cells : int
    grid : Grid
        By default that of a DenseNet's last map.

    Returns
    -------
    float64 [cells]
        Pixels from the edge of the network's input; pixel 0 is from 0 to 1.

    Examples
    --------
    >>> cell_centres(3)
    array([14.5, 46.5, 78.5])
    """
    return grid.first + grid.stride * np.arange(cells)


@dataclass(frozen=True)
class HeatMap:
    """Maps, and where their cells lie.

    Parameters
    ----------
    values : ndarray or Tensor [..., h, w]
        One or many maps, in any resolution.
    input_size : int or (height, width), optional
        Pixels that the network saw. With it, cells are where ``grid`` says. By default a map covers
        its film evenly, cell i from ``i / h`` to ``(i + 1) / h`` of it: right for maps in pixels,
        and what PyTorch does (``align_corners=False``).
    grid : Grid
        By default that of a DenseNet's last map; :func:`chexlib.interpret.attribute` knows that of
        any network.
    roll : int array [M, 2], optional
        Of M maps [M, h, w] as arrays: pixels of the enlarged map by which each is moved down and to
        the right, what leaves on one side returning on the other.

    Raises
    ------
    ValueError
        If there is no cell, or the map does not fit into the input.

    Examples
    --------
    The peak of a cell is where the cell is, for a film shown at four times the size too:

    >>> maps = np.zeros((7, 7)); maps[2, 5] = 1
    >>> large = HeatMap(maps, input_size=224).pixels(896)
    >>> rows, columns = np.nonzero(large == large.max())
    >>> float(rows.mean() + 0.5) / 4, float(columns.mean() + 0.5) / 4, cell_centres(7)[[2, 5]]
    (78.5, 174.5, array([ 78.5, 174.5]))
    """

    values: NDArray | torch.Tensor
    input_size: int | tuple[int, int] | None = None
    grid: Grid = DENSENET
    roll: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.values.shape)
        if len(shape) < 2 or 0 in shape[-2:]:
            raise ValueError(f"Expected maps [..., h, w], got {list(shape)}.")
        for cells, extent in zip(shape[-2:], self.extent(), strict=True):
            stride = self.grid.stride
            if self.input_size is not None and not (cells - 1) * stride < extent:
                raise ValueError(
                    f"Expected an input of more than {(cells - 1) * stride:g} px for {cells} cells "
                    f"of {stride:g} px, got {extent}. Give the size that the network saw."
                )

    def __len__(self) -> int:
        """Return the length of the first axis: how many maps, of M."""
        return len(self.values)

    def __getitem__(self, part: slice | ArrayLike) -> HeatMap:
        """Return some of the maps along the first axis, by a slice or positions."""
        roll = None if self.roll is None else self.roll[part]
        return replace(self, values=self.values[part], roll=roll)

    def extent(self) -> Sequence[int]:
        """Return height and width of the input; without one, every cell counts as a pixel."""
        if self.input_size is None:
            return self.values.shape[-2:]
        return (self.input_size,) * 2 if isinstance(self.input_size, int) else self.input_size

    def _centres(self) -> list[NDArray[np.float64]]:
        """Return where cells are in that, down and across."""
        if self.input_size is None:
            return [np.arange(n) + 0.5 for n in self.values.shape[-2:]]
        return [cell_centres(n, self.grid) for n in self.values.shape[-2:]]

    def places(self, size: int | tuple[int, int]) -> list[NDArray[np.float64]]:
        """Return the middles of cells in an image of ``size``: pixels down [h] and across [w].

        Examples
        --------
        >>> HeatMap(np.zeros((7, 7)), input_size=224).places((2048, 1024))[1][6]
        np.float64(944.0)
        """
        axes = zip(self._centres(), self.extent(), _pair(size), strict=True)
        return [centres * pixels / extent for centres, extent, pixels in axes]

    def pixels(self, size: int | tuple[int, int]) -> NDArray[np.float32] | torch.Tensor:
        """Return the maps enlarged to an image, bilinearly, each cell to its place.

        Parameters
        ----------
        size : int or (height, width)
            Pixels wanted; those of the film, in whatever resolution it is shown.

        Returns
        -------
        float32 [..., height, width]
            A tensor on its device, or an array, as ``values``.

        Raises
        ------
        ValueError
            If the size is below 1.
        """
        if min(_pair(size)) < 1:
            raise ValueError(f"Expected a size from 1 up, got {size}.")
        axes = zip(self.extent(), _pair(size), strict=True)
        large = self.at(*((np.arange(n) + 0.5) * extent / n for extent, n in axes))
        if self.roll is not None:
            moved = zip(large, self.roll, strict=True)
            large = np.stack([np.roll(one, tuple(by), axis=(0, 1)) for one, by in moved])
        return large

    def at(self, down: ArrayLike, across: ArrayLike) -> NDArray[np.float32] | torch.Tensor:
        """Return values [..., m, n] at places [m] and [n] in pixels of the network's input.

        Between the middles of cells they are interpolated bilinearly. Before the first and after
        the last, its value goes on.
        """
        down, across = map(_weights, self._centres(), (down, across))
        if isinstance(self.values, torch.Tensor):
            down, across = (torch.from_numpy(m).to(self.values.device) for m in (down, across))
            return down @ self.values.float() @ across.T
        return down @ np.asarray(self.values, np.float32) @ across.T

    def levels(self, size: int | tuple[int, int]) -> NDArray[np.uint8]:
        """Return the maps enlarged to an image and scaled by :func:`to_levels`."""
        return to_levels(self.pixels(size))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _weights(centres: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the weights [m, n] of n values in their linear interpolation at m places."""
    each = [np.interp(places, centres, one) for one in np.eye(len(centres))]
    return np.stack(each, axis=1).astype(np.float32)


def normalise(
    maps: Array,
    *,
    how: str = "map",
    bias: ArrayLike | torch.Tensor | None = None,
    prevalence: ArrayLike | torch.Tensor | None = None,
) -> Array:
    r"""Bring maps to one of three scales, which say three different things.

    Parameters
    ----------
    maps : Tensor or ndarray [..., F, h, w]
        For "shared" and "ratio" the third axis from the end is that of findings.
    how : {"map", "shared", "ratio"}
        "map" is :math:`(M - \min M) / (\max M - \min M)`, each map by its own range. Every map then
        has a hottest place, also that of a finding with a probability of 0.001; pictures made with
        it look confident whatever the network says. "shared" takes minimum and maximum over all
        findings of a film: findings can be compared within the film, not films with one another.
        "ratio" is :math:`\sigma(M + b_f) / \pi_f`: the probability that the network would give a
        film that looked like this cell everywhere, over the prevalence of the finding. 1 is an
        average film; it can be compared between findings and films.
    bias : array_like [F], optional
        Of the head, for "ratio": ``model.classifier.bias``.
    prevalence : array_like [F], optional
        Above 0 to 1, for "ratio": share of films with the finding among those that the network was
        trained on, or for which it is used.

    Returns
    -------
    Tensor or ndarray, as ``maps``
        In [0, 1], where a constant map becomes 0; for "ratio" from 0 to ``1 / prevalence``.

    Raises
    ------
    ValueError
        If the scale is unknown, or bias and prevalence are not given with "ratio" and only with it.

    Examples
    --------
    >>> two = np.array([[[0.0, 1.0]], [[0.0, 4.0]]])
    >>> normalise(two)[:, 0, 1], normalise(two, how="shared")[:, 0, 1]
    (array([1., 1.]), array([0.25, 1.  ]))
    >>> normalise(two, how="ratio", bias=[0, -4], prevalence=[0.5, 0.1])[:, 0].round(2)
    array([[1.  , 1.46],
           [0.18, 5.  ]])
    """
    if how not in SCALES:
        raise ValueError(f"Expected a scale among {SCALES}, got {how!r}.")
    if {bias is not None, prevalence is not None} != {how == "ratio"}:
        raise ValueError(
            f'Expected bias and prevalence with "ratio" and only with it, got how={how!r}.'
        )
    values = torch.as_tensor(maps).double()
    if how == "ratio":
        bias, prevalence = (
            torch.as_tensor(v, dtype=values.dtype, device=values.device)[:, None, None]
            for v in (bias, prevalence)
        )
        if not ((prevalence > 0) & (prevalence <= 1)).all():
            raise ValueError(f"Expected prevalences above 0 to 1, got {prevalence.flatten()}.")
        scaled = (values + bias).sigmoid() / prevalence
    else:
        axes = (-2, -1) if how == "map" else (-3, -2, -1)
        low, high = values.amin(axes, keepdim=True), values.amax(axes, keepdim=True)
        scaled = (values - low) / torch.where(high > low, high - low, 1)
    if isinstance(maps, torch.Tensor):
        return scaled.to(maps.dtype)
    return scaled.numpy().astype(maps.dtype if np.asarray(maps).dtype.kind == "f" else float)


def to_levels(heat: ArrayLike) -> NDArray[np.uint8]:
    """Return a map scaled to [0, 255] by its own range, as Wang et al. do; 0 if it is constant.

    Parameters
    ----------
    heat : array_like [..., H, W]
        Finite.

    Returns
    -------
    uint8 [..., H, W]

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    heat = np.asarray(heat, np.float32)
    low, high = heat.min((-2, -1), keepdims=True), heat.max((-2, -1), keepdims=True)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("Expected finite heat maps, got NaN or infinity. Check the network.")
    width = high.astype(float) - low
    scaled = heat - low
    scaled *= (LEVELS / np.where(width > 0, width, 1)).astype(np.float32)
    scaled += 0.5
    return scaled.astype(np.uint8)


def heat_boxes(heat: ArrayLike, *, cut: str | int = "wang") -> NDArray[np.float64]:
    """Return a box around each isolated region of a heat map.

    The map is scaled to [0, 255] by its own range and cut at a threshold; pixels above it that
    touch, corners included, are a region.

    Parameters
    ----------
    heat : array_like [H, W]
        Enlarged to pixels. What is uint8 already is taken as scaled.
    cut : {"wang", 60, 180, "otsu"} or int
        "wang" gives the boxes at 60 and those at 180 together, as Wang et al. did; "otsu" the
        threshold that separates best; else a threshold from 0 to 254.

    Returns
    -------
    ndarray float64 [K, 4]
        x, y, width, height in pixels of the map, the hottest first, then the largest. None for a
        constant map.

    Raises
    ------
    ValueError
        If the cut is unknown or the map is not [H, W] and finite.

    References
    ----------
    Wang et al., ChestX-ray8, CVPR 2017 (arXiv:1705.02315 v5), on localization. Otsu, IEEE
    Transactions on Systems, Man and Cybernetics 9 (1979) 62-66.

    Examples
    --------
    >>> heat = np.zeros((8, 8)); heat[2:4, 1:6] = 1; heat[6, 6] = 0.5
    >>> heat_boxes(heat, cut=60)
    array([[1., 2., 5., 2.],
           [6., 6., 1., 1.]])
    >>> heat_boxes(heat, cut=180)
    array([[1., 2., 5., 2.]])
    """
    import cv2

    heat = np.asarray(heat)
    if heat.ndim != 2 or heat.size == 0:
        raise ValueError(f"Expected one heat map [H, W], got shape {heat.shape}.")
    levels = heat if heat.dtype == np.uint8 else to_levels(heat)
    if cut == "wang":
        return np.concatenate([heat_boxes(levels, cut=one) for one in (60, 180)])
    if cut == "otsu":
        if levels.min() == levels.max():
            return np.empty((0, 4))
        cut, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    if isinstance(cut, str) or not 0 <= cut < LEVELS:
        raise ValueError(
            f'Expected a cut "wang", "otsu" or a threshold from 0 to 254, got {cut!r}.'
        )
    above = (levels > cut).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(above, connectivity=8)
    peaks = np.zeros(count, int)
    if count > 2:  # the order of one region needs no peak
        np.maximum.at(peaks, labels[above > 0], levels[above > 0])
    order = 1 + np.lexsort((-stats[1:, 4], -peaks[1:]))
    return stats[order, :4].astype(float)


def iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return intersection over union of each box of one list with each of another.

    Parameters
    ----------
    a, b : array_like [A, 4], [B, 4]
        x, y, width, height; widths and heights above 0.

    Returns
    -------
    ndarray float64 [A, B]
        In [0, 1].

    Examples
    --------
    >>> iou([[0, 0, 2, 2]], [[1, 0, 2, 2], [5, 5, 1, 1]])
    array([[0.33333333, 0.        ]])
    """
    shared, area_a, area_b = _shared(a, b)
    return shared / (area_a[:, None] + area_b - shared)


def iobb(detected: ArrayLike, true: ArrayLike) -> NDArray[np.float64]:
    """Return intersection over the area of the *detected* box, of each with each true one.

    1 for any detected box inside a true one, however small it is: Wang et al.'s "IoBB".

    Parameters
    ----------
    detected, true : array_like [A, 4], [B, 4]
        x, y, width, height.

    Returns
    -------
    ndarray float64 [A, B]
        In [0, 1].

    Examples
    --------
    >>> iobb([[0, 0, 2, 2]], [[1, 0, 9, 9]])
    array([[0.5]])
    """
    shared, area, _ = _shared(detected, true)
    return shared / area[:, None]


def _shared(a: ArrayLike, b: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    a, b = (np.asarray(boxes, float).reshape(-1, 4) for boxes in (a, b))
    if not ((a[:, 2:] > 0).all() and (b[:, 2:] > 0).all()):
        raise ValueError("Expected boxes (x, y, width, height) with sides above 0, got others.")
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[:, :2] + b[:, 2:])
    sides = np.clip(high - low, 0, None)
    return sides.prod(axis=2), a[:, 2:].prod(axis=1), b[:, 2:].prod(axis=1)


def truth_mask(boxes: ArrayLike, size: int) -> NDArray[np.bool_]:
    """Return the pixels whose centre is in one of the boxes; of each box at least one pixel.

    Parameters
    ----------
    boxes : array_like [K, 4], or sequence of array_like [P, 2]
        x, y, width, height as shares of the image, 0 to 1. Or outlines: x and y of their points; a
        pixel whose centre lies within one counts, and of an outline too small for that the pixel
        of its middle.
    size : int
        Pixels a side of the mask.

    Returns
    -------
    bool [size, size]

    Examples
    --------
    >>> truth_mask([[0.5, 0.0, 0.5, 0.25]], 4).astype(int)
    array([[0, 0, 1, 1],
           [0, 0, 0, 0],
           [0, 0, 0, 0],
           [0, 0, 0, 0]])
    """
    mask, middle = np.zeros((size, size), bool), (np.arange(size) + 0.5) / size
    if len(boxes) and np.ndim(boxes[0]) == 2:
        from matplotlib.path import Path

        for points in map(np.asarray, boxes):
            first, last = (np.clip(end(points * size, axis=0), 0, size) for end in (np.min, np.max))
            x, y = (np.arange(int(a), int(np.ceil(b))) for a, b in zip(first, last, strict=True))
            centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2) + 0.5
            inside = Path(points * size).contains_points(centres)
            if not inside.any():
                centres, inside = points.mean(axis=0, keepdims=True) * size, [True]
            x, y = np.clip(centres[inside], 0, size - 1).astype(int).T
            mask[y, x] = True
        return mask
    for x, y, width, height in np.asarray(boxes, float).reshape(-1, 4):
        inside = []
        for start, side in ((y, height), (x, width)):
            covered = (middle >= start) & (middle < start + side)
            if not covered.any():  # thinner than a pixel, or at the edge
                covered[int(np.clip((start + side / 2) * size, 0, size - 1))] = True
            inside.append(covered)
        mask |= np.outer(*inside)
    return mask
