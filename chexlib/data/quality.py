"""Films that are not what they should be: turned, inverted, cropped, blank, doubled, lateral.

A film is compared, at 32 px, with the mean of simulated frontal films. That is crude on purpose:
it finds what is grossly wrong in seconds, and a person decides. Nothing is ever dropped.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chexlib.data.cache import ImageCache

SIDE = 32
BLOCK = 1024
# Correlations. On 61 films of NIH the right way round was ahead of every turn by 0.19 or more.
INVERTED, TURNED, AHEAD = -0.25, 0.3, 0.1
CUT = 0.22  # by which a part of the template fits better than the whole
LATERAL = 0.1
SAME = 2.0  # mean difference of two copies of a film, grey values


def quality_table(cache: ImageCache) -> pd.DataFrame:
    """Return what looks wrong with each film of a cache.

    Parameters
    ----------
    cache : ImageCache

    Returns
    -------
    DataFrame
        One row a film, in the cache's order: ``image``; ``contrast`` (standard deviation of grey
        values at 32 px); ``likeness`` (correlation with the mean of simulated frontal films, -1 to
        1); ``symmetry`` (correlation with its own mirror image); and what follows from them:
        ``blank``, ``inverted``, ``rotated`` (by a quarter turn or a half), ``cropped`` (a part of a
        chest fills the film; parts off the centre are found, a film that is merely tight is not)
        and ``lateral``, all bool; ``duplicate_of`` (name of the first film with the same picture,
        else missing). Rejected films have missing numbers and no flags.

    Notes
    -----
    Flags are hints: a child on a wide film, or a chest opacified on one side, resembles the mean
    little. ``lateral`` (neither like the mean nor symmetric) was not measured on lateral films, of
    which NIH's set should have none. Duplicates are found by a 64-bit perceptual hash (signs of the
    lowest frequencies of the cosine transform, Zauner 2010), of which up to 3 bits may differ, and
    then compared.
    """
    ok = cache.index["status"].to_numpy() == "ok"
    small = _small(cache.images)
    films = _standardised(small)
    fit = films.reshape(len(films), -1) @ _patterns().T / SIDE**2
    whole, turned, part = fit[:, 0], fit[:, 1:4].max(axis=1), fit[:, 4:].max(axis=1)
    contrast = small.std(axis=(1, 2))
    symmetry = (films * films[:, :, ::-1]).mean(axis=(1, 2))
    blank = ok & (contrast < 8)
    seen = ok & ~blank
    inverted = seen & (whole < INVERTED) & (-whole > np.maximum(turned, part))
    # What explains a film better counts: a turn, or a cut.
    rotated = seen & ~inverted & (turned > np.maximum(TURNED, whole + AHEAD)) & (turned > part)
    cropped = seen & ~inverted & ~rotated & (part > whole + CUT)
    lateral = seen & ~(inverted | rotated | cropped) & (whole < LATERAL) & (symmetry < LATERAL)
    table = pd.DataFrame(
        {
            "image": cache.index["image"],
            "contrast": contrast,
            "likeness": whole,
            "symmetry": symmetry,
            "blank": blank,
            "inverted": inverted,
            "rotated": rotated,
            "cropped": cropped,
            "lateral": lateral,
            "duplicate_of": _duplicates(cache, small, seen),
        }
    )
    table.loc[~ok, ["contrast", "likeness", "symmetry"]] = np.nan
    return table


def _small(images: np.ndarray) -> np.ndarray:
    import cv2

    return np.stack(
        [cv2.resize(np.asarray(i), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for i in images]
    ).astype(np.float32)


def _standardised(films: np.ndarray) -> np.ndarray:
    films = films - films.mean(axis=(-2, -1), keepdims=True)
    return films / np.maximum(films.std(axis=(-2, -1), keepdims=True), 1e-6)


@cache
def _patterns() -> np.ndarray:
    """Return the mean of simulated films, its three turns, and what parts of it would look like.

    float32 [22, 1024], each of mean 0 and deviation 1; a part is drawn as a film that was cropped
    to it would show it.
    """
    import cv2

    from chexlib.data.phantom import films_of, population, render

    films = films_of(population(64, seed=9, max_films=1))
    images = np.stack([render(film, size=64).image for film in films])
    mean = _standardised(_standardised(_small(images)).mean(axis=0))
    patterns = [np.rot90(mean, k) for k in range(4)]
    for share, top, left in product((0.5, 0.65), (0, 0.5, 1), (0, 0.5, 1)):
        side = round(share * SIDE)
        y, x = (round(place * (SIDE - side)) for place in (top, left))
        patterns.append(_standardised(cv2.resize(mean[y : y + side, x : x + side], (SIDE, SIDE))))
    return np.stack(patterns).reshape(len(patterns), -1)


def _duplicates(cache: ImageCache, small: np.ndarray, seen: np.ndarray) -> list[str | None]:
    # The package ImageHash reads one Pillow image at a time; here all are arrays already.
    from scipy.fft import dctn

    low = dctn(small, axes=(1, 2))[:, :8, :8].reshape(len(small), 64)[:, 1:]
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    names, first = cache.index["image"].tolist(), [None] * len(small)
    for one, other in sorted(_near(bits, np.flatnonzero(seen))):
        if first[other] is None:
            a, b = (cache.images[i].astype(np.int16) for i in (one, other))
            if np.abs(a - b).mean() < SAME:
                first[other] = first[one] or names[one]
    return first


def _near(bits: np.ndarray, rows: np.ndarray) -> Iterable[tuple[int, int]]:
    """Return pairs of rows whose hashes differ in at most 3 bits.

    They agree in at least one of four quarters, so only rows of one quarter are compared.
    """
    pairs = set()
    quarters = bits.view(np.uint16)
    for k in range(4):
        order = rows[np.argsort(quarters[rows, k], kind="stable")]
        for group in np.split(order, np.flatnonzero(np.diff(quarters[order, k])) + 1):
            if 1 < len(group) <= BLOCK:
                differ = np.bitwise_count(bits[group][:, None] ^ bits[group][None]).sum(axis=2)
                i, j = np.nonzero(np.triu(differ <= 3, 1))
                pairs.update(zip(group[i].tolist(), group[j].tolist(), strict=True))
    return pairs
