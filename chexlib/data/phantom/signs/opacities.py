"""Findings that fill the lung's air: fluid, cells, collapse, scar."""

from __future__ import annotations

import numpy as np

from chexlib.data.phantom.anatomy import generator
from chexlib.data.phantom.body import Chest
from chexlib.data.phantom.signs.base import Sign, blob, ramp

__all__ = ["Atelectasis", "Consolidation", "Edema", "Fibrosis", "Infiltration", "Pneumonia"]

SIDES = (-1, 1)


def _bronchogram(chest: Chest, sign: Sign, weight: np.ndarray, count: int) -> None:
    """Leave air in the bronchi that run through a filled lobe."""
    start = chest.plan.hilum(sign.side)
    paths = []
    for _ in range(count):
        target = sign.place((0.35, 0.9), (0.1, 0.95))
        middle = 0.5 * (start + target) + sign.rng.normal(0, 0.5, 2)
        paths.append(np.array([start, middle, target]))
        fork = middle + (target - start) * 0.35 + sign.rng.normal(0, 1.2, 2)
        paths.append(np.array([middle, fork]))
    air = chest.canvas.stroke(paths, width=0.35)
    chest.solid -= 0.9 * air * weight * chest.lungs[sign.side]


class Infiltration(Sign):
    """Ill-defined, patchy, faint opacities with a fine net in them, in one or more places."""

    def draw(self) -> None:
        """Draw up to four patches."""
        self.patches = []
        for _ in range(4):
            self.side = -1 if self.rng.random() < 0.5 else 1
            self.patches.append(
                (self.side, self.place((0.1, 0.75), (0.35, 0.95)), self.rng.uniform(2.0, 4.0))
            )

    def paint(self, chest: Chest) -> np.ndarray:
        """Add haze, spots and a net."""
        s, canvas = self.severity, chest.canvas
        grain = ramp(canvas.texture(self.rng, 0.35, 1.4), -0.4, 1.5)
        net = np.abs(canvas.texture(self.rng, 0.12, 0.7))
        shown = np.zeros_like(chest.air)
        for side, centre, radius in self.patches[: 1 + round(3 * s)]:
            patch = blob(canvas, self.rng, centre, radius * (0.8 + 0.5 * s)) * chest.lungs[side]
            shown = np.maximum(shown, patch)
        chest.fill_air(shown * (0.35 + 0.65 * grain), 0.10 + 0.30 * s)
        chest.solid += (0.15 + 0.35 * s) * shown * net
        return shown


class Pneumonia(Sign):
    """An airspace opacity of a segment or lobe, on one side, soft-edged, with air bronchograms."""

    def draw(self) -> None:
        """Draw the segment: mostly low."""
        self.centre = self.place((0.15, 0.7), (0.3, 0.95))

    def paint(self, chest: Chest) -> np.ndarray:
        """Fill the segment unevenly."""
        s = self.severity
        patch = blob(chest.canvas, self.rng, self.centre, 2.8 + 3.2 * s) * chest.lungs[self.side]
        uneven = 0.8 + 0.13 * chest.canvas.texture(self.rng, 0.4, 2.0)
        weight = np.clip(patch * uneven, 0, 1)
        chest.fill_air(weight, 0.22 + 0.5 * s)
        _bronchogram(chest, self, patch * float(0.4 + 0.6 * s), 3)
        return patch


class Consolidation(Sign):
    """A lobe filled evenly up to a sharp fissure; borders of what it touches are lost."""

    def draw(self) -> None:
        """Draw the lobe."""
        self.upper = self.rng.random() < 0.4
        self.bow = self.rng.normal(0, 0.6)
        self.cut = self.rng.uniform(0.38, 0.5) if self.upper else self.rng.uniform(0.5, 0.64)

    def paint(self, chest: Chest) -> np.ndarray:
        """Fill the lobe, from its fissure away."""
        s, canvas, side = self.severity, chest.canvas, self.side
        u, v = chest.within(side)
        fissure = self.cut + 0.08 * (u - 0.5) * self.bow
        edge = v - fissure if not self.upper else fissure - v
        lobe = ramp(edge, -0.012, 0.02) * chest.lungs[side]
        # A small one fills the part next to the fissure, a gross one the lobe.
        reach = 0.14 + 0.55 * s
        ragged = 0.05 * canvas.texture(self.rng, 1.0, 4.0)
        lobe = (
            lobe
            * ramp(edge + ragged, reach + 0.28, reach)
            * ramp(u + ragged, 1.15 + 0.3 * s, 0.5 + 0.4 * s)
        )
        even = np.clip(0.92 + 0.08 * canvas.texture(self.rng, 0.5, 2.5), 0, 1)
        chest.fill_air(lobe * even, 0.45 + 0.5 * s)
        _bronchogram(chest, self, lobe, 4)
        return lobe


class Edema(Sign):
    """Fluid about both hila like wings, vessels to the apices full, short lines at the bases."""

    def shape(self) -> None:
        """Widen a failing heart a little, short of cardiomegaly; fill the vessels."""
        self.plan.heart = max(
            self.plan.heart, min(self.plan.heart * (1 + 0.1 * self.severity), 0.5)
        )
        self.plan.vessels *= 1 + 0.35 * self.severity

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the wings, the haze and the lines."""
        s, canvas, plan = self.severity, chest.canvas, chest.plan
        cloud = np.clip(0.8 + 0.16 * canvas.texture(self.rng, 0.5, 2.2), 0, 1)
        shown = np.zeros_like(chest.air)
        lines = []
        for side in SIDES:
            hilum = plan.hilum(side)
            wing = canvas.bump(
                (hilum[0] + side * 1.6, hilum[1] + 1.2), (2.6 + 1.4 * s, 3.6 + 1.4 * s)
            )
            shown = np.maximum(shown, wing * chest.lungs[side])
            wall, low = side * plan.width / 2, plan.angle(side)[1]
            for height in low - self.rng.uniform(1.2, 6.5, 7):
                x = 0.985 * wall - side * self.rng.uniform(0, 0.3)
                lines.append(
                    np.array([[x, height], [x - side * self.rng.uniform(1.0, 1.9), height + 0.1]])
                )
        haze = np.maximum(shown, 0.35 * (chest.lungs[-1] + chest.lungs[1]))
        chest.fill_air(shown * cloud, 0.12 + 0.5 * s)
        chest.fill_air(haze, 0.03 + 0.14 * s)
        kerley = canvas.stroke(lines, width=0.12) * np.maximum(chest.lungs[-1], chest.lungs[1])
        chest.solid += (0.25 + 0.4 * s) * kerley
        chest.solid += 0.3 * s * np.abs(canvas.texture(self.rng, 0.12, 0.8)) * haze
        return shown


class Atelectasis(Sign):
    """Lost volume: bands at the base, then a lobe collapsed to a wedge, all pulled towards it."""

    def draw(self) -> None:
        """Draw the bands, and which lobe collapses when it is gross."""
        self.upper = self.rng.random() < 0.35
        self.bands = []
        for _ in range(3):
            start = self.place((0.15, 0.45), (0.7, 0.96))
            long, slope = self.rng.uniform(3.0, 6.5), self.rng.normal(0.12, 0.2)
            self.bands.append((start, long, slope, self.rng.uniform(0.25, 0.6)))

    def shape(self) -> None:
        """Raise the diaphragm and pull the mediastinum over."""
        s = self.severity
        self.plan.move_base(self.side, -0.5 - 2.2 * s)
        self.plan.heart_shift += self.side * 1.5 * max(0.0, s - 0.35) / 0.65

    def paint(self, chest: Chest) -> np.ndarray:
        """Draw the bands, and the wedge of a collapsed lobe."""
        s, canvas, side, plan = self.severity, chest.canvas, self.side, chest.plan
        raised = 0.4 + 2.0 * s
        shown = np.zeros_like(chest.air)
        for start, long, slope, width in self.bands[: 1 + round(2 * s)]:
            x = start[0] + side * np.array([0, 0.5, 1]) * long
            y = start[1] - raised * 0.8 + np.array([0, slope * 0.5 + 0.05, slope]) * long
            band = canvas.stroke([np.c_[x, y]], width=width + 0.3 * s)
            shown = np.maximum(shown, canvas.blur(band, 0.1) * chest.lungs[side])
        chest.fill_air(shown, 0.20 + 0.25 * s)
        if s > 0.45:
            hilum = plan.hilum(side)
            if self.upper:
                top = plan.wall[side][:, 1].min() - 1
                out = 0.30 * plan.width + 1.0
                edge = [
                    [side * 1.0, hilum[1]],
                    hilum,
                    [side * (out - 1.5), 0.5 * (top + hilum[1])],
                    [side * out, top],
                    [side, top],
                ]
            else:
                low = plan.lungs[side][20:, 1].max() + 1
                edge = [
                    [side * 1.0, hilum[1]],
                    hilum + [0, 0.5],
                    [side * 5.0, 0.5 * (low + hilum[1])],
                    [side * (0.34 * plan.width), low],
                    [side, low],
                ]
            wedge = canvas.fill(np.array(edge, float), soft=0.15) * chest.lungs[side]
            chest.fill_air(wedge, 0.45 + 0.45 * s)
            chest.solid += 1.2 * s * wedge * chest.heart
            shown = np.maximum(shown, wedge)
        return shown


class Fibrosis(Sign):
    """A coarse net at the bases and the periphery of both lungs, which are small."""

    def draw(self) -> None:
        """Draw how much the sides differ."""
        self.weights = dict(zip(SIDES, self.rng.uniform(0.7, 1.0, 2), strict=True))

    def shape(self) -> None:
        """Make both lungs smaller."""
        for side in SIDES:
            self.plan.move_base(side, -0.4 - 2.0 * self.severity)

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the net, and holes in it when it is gross."""
        s, canvas = self.severity, chest.canvas
        rng = generator(chest.plan.film, "net")
        net = np.exp(-((canvas.texture(rng, 0.16, 0.9) * 2.0) ** 2))
        coarse = np.exp(-((canvas.texture(rng, 0.3, 1.6) * 2.2) ** 2))
        shown = np.zeros_like(chest.air)
        for side in SIDES:
            u, v = chest.within(side)
            where = ramp(v, 0.75 - 0.55 * s, 1.0) + 0.6 * ramp(u, 0.7, 1.0) * ramp(v, 0.15, 0.5)
            where = where * np.clip(1 + 0.35 * canvas.texture(rng, 1.0, 4.0), 0.2, 1.5)
            patch = np.clip(where, 0, 1) * chest.lungs[side] * self.weights[side]
            shown = np.maximum(shown, patch * (1 - 0.8 * chest.heart))
        chest.fill_air(shown, 0.05 + 0.12 * s)
        chest.solid += (0.7 + 1.9 * s) * shown * (0.6 * net + 0.6 * coarse * (0.3 + s))
        return shown
