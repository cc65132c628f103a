"""The Lightning module: a step, a validation that is exact over processes, an optimiser."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

from chexlib.metrics import auroc
from chexlib.models.contract import describe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chexlib.models import CheXNet
    from chexlib.training.losses import Loss
    from chexlib.training.recipes import Recipe

__all__ = ["NonFiniteLossError", "Training"]


class NonFiniteLossError(RuntimeError):
    """The loss of a batch, or what it made of the weights, is no number; its films are named."""


class Training(LightningModule):
    """A network in training.

    Parameters
    ----------
    model : CheXNet
        Its parameters are trained in place.
    recipe : Recipe
    loss : callable
        Of logits and labels [B, 14].
    names : sequence of str
        The film of each row of the training cache, for messages.
    kept : Path, optional
        Where the last resume point is once there is one, for messages.

    Attributes
    ----------
    history : list of dict
        A row an epoch: ``epoch``, ``train_loss``, ``val_loss`` (cross-entropy, whatever the loss),
        ``val_auroc`` (mean over findings), ``learning_rate``, ``seconds``.
    """

    def __init__(
        self,
        model: CheXNet,
        recipe: Recipe,
        loss: Loss,
        *,
        names: Sequence[str] = (),
        kept: Path | None = None,
    ) -> None:
        super().__init__()
        self.model, self.recipe, self.loss = model, recipe, loss
        self.names, self.kept = names, kept
        # What a step calls; `fit` puts the compiled twin here. In a list: as an attribute it would
        # stand in the state dict a second time.
        self._network: list = [model]
        self.channels_last = False
        self.history: list[dict[str, float]] = []
        self._total = torch.zeros(())  # of the epoch's losses, on the device
        self._steps = 0
        self._checked: tuple[torch.Tensor, np.ndarray] | None = None
        self._rows = np.empty(0, np.int64)  # of the last batch
        self._judged: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._began = time.monotonic()
        self._plateau: ReduceLROnPlateau | None = None

    # ---- training

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, 14]."""
        return self._network[0](images)

    def on_train_epoch_start(self) -> None:
        """Begin counting anew."""
        self._total, self._steps = torch.zeros((), device=self.device), 0
        self._began = time.monotonic()

    def training_step(self, batch: tuple, _batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        images, labels, rows = batch
        self._rows = rows
        loss = self.loss(self._network[0](self._laid_out(images)), labels)
        self._watch(loss, rows)
        self._total = self._total.to(loss.device) + loss.detach()
        self._steps += 1
        return loss

    def _laid_out(self, images: torch.Tensor) -> torch.Tensor:
        if self.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def _watch(self, loss: torch.Tensor, rows: np.ndarray) -> None:
        """Stop on a loss that is no number: at once on a CPU, one step late on a GPU.

        To look at a number of a GPU is to wait for it; a step later it is there already.
        """
        if loss.device.type == "cpu":
            self._checked = (loss.detach(), rows)
            self.check_finite()
        else:
            self.check_finite()
            self._checked = (loss.detach(), rows)

    def check_finite(self, *, weights: bool = False) -> None:
        """Raise if the loss that was kept is not finite.

        Parameters
        ----------
        weights : bool
            Look at all weights as well, before they are written: the gradient of a finite loss may
            be none.
        """
        if self._checked is not None:
            (loss, rows), self._checked = self._checked, None
            if not bool(torch.isfinite(loss)):
                raise self._not_finite("loss", str(float(loss)), rows)
        if weights:
            for name, tensor in self.model.state_dict().items():
                if not bool(torch.isfinite(tensor).all()):
                    raise self._not_finite("weights", f"others in {name}", self._rows)

    def _not_finite(self, what: str, found: str, rows: np.ndarray) -> NonFiniteLossError:
        there = self.kept is not None and self.kept.is_file()
        sound = f" The last checkpoint, {self.kept}, is sound." if there else ""
        films = [self.names[row] if row < len(self.names) else str(row) for row in rows]
        return NonFiniteLossError(
            f"Expected finite {what}, got {found} in epoch {self.current_epoch}, after step "
            f"{self._steps}, of the films {', '.join(films)}. Look at these films, lower the "
            f"learning rate, or train with precision=32-true.{sound}"
        )

    # ---- validation

    def on_validation_start(self) -> None:
        """Give every process the batch statistics of the first: each saw films of its own.

        Weights that are no numbers are not validated.
        """
        self.check_finite(weights=True)
        if self.trainer.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def validation_step(self, batch: tuple, _batch_idx: int) -> None:
        """Keep the logits of a batch."""
        images, labels, rows = batch
        logits = self.model(self._laid_out(images))
        self._judged.append((rows, logits.float().cpu().numpy(), labels.cpu().numpy()))

    def on_validation_epoch_end(self) -> None:
        """Judge all films of all processes together, each once; every process gets the same."""
        parts, self._judged = self._judged, []
        if self.trainer.world_size > 1:
            gathered: list = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, parts)
            parts = [part for rank in gathered for part in rank]
        rows, logits, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(rows, kind="stable")
        logits, labels = logits[order], labels[order]
        self.val_loss = float(
            binary_cross_entropy_with_logits(
                torch.from_numpy(logits).double(), torch.from_numpy(labels).double()
            )
        )
        both = (labels > 0).any(0) & (labels == 0).any(0)
        values = np.asarray(auroc(labels[:, both] > 0, logits[:, both]))
        self.val_auroc = float(values.mean()) if both.any() else float("nan")

    def on_train_epoch_end(self) -> None:
        """Write the epoch's row, and lower the learning rate where the recipe does."""
        self.check_finite()
        total = torch.stack([self._total, torch.tensor(float(self._steps), device=self.device)])
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(total)
        optimizer = self.optimizers(use_pl_optimizer=False)
        self.history.append(
            {
                "epoch": self.current_epoch,
                "train_loss": float(total[0] / total[1]),
                "val_loss": self.val_loss,
                "val_auroc": self.val_auroc,
                "learning_rate": optimizer.param_groups[0]["lr"],
                "seconds": round(time.monotonic() - self._began, 1),
            }
        )
        for key in ("train_loss", "val_loss", "val_auroc", "learning_rate"):
            self.log(
                key, self.history[-1][key], prog_bar=key.startswith("val"), rank_zero_only=True
            )
        if self._plateau is not None:
            self._plateau.step(self.val_loss)

    # ---- optimiser, and what a checkpoint keeps of this class

    def configure_optimizers(self) -> Any:
        """Return the optimiser of the recipe, and its schedule where that goes by steps."""
        recipe = self.recipe
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
        optimizer = kind(
            self.model.parameters(),
            lr=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=self.device.type == "cuda",
        )
        # Held here, not by Lightning, which does not step it again where a run resumes.
        self._plateau = (
            ReduceLROnPlateau(optimizer, factor=0.1, patience=recipe.plateau_patience)
            if recipe.schedule == "plateau"
            else None
        )
        if recipe.schedule != "one-cycle":
            return optimizer
        # Lightning's own estimate would set the loader up now, and a run that resumes would then
        # begin its epoch anew: the loader's place is only taken up when it is set up later.
        steps = recipe.epochs * self.trainer.datamodule.steps
        cycle = OneCycleLR(optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.2)
        return [optimizer], [{"scheduler": cycle, "interval": "step"}]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what this class knows beyond weights and optimiser, of every process."""
        totals = [float(self._total)]
        if self.trainer.world_size > 1:
            gathered: list = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(gathered, totals[0])
            totals = gathered
        checkpoint["chexlib"] = {
            **describe(self.model),  # so that chexlib.models.load_checkpoint opens the file, too
            "recipe": json.dumps(self.recipe.to_dict()),
            "history": [dict(row) for row in self.history],
            "totals": totals,
            "steps": self._steps,
            "plateau": self._plateau.state_dict() if self._plateau else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it up again."""
        kept = checkpoint["chexlib"]
        self.history = [dict(row) for row in kept["history"]]
        self._kept = kept

    def on_train_start(self) -> None:
        """Take up again what needs the optimiser or the device."""
        kept = getattr(self, "_kept", None)
        if kept is None:
            return
        # Of a run that another number of processes began, the mean.
        totals = kept["totals"] if "totals" in kept else [kept["total"]]
        same = len(totals) == self.trainer.world_size
        total = totals[self.global_rank] if same else float(np.mean(totals))
        self._total = torch.tensor(total, device=self.device)
        self._steps = kept["steps"]
        if self._plateau is not None:
            self._plateau.load_state_dict(kept["plateau"])
        del self._kept
