"""How plainly something is seen: its contrast, and how well an ideal template would find it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def contrast(present: ArrayLike, absent: ArrayLike, mask: ArrayLike) -> float:
    """Return by how much an object differs from its surroundings, in grey values.

    Parameters
    ----------
    present, absent : array_like [H, W]
        The same film with the object and without it.
    mask : array_like of bool [H, W]
        Where the object is, not everywhere.

    Returns
    -------
    float
        Mean difference inside the mask less that outside it: an export that shifts all grey values
        adds nothing.

    Examples
    --------
    >>> mask = np.eye(4, dtype=bool)
    >>> contrast(np.full((4, 4), 30) + 5 * mask, np.full((4, 4), 20), mask)
    5.0
    """
    difference = np.asarray(present, float) - np.asarray(absent, float)
    mask = np.asarray(mask, bool)
    if not mask.any() or mask.all():
        raise ValueError(f"Expected a mask of a part of the film, got {mask.mean():.0%} of it.")
    return float(difference[mask].mean() - difference[~mask].mean())


def detectability(signal: ArrayLike, backgrounds: ArrayLike) -> float:
    """Return d', the signal-to-noise ratio of an observer that knows what to look for, and where.

    The observer multiplies the film by the signal and sums: the non-prewhitening matched filter,
    which follows human readers well where anatomy, not noise, hides things.

    Parameters
    ----------
    signal : array_like [H, W]
        What the object adds.
    backgrounds : array_like [N, H, W]
        Films without it, two at least.

    Returns
    -------
    float
        Mean response to the signal over the standard deviation of the responses to backgrounds.

    References
    ----------
    Barrett and Myers, Foundations of Image Science, 2004, section 13.2.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = np.ones((10, 10))
    >>> round(detectability(signal, rng.normal(0, 2, (5000, 10, 10))), 1)  # sqrt(100) / 2
    5.0
    """
    signal, backgrounds = np.asarray(signal, float), np.asarray(backgrounds, float)
    if backgrounds.ndim != 3 or len(backgrounds) < 2 or backgrounds.shape[1:] != signal.shape:
        raise ValueError(
            f"Expected at least two backgrounds of {list(signal.shape)}, got "
            f"{list(backgrounds.shape)}."
        )
    response = np.tensordot(backgrounds, signal, axes=2)
    return float((signal**2).sum() / max(response.std(ddof=1), 1e-12))


def radial_spectrum(images: ArrayLike, *, bins: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean power spectrum of images over directions.

    Parameters
    ----------
    images : array_like [N, S, S]
        Each is brought to mean 0 and deviation 1, and faded out towards its edges (Hann window).
    bins : int
        Bins of frequency, equal in their logarithm.

    Returns
    -------
    frequency, power : ndarray [bins]
        In cycles per image, from 2 to S / 2; and mean power.
    """
    images = np.asarray(images, float)
    if images.ndim != 3 or images.shape[1] != images.shape[2]:
        raise ValueError(f"Expected images [N, S, S], got {list(images.shape)}.")
    size = images.shape[1]
    images = images - images.mean(axis=(1, 2), keepdims=True)
    images = images / np.maximum(images.std(axis=(1, 2), keepdims=True), 1e-9)
    window = np.hanning(size)[:, None] * np.hanning(size)[None]
    power = (np.abs(np.fft.fft2(images * window)) ** 2).mean(axis=0)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None]) * size
    edges = np.geomspace(2, size / 2, bins + 1)
    place = np.digitize(radius.ravel(), edges) - 1
    inside = (place >= 0) & (place < bins)
    total = np.bincount(place[inside], power.ravel()[inside], bins)
    count = np.bincount(place[inside], minlength=bins)
    with np.errstate(invalid="ignore"):
        return np.sqrt(edges[1:] * edges[:-1]), total / count
