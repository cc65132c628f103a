"""Findings of the pleura: fluid, air, scar between the lung and the wall."""

from __future__ import annotations

import numpy as np

from chexlib.data.phantom.anatomy import BASE, WALL
from chexlib.data.phantom.body import Chest
from chexlib.data.phantom.canvas import profile
from chexlib.data.phantom.signs.base import Sign, ramp

__all__ = ["Effusion", "PleuralThickening", "Pneumothorax"]


class Effusion(Sign):
    """Fluid: standing, it blunts the angle and climbs the wall (meniscus); lying, it is a veil."""

    def draw(self) -> None:
        """Draw whether it is on both sides."""
        self.both = self.rng.random() < 0.35
        self.other = self.rng.uniform(0.3, 0.8)

    def shape(self) -> None:
        """Let a large effusion push the mediastinum away."""
        push = 2.6 * max(0.0, self.severity - 0.6) / 0.4
        self.plan.heart_shift -= 0.0 if self.both else self.side * push

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the fluid on one side, or less of it on the other too."""
        chest.notes["pleural side"] = self.side
        shown = self._one_side(chest, self.side, self.severity)
        if self.both:
            shown = np.maximum(
                shown, self._one_side(chest, -self.side, max(0.05, self.severity * self.other))
            )
        return shown

    def _one_side(self, chest: Chest, side: int, severity: float) -> np.ndarray:
        plan, canvas = chest.plan, chest.canvas
        u, _ = chest.within(side)
        low = float(plan.angle(side)[1])
        top = float(plan.wall[side][:, 1].min())
        height = 1.8 + (low - top + 0.5) * severity**1.25
        # The level at the wall is the highest; it sinks towards the middle, and rises there a bit.
        rise = height * (0.42 + 0.58 * np.clip(u, 0, 1) ** 3 + 0.1 * np.clip(0.35 - u, 0, 1))
        surface = low - rise
        lung = chest.lungs[side]
        if plan.film.view == "AP":
            depth = ramp(canvas.y, top, low)
            veil = lung * (0.3 + 0.7 * depth)
            chest.fill_air(veil, 0.1 + 0.55 * severity)
            height *= 0.55
            surface = low - 0.55 * rise
        fluid = lung * ramp(canvas.y - surface, -0.25, 0.35)
        chest.fill_air(fluid, 0.96)
        # The fluid also lies before and behind the dome, so that the angle and the dome are lost.
        angle = canvas.bump((side * (plan.width / 2 - 0.6), low), (1.6, 1.2 + 0.4 * height))
        chest.solid += 0.8 * angle * (canvas.y > surface) * (1 - 0.7 * lung)
        if plan.film.view == "AP":
            return np.maximum(fluid, 0.45 * veil) if severity > 0.3 else fluid
        return fluid


class Pneumothorax(Sign):
    """Air: a thin pleural line, and beyond it neither lung nor vessel."""

    def draw(self) -> None:
        """Draw where along the wall the lung falls away most."""
        self.shares = np.array([1.0, self.rng.uniform(0.5, 0.9), self.rng.uniform(0.1, 0.35)])

    def shape(self) -> None:
        """Let a tension pneumothorax push mediastinum and diaphragm away."""
        tension = max(0.0, self.severity - 0.65) / 0.35
        self.plan.heart_shift -= self.side * 2.6 * tension
        self.plan.move_base(self.side, 1.6 * tension, flatten=0.5 * tension)

    def paint(self, chest: Chest) -> np.ndarray:
        """Shrink the lung towards its hilum, and empty what it leaves."""
        plan, canvas, side = chest.plan, chest.canvas, self.side
        chest.notes["pleural side"] = side
        lung = plan.lungs[side]
        gap = 0.8 + 6.5 * self.severity**1.3
        along = np.r_[
            np.interp(np.linspace(0, 1, WALL), [0, 0.45, 1], self.shares),
            np.linspace(self.shares[2], 0.05, BASE),
            np.interp(np.linspace(0, 1, len(lung) - WALL - BASE), [0, 0.7, 1], [0.0, 0.1, 1]),
        ]
        inward = plan.hilum(side) - lung
        reach = np.linalg.norm(inward, axis=1, keepdims=True)
        move = np.minimum(gap * along[:, None], 0.72 * reach)
        shrunk = lung + inward / reach * move
        inner = canvas.fill(shrunk, soft=0.04)
        outside = np.maximum(chest.lungs[side] - inner, 0) * (1 - chest.heart)
        # Beyond the line there is gas alone; the fallen lung is a little denser.
        chest.density = chest.density * (1 - 0.94 * outside)
        chest.gain = chest.gain * (1 - outside)
        chest.fill_air(inner * chest.lungs[side], 0.22 * max(0.0, self.severity - 0.3))
        edge = shrunk[[*range(-6, 0), *range(WALL + 3)]]
        line = canvas.stroke([edge], width=0.13) * chest.lungs[side]
        chest.solid += 0.5 * line * (1 - 0.8 * chest.heart)
        return outside + 0.3 * line * (1 - chest.heart)


class PleuralThickening(Sign):
    """A smooth band along the wall or over the apex, sometimes calcified; no meniscus."""

    def draw(self) -> None:
        """Draw where it runs and whether it holds calcium."""
        self.apical = self.rng.random() < 0.35
        self.start = self.rng.uniform(0.25, 0.5)
        self.calcified = self.rng.random() < 0.3
        self.wave = self.rng.normal(0, 0.12, 5)

    def paint(self, chest: Chest) -> np.ndarray:
        """Thicken the rim of the lung along a stretch of the wall."""
        plan, canvas, side = chest.plan, chest.canvas, self.side
        lung = plan.lungs[side]
        thick = 0.45 + 1.3 * self.severity
        closed = np.vstack([lung[-10:], lung[: WALL + 1]]) if self.apical else lung[: WALL + 1]
        long = 0.3 + 0.45 * self.severity
        t = np.linspace(0, 1, len(closed))
        first = 0.1 if self.apical else self.start
        height = np.clip(np.sin(np.pi * np.clip((t - first) / long, 0, 1)), 0, 1) ** 0.5
        height = height * (1 + np.interp(t, np.linspace(0, 1, 5), self.wave))
        centre = plan.hilum(side) + [0, 0.5]
        inward = centre - closed
        inward /= np.linalg.norm(inward, axis=1, keepdims=True)
        used = height > 0.02
        outer, inner = (
            closed[used] - 0.3 * inward[used],
            closed[used] + inward[used] * (thick * height[used, None]),
        )
        band = canvas.fill(np.vstack([outer, inner[::-1]]), soft=0.08) * chest.lungs[side]
        path = 2.2 + 2.5 * self.severity  # along the beam a rind is much longer than it is thick
        chest.solid += path * band
        chest.gain = chest.gain * (1 - 0.8 * band)
        if self.calcified:
            rim = canvas.stroke(
                [closed[used] + 0.5 * thick * inward[used] * height[used, None]], width=0.3
            )
            chest.bone += 0.5 * rim * band
        return band * profile(chest.lungs[side] + 0.001, 0.2 * canvas.scale)
