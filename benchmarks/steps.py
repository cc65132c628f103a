"""A step of training: that of ``fit`` with everything included, beside the bare network's own."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from chexlib.data.dataset import Dataset
from chexlib.findings import FINDINGS
from chexlib.models import CheXNet
from chexlib.training import Recipe, fit
from chexlib.training.loop import Training

BLOCK, BLOCKS = 10, 6  # steps of one before the other's turn


class Bare:
    """The network's own step: forward, loss, backward, optimiser, on one batch in memory."""

    def __init__(
        self,
        recipe: Recipe,
        device: torch.device,
        *,
        channels_last: bool = True,
        mixed: bool = False,
        compiled: bool = False,
    ) -> None:
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.device, self.mixed, n = device, mixed, recipe.batch_size
        self.model = CheXNet(growth_rate=recipe.growth_rate).to(device, memory_format=self.layout)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=recipe.learning_rate,
            weight_decay=1e-4,
            fused=device.type == "cuda",
        )
        self.run = torch.compile(self.model) if compiled else self.model
        images = torch.rand(n, 1, recipe.size, recipe.size, device=device)
        self.images = images.contiguous(memory_format=self.layout)
        self.labels = (torch.rand(n, len(FINDINGS), device=device) < 0.1).float()

    def __call__(self, images: torch.Tensor | None = None) -> None:
        images = self.images if images is None else images.contiguous(memory_format=self.layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            logits = self.run(images)
            loss = binary_cross_entropy_with_logits(logits, self.labels[: len(images)])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def of_noise(split: str, n: int, size: int) -> Dataset:
    """Return films of noise: what is in them takes no time."""
    rng = np.random.default_rng(len(split))
    names = [f"{i:08d}_000.png" for i in range(n)]
    index = pd.DataFrame({"image": names, "crc32": 0, "status": "ok"})
    frame = pd.DataFrame(
        {"image": names, "patient": np.arange(n), "age": 50, "sex": "F", "view": "PA"}
        | dict.fromkeys(("follow_up", "width", "height", "spacing_x", "spacing_y"), 1)
    )
    cache = type("Films", (), {})()
    cache.index, cache.images = index, rng.integers(0, 256, (n, size, size), np.uint8)
    labels = rng.random((n, len(FINDINGS))) < 0.3
    return Dataset("noise", split, frame, cache, np.arange(n), labels)


def steps(recipe: Recipe, bare: Bare, now: Callable[[], float]) -> tuple[float, float]:
    """Return seconds a step of `fit` and of the bare network, medians over blocks in turn.

    ``now`` tells the time once what was asked has been done.
    """
    count = 0
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
    counts = {"train": recipe.batch_size * BLOCK * (BLOCKS + 1), "val": 64, "test": 64}
    data = {split: of_noise(split, n, recipe.size) for split, n in counts.items()}
    with tempfile.TemporaryDirectory() as scratch:
        fit(recipe, scratch, data=data)
    Training.train_step = step
    return statistics.median(ours), statistics.median(theirs)
