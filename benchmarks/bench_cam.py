"""All 14 class activation maps: beside the forward pass alone, and beside the `grad-cam` package.

`grad-cam` computes the map of one class a call, so it is looped over findings, as its users do. It
requires opencv-python, which cannot stand beside opencv-python-headless; it works with either:

    pip install --no-deps grad-cam ttach

Seconds are those of the processor, so that other work on the machine counts as little as it can.

Run: python benchmarks/bench_cam.py [--batch 8] [--size 224] [--repeats 9] [--threads 1]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from common import interleaved

from chexlib.findings import FINDINGS
from chexlib.interpret import HeatMap, class_activation_maps, normalise
from chexlib.models import CheXNet


def grad_cam(model: CheXNet) -> Callable[[torch.Tensor], np.ndarray] | None:
    """Return the package's Grad-CAM of all findings, [B, 14, H, W], or None where it is absent."""
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:
        return None
    method = GradCAM(model=model, target_layers=[model.network.features.norm5])

    def run(images: torch.Tensor) -> np.ndarray:
        maps = [
            method(images, targets=[ClassifierOutputTarget(row)] * len(images))
            for row in range(len(FINDINGS))
        ]
        return np.stack(maps, axis=1)

    return run


def enlarged(model: CheXNet, images: torch.Tensor) -> torch.Tensor:
    """Return what `grad-cam` gives: positive maps in pixels, each scaled to [0, 1]."""
    size = images.shape[-1]
    return normalise(HeatMap(class_activation_maps(model, images).clip(0), size).pixels(size))


def main() -> None:
    """Print a table: the best of interleaved repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = CheXNet().eval()
    images = torch.rand(options.batch, 1, options.size, options.size)

    @torch.no_grad()
    def forward() -> torch.Tensor:
        return model(images)

    ways: dict[str, Callable[[], object]] = {
        "forward pass, logits alone": forward,
        "class_activation_maps, 14 findings": lambda: class_activation_maps(model, images),
        "the same, in pixels, scaled": lambda: enlarged(model, images),
    }
    theirs = grad_cam(model)
    forward()  # the first pass pays for memory
    # Minutes; the others differ by percents and need the repeats.
    slow = {} if theirs is None else {"grad-cam, looped over 14 findings": lambda: theirs(images)}
    seconds = interleaved(ways | slow, repeats=2, clock=time.process_time)
    more = interleaved(ways, repeats=options.repeats - 2, clock=time.process_time)
    best = {name: min(taken + more.get(name, [])) for name, taken in seconds.items()}
    print(
        f"DenseNet-121, {options.batch} images of {options.size} px, {options.threads} thread(s)\n"
    )
    print("| what | seconds | times the forward pass |\n|---|---|---|")
    for name, taken in best.items():
        print(f"| {name} | {taken:.3f} | {taken / best['forward pass, logits alone']:.2f} |")
    if theirs is None:
        print("\ngrad-cam is not there: pip install --no-deps grad-cam ttach")


if __name__ == "__main__":
    main()
