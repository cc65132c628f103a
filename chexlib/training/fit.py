"""``fit``: a recipe and a folder in, a run out; on one CPU, one GPU or many nodes."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import TQDMProgressBar
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy

from chexlib.data.dataset import open_dataset
from chexlib.data.phantom import Shortcut
from chexlib.models import CheXNet
from chexlib.training.checkpointing import AtomicCheckpoints, KeepBest, ResumePoints
from chexlib.training.judge import judge
from chexlib.training.loaders import Films, data_hash
from chexlib.training.losses import make_loss
from chexlib.training.module import Training
from chexlib.training.recipes import RECIPES, Recipe
from chexlib.training.run import Run, environment, open_run, write_json

if TYPE_CHECKING:
    from chexlib.data.dataset import Dataset

__all__ = ["fit"]

log = logging.getLogger(__name__)


def fit(
    recipe: Recipe | str,
    folder: str | Path,
    *,
    progress: bool = False,
    checkpoint_every: int = 200,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    data: dict[str, Dataset] | None = None,
) -> Run:
    """Train what a recipe says, or go on where an earlier call was stopped.

    A folder that holds a finished run of the same recipe is opened and nothing is trained, so a
    list of runs is resumed by asking for all of them again.

    Parameters
    ----------
    recipe : Recipe or str
        A name of :data:`chexlib.training.RECIPES`.
    folder : path
        Made if it is not there. See :class:`chexlib.training.Run` for what it holds afterwards.
    progress : bool
        Show a bar with films a second, the time left, and the last validation.
    checkpoint_every : int
        Steps between two resume points within an epoch; each epoch ends with one.
    accelerator, devices, num_nodes
        As for Lightning's ``Trainer``. Started by ``torchrun``, the processes that it started are
        used, whatever ``devices`` says.
    data : dict of Dataset, optional
        ``train``, ``val`` and ``test`` instead of those that the recipe names.

    Returns
    -------
    Run
        On processes but the first of a distributed run, as soon as training is over.

    Raises
    ------
    ValueError
        If the folder holds a run of another recipe or other data, or a value does not fit.
    FileNotFoundError
        If the images are not in a cache yet.
    chexlib.training.module.NonFiniteLossError
        If the loss is not a number, naming the films.

    Notes
    -----
    On a CPU, a run that was killed and resumed ends with the weights, bit for bit, of one that was
    not, with the same number of threads: what happens to a film depends on seed, epoch and film
    alone, and every resume point holds weights, moments, schedule and step.
    """
    recipe = RECIPES[recipe] if isinstance(recipe, str) else recipe
    folder = Path(folder)
    config = folder / "config.json"
    if config.is_file():
        _same(json.loads(config.read_text(encoding="utf-8")), recipe.to_dict(), folder)
        if (folder / "metrics.json").is_file():
            return open_run(folder)
    if data is None:
        data = {
            split: open_dataset(recipe.dataset, split, **data_options(recipe))
            for split in ("train", "val", "test")
        }
    hashes = {split: data_hash(films) for split, films in data.items()}
    folder.mkdir(parents=True, exist_ok=True)
    place = environment()
    known = folder / "environment.json"
    if known.is_file():
        before = json.loads(known.read_text(encoding="utf-8"))
        if before["data"] != hashes:
            raise ValueError(
                f"Expected the films that the run in {folder} began with, got others "
                f"({before['data']} then, {hashes} now). Take another folder."
            )
        if before["threads"] != place["threads"]:
            log.warning(
                "The run began with %s threads and goes on with %s: its weights will differ in "
                "the last bits from those of an uninterrupted run.",
                before["threads"],
                place["threads"],
            )
    if int(os.environ.get("RANK", "0")) == 0:
        write_json(folder / "config.json", recipe.to_dict())
        write_json(known, {**place, "data": hashes})

    train = data["train"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = CheXNet(arch=recipe.arch, growth_rate=recipe.growth_rate, weights=recipe.weights)
    names = train.cache.index["image"].tolist()
    loss = make_loss(recipe, train.labels.mean(0))
    module = Training(model, recipe, loss, names=names)
    metadata = {
        "recipe": json.dumps(recipe.to_dict(), sort_keys=True),
        "data": json.dumps(hashes),
        "command": _command(recipe),
    }
    resume = ResumePoints(folder, every=checkpoint_every)
    best = KeepBest(folder, metadata)
    trainer = _trainer(
        recipe,
        folder,
        callbacks=[best, resume],
        progress=progress,
        accelerator=accelerator,
        devices=devices,
        num_nodes=num_nodes,
    )
    _prepare(module, recipe, trainer)
    if not _is_over(resume.path):
        trainer.fit(
            module,
            datamodule=Films(recipe, train, data["val"]),
            ckpt_path=resume.path if resume.path.is_file() else None,
            weights_only=True,
        )
    if trainer.global_rank == 0:
        judge(recipe, folder, data["test"])
    return open_run(folder, finished=trainer.global_rank == 0)


def data_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of :func:`chexlib.data.open_dataset` that a recipe's JSON stands for."""
    options = {"size": recipe.cache_size, **recipe.data_options}
    if isinstance(options.get("shortcut"), dict):
        options["shortcut"] = Shortcut(**options["shortcut"])
    return options


def _same(found: dict, wanted: dict, folder: Path) -> None:
    differing = {
        key: (found.get(key), value)
        for key, value in wanted.items()
        if key not in ("about",) and found.get(key) != value
    }
    if differing:
        listed = ", ".join(
            f"{k}: {old!r} there, {new!r} asked" for k, (old, new) in differing.items()
        )
        raise ValueError(
            f"Expected the recipe of the run in {folder}, got other values ({listed}). Take "
            "another folder, or remove this one."
        )


def _is_over(path: Path) -> bool:
    """Return whether the run was ended before its last epoch; Lightning would forget that."""
    if not path.is_file():
        return False
    kept = torch.load(path, map_location="cpu", weights_only=True)["callbacks"]
    return any(state.get("stopped", False) for state in kept.values())


def _trainer(
    recipe: Recipe,
    folder: Path,
    *,
    callbacks: list,
    progress: bool,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
) -> Trainer:
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes already
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        num_nodes = int(os.environ["WORLD_SIZE"]) // devices
    elif devices == "auto":
        devices = torch.cuda.device_count() if gpu else 1
    distributed = int(devices) * num_nodes > 1
    precision = recipe.precision
    if precision == "auto":
        mixed = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "16-mixed"
        precision = mixed if gpu else "32-true"
    return Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=int(devices),
        num_nodes=num_nodes,
        # Validation may have a batch more on one process, and buffers sent at each forward pass
        # would wait for all: they are sent once, before validation.
        strategy=DDPStrategy(broadcast_buffers=False) if distributed else "auto",
        precision=precision,
        max_epochs=recipe.epochs,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=[*callbacks, *([TQDMProgressBar()] if progress else [])],
        enable_progress_bar=progress,
        plugins=[AtomicCheckpoints()],
        enable_checkpointing=True,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
        use_distributed_sampler=False,
        sync_batchnorm=recipe.sync_batchnorm and gpu,
        benchmark=gpu,
        inference_mode=False,  # with it, batch statistics could not be sent between processes
    )


def _prepare(module: Training, recipe: Recipe, trainer: Trainer) -> None:
    """Lay out and compile for the device; on a CPU neither unless the recipe asks for it."""
    gpu = trainer.strategy.root_device.type == "cuda"
    if recipe.channels_last is True or (recipe.channels_last == "auto" and gpu):
        module.model.to(memory_format=torch.channels_last)
        module.channels_last = True
    if recipe.compile is True or (recipe.compile == "auto" and gpu):
        module._network[0] = torch.compile(module.model)


def _command(recipe: Recipe) -> str:
    base = RECIPES.get(recipe.name)
    text = f"chexlib train --recipe {recipe.name}"
    if base is None:
        return text
    plain, changed = base.to_dict(), []
    for key, value in recipe.to_dict().items():
        if value != plain[key]:
            changed.append(f"{key}={json.dumps(value)}")
    return " ".join([text, *(f"--set '{item}'" for item in changed)])
