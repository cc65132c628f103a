"""What training costs beside what it must: a step, an epoch, memory; in one run, interleaved.

- *Step*: `fit`, everything included (gathering, flipping and normalising the batch, checks,
  Fabric, schedule), against the bare step of the same network on a batch already in memory. Ten
  steps of one, then ten of the other, so that both see the same machine.
- *Epoch*: batches from an image cache against the usual loop, which decodes each film in each
  epoch (Pillow, RGB, resize, to tensor, in a ``DataLoader``), with the same network.
- *Memory*: the peak of a step and of each kind of batches, in processes of their own.

The narrow network, one core, and the processor's time, so that other work takes little from it;
`bench_gpu.py` measures the full one on a card. The films are those under
CHEXLIB_DATA/nih_sample/images; where there are none, simulated ones of 1024 px.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import process_time

import cv2
import numpy as np
import torch
from common import films, interleaved, usual_path
from steps import Bare, steps
from torch.utils.data import DataLoader

from chexlib.data import Augment, Batcher, Batches, ImageCache, find_radiographs
from chexlib.models import CheXNet, cost
from chexlib.training import RECIPES

DEVICE = torch.device("cpu")
EPOCHS = 3
RECIPE = RECIPES["phantom-cpu"].with_values(cache_size=112, size=112, batch_size=32, epochs=1)


class Decoded(torch.utils.data.Dataset):
    """What most training scripts do with a film, each time it is wanted."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.png"))
        self.read = usual_path(RECIPE.size, resize=RECIPE.size, normalise=False)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, k: int) -> torch.Tensor:
        return self.read(self.paths[k])


def usual(folder: Path) -> Callable[[], Iterator[torch.Tensor]]:
    """Return what begins an epoch of the usual loop."""
    loader = DataLoader(Decoded(folder), batch_size=RECIPE.batch_size, shuffle=True)
    return lambda: iter(loader)


def cached(folder: Path) -> Callable[[], Iterator[torch.Tensor]]:
    """Return what begins an epoch of ours, given the cache."""
    images = ImageCache.open(folder)
    batcher = Batcher(images, size=RECIPE.size, augment=Augment.chexnet(), seed=0)
    rows = np.arange(len(batcher))
    made = Batches(batcher, rows=rows, batch_size=RECIPE.batch_size, shuffle=True, reuse=1)
    return lambda: (images for images, _, _ in made)


def epoch(begin: Callable[[], Iterator[torch.Tensor]], step: Bare | None) -> None:
    """Go through an epoch, with or without training."""
    for images in begin():
        if step is not None:
            step(images)


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
        Bare(RECIPE, DEVICE)()
    elif kind != "nothing":
        epoch({"usual": usual, "cached": cached}[kind](Path(folder)), None)
    print(json.dumps(peak()))


def matrix_rate() -> float:
    """Return the operations a second of a large matrix product."""
    side = 2048
    a, b = (torch.randn(side, side) for _ in range(2))
    (taken,) = interleaved({"product": lambda: a @ b}, repeats=6, clock=process_time).values()
    return 2 * side**3 / min(taken)


def row(name: str, seconds: float, count: int, first: float | None = None) -> None:
    """Print a row of the table."""
    ratio = "" if first is None else f"{first / seconds:8.2f}"
    print(f"{name:58}{1e3 * seconds / count:9.2f}{count / seconds:10,.0f}{ratio}")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network, batch = CheXNet(growth_rate=RECIPE.growth_rate), RECIPE.batch_size
    print(f"{network!r}, {RECIPE.size} px, batches of {batch}; one core, processor time\n")
    print(f"{'':58}{'ms/image':>9}{'images/s':>10}{'ratio':>8}")
    bare = Bare(RECIPE, DEVICE)
    ours, theirs = steps(RECIPE, bare, process_time)
    row("bare step, batch in memory", theirs, batch)
    row("step of fit, everything included", ours, batch, theirs)
    rate, needed = matrix_rate(), cost(network, size=RECIPE.size).training
    with tempfile.TemporaryDirectory() as scratch:
        folder, cache = films(Path(scratch))[0].parent, Path(scratch) / "cache"
        start = process_time()
        built = ImageCache.build(find_radiographs(folder), cache, size=RECIPE.size, workers=1)
        building, count = process_time() - start, len(built)
        ways = {"usual": usual(folder), "cached": cached(cache)}
        epochs = {
            (name, trains): partial(epoch, begin, bare if trains else None)
            for name, begin in ways.items()
            for trains in (False, True)
        }
        seconds = interleaved(epochs, repeats=EPOCHS + 1, clock=process_time)
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
        share = needed * batch / taken / rate
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


if __name__ == "__main__":
    if len(sys.argv) == 3:
        memory(*sys.argv[1:])
    else:
        main()
