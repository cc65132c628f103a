"""What the scripts share: films, the path that most people write first, and interleaved repeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import v2

from chexlib.data import data_home
from chexlib.data.phantom import films_of, population, render
from chexlib.models.chexnet import IMAGENET_MEAN, IMAGENET_STD


def films(folder: Path) -> list[Path]:
    """Return PNG files of 1024 px: NIH's where they are, simulated ones in ``folder`` otherwise."""
    sample = sorted((data_home() / "nih_sample" / "images").glob("*.png"))
    if sample:
        print(f"{len(sample)} films of NIH")
        return sample
    for k, film in enumerate(films_of(population(24, max_films=1))):
        Image.fromarray(render(film, size=1024).image).save(folder / f"{k:08d}_000.png")
    print("24 simulated films: set CHEXLIB_DATA to measure on real ones")
    return sorted(folder.glob("*.png"))


def usual_path(size: int, *, resize: int, normalise: bool) -> Callable[[Path], torch.Tensor]:
    """Return what most training scripts do with each film in each epoch."""
    steps = [v2.Resize(resize), v2.CenterCrop(size), v2.RandomHorizontalFlip(), v2.ToImage()]
    steps.append(v2.ToDtype(torch.float32, scale=True))
    if normalise:  # chexlib's networks do it themselves
        steps.append(v2.Normalize(IMAGENET_MEAN, IMAGENET_STD))
    change = v2.Compose(steps)
    return lambda path: change(Image.open(path).convert("RGB"))


def interleaved(
    ways: Mapping[Hashable, Callable[[], object]],
    *,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[Hashable, list[float]]:
    """Return the seconds of each way, run in turn, so that all see the same machine."""
    seconds: dict[Hashable, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = clock()
            way()
            seconds[name].append(clock() - start)
    return seconds
