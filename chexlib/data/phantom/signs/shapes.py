"""Findings that are a shape: a large heart, large lungs, a round shadow."""

from __future__ import annotations

import numpy as np

from chexlib.data.phantom.body import Chest
from chexlib.data.phantom.signs.base import Sign, ramp

__all__ = ["Cardiomegaly", "Emphysema", "Hernia", "Mass", "Nodule"]


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
            ring = chest.canvas.fill(_circle(centre, radius)) - chest.canvas.fill(
                _circle(centre, radius - 0.12)
            )
            lung = chest.lungs[-1 if centre[0] < 0 else 1]
            chest.solid += 0.3 * ring * lung
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
    waves = sum(
        rng.normal(0, 1 / k) * np.cos(k * t + rng.uniform(0, 2 * np.pi)) for k in range(2, 7)
    )
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
