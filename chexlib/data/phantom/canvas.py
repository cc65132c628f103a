"""A canvas in centimetres: outlines, lines and textures drawn as maps of the film's size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np

__all__ = ["Canvas", "profile"]

SHIFT = 4  # fractional bits of OpenCV's drawing: a sixteenth of a pixel
TILE, STEP = 1024, 0.08  # textures: pixels, and centimetres a pixel


@lru_cache(maxsize=32)  # all that are used: 4 MB each
def _texture(fine_cm: float, coarse_cm: float) -> np.ndarray:
    """Return noise between two scales, float32 [1024, 1024], mean 0, deviation 1; it wraps."""
    seed = int(1000 * fine_cm + coarse_cm)
    noise = np.random.default_rng(seed).standard_normal((TILE, TILE), dtype=np.float32)
    spectrum = np.fft.rfft2(noise)
    # A length of x cm is half a wave: the frequency at which it is dampened is 1 / (2 x).
    frequency = 2 * np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) / STEP
    keep = np.exp(-0.5 * (frequency * fine_cm) ** 2) - np.exp(-0.5 * (frequency * coarse_cm) ** 2)
    field = np.fft.irfft2(spectrum * keep, s=(TILE, TILE)).astype(np.float32)
    return (field - field.mean()) / field.std()


def profile(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return a rounded profile in [0, 1] of a mask: 0 at its edge, 1 from ``radius`` px inwards."""
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    t = np.minimum(inside * (1.0 / radius), 1)
    return np.sqrt(t * (2 - t))


class Canvas:
    """Maps of one film: where a point of the chest lies, in pixels, and how to draw there.

    Parameters
    ----------
    size : int
        Pixels of the square maps.
    field : float
        Width of the film at the patient, cm.
    centre : (x, y)
        The point of the chest at the middle of the film, cm.
    angle : float
        Rotation of the patient, degrees, clockwise.
    """

    def __init__(self, size: int, *, field: float, centre: tuple[float, float], angle: float):
        self.size, self.field = size, field
        self.scale = size / field  # pixels a centimetre
        turn = np.deg2rad(angle)
        self._turn = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        self._centre = np.asarray(centre)
        axis = (np.arange(size, dtype=np.float32) + 0.5) / self.scale - field / 2
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        self.x = c * axis[None, :] + s * axis[:, None] + np.float32(centre[0])
        self.y = -s * axis[None, :] + c * axis[:, None] + np.float32(centre[1])

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return fixed-point pixel coordinates int32 [N, 2] of points in cm."""
        offset = (np.asarray(points) - self._centre) @ self._turn
        at = (offset + self.field / 2) * self.scale - 0.5
        return np.round(at * (1 << SHIFT)).astype(np.int32)

    def fill(self, *outlines: np.ndarray, soft: float = 0.0) -> np.ndarray:
        """Return outlines filled, float32 in [0, 1], their edge blurred by ``soft`` cm."""
        mask = np.zeros((self.size, self.size), np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self.pixels(outline)], 255, cv2.LINE_AA, SHIFT)
        mask = mask.astype(np.float32) * np.float32(1 / 255)
        return self.blur(mask, soft) if soft else mask

    def stroke(
        self, paths: Sequence[np.ndarray], *, width: float, hollow: float = 0.0
    ) -> np.ndarray:
        """Return open paths drawn ``width`` cm wide, float32 in [0, 1].

        A line thinner than a pixel is drawn one pixel wide and fainter, as a detector sees it. Of a
        tube, the inner six tenths are fainter by the share ``hollow``.
        """
        mask = np.zeros((self.size, self.size), np.uint8)
        pixels = width * self.scale
        ink = round(max(1.0, 255 * min(1.0, pixels)))
        points, end = self.pixels(np.concatenate(paths)), 0
        lines = [points[end : (end := end + len(path))] for path in paths]
        cv2.polylines(mask, lines, False, ink, max(1, round(pixels)), cv2.LINE_AA, SHIFT)
        if hollow and pixels >= 2.5:
            core, inner = round(ink * (1 - hollow)), round(0.6 * pixels)
            cv2.polylines(mask, lines, False, core, max(1, inner), cv2.LINE_AA, SHIFT)
        return mask.astype(np.float32) * np.float32(1 / 255)

    def blur(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Return a map blurred by ``sigma`` cm."""
        pixels = sigma * self.scale
        if pixels < 0.3:
            return image
        shrink = int(min(8, 2 ** np.floor(np.log2(max(pixels / 2.5, 1)))))
        if shrink == 1:
            return cv2.GaussianBlur(image, (0, 0), pixels, borderType=cv2.BORDER_REPLICATE)
        small = cv2.resize(image, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), pixels / shrink, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def texture(self, rng: np.random.Generator, fine: float, coarse: float) -> np.ndarray:
        """Return a texture with structure between two lengths in cm, mean 0, deviation about 1."""
        shrink = 4 if fine * self.scale > 6 else 1  # what is smooth need not be drawn in full
        tile = _texture(fine, coarse)
        span = min(round(self.field / STEP), TILE)
        x, y = (int(v) for v in rng.integers(0, TILE - span + 1, 2))
        small = (-(-self.size // shrink),) * 2
        field = cv2.resize(tile[y : y + span, x : x + span], small)
        return field if shrink == 1 else cv2.resize(field, (self.size, self.size))

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Return the half-chord of an ellipsoid in [0, 1]: 1 at its centre, 0 outside."""
        return np.sqrt(np.maximum(1 - self._distance(centre, radii), 0))

    def bump(self, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Return a Gaussian bump in (0, 1] with deviations ``radii`` in cm."""
        return np.exp(-0.5 * self._distance(centre, radii))

    def _distance(self, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Return squared distances in units of the radii; in float32, whatever is passed."""
        x = (self.x - float(centre[0])) * (1 / float(radii[0]))
        y = (self.y - float(centre[1])) * (1 / float(radii[1]))
        return x * x + y * y
