"""What a run keeps on disk while it trains: where it stands, and the best weights so far."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from chexlib.files import write_atomically
from chexlib.models import save_checkpoint
from chexlib.models.files import CheckpointError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

    from chexlib.training.module import Training

__all__ = ["AtomicCheckpoints", "KeepBest", "ResumePoints", "previous", "read_point"]

# What Lightning goes on from.
PARTS = ("callbacks", "epoch", "global_step", "loops", "lr_schedulers", "optimizer_states")


def _save(checkpoint: dict[str, Any], draft: Path) -> None:
    # By way of memory: torch's own writers do not say why a disk refused.
    content = io.BytesIO()
    torch.save(checkpoint, content)
    draft.write_bytes(content.getbuffer())


def _read(path: Path) -> Any:
    """Read plain data of which every part has the checksum that it was written with.

    Torch compares none, and finds the parts by other fields of the file than Python does: it is
    given a copy, made of the parts that were compared.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(content, "w") as copy:
        for part in archive.infolist():
            copy.writestr(part.filename, archive.read(part))
    content.seek(0)
    return torch.load(content, map_location="cpu", weights_only=True)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints that are there whole or not at all, and are read without running code.

    The one before stays beside the last, as ``previous.ckpt``.

    Lightning's own writer goes by way of the system's temporary folder, often another disk: a
    move from there is a copy, and a full disk would leave half of one in place of the last good.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint."""
        path = Path(path)

        def write(draft: Path) -> None:
            _save(checkpoint, draft)
            if path.is_file():
                path.replace(previous(path))

        write_atomically(path, write)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = "cpu",
        weights_only: bool | None = True,
    ) -> dict[str, Any]:
        """Read a checkpoint."""
        return _read(Path(path))


def previous(path: Path) -> Path:
    """Return where the resume point before the last is kept."""
    return path.with_name("previous.ckpt")


def read_point(path: Path, module: Training) -> dict[str, Any]:
    """Read a resume point, if it is sound and of this run.

    Raises
    ------
    CheckpointError
        If it is damaged, cut, empty or of something else, saying from where the run can go on.
    """

    def identity(recipe: dict, state: dict) -> tuple:
        values = {name: value for name, value in recipe.items() if name != "about"}
        return values, {name: value.shape for name, value in state.items()}

    before = previous(path)
    do = "the run begins again"
    if path != before and before.is_file():
        do = f"the run goes on from {before.name}, the point before"
    try:
        kept = _read(path)
    except Exception as error:  # what is damaged may raise nearly anything
        raise CheckpointError(
            f"Expected {path} as the run wrote it, found it damaged or cut, or another file "
            f"({type(error).__name__}). Remove it: {do}."
        ) from error
    try:
        found = identity(json.loads(kept["chexlib"]["recipe"]), kept["state_dict"])
        same = found == identity(module.recipe.to_dict(), module.state_dict())
    except (LookupError, TypeError, ValueError, AttributeError):
        same = False
    if not same or not set(PARTS) <= set(kept):
        raise CheckpointError(
            f"Expected a resume point of this run in {path}, found a file of something else. Move "
            f"it away: {do}."
        )
    return kept


class ResumePoints(Checkpoint):
    """Keeps where a run stands in ``last.ckpt``: every so many steps, and every epoch.

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
