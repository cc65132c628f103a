"""The patient's chest as outlines, in centimetres: what a sign may push, pull or swell.

The origin is the midline at half the height of the lungs; x grows to the image's right, which is
the patient's left, and y downwards. ``side`` is -1 for the patient's right lung, +1 for the left.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from chexlib.data.phantom.film import Film

__all__ = ["Plan", "generator", "plan_chest", "smooth_outline"]

WALL, BASE, MIDDLE = 20, 14, 20  # landmarks of a lung, as data/tables_phantom.py lays them
LANDMARKS = WALL + BASE + MIDDLE


def generator(film: Film, *words: int | str) -> np.random.Generator:
    """Return a random generator that belongs to this patient and these words alone."""
    parts = [int.from_bytes(w.encode(), "little") if isinstance(w, str) else w for w in words]
    return np.random.Generator(np.random.SFC64([film.seed, film.patient, *parts]))


@cache
def _lung_model() -> tuple[np.ndarray, np.ndarray]:
    """Return the mean outline [108, 2] and the modes [8, 108, 2], in widths of both lungs."""
    from chexlib.data.tables import table

    frame = table("phantom_lungs")
    names = [name[:-2] for name in frame.columns if name.endswith("_x")]
    arrays = np.stack([frame[[f"{name}_x", f"{name}_y"]].to_numpy() for name in names])
    return arrays[0], arrays[1:]


@dataclass
class Plan:
    """Geometry of one chest on one film; signs change it before anything is painted.

    ``lungs`` maps side to landmarks [54, 2] in cm: along the chest wall from the apex to the
    costophrenic angle, along the diaphragm to the inner corner, along the mediastinum to the apex.
    """

    film: Film
    lungs: dict[int, np.ndarray]
    wall: dict[int, np.ndarray]  # the chest wall inside which a lung may shrink
    apex: float  # height of the lungs' tops, cm
    heart: float  # cardiothoracic ratio
    heart_shift: float = 0.0  # cm to the image's right, of heart and mediastinum
    heart_tilt: float = 0.0
    knob: float = 1.7  # radius of the aortic knob, cm
    density: float = 0.26  # of aerated lung, relative to water
    vessels: float = 1.0
    depth: float = 21.0  # of the trunk from front to back, cm
    fat: float = 1.0
    breast: float = 0.0
    mineral: float = 1.0  # of the bones

    @property
    def width(self) -> float:
        """Inner width of the thorax, cm."""
        return float(self.wall[1][:, 0].max() - self.wall[-1][:, 0].min())

    def dome(self, side: int) -> float:
        """Return the height of the top of a hemidiaphragm, cm."""
        return float(self.lungs[side][WALL : WALL + BASE, 1].min())

    def angle(self, side: int) -> np.ndarray:
        """Return the costophrenic angle of a side, (x, y) in cm."""
        return self.lungs[side][WALL]

    def hilum(self, side: int) -> np.ndarray:
        """Return the hilum of a side, (x, y) in cm; the left is a little higher."""
        height = 0.5 * (self.apex + self.dome(-1))
        return np.array([side * 4.1 + 0.2 + self.heart_shift, height + (0.3, -0.7)[side > 0]])

    def move_base(self, side: int, down: float, *, flatten: float = 0.0) -> None:
        """Lower a hemidiaphragm by ``down`` cm, and flatten its dome by a share in [0, 1]."""
        lung = self.lungs[side]
        top, bottom = self.apex, lung[:, 1].max()
        lung[:, 1] += down * np.clip((lung[:, 1] - top) / (bottom - top), 0, 1) ** 1.5
        base = slice(WALL, WALL + BASE)
        chord = np.linspace(lung[WALL], lung[WALL + BASE - 1] + [0, 0.4], BASE)
        lung[base] += flatten * 0.75 * (chord - lung[base])

    def spread(self, side: int, outward: float) -> None:
        """Shift a lung's wall outwards by ``outward`` cm."""
        for outline in (self.lungs[side], self.wall[side]):
            share = np.abs(outline[:, 0]) / np.abs(outline[:, 0]).max()
            outline[:, 0] += side * outward * share


def plan_chest(film: Film) -> Plan:
    """Draw the chest of a healthy patient as this film shows it."""
    rng, now = generator(film, "anatomy"), generator(film, "film", film.follow_up)
    male, portable = film.sex == "M", film.view == "AP"
    mean, modes = _lung_model()
    shape = mean + np.tensordot(np.clip(rng.normal(0, 0.75, len(modes)), -1.6, 1.6), modes, axes=1)
    width = rng.normal(28.5, 1.3) if male else rng.normal(25.6, 1.2)
    # A breath held less deeply, as in bed, leaves the lungs shorter.
    breath = (0.9 if portable else 1.0) * now.normal(1, 0.025)
    outline = shape * width * [1, 1]
    outline[:, 1] *= breath
    outline[:, 1] -= 0.5 * (outline[:, 1].min() + outline[:, 1].max())
    lungs = {-1: outline[:LANDMARKS].copy(), 1: outline[LANDMARKS:].copy()}
    old = float(np.clip((film.age - 40) / 45, 0, 1))
    ratio = rng.normal(0.425, 0.022) + 0.025 * old
    return Plan(
        film=film,
        lungs=lungs,
        wall={side: lung.copy() for side, lung in lungs.items()},
        apex=float(outline[:, 1].min()),
        heart=ratio * (1.1 if portable else 1.0),
        heart_tilt=rng.normal(0, 1) - 0.5 * portable,
        knob=rng.normal(1.45, 0.12) + 0.55 * old,
        density=float(np.clip(rng.normal(0.27, 0.015) + 0.02 * portable, 0.2, 0.34)),
        vessels=rng.normal(1, 0.1),
        depth=(22.0 if male else 20.5) + rng.normal(0, 1.3),
        fat=float(np.clip(rng.gamma(6, 0.17), 0.4, 2.4)),
        breast=0.0 if male else float(np.clip(rng.normal(2.2, 1.0), 0.4, 4.5)),
        mineral=1.0 - 0.3 * old * (0.8 if male else 1.2) + rng.normal(0, 0.05),
    )


def smooth_outline(points: np.ndarray, *, per: int = 6) -> np.ndarray:
    """Return a closed Catmull-Rom curve through points [N, 2], ``per`` points a stretch."""
    t = np.linspace(0, 1, per, endpoint=False)[None, :, None]
    p0, p1 = np.roll(points, 1, axis=0)[:, None], points[:, None]
    p2, p3 = np.roll(points, -1, axis=0)[:, None], np.roll(points, -2, axis=0)[:, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return curve.reshape(-1, 2)
