"""What a sign is: a change of the chest's shape, then a change of its maps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chexlib.data.phantom.anatomy import BASE, WALL, Plan
from chexlib.data.phantom.body import Chest

__all__ = ["Sign"]


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
        """Change the maps; return where and how strongly, float32 [H, W] from 0 up."""
        raise NotImplementedError

    def place(self, u: tuple[float, float], v: tuple[float, float]) -> np.ndarray:
        """Draw a point of the lung, (x, y) in cm; u goes outwards, v downwards, from 0 to 1."""
        outline, lung = self.plan.wall[self.side], self.plan.lungs[self.side]
        top, bottom = outline[:, 1].min(), lung[WALL : WALL + BASE, 1].min()
        y = top + self.rng.uniform(*v) * (bottom - top)
        x, height = outline[: WALL + 1][np.argsort(outline[: WALL + 1, 1])].T
        wall = np.interp(y, height, np.abs(x))
        inner = 2.6 if self.side < 0 else 2.8
        return np.array([self.side * (inner + self.rng.uniform(*u) * (wall - inner)), y])
