"""The radiographic sign of each of the 14 findings.

A sign is a change of shape, then a change of the maps: the lung's air is filled by fluid, cells,
collapse or scar; the pleura holds fluid, air or scar; a heart, a lung or a round shadow is large.
Gravity decides where fluid and air lie, so both ask whether the patient stands.
"""

from __future__ import annotations

import numpy as np

from chexlib.data.phantom.anatomy import BASE, WALL, profile, ramp
from chexlib.data.phantom.body import BACK, FRONT, Chest
from chexlib.data.phantom.opacities import (
    Atelectasis,
    Consolidation,
    Edema,
    Fibrosis,
    Infiltration,
    Pneumonia,
)
from chexlib.data.phantom.sign import Sign
from chexlib.findings import FINDINGS

__all__ = ["CALCIFIED", "SIGNS"]

CALCIFIED = 0.34
"""Share of nodules with calcium: 75 of 220 that were seen on films (You et al., 2019)."""


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
        lay = self._veil if chest.plan.lying else self._meniscus
        shown = lay(chest, self.side, self.severity)
        if self.both:
            less = max(0.05, self.severity * self.other)
            shown = np.maximum(shown, lay(chest, -self.side, less))
        return shown

    def _meniscus(self, chest: Chest, side: int, s: float) -> np.ndarray:
        plan, canvas = chest.plan, chest.canvas
        u, _ = chest.within(side)
        low = float(plan.angle(side)[1])
        top = float(plan.wall[side][:, 1].min())
        height = 1.8 + (low - top + 0.5) * s**1.25
        # The level at the wall is the highest; it sinks towards the middle, and rises there a bit.
        rise = height * (0.42 + 0.58 * np.clip(u, 0, 1) ** 3 + 0.1 * np.clip(0.35 - u, 0, 1))
        # The level is a bowl, and the beam meets its rim before its floor: no edge on top.
        depth = canvas.y - (low - rise)
        fluid = chest.lungs[side] * ramp(depth, -0.9, 0.9)
        chest.fill_air(fluid, 0.98)
        chest.fill_air(chest.lungs[side] * ramp(depth, -3.0, 0.0), 0.12 + 0.1 * s)
        return fluid

    def _veil(self, chest: Chest, side: int, s: float) -> np.ndarray:
        """Spread fluid behind the lung, thicker to the base; vessels in front of it stay seen."""
        _, v = chest.within(side)
        veil = chest.lungs[side] * (0.45 + 0.55 * ramp(v, 0.1, 0.95))
        chest.fill_air(veil, 0.25 + 0.74 * s, BACK)
        # When there is much of it, it goes round the lung: apex and angle.
        rim = chest.lungs[side] * ramp(v, 0.88 - 0.1 * s, 1.05)
        chest.fill_air(rim, 0.5 * s)
        return veil


class Pneumothorax(Sign):
    """Air where gravity puts it: over the apex when standing; before and below the lung when lying.

    Lying, there is mostly no line: the base is dark, the angle deep, the borders of heart and dome
    are sharp (Tocino et al., 1985; Gordon, 1980).
    """

    def draw(self) -> None:
        """Draw where along the wall the lung falls away most."""
        self.shares = np.array([1.0, self.rng.uniform(0.5, 0.9), self.rng.uniform(0.1, 0.35)])

    def shape(self) -> None:
        """Let a tension pneumothorax push mediastinum and diaphragm away; deepen the angle."""
        tension = max(0.0, self.severity - 0.65) / 0.35
        self.plan.heart_shift -= self.side * 2.6 * tension
        self.plan.move_base(self.side, 1.6 * tension, flatten=0.5 * tension)
        if self.plan.lying:
            lung = self.plan.lungs[self.side]
            near = np.exp(-0.5 * ((np.arange(len(lung)) - WALL) / 2.5) ** 2)
            lung[:, 1] += (0.6 + 3.0 * self.severity) * near

    def paint(self, chest: Chest) -> np.ndarray:
        """Let the lung fall away from its wall, or from the front of the chest."""
        chest.notes["pleural side"] = self.side
        return self._before(chest) if chest.plan.lying else self._above(chest)

    def _before(self, chest: Chest) -> np.ndarray:
        plan, canvas, side, s = chest.plan, chest.canvas, self.side, self.severity
        _, v = chest.within(side)
        reach = 0.72 - 0.5 * s
        gas = ramp(v, reach, reach + 0.3) * chest.lungs[side]
        chest.empty(gas * float(0.45 + 0.55 * s), FRONT)
        chest.fill_air(chest.lungs[side], 0.15 * s, BACK)
        # In front of the dome the gas reaches below its top: a second, lower edge.
        base = plan.lungs[side][WALL : WALL + BASE]
        depth = np.linspace(1, 0, BASE)[:, None] ** 0.7 * [0, 1.0 + 2.5 * s]
        sulcus = np.vstack([base, (base + depth)[::-1]])
        below = canvas.fill(sulcus, soft=0.25) * (1 - chest.lungs[side])
        chest.solid -= float(1.2 + 2.2 * s) * below
        rim = ramp(profile(chest.lungs[side], 2.0 * canvas.scale), 1.0, 0.5)
        edge = rim * ramp(v, reach, reach + 0.2) * chest.lungs[side]
        chest.empty(edge * np.float32(0.9 * s), BACK)
        return np.maximum(gas, 0.8 * below)

    def _above(self, chest: Chest) -> np.ndarray:
        """Shrink the lung towards its hilum, and empty what it leaves beyond a thin line."""
        plan, canvas, side = chest.plan, chest.canvas, self.side
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
        chest.empty(outside)
        # The fallen lung is a little denser.
        chest.fill_air(inner * chest.lungs[side], 0.22 * max(0.0, self.severity - 0.3))
        edge = shrunk[[*range(-6, 0), *range(WALL + 3)]]
        line = canvas.stroke([edge], width=0.11) * chest.lungs[side]
        chest.solid += 0.45 * line * (1 - 0.8 * chest.heart)
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
        chest.fill_air(band, 0.45 + 0.5 * self.severity)
        if self.calcified:
            rim = closed[used] + 0.5 * thick * inward[used] * height[used, None]
            chest.bone += 0.4 * canvas.stroke([rim], width=0.3) * band
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


def _circle(centre: np.ndarray, radius: float) -> np.ndarray:
    """Return a closed outline [64, 2]."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.c_[centre[0] + radius * np.cos(t), centre[1] + radius * np.sin(t)]


class _Round(Sign):
    """A solid body in the lung: a ball, with smaller balls that grow out of it."""

    smallest, largest, lobes, soft = 0.8, 2.8, 0.12, 0.05

    def draw(self) -> None:
        """Draw the place, the layer and the lobes."""
        self.centre = self.place((0.2, 0.8), (0.14, 0.85))
        self.layers = ((0, 1), (1, 0))[int(self.rng.integers(2))]
        turn = self.rng.uniform(0, 2 * np.pi, 4)
        self.knobs = np.c_[np.cos(turn), np.sin(turn)], self.rng.uniform(0.5, 0.8, 4)
        self.calcified = self.rng.random() < CALCIFIED
        self.spikes = self.rng.uniform(0, 2 * np.pi, 12), self.rng.uniform(1.2, 1.6, 12)

    def ball(self, chest: Chest) -> np.ndarray:
        """Return the path through the body along the beam, cm."""
        across = self.smallest + (self.largest - self.smallest) * self.severity
        out = self.lobes * across
        radius = across / 2 - 0.5 * out
        chord = 2 * radius * chest.canvas.ellipse(tuple(self.centre), (radius, radius))
        for way, size in zip(*self.knobs, strict=True):
            r = radius * size
            centre = self.centre + way * (radius + out - r)
            chord = np.maximum(chord, 2 * r * chest.canvas.ellipse(tuple(centre), (r, r)))
        return chest.canvas.blur(chord, self.soft)

    def paint(self, chest: Chest) -> np.ndarray:
        """Let the body take the place of lung, so that it adds nothing to a heart before it."""
        path = self.ball(chest)
        chest.displace(path, self.layers)
        chest.gain = chest.gain * (1 - np.minimum(path / 15, 1))  # of some 15 cm of lung
        return (path > 0.3 * path.max()) * np.sqrt(path)


class Nodule(_Round):
    """A round opacity of at most 3 cm, here 0.8 to 2.8 (Hansell et al. 2008, Fleischner terms).

    It is as dense as water; a share of :data:`CALCIFIED` holds calcium as well.
    """

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the ball, and its calcium."""
        shown = super().paint(chest)
        if self.calcified:
            chest.bone += 0.22 * self.ball(chest) * (chest.lungs[self.side] > 0.5)
        return shown


class Mass(_Round):
    """An opacity of more than 3 cm, here 3.3 to 7.5: a lobulated volume with a soft edge."""

    smallest, largest, lobes, soft = 3.3, 7.5, 0.14, 0.15

    def paint(self, chest: Chest) -> np.ndarray:
        """Add the body and, when it is gross, spikes that draw on its surroundings."""
        shown = super().paint(chest)
        if self.severity > 0.3:
            radius = (self.smallest + (self.largest - self.smallest) * self.severity) / 2
            spikes = [
                self.centre + radius * np.outer([0.8, reach], [np.cos(a), np.sin(a)]).T
                for a, reach in zip(*self.spikes, strict=True)
            ]
            lung = chest.lungs[self.side] * (1 - chest.heart)
            chest.solid += 0.25 * chest.canvas.stroke(spikes, width=0.14) * lung
        return shown


class Hernia(Sign):
    """Stomach above the diaphragm: a round shadow behind the heart, mostly with a fluid level.

    Lying, the gas floats before the fluid, so there is no level: a round shadow with a wall,
    a little darker within.
    """

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
        chest.displace(2 * radius * sac, (1, 0))
        inner = canvas.ellipse(tuple(centre), (1.1 * radius - 0.35, radius - 0.35))
        wall = canvas.blur(((sac > 0) & (inner <= 0)).astype(np.float32), 0.08)
        if chest.plan.lying:
            chest.solid += 0.5 * radius * np.sqrt(sac)  # more than the lung that it displaced
            chest.solid -= (
                0.5
                * radius
                * canvas.blur(canvas.ellipse(tuple(centre), (0.5 * radius, 0.4 * radius)), 0.2)
            )
        else:
            gas = inner * (canvas.y < centre[1] + self.level * radius)
            chest.solid -= np.minimum(1.3 * radius * canvas.blur(gas, 0.1), 4.5)
            chest.solid += 0.3 * radius * sac
        chest.solid += 0.4 * wall
        return (sac > 0).astype(np.float32)


_IN_ORDER = (
    *(Atelectasis, Cardiomegaly, Effusion, Infiltration, Mass, Nodule, Pneumonia),
    *(Pneumothorax, Consolidation, Edema, Emphysema, Fibrosis, PleuralThickening, Hernia),
)
SIGNS: dict[str, type[Sign]] = dict(zip(FINDINGS, _IN_ORDER, strict=True))
