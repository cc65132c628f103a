"""The patient's chest as outlines, in centimetres, and a canvas of that scale to draw it on.

The origin is the midline at half the height of the lungs; x grows to the image's right, which is
the patient's left, and y downwards. ``side`` is -1 for the patient's right lung, +1 for the left.
What a sign may push, pull or swell is in :class:`Plan`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import cv2
import numpy as np

from chexlib.data.phantom.film import Film
from chexlib.data.tables import table

__all__ = ["Canvas", "Plan", "generator", "plan_chest", "profile", "ramp", "smooth_outline"]

WALL, BASE, MIDDLE = 20, 14, 20  # landmarks of a lung, as data/tables_phantom.py lays them
LANDMARKS = WALL + BASE + MIDDLE
SHIFT = 4  # fractional bits of OpenCV's drawing: a sixteenth of a pixel
TILE, STEP = 1024, 0.08  # textures: pixels, and centimetres a pixel
# From the tube to the detector, and from the patient to the detector, cm. Standing, the chest's
# front touches the detector; lying, its back lies on a cassette below a mattress.
SOURCE, GAP = {"PA": 180.0, "AP": 100.0}, {"PA": 2.0, "AP": 5.0}
WIDEST = 0.62  # depth at which a thorax is widest, 0 at its front, 1 at its back: our choice
HEART = 0.3  # depth of the heart's widest part: our choice


def generator(film: Film, *words: int | str) -> np.random.Generator:
    """Return a random generator that belongs to this patient and these words alone."""
    parts = [int.from_bytes(w.encode(), "little") if isinstance(w, str) else w for w in words]
    return np.random.Generator(np.random.SFC64([film.seed, film.patient, *parts]))


def ramp(x: np.ndarray, start: float, end: float) -> np.ndarray:
    """Return 0 before ``start``, 1 after ``end``, and a smooth rise between; either way round."""
    t = np.clip((x - float(start)) * (1 / float(end - start)), 0, 1)
    return t * t * (3 - 2 * t)


@cache
def _lung_model() -> tuple[np.ndarray, np.ndarray]:
    """Return the mean outline [108, 2] and the modes [8, 108, 2], in widths of both lungs."""
    frame = table("phantom_lungs")
    names = [name[:-2] for name in frame.columns if name.endswith("_x")]
    arrays = np.stack([frame[[f"{name}_x", f"{name}_y"]].to_numpy() for name in names])
    return arrays[0], arrays[1:]


@dataclass
class Plan:
    """Geometry of one chest on one film; signs change it before anything is painted.

    ``lungs`` maps side to landmarks [54, 2] in cm: along the chest wall from the apex to the
    costophrenic angle, along the diaphragm to the inner corner, along the mediastinum to the apex.
    """

    film: Film
    lungs: dict[int, np.ndarray]
    wall: dict[int, np.ndarray]  # the chest wall inside which a lung may shrink
    apex: float  # height of the lungs' tops, cm
    heart: float  # cardiothoracic ratio
    heart_shift: float = 0.0  # cm to the image's right, of heart and mediastinum
    heart_tilt: float = 0.0
    knob: float = 1.7  # radius of the aortic knob, cm
    density: float = 0.26  # of aerated lung, relative to water
    vessels: float = 1.0
    depth: float = 21.0  # of the trunk from front to back, cm
    fat: float = 1.0
    breast: float = 0.0
    mineral: float = 1.0  # of the bones

    @property
    def lying(self) -> bool:
        """Whether the patient lies on the back: taken to be so on every AP film."""
        return self.film.view == "AP"

    def magnified(self, depth: float | np.ndarray) -> float | np.ndarray:
        """Return how large the shadow of a thing is at a depth in [0, 1] from front to back.

        Beams diverge: what is far from the detector is seen larger.
        """
        view = self.film.view
        far = (1 - depth if self.lying else depth) * self.depth + GAP[view]
        return SOURCE[view] / (SOURCE[view] - far)

    def seen(self, points: np.ndarray, depth: float | np.ndarray) -> np.ndarray:
        """Return where points [N, 2] at a depth are seen, on the scale of the chest's outline."""
        scale = self.magnified(depth) / self.magnified(WIDEST)
        return points * np.reshape(scale, (-1, 1))

    @property
    def width(self) -> float:
        """Inner width of the thorax, cm."""
        return float(self.wall[1][:, 0].max() - self.wall[-1][:, 0].min())

    def dome(self, side: int) -> float:
        """Return the height of the top of a hemidiaphragm, cm."""
        return float(self.lungs[side][WALL : WALL + BASE, 1].min())

    def angle(self, side: int) -> np.ndarray:
        """Return the costophrenic angle of a side, (x, y) in cm."""
        return self.lungs[side][WALL]

    def hilum(self, side: int) -> np.ndarray:
        """Return the hilum of a side, (x, y) in cm; the left is a little higher."""
        height = 0.5 * (self.apex + self.dome(-1))
        return np.array([side * 4.1 + 0.2 + self.heart_shift, height + (0.3, -0.7)[side > 0]])

    def move_base(self, side: int, down: float, *, flatten: float = 0.0) -> None:
        """Lower a hemidiaphragm by ``down`` cm, and flatten its dome by a share in [0, 1]."""
        lung = self.lungs[side]
        top, bottom = self.apex, lung[:, 1].max()
        lung[:, 1] += down * np.clip((lung[:, 1] - top) / (bottom - top), 0, 1) ** 1.5
        base = slice(WALL, WALL + BASE)
        chord = np.linspace(lung[WALL], lung[WALL + BASE - 1] + [0, 0.4], BASE)
        lung[base] += flatten * 0.75 * (chord - lung[base])

    def spread(self, side: int, outward: float) -> None:
        """Shift a lung's wall outwards by ``outward`` cm."""
        for outline in (self.lungs[side], self.wall[side]):
            share = np.abs(outline[:, 0]) / np.abs(outline[:, 0]).max()
            outline[:, 0] += side * outward * share


def _with_domes(lung: np.ndarray, side: int, arch: float) -> np.ndarray:
    """Return a lung whose base is a dome ``arch`` cm high, and which reaches behind the heart.

    Masks of real lungs leave out what the heart hides, and their mean is flatter than any dome.
    """
    lung = lung.copy()
    angle = lung[WALL].copy()
    t = np.linspace(0, 1, BASE + 1)
    # Steep at the angle, highest a little inwards of the middle, and still high at the heart.
    rise = np.where(t < 0.6, np.sin(np.pi / 2 * t / 0.6) ** 0.8, 1 - 1.2 * (t - 0.6) ** 2)
    base = slice(WALL, WALL + BASE + 1)
    lung[base] = np.c_[angle[0] + t * (side * 1.2 - angle[0]), angle[1] - arch * rise]
    middle = lung[WALL + BASE :]
    reach = 2.4 + 8 * ramp(np.linspace(0, 1, len(middle)), 0.5, 0.95)
    middle[:, 0] = side * np.clip(side * middle[:, 0], 0.4, reach)
    return lung


def plan_chest(film: Film) -> Plan:
    """Draw the chest of a healthy patient as this film shows it."""
    rng, now = generator(film, "anatomy"), generator(film, "film", film.follow_up)
    male, portable = film.sex == "M", film.view == "AP"
    mean, modes = _lung_model()
    shape = mean + np.tensordot(np.clip(rng.normal(0, 0.75, len(modes)), -1.6, 1.6), modes, axes=1)
    width = rng.normal(28.5, 1.3) if male else rng.normal(25.6, 1.2)
    # A breath held less deeply, as in bed, leaves the lungs shorter.
    breath = (1.0 if portable else 1.16) * now.normal(1, 0.035)
    outline = shape * width * [1, 1]
    outline[:, 1] *= breath
    outline[:, 1] -= 0.5 * (outline[:, 1].min() + outline[:, 1].max())
    arch = rng.normal(3.0, 0.5) * (1.15 if portable else 1.0)
    right, left = outline[:LANDMARKS], outline[LANDMARKS:]
    # The liver lifts the right dome above the left.
    lungs = {-1: _with_domes(right, -1, arch + 0.5), 1: _with_domes(left, 1, arch)}
    old = float(np.clip((film.age - 40) / 45, 0, 1))
    ratio = rng.normal(0.425, 0.022) + 0.025 * old
    plan = Plan(
        film=film,
        lungs=lungs,
        wall={side: lung.copy() for side, lung in lungs.items()},
        apex=float(outline[:, 1].min()),
        heart=ratio,
        heart_tilt=rng.normal(0, 1) - 0.5 * portable,
        knob=rng.normal(1.45, 0.12) + 0.55 * old,
        density=float(np.clip(rng.normal(0.27, 0.015) + 0.02 * portable, 0.2, 0.34)),
        vessels=rng.normal(1, 0.1),
        depth=(22.0 if male else 20.5) + rng.normal(0, 1.3),
        fat=float(np.clip(rng.gamma(6, 0.17), 0.4, 2.4)),
        breast=0.0 if male else float(np.clip(rng.normal(2.2, 1.0), 0.4, 4.5)),
        mineral=1.0 - 0.3 * old * (0.8 if male else 1.2) + rng.normal(0, 0.05),
    )
    if portable:  # the ratio above is that of a PA film
        seen = plan.magnified(HEART) / plan.magnified(WIDEST)
        erect = Plan(replace(film, view="PA"), lungs, {}, 0, 0, depth=plan.depth)
        plan.heart *= seen * erect.magnified(WIDEST) / erect.magnified(HEART)
    return plan


def smooth_outline(points: np.ndarray, *, per: int = 6) -> np.ndarray:
    """Return a closed Catmull-Rom curve through points [N, 2], ``per`` points a stretch."""
    t = np.linspace(0, 1, per, endpoint=False)[None, :, None]
    p0, p1 = np.roll(points, 1, axis=0)[:, None], points[:, None]
    p2, p3 = np.roll(points, -1, axis=0)[:, None], np.roll(points, -2, axis=0)[:, None]
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return curve.reshape(-1, 2)


@lru_cache(maxsize=32)  # all that are used: 4 MB each
def _texture(fine_cm: float, coarse_cm: float) -> np.ndarray:
    """Return noise between two scales, float32 [1024, 1024], mean 0, deviation 1; it wraps."""
    seed = int(1000 * fine_cm + coarse_cm)
    noise = np.random.default_rng(seed).standard_normal((TILE, TILE), dtype=np.float32)
    spectrum = np.fft.rfft2(noise)
    # A length of x cm is half a wave: the frequency at which it is dampened is 1 / (2 x).
    frequency = 2 * np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None]) / STEP
    keep = np.exp(-0.5 * (frequency * fine_cm) ** 2) - np.exp(-0.5 * (frequency * coarse_cm) ** 2)
    field = np.fft.irfft2(spectrum * keep, s=(TILE, TILE)).astype(np.float32)
    return (field - field.mean()) / field.std()


def profile(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return a rounded profile in [0, 1] of a mask: 0 at its edge, 1 from ``radius`` px inwards."""
    inside = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
    t = np.minimum(inside * (1.0 / radius), 1)
    return np.sqrt(t * (2 - t))


class Canvas:
    """Maps of one film: where a point of the chest lies, in pixels, and how to draw there.

    Parameters
    ----------
    size : int
        Pixels: the maps have about ``size`` squared, as high and wide as the film.
    field : (float, float)
        Width and height of the film at the patient, cm.
    centre : (x, y)
        The point of the chest at the middle of the film, cm.
    angle : float
        Rotation of the patient, degrees, clockwise.
    """

    def __init__(
        self,
        size: int,
        *,
        field: tuple[float, float],
        centre: tuple[float, float],
        angle: float,
    ):
        self.field = np.array(field)
        self.scale = float(size / np.sqrt(np.prod(field)))  # pixels a centimetre
        self.shape = tuple(round(self.scale * float(edge)) for edge in (field[1], field[0]))
        turn = np.deg2rad(angle)
        self._turn = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        self._centre = np.asarray(centre)
        down, across = (
            ((np.arange(count) + 0.5) / self.scale - edge / 2).astype(np.float32)
            for count, edge in zip(self.shape, (field[1], field[0]), strict=True)
        )
        c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        self.x = c * across[None, :] + s * down[:, None] + np.float32(centre[0])
        self.y = -s * across[None, :] + c * down[:, None] + np.float32(centre[1])
        self.rows = self.y[:, self.shape[1] // 2, None]  # a film is turned by few degrees

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Return fixed-point pixel coordinates int32 [N, 2] of points in cm."""
        offset = (np.asarray(points) - self._centre) @ self._turn
        at = (offset + self.field / 2) * self.scale - 0.5
        return np.round(at * (1 << SHIFT)).astype(np.int32)

    def fill(self, *outlines: np.ndarray, soft: float = 0.0) -> np.ndarray:
        """Return outlines filled, float32 in [0, 1], their edge blurred by ``soft`` cm."""
        mask = np.zeros(self.shape, np.uint8)
        for outline in outlines:
            cv2.fillPoly(mask, [self.pixels(outline)], 255, cv2.LINE_AA, SHIFT)
        mask = mask.astype(np.float32) * np.float32(1 / 255)
        return self.blur(mask, soft) if soft else mask

    def stroke(
        self, paths: Sequence[np.ndarray], *, width: float, hollow: float = 0.0
    ) -> np.ndarray:
        """Return open paths drawn ``width`` cm wide, float32 in [0, 1].

        A line thinner than a pixel is drawn one pixel wide and fainter, as a detector sees it. Of a
        tube, the inner six tenths are fainter by the share ``hollow``.
        """
        mask = np.zeros(self.shape, np.uint8)
        pixels = width * self.scale
        ink = round(max(1.0, 255 * min(1.0, pixels)))
        points, end = self.pixels(np.concatenate(paths)), 0
        lines = [points[end : (end := end + len(path))] for path in paths]
        cv2.polylines(mask, lines, False, ink, max(1, round(pixels)), cv2.LINE_AA, SHIFT)
        if hollow and pixels >= 2.5:
            core, inner = round(ink * (1 - hollow)), round(0.6 * pixels)
            cv2.polylines(mask, lines, False, core, max(1, inner), cv2.LINE_AA, SHIFT)
        return mask.astype(np.float32) * np.float32(1 / 255)

    def blur(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Return a map blurred by ``sigma`` cm."""
        pixels = sigma * self.scale
        if pixels < 0.3:
            return image
        shrink = int(min(8, 2 ** np.floor(np.log2(max(pixels / 2.5, 1)))))
        if shrink == 1:
            return cv2.GaussianBlur(image, (0, 0), pixels, borderType=cv2.BORDER_REPLICATE)
        small = cv2.resize(image, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), pixels / shrink, borderType=cv2.BORDER_REPLICATE)
        return cv2.resize(small, image.shape[::-1], interpolation=cv2.INTER_LINEAR)

    def texture(self, rng: np.random.Generator, fine: float, coarse: float) -> np.ndarray:
        """Return a texture with structure between two lengths in cm, mean 0, deviation about 1."""
        shrink = 4 if fine * self.scale > 6 else 1  # what is smooth need not be drawn in full
        tile = _texture(fine, coarse)
        wide, high = (min(round(edge / STEP), TILE) for edge in self.field)
        x, y = (int(rng.integers(0, TILE - span + 1)) for span in (wide, high))
        full = self.shape[::-1]
        small = [-(-edge // shrink) for edge in full]
        field = cv2.resize(tile[y : y + high, x : x + wide], small)
        return field if shrink == 1 else cv2.resize(field, full)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Return the half-chord of an ellipsoid in [0, 1]: 1 at its centre, 0 outside."""
        return np.sqrt(np.maximum(1 - self._distance(centre, radii), 0))

    def bump(self, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Return a Gaussian bump in (0, 1] with deviations ``radii`` in cm."""
        return np.exp(-0.5 * self._distance(centre, radii))

    def _distance(self, centre: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
        """Return squared distances in units of the radii; in float32, whatever is passed."""
        x = (self.x - float(centre[0])) * (1 / float(radii[0]))
        y = (self.y - float(centre[1])) * (1 / float(radii[1]))
        return x * x + y * y
