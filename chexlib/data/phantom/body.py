"""The healthy chest as maps of path length: what lies along the beam at every pixel.

All maps are float32 [H, W] in centimetres of water-like tissue, unless they say otherwise. The
trunk is solid at first; lungs are air taken out of it. A heart, an aorta or a mass displaces that
air and adds nothing, so its border is seen only where there is air beside it: the silhouette sign.
Air lies in two layers, before and behind the middle of the chest, since the heart touches the front
one, the aorta and the domes the back one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from chexlib.data.phantom.anatomy import (
    WALL,
    WIDEST,
    Canvas,
    Plan,
    generator,
    profile,
    ramp,
    smooth_outline,
)

__all__ = ["BACK", "BOTH", "FRONT", "SIDES", "Chest", "paint_chest"]

SIDES = (-1, 1)
FRONT, BACK, BOTH = (0,), (1,), (0, 1)  # layers of the lungs


@dataclass
class Chest:
    """Maps of one chest, which signs add to and take from."""

    plan: Plan
    canvas: Canvas
    lungs: dict[int, np.ndarray]  # where each lung is, [0, 1]
    air: list[np.ndarray]  # path through aerated lung, cm: its front layer, and its back layer
    density: list[np.ndarray]  # of each layer of the lung
    trunk: np.ndarray  # path through the trunk, were it solid
    solid: np.ndarray  # further soft tissue or fluid; negative where there is gas
    vessels: np.ndarray  # path through pulmonary vessels
    bone: np.ndarray
    metal: np.ndarray
    cassette: np.ndarray  # lead on the detector itself, which stops scatter too
    heart: np.ndarray  # where heart and mediastinum are, [0, 1]
    taken: list[np.ndarray | float] = field(default_factory=lambda: [0.0, 0.0])  # by bodies, cm
    gain: np.ndarray | float = 1.0  # how plainly vessels are seen
    notes: dict = field(default_factory=dict)

    def fill_air(self, weight: np.ndarray, share: float, layers: tuple[int, ...] = BOTH) -> None:
        """Replace a share of the lung's air by fluid where ``weight`` in [0, 1] says.

        Vessels vanish in what surrounds them with their own density.
        """
        weight = np.minimum(weight * np.float32(share), 1)
        for layer in layers:
            self.density[layer] = self.density[layer] + (1 - self.density[layer]) * weight
        self.gain = self.gain * (1 - weight * np.float32(len(layers) / 2))

    def empty(self, weight: np.ndarray, layers: tuple[int, ...] = BOTH) -> None:
        """Leave gas alone, without lung or vessels, where ``weight`` in [0, 1] says."""
        for layer in layers:
            self.density[layer] = self.density[layer] * (1 - np.float32(0.94) * weight)
        self.gain = self.gain * (1 - weight * np.float32(len(layers) / 2))

    def displace(self, path: np.ndarray, layers: tuple[int, ...] = BOTH) -> None:
        """Put a body of ``path`` cm into the first of the layers, what is too thick into the next.

        Bodies of one layer lie at one depth: where they meet, the thicker one is all there is, so
        neither shows its border there.
        """
        for layer in layers:
            left = self.air[layer] - np.maximum(path - self.taken[layer], 0)
            self.taken[layer] = np.maximum(self.taken[layer], path)
            self.air[layer] = np.maximum(left, 0)
            path = np.maximum(-left, 0)

    def tissue(self) -> np.ndarray:
        """Return the path through soft tissue and fluid, cm."""
        path = self.trunk + self.solid + self.vessels * self.gain
        for air, density in zip(self.air, self.density, strict=True):
            path -= air * (1 - density)
        return np.maximum(path, 0)

    def within(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a lung's coordinates: u from the midline 0 to the wall 1, v from apex 0 to 1."""
        outline = self.plan.wall[side]
        top, bottom = outline[:, 1].min(), self.plan.lungs[side][WALL:, 1].max()
        v = (self.canvas.y - np.float32(top)) / np.float32(bottom - top)
        u = np.float32(side) * self.canvas.x / np.float32(np.abs(outline[:, 0]).max())
        return u, v


def _trunk(plan: Plan, canvas: Canvas) -> np.ndarray:
    """Return the path through the trunk: neck, shoulders, chest, abdomen; and the arms."""
    wide, top = plan.width / 2, plan.apex
    skin = 2.2 + 1.4 * plan.fat
    heights = np.array([-30, top - 5.5, top - 3.5, top - 1.5, top + 3, top + 9, 8, 14, 30])
    outer = wide + skin
    widths = [6.0, 6.4, 8.5, 15.5, wide + 7.5, outer + 2.5, outer, outer, outer + 1]
    depths = np.array([12.0, 12.5, 14.5, 16.5, 18.5, 20, 21.5, 24, 25]) * (plan.depth / 21)
    depths *= 0.93 + 0.07 * plan.fat
    half, depth = (np.interp(canvas.rows, heights, edge) for edge in (widths, depths))
    r = canvas.x * (1 / half).astype(np.float32)
    r *= r
    r *= r  # flat in front and behind, round at the flanks
    trunk = depth.astype(np.float32) * np.sqrt(np.maximum(1 - r, 0))
    arm_y = top + 3.5
    spread = 1.0 if plan.lying else 2.2
    for side in SIDES:  # the upper arm, a cylinder that hangs away from the chest
        axis = side * (wide + skin + spread + 3.2 + 0.12 * (canvas.y - arm_y))
        arm = 8.5 * np.sqrt(np.maximum(1 - ((canvas.x - axis) / 4.4) ** 2, 0))
        below = 1 / (1 + np.exp(np.clip(-(canvas.y - arm_y) * 1.6, -30, 30)))
        trunk = np.maximum(trunk, arm * below)
    return trunk


def _heart_outline(plan: Plan) -> np.ndarray:
    """Return the outline of heart and great vessels in cm, from the right border round.

    On the right: upper cava, atrium; on the left: knob, pulmonary trunk, auricle, ventricle.
    """
    s, width = plan.heart_shift, plan.width
    base = min(plan.dome(-1), plan.dome(1) - 0.3) + 1.6
    rest = min(base + 2.0, plan.dome(1) + 1.4)  # the left dome, on which the heart lies
    high = plan.hilum(1)[1]
    right = -(0.345 * plan.heart * width)
    left = plan.heart * width + right
    tall = base - high
    tilt = 0.4 * plan.heart_tilt
    top = plan.apex - 3.0
    return smooth_outline(
        np.array(
            [
                [-1.9 + 0.6 * s, top],
                [-2.1 + 0.8 * s, high - 4.2],
                [-2.5 + s, high - 1.2],
                [-2.6 + s, high + 0.10 * tall],
                [right * 0.88 + s, high + 0.34 * tall],
                [right + s, high + 0.58 * tall],
                [right * 0.88 + s, high + 0.82 * tall],
                [right * 0.5 + s, base + 1.5],
                [0.55 * left + s, max(base, rest) + 2.2],
                [0.90 * left + s, rest + 0.7 + tilt],
                [left + s, rest - 0.16 * tall + tilt],
                [0.93 * left + s, high + 0.55 * tall + 0.6 * tilt],
                [0.66 * left + 0.4 + s, high + 0.28 * tall],
                [3.3 + s, high + 0.02 * tall],
                [3.1 + s, high - 0.9],
                [2.3 + s, high - 2.1],
                [1.3 + plan.knob + 0.9 * s, high - 2.9],
                [1.3 + plan.knob + 0.9 * s, high - 4.0],
                [2.2 + 0.8 * s, high - 5.4],
                [1.9 + 0.6 * s, top],
            ]
        ),
        per=5,
    )


def _vessel_paths(
    rng: np.random.Generator, plan: Plan, side: int
) -> list[tuple[float, np.ndarray]]:
    """Return (diameter in cm, paths [N, 3, 2]) from the hilum outwards; a vessel divides in two."""
    angle = np.array([-1.25, -0.75, -0.2, 0.35, 0.8, 1.15, 1.45]) + rng.normal(0, 0.12, 7)
    count = len(angle)
    at = plan.hilum(side) + np.c_[np.zeros(count), 0.5 * np.sin(angle)]
    at = at + rng.normal(0, 0.25, (count, 2))
    # Erect, blood sinks: vessels to the bases are thicker than those to the apices.
    sunk = 0.1 if plan.lying else 0.25
    size = 0.55 * (1 + sunk * np.sin(angle)) * plan.vessels
    length = np.where(np.abs(angle) > 0.7, 3.9, 2.9) * rng.uniform(0.8, 1.2, count)
    levels = []
    for _ in range(5):
        bend = rng.normal(0, 0.28, len(angle))
        points = [at]
        for turn in (angle - bend, angle + bend):
            step = np.array((side * np.cos(turn), np.sin(turn))) * (0.5 * length)
            points.append(points[-1] + step.T)
        levels.append((float(size.mean()), np.stack(points, axis=1)))
        fork = rng.uniform(0.15, 0.5, len(angle))
        angle = np.concatenate([angle + bend - fork, angle + bend + fork])
        at, size = np.tile(points[-1], (2, 1)), np.tile(size, 2) * 0.7
        length = np.tile(length, 2) * rng.uniform(0.6, 0.9, len(angle))
    return levels


def _paint_vessels(rng: np.random.Generator, plan: Plan, canvas: Canvas) -> np.ndarray:
    total = np.zeros(canvas.shape, np.float32)
    trees = zip(*(_vessel_paths(rng, plan, side) for side in SIDES), strict=True)
    for (size, right), (_, left) in trees:
        total += 1.8 * size * canvas.stroke([*right, *left], width=size)
    for side in SIDES:  # the arteries at the root: to the upper lobe, and down to the lower one
        x, y = plan.hilum(side)
        root = np.array([[x - side * 1.6, y - 0.2], [x, y], [x + side * 0.5, y + 1.4]])
        root = np.vstack([root, [[x + side * 0.3, y + 3.4]]])
        up = np.array([[x - side * 0.6, y], [x + side * 0.2, y - 1.2], [x + side * 1.0, y - 2.4]])
        total += 1.2 * canvas.blur(canvas.stroke([root], width=1.2 * plan.vessels), 0.3)
        total += 0.8 * canvas.blur(canvas.stroke([up], width=0.8 * plan.vessels), 0.25)
    return total


def _rib_paths(plan: Plan) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the middle lines of posterior and anterior ribs as they are seen, cm."""
    rng = generator(plan.film, "ribs")
    back, front = [], []
    # Ten of them are seen above the diaphragm after a full breath.
    pitch = 0.096 * np.ptp(plan.wall[-1][:, 1]) * rng.normal(1, 0.03)
    slope = rng.normal(1, 0.12) * (0.8 if plan.lying else 1.0)
    t = np.linspace(0, np.pi / 2, 9)
    sin, cos = np.sin(t), np.cos(t)
    number = np.arange(11)[:, None]
    start = plan.apex - 1.2 + number * pitch
    drop = slope * (2.2 + 0.33 * number)
    for side in SIDES:
        wall = plan.wall[side][: WALL + 1]
        order = np.argsort(wall[:, 1])
        reach = np.interp(start + 0.9 * drop, wall[order, 1], np.abs(wall[order, 0])) + 0.3
        outer = np.maximum(reach, 3.2 + 2.3 * np.minimum(number, 3))
        x = 1.7 + (outer - 1.7) * sin
        y = start - 1.1 * sin * cos + drop * (1 - cos) ** 1.1
        back.extend(np.stack([side * x, y], axis=-1))
        # In front, bone ends where cartilage begins, further out for the lower ribs.
        inner = np.minimum(0.2 * plan.width + 0.55 * number, outer - 1)
        x = outer - (outer - inner) * (1 - cos)
        y = y[:, -1:] + drop * (0.75 + 0.1 * number) * sin**1.2
        front.extend(np.stack([side * x, y], axis=-1)[:7])
    behind, before = np.linspace(0.85, WIDEST, 9), np.linspace(WIDEST, 0.1, 9)
    return [plan.seen(rib, behind) for rib in back], [plan.seen(rib, before) for rib in front]


def _ticks(heights: np.ndarray, x: float, start: float, end: float) -> np.ndarray:
    """Return short upright strokes [N, 2, 2] at some heights."""
    ticks = np.full((len(heights), 2, 2), x, float)
    ticks[:, 0, 1], ticks[:, 1, 1] = heights + start, heights + end
    return ticks


def _spine(plan: Plan, canvas: Canvas) -> np.ndarray:
    """Return vertebral bodies with discs between them; arches and spinous processes over them."""
    pitch = 2.3 * plan.width / 28
    first = plan.apex - 1.2
    heights = first + pitch * np.arange(-4, 14)
    lean = 0.15 * np.sin(canvas.rows / 9)
    phase = np.sin((canvas.rows - first) * float(np.pi / pitch)) ** 2  # 0 at mid-body, 1 at a disc
    column = np.abs(canvas.x - lean) * (1 / (1.55 + 0.3 * phase**4))
    bone = 0.5 * np.sqrt(np.maximum(1 - column**4, 0)) * (1 - 0.5 * phase**6)
    plates = np.concatenate([heights + 0.38 * pitch, heights - 0.38 * pitch])
    plates = np.stack([np.c_[np.full(len(plates), x), plates] for x in (-1.5, 1.5)], axis=1)
    bone += 0.1 * canvas.stroke(plates, width=0.16)
    pedicles = [*_ticks(heights, -1.1, -0.5, 0.0), *_ticks(heights, 1.1, -0.5, 0.0)]
    bone += 0.26 * canvas.stroke(pedicles, width=0.6, hollow=0.5)
    bone += 0.22 * canvas.stroke(_ticks(heights, 0, 0.4, 1.3), width=0.5)
    across = [np.array([[x, y], [1.9 * x, y - 0.3]]) for y in heights for x in (-1.5, 1.5)]
    return bone + 0.1 * canvas.stroke(across, width=0.8)


def _bones(plan: Plan, canvas: Canvas) -> np.ndarray:
    back, front = _rib_paths(plan)
    rng = generator(plan.film, "bones")
    wide = 1.25 * plan.width / 28
    bone = np.zeros(canvas.shape, np.float32)
    # A rib is a tube: a hard rim around a spongy core.
    for paths, thick, width in ((back, 0.46, wide), (front, 0.32, 1.1 * wide)):
        for start in (0, 1):  # neighbours overlap at the wall: their paths add up
            some = paths[start::2]
            bone += thick * canvas.stroke(some, width=width, hollow=0.35)
    walls = [plan.wall[side][2 : WALL + 1] + [0.25 * side, 0] for side in SIDES]
    bone += 0.22 * canvas.stroke(walls, width=0.5)  # where the beam grazes the ribs
    low = max(plan.dome(-1), plan.dome(1))
    bone *= 1 - 0.7 * ramp(canvas.rows, low + 1.5, low + 6)  # thin, and lost in the belly's scatter
    bone += _spine(plan, canvas)
    portable = plan.lying
    top, wide = plan.apex, plan.width / 2
    lift = rng.normal(0.4, 0.4)
    x, y = np.array([1.6, 4.5, 8, 11.5, 14.8]), np.array([2.2, 1.6, 0.9, -0.4, -0.9])
    collars = [plan.seen(np.c_[side * x, top + y + lift - 0.4], 0.15) for side in SIDES]
    bone += 0.6 * canvas.stroke(collars, width=1.15, hollow=0.45)
    # On a PA film the shoulder blades are turned out of the lungs.
    edge = wide - (2.8 if portable else -0.6)
    blade = np.array([[1.2, 0.6], [5.2, 1.5], [4.2, 6], [1.8, 11], [0.4, 9.5], [0, 5], [1.2, 0.6]])
    blades = [np.c_[side * (edge + blade[:, 0]), top + blade[:, 1]] for side in SIDES]
    bone += 0.16 * canvas.fill(*blades, soft=0.1) + 0.2 * canvas.stroke(blades, width=0.5)
    for side in SIDES:
        bone += 1.1 * canvas.ellipse((side * (wide + 4.2), top + 1.6), (2.5, 2.5))
    arm = np.array([[wide + 4.9, top + 3], [wide + 6.6, top + 22]])
    arms = [arm * [side, 1] for side in SIDES]
    bone += 0.9 * canvas.stroke(arms, width=2.1, hollow=0.6)
    return bone * float(plan.mineral)


def _add_gas(solid: np.ndarray, plan: Plan, canvas: Canvas) -> None:
    """Take the air of the bronchi, the stomach and the bowel out of the soft tissue."""
    fork = plan.hilum(1)[1] - 1.6
    shift = 0.6 * plan.heart_shift + 0.25
    pipe = np.array([[0.1, plan.apex - 8], [0.2, plan.apex], [shift, fork]])
    solid -= 1.2 * canvas.blur(canvas.stroke([pipe], width=1.6), 0.2)
    bronchi = [np.array([[shift, fork - 0.2], plan.hilum(side) + [0, 0.4]]) for side in SIDES]
    solid -= 0.7 * canvas.blur(canvas.stroke(bronchi, width=1.0), 0.2)
    # Under the left dome lies the stomach's gas; standing, its fluid has a level.
    place = generator(plan.film, "stomach", plan.film.follow_up)
    wide, high, x, y = place.uniform((1.8, 1.2, 4.2, 0.6), (4.2, 2.6, 7.5, 1.2))
    if place.random() < 0.6:
        centre = (x, plan.dome(1) + y + high)
        gas = canvas.ellipse(centre, (wide, high))
        if not plan.lying:
            gas *= canvas.rows < centre[1] + 0.35 * high
        solid -= float(place.uniform(1.5, 4.0)) * canvas.blur(gas, 0.15)
    bowel = place.uniform((-9, 5, 0.6), (9, 11, 1.6), (3, 3))
    for (x, y, r), seen in zip(bowel, place.random(3) < 0.4, strict=True):
        if seen:
            bubble = canvas.ellipse((x, plan.dome(-1) + y), (1.4 * r, r))
            solid -= float(0.8 * r) * canvas.blur(bubble, 0.3)


def _add_breasts(solid: np.ndarray, plan: Plan, canvas: Canvas) -> None:
    """Add the breasts, or the pectoral muscles."""
    low = plan.dome(-1)
    if plan.breast:
        for side in SIDES:
            centre = (side * (0.30 * plan.width + 0.3), low - 3.2 + 0.5 * plan.breast)
            radii = (4.6 + 0.6 * plan.breast, 4.2 + 0.8 * plan.breast)
            dome = canvas.ellipse(centre, radii)
            dome *= 1 / (1 + np.exp(np.clip(-(canvas.y - centre[1] + 2.2), -20, 20)))
            solid += np.float32(1.15 * plan.breast) * dome
    else:
        for side in SIDES:  # the pectoral muscle's lower edge
            solid += 1.0 * canvas.bump((side * 0.33 * plan.width, plan.apex + 6.5), (3.6, 3.2))


def _aorta(chest: Chest, knob: np.ndarray) -> None:
    """Let the arch and what descends on the left of the spine displace the lung behind."""
    plan, canvas = chest.plan, chest.canvas
    chest.displace(2 * plan.knob * canvas.ellipse(tuple(knob), (plan.knob, 1.05 * plan.knob)), BACK)
    down = np.array([[knob[0] + 0.2, knob[1]], [2.1, knob[1] + 5], [1.4, plan.dome(1) + 6]])
    chest.displace(2.2 * canvas.blur(canvas.stroke([down], width=2.4), 0.15), BACK)


def paint_chest(plan: Plan, canvas: Canvas) -> Chest:
    """Paint a planned chest without its findings and devices."""
    rng = generator(plan.film, "vessels")
    trunk = _trunk(plan, canvas)
    lungs = {side: canvas.fill(plan.lungs[side], soft=0.05) for side in SIDES}
    both = np.minimum(lungs[-1] + lungs[1], 1)
    air = 15.0 * (plan.depth / 21) * profile(both, 5.2 * canvas.scale) * both
    air = np.minimum(air, np.maximum(trunk - 4.0, 0))
    # Near the domes nearly all of the lung is behind them.
    low = max(plan.dome(-1), plan.dome(1))
    front = (0.55 - 0.35 * ramp(canvas.rows, low - 5, low + 1.5)).astype(np.float32)
    outline = _heart_outline(plan)
    heart = canvas.fill(outline, soft=0.06)
    # Blood sinks when one stands: bases are denser than apices.
    fall = 0.0 if plan.lying else 0.09
    density = plan.density + fall * (ramp(canvas.rows, plan.apex, low + 2) - 0.5)
    density = density.astype(np.float32)
    solid, bone = np.zeros_like(air), _bones(plan, canvas)
    _add_gas(solid, plan, canvas)
    _add_breasts(solid, plan, canvas)
    solid += 0.09 * plan.fat * canvas.texture(rng, 1.5, 8.0) * (trunk > 2)
    interstitium = canvas.texture(rng, 0.12, 0.9)
    vessels = _paint_vessels(rng, plan, canvas) + 0.012 * interstitium * air
    # Vessels fade before they reach the pleura.
    vessels = vessels * np.minimum(profile(both, 3.2 * canvas.scale) * both * 1.1, 1)
    layers = [air * front, air * (1 - front)]
    blank = (np.zeros_like(air), np.zeros_like(air))  # metal, cassette
    chest = Chest(
        plan, canvas, lungs, layers, [density, density], trunk, solid, vessels, bone, *blank, heart
    )
    chest.notes["heart outline"] = outline
    deep = profile(heart, 4.2 * canvas.scale)
    chest.displace(heart * (0.8 + 8.2 * deep))
    # What lies behind the heart is lung; behind the great vessels it is spine and gullet.
    middle = ramp(np.abs(canvas.x - np.float32(0.6 * plan.heart_shift)), 1.2, 3.4)
    for layer in BOTH:
        chest.air[layer] = chest.air[layer] * (1 - (1 - middle) * heart) * (1 - 0.2 * deep * heart)
    chest.vessels *= 1 - 0.5 * heart
    knob = plan.hilum(1) + [-4.3 + plan.knob * 0.75 + 1.0, -3.4]
    _aorta(chest, knob)
    old = np.clip((plan.film.age - 55) / 35, 0, 1)
    if old and generator(plan.film, "calcium").random() < 0.7 * old:
        arc = np.linspace(-0.9, 1.2, 8)
        rim = knob + plan.knob * np.c_[np.cos(arc), np.sin(arc)]
        chest.bone += 0.35 * canvas.stroke([rim], width=0.25)
    return chest
