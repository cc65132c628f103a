r"""Does the map look at the right place? Scores of one map against the boxes of one finding.

A case is a film with a finding that has boxes. Every score sees the map at one size, scaled to [0,
1] by its own range, so that the unit of a method does not matter.

``hit``
    The pointing game: is the hottest pixel in a box? Where several are equally hot, the share of
    them, so that a constant map scores the area of the boxes.
``energy``
    Share of the map's sum that is in the boxes.
``overlap``
    Of the hottest pixels, as many as the boxes have, the share that is in them. No threshold, and
    no gain from regions that are large or small; chance is ``area``.
``iou_area``, ``iou_best``
    IoU of the region above a threshold with the boxes, as that threshold runs from 0 to 1: the area
    under this curve, and its maximum (the threshold a judge who knows the answer would choose).
``iou_<cut>``, ``iobb_<cut>``, ``boxes_<cut>``
    Of the boxes that :func:`chexlib.interpret.heat_boxes` draws: the best IoU and the best IoBB of
    any of them with any true box, and how many there are. The best of many boxes is easily good:
    read ``boxes``, and the controls.

References
----------
Zhang et al., Top-down neural attention by excitation backprop, IJCV 126 (2018) 1084-1102 (pointing
game). Wang, H. et al., Score-CAM, CVPR Workshops 2020 (energy). Choe et al., Evaluating weakly
supervised object localization methods right, CVPR 2020 (curves instead of thresholds). Wang, X. et
al., ChestX-ray8, CVPR 2017 (boxes, IoU, IoBB).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.findings import normalise
from chexlib.interpret.boxes import CUTS, LEVELS, heat_boxes, iobb, iou, to_levels, truth_mask
from chexlib.interpret.geometry import STRIDE, upsample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Cases", "Heat", "find_cases", "score_cases"]

SIZE = 256
NIH_SIZE = 1024
_AT_ONCE = 32  # maps enlarged at once: 8 MB, which stay in a cache


@dataclass(frozen=True)
class Cases:
    """Films with a finding that has boxes: M of them.

    Attributes
    ----------
    film : int64 array [M]
        Row of the film among those that were asked about.
    finding : list of str
    patient : array [M]
    truth : list of float64 array [K, 4]
        x, y, width, height as shares of the image's sides, 0 to 1.
    image : list of str
    """

    film: NDArray[np.int64]
    finding: list[str]
    patient: NDArray
    truth: list[NDArray[np.float64]]
    image: list[str] = field(repr=False)

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.film)

    def select(self, chosen: ArrayLike) -> Cases:
        """Return some of the cases, as bool [M] or positions."""
        places = np.arange(len(self))[np.asarray(chosen)]
        pick = lambda values: [values[i] for i in places]  # noqa: E731
        parts = (pick(self.finding), self.patient[places], pick(self.truth), pick(self.image))
        return Cases(self.film[places], *parts)


@dataclass(frozen=True)
class Heat:
    """Maps of cases, and where their cells are.

    Parameters
    ----------
    maps : float32 array [M, h, w]
        In any resolution.
    input_size, stride : int, optional
        As for :func:`chexlib.interpret.upsample`: pixels the network saw, and pixels from cell to
        cell. Without the first, a map covers its film evenly.
    roll : int array [M, 2], optional
        Pixels of the enlarged map by which it is moved down and to the right, what leaves on one
        side returning on the other.
    """

    maps: NDArray[np.float32]
    input_size: int | None = None
    stride: int = STRIDE
    roll: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of maps."""
        return len(self.maps)

    def levels(self, part: slice, size: int) -> NDArray[np.uint8]:
        """Return some maps enlarged and scaled to [0, 255], uint8 [m, size, size]."""
        large = upsample(self.maps[part], size, input_size=self.input_size, stride=self.stride)
        levels = to_levels(large)
        if self.roll is not None:
            moved = zip(levels, self.roll[part], strict=True)
            levels = np.stack([np.roll(one, tuple(by), axis=(0, 1)) for one, by in moved])
        return levels


def find_cases(
    boxes: pd.DataFrame,
    images: Sequence[str],
    patients: ArrayLike,
    *,
    findings: Sequence[str] | None = None,
    frame: float = NIH_SIZE,
) -> Cases:
    """Return the films with a finding that has boxes.

    Parameters
    ----------
    boxes : DataFrame
        As :func:`chexlib.data.load_boxes`; those of other films are left out.
    images : sequence of str [N]
        Names of films.
    patients : array_like [N]
    findings : sequence of str, optional
        Only these.
    frame : float
        Pixels a side in which boxes are given.

    Returns
    -------
    Cases
        In the order of films, then of findings as boxes name them.

    Raises
    ------
    ValueError
        If none of the boxes is on one of the films.

    Examples
    --------
    >>> boxes = pd.DataFrame({"image": ["a.png", "a.png"], "finding": ["Mass", "Mass"],
    ...     "x": [0, 512], "y": [0, 512], "width": [256, 512], "height": [128, 512]})
    >>> cases = find_cases(boxes, ["b.png", "a.png"], [1, 2])
    >>> cases.film, cases.finding, cases.truth[0]
    (array([1]), ['Mass'], array([[0.   , 0.   , 0.25 , 0.125],
           [0.5  , 0.5  , 0.5  , 0.5  ]]))
    """
    place = pd.Series(np.arange(len(images)), index=pd.Index(images))
    here = boxes[boxes["image"].isin(place.index)]
    if findings is not None:
        here = here[here["finding"].isin([normalise(name) for name in findings])]
    if here.empty:
        raise ValueError(
            f"Expected boxes on some of {len(images)} films, got none among {len(boxes)} boxes. "
            "Of NIH's films, 880 of the official test set have boxes."
        )
    here = here.assign(film=place[here["image"]].to_numpy()).sort_values("film", kind="stable")
    groups = list(here.groupby(["film", "finding"], sort=False))
    film = np.array([key[0] for key, _ in groups], np.int64)
    truth = [part[["x", "y", "width", "height"]].to_numpy(float) / frame for _, part in groups]
    names = [images[i] for i in film]
    return Cases(film, [key[1] for key, _ in groups], np.asarray(patients)[film], truth, names)


def score_cases(
    heat: Heat | ArrayLike,
    cases: Cases,
    *,
    size: int = SIZE,
    cuts: Sequence[str | int] = CUTS,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Score a map of each case against its boxes.

    Parameters
    ----------
    heat : Heat, or array_like [M, h, w]
        A plain array is taken to cover the film evenly.
    cases : Cases
        M of them.
    size : int
        Pixels a side at which maps are compared with boxes.
    cuts : sequence
        As for :func:`chexlib.interpret.heat_boxes`.
    progress : callable, optional
        Called with the numbers of cases done and of all.

    Returns
    -------
    DataFrame
        A row a case: ``film``, ``image``, ``finding``, ``patient``, ``area`` (share of the image in
        boxes), ``n_truth`` (boxes), and the scores of :mod:`chexlib.interpret.localization`.

    Raises
    ------
    ValueError
        If there are not as many maps as cases.
    """
    heat = heat if isinstance(heat, Heat) else Heat(np.asarray(heat, np.float32))
    if len(heat) != len(cases) or heat.maps.ndim != 3:
        raise ValueError(
            f"Expected a map [h, w] for each of {len(cases)} cases, got {list(heat.maps.shape)}."
        )
    rows = []
    for start in range(0, len(cases), _AT_ONCE):
        part = slice(start, min(start + _AT_ONCE, len(cases)))
        for i, levels in enumerate(heat.levels(part, size), start=start):
            rows.append(_pixels(levels, truth_mask(cases.truth[i], size)))
            rows[-1] |= _drawn(levels, size * np.asarray(cases.truth[i]), cuts)
        if progress:
            progress(part.stop, len(cases))
    who = {"film": cases.film, "image": cases.image}
    who |= {"finding": cases.finding, "patient": cases.patient}
    who["n_truth"] = [len(boxes) for boxes in cases.truth]
    return pd.concat([pd.DataFrame(who), pd.DataFrame(rows)], axis=1)


def _pixels(levels: NDArray[np.uint8], truth: NDArray[np.bool_]) -> dict[str, float]:
    """Return the scores that compare pixels, all from how many have each level in and out."""
    inside = np.bincount(levels[truth], minlength=LEVELS + 1)
    every = np.bincount(levels.ravel(), minlength=LEVELS + 1)
    level = np.arange(LEVELS + 1)
    n_truth, n = inside.sum(), every.sum()
    top = level[every > 0][-1]
    total = float(level @ every)
    # Counts at or above each level; a threshold between 0 and 1 cuts below level 1, 2, … 255.
    above_in, above = (np.cumsum(c[::-1])[::-1] for c in (inside, every))
    curve = above_in[1:] / (n_truth + above[1:] - above_in[1:])
    return {
        "area": n_truth / n,
        "hit": inside[top] / every[top],
        "energy": float(level @ inside) / total if total else n_truth / n,
        "overlap": _hottest(above_in, above, n_truth) / n_truth,
        "iou_area": float(curve.mean()),
        "iou_best": float(curve.max()),
    }


def _hottest(above_in: NDArray, above: NDArray, wanted: int) -> float:
    """Return how many of the ``wanted`` hottest pixels are inside; ties count by their share."""
    full = np.flatnonzero(above >= wanted)[-1]  # the highest level that gives enough
    more, more_in = (c[full + 1] if full < LEVELS else 0 for c in (above, above_in))
    tied, tied_in = above[full] - more, above_in[full] - more_in
    return more_in + (wanted - more) * tied_in / tied


def _drawn(levels: NDArray[np.uint8], truth: NDArray, cuts: Sequence[str | int]) -> dict:
    """Return the scores of boxes at each cut; regions at a threshold are looked for once."""
    known: dict[str | int, NDArray] = {}
    row: dict[str, float] = {}
    for cut in cuts:
        for one in (60, 180) if cut == "wang" else (cut,):
            if one not in known:
                known[one] = heat_boxes(levels, cut=one)
        drawn = np.concatenate([known[60], known[180]]) if cut == "wang" else known[cut]
        some = len(drawn) > 0
        row[f"iou_{cut}"] = iou(drawn, truth).max() if some else 0.0
        row[f"iobb_{cut}"] = iobb(drawn, truth).max() if some else 0.0
        row[f"boxes_{cut}"] = len(drawn)
    return row
