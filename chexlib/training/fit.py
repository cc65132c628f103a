"""``fit``: a recipe and a folder in, a run out; on one CPU, one GPU or many nodes."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from pytorch_lightning.utilities import rank_zero_only

from chexlib.data.dataset import open_dataset
from chexlib.data.phantom import Shortcut
from chexlib.files import remove_drafts
from chexlib.findings import FINDINGS
from chexlib.models import CheXNet
from chexlib.training.checkpointing import KeepBest, ResumePoints, previous, read_point
from chexlib.training.judge import judge
from chexlib.training.loaders import Films, batch_to_share, describe_data
from chexlib.training.losses import make_loss
from chexlib.training.module import Training
from chexlib.training.progress import FilmsBar, judging_bar
from chexlib.training.quiet import quiet_lightning
from chexlib.training.recipes import RECIPES, Recipe
from chexlib.training.run import FILES, Run, environment, open_run, write_json
from chexlib.training.trainer import lay_out, make_trainer, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chexlib.data.dataset import Dataset

__all__ = ["check_options", "data_options", "fit"]

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
    chexlib.training.module.NonFiniteLossError
        If the loss, or a weight, is not a number, naming the films.

    Notes
    -----
    On a CPU, a run that was killed and resumed ends with the weights, bit for bit, of one that was
    not, with the same number of threads: what happens to a film depends on seed, epoch and film
    alone, and every resume point holds weights, moments, schedule and step.

    Over several processes ``batch_size`` is that of all together, and gradients are averaged. They
    are those of the whole batch but for batch normalisation, which sees each process's films alone
    (on GPUs, ``sync_batchnorm`` makes it see all): the same recipe on two processes is another run
    of the same kind, with other weights. Before each validation all processes take the running
    statistics of the first; validation is over every film once, and the same on all.
    """
    recipe = RECIPES[recipe] if isinstance(recipe, str) else recipe
    folder = Path(folder)
    if data is not None and not _as_asked(recipe, data):
        recipe = recipe.on_given_data()
    config = folder / "config.json"
    if config.is_file():
        _same(json.loads(config.read_text(encoding="utf-8")), recipe.to_dict(), folder)
        if (folder / "metrics.json").is_file():
            return open_run(folder)
    place = {"accelerator": accelerator, "devices": devices, "num_nodes": num_nodes}
    check_options(recipe, **place)
    if data is None:
        data = {
            split: open_dataset(recipe.dataset, split, **data_options(recipe))
            for split in ("train", "val", "test")
        }
    if len(data["train"]) < recipe.batch_size:
        raise ValueError(
            f"Expected at least a batch of {recipe.batch_size} training films, got "
            f"{len(data['train'])}. Take a smaller batch_size, or more films."
        )
    folder.mkdir(parents=True, exist_ok=True)
    first = getattr(rank_zero_only, "rank", 0) == 0
    with _alone(folder) if first else nullcontext(), quiet_lightning(), _ends_with_its_starter():
        return _fit(
            recipe,
            folder,
            data,
            first=first,
            progress=progress,
            checkpoint_every=checkpoint_every,
            **place,
        )


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
    if recipe.batch_size % (count * nodes):
        raise ValueError(batch_to_share(recipe.batch_size, count * nodes))
    if recipe.weights not in (None, "imagenet") and not Path(recipe.weights).is_file():
        raise ValueError(
            f"Expected weights as imagenet, a file, or null, got {recipe.weights!r}, and found no "
            "such file."
        )
    data_options(recipe)
    nothing = torch.zeros(1, len(FINDINGS))
    make_loss(recipe, np.full(len(FINDINGS), 0.5))(nothing, nothing)


def _as_asked(recipe: Recipe, data: dict[str, Dataset]) -> bool:
    """Return whether films are those that a recipe names."""
    asked = {"name": recipe.dataset, **data_options(recipe)}
    return all(films.opened == {**asked, "split": split} for split, films in data.items())


def _fit(
    recipe: Recipe,
    folder: Path,
    data: dict[str, Dataset],
    *,
    first: bool,
    progress: bool,
    checkpoint_every: int,
    **place: Any,
) -> Run:
    metadata = _begin(recipe, folder, data, first=first)
    train = data["train"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = CheXNet(arch=recipe.arch, growth_rate=recipe.growth_rate, weights=recipe.weights)
    names = train.cache.index["image"].tolist()
    loss = make_loss(recipe, train.labels.mean(0))
    resume = ResumePoints(folder, every=checkpoint_every)
    module = Training(model, recipe, loss, names=names, kept=resume.path)
    bar = [FilmsBar()] if progress else []
    trainer = make_trainer(
        recipe,
        folder,
        callbacks=[KeepBest(folder, metadata), resume, *bar],
        progress=progress,
        **place,
    )
    device = trainer.strategy.root_device
    lay_out(module, recipe, device)
    point = next((p for p in (resume.path, previous(resume.path)) if p.is_file()), None)
    if point is None or not _is_over(read_point(point, module)):
        with _plain_interrupt():
            trainer.fit(
                module,
                datamodule=Films(recipe, train, data["val"]),
                ckpt_path=point,
                weights_only=True,
            )
    if trainer.global_rank == 0:
        with judging_bar() if progress else nullcontext() as step:
            judge(recipe, folder, data["test"], val=data["val"], device=device, step=step)
        previous(resume.path).unlink(missing_ok=True)
    return open_run(folder, finished=trainer.global_rank == 0)


def _begin(
    recipe: Recipe, folder: Path, data: dict[str, Dataset], *, first: bool
) -> dict[str, str]:
    """Check what is there, write down recipe and environment; return what the weights shall say."""
    if first and not (folder / "config.json").is_file():
        _nobody_elses(folder)
    films = {split: describe_data(part) for split, part in data.items()}
    hashes = {split: said["sha256"] for split, said in films.items()}
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
    if first:
        remove_drafts(folder)
        write_json(folder / "config.json", recipe.to_dict())
        write_json(known, {**place, "data": hashes, "films": films})
    return {
        "recipe": json.dumps(recipe.to_dict(), sort_keys=True),
        "data": json.dumps(hashes),
        "films": json.dumps(films),
        "command": _command(recipe),
    }


def data_options(recipe: Recipe) -> dict[str, Any]:
    """Return the options of :func:`chexlib.data.open_dataset` that a recipe's JSON stands for."""
    options = {"size": recipe.cache_size, **recipe.data_options}
    if isinstance(options.get("shortcut"), dict):
        try:
            options["shortcut"] = Shortcut(**options["shortcut"])
        except TypeError as error:
            raise ValueError(
                f"Expected a shortcut of finding, cue, with_finding and without, got "
                f"{options['shortcut']}: {error}."
            ) from error
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


def _nobody_elses(folder: Path) -> None:
    """Refuse a folder without a run where a file has a name that a run's would get."""
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise ValueError(
            f"Expected a new folder or that of a run, found {', '.join(there)} in {folder} and no "
            "config.json. Take another folder."
        )


def _is_over(kept: dict[str, Any]) -> bool:
    """Return whether the run was ended before its last epoch; Lightning would forget that."""
    return any(state.get("stopped", False) for state in kept["callbacks"].values())


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from the folder; a lock ends with the process that holds it."""
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(
            f"Expected the folder {folder} for this run alone, found another process that trains "
            "in it. Wait for it, or take another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _ends_with_its_starter() -> Iterator[None]:
    """End a process that torchrun or Lightning started once that one is gone.

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
def _plain_interrupt() -> Iterator[None]:
    """Pass Ctrl-C on as what it is: Lightning ends the program, and no later one is heard."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGINT, handler)


def _command(recipe: Recipe) -> str:
    """Return what makes the run again."""
    base = RECIPES.get(recipe.name)
    if base is None or recipe.dataset == "given":  # nothing that a command line could name
        data = ", data=data" if recipe.dataset == "given" else ""
        return f"chexlib.training.fit(Recipe(**config), folder{data}); config is `recipe` here"
    text = f"chexlib train --recipe {recipe.name}"
    plain, changed = base.to_dict(), []
    for key, value in recipe.to_dict().items():
        if value != plain[key]:
            changed.append(f"{key}={json.dumps(value)}")
    return " ".join([text, *(f"--set '{item}'" for item in changed)])
