"""Images a second of reading, of building a cache, and of batches from it, side by side.

On the films under CHEXLIB_DATA/nih_sample/images where they are; on simulated ones of 1024 px,
written as PNG, otherwise. One core each. Beside it the path that one would write first (Pillow
open, RGB, resize, to tensor, normalise), torchxrayvision's, and the floor that every decoder of
these files stands on: inflating their data with the fastest zlib at hand.

The last column is the ratio to the usual path, measured in the same run. With ``--write`` the
table goes to ``data/image_speed.csv``, for chapter 3.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pandas as pd
import torch
from common import films, interleaved, usual_path
from PIL import Image

from chexlib.data import (
    Augment,
    Batcher,
    Batches,
    ImageCache,
    data_home,
    find_radiographs,
    read_radiograph,
)
from chexlib.models import CheXNet

REPEATS = 7
SIZE = 224


def pixel_data(path: Path) -> bytes:
    """Return the compressed data of a PNG."""
    data, at, parts = path.read_bytes(), 8, []
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        at += length + 12
    return b"".join(parts)


def xrv_path() -> Callable[[Path], np.ndarray]:
    """Return what torchxrayvision's documentation does with a film."""
    import skimage.io
    import torchxrayvision as xrv

    crop, resize = xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE, engine="cv2")

    def read(path: Path) -> np.ndarray:
        image = skimage.io.imread(path)
        image = image if image.ndim == 2 else image[..., 0]
        return resize(crop(xrv.datasets.normalize(image, 255)[None]))

    return read


def main() -> dict[str, float]:
    """Print the table and return images a second; medians of interleaved repeats."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as scratch:
        paths = films(Path(scratch))
        contents = [pixel_data(path) for path in paths]
        raw = [path.read_bytes() for path in paths]
        usual, xrv = usual_path(SIZE, resize=256, normalise=True), xrv_path()
        count = 0

        def build() -> None:
            nonlocal count
            count += 1
            folder = Path(scratch) / f"cache{count}"
            ImageCache.build(find_radiographs(paths[0].parent), folder, size=256, workers=1)

        build()
        small = ImageCache.open(Path(scratch) / "cache1")
        # As many films as a GPU takes at once, from a cache larger than any processor's own.
        network = CheXNet(growth_rate=1)
        many = np.concatenate([small.images] * (4096 // len(small)))
        rows = np.random.default_rng(0).permutation(len(many))[:1024]

        def batches(
            augment: Augment | None, size: int | None = None, reuse: int = 1
        ) -> Callable[[], None]:
            make = Batcher(many, augment=augment, size=size, seed=0)
            epoch = Batches(make, rows=rows, batch_size=64, shuffle=False, epoch=1, reuse=reuse)

            def run() -> None:
                for images, _, _ in epoch:
                    network.normalised(images)  # as the usual path has done already

            return run

        def gather() -> None:
            for part in np.split(rows, 16):
                np.take(many, part, axis=0)

        each = len(paths)
        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "usual path: Pillow, RGB, resize, normalise": (each, lambda: [usual(p) for p in paths]),
            "torchxrayvision's path (one channel)": (each, lambda: [xrv(p) for p in paths]),
            "inflate alone, zlib": (each, lambda: [zlib.decompress(d) for d in contents]),
            "inflate alone, zlib-ng": (
                each,
                lambda: [imagecodecs.zlibng_decode(d) for d in contents],
            ),
            "decode alone, Pillow": (
                each,
                lambda: [np.asarray(Image.open(io.BytesIO(d))) for d in raw],
            ),
            "decode alone, OpenCV": (
                each,
                lambda: [
                    cv2.imdecode(np.frombuffer(d, np.uint8), cv2.IMREAD_GRAYSCALE) for d in raw
                ],
            ),
            "decode alone, imagecodecs": (each, lambda: [imagecodecs.png_decode(d) for d in raw]),
            "read_radiograph": (each, lambda: [read_radiograph(p) for p in paths]),
            "ImageCache.build, 256 px, hashes and fsync included": (each, build),
            "batch of 64: gathered, 256 px": (1024, gather),
            "batch of 64: normalised, 256 px": (1024, batches(None)),
            "batch of 64: flipped and normalised, 256 px": (1024, batches(Augment.chexnet())),
            "batch of 64: the same, in new memory each time": (
                1024,
                batches(Augment.chexnet(), reuse=0),
            ),
            "new memory alone, filled with zeros": (
                1024,
                lambda: [torch.zeros(64, 3, 256, 256) for _ in range(16)],
            ),
            "batch of 64: the same, resized to 224 px": (1024, batches(Augment.chexnet(), SIZE)),
            "batch of 64: + grey values": (
                1024,
                batches(Augment(flip=0.5, brightness=0.05, contrast=0.1)),
            ),
            "batch of 64: + rotation, shift, scale": (
                1024,
                batches(Augment(flip=0.5, degrees=7, translate=0.05, scale=0.1)),
            ),
            "batch of 64: random resized crop to 224 px": (
                1024,
                batches(Augment.inception(), SIZE),
            ),
        }
        seconds = interleaved({name: run for name, (_, run) in ways.items()}, repeats=REPEATS)
    rate = {name: ways[name][0] / statistics.median(taken) for name, taken in seconds.items()}
    first = next(iter(rate.values()))
    print(f"{'one core':52}{'images/s':>10}{'ratio':>8}")
    for name, value in rate.items():
        print(f"{name:52}{value:10,.0f}{value / first:8.1f}")
    share = rate["read_radiograph"] / rate["inflate alone, zlib-ng"]
    print(f"read_radiograph reaches {share:.0%} of the speed of inflating alone with zlib-ng")
    return rate


def write(rate: dict[str, float]) -> None:
    """Keep the table for the book."""
    values = pd.Series(rate, name="images_per_second").rename_axis("what")
    ratio = (values / values.iloc[0]).round(1)
    folder = Path(__file__).parent.parent / "data"
    sys.path.insert(0, str(folder))
    from builders import write_table

    frame = values.round().astype(int).reset_index().assign(ratio=ratio.to_numpy())
    write_table(
        frame,
        folder / "image_speed.csv",
        source="61 PNG files of NIH ChestX-ray14 (Wang et al., 2017), timed on one core",
        licence="figures CC BY 4.0",
        inputs=[data_home() / "nih_sample"],
        command="python benchmarks/bench_images.py --write",
        note="medians of interleaved repeats; ratio: to the first row",
    )


if __name__ == "__main__":
    measured = main()
    if "--write" in sys.argv:
        write(measured)
