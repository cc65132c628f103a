"""The healthy chest as maps of path length: what lies along the beam at every pixel.

All maps are float32 [S, S] in centimetres of water-like tissue, unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from chexlib.data.phantom.anatomy import WALL, Canvas, Plan, generator, profile, smooth_outline

__all__ = ["Chest", "paint_chest"]

SIDES = (-1, 1)


@dataclass
class Chest:
    """Maps of one chest, which signs add to and take from."""

    plan: Plan
    canvas: Canvas
    lungs: dict[int, np.ndarray]  # where each lung is, [0, 1]
    air: np.ndarray  # path through aerated lung, cm
    trunk: np.ndarray  # path through the trunk, were it solid
    solid: np.ndarray  # further soft tissue or fluid; negative where there is gas
    vessels: np.ndarray  # path through pulmonary vessels
    bone: np.ndarray
    metal: np.ndarray
    cassette: np.ndarray  # lead on the detector itself, which stops scatter too
    heart: np.ndarray  # where heart and mediastinum are, [0, 1]
    density: np.ndarray | np.float32  # of the lung
    gain: np.ndarray | float = 1.0  # how plainly vessels are seen
    notes: dict = field(default_factory=dict)

    def fill_air(self, weight: np.ndarray, share: float) -> None:
        """Replace a share of the lung's air by fluid where ``weight`` in [0, 1] says.

        Vessels vanish in what surrounds them with their own density: the silhouette sign.
        """
        weight = np.minimum(weight * np.float32(share), 1)
        self.density = self.density + (1 - self.density) * weight
        self.gain = self.gain * (1 - weight)

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
    skin = 1.6 + 1.3 * plan.fat
    heights = np.array([-30, top - 5.5, top - 3.5, top - 1.5, top + 3, top + 9, 8, 14, 30])
    outer = wide + skin
    widths = [6.0, 6.4, 8.5, 15.5, wide + 5.6, outer + 1.2, outer, outer, outer + 1]
    depths = np.array([11.0, 11.5, 13, 14.5, 16.5, 19, 20.5, 21, 21]) * (plan.depth / 21)
    depths *= 0.93 + 0.07 * plan.fat
    rows = canvas.y[:, canvas.size // 2]  # the film is turned by a few degrees at most
    half = np.interp(rows, heights, widths).astype(np.float32)[:, None]
    depth = np.interp(rows, heights, depths).astype(np.float32)[:, None]
    r = canvas.x * (1 / half)
    r *= r
    trunk = depth * np.sqrt(np.maximum(1 - r * np.sqrt(r), 0))
    arm_y = top + 3.5
    spread = 3.5 if plan.film.view == "PA" else 1.0
    for side in SIDES:  # the upper arm, a cylinder that hangs away from the chest
        axis = side * (wide + skin + spread + 3.2 + 0.12 * (canvas.y - arm_y))
        arm = 8.5 * np.sqrt(np.maximum(1 - ((canvas.x - axis) / 4.4) ** 2, 0))
        below = 1 / (1 + np.exp(np.clip(-(canvas.y - arm_y) * 1.6, -30, 30)))
        trunk = np.maximum(trunk, arm * below)
    return trunk


def _heart_outline(plan: Plan) -> np.ndarray:
    """Return the outline of heart and great vessels in cm, from the right border round."""
    s, width = plan.heart_shift, plan.width
    base = min(plan.dome(-1), plan.dome(1) - 0.3) + 1.6
    high = plan.hilum(1)[1]
    right = -(0.30 * plan.heart * width) - 0.2
    left = plan.heart * width + right
    tall = base - high
    tilt = 0.4 * plan.heart_tilt
    top = plan.apex - 3.0
    return smooth_outline(
        np.array(
            [
                [-1.9 + 0.6 * s, top],
                [-2.1 + 0.8 * s, high - 4.2],
                [-2.5 + s, high - 0.5],
                [right * 0.92 + s, high + 0.28 * tall],
                [right + s, high + 0.58 * tall],
                [right * 0.9 + s, base - 0.8],
                [right * 0.5 + s, base + 1.5],
                [0.55 * left + s, base + 2.2],
                [0.92 * left + s, base + 0.3 + tilt],
                [left + s, base - 0.22 * tall + tilt],
                [0.8 * left + s, high + 0.42 * tall + 0.5 * tilt],
                [0.52 * left + 0.7 + s, high + 0.16 * tall],
                [3.0 + s, high - 0.9],
                [2.4 + s, high - 2.0],
                [1.5 + plan.knob + 0.9 * s, high - 3.2],
                [1.3 + plan.knob + 0.9 * s, high - 4.2],
                [2.2 + 0.8 * s, high - 5.6],
                [1.9 + 0.6 * s, top],
            ]
        ),
        per=5,
    )


def _vessel_paths(
    rng: np.random.Generator, plan: Plan, side: int
) -> list[tuple[float, np.ndarray]]:
    """Return (diameter in cm, segments) from the hilum outwards; a vessel divides in two."""
    start = plan.hilum(side)
    count = 9
    angle = np.linspace(-1.35, 1.45, count) + rng.normal(0, 0.12, count)
    at = np.repeat(start[None], count, axis=0) + rng.normal(0, 0.5, (count, 2))
    # Erect, blood sinks: vessels to the bases are thicker than those to the apices.
    size = 0.46 * (1 + 0.25 * np.sin(angle)) * plan.vessels
    length = np.where(np.abs(angle) > 0.9, 4.4, 3.3) * rng.uniform(0.8, 1.2, count)
    levels = []
    for _ in range(5):
        middle = angle + rng.normal(0, 0.1, len(angle))
        step = (np.array((side * np.cos(middle), np.sin(middle))) * length).T
        end = at + step
        paths = np.stack([at, end], axis=1)
        levels.append((float(size.mean()), paths))
        fork = rng.uniform(0.2, 0.55, len(angle))
        angle = np.concatenate([middle - fork, middle + fork])
        at, size = np.concatenate([end, end]), np.concatenate([size, size]) * 0.74
        length = np.concatenate([length, length]) * rng.uniform(0.62, 0.9, len(angle))
    return levels


def _paint_vessels(rng: np.random.Generator, plan: Plan, canvas: Canvas) -> np.ndarray:
    total = np.zeros((canvas.size, canvas.size), np.float32)
    trees = zip(*(_vessel_paths(rng, plan, side) for side in SIDES), strict=True)
    for (size, right), (_, left) in trees:
        total += 2.7 * size * canvas.stroke([*right, *left], width=size)
    for side in SIDES:
        hilum = canvas.bump(tuple(plan.hilum(side) + [side * 0.2, 0.5]), (1.0, 1.9))
        total += 1.5 * hilum
    return total


def _rib_paths(plan: Plan) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the middle lines of posterior and anterior ribs, cm."""
    rng = generator(plan.film, "ribs")
    back, front = [], []
    pitch = 2.25 * plan.width / 28 * rng.normal(1, 0.04)
    slope = rng.normal(1, 0.12) * (0.8 if plan.film.view == "AP" else 1.0)
    t = np.linspace(0, np.pi / 2, 9)
    sin, cos = np.sin(t), np.cos(t)
    number = np.arange(11)[:, None]
    start = plan.apex - 1.2 + number * pitch
    drop = slope * (2.2 + 0.33 * number)
    for side in SIDES:
        wall = plan.wall[side][: WALL + 1]
        order = np.argsort(wall[:, 1])
        reach = np.interp(start + 0.9 * drop, wall[order, 1], np.abs(wall[order, 0])) + 0.35
        outer = np.maximum(reach, 3.2 + 2.3 * np.minimum(number, 3))
        x = 1.7 + (outer - 1.7) * sin
        y = start - 1.1 * sin * cos + drop * (1 - cos) ** 1.1
        back.extend(np.stack([side * x, y], axis=-1))
        inner = np.minimum(0.22 * plan.width + 0.25 * number, outer - 1)
        x = outer - (outer - inner) * (1 - cos)
        y = y[:, -1:] + drop * (0.75 + 0.1 * number) * sin**1.2
        front.extend(np.stack([side * x, y], axis=-1)[:8])
    return back, front


def _ticks(heights: np.ndarray, x: float, start: float, end: float) -> np.ndarray:
    """Return short upright strokes [N, 2, 2] at some heights."""
    ticks = np.full((len(heights), 2, 2), x, float)
    ticks[:, 0, 1], ticks[:, 1, 1] = heights + start, heights + end
    return ticks


def _bones(plan: Plan, canvas: Canvas) -> np.ndarray:
    back, front = _rib_paths(plan)
    rng = generator(plan.film, "bones")
    wide = 1.1 * plan.width / 28
    bone = np.zeros((canvas.size, canvas.size), np.float32)
    # A rib is a tube: a hard rim around a spongy core.
    for paths, thick, width in ((back, 0.58, wide), (front, 0.32, 1.1 * wide)):
        for start in (0, 1):  # neighbours overlap at the wall: their paths add up
            some = paths[start::2]
            bone += thick * canvas.stroke(some, width=width, hollow=0.55)
    portable = plan.film.view == "AP"
    top, wide = plan.apex, plan.width / 2
    lift = rng.normal(-0.6, 0.4) if portable else rng.normal(1.0, 0.4)
    x, y = np.array([1.6, 4.5, 8, 11.5, 14.8]), [2.2, 1.6, 0.9, -0.4 - 0.3 * portable, -0.9]
    collars = [np.c_[side * x, top + np.array(y) + lift - 0.4] for side in SIDES]
    bone += 0.75 * canvas.stroke(collars, width=1.15, hollow=0.5)
    # On a PA film the shoulder blades are turned out of the lungs.
    edge = wide - (2.8 if portable else -0.6)
    blade = np.array([[1.2, 0.6], [5.2, 1.5], [4.2, 6], [1.8, 11], [0.4, 9.5], [0, 5], [1.2, 0.6]])
    blades = [np.c_[side * (edge + blade[:, 0]), top + blade[:, 1]] for side in SIDES]
    bone += 0.28 * canvas.fill(*blades) + 0.3 * canvas.stroke(blades, width=0.5)
    for side in SIDES:
        bone += 1.3 * canvas.ellipse((side * (wide + 4.2), top + 1.6), (2.5, 2.5))
    arm = np.array([[wide + 4.9, top + 3], [wide + 6.6, top + 22]])
    arms = [arm * [side, 1] for side in SIDES]
    bone += 1.1 * canvas.stroke(arms, width=2.1, hollow=0.6)
    # Vertebral bodies with discs between them; arches and spinous processes over them.
    pitch = 2.3 * plan.width / 28
    column = np.abs(canvas.x - 0.15 * np.sin(canvas.y / 9))
    body = (column * (1 / 1.75)) ** 2
    disc = np.sin(canvas.y * float(np.pi / pitch)) ** 2
    disc *= disc
    bone += 0.95 * np.sqrt(np.maximum(1 - body * body, 0)) * (1 - 0.25 * disc * disc)
    heights = plan.apex - 1.2 + pitch * np.arange(-3, 14)
    pedicles = [*_ticks(heights, -1.15, -0.25, 0.25), *_ticks(heights, 1.15, -0.25, 0.25)]
    bone += 0.3 * canvas.stroke(pedicles, width=0.6)
    bone += 0.25 * canvas.stroke(_ticks(heights, 0, 0.4, 1.3), width=0.5)
    return bone * float(plan.mineral)


def _add_gas(solid: np.ndarray, plan: Plan, canvas: Canvas) -> None:
    """Take the air of the bronchi and of the stomach out of the soft tissue."""
    fork = plan.hilum(1)[1] - 1.6
    shift = 0.6 * plan.heart_shift + 0.25
    pipe = np.array([[0.1, plan.apex - 8], [0.2, plan.apex], [shift, fork]])
    solid -= 1.6 * canvas.blur(canvas.stroke([pipe], width=1.75), 0.12)
    bronchi = [np.array([[shift, fork - 0.2], plan.hilum(side) + [0, 0.4]]) for side in SIDES]
    solid -= 0.9 * canvas.blur(canvas.stroke(bronchi, width=1.0), 0.12)
    # Under the left dome lies the stomach's gas; standing, its fluid has a level.
    place = generator(plan.film, "stomach", plan.film.follow_up)
    if place.random() < 0.75:
        radii = place.uniform(1.6, 3.6), place.uniform(1.0, 1.9)
        centre = (place.uniform(4.5, 8.0), plan.dome(1) + 1.0 + radii[1])
        gas = canvas.ellipse(centre, radii)
        if plan.film.view == "PA":
            gas *= canvas.y < centre[1] + 0.45 * radii[1]
        solid -= 4.5 * canvas.blur(gas, 0.1)


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


def paint_chest(plan: Plan, canvas: Canvas) -> Chest:
    """Paint a planned chest without its findings and devices."""
    rng = generator(plan.film, "vessels")
    trunk = _trunk(plan, canvas)
    lungs = {side: canvas.fill(plan.lungs[side], soft=0.05) for side in SIDES}
    both = np.minimum(lungs[-1] + lungs[1], 1)
    air = 15.0 * (plan.depth / 21) * profile(both, 5.2 * canvas.scale) * both
    air = np.minimum(air, np.maximum(trunk - 3.5, 0))
    outline = _heart_outline(plan)
    heart = canvas.fill(outline, soft=0.06)
    body = heart * (2.0 + 8.5 * profile(heart, 4.2 * canvas.scale))
    air = np.maximum(air - body, 0.12 * air) * (1 - 0.55 * heart)
    solid = np.zeros_like(air)
    # Aorta: the knob, and the stripe that descends on the left of the spine.
    knob = plan.hilum(1) + [-4.3 + plan.knob * 0.75 + 1.0, -3.6]
    solid += 2.6 * canvas.ellipse(tuple(knob), (plan.knob, plan.knob * 1.05))
    down = np.array([[knob[0] + 0.3, knob[1]], [2.1, knob[1] + 5], [1.6, 12.0]])
    solid += 1.5 * canvas.stroke([down], width=2.3)
    _add_gas(solid, plan, canvas)
    _add_breasts(solid, plan, canvas)
    solid += 0.22 * plan.fat * canvas.texture(rng, 1.5, 8.0) * (trunk > 2)
    interstitium = canvas.texture(rng, 0.12, 0.9)
    vessels = _paint_vessels(rng, plan, canvas) + 0.06 * interstitium * air * 0.2
    # Vessels fade before they reach the pleura.
    inner = profile(both, 2.2 * canvas.scale) * both
    vessels = vessels * np.minimum(inner * 1.15, 1)
    bone, metal, cassette = _bones(plan, canvas), np.zeros_like(air), np.zeros_like(air)
    density = np.float32(plan.density)
    chest = Chest(
        plan, canvas, lungs, air, trunk, solid, vessels, bone, metal, cassette, heart, density
    )
    chest.notes["heart outline"] = outline
    old = np.clip((plan.film.age - 55) / 35, 0, 1)
    if old and generator(plan.film, "calcium").random() < 0.7 * old:
        arc = np.linspace(-0.9, 1.2, 8)
        rim = knob + plan.knob * np.c_[np.cos(arc), np.sin(arc)]
        chest.bone += 0.35 * canvas.stroke([rim], width=0.25)
    return chest
