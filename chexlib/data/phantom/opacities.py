"""Signs of a lung that is filled, collapsed or scarred.

Consolidation, Infiltration and Pneumonia are words for opacities of one kind, and readers agree
little on which to use. So they share their forms here, and differ in how often each is drawn.
"""

from __future__ import annotations

import numpy as np

from chexlib.data.phantom.anatomy import WALL, Canvas, generator, ramp
from chexlib.data.phantom.body import BACK, BOTH, FRONT, SIDES, Chest
from chexlib.data.phantom.sign import Sign

__all__ = ["FORMS", "OVERLAP", "Atelectasis", "Consolidation", "Edema", "Fibrosis", "Infiltration"]
__all__ += ["Pneumonia"]

FORMS = ("lobar", "patchy", "hazy")
OVERLAP = 0.75
"""Chance that an opacity's form is drawn from all three alike, and not its name's own.

Five readers agree on the three with kappas of 0.30, 0.17 and 0.03 (chapter 4). By form alone a
perfect observer then tells two of the names apart with an AUROC of 0.66. Our choice.
"""

# Lobes: where they are in a lung, (u, v) of their middle and half their extent, and their layers.
# The middle lobe and the lingula touch the heart, the lower lobes the dome, the left upper the
# aortic knob.
LOBES = {
    -1: {
        "upper": ((0.5, 0.22), (0.6, 0.27), BOTH),
        "middle": ((0.36, 0.72), (0.36, 0.22), FRONT),
        "lower": ((0.55, 0.82), (0.6, 0.3), BACK),
    },
    1: {
        "upper": ((0.42, 0.26), (0.55, 0.32), BOTH),
        "lingula": ((0.46, 0.70), (0.34, 0.22), FRONT),
        "lower": ((0.55, 0.82), (0.6, 0.3), BACK),
    },
}


def blob(canvas: Canvas, rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return a ragged patch in [0, 1] without an edge, about ``radius`` cm wide to each side."""
    patch = canvas.bump(tuple(centre), (0.75 * radius, 0.75 * radius * rng.uniform(0.7, 1.3)))
    return ramp(patch * (1 + 0.16 * canvas.texture(rng, 1.8, 7.0)), 0.05, 1.1)


def _bronchogram(chest: Chest, sign: Sign, weight: np.ndarray, count: int) -> None:
    """Leave air in the bronchi that run through a filled lobe: they taper and fork."""
    start = chest.plan.hilum(sign.side)
    wide, thin = [], []
    for _ in range(count):
        target = sign.place((0.3, 0.8), (0.15, 0.95))
        middle = 0.5 * (start + target) + sign.rng.normal(0, 0.5, 2)
        wide.append(np.array([start, 0.5 * (start + middle), middle]))
        for bend in sign.rng.normal(0, 1.0, (2, 2)):
            thin.append(np.array([middle, middle + 0.6 * (target - middle) + bend]))
    air = 0.6 * chest.canvas.stroke(wide, width=0.4) + 0.35 * chest.canvas.stroke(thin, width=0.25)
    chest.solid -= chest.canvas.blur(air, 0.06) * weight * chest.lungs[sign.side]


class _Opacity(Sign):
    """Airspace opacity: a lobe, patches, or a haze, all with edges that are hard to draw."""

    own = "lobar"

    def draw(self) -> None:
        """Draw the form, the lobe and the patches."""
        shared = self.rng.random() < OVERLAP
        self.form = str(self.rng.choice(FORMS)) if shared else self.own
        low = self.rng.random()
        names = list(LOBES[self.side])
        self.lobe = LOBES[self.side][names[0 if low < 0.3 else 1 if low < 0.6 else 2]]
        self.focus = self.rng.uniform(-0.35, 0.35, 2)
        self.both = self.rng.random() < 0.35
        first = self.side
        self.patches = []
        for k in range(8):
            self.side = -first if self.both and k % 2 else first
            centre = self.place((0.05, 0.8), (0.3, 0.98))
            layers = (FRONT, BACK, BOTH)[int(self.rng.integers(3))]
            self.patches.append((self.side, centre, self.rng.uniform(0.7, 1.3), layers))
        self.side = first

    def paint(self, chest: Chest) -> np.ndarray:
        """Fill the lung in the drawn form."""
        return getattr(self, f"_{self.form}")(chest, self.severity)

    def _lobar(self, chest: Chest, s: float) -> np.ndarray:
        """Fill a lobe from a focus on; a fissure is seen only where the beam runs along it."""
        canvas, side = chest.canvas, self.side
        u, v = chest.within(side)
        (u0, v0), (du, dv), layers = self.lobe
        ragged = 0.06 * canvas.texture(self.rng, 3.0, 12.0)
        lobe = ramp(np.hypot((u - u0) / du, (v - v0) / dv) + ragged, 1.25, 0.75)
        if layers == BOTH and side < 0:  # the minor fissure
            lobe *= ramp(v - 0.06 * u + 0.1 * ragged, 0.455, 0.43)
        focus = np.hypot((u - u0) / du - self.focus[0], (v - v0) / dv - self.focus[1])
        lobe *= ramp(focus + 2 * ragged, 0.9 + 1.3 * s, 0.25 + 0.95 * s) * chest.lungs[side]
        uneven = np.clip(0.92 + 0.05 * canvas.texture(self.rng, 1.2, 5.0), 0, 1)
        chest.fill_air(lobe * uneven, 0.45 + 0.52 * s, layers)
        if layers != BOTH:  # lobes lie behind one another only in part
            chest.fill_air(lobe * uneven, 0.5 * s, FRONT if layers == BACK else BACK)
        if s > 0.3:
            _bronchogram(chest, self, lobe * float(0.5 + 0.5 * s), 3)
        return lobe

    def _patchy(self, chest: Chest, s: float) -> np.ndarray:
        """Fill patches that run into each other, mostly low, on one side or both."""
        canvas = chest.canvas
        shown = np.zeros_like(chest.trunk)
        for side, centre, size, layers in self.patches[: 3 + round(5 * s)]:
            radius = size * (1.4 + 1.2 * s)
            patch = blob(canvas, self.rng, centre, radius) * chest.lungs[side]
            chest.fill_air(patch, 0.3 + 0.42 * s, layers if s < 0.6 else BOTH)
            shown = np.maximum(shown, patch)
        if s > 0.5:
            _bronchogram(chest, self, shown * 0.7, 2)
        return shown

    def _hazy(self, chest: Chest, s: float) -> np.ndarray:
        """Veil a wide region, vessels and all, and draw a fine net in it."""
        canvas = chest.canvas
        shown = np.zeros_like(chest.trunk)
        for side, centre, size, _ in self.patches[: 1 + round(2 * s)]:
            radius = size * (3.4 + 1.6 * s)
            patch = blob(canvas, self.rng, centre, radius) * chest.lungs[side]
            shown = np.maximum(shown, patch)
        net = np.abs(canvas.texture(self.rng, 0.14, 0.8))
        chest.fill_air(shown * np.minimum(0.8 + 0.2 * net, 1.2), 0.16 + 0.34 * s)
        return shown


class Infiltration(_Opacity):
    """An ill-defined opacity; the name's own form is a haze."""

    own = "hazy"


class Pneumonia(_Opacity):
    """An infection that fills the lung; the name's own form is patchy."""

    own = "patchy"


class Consolidation(_Opacity):
    """Air replaced by fluid or cells; the name's own form is a lobe."""

    own = "lobar"


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
        cloud = np.clip(0.8 + 0.16 * canvas.texture(self.rng, 1.5, 6.0), 0, 1)
        shown = np.zeros_like(chest.trunk)
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
        net = np.abs(canvas.texture(self.rng, 0.12, 0.8))
        chest.fill_air(shown * cloud, 0.12 + 0.5 * s)
        chest.fill_air(haze * (0.7 + 0.4 * net), 0.04 + 0.16 * s)
        kerley = canvas.stroke(lines, width=0.12) * np.maximum(chest.lungs[-1], chest.lungs[1])
        chest.solid += (0.25 + 0.4 * s) * kerley
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
            self.bands.append((start, long, slope, self.rng.uniform(0.15, 0.4)))

    def shape(self) -> None:
        """Raise the diaphragm and pull the mediastinum over."""
        s = self.severity
        self.plan.move_base(self.side, -0.5 - 2.2 * s)
        self.plan.heart_shift += self.side * 1.5 * max(0.0, s - 0.35) / 0.65

    def paint(self, chest: Chest) -> np.ndarray:
        """Draw the bands, and the wedge of a collapsed lobe."""
        s, canvas, side, plan = self.severity, chest.canvas, self.side, chest.plan
        raised = 0.4 + 2.0 * s
        shown = np.zeros_like(chest.trunk)
        for start, long, slope, width in self.bands[: 1 + round(2 * s)]:
            x = start[0] + side * np.array([0, 0.5, 1]) * long
            y = start[1] - raised * 0.8 + np.array([0, slope * 0.5 + 0.05, slope]) * long
            band = canvas.stroke([np.c_[x, y]], width=width + 0.2 * s)
            shown = np.maximum(shown, canvas.blur(band, 0.14) * chest.lungs[side])
        chest.fill_air(shown, 0.20 + 0.22 * s)
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
            wedge = canvas.fill(np.array(edge, float), soft=0.3) * chest.lungs[side]
            # Upper lobes fall forwards onto the mediastinum, lower ones behind the heart.
            chest.fill_air(wedge, 0.45 + 0.5 * s, BOTH if self.upper else BACK)
            chest.fill_air(wedge * (1 - chest.heart), 0.2 + 0.4 * s)
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
        shown = np.zeros_like(chest.trunk)
        for side in SIDES:
            u, v = chest.within(side)
            where = ramp(v, 0.75 - 0.55 * s, 1.0) + 0.6 * ramp(u, 0.7, 1.0) * ramp(v, 0.15, 0.5)
            where = where * np.clip(1 + 0.35 * canvas.texture(rng, 1.0, 4.0), 0.2, 1.5)
            patch = np.clip(where, 0, 1) * chest.lungs[side] * self.weights[side]
            shown = np.maximum(shown, patch * (1 - 0.8 * chest.heart))
        chest.fill_air(shown, 0.05 + 0.15 * s)
        chest.fill_air(shown * (0.6 * net + 0.6 * coarse * (0.3 + s)), 0.14 + 0.26 * s)
        return shown
