"""Films a second from files to probabilities, beside the loops that others' documentation shows.

One core and one process each, the same films and the same network (a DenseNet-121 with random
weights: what is computed does not depend on them). On the films under
CHEXLIB_DATA/nih_sample/images where they are, simulated ones otherwise. Beside `chexlib predict`:
the same in batches of 32 in torch's default layout, which is what it did before; torchxrayvision's
loop, one film at a time; and MONAI's transforms, DataLoader and SimpleInferer, where they are:

    pip install --no-deps monai

Run: python benchmarks/bench_predict.py [--size 224] [--repeats 3] [--films 48]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import skimage.io
import torch
import torchxrayvision as xrv
from common import films, interleaved

from chexlib.data import find_radiographs
from chexlib.data.sources import read_all
from chexlib.inference import Preparation, predict_files
from chexlib.models import CheXNet

BATCH = 32


def before(model: CheXNet, folder: Path, way: Preparation) -> np.ndarray:
    """Return probabilities as they were computed before: batches of 32, contiguous."""
    source, found = find_radiographs(folder), {}
    for task in read_all(source, range(len(source.names)), size=way.cache_size, workers=1):
        batcher = way.batcher(np.stack([film.pixels for film in task]))
        rows = way.logits(model, batcher, np.arange(len(task)), images_at_once=BATCH).sigmoid()
        found |= dict(zip([film.position for film in task], rows.numpy(), strict=True))
    return np.stack([found[k] for k in sorted(found)])


def torchxrayvision(model: CheXNet, paths: list[Path], size: int) -> Callable[[], object]:
    """Return the loop of its documentation, on a network that takes films in [0, 1]."""
    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(size, engine="cv2")

    @torch.no_grad()
    def run() -> list[torch.Tensor]:
        out = []
        for path in paths:
            image = skimage.io.imread(path)
            image = image if image.ndim == 2 else image[..., 0]
            image = resize(crop(xrv.datasets.normalize(image, 255)[None]))
            film = torch.from_numpy(image)[None].float() / 2048 + 0.5  # it has -1024 to 1024
            out.append(model(film.clamp(0, 1)).sigmoid())
        return out

    return run


def monai(model: CheXNet, paths: list[Path], size: int) -> Callable[[], object] | None:
    """Return MONAI's: a dictionary of transforms, a loader of batches, an inferer."""
    try:
        from monai.data import DataLoader, Dataset
        from monai.inferers import SimpleInferer
        from monai.transforms import (
            Compose,
            EnsureChannelFirst,
            LoadImage,
            Resize,
            ScaleIntensityRange,
        )
    except ImportError:
        return None
    grey = LoadImage(image_only=True, reader="PILReader", converter=lambda film: film.convert("L"))
    steps = [grey, EnsureChannelFirst(), ScaleIntensityRange(0, 255, 0, 1, clip=True)]
    change = Compose([*steps, Resize((size, size), mode="area")])

    @torch.no_grad()
    def run() -> list[torch.Tensor]:
        loader = DataLoader(Dataset([str(path) for path in paths], change), batch_size=BATCH)
        infer = SimpleInferer()
        return [infer(batch.as_tensor(), model).sigmoid() for batch in loader]

    return run


def main() -> dict[str, float]:
    """Print the table and return films a second; medians of interleaved repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--films", type=int, default=48)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    was = CheXNet().eval()
    now = copy.deepcopy(was)  # predict lays out its weights otherwise
    way = Preparation(256, options.size)
    with tempfile.TemporaryDirectory() as scratch:
        folder, out = Path(scratch, "films"), Path(scratch, "out.csv")
        folder.mkdir()
        for path in films(Path(scratch))[: options.films]:
            (folder / path.name).symlink_to(path)
        paths = sorted(folder.iterdir())

        def predict() -> None:
            predict_files(now, find_radiographs(folder), out, preparation=way, workers=1)

        ways: dict[str, Callable[[], object]] = {
            "chexlib, batches of 32, contiguous (before)": lambda: before(was, folder, way),
            "chexlib predict": predict,
            "torchxrayvision's loop": torchxrayvision(was, paths, options.size),
        }
        if theirs := monai(was, paths, options.size):
            ways["MONAI, batches of 32"] = theirs
        old = before(was, folder, way)  # the first pass pays for memory
        seconds = interleaved(ways, repeats=options.repeats)
        apart = abs(old - pd.read_csv(out).iloc[:, 1:].to_numpy()).max()
    rate = {name: len(paths) / statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(rate.values()))
    print(f"DenseNet-121, {len(paths)} films to {options.size} px, one core\n")
    print("| what | films/s | ratio |\n|---|---|---|")
    for name, value in rate.items():
        print(f"| {name} | {value:.1f} | {value / first:.2f} |")
    print(f"\nprobabilities of the first two differ by at most {apart:.1e}")
    if theirs is None:
        print("MONAI is not there: pip install --no-deps monai")
    return rate


if __name__ == "__main__":
    main()
