"""A run's folder: how it begins, where the run stands, what it is worth, how it is read back."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import platform
import shlex
import zipfile
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from chexlib.files import remove_drafts, write_atomically, write_csv, write_json
from chexlib.findings import FINDINGS, NO_FINDING
from chexlib.inference import choose_thresholds, predict
from chexlib.metrics import Resamples, auroc, resampled
from chexlib.models import CheckpointError, load_checkpoint
from chexlib.text import estimate_text
from chexlib.training.recipes import RECIPES, Recipe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chexlib.data.dataset import Dataset
    from chexlib.models import CheXNet

FILES = (
    "environment.json", "best.safetensors", "last.ckpt", "previous.ckpt", "history.csv",
    "tensorboard", "thresholds.csv", "predictions.csv", "labels.csv", "metrics.json",
)  # fmt: skip
"""What a run writes, after ``config.json``."""

POINT = {"chexlib", "state_dict", "optimizer", "schedule", "scaler", "history", "step", "totals"}
"""What a resume point holds."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes
    ----------
    folder : Path
        With ``config.json`` (the recipe), ``environment.json`` (versions, threads, names
        and hashes of the films), ``best.safetensors`` (weights), ``last.ckpt`` (where it stands;
        until it is over also ``previous.ckpt``, the point before, should the last be damaged),
        ``history.csv`` (a row an epoch), ``tensorboard/``, ``thresholds.csv`` (chosen on the
        validation films, for ``chexlib predict``), ``predictions.csv`` and ``labels.csv`` (of the
        test films, for ``chexlib evaluate``), and ``metrics.json``.
    recipe : Recipe
    """

    folder: Path
    recipe: Recipe

    @cached_property
    def history(self) -> pd.DataFrame:
        """A row an epoch: losses, validation AUROC, learning rate, seconds."""
        return pd.read_csv(self.folder / "history.csv")

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """AUROC on the test films with intervals by patient, as ``metrics.json`` has it."""
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """``image`` and a column a finding, of probabilities of the test films."""
        from chexlib.data import read_predictions

        return read_predictions(self.folder / "predictions.csv", findings=None)

    def model(self) -> CheXNet:
        """Return the network with the weights that were kept, in eval mode."""
        return load_checkpoint(self.folder / "best.safetensors")

    def __repr__(self) -> str:
        """Name the recipe, whether its films were given and, where it is finished, its AUROC."""
        name, data = self.recipe.name, self.recipe.dataset
        name += f" on {data} data" if data in ("own", "given") else ""
        if not (self.folder / "metrics.json").is_file():
            return f"Run({name}, not finished)"
        mean = self.metrics["truth" if "truth" in self.metrics else "labels"]["mean_auroc"]
        text = estimate_text(mean["estimate"], mean["low"], mean["high"], decimals=3)
        return f"Run({name}, mean AUROC {text})"


def open_run(folder: str | Path, *, finished: bool = True) -> Run:
    """Open the folder of a run.

    Raises
    ------
    FileNotFoundError
        If there is no run, or, where ``finished``, it is not finished.
    ValueError
        If what says how it was trained is no recipe.
    """
    folder = Path(folder)
    wanted = ["config.json", *(["metrics.json", "best.safetensors"] if finished else [])]
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected a {'finished ' if finished else ''}run in {folder}, found no "
            f"{', '.join(missing)}. The command that began it goes on with it."
        )
    try:
        recipe = Recipe(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected a recipe in {folder / 'config.json'}, got this: {str(error)[:500]}. Bring "
            "the file back as it was, or train again."
        ) from error
    return Run(folder, recipe)


def begin_run(
    recipe: Recipe, folder: Path, data: dict[str, Dataset], *, first: bool
) -> dict[str, str]:
    """Check what is in a folder, and write down recipe, environment and films.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
    data : dict of Dataset
    first : bool
        Whether this process writes; the others check.

    Returns
    -------
    dict of str to str
        What the weights shall say of their origin.

    Raises
    ------
    ValueError
        If the folder has a file that a run would write, and no run; or a run on other films.
    """
    there = [name for name in FILES if (folder / name).exists()]
    if first and there and not (folder / "config.json").is_file():
        raise ValueError(
            f"Expected a new folder or that of a run, found {', '.join(there)} in {folder} and no "
            "config.json. Take another folder."
        )
    films = {
        split: {
            "name": part.name,
            "films": len(part),
            "patients": int(part.films["patient"].nunique()),
            "pixels": int(part.cache.images.shape[1]),
            "columns": list(map(str, part.films.columns)),
            "sha256": data_hash(part),
        }
        for split, part in data.items()
    }
    hashes = {split: said["sha256"] for split, said in films.items()}
    threads = torch.get_num_threads()
    known = folder / "environment.json"
    if known.is_file():
        before = json.loads(known.read_text(encoding="utf-8"))
        if before["data"] != hashes:
            raise ValueError(
                f"Expected the films that the run in {folder} began with, got others "
                f"({before['data']} then, {hashes} now). Take another folder."
            )
        if first and before["threads"] != threads:
            log.warning(
                "The run began with %s threads and goes on with %s: its weights will differ in "
                "the last bits from those of an uninterrupted run.",
                before["threads"],
                threads,
            )
    if first:
        remove_drafts(folder)
        write_json(folder / "config.json", recipe.to_dict())
        # Versions, processor and threads are what else decides the last bits of a result.
        packages = ("chexlib", "torch", "torchvision", "pytorch-lightning", "numpy")
        place = {
            "python": platform.python_version(),
            "system": platform.platform(),
            "machine": platform.machine(),
            "processor": torch.backends.cpu.get_cpu_capability(),
            "threads": threads,
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            **{package: version(package) for package in packages},
        }
        write_json(known, {**place, "data": hashes, "films": films})
    return {
        "recipe": json.dumps(recipe.to_dict(), sort_keys=True),
        "data": json.dumps(hashes),
        "films": json.dumps(films),
        "command": _command(recipe),
    }


def data_hash(films: Dataset) -> str:
    """Return 64 hexadecimal digits that name these films, their pixels and their labels."""
    digest = hashlib.sha256()
    pixels = films.cache.index["crc32"].to_numpy(np.int64)[films.rows]
    labels = films.labels
    labels = np.packbits(labels) if labels.dtype == bool else np.ascontiguousarray(labels)
    names = "" if films.findings == FINDINGS else "\n".join(films.findings)
    for part in ("\n".join(films.films["image"]).encode(), pixels, labels, names.encode()):
        digest.update(part)
    return digest.hexdigest()


def _command(recipe: Recipe) -> str:
    """Return what makes the run again."""
    base = RECIPES.get(recipe.name)
    if base is None or recipe.dataset == "given":  # nothing that a command line could name
        data = ", data=data" if recipe.dataset == "given" else ""
        return f"chexlib.training.fit(Recipe(**config), folder{data}); config is `recipe` here"
    changed = recipe.differences(base)
    text = [
        f"--set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, (_, value) in changed.items()
    ]
    return " ".join([f"chexlib train --recipe {recipe.name}", *text])


# ---- where a run stands


def points_of(folder: Path) -> tuple[Path, Path]:
    """Return where the last resume point is kept, and the one before it."""
    return folder / "last.ckpt", folder / "previous.ckpt"


def write_point(folder: Path, point: dict[str, Any]) -> None:
    """Write a resume point whole or not at all; the last one stays beside it.

    Raises
    ------
    OSError
        If it cannot be written; the points that are there are as they were.
    """
    last, previous = points_of(folder)

    def write(draft: Path) -> None:
        _save(point, draft)
        if last.is_file():
            last.replace(previous)

    write_atomically(last, write)


def _save(point: dict[str, Any], draft: Path) -> None:
    # By way of memory: torch's own writers do not say why a disk refused.
    content = io.BytesIO()
    torch.save(point, content)
    draft.write_bytes(content.getbuffer())


def read_point(path: Path, recipe: Recipe, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Read a resume point, if it is sound and of this run; no code of it is executed.

    Parameters
    ----------
    path : Path
    recipe : Recipe
        Of the run.
    state : mapping of str to Tensor
        The state dict of its network, for names and shapes.

    Returns
    -------
    dict
        The parts of :data:`POINT`.

    Raises
    ------
    CheckpointError
        If it is damaged, cut, empty or of something else, saying from where the run can go on.
    """
    previous = points_of(path.parent)[1]
    do = "the run begins again"
    if path != previous and previous.is_file():
        do = f"the run goes on from {previous.name}, the point before"
    try:
        # Torch compares no checksum, and finds the parts by other fields of the file than Python
        # does: it is given a copy, made of the parts that were compared.
        content = io.BytesIO()
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(content, "w") as copy:
            for part in archive.infolist():
                copy.writestr(part.filename, archive.read(part))
        content.seek(0)
        kept = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged may raise nearly anything
        raise CheckpointError(
            f"Expected {path} as the run wrote it, found it damaged or cut, or another file "
            f"({type(error).__name__}). Remove it: {do}."
        ) from error
    if isinstance(kept, dict) and "pytorch-lightning_version" in kept:
        raise CheckpointError(
            f"Expected a resume point of this version in {path}, found one of Lightning's Trainer, "
            "with which earlier versions of chexlib trained. Finish the run with the version that "
            "began it, or remove last.ckpt and previous.ckpt: the run begins again."
        )
    try:
        said, found = Recipe(**json.loads(kept["chexlib"]["recipe"])), kept["state_dict"]
        shapes = [{name: value.shape for name, value in s.items()} for s in (found, state)]
        same = not said.differences(recipe) and shapes[0] == shapes[1] and set(kept) >= POINT
    except (LookupError, TypeError, ValueError, AttributeError):
        same = False
    if not same:
        raise CheckpointError(
            f"Expected a resume point of this run in {path}, found a file of something else. Move "
            f"it away: {do}."
        )
    return kept


# ---- what a run is worth


def auroc_with_intervals(
    labels: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray,
    *,
    findings: Sequence[str] = FINDINGS,
) -> dict[str, Any]:
    """Return AUROC of each finding and their mean, with 95% intervals by patient.

    Parameters
    ----------
    labels : bool array [N, F], or of floats
        NaN where nothing is known.
    scores : array [N, F]
    patients : array [N]
    findings : sequence of str

    Returns
    -------
    dict
        ``mean_auroc`` and, by finding, ``auroc``: each with ``estimate``, ``low``, ``high``; of
        a finding also ``positives``.
    """
    found = resampled(auroc, labels, scores, Resamples(patients, resamples=1000))
    mean, names = found.mean(), ("estimate", "low", "high")
    whole = map(float, (mean.estimate, *mean.interval()))
    each = dict(zip(names, (found.estimate, *found.interval()), strict=True))
    positives = (labels > 0).sum(0)
    table = pd.DataFrame({**each, "positives": positives}, index=list(findings))
    return {"mean_auroc": dict(zip(names, whole, strict=True)), "auroc": table.to_dict("index")}


def judge(
    recipe: Recipe,
    folder: Path,
    data: dict[str, Dataset],
    *,
    device: str | torch.device = "cpu",
    step: Callable[[int], object] | None = None,
) -> None:
    """Write ``thresholds.csv``, ``predictions.csv``, ``labels.csv`` and, last, ``metrics.json``.

    Metrics are against the labels of the data set; where the truth is known and is another, against
    that as well.

    Parameters
    ----------
    recipe : Recipe
    folder : Path
        Of the run, with ``best.safetensors``.
    data : dict of Dataset
        ``test``, and ``val`` to choose ``thresholds.csv`` on.
    device : str or torch.device
    step : callable, optional
        As for :func:`chexlib.inference.predict`.
    """
    model, val, films = load_checkpoint(folder / "best.safetensors"), data["val"], data["test"]
    options = {"size": recipe.size, "ten_crop": recipe.ten_crop, "device": device, "step": step}
    findings = {"findings": films.findings}
    table = choose_thresholds(val.labels, predict(model, val, **options), **findings)
    write_csv(folder / "thresholds.csv", table, float_format="%.6g")
    scores = predict(model, films, **options)
    predictions = pd.DataFrame(scores, columns=list(films.findings))
    predictions.insert(0, "Image Index", films.films["image"].to_numpy())
    write_csv(folder / "predictions.csv", predictions, float_format="%.6g")
    judged = films.labels if films.truth is None else films.truth
    write_csv(folder / "labels.csv", labels_table(films, judged))
    metrics: dict[str, Any] = {
        "films": len(films),
        "patients": int(films.films["patient"].nunique()),
        "labels": auroc_with_intervals(films.labels, scores, films.patients, **findings),
    }
    if films.truth is not None:
        metrics["truth"] = auroc_with_intervals(films.truth, scores, films.patients, **findings)
    write_json(folder / "metrics.json", metrics)


def labels_table(films: Dataset, labels: np.ndarray) -> pd.DataFrame:
    """Return films and labels as ``chexlib evaluate`` reads them.

    Findings are in one column of names where all of NIH's 14 are known of every film, so that "No
    Finding" is as well; else in a column each, empty where nothing is known. What else there is of
    the films stands before them.

    Parameters
    ----------
    films : Dataset
    labels : bool array [N, F], or of floats
        NaN where nothing is known.
    """
    names = list(films.findings)
    frame = films.films.drop(columns=[*names, "no_finding"], errors="ignore")
    if films.findings == FINDINGS and labels.dtype == bool:
        text = ["|".join(np.array(names)[row]) or NO_FINDING for row in labels]
        return frame.assign(**{"Finding Labels": text})
    return frame.join(pd.DataFrame(labels.astype(float), frame.index, names).astype("Int64"))
