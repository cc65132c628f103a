"""Probabilities of films as people have them: one, a folder, a list; a long job goes on."""

from __future__ import annotations

import csv
import hashlib
import os
import zlib
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from chexlib.data.cache.workers import cores, read_all
from chexlib.data.sources import write_rejected
from chexlib.files import disk_errors, open_own, write_atomically, write_csv
from chexlib.findings import FINDINGS
from chexlib.inference import Preparation

if TYPE_CHECKING:
    from collections.abc import Callable

    from chexlib.data.cache.workers import Result
    from chexlib.data.sources import Source
    from chexlib.models import CheXNet

__all__ = ["part_of", "predict_files", "rejected_of"]


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
    preparation = Preparation.of(model) if preparation is None else preparation
    out = Path(out)
    part = part_of(out)
    films = [*source.names, *source.stamps]
    mark = hashlib.sha256("\n".join([_identity(model, preparation), *films]).encode()).hexdigest()
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = _resume(part, mark, len(source.names))
    left = [i for i in range(len(source.names)) if i not in rows]
    bad = sum(len(row) == 1 for row in rows.values())
    if progress:
        progress(len(rows), len(source.names), bad)
    with disk_errors(out):
        handle = open_own(part, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(handle, "a", encoding="utf-8", newline="") as file:
            # At least two: one worker would be this process, which a bad film must not end.
            side = preparation.cache_size
            for films in read_all(source, left, size=side, workers=max(2, cores())):
                new = _rows(model, preparation, films)
                task = [[str(position), *row] for position, row in new.items()]
                csv.writer(file, lineterminator="\n").writerows([*task, _end(task)])
                file.flush()
                os.fsync(file.fileno())
                rows |= new
                bad += sum(len(row) == 1 for row in new.values())
                if progress:
                    progress(len(rows), len(source.names), bad)
        _finish(source, rows, out)
        part.unlink()
    return len(rows) - bad, bad


def part_of(out: Path) -> Path:
    """Return where what is done stands until all is."""
    return out.with_name(out.name + ".part")


def rejected_of(out: Path) -> Path:
    """Return where films that cannot be read are listed."""
    return out.with_name(f"{out.stem}-rejected.csv")


def _identity(model: CheXNet, preparation: Preparation) -> str:
    """Return a hash of weights and options: results of another may not be mixed with these."""
    digest = hashlib.sha256(repr(astuple(preparation)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
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


def _rows(model: CheXNet, preparation: Preparation, films: list[Result]) -> dict[int, list[str]]:
    """Return 14 numbers for a film that could be read, and the reason for one that could not."""
    rows = {film.position: [film.reason] for film in films if film.reason is not None}
    good = [film for film in films if film.reason is None]
    if good:
        side = preparation.cache_size
        pixels = [np.frombuffer(film.pixels, np.uint8).reshape(side, side) for film in good]
        batcher = preparation.batcher(np.stack(pixels), device=next(model.parameters()).device)
        scores = preparation.logits(model, batcher, np.arange(len(good))).sigmoid().cpu().numpy()
        for film, row in zip(good, scores, strict=True):
            rows[film.position] = [f"{value:.6g}" for value in row]
    return rows


def _finish(source: Source, rows: dict[int, list[str]], out: Path) -> None:
    good = [[source.names[i], *rows[i]] for i in sorted(rows) if len(rows[i]) > 1]
    bad = [
        [source.names[i], source.origins[i], *rows[i]] for i in sorted(rows) if len(rows[i]) == 1
    ]
    write_rejected(rejected_of(out), bad)
    predictions = pd.DataFrame(good, columns=["Image Index", *FINDINGS])
    write_csv(out, predictions)
