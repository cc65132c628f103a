"""What the builders of tables share: their register, their inputs, and how a table says its origin.

A builder returns a whole table and its provenance: the keywords of
:func:`write_table`, and ``suffix`` where a long table is to be compressed.
"""

from __future__ import annotations

import datetime
import gzip
import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from chexlib.data import data_home, load_chestx_det, load_readers, package_file
from chexlib.data.phantom import VERSION, Film
from chexlib.data.tables import read_text, table_folder
from chexlib.files import files_below, sha256, write_atomically
from chexlib.findings import FINDINGS
from chexlib.metrics import Bootstrap, Resamples

Built = tuple[pd.DataFrame, dict[str, Any]]
Document = tuple[dict[str, Any], dict[str, Any]]
Builder = Callable[[], Built | Document]
DATE = r'(?m)^(# date: .*|"date":"[\d-]+",?)$'
BUILDERS: dict[str, Builder] = {}
"""The builder of each table, by the table's name."""


def builds(name: str) -> Callable[[Builder], Builder]:
    """Register a function as the builder of the table ``data/<name>.csv``.

    What is no table, a dict for a thing to touch, becomes ``data/<name>.json``.
    """

    def register(build: Builder) -> Builder:
        BUILDERS[name] = build
        return build

    return register


def write_table(
    frame: pd.DataFrame | dict[str, Any],
    path: str | Path,
    *,
    source: str,
    licence: str,
    inputs: Iterable[str | Path],
    command: str,
    note: str | None = None,
) -> None:
    """Write a table of figures with its provenance, atomically.

    A table whose rows have not changed keeps its file, and so its date.

    Parameters
    ----------
    frame : DataFrame or dict
        What to write; floats are written with all their digits.
    path : path
        Target, ending in ``.csv``, or in ``.csv.gz`` to be compressed; of a dict in ``.json``,
        whose key ``provenance`` takes what else are the lines of comment.
    source, licence, command : str
        One line each: what it was computed from, under which licence, by which command.
    inputs : iterable of paths
        Files whose SHA-256 the header records; a folder has one for all that it holds.
    note : str, optional
        One more line.

    Raises
    ------
    ValueError
        If a text has a line break or a cell holds ``#``, which would read as a comment.
    """

    def called(path: Path) -> str:
        return f"{path.name}/ ({len(files_below(path))} files)" if path.is_dir() else path.name

    path = Path(path)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    header = {
        "source": source,
        "licence": licence,
        **{f"sha256 {called(Path(file))}": sha256(file) for file in inputs},
        "command": command,
        "date": today,
        **({} if note is None else {"note": note}),
    }
    if isinstance(frame, dict):
        content = {"provenance": header} | frame
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        _write_unless_same(path, text.replace(',"', ',\n"') + "\n")
        return
    body = frame.to_csv(index=False, lineterminator="\n")
    if any("\n" in value for value in header.values()) or "#" in body:
        raise ValueError(
            f"Expected header values of one line and no '#' in the cells of {path.name}, got one."
        )
    _write_unless_same(path, "".join(f"# {key}: {value}\n" for key, value in header.items()) + body)


def _write_unless_same(path: Path, text: str) -> None:
    """Write a table unless nothing but its date would change."""
    if path.is_file():
        before, now = (re.sub(DATE, "", one) for one in (read_text(path), text))
        if before == now:
            return
    content = text.encode()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)  # the same rows give the same file
    write_atomically(path, lambda draft: draft.write_bytes(content))


def carried(name: str) -> Path:
    """Return a file of labels that torchxrayvision carries."""
    return package_file("torchxrayvision", "data", name)


def fetched(*parts: str) -> Path:
    """Return where a file that `chexlib fetch` brings lies, or would."""
    return data_home().joinpath(*parts)


LABELS = carried("Data_Entry_2017_v2020.csv.gz")
BOXES = carried("BBox_List_2017.csv.gz")
GOOGLE = carried("google2019_nih-chest-xray-labels.csv.gz")
RSNA = carried("kaggle_stage_2_train_labels.csv.zip")
FIVE = fetched("google_readers", "all_findings_individual_readers.csv")
CHESTX_DET = [  # the renamed ones lead from the films' names in one release to those in the other
    fetched("chestx_det", f"{name}.json")
    for name in ("ChestX_Det_test", "ChestX_Det_train", "det10_test", "det10_test_renamed")
    + ("det10_train", "det10_train_renamed")
]
LUNGS = table_folder() / "phantom_lungs.csv"  # what the phantom's anatomy is drawn from


FILM = ("patient", "follow_up", "view", "sex", "age", "seed")


@cache
def votes_of_five() -> pd.DataFrame:
    """Return how many of the five radiologists call each finding, a row an image."""
    return load_readers("all").groupby("image")[list(FINDINGS)].sum()


def majority_of_five() -> pd.DataFrame:
    """Return which findings most of the five radiologists call, a row an image."""
    return votes_of_five() >= 3


def drawn_by_chestx_det() -> pd.DataFrame:
    """Return what ChestX-Det's radiologists drew, a row a box, with its outline."""
    films = load_chestx_det()
    marks = films[["image", "patient", "boxes", "polygons"]].explode(["boxes", "polygons"])
    marks = marks.dropna(subset="boxes").rename(columns={"polygons": "outline"})
    names = ["finding", "x", "y", "width", "height"]
    marks[names] = pd.DataFrame(marks["boxes"].tolist(), index=marks.index)
    return marks[marks["finding"].isin(FINDINGS)]


def quoted(source: str, **more: str) -> dict[str, Any]:
    """Return the provenance of figures that others published."""
    return {"source": source, "licence": "figures quoted", "inputs": [], **more}


def simulated(source: str, inputs: list[Path], note: str) -> dict[str, Any]:
    """Return the provenance of figures on simulated films; the note begins with the phantom's."""
    licence = "figures CC BY 4.0; label rows of NIH, free use with attribution"
    note = f"phantom {VERSION}{note}" if note.startswith(",") else f"phantom {VERSION}; {note}"
    return {"source": source, "licence": licence, "inputs": inputs, "note": note}


def described(film: Film) -> dict[str, Any]:
    """Return the arguments of a simulated film, as JSON can hold them."""
    kept = {name: getattr(film, name) for name in FILM}
    return kept | {"severity": dict(film.severity), "devices": sorted(film.devices)}


def named(name: str, estimate: float, low: float, high: float) -> dict[str, float]:
    """Return an estimate and its interval as columns ``name``, ``name_low`` and ``name_high``."""
    return {name: estimate, f"{name}_low": low, f"{name}_high": high}


def by_finding(found: Bootstrap, mean: str) -> pd.DataFrame:
    """Return the rows of the 14 findings and of their mean: ``finding estimate low high``."""
    rows = np.column_stack([found.estimate, *found.interval()])
    whole = found.mean()
    rows = np.vstack([rows, [whole.estimate, *whole.interval()]])
    frame = pd.DataFrame(rows, columns=["estimate", "low", "high"])
    frame.insert(0, "finding", (*FINDINGS, mean))
    return frame


def ratio(top: np.ndarray, base: np.ndarray, draws: Resamples) -> Bootstrap:
    """Return a sum over films, or one of each column, over another, with its resamples."""
    top, base = (np.asarray(one, float).reshape(len(one), -1) for one in (top, base))
    sums = draws.sums(np.hstack([top, base]))
    with np.errstate(invalid="ignore", divide="ignore"):
        replicates = sums[:, : top.shape[1]] / sums[:, top.shape[1] :]
        estimate = top.sum(axis=0) / base.sum(axis=0)
    if top.shape[1] == 1:
        estimate, replicates = estimate[0], replicates[:, 0]
    return Bootstrap(estimate, replicates, draws)


def listed(found: list) -> pd.DataFrame:
    """Return estimates with their intervals and methods as rows: ``estimate low high method``."""
    rows = [(one.estimate, one.low, one.high, one.method) for one in found]
    return pd.DataFrame(rows, columns=["estimate", "low", "high", "method"])
