"""One small run in a process of its own: ``run_it.py FOLDER MODE``; under torchrun, in several.

``plain`` is a user's call. ``watched`` tells what each process has before and after it takes the
first one's batch statistics, and which of them judges.
``frozen`` trains with the statistics that batch normalisation has for testing, so that films do
not depend on their batch; ``accumulated`` does so in steps of several batches. ``endless`` trains
until it is ended, and touches a file named after its process at every step.
"""

import os
import sys
from pathlib import Path

import torch
from small import films, recipe

from chexlib.models import CheXNet
from chexlib.training import fit, loop, start
from chexlib.training.loop import Training

VALIDATION = 129  # two batches in one process of two, one in the other


def data():
    return {"train": films("train"), "val": films("val", VALIDATION), "test": films("test")}


def frozen(**options):
    """Return a network that is, and stays, as for testing."""
    return CheXNet(**options).eval()


def watch(folder, rank):
    validate = Training.validate
    validation_step = Training.validation_step
    judge = loop.judge
    before = []

    def buffers(training):
        return torch.cat([b.detach().double().flatten() for b in training.model.buffers()])

    def watched(self):
        before.append(buffers(self))
        return validate(self)

    def stepping(self, *batch):
        torch.save((before[-1], buffers(self)), folder / f"buffers-{rank}.pt")
        return validation_step(self, *batch)

    def told(*arguments, **options):
        (folder / f"judged-by-{rank}").touch()
        judge(*arguments, **options)

    Training.validate, Training.validation_step = watched, stepping
    loop.judge = told


def tell_that_it_trains(folder):
    step = Training.train_step

    def told(self, *arguments):
        (folder / f"training-{os.getpid()}").touch()
        return step(self, *arguments)

    Training.train_step = told


def main():
    torch.set_num_threads(1)
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    asked = recipe(epochs=1)
    if mode == "watched":
        watch(folder, os.environ["RANK"])
    if mode == "endless":
        asked = recipe(epochs=100_000)
        tell_that_it_trains(folder)
    if mode in ("frozen", "accumulated"):
        start.CheXNet = frozen
        # Adam divides a gradient by its size: what is rounding in one becomes a step of any sign.
        count = 4 if mode == "accumulated" else 1
        asked = recipe(epochs=1, learning_rate=1e-4, weight_decay=0.0, accumulate=count)
    fit(asked, folder, data=data())


if __name__ == "__main__":
    main()
