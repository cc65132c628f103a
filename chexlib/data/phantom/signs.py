"""The radiographic sign of each of the 14 findings.

A sign is a change of shape, then a change of the maps: the lung's air is filled by fluid, cells,
collapse or scar; the pleura holds fluid, air or scar; a heart, a lung or a round shadow is large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chexlib.data.phantom.anatomy import BASE, WALL, Canvas, Plan, generator, profile
from chexlib.data.phantom.body import SIDES, Chest
from chexlib.findings import FINDINGS

__all__ = ["SIGNS", "Sign"]


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
        top, bottom = outline[:, 1].min(), lung[WALL : WALL + BASE, 1].min()
        y = top + self.rng.uniform(*v) * (bottom - top)
        x, height = outline[: WALL + 1][np.argsort(outline[: WALL + 1, 1])].T
        wall = np.interp(y, height, np.abs(x))
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
            centre = self.place((0.1, 0.75), (0.35, 0.95))
            self.patches.append((self.side, centre, self.rng.uniform(2.0, 4.0)))

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
        lobe *= ramp(edge + ragged, reach + 0.28, reach)
        lobe *= ramp(u + ragged, 1.15 + 0.3 * s, 0.5 + 0.4 * s)
        even = np.clip(0.92 + 0.08 * canvas.texture(self.rng, 0.5, 2.5), 0, 1)
        chest.fill_air(lobe * even, 0.45 + 0.5 * s)
        _bronchogram(chest, self, lobe, 4)
        return lobe


class Edema(Sign):
    """Fluid about both hila like wings, vessels to the apices full, short lines at the bases."""

    def shape(self) -> None:
        """Widen a failing heart a little, short of cardiomegaly; fill the vessels."""
        wider = self.plan.heart * (1 + 0.1 * self.severity)
        self.plan.heart = max(self.plan.heart, min(wider, 0.5))
        self.plan.vessels *= 1 + 0.35 * self.severity

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the wings, the haze and the lines."""
        s, canvas, plan = self.severity, chest.canvas, chest.plan
        cloud = np.clip(0.8 + 0.16 * canvas.texture(self.rng, 0.5, 2.2), 0, 1)
        shown = np.zeros_like(chest.air)
        lines = []
        for side in SIDES:
            hilum = plan.hilum(side)
            middle = hilum[0] + side * 1.6, hilum[1] + 1.2
            wing = canvas.bump(middle, (2.6 + 1.4 * s, 3.6 + 1.4 * s))
            shown = np.maximum(shown, wing * chest.lungs[side])
            wall, low = side * plan.width / 2, plan.angle(side)[1]
            for height in low - self.rng.uniform(1.2, 6.5, 7):
                x = 0.985 * wall - side * self.rng.uniform(0, 0.3)
                end = [x - side * self.rng.uniform(1.0, 1.9), height + 0.1]
                lines.append(np.array([[x, height], end]))
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
                far, out = plan.wall[side][:, 1].min() - 1, 0.30 * plan.width + 1.0
                root, between = hilum, out - 1.5
            else:
                far, out = plan.lungs[side][WALL:, 1].max() + 1, 0.34 * plan.width
                root, between = hilum + [0, 0.5], 5.0
            bend = [side * between, 0.5 * (far + hilum[1])]
            edge = [[side * 1.0, hilum[1]], root, bend, [side * out, far], [side, far]]
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
            less = max(0.05, self.severity * self.other)
            shown = np.maximum(shown, self._one_side(chest, -self.side, less))
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
        outer = closed[used] - 0.3 * inward[used]
        inner = closed[used] + inward[used] * (thick * height[used, None])
        band = canvas.fill(np.vstack([outer, inner[::-1]]), soft=0.08) * chest.lungs[side]
        path = 2.2 + 2.5 * self.severity  # along the beam a rind is much longer than it is thick
        chest.solid += path * band
        chest.gain = chest.gain * (1 - 0.8 * band)
        if self.calcified:
            rim = closed[used] + 0.5 * thick * inward[used] * height[used, None]
            chest.bone += 0.5 * canvas.stroke([rim], width=0.3) * band
        return band * profile(chest.lungs[side] + 0.001, 0.2 * canvas.scale)


class Cardiomegaly(Sign):
    """The heart takes more than half the width of the thorax: a ratio of 0.53 to 0.72."""

    def shape(self) -> None:
        """Widen the heart, mostly to the patient's left."""
        portable = self.plan.film.view == "AP"
        self.plan.heart = max(self.plan.heart, 0.53 + 0.17 * self.severity + 0.02 * portable)
        self.plan.heart_tilt += 0.8 * self.severity

    def paint(self, chest: Chest) -> np.ndarray:
        """Return the heart below the hila."""
        return chest.heart * ramp(chest.canvas.y, self.plan.hilum(1)[1], self.plan.hilum(1)[1] + 2)


class Emphysema(Sign):
    """Lungs too large and too empty: long, dark, few vessels, flat diaphragm, narrow heart."""

    def draw(self) -> None:
        """Draw the bullae: their places in both lungs and their sizes, cm."""
        self.bullae = []
        for _ in range(7):
            self.side = -1 if self.rng.random() < 0.5 else 1
            self.bullae.append((self.place((0.25, 0.85), (0.1, 0.6)), self.rng.uniform(0.8, 2.4)))

    def shape(self) -> None:
        """Push the diaphragm down and flat, the walls out."""
        s = self.severity
        for side in (-1, 1):
            self.plan.move_base(side, 0.8 + 3.0 * s, flatten=min(1.0, 0.35 + 0.75 * s))
            self.plan.spread(side, 0.2 + 0.6 * s)
        self.plan.heart *= 1 - 0.16 * s
        self.plan.density *= 1 - 0.42 * s
        self.plan.vessels *= 1 - 0.35 * s

    def paint(self, chest: Chest) -> np.ndarray:
        """Thin the vessels out, and add walls of bullae when it is gross."""
        s = self.severity
        chest.gain = chest.gain * float(1 - 0.45 * s)
        for centre, radius in self.bullae[: round(7 * max(0.0, s - 0.35))]:
            ball = chest.canvas.ellipse(tuple(centre), (radius, radius)) > 0
            whole, hole = (chest.canvas.fill(_circle(centre, r)) for r in (radius, radius - 0.12))
            lung = chest.lungs[-1 if centre[0] < 0 else 1]
            chest.solid += 0.3 * (whole - hole) * lung
            chest.gain = chest.gain * (1 - 0.9 * ball * lung)
        return np.maximum(chest.lungs[-1], chest.lungs[1]) * (1 - chest.heart)


def _circle(centre: np.ndarray, radius: float, *, rough: np.ndarray | None = None) -> np.ndarray:
    """Return a closed outline [64, 2]; ``rough`` multiplies its radius by angle."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    r = radius * (1 if rough is None else rough)
    return np.c_[centre[0] + r * np.cos(t), centre[1] + r * np.sin(t)]


def _rough(rng: np.random.Generator, size: float) -> np.ndarray:
    """Return a factor about 1 for 64 angles: a lobulated outline."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    turn = 2 * np.pi
    waves = sum(rng.normal(0, 1 / k) * np.cos(k * t + rng.uniform(0, turn)) for k in range(2, 7))
    return 1 + size * waves / np.abs(waves).max()


class _Round(Sign):
    """A solid body in the lung; what it adds is its chord less the air that it displaces."""

    smallest, largest, lobes, solid = 0.8, 2.8, 0.08, 1.15

    def draw(self) -> None:
        """Draw the place, clear of the heart, and the outline."""
        self.centre = self.place((0.2, 0.8), (0.14, 0.85))
        self.rough = _rough(self.rng, self.lobes)
        self.spikes = self.rng.uniform(0, 2 * np.pi, 14), self.rng.uniform(1.15, 1.5, 14)

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the body."""
        across = self.smallest + (self.largest - self.smallest) * self.severity
        radius = across / 2 / float(self.rough.max())
        outline = _circle(self.centre, radius, rough=self.rough)
        shadow = chest.canvas.fill(outline, soft=0.05)
        chord = chest.canvas.ellipse(tuple(self.centre), (1.05 * across / 2,) * 2)
        lung = np.maximum(chest.lungs[self.side], 0.15 * (shadow > 0))
        # Rounded, with an edge that can be seen.
        body = shadow * (0.3 + 0.7 * chord) * lung
        chest.solid += float(across * self.solid * (1 - self.plan.density)) * body
        chest.gain = chest.gain * (1 - 0.7 * shadow)
        return shadow


class Nodule(_Round):
    """A round opacity of at most 3 cm, here 0.8 to 2.8 (Hansell et al. 2008, Fleischner terms).

    It is taken to hold some calcium, as many do that are seen on a film: twice soft tissue.
    """

    solid = 2.0


class Mass(_Round):
    """An opacity of more than 3 cm, here 3.2 to 7.5, lobulated or with spikes."""

    smallest, largest, lobes = 3.3, 7.5, 0.2

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the body and, when it is gross, spikes that draw on its surroundings."""
        shadow = super().paint(chest)
        if self.severity > 0.3:
            radius = (self.smallest + (self.largest - self.smallest) * self.severity) / 2
            spikes = [
                self.centre + radius * np.outer([0.8, reach], [np.cos(a), np.sin(a)])
                for a, reach in zip(*self.spikes, strict=True)
            ]
            chest.solid += 0.5 * chest.canvas.stroke(spikes, width=0.16) * chest.lungs[self.side]
        return shadow


class Hernia(Sign):
    """Stomach above the diaphragm: a round shadow behind the heart, mostly with a fluid level."""

    def draw(self) -> None:
        """Draw how far to the left of the midline it lies."""
        self.off = self.rng.uniform(0.2, 1.8)
        self.level = self.rng.uniform(-0.25, 0.15)

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the sac, its wall, the gas in it and the level."""
        radius = 1.9 + 2.9 * self.severity
        low = max(self.plan.dome(1), self.plan.dome(-1))
        centre = np.array([self.off + 0.25 * radius, low - 0.5 * radius])
        canvas = chest.canvas
        sac = canvas.ellipse(tuple(centre), (1.1 * radius, radius))
        wall = canvas.fill(_circle(centre, radius) * 1.0)
        inner = canvas.ellipse(tuple(centre - [0, 0.02]), (1.1 * radius - 0.35, radius - 0.35))
        erect = chest.plan.film.view == "PA"
        gas = inner * (canvas.y < centre[1] + self.level * radius) if erect else 0.45 * inner
        air = np.minimum(1.7 * radius * canvas.blur(gas, 0.06), 6.0)
        chest.solid += (1.5 * radius) * sac * (1 - 0.35 * chest.heart) + 0.4 * wall * (sac > 0)
        chest.solid -= 1.35 * air
        return (sac > 0).astype(np.float32)


_IN_ORDER = (
    *(Atelectasis, Cardiomegaly, Effusion, Infiltration, Mass, Nodule, Pneumonia),
    *(Pneumothorax, Consolidation, Edema, Emphysema, Fibrosis, PleuralThickening, Hernia),
)
SIGNS: dict[str, type[Sign]] = dict(zip(FINDINGS, _IN_ORDER, strict=True))
