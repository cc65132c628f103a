"""Where a run is: its devices and processes, by Fabric, and a folder that is its own."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from lightning_fabric.loggers import TensorBoardLogger
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.rank_zero import rank_zero_only

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from chexlib.training.recipes import Recipe


def is_first() -> bool:
    """Return whether this process is the first of its run, which writes and speaks."""
    return rank_zero_only.rank == 0


def make_fabric(recipe: Recipe, folder: Path, **place: Any) -> Fabric:
    """Return what knows precision, devices and processes of a run.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Of the run, for its curves.
    **place
        As for :func:`place_of`.
    """
    gpu, devices, nodes = place_of(**place)
    precision = recipe.precision
    if precision == "auto":
        mixed = "bf16-mixed" if gpu and torch.cuda.is_bf16_supported() else "16-mixed"
        precision = mixed if gpu else "32-true"
    torch.backends.cudnn.benchmark = gpu  # all batches have one size
    return Fabric(
        accelerator="gpu" if gpu else "cpu",
        devices=devices,
        num_nodes=nodes,
        # Buffers sent at each forward pass would cost time: they are sent once, before validation.
        strategy=DDPStrategy(forward_sync_buffers=False) if devices * nodes > 1 else "auto",
        precision=precision,
        loggers=TensorBoardLogger(folder, name="", version="tensorboard"),
    )


def place_of(accelerator: str, devices: int | str, num_nodes: int) -> tuple[bool, int, int]:
    """Return whether a run is on GPUs, its processes a node, and its nodes.

    Raises
    ------
    ValueError
        If a GPU is asked for where there is none, or a number does not fit.
    """
    if accelerator not in ("auto", "cpu", "gpu", "cuda"):
        raise ValueError(f'Expected the accelerator "auto", "cpu" or "gpu", got {accelerator!r}.')
    gpu = torch.cuda.is_available() and accelerator != "cpu"
    if accelerator in ("gpu", "cuda") and not gpu:
        raise ValueError(
            f"Expected a GPU that torch {torch.__version__} can use, found none. Take the "
            'accelerator "cpu", or install the torch that fits the driver.'
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:  # torchrun has started the processes already
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        return gpu, local, int(os.environ["WORLD_SIZE"]) // local
    if devices == "auto":
        return gpu, (torch.cuda.device_count() if gpu else 1), num_nodes
    count = int(devices) if str(devices).isdecimal() else 0
    most = torch.cuda.device_count() if gpu else max(8, os.cpu_count() or 1)
    if not 1 <= count <= most or num_nodes < 1:
        raise ValueError(
            f'Expected devices as "auto" or a number from 1 to {most}, as this machine has, and '
            f"nodes from 1 up, got {devices!r} and {num_nodes}."
        )
    return gpu, count, num_nodes


def alone(folder: Path) -> AbstractContextManager:
    """Keep other processes from the folder; a lock ends with the process that holds it."""
    try:
        return FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise RuntimeError(
            f"Expected the folder {folder} for this run alone, found another process that trains "
            "in it. Wait for it, or take another folder."
        ) from None


@contextmanager
def ends_with_its_starter() -> Iterator[None]:
    """End a process that torchrun or Fabric started once that one is gone.

    A killed starter tells nobody: its processes would train on, unseen, and keep their GPUs. The
    system gives an orphan another parent, which is seen within a second.
    """
    started = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("LOCAL_RANK", "0")) > 0
    parent, over = os.getppid(), threading.Event()

    def watch() -> None:
        while not over.wait(1.0):
            if os.getppid() != parent:
                os._exit(1)  # every file is whole at any moment: the same call goes on

    if started:
        threading.Thread(target=watch, daemon=True, name="chexlib-starter").start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def quiet_fabric() -> Iterator[None]:
    """Keep Fabric's remarks from the terminal; its warnings and errors still come through."""
    log = logging.getLogger("lightning_fabric")
    level = log.level
    log.setLevel(max(logging.WARNING, level))
    try:
        with warnings.catch_warnings():
            # Said on a Slurm cluster's head node, where one process is meant.
            warnings.filterwarnings("ignore", message="The `srun` command is available")
            yield
    finally:
        log.setLevel(level)
