"""Which devices a run is on, and Lightning's trainer for them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy

from chexlib.training.checkpointing import AtomicCheckpoints

if TYPE_CHECKING:
    from pathlib import Path

    from chexlib.training.module import Training
    from chexlib.training.recipes import Recipe

__all__ = ["lay_out", "make_trainer", "place_of"]


def make_trainer(
    recipe: Recipe,
    folder: Path,
    *,
    callbacks: list[Any],
    progress: bool,
    accelerator: str,
    devices: int | str,
    num_nodes: int,
) -> Trainer:
    """Return the trainer of a run; see :func:`chexlib.training.fit` for the options.

    Raises
    ------
    ValueError
        If a GPU is asked for where there is none, or an option does not fit.
    """
    gpu, devices, num_nodes = place_of(accelerator, devices, num_nodes)
    precision = recipe.precision
    if precision == "auto":
        mixed = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "16-mixed"
        precision = mixed if gpu else "32-true"
    return Trainer(
        accelerator="gpu" if gpu else "cpu",
        devices=devices,
        num_nodes=num_nodes,
        # Validation may have a batch more on one process, and buffers sent at each forward pass
        # would wait for all: they are sent once, before validation.
        strategy=DDPStrategy(forward_sync_buffers=False) if devices * num_nodes > 1 else "auto",
        precision=precision,
        max_epochs=recipe.epochs,
        logger=TensorBoardLogger(folder, name="", version="tensorboard"),
        callbacks=callbacks,
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


def place_of(accelerator: str, devices: int | str, num_nodes: int) -> tuple[bool, int, int]:
    """Return whether a run is on GPUs, its processes a node, and its nodes.

    Raises
    ------
    ValueError
        If a GPU is asked for where there is none, or a number does not fit.
    """
    gpu = _on_gpu(accelerator)
    return gpu, *_count(devices, num_nodes, gpu=gpu)


def lay_out(module: Training, recipe: Recipe, device: torch.device) -> None:
    """Lay out and compile for the device; on a CPU neither unless the recipe asks for it."""
    gpu = device.type == "cuda"
    if recipe.channels_last is True or (recipe.channels_last == "auto" and gpu):
        module.model.to(memory_format=torch.channels_last)
        module.channels_last = True
    if recipe.compile is True or (recipe.compile == "auto" and gpu):
        module._network[0] = torch.compile(module.model)


def _on_gpu(accelerator: str) -> bool:
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f'Expected the accelerator "auto", "cpu" or "gpu", got {accelerator!r}.')
    there = torch.cuda.is_available()
    if accelerator in ("gpu", "cuda") and not there:
        raise ValueError(
            f"Expected a GPU that torch {torch.__version__} can use, found none. Take the "
            'accelerator "cpu", or install the torch that fits the driver.'
        )
    return there and accelerator != "cpu"


def _count(devices: int | str, num_nodes: int, *, gpu: bool) -> tuple[int, int]:
    """Return devices a node, and nodes."""
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes already
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return local, int(os.environ["WORLD_SIZE"]) // local
    if devices == "auto":
        return (torch.cuda.device_count() if gpu else 1), num_nodes
    try:
        count = int(devices)
    except ValueError:
        count = 0
    if count < 1 or num_nodes < 1:
        raise ValueError(
            f'Expected numbers of devices and nodes from 1 up, or devices "auto", got {devices!r} '
            f"and {num_nodes}."
        )
    most = torch.cuda.device_count() if gpu else max(8, os.cpu_count() or 1)
    if count > most:
        raise ValueError(
            f'Expected at most {most} devices on this machine, got {count}. Take fewer, or "auto".'
        )
    return count, num_nodes
