"""The film, rendered: plan the chest, let the findings change it, paint, expose."""

from __future__ import annotations

import cv2
import numpy as np

from chexlib.data.phantom.anatomy import generator, plan_chest
from chexlib.data.phantom.body import paint_chest
from chexlib.data.phantom.canvas import Canvas
from chexlib.data.phantom.devices import place_devices
from chexlib.data.phantom.film import Film, Rendering
from chexlib.data.phantom.physics import expose
from chexlib.data.phantom.signs import SIGNS

__all__ = ["field_of_view", "render"]

NIH_SIZE = 1024


def _canvas(film: Film, size: int, width: float) -> Canvas:
    rng = generator(film, "position", film.follow_up)
    portable = film.view == "AP"
    return Canvas(
        size,
        field=width * rng.normal(1.17, 0.045) + 1.0,
        centre=(rng.normal(0, 0.5 + 0.7 * portable), rng.normal(0.8, 0.7)),
        angle=float(np.clip(rng.normal(0, 1.0 + 1.2 * portable), -5, 5)),
    )


def field_of_view(film: Film) -> float:
    """Return the width of a film at the patient, in cm."""
    return _canvas(film, 32, plan_chest(film).width).field


def _boxes(mask: np.ndarray) -> list[tuple[float, float, float, float]]:
    """Return the boxes around the larger parts of a mask, in pixels of a 1024 px film."""
    scale = NIH_SIZE / len(mask)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    parts = sorted(stats[1:count].tolist(), key=lambda part: -part[4])
    return [
        tuple(scale * edge for edge in part[:4]) for part in parts if part[4] >= 0.08 * parts[0][4]
    ]


def render(film: Film, *, size: int = 256) -> Rendering:
    """Simulate a film.

    The same film and size give the same picture on the same machine and library versions.

    Parameters
    ----------
    film : Film
        What it shows.
    size : int
        Pixels a side, 32 to 2048.

    Returns
    -------
    Rendering
        The image, and for every finding its mask and boxes.

    Raises
    ------
    ValueError
        If the size is outside its range.

    Examples
    --------
    >>> shown = render(Film(patient=1, severity={"Effusion": 0.5}), size=128)
    >>> shown.image.shape, shown.image.dtype
    ((128, 128), dtype('uint8'))
    >>> list(shown.masks)
    ['Effusion']
    """
    if not 32 <= size <= 2 * NIH_SIZE:
        raise ValueError(f"Expected a size from 32 to {2 * NIH_SIZE} pixels, got {size}.")
    # Small films are painted a quarter larger, so that thin lines are averaged, not lost.
    inner = 5 * size // 4 if size < 112 else size
    plan = plan_chest(film)
    signs = {
        name: SIGNS[name](plan, severity, generator(film, name))
        for name, severity in film.severity.items()
    }
    for sign in signs.values():
        sign.shape()
    chest = paint_chest(plan, _canvas(film, inner, plan.width))
    found = {name: sign.paint(chest) for name, sign in signs.items()}
    place_devices(chest)
    image = expose(chest)
    if inner != size:
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    masks = {name: _mask(weight, size) for name, weight in found.items()}
    return Rendering(image, masks, {name: _boxes(mask) for name, mask in masks.items()})


def _mask(weight: np.ndarray, size: int) -> np.ndarray:
    """Return where a sign is: at least a third of its strength, and never nowhere."""
    if len(weight) != size:
        weight = cv2.resize(weight, (size, size), interpolation=cv2.INTER_AREA)
    peak = float(weight.max())
    return weight >= 0.33 * peak if peak > 0 else np.zeros(weight.shape, bool)
