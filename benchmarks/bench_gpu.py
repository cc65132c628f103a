"""DenseNet-121 on a graphics card: films a second, what each device of speed brings, and the maps.

Needs the package, the standard PyTorch stack, and at most eight minutes. Films are noise of
224 px: what is in them takes no time, and no file is read. In one run, side by side:

- *Training*: the bare step as most people write it (float32, channels first, eager), then with
  bf16, channels last and `torch.compile` added one by one; `fit` with everything included beside
  the last of them; and the same step fed by a ``DataLoader`` over the same cached films.
- *Inference*: the forward pass alone, `chexlib`'s way from the cache, and 14 heat maps.
- *Numbers*: how far logits in bf16 and in TF32 lie from those in float32.

The table goes to ``gpu_speed.csv`` in the folder where the script is run, with the card's name.
Where there is no card a sentence is printed instead. ``--device cpu`` tries the script out on a
small network; its figures say nothing.

Run: python benchmarks/bench_gpu.py [--device cuda] [--out gpu_speed.csv]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from common import interleaved
from steps import Bare, of_noise, steps
from torch.utils.data import DataLoader

from chexlib.data import Augment, Batcher, Batches
from chexlib.files import write_csv
from chexlib.inference import Preparation
from chexlib.interpret import class_activation_maps
from chexlib.models import CheXNet
from chexlib.training import RECIPES, Recipe

EPOCH = 78_468  # training films of CheXNet (Rajpurkar et al., 2017: 70% of 112,120)
REPEATS, FEW = 5, 10  # of each way in turn; steps of each


class Clock:
    """Seconds, once the device has done what it was asked."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


class Cached(torch.utils.data.Dataset):
    """What a ``DataLoader`` is mostly given: a film of the cache at a time, flipped by chance."""

    def __init__(self, films: np.ndarray) -> None:
        self.films = films

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, k: int) -> torch.Tensor:
        film = torch.from_numpy(self.films[k])[None].float() / 255
        return film.flip(-1) if torch.rand(()) < 0.5 else film


def repeated(way: Callable[[], object], times: int) -> Callable[[], None]:
    """Return what does something several times."""

    def run() -> None:
        for _ in range(times):
            way()

    return run


def fed(step: Callable | None, begin: Callable[[], Iterator], device: torch.device) -> None:
    """Go through the films once, with or without training."""
    for images in begin():
        there = images.to(device, non_blocking=True)
        if step is not None:
            step(there)


def training(recipe: Recipe, device: torch.device, clock: Clock) -> list[tuple[str, float]]:
    """Return films a second of the step, device of speed by device of speed, and of ``fit``."""
    ways = {
        "step: float32, channels first": {"channels_last": False},
        "step: + bf16": {"channels_last": False, "mixed": True},
        "step: + channels last": {"mixed": True},
        "step: + compile": {"mixed": True, "compiled": device.type == "cuda"},
    }
    bare = {name: Bare(recipe, device, **options) for name, options in ways.items()}
    for way in bare.values():
        repeated(way, 3)()  # compiles, and takes memory
    runs = {name: repeated(way, FEW) for name, way in bare.items()}
    seconds = interleaved(runs, repeats=REPEATS, clock=clock)
    n = recipe.batch_size
    rows = [(name, n * FEW / statistics.median(taken)) for name, taken in seconds.items()]
    last = bare["step: + compile"]
    ours, theirs = steps(recipe, last, clock)
    rows += [
        ("step: the last again, in turn with fit", n / theirs),
        ("fit, everything included", n / ours),
    ]
    return rows + feeding(recipe, device, clock, last)


def feeding(
    recipe: Recipe, device: torch.device, clock: Clock, step: Bare
) -> list[tuple[str, float]]:
    """Return films a second of batches from the device's memory, and from a ``DataLoader``."""
    films = of_noise("train", 64 * recipe.batch_size, recipe.size).cache.images
    workers = 0 if device.type == "cpu" else min(16, os.cpu_count() or 1)
    loader = DataLoader(
        Cached(films),
        batch_size=recipe.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=workers > 0,
    )
    batcher = Batcher(films, augment=Augment.chexnet(), device=device, resident=True)
    rows = np.arange(len(films))
    made = Batches(batcher, rows=rows, batch_size=recipe.batch_size, shuffle=True)
    sources = {
        f"DataLoader, {workers} workers": lambda: iter(loader),
        "cache on the device": lambda: (images for images, _, _ in made),
    }
    ways = {
        f"{name}: {what}": partial(fed, way, begin, device)
        for what, way in (("batches alone", None), ("with the step", step))
        for name, begin in sources.items()
    }
    seconds = interleaved(ways, repeats=3, clock=clock)  # the first starts the workers
    return [(name, len(films) / statistics.median(taken[1:])) for name, taken in seconds.items()]


def inference(recipe: Recipe, device: torch.device, clock: Clock) -> list[tuple[str, float]]:
    """Return films a second of the forward pass, of our way to logits, and of 14 maps."""
    model = CheXNet(growth_rate=recipe.growth_rate).to(device).eval()
    n = 2 * recipe.batch_size
    films = of_noise("test", n, recipe.size).cache.images
    way = Preparation(recipe.size, recipe.size)
    batcher = way.batcher(films, device=device)
    images = batcher(np.arange(n))

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return model(images)

    ways = {
        "forward pass, float32": forward,
        "from the cache to logits": lambda: way.logits(model, batcher, np.arange(n)),
        "14 heat maps": lambda: class_activation_maps(model, images),
    }
    runs = {name: repeated(run, FEW) for name, run in ways.items()}
    seconds = interleaved(runs, repeats=REPEATS + 1, clock=clock)
    return [(name, n * FEW / statistics.median(taken[1:])) for name, taken in seconds.items()]


@torch.no_grad()
def distances(recipe: Recipe, device: torch.device) -> dict[str, float]:
    """Return how far logits in other precisions lie from float32's at most, by name."""
    torch.manual_seed(0)
    model = CheXNet(growth_rate=recipe.growth_rate).to(device).eval()
    images = torch.rand(recipe.batch_size, 1, recipe.size, recipe.size, device=device)
    exact = model(images)
    found = {}
    with torch.autocast(device.type, torch.bfloat16):
        found["bf16"] = float((model(images).float() - exact).abs().max())
    if device.type == "cuda":
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
            found["TF32"] = float((model(images) - exact).abs().max())
    return found


def main() -> None:
    """Print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, default=Path("gpu_speed.csv"))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(f"Found no graphics card that torch {torch.__version__} can use: nothing to measure.")
        sys.exit(0)
    device, began = torch.device(options.device), time.monotonic()
    clock = Clock(device)
    values = {"cache_size": 224, "size": 224, "batch_size": 64, "growth_rate": None}
    card = "processor: a trial, no measurement"
    if device.type == "cuda":
        card = torch.cuda.get_device_name()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.benchmark = True
    else:
        values = {"cache_size": 32, "size": 32, "batch_size": 4, "growth_rate": 1}
    recipe = RECIPES["phantom-cpu"].with_values(epochs=1, **values)
    rows = training(recipe, device, clock)
    rows += inference(recipe, device, clock)
    table = pd.DataFrame(rows, columns=["what", "films_per_second"]).round(1)
    table.insert(0, "card", card)
    table["torch"] = torch.__version__
    write_csv(options.out, table)
    print(f"{card}, torch {torch.__version__}; {recipe.size} px, batches of {recipe.batch_size}\n")
    print(table[["what", "films_per_second"]].to_string(index=False))
    speed = table.set_index("what")["films_per_second"]
    ours = speed["fit, everything included"]
    print(f"\nfit on the bare step: {speed['step: the last again, in turn with fit'] / ours:.3f}")
    print(f"an epoch of {EPOCH:,} films, reckoned from that: {EPOCH / ours:.0f} s")
    maps = speed["forward pass, float32"] / speed["14 heat maps"]
    print(f"14 heat maps on the forward pass: {maps:.2f}")
    for name, distance in distances(recipe, device).items():
        print(f"logits, {name} against float32: at most {distance:.2g} apart")
    if device.type == "cuda":
        print(f"peak memory of the card: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    print(f"{time.monotonic() - began:.0f} s in all; {options.out} written")


if __name__ == "__main__":
    main()
