"""Batches for Lightning: whole batches from the cache, and an epoch that resumes in its middle."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule

from chexlib.data.augment import Augment
from chexlib.data.batches import Batcher, Batches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chexlib.data.dataset import Dataset
    from chexlib.training.recipes import Recipe

__all__ = ["Epoch", "Films", "batch_to_share", "data_hash", "describe_data"]


class Epoch:
    """The batches of one epoch after another, as a loader whose place can be kept.

    What a batch holds is a pure function of seed, epoch and step
    (:class:`chexlib.data.Batches`), so a number is all there is to keep. Lightning asks for it
    (``state_dict``) when it writes a checkpoint, and names the epoch (``set_epoch``) of what it
    finds under ``sampler``.

    Parameters
    ----------
    batcher : Batcher
    films : Dataset
    targets : Tensor float32 [N, 14]
    batch_size : int
        On this process.
    train : bool
        Shuffled, and what does not fill a batch on every process is left out.
    rank, world_size : int
    """

    def __init__(
        self,
        batcher: Batcher,
        films: Dataset,
        targets: torch.Tensor,
        *,
        batch_size: int,
        train: bool,
        rank: int,
        world_size: int,
    ) -> None:
        # Where Lightning looks for something to tell the epoch to.
        self.sampler, self.batch_sampler = self, None
        self.epoch = self._next = 0
        self._made = Batches(
            batcher,
            rows=films.rows,
            targets=targets,
            batch_size=batch_size,
            shuffle=train,
            rank=rank,
            world_size=world_size,
            drop_last=train,
            reuse=2 if batcher.device.type == "cpu" else 0,
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self._made)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next iteration is of."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, np.ndarray]]:
        # A generator: what it reads of `self`, it reads when the first batch is asked for, and by
        # then Lightning has named the epoch.
        batches = self._made.of_epoch(self.epoch)
        start, self._next = self._next, 0
        for step in range(start, len(batches)):
            self._next = (step + 1) % len(batches)
            yield batches[step]

    def state_dict(self) -> dict[str, int]:
        """Return the step that comes next."""
        return {"step": self._next}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration at this step."""
        self._next = state["step"]


class Films(LightningDataModule):
    """Training and validation films of a recipe, on the device where they are wanted.

    Parameters
    ----------
    recipe : Recipe
    train, val : Dataset
    """

    def __init__(self, recipe: Recipe, train: Dataset, val: Dataset) -> None:
        super().__init__()
        self.recipe, self.train, self.val = recipe, train, val

    @property
    def steps(self) -> int:
        """Steps of an epoch: whole batches of all processes together."""
        return len(self.train) // self.recipe.batch_size

    def _loader(self, films: Dataset, *, train: bool) -> Epoch:
        recipe, strategy = self.recipe, self.trainer.strategy
        world = self.trainer.world_size
        if recipe.batch_size % world:
            raise ValueError(batch_to_share(recipe.batch_size, world))
        augment = train or recipe.augment_validation
        batcher = Batcher(
            films.cache,
            size=recipe.size,
            augment=getattr(Augment, recipe.augment)() if augment else None,
            device=strategy.root_device,
            seed=recipe.seed,
        )
        return Epoch(
            batcher,
            films,
            torch.from_numpy(films.labels.astype(np.float32)),
            # Nothing is kept of validation films: larger batches go faster.
            batch_size=recipe.batch_size // world if train else max(64, recipe.batch_size // world),
            train=train,
            rank=self.trainer.global_rank,
            world_size=world,
        )

    def train_dataloader(self) -> Epoch:
        """Return training batches: images, labels float32 [B, 14], rows of the cache [B]."""
        return self._loader(self.train, train=True)

    def val_dataloader(self) -> Epoch:
        """Return validation batches: every film once, over all processes."""
        return self._loader(self.val, train=False)


def batch_to_share(size: int, world: int) -> str:
    """Return what to say of a batch that processes cannot share."""
    return (
        f"Expected a batch size that {world} processes can share, got {size}. "
        f"Take {size // world * world or world}: batch_size is that of all processes together."
    )


def data_hash(films: Dataset) -> str:
    """Return 64 hexadecimal digits that name these films, their pixels and their labels."""
    digest = hashlib.sha256()
    pixels = films.cache.index["crc32"].to_numpy(np.int64)[films.rows]
    for part in ("\n".join(films.films["image"]).encode(), pixels, np.packbits(films.labels)):
        digest.update(part)
    return digest.hexdigest()


def describe_data(films: Dataset) -> dict[str, Any]:
    """Return what a run writes down of its films: enough to know them again."""
    return {
        "name": films.name,
        "films": len(films),
        "patients": int(films.films["patient"].nunique()),
        "pixels": int(films.cache.images.shape[1]),
        "columns": list(map(str, films.films.columns)),
        "sha256": data_hash(films),
    }
