"""Films in memory, and recipes that train on them in seconds; the same in every process."""

import zlib
from types import SimpleNamespace

import numpy as np
import pandas as pd

from chexlib.data.dataset import Dataset
from chexlib.findings import FINDINGS
from chexlib.training import RECIPES

SIDE = 32
COUNTS = {"train": 50, "val": 21, "test": 30}  # no multiple of anything


def films(split, n=None):
    """Return noise with a brighter patch for every finding: something can be learned of it."""
    n = COUNTS[split] if n is None else n
    rng = np.random.default_rng(zlib.crc32(split.encode()))
    labels = rng.random((n, len(FINDINGS))) < 0.3
    labels[:2] = [[True], [False]]
    pixels = rng.integers(0, 120, (n, SIDE, SIDE))
    for k in range(len(FINDINGS)):
        row, column = divmod(k, 4)
        pixels[labels[:, k], 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 100
    pixels = pixels.astype(np.uint8)
    first = {"train": 1, "val": 1001, "test": 2001}[split]  # patients, in NIH's names of images
    names = [f"{first + i // 2:08d}_{i % 2:03d}.png" for i in range(n)]
    frame = pd.DataFrame(
        {
            "image": names,
            "patient": first + np.arange(n) // 2,
            "follow_up": np.arange(n) % 2,
            "age": rng.integers(20, 80, n),
            "sex": rng.choice(["F", "M"], n),
            "view": rng.choice(["AP", "PA"], n),
            "width": SIDE,
            "height": SIDE,
            "spacing_x": 1.0,
            "spacing_y": 1.0,
        }
    )
    index = pd.DataFrame(
        {"image": names, "crc32": [zlib.crc32(film) for film in pixels], "status": "ok"}
    )
    cache = SimpleNamespace(index=index, images=pixels)
    return Dataset("made", split, frame, cache, np.arange(n), labels, labels)


def datasets():
    return {split: films(split) for split in COUNTS}


def recipe(**values):
    """Return the book's recipe with the smallest network there is, 6 steps an epoch."""
    small = {
        "cache_size": SIDE,
        "size": SIDE,
        "growth_rate": 1,
        "batch_size": 8,
        "epochs": 2,
        "augment": "positioning",
        "channels_last": False,
    }
    return RECIPES["phantom-cpu"].with_values(**{**small, **values})


# One of each schedule. The second keeps the best and stops early.
ONE_CYCLE = recipe()
PLATEAU = recipe(
    schedule="plateau",
    optimizer="adam",
    learning_rate=0.02,
    keep="highest auroc",
    patience=2,
    epochs=5,
)
# Steps of four batches, and of the two that are left.
ACCUMULATED = recipe(
    schedule="constant",
    optimizer="sgd",
    learning_rate=0.05,
    momentum=0.8,
    accumulate=4,
)
