"""Train the runs behind chapters 6, 7 and 14: `python data/train_runs.py [NAME…]`.

Each run goes to a folder of its own under the cache folder, is resumed where it was stopped, and is
not trained again once it is finished, so the command can be stopped and repeated at any time. Two
runs go side by side, one thread each: on two cores that is faster than one after the other, and no
result depends on what else the machine does. `make tables` turns finished runs into figures.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from chexlib.files import cache_home

if TYPE_CHECKING:
    from chexlib.data.dataset import Dataset

# Small films, a narrow network and two passes over 9,964 films: three minutes a run on one core.
SMALL = {"cache_size": 64, "size": 64, "growth_rate": 8, "epochs": 2}
# CheXNet's own grid, begun with the weights of a run at 112 px, where a film costs a quarter.
FULL = {"cache_size": 224, "size": 224, "learning_rate": 1e-3}
# What the paper says of its optimiser, on the small films; a plateau needs a third epoch to act.
PAPER = {
    "epochs": 3,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "schedule": "plateau",
    "batch_size": 16,
    "keep": "lowest loss",
}
NOISE: dict[str, dict[str, Any]] = {
    "measured": {"kind": "measured"},
    "symmetric": {"kind": "symmetric"},
    "halved": {"kind": "measured", "scale": 0.5},
    "raised": {"kind": "measured", "scale": 1.5},
    "doubled": {"kind": "measured", "scale": 2.0},
    "cue": {"kind": "cue", "cue": "device_tube"},
    "faint": {"kind": "faint"},
}
SHORTCUT = {"finding": "Nodule", "cue": "marker", "with_finding": 0.95, "without": 0.2}

# A learning curve in true labels: shares of the training patients, with as many steps as all take
# (few films, seen often) and with as many passes (fewer steps). If a measured label is worth 0.28
# of a true one, 0.28 of the patients do as well as its runs.
SHARES = (0.14, 0.28, 0.56)
# What is varied: name, seeds, values beside SMALL. Each seed of a noise draws its errors anew.
VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "true": (5, {}),
    **{kind: (5, {"noise": kind}) for kind in NOISE},
    **{f"steps-{share}": (5, {"epochs": round(SMALL["epochs"] / share)}) for share in SHARES},
    **{f"passes-{share}": (5, {}) for share in SHARES},
    "corrected": (5, {"noise": "measured", "loss": "corrected-bce"}),
    "weighted": (1, {"loss": "weighted-bce"}),
    "paper": (1, PAPER),
    "paper-slow": (1, {**PAPER, "learning_rate": 1e-4}),
    "paper-crop": (1, {**PAPER, "augment": "inception"}),
    "paper-crop-both": (1, {**PAPER, "augment": "inception", "augment_validation": True}),
    "zoogzog": (
        1,
        {
            **PAPER,
            "learning_rate": 1e-4,
            "weight_decay": 1e-5,
            "augment": "inception",
            "augment_validation": True,
            "plateau_patience": 5,
            "ten_crop": True,
        },
    ),
}
# Larger films, a wider network: the shipped model, what it begins with, the same taught by wrong
# labels, and two for chapter 14.
LARGE: dict[str, dict[str, Any]] = {
    "start": {"epochs": 6},
    "start-measured": {"epochs": 6, "data_options": {"noise": NOISE["measured"]}},
    "default": {**FULL, "weights": "start", "epochs": 3},
    "shortcut-start": {"epochs": 8, "data_options": {"shortcut": SHORTCUT}},
    "shortcut": {
        **FULL,
        "weights": "shortcut-start",
        "epochs": 1,
        "data_options": {"shortcut": SHORTCUT},
    },
    "random-labels": {**FULL, "epochs": 1},
}


def runs() -> dict[str, dict[str, Any]]:
    """Return the values of every run beside those of ``phantom-cpu``, most wanted first."""
    found = dict(LARGE)
    for seed in range(max(count for count, _ in VARIANTS.values())):
        for name, (count, values) in VARIANTS.items():
            if seed < count:
                one = {**SMALL, **values, "seed": seed}
                if "noise" in one:
                    noise = {**NOISE[one.pop("noise")], "seed": seed}
                    one["data_options"] = {"noise": noise}
                found[f"{name}-{seed}"] = one
    return found


def runs_of(training: str) -> list[str]:
    """Return the names of a training's runs, one a seed."""
    if training in LARGE:
        return [training]
    return [f"{training}-{seed}" for seed in range(VARIANTS[training][0])]


def training_of(run: str) -> str:
    """Return the training that a run belongs to; a large one is alone."""
    return run if run in LARGE else run.rpartition("-")[0]


def folder_of(name: str) -> Path:
    """Return where a run is kept."""
    return cache_home() / "runs" / name


def is_finished(name: str) -> bool:
    """Return whether a run was trained to its end."""
    return (folder_of(name) / "metrics.json").is_file()


def finished(name: str) -> Path:
    """Return the folder of a run that is finished, or say what trains it."""
    folder = folder_of(name)
    if not is_finished(name):
        raise FileNotFoundError(
            f"Expected the finished run {name!r} in {folder}, found none: "
            f"python data/train_runs.py {name}"
        )
    return folder


def shuffled(films: Dataset) -> Dataset:
    """Give each film another film's labels: nothing can be learned."""
    order = np.random.default_rng(0).permutation(len(films))
    return replace(films, labels=films.labels[order])


def some(films: Dataset, share: float, *, seed: int = 0) -> Dataset:
    """Return the films of a share of the patients; a larger share of a seed has the smaller one."""
    patients = np.random.default_rng(seed).permutation(np.unique(films.patients))
    kept = np.isin(films.patients, patients[: round(share * len(patients))])
    chosen = {"labels": films.labels[kept], "truth": films.truth[kept], "rows": films.rows[kept]}
    return replace(films, films=films.films[kept].reset_index(drop=True), **chosen)


def train(name: str) -> tuple[str, float]:
    """Train one run, on one thread; return its name and the minutes it took."""
    import torch

    torch.set_num_threads(1)
    from chexlib.data import open_dataset
    from chexlib.training import RECIPES, fit

    recipe = RECIPES["phantom-cpu"].with_values(**runs()[name])
    start, data = time.monotonic(), None
    folder_of(name).parent.mkdir(parents=True, exist_ok=True)
    os.chdir(folder_of(name).parent)  # what a run begins with is named without its place
    if recipe.weights:
        train(recipe.weights)
    seed = name.rpartition("-")[2]
    kind, _, share = training_of(name).partition("-")
    if name == "random-labels" or kind in ("steps", "passes"):
        data = {
            split: open_dataset("phantom", split, size=recipe.cache_size)
            for split in ("train", "val", "test")
        }
        films = data["train"]
        data["train"] = (
            shuffled(films)
            if name == "random-labels"
            else some(films, float(share), seed=int(seed))
        )
    fit(recipe, folder_of(name), data=data)
    return name, (time.monotonic() - start) / 60


def prepare(names: list[str]) -> None:
    """Simulate the films of the runs first, with all cores, so that two runs do not both wait."""
    from chexlib.data import open_dataset
    from chexlib.training import RECIPES
    from chexlib.training.recipes import data_options

    asked: list[dict[str, Any]] = []
    for name in names:
        options = data_options(RECIPES["phantom-cpu"].with_values(**runs()[name]))
        options.pop("noise", None)
        if options not in asked:
            asked.append(options)
            for split in ("train", "val", "test"):
                print(open_dataset("phantom", split, **options), flush=True)


def main() -> int:
    """Train what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs; all of them by default")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs side by side")
    options = parser.parse_args()
    unknown = set(options.names) - set(runs())
    if unknown:
        parser.error(f"expected names of {', '.join(runs())}, got {', '.join(sorted(unknown))}")
    wanted: list[str] = options.names or list(runs())
    names = [name for name in wanted if not is_finished(name)]
    begun = {runs()[name].get("weights") for name in names}
    names = [name for name in names if name not in begun]  # trained before what begins with them
    prepare(names)
    failed = 0
    call: Callable[[str], tuple[str, float]] = train
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        tasks = {pool.submit(call, name): name for name in names}
        for number, task in enumerate(as_completed(tasks), start=1):
            error = task.exception()
            failed += error is not None
            text = f"failed: {error}" if error else f"{task.result()[1]:.1f} min"
            print(f"{number}/{len(tasks)} {tasks[task]}: {text}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
