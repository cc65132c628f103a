"""What a run starts with, of a recipe: checked options, network, optimizer, schedule, batches."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from chexlib.data.augment import Augment
from chexlib.data.batches import Batcher, Batches
from chexlib.findings import FINDINGS
from chexlib.models import CheXNet, load_checkpoint
from chexlib.models.weights import ImageNetError
from chexlib.training.devices import place_of
from chexlib.training.losses import make_loss
from chexlib.training.recipes import data_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chexlib.data.dataset import Dataset
    from chexlib.training.recipes import Recipe


def check_options(
    recipe: Recipe, *, accelerator: str = "auto", devices: int | str = "auto", num_nodes: int = 1
) -> None:
    """Refuse what would stop a run later, before films are opened or simulated.

    Raises
    ------
    ValueError
        If the place, the weights to start from, or options of data or loss do not fit.
    """
    _, count, nodes = place_of(accelerator, devices, num_nodes)
    size, world = recipe.batch_size, count * nodes
    if size % world:
        raise ValueError(
            f"Expected a batch size that {world} processes can share, got {size}. Take "
            f"{size // world * world or world}: batch_size is that of all processes together."
        )
    named = (None, "imagenet", "phantom")
    if recipe.weights not in named and not Path(recipe.weights).exists():
        raise ValueError(
            f"Expected weights as imagenet, phantom, the folder of a run, a file, or null, got "
            f"{recipe.weights!r}, and found nothing there."
        )
    data_options(recipe)
    plain = recipe.weights in (None, "imagenet")  # the second may have to be fetched first
    with torch.device("meta") if plain else torch.random.fork_rng(devices=[]):
        network_of(replace(recipe, weights=None, freeze=False) if plain else recipe, FINDINGS)
    rates = (len(v) for v in recipe.loss_options.values() if isinstance(v, list))
    make_loss(recipe, np.full(next(rates, len(FINDINGS)), 0.5))  # findings are not known yet


def network_of(recipe: Recipe, findings: Sequence[str]) -> CheXNet:
    """Return the network that a recipe begins with.

    Parameters
    ----------
    recipe : Recipe
    findings : sequence of str
        Of the films: what its head shall have.

    Returns
    -------
    CheXNet
        In training mode; a frozen one is as for testing, and its head alone has gradients.

    Raises
    ------
    ValueError
        If there is no such architecture, or the weights are of another one.
    """
    shape, other = {"arch": recipe.arch, "growth_rate": recipe.growth_rate}, None
    if recipe.weights not in (None, "imagenet"):
        with suppress(ImageNetError):  # a file of torchvision's is opened below
            other = load_checkpoint(recipe.weights)
    if recipe.weights is None:
        model = CheXNet(**shape, findings=findings)
    elif other is None:
        model = CheXNet.from_imagenet(recipe.weights, arch=recipe.arch, findings=findings)
    elif any(wanted not in (None, other.options[name]) for name, wanted in shape.items()):
        raise ValueError(
            f"Expected weights of {shape} in {recipe.weights}, got {other.options}. Take "
            f"--arch {other.options['arch']} and --set growth_rate=null."
        )
    else:
        model = CheXNet.from_network(other, findings=findings)
    if recipe.freeze:
        model.eval().requires_grad_(False)
        model.classifier.requires_grad_(True)
    return model


def make_optimizer(recipe: Recipe, model: CheXNet, *, fused: bool) -> torch.optim.Optimizer:
    """Return the optimizer of what learns: a group of the body, and one of the head."""
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    momentum: dict[str, Any] = {"betas": (recipe.momentum, 0.999)}
    if recipe.optimizer == "sgd":
        momentum = {"momentum": recipe.momentum}
    head = list(model.classifier.parameters())
    rest = set(model.parameters()) - set(head)
    body = [p for p in model.parameters() if p in rest and p.requires_grad]
    return kinds[recipe.optimizer](
        [{"params": body, "lr": recipe.learning_rate * recipe.body_rate}, {"params": head}],
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        fused=fused,
        **momentum,
    )


def make_schedule(
    recipe: Recipe, optimizer: torch.optim.Optimizer, *, batches: int
) -> OneCycleLR | ReduceLROnPlateau | None:
    """Return what moves the learning rates, of epochs of so many batches."""
    if recipe.schedule == "one-cycle":
        steps = recipe.epochs * math.ceil(batches / recipe.accumulate)
        most = [group["lr"] for group in optimizer.param_groups]
        share = 0.25 if steps == 5 else 0.2  # torch divides by a rise that is over at once
        return OneCycleLR(optimizer, most, total_steps=steps, pct_start=share)
    if recipe.schedule == "plateau":
        return ReduceLROnPlateau(optimizer, factor=0.1, patience=recipe.plateau_patience)
    return None


def batches_of(
    recipe: Recipe,
    films: Dataset,
    *,
    train: bool,
    device: str | torch.device = "cpu",
    rank: int = 0,
    world: int = 1,
) -> Batches:
    """Return the batches of a process: images, labels float32 [B, F], rows of the cache [B].

    Parameters
    ----------
    recipe : Recipe
    films : Dataset
    train : bool
        Shuffled, and what does not fill a batch on every process is left out; else every film once.
    device : str or torch.device
    rank, world : int
        The process, and how many there are.
    """
    augment = train or recipe.augment_validation
    batcher = Batcher(
        films.cache,
        size=recipe.size,
        augment=getattr(Augment, recipe.augment)() if augment else None,
        device=device,
        seed=recipe.seed,
    )
    share = recipe.batch_size // world
    return Batches(
        batcher,
        rows=films.rows,
        targets=films.labels,
        # Nothing is kept of validation films: larger batches go faster.
        batch_size=share if train else max(64, share),
        shuffle=train,
        rank=rank,
        world_size=world,
        drop_last=train,
        reuse=1 if batcher.device.type == "cpu" else 0,
    )
