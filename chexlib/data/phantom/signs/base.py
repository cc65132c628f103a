"""What every sign of a finding is: a change of shape, then a change of the maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chexlib.data.phantom.anatomy import Plan
from chexlib.data.phantom.body import Chest
from chexlib.data.phantom.canvas import Canvas

__all__ = ["Sign", "blob", "ramp"]


@dataclass
class Sign:
    """One finding of one patient.

    Parameters
    ----------
    plan : Plan
        The chest, which ``shape`` may change.
    severity : float
        In (0, 1].
    rng : numpy Generator
        Of this patient and finding: side and place stay the same over the follow-ups.
    """

    plan: Plan
    severity: float
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.side = -1 if self.rng.random() < 0.5 else 1
        self.draw()

    def draw(self) -> None:
        """Draw what is the patient's own, before anything depends on the film."""

    def shape(self) -> None:
        """Change outlines before anything is painted."""

    def paint(self, chest: Chest) -> np.ndarray:
        """Change the maps; return where and how strongly, float32 [S, S] from 0 up."""
        raise NotImplementedError

    def place(self, u: tuple[float, float], v: tuple[float, float]) -> np.ndarray:
        """Draw a point of the lung, (x, y) in cm; u goes outwards, v downwards, from 0 to 1."""
        outline, lung = self.plan.wall[self.side], self.plan.lungs[self.side]
        top, bottom = outline[:, 1].min(), lung[20:34, 1].min()
        y = top + self.rng.uniform(*v) * (bottom - top)
        order = np.argsort(outline[:21, 1])
        wall = np.interp(y, outline[:21, 1][order], np.abs(outline[:21, 0][order]))
        inner = 2.6 if self.side < 0 else 2.8
        return np.array([self.side * (inner + self.rng.uniform(*u) * (wall - inner)), y])


def ramp(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return 0 before ``start``, 1 after ``end``, and a smooth rise between; either way round."""
    t = np.clip((x - float(start)) * (1 / float(end - start)), 0, 1)
    return t * t * (3 - 2 * t)


def blob(canvas: Canvas, rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return a ragged patch in [0, 1] about ``radius`` cm wide to each side."""
    patch = canvas.bump(tuple(centre), (0.75 * radius, 0.75 * radius * rng.uniform(0.7, 1.3)))
    ragged = 0.5 + 0.35 * canvas.texture(rng, 0.5, 2.5)
    return ramp(patch + 0.45 * patch * (ragged - 0.5), 0.25, 0.85)
