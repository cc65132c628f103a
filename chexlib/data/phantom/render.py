"""The film, rendered: plan the chest, let the findings change it, paint, add devices, expose."""

from __future__ import annotations

import cv2
import numpy as np

from chexlib.data.phantom.anatomy import (
    WIDEST,
    Canvas,
    Plan,
    generator,
    plan_chest,
    smooth_outline,
)
from chexlib.data.phantom.body import Chest, paint_chest
from chexlib.data.phantom.film import DEVICES, Film, Rendering
from chexlib.data.phantom.signs import SIGNS

__all__ = ["expose", "field_of_view", "place_devices", "render"]

NIH_SIZE = 1024


# Films of NIH's adults by width and height in cm, and their shares (its label table, rounded).
FORMATS = {
    "PA": ((43, 43, 0.45), (39, 39, 0.1), (42.5, 34.5, 0.2), (34.5, 42.5, 0.25)),
    "AP": ((42, 34.5, 0.97), (34.5, 42, 0.03)),
}


def _canvas(plan: Plan, size: int) -> Canvas:
    """Lay the film: its format is the view's, and its size at the patient follows from the beam."""
    film = plan.film
    rng = generator(film, "position", film.follow_up)
    wide, high, shares = zip(*FORMATS[film.view], strict=True)
    k = rng.choice(len(shares), p=shares)
    part = float(np.clip(rng.normal(0.9, 0.035), 0.82, 1.0)) / plan.magnified(WIDEST)
    # A film is turned, and the patient placed, so that both lungs are on it.
    tall = max(np.ptp(lung[:, 1]) for lung in plan.wall.values())
    field = max(wide[k] * part, 1.06 * plan.width), max(high[k] * part, 1.1 * tall)
    down = rng.normal(1.0, 1.1) + 0.3 * max(0.0, field[1] - 32)
    return Canvas(
        size,
        field=field,
        centre=(rng.normal(0, 0.7 + 0.8 * plan.lying), down),
        angle=float(np.clip(rng.normal(0, 1.0 + 1.2 * plan.lying), -5, 5)),
    )


def field_of_view(film: Film) -> tuple[float, float]:
    """Return the width and the height of a film at the patient, in cm."""
    return tuple(_canvas(plan_chest(film), 32).field.tolist())


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
    chest = paint_chest(plan, _canvas(plan, inner))
    found = {name: sign.paint(chest) for name, sign in signs.items()}
    place_devices(chest)
    image = expose(chest)
    image = _square(image, size)
    masks = {name: _mask(weight, size) for name, weight in found.items()}
    return Rendering(image, masks, {name: _boxes(mask) for name, mask in masks.items()})


def _square(image: np.ndarray, size: int) -> np.ndarray:
    """Squeeze a film into a square, as NIH did, whatever its format was."""
    if image.shape == (size, size):
        return image
    smaller = min(image.shape) >= size
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=how)


def _mask(weight: np.ndarray, size: int) -> np.ndarray:
    """Return where a sign is: at least a third of its strength, and never nowhere."""
    weight = _square(weight, size)
    peak = float(weight.max())
    return weight >= 0.33 * peak if peak > 0 else np.zeros(weight.shape, bool)


# Side letters, L and R, as strokes in a unit square, x to the right and y downwards.
LETTERS = {
    1: ([(0, 0), (0, 1), (0.65, 1)],),
    -1: ([(0, 1), (0, 0), (0.5, 0), (0.65, 0.2), (0.5, 0.45), (0, 0.45)], [(0.3, 0.45), (0.68, 1)]),
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
    canvas = chest.canvas
    height = rng.uniform(0.9, 1.5)
    wide, high = canvas.field
    corner = np.array([side * (0.43 * wide) - 0.4, -0.45 * high + rng.uniform(0, 3)])
    corner = corner + [canvas.x.mean(), canvas.y.mean()]
    strokes = [corner + height * np.array(stroke) * [0.8, 1] for stroke in LETTERS[side]]
    chest.cassette += canvas.stroke(strokes, width=0.24)


def _tube(chest: Chest, rng: np.random.Generator) -> None:
    tip = chest.plan.hilum(1)[1] - rng.uniform(3.6, 6.0)
    top = chest.plan.apex - 10
    _hollow(chest, _curve((rng.normal(0.8, 0.4), top), (0.3, top + 6), (0.25, tip)), 0.95, 0.11)


def _line(chest: Chest, rng: np.random.Generator) -> None:
    apex, hilum = chest.plan.apex, chest.plan.hilum(-1)[1]
    if rng.random() < 0.6:  # by the jugular vein
        path = _curve((-3.0, apex - 8), (-2.6, apex - 2), (-2.0, apex + 3), (-2.0, hilum + 0.5))
    else:  # by the subclavian vein
        bend = (-6.5, apex + 0.8), (-2.6, apex + 2.6)
        path = _curve((-11.5, apex + 3.6), *bend, (-2.0, hilum + 1))
    chest.metal += 0.16 * chest.canvas.stroke([path], width=0.24)


def _nasogastric(chest: Chest, rng: np.random.Generator) -> None:
    apex, end = chest.plan.apex, chest.plan.dome(1) + rng.uniform(3, 6)
    path = _curve((0.4, apex - 10), (0.2, apex), (0.6, 2), (1.0, end - 4), (3.8, end))
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
        hang = (0.7 * x + sway[0], 0.5 * (y + low)), (0.4 * x + sway[1], low + 4)
        path = _curve((x, y), *hang, tuple(out))
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
    plan, apex, low = chest.plan, chest.plan.apex, chest.plan.dome(-1)
    centre = np.array([0.36 * plan.width, apex + 3.8]) + rng.normal(0, 0.5, 2)
    chest.metal += 0.55 * (chest.canvas.ellipse(tuple(centre), (2.3, 1.9)) > 0)
    vein = tuple(centre - [1.5, 0.8]), (3.5, apex + 1.6), (-1.6, apex + 4), (-2.1, 1.5)
    path = _curve(*vein, (0.5, low - 1.2), (4.5, low - 0.6))
    chest.metal += 0.14 * chest.canvas.stroke([path], width=0.22)


def _wires(chest: Chest, rng: np.random.Generator) -> None:
    heights = np.linspace(chest.plan.apex + 4.5, chest.plan.dome(-1) - 3, 6)
    loops = [
        np.array([[-0.5, y], [0.0, y + 0.35], [0.5, y - 0.05], [0.0, y - 0.3], [-0.5, y]])
        + rng.normal(0, 0.12, 2)
        for y in heights
    ]
    chest.metal += 0.6 * chest.canvas.stroke(loops, width=0.13)


_IN_ORDER = (_marker, _tube, _line, _nasogastric, _leads, _drain, _pacemaker, _wires)
PLACE = dict(zip(DEVICES, _IN_ORDER, strict=True))


def place_devices(chest: Chest) -> None:
    """Add the film's devices to the map of metal."""
    film = chest.plan.film
    for name, place in PLACE.items():
        if name in film.devices:
            place(chest, generator(film, name, film.follow_up if name == "marker" else 0))


# Effective linear attenuation at about 120 kVp filtered by a chest, 1/cm (Hubbell and Seltzer
# 1995, tables of mass attenuation near 60 keV, times density).
MU_TISSUE, MU_BONE, MU_METAL = 0.20, 0.52, 5.0
PHOTONS = 3.0e5  # reaching a square centimetre's worth of detector at full exposure


def expose(chest: Chest) -> np.ndarray:
    """Return the film of a chest, uint8 [H, W], dense bright.

    Beer-Lambert, ``I = I0 exp(-sum(mu_k t_k))``; scatter as a wide blur of the primary; photon
    noise as a normal deviate of the same variance; a logarithmic detector. Then a station's work:
    what is wide is flattened, what is small is raised, and a curve with a toe and a shoulder, as
    film had one, maps quantiles to greys.
    """
    film, canvas = chest.plan.film, chest.canvas
    rng = generator(film, "exposure", film.follow_up)
    portable = chest.plan.lying
    through = np.exp(-(MU_TISSUE * chest.tissue() + MU_BONE * chest.bone + MU_METAL * chest.metal))
    ratio = rng.uniform(0.5, 0.9) if portable else rng.uniform(0.25, 0.45)  # scatter to primary
    # What the open beam beside the body brings does not scatter.
    signal = through + float(ratio) * canvas.blur(np.minimum(through, 0.15), 5.0)
    signal *= np.exp(-4.0 * chest.cassette)
    dose = (0.45 if portable else 1.0) * rng.uniform(0.7, 1.3)
    counts = PHOTONS * dose / canvas.scale**2 * 25
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    signal += np.sqrt(signal * np.float32(1 / counts)) * noise
    optical = -np.log(np.maximum(signal, np.float32(1e-4)))
    wide = canvas.blur(optical, 4.0)
    flatten, sharpen = rng.uniform(0.1, 0.35), rng.uniform(0.3, 0.6)
    optical += np.float32(sharpen) * (optical - canvas.blur(optical, 1.2))
    optical -= np.float32(flatten) * wide
    rows, columns = (slice(edge // 8, -edge // 8, max(1, edge // 40)) for edge in canvas.shape)
    middle = np.sort(optical[rows, columns], axis=None)
    lungs, belly = (float(middle[int(q * len(middle))]) for q in (0.12, 0.85))
    # The curve's middle lies between lungs and belly; its slope is the film's contrast.
    centre = lungs + rng.uniform(0.2, 0.55) * (belly - lungs)
    slope = rng.uniform(2.3, 4.3) / (belly - lungs)
    black, white = rng.uniform(0, 8), rng.uniform(210, 252)
    curve = 1 / (1 + np.exp(-np.linspace(-6, 6, 1024)))
    table = np.round(black + (white - black) * curve).astype(np.uint8)
    place = np.clip((optical - np.float32(centre)) * np.float32(slope * 1023 / 12) + 511.5, 0, 1023)
    return _collimate(table[place.astype(np.int16)], rng, canvas.scale)


def _collimate(image: np.ndarray, rng: np.random.Generator, scale: float) -> np.ndarray:
    """Blacken what the collimator kept dark, on one film in three."""
    if rng.random() > 0.35:
        return image
    widths = np.round(np.clip(rng.normal(0, 0.8, 4), 0, 2.5) * scale).astype(int)
    top, bottom, left, right = widths
    high, wide = image.shape
    inside = image[top : high - bottom, left : wide - right]
    return cv2.copyMakeBorder(inside, *map(int, widths), cv2.BORDER_CONSTANT, value=0)
