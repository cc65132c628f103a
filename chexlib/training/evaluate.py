"""Probabilities of films, from a cache or as people have them; thresholds; what a run is worth."""

from __future__ import annotations

import csv
import hashlib
import os
import warnings
import zlib
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from chexlib.data.sources import read_all, write_rejected
from chexlib.files import brief, cores, disk_errors, open_own, write_atomically, write_csv
from chexlib.findings import FINDINGS, INFO, NO_FINDING, normalise
from chexlib.inference import Preparation
from chexlib.metrics import OneClassWarning, Resamples, auroc, choose, resampled
from chexlib.metrics.thresholds import RULES
from chexlib.models import load_checkpoint
from chexlib.training.run import write_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from chexlib.data.dataset import Dataset
    from chexlib.data.sources import Source
    from chexlib.models import CheXNet
    from chexlib.training.recipes import Recipe

__all__ = [
    "auroc_with_intervals",
    "choose_thresholds",
    "judge",
    "nih_table",
    "part_of",
    "predict",
    "predict_files",
    "read_thresholds",
    "rejected_of",
]


def predict(
    model: CheXNet,
    films: Dataset,
    *,
    size: int | None = None,
    ten_crop: bool = False,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    step: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Return probabilities of the 14 findings.

    Parameters
    ----------
    model : CheXNet
        Moved to the device; used as for testing.
    films : Dataset
        Of :func:`chexlib.data.open_dataset`.
    size : int, optional
        Pixels a side of the input; those of the cache by default.
    ten_crop : bool
        The mean probability of ten crops, of films resized to 8/7 of ``size``.
    batch_size : int
        Images at once.
    device : optional
        Where the model is, by default.
    step : callable, optional
        Called after a batch with its number of films, such as the ``update`` of a bar.

    Returns
    -------
    float32 ndarray [N, 14]
        From 0 to 1, in the order of ``films.films`` and of the findings.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    model.to(device)
    side = films.cache.images.shape[1]
    preparation = Preparation(side, side if size is None else size, ten_crop)
    batcher = preparation.batcher(films.cache, device=device)
    found = []
    for start in range(0, len(films), batch_size):
        rows = films.rows[start : start + batch_size]
        logits = preparation.logits(model, batcher, rows, images_at_once=batch_size)
        found.append(logits.sigmoid().cpu().numpy())
        if step:
            step(len(rows))
    return np.concatenate(found)


# ---- films as people have them


def predict_files(
    model: CheXNet,
    source: Source,
    out: str | Path,
    *,
    preparation: Preparation | None = None,
    progress: Callable[[int, int, int], None] | None = None,
) -> tuple[int, int]:
    """Write the predictions of all films of a source, or go on with it.

    Parameters
    ----------
    model : CheXNet
        On the device where it is to run.
    source : Source
        From :func:`chexlib.data.find_radiographs`.
    out : path
        A CSV as :func:`chexlib.data.read_predictions` reads it, put there once it is whole. Until
        then what is done stands beside it, in ``out`` with ``.part`` added. Films that cannot be
        read are listed in a second file, whose name ends in ``-rejected.csv``.
    preparation : Preparation, optional
        As in the network's training by default.
    progress : callable, optional
        Called with the numbers of films done, of all, and of rejected ones.

    Returns
    -------
    int, int
        Numbers of films predicted and rejected.

    Raises
    ------
    ValueError
        If what is beside ``out`` is of other films or of another network.
    OSError
        If it cannot be written; what is done stays.

    Notes
    -----
    Films are read as for a cache, by processes that a bad one may end, and go through the network
    as many at a time as a source's tasks hold. The same films stand together whether a job was
    stopped or not, so that the file is the same.
    """
    preparation = preparation or Preparation.of(model)
    out, side, count = Path(out), preparation.cache_size, len(source.names)
    device, part = next(model.parameters()).device, part_of(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = _resume(part, _mark(model, preparation, source), count)
    left = [i for i in range(count) if i not in rows]
    bad = sum(len(row) == 1 for row in rows.values())
    if progress:
        progress(len(rows), count, bad)
    with disk_errors(out):
        handle = open_own(part, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(handle, "a", encoding="utf-8", newline="") as file:
            # At least two: one worker would be this process, which a bad film must not end.
            for films in read_all(source, left, size=side, workers=max(2, cores())):
                new = {film.position: [film.reason] for film in films if film.reason is not None}
                bad += len(new)
                if good := [film for film in films if film.reason is None]:
                    pixels = np.stack([film.pixels for film in good])
                    batcher = preparation.batcher(pixels, device=device)
                    scores = preparation.logits(model, batcher, np.arange(len(good))).sigmoid()
                    for film, row in zip(good, scores.tolist(), strict=True):
                        new[film.position] = [f"{value:.6g}" for value in row]
                task = [[str(position), *row] for position, row in new.items()]
                csv.writer(file, lineterminator="\n").writerows([*task, _end(task)])
                file.flush()
                os.fsync(file.fileno())
                rows |= new
                if progress:
                    progress(len(rows), count, bad)
        done = sorted(rows.items())
        refused = [[source.names[i], source.origins[i], *row] for i, row in done if len(row) == 1]
        write_rejected(rejected_of(out), refused)
        found = [[source.names[i], *row] for i, row in done if len(row) > 1]
        write_csv(out, pd.DataFrame(found, columns=["Image Index", *FINDINGS]))
        part.unlink()
    return len(rows) - bad, bad


def part_of(out: Path) -> Path:
    """Return where what is done stands until all is."""
    return out.with_name(out.name + ".part")


def rejected_of(out: Path) -> Path:
    """Return where films that cannot be read are listed."""
    return out.with_name(f"{out.stem}-rejected.csv")


def _mark(model: CheXNet, preparation: Preparation, source: Source) -> str:
    """Return a hash of weights, options and films: what others gave may not be mixed in."""
    digest = hashlib.sha256(repr(astuple(preparation)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    digest.update("\n".join([*source.names, *source.stamps]).encode())
    return digest.hexdigest()


def _end(task: list[list[str]]) -> list[str]:
    """Return the line after a task, which is counted only if it is whole and as it was written."""
    return ["-", f"{zlib.crc32(repr(task).encode()):08x}"]


def _resume(part: Path, mark: str, count: int) -> dict[int, list[str]]:
    """Return the rows of whole tasks, and leave these alone in the file."""
    if not part.is_file():
        write_atomically(part, lambda draft: draft.write_text(mark + "\n", encoding="utf-8"))
        return {}
    try:  # the end may be cut anywhere, in the middle of a letter too
        with part.open(encoding="utf-8", errors="replace", newline="") as file:
            first, *lines = list(csv.reader(file)) or [[""]]
    except csv.Error:
        first = [""]
    if first != [mark]:
        raise ValueError(
            f"Expected {part} to be of these films and this network, found it of others, or of "
            "films that changed since. Remove it, or write to another file."
        )
    kept, task, rows = [], [], {}
    for line in lines:
        if line[:1] != ["-"]:
            task.append(line)
            continue
        if line == _end(task) and all(_sound(row, count) for row in task):
            kept += [*task, line]
            rows |= {int(position): row for position, *row in task}
        task = []

    def write(draft: Path) -> None:
        with draft.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([[mark], *kept])

    write_atomically(part, write)
    return rows


def _sound(line: list[str], count: int) -> bool:
    """Return whether a line is a film's position with its probabilities, or why there are none."""
    try:
        position, *found = line
        scores = len(found) == len(FINDINGS) and all(0 <= float(value) <= 1 for value in found)
        return 0 <= int(position) < count and (scores or len(found) == 1)
    except ValueError:
        return False


# ---- thresholds


def choose_thresholds(labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Return the threshold that each rule chooses for each finding.

    Parameters
    ----------
    labels : bool array [N, 14]
    scores : array [N, 14]
        Probabilities of films that were not trained on, and on which nothing is reported.

    Returns
    -------
    DataFrame
        ``rule``, ``finding``, ``threshold``: one of the scores; ``inf`` where it is best to call no
        film, NaN where no film, or every film, has the finding.
    """
    parts = []
    for name, rule in RULES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OneClassWarning)  # the table says NaN
            chosen = np.atleast_1d(choose(labels, scores, rule))
        parts.append(pd.DataFrame({"rule": name, "finding": FINDINGS, "threshold": chosen}))
    return pd.concat(parts, ignore_index=True)


def read_thresholds(path: str | Path, *, rule: str = "youden") -> np.ndarray:
    """Return the thresholds of a table.

    Parameters
    ----------
    path : path
        CSV: ``finding`` and ``threshold``, and ``rule`` where there are several, such as a run's
        ``thresholds.csv`` or ``operating_points.csv`` of ``chexlib evaluate``. Rows of other
        names than the findings, such as ``No_Finding``, are left out.
    rule : str
        Which rows, where the table has rules.

    Returns
    -------
    float array [14]
        In the order of the findings; NaN where the table has none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a column is missing, no row is of the rule, a finding is there twice, or a threshold is
        no number or below 0.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Expected a table of thresholds at {path}, found none.")
    try:
        table = pd.read_csv(path)
    except ValueError as error:
        raise ValueError(f"Expected a CSV of thresholds at {path}, got: {error}.") from None
    if not {"finding", "threshold"} <= set(table):
        raise ValueError(
            f"Expected the columns finding and threshold, and rule where there are several, in "
            f"{path}, got {brief(list(table.columns))}."
        )
    if "rule" in table:
        known = list(dict.fromkeys(table["rule"]))
        table = table[table["rule"] == rule]
        if not len(table):
            raise ValueError(f"Expected a rule among {brief(known)} of {path}, got {rule!r}.")
    chosen: dict[str, float] = {}
    values = pd.to_numeric(table["threshold"], errors="coerce")
    for row, finding in table["finding"].items():
        try:
            name = normalise(str(finding))
        except ValueError:
            continue
        raw, value = table["threshold"][row], values[row]
        if name in chosen or value < 0 or (np.isnan(value) and not pd.isna(raw)):
            raise ValueError(
                f"Expected one threshold from 0 up for {name} in {path}, got "
                f"{'a second' if name in chosen else brief(raw)} in row {row + 2}."
            )
        chosen[name] = float(value)
    if not chosen:
        raise ValueError(f"Expected findings in the column `finding` of {path}, found none.")
    return np.array([chosen.get(name, np.nan) for name in FINDINGS])


# ---- what a run is worth


def auroc_with_intervals(
    labels: np.ndarray, scores: np.ndarray, patients: np.ndarray
) -> dict[str, Any]:
    """Return AUROC of each finding and their mean, with 95% intervals by patient.

    Parameters
    ----------
    labels : bool array [N, 14]
    scores : array [N, 14]
    patients : array [N]

    Returns
    -------
    dict
        ``mean_auroc`` and, by finding, ``auroc``: each with ``estimate``, ``low``, ``high``; of
        a finding also ``positives``.
    """
    found = resampled(auroc, labels, scores, Resamples(patients, resamples=1000))
    mean, ends = found.mean(), ("low", "high")
    by_finding = pd.DataFrame(
        {
            "estimate": found.estimate,
            **dict(zip(ends, found.interval(), strict=True)),
            "positives": labels.sum(0),
        },
        index=list(FINDINGS),
    )
    whole = map(float, (mean.estimate, *mean.interval()))
    return {
        "mean_auroc": dict(zip(("estimate", *ends), whole, strict=True)),
        "auroc": by_finding.to_dict("index"),
    }


def judge(
    recipe: Recipe,
    folder: Path,
    films: Dataset,
    *,
    val: Dataset,
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
    films : Dataset
        To test on.
    val : Dataset
        To choose ``thresholds.csv`` on.
    device : str or torch.device
    step : callable, optional
        As for :func:`predict`.
    """
    model = load_checkpoint(folder / "best.safetensors")
    options = {"size": recipe.size, "ten_crop": recipe.ten_crop, "device": device, "step": step}
    table = choose_thresholds(val.labels, predict(model, val, **options))
    write_csv(folder / "thresholds.csv", table, float_format="%.6g")
    scores = predict(model, films, **options)
    predictions = pd.DataFrame(scores, columns=list(FINDINGS))
    predictions.insert(0, "Image Index", films.films["image"].to_numpy())
    write_csv(folder / "predictions.csv", predictions, float_format="%.6g")
    judged = films.labels if films.truth is None else films.truth
    write_csv(folder / "labels.csv", nih_table(films.films, judged))
    metrics: dict[str, Any] = {
        "films": len(films),
        "patients": int(films.films["patient"].nunique()),
        "labels": auroc_with_intervals(films.labels, scores, films.patients),
    }
    if films.truth is not None:
        metrics["truth"] = auroc_with_intervals(films.truth, scores, films.patients)
    write_json(folder / "metrics.json", metrics)


def nih_table(films: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """Return films and labels in the format of NIH's label file, for ``chexlib evaluate``.

    Parameters
    ----------
    films : DataFrame
        The columns of :func:`chexlib.data.load_labels`.
    labels : bool array [N, 14]
    """
    names = np.array([INFO[name].name for name in FINDINGS])
    text = ["|".join(names[row]) or NO_FINDING for row in labels]
    columns = {
        "Image Index": films["image"],
        "Finding Labels": text,
        "Follow-up #": films["follow_up"],
        "Patient ID": films["patient"],
        "Patient Age": films["age"],
        "Patient Gender": films["sex"],
        "View Position": films["view"],
        "OriginalImage[Width": films["width"],
        "Height]": films["height"],
        "OriginalImagePixelSpacing[x": films["spacing_x"],
        "y]": films["spacing_y"],
    }
    return pd.DataFrame(columns)
