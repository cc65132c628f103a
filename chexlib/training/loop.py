"""``fit``: a recipe and a folder in, a run out; on one CPU, one GPU or many nodes.

The loop is plain. Fabric, the lower half of Lightning, brings precision, devices and processes;
what a run keeps on the disk is written by :mod:`chexlib.training.run`.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from tqdm import tqdm

from chexlib.files import write_csv
from chexlib.metrics import auroc
from chexlib.models import save_checkpoint
from chexlib.models.checkpoints import describe
from chexlib.models.chexnet import evaluating
from chexlib.training import start
from chexlib.training.devices import (
    alone,
    ends_with_its_starter,
    is_first,
    make_fabric,
    quiet_fabric,
)
from chexlib.training.losses import bce, make_loss
from chexlib.training.recipes import RECIPES, Recipe, data_options, open_data
from chexlib.training.run import Run, begin_run, judge, open_run, points_of, read_point, write_point

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from chexlib.data.dataset import Dataset


class NonFiniteLossError(RuntimeError):
    """The loss of a batch, or a weight after it, is NaN or infinite; its films are named."""


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
    accelerator : {"auto", "cpu", "gpu"}
    devices : int or "auto"
        Processes a node, each with a device of its own: all GPUs of the node by default, or one CPU
        process. Started by ``torchrun``, the processes that it started are used, whatever
        ``devices`` and ``num_nodes`` say; nodes share the folder.
    num_nodes : int
    data : dict of Dataset, optional
        ``train``, ``val`` and ``test`` instead of those that the recipe names. The run's recipe
        then has the dataset ``given``, and what the run writes describes these films: names,
        numbers, columns and hashes.

    Returns
    -------
    Run
        On processes but the first of a distributed run, as soon as training is over.

    Raises
    ------
    ValueError
        If the folder holds a run of another recipe or other data, there are fewer films than a
        batch takes, or a value does not fit.
    FileNotFoundError
        If the images are not in a cache yet.
    RuntimeError
        If another process is training in the folder.
    OSError
        If the disk is full; what was kept before is there, and the same call goes on.
    chexlib.training.loop.NonFiniteLossError
        If the loss, or a weight, is not a number, naming the films.

    Notes
    -----
    On a CPU, a run that was killed and resumed ends with the weights, bit for bit, of one that was
    not, with the same number of threads: what happens to a film depends on seed, epoch and film
    alone, and every resume point holds weights, moments, schedule and step.

    Over several processes ``batch_size`` is that of all together, and gradients are averaged. They
    are those of the whole batch but for batch normalisation, which sees each process's films alone
    (on GPUs, ``sync_batchnorm`` makes it see all): the same recipe on two processes is another run
    of the same kind, with other weights. Where labels are missing, each process, and each batch of
    a step of several, takes the mean over its own known ones. Before each validation all processes
    take the running statistics of the first; validation is over every film once, and the same on
    all.
    """
    recipe = RECIPES[recipe] if isinstance(recipe, str) else recipe
    folder = Path(folder)
    if data is not None:
        asked = {"name": recipe.dataset, **data_options(recipe)}
        if any(films.opened != {**asked, "split": split} for split, films in data.items()):
            recipe = recipe.on_given_data()
    if (folder / "config.json").is_file():
        run = open_run(folder, finished=False)
        if differing := recipe.differences(run.recipe):
            listed = (f"{k}: {old!r} there, {new!r} asked" for k, (old, new) in differing.items())
            raise ValueError(
                f"Expected the recipe of the run in {folder}, got other values "
                f"({', '.join(listed)}). Take another folder, or remove this one."
            )
        if (folder / "metrics.json").is_file():
            if data is not None:  # which may be others by now
                begin_run(recipe, folder, data, first=False)
            return open_run(folder)
    place = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes}
    start.check_options(recipe, **place)
    data = open_data(recipe) if data is None else data
    if len(data["train"]) < recipe.batch_size:
        raise ValueError(
            f"Expected at least a batch of {recipe.batch_size} training films, got "
            f"{len(data['train'])}. Take a smaller batch_size, or more films."
        )
    make_loss(recipe, np.nanmean(data["train"].labels, axis=0))  # refused before anything is there
    folder.mkdir(parents=True, exist_ok=True)
    lock = alone(folder) if is_first() else nullcontext()
    with lock, quiet_fabric(), ends_with_its_starter():
        metadata = begin_run(recipe, folder, data, first=is_first())
        fabric = make_fabric(recipe, folder, **place)
        fabric.launch()
        first = fabric.is_global_zero
        Training(recipe, folder, data, fabric, metadata).run(checkpoint_every, progress and first)
        if first:
            films = len(data["val"]) + len(data["test"])
            with _bar(progress, total=films, desc="judging") as bar:
                judge(recipe, folder, data, device=fabric.device, step=bar.update)
            points_of(folder)[1].unlink(missing_ok=True)
        return open_run(folder, finished=first)


# ---- the loop


class Training:
    """A network in training: the loop, and all that a resume point holds.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Of the run.
    data : dict of Dataset
        ``train`` and ``val``.
    fabric : Fabric
        Launched.
    metadata : dict of str to str
        For the file of weights.

    Attributes
    ----------
    model : CheXNet
    history : list of dict
        A row an epoch that is over: ``epoch``, ``train_loss``, ``val_loss`` (cross-entropy,
        whatever the loss), ``val_auroc`` (mean over findings), ``learning_rate``, ``seconds``.
    step : int
        The batch of the epoch that comes next.

    Notes
    -----
    No random state is kept: what happens to a film depends on seed, epoch and film alone, and what
    a network drops on seed, epoch, batch and process.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path,
        data: dict[str, Dataset],
        fabric: Fabric,
        metadata: dict[str, str],
    ) -> None:
        self.recipe, self.folder, self.fabric, self.metadata = recipe, folder, fabric, metadata
        gpu = fabric.device.type == "cuda"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = start.network_of(recipe, data["train"].findings)
        if recipe.weights:
            origin = {key: model.provenance[key] for key in ("file", "sha256")}
            self.metadata = {**metadata, "began_with": json.dumps(origin)}
        if gpu if recipe.channels_last == "auto" else recipe.channels_last:
            model.to(memory_format=torch.channels_last)  # images follow at the first convolution
        if recipe.sync_batchnorm and gpu and fabric.world_size > 1:
            model = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.model = fabric.to_device(model)
        # Not by Fabric's own wrapper, which would round images to 16 bits before the network
        # normalises them.
        self.network = fabric.strategy.setup_module(self.model)
        if gpu if recipe.compile == "auto" else recipe.compile:
            self.network = torch.compile(self.network)
        self.loss = make_loss(recipe, np.nanmean(data["train"].labels, axis=0))
        where = {"device": fabric.device, "rank": fabric.global_rank, "world": fabric.world_size}
        self._train = start.batches_of(recipe, data["train"], train=True, **where)
        self._val = start.batches_of(recipe, data["val"], train=False, **where)
        self._names = data["train"].cache.index["image"].to_numpy()
        self.optimizer = start.make_optimizer(recipe, self.model, fused=gpu)
        self._stepping = fabric.setup_optimizers(self.optimizer)
        self.schedule = start.make_schedule(recipe, self.optimizer, batches=len(self._train))
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._total = torch.zeros((), device=fabric.device)  # of this process's losses in the epoch
        self._last: tuple[torch.Tensor, np.ndarray] | None = None  # loss and rows of the last batch

    @property
    def steps_done(self) -> int:
        """Batches of all epochs that are over, and of this one."""
        return len(self.history) * len(self._train) + self.step

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, of those that are over."""
        scores = {
            "lowest loss": [row["val_loss"] for row in self.history],
            "highest auroc": [-row["val_auroc"] for row in self.history],
            "last": [-row["epoch"] for row in self.history],
        }[self.recipe.keep]
        return int(np.argmin(np.nan_to_num(scores, nan=np.inf)))

    @property
    def is_over(self) -> bool:
        """Whether all epochs are over, or none has been better for too long."""
        done, patience = len(self.history), self.recipe.patience
        late = done > 0 and patience is not None and done - 1 - self.best_epoch >= patience
        return done >= self.recipe.epochs or late

    def run(self, checkpoint_every: int, progress: bool) -> None:
        """Train until it is over; a resume point every so many steps, and every epoch."""
        self.resume()
        size, steps = self.recipe.batch_size, self.recipe.epochs * len(self._train)
        every = checkpoint_every * self.recipe.accumulate  # a point holds no gradients
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        bar = _bar(progress, total=steps * size, initial=self.steps_done * size)
        with bar, torch.random.fork_rng(devices):
            while not self.is_over:
                self._say(bar)
                began, first = time.monotonic(), self.step
                batches = self._train.of_epoch(len(self.history))
                while self.step < len(batches):
                    self.train_step(*batches[self.step])
                    bar.update(size)
                    if self.step % every == 0 and self.step < len(batches):
                        self.keep_point()
                speed = (self.step - first) * size / max(time.monotonic() - began, 1e-9)
                self._say(bar, "validating")
                self.end_epoch(*self.validate(), began)
                self.keep_point()
                if progress and not watched():
                    self._log(speed)
            self._say(bar, "done")
        self.fabric.logger.finalize("success")

    def _log(self, speed: float) -> None:
        """Say in a line what an epoch has brought, for a file."""
        values = {name: value for name, value in self.history[-1].items() if name != "epoch"}
        said = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
        said = f"epoch {len(self.history)}/{self.recipe.epochs}: {said}, {speed:.1f} films/s"
        print(said.replace("auroc", "AUROC"), file=sys.stderr, flush=True)

    def train_step(self, images: torch.Tensor, labels: torch.Tensor, rows: np.ndarray) -> None:
        """Go a batch on, and, where it is the last of those that make a step, the step."""
        place = [self.recipe.seed, len(self.history), self.step, self.fabric.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))
        first = self.step - self.step % self.recipe.accumulate
        after = min(first + self.recipe.accumulate, len(self._train))
        if self.step == first:
            self.optimizer.zero_grad()
        steps = self.step + 1 == after
        waits = not steps and self.fabric.world_size > 1
        with self.network.no_sync() if waits else nullcontext():  # gradients meet once a step
            with self.fabric.autocast():
                logits = self.network(images)
            loss = self.loss(logits.float(), labels)
            gpu = loss.device.type != "cpu"
            if gpu:  # to look at a number there is to wait for it: one step later it has come
                self.check_finite()
            self._last = loss.detach(), rows
            if not gpu:
                self.check_finite()
            self._total += loss.detach()
            self.fabric.backward(loss / (after - first))
        if steps:
            self._stepping.step()
            if isinstance(self.schedule, OneCycleLR):
                self.schedule.step()
        self.step += 1

    def validate(self) -> tuple[float, float]:
        """Return cross-entropy and mean AUROC of all processes' known labels, the same on all.

        Every process takes the batch statistics of the first: each saw films of its own.
        """
        self.check_finite(weights=True)
        if self.fabric.world_size > 1:
            for buffer in self.model.buffers():
                torch.distributed.broadcast(buffer, src=0)
        with evaluating(self.model):
            parts = [self.validation_step(*b) for b in self._val.of_epoch(len(self.history))]
        parts = [part for process in self._of_all(parts) for part in process]
        rows, logits, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(rows, kind="stable")
        logits, labels = logits[order], labels[order]
        loss = bce()(torch.from_numpy(logits).double(), torch.from_numpy(labels).double())
        both = (labels > 0).any(0) & (labels == 0).any(0)
        values = np.asarray(auroc(labels[:, both], logits[:, both]))
        return float(loss), float(values.mean()) if both.any() else float("nan")

    @torch.no_grad()
    def validation_step(
        self, images: torch.Tensor, labels: torch.Tensor, rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return rows, logits and labels of a batch."""
        with self.fabric.autocast():
            logits = self.model(images)
        return rows, logits.float().cpu().numpy(), labels.cpu().numpy()

    def _of_all(self, value: Any) -> list:
        """Return what every process has, on all of them."""
        found = [value] * self.fabric.world_size
        if len(found) > 1:
            torch.distributed.all_gather_object(found, value)
        return found

    def end_epoch(self, val_loss: float, val_auroc: float, began: float) -> None:
        """Add the epoch's row, lower the learning rate where the recipe does, keep the best."""
        totals = self._of_all(float(self._total))
        row = {
            "epoch": len(self.history),
            "train_loss": sum(totals) / (len(totals) * self.step),
            "val_loss": val_loss,
            "val_auroc": val_auroc,
            "learning_rate": self.optimizer.param_groups[-1]["lr"],  # the head's
            "seconds": round(time.monotonic() - began, 1),
        }
        if isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step(val_loss)
        self.history.append(row)
        self.step, self._total = 0, torch.zeros_like(self._total)
        curves = {key: row[key] for key in row if key not in ("epoch", "seconds")}
        self.fabric.log_dict(curves, step=self.steps_done)
        self.fabric.logger.experiment.flush()
        if not self.fabric.is_global_zero:
            return
        if self.best_epoch == row["epoch"]:
            save_checkpoint(
                self.model,
                self.folder / "best.safetensors",
                metadata={**self.metadata, "epoch": str(row["epoch"])},
            )
        write_csv(self.folder / "history.csv", pd.DataFrame(self.history))

    def check_finite(self, *, weights: bool = False) -> None:
        """Raise if the last loss is not finite.

        Parameters
        ----------
        weights : bool
            Look at all weights as well, before they are written: the gradient of a finite loss may
            be NaN.
        """
        if self._last is None:
            return
        loss, rows = self._last
        bad = [] if bool(torch.isfinite(loss)) else [f"loss, got {float(loss)}"]
        if weights and not bad:
            state = self.model.state_dict().items()
            bad = [
                f"weights, got others in {name}" for name, w in state if not torch.isfinite(w).all()
            ]
        if bad:
            last = points_of(self.folder)[0]
            sound = f" The last checkpoint, {last}, is sound." if last.is_file() else ""
            raise NonFiniteLossError(
                f"Expected finite {bad[0]} in epoch {len(self.history)}, after step {self.step}, "
                f"of the films {', '.join(self._names[rows])}. Look at these films, lower the "
                f"learning rate, or train with precision=32-true.{sound}"
            )

    def keep_point(self) -> None:
        """Write down where it stands, for all processes."""
        self.check_finite(weights=True)
        totals = self._of_all(float(self._total))
        if self.fabric.is_global_zero:
            point = {
                # So that chexlib.models.load_checkpoint opens the file, too.
                "chexlib": {**describe(self.model), "recipe": json.dumps(self.recipe.to_dict())},
                "state_dict": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule and self.schedule.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),  # of gradients in float16
                "history": self.history,
                "step": self.step,
                "totals": totals,
            }
            write_point(self.folder, point)

    def resume(self) -> None:
        """Go on from the last resume point, if there is one."""
        path = next((point for point in points_of(self.folder) if point.is_file()), None)
        if path is None:
            return
        kept = read_point(path, self.recipe, self.model.state_dict())
        self.model.load_state_dict(kept["state_dict"])
        self.optimizer.load_state_dict(kept["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(kept["schedule"])
        self.fabric.strategy.precision.load_state_dict(kept["scaler"])
        self.history, self.step = kept["history"], kept["step"]
        totals = kept["totals"]  # of a run that another number of processes began, the mean
        same = len(totals) == self.fabric.world_size
        self._total.fill_(totals[self.fabric.global_rank] if same else float(np.mean(totals)))

    def _say(self, bar: tqdm, what: str = "") -> None:
        epoch = min(len(self.history) + 1, self.recipe.epochs)
        bar.set_description_str(
            f"epoch {epoch}/{self.recipe.epochs} {what}".rstrip(), refresh=False
        )
        if self.history:
            last = self.history[-1]
            loss, area = last["val_loss"], last["val_auroc"]
            bar.set_postfix_str(f"val loss {loss:.4f}, AUROC {area:.3f}", refresh=False)
        bar.refresh()


def watched() -> bool:
    """Return whether somebody may look at a bar; the file of a batch system has a line an epoch."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def _bar(shown: bool, **options: Any) -> tqdm:
    """Return a bar of films on the standard error: how far, how fast, the time left."""
    return tqdm(
        disable=not (shown and watched()),
        unit="film",
        dynamic_ncols=True,
        smoothing=0,
        bar_format="{desc} {bar} {n_fmt}/{total_fmt} films "
        "[{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        **options,
    )
