"""From a heat map to boxes, and how well boxes agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["CUTS", "heat_boxes", "iobb", "iou", "to_levels", "truth_mask"]

CUTS = ("wang", 60, 180, "otsu")
"""Ways to cut a heat map: at 60 and at 180 of 255 (all boxes of both), one of them, Otsu's."""

LEVELS = 255


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


def heat_boxes(
    heat: ArrayLike, *, cut: str | int = "wang", min_area: float = 0.0
) -> NDArray[np.float64]:
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
    min_area : float
        Least size of a region, as a share of the image.

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
        both = [heat_boxes(levels, cut=one, min_area=min_area) for one in (60, 180)]
        return np.concatenate(both)
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
    if count == 1:
        return np.empty((0, 4))
    if count == 2:
        order = np.array([1])
    else:
        peaks = np.zeros(count, np.uint8)
        np.maximum.at(peaks, labels[above > 0], levels[above > 0])
        order = 1 + np.lexsort((-stats[1:, 4], -peaks[1:].astype(int)))
    kept = order[stats[order, 4] >= min_area * levels.size]
    return stats[kept, :4].astype(float)


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
    boxes : array_like [K, 4]
        x, y, width, height as shares of the image, 0 to 1.
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
    mask = np.zeros((size, size), bool)
    for x, y, width, height in np.asarray(boxes, float).reshape(-1, 4):
        ends = []
        for start, side in ((y, height), (x, width)):
            first = int(np.ceil(start * size - 0.5))
            last = int(np.ceil((start + side) * size - 0.5))
            if last <= first:  # thinner than a pixel
                first = int((start + side / 2) * size)
                last = first + 1
            ends.append(slice(max(min(first, size - 1), 0), max(last, 1)))
        mask[tuple(ends)] = True
    return mask
