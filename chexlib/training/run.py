"""A run's folder: what is in it, and how it is read back."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from chexlib.files import write_atomically
from chexlib.training.recipes import Recipe

if TYPE_CHECKING:
    from chexlib.models import CheXNet

__all__ = ["FILES", "Run", "environment", "open_run", "write_json"]

FILES = (
    "environment.json",
    "best.safetensors",
    "last.ckpt",
    "previous.ckpt",
    "history.csv",
    "tensorboard",
    "thresholds.csv",
    "predictions.csv",
    "labels.csv",
    "metrics.json",
)
"""What a run writes, after ``config.json``."""


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
        With ``config.json`` (the recipe), ``environment.json`` (versions, threads, names
        and hashes of the films), ``best.safetensors`` (weights), ``last.ckpt`` (where it stands;
        until it is over also ``previous.ckpt``, the point before, should the last be damaged),
        ``history.csv`` (a row an epoch), ``tensorboard/``, ``thresholds.csv`` (chosen on the
        validation films, for ``chexlib predict``), ``predictions.csv`` and ``labels.csv`` (of the
        test films, for ``chexlib evaluate``), and ``metrics.json``.
    recipe : Recipe
    """

    folder: Path
    recipe: Recipe

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch: losses, validation AUROC, learning rate, seconds."""
        return pd.read_csv(self.folder / "history.csv")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """AUROC on the test films with intervals by patient, as ``metrics.json`` has it."""
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """``image`` and 14 columns of probabilities of the test films."""
        from chexlib.data import read_predictions

        return read_predictions(self.folder / "predictions.csv")

    def model(self) -> CheXNet:
        """Return the network with the weights that were kept, in eval mode."""
        from chexlib.models import load_checkpoint

        return load_checkpoint(self.folder / "best.safetensors")

    def __repr__(self) -> str:
        """Name the recipe, whether its films were given and, where it is finished, its AUROC."""
        name = self.recipe.name + (" on given data" if self.recipe.dataset == "given" else "")
        if not (self.folder / "metrics.json").is_file():
            return f"Run({name}, not finished)"
        mean = self.metrics["truth" if "truth" in self.metrics else "labels"]["mean_auroc"]
        return "Run({}, mean AUROC {:.3f} ({:.3f} to {:.3f}))".format(
            name, *(mean[key] for key in ("estimate", "low", "high"))
        )


def open_run(folder: str | Path, *, finished: bool = True) -> Run:
    """Open the folder of a run.

    Raises
    ------
    FileNotFoundError
        If there is no run, or, where ``finished``, it is not finished.
    ValueError
        If what says how it was trained is no recipe.
    """
    folder = Path(folder)
    wanted = ["config.json", *(["metrics.json", "best.safetensors"] if finished else [])]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected a {'finished ' if finished else ''}run in {folder}, found no "
            f"{', '.join(missing)}. The command that began it goes on with it."
        )
    try:
        recipe = Recipe(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected a recipe in {folder / 'config.json'}, got this: {str(error)[:500]}. Bring "
            "the file back as it was, or train again."
        ) from error
    return Run(folder, recipe)


def environment() -> dict[str, Any]:
    """Return versions, processor and threads: what else decides the last bits of a result."""
    packages = ("chexlib", "torch", "torchvision", "pytorch-lightning", "numpy")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **{package: version(package) for package in packages},
    }


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write values as JSON, whole or not at all."""
    text = json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))
