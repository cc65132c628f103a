"""From path lengths to grey values: attenuation, scatter, noise, detector, 8-bit export."""

from __future__ import annotations

import cv2
import numpy as np

from chexlib.data.phantom.anatomy import generator
from chexlib.data.phantom.body import Chest

__all__ = ["expose"]

# Effective linear attenuation at about 120 kVp filtered by a chest, 1/cm (Hubbell and Seltzer
# 1995, tables of mass attenuation near 60 keV, times density).
MU_TISSUE, MU_BONE, MU_METAL = 0.20, 0.52, 5.0
PHOTONS = 9.0e4  # reaching a square centimetre's worth of detector at full exposure


def expose(chest: Chest) -> np.ndarray:
    """Return the film of a chest, uint8 [S, S], dense bright.

    Beer-Lambert along parallel beams, ``I = I0 exp(-sum(mu_k t_k))``; scatter as a wide blur of
    the primary; photon noise as a normal deviate of the same variance; a logarithmic detector; a
    window chosen by quantiles, as the export of a processing station does.
    """
    film, canvas = chest.plan.film, chest.canvas
    rng = generator(film, "exposure", film.follow_up)
    portable = film.view == "AP"
    tissue = chest.trunk - chest.air * (1 - chest.density) + chest.solid
    tissue += chest.vessels * chest.gain
    np.maximum(tissue, 0, out=tissue)
    through = np.exp(-(MU_TISSUE * tissue + MU_BONE * chest.bone + MU_METAL * chest.metal))
    ratio = rng.uniform(0.7, 1.1) if portable else rng.uniform(0.32, 0.52)  # scatter to primary
    signal = through + float(ratio) * canvas.blur(through, 5.0)
    signal *= np.exp(-4.0 * chest.cassette)
    dose = (0.45 if portable else 1.0) * rng.uniform(0.7, 1.3)
    counts = PHOTONS * dose / canvas.scale**2 * 25
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    signal += np.sqrt(signal * np.float32(1 / counts)) * noise
    optical = -np.log(np.maximum(signal, np.float32(1e-4)))
    # Stations sharpen a little: what differs from its surroundings is raised.
    optical += np.float32(0.35) * (optical - canvas.blur(optical, 1.2))
    edge, step = canvas.size // 8, max(1, canvas.size // 40)
    middle = np.sort(optical[edge:-edge:step, edge:-edge:step], axis=None)
    low, high = float(middle[len(middle) // 50]), float(middle[-len(middle) // 60])
    spread = high - low
    low, high = low - rng.uniform(0.18, 0.42) * spread, high + rng.uniform(0.0, 0.1) * spread
    grey = np.clip((optical - low) * np.float32(1 / (high - low)), 0, 1)
    gamma, white = rng.uniform(0.85, 1.2), rng.uniform(225, 252)
    table = np.round(white * np.linspace(0, 1, 1024) ** gamma).astype(np.uint8)
    image = table[(grey * 1023).astype(np.int16)]
    return _collimate(image, rng, canvas.scale)


def _collimate(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Blacken what the collimator kept dark, on one film in three."""
    if rng.random() > 0.35:
        return image
    widths = np.round(np.clip(rng.normal(0, 0.8, 4), 0, 2.5) * scale).astype(int)
    top, bottom, left, right = widths
    size = len(image)
    inside = image[top : size - bottom, left : size - right]
    return cv2.copyMakeBorder(inside, *map(int, widths), cv2.BORDER_CONSTANT, value=0)
