"""Tables of the phantom: how lungs vary in shape, learned from 517 real lung masks."""

from __future__ import annotations

import io
import zipfile

import cv2
import numpy as np
import pandas as pd
from builders import Built, builds, carried
from PIL import Image

from chexlib.data.phantom.anatomy import BASE, MIDDLE, WALL

MODES = 8
SIDE = 512  # masks are compared on a square of this many pixels


def _resampled(points: np.ndarray, count: int) -> np.ndarray:
    steps = np.r_[0, np.hypot(*np.diff(points, axis=0).T).cumsum()]
    at = np.linspace(0, steps[-1], count, endpoint=False)
    return np.c_[np.interp(at, steps, points[:, 0]), np.interp(at, steps, points[:, 1])]


def _landmarks(contour: np.ndarray, outward: int) -> np.ndarray:
    """Return landmarks of one lung: apex to costophrenic angle, to inner corner, to apex."""
    points = contour[:, 0, :].astype(float)
    x, y = points.T * np.array([[outward], [1]])  # outward is now to the right, for both lungs
    angle, corner = np.argmax(0.6 * x + y), np.argmax(-1.0 * x + 0.6 * y)
    high = np.flatnonzero(y <= y.min() + 0.01 * np.ptp(y))
    apex = high[len(high) // 2]
    points = np.roll(points, -apex, axis=0)
    angle, corner = (angle - apex) % len(points), (corner - apex) % len(points)
    if angle > corner:  # go round the same way in both lungs
        points = np.roll(points[::-1], 1, axis=0)
        angle, corner = len(points) - angle, len(points) - corner
    closed = np.vstack([points, points[:1]])
    parts = closed[: angle + 1], closed[angle : corner + 1], closed[corner:]
    return np.vstack([_resampled(*one) for one in zip(parts, (WALL, BASE, MIDDLE), strict=True)])


def _shape(mask: np.ndarray) -> np.ndarray | None:
    """Return both lungs' landmarks in units of their joint width, or None for an odd mask."""
    mask = cv2.resize(mask, (SIDE, round(SIDE * mask.shape[0] / mask.shape[1])))
    mask = cv2.morphologyEx((mask > 200).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((9, 9)))
    mask = cv2.copyMakeBorder(mask, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    contours = sorted(contours, key=cv2.contourArea)[-2:]
    if len(contours) < 2 or cv2.contourArea(contours[0]) < 0.4 * cv2.contourArea(contours[1]):
        return None
    contours.sort(key=lambda c: c[:, 0, 0].mean())
    both = np.vstack([_landmarks(contours[0], -1), _landmarks(contours[1], 1)])
    if (both < 4).any() or (both > [SIDE - 1, mask.shape[0] - 4]).any():  # cut off by the edge
        return None
    width, height = np.ptp(both, axis=0)
    right, left = np.split(both[:, 0], 2)
    middle = [(right.max() + left.min()) / 2, (both[:, 1].max() + both[:, 1].min()) / 2]
    return (both - middle) / width if 0.6 < height / width < 1.25 else None


@builds("phantom_lungs")
def phantom_lungs() -> Built:
    """Mean outline of both lungs and its first modes of variation, in units of their width."""
    archive = carried("semantic_masks_v7labs_lungs.zip")
    shapes = []
    with zipfile.ZipFile(archive) as masks:
        for name in sorted(masks.namelist()):
            if name.lower().endswith((".png", ".jpg", ".jpeg")):
                with Image.open(io.BytesIO(masks.read(name))) as image:
                    shape = _shape(np.asarray(image.convert("L")))
                shapes += [] if shape is None else [shape.ravel()]
    shapes = np.array(shapes)
    mean = np.median(shapes, axis=0)
    far = np.linalg.norm(shapes - mean, axis=1)
    shapes = shapes[far < 3 * np.median(far)]  # lungs that a disease or a failed outline deforms
    mean = shapes.mean(axis=0)
    _, size, modes = np.linalg.svd(shapes - mean, full_matrices=False)
    modes = modes[:MODES] * (size[:MODES, None] / np.sqrt(len(shapes) - 1))
    modes *= np.sign(modes.sum(axis=1, keepdims=True))
    half = WALL + BASE + MIDDLE
    part = ["wall"] * WALL + ["base"] * BASE + ["middle"] * MIDDLE
    frame = pd.DataFrame({"lung": ["right"] * half + ["left"] * half, "part": part * 2})
    for name, values in [("mean", mean), *[(f"mode{k + 1}", m) for k, m in enumerate(modes)]]:
        frame[[f"{name}_x", f"{name}_y"]] = values.reshape(-1, 2).round(4)
    kept = (size[:MODES] ** 2).sum() / (size**2).sum()
    return frame, {
        "source": "517 lung masks (V7 Labs, COVID-19 X-ray dataset), carried by torchxrayvision",
        "licence": "figures CC BY 4.0; input CC BY 4.0",
        "inputs": [archive],
        "note": f"{len(shapes)} masks used; masks with one lung, cut off by the edge, or far from "
        f"the mean are left out; {MODES} modes hold {kept:.0%} of the variance; each mode is one "
        "standard deviation; x grows to the image's right, y downwards, unit: width of both lungs",
    }
