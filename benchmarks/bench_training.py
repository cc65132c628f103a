"""What training costs beside what it must: a step, an epoch, memory; in one run, interleaved.

- *Step*: `fit`, everything included (gathering, flipping and normalising the batch, checks,
  Fabric, schedule), against the bare step of the same network on a batch already in memory. Ten
  steps of one, then ten of the other, so that both see the same machine.
- *Epoch*: batches from an image cache against the usual loop, which decodes each film in each
  epoch (Pillow, RGB, resize, to tensor, in a ``DataLoader``), with the same network.
- *Memory*: the peak of a step and of each kind of batches, in processes of their own.

On a CPU: the narrow network, one core, and the processor's time, so that other work takes little
from it. On a GPU: the full network, the clock, and the share of the card's measured matrix rate.
The films are those under CHEXLIB_DATA/nih_sample/images; where there are none, simulated ones of
1024 px.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from common import films, interleaved, usual_path
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader

from chexlib.data import Augment, Batcher, Batches, ImageCache, find_radiographs
from chexlib.data.dataset import Dataset
from chexlib.findings import FINDINGS
from chexlib.models import CheXNet, cost
from chexlib.training import RECIPES, Recipe, fit
from chexlib.training.loop import Training

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
BLOCK, BLOCKS = 10, 6  # steps of one before the other's turn
EPOCHS = 3
WORKERS = (os.cpu_count() or 1) if GPU else 0
SIZE = 224 if GPU else 112
BATCH = 64 if GPU else 32


def now() -> float:
    """Return seconds: of the clock on a GPU, once it has done what was asked; else of the core."""
    if GPU:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def recipe() -> Recipe:
    """Return what is trained: the book's network, or on a GPU the paper's."""
    values = {"growth_rate": None} if GPU else {}
    return RECIPES["phantom-cpu"].with_values(
        cache_size=SIZE, size=SIZE, batch_size=BATCH, epochs=1, **values
    )


class Bare:
    """The network's own step: forward, loss, backward, optimiser, on one batch in memory."""

    def __init__(self) -> None:
        asked = recipe()
        self.model = CheXNet(growth_rate=asked.growth_rate).to(
            DEVICE, memory_format=torch.channels_last
        )
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=asked.learning_rate, weight_decay=1e-4, fused=GPU
        )
        self.run = torch.compile(self.model) if GPU else self.model
        images = torch.rand(BATCH, 1, SIZE, SIZE, device=DEVICE)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = (torch.rand(BATCH, len(FINDINGS), device=DEVICE) < 0.1).float()

    def __call__(self, images: torch.Tensor | None = None) -> None:
        images = self.images if images is None else images
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=GPU):
            logits = self.run(images)
            loss = binary_cross_entropy_with_logits(logits, self.labels[: len(images)])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def in_memory(split: str, n: int) -> Dataset:
    """Return films of noise: what is in them takes no time."""
    rng = np.random.default_rng(len(split))
    names = [f"{i:08d}_000.png" for i in range(n)]
    index = pd.DataFrame({"image": names, "crc32": 0, "status": "ok"})
    frame = pd.DataFrame(
        {"image": names, "patient": np.arange(n), "age": 50, "sex": "F", "view": "PA"}
        | dict.fromkeys(("follow_up", "width", "height", "spacing_x", "spacing_y"), 1)
    )
    cache = type("Films", (), {})()
    cache.index, cache.images = index, rng.integers(0, 256, (n, SIZE, SIZE), np.uint8)
    labels = rng.random((n, len(FINDINGS))) < 0.3
    return Dataset("noise", split, frame, cache, np.arange(n), labels)


def steps() -> tuple[float, float]:
    """Return seconds a step of `fit` and of the bare network, medians over blocks."""
    bare, count = Bare(), 0
    ours: list[float] = []
    theirs: list[float] = []
    began = 0.0

    step = Training.train_step

    def and_bare(self: Training, *batch: torch.Tensor) -> None:
        nonlocal count, began
        step(self, *batch)
        count += 1
        if count % BLOCK:
            return
        middle = now()
        for _ in range(BLOCK):
            bare()
        end = now()
        if count > BLOCK:  # the first blocks warm up
            ours.append((middle - began) / BLOCK)
            theirs.append((end - middle) / BLOCK)
        began = now()

    for _ in range(3):
        bare()
    Training.train_step = and_bare
    data = {
        "train": in_memory("train", BATCH * BLOCK * (BLOCKS + 1)),
        "val": in_memory("val", 64),
        "test": in_memory("test", 64),
    }
    with tempfile.TemporaryDirectory() as scratch:
        fit(recipe(), scratch, data=data)
    Training.train_step = step
    return statistics.median(ours), statistics.median(theirs)


class Decoded(torch.utils.data.Dataset):
    """What most training scripts do with a film, each time it is wanted."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.read = usual_path(SIZE, resize=SIZE, normalise=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> torch.Tensor:
        return self.read(self.paths[k])


def usual(folder: Path) -> Callable[[], Iterator[torch.Tensor]]:
    """Return what begins an epoch of the usual loop."""
    loader = DataLoader(
        Decoded(folder),
        batch_size=BATCH,
        shuffle=True,
        num_workers=WORKERS,
        persistent_workers=WORKERS > 0,
        pin_memory=GPU,
    )
    return lambda: (images.to(DEVICE) for images in loader)


def cached(folder: Path) -> Callable[[], Iterator[torch.Tensor]]:
    """Return what begins an epoch of ours, given the cache."""
    batcher = Batcher(
        ImageCache.open(folder), size=SIZE, augment=Augment.chexnet(), device=DEVICE, seed=0
    )
    rows = np.arange(len(batcher))
    made = Batches(batcher, rows=rows, batch_size=BATCH, shuffle=True, reuse=0 if GPU else 1)
    return lambda: (images for images, _, _ in made)


def epoch(begin: Callable[[], Iterator[torch.Tensor]], step: Bare | None) -> None:
    """Go through an epoch, with or without training."""
    for images in begin():
        if step is not None:
            step(images.contiguous(memory_format=torch.channels_last))


def peak() -> float:
    """Return the most memory this process has had, in MB."""
    status = Path("/proc/self/status")
    if status.is_file():  # rusage would begin with what the process that started this one had
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(kind: str, folder: str) -> None:
    """Print, as JSON, the peak after what ``kind`` says."""
    if kind == "network":
        Bare()()
    elif kind != "nothing":
        epoch({"usual": usual, "cached": cached}[kind](Path(folder)), None)
    print(json.dumps(peak()))


def matrix_rate() -> float:
    """Return the operations a second of a large matrix product, in the precision of training."""
    side, kind = (8192, torch.bfloat16) if GPU else (2048, torch.float32)
    a, b = (torch.randn(side, side, device=DEVICE, dtype=kind) for _ in range(2))
    (taken,) = interleaved({"product": lambda: a @ b}, repeats=6, clock=now).values()
    return 2 * side**3 / min(taken)


def row(name: str, seconds: float, count: int, first: float | None = None) -> None:
    """Print a row of the table."""
    ratio = "" if first is None else f"{first / seconds:8.2f}"
    print(f"{name:58}{1e3 * seconds / count:9.2f}{count / seconds:10,.0f}{ratio}")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(torch.get_num_threads() if GPU else 1)
    cv2.setNumThreads(1)
    network = CheXNet(growth_rate=recipe().growth_rate)
    place = torch.cuda.get_device_name() if GPU else "one core, processor time"
    print(f"{network!r}, {SIZE} px, batches of {BATCH}; {place}\n")
    print(f"{'':58}{'ms/image':>9}{'images/s':>10}{'ratio':>8}")
    ours, theirs = steps()
    row("bare step, batch in memory", theirs, BATCH)
    row("step of fit, everything included", ours, BATCH, theirs)
    rate, needed = matrix_rate(), cost(network, size=SIZE).training
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = films(Path(scratch))[0].parent, Path(scratch) / "cache"
        start = now()
        built = ImageCache.build(
            find_radiographs(folder), cache, size=SIZE, workers=None if GPU else 1
        )
        building, count = now() - start, len(built)
        ways, bare = {"usual": usual(folder), "cached": cached(cache)}, Bare()
        epochs = {
            (name, trains): partial(epoch, begin, bare if trains else None)
            for name, begin in ways.items()
            for trains in (False, True)
        }
        seconds = interleaved(epochs, repeats=EPOCHS + 1, clock=now)
        middle = {key: statistics.median(taken[1:]) for key, taken in seconds.items()}
        print(f"\n{count} films of 1024 px")
        row("building the cache, once", building, count)
        for trains, what in ((False, "batches alone"), (True, "epoch with training")):
            row(f"usual loop: {what}", middle["usual", trains], count)
            row(f"from the cache: {what}", middle["cached", trains], count, middle["usual", trains])
        used = {}
        for kind in ("nothing", "network", "usual", "cached"):
            place = cache if kind == "cached" else folder
            command = [sys.executable, __file__, kind, str(place)]
            ended = subprocess.run(command, check=True, capture_output=True, text=True)
            used[kind] = float(ended.stdout)
    print(f"\noverhead of fit on the bare step: {100 * (ours / theirs - 1):+.1f}%")
    print(f"matrix products: {rate / 1e12:.3f} TFLOP/s")
    for name, taken in (("bare step", theirs), ("fit", ours)):
        share = needed * BATCH / taken / rate
        print(f"{name}: {needed / 1e9:.2f} GFLOP an image, {100 * share:.0f}% of that rate")
    print(
        f"peak memory: {used['nothing']:.0f} MB for the libraries; beyond it "
        + ", ".join(
            f"{used[kind] - used['nothing']:.0f} for {what}"
            for kind, what in (
                ("network", "a step of the network"),
                ("usual", "batches of the usual loop"),
                ("cached", "batches from the cache"),
            )
        )
    )
    if GPU:
        print(f"peak memory of the GPU: {torch.cuda.max_memory_allocated() / 1e6:.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        memory(*sys.argv[1:])
    else:
        main()
