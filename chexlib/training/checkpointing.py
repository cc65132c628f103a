"""What a run keeps on disk while it trains: where it stands, and the best weights so far."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from chexlib.files import write_atomically
from chexlib.models import save_checkpoint

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from chexlib.training.module import Training

__all__ = ["AtomicCheckpoints", "KeepBest", "ResumePoints"]


def _save(checkpoint: dict[str, Any], draft: Path) -> None:
    # By way of memory: torch's own writers do not say why a disk refused.
    content = io.BytesIO()
    torch.save(checkpoint, content)
    draft.write_bytes(content.getbuffer())


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, and are read without running code.

    Lightning's own writer goes by way of the system's temporary folder, often another disk: a
    move from there is a copy, and a full disk would leave half of one in place of the last good.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint."""
        write_atomically(Path(path), lambda draft: _save(checkpoint, draft))

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        return torch.load(path, map_location="cpu", weights_only=True)


class ResumePoints(Checkpoint):
    """Keeps where a run stands in one file, ``last.ckpt``: every so many steps, and every epoch.

    Parameters
    ----------
    folder : Path
    every : int
        Steps between two within an epoch.
    """

    def __init__(self, folder: Path, *, every: int) -> None:
        self.path, self.every, self.stopped = folder / "last.ckpt", every, False

    def on_train_batch_end(
        self, trainer: Trainer, module: Training, _outputs: Any, _batch: Any, batch_idx: int
    ) -> None:
        """Keep, unless the epoch ends here: then validation comes first."""
        if (batch_idx + 1) % self.every == 0 and not trainer.is_last_batch:
            self._keep(trainer, module)

    def on_train_epoch_end(self, trainer: Trainer, module: Training) -> None:
        """Keep. Lightning calls this after the module's own, for a subclass of Checkpoint."""
        self.stopped = trainer.should_stop
        self._keep(trainer, module)

    def _keep(self, trainer: Trainer, module: Training) -> None:
        module.check_finite(weights=True)
        trainer.save_checkpoint(self.path, weights_only=False)

    def state_dict(self) -> dict[str, bool]:
        """Return whether training was over before its last epoch."""
        return {"stopped": self.stopped}


class KeepBest(Checkpoint):
    """Keeps the best weights in ``best.safetensors``, a row an epoch in ``history.csv``; may end.

    Lightning's CSV logger deletes the file of the run that it goes on with.

    Parameters
    ----------
    folder : Path
    metadata : dict of str to str
        For the file of weights.
    """

    def __init__(self, folder: Path, metadata: dict[str, str]) -> None:
        self.folder, self.metadata = folder, metadata
        self.best, self.best_epoch = float("inf"), -1

    def on_train_epoch_end(self, trainer: Trainer, module: Training) -> None:
        """Compare, keep, and stop a run that has not become better for too long."""
        module.check_finite(weights=True)
        recipe, row = module.recipe, module.history[-1]
        score = {
            "lowest loss": row["val_loss"],
            "highest auroc": -row["val_auroc"],
            "last": -row["epoch"],
        }[recipe.keep]
        if score < self.best:
            self.best, self.best_epoch = score, row["epoch"]
            if trainer.is_global_zero:
                save_checkpoint(
                    module.model,
                    self.folder / "best.safetensors",
                    metadata={**self.metadata, "epoch": str(row["epoch"])},
                )
        if trainer.is_global_zero:
            history = pd.DataFrame(module.history)
            write_atomically(
                self.folder / "history.csv", lambda draft: history.to_csv(draft, index=False)
            )
        if recipe.patience is not None and row["epoch"] - self.best_epoch >= recipe.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from them."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]
