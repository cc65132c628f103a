"""What is on or in the patient and is not the patient: tubes, wires, letters."""

from __future__ import annotations

import numpy as np

from chexlib.data.phantom.anatomy import generator, smooth_outline
from chexlib.data.phantom.body import Chest

__all__ = ["place_devices"]

# Side letters as strokes in a unit square, x to the right and y downwards.
LETTERS = {
    "L": [[(0, 0), (0, 1), (0.65, 1)]],
    "R": [
        [(0, 1), (0, 0), (0.5, 0), (0.65, 0.2), (0.5, 0.45), (0, 0.45)],
        [(0.3, 0.45), (0.68, 1)],
    ],
}


def _curve(*points: tuple[float, float]) -> np.ndarray:
    """Return a smooth open path through points in cm."""
    doubled = np.array([*points, *points[-2:0:-1]], float)
    return smooth_outline(doubled, per=8)[: 8 * (len(points) - 1) + 1]


def _hollow(chest: Chest, path: np.ndarray, width: float, metal: float) -> None:
    """Add a tube: its walls are denser along the beam than its lumen, and a stripe marks it."""
    chest.metal += metal * chest.canvas.stroke([path], width=width, hollow=0.6)
    chest.metal += 1.2 * metal * chest.canvas.stroke([path], width=0.12)


def _marker(chest: Chest, rng: np.random.Generator) -> None:
    side = 1 if rng.random() < 0.8 else -1
    letter = LETTERS["L" if side > 0 else "R"]
    canvas = chest.canvas
    height = rng.uniform(1.5, 2.1)
    corner = np.array(
        [side * (0.40 * canvas.field) - 0.4, -0.44 * canvas.field + rng.uniform(0, 2)]
    )
    corner = corner + [canvas.x.mean(), canvas.y.mean()]
    strokes = [corner + height * np.array(stroke) * [0.8, 1] for stroke in letter]
    chest.cassette += canvas.stroke(strokes, width=0.36)


def _tube(chest: Chest, rng: np.random.Generator) -> None:
    tip = chest.plan.hilum(1)[1] - rng.uniform(3.6, 6.0)
    top = chest.plan.apex - 10
    _hollow(chest, _curve((rng.normal(0.8, 0.4), top), (0.3, top + 6), (0.25, tip)), 0.95, 0.11)


def _line(chest: Chest, rng: np.random.Generator) -> None:
    apex, hilum = chest.plan.apex, chest.plan.hilum(-1)[1]
    if rng.random() < 0.6:  # by the jugular vein
        path = _curve((-3.0, apex - 8), (-2.6, apex - 2), (-2.0, apex + 3), (-2.0, hilum + 0.5))
    else:  # by the subclavian vein
        path = _curve(
            (-11.5, apex + 3.6), (-6.5, apex + 0.8), (-2.6, apex + 2.6), (-2.0, hilum + 1)
        )
    chest.metal += 0.16 * chest.canvas.stroke([path], width=0.24)


def _nasogastric(chest: Chest, rng: np.random.Generator) -> None:
    end = chest.plan.dome(1) + rng.uniform(3, 6)
    path = _curve(
        (0.4, chest.plan.apex - 10), (0.2, chest.plan.apex), (0.6, 2), (1.0, end - 4), (3.8, end)
    )
    chest.metal += 0.16 * chest.canvas.stroke([path], width=0.3)


def _leads(chest: Chest, rng: np.random.Generator) -> None:
    plan = chest.plan
    wide, low = plan.width / 2, plan.dome(-1)
    spots = [(-0.62 * wide, plan.apex + 3), (0.66 * wide, plan.apex + 3.4), (0.8 * wide, low - 1.5)]
    out = rng.normal(0, 1.5, 2) + [0.1 * wide, low + 12]
    for x, y in spots:
        x, y = x + rng.normal(0, 1.0), y + rng.normal(0, 1.0)  # noqa: PLW2901
        chest.metal += 0.16 * (chest.canvas.ellipse((x, y), (0.55, 0.55)) > 0)
        sway = rng.normal(0, 2.5, 2)
        path = _curve(
            (x, y), (0.7 * x + sway[0], 0.5 * (y + low)), (0.4 * x + sway[1], low + 4), tuple(out)
        )
        chest.metal += 0.1 * chest.canvas.stroke([path], width=0.16)


def _drain(chest: Chest, rng: np.random.Generator) -> None:
    """Lay a chest tube on the side of a pneumothorax or an effusion."""
    plan = chest.plan
    side = chest.notes.get("pleural side") or (-1 if rng.random() < 0.5 else 1)
    low = plan.angle(side)[1]
    enter = (side * (plan.width / 2 + 2.6), 0.45 * low + 2.0)
    wall = side * (plan.width / 2)
    tip = (side * 0.24 * plan.width, plan.apex + rng.uniform(2.5, 5))
    path = _curve((side * (plan.width / 2 + 8), low + 2), enter, (wall * 0.86, 0.1 * low), tip)
    _hollow(chest, path, 0.8, 0.09)


def _pacemaker(chest: Chest, rng: np.random.Generator) -> None:
    plan = chest.plan
    centre = np.array([0.36 * plan.width, plan.apex + 3.8]) + rng.normal(0, 0.5, 2)
    chest.metal += 0.55 * (chest.canvas.ellipse(tuple(centre), (2.3, 1.9)) > 0)
    low = plan.dome(-1)
    start = tuple(centre - [1.5, 0.8])
    path = _curve(
        start,
        (3.5, plan.apex + 1.6),
        (-1.6, plan.apex + 4),
        (-2.1, 1.5),
        (0.5, low - 1.2),
        (4.5, low - 0.6),
    )
    chest.metal += 0.14 * chest.canvas.stroke([path], width=0.22)


def _wires(chest: Chest, rng: np.random.Generator) -> None:
    heights = np.linspace(chest.plan.apex + 4.5, chest.plan.dome(-1) - 3, 6)
    loops = [
        np.array([[-0.5, y], [0.0, y + 0.35], [0.5, y - 0.05], [0.0, y - 0.3], [-0.5, y]])
        + rng.normal(0, 0.12, 2)
        for y in heights
    ]
    chest.metal += 0.6 * chest.canvas.stroke(loops, width=0.13)


PLACE = {
    "marker": _marker,
    "tube": _tube,
    "line": _line,
    "nasogastric": _nasogastric,
    "leads": _leads,
    "drain": _drain,
    "pacemaker": _pacemaker,
    "wires": _wires,
}


def place_devices(chest: Chest) -> None:
    """Add the film's devices to the map of metal."""
    film = chest.plan.film
    for name, place in PLACE.items():
        if name in film.devices:
            place(chest, generator(film, name, film.follow_up if name == "marker" else 0))
